//! The wait of a run, and the next step that helps: pure functions of the state and of facts that
//! no event records. `status`, `--json` and the end of `start` use them.

use super::event::Halt;
use super::id::{TaskId, Timestamp};
use super::machine::{awaits_review, blocked, canary_holds, failure_groups, stalled};
use super::retry::Policy;
use super::state::{Phase, RunPhase, RunState};

/// Facts about a run that no event records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunFacts {
    /// True if a supervisor holds the run.
    pub driven: bool,
    /// The time of the last `poll`, if no `start` came after it.
    pub polled_at: Option<Timestamp>,
    /// The reason why nothing lands on the target, if candidates wait to land.
    pub landing: Option<String>,
    /// True if nothing lands because the target's queue is paused.
    pub queue_paused: bool,
    /// The reason why the disk is too full for attempts.
    pub disk: Option<String>,
    /// The time before which the agents' account is closed, with the reason.
    pub account: Option<(Timestamp, String)>,
}

/// The wait of a run: the condition or the person that lets the run continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunWait {
    /// Nothing: the run is cancelled. This many attempts are still ending.
    Cancelled { running: usize },
    /// Nothing: every task has ended.
    Ended { failed: usize },
    /// A person: the run has halted.
    Halted { halt: Option<Halt>, reason: String },
    /// A person: the run was stopped, or has not begun.
    Paused { begun: bool, reason: String },
    /// The ends of running attempts. Nothing new starts.
    Draining { running: usize },
    /// A review. Nothing else can continue.
    Review { candidates: usize },
    /// A person: the other tasks wait for tasks that failed or were skipped.
    Blocked { tasks: usize, causes: usize },
    /// A person: candidates wait to land, and something is in the way.
    Landing { reason: String },
    /// Space on the disk.
    Disk { reason: String },
    /// The opening of the agents' account.
    Account { until: Timestamp, because: String },
    /// A supervisor: nobody drives the run.
    Supervisor { running: usize },
    /// The next `poll`.
    Poll { last: Timestamp },
    /// The task that runs first after a halt.
    Canary,
    /// Work that is under way.
    Work,
}

impl RunWait {
    /// Returns the word used in JSON.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Cancelled { .. } => "cancelled",
            Self::Ended { .. } => "ended",
            Self::Halted { .. } => "halted",
            Self::Paused { .. } => "paused",
            Self::Draining { .. } => "draining",
            Self::Review { .. } => "review",
            Self::Blocked { .. } => "blocked",
            Self::Landing { .. } => "landing",
            Self::Disk { .. } => "disk",
            Self::Account { .. } => "account",
            Self::Supervisor { .. } => "supervisor",
            Self::Poll { .. } => "poll",
            Self::Canary => "canary",
            Self::Work => "work",
        }
    }

    /// Returns true if nothing continues until a person acts.
    pub(crate) fn needs_person(&self) -> bool {
        match self {
            Self::Halted { .. }
            | Self::Paused { .. }
            | Self::Review { .. }
            | Self::Blocked { .. }
            | Self::Landing { .. }
            | Self::Disk { .. }
            | Self::Supervisor { .. } => true,
            Self::Cancelled { .. }
            | Self::Ended { .. }
            | Self::Draining { .. }
            | Self::Account { .. }
            | Self::Poll { .. }
            | Self::Canary
            | Self::Work => false,
        }
    }
}

/// Returns the wait of a run.
pub(crate) fn run_wait(state: &RunState, facts: &RunFacts) -> RunWait {
    let running = state.count(&Phase::Running);
    let reason = || state.reason.clone().unwrap_or_default();
    match state.phase {
        RunPhase::Cancelled => return RunWait::Cancelled { running },
        RunPhase::Active | RunPhase::Paused | RunPhase::Halted if state.ended() => {
            return RunWait::Ended { failed: state.count(&Phase::Failed) };
        }
        RunPhase::Halted => return RunWait::Halted { halt: state.halt, reason: reason() },
        RunPhase::Paused if running > 0 => return RunWait::Draining { running },
        RunPhase::Paused => {
            return RunWait::Paused { begun: !state.waits_to_begin, reason: reason() };
        }
        RunPhase::Active => {}
    }
    if awaits_review(state, &Policy::default()) {
        return RunWait::Review { candidates: state.count(&Phase::Reviewing) };
    }
    if stalled(state) {
        let blocked = blocked(state);
        let causes: std::collections::BTreeSet<&TaskId> = blocked.values().collect();
        return RunWait::Blocked { tasks: blocked.len(), causes: causes.len() };
    }
    if let Some(reason) = facts.landing.clone().filter(|_| state.count(&Phase::Queued) > 0) {
        return RunWait::Landing { reason };
    }
    let can_start = state.tasks.startable(false).next().is_some();
    if let Some(reason) = facts.disk.clone().filter(|_| can_start) {
        return RunWait::Disk { reason };
    }
    if let Some((until, because)) = facts.account.clone().filter(|_| can_start && running == 0) {
        return RunWait::Account { until, because };
    }
    match (facts.driven, facts.polled_at) {
        (false, Some(last)) => RunWait::Poll { last },
        (false, None) => RunWait::Supervisor { running },
        (true, _) if can_start && canary_holds(state) => RunWait::Canary,
        (true, _) => RunWait::Work,
    }
}

/// The next step that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Review the only candidate that waits, or list them.
    Review(Option<TaskId>),
    /// See why a task failed.
    Show(TaskId),
    /// Continue the run.
    Start,
    /// Continue the run in spite of failed and skipped dependencies.
    KeepGoing,
    /// Try the failed tasks again.
    RetryFailed,
    /// Continue the target's queue.
    ResumeQueue,
    /// Remove what is no longer needed.
    Sweep,
    /// See the closed accounts.
    Accounts,
    /// Take one step of the run.
    Poll,
    /// Follow the run.
    Watch,
    /// Use the results.
    Finish,
}

/// Returns the next step that helps a run that waits for `wait`.
pub(crate) fn next_step(state: &RunState, wait: &RunWait, facts: &RunFacts) -> NextStep {
    match wait {
        RunWait::Cancelled { running: 0 } => NextStep::Sweep,
        RunWait::Ended { failed: 0 } if state.count(&Phase::Done) == 0 => NextStep::Sweep,
        RunWait::Ended { failed: 0 } => NextStep::Finish,
        RunWait::Ended { .. } => NextStep::RetryFailed,
        RunWait::Halted { halt: Some(Halt::Failures), .. } => {
            let groups = failure_groups(state);
            let task = groups.first().and_then(|group| group.tasks.first());
            task.map_or(NextStep::Start, |task| NextStep::Show(task.clone()))
        }
        RunWait::Halted { .. } | RunWait::Paused { .. } | RunWait::Supervisor { .. } => {
            NextStep::Start
        }
        RunWait::Review { .. } => {
            let mut waiting = state.tasks.in_phase(&Phase::Reviewing).map(|(task, _)| task);
            let first = waiting.next().filter(|_| waiting.next().is_none());
            NextStep::Review(first.cloned())
        }
        RunWait::Blocked { .. } if state.count(&Phase::Failed) > 0 => NextStep::RetryFailed,
        RunWait::Blocked { .. } => NextStep::KeepGoing,
        RunWait::Landing { .. } if facts.queue_paused => NextStep::ResumeQueue,
        RunWait::Landing { .. } if !facts.driven => NextStep::Start,
        RunWait::Disk { .. } if !facts.driven => NextStep::Sweep,
        RunWait::Account { .. } => NextStep::Accounts,
        RunWait::Poll { .. } => NextStep::Poll,
        RunWait::Cancelled { .. }
        | RunWait::Draining { .. }
        | RunWait::Landing { .. }
        | RunWait::Disk { .. }
        | RunWait::Canary
        | RunWait::Work => NextStep::Watch,
    }
}

/// The rate of a run, and the time that the rest takes at that rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunRate {
    /// The mean time between two done tasks, in milliseconds.
    pub each_ms: u64,
    /// The time until all tasks that can continue are done, in milliseconds; `None` without such
    /// tasks.
    pub left_ms: Option<u64>,
}

/// Landings with less time between them count as one burst, in milliseconds.
const BURST_MS: u64 = 1_000;
/// The least number of bursts from which a rate is computed.
const BURSTS: usize = 3;

/// Returns the rate at which a run completes tasks. Returns `None` if nobody drives the run or if
/// there were too few bursts. A train lands many tasks at one moment, so a single burst gives no
/// rate.
pub(crate) fn run_rate(state: &RunState, facts: &RunFacts) -> Option<RunRate> {
    if !facts.driven || state.phase != RunPhase::Active {
        return None;
    }
    let mut done: Vec<Timestamp> =
        state.tasks.in_phase(&Phase::Done).map(|(_, task)| task.at).collect();
    done.sort_unstable();
    let (first, last) = (*done.first()?, *done.last()?);
    let gaps = done.windows(2).filter(|pair| pair[1].since_ms(pair[0]) >= BURST_MS).count();
    if gaps + 1 < BURSTS {
        return None;
    }
    // The agents of the first burst worked before it, so its tasks are not part of the measured
    // time.
    let begun = done.windows(2).take_while(|pair| pair[1].since_ms(pair[0]) < BURST_MS).count() + 1;
    let each_ms = last.since_ms(first) / (done.len() - begun).max(1) as u64;
    let left = state.tasks.len() - state.tasks.count_ended() - blocked(state).len();
    let left_ms = (left > 0).then(|| each_ms * left as u64);
    Some(RunRate { each_ms, left_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::RunId;
    use crate::domain::plan::{Plan, Task};
    use crate::domain::state::TaskState;

    fn id(name: &str) -> TaskId {
        TaskId::parse(name).unwrap()
    }

    /// Builds an active run from words such as `b>a=reviewing`: task, dependency and phase.
    fn run(text: &str) -> RunState {
        let mut plan = Plan::default();
        let mut states = Vec::new();
        for word in text.split(' ') {
            let (task, phase) = word.split_once('=').unwrap_or((word, "todo"));
            let (name, after) = task.split_once('>').unwrap_or((task, ""));
            plan.tasks.push(Task {
                id: id(name),
                files: vec!["f".into()],
                after: after.split(',').filter(|a| !a.is_empty()).map(id).collect(),
                lines: 1,
                tokens: 1,
                level: 0,
                vars: String::new(),
            });
            let phase = Phase::parse(phase).unwrap();
            states.push((id(name), TaskState { phase, ..TaskState::default() }));
        }
        let mut state = RunState::new(RunId::parse("r").unwrap(), plan);
        state.base_passed = Some(true);
        state.tasks.restore(states);
        state
    }

    fn in_phase(text: &str, phase: RunPhase, reason: &str) -> RunState {
        RunState { phase, reason: Some(reason.to_owned()), ..run(text) }
    }

    fn driven() -> RunFacts {
        RunFacts { driven: true, ..RunFacts::default() }
    }

    /// Returns the wait's word and the next step, as in `review Review(None)`.
    fn wait_and_step(state: &RunState, facts: &RunFacts) -> String {
        let wait = run_wait(state, facts);
        format!("{} {:?}", wait.code(), next_step(state, &wait, facts))
    }

    #[test]
    fn run_that_is_over_waits_for_nothing() {
        let none = RunFacts::default();
        assert_eq!(wait_and_step(&run("a=done b=skipped"), &none), "ended Finish");
        assert_eq!(wait_and_step(&run("a=done b=failed"), &none), "ended RetryFailed");
        assert_eq!(
            wait_and_step(&run("a=skipped"), &none),
            "ended Sweep",
            "there is nothing to use"
        );
        let cancelled = in_phase("a=queued b=todo", RunPhase::Cancelled, "");
        assert_eq!(wait_and_step(&cancelled, &none), "cancelled Sweep");
        let cancelled = in_phase("a=running", RunPhase::Cancelled, "");
        assert_eq!(wait_and_step(&cancelled, &driven()), "cancelled Watch", "an attempt is ending");
        let paused = in_phase("a=done", RunPhase::Paused, "stop");
        assert_eq!(
            wait_and_step(&paused, &none),
            "ended Finish",
            "a stop changes nothing any more"
        );
    }

    #[test]
    fn halted_run_names_the_task_that_failed() {
        let none = RunFacts::default();
        let mut halted = in_phase("a=done b=failed c", RunPhase::Halted, "too many");
        assert_eq!(wait_and_step(&halted, &none), "halted Start");
        halted.halt = Some(Halt::Failures);
        assert_eq!(wait_and_step(&halted, &none), "halted Show(b)");
        let reason = "too many".to_owned();
        let wait = RunWait::Halted { halt: Some(Halt::Failures), reason };
        assert_eq!(run_wait(&halted, &none), wait);
    }

    #[test]
    fn stopped_run_drains_and_then_waits_for_start() {
        let draining = in_phase("a=running b", RunPhase::Paused, "stop");
        assert_eq!(wait_and_step(&draining, &driven()), "draining Watch");
        let paused = in_phase("a=queued b", RunPhase::Paused, "stop");
        let wait = RunWait::Paused { begun: true, reason: "stop".into() };
        assert_eq!(run_wait(&paused, &RunFacts::default()), wait);
        assert_eq!(wait_and_step(&paused, &RunFacts::default()), "paused Start");
        let new = RunState { waits_to_begin: true, ..paused };
        let wait = RunWait::Paused { begun: false, reason: "stop".into() };
        assert_eq!(run_wait(&new, &RunFacts::default()), wait);
    }

    #[test]
    fn run_waits_for_a_review_only_if_nothing_else_can_go_on() {
        let facts = driven();
        assert_eq!(wait_and_step(&run("a=reviewing b=done"), &facts), "review Review(Some(a))");
        assert_eq!(wait_and_step(&run("a=reviewing b=reviewing"), &facts), "review Review(None)");
        assert_eq!(wait_and_step(&run("a=reviewing b>a"), &facts), "review Review(Some(a))");
        assert_eq!(wait_and_step(&run("a=reviewing b"), &facts), "work Watch");
        assert_eq!(wait_and_step(&run("a=reviewing b=running"), &facts), "work Watch");
        let canary = RunState { canary: true, ..run("a=reviewing b c") };
        assert_eq!(
            wait_and_step(&canary, &facts),
            "review Review(Some(a))",
            "the others wait for a"
        );
        let canary = RunState { canary: true, ..run("a=running b c") };
        assert_eq!(wait_and_step(&canary, &facts), "canary Watch");
    }

    #[test]
    fn blocked_run_counts_its_blocked_tasks_and_their_causes() {
        let none = RunFacts::default();
        let state = run("a=failed b=skipped c>a d>c e>b");
        assert_eq!(run_wait(&state, &none), RunWait::Blocked { tasks: 3, causes: 2 });
        assert_eq!(wait_and_step(&state, &none), "blocked RetryFailed");
        assert_eq!(wait_and_step(&run("b=skipped e>b"), &none), "blocked KeepGoing");
    }

    #[test]
    fn landing_disk_and_account_hold_a_run_only_if_they_matter() {
        let landing = RunFacts { landing: Some("dirty".into()), ..driven() };
        assert_eq!(wait_and_step(&run("a=queued b"), &landing), "landing Watch");
        assert_eq!(
            wait_and_step(&run("a=running"), &landing),
            "work Watch",
            "nothing waits to land"
        );
        let paused = RunFacts { queue_paused: true, ..landing };
        assert_eq!(wait_and_step(&run("a=queued"), &paused), "landing ResumeQueue");
        let disk = RunFacts { disk: Some("31 MB".into()), ..driven() };
        assert_eq!(wait_and_step(&run("a"), &disk), "disk Watch");
        assert_eq!(wait_and_step(&run("a=queued"), &disk), "work Watch", "no attempt is due");
        let account = RunFacts { account: Some((Timestamp(9), "quota".into())), ..driven() };
        assert_eq!(wait_and_step(&run("a b=queued"), &account), "account Accounts");
        assert_eq!(wait_and_step(&run("a b=running"), &account), "work Watch");
    }

    #[test]
    fn run_without_a_supervisor_waits_for_start_or_for_the_next_poll() {
        assert_eq!(wait_and_step(&run("a=queued b"), &RunFacts::default()), "supervisor Start");
        let polled = RunFacts { polled_at: Some(Timestamp(5)), ..RunFacts::default() };
        assert_eq!(wait_and_step(&run("a=running b"), &polled), "poll Poll");
        assert_eq!(run_wait(&run("a"), &polled), RunWait::Poll { last: Timestamp(5) });
        let started = RunFacts { driven: true, ..polled };
        assert_eq!(wait_and_step(&run("a"), &started), "work Watch");
    }

    /// Returns the rate of a run whose tasks were done at these times, with more tasks.
    fn rate(done: &[u64], more: &str, facts: &RunFacts) -> Option<(u64, Option<u64>)> {
        let names: Vec<String> = (0..done.len()).map(|n| format!("t{n}=done")).collect();
        let mut state = run(&format!("{} {more}", names.join(" ")));
        for (n, at) in done.iter().enumerate() {
            let task = TaskState { phase: Phase::Done, at: Timestamp(*at), ..TaskState::default() };
            state.tasks.set(&id(&format!("t{n}")), task);
        }
        run_rate(&state, facts).map(|rate| (rate.each_ms, rate.left_ms))
    }

    #[test]
    fn rate_needs_a_supervisor_and_three_bursts() {
        let done = [10_000, 20_000, 30_000];
        assert_eq!(rate(&done, "a b", &driven()), Some((10_000, Some(20_000))));
        assert_eq!(rate(&done, "a b", &RunFacts::default()), None, "nobody drives the run");
        assert_eq!(rate(&done, "a=running", &driven()), Some((10_000, Some(10_000))));
        assert_eq!(rate(&done, "a=skipped", &driven()), Some((10_000, None)));
        assert_eq!(rate(&done, "a=failed b>a c", &driven()), Some((10_000, Some(10_000))));
        assert_eq!(rate(&[10_000, 10_001, 10_002, 10_003], "a", &driven()), None, "one train");
        let trains = [10_000, 10_001, 20_000, 20_001, 30_000, 30_001];
        assert_eq!(rate(&trains, "a", &driven()), Some((5_000, Some(5_000))), "three trains");
    }
}
