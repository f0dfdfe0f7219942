//! One file a verb. What a verb does lives in a layer below; here it is put together and told.

mod adopt;
mod agent;
mod collect;
mod demo;
mod doctor;
mod estimate;
mod init;
mod jobfile;
mod log;
pub(crate) mod man;
mod new;
mod opened;
mod plan;
mod planner;
mod poll;
mod prompts;
mod queue;
mod replan;
mod request;
mod review;
mod show;
mod skill;
mod start;
mod status;
mod stop;
mod sweep;
mod transcript;
mod validate;
mod verify;
mod why;

use clap::{CommandFactory, Parser};

use crate::ambient;
use crate::cli::{Cli, Command};
use crate::error;
use crate::ui::Ui;

/// Runs the command that this process was given and returns its exit code.
pub fn run() -> u8 {
    let ui = Ui::new(false);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(problem) => return usage(&ui, &problem),
    };
    match dispatch(&cli, &ui) {
        Ok(code) => code,
        Err(problem) => {
            ui.error("fatal", &problem);
            error::FATAL
        }
    }
}

/// Help and version are results; everything else is a usage error, with git's exit code.
fn usage(ui: &Ui, problem: &clap::Error) -> u8 {
    let text = problem.render().to_string();
    if problem.use_stderr() {
        ui.insist(text.trim_end());
        error::USAGE
    } else {
        ui.result(&text);
        error::OK
    }
}

fn dispatch(cli: &Cli, ui: &Ui) -> anyhow::Result<u8> {
    let here = match &cli.directory {
        Some(dir) => dir.clone(),
        None => ambient::current_dir()?,
    };
    match &cli.command {
        Command::Init(args) => init::run(&here, args, ui),
        Command::New(args) => new::run(&here, args, ui),
        Command::Start(args) => start::run(&here, args, ui),
        Command::Status(args) => status::run(&here, args, ui),
        Command::Poll(args) => poll::run(&here, args, ui),
        Command::Stop(args) => stop::run(&here, args, ui),
        Command::Plan(args) => plan::run(&here, args, ui),
        Command::Validate(args) => validate::run(&here, args, ui),
        Command::Review(args) => review::run(&here, args, ui),
        Command::Approve(args) => review::approve(&here, args, ui),
        Command::Reject(args) => review::reject(&here, args, ui),
        Command::Doctor(args) => doctor::run(&here, args, ui),
        Command::Agent(args) => agent::run(&here, args, ui),
        Command::Log(args) => log::run(&here, args, ui),
        Command::Show(args) => show::run(&here, args, ui),
        Command::Collect(args) => collect::run(&here, args, ui),
        Command::Queue(args) => queue::run(&here, args, ui),
        Command::Why(args) => why::run(&here, args, ui),
        Command::Blame(args) => why::blame(&here, args, ui),
        Command::Verify(args) => verify::run(&here, args, ui),
        Command::Retry(args) => request::retry(&here, args, ui),
        Command::Skip(args) => request::skip(&here, args, ui),
        Command::Cancel(args) => stop::cancel(&here, args, ui),
        Command::Sweep(args) => sweep::run(&here, args, ui),
        Command::Demo(args) => demo::run(args, ui),
        Command::Skill => skill::run(ui),
        Command::Man(args) => man::run(args, ui),
        Command::Completions(args) => {
            let mut text = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "git-harness", &mut text);
            ui.result(&String::from_utf8_lossy(&text));
            Ok(error::OK)
        }
        Command::Keeper { dir } => {
            crate::keeper::main(dir)?;
            Ok(error::OK)
        }
    }
}
