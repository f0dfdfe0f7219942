//! The host of a simulated merge queue worker: a repository in memory, which outlives the worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::{Result, bail};
use git_harness::domain::id::{Oid, Timestamp};
use git_harness::domain::queue::{EntryId, QueueSettings};
use git_harness::domain::verdict::{CheckReport, Verdict};
use git_harness::store::LandingObstacle;
use git_harness::store::queue_log::QueueLogEntry;
use git_harness::testing::queue::{
    CandidateState, CommitOutcome, QueueHost, QueueReport, QueueRules, QueuedEntry, TrainBuild,
    TrainLanding, TrainVerdict, TrainVerification, VerificationStart,
};
use git_harness::wire::queue::{ConflictedPath, QueueEvent};

use super::world::{CandidateChange, QueueWorld};

/// Everything that outlives a worker.
pub(super) struct Repository {
    pub world: QueueWorld,
    /// The queue log, oldest first. A commit of the log is named by its position.
    pub log: Vec<QueueLogEntry>,
    /// The present candidate of each entry; `None` if the entry does not want to land any more.
    pub candidates: BTreeMap<EntryId, Option<Oid>>,
    pub settings: QueueSettings,
    pub now: u64,
    /// The number of actions until the worker is killed.
    pub kill_in: Option<u32>,
    /// The probability of a landing hold, in millionths.
    pub holds: u64,
    /// True if all candidates have forked from the root. Else no joint failure can be explained.
    pub joint: bool,
    /// True if others act while a landing is prepared.
    pub interferes: bool,
    pub covered: BTreeSet<&'static str>,
}

impl Repository {
    pub(super) fn append(&mut self, event: QueueEvent) {
        self.log.push(QueueLogEntry { at: Timestamp(self.now), event });
    }

    fn log_tip(&self) -> Option<Oid> {
        (!self.log.is_empty()).then(|| log_commit(self.log.len()))
    }
}

fn log_commit(length: usize) -> Oid {
    Oid::parse(&format!("{length:040x}")).unwrap()
}

/// The host of a worker. Verifications under way end with it.
pub(super) struct SimulatedHost {
    pub repository: Rc<RefCell<Repository>>,
    pub started: Vec<TrainVerification>,
}

impl SimulatedHost {
    /// Counts an action, and kills the worker if its time has come.
    fn act(&self) -> Result<()> {
        let mut repository = self.repository.borrow_mut();
        repository.now += 7;
        match &mut repository.kill_in {
            Some(0) => bail!("killed"),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn pairs(entries: &[QueuedEntry]) -> Vec<(EntryId, Oid)> {
        entries.iter().map(|entry| (entry.id.clone(), entry.candidate.clone())).collect()
    }
}

/// Returns a verdict without results.
pub(super) fn verdict(verdict: Verdict) -> TrainVerdict {
    let report = CheckReport { verdict, results: Vec::new() };
    TrainVerdict { report, results_by_entry: BTreeMap::new(), note_lines: Vec::new() }
}

impl QueueHost for SimulatedHost {
    fn read_log(&mut self, after: Option<&Oid>) -> Result<(Option<Oid>, Vec<QueueLogEntry>)> {
        self.act()?;
        let repository = self.repository.borrow();
        let position =
            |id: &Oid| usize::from_str_radix(id.as_str().trim_start_matches('0'), 16).unwrap();
        let new = repository.log[after.map_or(0, position)..].to_vec();
        Ok((repository.log_tip(), new))
    }

    fn append_log(&mut self, events: &[QueueEvent]) -> Result<()> {
        self.act()?;
        events.iter().for_each(|event| self.repository.borrow_mut().append(event.clone()));
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.act()
    }

    fn target_name(&self) -> String {
        "main".into()
    }

    fn target(&mut self) -> Result<(Oid, Oid)> {
        Ok(self.repository.borrow().world.tip())
    }

    fn tree_of(&mut self, commit: &Oid) -> Result<Oid> {
        Ok(self.repository.borrow().world.tree_of(commit))
    }

    fn rules(&mut self, _tip: &Oid, _entries: &[QueuedEntry]) -> Result<QueueRules> {
        let settings = self.repository.borrow().settings;
        Ok(QueueRules { settings, review: false, branches_wait: None, digest: String::new() })
    }

    fn contained(
        &mut self,
        tip: &Oid,
        entries: &[(QueuedEntry, Oid)],
    ) -> Result<Vec<(EntryId, Option<Oid>)>> {
        self.act()?;
        let repository = self.repository.borrow();
        let world = &repository.world;
        let contained = entries.iter().filter(|(entry, added_on)| {
            let number = world.number(&entry.candidate);
            world.contains(tip, number) && !world.contains(added_on, number)
        });
        Ok(contained.map(|(entry, _)| (entry.id.clone(), None)).collect())
    }

    fn candidate_state(&mut self, entry: &QueuedEntry) -> Result<CandidateState> {
        self.act()?;
        let repository = self.repository.borrow();
        Ok(match &repository.candidates[&entry.id] {
            Some(candidate) if *candidate == entry.candidate => CandidateState::Current,
            Some(_) if entry.attempt.is_some() => CandidateState::Gone("another candidate".into()),
            Some(candidate) => CandidateState::Moved(candidate.clone()),
            None => CandidateState::Gone("it is gone".into()),
        })
    }

    fn needs_review(&mut self, _branch: &QueuedEntry) -> Result<bool> {
        Ok(false)
    }

    fn build(&mut self, onto: &Oid, entries: &[QueuedEntry]) -> Result<TrainBuild> {
        self.act()?;
        let mut repository = self.repository.borrow_mut();
        let (mut build, mut pairs) = (TrainBuild::default(), Vec::new());
        for (id, candidate) in Self::pairs(entries) {
            let number = repository.world.number(&candidate);
            if repository.world.contains(onto, number) {
                repository.covered.insert("content on the target already");
                build.contained.push(id);
            } else if repository.world.refuses(number) {
                repository.covered.insert("refused entry");
                build.refused.push((id, "it breaks the rules".into()));
            } else {
                pairs.push((id, candidate));
            }
        }
        (build.cars, build.conflicts) = repository.world.merge(onto, &pairs);
        Ok(build)
    }

    fn find_conflicts(
        &mut self,
        _old: &Oid,
        tip: &Oid,
        waiting: &[QueuedEntry],
    ) -> Result<Vec<(QueuedEntry, Vec<String>)>> {
        self.act()?;
        let mut repository = self.repository.borrow_mut();
        let mut conflicts = Vec::new();
        for entry in waiting {
            let alone = Self::pairs(std::slice::from_ref(entry));
            let (_, conflict) = repository.world.merge(tip, &alone);
            conflicts.extend(conflict.into_iter().map(|c| (entry.clone(), c.paths)));
        }
        Ok(conflicts)
    }

    fn conflict_sides(
        &mut self,
        _tip: &Oid,
        _entry: &QueuedEntry,
        paths: &[String],
    ) -> Result<Vec<ConflictedPath>> {
        let side = |path: &String| ConflictedPath {
            path: path.clone(),
            base: None,
            target: None,
            branch: None,
            landed: Vec::new(),
        };
        Ok(paths.iter().map(side).collect())
    }

    fn interrupted_trains(&mut self) -> Result<Vec<Vec<EntryId>>> {
        Ok(Vec::new())
    }

    fn line_since_fork(&mut self, tip: &Oid, _entry: &QueuedEntry) -> Result<Vec<Oid>> {
        self.act()?;
        let repository = self.repository.borrow();
        Ok(if repository.joint { repository.world.line(tip) } else { Vec::new() })
    }

    fn landed_entry(&mut self, commit: &Oid) -> Result<Option<String>> {
        let number = self.repository.borrow().world.change_of(commit);
        Ok(number.map(|number| format!("change {number}")))
    }

    fn verify(&mut self, verification: &TrainVerification) -> Result<VerificationStart> {
        self.act()?;
        let mut repository = self.repository.borrow_mut();
        let line = repository.world.line(&verification.commit);
        assert!(
            line.contains(&verification.onto),
            "judged against what the train does not stand on"
        );
        if !verification.must_run && repository.world.proven.contains(&verification.tree) {
            return Ok(VerificationStart::Known(verdict(Verdict::Passed)));
        }
        if self.started.len() >= repository.settings.concurrency {
            return Ok(VerificationStart::Busy);
        }
        let tasks = verification.entries.iter().filter(|entry| entry.attempt.is_some()).count();
        if tasks > 0 && tasks < verification.entries.len() {
            repository.covered.insert("branches and tasks in one train");
        }
        self.started.push(verification.clone());
        Ok(VerificationStart::Started)
    }

    fn vouch(&mut self, _ids: Vec<String>) {}

    fn note_verdict(&mut self, _tree: &Oid, _lines: Vec<String>) -> Result<()> {
        self.act()
    }

    fn prepare(&mut self, _landing: &TrainLanding) -> Result<Option<LandingObstacle>> {
        self.act()?;
        let mut repository = self.repository.borrow_mut();
        if repository.interferes && repository.world.random.chance(100_000) {
            // Somebody else moves the target or writes to the log while the landing is prepared.
            if repository.world.random.chance(500_000) {
                let number = repository.world.change(CandidateChange::default()).0;
                repository.world.push(number);
            } else {
                repository.append(QueueEvent::Resumed { by: "a person".into() });
            }
        }
        let holds = repository.holds;
        if repository.world.random.chance(holds) {
            repository.covered.insert("landing on hold");
            return Ok(Some("a checkout is in the way".to_owned().into()));
        }
        Ok(None)
    }

    fn commit(
        &mut self,
        landing: &TrainLanding,
        log_tip: Option<&Oid>,
        event: &QueueEvent,
    ) -> Result<CommitOutcome> {
        self.act()?;
        let mut repository = self.repository.borrow_mut();
        if repository.log_tip().as_ref() != log_tip {
            repository.covered.insert("log moved before the landing");
            return Ok(CommitOutcome::Superseded);
        }
        let cars: Vec<(EntryId, Oid)> =
            landing.cars.iter().map(|c| (c.entry.id.clone(), c.entry.candidate.clone())).collect();
        let each = repository.settings.verify_each;
        if !repository.world.land(&landing.old, &landing.new, &cars, each) {
            repository.covered.insert("target moved before the landing");
            return Ok(CommitOutcome::Superseded);
        }
        drop(repository);
        // A transaction over several refs is not atomic against a crash.
        if let Err(killed) = self.act() {
            self.repository.borrow_mut().covered.insert("killed after the target moved");
            return Err(killed);
        }
        self.repository.borrow_mut().append(event.clone());
        Ok(CommitOutcome::Landed)
    }

    fn abandon(&mut self) {}

    fn landed(&mut self, _landing: &TrainLanding) -> Result<Vec<String>> {
        self.act()?;
        Ok(Vec::new())
    }

    fn follow(&mut self, _old: &Oid, _new: &Oid) -> Result<Vec<String>> {
        self.act()?;
        Ok(Vec::new())
    }

    fn pull(&mut self) -> Result<Option<String>> {
        Ok(None)
    }

    fn show(&mut self, _running: &[(TrainVerification, Timestamp)], _problem: Option<&str>) {}

    fn report(&mut self, _report: QueueReport<'_>) {}

    fn now(&mut self) -> Timestamp {
        Timestamp(self.repository.borrow().now)
    }
}
