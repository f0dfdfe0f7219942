//! A target that has a counterpart in another repository: every landing is pushed before it happens here, and a refusal means that
//! the target has moved there.
//!
//! The remote is the first to have a landing, by compare-and-swap with what it had before. Killed between the two, this copy is
//! behind, and takes over what the remote has when the work goes on.

use anyhow::{Context as _, Result};

use super::Worker;
use crate::domain::id::Oid;
use crate::process::Git;
use crate::store::{Expected, RefMove};

/// How a push ended.
pub(super) enum Pushed {
    /// The remote has it.
    Done,
    /// The remote has something else.
    Moved,
    /// It did not work; what git said.
    Failed(String),
}

impl Worker<'_> {
    /// Takes over what the remote has, if it is ahead. What keeps that from happening, if anything does.
    pub(super) fn pull(&mut self) -> Result<Option<String>> {
        let Some(remote) = self.options.push.clone() else { return Ok(None) };
        let (target, store) = (self.desk.target.clone(), self.desk.store.clone());
        let short = self.desk.short().to_owned();
        let (home, desk) = (self.at_home(store.git()), std::sync::Arc::clone(&self.desk));
        let git = |args: &[&str]| home.as_user(args, &desk.environment);
        let listed = git(&["ls-remote", "--exit-code", &remote, &target])?;
        let there = match listed.code {
            Some(0) => {
                let text = String::from_utf8_lossy(&listed.stdout).into_owned();
                let id = text.split_whitespace().next().unwrap_or_default().to_owned();
                Some(Oid::parse(&id).with_context(|| format!("git ls-remote said: {text}"))?)
            }
            // It has no such branch yet.
            Some(2) => None,
            _ => return Ok(Some(format!("`{remote}` cannot be asked: {}", listed.stderr))),
        };
        self.remote_has.clone_from(&there);
        let Some(there) = there else { return Ok(None) };
        let here = self.desk.tip()?;
        if here == there {
            return Ok(None);
        }
        let fetched = git(&["fetch", "--quiet", &remote, &target])?;
        if fetched.code != Some(0) {
            return Ok(Some(format!("`{remote}` cannot be fetched from: {}", fetched.stderr)));
        }
        if store.repo().is_ancestor(&there, &here)? {
            return Ok(None);
        }
        if !store.repo().is_ancestor(&here, &there)? {
            return Ok(Some(format!(
                "`{short}` here and at `{remote}` have gone apart: bring them together first, for example with \
                 `git pull --rebase {remote} {short}`"
            )));
        }
        let proof = store.hold_target(&target)?;
        if let Some(why) = store.holds_landing(&target, &here, &there)? {
            return Ok(Some(format!(
                "`{short}` has moved at `{remote}`, and cannot follow here: {why}"
            )));
        }
        let old = Expected::Value(here.clone());
        store.transact(&[RefMove::to(target.clone(), there.clone(), old)])?;
        let behind = store.follow(&target, &here, &there)?;
        drop(proof);
        self.tell_behind(&behind, &there);
        self.note(format!(
            "`{short}` has moved at `{remote}`; it is at {} here, too",
            there.short()
        ));
        self.meet_target()?;
        Ok(None)
    }

    /// Git in the main work tree: the path of a remote is relative to that.
    fn at_home(&self, git: &Git) -> Git {
        let repo = self.desk.store.repo();
        let git = git.with("GIT_DIR", repo.common_dir());
        repo.work_dir().map_or(git.clone(), |top| git.with("GIT_WORK_TREE", top))
    }

    /// Pushes what is about to land.
    pub(super) fn push(&mut self, remote: &str, commit: &Oid) -> Result<Pushed> {
        let target = &self.desk.target;
        let expected = self.remote_has.as_ref().map_or("", Oid::as_str);
        let lease = format!("--force-with-lease={target}:{expected}");
        let what = format!("{commit}:{target}");
        let args = ["push", "--porcelain", &lease, remote, &what];
        let git = self.at_home(self.desk.store.git());
        let said = git.as_user(&args, &self.desk.environment)?;
        if said.code == Some(0) {
            self.remote_has = Some(commit.clone());
            return Ok(Pushed::Done);
        }
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        // Refused by git itself and not by a rule of the other side.
        let moved = text.lines().any(|line| line.starts_with('!') && line.contains("[rejected]"));
        let told = format!("{} {}", text.trim(), said.stderr.trim());
        Ok(if moved { Pushed::Moved } else { Pushed::Failed(told) })
    }
}
