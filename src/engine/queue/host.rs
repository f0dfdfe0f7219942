//! The port between the merge queue worker and the world.
//!
//! [`super::worker::QueueWorker`] decides, and a [`QueueHost`] acts: on the queue log, the target,
//! the entries, keepers and hooks. The real host is [`super::git_host::GitHost`]. The simulation
//! (`tests/sim/queue`) drives the same worker with a host that keeps everything in memory.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::queue::{Car, Conflict, EntryId, QueueSettings, TrainId, TrainKind};
use crate::domain::verdict::{CheckReport, CheckResult, Verdict};
use crate::store::LandingObstacle;
use crate::store::queue_log::QueueLogEntry;
use crate::wire::queue::{ConflictedPath, QueueEvent};

/// An entry with its candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedEntry {
    /// The branch, or `RUN/TASK`.
    pub id: EntryId,
    /// The commit to land.
    pub candidate: Oid,
    /// The attempt that made the candidate of a task. `None` for a branch.
    pub attempt: Option<u32>,
}

impl QueuedEntry {
    /// Returns the run and the task of a task's entry, or `None` for a branch.
    pub fn task(&self) -> Option<(RunId, TaskId)> {
        self.attempt?;
        parse_task_entry(&self.id)
    }
}

/// Returns the entry of a task.
pub(crate) fn task_entry(run: &RunId, task: &TaskId) -> Result<EntryId> {
    Ok(EntryId::parse(&format!("{run}/{task}"))?)
}

/// Splits the name `RUN/TASK`.
pub(crate) fn parse_task_entry(entry: &EntryId) -> Option<(RunId, TaskId)> {
    let (run, task) = entry.as_str().split_once('/')?;
    Some((RunId::parse(run).ok()?, TaskId::parse(task).ok()?))
}

/// The rules of a queue at one tip of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRules {
    /// The limits of the queue.
    pub settings: QueueSettings,
    /// True if branches wait for an approval.
    pub review: bool,
    /// The reason why no branch can land, for example a target without checks. Tasks of runs are
    /// verified by the checks of their runs.
    pub branches_wait: Option<String>,
    /// A hash of everything that decides a verdict. Verdicts under other rules are void.
    pub digest: String,
}

/// The name of an owed verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerificationId {
    /// The train.
    pub train: TrainId,
    /// The number of cars. 0 means the target's tip.
    pub prefix: usize,
    /// The number of the attempt.
    pub attempt: u32,
}

/// A verification of a train's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainVerification {
    /// The verification's name.
    pub id: VerificationId,
    /// The purpose of the train.
    pub kind: TrainKind,
    /// The commit to verify.
    pub commit: Oid,
    /// The commit's tree.
    pub tree: Oid,
    /// The commit on which the train stands. Its rule files decide.
    pub onto: Oid,
    /// The entries that the tree contains and the target does not, in order.
    pub entries: Vec<QueuedEntry>,
    /// The first entry of the train. The verification of the tip uses this entry's checks.
    pub first: Option<QueuedEntry>,
    /// The number of failed verifications of the tree since the first entry was added.
    pub failures: usize,
    /// The ids of results that an earlier worker logged since all entries were added. They answer
    /// the same question, also for checks whose verdicts are not cached.
    pub logged_results: BTreeSet<String>,
    /// True if recorded verdicts do not count. The last verifications could not run, and the tip
    /// tells whether any can.
    pub must_run: bool,
}

/// The number of failed verifications of one tree that prove a failure. One failure may be a flake.
const FAILURES_TO_PROVE: usize = 2;

impl TrainVerification {
    /// Returns true if a recorded failure must not be reused, because the tree is verified a second
    /// time.
    pub fn is_repeated(&self) -> bool {
        self.kind == TrainKind::Confirm
            && (self.id.prefix > 0 || self.id.attempt > 1)
            && self.failures < FAILURES_TO_PROVE
    }
}

/// The verdict on a train's prefix.
#[derive(Debug, Clone)]
pub struct TrainVerdict {
    /// The verdict and the results.
    pub report: CheckReport,
    /// The results that prove each task. Branches have none.
    pub results_by_entry: BTreeMap<EntryId, Vec<CheckResult>>,
    /// Lines for the tree's note.
    pub note_lines: Vec<String>,
}

impl TrainVerdict {
    /// Creates a verdict that no check has given.
    pub fn without_results(verdict: Verdict) -> Self {
        let report = CheckReport { verdict, results: Vec::new() };
        Self { report, results_by_entry: BTreeMap::new(), note_lines: Vec::new() }
    }
}

/// The answer to the start of a verification.
#[derive(Debug)]
pub enum VerificationStart {
    /// The verdict is known already.
    Known(TrainVerdict),
    /// A keeper runs the checks. The outcome goes to [`super::worker::QueueWorker::finish`].
    Started,
    /// Nothing can be started now: all check worktrees are in use.
    Busy,
    /// Nothing can be verified, for this reason, until a person acts.
    Held(String),
}

/// The state of an entry's candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CandidateState {
    /// The entry still has the candidate and wants to land.
    Current,
    /// The branch has another commit.
    Moved(Oid),
    /// The entry does not want to land any more, for this reason.
    Gone(String),
}

/// A train as it was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainBuild {
    /// The commits, in order.
    pub cars: Vec<Car>,
    /// The entries that could not be merged into the train.
    pub conflicts: Vec<Conflict>,
    /// The entries whose content the base of the train has already.
    pub contained: Vec<EntryId>,
    /// The entries that cannot land, each with the reason.
    pub refused: Vec<(EntryId, String)>,
}

/// A commit that lands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandingCar {
    /// The entry.
    pub entry: QueuedEntry,
    /// The commit.
    pub commit: Oid,
    /// The commit's tree.
    pub tree: Oid,
    /// The results that prove a task.
    pub results: Vec<CheckResult>,
}

/// The cars that land together. Each commit is built on the commit before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainLanding {
    /// The train.
    pub train: TrainId,
    /// The target's tip before the landing.
    pub old: Oid,
    /// The target's tip after the landing.
    pub new: Oid,
    /// The verified tree of `new`.
    pub tree: Oid,
    /// The cars, in order.
    pub cars: Vec<LandingCar>,
}

/// A landing whose commits are signed, if they are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedLanding {
    /// The landing may go on.
    Ready(TrainLanding),
    /// The landing waits for the signer, for this reason.
    Held(String),
}

/// The outcome of the commit phase of a landing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The target has moved to the landing.
    Landed,
    /// Another process moved the target or wrote to the queue log first. Nothing was landed.
    Superseded,
    /// The landing waits, for this reason.
    Held(String),
    /// The queue stops until a person acts, for this reason.
    NeedsPerson(String),
}

/// A report to whoever watches the queue.
#[derive(Debug)]
pub enum QueueReport<'a> {
    /// An event of the queue log, durable.
    Event(&'a QueueEvent),
    /// A verification of these entries starts.
    Verifying(TrainKind, &'a [QueuedEntry]),
    /// A note without an event.
    Note(String),
}

/// The actions of a merge queue worker.
pub trait QueueHost {
    /// Reads the events of the queue log after a commit of the log, and the log's tip.
    fn read_log(&mut self, after: Option<&Oid>) -> Result<(Option<Oid>, Vec<QueueLogEntry>)>;
    /// Appends events to the queue log. They are durable after [`QueueHost::sync`].
    fn append_log(&mut self, events: &[QueueEvent]) -> Result<()>;
    /// Makes everything durable that was written so far.
    fn sync(&mut self) -> Result<()>;
    /// Returns the target's name for people.
    fn target_name(&self) -> String;
    /// Returns the target's tip and the tip's tree.
    fn target(&mut self) -> Result<(Oid, Oid)>;
    /// Returns the tree of a commit.
    fn tree_of(&mut self, commit: &Oid) -> Result<Oid>;
    /// Returns the rules of the queue at a tip. `entries` are the entries that wait.
    fn rules(&mut self, tip: &Oid, entries: &[QueuedEntry]) -> Result<QueueRules>;
    /// Reads the target's history up to a tip. Returns those of the entries that the target
    /// contains, with the commit that landed them if the queue created it. The function is given
    /// the tip at which each entry was added: an older landing does not count.
    fn contained(
        &mut self,
        tip: &Oid,
        entries: &[(QueuedEntry, Oid)],
    ) -> Result<Vec<(EntryId, Option<Oid>)>>;
    /// Returns the state of an entry's candidate.
    fn candidate_state(&mut self, entry: &QueuedEntry) -> Result<CandidateState>;
    /// Returns true if a person must approve a branch because of what it changes.
    fn needs_review(&mut self, branch: &QueuedEntry) -> Result<bool>;
    /// Merges entries one after the other onto a commit.
    fn build(&mut self, onto: &Oid, entries: &[QueuedEntry]) -> Result<TrainBuild>;
    /// Returns those of the waiting entries that conflict with the tip because of what landed after
    /// `old`, with the paths.
    fn find_conflicts(
        &mut self,
        old: &Oid,
        tip: &Oid,
        waiting: &[QueuedEntry],
    ) -> Result<Vec<(QueuedEntry, Vec<String>)>>;
    /// Describes the paths in which an entry conflicts with a tip.
    fn conflict_sides(
        &mut self,
        tip: &Oid,
        entry: &QueuedEntry,
        paths: &[String],
    ) -> Result<Vec<ConflictedPath>>;
    /// Returns the trains whose verification an earlier worker started, each as the names of its
    /// entries.
    fn interrupted_trains(&mut self) -> Result<Vec<Vec<EntryId>>>;
    /// Returns the target's first-parent line from an entry's fork point to a tip, both included,
    /// oldest first. Empty if the fork point is not on the line.
    fn line_since_fork(&mut self, tip: &Oid, entry: &QueuedEntry) -> Result<Vec<Oid>>;
    /// Returns the name of the entry that a commit of the target landed.
    fn landed_entry(&mut self, commit: &Oid) -> Result<Option<String>>;
    /// Starts a verification, unless the verdict is known.
    fn verify(&mut self, verification: &TrainVerification) -> Result<VerificationStart>;
    /// Records that the queue log vouches for results with these ids.
    fn vouch(&mut self, ids: Vec<String>);
    /// Writes the note on a verified tree.
    fn note_verdict(&mut self, tree: &Oid, lines: Vec<String>) -> Result<()>;
    /// Writes the commits of a landing again with signatures, if they are to be signed.
    fn sign(&mut self, landing: &TrainLanding) -> Result<SignedLanding> {
        Ok(SignedLanding::Ready(landing.clone()))
    }
    /// Prepares a landing: takes the target's lock, looks for a reason to hold the landing and runs
    /// the pre-land hooks. Returns the reason, if there is one. Without a reason, the lock is kept
    /// until [`QueueHost::commit`] or [`QueueHost::abandon`].
    fn prepare(&mut self, landing: &TrainLanding) -> Result<Option<LandingObstacle>>;
    /// Commits a prepared landing: one transaction moves the target, the target journal, the queue
    /// log and the notes. `log_tip` is the expected tip of the log.
    fn commit(
        &mut self,
        landing: &TrainLanding,
        log_tip: Option<&Oid>,
        event: &QueueEvent,
    ) -> Result<CommitOutcome>;
    /// Releases the lock of a prepared landing.
    fn abandon(&mut self);
    /// Lets the target's checkouts follow a landing that is complete, and runs the post-land hooks.
    /// Returns notes for people.
    fn landed(&mut self, landing: &TrainLanding) -> Result<Vec<String>>;
    /// Lets the target's checkouts follow the last landing of an earlier worker.
    fn follow(&mut self, old: &Oid, new: &Oid) -> Result<Vec<String>>;
    /// Takes over what the remote of the target has, if there is a remote. Returns the reason why a
    /// person is needed, if there is one.
    fn pull(&mut self) -> Result<Option<String>>;
    /// Shows the verifications under way to whoever lists the queue.
    fn show(&mut self, running: &[(TrainVerification, Timestamp)], problem: Option<&str>);
    /// Reports to whoever watches.
    fn report(&mut self, report: QueueReport<'_>);
    /// Returns the present time.
    fn now(&mut self) -> Timestamp;
}
