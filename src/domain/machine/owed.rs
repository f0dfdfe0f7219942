//! What is owed next: a function of the state alone, so recovery is calling it again.

use super::failing::again;
use super::{Effect, blocked};
use crate::domain::id::{TaskId, Timestamp};
use crate::domain::plan::Task;
use crate::domain::retry::Policy;
use crate::domain::state::{Phase, RunPhase, RunState, TaskState};

/// How many attempts may begin now.
fn free(state: &RunState, policy: &Policy, now: Timestamp) -> usize {
    let base_ready = match state.base_passed {
        None => false,
        Some(passed) => passed || !policy.base_must_pass,
    };
    if state.phase != RunPhase::Active || !base_ready || held_back(state, policy, now).is_some() {
        return 0;
    }
    let slots = state.account.slots.unwrap_or(policy.jobs).min(policy.jobs);
    let busy = state.count(&Phase::Running) + presented(state, policy, now).len();
    let free = slots.saturating_sub(busy);
    if canary_alone(state) || probe_alone(state, policy) { free.min(1) } else { free }
}

/// What keeps every task of an active run from starting, in words.
pub fn held_back(state: &RunState, policy: &Policy, now: Timestamp) -> Option<String> {
    if !state.account.open(now) {
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
        return Some("one task goes first, the others if it lands".into());
    }
    let probing = |s: &TaskState| s.phase == Phase::Running && state.account.concerns(s.at);
    if probe_alone(state, policy) && state.tasks.values().any(probing) {
        return Some("one agent goes first, the others when it gets an answer".into());
    }
    if policy.one_account
        && state.account.closed_until > Timestamp(0)
        && !state.account.proven
        && !presented(state, policy, now).is_empty()
    {
        return Some("an evaluator goes first, the agents when it gets an answer".into());
    }
    None
}

/// The candidates that may be with an evaluator now, in plan order.
fn presented(state: &RunState, policy: &Policy, now: Timestamp) -> Vec<(TaskId, u32)> {
    let open = state.evaluators_account(policy).open(now);
    let over = || policy.over_budget(&state.all_spend()).is_some();
    let waits = |s: &TaskState| s.phase == Phase::Verifying && s.evaluation.waiting;
    if !policy.evaluates
        || !open
        || state.phase != RunPhase::Active
        || !state.tasks.values().any(waits)
        || over()
    {
        return Vec::new();
    }
    let due = |task: &Task| {
        let s = state.tasks.get(&task.id).filter(|s| waits(s) && s.not_before <= now)?;
        Some((task.id.clone(), s.attempt))
    };
    state.plan.tasks.iter().filter_map(due).collect()
}

/// How many evaluators may be at work at the same time, beside the agents that run.
pub fn evaluators(state: &RunState, policy: &Policy) -> usize {
    let account = state.evaluators_account(policy);
    let slots = account.slots.unwrap_or(policy.jobs).min(policy.jobs);
    let running = state.tasks.values().filter(|s| s.phase == Phase::Running);
    let free = slots.saturating_sub(running.clone().count());
    if account.proven || account.closed_until == Timestamp(0) {
        return free;
    }
    // It was closed, and somebody has to find out whether it is open again: one alone.
    let probing = policy.one_account && running.clone().any(|s| account.concerns(s.at));
    free.min(usize::from(!probing))
}

/// Whether one task is to show that it was worth going on after a halt.
fn canary_alone(state: &RunState) -> bool {
    state.canary && state.count(&Phase::Done) <= state.baseline.done as usize
}

/// Whether one agent is to show that the account is good: where the job's agent begins so, and whenever it was closed.
fn probe_alone(state: &RunState, policy: &Policy) -> bool {
    !state.account.proven && (policy.probe || state.account.closed_until > Timestamp(0))
}

/// The attempts that may begin now, as many as there are free slots: first those that hold a place for their session,
/// then in plan order.
pub(super) fn owed_start(state: &RunState, policy: &Policy, now: Timestamp) -> Vec<(TaskId, u32)> {
    let free = free(state, policy, now);
    if free == 0 {
        return Vec::new();
    }
    let due = |task: &&Task| {
        state.tasks.get(&task.id).is_some_and(|s| {
            s.phase == Phase::Todo
                && s.not_before <= now
                && blocked::free(state, policy, &task.after)
        })
    };
    let number = |task: &Task| {
        let last = state.tasks.get(&task.id).map_or(0, |s| s.attempt);
        (task.id.clone(), last + 1)
    };
    let holds = |task: &&Task| state.tasks.get(&task.id).is_some_and(|s| s.session.is_some());
    let due = || state.plan.tasks.iter().filter(due);
    if !policy.resumable {
        return due().take(free).map(number).collect();
    }
    due().filter(holds).chain(due().filter(|t| !holds(t))).take(free).map(number).collect()
}

/// Everything that is owed in a state, in the order in which it should be begun: what frees resources first.
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
    let evaluate = presented(state, policy, now);
    effects.extend(evaluate.into_iter().map(|(task, attempt)| Effect::Evaluate(task, attempt)));
    let start = owed_start(state, policy, now);
    effects.extend(start.into_iter().map(|(task, attempt)| Effect::Start(task, attempt)));
    if !again(state, policy).is_empty() {
        effects.push(Effect::Redispatch);
    }
    effects
}

/// The earliest moment after `now` at which more may be owed without anything being seen.
pub fn next_wake(state: &RunState, now: Timestamp) -> Option<Timestamp> {
    let waits = |s: &&TaskState| !s.phase.ended() && s.not_before > now;
    let tasks = state.tasks.values().filter(waits).map(|s| s.not_before);
    let accounts = [&state.account, &state.evaluator].map(|a| a.closed_until);
    tasks.chain(accounts.into_iter().filter(|at| *at > now)).min()
}
