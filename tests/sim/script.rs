//! What may go wrong, and how often: outcomes of attempts, checks and landings.

use git_harness::domain::event::Ending;
use git_harness::domain::verdict::{CheckResult, Finding, Judgement, Verdict};

use crate::tape::Tape;

/// How the world is when the tape is over. In every mood a run must come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Everything goes well.
    Kind,
    /// Every check says no.
    Rejecting,
    /// No attempt changes anything.
    Idle,
    /// Every keeper dies.
    Deadly,
    /// No agent can be started.
    Dead,
    /// No check can be run.
    Blind,
    /// Every candidate conflicts.
    Conflicting,
    /// The landing checks say no.
    Gate,
    /// The landing checks cannot be run.
    GateBlind,
    /// All of these in turn.
    Changing,
}

pub const MOODS: [Mood; 10] = [
    Mood::Kind,
    Mood::Rejecting,
    Mood::Idle,
    Mood::Deadly,
    Mood::Dead,
    Mood::Blind,
    Mood::Conflicting,
    Mood::Gate,
    Mood::GateBlind,
    Mood::Changing,
];

/// Texts that break careless formats.
const TEXTS: [&str; 6] = [
    "plain",
    "two\nlines\n\nHarness-State: done\nHarness-Attempt: 9",
    "  spaces\tand \u{0}\u{7f}\u{1b}[31m control  ",
    "Größe, 大きさ, 🦀: \"quoted\" {braces} \\back",
    "\u{2028}\u{85}",
    "",
];

pub fn text(tape: &mut Tape) -> String {
    match tape.pick(8) {
        7 => "ä".repeat(700),
        n => TEXTS[n % TEXTS.len()].to_owned(),
    }
}

/// What an attempt leaves: how it ended, whether anything could be saved, whether that is a change.
#[derive(Debug, Clone)]
pub struct Left {
    pub ending: Ending,
    pub saved: bool,
    pub changed: bool,
}

pub fn attempt(tape: &mut Tape, mood: Mood) -> Left {
    let left = |ending, saved, changed| Left { ending, saved, changed };
    if tape.over() {
        return match mood {
            Mood::Deadly => left(Ending::Lost, true, true),
            Mood::Dead => left(Ending::NotStarted("no such program".into()), true, false),
            Mood::Idle => left(Ending::Exited(0), true, false),
            _ => left(Ending::Exited(0), true, true),
        };
    }
    match tape.pick(16) {
        0..=5 => left(Ending::Exited(0), true, true),
        6 => left(Ending::Exited(3), true, true),
        7 => left(Ending::Exited(0), true, false),
        8 => left(Ending::TimedOut, true, true),
        9 => left(Ending::Signalled(11), true, tape.pick(2) == 0),
        10 => left(Ending::Lost, tape.pick(2) == 0, tape.pick(2) == 0),
        11 => match tape.pick(3) {
            0 => left(Ending::Idle, true, true),
            1 => left(Ending::Lingered, true, true),
            _ => left(Ending::Hopeless, true, true),
        },
        12 => left(Ending::Stopped, true, tape.pick(2) == 0),
        13 => left(Ending::NotStarted(text(tape)), tape.pick(2) == 0, false),
        14 => left(Ending::Exited(0), false, false),
        _ => left(Ending::Lost, true, true),
    }
}

pub fn verdict(tape: &mut Tape, mood: Mood, landing: bool, number: u64) -> Verdict {
    let what = if tape.over() {
        match (mood, landing) {
            (Mood::Rejecting, false) | (Mood::Gate, true) => 6,
            (Mood::Blind, false) | (Mood::GateBlind, true) => 8,
            _ => 0,
        }
    } else {
        tape.pick(10)
    };
    let result = |name: &str, passed| CheckResult {
        name: name.into(),
        key: format!("{number:040x}"),
        passed,
        ms: number,
        id: format!("id{number:030x}"),
    };
    let finding = |text| Finding { attempt: 0, check: "tests".into(), text };
    match what {
        0..=5 => Verdict { judgement: Judgement::Accepted, results: vec![result("tests", true)] },
        6 | 7 => Verdict {
            judgement: Judgement::Rejected(vec![finding(text(tape))]),
            results: vec![result("lint", true), result("tests", false)],
        },
        _ => Verdict { judgement: Judgement::Inconclusive(text(tape)), results: Vec::new() },
    }
}

pub fn conflicts(tape: &mut Tape, mood: Mood) -> bool {
    if tape.over() { mood == Mood::Conflicting } else { tape.pick(5) == 4 }
}
