//! The start of owed effects, each on its own thread and in its own worktree.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::dispatcher::{Engine, FinishedWork, Message};
use super::in_flight::WorkId;
use super::work::attempt::{self, AttemptLaunch, Launched};
use super::work::verification::{self, VerificationAssignment};
use super::{Context, target_checks};
use crate::ambient;
use crate::domain::id::TaskId;
use crate::domain::machine::{Effect, Observation, owed};
use crate::domain::queue::FailureRate;
use crate::domain::session::{Class, SessionReport};
use crate::domain::state::Phase;
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, CheckReport, Verdict};
use crate::process;
use crate::verify::CheckStage;

/// The number of waiting candidates that count as a backlog, as a multiple of the parallel
/// verifications.
const WAITING_PER_VERIFICATION: usize = 2;

impl Engine<'_> {
    /// Starts every owed effect that the limits permit. Returns true if an effect was started.
    pub(super) fn start_effects(&mut self) -> Result<bool> {
        let effects = owed(self.journal.state(), ambient::now(), &self.policy);
        let full = effects.iter().any(|e| matches!(e, Effect::Start(..))) && self.is_disk_full();
        let no_new_attempts = full || !self.admits_attempts(&effects)? || self.has_backlog();
        // A person has to look first.
        let is_stopping =
            self.interrupts.is_stopping() || self.ctx.store.changed_settings().is_some();
        let mut begun = false;
        let mut launches = Vec::new();
        let mut queued = Vec::new();
        for effect in effects {
            if let Effect::Land(task) = effect {
                queued.push(task);
                continue;
            }
            let ends_something = matches!(effect, Effect::Await(..));
            let work = WorkId::of(&effect);
            if work.as_ref().is_some_and(|work| self.in_flight.contains(work))
                || (is_stopping && !ends_something)
            {
                continue;
            }
            begun |= match &effect {
                Effect::VerifyBase => self.verify_base()?,
                Effect::Await(task, attempt) => {
                    let worktree =
                        self.journal.state().tasks.get(task).and_then(|t| t.worktree.clone());
                    self.spawn_await((task, *attempt), worktree, None)
                }
                Effect::Verify(task, attempt) => self.verify(task, *attempt),
                Effect::Evaluate(task, attempt) => {
                    let work = WorkId::Evaluation(task.clone(), *attempt);
                    self.evaluate(task, *attempt, work)?
                }
                Effect::Land(_) => false,
                Effect::Start(..) if no_new_attempts => false,
                Effect::Start(task, attempt) => {
                    launches.extend(self.dispatch(task, *attempt)?);
                    false
                }
                Effect::Redispatch => {
                    self.observe(Observation::RedispatchDue);
                    self.flush()?;
                    true
                }
            };
        }
        if !is_stopping {
            begun |= self.exchange(&queued)?;
        }
        if !launches.is_empty() {
            let notes = self.stash.begin(&self.ctx, self.in_flight.has_agents());
            self.report_notes(notes);
            // Journal first: the event must exist before the keeper starts.
            let events = self.journal.record_starts()?;
            crate::failpoint::hit("attempt.journaled");
            self.report_events(&events);
            for (task, attempt, launch) in launches {
                let worktree = Some(launch.worktree.clone());
                begun |= self.spawn_await((&task, attempt), worktree, Some(launch));
            }
        }
        Ok(begun)
    }

    /// Returns true if the disk is too full to save an agent's work.
    fn is_disk_full(&mut self) -> bool {
        let note = self.disk.measure(&self.ctx);
        self.report_notes(note.into_iter().collect());
        self.disk.is_full()
    }

    /// Returns true if too many candidates wait for verification: the candidate of a new attempt
    /// would be far behind the tip when its turn comes. Candidates that wait for the end of a
    /// landing hold do not count. Also returns true if the queue has stopped because the tip fails.
    fn has_backlog(&self) -> bool {
        let worker = self.queue.worker();
        if worker.as_ref().is_some_and(|worker| worker.failing_tip.is_some()) {
            return true;
        }
        let state = self.journal.state();
        let held = worker.as_ref().is_some_and(|worker| worker.problem.is_some());
        let queued = if held { 0 } else { state.count(&Phase::Queued) };
        let without_history = || FailureRate::default().group_size(self.ctx.job.queue.batch);
        let train = worker.filter(|worker| worker.works).map(|worker| worker.train_size);
        let train = train.unwrap_or_else(without_history);
        // As many tasks as fit into one train do not count: they land together.
        let queued = queued.saturating_sub(train);
        let waiting = queued + state.count(&Phase::Verifying);
        waiting >= WAITING_PER_VERIFICATION * self.policy.verifications
    }

    #[expect(clippy::disallowed_methods, reason = "the engine is the module with threads")]
    pub(super) fn spawn(
        &mut self,
        work: WorkId,
        worktree: Option<String>,
        carry_out: impl FnOnce(&Context) -> Result<FinishedWork> + Send + 'static,
    ) -> bool {
        let (ctx, sender) = (Arc::clone(&self.ctx), self.sender.clone());
        self.in_flight.begin(work.clone(), worktree);
        // Not a scoped thread: an exiting supervisor does not wait for keepers.
        std::thread::spawn(move || {
            let result = catch_panic(|| carry_out(&ctx));
            sender.send(Message::Done(work, Box::new(result))).ok();
        });
        true
    }

    fn spawn_await(
        &mut self,
        (task, attempt): (&TaskId, u32),
        worktree: Option<String>,
        launch: Option<AttemptLaunch>,
    ) -> bool {
        let task = task.clone();
        let wait = self.options.keeper_wait();
        if let Some(worktree) = &worktree {
            self.slots.occupy(worktree);
        }
        let base = self.journal.state().tasks.get(&task).and_then(|t| t.base.clone());
        let base = base.unwrap_or_else(|| self.ctx.base.clone());
        let work = WorkId::Attempt(task.clone(), attempt);
        self.spawn(work, worktree, move |ctx| {
            let observe = |ctx: &Context, handover| {
                attempt::observe_attempt(ctx, (&task, attempt), &base, wait, handover)
                    .map(|outcome| FinishedWork::Attempt(Box::new(outcome)))
            };
            let (why, report) = match launch.map(|l| attempt::launch(ctx, &task, attempt, &l)) {
                None => return observe(ctx, None),
                Some(Ok(Launched::Started(handover))) => return observe(ctx, Some(handover)),
                Some(Ok(Launched::TooLarge(why))) => {
                    let report = SessionReport::not_started(Class::ContextExceeded, why.clone());
                    (why, Some(Box::new(report)))
                }
                Some(Err(error)) => (format!("{error:#}"), None),
            };
            let observation = Some(Observation::AttemptEnded {
                task,
                attempt,
                termination: Termination::NotStarted(why),
                candidate: None,
                changed: false,
                report,
                stderr: None,
            });
            let outcome =
                attempt::AttemptOutcome { observation, ..attempt::AttemptOutcome::default() };
            Ok(FinishedWork::Attempt(Box::new(outcome)))
        })
    }

    fn verify_base(&mut self) -> Result<bool> {
        match base_assignment(&self.ctx) {
            Ok(Some(assignment)) => {
                let worktree = self.check_worktree(&assignment.key(), CheckStage::Landing);
                return Ok(self.spawn_verification(WorkId::Base, worktree, assignment));
            }
            Ok(None) => {
                let report = CheckReport { verdict: Verdict::Passed, results: Vec::new() };
                self.observe(Observation::BaseVerified(report));
            }
            Err(error) => self.work_failed(&WorkId::Base, &format!("{error:#}")),
        }
        self.flush()?;
        Ok(true)
    }

    pub(super) fn spawn_verification(
        &mut self,
        work: WorkId,
        worktree: String,
        assignment: VerificationAssignment,
    ) -> bool {
        let (wait, earlier) =
            (self.options.keeper_wait(), self.folders.earlier_result(&assignment.key()));
        self.spawn(work, Some(worktree.clone()), move |ctx| {
            let result = verification::verify_tree(ctx, &assignment, &worktree, wait, earlier)?;
            Ok(FinishedWork::Verified(Box::new(assignment), result))
        })
    }

    /// Returns the worktree for a verification: the worktree of its running keeper, or else a free
    /// worktree.
    pub(super) fn check_worktree(&mut self, key: &str, stage: CheckStage) -> String {
        match self.folders.take_adopted(key) {
            Some(worktree) => worktree,
            None => self.slots.take_for(stage),
        }
    }

    fn verify(&mut self, task: &TaskId, attempt: u32) -> bool {
        // Verifications of the merge queue count too: every check worktree is a checkout of the
        // whole tree. The queue has priority, but one task verification may always run.
        let task_verifications =
            self.in_flight.count(|work| matches!(work, WorkId::Verification(..)));
        let busy = task_verifications + self.queue.worker().map_or(0, |worker| worker.verifying);
        let state = self.journal.state().tasks.get(task);
        let Some(candidate) = state.and_then(|s| s.candidate.clone()) else { return false };
        // The scope binds agents: a person may change any path.
        let scoped = state.is_some_and(|s| !s.review.revised);
        if busy >= self.policy.verifications && task_verifications > 0 {
            return false;
        }
        let worktree = self.check_worktree(&format!("t.{task}.{attempt}"), CheckStage::Task);
        let (wait, task) = (self.options.keeper_wait(), task.clone());
        let earlier = self.folders.earlier_result(&format!("t.{task}.{attempt}"));
        let work = WorkId::Verification(task.clone(), attempt);
        let refusals = self.refusals.get(&(task.clone(), attempt)).cloned();
        let refusals = refusals.into_iter().flatten().chain(self.stash.taken_by(&task, attempt));
        let refusals: Vec<_> = refusals.collect();
        self.spawn(work, Some(worktree.clone()), move |ctx| {
            let mut findings = Vec::new();
            if scoped {
                findings.extend(refusals);
                let found = verification::scope_findings(ctx, &task, attempt, &candidate)?;
                findings.extend(found);
            }
            if !findings.is_empty() {
                return Ok(FinishedWork::OutOfScope(candidate, findings));
            }
            let Candidate { commit, tree, base } = candidate;
            let assignment = VerificationAssignment::new(
                CheckStage::Task,
                Some((task, attempt)),
                (commit, tree, base),
            );
            let result = verification::verify_tree(ctx, &assignment, &worktree, wait, earlier)?;
            Ok(FinishedWork::Verified(Box::new(assignment), result))
        })
    }
}

/// Returns the verification of the run's base, or `None` if no check applies to the base.
fn base_assignment(ctx: &Context) -> Result<Option<VerificationAssignment>> {
    if let Some(why) = unstartable_check(ctx) {
        bail!(why);
    }
    let (base, tree) = (ctx.base.clone(), ctx.store.repo().tree_of(&ctx.base)?);
    let rules = target_checks::rules(ctx, &ctx.tip()?)?;
    let assignment = VerificationAssignment {
        rules,
        ..VerificationAssignment::new(CheckStage::Landing, None, (base.clone(), tree, base))
    };
    Ok((!verification::steps(ctx, &assignment, "")?.is_empty()).then_some(assignment))
}

/// Runs a thread's work and turns a panic into an error. Without a message from the thread, the
/// loop would wait for ever.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of ours panicked")))
}

/// Returns a message if a check of the job cannot be started at all. The run then stops before
/// agents cost money.
fn unstartable_check(ctx: &Context) -> Option<String> {
    let environment = ctx.keeper_environment(Path::new(""), &[]);
    let path = environment.value("PATH")?;
    ctx.job.checks.iter().find_map(|check| {
        // Programs with a `/` may come from the tree or from `setup`, and programs with a
        // placeholder depend on the task, so they are not checked.
        let program = check.run.first().filter(|program| !program.contains(['/', '{']))?;
        let why = process::find_in_path(program.as_ref(), path, Path::new("/")).err()?;
        Some(format!("the check `{}` cannot be started: {why}", check.name))
    })
}
