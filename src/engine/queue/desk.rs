//! What the work on a queue needs and does not change: the repository, the target, and the rules of the target's own tip.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::domain::id::Oid;
use crate::engine::Keepers;
use crate::error::Advice;
use crate::job::{self, Job};
use crate::keeper::files;
use crate::landing::Merger;
use crate::process::{Lock, write_executable};
use crate::repo::{self, Identity};
use crate::store::{Store, layout};

/// What does not change while a queue is worked off.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The state.
    pub store: Store,
    /// The full name of the target.
    pub target: String,
    /// Those that were started.
    pub keepers: Keepers,
    /// The environment that this process was given.
    pub environment: BTreeMap<OsString, OsString>,
    /// Who commits.
    pub identity: Identity,
    /// The merges.
    pub merger: Merger,
    /// The rules of the tip that was asked about last.
    pub(super) rules: Mutex<Option<(Oid, Arc<Rules>)>>,
}

/// What a commit of the target says of branches that want to land on it.
#[derive(Debug, PartialEq)]
pub(crate) struct Rules {
    /// Its `harness.toml`, of which `[queue]`, `[[check]]` and `[worktree]` count.
    pub job: Job,
    /// Files that checks and setup name, as that commit has them, and where they are written out.
    pub overlay: Vec<(String, PathBuf)>,
    /// A hash of those files.
    pub salt: String,
    /// Where the places are.
    pub worktrees: PathBuf,
}

impl Desk {
    /// A desk for a target.
    pub(crate) fn new(
        store: Store,
        target: String,
        program: PathBuf,
        environment: BTreeMap<OsString, OsString>,
    ) -> Self {
        let identity = store.repo().identity();
        let (keepers, rules) = (Keepers::new(program), Mutex::new(None));
        let merger = Merger::new(&store);
        Self { store, target, keepers, environment, identity, merger, rules }
    }

    /// The target as people call it.
    pub(crate) fn short(&self) -> &str {
        layout::short(&self.target)
    }

    /// The name of the queue in refs and folders.
    pub(crate) fn key(&self) -> String {
        layout::target_key(&self.target)
    }

    /// The name under which verdicts are noted for which the queue's book vouches. No run is called so.
    pub(crate) fn voucher(&self) -> String {
        format!("queue:{}", self.key())
    }

    /// The target's tip.
    pub(crate) fn tip(&self) -> Result<Oid> {
        self.store.read(&self.target)?.ok_or_else(|| {
            let what = format!("there is no branch `{}`", self.short());
            Advice::new(what, "name the branch that receives the work with `--target`").into()
        })
    }

    /// The rules of a commit of the target: never those of a branch that wants to land.
    pub(crate) fn rules(&self, tip: &Oid) -> Result<Arc<Rules>> {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, rules)) = &*known
            && of == tip
        {
            return Ok(Arc::clone(rules));
        }
        let new = self.read_rules(tip)?;
        let rules = match known.take() {
            Some((_, old)) if *old == new => old,
            Some(_) | None => Arc::new(new),
        };
        *known = Some((tip.clone(), Arc::clone(&rules)));
        Ok(rules)
    }

    /// Removes the places, and what keepers have left in their folders. Says how many places there were.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let worktrees = self.rules(&self.tip()?)?.worktrees.clone();
        let local = self.store.local().queue(&self.key());
        let mut removed = 0;
        for entry in std::fs::read_dir(&worktrees).into_iter().flatten() {
            let path = entry?.path();
            let Some(name) = path.file_name() else { continue };
            let lock = local.join("checks").join(name).join(files::LOCK);
            anyhow::ensure!(
                !lock.is_file() || !Lock::is_held(&lock)?,
                "a keeper is still at work in {}",
                path.display()
            );
            repo::remove_worktree(self.store.repo(), &path, &local.join("worktrees").join(name))?;
            removed += 1;
        }
        // Only if it is empty: a person may keep something there.
        std::fs::remove_dir(&worktrees).ok();
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

    fn read_rules(&self, tip: &Oid) -> Result<Rules> {
        let (repo, short) = (self.store.repo(), self.short());
        let tree = repo.tree_of(tip)?;
        let Some(bytes) = repo.read_blob_at(&tree, job::FILE_NAME)? else {
            let what = format!("the tip of `{short}` has no `{}`", job::FILE_NAME);
            let hint = "commit one there with the checks that a branch must pass: `[[check]]` with `name` and `run`; \
                        `man githarness-job` has every key";
            return Err(Advice::new(what, hint).into());
        };
        let text = String::from_utf8(bytes)
            .with_context(|| format!("`{short}:{}` is not UTF-8", job::FILE_NAME))?;
        let job = job::parse_queue(&text, &format!("{short}:{}", job::FILE_NAME))?;
        let mut found = Vec::new();
        for path in job::files_of_checks(&job) {
            let Some(bytes) = repo.read_blob_at(&tree, &path)? else { continue };
            found.push((path, bytes));
        }
        let files = found.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let salt = repo::hash_files(files)?;
        // One folder for each set of files: a keeper that still has the old ones must not find the new.
        let folder = self.store.local().queue(&self.key()).join("pinned").join(&salt);
        let mut overlay = Vec::with_capacity(found.len());
        for (path, bytes) in found {
            let to = folder.join(&path);
            write_executable(&to, &bytes)
                .with_context(|| format!("cannot write {}", to.display()))?;
            overlay.push((path, to));
        }
        let top = repo.work_dir().unwrap_or_else(|| repo.common_dir());
        let worktrees = top.join(job.worktree.root_for(&repo.name()));
        let worktrees = worktrees.join(format!("queue-{}", self.key()));
        Ok(Rules { job, overlay, salt, worktrees })
    }
}
