//! Signed commits, by the user's git and its signing program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::durable::unique;
use super::git::Git;
use super::procfs;

/// The interval at which a running signer looks for an interruption.
const INTERVAL: Duration = Duration::from_millis(10);

/// The time that git has to print the words of a signer that was ended.
const GRACE: Duration = Duration::from_secs(5);

/// A person and a time, as git takes them from variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitPerson {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// The time, as `@SECONDS ZONE`.
    pub date: String,
}

/// The content of a commit that git writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitDraft {
    /// The tree.
    pub tree: String,
    /// The parents, in order.
    pub parents: Vec<String>,
    /// The message, in UTF-8.
    pub message: Vec<u8>,
    /// The author.
    pub author: CommitPerson,
    /// The committer, who signs.
    pub committer: CommitPerson,
}

impl Git {
    /// Returns true if the user's git signs commits (`commit.gpgSign`).
    pub(crate) fn signs_commits(&self, environment: &BTreeMap<OsString, OsString>) -> Result<bool> {
        let args = ["config", "--type=bool", "--get", "commit.gpgSign"];
        let answer = self.on_remote(&args, environment, &|| false)?;
        Ok(answer.stdout.trim_ascii() == b"true")
    }

    /// Writes a signed commit as the user's git. Returns the commit's id, or the words of git and
    /// of the signer if nothing was signed before `limit`.
    pub(crate) fn sign_commit(
        &self,
        draft: &CommitDraft,
        environment: &BTreeMap<OsString, OsString>,
        limit: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Result<String, String>> {
        let mut env = environment.clone();
        for (role, person) in [("AUTHOR", &draft.author), ("COMMITTER", &draft.committer)] {
            // Git refuses an empty name.
            let name = if person.name.trim().is_empty() { "unknown" } else { &person.name };
            env.insert(format!("GIT_{role}_NAME").into(), name.into());
            env.insert(format!("GIT_{role}_EMAIL").into(), person.email.as_str().into());
            env.insert(format!("GIT_{role}_DATE").into(), person.date.as_str().into());
        }
        let encoding = "i18n.commitEncoding=UTF-8";
        let mut args = vec!["-c", encoding, "commit-tree", "-S", draft.tree.as_str()];
        args.extend(draft.parents.iter().flat_map(|parent| ["-p", parent.as_str()]));
        args.extend(["-F", "-"]);
        // Files and not pipes: a helper of the signer may outlive it and keep a pipe open.
        let file = |end: &str| self.private().join(unique(end));
        let (stdout, stderr) = (file("signed"), file("signer"));
        let started = || format!("cannot start git: {}", self.exe().display());
        let call = self
            .plain_user_call(&args, &env)
            .stdin_bytes(draft.message.clone())
            .stdout_path(&stdout)
            .stderr_path(&stderr);
        let handle = call.start().with_context(started)?;
        let began = Instant::now();
        let mut ended = None;
        while ended.is_none() && began.elapsed() < limit && !interrupted() {
            ended = handle.try_wait().with_context(started)?.map(|run| run.status.success());
            std::thread::sleep(INTERVAL);
        }
        if ended.is_none() {
            end_signer(&handle).with_context(started)?;
        }
        let read = |path| std::fs::read(path).unwrap_or_default();
        let (id, words) = (read(&stdout), read(&stderr));
        for path in [stdout, stderr] {
            std::fs::remove_file(path).ok();
        }
        if ended == Some(true) {
            return Ok(Ok(String::from_utf8_lossy(&id).trim().to_owned()));
        }
        let words = signer_words(&String::from_utf8_lossy(&words));
        let why = match ended {
            Some(_) => "the signer failed".to_owned(),
            None if interrupted() => "the signer was interrupted".to_owned(),
            None => format!("the signer did not end within {} s", limit.as_secs()),
        };
        Ok(Err(if words.is_empty() { why } else { format!("{why}: {words}") }))
    }
}

/// Ends the processes that git has started, and then git. Git prints the signer's words when the
/// signer has ended.
fn end_signer(git: &duct::Handle) -> std::io::Result<()> {
    let kill = |pid: i32| {
        let pid = rustix::process::Pid::from_raw(pid);
        pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok());
    };
    // Git leads a process group, with the signer in it.
    let groups: Vec<i32> = git.pids().into_iter().map(u32::cast_signed).collect();
    let asked = Instant::now();
    while git.try_wait()?.is_none() {
        let patient = asked.elapsed() < GRACE;
        for process in procfs::all().iter().filter(|process| groups.contains(&process.group)) {
            if !patient || !groups.contains(&process.pid) {
                kill(process.pid);
            }
        }
        if !patient {
            // Git is ended even if the processes of a group cannot be listed.
            groups.iter().copied().for_each(kill);
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

/// Returns the words of a signer in one line, without those of git around them.
fn signer_words(stderr: &str) -> String {
    const OF_GIT: [&str; 3] =
        ["gpg failed to sign the data:", "(no gpg output)", "fatal: failed to write commit object"];
    let lines = stderr.lines().map(|line| line.trim().trim_start_matches("error: "));
    let of_signer = |line: &&str| {
        let of_git = OF_GIT.contains(line) || line.ends_with(" died of signal 9");
        !(line.is_empty() || of_git || line.starts_with("[GNUPG:]"))
    };
    lines.filter(of_signer).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::git::tests::repository;
    use super::*;

    /// Signs with a signer that asks for a PIN and waits. Returns the refusal.
    fn refusal(limit: Duration, interrupted: &dyn Fn(&std::path::Path) -> bool) -> String {
        let (dir, git) = repository();
        let signer = dir.path().join("signer");
        let asks = "#!/bin/sh\necho 'enter the PIN' >&2\n: >\"$SIGNER_ASKS\"\nsleep 600\n";
        super::super::write_executable(&signer, asks.as_bytes()).unwrap();
        git.output(&["config", "gpg.program", &signer.to_string_lossy()], b"").unwrap();
        let tree = git.output(&["mktree"], b"").unwrap().stdout;
        let person =
            || CommitPerson { name: "A".into(), email: "a@b".into(), date: "@1 +0000".into() };
        let draft = CommitDraft {
            tree: String::from_utf8(tree).unwrap().trim().to_owned(),
            parents: Vec::new(),
            message: b"m\n".to_vec(),
            author: person(),
            committer: person(),
        };
        let asked = dir.path().join("asked");
        let environment = BTreeMap::from([
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("SIGNER_ASKS".into(), asked.clone().into()),
        ]);
        let signed = git.sign_commit(&draft, &environment, limit, &|| interrupted(&asked));
        signed.unwrap().unwrap_err()
    }

    #[test]
    fn signer_that_hangs_is_ended_at_the_time_limit() {
        let refusal = refusal(Duration::ZERO, &|_| false);
        assert!(refusal.starts_with("the signer did not end within 0 s"), "{refusal}");
    }

    #[test]
    fn signer_that_is_ended_has_its_words_kept() {
        let refusal = refusal(Duration::MAX, &std::path::Path::exists);
        assert_eq!(refusal, "the signer was interrupted: enter the PIN");
    }
}
