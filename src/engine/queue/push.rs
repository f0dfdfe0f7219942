//! A target with a counterpart in another repository. Every landing is pushed before it happens
//! here, and a refusal means that the target has moved there.
//!
//! The remote gets a landing first, by compare-and-swap with its last known tip. If the worker is
//! killed between the two, this copy is behind, and takes over the remote's tip when the work goes
//! on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::context::QueueContext;
use super::git_host::GitHost;
use super::host::{QueueHost as _, QueueReport};
use crate::domain::id::Oid;
use crate::process::{GitOutput, write_atomic};
use crate::repo;
use crate::store::{Expected, RefMove};
use crate::wire::{VERSION, decode};

/// The outcome of a push.
pub(super) enum PushOutcome {
    /// The remote has the landing.
    Pushed,
    /// The remote has another tip. The message is git's.
    Moved(String),
    /// The push failed. The message is git's.
    Failed(String),
}

/// The URLs of a remote, as git resolves them.
struct RemoteUrls {
    fetched: Option<String>,
    pushed: Option<String>,
}

/// The last known tips of the target in other repositories, for those that are given as a URL: they
/// have no remote-tracking branch. URLs are kept as hashes, because they may hold a password.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KnownTips {
    /// The format's version.
    v: u32,
    tips: BTreeMap<String, String>,
}

impl KnownTips {
    fn file(context: &QueueContext) -> PathBuf {
        context.folder().join("remotes.json")
    }

    /// Reads the file. A file that is missing or damaged holds no tips.
    fn read(context: &QueueContext) -> Self {
        let bytes = std::fs::read(Self::file(context)).ok();
        let tips = bytes.and_then(|bytes| decode::<Self>("remotes.json", &bytes).ok());
        tips.unwrap_or_default()
    }

    fn of(&self, url: &str) -> Result<Option<Oid>> {
        let tip = self.tips.get(&repo::sha1_hex([url.as_bytes()])?);
        Ok(tip.and_then(|tip| Oid::parse(tip).ok()))
    }

    fn record(&mut self, context: &QueueContext, url: &str, tip: &Oid) -> Result<()> {
        let old = self.tips.insert(repo::sha1_hex([url.as_bytes()])?, tip.to_string());
        if old.as_deref() == Some(tip.as_str()) {
            return Ok(());
        }
        self.v = VERSION;
        std::fs::create_dir_all(context.folder())?;
        write_atomic(&Self::file(context), &serde_json::to_vec(self)?)?;
        Ok(())
    }
}

impl GitHost<'_> {
    /// Takes over the remote's tip, if it is ahead. Returns the reason why that cannot happen.
    pub(super) fn pull_remote(&mut self) -> Result<Option<String>> {
        let Some(remote) = self.remote.clone() else { return Ok(None) };
        let context = std::sync::Arc::clone(&self.context);
        let (target, store, short) = (&context.target, &context.store, context.short());
        let RemoteUrls { fetched, pushed } = self.remote_urls(&remote)?;
        let counterpart = pushed.clone().filter(|_| pushed != fetched);
        let git = |args: &[&str]| self.on_remote(args);
        let url = counterpart.as_ref().unwrap_or(&remote).as_str();
        let mut known_tips = KnownTips::read(&context);
        let place = pushed.as_ref().unwrap_or(&remote).as_str();
        let listed = git(&["ls-remote", "--exit-code", url, target])?;
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
        let tip = context.tip()?;
        if remote_tip.as_ref() == Some(&tip) {
            known_tips.record(&context, place, &tip)?;
            self.remote_tip = remote_tip;
            return Ok(None);
        }
        // Without an update of the remote-tracking branch, which is what the remote had before.
        let fetch = ["fetch", "--quiet", "--refmap=", "--no-tags", "--no-write-fetch-head"];
        if remote_tip.is_some() {
            let fetched = git(&[&fetch[..], &[url, target]].concat())?;
            if fetched.code != Some(0) {
                return Ok(Some(format!("`{remote}` cannot be fetched from: {}", fetched.stderr)));
            }
        }
        let tracking = format!("refs/remotes/{remote}/{short}");
        // An URL has no remote-tracking branch.
        let named = !store.repo().settings(&format!("remote.{remote}.url")).is_empty();
        let tracked = match named && counterpart.is_none() {
            true => store.read(&tracking)?,
            false => None,
        };
        // What was pushed there and is still here would be pushed again.
        let pushed_before = known_tips.of(place)?;
        let is_here = |known: &Oid| store.repo().is_ancestor(known, &tip).unwrap_or(false);
        let pushed_before = pushed_before.filter(is_here);
        for known in [self.remote_tip.clone(), tracked, pushed_before].into_iter().flatten() {
            let kept = |now: &Oid| store.repo().is_ancestor(&known, now);
            if remote_tip.as_ref().map(kept).transpose()?.unwrap_or(false) {
                continue;
            }
            let now = remote_tip.as_ref().map_or("gone", Oid::short);
            return Ok(Some(format!(
                "`{short}` at `{remote}` was set back or rewritten: it was at {} and is {now} now; \
                 `git push {remote} {short}` restores it, or `git fetch {remote}` and `git reset` accept that",
                known.short()
            )));
        }
        self.remote_tip.clone_from(&remote_tip);
        if let Some(remote_tip) = &remote_tip {
            known_tips.record(&context, place, remote_tip)?;
        }
        let Some(remote_tip) = remote_tip else { return Ok(None) };
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
        if let Some(obstacle) = store.holds_landing(target, &tip, &remote_tip)? {
            let why = obstacle.reason;
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

    /// Runs git in the main work tree: the path of a remote is relative to that.
    fn on_remote(&self, args: &[&str]) -> Result<GitOutput> {
        let repo = self.context.store.repo();
        let git = self.context.store.git().with("GIT_DIR", repo.common_dir());
        let git = repo.work_dir().map_or(git.clone(), |top| git.with("GIT_WORK_TREE", top));
        git.on_remote(args, &self.context.environment, &|| self.interrupt.is_raised())
    }

    /// Returns the URLs of a remote, or none for a remote that is itself given as a URL. A remote
    /// that gets the landings must be read where git pushes to.
    fn remote_urls(&self, remote: &str) -> Result<RemoteUrls> {
        let url = |args: &[&str]| -> Result<Option<String>> {
            let output = self.on_remote(args)?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text.lines().next().filter(|_| output.code == Some(0)).map(str::to_owned))
        };
        let pushed = url(&["remote", "get-url", "--push", remote])?;
        Ok(RemoteUrls { fetched: url(&["remote", "get-url", remote])?, pushed })
    }

    /// Pushes the commit that is about to land. A commit that does not contain the remote's tip is
    /// never pushed: the push would take back what others have there.
    pub(super) fn push(&mut self, remote: &str, commit: &Oid) -> Result<PushOutcome> {
        let context = std::sync::Arc::clone(&self.context);
        if let Some(known) = &self.remote_tip
            && !context.store.repo().is_ancestor(known, commit).unwrap_or(false)
        {
            return Ok(PushOutcome::Moved("it has commits that are not here".to_owned()));
        }
        let target = &context.target;
        let expected = self.remote_tip.as_ref().map_or("", Oid::as_str);
        let lease = format!("--force-with-lease={target}:{expected}");
        let refspec = format!("{commit}:{target}");
        let args = ["push", "--porcelain", &lease, remote, &refspec];
        let pushed = self.on_remote(&args)?;
        if pushed.code == Some(0) {
            self.remote_tip = Some(commit.clone());
            let place = self.remote_urls(remote)?.pushed;
            let mut known_tips = KnownTips::read(&context);
            known_tips.record(&context, place.as_deref().unwrap_or(remote), commit)?;
            return Ok(PushOutcome::Pushed);
        }
        let text = String::from_utf8_lossy(&pushed.stdout).into_owned();
        // Git itself refused, and not a rule of the other side.
        let moved = text.lines().any(|line| line.starts_with('!') && line.contains("[rejected]"));
        let message = push_failure(&text, &pushed.stderr);
        Ok(if moved { PushOutcome::Moved(message) } else { PushOutcome::Failed(message) })
    }
}

/// Returns the reasons of a failed push: the refused refs of git's porcelain output, each line of
/// which has the fields flag, refs and summary, and what the remote and git said.
fn push_failure(stdout: &str, stderr: &str) -> String {
    let refused = stdout.lines().filter(|line| line.starts_with('!'));
    let summaries = refused.filter_map(|line| line.split('\t').nth(2));
    let said = stderr
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with("error: failed to push some refs"));
    summaries.chain(said).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::push_failure;

    #[test]
    fn push_failure_gives_the_summary_and_the_words_of_the_remote() {
        let stdout =
            "To ../bare.git\n!\ta4c0:refs/heads/main\t[remote rejected] (hook declined)\nDone\n";
        let stderr =
            "remote: no pushes on sundays   \nerror: failed to push some refs to '../bare.git'\n";
        let expected = "[remote rejected] (hook declined)\nremote: no pushes on sundays";
        assert_eq!(push_failure(stdout, stderr), expected);
        assert_eq!(push_failure("", "fatal: no network\n"), "fatal: no network");
    }
}
