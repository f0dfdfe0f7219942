//! Limits: a refused key, a small context window, a daemon, a used-up budget.

use std::collections::BTreeSet;

use crate::cage::scenario;
use crate::job::{AgentJob, many};
use crate::server::{Fault, ReceivedRequest, Script, ScriptedUsage};
use crate::world::{CliScenario, processes};

fn script() -> Script {
    Script { steps: 2, ..Script::default() }
}

fn sessions(log: &[ReceivedRequest]) -> usize {
    log.iter().map(|e| &e.session).collect::<BTreeSet<_>>().len()
}

fn a_refused_key(world: &mut CliScenario, preset: &'static str) {
    let job = AgentJob::of(8, preset);
    world.begin(script(), &job.files, &job.text());
    world.server().plan(|_| Some(Fault::Unauthorized));
    let output = world.run(&["start", "--jobs", "1"]);
    let log = world.server().log();
    println!("{}", output.err);
    let output = output.exits(3);
    assert_eq!(sessions(&log), 1, "a second session for a key that is refused\n{output}");
    let status = world.status();
    assert_eq!(status["state"], "halted", "{status:#}");
    assert_eq!(status["counts"]["failed"], 0, "no task is to blame: {status:#}");
    // With a good key the run continues.
    world.server().plan(|_| None);
    let output = world.run(&["start", "--force"]);
    println!("{}", output.err);
    output.exits(0);
    world.all_landed(&job.files);
}

#[test]
fn claude_with_a_refused_key() {
    scenario(|world| a_refused_key(world, "claude"));
}

#[test]
fn codex_with_a_refused_key() {
    scenario(|world| a_refused_key(world, "codex"));
}

fn too_large(world: &mut CliScenario, preset: &'static str) {
    let files = ["src/one/a.txt", "src/two/b.txt", "src/two/c.txt", "src/z/d.txt", "src/z/e.txt"];
    let files: Vec<_> = files.map(str::to_owned).to_vec();
    // `one` never fits, `two` fits in two parts, `z` fits.
    let job =
        AgentJob::with(files.clone(), preset).set("plan", "group = \"directory\"\nmax-files = 2");
    let job = job.set("retry", "halt-above = 1\nredispatch = 0");
    world.begin(script(), &files, &job.text());
    world.server().plan(|entry| {
        let large = entry.files.iter().any(|f| f.contains("/one/"))
            || entry.files.len() == 2 && entry.files[0].contains("/two/");
        large.then_some(Fault::ContextExceeded)
    });
    let output = world.run(&["start"]);
    println!("{}", output.err);
    output.exits(1);
    world.all_landed(&files[1..]);
    let status = world.status();
    let tasks = status["tasks"].as_array().unwrap();
    let of_one = tasks.iter().find(|t| t["files"][0] == files[0]).unwrap();
    assert_eq!(of_one["state"], "failed", "{status:#}");
    assert_eq!(of_one["class"], "context_exceeded", "{status:#}");
    let attempts = |file: &str| {
        world.server().log().iter().filter(|e| e.files.iter().any(|f| f == file)).count()
    };
    assert_eq!(attempts(&files[0]), 1, "what cannot fit is not tried again: {status:#}");
}

#[test]
fn claude_with_what_is_too_large() {
    scenario(|world| too_large(world, "claude"));
}

#[test]
fn codex_with_what_is_too_large() {
    scenario(|world| too_large(world, "codex"));
}

fn a_daemon(world: &mut CliScenario, preset: &'static str) {
    let job = AgentJob::of(2, preset);
    let besides = "{ nohup setsid sleep 300 >/dev/null 2>&1 & } && pgrep -f 'sleep 300' >>$CODEX_HOME/daemons &&";
    world.begin(Script { besides: besides.to_owned(), ..script() }, &job.files, &job.text());
    let output = world.run(&["start"]);
    let left = processes();
    println!("{}", output.err);
    let output = output.exits(0);
    assert!(left.is_empty(), "left behind: {left:#?}\n{output}");
    world.all_landed(&job.files);
    assert!(!world.daemons().is_empty(), "no daemon was ever there");
}

#[test]
fn claude_with_a_daemon() {
    scenario(|world| a_daemon(world, "claude"));
}

#[test]
fn codex_with_a_daemon() {
    scenario(|world| a_daemon(world, "codex"));
}

fn a_budget(world: &mut CliScenario, preset: &'static str) {
    const JOBS: usize = 4;
    // The ratio of the budget to the cost of all tasks: ten to sixty.
    let tasks = many() / 6;
    let job = AgentJob::of(many(), preset);
    // The server's prices give the cost of one task.
    let one: u64 = (0..=2).map(|step| ScriptedUsage::of(step, preset == "claude").total()).sum();
    let budget = |tasks: u64| format!("tokens = {}", one * tasks);
    let text = |tasks: usize| {
        let job = AgentJob::of(many(), preset);
        job.set("limits", &budget(u64::try_from(tasks).unwrap())).text()
    };
    world.begin(script(), &job.files, &text(tasks));
    let output = world.run(&["start", "--jobs", &JOBS.to_string()]);
    println!("{}", output.err);
    let output = output.exits(3);
    let spent = sessions(&world.server().log());
    println!("a budget of {tasks} tasks: {spent} sessions");
    assert!(
        (tasks..=tasks + JOBS).contains(&spent),
        "{spent} sessions for {tasks} tasks\n{output}"
    );
    let status = world.status();
    assert_eq!(status["halt"], "budget", "{status:#}");
    assert_eq!(status["counts"]["failed"], 0, "{status:#}");
    world.write("harness.toml", &text(many() + JOBS));
    let output = world.run(&["start", "--jobs", &JOBS.to_string()]);
    println!("{}", output.err);
    output.exits(0);
    world.all_landed(&job.files);
    assert_eq!(sessions(&world.server().log()), many(), "one session a task");
    world.tokens_are_as_the_server_counts(&world.server().log());
}

#[test]
fn claude_with_a_budget() {
    scenario(|world| a_budget(world, "claude"));
}

#[test]
fn codex_with_a_budget() {
    scenario(|world| a_budget(world, "codex"));
}
