//! The dispatcher: starts owed effects, journals the events that follow from observations, and
//! reports the events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Result;

use super::disk_watch::DiskWatch;
use super::in_flight::{InFlight, WorkId};
use super::interrupts::{Interrupts, SignalResponse};
use super::keeper_folders::KeeperFolders;
use super::queue::WorkerNotice;
use super::queue::client::{QueueClient, WorkerView};
use super::reviews::ReviewBranches;
use super::run_journal::{DurableChanges, JournaledEvent, RunJournal};
use super::stash_watch::StashWatch;
use super::target_health::TargetHealth;
use super::work::attempt;
use super::work::evaluation;
use super::work::slots::Slots;
use super::work::verification::{VerificationAssignment, VerificationResult};
use super::{Context, RunExit, RunOptions, RunReport, recover, signals};
use crate::ambient;
use crate::domain::id::TaskId;
use crate::domain::machine::{Decision, Observation, at_rest, awaits_review, next_wake};
use crate::domain::retry::Policy;
use crate::domain::state::{Phase, RunPhase, TaskState};
use crate::domain::verdict::Finding;
use crate::keeper;
use crate::store::RunProof;
use crate::store::chain::Ledger;

/// The interval at which requests are read and the display is refreshed.
const TICK: Duration = Duration::from_millis(200);

/// The result of a thread.
pub(super) enum FinishedWork {
    /// The outcome of an attempt.
    Attempt(Box<attempt::AttemptOutcome>),
    /// The result of a verification. `None` while a keeper runs.
    Verified(Box<VerificationAssignment>, Option<VerificationResult>),
    /// The result of an evaluation. `None` while a keeper runs.
    Evaluated(Option<Box<evaluation::EvaluationResult>>),
    /// Violations of the scope. No check was run.
    OutOfScope(crate::domain::verdict::Candidate, Vec<Finding>),
}

pub(super) enum Message {
    Done(WorkId, Box<Result<FinishedWork>>),
    /// A notice of the merge queue worker.
    Queue(WorkerNotice),
    /// The barrier of this number has completed: everything written before its request is durable.
    Durable(u64, Result<()>),
    Signal(i32),
}

/// A run in execution.
pub(crate) struct Engine<'a> {
    pub(super) ctx: Arc<Context>,
    pub(super) journal: RunJournal,
    pub(super) policy: Policy,
    pub(super) options: RunOptions,
    pub(super) report: &'a mut dyn FnMut(RunReport<'_>),
    pub(super) slots: Slots,
    pub(super) in_flight: InFlight,
    pub(super) folders: KeeperFolders,
    /// The run's side of the merge queue.
    pub(super) queue: QueueClient,
    pub(super) health: TargetHealth,
    pub(super) stash: StashWatch,
    /// The findings about what keepers saw in the work of attempts.
    pub(super) refusals: BTreeMap<(TaskId, u32), Vec<Finding>>,
    pub(super) review_branches: ReviewBranches,
    pub(super) disk: DiskWatch,
    pub(super) interrupts: Interrupts,
    pub(super) sender: Sender<Message>,
    receiver: Receiver<Message>,
}

/// Creates an engine for a run whose lock is held, and recovers from the end of an earlier
/// supervisor.
pub(crate) fn prepare<'a>(
    ctx: Context,
    proof: RunProof,
    ledger: Ledger,
    missing: &[TaskId],
    policy: Policy,
    options: RunOptions,
    report: &'a mut dyn FnMut(RunReport<'_>),
) -> Result<Engine<'a>> {
    let (only, keep_going) = (options.only.clone(), options.keep_going);
    let policy = Policy { only, keep_going, ..policy };
    let (sender, receiver) = channel();
    let journal = RunJournal::new(ctx.store.clone(), proof, ledger, sender.clone());
    let mut engine = Engine {
        ctx: Arc::new(ctx),
        journal,
        policy,
        options,
        report,
        slots: Slots::default(),
        in_flight: InFlight::default(),
        folders: KeeperFolders::default(),
        queue: QueueClient::default(),
        health: TargetHealth::default(),
        stash: StashWatch::default(),
        refusals: BTreeMap::new(),
        review_branches: ReviewBranches::default(),
        disk: DiskWatch::default(),
        interrupts: Interrupts::default(),
        sender,
        receiver,
    };
    let notes = engine.stash.resume(&engine.ctx);
    engine.report_notes(notes);
    recover::recover(&mut engine, missing)?;
    Ok(engine)
}

impl Engine<'_> {
    /// Executes the run until there is a reason to stop.
    pub(crate) fn run(&mut self) -> Result<RunExit> {
        if self.options.fresh {
            self.ctx.queue.ask_again()?;
            keeper::forget_setups(&self.ctx.store.local().worktree_indexes(&self.ctx.run), None)?;
        }
        let owner = super::settings_owner(&self.ctx.run);
        self.ctx.store.open_settings(&owner);
        // Agents of an earlier supervisor may be at work, without a sandbox.
        self.ctx.sandbox(false).ok();
        self.start_queue()?;
        let stopped = self.run_loop();
        // The worker ends before the supervisor reports the end. Its last notes are reported and
        // its last answers recorded.
        self.queue.disconnect();
        let stopped = stopped.and_then(|exit| {
            while let Ok(message) = self.receiver.try_recv() {
                if let Message::Queue(_) = message {
                    self.handle(message)?;
                }
            }
            if self.read_answers()? {
                self.settle()?;
            }
            Ok(exit)
        });
        if self.ctx.store.is_unsandboxed()
            && let Some(note) = self.ctx.store.changed_refs(&self.ctx.manifest.target)
        {
            self.report_notes(vec![note]);
        }
        match &stopped {
            Ok(RunExit::Ended | RunExit::Blocked | RunExit::Person(_)) => {
                self.ctx.store.close_settings(&owner);
            }
            // Agents may still be at work.
            Ok(RunExit::Later | RunExit::Interrupted(_)) | Err(_) => {}
        }
        if stopped.is_ok() {
            let agents_work =
                self.in_flight.has_agents() || self.journal.state().count(&Phase::Running) > 0;
            if !agents_work {
                let notes = self.stash.end(&self.ctx);
                self.report_notes(notes);
            }
            self.folders.remove_all();
        }
        stopped
    }

    fn run_loop(&mut self) -> Result<RunExit> {
        if self.options.signals {
            let sender = self.sender.clone();
            signals::listen(move |signal| {
                sender.send(Message::Signal(signal)).ok();
            })?;
        }
        loop {
            self.journal.check_run()?;
            let notes = self.stash.learn(&self.ctx);
            self.report_notes(notes);
            self.apply_requests()?;
            self.check_probe()?;
            self.check_review_branches()?;
            if let Some(signal) = self.interrupts.exit_signal() {
                self.settle()?;
                return Ok(RunExit::Interrupted(signal));
            }
            let begun = self.start_effects()?;
            if !begun && let Some(stopped) = self.exit_reason() {
                self.settle()?;
                return Ok(stopped);
            }
            if begun && !self.in_flight.has_threads() {
                continue;
            }
            match self.receiver.recv_timeout(self.poll_interval()) {
                Ok(message) => {
                    self.handle(message)?;
                    while let Ok(message) = self.receiver.try_recv() {
                        self.handle(message)?;
                    }
                    self.flush()?;
                }
                Err(RecvTimeoutError::Timeout) => {
                    (self.report)(RunReport::Tick(self.journal.state()));
                }
                Err(RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Journals an observation from outside of the loop, and waits until its events are durable and
    /// reported.
    pub(crate) fn observe_and_settle(&mut self, observation: Observation) -> Result<()> {
        self.observe(observation);
        self.settle()
    }

    /// Applies the waiting requests.
    pub(crate) fn serve_requests(&mut self) -> Result<()> {
        self.apply_requests()
    }

    /// Returns the current state.
    pub(crate) fn state(&self) -> &crate::domain::state::RunState {
        self.journal.state()
    }

    /// Adds the decisions on an observation to the journal's batch.
    pub(super) fn observe(&mut self, observation: Observation) -> Vec<Decision> {
        self.journal.observe(observation, &self.policy)
    }

    /// Records the batch. The events are then visible to every process, but not yet durable or
    /// reported.
    pub(super) fn record(&mut self) -> Result<()> {
        if self.journal.record()? {
            self.ctx.add_tasks(self.journal.state().tasks.planned());
        }
        Ok(())
    }

    /// Records the batch and requests a barrier. The events are reported when they are durable.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.record()?;
        self.journal.request_barrier();
        Ok(())
    }

    /// Records the batch, and waits until all events are durable and reported.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.record()?;
        let durable = self.journal.sync()?;
        self.report_durable(durable);
        Ok(())
    }

    /// Reports events.
    pub(super) fn report_events(&mut self, events: &[JournaledEvent]) {
        let state = self.journal.state();
        for JournaledEvent { decision, ended } in events {
            (self.report)(match decision {
                Decision::Run(event) => RunReport::Run(event, state),
                Decision::Task(task, event) => {
                    RunReport::Task { task, event, ended: *ended, state }
                }
            });
        }
    }

    /// Reports durable events, and deletes the refs of published attempts that are no longer
    /// needed.
    pub(super) fn report_durable(&mut self, durable: DurableChanges) {
        self.report_events(&durable.events);
        self.drop_published(&durable.published);
        self.folders.remove_many();
    }

    /// Reports notes for people.
    pub(super) fn report_notes(&mut self, notes: Vec<String>) {
        for note in notes {
            (self.report)(RunReport::Note(note));
        }
    }

    fn poll_interval(&self) -> Duration {
        let now = ambient::now();
        let wake =
            next_wake(self.journal.state(), now).map(|t| Duration::from_millis(t.since_ms(now)));
        wake.map_or(TICK, |w| w.min(TICK)).max(Duration::from_millis(1))
    }

    /// Returns the reason to stop the loop, if there is one. Must be called only when no effect
    /// could be started.
    fn exit_reason(&mut self) -> Option<RunExit> {
        if let Some(signal) = self.interrupts.signal() {
            let timed_out = self.interrupts.has_timed_out(ambient::instant());
            let idle = !self.in_flight.has_threads() && !self.queue_acts();
            return (idle || timed_out).then_some(RunExit::Interrupted(signal));
        }
        if self.in_flight.has_threads() {
            return None;
        }
        let state = self.journal.state();
        let only = &self.policy.only;
        let ended = |t: &TaskId| state.tasks.get(t).is_none_or(|s| s.phase.ended());
        if state.ended() || (!only.is_empty() && only.iter().all(ended)) {
            return Some(RunExit::Ended);
        }
        if self.in_flight.has_unattended() && !self.queue_acts() {
            return Some(RunExit::Later);
        }
        if let Some(why) = self.ctx.store.changed_settings() {
            return Some(RunExit::Person(why));
        }
        if state.phase == RunPhase::Active && at_rest(state, &self.policy) {
            return Some(RunExit::Blocked);
        }
        if awaits_review(state, &self.policy) {
            let waiting = match state.count(&Phase::Reviewing) {
                1 => "1 candidate waits".to_owned(),
                n => format!("{n} candidates wait"),
            };
            let why = format!("{waiting} for a review: `git harness review` lists them");
            return Some(RunExit::Person(why));
        }
        let queued = state.count(&Phase::Queued) > 0;
        let problem = self.landing_problem().filter(|_| queued);
        // The target may have been fixed since the last check.
        let fails = self.ctx.tip().is_ok_and(|tip| self.tip_fails(&tip));
        if let Some(why) = problem.clone().or_else(|| fails.then(|| self.failing_target())) {
            let others = [Phase::Todo, Phase::Running, Phase::Verifying]
                .iter()
                .any(|phase| state.count(phase) > 0);
            if !others || state.phase != RunPhase::Active || fails {
                return Some(RunExit::Person(why));
            }
        }
        match state.phase {
            RunPhase::Active => {}
            RunPhase::Paused | RunPhase::Halted => {
                let asks = |t: &TaskState| t.evaluation.waiting && self.policy.evaluates;
                let waiting = (queued && problem.is_none())
                    || state.tasks.in_phase(&Phase::Verifying).any(|(_, t)| !asks(t));
                if !waiting {
                    let why = state.reason.clone().unwrap_or_else(|| "it was stopped".into());
                    return Some(RunExit::Person(why));
                }
            }
            RunPhase::Cancelled => return Some(RunExit::Person("the run is cancelled".into())),
        }
        (!self.options.wait && !self.queue_acts()).then_some(RunExit::Later)
    }

    /// Returns true if the merge queue worker of this process has something to do for this run.
    fn queue_acts(&self) -> bool {
        match self.queue.view(&self.ctx) {
            WorkerView::Busy => !self.queue.is_empty(),
            WorkerView::Waiting(worker) => worker.awaited > 0,
            WorkerView::Other { .. } => false,
        }
    }

    /// Handles a signal: the first drains, the second stops the agents, the third exits.
    pub(super) fn signal(&mut self, signal: i32) {
        let note = match self.interrupts.receive(signal, ambient::instant()) {
            SignalResponse::Nothing => return,
            SignalResponse::Drain => {
                let agents = match self.journal.state().count(&Phase::Running) {
                    1 => "1 agent finishes its attempt; Ctrl-C again stops it".to_owned(),
                    n => format!("{n} agents finish their attempts; Ctrl-C again stops them"),
                };
                format!("starting nothing new, {agents}")
            }
            SignalResponse::StopAgents => {
                self.queue.interrupt_hooks();
                let agents = match recover::stop_keepers(&self.ctx, None) {
                    1 => "1 agent".to_owned(),
                    n => format!("{n} agents"),
                };
                format!(
                    "asked {agents} to stop; Ctrl-C again leaves what runs to finish on its own"
                )
            }
        };
        (self.report)(RunReport::Note(note));
    }
}
