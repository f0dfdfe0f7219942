//! What may go wrong, and how often: outcomes of attempts, checks and landings.

use git_harness::domain::id::Timestamp;
use git_harness::domain::session::{Class, Cost, SessionReport, Tokens, Usage};
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::{CheckReport, CheckResult, Finding, Objection, Verdict};

use crate::tape::Tape;

/// How the world is when the tape is over. In every mood a run must come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
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
    /// The quota is always used up.
    Limited,
    /// The service can never keep up.
    Overloaded,
    /// The account is not known.
    Unknown,
    /// No task fits the model.
    Large,
    /// No session is found again.
    Forgetful,
    /// No session comes to its end.
    Crashing,
    /// All of these in turn.
    Changing,
}

pub(crate) const MOODS: [Mood; 16] = [
    Mood::Kind,
    Mood::Rejecting,
    Mood::Idle,
    Mood::Deadly,
    Mood::Dead,
    Mood::Blind,
    Mood::Conflicting,
    Mood::Gate,
    Mood::GateBlind,
    Mood::Limited,
    Mood::Overloaded,
    Mood::Unknown,
    Mood::Large,
    Mood::Forgetful,
    Mood::Crashing,
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

pub(crate) fn text(tape: &mut Tape) -> String {
    match tape.pick(8) {
        7 => "ä".repeat(700),
        n => TEXTS[n % TEXTS.len()].to_owned(),
    }
}

/// What an attempt leaves: how it ended, whether anything could be saved, whether that is a change.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub termination: Termination,
    pub saved: bool,
    pub changed: bool,
}

pub(crate) fn attempt(tape: &mut Tape, mood: Mood) -> Left {
    let left = |termination, saved, changed| Left { termination, saved, changed };
    if tape.over() {
        return match mood {
            Mood::Deadly => left(Termination::Lost, true, true),
            Mood::Dead => left(Termination::NotStarted("no such program".into()), true, false),
            Mood::Idle => left(Termination::Exited(0), true, false),
            _ => left(Termination::Exited(0), true, true),
        };
    }
    match tape.pick(18) {
        16 => left(Termination::Lingered, true, true),
        17 => left(Termination::Hopeless, true, tape.pick(2) == 0),
        0..=5 => left(Termination::Exited(0), true, true),
        6 => left(Termination::Exited(3), true, true),
        7 => left(Termination::Exited(0), true, false),
        8 => left(Termination::TimedOut, true, true),
        9 => left(Termination::Signalled(11), true, tape.pick(2) == 0),
        10 => left(Termination::Lost, tape.pick(2) == 0, tape.pick(2) == 0),
        11 => match tape.pick(3) {
            0 => left(Termination::Idle, true, true),
            1 => left(Termination::Lingered, true, true),
            _ => left(Termination::Hopeless, true, true),
        },
        12 => left(Termination::Stopped, true, tape.pick(2) == 0),
        13 => left(Termination::NotStarted(text(tape)), tape.pick(2) == 0, false),
        14 => left(Termination::Exited(0), false, false),
        _ => left(Termination::Lost, true, true),
    }
}

pub(crate) fn check_report(tape: &mut Tape, mood: Mood, landing: bool, number: u64) -> CheckReport {
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
    let check = if tape.over() || tape.pick(3) > 0 { "tests" } else { "lint" };
    let finding = |text| Finding { attempt: 0, check: check.into(), text };
    match what {
        0..=5 => CheckReport { verdict: Verdict::Passed, results: vec![result("tests", true)] },
        6 | 7 => CheckReport {
            verdict: Verdict::Failed(vec![finding(text(tape))]),
            results: vec![result("lint", true), result("tests", false)],
        },
        _ => CheckReport { verdict: Verdict::Errored(text(tape)), results: Vec::new() },
    }
}

/// What an evaluator says, and how it ended. Only a session that came to its end has an opinion.
pub(crate) fn evaluation(
    tape: &mut Tape,
    mood: Mood,
    told: Option<&SessionReport>,
) -> (Termination, Verdict<Objection>) {
    let none = || Verdict::Errored("no answer".into());
    if told.is_some_and(|r| r.class != Class::Ok) {
        return (Termination::Exited(1), none());
    }
    if tape.over() {
        let deadly = matches!(mood, Mood::Deadly | Mood::Dead);
        return if deadly {
            (Termination::Lost, none())
        } else {
            (Termination::Exited(0), Verdict::Passed)
        };
    }
    let findings = |tape: &mut Tape| {
        let digest = ["one", "two"][tape.pick(2)].to_owned();
        let text = text(tape);
        let finding = Finding { attempt: 0, check: "evaluate".into(), text };
        Verdict::Failed(Objection { findings: vec![finding], digest })
    };
    match tape.pick(10) {
        0..=4 => (Termination::Exited(0), Verdict::Passed),
        5..=7 => (Termination::Exited(0), findings(tape)),
        8 => (Termination::Stopped, none()),
        _ => (Termination::Lost, none()),
    }
}

pub(crate) fn conflicts(tape: &mut Tape, mood: Mood) -> bool {
    if tape.over() { mood == Mood::Conflicting } else { tape.pick(5) == 4 }
}

/// How a session ends, where the agent is one that says so. Nothing: its words were lost.
fn class(tape: &mut Tape, mood: Mood) -> Option<Class> {
    if tape.over() {
        return Some(match mood {
            Mood::Limited => Class::RateLimited,
            Mood::Overloaded => Class::Overloaded,
            Mood::Unknown => Class::Auth,
            Mood::Large => Class::ContextExceeded,
            Mood::Forgetful => Class::SessionLost,
            Mood::Crashing => Class::Crashed,
            _ => Class::Ok,
        });
    }
    match tape.pick(30) {
        n @ 0..=12 => Some(Class::ALL[n]),
        13..=16 => Some(Class::RateLimited),
        17 => Some(Class::Overloaded),
        18 => None,
        19 | 20 => Some(Class::Crashed),
        _ => Some(Class::Ok),
    }
}

/// How sessions tell of themselves: a property of the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// Whether it says anything at all.
    pub talks: bool,
    /// Whether it is told the ids of its sessions, or makes them.
    pub takes_ids: bool,
    /// Whether what it used is counted on over a whole thread.
    pub cumulative: bool,
}

/// What a thread has used so far.
pub(crate) type Count = (Tokens, Cost);

/// What a session says of itself at its end. `thread` is the one that it works in; one that strays says so.
pub(crate) fn report(
    tape: &mut Tape,
    mood: Mood,
    program: Program,
    now: Timestamp,
    (thread, strays): (&str, bool),
    count: &mut Count,
) -> Option<SessionReport> {
    let class = class(tape, mood).filter(|_| program.talks)?;
    let n = tape.pick(9) as u64;
    let used = Tokens { input: n + 1, output: n / 2, cache_read: 3 * n, cache_write: n % 3 };
    let paid = Cost(10 * n + 1);
    *count = (count.0.plus(used), Cost(count.1.0 + paid.0));
    let (tokens, cost) = if program.cumulative { *count } else { (used, paid) };
    let silent = if tape.over() { 0 } else { tape.pick(8) };
    let resets_at = match tape.pick(7) {
        0 | 1 => None,
        2 => Some(Timestamp(5)),
        3 => Some(now.after_ms(9 * 24 * 3_600_000)),
        4 => Some(Timestamp((now.0 / 60_000 + 2) * 60_000)),
        _ => Some(now.after_ms(20_001)),
    };
    Some(SessionReport {
        class,
        detail: (tape.pick(3) > 0).then(|| text(tape)),
        session: (strays || silent != 7).then(|| thread.to_owned()),
        usage: Usage {
            tokens: (silent != 6).then_some(tokens),
            cost: (silent < 5).then_some(cost),
        },
        cumulative: program.cumulative,
        resets_at,
        denials: 0,
    })
}
