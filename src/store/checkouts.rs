//! The work trees in which a target is checked out: they follow when it moves, and nobody's changes are touched.
//!
//! Before a landing each is tried without writing; one that could not follow holds the landing. What happens between that and
//! the landing itself cannot be undone: then the branch has moved and a work tree is behind, which is noted until it has
//! followed, with the command that makes it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Store, layout};
use crate::ambient;
use crate::domain::id::Oid;
use crate::process::{self, Git};
use crate::repo::{self, Checkout};

/// How often a work tree is tried whose index somebody else has locked, and how long is waited in between.
const LOCKED: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// A work tree that shows an older commit than its branch has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Where it is.
    pub path: PathBuf,
    /// The commit whose files it has.
    pub shows: Oid,
    /// What git said.
    pub why: String,
}

impl Behind {
    /// The command that makes it follow to a commit, for a person to run.
    pub fn repair(&self, tip: &Oid) -> String {
        let path = self.path.display();
        format!("git -C {path} read-tree -m -u {} {}", self.shows.short(), tip.short())
    }

    /// All of it in a line.
    pub fn told(&self, tip: &Oid) -> String {
        format!(
            "landed, checkout behind: {} ({}); when that is mended: `{}`",
            self.path.display(),
            self.why,
            self.repair(tip)
        )
    }
}

impl Store {
    /// Why the target cannot move from one commit to another at the moment; nothing if it can.
    pub fn holds_landing(&self, target: &str, old: &Oid, new: &Oid) -> Result<Option<String>> {
        let behind = self.shown(target)?;
        for checkout in repo::checkouts(self.repo(), target)? {
            let path = checkout.work_dir.display();
            if checkout.rebasing {
                return Ok(Some(format!("a rebase of it is under way in {path}: end that first")));
            }
            let noted = behind.get(&checkout.work_dir);
            let shows = match noted {
                // Somebody has made it follow since.
                Some(shown)
                    if !repo::index_has_moved(self.repo(), &checkout.git_dir, shown, old)? =>
                {
                    shown
                }
                Some(_) | None => old,
            };
            if let Some(why) = read_tree(self.git(), &checkout, shows, new, true)? {
                return Ok(Some(format!(
                    "it is checked out in {path}, where the landing would touch what is not committed: {why}"
                )));
            }
        }
        Ok(None)
    }

    /// Makes the work trees of a target follow from one commit to another. Those that could not are noted and returned.
    pub fn follow(&self, target: &str, old: &Oid, new: &Oid) -> Result<Vec<Behind>> {
        let before = self.shown(target)?;
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
                // A process that was killed, or a person, has done it: to do it again would undo what was staged since.
                continue;
            }
            let said = match checkout.rebasing {
                true => Some("a rebase is under way there".to_owned()),
                false => read_tree(self.git(), &checkout, shows, new, false)?,
            };
            if let Some(why) = said {
                behind.push(Behind { path: checkout.work_dir, shows: shows.clone(), why });
            }
        }
        let now = behind.iter().map(|b| (b.path.clone(), b.shows.clone())).collect();
        if before != now {
            self.note_shown(target, &now)?;
        }
        Ok(behind)
    }

    /// The work trees that are known to be behind their target.
    pub fn behind(&self, target: &str) -> Result<Vec<Behind>> {
        let mut shown = self.shown(target)?;
        let (checkouts, tip) = match (shown.is_empty(), self.read(target)?) {
            (false, Some(tip)) => (repo::checkouts(self.repo(), target)?, tip),
            (true, _) | (false, None) => return Ok(Vec::new()),
        };
        for checkout in checkouts {
            if let Some(shows) = shown.get(&checkout.work_dir)
                && repo::index_has_moved(self.repo(), &checkout.git_dir, shows, &tip)?
            {
                shown.remove(&checkout.work_dir);
            }
        }
        let why = || "it could not follow when the target moved".to_owned();
        Ok(shown.into_iter().map(|(path, shows)| Behind { path, shows, why: why() }).collect())
    }

    fn shown_file(&self, target: &str) -> PathBuf {
        self.local().checkouts_behind(&layout::target_key(target))
    }

    /// Which commit's files those have that are behind.
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
        let line = |line: &str| {
            let (shows, path) = line.split_once(' ')?;
            Some((PathBuf::from(path), Oid::parse(shows).ok()?))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    fn note_shown(&self, target: &str, shown: &BTreeMap<PathBuf, Oid>) -> Result<()> {
        let file = self.shown_file(target);
        super::make_parent(&file)?;
        let lines: String =
            shown.iter().map(|(path, id)| format!("{id} {}\n", path.display())).collect();
        process::write_atomic(&file, lines.as_bytes())
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Takes a work tree from one commit to another, or only looks whether that can be done. What git said if not.
fn read_tree(
    git: &Git,
    checkout: &Checkout,
    old: &Oid,
    new: &Oid,
    dry_run: bool,
) -> Result<Option<String>> {
    let git = git.with("GIT_DIR", &checkout.git_dir).with("GIT_WORK_TREE", &checkout.work_dir);
    // As in a checkout by the user, their filters run: without them the content would be wrong. Their hooks do not.
    let run = |args: &[&str]| {
        let all: Vec<&str> =
            ["-c", "core.hooksPath=/dev/null"].iter().chain(args).copied().collect();
        git.as_user(&all, &ambient::environment())
    };
    let mut args = vec!["read-tree", "-m", "-u"];
    args.extend(dry_run.then_some("--dry-run"));
    args.extend([old.as_str(), new.as_str()]);
    for tried in 1.. {
        // Files that were only touched must not look changed. What it says of others is no error here.
        run(&["update-index", "-q", "--refresh"])?;
        let said = run(&args)?;
        if said.code == Some(0) {
            return Ok(None);
        }
        // Somebody's git is at work there, perhaps one that a killed process of ours has left: it will be done soon.
        if !said.stderr.contains("index.lock") || tried == LOCKED {
            return Ok(Some(said.stderr.lines().next().unwrap_or("").to_owned()));
        }
        ambient::pause(LOCK_PAUSE);
    }
    Ok(None)
}
