//! The only module that moves refs. All state of a run lies in refs: one chain of commits for each
//! task, one for the run, and the journal of the target.
//!
//! Every move of a ref states the expected old value. A multi-ref transaction of git is atomic
//! against conflicts but not against a crash (measured). So no operation relies on a transaction:
//! the move of one ref is the commit point, and recovery rolls the rest forward.

pub mod chain;
mod chain_record;
pub mod checkouts;
pub mod codec;
pub mod create;
mod index;
pub mod journal;
pub mod layout;
pub mod load;
pub mod notes;
pub mod queue_log;
pub mod recover;
mod seal;
mod seal_keys;
mod settings_record;
mod settings_undo;
mod settings_watch;
pub(crate) mod stash;
pub mod sweep;
mod user_branches;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};

use crate::domain::id::Oid;
use crate::process::{self, Git, Lock, RefUpdates};
pub use crate::process::{Expected, RefMove};
use crate::repo::{self, Repo};
pub use checkouts::LandingObstacle;

use seal_keys::SealKeys;
use settings_watch::SettingsWatch;

pub(crate) use seal::ForeignMove;

/// The largest depth of nested symbolic refs, as in git.
const MAX_SYMBOLIC_DEPTH: usize = 5;

/// The error that another process moved a ref first, or holds the lock of the ref.
#[derive(Debug, thiserror::Error)]
#[error("git refused to move a ref: {message}")]
pub struct RefConflict {
    /// The message of git.
    pub message: String,
}

/// The proof that this process holds a run's lock. Writes to the run's chains require this proof.
#[derive(Debug)]
pub struct RunProof {
    run: crate::domain::id::RunId,
    _lock: Lock,
}

impl RunProof {
    /// Returns the run that is held.
    pub fn run(&self) -> &crate::domain::id::RunId {
        &self.run
    }
}

/// The error that another process holds the run.
#[derive(Debug, thiserror::Error)]
#[error("the run `{run}` is held by another process ({holder}); nothing was changed")]
pub struct RunHeld {
    /// The run.
    pub run: String,
    /// The holder as `host/pid since TIME`, as the holder wrote it into the lock file.
    pub holder: String,
}

/// The state of a repository. A clone is cheap; clones share their two `git update-ref` processes.
#[derive(Debug, Clone)]
pub struct Store {
    repo: Repo,
    git: Git,
    refs: Arc<Mutex<RefUpdates>>,
    /// The process for moves that become durable only with the next barrier. One sync for all moves
    /// is several times faster than one for each.
    bulk: Arc<Mutex<RefUpdates>>,
    local: layout::Local,
    /// The keys whose seals count, once they were used.
    seal_keys: Arc<OnceLock<SealKeys>>,
    /// The tips of chains that this process has written or compared.
    accepted_tips: Arc<Mutex<BTreeMap<String, Oid>>>,
    /// The settings of the repository at the start of this process, if it watches them.
    settings: Arc<OnceLock<SettingsWatch>>,
}

impl Store {
    /// Opens the state of a repository. Writes nothing.
    pub fn open(repo: Repo, git: Git) -> Result<Self> {
        let local = layout::Local::new(repo.common_dir());
        let refs = Arc::new(Mutex::new(RefUpdates::new(&git)));
        let bulk = Arc::new(Mutex::new(RefUpdates::in_bulk(&git)));
        let store = Self {
            repo,
            git,
            refs,
            bulk,
            local,
            seal_keys: Arc::default(),
            accepted_tips: Arc::default(),
            settings: Arc::default(),
        };
        store.refuse_development_state()?;
        Ok(store)
    }

    /// Fails if the repository has state of a development version before 0.1. Such a version kept
    /// queue logs below `refs/harness/books/` and target journals below `refs/harness/queues/`.
    fn refuse_development_state(&self) -> Result<()> {
        // A target journal has no event data; a queue log has.
        let is_journal = |(_, tip): &(String, Oid)| {
            let info = repo::commit_info(&self.repo, tip);
            info.is_ok_and(|info| {
                let trailers = codec::trailers(&info.message);
                trailers.has("Harness-Target") && !trailers.has("Harness-Data")
            })
        };
        let mut old_ref = self.list(layout::OLD_QUEUE_LOGS)?.into_iter().next();
        if old_ref.is_none() {
            old_ref = self.list(layout::QUEUE_LOGS)?.into_iter().find(is_journal);
        }
        let Some((name, _)) = old_ref else { return Ok(()) };
        let problem = format!("`{name}` is state of a development version before 0.1");
        let advice = "finish with the version that wrote it, or delete all state and start again: \
                      `git for-each-ref --format='delete %(refname)' refs/harness | git update-ref --stdin`";
        bail!("{problem}; {advice}")
    }

    /// Returns the repository.
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// Returns the handle for running the `git` executable.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Returns the paths of local files.
    pub fn local(&self) -> &layout::Local {
        &self.local
    }

    /// Reads a ref. Returns `None` if the ref does not exist. The error for a broken ref names the
    /// ref.
    pub fn read(&self, name: &str) -> Result<Option<Oid>> {
        let repo = self.repo.local();
        let Some(mut reference) = repo.try_find_reference(name).with_context(|| {
            format!("cannot read the ref `{name}`; `git harness doctor` lists broken refs")
        })?
        else {
            return Ok(None);
        };
        let id = reference.peel_to_id().with_context(|| format!("the ref `{name}` is broken"))?;
        Ok(Some(Oid::parse(&id.to_string())?))
    }

    /// Returns the branch that a name stands for: the branch itself, or the one that a symbolic ref
    /// names. Checkouts and other commands know the branch by its own name only.
    pub fn resolve_branch(&self, name: &str) -> Result<String> {
        let repo = self.repo.local();
        let mut resolved = name.to_owned();
        for _ in 0..MAX_SYMBOLIC_DEPTH {
            let found = repo
                .try_find_reference(resolved.as_str())
                .with_context(|| format!("cannot read the ref `{resolved}`"))?;
            let target = found.as_ref().map(|reference| reference.target());
            let target = target.as_ref().and_then(|target| target.try_name());
            let Some(next) = target.map(|next| next.as_bstr().to_string()) else {
                return Ok(resolved);
            };
            if !next.starts_with("refs/heads/") {
                bail!("`{name}` is a symbolic ref to `{next}`, which is not a branch");
            }
            resolved = next;
        }
        bail!("`{name}` is a symbolic ref that is nested too deeply")
    }

    /// Lists all refs below a prefix, by name. Broken refs are left out: recovery quarantines them.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, Oid)>> {
        let repo = self.repo.local();
        let platform = repo.references()?;
        let mut refs = Vec::new();
        for reference in platform.prefixed(prefix)? {
            let Ok(reference) = reference else { continue };
            if let Some(id) = reference.target().try_id() {
                let name = reference.name().as_bstr().to_string();
                refs.push((name, Oid::parse(&id.to_string())?));
            }
        }
        Ok(refs)
    }

    /// Moves refs: all of them, or none on a conflict.
    ///
    /// If git refuses but the refs hold the new values, the call succeeds: a crash can lose git's
    /// answer after the move.
    pub fn transact(&self, moves: &[RefMove]) -> Result<()> {
        let mut refs = self.refs.lock().unwrap_or_else(PoisonError::into_inner);
        self.transact_by(&mut refs, moves)
    }

    /// Moves refs as [`Store::transact`] does, but without a sync: the moves are durable only after
    /// the next barrier.
    pub(crate) fn transact_in_bulk(&self, moves: &[RefMove]) -> Result<()> {
        let mut refs = self.bulk.lock().unwrap_or_else(PoisonError::into_inner);
        self.transact_by(&mut refs, moves)
    }

    fn transact_by(&self, refs: &mut RefUpdates, moves: &[RefMove]) -> Result<()> {
        if moves.is_empty() {
            return Ok(());
        }
        let answer = refs.transact(moves);
        let message = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refused)) => refused.message,
            Err(error) => format!("{error:#}"),
        };
        for ref_move in moves {
            if self.read(&ref_move.name)? != ref_move.new {
                bail!(RefConflict { message });
            }
        }
        Ok(())
    }

    /// Waits until everything that was written so far would survive a power cut.
    ///
    /// Measured: acknowledged refs are lost with git's default and with `core.fsync=all`; they
    /// survive after one `syncfs`.
    pub fn barrier(&self) -> Result<()> {
        barrier_at(self.repo.common_dir())
    }

    /// Takes the run's lock, or returns its holder.
    pub fn hold(
        &self,
        run: &crate::domain::id::RunId,
        info: &str,
    ) -> Result<std::result::Result<RunProof, RunHeld>> {
        let path = self.local.run_lock(run);
        make_parent(&path)?;
        let taken = Lock::try_take(&path, info)
            .with_context(|| format!("cannot use the lock file {}", path.display()))?;
        Ok(match taken {
            Ok(lock) => Ok(RunProof { run: run.clone(), _lock: lock }),
            Err(holder) => Err(RunHeld { run: run.to_string(), holder: holder.to_string() }),
        })
    }
}

/// Syncs the file system of a path. See [`Store::barrier`].
pub fn barrier_at(path: &Path) -> Result<()> {
    process::sync_fs(path).context("the file system could not be synced")
}

/// Creates the parent folder of a file.
pub(crate) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot create the folder {}", parent.display()))
}
