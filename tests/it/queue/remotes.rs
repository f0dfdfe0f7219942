//! `queue run --push`: progress or a reason, as `git push` by hand would have it.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::QueueSandbox;

impl QueueSandbox {
    /// Creates a bare repository that has `main`, and returns its path.
    fn bare(&self, name: &str) -> PathBuf {
        let path = self.sandbox.root().join(name);
        self.sandbox.git(&["clone", "--quiet", "--bare", ".", path.to_str().unwrap()]);
        path
    }

    /// Creates the remote `origin`, a bare repository that has `main`.
    fn origin(&self) -> PathBuf {
        let path = self.bare("origin.git");
        self.sandbox.git(&["remote", "add", "origin", path.to_str().unwrap()]);
        self.sandbox.git(&["fetch", "--quiet", "origin"]);
        path
    }

    fn main_of(&self, bare: &Path) -> String {
        self.sandbox.try_git(bare, &["rev-parse", "main"]).exits(0).stdout.trim().to_owned()
    }

    fn hook(&self, path: &Path, script: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
}

const PUSH: [&str; 4] = ["queue", "run", "--push", "origin"];

#[test]
fn push_to_a_pushurl_that_is_not_fetched_from_lands() {
    let queue = QueueSandbox::new("");
    let names = queue.good(2);
    let fetched = queue.origin();
    let old = queue.main_of(&fetched);
    let pushed = queue.bare("pushed.git");
    queue.sandbox.git(&["config", "remote.origin.pushurl", pushed.to_str().unwrap()]);
    for name in &names {
        queue.add(&[name]);
        queue.sandbox.run(&PUSH).exits(0);
    }
    assert_eq!(queue.landed(), ["b0", "b1"]);
    assert_eq!(queue.main_of(&pushed), queue.sandbox.git(&["rev-parse", "main"]));
    assert_eq!(queue.main_of(&fetched), old);
}

#[test]
fn push_that_is_rejected_as_stale_again_holds_the_landing() {
    let queue = QueueSandbox::new("");
    let names = queue.good(1);
    let origin = queue.origin();
    // A replica that lags is read: it shows a tip that the pushed repository no longer has.
    let lagging = queue.bare("lagging.git");
    queue.sandbox.try_git(&origin, &["update-ref", "refs/heads/main", "main~1"]).exits(0);
    let replica = queue.sandbox.root().join("replica");
    queue.hook(&replica, &format!("exec git-upload-pack '{}'", lagging.display()));
    queue.sandbox.git(&["config", "remote.origin.uploadpack", replica.to_str().unwrap()]);
    let hook = queue.sandbox.repo.join(".git/hooks/pre-push");
    queue.hook(&hook, "echo push >>\"$HOME/pushes\"");
    queue.add(&[&names[0]]);
    queue.sandbox.run(&PUSH).exits(3).says("`origin` rejects the push");
    let pushes = std::fs::read_to_string(queue.sandbox.sign("pushes")).unwrap();
    assert_eq!(pushes.lines().count(), 1, "one push, one reason");
    assert!(queue.landed().is_empty());
}

#[test]
fn push_has_the_environment_of_the_users_git() {
    let queue = QueueSandbox::new("");
    let names = queue.good(2);
    let origin = queue.origin();
    queue.sandbox.git(&["remote", "add", "ci", "https://example.invalid/repo.git"]);
    let key = format!("url.{}.insteadOf", origin.display());
    let rewritten = [
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", key.as_str()),
        ("GIT_CONFIG_VALUE_0", "https://example.invalid/repo.git"),
    ];
    let repo = queue.sandbox.repo.clone();
    queue.add(&[&names[0]]);
    queue.sandbox.run_in(&repo, &["queue", "run", "--push", "ci"], &rewritten).exits(0);
    // A transport of the user's.
    let ssh = queue.sandbox.root().join("ssh");
    queue.hook(&ssh, "while [ $# -gt 1 ]; do shift; done; exec sh -c \"$1\"");
    let url = format!("ssh://host{}", origin.display());
    queue.sandbox.git(&["remote", "add", "ssh", &url]);
    queue.add(&[&names[1]]);
    let transport = [("GIT_SSH_COMMAND", ssh.to_str().unwrap())];
    queue.sandbox.run_in(&repo, &["queue", "run", "--push", "ssh"], &transport).exits(0);
    assert_eq!(queue.landed(), ["b0", "b1"]);
    assert_eq!(queue.main_of(&origin), queue.sandbox.git(&["rev-parse", "main"]));
}

#[test]
fn remote_that_was_set_back_holds_the_queue() {
    let queue = QueueSandbox::new("");
    let names = queue.good(1);
    let origin = queue.origin();
    let before = queue.main_of(&origin);
    queue.sandbox.try_git(&origin, &["update-ref", "refs/heads/main", "main~1"]).exits(0);
    let back = queue.main_of(&origin);
    queue.add(&[&names[0]]);
    for _ in 0..2 {
        queue.sandbox.run(&PUSH).exits(3).says("was set back or rewritten");
    }
    assert_eq!(queue.main_of(&origin), back);
    assert!(queue.landed().is_empty());
    queue.sandbox.git(&["push", "--quiet", "origin", "main"]);
    assert_eq!(queue.main_of(&origin), before);
    queue.sandbox.run(&PUSH).exits(0);
    assert_eq!(queue.landed(), ["b0"]);
    // The branch is gone there.
    queue.branch("later", "main", &[("f1", "fine\n")]);
    queue.sandbox.try_git(&origin, &["update-ref", "-d", "refs/heads/main"]).exits(0);
    queue.add(&["later"]);
    queue.sandbox.run(&PUSH).exits(3).says("and is gone now");
}

#[test]
fn remote_named_by_url_that_was_set_back_holds_the_queue() {
    let queue = QueueSandbox::new("");
    let names = queue.good(3);
    let bare = queue.bare("elsewhere.git");
    let url = bare.to_str().unwrap();
    let push = ["queue", "run", "--push", url];
    queue.add(&[&names[0]]);
    queue.sandbox.run(&push).exits(0);
    let before = queue.main_of(&bare);
    // Somebody takes the landing back there.
    queue.sandbox.try_git(&bare, &["update-ref", "refs/heads/main", "main~1"]).exits(0);
    let back = queue.main_of(&bare);
    queue.add(&[&names[1]]);
    for _ in 0..2 {
        queue.sandbox.run(&push).exits(3).says("was set back or rewritten");
    }
    assert_eq!((queue.main_of(&bare), queue.landed()), (back.clone(), vec!["b0".to_owned()]));
    // It is restored by hand.
    queue.sandbox.git(&["push", "--quiet", url, "main"]);
    assert_eq!(queue.main_of(&bare), before);
    queue.sandbox.run(&push).exits(0);
    // Or accepted.
    queue.sandbox.try_git(&bare, &["update-ref", "refs/heads/main", &back]).exits(0);
    queue.sandbox.git(&["fetch", "--quiet", url, "main"]);
    queue.sandbox.git(&["reset", "--quiet", "--keep", "FETCH_HEAD"]);
    queue.add(&[&names[2]]);
    queue.sandbox.run(&push).exits(0);
    assert_eq!(queue.landed(), ["b2"]);
    assert_eq!(queue.main_of(&bare), queue.sandbox.git(&["rev-parse", "main"]));
}

#[test]
fn signal_ends_a_landing_hook_that_hangs() {
    let hook = "touch \"$HOME/$1\"; exec sleep 1000";
    for key in ["pre-land", "post-land"] {
        let argv = serde_json::to_string(&["sh", "-c", hook, "hook", key]).unwrap();
        let queue = QueueSandbox::new(&format!("{key} = {argv}"));
        queue.good(1);
        queue.add(&["b0"]);
        let began = std::time::Instant::now();
        let run = queue.sandbox.spawn(&["queue", "run"]);
        queue.sandbox.await_sign(key);
        run.signal(Signal::INT);
        let output = run.wait();
        assert_eq!(output.code, 130, "{output}");
        assert!(began.elapsed().as_secs() < 40, "a hook is stopped after a minute anyway");
        assert_eq!(queue.landed().is_empty(), key == "pre-land");
        queue.holds();
    }
}

#[test]
fn second_signal_ends_a_landing_hook_of_a_run() {
    let hook = "touch \"$HOME/hook\"; exec sleep 1000";
    let argv = serde_json::to_string(&["sh", "-c", hook]).unwrap();
    let queue = QueueSandbox::new(&format!("pre-land = {argv}"));
    let began = std::time::Instant::now();
    let run = queue.sandbox.spawn(&["start"]);
    queue.sandbox.await_sign("hook");
    // SIGTERM stops the agents without draining.
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code, 143);
    assert!(began.elapsed().as_secs() < 40, "a hook is stopped after a minute anyway");
}

#[test]
fn signal_ends_a_push_that_hangs() {
    let queue = QueueSandbox::new("");
    let names = queue.good(1);
    let origin = queue.origin();
    let before = queue.main_of(&origin);
    let hook = "touch \"$HOME/pushing\"; exec sleep 1000";
    queue.hook(&queue.sandbox.repo.join(".git/hooks/pre-push"), hook);
    queue.add(&[&names[0]]);
    let run = queue.sandbox.spawn(&PUSH);
    queue.sandbox.await_sign("pushing");
    run.signal(Signal::INT);
    let output = run.wait();
    assert_eq!(output.code, 130, "{output}");
    assert_eq!(queue.main_of(&origin), before);
    assert!(queue.landed().is_empty());
}
