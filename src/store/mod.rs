//! The only module that moves refs. Everything that a run knows is here: chains of commits, one a task, and journals.
//!
//! Every move states the value it expects. A multi-ref transaction of git is atomic against conflicts but not against a
//! crash (measured), so nothing here relies on one: there is always one ref whose move is the commit point, and the
//! rest is rolled forward.

pub mod chain;
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
pub mod sweep;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::domain::id::Oid;
use crate::process::{self, Git, Lock, RefUpdates};
pub use crate::process::{Expected, RefMove};
use crate::repo::{self, Repo};

/// Somebody else moved a ref first, or holds its lock.
#[derive(Debug, thiserror::Error)]
#[error("git refused to move a ref: {message}")]
pub struct Lost {
    /// What git said.
    pub message: String,
}

/// The proof that this process holds a run's lock: without it, nothing can be written to the run's chains.
#[derive(Debug)]
pub struct RunProof {
    run: crate::domain::id::RunId,
    _lock: Lock,
}

impl RunProof {
    /// The run that is held.
    pub fn run(&self) -> &crate::domain::id::RunId {
        &self.run
    }
}

/// Who holds a run that we wanted to hold.
#[derive(Debug, thiserror::Error)]
#[error("the run `{run}` is held by another process ({holder}); nothing was changed")]
pub struct Held {
    /// The run.
    pub run: String,
    /// `host/pid since when`, as the holder wrote it.
    pub holder: String,
}

/// The state of a repository. Cheap to clone; the clones share one `git update-ref`.
#[derive(Debug, Clone)]
pub struct Store {
    repo: Repo,
    git: Git,
    refs: Arc<Mutex<RefUpdates>>,
    /// For moves that a barrier follows: one for all of them is several times as quick as one for each.
    bulk: Arc<Mutex<RefUpdates>>,
    local: layout::Local,
}

impl Store {
    /// The state of this repository. Writes nothing.
    pub fn open(repo: Repo, git: Git) -> Result<Self> {
        let local = layout::Local::new(repo.common_dir());
        let refs = Arc::new(Mutex::new(RefUpdates::new(&git)));
        let bulk = Arc::new(Mutex::new(RefUpdates::in_bulk(&git)));
        let store = Self { repo, git, refs, bulk, local };
        store.refuse_development_state()?;
        Ok(store)
    }

    /// Fails if the repository has state of a development version before 0.1. Such a version kept queue
    /// logs below `refs/harness/books/` and target journals below `refs/harness/queues/`.
    fn refuse_development_state(&self) -> Result<()> {
        // A target journal has no event data; a queue log has.
        let is_journal = |(_, tip): &(String, Oid)| {
            let info = repo::commit_info(&self.repo, tip);
            info.is_ok_and(|info| {
                let trailers = codec::trailers(&info.message);
                trailers.has("Harness-Target") && !trailers.has("Harness-Data")
            })
        };
        let mut found = self.list(layout::OLD_QUEUE_LOGS)?.into_iter().next();
        if found.is_none() {
            found = self.list(layout::QUEUE_LOGS)?.into_iter().find(is_journal);
        }
        let Some((name, _)) = found else { return Ok(()) };
        let problem = format!("`{name}` is state of a development version before 0.1");
        let advice = "finish with the version that wrote it, or delete all state and start again: \
                      `git for-each-ref --format='delete %(refname)' refs/harness | git update-ref --stdin`";
        bail!("{problem}; {advice}")
    }

    /// The repository.
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// The way to the `git` executable.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// Where local files are.
    pub fn local(&self) -> &layout::Local {
        &self.local
    }

    /// What a ref holds. A ref that is broken is an error that names it.
    pub fn read(&self, name: &str) -> Result<Option<Oid>> {
        let repo = self.repo.local();
        let Some(mut reference) = repo.try_find_reference(name).with_context(|| {
            format!("cannot read the ref `{name}`; `git harness doctor` mends what is ours")
        })?
        else {
            return Ok(None);
        };
        let id = reference.peel_to_id().with_context(|| format!("the ref `{name}` is broken"))?;
        Ok(Some(Oid::parse(&id.to_string())?))
    }

    /// All refs below a prefix, by name. Broken ones are left out: recovery quarantines them.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, Oid)>> {
        let repo = self.repo.local();
        let platform = repo.references()?;
        let mut found = Vec::new();
        for reference in platform.prefixed(prefix)? {
            let Ok(reference) = reference else { continue };
            if let Some(id) = reference.target().try_id() {
                let name = reference.name().as_bstr().to_string();
                found.push((name, Oid::parse(&id.to_string())?));
            }
        }
        Ok(found)
    }

    /// Moves refs, all or none as far as conflicts go.
    ///
    /// When git says no but the refs hold what we wanted, that is success: an answer can be lost after the deed.
    pub fn transact(&self, moves: &[RefMove]) -> Result<()> {
        let mut refs = self.refs.lock().unwrap_or_else(PoisonError::into_inner);
        self.transact_by(&mut refs, moves)
    }

    /// The same for refs that count for nothing before the next barrier.
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
        for m in moves {
            if self.read(&m.name)? != m.new {
                bail!(Lost { message });
            }
        }
        Ok(())
    }

    /// Waits until everything written so far would survive a power cut.
    ///
    /// Measured: neither git's default nor `core.fsync=all` keeps acknowledged refs; one `syncfs` does.
    pub fn barrier(&self) -> Result<()> {
        barrier_at(self.repo.common_dir())
    }

    /// Takes the run's lock, or says who has it.
    pub fn hold(
        &self,
        run: &crate::domain::id::RunId,
        info: &str,
    ) -> Result<std::result::Result<RunProof, Held>> {
        let path = self.local.run_lock(run);
        make_parent(&path)?;
        let taken = Lock::try_take(&path, info)
            .with_context(|| format!("cannot use the lock file {}", path.display()))?;
        Ok(match taken {
            Ok(lock) => Ok(RunProof { run: run.clone(), _lock: lock }),
            Err(holder) => Err(Held { run: run.to_string(), holder: holder.to_string() }),
        })
    }
}

/// The barrier of the file system on which a path is; see [`Store::barrier`].
pub fn barrier_at(path: &Path) -> Result<()> {
    process::sync_fs(path).context("the disk did not take what was written")
}

/// Makes the folder that a file goes into.
pub(crate) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot make the folder {}", parent.display()))
}
