//! The constant part of the work on a queue: the repository, the target, and the rules of the
//! target's tip.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, bail};

use super::service::worker_lock;
use super::worker::live_entries;
use crate::ambient;
use crate::domain::id::{Oid, Timestamp};
use crate::engine::Keepers;
use crate::error::Advice;
use crate::job::{self, Job, RulesChangeMode, SandboxMode, SandboxSection};
use crate::keeper::{self, files};
use crate::landing::Merger;
use crate::process::{Lock, write_executable};
use crate::repo::{self, Identity};
use crate::sandbox::{self, MachineFacts, SandboxChoice};
use crate::store::{Store, layout};
use crate::verify::rules::RuleFiles;
use crate::wire::keeper::SandboxSpec;

/// The constant part of the work on a queue.
#[derive(Debug)]
pub(crate) struct QueueContext {
    /// The store.
    pub store: Store,
    /// The full ref name of the target.
    pub target: String,
    /// The started keepers.
    pub keepers: Keepers,
    /// The environment of this process.
    pub environment: BTreeMap<OsString, OsString>,
    /// The committer.
    pub identity: Identity,
    /// The merges.
    pub merger: Merger,
    /// The time before which recorded verdicts do not count.
    fresh_since: OnceLock<Timestamp>,
    /// The rules of the tip that was read last.
    rules: Mutex<Option<(Oid, Option<Arc<TargetRules>>)>>,
}

/// The rules of a commit of the target for whatever wants to land on it.
#[derive(Debug, PartialEq)]
pub(crate) struct TargetRules {
    /// The commit's `harness.toml`. Only `[queue]`, `[[check]]`, `[scope] protect` and `[worktree]`
    /// are used.
    pub job: Arc<Job>,
    /// The files that the landing hooks name, as in the commit, with their written copies.
    pub hook_files: Vec<(String, PathBuf)>,
    /// The id of the `harness.toml` blob.
    pub job_file: Oid,
    /// The folder of the check worktrees.
    pub worktrees: PathBuf,
}

impl TargetRules {
    /// Returns true if branches that change rule files need an approval.
    pub(crate) fn reviews_rules(&self) -> bool {
        !self.job.queue.review && self.job.queue.rules_change == RulesChangeMode::Review
    }

    /// Returns the rule files of the target.
    pub(crate) fn rule_files(&self) -> RuleFiles {
        RuleFiles::of(&self.job, job::FILE_NAME)
    }
}

impl QueueContext {
    /// Creates the context for a target.
    pub(crate) fn new(
        store: Store,
        target: String,
        program: PathBuf,
        environment: BTreeMap<OsString, OsString>,
    ) -> Self {
        let identity = store.repo().identity();
        let (keepers, rules) = (Keepers::new(program), Mutex::new(None));
        let merger = Merger::new(&store);
        let fresh_since = OnceLock::new();
        Self { store, target, keepers, environment, identity, merger, fresh_since, rules }
    }

    /// Ignores the verdicts that are recorded now, and has the check worktrees set up again.
    pub(crate) fn ask_again(&self) -> Result<()> {
        self.fresh_since.get_or_init(ambient::now);
        keeper::forget_setups(&self.folder().join("worktrees"), None)
    }

    /// Returns the time before which recorded verdicts do not count.
    pub(crate) fn fresh_since(&self) -> Timestamp {
        self.fresh_since.get().copied().unwrap_or_default()
    }

    /// Returns the sandbox that `[sandbox]` of a job chooses. `worktrees` is the folder that holds
    /// the worktrees of all runs and queues.
    pub(crate) fn choose_sandbox(
        &self,
        wanted: &SandboxSection,
        worktrees: &Path,
    ) -> SandboxChoice {
        let repo = self.store.repo();
        match wanted.mode {
            SandboxMode::Off => SandboxChoice::Off,
            SandboxMode::Auto | SandboxMode::Require => sandbox::choose(&MachineFacts {
                environment: &self.environment,
                common_dir: repo.common_dir(),
                work_tree: repo.work_dir(),
                worktrees,
                caches: &wanted.caches,
            }),
        }
    }

    /// Returns the sandbox of commands, with or without the machine's network. Returns `None` for
    /// commands with the rights of the user.
    ///
    /// # Errors
    ///
    /// Fails if the mode requires a sandbox and the machine has none.
    pub(crate) fn sandbox(
        &self,
        wanted: &SandboxSection,
        worktrees: &Path,
        network: bool,
    ) -> Result<Option<SandboxSpec>> {
        let choice = self.choose_sandbox(wanted, worktrees);
        if let (SandboxChoice::Unavailable(why), SandboxMode::Require) = (&choice, wanted.mode) {
            bail!(no_sandbox(why));
        }
        let spec = choice.spec(network);
        if spec.is_none() {
            self.store.note_unsandboxed();
        }
        Ok(spec)
    }

    /// Returns the target's name for people.
    pub(crate) fn short(&self) -> &str {
        layout::short(&self.target)
    }

    /// Returns the name of the queue in refs and folders.
    pub(crate) fn key(&self) -> String {
        layout::target_key(&self.target)
    }

    /// Returns the folder of the queue's local files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.store.local().queue(&self.key())
    }

    /// Returns the name that verdict notes have if the queue log vouches for them. No run has such
    /// a name.
    pub(crate) fn voucher(&self) -> String {
        format!("queue:{}", self.key())
    }

    /// Returns the target's tip.
    pub(crate) fn tip(&self) -> Result<Oid> {
        self.store.read(&self.target)?.ok_or_else(|| {
            let what = format!("there is no branch `{}`", self.short());
            Advice::new(what, "name the branch that receives the work with `--target`").into()
        })
    }

    /// Returns the rules of a commit of the target, never those of a branch that wants to land. A
    /// commit without `harness.toml` is an error.
    pub(crate) fn rules(&self, tip: &Oid) -> Result<Arc<TargetRules>> {
        self.find_rules(tip)?.ok_or_else(|| {
            let hint = "commit one there with the checks that a branch must pass: `[[check]]` with `name` and `run`; \
                        `man githarness-job` has every key";
            Advice::new(self.no_rules(), hint).into()
        })
    }

    /// Returns the message that a tip has no rules.
    pub(crate) fn no_rules(&self) -> String {
        format!("the tip of `{}` has no `{}`", self.short(), job::FILE_NAME)
    }

    /// Returns the rules of a commit of the target, or `None` if it has no `harness.toml`.
    pub(crate) fn find_rules(&self, tip: &Oid) -> Result<Option<Arc<TargetRules>>> {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((commit, rules)) = &*known
            && commit == tip
        {
            return Ok(rules.clone());
        }
        let new = self.read_rules(tip)?;
        let rules = match (known.take(), new) {
            (Some((_, Some(old))), Some(new)) if *old == new => Some(old),
            (_, new) => new.map(Arc::new),
        };
        *known = Some((tip.clone(), rules.clone()));
        Ok(rules)
    }

    fn read_rules(&self, tip: &Oid) -> Result<Option<TargetRules>> {
        let repo = self.store.repo();
        let tree = repo.tree_of(tip)?;
        let Some((job, job_file)) = self.job_in(&tree)? else { return Ok(None) };
        let mut found = Vec::new();
        for path in job::files_of_hooks(&job) {
            let Some(bytes) = repo.read_blob_at(&tree, &path)? else { continue };
            found.push((path, bytes));
        }
        let files = found.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        // One folder for each set of files: a hook that still runs must not find new files.
        let folder = self.folder().join("pinned").join(repo::hash_files(files)?);
        let mut hook_files = Vec::with_capacity(found.len());
        for (path, bytes) in found {
            let to = folder.join(&path);
            write_executable(&to, &bytes)
                .with_context(|| format!("cannot write {}", to.display()))?;
            hook_files.push((path, to));
        }
        let worktrees = self.worktrees(&job);
        Ok(Some(TargetRules { job: Arc::new(job), hook_files, job_file, worktrees }))
    }

    /// Returns the job of the `harness.toml` in a tree, with the id of the blob.
    pub(super) fn job_in(&self, tree: &Oid) -> Result<Option<(Job, Oid)>> {
        let (repo, short) = (self.store.repo(), self.short());
        let (Some(bytes), Some(job_file)) =
            (repo.read_blob_at(tree, job::FILE_NAME)?, repo.entry_id(tree, job::FILE_NAME)?)
        else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes)
            .with_context(|| format!("`{short}:{}` is not UTF-8", job::FILE_NAME))?;
        let job = job::parse_queue(&text, &format!("{short}:{}", job::FILE_NAME))?;
        Ok(Some((job, job_file)))
    }

    /// Returns the rule files of the target that a candidate has changed since it left the target.
    pub(crate) fn changed_rule_files(
        &self,
        rules: &TargetRules,
        tip: &Oid,
        candidate: &Oid,
    ) -> Result<Vec<String>> {
        let repo = self.store.repo();
        let base = repo::merge_bases(repo, tip, candidate)?.into_iter().next();
        let base = base.unwrap_or_else(|| tip.clone());
        // The target decides which files the links of its rule files lead to.
        rules.rule_files().in_tree(repo, tip)?.changed(repo, &base, candidate)
    }

    /// Returns the folder of the queue's check worktrees, as a job places it.
    pub(super) fn worktrees(&self, job: &Job) -> PathBuf {
        let repo = self.store.repo();
        let (folder, name) = repo.worktree_anchor();
        folder.join(job.worktree.root_for(&name)).join(format!("queue-{}", self.key()))
    }

    /// Removes the check worktrees as [`QueueContext::sweep`] does, unless an entry waits or a
    /// process works on the queue. `job` is the job of a run that landed on the target.
    pub(crate) fn sweep_if_unused(&self, job: &Job) -> Result<usize> {
        let (_, log) = self.store.queue_log(&self.target, None)?;
        let Ok(_lock) = Lock::try_take(&worker_lock(self)?, "sweeps a queue")? else {
            return Ok(0);
        };
        if live_entries(&log).is_empty() { self.sweep(Some(job)) } else { Ok(0) }
    }

    /// Returns the check worktrees that [`sweep_if_unused`](Self::sweep_if_unused) removes.
    pub(crate) fn sweepable_worktrees(&self, job: &Job) -> Result<Vec<PathBuf>> {
        let (_, log) = self.store.queue_log(&self.target, None)?;
        if !live_entries(&log).is_empty()
            || Lock::is_held(&self.store.local().integrator_lock(&self.key()))?
        {
            return Ok(Vec::new());
        }
        let mut paths = Vec::new();
        for worktrees in self.worktree_folders(Some(job))? {
            for entry in std::fs::read_dir(&worktrees).into_iter().flatten() {
                let path = entry?.path();
                let record =
                    path.file_name().map(|name| self.folder().join("worktrees").join(name));
                if record.is_some_and(|record| record.is_file()) {
                    paths.push(path);
                }
            }
        }
        Ok(paths)
    }

    /// Returns the folders with check worktrees. `job` is a run's job, which places the worktrees
    /// of a target without rules.
    fn worktree_folders(&self, job: Option<&Job>) -> Result<BTreeSet<PathBuf>> {
        let rules = self.find_rules(&self.tip()?).ok().flatten();
        let folders = rules.map(|rules| rules.worktrees.clone()).into_iter();
        Ok(folders.chain(job.map(|job| self.worktrees(job))).collect())
    }

    /// Removes the check worktrees and the folders of their keepers. Returns the number of removed
    /// worktrees. `job` is a run's job, which places the worktrees of a target without rules.
    pub(crate) fn sweep(&self, job: Option<&Job>) -> Result<usize> {
        let local = self.folder();
        let mut removed = 0;
        for worktrees in self.worktree_folders(job)? {
            for entry in std::fs::read_dir(&worktrees).into_iter().flatten() {
                let path = entry?.path();
                let Some(name) = path.file_name() else { continue };
                let lock = local.join("checks").join(name).join(files::LOCK);
                anyhow::ensure!(
                    !lock.is_file() || !Lock::is_held(&lock)?,
                    "a keeper still works in {}",
                    path.display()
                );
                let index = local.join("worktrees").join(name);
                repo::remove_worktree(self.store.repo(), &path, &index)?;
                removed += 1;
            }
            // Removes the folder only if it is empty: a person may keep files there.
            std::fs::remove_dir(&worktrees).ok();
            worktrees.parent().map(std::fs::remove_dir);
        }
        for folder in [local.join("checks"), local.join("worktrees")] {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("cannot remove {}", folder.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(removed)
    }
}

/// Returns the error of a job that requires a sandbox on a machine without one.
pub(crate) fn no_sandbox(why: &str) -> Advice {
    let hint = "`[sandbox] mode = \"auto\"` runs agents and checks with your rights where there is no sandbox";
    Advice::new(format!("the job requires a sandbox: {why}"), hint.to_owned())
}
