//! The checks that decide about a train's prefix: the pinned checks of each task's run, and the
//! target's own checks.
//!
//! The target's checks apply to branches, and to tasks of a run that did not create the target.
//! If a run and the target have the same check, it runs once.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use super::context::{QueueContext, TargetRules};
use super::host::{QueuedEntry, TrainVerification};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::queue::EntryId;
use crate::domain::verdict::CheckResult;
use crate::engine::{Context, target_checks};
use crate::job::{BaseCheck, Job};
use crate::verify::{self, CheckStage, CheckSubject};
use crate::wire::keeper::CheckStep;

/// An entry with the run of its task.
#[derive(Debug, Clone)]
pub(super) struct RuledEntry {
    pub entry: QueuedEntry,
    /// The run and the task. `None` for a branch.
    pub task: Option<(Arc<Context>, TaskId)>,
}

impl RuledEntry {
    /// Returns the run of a task's entry.
    pub(super) fn run(&self) -> Option<&Arc<Context>> {
        self.task.as_ref().map(|(run, _)| run)
    }

    /// Returns true if the target's own checks apply. A run that created its target owns it.
    fn needs_target_checks(&self) -> bool {
        self.run().is_none_or(|run| !run.manifest.target_created)
    }
}

/// The steps of one job.
#[derive(Debug)]
struct StepGroup {
    /// The run of the job. `None` for the target.
    run: Option<Arc<Context>>,
    steps: Vec<CheckStep>,
}

/// The checks of a train's prefix, and what their worktree needs.
#[derive(Debug)]
pub(super) struct TrainChecks {
    groups: Vec<StepGroup>,
    rules: Option<Arc<TargetRules>>,
    /// For each task, the group and the position of its steps.
    by_task: BTreeMap<EntryId, Vec<(usize, usize)>>,
    /// The commands that set the worktree up.
    pub setup: Vec<Vec<String>>,
    /// The patterns of files that the worktree keeps between verifications.
    pub keep: Vec<String>,
    /// The files that are laid over the worktree.
    pub overlay: Vec<(String, PathBuf)>,
}

impl TrainChecks {
    /// Returns the checks of a verification. `worktree` is the path of the check worktree.
    pub(super) fn new(
        verification: &TrainVerification,
        entries: &[RuledEntry],
        first: Option<&RuledEntry>,
        rules: Option<&Arc<TargetRules>>,
        worktree: &str,
    ) -> Result<Self> {
        // The tip contains no entry. It must pass the checks that the first entry must pass.
        let of_tip = entries.is_empty().then_some(first).flatten();
        let ruled = || entries.iter().chain(of_tip);
        let rules = rules.filter(|_| ruled().any(RuledEntry::needs_target_checks));
        let mut checks = Self {
            groups: Vec::new(),
            rules: rules.cloned(),
            by_task: BTreeMap::new(),
            setup: Vec::new(),
            keep: Vec::new(),
            overlay: Vec::new(),
        };
        for ruled in entries {
            checks.add_task(ruled, worktree)?;
        }
        if let Some(run) = of_tip.and_then(RuledEntry::run) {
            let subject =
                CheckSubject { run: &run.run, task: None, base: &verification.tip, worktree };
            let steps = verify::steps(&run.job, CheckStage::Landing, &subject, &run.salt);
            checks.group_of(run, steps);
            checks.add_worktree_rules(&run.job, &run.check_overlay());
        }
        if let Some(rules) = rules {
            checks.add_target(rules, &verification.tip, worktree)?;
        }
        Ok(checks)
    }

    /// Adds steps to the group of a run. Returns the positions of the steps. Equal steps are
    /// shared: a step without placeholders is the same for all tasks.
    fn group_of(&mut self, run: &Arc<Context>, steps: Vec<CheckStep>) -> Vec<(usize, usize)> {
        let same = |group: &StepGroup| group.run.as_ref().is_some_and(|r| r.run == run.run);
        let at = self.groups.iter().position(same).unwrap_or_else(|| {
            self.groups.push(StepGroup { run: Some(Arc::clone(run)), steps: Vec::new() });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at].steps;
        let place = |step: CheckStep| {
            let known = group.iter().position(|known| *known == step);
            let position = known.unwrap_or_else(|| {
                group.push(step);
                group.len() - 1
            });
            (at, position)
        };
        steps.into_iter().map(place).collect()
    }

    fn add_task(&mut self, ruled: &RuledEntry, worktree: &str) -> Result<()> {
        let RuledEntry { entry, task } = ruled;
        let (Some((run, task)), Some(attempt)) = (task, entry.attempt) else { return Ok(()) };
        let planned = run.task(task)?;
        let base = run.store.task_tip(&run.run, task)?.and_then(|(_, state)| state.candidate);
        let base = base.map_or_else(|| run.base.clone(), |candidate| candidate.base);
        let subject = CheckSubject {
            run: &run.run,
            task: Some((task, &planned.files, attempt)),
            base: &base,
            worktree,
        };
        let steps = verify::steps(&run.job, CheckStage::Landing, &subject, &run.salt);
        let own = self.group_of(run, steps);
        self.by_task.insert(entry.id.clone(), own);
        self.add_worktree_rules(&run.job, &run.check_overlay());
        Ok(())
    }

    /// Adds the target's checks, except those that a run has too.
    fn add_target(&mut self, rules: &Arc<TargetRules>, tip: &Oid, worktree: &str) -> Result<()> {
        let run = RunId::parse("queue")?;
        let subject = CheckSubject { run: &run, task: None, base: tip, worktree };
        let mut steps = verify::steps(&rules.job, CheckStage::Landing, &subject, &rules.salt);
        let runs = self.groups.iter().filter_map(|group| group.run.as_ref());
        if runs.clone().next().is_some()
            && runs.clone().all(|run| target_checks::has_same_files(run, rules))
        {
            let own = || self.groups.iter().flat_map(|group| &group.steps);
            steps.retain(|step| !target_checks::has_step(own(), step));
        }
        let (at, count) = (self.groups.len(), steps.len());
        self.groups.push(StepGroup { run: None, steps });
        for own in self.by_task.values_mut() {
            own.extend((0..count).map(|position| (at, position)));
        }
        let pinned: HashSet<String> = self.pinned_by_runs();
        let overlay: Vec<_> =
            rules.overlay.iter().filter(|(path, _)| !pinned.contains(path)).cloned().collect();
        self.add_worktree_rules(&rules.job, &overlay);
        Ok(())
    }

    fn pinned_by_runs(&self) -> HashSet<String> {
        let runs = self.groups.iter().filter_map(|group| group.run.as_ref());
        runs.flat_map(|run| run.overlay.iter().map(|(path, _)| path.clone())).collect()
    }

    fn add_worktree_rules(&mut self, job: &Job, overlay: &[(String, PathBuf)]) {
        for command in &job.worktree.setup {
            if !self.setup.contains(command) {
                self.setup.push(command.clone());
            }
        }
        for pattern in job.worktree.keep.patterns() {
            if !self.keep.contains(pattern) {
                self.keep.push(pattern.clone());
            }
        }
        for (path, copy) in overlay {
            if !self.overlay.iter().any(|(known, _)| known == path) {
                self.overlay.push((path.clone(), copy.clone()));
            }
        }
    }

    /// Returns true if there is nothing to check.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.steps.is_empty())
    }

    /// Returns true if the target's checks are among the checks, and there are none.
    pub(super) fn lacks_target_checks(&self) -> bool {
        self.rules.is_some() && self.is_empty()
    }

    /// Returns all steps in order.
    pub(super) fn steps(&self) -> Vec<CheckStep> {
        self.groups.iter().flat_map(|group| group.steps.iter().cloned()).collect()
    }

    /// Adds the recorded verdicts on the tree. A note counts if the queue log or the chain of a
    /// step's run vouches for it, or if the job of the step trusts notes.
    pub(super) fn add_recorded_verdicts(
        &mut self,
        context: &QueueContext,
        verification: &TrainVerification,
        vouched: &HashSet<String>,
    ) -> Result<()> {
        let (voucher, repeated) = (context.voucher(), verification.is_repeated());
        let tree = &verification.tree;
        for group in &mut self.groups {
            let run = group.run.as_deref();
            let target_job = self.rules.as_ref().map(|rules| &rules.job);
            let Some(job) = run.map(|run| &run.job).or(target_job) else { continue };
            let steps = &mut group.steps;
            verify::add_recorded_verdicts_if(&context.store, job, tree, steps, &|line, cached| {
                if repeated && !line.pass {
                    return Ok(false);
                }
                if !cached {
                    return Ok(verification.logged_results.contains(&line.id));
                }
                if job.queue.trust_verdicts || (line.run == voucher && vouched.contains(&line.id)) {
                    return Ok(true);
                }
                match run {
                    // A failure that the chain has was this task's own, before a person had the
                    // task accepted.
                    Some(run) if line.pass => {
                        verify::is_vouched_by_run(&context.store, &run.run, line)
                    }
                    Some(_) | None => Ok(false),
                }
            })?;
        }
        Ok(())
    }

    /// Splits results, in the order of the steps, by task.
    pub(super) fn results_by_entry(
        &self,
        results: &[CheckResult],
    ) -> BTreeMap<EntryId, Vec<CheckResult>> {
        let mut starts = vec![0];
        for group in &self.groups {
            starts.push(starts.last().copied().unwrap_or(0) + group.steps.len());
        }
        let share = |own: &Vec<(usize, usize)>| {
            own.iter().filter_map(|(at, n)| results.get(starts.get(*at)? + n)).cloned().collect()
        };
        self.by_task.iter().map(|(entry, own)| (entry.clone(), share(own))).collect()
    }
}

/// Returns the reason why the entries cannot be verified in one worktree: a run and the target pin
/// different versions of a file that their checks name.
pub(super) fn pinned_conflict(
    context: &QueueContext,
    entries: &[RuledEntry],
    rules: Option<&TargetRules>,
) -> Option<String> {
    let rules = rules?;
    let runs = entries.iter().filter(|entry| entry.needs_target_checks());
    let mut runs = runs.filter_map(RuledEntry::run);
    let path = runs.find_map(|run| target_checks::conflicting_file(run, rules))?;
    Some(target_checks::conflict_message(&context.target, &path))
}

/// Returns the entries that can be verified together with those before them: the runs' pinned files
/// at one path are the same.
pub(super) fn compatible(entries: &[RuledEntry]) -> Vec<bool> {
    let mut pinned: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut fits = Vec::with_capacity(entries.len());
    for entry in entries {
        let overlay = entry.run().map(|run| run.check_overlay()).unwrap_or_default();
        let differs = |(path, copy): &(String, PathBuf)| {
            pinned
                .get(path)
                .is_some_and(|known| known != copy && !target_checks::is_same_file(known, copy))
        };
        let fit = !overlay.iter().any(differs);
        if fit {
            pinned.extend(overlay);
        }
        fits.push(fit);
    }
    fits
}

/// Returns true if a tip counts as passing without a verification: the run started from it and
/// verified it then, or the job does not require a passing base.
pub(super) fn trusts_tip(first: Option<&RuledEntry>, tip: &Oid) -> bool {
    let run = first.and_then(RuledEntry::run);
    run.is_some_and(|run| run.job.job.base_check != BaseCheck::Stop || run.base == *tip)
}
