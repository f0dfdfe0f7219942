//! A model service with faults: every task lands, and no session starts while a limit stands.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cage::scenario;
use crate::job::{AgentJob, many};
use crate::server::{Fault, Limit, ReceivedRequest, Script};
use crate::world::{CliScenario, processes};

/// Time until the reset.
const AWAY: Duration = Duration::from_secs(20);

/// Time for a CLI to report a limit, and for the harness to read the report, on a busy machine.
const TO_BE_READ: Duration = Duration::from_secs(4);

/// Gives sessions 529, 429, dropped streams and a hang in turn. `window`: the limit names its reset
/// time.
fn bad_day(window: bool) -> impl FnMut(&ReceivedRequest) -> Option<Fault> + Send {
    let mut limited = false;
    move |entry| match (entry.number, entry.turn) {
        (3, 0..4) => Some(Fault::Overloaded),
        (7, 1) if !limited => {
            limited = true;
            Some(Fault::Limited(Limit::lifting_in(AWAY, window)))
        }
        (11, 1..6) => Some(Fault::Dropped),
        // The first request fails, so the session reports nothing of itself.
        (15, 0) => Some(Fault::HangMidway),
        _ => None,
    }
}

/// Asserts that no session started or resumed while the limit stood and was known.
fn nothing_new_while_closed(log: &[ReceivedRequest]) {
    let first = log.iter().find(|e| e.fault == Some("limited")).expect("the limit was met");
    let (from, to) = (first.at + TO_BE_READ, first.at + AWAY);
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for entry in log {
        let new = known.insert(&entry.session);
        let closed = from < entry.at && entry.at < to;
        assert!(!(new && closed), "a new session behind a closed door: {entry:#?}");
        assert!(!(closed && entry.fault.is_none()), "the door was open: {entry:#?}");
    }
    let met = log.iter().filter(|e| e.fault == Some("limited")).count();
    println!("{met} requests met the limit");
}

fn a_bad_day(world: &mut CliScenario, preset: &'static str, window: bool) {
    let job = AgentJob::of(many(), preset);
    let files = job.files.clone();
    let think = Duration::from_millis(50);
    world.begin(Script { steps: 3, think, ..Script::default() }, &files, &job.text());
    world.server().plan(bad_day(window));
    let output = world.run(&["start", "--jobs", "4"]);
    let left = processes();
    let log = world.server().log();
    println!("{}\n{} requests for {} tasks", output.err, log.len(), files.len());
    let output = output.exits(0);
    assert!(left.is_empty(), "left behind: {left:#?}\n{output}");
    world.all_landed(&files);
    for fault in ["overloaded", "limited", "dropped", "hang-midway"] {
        assert!(log.iter().any(|e| e.fault == Some(fault)), "nobody met {fault}");
    }
    nothing_new_while_closed(&log);
    world.tokens_are_as_the_server_counts(&log);
}

#[test]
fn claude_with_a_key() {
    scenario(|world| a_bad_day(world, "claude", false));
}

#[test]
fn claude_with_a_subscription() {
    scenario(|world| {
        world.subscribe();
        a_bad_day(world, "claude", true);
    });
}

#[test]
fn codex_with_a_key() {
    scenario(|world| a_bad_day(world, "codex", false));
}

#[test]
fn codex_with_a_subscription() {
    scenario(|world| a_bad_day(world, "codex", true));
}
