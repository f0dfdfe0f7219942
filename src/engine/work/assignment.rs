//! Assignments: the supervisor gives work to a keeper and reads the outcome.
//!
//! Every kind of work goes the same way. The supervisor takes the lock of the assignment's folder,
//! looks for an outcome that answers its question, ends what an earlier keeper has left, writes the
//! assignment and hands the folder over with the lock. When the lock is free again, the keeper has
//! ended. [`KeeperWork`] is the part that differs between the kinds, and [`Executor`] is the way to
//! a keeper.
//!
//! A keeper works from its folder, its environment and the repository. The folder has the
//! assignment and the texts for the agent. The paths in the assignment are those of this machine:
//! an executor on another machine replaces them by its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::ambient;
use crate::failpoint;
use crate::keeper::seal;
use crate::process::{self, Environ, Lock, TempFolder};
use crate::repo::{Identity, SealKey};
use crate::wire::VERSION;
use crate::wire::keeper::{Assignment, KeeperFile as _, SandboxSpec, Work, WorktreeSpec, files};
use crate::wire::network::{UPSTREAM, UpstreamProxies};

/// The largest number of times that a keeper is replaced within one assignment.
const MAX_REPLACEMENTS: u32 = 3;

/// The way to a keeper. The real one is [`Keepers`](super::keepers::Keepers); tests replace it.
pub(crate) trait Executor: std::fmt::Debug {
    /// Hands over an assignment's folder. When the function returns, the keeper holds a copy of the
    /// lock and keeps it to its end.
    fn hand_over(&self, worktree: &str, dir: &Path, lock: &Lock, env: &Environ) -> Result<()>;
}

/// One unit of work for a keeper.
pub(in crate::engine) trait KeeperWork {
    /// The outcome, as the supervisor reads it.
    type Answer;

    /// Returns everything that a new keeper gets. Returns `None` if the work can only be awaited,
    /// because an earlier supervisor has started it.
    fn handover(&self) -> Result<Option<Handover>>;

    /// Reads the outcome. Returns `None` if there is none, or if it answers another question than
    /// this. `dir` is the folder, and `asked` the assignment in the folder.
    fn answer(&self, dir: &Path, asked: Option<&Assignment>) -> Result<Option<Self::Answer>>;

    /// Returns the consequence of a keeper's death.
    fn on_death(&self) -> OnDeath;
}

/// The consequence of the death of a keeper that had taken over its assignment. A keeper that never
/// took over has done nothing, and is always replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum OnDeath {
    /// The death is reported.
    Report,
    /// The death is reported. An earlier supervisor did not see the death of its keeper, so the
    /// work starts again.
    ReportOwn,
    /// The keeper is replaced.
    Replace,
}

/// Everything that a keeper gets beside the repository.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Handover {
    /// The repository's common directory.
    pub common_dir: PathBuf,
    /// The name of the assignment, which begins the marker of its processes.
    pub name: String,
    /// The worktree.
    pub worktree: WorktreeSpec,
    /// The work.
    pub work: Work,
    /// Files of the folder: name and content.
    pub files: Vec<(&'static str, String)>,
    /// The environment of the keeper and its commands.
    pub environment: Environ,
    /// The sandbox of the commands.
    pub sandbox: Option<SandboxSpec>,
    /// The key that seals the assignment and its outcome.
    pub key: SealKey,
}

/// The use of a result that an earlier keeper left in the assignment's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum EarlierResult {
    /// The result is not recorded yet and counts.
    Use,
    /// The result is already recorded, and a new one is wanted.
    Ignore,
}

/// The behaviour of the supervisor while a keeper runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum KeeperWait {
    /// Blocks until the keeper has ended.
    Block,
    /// Returns at once.
    Poll,
}

/// The end of an assignment.
#[derive(Debug)]
pub(in crate::engine) enum Finished<A> {
    /// A keeper has written an outcome that answers the question.
    Answered(A),
    /// The keeper ended without an outcome.
    Died(Box<DeadKeeper>),
}

/// A keeper that ended without an outcome. Its processes are ended. The assignment stays locked
/// as long as this value exists.
#[derive(Debug)]
pub(in crate::engine) struct DeadKeeper {
    lock: Lock,
    assignment: Option<Assignment>,
    has_started: bool,
    last_line: String,
}

/// The folder of an assignment.
#[derive(Debug)]
pub(in crate::engine) struct AssignmentFolder {
    dir: PathBuf,
    lock: PathBuf,
}

/// The result of one look at a folder whose lock is held.
enum Settled<A> {
    Finished(Finished<A>),
    /// A keeper was started, and the lock is the keeper's.
    Started,
}

impl Handover {
    /// Creates the assignment, with a marker of its own.
    fn assignment(&self) -> Assignment {
        Assignment {
            v: VERSION,
            common_dir: self.common_dir.clone(),
            marker: format!("{}.{}", self.name, ambient::nonce()),
            worktree: self.worktree.clone(),
            work: self.work.clone(),
            sandbox: self.sandbox.clone(),
        }
    }
}

impl DeadKeeper {
    /// Returns the assignment. `None` if there was none.
    pub(in crate::engine) fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref()
    }

    /// Returns true if the keeper had taken over its assignment, so that work of it may be left.
    pub(in crate::engine) fn has_started(&self) -> bool {
        self.has_started
    }

    /// Returns the keeper's last message.
    pub(in crate::engine) fn last_line(&self) -> &str {
        &self.last_line
    }
}

impl AssignmentFolder {
    /// Creates the folder if it is missing.
    pub(in crate::engine) fn create(dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let lock = dir.join(files::LOCK);
        Ok(Self { dir, lock })
    }

    /// Returns the path.
    pub(in crate::engine) fn path(&self) -> &Path {
        &self.dir
    }

    /// Carries out work to its end, with the keeper of an earlier supervisor if there is one.
    pub(in crate::engine) fn wait<W: KeeperWork>(
        &self,
        executor: &dyn Executor,
        work: &W,
        earlier: EarlierResult,
    ) -> Result<Finished<W::Answer>> {
        self.wait_from(executor, work, earlier, 0)
    }

    /// Waits for the end of work that [`start`](Self::start) has started.
    pub(in crate::engine) fn wait_for_started<W: KeeperWork>(
        &self,
        executor: &dyn Executor,
        work: &W,
    ) -> Result<Finished<W::Answer>> {
        self.wait_from(executor, work, EarlierResult::Use, 1)
    }

    /// Returns the end of work. Returns `None` while a keeper runs, and starts one if none has.
    pub(in crate::engine) fn poll<W: KeeperWork>(
        &self,
        executor: &dyn Executor,
        work: &W,
        earlier: EarlierResult,
    ) -> Result<Option<Finished<W::Answer>>> {
        let Some(lock) = Lock::try_take_undescribed(&self.lock)? else { return Ok(None) };
        match self.settle(lock, executor, work, earlier, 0)? {
            Settled::Finished(finished) => Ok(Some(finished)),
            Settled::Started => Ok(None),
        }
    }

    /// Calls [`wait`](Self::wait) or [`poll`](Self::poll).
    pub(in crate::engine) fn carry_out<W: KeeperWork>(
        &self,
        executor: &dyn Executor,
        work: &W,
        wait: KeeperWait,
        earlier: EarlierResult,
    ) -> Result<Option<Finished<W::Answer>>> {
        match wait {
            KeeperWait::Block => self.wait(executor, work, earlier).map(Some),
            KeeperWait::Poll => self.poll(executor, work, earlier),
        }
    }

    /// Starts work that nothing has started before.
    pub(in crate::engine) fn start(
        &self,
        executor: &dyn Executor,
        handover: &Handover,
    ) -> Result<()> {
        let lock = Lock::try_take(&self.lock, "")?.map_err(|holder| {
            anyhow::anyhow!("the assignment is being carried out already: {holder}")
        })?;
        self.hand_over(&lock, executor, handover)
    }

    /// Removes the files of an earlier keeper, but not the lock file, whose lock may be held.
    pub(in crate::engine) fn clear(&self) -> Result<()> {
        self.temp_folder().remove()?;
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() == files::LOCK {
                continue;
            }
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn temp_folder(&self) -> TempFolder {
        TempFolder::new(self.dir.join(files::TMP))
    }

    fn wait_from<W: KeeperWork>(
        &self,
        executor: &dyn Executor,
        work: &W,
        mut earlier: EarlierResult,
        mut starts: u32,
    ) -> Result<Finished<W::Answer>> {
        loop {
            let lock = Lock::wait(&self.lock)?;
            match self.settle(lock, executor, work, earlier, starts)? {
                Settled::Finished(finished) => return Ok(finished),
                Settled::Started => {
                    (earlier, starts) = (EarlierResult::Use, starts + 1);
                }
            }
        }
    }

    /// Reads the outcome of a keeper that has ended, or starts a keeper. `starts` is the number of
    /// keepers that the caller has started.
    fn settle<W: KeeperWork>(
        &self,
        lock: Lock,
        executor: &dyn Executor,
        work: &W,
        earlier: EarlierResult,
        starts: u32,
    ) -> Result<Settled<W::Answer>> {
        let assignment = Assignment::read(&self.dir)?;
        if earlier == EarlierResult::Use
            && let Some(answer) = work.answer(&self.dir, assignment.as_ref())?
        {
            return Ok(Settled::Finished(Finished::Answered(answer)));
        }
        if let Some(old) = &assignment {
            // The keeper died, or carried out another assignment. Its processes must not meet those
            // of the next keeper in the worktree.
            process::kill_marked(&old.marker);
            self.temp_folder().remove_outside()?;
        }
        let dead = self.dead_keeper(lock, assignment)?;
        let goes_on = match (dead.has_started, work.on_death()) {
            // A keeper that died before it took over its lock (Ctrl-C in the first milliseconds).
            (false, OnDeath::Report | OnDeath::ReportOwn | OnDeath::Replace)
            | (true, OnDeath::Replace) => starts <= MAX_REPLACEMENTS,
            (true, OnDeath::ReportOwn) => starts == 0,
            (true, OnDeath::Report) => false,
        };
        match goes_on.then(|| work.handover()).transpose()?.flatten() {
            Some(handover) => {
                self.hand_over(&dead.lock, executor, &handover)?;
                Ok(Settled::Started)
            }
            None => Ok(Settled::Finished(Finished::Died(Box::new(dead)))),
        }
    }

    fn dead_keeper(&self, lock: Lock, assignment: Option<Assignment>) -> Result<DeadKeeper> {
        let has_started =
            assignment.is_some() && !Lock::last_holder(&self.lock)?.0.trim().is_empty();
        let log = std::fs::read_to_string(self.dir.join(files::LOG)).unwrap_or_default();
        let last_line = log.lines().next_back().unwrap_or("it left no log").to_owned();
        Ok(DeadKeeper { lock, assignment, has_started, last_line })
    }

    /// Writes an assignment and gives it to a keeper.
    fn hand_over(&self, lock: &Lock, executor: &dyn Executor, handover: &Handover) -> Result<()> {
        let (written, handed_over) = failpoints(&handover.work);
        self.clear()?;
        let mut environment = handover.environment.clone();
        let preferred = ambient::variable("TMPDIR").map(OsString::from);
        let folder = self.temp_folder();
        let tmpdir = match handover.sandbox {
            Some(_) => folder.create_inside()?,
            None => folder.create(preferred.as_deref())?,
        };
        environment.set("TMPDIR", tmpdir);
        // The text of an earlier keeper would make it seem that this one took over.
        lock.describe("")?;
        for (name, text) in &handover.files {
            let path = self.dir.join(name);
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        seal::write_assignment(&self.dir, &handover.assignment(), &handover.key)?;
        failpoint::hit(written);
        environment.set(seal::KEY, handover.key.to_hex());
        executor.hand_over(&handover.worktree.name, &self.dir, lock, &environment)?;
        failpoint::hit(handed_over);
        Ok(())
    }
}

/// Removes the folder of an assignment whose keeper has ended. Failures are ignored: the next
/// keeper clears the folder.
pub(in crate::engine) fn discard_folder(dir: &Path) {
    TempFolder::new(dir.join(files::TMP)).remove().ok();
    std::fs::remove_dir_all(dir).ok();
}

/// Returns the failpoints of a handover: after the assignment is written, and after it is handed
/// over.
fn failpoints(work: &Work) -> (&'static str, &'static str) {
    match work {
        Work::Attempt(_) => ("attempt.spec-written", "attempt.keeper-started"),
        Work::Checks(_) => ("checks.spec-written", "checks.keeper-started"),
        Work::Evaluation(_) => ("evaluation.spec-written", "evaluation.keeper-started"),
    }
}

/// Returns the environment of a keeper and its commands: built from nothing, with the variables in
/// `pass`.
pub(in crate::engine) fn environment(
    ambient: &BTreeMap<OsString, OsString>,
    identity: &Identity,
    dir: &Path,
    pass: &[String],
) -> Environ {
    let mut env = Environ::for_command(ambient, &dir.join(files::TMP), identity, pass);
    let variable = |name: &str| {
        let value = ambient.get(std::ffi::OsStr::new(name))?;
        value.to_str().map(str::to_owned)
    };
    if let Some(proxies) = UpstreamProxies::from_environment(variable).to_text() {
        env.set(UPSTREAM, proxies);
    }
    if cfg!(debug_assertions) {
        for name in [failpoint::COUNTER, failpoint::AT] {
            if let Some(value) = ambient.get(std::ffi::OsStr::new(name)) {
                env.set(name, value);
            }
        }
    }
    env
}
