//! A target with a counterpart in another repository. Every landing is pushed before it happens
//! here, and a refusal means that the target has moved there.
//!
//! The remote gets a landing first, by compare-and-swap with its last known tip. If the worker is
//! killed between the two, this copy is behind, and takes over the remote's tip when the work goes
//! on.

use anyhow::{Context as _, Result};

use super::git_host::GitHost;
use super::host::{QueueHost as _, QueueReport};
use crate::domain::id::Oid;
use crate::process::Git;
use crate::store::{Expected, RefMove};

/// The outcome of a push.
pub(super) enum PushOutcome {
    /// The remote has the landing.
    Pushed,
    /// The remote has another tip.
    Moved,
    /// The push failed. The message is git's.
    Failed(String),
}

impl GitHost<'_> {
    /// Takes over the remote's tip, if it is ahead. Returns the reason why that cannot happen.
    pub(super) fn pull_remote(&mut self) -> Result<Option<String>> {
        let Some(remote) = self.remote.clone() else { return Ok(None) };
        let context = std::sync::Arc::clone(&self.context);
        let (target, store, short) = (&context.target, &context.store, context.short());
        let in_work_tree = self.in_work_tree(store.git());
        let git = |args: &[&str]| in_work_tree.as_user(args, &context.environment);
        let listed = git(&["ls-remote", "--exit-code", &remote, target])?;
        let remote_tip = match listed.code {
            Some(0) => {
                let text = String::from_utf8_lossy(&listed.stdout).into_owned();
                let id = text.split_whitespace().next().unwrap_or_default().to_owned();
                Some(Oid::parse(&id).with_context(|| format!("git ls-remote printed: {text}"))?)
            }
            // The remote has no such branch yet.
            Some(2) => None,
            _ => return Ok(Some(format!("`{remote}` cannot be read: {}", listed.stderr))),
        };
        self.remote_tip.clone_from(&remote_tip);
        let Some(remote_tip) = remote_tip else { return Ok(None) };
        let tip = context.tip()?;
        if tip == remote_tip {
            return Ok(None);
        }
        let fetched = git(&["fetch", "--quiet", &remote, target])?;
        if fetched.code != Some(0) {
            return Ok(Some(format!("`{remote}` cannot be fetched from: {}", fetched.stderr)));
        }
        if store.repo().is_ancestor(&remote_tip, &tip)? {
            return Ok(None);
        }
        if !store.repo().is_ancestor(&tip, &remote_tip)? {
            return Ok(Some(format!(
                "`{short}` here and at `{remote}` have diverged: bring them together first, for example with \
                 `git pull --rebase {remote} {short}`"
            )));
        }
        let proof = store.hold_target(target)?;
        if let Some(why) = store.holds_landing(target, &tip, &remote_tip)? {
            return Ok(Some(format!(
                "`{short}` has moved at `{remote}`, and cannot follow here: {why}"
            )));
        }
        let old = Expected::Value(tip.clone());
        store.transact(&[RefMove::to(target.clone(), remote_tip.clone(), old)])?;
        let behind = store.follow(target, &tip, &remote_tip)?;
        drop(proof);
        for checkout in behind {
            self.report(QueueReport::Note(checkout.message(&remote_tip)));
        }
        let text =
            format!("`{short}` has moved at `{remote}`; it is at {} here, too", remote_tip.short());
        self.report(QueueReport::Note(text));
        Ok(None)
    }

    /// Returns git in the main work tree: the path of a remote is relative to that.
    fn in_work_tree(&self, git: &Git) -> Git {
        let repo = self.context.store.repo();
        let git = git.with("GIT_DIR", repo.common_dir());
        repo.work_dir().map_or(git.clone(), |top| git.with("GIT_WORK_TREE", top))
    }

    /// Pushes the commit that is about to land. A commit that does not contain the remote's tip is
    /// never pushed: the push would take back what others have there.
    pub(super) fn push(&mut self, remote: &str, commit: &Oid) -> Result<PushOutcome> {
        let context = std::sync::Arc::clone(&self.context);
        if let Some(known) = &self.remote_tip
            && !context.store.repo().is_ancestor(known, commit).unwrap_or(false)
        {
            return Ok(PushOutcome::Moved);
        }
        let target = &context.target;
        let expected = self.remote_tip.as_ref().map_or("", Oid::as_str);
        let lease = format!("--force-with-lease={target}:{expected}");
        let refspec = format!("{commit}:{target}");
        let args = ["push", "--porcelain", &lease, remote, &refspec];
        let git = self.in_work_tree(context.store.git());
        let pushed = git.as_user(&args, &context.environment)?;
        if pushed.code == Some(0) {
            self.remote_tip = Some(commit.clone());
            return Ok(PushOutcome::Pushed);
        }
        let text = String::from_utf8_lossy(&pushed.stdout).into_owned();
        // Git itself refused, and not a rule of the other side.
        let moved = text.lines().any(|line| line.starts_with('!') && line.contains("[rejected]"));
        let message = format!("{} {}", text.trim(), pushed.stderr.trim());
        Ok(if moved { PushOutcome::Moved } else { PushOutcome::Failed(message) })
    }
}
