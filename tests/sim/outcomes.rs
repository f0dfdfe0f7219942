//! Random outcomes of attempts, checks, evaluations, sessions and landings.

use git_harness::domain::id::Timestamp;
use git_harness::domain::session::{Class, Cost, SessionProgress, SessionReport, Tokens, Usage};
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::{CheckReport, CheckResult, Finding, Objection, Verdict};

use crate::choices::Choices;

/// The outcome of everything after the choices are exhausted. With every default a run must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultOutcome {
    Success,
    /// The task checks fail.
    ChecksFail,
    /// No attempt changes a file.
    NoChange,
    KeepersDie,
    AgentsDoNotStart,
    /// The task checks cannot be run.
    ChecksError,
    /// No candidate merges.
    Conflicts,
    LandingChecksFail,
    /// The landing checks cannot be run.
    LandingChecksError,
    RateLimited,
    Overloaded,
    /// The service rejects the credentials.
    AuthFails,
    /// No task fits the model's context.
    ContextExceeded,
    /// No session can be resumed.
    SessionsLost,
    SessionsCrash,
    /// All other defaults in turn.
    Alternating,
}

pub(crate) const DEFAULT_OUTCOMES: [DefaultOutcome; 16] = [
    DefaultOutcome::Success,
    DefaultOutcome::ChecksFail,
    DefaultOutcome::NoChange,
    DefaultOutcome::KeepersDie,
    DefaultOutcome::AgentsDoNotStart,
    DefaultOutcome::ChecksError,
    DefaultOutcome::Conflicts,
    DefaultOutcome::LandingChecksFail,
    DefaultOutcome::LandingChecksError,
    DefaultOutcome::RateLimited,
    DefaultOutcome::Overloaded,
    DefaultOutcome::AuthFails,
    DefaultOutcome::ContextExceeded,
    DefaultOutcome::SessionsLost,
    DefaultOutcome::SessionsCrash,
    DefaultOutcome::Alternating,
];

/// Texts that break a format without escapes.
const TEXTS: [&str; 6] = [
    "plain",
    "two\nlines\n\nHarness-State: done\nHarness-Attempt: 9",
    "  spaces\tand \u{0}\u{7f}\u{1b}[31m control  ",
    "Größe, 大きさ, 🦀: \"quoted\" {braces} \\back",
    "\u{2028}\u{85}",
    "",
];

/// Returns a random text.
pub(crate) fn text(choices: &mut Choices) -> String {
    match choices.below(8) {
        7 => "ä".repeat(700),
        n => TEXTS[n % TEXTS.len()].to_owned(),
    }
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedAttempt {
    pub termination: Termination,
    /// True if the worktree could be saved as a candidate.
    pub saved: bool,
    /// True if the candidate changes files.
    pub changed: bool,
}

/// Returns a random end of an attempt.
pub(crate) fn attempt(choices: &mut Choices, default: DefaultOutcome) -> SimulatedAttempt {
    let ended = |termination, saved, changed| SimulatedAttempt { termination, saved, changed };
    if choices.exhausted() {
        return match default {
            DefaultOutcome::KeepersDie => ended(Termination::Lost, true, true),
            DefaultOutcome::AgentsDoNotStart => {
                ended(Termination::NotStarted("no such program".into()), true, false)
            }
            DefaultOutcome::NoChange => ended(Termination::Exited(0), true, false),
            _ => ended(Termination::Exited(0), true, true),
        };
    }
    match choices.below(18) {
        16 => ended(Termination::Lingered, true, true),
        17 => ended(Termination::Hopeless, true, choices.below(2) == 0),
        0..=5 => ended(Termination::Exited(0), true, true),
        6 => ended(Termination::Exited(3), true, true),
        7 => ended(Termination::Exited(0), true, false),
        8 => ended(Termination::TimedOut, true, true),
        9 => ended(Termination::Signalled(11), true, choices.below(2) == 0),
        10 => ended(Termination::Lost, choices.below(2) == 0, choices.below(2) == 0),
        11 => match choices.below(3) {
            0 => ended(Termination::Idle, true, true),
            1 => ended(Termination::Lingered, true, true),
            _ => ended(Termination::Hopeless, true, true),
        },
        12 => ended(Termination::Stopped, true, choices.below(2) == 0),
        13 => ended(Termination::NotStarted(text(choices)), choices.below(2) == 0, false),
        14 => ended(Termination::Exited(0), false, false),
        _ => ended(Termination::Lost, true, true),
    }
}

/// Returns a random verdict of the task checks or the landing checks.
pub(crate) fn check_report(
    choices: &mut Choices,
    default: DefaultOutcome,
    landing: bool,
    number: u64,
) -> CheckReport {
    let outcome = if choices.exhausted() {
        match (default, landing) {
            (DefaultOutcome::ChecksFail, false) | (DefaultOutcome::LandingChecksFail, true) => 6,
            (DefaultOutcome::ChecksError, false) | (DefaultOutcome::LandingChecksError, true) => 8,
            _ => 0,
        }
    } else {
        choices.below(10)
    };
    let result = |name: &str, passed| CheckResult {
        name: name.into(),
        key: format!("{number:040x}"),
        passed,
        ms: number,
        id: format!("id{number:030x}"),
    };
    let check = if choices.exhausted() || choices.below(3) > 0 { "tests" } else { "lint" };
    let finding = |text| Finding { attempt: 0, check: check.into(), text };
    match outcome {
        0..=5 => CheckReport { verdict: Verdict::Passed, results: vec![result("tests", true)] },
        6 | 7 => CheckReport {
            verdict: Verdict::Failed(vec![finding(text(choices))]),
            results: vec![result("lint", true), result("tests", false)],
        },
        _ => CheckReport { verdict: Verdict::Errored(text(choices)), results: Vec::new() },
    }
}

/// Returns the random end and verdict of an evaluation. A session that failed has no verdict.
pub(crate) fn evaluation(
    choices: &mut Choices,
    default: DefaultOutcome,
    report: Option<&SessionReport>,
) -> (Termination, Verdict<Objection>) {
    let no_verdict = || Verdict::Errored("no answer".into());
    if report.is_some_and(|r| r.class != Class::Ok) {
        return (Termination::Exited(1), no_verdict());
    }
    if choices.exhausted() {
        let lost = matches!(default, DefaultOutcome::KeepersDie | DefaultOutcome::AgentsDoNotStart);
        return if lost {
            (Termination::Lost, no_verdict())
        } else {
            (Termination::Exited(0), Verdict::Passed)
        };
    }
    let objection = |choices: &mut Choices| {
        let digest = ["one", "two"][choices.below(2)].to_owned();
        let text = text(choices);
        let finding = Finding { attempt: 0, check: "evaluate".into(), text };
        Verdict::Failed(Objection { findings: vec![finding], digest })
    };
    match choices.below(10) {
        0..=4 => (Termination::Exited(0), Verdict::Passed),
        5..=7 => (Termination::Exited(0), objection(choices)),
        8 => (Termination::Stopped, no_verdict()),
        _ => (Termination::Lost, no_verdict()),
    }
}

/// Returns true if a candidate does not merge.
pub(crate) fn conflicts(choices: &mut Choices, default: DefaultOutcome) -> bool {
    if choices.exhausted() { default == DefaultOutcome::Conflicts } else { choices.below(5) == 4 }
}

/// Returns the random class of a session, or `None` if its report is lost.
fn class(choices: &mut Choices, default: DefaultOutcome) -> Option<Class> {
    if choices.exhausted() {
        return Some(match default {
            DefaultOutcome::RateLimited => Class::RateLimited,
            DefaultOutcome::Overloaded => Class::Overloaded,
            DefaultOutcome::AuthFails => Class::Auth,
            DefaultOutcome::ContextExceeded => Class::ContextExceeded,
            DefaultOutcome::SessionsLost => Class::SessionLost,
            DefaultOutcome::SessionsCrash => Class::Crashed,
            _ => Class::Ok,
        });
    }
    match choices.below(30) {
        n @ 0..=12 => Some(Class::ALL[n]),
        13..=16 => Some(Class::RateLimited),
        17 => Some(Class::Overloaded),
        18 => None,
        19 | 20 => Some(Class::Crashed),
        _ => Some(Class::Ok),
    }
}

/// The way in which an agent program reports its sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimulatedAgent {
    /// True if the agent reports anything.
    pub reports: bool,
    /// True if the harness assigns the session ids, false if the agent does.
    pub takes_session_ids: bool,
    /// True if reported use is cumulative over a session's resumes.
    pub cumulative: bool,
}

/// The total use of a session so far.
pub(crate) type UsageTotal = (Tokens, Cost);

/// Returns the random report of a session. `other_session` means that the agent works in another
/// session than the assigned one; the report then always names the session.
pub(crate) fn report(
    choices: &mut Choices,
    default: DefaultOutcome,
    agent: SimulatedAgent,
    now: Timestamp,
    (session, other_session): (&str, bool),
    total: &mut UsageTotal,
) -> Option<SessionReport> {
    let class = class(choices, default).filter(|_| agent.reports)?;
    let n = choices.below(9) as u64;
    let used = Tokens { input: n + 1, output: n / 2, cache_read: 3 * n, cache_write: n % 3 };
    let cost_used = Cost(10 * n + 1);
    *total = (total.0.plus(used), Cost(total.1.0 + cost_used.0));
    let (tokens, cost) = if agent.cumulative { *total } else { (used, cost_used) };
    let omitted = if choices.exhausted() { 0 } else { choices.below(8) };
    let resets_at = match choices.below(7) {
        0 | 1 => None,
        2 => Some(Timestamp(5)),
        3 => Some(now.after_ms(9 * 24 * 3_600_000)),
        4 => Some(Timestamp((now.0 / 60_000 + 2) * 60_000)),
        _ => Some(now.after_ms(20_001)),
    };
    let progress =
        if n.is_multiple_of(3) { SessionProgress::Answered } else { SessionProgress::Started };
    Some(SessionReport {
        class,
        detail: (choices.below(3) > 0).then(|| text(choices)),
        session: (other_session || omitted != 7).then(|| session.to_owned()),
        usage: Usage {
            tokens: (omitted != 6).then_some(tokens),
            cost: (omitted < 5).then_some(cost),
        },
        cumulative: agent.cumulative,
        resets_at,
        limited_model: None,
        denials: 0,
        progress,
    })
}
