//! Endings of the CLIs under server faults, on which the presets rely, and their classification.

use std::time::Duration;

use crate::cage::scenario;
use crate::server::{Fault, Limit, Script};
use crate::world::{CliScenario, kill_everything};

/// A shell command line of a CLI, and its expected ending for each of [`faults`].
struct CliExpectation {
    preset: &'static str,
    words: &'static [&'static str],
    /// The expected texts, in the order of [`faults`].
    says: [&'static str; 8],
}

/// Returns the faults of every request, each with the class of the ending.
fn faults() -> [(&'static str, Fault); 8] {
    let limit = Limit::lifting_in(Duration::from_secs(120), true);
    [
        ("rate_limited", Fault::Limited(limit)),
        ("overloaded", Fault::Overloaded),
        ("auth", Fault::Unauthorized),
        ("context_exceeded", Fault::ContextExceeded),
        ("overloaded", Fault::Dropped),
        ("crashed", Fault::HangMidway),
        ("crashed", Fault::HangAtOnce),
        ("ok", Fault::Slow(Duration::from_secs(2))),
    ]
}

const PROMPT: &str = "As the harness would ask.\n\n# Your task\n\nThe list is complete.\n\n- `src/a.txt` (file)\n\nThis is task `a`.\n";

fn ends_as_known(world: &mut CliScenario, cli: &CliExpectation) {
    let file = "src/a.txt".to_owned();
    world.begin(Script { steps: 2, ..Script::default() }, std::slice::from_ref(&file), "");
    for ((class, fault), says) in faults().into_iter().zip(cli.says) {
        let slow = matches!(fault, Fault::Slow(_));
        let hangs = matches!(fault, Fault::HangMidway | Fault::HangAtOnce);
        world.server().clear();
        world.server().plan(move |_| Some(fault.clone()));
        let mut running = world.cli(cli.words, PROMPT);
        if hangs {
            // The CLI would retry for minutes.
            let server = world.server().clone();
            running.await_word(says);
            running.await_that("a request", || !server.log().is_empty());
            kill_everything();
        }
        let code = if slow { 0 } else { if hangs { 137 } else { 1 } };
        let output = running.wait().exits(code);
        let log = world.server().log();
        println!("{class}: exit code {}, {} requests", output.code, log.len());
        assert!(output.out.contains(says), "{class}: it should have said {says:?}\n{output}");
        assert_eq!(world.classified(cli.preset, &output)["class"], class, "{output}");
        assert!(!slow || log.last().unwrap().steps == 2, "{log:#?}");
        assert!(log.iter().all(|entry| entry.usage.is_some() == slow), "{log:#?}");
        assert!(log.iter().enumerate().all(|(at, entry)| entry.index == at), "{log:#?}");
    }
}

#[test]
fn of_claude() {
    let cli = CliExpectation {
        preset: "claude",
        words: &[
            "CLAUDE_CODE_MAX_RETRIES=1 claude -p --output-format stream-json --verbose",
            "--permission-mode bypassPermissions",
        ],
        says: [
            "\"api_error_status\":429",
            "\"api_error_status\":529",
            "\"error\":\"authentication_failed\"",
            "Prompt is too long",
            "Unable to connect to API",
            "\"subtype\":\"init\"",
            "\"subtype\":\"init\"",
            "\"is_error\":false",
        ],
    };
    scenario(|world| ends_as_known(world, &cli));
}

#[test]
fn of_codex() {
    let cli = CliExpectation {
        preset: "codex",
        words: &["codex exec --json --dangerously-bypass-approvals-and-sandbox -"],
        says: [
            "hit your usage limit",
            "Selected model is at capacity",
            "401 Unauthorized",
            "ran out of room in the model's context window",
            "stream disconnected before completion",
            "turn.started",
            "turn.started",
            "turn.completed",
        ],
    };
    scenario(|world| ends_as_known(world, &cli));
}
