//! Decisions on the end of an attempt: the class of its session selects the retry layer.

use super::decider::{Decider, with_stderr};
use super::verification::Rejection;
use crate::domain::account::{Account, AgentName, MAX_STRIKES};
use crate::domain::event::{Halt, RunEventKind, TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::retry::{RetryReason, backoff_ms};
use crate::domain::session::{Class, SessionReport};
use crate::domain::state::{Phase, RunPhase, TaskState};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, Finding};

/// The end of an attempt, as its keeper published it.
pub(super) struct AttemptEnd {
    pub termination: Termination,
    pub candidate: Option<Candidate>,
    /// True if the work differs from the base.
    pub changed: bool,
    pub report: Option<Box<SessionReport>>,
    /// The last lines of the agent's standard error.
    pub stderr: Option<String>,
}

impl Decider<'_> {
    /// Records a change of the agents' account.
    pub(super) fn set_account(&mut self, account: &Account) {
        if *account != self.state.account {
            self.emit_run(RunEventKind::Account(account.clone()));
        }
    }

    /// Records a change of the evaluators' account.
    pub(super) fn set_evaluators_account(&mut self, account: &Account) {
        if self.policy.shared_account {
            self.set_account(account);
        } else if *account != self.state.evaluator {
            self.emit_run(RunEventKind::EvaluatorAccount(account.clone()));
        }
    }

    pub(super) fn attempt_ended(&mut self, task: &TaskId, state: &TaskState, end: AttemptEnd) {
        let AttemptEnd { termination, candidate, changed, report, stderr } = end;
        let tree = candidate.as_ref().map(|c| c.tree.clone());
        let event = TaskEventKind::Ended {
            attempt: state.attempt,
            termination: termination.clone(),
            candidate,
            report: report.clone(),
        };
        self.emit_task(task, event.clone());
        // The decisions below need the state after the event, with the session and its usage.
        let mut after = state.clone();
        after.apply(&TaskEvent { at: self.now, kind: event });
        self.enforce_budget(task, &after);
        if after.phase.ended() {
            return;
        }
        if self.was_split(task) {
            // A supervisor was killed after it had written the split to the run's chain and before
            // it wrote the skip to the task's chain.
            self.skip_split(task);
            return;
        }
        match &termination {
            Termination::Stopped => {
                self.next_try(task, &after, RetryReason::Interrupted, self.now, None);
            }
            Termination::NotStarted(why) => self.agent_not_started(task, &after, why),
            Termination::Lost if self.can_resume(&after) => {
                self.resume_session(task, &after, "the keeper of the attempt died");
            }
            Termination::Lost => self.fault(task, &after, "the keeper of the attempt died"),
            Termination::Exited(_)
            | Termination::Signalled(_)
            | Termination::TimedOut
            | Termination::Idle
            | Termination::Lingered
            | Termination::Hopeless => {
                let report = report.as_deref();
                if self.halts_on_silence(task, &after) {
                    return;
                }
                if let Some(report) = report
                    && self.handle_class(task, &after, report)
                {
                    return;
                }
                if let Some(report) = report
                    && matches!(report.class, Class::Auth | Class::BadInput)
                {
                    self.reject_session(task, &after, report, tree, stderr.as_deref());
                    return;
                }
                // A session that broke off proves nothing about the account.
                if report.is_some_and(|report| !report.class.broke_off()) {
                    self.set_account(&self.state.account.served(state.at, self.policy.jobs));
                }
                if tree.is_some() && (changed || self.policy.allow_empty) {
                    return;
                }
                let detail = report.and_then(|report| report.detail.as_deref());
                self.reject_unchanged(task, &after, &termination, tree, (detail, stderr));
            }
        }
    }

    fn agent_not_started(&mut self, task: &TaskId, state: &TaskState, why: &str) {
        match state.class {
            // The size was measured before a session started, so no session was paid for.
            Some(Class::ContextExceeded) => self.split_or_fail(task, why),
            // Once an agent has worked in this run, a missing program may be in the middle of an
            // update.
            Some(Class::BadInput) if !self.has_worked() => {
                self.halt_on_agent(task, state, "the agent cannot be started", why);
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
            ) => self.fault(task, state, why),
        }
    }

    /// Handles a session whose class alone decides. Returns false for any other session.
    fn handle_class(&mut self, task: &TaskId, state: &TaskState, report: &SessionReport) -> bool {
        let class = report.class;
        let detail = report.detail.as_deref().unwrap_or("no reason given");
        match class {
            Class::Ok | Class::Limit | Class::Refused | Class::Blocked => false,
            Class::Crashed | Class::TimedOut => {
                let resumed = self.can_resume(state);
                if resumed {
                    self.resume_session(task, state, detail);
                }
                resumed
            }
            Class::RateLimited | Class::Overloaded => {
                self.agent_turned_away(task, state, report, detail);
                true
            }
            // An earlier answer proves the account and the command line: the fault is this
            // session's alone.
            Class::Auth | Class::BadInput if self.has_answered() || report.answered() => false,
            Class::Auth | Class::BadInput => {
                let what = if class == Class::Auth {
                    "the agent's account is not accepted"
                } else {
                    "the agent refused its command line or its working directory"
                };
                self.halt_on_agent(task, state, what, detail);
                true
            }
            Class::ContextExceeded => {
                self.split_or_fail(task, detail);
                true
            }
            Class::SessionLost | Class::SessionInUse => {
                // Not an infrastructure fault, which would repeat the verification: there is no
                // work to verify.
                let limit = self.policy.resume.max(1).saturating_add(self.policy.infra);
                if state.resumes >= limit {
                    let reason = format!("no session could be started in {limit} tries: {detail}");
                    self.fail_task(task, reason, class.to_string());
                } else {
                    self.inner_layer(task, state, RetryReason::Restart, detail);
                }
                true
            }
        }
    }

    /// Returns true if the checks have run on the work of any agent of this run.
    fn has_worked(&self) -> bool {
        self.has_candidate() || self.state.tasks.any_rejected()
    }

    /// Returns true if a candidate of this run is under way or has landed.
    fn has_candidate(&self) -> bool {
        [Phase::Verifying, Phase::Queued, Phase::Reviewing, Phase::Done]
            .iter()
            .any(|phase| self.state.count(phase) > 0)
    }

    /// Returns true if the service has answered a session of this run.
    fn has_answered(&self) -> bool {
        self.state.account.proven || self.state.tasks.any_answered()
    }

    /// Halts the run if two attempts ended in silence in the same way, and no session of this run
    /// has worked: the next attempts would end in this way, too. Returns true if the run halts.
    fn halts_on_silence(&mut self, task: &TaskId, state: &TaskState) -> bool {
        let Some(ending) = &state.silent_ending else { return false };
        // `self.state` is the state before this end, so its silent endings are those of earlier
        // attempts.
        let is_new = !self.state.tasks.has_silent_ending(ending);
        if self.has_answered() || self.has_candidate() || is_new {
            return false;
        }
        let ending = ending.clone();
        self.halt_on_agent(task, state, "two attempts ended in the same way", &ending);
        true
    }

    /// Rejects an attempt whose session was refused after the service had answered a session. The
    /// work may be half done, so no checks run.
    fn reject_session(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        report: &SessionReport,
        tree: Option<Oid>,
        stderr: Option<&str>,
    ) {
        let Some(tree) = tree else {
            self.fault(task, state, "the work of the attempt could not be saved");
            return;
        };
        let detail = report.detail.as_deref().unwrap_or("no reason given");
        let text = format!("The session of this attempt broke off ({}): {detail}", report.class);
        let text = with_stderr(text, stderr);
        let finding = Finding { attempt: state.attempt, check: "agent".into(), text };
        let (findings, results) = (vec![finding], Vec::new());
        self.rejected(task, state, Rejection { tree, findings, results, landing: false });
    }

    /// Halts the run because the agent cannot work for any task. The task is not charged.
    fn halt_on_agent(&mut self, task: &TaskId, state: &TaskState, what: &str, detail: &str) {
        self.next_try(task, state, RetryReason::Interrupted, self.now, Some(detail.to_owned()));
        if self.state.phase == RunPhase::Active {
            let reason = format!(
                "{what} ({task}, attempt {}): {detail}; fix it, then run `git harness start` again",
                state.attempt
            );
            self.halt(Halt::Agent, reason);
        }
    }

    /// Rejects an attempt that changed nothing. The checks decide on every other attempt.
    fn reject_unchanged(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        termination: &Termination,
        tree: Option<Oid>,
        (detail, stderr): (Option<&str>, Option<String>),
    ) {
        let Some(tree) = tree else {
            self.fault(task, state, "the work of the attempt could not be saved");
            return;
        };
        let class = state.class.filter(|class| *class != Class::Ok);
        let last_line = stderr.as_deref().and_then(|stderr| stderr.lines().last());
        let last_line = last_line.filter(|_| !termination.succeeded());
        let ending = match (class, detail.or(last_line)) {
            (Some(class), Some(detail)) => format!("{termination}, {class}: {detail}"),
            (Some(class), None) => format!("{termination}, {class}"),
            (None, Some(_) | None) => match last_line {
                Some(line) => format!("{termination}: {line}"),
                None => termination.to_string(),
            },
        };
        let text = if self.policy.report {
            format!(
                "The attempt handed in nothing (its agent ended with: {ending}). What it prints does not count: the file that \
                 is asked for must be there."
            )
        } else {
            format!(
                "The attempt changed nothing (its agent ended with: {ending}). Doing nothing is not success: the task asks \
                 for a change in its files."
            )
        };
        let text = with_stderr(text, stderr.as_deref());
        let finding = Finding { attempt: state.attempt, check: "agent".into(), text };
        let (findings, results) = (vec![finding], Vec::new());
        self.rejected(task, state, Rejection { tree, findings, results, landing: false });
    }

    fn can_resume(&self, state: &TaskState) -> bool {
        self.policy.resumable && state.session.is_some() && state.resumes < self.policy.resume
    }

    fn resume_session(&mut self, task: &TaskId, state: &TaskState, why: &str) {
        self.inner_layer(task, state, RetryReason::Resume, why);
    }

    /// Schedules a try of the inner layer. The pause grows, since a session that broke off may
    /// break off again at once.
    fn inner_layer(&mut self, task: &TaskId, state: &TaskState, reason: RetryReason, why: &str) {
        let not_before: Timestamp = self.now.after_ms(backoff_ms(state.resumes + 1));
        self.next_try(task, state, reason, not_before, Some(why.to_owned()));
    }

    /// Handles a refusal for lack of quota or for overload: closes the account for a while. The
    /// task is not charged.
    fn agent_turned_away(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        report: &SessionReport,
        detail: &str,
    ) {
        let class = report.class;
        let because = format!("{class}: {detail}");
        self.next_try(task, state, RetryReason::Account, self.now, Some(because.clone()));
        // `self.state` is still the state before this event and has the attempt's start time.
        let began = self.state.tasks.get(task).map_or(self.now, |s| s.at);
        let account = &self.state.account;
        let mut account = if class == Class::RateLimited {
            account.limited(began, self.now, report.resets_at)
        } else {
            account.overloaded(began, self.now, self.policy.jobs)
        };
        account.because = Some(because);
        let model = report.limited_model.clone();
        account.closed_for = Some(AgentName { model, ..self.policy.agent.clone() });
        let strikes = account.strikes;
        self.set_account(&account);
        if strikes > MAX_STRIKES && self.state.phase == RunPhase::Active {
            let reason =
                format!("the account was {class} {strikes} times in a row, last: {detail}");
            self.halt(Halt::Account, reason);
        }
    }
}
