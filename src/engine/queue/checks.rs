//! The checks that decide about a train's prefix: the pinned checks of each task's run, and the
//! target's own checks.
//!
//! The target's checks apply to branches, and to tasks of a run that did not create the target.
//! If a run and the target have the same check, it runs once.
//!
//! A tree that changes rule files is verified twice in one verification: as it is, with the checks
//! of its own `harness.toml`, and with the rule files as on the tip. Both must pass.

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
use crate::job::{self, BaseCheck, Job, SandboxSection};
use crate::repo;
use crate::verify::rules::RuleFiles;
use crate::verify::{self, CheckStage, CheckSubject, NO_FILES};
use crate::wire::keeper::{CheckStep, RulesPutBack};

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
    pub(super) fn needs_target_checks(&self) -> bool {
        self.run().is_none_or(|run| !run.manifest.target_created)
    }
}

/// The job of steps.
#[derive(Debug, Clone)]
enum GroupJob {
    /// The pinned job of a run.
    Run(Arc<Context>),
    /// The `harness.toml` of the target, or of the verified tree.
    Target(Arc<Job>),
}

impl GroupJob {
    fn run(&self) -> Option<&Arc<Context>> {
        match self {
            Self::Run(run) => Some(run),
            Self::Target(_) => None,
        }
    }

    fn job(&self) -> &Job {
        match self {
            Self::Run(run) => &run.job,
            Self::Target(job) => job,
        }
    }
}

/// The steps of one job.
#[derive(Debug)]
struct StepGroup {
    job: GroupJob,
    steps: Vec<CheckStep>,
}

/// The rule files that a tree changes.
#[derive(Debug)]
pub(super) struct RulesChange {
    /// The tree with the rule files as on the tip.
    tree: Oid,
    put_back: RulesPutBack,
    /// The `harness.toml` of the verified tree, if that file is among the changed files.
    job: Option<Arc<Job>>,
}

impl RulesChange {
    /// Returns the rule files that the tree of a verification changes, or `None` if it changes
    /// none.
    pub(super) fn find(
        context: &QueueContext,
        verification: &TrainVerification,
        entries: &[RuledEntry],
        rules: Option<&Arc<TargetRules>>,
    ) -> Result<Option<Self>> {
        let (repo, commit) = (context.store.repo(), &verification.commit);
        let tip = repo.tree_of(&verification.onto)?;
        let files = rule_files(entries, rules.map(|rules| &**rules)).in_tree(repo, &tip)?;
        let (tree, files) =
            repo::restore_paths(repo, &verification.tree, &tip, &|path| files.has(path))?;
        if files.is_empty() {
            return Ok(None);
        }
        let changes_job = rules.is_some() && files.iter().any(|file| file == job::FILE_NAME);
        let job = if changes_job { context.job_in(&verification.tree)? } else { None };
        // The same commit each time: the assignment may be given a second time.
        let time = repo::commit_info(repo, commit)?.time;
        let (parents, who) = ([commit.clone()], &context.identity);
        let message = "Rule files as on the target\n";
        let commit = repo::commit(repo, &tree, &parents, message, who, time)?;
        let put_back = RulesPutBack { commit: commit.to_string(), files };
        Ok(Some(Self { tree, put_back, job: job.map(|(job, _)| Arc::new(job)) }))
    }
}

/// Returns the rule files of the runs of entries and of the target.
pub(super) fn rule_files(entries: &[RuledEntry], rules: Option<&TargetRules>) -> RuleFiles {
    let mut files = rules.map(TargetRules::rule_files).unwrap_or_default();
    let mut runs: Vec<&Arc<Context>> = Vec::new();
    for run in entries.iter().filter_map(RuledEntry::run) {
        if !runs.iter().any(|known| known.run == run.run) {
            files.extend(run.rule_files());
            runs.push(run);
        }
    }
    files
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
    /// The patterns of files whose change makes these commands run again.
    pub setup_inputs: Vec<String>,
    /// The patterns of files that the worktree keeps between verifications.
    pub keep: Vec<String>,
    /// The files that the runs' jobs provide.
    pub provided: Vec<(String, PathBuf)>,
    /// The sandbox that the jobs want together.
    pub sandbox: SandboxSection,
}

impl TrainChecks {
    /// Returns the checks of a verification. `worktree` is the path of the check worktree.
    pub(super) fn new(
        verification: &TrainVerification,
        entries: &[RuledEntry],
        first: Option<&RuledEntry>,
        rules: Option<&Arc<TargetRules>>,
        change: Option<&RulesChange>,
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
            setup_inputs: Vec::new(),
            keep: Vec::new(),
            provided: Vec::new(),
            sandbox: SandboxSection::OFF,
        };
        for ruled in entries {
            checks.add_task(ruled, worktree)?;
        }
        if let Some(run) = of_tip.and_then(RuledEntry::run) {
            let subject =
                CheckSubject { run: &run.run, task: None, base: &verification.onto, worktree };
            let steps = verify::steps(&run.job, CheckStage::Landing, &subject, &run.salt);
            checks.group_of(run, steps);
            checks.add_worktree_rules(&run.job, &run.provided);
        }
        let of_runs = checks.groups.len();
        if let Some(rules) = rules {
            let own_job = change.and_then(|change| change.job.as_ref());
            let job = own_job.unwrap_or(&rules.job);
            let group = checks.target_group(job, &verification.onto, worktree)?;
            checks.add_to_all(group);
            checks.add_worktree_rules(job, &[]);
            checks.sandbox.join(&rules.job.sandbox);
        }
        if let Some(change) = change {
            checks.add_put_back(change, of_runs, &verification.onto, worktree)?;
        }
        for group in &mut checks.groups {
            verify::add_setup(&mut group.steps, &checks.setup, &checks.setup_inputs);
        }
        Ok(checks)
    }

    /// Adds steps to the group of a run. Returns the positions of the steps. Equal steps are
    /// shared: a step without placeholders is the same for all tasks.
    fn group_of(&mut self, run: &Arc<Context>, steps: Vec<CheckStep>) -> Vec<(usize, usize)> {
        let same = |group: &StepGroup| group.job.run().is_some_and(|r| r.run == run.run);
        let at = self.groups.iter().position(same).unwrap_or_else(|| {
            let job = GroupJob::Run(Arc::clone(run));
            self.groups.push(StepGroup { job, steps: Vec::new() });
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
        self.add_worktree_rules(&run.job, &run.provided);
        Ok(())
    }

    /// Returns the target's checks of a job, except those that a run has too.
    fn target_group(&self, job: &Arc<Job>, tip: &Oid, worktree: &str) -> Result<StepGroup> {
        let run = RunId::parse("queue")?;
        let subject = CheckSubject { run: &run, task: None, base: tip, worktree };
        let mut steps = verify::steps(job, CheckStage::Landing, &subject, NO_FILES);
        let own = || self.groups.iter().flat_map(|group| &group.steps);
        steps.retain(|step| !target_checks::has_step(own(), step));
        Ok(StepGroup { job: GroupJob::Target(Arc::clone(job)), steps })
    }

    /// Adds a group whose steps every task must pass.
    fn add_to_all(&mut self, group: StepGroup) {
        let at = self.groups.len();
        for own in self.by_task.values_mut() {
            own.extend((0..group.steps.len()).map(|position| (at, position)));
        }
        self.groups.push(group);
    }

    /// Adds the verification of the tree with the rule files as on the tip: the steps of the first
    /// `of_runs` groups, and the target's checks as on the tip.
    fn add_put_back(
        &mut self,
        change: &RulesChange,
        of_runs: usize,
        tip: &Oid,
        worktree: &str,
    ) -> Result<()> {
        let of_runs = self.groups.get(..of_runs).unwrap_or_default();
        let mut groups: Vec<StepGroup> = of_runs
            .iter()
            .map(|group| StepGroup { job: group.job.clone(), steps: group.steps.clone() })
            .collect();
        if let Some(rules) = &self.rules {
            let run = RunId::parse("queue")?;
            let subject = CheckSubject { run: &run, task: None, base: tip, worktree };
            let mut steps = verify::steps(&rules.job, CheckStage::Landing, &subject, NO_FILES);
            let own = || groups.iter().flat_map(|group| &group.steps);
            steps.retain(|step| !target_checks::has_step(own(), step));
            groups.push(StepGroup { job: GroupJob::Target(Arc::clone(&rules.job)), steps });
        }
        for mut group in groups {
            for step in &mut group.steps {
                step.salt = format!("{} {}", step.salt, change.tree);
                step.put_back = Some(change.put_back.clone());
            }
            self.add_to_all(group);
        }
        Ok(())
    }

    fn add_worktree_rules(&mut self, job: &Job, provided: &[(String, PathBuf)]) {
        self.sandbox.join(&job.sandbox);
        for command in &job.worktree.setup {
            if !self.setup.contains(command) {
                self.setup.push(command.clone());
            }
        }
        for pattern in &job.worktree.setup_inputs {
            if !self.setup_inputs.contains(pattern) {
                self.setup_inputs.push(pattern.clone());
            }
        }
        for pattern in job.worktree.keep.patterns() {
            if !self.keep.contains(pattern) {
                self.keep.push(pattern.clone());
            }
        }
        for (path, copy) in provided {
            if !self.provided.iter().any(|(known, _)| known == path) {
                self.provided.push((path.clone(), copy.clone()));
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
        let since = context.fresh_since();
        for group in &mut self.groups {
            let StepGroup { job, steps } = group;
            let (run, job) = (job.run(), job.job());
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
            verify::forget_older_verdicts(steps, since);
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

/// Returns the entries that can be verified together with those before them: the files that
/// the runs' jobs provide at one path are the same.
pub(super) fn compatible(entries: &[RuledEntry]) -> Vec<bool> {
    let mut known: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut fits = Vec::with_capacity(entries.len());
    for entry in entries {
        let provided = entry.run().map_or(&[][..], |run| run.provided.as_slice());
        let differs = |(path, copy): &(String, PathBuf)| {
            let other = known.get(path);
            other.is_some_and(|other| other != copy && !target_checks::is_same_file(other, copy))
        };
        let fit = !provided.iter().any(differs);
        if fit {
            known.extend(provided.iter().cloned());
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
