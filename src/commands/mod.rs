//! The commands, one file for each. A command combines the lower layers and prints the result.

mod accounts;
mod adopt;
mod agent;
mod collect;
mod conclusion;
mod demo;
mod doctor;
mod estimate;
mod guard;
mod init;
mod job_file;
mod job_plan;
mod log;
pub(crate) mod man;
mod names;
mod new;
mod open;
mod plan;
mod plan_inputs;
mod poll;
mod preflight;
mod prompts;
mod queue;
mod replan;
mod request;
mod review;
mod rule_hints;
mod runs;
mod sandbox;
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
mod workspace;

use clap::{CommandFactory, Parser};

use crate::ambient;
use crate::cli::{Cli, Verb};
use crate::error;
use crate::ui::Ui;

/// The exit code of a sandbox whose command cannot be run. Shells use the same code.
const NOT_RUN: u8 = 126;

/// Runs the command that this process was given and returns its exit code.
pub fn run() -> u8 {
    let ui = Ui::new(false);
    let code = match Cli::try_parse() {
        Ok(cli) => dispatch(&cli, &ui).unwrap_or_else(|problem| {
            ui.error("fatal", &problem);
            error::FATAL
        }),
        Err(problem) => usage(&ui, &problem),
    };
    if let Some(error) = ui.write_error() {
        ui.error("fatal", &anyhow::anyhow!("cannot write to standard output: {error}"));
        return error::FATAL;
    }
    code
}

/// Prints clap's message. Help and version are results; everything else is a usage error, with
/// git's exit code.
fn usage(ui: &Ui, problem: &clap::Error) -> u8 {
    let text = problem.render().to_string();
    if problem.use_stderr() {
        ui.message(text.trim_end());
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
    guard::refuse_decisions_by_agents(&cli.command, &here)?;
    // The environment may hold the keys of agents.
    crate::process::hide_from_others()?;
    match &cli.command {
        Verb::Init(args) => init::run(&here, args, ui),
        Verb::New(args) => new::run(&here, args, ui),
        Verb::Start(args) => start::run(&here, args, ui),
        Verb::Runs(args) => runs::run(&here, args, ui),
        Verb::Status(args) => status::run(&here, args, ui),
        Verb::Poll(args) => poll::run(&here, args, ui),
        Verb::Stop(args) => stop::run(&here, args, ui),
        Verb::Plan(args) => plan::run(&here, args, ui),
        Verb::Validate(args) => validate::run(&here, args, ui),
        Verb::Review(args) => review::run(&here, args, ui),
        Verb::Approve(args) => review::approve(&here, args, ui),
        Verb::Reject(args) => review::reject(&here, args, ui),
        Verb::Doctor(args) => doctor::run(&here, args, ui),
        Verb::Agent(args) => agent::run(&here, args, ui),
        Verb::Accounts(args) => accounts::run(&here, args, ui),
        Verb::Log(args) => log::run(&here, args, ui),
        Verb::Show(args) => show::run(&here, args, ui),
        Verb::Collect(args) => collect::run(&here, args, ui),
        Verb::Queue(args) => queue::run(&here, args, ui),
        Verb::Why(args) => why::run(&here, args, ui),
        Verb::Blame(args) => why::blame(&here, args, ui),
        Verb::Verify(args) => verify::run(&here, args, ui),
        Verb::Retry(args) => request::retry(&here, args, ui),
        Verb::Skip(args) => request::skip(&here, args, ui),
        Verb::Cancel(args) => stop::cancel(&here, args, ui),
        Verb::Sweep(args) => sweep::run(&here, args, ui),
        Verb::Demo(args) => demo::run(args, ui),
        Verb::Skill => skill::run(ui),
        Verb::Man(args) => man::run(args, ui),
        Verb::Completions(args) => {
            let mut text = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "git-harness", &mut text);
            ui.result(&String::from_utf8_lossy(&text));
            Ok(error::OK)
        }
        Verb::Keeper { dir } => {
            crate::keeper::main(dir)?;
            Ok(error::OK)
        }
        Verb::EnterSandbox { listen, socket, argv } => {
            match crate::process::enter_sandbox(socket, listen, argv) {
                Ok(never) => match never {},
                Err(error) => {
                    ui.error("fatal", &error.into());
                    Ok(NOT_RUN)
                }
            }
        }
    }
}
