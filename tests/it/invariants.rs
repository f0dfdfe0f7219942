//! Invariants of a run that has ended, checked with plain git, however often something was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sandbox::Sandbox;

/// A run that has ended, and the expectations about it.
pub(crate) struct Claim<'a> {
    sandbox: &'a Sandbox,
    repo: &'a Path,
    run: String,
    target: String,
    landed: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    vouched: bool,
}

impl<'a> Claim<'a> {
    /// Expects the first run of the sandbox with every task landed on the default target.
    pub(crate) fn all(sandbox: &'a Sandbox) -> Self {
        Self {
            sandbox,
            repo: &sandbox.repo,
            run: "job-1".into(),
            target: "refs/heads/harness/job-1/result".into(),
            landed: sandbox.job.tasks.iter().cloned().collect(),
            acknowledged: BTreeSet::new(),
            vouched: true,
        }
    }

    /// Expects exactly these tasks to have landed.
    pub(crate) fn landed(mut self, tasks: &[&str]) -> Self {
        self.landed = tasks.iter().map(|t| (*t).to_owned()).collect();
        self
    }

    /// Expects the tasks on another target.
    pub(crate) fn on(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// Checks a copy of the repository.
    pub(crate) fn of(mut self, repo: &'a Path) -> Self {
        self.repo = repo;
        self
    }

    /// Expects these tasks to be done: an earlier status has shown them as done.
    pub(crate) fn acknowledged(mut self, tasks: BTreeSet<String>) -> Self {
        self.acknowledged = tasks;
        self
    }

    /// Accepts verdicts without chains that vouch for them.
    pub(crate) fn with_lost_chains(mut self) -> Self {
        self.vouched = false;
        self
    }

    fn git(&self, args: &[&str]) -> String {
        let output = self.sandbox.try_git(self.repo, args);
        // A missing note is the caller's to report.
        assert!(output.code == 0 || args.contains(&"notes"), "git {args:?}: {output}");
        output.stdout
    }

    /// Checks all invariants, and panics with all violations.
    #[track_caller]
    pub(crate) fn holds(&self) {
        let mut wrong = Vec::new();
        self.landed_once(&mut wrong);
        self.proven(&mut wrong);
        self.remembered(&mut wrong);
        self.sound(&mut wrong);
        self.tidy(&mut wrong);
        if self.repo == self.sandbox.repo {
            wrong.extend(self.sandbox.harmed().into_iter().map(|h| format!("the user's {h}")));
        }
        assert!(
            wrong.is_empty(),
            "this should not be so:\n- {}\n\n{}\n{}",
            wrong.join("\n- "),
            self.git(&["log", "--oneline", "--graph", "-30", &self.target]),
            self.sandbox.run_in(self.repo, &["log", &self.run], &[])
        );
    }

    /// Every task is on the target's first-parent line exactly once, and no other commit is.
    fn landed_once(&self, wrong: &mut Vec<String>) {
        let range = format!("{}..{}", self.sandbox.base, self.target);
        let format = "--format=%(trailers:key=Harness-Task,valueonly,separator=%x2c)";
        let text = self.git(&["log", "--first-parent", format, &range]);
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        for line in text.lines() {
            *times.entry(line).or_default() += 1;
        }
        for task in &self.landed {
            match times.remove(task.as_str()) {
                Some(1) => {}
                Some(n) => wrong.push(format!("{task} landed {n} times")),
                None => wrong.push(format!("{task} did not land")),
            }
        }
        wrong.extend(times.keys().map(|task| format!("`{task}` landed and should not have")));
    }

    /// Every landed tree, or that of the last commit of its train, has passed every landing check.
    /// A chain vouches for the verdict, and the commit has a note.
    fn proven(&self, wrong: &mut Vec<String>) {
        let chains = format!("--glob=refs/harness/*/{}", self.run);
        let below = format!("--glob=refs/harness/tasks/{}", self.run);
        let vouched = self.git(&["log", "--format=%B", &chains, &below]);
        let range = format!("{}..{}", self.sandbox.base, self.target);
        let line = self.git(&["log", "--first-parent", "--format=%H %T", &range]);
        let line: Vec<(&str, &str)> = line.lines().map(|l| l.split_once(' ').unwrap()).collect();
        for (n, (commit, tree)) in line.iter().enumerate() {
            let about = self.git(&["notes", "--ref=harness", "show", commit]);
            let about: serde_json::Value = about
                .lines()
                .next()
                .and_then(|note| serde_json::from_str(note).ok())
                .unwrap_or_default();
            // The commit itself, or a later commit of the same train.
            let proof = about["verified"]["commit"].as_str();
            let proof = match proof {
                None => Some(tree),
                Some(proof) => line[..n].iter().find(|(c, _)| *c == proof).map(|(_, tree)| tree),
            };
            let Some(tree) = proof else {
                wrong.push(format!("{commit} is proved by what has not landed: {about}"));
                continue;
            };
            let note = self.git(&["notes", "--ref=harness-verdicts", "show", tree]);
            let lines: Vec<serde_json::Value> =
                note.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
            for check in &self.sandbox.job.landing_checks {
                let good = lines.iter().any(|l| {
                    let id = l["id"].as_str().unwrap_or("?");
                    l["check"] == check.as_str()
                        && l["pass"] == true
                        && (!self.vouched
                            || vouched.lines().any(|v| v == format!("Harness-Verdict: {id}")))
                });
                if !good {
                    wrong.push(format!("{commit} landed, but no verdict says that its tree passed `{check}`: {note}"));
                }
            }
            if about.is_null() {
                wrong.push(format!("{commit} has no note"));
            }
        }
    }

    /// Every task that was once shown as done is done.
    fn remembered(&self, wrong: &mut Vec<String>) {
        let output = self.sandbox.run_in(self.repo, &["status", &self.run, "--json"], &[]);
        let Ok(status) = serde_json::from_str::<serde_json::Value>(&output.stdout) else {
            wrong.push(format!("the status cannot be read: {output}"));
            return;
        };
        let done = done(&status);
        for task in self.acknowledged.union(&self.landed) {
            if !done.contains(task) {
                wrong.push(format!("{task} is not shown as done any more"));
            }
        }
    }

    /// `git fsck` finds no fault. Dangling objects are allowed.
    fn sound(&self, wrong: &mut Vec<String>) {
        let output = self.sandbox.try_git(self.repo, &["fsck", "--strict", "--no-dangling"]);
        let text = format!("{}{}", output.stdout, output.stderr);
        let bad = ["error", "missing", "broken", "corrupt", "warning", "fatal"];
        if output.code != 0 || text.lines().any(|l| bad.iter().any(|b| l.starts_with(b))) {
            wrong.push(format!("git fsck: {output}"));
        }
    }

    /// No temporary state remains: processes, locks, published attempts, branches of landed tasks.
    fn tidy(&self, wrong: &mut Vec<String>) {
        // A process that was just reaped may still be exiting.
        let since = Instant::now();
        let mut left = self.sandbox.processes();
        while !left.is_empty() && since.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(20));
            left = self.sandbox.processes();
        }
        wrong.extend(left.iter().map(|(pid, line)| format!("a process is left: {pid} {line}")));
        let common = self.git(&["rev-parse", "--git-common-dir"]);
        let common = self.repo.join(common.trim());
        for folder in ["refs", "worktrees"] {
            locks(&common.join(folder), wrong);
        }
        for file in ["packed-refs.lock", "HEAD.lock", "index.lock", "config.lock"] {
            if common.join(file).exists() {
                wrong.push(format!("{file} is left"));
            }
        }
        let refs = self.git(&["for-each-ref", "--format=%(refname)"]);
        for name in refs.lines() {
            let attempt = name.starts_with(&format!("refs/harness/attempts/{}/", self.run));
            let branch = name.strip_prefix(&format!("refs/heads/harness/{}/", self.run));
            let landed = branch.is_some_and(|task| self.landed.contains(task));
            let kept = self.sandbox.job.text("").contains("keep-branches = true");
            if attempt || (landed && !kept) {
                wrong.push(format!("the ref {name} is left"));
            }
        }
    }
}

/// Returns the tasks that a status shows as done.
pub(crate) fn done(status: &serde_json::Value) -> BTreeSet<String> {
    let tasks = status["tasks"].as_array().into_iter().flatten();
    let done = tasks.filter(|t| t["state"] == "done");
    done.filter_map(|t| Some(t["id"].as_str()?.to_owned())).collect()
}

fn locks(folder: &Path, wrong: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            locks(&path, wrong);
        } else if path.extension().is_some_and(|e| e == "lock") {
            wrong.push(format!("the lock {} is left", path.display()));
        }
    }
}
