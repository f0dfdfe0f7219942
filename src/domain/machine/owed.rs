//! The effects that are owed. They follow from the state, the policy and the time, so recovery is
//! another call of `owed`.

use super::blocked::{canary_alone, canary_holds};
use super::failures::redispatchable;
use crate::domain::account::Account;
use crate::domain::id::{TaskId, Timestamp};
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
    let busy = state.count(&Phase::Running) + due_evaluations(state, policy, now).count();
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
    if canary_holds(state) {
        return Some("one task runs first; the others start when it lands".into());
    }
    if probe_alone(state, policy) && probe_runs(state, &state.account) {
        return Some("one agent runs first; the others start when the service answers it".into());
    }
    if policy.shared_account
        && state.account.closed_until > Timestamp(0)
        && !state.account.proven
        && due_evaluations(state, policy, now).next().is_some()
    {
        return Some(
            "an evaluator runs first; the agents start when the service answers it".into(),
        );
    }
    None
}

/// Returns the tasks whose candidates an evaluator may review now, in plan order.
fn due_evaluations<'a>(
    state: &'a RunState,
    policy: &'a Policy,
    now: Timestamp,
) -> impl Iterator<Item = (&'a TaskId, &'a TaskState)> {
    let may_evaluate = policy.evaluates
        && state.count(&Phase::Verifying) > 0
        && state.phase == RunPhase::Active
        && state.evaluators_account(policy).open_at(now)
        && policy.over_budget(&state.all_spend()).is_none();
    let candidates = may_evaluate.then(|| state.tasks.in_phase(&Phase::Verifying));
    let due = move |s: &TaskState| s.evaluation.waiting && s.not_before <= now;
    candidates.into_iter().flatten().filter(move |(task, s)| due(s) && policy.chooses(task))
}

/// Returns true if an agent is running whose answer would prove this account: the agent started
/// after the account's last closing.
fn probe_runs(state: &RunState, account: &Account) -> bool {
    state.tasks.in_phase(&Phase::Running).any(|(_, s)| account.open_at(s.at))
}

/// Returns the number of evaluators that may work at the same time. Running agents use up slots.
pub fn evaluator_slots(state: &RunState, policy: &Policy) -> usize {
    let account = state.evaluators_account(policy);
    let slots = account.slots.unwrap_or(policy.jobs).min(policy.jobs);
    let free = slots.saturating_sub(state.count(&Phase::Running));
    if account.proven || account.closed_until == Timestamp(0) {
        return free;
    }
    // The account was closed, so a single session probes whether the account is open again.
    let probing = policy.shared_account && probe_runs(state, account);
    free.min(usize::from(!probing))
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
    let chosen = |task: &TaskId| policy.chooses(task);
    let options = (policy.keep_going, policy.resumable);
    let starts = state.tasks.next_starts(options, now, chosen, free);
    starts.map(|(task, s)| (task.clone(), s.attempt + 1)).collect()
}

/// Returns all effects that are owed, in the order to begin them. Effects that free resources come
/// first.
pub fn owed(state: &RunState, now: Timestamp, policy: &Policy) -> Vec<Effect> {
    let mut effects = Vec::new();
    let cancelled = state.phase == RunPhase::Cancelled;
    if state.base_passed.is_none() && state.phase == RunPhase::Active && !state.ended() {
        effects.push(Effect::VerifyBase);
    }
    let due = |s: &TaskState| s.not_before <= now && !cancelled;
    for (task, s) in state.tasks.in_either(&Phase::Running, &Phase::Queued) {
        if s.phase == Phase::Running {
            effects.push(Effect::Await(task.clone(), s.attempt));
        } else if due(s) {
            effects.push(Effect::Land(task.clone()));
        }
    }
    for (task, s) in state.tasks.in_phase(&Phase::Verifying) {
        if due(s) && !(s.evaluation.waiting && policy.evaluates) {
            effects.push(Effect::Verify(task.clone(), s.attempt));
        }
    }
    let evaluate = due_evaluations(state, policy, now);
    effects.extend(evaluate.map(|(task, s)| Effect::Evaluate(task.clone(), s.attempt)));
    let start = startable_attempts(state, policy, now);
    effects.extend(start.into_iter().map(|(task, attempt)| Effect::Start(task, attempt)));
    if redispatchable(state, policy).next().is_some() {
        effects.push(Effect::Redispatch);
    }
    effects
}

/// Returns the earliest time after `now` at which more effects may be owed without a new
/// observation.
pub fn next_wake(state: &RunState, now: Timestamp) -> Option<Timestamp> {
    let accounts = [&state.account, &state.evaluator].map(|a| a.closed_until);
    state.tasks.next_wake(now).into_iter().chain(accounts.into_iter().filter(|at| *at > now)).min()
}
