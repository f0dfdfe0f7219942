//! Every name that this program gives to a ref, a note or a folder of its own, and what it means.
//!
//! Names have a fixed depth (git and gix disagree about `a` beside `a/b`) and are lower-case, so that no two are alike on
//! a disk that ignores case.

use std::path::{Path, PathBuf};

use crate::domain::id::{RunId, TaskId};

/// Where all state lives.
pub const ROOT: &str = "refs/harness/";
/// Provenance of landed commits.
pub const NOTES: &str = "refs/notes/harness";
/// Verdicts on trees.
pub const VERDICTS: &str = "refs/notes/harness-verdicts";

/// The chain of a run: job, plan, policy; created, paused, halted.
pub fn run(run: &RunId) -> String {
    format!("refs/harness/runs/{run}")
}

/// The prefix of all runs.
pub const RUNS: &str = "refs/harness/runs/";

/// The chain of a task.
pub fn task(run: &RunId, task: &TaskId) -> String {
    format!("refs/harness/tasks/{run}/{task}")
}

/// The prefix of a run's task chains.
pub fn tasks(run: &RunId) -> String {
    format!("refs/harness/tasks/{run}/")
}

/// What the keeper of an attempt published.
pub fn attempt(run: &RunId, task: &TaskId, attempt: u32) -> String {
    format!("refs/harness/attempts/{run}/{task}/{attempt}")
}

/// The prefix of a run's published attempts.
pub fn attempts(run: &RunId) -> String {
    format!("refs/harness/attempts/{run}/")
}

/// The journal of one target branch; `key` is [`target_key`].
pub fn target_journal(key: &str) -> String {
    format!("refs/harness/targets/{key}")
}

/// The queue log of one target branch; `key` is [`target_key`].
pub fn queue_log(key: &str) -> String {
    format!("{QUEUE_LOGS}{key}")
}

/// The prefix of all queue logs.
pub const QUEUE_LOGS: &str = "refs/harness/queues/";

/// The prefix of the queue logs of development versions before 0.1.
pub(super) const OLD_QUEUE_LOGS: &str = "refs/harness/books/";

/// A branch's name for people: without what git leaves out, too.
pub fn short(name: &str) -> &str {
    name.strip_prefix("refs/heads/").unwrap_or(name)
}

/// What `sweep` folded away of a run.
pub fn archive(run: &RunId) -> String {
    format!("refs/harness/archive/{run}")
}

/// Names a target branch in a ref: 12 hex digits of the SHA-1 of its full name.
pub fn target_key(target: &str) -> String {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(target.as_bytes());
    hasher
        .try_finalize()
        .map_or_else(|_| "collision".into(), |id| id.to_hex_with_len(12).to_string())
}

/// A task's branch, for people and for its worktree.
pub fn branch(run: &RunId, task: &TaskId) -> String {
    format!("refs/heads/harness/{run}/{task}")
}

/// The prefix of a run's branches; the default target lives there too.
pub fn branches(run: &RunId) -> String {
    format!("refs/heads/harness/{run}/")
}

/// The target of a run whose job names none.
pub fn default_target(run: &RunId) -> String {
    format!("refs/heads/harness/{run}/result")
}

/// The folders and files in the repository's common directory that are derived or local to this machine.
#[derive(Debug, Clone)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// Those of one repository.
    pub fn new(common_dir: &Path) -> Self {
        Self { root: common_dir.join("harness") }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything about one run.
    pub fn run(&self, run: &RunId) -> PathBuf {
        self.root.join("runs").join(run.as_str())
    }

    /// Held by the supervisor of a run for life.
    pub fn run_lock(&self, run: &RunId) -> PathBuf {
        self.run(run).join("lock")
    }

    /// The lock that is held while a target branch moves.
    pub fn target_lock(&self, key: &str) -> PathBuf {
        self.root.join("targets").join(format!("{key}.lock"))
    }

    /// The work trees that are behind their target.
    pub fn checkouts_behind(&self, key: &str) -> PathBuf {
        self.root.join("targets").join(format!("{key}.behind"))
    }

    /// The lock of the process that carries out a queue.
    pub fn integrator_lock(&self, key: &str) -> PathBuf {
        self.queue(key).join("lock")
    }

    /// The folder of one queue.
    pub fn queue(&self, key: &str) -> PathBuf {
        self.root.join("queues").join(key)
    }

    /// Files of one attempt: prompt, outputs, lock of its keeper.
    pub fn attempt(&self, run: &RunId, task: &TaskId, attempt: u32) -> PathBuf {
        self.run(run).join("attempts").join(format!("{task}.{attempt}"))
    }

    /// The folder of all attempts of a run.
    pub fn attempts(&self, run: &RunId) -> PathBuf {
        self.run(run).join("attempts")
    }

    /// Files of one verification; `key` names what is judged.
    pub fn verification(&self, run: &RunId, key: &str) -> PathBuf {
        self.run(run).join("checks").join(key)
    }

    /// The folder of all verifications of a run.
    pub fn verifications(&self, run: &RunId) -> PathBuf {
        self.run(run).join("checks")
    }

    /// The folder of all evaluations of a run: one folder for each attempt that is judged.
    pub fn evaluations(&self, run: &RunId) -> PathBuf {
        self.run(run).join("evaluations")
    }

    /// Private indexes of a run's places.
    pub fn worktree_indexes(&self, run: &RunId) -> PathBuf {
        self.run(run).join("worktrees")
    }

    /// The job's pinned files, written out for processes to read.
    pub fn pinned(&self, run: &RunId) -> PathBuf {
        self.run(run).join("pinned")
    }

    /// Requests of people, waiting for the holder of the run.
    pub fn requests(&self, run: &RunId) -> PathBuf {
        self.run(run).join("requests")
    }

    /// Names this copy of the repository: claims of another are void here.
    pub fn repository_id(&self) -> PathBuf {
        self.root.join("id")
    }

    /// What is handed to a program that joins a run's outputs, and what it writes.
    pub fn collecting(&self, run: &RunId) -> PathBuf {
        self.run(run).join("collecting")
    }

    /// What the programs of a plan write, and the lock of whoever asks them.
    pub fn planning(&self) -> PathBuf {
        self.root.join("planning")
    }

    /// What is known of blobs, for plans that are made again. It may go at any time.
    pub fn plan_cache(&self) -> PathBuf {
        self.root.join("plan-cache")
    }

    /// What the tips of a run say, for those who only look. It may go at any time.
    pub fn index(&self, run: &RunId) -> PathBuf {
        self.root.join("index").join(run.as_str())
    }

    /// The same in one piece with the plan, for as long as no ref has moved.
    pub fn snapshot(&self, run: &RunId) -> PathBuf {
        self.root.join("index").join(format!("{run}.snapshot"))
    }

    /// Where refs that were broken are put.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
}
