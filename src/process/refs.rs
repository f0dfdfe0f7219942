//! Ref transactions through one long-lived `git update-ref --stdin`.
//!
//! Refs are moved by git itself, which takes exactly the necessary locks: `<ref>.lock` for one ref,
//! even if the ref is packed. One process serves many transactions, which saves starting a process
//! for each. Git ends when it refuses a transaction, and the next transaction starts another
//! process.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};

use super::Git;
use super::durable::unique;
use crate::domain::id::Oid;

/// Settings that sync each ref and wait for locks of other processes (in milliseconds). A `git gc`
/// of the user holds packed-refs.lock while it rewrites the file.
const SETTINGS: [&str; 4] = [
    "core.fsync=reference",
    "core.fsyncMethod=fsync",
    "core.filesRefLockTimeout=2000",
    "core.packedRefsTimeout=10000",
];

/// Settings for refs that have no meaning until another ref is moved after a barrier. Syncing each
/// of them would take a hundred times as long as one sync for all.
const BULK_SETTINGS: [&str; 3] =
    ["core.fsync=none", "core.filesRefLockTimeout=2000", "core.packedRefsTimeout=10000"];

/// The value that a ref must have for a move to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The ref must not exist.
    Absent,
    /// The ref must have exactly this value.
    Value(Oid),
}

impl Expected {
    /// Expects the value that was read before.
    pub fn from_read(read: Option<Oid>) -> Self {
        read.map_or(Self::Absent, Self::Value)
    }
}

/// A ref and its new value. A new value that equals the expected one moves nothing and verifies the
/// ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    /// The full name, such as `refs/harness/x`.
    pub name: String,
    /// The new value; `None` deletes the ref.
    pub new: Option<Oid>,
    /// The value that the ref must have now.
    pub old: Expected,
}

impl RefMove {
    /// Describes a move to a new value.
    pub fn to(name: String, new: Oid, old: Expected) -> Self {
        Self { name, new: Some(new), old }
    }

    /// Describes the deletion of a ref that has the value `old`.
    pub fn delete(name: String, old: Oid) -> Self {
        Self { name, new: None, old: Expected::Value(old) }
    }
}

/// Git refused a transaction. No ref was moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("git refused to move refs: {message}")]
pub(crate) struct RefsRefused {
    /// The message of git.
    pub message: String,
}

/// The result of a transaction is unknown. The refs must be read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ambiguous: re-read the refs, since git ended in the middle of moving them: {message}")]
pub(crate) struct RefsAmbiguous {
    /// The message of git, or the way in which it ended.
    pub message: String,
}

/// A `git update-ref --stdin` process. It is started on first use and restarted after a refusal. It
/// ends when this value is dropped or this process ends, since both close its standard input.
#[derive(Debug)]
pub(crate) struct RefUpdates {
    git: Git,
    settings: &'static [&'static str],
    running: Option<UpdateRefProcess>,
}

impl RefUpdates {
    /// Prepares to move refs. The first transaction starts git.
    pub(crate) fn new(git: &Git) -> Self {
        Self { git: git.clone(), settings: &SETTINGS, running: None }
    }

    /// Prepares to move many refs without a sync for each. The caller must set a barrier before
    /// anything depends on them.
    pub(crate) fn in_bulk(git: &Git) -> Self {
        Self { git: git.clone(), settings: &BULK_SETTINGS, running: None }
    }

    /// Moves all refs if each has the expected value, and none otherwise. Waits at most ten seconds
    /// for a lock. Symbolic refs are not followed: the named ref itself moves.
    pub(crate) fn transact(&mut self, moves: &[RefMove]) -> Result<Result<(), RefsRefused>> {
        if moves.is_empty() {
            return Ok(Ok(()));
        }
        let request = request(moves)?;
        // An idle git that was killed had no transaction in progress, so nothing is ambiguous.
        let mut running = match self.running.take() {
            Some(running) if running.is_alive() => running,
            Some(_) | None => UpdateRefProcess::start(&self.git, self.settings)
                .context("cannot start `git update-ref`")?,
        };
        if running.ask(&request, &["start: ok", "prepare: ok"]).is_err() {
            let (code, message) = running.end()?;
            return match code {
                Some(_) => Ok(Err(RefsRefused { message })),
                None => Err(RefsAmbiguous { message }.into()),
            };
        }
        // Refs move only from here on, so only a failure from here on is ambiguous.
        if running.ask(b"commit\0", &["commit: ok"]).is_err() {
            let (_, message) = running.end()?;
            return Err(RefsAmbiguous { message }.into());
        }
        self.running = Some(running);
        Ok(Ok(()))
    }

    /// Returns the process number of git, while it runs.
    #[cfg(test)]
    fn pid(&self) -> Option<u32> {
        self.running.as_ref().and_then(|running| running.handle.pids().first().copied())
    }
}

/// Formats a transaction up to `prepare`.
fn request(moves: &[RefMove]) -> Result<Vec<u8>> {
    let mut text = String::from("start\0");
    for RefMove { name, new, old } in moves {
        if !name.starts_with("refs/") || name.contains(|c: char| c.is_control() || c == ' ') {
            bail!("not the full name of a ref: {name:?}");
        }
        // Git reads the null id as "delete" in one position and as "must not exist" in the other.
        for id in [new.as_ref(), if let Expected::Value(old) = old { Some(old) } else { None }] {
            if id.is_some_and(|id| id.as_str().bytes().all(|digit| digit == b'0')) {
                bail!("the null id is not something that a ref can be: {name}");
            }
        }
        text.push_str("option no-deref\0");
        text.push_str(&match (new, old) {
            (Some(new), Expected::Absent) => format!("create {name}\0{new}\0"),
            (Some(new), Expected::Value(old)) => format!("update {name}\0{new}\0{old}\0"),
            (None, Expected::Value(old)) => format!("delete {name}\0{old}\0"),
            (None, Expected::Absent) => {
                bail!("a ref that must not exist cannot be deleted: {name}")
            }
        });
    }
    text.push_str("prepare\0");
    Ok(text.into_bytes())
}

/// A running git process.
#[derive(Debug)]
struct UpdateRefProcess {
    handle: duct::Handle,
    /// `None` only while git is being ended.
    stdin: Option<PipeWriter>,
    stdout: BufReader<PipeReader>,
    /// An unnamed file: git can write to it without end and never blocks.
    stderr: File,
}

impl UpdateRefProcess {
    fn start(git: &Git, settings: &[&str]) -> io::Result<Self> {
        let path = git.private().join(unique("update-ref"));
        let stderr = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        let (stdin_reader, stdin) = io::pipe()?;
        let (stdout, stdout_writer) = io::pipe()?;
        let handle = git
            .expression(settings, &["update-ref", "--stdin", "-z"])
            .stdin_file(stdin_reader)
            .stdout_file(stdout_writer)
            .stderr_file(stderr.try_clone()?)
            .start()?;
        Ok(Self { handle, stdin: Some(stdin), stdout: BufReader::new(stdout), stderr })
    }

    fn is_alive(&self) -> bool {
        self.handle.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Sends a request and reads the expected answers. Any other answer is an error.
    fn ask(&mut self, request: &[u8], answers: &[&str]) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        stdin.write_all(request)?;
        for answer in answers {
            let mut line = String::new();
            self.stdout.read_line(&mut line)?;
            if line.trim_end() != *answer {
                return Err(io::Error::new(io::ErrorKind::InvalidData, line));
            }
        }
        Ok(())
    }

    /// Ends git. Returns its exit code, unless a signal ended it, and its message.
    fn end(mut self) -> io::Result<(Option<i32>, String)> {
        drop(self.stdin.take());
        let code = self.handle.wait()?.status.code();
        let mut bytes = vec![0; 4096];
        let length = self.stderr.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes[..length]);
        let text = text.trim_end();
        let message = match (text.strip_prefix("fatal: "), code) {
            (Some(reason), _) => reason.to_owned(),
            (None, _) if !text.is_empty() => text.to_owned(),
            (None, Some(code)) => format!("it exited with {code}"),
            (None, None) => "it was killed".to_owned(),
        };
        Ok((code, message))
    }
}

/// Reaps git, so that a supervisor that runs for days leaves no zombies.
impl Drop for UpdateRefProcess {
    fn drop(&mut self) {
        drop(self.stdin.take());
        self.handle.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, kill_process};

    use super::super::git::tests::repository;
    use super::*;

    fn oid(git: &Git, text: &str) -> Oid {
        let made = git.output(&["hash-object", "-w", "--stdin"], text.as_bytes()).unwrap();
        Oid::parse(String::from_utf8(made.stdout).unwrap().trim_end()).unwrap()
    }

    fn read(git: &Git, name: &str) -> Option<Oid> {
        let shown = git.output(&["rev-parse", "--verify", "--quiet", name], b"").unwrap();
        Oid::parse(String::from_utf8(shown.stdout).unwrap().trim_end()).ok()
    }

    fn to(name: &str, new: Option<&Oid>, old: Expected) -> RefMove {
        RefMove { name: name.to_owned(), new: new.cloned(), old }
    }

    #[test]
    fn ref_transaction_is_all_or_none_and_the_next_one_works_after_a_refusal() {
        let (_dir, git) = repository();
        let (one, two) = (oid(&git, "one"), oid(&git, "two"));
        let mut refs = RefUpdates::new(&git);
        let (a, b) = ("refs/harness/a", "refs/harness/b");
        refs.transact(&[to(a, Some(&one), Expected::Absent)]).unwrap().unwrap();
        let first = refs.pid().unwrap();
        refs.transact(&[to(a, Some(&two), Expected::Value(one.clone()))]).unwrap().unwrap();
        assert_eq!(refs.pid(), Some(first));

        let stale =
            [to(b, Some(&one), Expected::Absent), to(a, None, Expected::Value(one.clone()))];
        let refused = refs.transact(&stale).unwrap().unwrap_err();
        assert!(refused.message.contains(a), "{refused}");
        assert_eq!((read(&git, a), read(&git, b)), (Some(two.clone()), None));
        assert!(refs.transact(&[to(a, Some(&one), Expected::Absent)]).unwrap().is_err());

        let both = [to(b, Some(&one), Expected::Absent), to(a, None, Expected::Value(two))];
        refs.transact(&both).unwrap().unwrap();
        assert_eq!((read(&git, a), read(&git, b)), (None, Some(one.clone())));
        refs.transact(&[to(b, Some(&one), Expected::Value(one.clone()))]).unwrap().unwrap();
        refs.transact(&[to(b, None, Expected::Value(one.clone()))]).unwrap().unwrap();
        assert_eq!(read(&git, b), None);
    }

    #[test]
    fn ref_transaction_of_many_refs_passes() {
        let (_dir, git) = repository();
        let one = oid(&git, "one");
        let moves: Vec<_> = (0..1500)
            .map(|n| to(&format!("refs/harness/many/{n}"), Some(&one), Expected::Absent))
            .collect();
        let mut refs = RefUpdates::new(&git);
        refs.transact(&moves).unwrap().unwrap();
        assert!(refs.transact(&moves).unwrap().is_err());
        assert_eq!(read(&git, "refs/harness/many/1499"), Some(one));
    }

    #[test]
    fn ref_transaction_does_not_follow_a_symbolic_ref() {
        let (_dir, git) = repository();
        let one = oid(&git, "one");
        git.output(&["symbolic-ref", "refs/harness/s", "refs/heads/main"], b"").unwrap();
        let mut refs = RefUpdates::new(&git);
        refs.transact(&[to("refs/harness/s", Some(&one), Expected::Absent)]).unwrap().unwrap();
        assert_eq!(read(&git, "refs/heads/main"), None);
        assert_eq!(read(&git, "refs/harness/s"), Some(one));
    }

    #[test]
    fn ref_transaction_with_an_invalid_name_or_id_is_refused_before_git_starts() {
        let (_dir, git) = repository();
        let one = oid(&git, "one");
        let null = Oid::parse(&"0".repeat(40)).unwrap();
        let mut refs = RefUpdates::new(&git);
        for bad in [
            to("refs/harness/a", Some(&null), Expected::Absent),
            to("refs/harness/a", Some(&one), Expected::Value(null.clone())),
            to("refs/harness/a b", Some(&one), Expected::Absent),
            to("refs/harness/a\0b", Some(&one), Expected::Absent),
            to("HEAD", Some(&one), Expected::Absent),
            to("refs/harness/a", None, Expected::Absent),
        ] {
            assert!(refs.transact(&[bad]).is_err());
        }
        assert_eq!(refs.pid(), None);
    }

    #[test]
    fn ref_transaction_works_after_its_git_was_killed() {
        let (_dir, git) = repository();
        let (one, two) = (oid(&git, "one"), oid(&git, "two"));
        let mut refs = RefUpdates::new(&git);
        refs.transact(&[to("refs/harness/a", Some(&one), Expected::Absent)]).unwrap().unwrap();
        let pid = Pid::from_raw(refs.pid().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        refs.running.as_ref().unwrap().handle.wait().unwrap();
        refs.transact(&[to("refs/harness/a", Some(&two), Expected::Value(one))]).unwrap().unwrap();
        assert_eq!(read(&git, "refs/harness/a"), Some(two));
    }

    #[test]
    fn ref_transaction_is_ambiguous_when_git_is_killed_during_it() {
        let (_dir, git) = repository();
        let one = oid(&git, "one");
        let mut refs = RefUpdates::new(&git);
        refs.transact(&[to("refs/harness/a", Some(&one), Expected::Absent)]).unwrap().unwrap();
        let pid = Pid::from_raw(refs.pid().unwrap().cast_signed()).unwrap();
        // While git is stopped, the pipe takes the request and git cannot answer. Then git is
        // killed.
        kill_process(pid, Signal::STOP).unwrap();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).unwrap();
        let pipe = refs.running.as_ref().unwrap().stdin.as_ref().unwrap().try_clone().unwrap();
        std::thread::scope(|scope| {
            let moved = scope
                .spawn(|| refs.transact(&[to("refs/harness/b", Some(&one), Expected::Absent)]));
            while rustix::io::ioctl_fionread(&pipe).unwrap() == 0 {
                std::thread::yield_now();
            }
            kill_process(pid, Signal::KILL).unwrap();
            let error = moved.join().unwrap().unwrap_err();
            assert!(error.downcast_ref::<RefsAmbiguous>().is_some(), "{error}");
            assert!(error.to_string().starts_with("ambiguous: re-read"));
        });
        refs.transact(&[to("refs/harness/b", Some(&one), Expected::Absent)]).unwrap().unwrap();
    }

    #[test]
    fn update_ref_process_ends_when_dropped() {
        let (_dir, git) = repository();
        let one = oid(&git, "one");
        let mut refs = RefUpdates::new(&git);
        refs.transact(&[to("refs/harness/a", Some(&one), Expected::Absent)]).unwrap().unwrap();
        let pid = Pid::from_raw(refs.pid().unwrap().cast_signed()).unwrap();
        drop(refs);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
