//! What the end of an attempt means, by the class of its session's ending, and which retry layer takes over.

use super::failing::used_up;
use super::{Decider, TaskEventKind};
use crate::domain::account::{Account, STRIKES};
use crate::domain::event::{Halt, RunEventKind};
use crate::domain::id::{TaskId, Timestamp};
use crate::domain::retry::{RetryReason, backoff_ms};
use crate::domain::session::{Class, SessionReport, Spend};
use crate::domain::state::{Phase, RunPhase, TaskState};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, Finding};

fn split_into(parts: &[TaskId]) -> String {
    let names: Vec<_> = parts.iter().map(TaskId::as_str).collect();
    format!("split into {}: it did not fit the model's context window", names.join(" and "))
}

impl Decider<'_> {
    pub(super) fn account(&mut self, account: &Account) {
        if *account != self.state.account {
            self.run(RunEventKind::Account(account.clone()));
        }
    }

    /// The same for the account of the evaluators.
    pub(super) fn evaluators_account(&mut self, account: &Account) {
        if self.policy.one_account {
            self.account(account);
        } else if *account != self.state.evaluator {
            self.run(RunEventKind::EvaluatorAccount(account.clone()));
        }
    }

    pub(super) fn attempt_ended(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        termination: Termination,
        candidate: Option<Candidate>,
        changed: bool,
        report: Option<Box<SessionReport>>,
    ) {
        let attempt = state.attempt;
        let left = candidate.as_ref().map(|c| c.tree.clone());
        let told = report.as_deref().cloned();
        let event =
            TaskEventKind::Ended { attempt, termination: termination.clone(), candidate, report };
        self.task(task, event.clone());
        // What follows goes by the state after that, in which the session and its use are known.
        let mut after = state.clone();
        after.apply(&crate::domain::event::TaskEvent { at: self.now, kind: event });
        self.watch_budget(task, &after);
        if after.phase.ended() {
            return;
        }
        if self.was_split(task) {
            // A supervisor that was killed had got only half of that onto the chains.
            self.skip_split(task);
            return;
        }
        match (&termination, left) {
            (Termination::Stopped, _) => {
                self.next_try(task, &after, RetryReason::Interrupted, self.now, None);
            }
            (Termination::NotStarted(why), _) => match after.class {
                // It was measured before anything was paid for.
                Some(Class::ContextExceeded) => self.does_not_fit(task, why),
                // Later it may be an update of the agent's program that is under way.
                Some(Class::BadInput) if !self.has_worked() => {
                    self.ask_for_an_agent(task, &after, "the agent cannot be started", why);
                }
                None
                | Some(
                    Class::Ok
                    | Class::Crashed
                    | Class::TimedOut
                    | Class::RateLimited
                    | Class::Overloaded
                    | Class::Auth
                    | Class::Limit
                    | Class::Refused
                    | Class::Blocked
                    | Class::SessionLost
                    | Class::SessionInUse
                    | Class::BadInput,
                ) => self.fault(task, &after, why),
            },
            (Termination::Lost, _) if self.can_resume(&after) => {
                self.resume(task, &after, "was lost");
            }
            (Termination::Lost, _) => self.fault(task, &after, "the keeper of the attempt died"),
            (
                Termination::Exited(_)
                | Termination::Signalled(_)
                | Termination::TimedOut
                | Termination::Idle
                | Termination::Lingered
                | Termination::Hopeless,
                left,
            ) => match told.as_ref().map(|r| (r, r.class)) {
                Some((report, class)) if self.handled(task, &after, report, class) => {}
                report => {
                    let detail = report.and_then(|(r, _)| r.detail.as_deref());
                    // What broke off has proven nothing of the account.
                    if report.is_some_and(|(_, class)| !class.broke_off()) {
                        self.account(&self.state.account.served(state.at, self.policy.jobs));
                    }
                    self.for_the_checks(task, &after, &termination, left, changed, detail);
                }
            },
        }
    }

    /// Endings that the checks have nothing to say about. How else a process ended decides nothing: the checks do.
    fn handled(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        told: &SessionReport,
        class: Class,
    ) -> bool {
        let began = self.state.tasks.get(task).map_or(self.now, |s| s.at);
        let said = told.detail.as_deref().unwrap_or("it did not say why");
        match class {
            Class::Ok | Class::Limit | Class::Refused | Class::Blocked => false,
            Class::Crashed | Class::TimedOut => {
                let resumed = self.can_resume(state);
                if resumed {
                    self.resume(task, state, said);
                }
                resumed
            }
            Class::RateLimited | Class::Overloaded => {
                self.turned_away(task, state, began, told, said);
                true
            }
            Class::Auth | Class::BadInput => {
                let what = if class == Class::Auth {
                    "the agent's account is not accepted"
                } else {
                    "the agent does not accept how or where it is called"
                };
                self.ask_for_an_agent(task, state, what, said);
                true
            }
            Class::ContextExceeded => {
                self.does_not_fit(task, said);
                true
            }
            Class::SessionLost | Class::SessionInUse => {
                // Not the infrastructure's layer: that would have what the attempt left judged.
                let most = self.policy.resume.max(1).saturating_add(self.policy.infra);
                if state.resumes >= most {
                    let reason = format!("no session could be had, {most} times: {said}");
                    self.failed(task, reason, class.to_string());
                } else {
                    self.inner(task, state, RetryReason::Restart, said);
                }
                true
            }
        }
    }

    /// Whether the agent has done anything that could be judged.
    fn has_worked(&self) -> bool {
        self.state.tasks.values().any(|s| {
            s.rejections > 0
                || matches!(
                    s.phase,
                    Phase::Verifying | Phase::Queued | Phase::Reviewing | Phase::Done
                )
        })
    }

    /// Every task would meet the same: a person is asked before another one does, and none is charged.
    fn ask_for_an_agent(&mut self, task: &TaskId, state: &TaskState, what: &str, said: &str) {
        self.next_try(task, state, RetryReason::Interrupted, self.now, Some(said.to_owned()));
        if self.state.phase == RunPhase::Active {
            let reason = format!(
                "{what} ({task}, attempt {}): {said}. Put it right, then `git harness start` goes on",
                state.attempt
            );
            self.halt(Halt::Agent, reason);
        }
    }

    fn for_the_checks(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        termination: &Termination,
        left: Option<crate::domain::id::Oid>,
        changed: bool,
        detail: Option<&str>,
    ) {
        let Some(tree) = left else {
            self.fault(task, state, "what the attempt left could not be saved");
            return;
        };
        if changed || self.policy.allow_empty {
            return;
        }
        let class = state.class.filter(|class| *class != Class::Ok);
        let how = match (class, detail) {
            (Some(class), Some(detail)) => format!("{termination}, {class}: {detail}"),
            (Some(class), None) => format!("{termination}, {class}"),
            (None, _) => termination.to_string(),
        };
        let text = if self.policy.report {
            format!(
                "The attempt handed in nothing (its agent ended with: {how}). What it prints does not count: the file that \
                 is asked for must be there."
            )
        } else {
            format!(
                "The attempt changed nothing (its agent ended with: {how}). Doing nothing is not success: the task asks \
                 for a change in its files."
            )
        };
        let finding = Finding { attempt: state.attempt, check: "agent".into(), text };
        self.rejected(task, state, tree, vec![finding], Vec::new(), false);
    }

    fn can_resume(&self, state: &TaskState) -> bool {
        self.policy.resumable && state.session.is_some() && state.resumes < self.policy.resume
    }

    /// The inner layer. With a pause that grows, since what broke once may break again at once.
    fn resume(&mut self, task: &TaskId, state: &TaskState, why: &str) {
        self.inner(task, state, RetryReason::Resume, why);
    }

    fn inner(&mut self, task: &TaskId, state: &TaskState, reason: RetryReason, why: &str) {
        let not_before = self.now.after_ms(backoff_ms(state.resumes + 1));
        self.next_try(task, state, reason, not_before, Some(why.to_owned()));
    }

    /// The account is closed or overloaded: nothing is charged, and the account waits.
    fn turned_away(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        began: Timestamp,
        told: &SessionReport,
        said: &str,
    ) {
        let class = told.class;
        self.next_try(
            task,
            state,
            RetryReason::Account,
            self.now,
            Some(format!("{class}: {said}")),
        );
        let account = &self.state.account;
        let mut account = if class == Class::RateLimited {
            account.limited(began, self.now, told.resets_at)
        } else {
            account.overloaded(began, self.now, self.policy.jobs)
        };
        account.because = Some(format!("{class}: {said}"));
        let strikes = account.strikes;
        self.account(&account);
        if strikes > STRIKES && self.state.phase == RunPhase::Active {
            let reason = format!("the account was {class} {strikes} times in a row, last: {said}");
            self.halt(Halt::Account, reason);
        }
    }

    /// A task that is too large for the model is done in two parts.
    fn does_not_fit(&mut self, task: &TaskId, said: &str) {
        let planned = self.state.plan.tasks.iter().find(|t| t.id == *task);
        let files = planned.map(|t| t.files.clone()).unwrap_or_default();
        let parts = self.part_names(task).filter(|_| files.len() > 1);
        let Some((one, two)) = parts else {
            let reason = format!(
                "it does not fit the model's context window, and cannot be split any further ({} in {}): {said}",
                if files.len() == 1 { "one file" } else { "its files" },
                files.join(", "),
            );
            self.failed(task, reason, Class::ContextExceeded.to_string());
            return;
        };
        let (left, right) = files.split_at(files.len().div_ceil(2));
        let message = split_into(&[one.clone(), two.clone()]);
        let parts = vec![(one, left.to_vec()), (two, right.to_vec())];
        self.run(RunEventKind::Split { task: task.clone(), parts });
        self.task(task, TaskEventKind::Skipped { message });
    }

    pub(super) fn was_split(&self, task: &TaskId) -> bool {
        self.state.split.contains_key(task)
    }

    /// The task's parts do its work.
    pub(super) fn skip_split(&mut self, task: &TaskId) {
        let parts = self.state.split.get(task).cloned().unwrap_or_default();
        self.task(task, TaskEventKind::Skipped { message: split_into(&parts) });
    }

    /// Names for the two halves of a task that nothing in the plan has yet.
    fn part_names(&self, task: &TaskId) -> Option<(TaskId, TaskId)> {
        let name = |n: usize| TaskId::parse(&format!("{task}_part_{n}")).ok();
        let free = (1..).map_while(name).filter(|id| !self.state.tasks.contains_key(id));
        let mut free = free.take(2);
        Some((free.next()?, free.next()?))
    }

    pub(super) fn fault(&mut self, task: &TaskId, state: &TaskState, because: &str) {
        let fault = state.faults + 1;
        if fault > self.policy.infra {
            let reason = format!("infrastructure, {fault} times in a row: {because}");
            self.failed(task, reason, "infrastructure".into());
            return;
        }
        let not_before = self.now.after_ms(backoff_ms(fault));
        let because = Some(because.to_owned());
        match state.phase {
            // Judging once more costs no session.
            Phase::Verifying | Phase::Queued => {
                self.retry(task, RetryReason::Infra, not_before, because);
            }
            Phase::Todo
            | Phase::Running
            | Phase::Reviewing
            | Phase::Done
            | Phase::Failed
            | Phase::Skipped => {
                self.next_try(task, state, RetryReason::Infra, not_before, because);
            }
        }
    }

    /// Another try, if the task's budget allows one.
    pub(super) fn next_try(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        reason: RetryReason,
        not_before: Timestamp,
        because: Option<String>,
    ) {
        match self.policy.over_task_budget(&state.charged()) {
            None => self.retry(task, reason, not_before, because),
            Some(over) => {
                let reason = match because {
                    None => over,
                    Some(because) => format!("{over}, and it would need another try: {because}"),
                };
                self.failed(task, reason, "over its budget".into());
            }
        }
    }

    /// Another try that is not for the task's budget to refuse.
    pub(super) fn retry(
        &mut self,
        task: &TaskId,
        reason: RetryReason,
        not_before: Timestamp,
        because: Option<String>,
    ) {
        self.task(task, TaskEventKind::Retried { reason, not_before, because });
    }

    /// Whether the session that ended has used up the run's budget.
    pub(super) fn watch_budget(&mut self, task: &TaskId, after: &TaskState) {
        let others = self.state.tasks.iter().filter(|(other, _)| *other != task);
        let every = others.map(|(_, s)| s).chain([after]);
        let sum = every.fold(Spend::default(), |sum, s| sum.plus(s.spend).plus(s.evaluation.spend));
        let over = self.policy.over_budget(&sum);
        if let (Some(over), RunPhase::Active) = (over, &self.state.phase) {
            self.halt(Halt::Budget, used_up(&over));
        }
    }
}
