//! The effects that are owed. They follow from the state, the policy and the time, so recovery is
//! another call of `owed`.

use super::blocked::may_start;
use super::failures::redispatchable;
use crate::domain::id::{TaskId, Timestamp};
use crate::domain::plan::Task;
use crate::domain::retry::Policy;
use crate::domain::state::{Phase, RunPhase, RunState, TaskState};

/// An action to perform. Effects are derived from the state and never stored. A repeated effect has
/// the same result as a single one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Run the landing checks on the base.
    VerifyBase,
    /// Wait for a running attempt, or find out how it ended.
    Await(TaskId, u32),
    /// Run the checks on a candidate.
    Verify(TaskId, u32),
    /// Ask an evaluator for a verdict on a candidate that passed its checks.
    Evaluate(TaskId, u32),
    /// Land an accepted candidate on the target.
    Land(TaskId),
    /// Start a new attempt with this number.
    Start(TaskId, u32),
    /// Redispatch failed tasks.
    Redispatch,
}

/// Returns the number of attempts that may start now.
fn free_slots(state: &RunState, policy: &Policy, now: Timestamp) -> usize {
    let base_ready = match state.base_passed {
        None => false,
        Some(passed) => passed || !policy.base_must_pass,
    };
    if state.phase != RunPhase::Active || !base_ready || held_back(state, policy, now).is_some() {
        return 0;
    }
    let slots = state.account.slots.unwrap_or(policy.jobs).min(policy.jobs);
    let busy = state.count(&Phase::Running) + due_evaluations(state, policy, now).len();
    let free = slots.saturating_sub(busy);
    if canary_alone(state) || probe_alone(state, policy) { free.min(1) } else { free }
}

/// Returns the reason why no task of an active run may start now.
pub fn held_back(state: &RunState, policy: &Policy, now: Timestamp) -> Option<String> {
    if !state.account.open_at(now) {
        let because = state.account.because.as_deref().unwrap_or("the account is closed");
        return Some(because.to_owned());
    }
    if policy.over_budget(&state.all_spend()).is_some() {
        return Some("the budget is used up".into());
    }
    let busy = |s: &&TaskState| {
        matches!(s.phase, Phase::Running | Phase::Verifying | Phase::Reviewing | Phase::Queued)
    };
    if canary_alone(state) && state.tasks.values().any(|s| busy(&s)) {
        return Some("one task runs first; the others start when it lands".into());
    }
    let probing = |s: &TaskState| s.phase == Phase::Running && state.account.open_at(s.at);
    if probe_alone(state, policy) && state.tasks.values().any(probing) {
        return Some("one agent runs first; the others start when the service answers it".into());
    }
    if policy.shared_account
        && state.account.closed_until > Timestamp(0)
        && !state.account.proven
        && !due_evaluations(state, policy, now).is_empty()
    {
        return Some(
            "an evaluator runs first; the agents start when the service answers it".into(),
        );
    }
    None
}

/// Returns the attempts whose candidates an evaluator may review now, in plan order.
fn due_evaluations(state: &RunState, policy: &Policy, now: Timestamp) -> Vec<(TaskId, u32)> {
    let open = state.evaluators_account(policy).open_at(now);
    let over_budget = || policy.over_budget(&state.all_spend()).is_some();
    let waits = |s: &TaskState| s.phase == Phase::Verifying && s.evaluation.waiting;
    if !policy.evaluates
        || !open
        || state.phase != RunPhase::Active
        || !state.tasks.values().any(waits)
        || over_budget()
    {
        return Vec::new();
    }
    let due = |task: &Task| {
        let s = state.tasks.get(&task.id).filter(|s| waits(s) && s.not_before <= now)?;
        Some((task.id.clone(), s.attempt))
    };
    state.plan.tasks.iter().filter_map(due).collect()
}

/// Returns the number of evaluators that may work at the same time, beside the running agents.
pub fn evaluator_slots(state: &RunState, policy: &Policy) -> usize {
    let account = state.evaluators_account(policy);
    let slots = account.slots.unwrap_or(policy.jobs).min(policy.jobs);
    let running = state.tasks.values().filter(|s| s.phase == Phase::Running);
    let free = slots.saturating_sub(running.clone().count());
    if account.proven || account.closed_until == Timestamp(0) {
        return free;
    }
    // The account was closed, so a single session probes whether the account is open again.
    let probing = policy.shared_account && running.clone().any(|s| account.open_at(s.at));
    free.min(usize::from(!probing))
}

/// Returns true if, after a halt on failures, one task has to land before the others start.
fn canary_alone(state: &RunState) -> bool {
    state.canary && state.count(&Phase::Done) <= state.baseline.done as usize
}

/// Returns true if one agent has to prove the account before the others start: after every closing,
/// and at the start of the run if the policy asks for it.
fn probe_alone(state: &RunState, policy: &Policy) -> bool {
    !state.account.proven && (policy.probe || state.account.closed_until > Timestamp(0))
}

/// Returns the attempts that may start now, at most one for each free slot. Tasks that hold a
/// worktree for their session come first, then the others in plan order.
pub(super) fn startable_attempts(
    state: &RunState,
    policy: &Policy,
    now: Timestamp,
) -> Vec<(TaskId, u32)> {
    let free = free_slots(state, policy, now);
    if free == 0 {
        return Vec::new();
    }
    let due = |task: &&Task| {
        state.tasks.get(&task.id).is_some_and(|s| {
            s.phase == Phase::Todo && s.not_before <= now && may_start(state, policy, &task.after)
        })
    };
    let next_attempt = |task: &Task| {
        let last = state.tasks.get(&task.id).map_or(0, |s| s.attempt);
        (task.id.clone(), last + 1)
    };
    let has_session = |task: &&Task| state.tasks.get(&task.id).is_some_and(|s| s.session.is_some());
    let due = || state.plan.tasks.iter().filter(due);
    if !policy.resumable {
        return due().take(free).map(next_attempt).collect();
    }
    let (first, rest) = (due().filter(has_session), due().filter(|task| !has_session(task)));
    first.chain(rest).take(free).map(next_attempt).collect()
}

/// Returns all effects that are owed, in the order to begin them. Effects that free resources come
/// first.
pub fn owed(state: &RunState, now: Timestamp, policy: &Policy) -> Vec<Effect> {
    let mut effects = Vec::new();
    let cancelled = state.phase == RunPhase::Cancelled;
    if state.base_passed.is_none() && state.phase == RunPhase::Active && !state.ended() {
        effects.push(Effect::VerifyBase);
    }
    let mut verify = Vec::new();
    for task in &state.plan.tasks {
        let Some(s) = state.tasks.get(&task.id) else { continue };
        let due = s.not_before <= now && !cancelled;
        match s.phase {
            Phase::Running => effects.push(Effect::Await(task.id.clone(), s.attempt)),
            Phase::Queued if due => effects.push(Effect::Land(task.id.clone())),
            Phase::Verifying if s.evaluation.waiting && policy.evaluates => {}
            Phase::Verifying if due => verify.push(Effect::Verify(task.id.clone(), s.attempt)),
            Phase::Queued | Phase::Verifying => {}
            Phase::Todo | Phase::Reviewing | Phase::Done | Phase::Failed | Phase::Skipped => {}
        }
    }
    effects.extend(verify);
    let evaluate = due_evaluations(state, policy, now);
    effects.extend(evaluate.into_iter().map(|(task, attempt)| Effect::Evaluate(task, attempt)));
    let start = startable_attempts(state, policy, now);
    effects.extend(start.into_iter().map(|(task, attempt)| Effect::Start(task, attempt)));
    if !redispatchable(state, policy).is_empty() {
        effects.push(Effect::Redispatch);
    }
    effects
}

/// Returns the earliest time after `now` at which more effects may be owed without a new
/// observation.
pub fn next_wake(state: &RunState, now: Timestamp) -> Option<Timestamp> {
    let waits = |s: &&TaskState| !s.phase.ended() && s.not_before > now;
    let tasks = state.tasks.values().filter(waits).map(|s| s.not_before);
    let accounts = [&state.account, &state.evaluator].map(|a| a.closed_until);
    tasks.chain(accounts.into_iter().filter(|at| *at > now)).min()
}
