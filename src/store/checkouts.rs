//! Checkouts of a target. They follow when the target moves; uncommitted changes are never touched.
//!
//! Before a landing, a dry run tests each checkout. A checkout that could not follow holds the
//! landing. A checkout may change between the dry run and the landing so that it cannot follow. The
//! branch has moved by then, and the checkout stays behind. Such a checkout is recorded until it
//! has followed, and a message names the command that repairs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Store, layout};
use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::shell::shell_quote;
use crate::process::{self, Git, GitOutput};
use crate::repo::{self, Checkout, FailedMove, HalfMoved};
use crate::wire::{VERSION, check_version};

/// The number of tries for a checkout whose index is locked, and the pause between the tries.
const LOCKED_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The number of paths in one call of git.
const PATHS: usize = 500;

/// The start of the first line of the file that lists the checkouts that are behind. The format
/// version follows.
const HEADER: &str = "git-harness behind ";

/// A checkout whose files are those of an older commit than the tip of its branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The folder.
    pub path: PathBuf,
    /// The commit whose files the checkout shows.
    pub shows: Oid,
    /// The message of git.
    pub why: String,
}

impl Behind {
    /// Returns the command with which a person moves the checkout to the commit `tip`.
    pub fn repair(&self, tip: &Oid) -> String {
        let path = shell_quote(&self.path.to_string_lossy());
        format!("git -C {path} read-tree -m -u {} {}", self.shows.short(), tip.short())
    }

    /// Returns the message for people, on one line.
    pub fn message(&self, tip: &Oid) -> String {
        format!(
            "landed, checkout behind: {} ({}); once that is fixed, run `{}`",
            self.path.display(),
            self.why,
            self.repair(tip)
        )
    }
}

/// Something that is in the way of a landing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandingObstacle {
    /// The reason why the landing waits.
    pub reason: String,
    /// True if another git process holds a lock. Such a lock goes away by itself.
    pub is_lock: bool,
}

impl From<String> for LandingObstacle {
    fn from(reason: String) -> Self {
        Self { reason, is_lock: false }
    }
}

impl LandingObstacle {
    /// Describes why a checkout of the target cannot follow. `why` is git's message.
    fn at(checkout: &Checkout, target: &str, why: &str) -> Self {
        let path = checkout.work_dir.display();
        let lock = checkout.git_dir.join(INDEX_LOCK);
        if why.contains(INDEX_LOCK) && lock.symlink_metadata().is_ok() {
            let (lock, state) = (lock.display(), process::describe_lock(&lock));
            let reason = format!(
                "`{target}` is checked out in {path}, and its index is locked: {lock} is {state}"
            );
            return Self { reason, is_lock: true };
        }
        Self::from(format!(
            "`{target}` is checked out in {path}, and the landing would overwrite uncommitted changes there: {why}"
        ))
    }
}

/// The lock of a checkout's index.
const INDEX_LOCK: &str = "index.lock";

impl Store {
    /// Returns the reason why the target cannot move from `old` to `new` at the moment, or `None`
    /// if the target can move.
    pub fn holds_landing(
        &self,
        target: &str,
        old: &Oid,
        new: &Oid,
    ) -> Result<Option<LandingObstacle>> {
        if let Some(why) = self.changed_settings() {
            return Ok(Some(why.into()));
        }
        let (behind, short) = (self.shown(target)?, layout::short(target));
        for checkout in repo::checkouts(self.repo(), target)? {
            let path = checkout.work_dir.display();
            if checkout.absent.is_some() {
                continue;
            }
            if checkout.rebasing {
                let why = format!(
                    "a rebase of `{short}` is in progress in {path}; finish or abort the rebase first"
                );
                return Ok(Some(why.into()));
            }
            let noted = behind.get(&checkout.work_dir);
            let shows = match noted {
                // The checkout is still behind. After the repair command, its index would have
                // moved to `old`.
                Some(shown)
                    if !repo::index_has_moved(self.repo(), &checkout.git_dir, shown, old)? =>
                {
                    shown
                }
                Some(_) | None => old,
            };
            if let Some(why) = self.read_tree(&checkout, shows, new, true)? {
                return Ok(Some(LandingObstacle::at(&checkout, short, &why)));
            }
        }
        Ok(None)
    }

    /// Lets the checkouts of a target follow from one commit to another. Records those that could
    /// not follow, and returns them for messages.
    pub fn follow(&self, target: &str, old: &Oid, new: &Oid) -> Result<Vec<Behind>> {
        let before = self.shown(target)?;
        let mut still_behind = BTreeMap::new();
        let mut behind = Vec::new();
        for checkout in repo::checkouts(self.repo(), target)? {
            let followed = |from: &Oid, to: &Oid| {
                repo::index_has_moved(self.repo(), &checkout.git_dir, from, to)
            };
            let shows = match before.get(&checkout.work_dir) {
                Some(shown) if !followed(shown, old)? => shown,
                Some(_) | None => old,
            };
            if followed(shows, new)? {
                // A killed process or a person has moved the checkout already. Moving it again
                // would undo what was staged since.
                continue;
            }
            let refusal = match (&checkout.absent, checkout.rebasing) {
                (Some(absent), _) => Some(absent.clone()),
                // Git would run the programs that the settings name.
                (None, false) if self.changed_settings().is_some() => self.changed_settings(),
                (None, true) => Some("a rebase is in progress there".to_owned()),
                (None, false) => self.move_checkout(&checkout, shows, new)?,
            };
            if let Some(why) = refusal {
                let path = checkout.work_dir;
                still_behind.insert(path.clone(), shows.clone());
                // A worktree that is gone is named once, not at each landing.
                if checkout.absent.is_none() || !before.contains_key(&path) {
                    behind.push(Behind { path, shows: shows.clone(), why });
                }
            }
        }
        if before != still_behind {
            self.note_shown(target, &still_behind)?;
        }
        Ok(behind)
    }

    /// Returns the checkouts that are behind their target.
    pub fn behind(&self, target: &str) -> Result<Vec<Behind>> {
        let mut shown = self.shown(target)?;
        let (checkouts, tip) = match (shown.is_empty(), self.read(target)?) {
            (false, Some(tip)) => (repo::checkouts(self.repo(), target)?, tip),
            (true, _) | (false, None) => return Ok(Vec::new()),
        };
        // A work tree that is forgotten, or that has another branch now, is not behind.
        shown.retain(|path, _| checkouts.iter().any(|checkout| checkout.work_dir == *path));
        for checkout in checkouts {
            if let Some(shows) = shown.get(&checkout.work_dir)
                && repo::index_has_moved(self.repo(), &checkout.git_dir, shows, &tip)?
            {
                shown.remove(&checkout.work_dir);
            }
        }
        let why = || "it could not follow the target".to_owned();
        Ok(shown.into_iter().map(|(path, shows)| Behind { path, shows, why: why() }).collect())
    }

    /// Moves a checkout from one commit to another. With `dry_run`, only tests whether that is
    /// possible. After a failure, returns the reason.
    fn read_tree(
        &self,
        checkout: &Checkout,
        old: &Oid,
        new: &Oid,
        dry_run: bool,
    ) -> Result<Option<String>> {
        // In a dry run, git's own message has priority. Otherwise the test for ignored files comes
        // first, because git would overwrite them.
        if dry_run && let Some(why) = read_tree(self.git(), checkout, old, new, true)? {
            return Ok(Some(why));
        }
        if let Some(file) = repo::untracked_in_the_way(self.repo(), checkout, old, new)? {
            let file = file.display();
            return Ok(Some(format!("error: Ignored file '{file}' would be lost by the landing.")));
        }
        if dry_run { Ok(None) } else { read_tree(self.git(), checkout, old, new, false) }
    }

    /// Moves a checkout from one commit to another. After a failure, puts the files back that git
    /// has written until then: else they would count as changed, and the repair command would
    /// refuse. Returns the reason of the failure.
    fn move_checkout(&self, checkout: &Checkout, old: &Oid, new: &Oid) -> Result<Option<String>> {
        let since = ambient::now();
        let why = self.read_tree(checkout, old, new, false)?;
        if why.is_some() {
            let is_converted = |path: &Path, blob: &Oid| {
                let Some(name) = path.to_str() else { return Ok(false) };
                let hash = run_in(self.git(), checkout, &["hash-object", "--", name])?;
                Ok(hash.stdout.trim_ascii() == blob.as_str().as_bytes())
            };
            let failed = FailedMove { checkout, old, new, since, is_converted: &is_converted };
            self.put_back(checkout, &repo::half_moved(self.repo(), &failed)?)?;
        }
        Ok(why)
    }

    /// Puts back what a failed move of a checkout has written.
    fn put_back(&self, checkout: &Checkout, left: &HalfMoved) -> Result<()> {
        // First, because a full disk then has room for the others.
        for path in &left.remove {
            std::fs::remove_file(checkout.work_dir.join(path)).ok();
            for folder in path.ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
                if std::fs::remove_dir(checkout.work_dir.join(folder)).is_err() {
                    break;
                }
            }
        }
        let names: Vec<&str> = left.restore.iter().filter_map(|path| path.to_str()).collect();
        for names in names.chunks(PATHS) {
            let restore = |names: &[&str]| {
                let args = [&["checkout-index", "-q", "-f", "-u", "--"][..], names].concat();
                run_in(self.git(), checkout, &args)
            };
            if restore(names)?.code == Some(0) {
                continue;
            }
            // One of the files cannot be written. A missing file does not stop the repair command.
            for name in names {
                restore(&[name])?;
            }
        }
        Ok(())
    }

    fn shown_file(&self, target: &str) -> PathBuf {
        self.local().checkouts_behind(&layout::target_key(target))
    }

    /// Reads the checkouts that are behind, each with the commit whose files it shows.
    fn shown(&self, target: &str) -> Result<BTreeMap<PathBuf, Oid>> {
        let file = self.shown_file(target);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(BTreeMap::new());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        let mut lines = text.lines();
        let version = lines.next().and_then(|line| line.strip_prefix(HEADER));
        check_version(&file.display().to_string(), version)?;
        let line = |line: &str| {
            let (shows, path) = line.split_once(' ')?;
            Some((PathBuf::from(path), Oid::parse(shows).ok()?))
        };
        Ok(lines.filter_map(line).collect())
    }

    fn note_shown(&self, target: &str, shown: &BTreeMap<PathBuf, Oid>) -> Result<()> {
        let file = self.shown_file(target);
        super::make_parent(&file)?;
        let lines: String =
            shown.iter().map(|(path, id)| format!("{id} {}\n", path.display())).collect();
        process::write_atomic(&file, format!("{HEADER}{VERSION}\n{lines}").as_bytes())
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Runs git in a checkout of the user's. The user's filters run, as in any checkout: without them
/// the content would be wrong. The user's hooks do not run.
fn run_in(git: &Git, checkout: &Checkout, args: &[&str]) -> Result<GitOutput> {
    let git = git.with("GIT_DIR", &checkout.git_dir).with("GIT_WORK_TREE", &checkout.work_dir);
    let all: Vec<&str> = ["-c", "core.hooksPath=/dev/null"].iter().chain(args).copied().collect();
    git.as_user(&all, &ambient::environment())
}

/// Moves a checkout from one commit to another. With `dry_run`, only tests whether that is
/// possible. After a failure, returns the first line of git's message.
fn read_tree(
    git: &Git,
    checkout: &Checkout,
    old: &Oid,
    new: &Oid,
    dry_run: bool,
) -> Result<Option<String>> {
    let run = |args: &[&str]| run_in(git, checkout, args);
    let mut args = vec!["read-tree", "-m", "-u"];
    args.extend(dry_run.then_some("--dry-run"));
    args.extend([old.as_str(), new.as_str()]);
    for tries in 1.. {
        // Files of which only the stat data changed must not count as changed. A failure of this
        // command is not an error here.
        run(&["update-index", "-q", "--refresh"])?;
        let output = run(&args)?;
        if output.code == Some(0) {
            return Ok(None);
        }
        // Another git process works in this checkout, perhaps one that a killed supervisor left
        // behind. Such a process ends soon.
        if !output.stderr.contains(INDEX_LOCK) || tries == LOCKED_TRIES {
            return Ok(Some(output.stderr.lines().next().unwrap_or("").to_owned()));
        }
        ambient::pause(LOCK_PAUSE);
    }
    Ok(None)
}
