//! The loop: what is owed is begun, what is seen is journaled, then told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::attempts;
use super::barrier::Barriers;
use super::evaluations;
use super::leaving::Leaving;
use super::line::Line;
use super::news::AwaitingSync;
use super::reviews::ReviewBranches;
use super::slots::Slots;
use super::tips::Tips;
use super::verifications::{VerificationAssignment, VerificationResult};
use super::{Context, RunExit, RunOptions, RunReport, recover, signals};
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind};
use crate::domain::id::TaskId;
use crate::domain::machine::{
    Decision, Effect, Observation, at_rest, awaits_review, decide, next_wake,
};
use crate::domain::retry::Policy;
use crate::domain::state::{Phase, RunPhase};
use crate::domain::verdict::Finding;
use crate::store::chain::{Batch, Ledger};
use crate::store::notes::NoteLines;
use crate::store::{RefMove, RunProof, layout};

/// How often requests are looked for and the display is brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// How long keepers that were asked to stop are waited for: their grace, and time to save.
const STOPPING: Duration = Duration::from_secs(20);

/// How many folders of keepers are removed at a time. On ext4, making files soon after others were removed costs many
/// times as much (measured): so they are removed rarely and in bulk.
const LITTER: usize = 500;

/// How long after a signal another one of its kind is its echo.
const ECHO: Duration = Duration::from_millis(300);

/// What a thread brings back.
pub(super) enum FinishedEffect {
    /// An attempt.
    Attempt(attempts::AttemptOutcome),
    /// A verification; `None`: a keeper is at it.
    Verified(Box<VerificationAssignment>, Option<VerificationResult>),
    /// An evaluation; `None`: a keeper is at it.
    Evaluated(Option<Box<evaluations::EvaluationResult>>),
    /// The scope said no; no check was run.
    OutOfScope(crate::domain::verdict::Candidate, Finding),
}

pub(super) enum Message {
    Done(Effect, Box<Result<FinishedEffect>>),
    /// Everything that was written before the barrier of this number was asked for is on the disk.
    Durable(u64, Result<()>),
    Signal(i32),
}

/// A run being carried out.
pub(crate) struct Engine<'a> {
    pub(super) ctx: Arc<Context>,
    pub(super) proof: RunProof,
    pub(super) ledger: Ledger,
    pub(super) policy: Policy,
    pub(super) options: RunOptions,
    pub(super) report: &'a mut dyn FnMut(RunReport<'_>),
    pub(super) batch: Batch,
    pub(super) slots: Slots,
    /// Effects that threads are at, with the places they use.
    pub(super) in_flight: BTreeMap<Effect, Option<String>>,
    /// Effects on which a keeper is at work and for which we do not wait (`poll`).
    pub(super) not_awaited: BTreeSet<Effect>,
    /// Places of check keepers that an earlier supervisor started, by the name of their folder.
    pub(super) adopted: BTreeMap<String, String>,
    /// Events that are journaled, for which no barrier was asked yet.
    pub(super) unsynced: Vec<Decision>,
    /// Published attempts whose events are journaled, for which no barrier was asked yet.
    pub(super) published: Vec<RefMove>,
    /// What waits for a barrier, in order.
    pub(super) awaiting_sync: Vec<AwaitingSync>,
    pub(super) barriers: Barriers,
    /// Folders whose content is not durable elsewhere yet.
    pub(super) stale_folders: Vec<PathBuf>,
    /// Names of folders of checks of which all is recorded that they say.
    pub(super) recorded_keys: BTreeSet<String>,
    /// NoteLines for the notes on trees, to be written with the next events.
    pub(super) verdicts: NoteLines,
    /// NoteLines for the notes on landed commits.
    pub(super) notes: NoteLines,
    /// Candidates on their way to the target.
    pub(super) line: Line,
    /// What is known of the tips that others have made.
    pub(super) tips: Tips,
    /// Landings that wait for a barrier.
    pub(super) leaving: Option<Leaving>,
    /// What is known of branches under review.
    pub(super) branches: ReviewBranches,
    /// Why landing waits, and since when.
    pub(super) held: Option<(String, Instant)>,
    /// Whether the disk is so full that no attempt begins.
    pub(super) disk_full: bool,
    pub(super) interrupted: Option<i32>,
    signals: u32,
    last_signal: Option<(i32, Instant)>,
    pub(super) stopping_since: Option<Instant>,
    pub(super) sender: Sender<Message>,
    receiver: Receiver<Message>,
}

/// Makes an engine for a run that is held, and mends what an earlier supervisor left half-done.
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
        in_flight: BTreeMap::new(),
        not_awaited: BTreeSet::new(),
        adopted: BTreeMap::new(),
        unsynced: Vec::new(),
        published: Vec::new(),
        awaiting_sync: Vec::new(),
        barriers,
        stale_folders: Vec::new(),
        recorded_keys: BTreeSet::new(),
        verdicts: NoteLines::new(),
        notes: NoteLines::new(),
        line: Line::default(),
        tips: Tips::default(),
        leaving: None,
        branches: ReviewBranches::default(),
        held: None,
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
    /// Carries the run out until there is a reason to stop.
    pub(crate) fn run(&mut self) -> Result<RunExit> {
        let stopped = self.carry_out();
        if stopped.is_ok() {
            self.clear_away();
        }
        stopped
    }

    fn carry_out(&mut self) -> Result<RunExit> {
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
            let begun = self.begin()?;
            if !begun && let Some(stopped) = self.stopped() {
                self.settle()?;
                return Ok(stopped);
            }
            if begun && self.in_flight.is_empty() {
                continue;
            }
            match self.receiver.recv_timeout(self.patience()) {
                Ok(news) => {
                    self.take(news)?;
                    while let Ok(news) = self.receiver.try_recv() {
                        self.take(news)?;
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

    /// Journals what an observation from outside means.
    pub(crate) fn ask(&mut self, observation: Observation) -> Result<()> {
        self.observe(observation);
        self.settle()
    }

    /// Carries out the requests that wait, and nothing else.
    pub(crate) fn serve_requests(&mut self) -> Result<()> {
        self.apply_requests()
    }

    /// What is so at the moment.
    pub(crate) fn state(&self) -> &crate::domain::state::RunState {
        &self.ledger.state
    }

    /// What an observation means is added to what will be journaled.
    pub(super) fn observe(&mut self, observation: Observation) -> Vec<Decision> {
        let decisions = decide(&self.ledger.state, observation, ambient::now(), &self.policy);
        self.batch.decisions.extend(decisions.iter().cloned());
        decisions
    }

    /// Journals what was decided and notes what was said: visible to every process, but not proof against a power cut
    /// and not told yet.
    pub(super) fn record(&mut self) -> Result<()> {
        let store = self.ctx.store.clone();
        let lines = [
            (layout::VERDICTS, std::mem::take(&mut self.verdicts)),
            (layout::NOTES, std::mem::take(&mut self.notes)),
        ];
        for (name, lines) in &lines {
            self.batch.extras.extend(store.notes_move(name, lines)?);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let decisions = self.batch.decisions.clone();
        if !self.ledger.record(&store, &self.proof, &mut self.batch)? {
            // Another run wrote notes at the same moment. What else was moved along is only for people.
            for (name, lines) in &lines {
                store.add_notes(name, lines)?;
            }
        }
        let split = |d: &Decision| {
            matches!(d, Decision::Run(RunEvent { kind: RunEventKind::Split { .. }, .. }))
        };
        if decisions.iter().any(split) {
            self.ctx.learn(&self.ledger.state.plan);
        }
        self.unsynced.extend(decisions);
        Ok(())
    }

    /// Tells what is durable by the barrier of this number, and removes what was kept until it was.
    pub(super) fn report_synced(&mut self, number: u64) {
        let later = self.awaiting_sync.iter().position(|s| s.number > number);
        let durable = self.awaiting_sync.drain(..later.unwrap_or(self.awaiting_sync.len()));
        let mut dropped = Vec::new();
        for sunk in durable.collect::<Vec<_>>() {
            for decision in sunk.decisions {
                match decision {
                    Decision::Run(event) => {
                        (self.report)(RunReport::Run(&event, &self.ledger.state));
                    }
                    Decision::Task(task, event) => {
                        (self.report)(RunReport::Task(&task, &event, &self.ledger.state));
                    }
                }
            }
            dropped.extend(sunk.published);
        }
        self.drop_published(&dropped);
        if self.stale_folders.len() >= LITTER {
            self.clear_away();
        }
    }

    /// Removes folders that nobody needs any more. What stays behind is found and replaced; it is only disk space.
    fn clear_away(&mut self) {
        for folder in std::mem::take(&mut self.stale_folders) {
            std::fs::remove_dir_all(folder).ok();
        }
    }

    fn patience(&self) -> Duration {
        let now = ambient::now();
        let wake =
            next_wake(&self.ledger.state, now).map(|t| Duration::from_millis(t.since_ms(now)));
        wake.map_or(TICK, |w| w.min(TICK)).max(Duration::from_millis(1))
    }

    /// Whether there is a reason to stop, given that nothing could be begun.
    fn stopped(&mut self) -> Option<RunExit> {
        if let Some(signal) = self.interrupted {
            let patience = self.stopping_since.is_some_and(|t| t.elapsed() > STOPPING);
            if (self.in_flight.is_empty() && self.leaving.is_none()) || patience {
                return Some(RunExit::Interrupted(signal));
            }
            return None;
        }
        if !self.in_flight.is_empty() || self.leaving.is_some() {
            return None;
        }
        let state = &self.ledger.state;
        let only = &self.options.only;
        let ended = |t: &TaskId| state.tasks.get(t).is_none_or(|s| s.phase.ended());
        if state.ended() || (!only.is_empty() && only.iter().all(ended)) {
            return Some(RunExit::Ended);
        }
        if !self.not_awaited.is_empty() {
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
        // Somebody may have mended it this moment.
        let fails = (self.ctx.tip())
            .is_ok_and(|tip| self.line.is_stopped_at(&tip) || self.tips.fails_at(&tip));
        let mended = self.line.is_stopped() && !fails;
        if let Some((why, _)) = self.held.as_ref().filter(|_| (queued || fails) && !mended) {
            let waits = |phase: &Phase| matches!(phase, Phase::Queued | Phase::Reviewing);
            let others = state.tasks.values().any(|t| !t.phase.ended() && !waits(&t.phase));
            if !others || state.phase != RunPhase::Active || fails {
                return Some(RunExit::Person(why.clone()));
            }
        }
        match state.phase {
            RunPhase::Active => {}
            RunPhase::Paused | RunPhase::Halted => {
                let waiting = state.tasks.values().any(|t| {
                    let asks = t.evaluation.waiting && self.policy.evaluates;
                    (t.phase == Phase::Verifying && !asks)
                        || (t.phase == Phase::Queued && self.held.is_none())
                });
                if !waiting {
                    let why = state.reason.clone().unwrap_or_else(|| "it was stopped".into());
                    return Some(RunExit::Person(why));
                }
            }
            RunPhase::Cancelled => return Some(RunExit::Person("the run is cancelled".into())),
        }
        (!self.options.wait).then_some(RunExit::Later)
    }

    /// A signal: drain, then stop the agents, then leave.
    pub(super) fn signal(&mut self, signal: i32) {
        // `git` passes Ctrl-C on to its subcommands, which the terminal has told already (seen with git 2.47): both are
        // one.
        if self.last_signal.is_some_and(|(of, t)| of == signal && t.elapsed() < ECHO) {
            return;
        }
        self.last_signal = Some((signal, ambient::instant()));
        self.signals += 1;
        self.interrupted = Some(signal);
        let gentle = signal == signal_hook::consts::SIGINT && self.signals == 1;
        if gentle {
            let running = self.ledger.state.count(&Phase::Running);
            let note = format!(
                "starting nothing new, {running} agents finish their attempts; Ctrl-C again stops them"
            );
            (self.report)(RunReport::Note(note));
        } else if self.stopping_since.is_none() {
            self.stopping_since = Some(ambient::instant());
            let asked = recover::stop_keepers(&self.ctx, None);
            let note = format!(
                "asked {asked} agents to stop; Ctrl-C again leaves them to finish on their own"
            );
            (self.report)(RunReport::Note(note));
        }
    }
}
