//! The names of refs and notes and the paths of local files.
//!
//! Ref names of one kind have a fixed depth: git refuses a ref `a/b` if a ref `a` exists, but gix
//! creates `a/b` if `a` is packed. Ref names are lower-case, so that no two names collide on a file
//! system that ignores case.

use std::path::{Path, PathBuf};

use crate::domain::id::{RunId, TaskId};
use crate::repo::sha1_hex;

/// The prefix of all refs that hold state.
pub const ROOT: &str = "refs/harness/";
/// The notes with the provenance of landed commits.
pub const NOTES: &str = "refs/notes/harness";
/// The notes with verdicts on trees.
pub const VERDICTS: &str = "refs/notes/harness-verdicts";

/// Returns the ref of a run's chain. The chain has the run's events; its tree has job and plan.
pub fn run(run: &RunId) -> String {
    format!("refs/harness/runs/{run}")
}

/// The prefix of all runs.
pub const RUNS: &str = "refs/harness/runs/";

/// Returns the ref of a task's chain.
pub fn task(run: &RunId, task: &TaskId) -> String {
    format!("refs/harness/tasks/{run}/{task}")
}

/// Returns the prefix of a run's task chains.
pub fn tasks(run: &RunId) -> String {
    format!("refs/harness/tasks/{run}/")
}

/// Returns the ref that the keeper of an attempt publishes.
pub fn attempt(run: &RunId, task: &TaskId, attempt: u32) -> String {
    format!("refs/harness/attempts/{run}/{task}/{attempt}")
}

/// Returns the prefix of a run's published attempts.
pub fn attempts(run: &RunId) -> String {
    format!("refs/harness/attempts/{run}/")
}

/// The prefix of refs with work that no attempt has recorded.
pub const LEFTOVERS: &str = "refs/harness/leftovers/";

/// Returns the beginning of the names of refs with work of one worktree that no attempt has
/// recorded. The rest is the short id of the commit.
pub fn leftovers(run: &RunId, worktree: &str) -> String {
    format!("refs/harness/leftovers/{run}/{worktree}-")
}

/// Returns the ref that records the user's stash while agents of a run work.
pub fn stash(run: &RunId) -> String {
    format!("refs/harness/stash/{run}")
}

/// Returns the ref of a target's journal. `key` is [`target_key`].
pub fn target_journal(key: &str) -> String {
    format!("{TARGETS}{key}")
}

/// Returns the ref of a target's queue log. `key` is [`target_key`].
pub fn queue_log(key: &str) -> String {
    format!("{QUEUE_LOGS}{key}")
}

/// The prefix of the branches of all runs.
pub(super) const BRANCHES: &str = "refs/heads/harness/";

/// The prefix of all target journals.
pub(super) const TARGETS: &str = "refs/harness/targets/";

/// The prefix of all queue logs.
pub const QUEUE_LOGS: &str = "refs/harness/queues/";

/// The prefix of the queue logs of development versions before 0.1.
pub(super) const OLD_QUEUE_LOGS: &str = "refs/harness/books/";

/// Returns a branch's name without `refs/heads/`.
pub fn short(name: &str) -> &str {
    name.strip_prefix("refs/heads/").unwrap_or(name)
}

/// Returns the ref of the archive into which `sweep` folds a run's task chains.
pub fn archive(run: &RunId) -> String {
    format!("refs/harness/archive/{run}")
}

/// Returns the key of a target branch: 12 hex digits of the SHA-1 of the full name.
pub fn target_key(target: &str) -> String {
    // Hashing fails only if gix detects an attempt at a SHA-1 collision.
    sha1_hex([target.as_bytes()]).map_or_else(|_| "collision".into(), |hex| hex[..12].to_owned())
}

/// Returns the branch of a task.
pub fn branch(run: &RunId, task: &TaskId) -> String {
    format!("refs/heads/harness/{run}/{task}")
}

/// Returns the prefix of a run's branches. The default target has this prefix too.
pub fn branches(run: &RunId) -> String {
    format!("{BRANCHES}{run}/")
}

/// Returns the target branch of a run if the job file names no target.
pub fn default_target(run: &RunId) -> String {
    format!("refs/heads/harness/{run}/result")
}

/// The paths of derived or machine-local files in the repository's common directory.
#[derive(Debug, Clone)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// Returns the paths of the repository with this common directory.
    pub fn new(common_dir: &Path) -> Self {
        Self { root: common_dir.join("harness") }
    }

    /// Returns the folder with the attributes of commits that were merged onto.
    pub fn attributes(&self) -> PathBuf {
        self.root.join("attributes")
    }

    /// Returns the folder that holds all local files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder of a run.
    pub fn run(&self, run: &RunId) -> PathBuf {
        self.root.join("runs").join(run.as_str())
    }

    /// Returns the lock that a run's supervisor holds until the supervisor exits.
    pub fn run_lock(&self, run: &RunId) -> PathBuf {
        self.run(run).join("lock")
    }

    /// Returns the file with the time of a run's last `poll`.
    pub fn polled(&self, run: &RunId) -> PathBuf {
        self.run(run).join("polled")
    }

    /// Returns the lock that is held while a target branch moves.
    pub fn target_lock(&self, key: &str) -> PathBuf {
        self.root.join("targets").join(format!("{key}.lock"))
    }

    /// Returns the file that lists the checkouts that are behind their target.
    pub fn checkouts_behind(&self, key: &str) -> PathBuf {
        self.root.join("targets").join(format!("{key}.behind"))
    }

    /// Returns the lock of the process that works on a queue.
    pub fn integrator_lock(&self, key: &str) -> PathBuf {
        self.queue(key).join("lock")
    }

    /// Returns the folder of a queue.
    pub fn queue(&self, key: &str) -> PathBuf {
        self.root.join("queues").join(key)
    }

    /// Returns the folder in which a keeper carries out an attempt.
    pub fn attempt(&self, run: &RunId, task: &TaskId, attempt: u32) -> PathBuf {
        self.run(run).join("attempts").join(format!("{task}.{attempt}"))
    }

    /// Returns the folder of all attempts of a run.
    pub fn attempts(&self, run: &RunId) -> PathBuf {
        self.run(run).join("attempts")
    }

    /// Returns the folder in which a keeper carries out a verification. `key` names the verified
    /// tree.
    pub fn verification(&self, run: &RunId, key: &str) -> PathBuf {
        self.run(run).join("checks").join(key)
    }

    /// Returns the folder of all verifications of a run.
    pub fn verifications(&self, run: &RunId) -> PathBuf {
        self.run(run).join("checks")
    }

    /// Returns the folder of all evaluations of a run, with one folder for each evaluated attempt.
    pub fn evaluations(&self, run: &RunId) -> PathBuf {
        self.run(run).join("evaluations")
    }

    /// Returns the folder of the private git index files of a run's worktrees.
    pub fn worktree_indexes(&self, run: &RunId) -> PathBuf {
        self.run(run).join("worktrees")
    }

    /// Returns the folder with copies of the job's pinned files.
    pub fn pinned(&self, run: &RunId) -> PathBuf {
        self.run(run).join("pinned")
    }

    /// Returns the spool: the folder of requests to the supervisor of a run.
    pub fn requests(&self, run: &RunId) -> PathBuf {
        self.run(run).join("requests")
    }

    /// Returns the lock of the process that puts entries of the user's stash back.
    pub fn stash_lock(&self) -> PathBuf {
        self.root.join("stash.lock")
    }

    /// Returns the file with the id of this copy of the repository. Claims of another copy are
    /// void.
    pub fn repository_id(&self) -> PathBuf {
        self.root.join("id")
    }

    /// Returns the folder for the input and the output of the program that joins a run's outputs.
    pub fn collecting(&self, run: &RunId) -> PathBuf {
        self.run(run).join("collecting")
    }

    /// Returns the folder for the output and the lock of planning commands.
    pub fn planning(&self) -> PathBuf {
        self.root.join("planning")
    }

    /// Returns the cache of facts about blobs for later plans. The file may be deleted at any time.
    pub fn plan_cache(&self) -> PathBuf {
        self.root.join("plan-cache")
    }

    /// Returns the index of a run's tips, for commands that only read. The file may be deleted at
    /// any time.
    pub fn index(&self, run: &RunId) -> PathBuf {
        self.root.join("index").join(run.as_str())
    }

    /// Returns the snapshot of a run: plan and tips in one file, valid as long as no ref has moved.
    pub fn snapshot(&self, run: &RunId) -> PathBuf {
        self.root.join("index").join(format!("{run}.snapshot"))
    }

    /// Returns the folder of quarantined refs.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
}
