//! The keeper: a small process between a supervisor and an agent. Each worktree has at most one
//! keeper at a time.
//!
//! A keeper takes assignments from its supervisor, one after the other: attempts, verifications and
//! evaluations. A keeper ends when the supervisor has gone and the assignment is done. One keeper
//! serves many assignments, because starting a process and opening the repository cost several
//! times what a small assignment does.
//!
//! A keeper outlives its supervisor. The keeper prepares the worktree, runs the command, ends the
//! whole process tree, saves the work and publishes the outcome in one place: one ref for an
//! attempt, one file for a verification or an evaluation. The keeper records, the supervisor
//! decides. The keeper's lock is the only sign of its life.

mod attempt;
mod built_in;
mod caches;
mod checks;
mod evaluation;
mod kept;
mod leftover;
mod network;
mod sandbox;
pub(crate) mod seal;
mod session;
mod setup;
mod withhold;
mod worktree;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ambient;
use crate::domain::verdict::error_rank;
use crate::failpoint;
use crate::process::{
    self, Environ, Holder, KeeperInbox, ReceivedAssignment, StopFlag, TempFolder,
};
use crate::repo::{self, Repo, SealKey};
use crate::wire::keeper::{Assignment, Work};
use crate::wire::network::{UPSTREAM, UpstreamProxies};

pub(crate) use crate::wire::keeper::files;
pub(crate) use attempt::{rescue, rescue_commits};
pub(crate) use checks::{setup_key, verdict_key};
pub(crate) use leftover::{commit_leftover, leftover_note, withheld_folder};
pub(crate) use session::OUTPUT_HEAD;
pub(crate) use setup::{SetupReuse, forget_setups};
pub(crate) use withhold::Secrets;

/// The time for which a saved worktree counts as unchanged: no process enters a worktree between
/// two assignments that follow each other at once.
const FRESH: Duration = Duration::from_secs(1);

/// The time within which a supervisor sends the first assignment. A supervisor that was started
/// before an upgrade of the program sends it in another way, or never.
const FIRST: Duration = Duration::from_secs(60);

/// Runs a keeper. `dir` is the folder of its first assignment.
pub(crate) fn main(dir: &Path) -> Result<()> {
    let lock = process::adopt_lock().context("this command is started by `git harness` itself")?;
    let inbox = KeeperInbox::adopt()?;
    let stop = StopFlag::on_terminate()?;
    // The machine runs as many keepers as the run has jobs. More threads in each would only wait
    // for each other.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().ok();
    let mut repo_cache = RepoCache::default();
    // The first assignment comes over the link like each later one: the environment of a process
    // can be read by others, and the variables of an assignment hold keys.
    let first = inbox.as_ref().context("this command is started by `git harness` itself")?;
    let assigned = match first.next(&stop, Some(FIRST)) {
        Err(error) if error.kind() == ErrorKind::TimedOut => anyhow::bail!(
            "no assignment arrived within {} s: the supervisor is of another version of git-harness; stop it, and start \
             again",
            FIRST.as_secs()
        ),
        other => other?,
    };
    let Some(mut received) = assigned else { return Ok(()) };
    anyhow::ensure!(received.dir == dir, "an assignment for another folder: {}", dir.display());
    drop(lock);
    loop {
        let clean = match carry_out(&mut repo_cache, &received, inbox.as_ref(), &stop) {
            Ok(clean) => clean,
            Err(error) => {
                // The inbox closes before the lock is released: a supervisor that finds the lock
                // free must not send another assignment.
                drop(inbox);
                return Err(error);
            }
        };
        let since = ambient::instant();
        // The stop request was for this assignment and must not stop the next one, which a
        // supervisor may send as soon as it finds the lock free.
        stop.lower();
        if !clean {
            drop(inbox);
            return Ok(());
        }
        drop(received);
        let Some(inbox) = &inbox else { return Ok(()) };
        received = match inbox.next(&stop, None)? {
            Some(next) => next,
            None => return Ok(()),
        };
        process::redirect_output(&received.dir.join(files::LOG))?;
        repo::set_walk_trust(since.elapsed() < FRESH);
    }
}

/// Carries out one assignment. Returns true if no process of the assignment is left.
fn carry_out(
    repo_cache: &mut RepoCache,
    received: &ReceivedAssignment,
    inbox: Option<&KeeperInbox>,
    stop: &StopFlag,
) -> Result<bool> {
    let ReceivedAssignment { dir, lock, env } = received;
    lock.describe(&Holder::this_process().to_string())?;
    failpoint::hit("keeper.started");
    let mut env = env.clone();
    let key = env.value(seal::KEY).and_then(|key| SealKey::from_hex(key.to_str()?));
    let key = key.context("the supervisor sent no key")?;
    env.remove_all(seal::KEY);
    let upstream = env.value(UPSTREAM).and_then(|text| text.to_str());
    let upstream = upstream.map(UpstreamProxies::parse).unwrap_or_default();
    env.remove_all(UPSTREAM);
    let assignment = seal::read_assignment(dir, &key)?
        .with_context(|| format!("{} has no assignment of this supervisor", dir.display()))?;
    env.set(process::REPOSITORY, &assignment.common_dir);
    let assigned = &AssignedWork { assignment, env, key, upstream };
    let repo = repo_cache.repo(&assigned.assignment.common_dir)?;
    let clean = match &assigned.assignment.work {
        Work::Attempt(work) => attempt::keep(&repo, dir, assigned, work, stop)?,
        Work::Checks(work) => checks::keep(&repo, dir, assigned, work, stop)?,
        Work::Evaluation(work) => evaluation::keep(&repo, dir, assigned, work, stop)?,
    };
    sandbox::discard(dir, &assigned.assignment)?;
    TempFolder::new(dir.join(files::TMP)).remove_outside().ok();
    // A connected supervisor syncs before it reports the outcome to anybody. Without a supervisor,
    // the keeper syncs.
    if !inbox.is_some_and(KeeperInbox::is_connected) {
        process::sync_fs(repo.common_dir()).context("the file system could not be synced")?;
    }
    failpoint::hit("keeper.done");
    Ok(clean)
}

/// An assignment, and the environment of its commands.
#[derive(Debug)]
struct AssignedWork {
    assignment: Assignment,
    env: Environ,
    /// The key that seals the outcome.
    key: SealKey,
    /// The user's own proxies.
    upstream: UpstreamProxies,
}

impl AssignedWork {
    /// Returns the environment of one check, or of the setup. A variable that a check asks for is
    /// passed to that check alone.
    fn environment(&self, names: &[String]) -> Environ {
        /// The variables that every command has.
        const ALWAYS: [&str; 3] = ["PATH", "HOME", "LANG"];
        let mut env = self.env.clone();
        if let Work::Checks(work) = &self.assignment.work {
            let asked = work.checks.iter().flat_map(|step| &step.env);
            for name in asked.filter(|name| !names.contains(name)) {
                if !ALWAYS.contains(&name.as_str()) {
                    env.remove_all(name);
                }
            }
        }
        env
    }
}

/// The open repository, which the keeper's assignments share.
#[derive(Debug, Default)]
struct RepoCache {
    repo: Option<(PathBuf, Repo)>,
}

impl RepoCache {
    fn repo(&mut self, common_dir: &Path) -> Result<Repo> {
        if let Some((dir, repo)) = &self.repo
            && dir == common_dir
        {
            return Ok(repo.clone());
        }
        let repo = Repo::discover(common_dir)?;
        self.repo = Some((common_dir.to_path_buf(), repo.clone()));
        Ok(repo)
    }
}

/// Returns the text of two output files, without control characters and cut in the middle to about
/// `limit` bytes.
fn excerpt(stdout: &Path, stderr: &Path, limit: usize) -> String {
    let mut text = String::new();
    for path in [stdout, stderr] {
        let bytes = std::fs::read(path).unwrap_or_default();
        let part = String::from_utf8_lossy(&bytes);
        let part = part.trim_end();
        if !text.is_empty() && !part.is_empty() {
            text.push('\n');
        }
        text.push_str(part);
    }
    let clean: String =
        text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect();
    shorten(&clean, limit)
}

/// Cuts the middle out of a long text: the beginning of an output names the problem, and the end
/// has the summary. The first lines of the middle that report an error are kept.
fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (head, tail) = (floor(limit * 3 / 4), floor(text.len() - limit / 4));
    let has_error = |part: &str| part.lines().any(|line| error_rank(line) == 2);
    if has_error(&text[..head]) || !has_error(&text[head..tail]) {
        let (start, end) = (&text[..head], &text[tail..]);
        return format!("{start}\n[… {} bytes left out …]\n{end}", tail - head);
    }
    let head = floor(limit / 2);
    let first = text[head..tail].lines().find(|line| error_rank(line) == 2).unwrap_or_default();
    let error = head + text[head..tail].find(first).unwrap_or_default();
    let until = floor((error + limit / 4).min(tail));
    format!(
        "{}\n[… {} bytes left out …]\n{}\n[… {} bytes left out …]\n{}",
        &text[..head],
        error - head,
        &text[error..until],
        tail - until,
        &text[tail..]
    )
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn shortened_text_keeps_the_error_in_its_middle() {
        let text = format!("{}error: boom at x\n{}end", "ok\n".repeat(400), "ok\n".repeat(400));
        let short = shorten(&text, 200);
        assert!(short.contains("error: boom at x\nok\n"), "{short}");
        assert!(short.starts_with("ok\n") && short.ends_with("ok\nend"), "{short}");
        assert!(short.len() < 300, "{short}");
    }

    #[test]
    fn shortened_text_loses_its_middle_at_character_boundaries() {
        let text = format!("first{}last", "é".repeat(1000));
        let short = shorten(&text, 100);
        assert!(short.starts_with("first") && short.ends_with("last"), "{short}");
        assert!(short.len() < 160, "{}", short.len());
        assert_eq!(shorten("short", 100), "short");
    }
}
