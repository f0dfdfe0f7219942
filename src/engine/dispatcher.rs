//! The dispatcher: starts owed effects, journals the events that follow from observations, and
//! reports the events.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::barrier::Barriers;
use super::in_flight::{InFlight, WorkId};
use super::queue::WorkerNotice;
use super::queue::client::{QueueClient, WorkerView};
use super::results::AwaitingSync;
use super::reviews::ReviewBranches;
use super::target_health::TargetHealth;
use super::work::attempt;
use super::work::evaluation;
use super::work::slots::Slots;
use super::work::verification::{VerificationAssignment, VerificationResult};
use super::{Context, RunExit, RunOptions, RunReport, recover, signals};
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind};
use crate::domain::id::TaskId;
use crate::domain::machine::{Decision, Observation, at_rest, awaits_review, decide, next_wake};
use crate::domain::retry::Policy;
use crate::domain::state::{Phase, RunPhase, TaskState};
use crate::domain::verdict::Finding;
use crate::store::chain::{Batch, Ledger};
use crate::store::notes::NoteLines;
use crate::store::{RefMove, RunProof, layout};

/// The interval at which requests are read and the display is refreshed.
const TICK: Duration = Duration::from_millis(200);
/// The time that keepers have after a stop request: their grace period, and time to save the work.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of stale keeper folders at which all of them are removed. On ext4, creating a file
/// soon after a removal takes many times as long (measured), so folders are removed rarely and in
/// bulk.
const REMOVAL_BATCH: usize = 500;

/// The interval after a signal in which a second signal of the same kind is an echo.
const ECHO_INTERVAL: Duration = Duration::from_millis(300);

/// The result of a thread.
pub(super) enum FinishedWork {
    /// The outcome of an attempt.
    Attempt(attempt::AttemptOutcome),
    /// The result of a verification. `None` while a keeper runs.
    Verified(Box<VerificationAssignment>, Option<VerificationResult>),
    /// The result of an evaluation. `None` while a keeper runs.
    Evaluated(Option<Box<evaluation::EvaluationResult>>),
    /// A violation of the scope. No check was run.
    OutOfScope(crate::domain::verdict::Candidate, Finding),
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
    pub(super) proof: RunProof,
    pub(super) ledger: Ledger,
    pub(super) policy: Policy,
    pub(super) options: RunOptions,
    pub(super) report: &'a mut dyn FnMut(RunReport<'_>),
    pub(super) batch: Batch,
    pub(super) slots: Slots,
    pub(super) in_flight: InFlight,
    /// Worktrees of check keepers that an earlier supervisor started, by folder name.
    pub(super) adopted: BTreeMap<String, String>,
    /// Journaled events for which no barrier was requested yet.
    pub(super) unsynced: Vec<Decision>,
    /// Refs of published attempts whose events are journaled and for which no barrier was requested
    /// yet.
    pub(super) published: Vec<RefMove>,
    /// Events that wait for a barrier, in order.
    pub(super) awaiting_sync: Vec<AwaitingSync>,
    pub(super) barriers: Barriers,
    /// Keeper folders to be removed.
    pub(super) stale_folders: Vec<PathBuf>,
    /// Check folders whose results are already recorded.
    pub(super) recorded_keys: BTreeSet<String>,
    /// Lines for the notes on trees, written with the next events.
    pub(super) tree_notes: NoteLines,
    /// Lines for the notes on landed commits.
    pub(super) commit_notes: NoteLines,
    /// The run's side of the merge queue.
    pub(super) queue: QueueClient,
    /// The other process that works on the queue, as reported.
    pub(super) queue_holder: Option<String>,
    pub(super) health: TargetHealth,
    /// The branches under review.
    pub(super) review_branches: ReviewBranches,
    /// True if the disk is too full to start attempts.
    pub(super) disk_full: bool,
    pub(super) interrupted: Option<i32>,
    signals: u32,
    last_signal: Option<(i32, Instant)>,
    pub(super) stopping_since: Option<Instant>,
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
    let (sender, receiver) = channel();
    let barriers = Barriers::start(ctx.store.repo().common_dir().to_path_buf(), sender.clone());
    let mut engine = Engine {
        ctx: Arc::new(ctx),
        proof,
        ledger,
        policy,
        options,
        report,
        batch: Batch::default(),
        slots: Slots::default(),
        in_flight: InFlight::default(),
        adopted: BTreeMap::new(),
        unsynced: Vec::new(),
        published: Vec::new(),
        awaiting_sync: Vec::new(),
        barriers,
        stale_folders: Vec::new(),
        recorded_keys: BTreeSet::new(),
        tree_notes: NoteLines::new(),
        commit_notes: NoteLines::new(),
        queue: QueueClient::default(),
        queue_holder: None,
        health: TargetHealth::default(),
        review_branches: ReviewBranches::default(),
        disk_full: false,
        interrupted: None,
        signals: 0,
        last_signal: None,
        stopping_since: None,
        sender,
        receiver,
    };
    recover::recover(&mut engine, missing)?;
    Ok(engine)
}

impl Engine<'_> {
    /// Executes the run until there is a reason to stop.
    pub(crate) fn run(&mut self) -> Result<RunExit> {
        self.start_queue();
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
        if stopped.is_ok() {
            self.remove_stale_folders();
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
            self.apply_requests()?;
            self.check_probe()?;
            self.check_review_branches()?;
            if let (true, Some(signal)) = (self.signals > 2, self.interrupted) {
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
                    (self.report)(RunReport::Tick(&self.ledger.state));
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
        &self.ledger.state
    }

    /// Adds the decisions on an observation to the batch, which is journaled later.
    pub(super) fn observe(&mut self, observation: Observation) -> Vec<Decision> {
        let decisions = decide(&self.ledger.state, observation, ambient::now(), &self.policy);
        self.batch.decisions.extend(decisions.iter().cloned());
        decisions
    }

    /// Journals the batch and writes the notes. They are then visible to every process, but not yet
    /// durable or reported.
    pub(super) fn record(&mut self) -> Result<()> {
        let store = self.ctx.store.clone();
        let for_people = self.batch.extras.clone();
        let lines = [
            (layout::VERDICTS, std::mem::take(&mut self.tree_notes)),
            (layout::NOTES, std::mem::take(&mut self.commit_notes)),
        ];
        for (name, lines) in &lines {
            self.batch.extras.extend(store.notes_move(name, lines)?);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let decisions = self.batch.decisions.clone();
        if !self.ledger.record(&store, &self.proof, &mut self.batch)? {
            // The batch's extra refs were not written, because another writer wrote notes at the
            // same time.
            for (name, lines) in &lines {
                store.add_notes(name, lines)?;
            }
            for ref_move in for_people {
                // Only people need these refs, so a failure is ignored.
                store.transact_in_bulk(&[ref_move]).ok();
            }
        }
        let split = |d: &Decision| {
            matches!(d, Decision::Run(RunEvent { kind: RunEventKind::Split { .. }, .. }))
        };
        if decisions.iter().any(split) {
            self.ctx.add_tasks(self.ledger.state.tasks.planned());
        }
        self.unsynced.extend(decisions);
        Ok(())
    }

    /// Reports the events that are durable after this barrier, and deletes the published refs that
    /// are no longer needed.
    pub(super) fn report_synced(&mut self, number: u64) {
        let later = self.awaiting_sync.iter().position(|s| s.number > number);
        let durable = self.awaiting_sync.drain(..later.unwrap_or(self.awaiting_sync.len()));
        let mut dropped = Vec::new();
        for synced in durable.collect::<Vec<_>>() {
            for decision in synced.decisions {
                match decision {
                    Decision::Run(event) => {
                        (self.report)(RunReport::Run(&event, &self.ledger.state));
                    }
                    Decision::Task(task, event) => {
                        (self.report)(RunReport::Task(&task, &event, &self.ledger.state));
                    }
                }
            }
            dropped.extend(synced.published);
        }
        self.drop_published(&dropped);
        if self.stale_folders.len() >= REMOVAL_BATCH {
            self.remove_stale_folders();
        }
    }

    /// Removes stale keeper folders. Errors are ignored: a later keeper replaces a folder that is
    /// left.
    fn remove_stale_folders(&mut self) {
        for folder in std::mem::take(&mut self.stale_folders) {
            std::fs::remove_dir_all(folder).ok();
        }
    }

    fn poll_interval(&self) -> Duration {
        let now = ambient::now();
        let wake =
            next_wake(&self.ledger.state, now).map(|t| Duration::from_millis(t.since_ms(now)));
        wake.map_or(TICK, |w| w.min(TICK)).max(Duration::from_millis(1))
    }

    /// Returns the reason to stop the loop, if there is one. Must be called only when no effect
    /// could be started.
    fn exit_reason(&mut self) -> Option<RunExit> {
        if let Some(signal) = self.interrupted {
            let timed_out = self.stopping_since.is_some_and(|t| t.elapsed() > STOP_TIMEOUT);
            let idle = !self.in_flight.has_threads() && !self.queue_acts();
            return (idle || timed_out).then_some(RunExit::Interrupted(signal));
        }
        if self.in_flight.has_threads() {
            return None;
        }
        let state = &self.ledger.state;
        let only = &self.options.only;
        let ended = |t: &TaskId| state.tasks.get(t).is_none_or(|s| s.phase.ended());
        if state.ended() || (!only.is_empty() && only.iter().all(ended)) {
            return Some(RunExit::Ended);
        }
        if self.in_flight.has_unattended() && !self.queue_acts() {
            return Some(RunExit::Later);
        }
        let chosen = |t: &TaskId| only.is_empty() || only.contains(t);
        if state.phase == RunPhase::Active && at_rest(state, &self.policy, &chosen) {
            return Some(RunExit::Blocked);
        }
        if awaits_review(state, &self.policy, &chosen) {
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
        // `git` forwards Ctrl-C to its subcommands, which have already got the signal from the
        // terminal (seen with git 2.47). The second signal is an echo of the first.
        if self.last_signal.is_some_and(|(last, t)| last == signal && t.elapsed() < ECHO_INTERVAL) {
            return;
        }
        self.last_signal = Some((signal, ambient::instant()));
        self.signals += 1;
        self.interrupted = Some(signal);
        let is_first_interrupt = signal == signal_hook::consts::SIGINT && self.signals == 1;
        if is_first_interrupt {
            let running = self.ledger.state.count(&Phase::Running);
            let agents = match running {
                1 => "1 agent finishes its attempt; Ctrl-C again stops it".to_owned(),
                _ => format!("{running} agents finish their attempts; Ctrl-C again stops them"),
            };
            let note = format!("starting nothing new, {agents}");
            (self.report)(RunReport::Note(note));
        } else if self.stopping_since.is_none() {
            self.stopping_since = Some(ambient::instant());
            let asked = recover::stop_keepers(&self.ctx, None);
            let agents = if asked == 1 { "1 agent" } else { &*format!("{asked} agents") };
            let note = format!(
                "asked {agents} to stop; Ctrl-C again leaves what runs to finish on its own"
            );
            (self.report)(RunReport::Note(note));
        }
    }
}
