//! The real host of a merge queue worker: git, keepers and hooks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result};

use super::checks::{self, RulesChange, TrainChecks};
use super::context::{QueueContext, TargetRules};
use super::hooks::QueueInterrupt;
use super::host::{
    CandidateState, CommitOutcome, QueueHost, QueueReport, QueueRules, QueuedEntry, SignedLanding,
    TrainBuild, TrainLanding, TrainVerdict, TrainVerification, VerificationId, VerificationStart,
};
use super::runs::RunContexts;
use super::service::QueueMessage;
use super::status;
use super::verification::{self, KeeperVerification};
use crate::ambient;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::queue::{EntryId, QueueSettings};
use crate::domain::state::Phase;
use crate::domain::verdict::{Finding, Verdict};
use crate::engine::effects::catch_panic;
use crate::engine::{Context, KeeperWait};
use crate::error::Advice;
use crate::job::{self, QueueSection};
use crate::keeper::files;
use crate::landing::TargetHistory;
use crate::process::Lock;
use crate::store::LandingObstacle;
use crate::store::journal::TargetProof;
use crate::store::layout;
use crate::store::notes::NoteLines;
use crate::store::queue_log::QueueLogEntry;
use crate::verify;
use crate::wire::keeper::{Assignment, KeeperFile as _, Work};
use crate::wire::queue::{ConflictedPath, QueueEvent};

/// The sink of a worker's reports.
pub(crate) type ReportSink<'a> = Box<dyn FnMut(QueueReport<'_>) + 'a>;

/// The real host of a merge queue worker.
pub(crate) struct GitHost<'a> {
    pub(super) context: Arc<QueueContext>,
    pub(super) runs: RunContexts,
    /// The remote that gets every landing first.
    pub(super) remote: Option<String>,
    pub(super) wait: KeeperWait,
    messages: Sender<QueueMessage>,
    report: ReportSink<'a>,
    /// The rules of the tip that was read last.
    pub(super) rules: Option<Arc<TargetRules>>,
    /// The tip whose rules were read last, with the tip at which a rule file changed last.
    pub(super) rule_change: Option<(Oid, Oid)>,
    /// The number of check worktrees.
    concurrency: usize,
    pub(super) history: TargetHistory,
    /// The paths that each candidate changes.
    pub(super) touched: HashMap<Oid, Vec<String>>,
    /// The ids of results for which the queue log vouches.
    vouched: HashSet<String>,
    /// The check worktrees in use.
    busy: BTreeMap<VerificationId, String>,
    /// The lock of a prepared landing.
    pub(super) proof: Option<TargetProof>,
    /// The last landing that was signed, without and with signatures.
    pub(super) signed: Option<(TrainLanding, TrainLanding)>,
    /// The tip that was examined last, with the reason why no worktree can hold it.
    pub(super) target_fault: Option<(Oid, Option<String>)>,
    /// The tip of the target's counterpart in the remote, as far as known.
    pub(super) remote_tip: Option<Oid>,
    /// Raised by a signal: neither the remote nor a hook is waited for any longer.
    pub(super) interrupt: Arc<QueueInterrupt>,
}

impl<'a> GitHost<'a> {
    /// Creates the host. Outcomes of verifications go to `messages`.
    pub(super) fn new(
        context: Arc<QueueContext>,
        runs: RunContexts,
        (remote, wait, interrupt): (Option<String>, KeeperWait, Arc<QueueInterrupt>),
        messages: Sender<QueueMessage>,
        report: ReportSink<'a>,
    ) -> Self {
        Self {
            context,
            runs,
            remote,
            wait,
            messages,
            report,
            rules: None,
            rule_change: None,
            concurrency: 1,
            history: TargetHistory::default(),
            touched: HashMap::new(),
            vouched: HashSet::new(),
            busy: BTreeMap::new(),
            proof: None,
            signed: None,
            target_fault: None,
            remote_tip: None,
            interrupt,
        }
    }

    /// Releases the check worktree of a verification whose verdict is logged.
    pub(super) fn release(&mut self, id: &VerificationId) -> Result<()> {
        match self.busy.remove(id) {
            Some(worktree) => verification::forget_outcome(&self.context, &worktree),
            None => Ok(()),
        }
    }

    /// Returns the run whose `[queue]` section applies if the target has no rules of its own: the
    /// run of this process, or else the run of the first task whose run is there.
    fn settings_run(&mut self, entries: &[QueuedEntry]) -> Option<Arc<Context>> {
        if let Some(own) = self.runs.own() {
            return Some(Arc::clone(own));
        }
        let mut tasks = entries.iter().filter(|entry| entry.attempt.is_some());
        tasks.find_map(|entry| self.runs.ruled(entry).ok()?.task).map(|(run, _)| run)
    }

    /// Returns the folder of the check worktrees: where the target's rules place it, or else the
    /// job of the first task's run.
    fn worktrees(&self, first: Option<&checks::RuledEntry>) -> Result<std::path::PathBuf> {
        if let Some(rules) = &self.rules {
            return Ok(rules.worktrees.clone());
        }
        let run = first.and_then(checks::RuledEntry::run);
        let run = run.context("an entry without rules cannot be verified")?;
        Ok(self.context.worktrees(&run.job))
    }

    /// Returns the check worktree for a tree: the worktree whose keeper has the tree, or else the
    /// first free worktree. A worktree that a keeper of an earlier worker uses is taken last.
    fn free_worktree(&self, tree: &Oid) -> Result<Option<String>> {
        let names = (1..=self.concurrency).map(|n| format!("q{n:02}"));
        let free: Vec<String> =
            names.filter(|name| !self.busy.values().any(|busy| busy == name)).collect();
        let mut unlocked = None;
        for name in &free {
            let dir = verification::folder(&self.context, name);
            let tree_of = |spec: Assignment| match spec.work {
                Work::Checks(work) => Some(work.tree),
                Work::Attempt(_) | Work::Evaluation(_) => None,
            };
            if Assignment::read(&dir)?.and_then(tree_of).as_deref() == Some(tree.as_str()) {
                return Ok(Some(name.clone()));
            }
            let lock = dir.join(files::LOCK);
            if unlocked.is_none() && !(lock.is_file() && Lock::is_held(&lock)?) {
                unlocked = Some(name.clone());
            }
        }
        Ok(match self.wait {
            KeeperWait::Block => unlocked.or_else(|| free.into_iter().next()),
            KeeperWait::Poll => unlocked,
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the engine is the module with threads")]
    fn spawn(&mut self, work: KeeperVerification) {
        let id = work.verification.id;
        self.busy.insert(id, work.worktree.clone());
        let messages = self.messages.clone();
        // Not a scoped thread: an exiting worker does not wait for keepers.
        std::thread::spawn(move || {
            let outcome = catch_panic(|| work.run());
            messages.send(QueueMessage::Verified(id, Box::new(outcome))).ok();
        });
    }
}

/// Returns the state of a task's candidate, from the task's chain.
fn task_state(context: &QueueContext, entry: &QueuedEntry) -> Result<CandidateState> {
    let gone = |why: &str| Ok(CandidateState::Gone(why.to_owned()));
    let Some((run, task)) = entry.task() else { return gone("it is not a task") };
    let Some((_, state)) = context.store.task_tip(&run, &task)? else {
        return gone("its chain is gone");
    };
    let same = state.candidate.is_some_and(|candidate| candidate.commit == entry.candidate);
    match state.phase {
        Phase::Queued if same => Ok(CandidateState::Current),
        Phase::Queued => gone("it has another candidate"),
        Phase::Todo
        | Phase::Running
        | Phase::Verifying
        | Phase::Reviewing
        | Phase::Done
        | Phase::Failed
        | Phase::Skipped => gone("its run has taken it out"),
    }
}

fn settings(section: &QueueSection) -> QueueSettings {
    QueueSettings {
        batch: section.batch,
        concurrency: section.ahead,
        verify_each: section.each,
        ..QueueSettings::default()
    }
}

impl QueueHost for GitHost<'_> {
    fn read_log(&mut self, after: Option<&Oid>) -> Result<(Option<Oid>, Vec<QueueLogEntry>)> {
        self.context.store.own_queue_log(&self.context.target, after)
    }

    fn append_log(&mut self, events: &[QueueEvent]) -> Result<()> {
        self.context.store.append_queue_log(&self.context.target, events)
    }

    fn sync(&mut self) -> Result<()> {
        self.context.store.barrier()
    }

    fn target_name(&self) -> String {
        self.context.short().to_owned()
    }

    fn target(&mut self) -> Result<(Oid, Oid)> {
        let tip = self.context.tip()?;
        let tree = self.context.store.repo().tree_of(&tip)?;
        Ok((tip, tree))
    }

    fn tree_of(&mut self, commit: &Oid) -> Result<Oid> {
        self.context.store.repo().tree_of(commit)
    }

    fn rules(&mut self, tip: &Oid, entries: &[QueuedEntry]) -> Result<QueueRules> {
        let run = self.settings_run(entries);
        let owned = run.as_ref().filter(|run| run.manifest.target_created);
        let branches = entries.iter().any(|entry| entry.attempt.is_none());
        self.rules =
            if owned.is_some() && !branches { None } else { self.context.find_rules(tip)? };
        let rules = self.rules.as_ref();
        let of_run = || run.as_ref().map(|run| &run.job.queue);
        let section = match (owned, rules) {
            (Some(run), _) => Some(&run.job.queue),
            (None, Some(rules)) => Some(&rules.job.queue),
            (None, None) => of_run(),
        };
        let settings = section.map(settings).unwrap_or_default();
        self.concurrency = settings.concurrency.max(1);
        let job_file = self.rules.as_ref().map(|rules| rules.job_file.to_string());
        let review = self.rules.as_ref().is_some_and(|rules| rules.job.queue.review);
        let no_rules = self.rules.is_none();
        let changed = self.last_rule_change(tip, entries)?;
        Ok(QueueRules {
            settings,
            review,
            branches_wait: no_rules.then(|| self.context.no_rules()),
            digest: format!("{} {changed}", job_file.unwrap_or_default()),
        })
    }

    fn contained(
        &mut self,
        tip: &Oid,
        entries: &[(QueuedEntry, Oid)],
    ) -> Result<Vec<(EntryId, Option<Oid>)>> {
        let repo = self.context.store.repo();
        // The tasks of a run stand on the target's history since the run's base.
        let tasks_only = entries.iter().all(|(entry, _)| entry.attempt.is_some());
        let floor = self.runs.own().filter(|_| tasks_only).map(|run| run.base.clone());
        self.history.update(repo, tip, floor.as_ref())?;
        let mut contained = Vec::new();
        for (entry, added_on) in entries {
            if let Some((run, task)) = entry.task() {
                let landed = self.history.landed_task(&run, &task).cloned();
                contained.extend(landed.map(|commit| (entry.id.clone(), Some(commit))));
                continue;
            }
            let (id, candidate) = (&entry.id, &entry.candidate);
            if let Some(commit) = self.history.landed_since(id, candidate, Some(added_on)) {
                contained.push((id.clone(), Some(commit.clone())));
            } else if repo.is_ancestor(candidate, tip)?
                && self.history.reverted_by(repo, candidate)?.is_none()
            {
                contained.push((id.clone(), None));
            }
        }
        Ok(contained)
    }

    fn candidate_state(&mut self, entry: &QueuedEntry) -> Result<CandidateState> {
        if entry.attempt.is_some() {
            return task_state(&self.context, entry);
        }
        Ok(match self.context.store.read(&format!("refs/heads/{}", entry.id))? {
            Some(commit) if commit == entry.candidate => CandidateState::Current,
            Some(commit) => CandidateState::Moved(commit),
            None => CandidateState::Gone("its branch was deleted".to_owned()),
        })
    }

    fn needs_review(&mut self, branch: &QueuedEntry) -> Result<bool> {
        let Some(rules) = self.rules.as_ref().filter(|rules| rules.reviews_rules()) else {
            return Ok(false);
        };
        let (context, candidate) = (&self.context, &branch.candidate);
        // Of a candidate that the branch no longer has, the commits may be gone.
        if context.store.read(&format!("refs/heads/{}", branch.id))?.as_ref() != Some(candidate) {
            return Ok(true);
        }
        Ok(!context.changed_rule_files(rules, &context.tip()?, candidate)?.is_empty())
    }

    fn build(&mut self, onto: &Oid, entries: &[QueuedEntry]) -> Result<TrainBuild> {
        self.build_train(onto, entries)
    }

    fn find_conflicts(
        &mut self,
        old: &Oid,
        tip: &Oid,
        waiting: &[QueuedEntry],
    ) -> Result<Vec<(QueuedEntry, Vec<String>)>> {
        self.conflicting(old, tip, waiting)
    }

    fn conflict_sides(
        &mut self,
        tip: &Oid,
        entry: &QueuedEntry,
        paths: &[String],
    ) -> Result<Vec<ConflictedPath>> {
        self.sides(tip, entry, paths)
    }

    fn interrupted_trains(&mut self) -> Result<Vec<Vec<EntryId>>> {
        let mut trains = Vec::new();
        for dir in std::fs::read_dir(self.context.folder().join("checks")).into_iter().flatten() {
            let Some(spec) = Assignment::read(&dir?.path())? else { continue };
            let Work::Checks(work) = spec.work else { continue };
            trains.push(work.tasks.iter().filter_map(|name| EntryId::parse(name).ok()).collect());
        }
        Ok(trains)
    }

    fn line_since_fork(&mut self, tip: &Oid, entry: &QueuedEntry) -> Result<Vec<Oid>> {
        self.history_since_fork(tip, entry)
    }

    fn landed_entry(&mut self, commit: &Oid) -> Result<Option<String>> {
        Ok(self.history.landed_by(commit).map(ToString::to_string))
    }

    fn verify(&mut self, verification: &TrainVerification) -> Result<VerificationStart> {
        let entries = self.runs.all_ruled(&verification.entries)?;
        let first = verification.first.as_ref().map(|entry| self.runs.ruled(entry)).transpose()?;
        if let Some(why) = self.target_fault(&verification.onto)?
            // The entries may mend the target.
            && self.is_unwritable(&verification.tree)?
        {
            return Ok(VerificationStart::Held(why));
        }
        let worktree = self.free_worktree(&verification.tree)?;
        let root = self.worktrees(first.as_ref())?;
        let path = root.join(worktree.as_deref().unwrap_or("none"));
        let text = path.to_string_lossy().into_owned();
        let rules = self.rules.as_ref();
        let change = RulesChange::find(&self.context, verification, &entries, rules)?;
        let (first, change) = (first.as_ref(), change.as_ref());
        let mut checks = TrainChecks::new(verification, &entries, first, rules, change, &text)?;
        if checks.lacks_target_checks() && entries.iter().any(|entry| entry.task.is_none()) {
            let (short, file) = (self.context.short(), job::FILE_NAME);
            let what = format!("no check in `{short}:{file}` says anything of a branch");
            let hint = "add a `[[check]]` with `run` and without `{task…}`; without one everything would land unseen";
            return Err(Advice::new(what, hint).into());
        }
        let (of_tip, must_run) = (verification.entries.is_empty(), verification.must_run);
        if !must_run {
            checks.add_recorded_verdicts(&self.context, verification, &self.vouched)?;
        }
        let known = verify::known_verdict(&checks.steps()).filter(|_| !must_run);
        let trusted = of_tip && !must_run && checks::trusts_tip(first, &verification.onto);
        if let Some(mut report) =
            known.filter(|report| !trusted || report.verdict == Verdict::Passed)
        {
            let attempt = verification.entries.last().and_then(|entry| entry.attempt);
            if let (Verdict::Failed(findings), Some(attempt)) = (&mut report.verdict, attempt) {
                findings.iter_mut().for_each(|finding: &mut Finding| finding.attempt = attempt);
            }
            let results_by_entry = checks.results_by_entry(&report.results);
            let verdict = TrainVerdict { report, results_by_entry, note_lines: Vec::new() };
            return Ok(VerificationStart::Known(verdict));
        }
        if trusted {
            let passed = TrainVerdict::without_results(Verdict::Passed);
            return Ok(VerificationStart::Known(passed));
        }
        let Some(worktree) = worktree else { return Ok(VerificationStart::Busy) };
        self.spawn(KeeperVerification {
            context: Arc::clone(&self.context),
            verification: verification.clone(),
            checks,
            worktree,
            path,
            wait: self.wait,
        });
        Ok(VerificationStart::Started)
    }

    fn vouch(&mut self, ids: Vec<String>) {
        self.vouched.extend(ids);
    }

    fn note_verdict(&mut self, tree: &Oid, lines: Vec<String>) -> Result<()> {
        let lines = NoteLines::from([(tree.clone(), lines)]);
        self.context.store.add_notes(layout::VERDICTS, &lines)
    }

    fn sign(&mut self, landing: &TrainLanding) -> Result<SignedLanding> {
        self.sign_landing(landing)
    }

    fn prepare(&mut self, landing: &TrainLanding) -> Result<Option<LandingObstacle>> {
        self.prepare_landing(landing)
    }

    fn commit(
        &mut self,
        landing: &TrainLanding,
        log_tip: Option<&Oid>,
        event: &QueueEvent,
    ) -> Result<CommitOutcome> {
        let outcome = self.commit_landing(landing, log_tip, event);
        self.proof = None;
        outcome
    }

    fn abandon(&mut self) {
        self.proof = None;
    }

    fn landed(&mut self, landing: &TrainLanding) -> Result<Vec<String>> {
        let mut notes = self.follow(&landing.old, &landing.new)?;
        crate::failpoint::hit("land.followed");
        if let Some(why) = self.run_hooks(landing, false)? {
            notes.push(format!("after the landing: {why}"));
        }
        Ok(notes)
    }

    fn follow(&mut self, old: &Oid, new: &Oid) -> Result<Vec<String>> {
        if self.context.tip()? != *new {
            // Somebody has moved the target since: what the checkouts show is theirs.
            return Ok(Vec::new());
        }
        let behind = self.context.store.follow(&self.context.target, old, new)?;
        Ok(behind.iter().map(|checkout| checkout.message(new)).collect())
    }

    fn pull(&mut self) -> Result<Option<String>> {
        self.pull_remote()
    }

    fn show(&mut self, running: &[(TrainVerification, Timestamp)], problem: Option<&str>) {
        status::write(&self.context, running, problem);
    }

    fn report(&mut self, report: QueueReport<'_>) {
        (self.report)(report);
    }

    fn now(&mut self) -> Timestamp {
        ambient::now()
    }
}

/// Returns the paths that differ between two commits.
pub(super) fn changed_between(
    context: &QueueContext,
    a: &Oid,
    b: &Oid,
) -> Result<BTreeSet<String>> {
    let repo = context.store.repo();
    let changes = crate::repo::changed_paths(repo, &repo.tree_of(a)?, &repo.tree_of(b)?)?;
    Ok(changes.into_iter().map(|change| change.path).collect())
}
