//! The merge queue of branches, with the real binary on real repositories.

mod adding;
mod checkouts;
mod comes_again;
mod exit_codes;
mod faults;
mod history;
mod joint;
mod merges;
mod mixed;
mod own_faults;
mod remotes;
mod rule_files;
mod rules;
mod settings;
mod signing;
mod squash;
mod submodules;
mod worktrees;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

/// A repository whose `main` has a check: no file holds `BAD`, `m1` and `m2` do not pass together,
/// and each execution is counted. `more` are lines for `[queue]`.
pub(crate) struct QueueSandbox {
    pub(crate) sandbox: Sandbox,
}

/// Path and new text of a file.
type FileEdit<'a> = (&'a str, &'a str);

impl QueueSandbox {
    pub(crate) fn new(more: &str) -> Self {
        let check = "echo ran >>\"$HOME/runs\"\n\
                     if grep -rn BAD --include='f*' .; then exit 1; fi\n\
                     if [ -e m1 ] && [ -e m2 ]; then echo 'm1 and m2 do not go together'; exit 1; fi\n\
                     if [ -e \"$HOME/held\" ]; then touch \"$HOME/waiting\"; while [ -e \"$HOME/held\" ]; do sleep 0.02; done; fi\n\
                     if [ -e flaky ] && [ ! -e \"$HOME/once\" ]; then touch \"$HOME/once\"; echo 'it happens'; exit 1; fi\n";
        let job =
            TestJob::bare(&["alpha"]).check("tests", &["sh", "check.sh"], "").set("queue", more);
        let job = job.set("scope", "protect = [\"check.sh\"]");
        let sandbox = Sandbox::new(job);
        let queue = Self { sandbox };
        let repo = &queue.sandbox.repo;
        std::fs::write(repo.join("check.sh"), check).unwrap();
        for n in 0..10 {
            std::fs::write(repo.join(format!("f{n}")), format!("this is {n}\n")).unwrap();
        }
        queue
            .sandbox
            .git(&["add", "check.sh", "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]);
        queue.sandbox.git(&["commit", "--quiet", "--message", "a check"]);
        queue.sandbox.remember();
        queue
    }

    /// Creates or extends a branch by one commit.
    pub(crate) fn branch(&self, name: &str, from: &str, changes: &[FileEdit<'_>]) {
        let place = self.sandbox.root().join("mine");
        let path = place.to_str().unwrap();
        self.sandbox.git(&["worktree", "add", "--quiet", "--force", "-B", name, path, from]);
        for (file, text) in changes {
            std::fs::write(place.join(file), text).unwrap();
        }
        for args in
            [&["add", "--all"][..], &["commit", "--quiet", "--message", &format!("work of {name}")]]
        {
            assert_eq!(self.sandbox.try_git(&place, args).code, 0);
        }
        self.sandbox.git(&["worktree", "remove", "--force", path]);
    }

    /// Creates independent branches `b0`, `b1` … that pass.
    pub(crate) fn good(&self, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|n| format!("b{n}")).collect();
        for name in &names {
            self.branch(name, "main", &[(&format!("new-{name}"), "more\n")]);
        }
        names
    }

    pub(crate) fn add(&self, names: &[&str]) {
        let mut args = vec!["queue", "add"];
        args.extend(names);
        self.sandbox.run(&args).exits(0);
    }

    /// Returns the number of executions of the check.
    pub(crate) fn runs(&self) -> usize {
        std::fs::read_to_string(self.sandbox.sign("runs")).unwrap_or_default().lines().count()
    }

    pub(crate) fn list(&self) -> Value {
        let output = self.sandbox.run(&["queue", "list", "--all", "--json"]).exits(0);
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Returns the state of each branch.
    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        let list = self.list();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entries = list["entries"].as_array().unwrap();
        entries.iter().map(|e| (text(&e["branch"]), text(&e["state"]))).collect()
    }

    /// Returns the reason that the queue gives for the state of a branch.
    pub(crate) fn why(&self, branch: &str) -> String {
        let list = self.list();
        let mut entries = list["entries"].as_array().unwrap().iter();
        let entry = entries.find(|entry| entry["branch"] == branch).unwrap();
        entry["why"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the landed branches in order, from the trailers on the target.
    pub(crate) fn landed(&self) -> Vec<String> {
        let format = "--format=%(trailers:key=Harness-Branch,valueonly,separator=)";
        let log = self.sandbox.git(&["log", "--first-parent", "--reverse", format, "main"]);
        log.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
    }

    /// Invariants of the queue at any moment: no branch is on the target twice, the target passes
    /// the check, and every commit that the queue log calls landed has a verdict and a note.
    pub(crate) fn holds(&self) {
        let mut landed = self.landed();
        let count = landed.len();
        landed.sort();
        landed.dedup();
        assert_eq!(landed.len(), count, "twice on the target: {:?}", self.landed());
        self.sandbox.git(&["fsck", "--no-dangling"]);
        let books =
            self.sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness/queues"]);
        let log = self.sandbox.git(&[
            "log",
            "--first-parent",
            "--format=%(trailers:key=Harness-Data,valueonly)",
            &books,
        ]);
        for event in log.lines().filter(|l| !l.is_empty()) {
            let event: Value = serde_json::from_str(event).unwrap();
            if event["event"] != "landed" || event["old"] == event["new"] {
                continue;
            }
            let new = event["new"].as_str().unwrap();
            let tree = self.sandbox.git(&["rev-parse", &format!("{new}^{{tree}}")]);
            let verdicts = self.sandbox.git(&["notes", "--ref=harness-verdicts", "show", &tree]);
            let passes = |line: &str| {
                let line: Value = serde_json::from_str(line).unwrap();
                line["check"] == "tests" && line["pass"] == true
            };
            assert!(verdicts.lines().any(passes), "no verdict on {new}: {verdicts}");
            let note = self.sandbox.git(&["notes", "--ref=harness", "show", new]);
            assert!(note.contains("\"candidate\""), "{note}");
        }
    }

    /// The user's uncommitted files are unchanged, and the worktree shows the landed commits.
    pub(crate) fn left_alone(&self) {
        let read = |file: &str| std::fs::read_to_string(self.sandbox.repo.join(file)).unwrap();
        assert!(read("README").contains("not committed") && read("untracked") == "mine\n");
        assert_eq!(self.sandbox.git(&["status", "--porcelain"]), " M README\n?? untracked");
    }
}

#[test]
fn bisect_ejects_failing_branches_and_lands_the_rest() {
    let queue = QueueSandbox::new("");
    let good = queue.good(12);
    queue.branch("bad", "main", &[("f3", "BAD\n")]);
    queue.branch("c1", "main", &[("shared", "1\n")]);
    queue.branch("c2", "main", &[("shared", "2\n")]);
    queue.branch("m1", "main", &[("m1", "")]);
    queue.branch("m2", "main", &[("m2", "")]);
    let mut names: Vec<&str> = good.iter().map(String::as_str).collect();
    names.extend(["bad", "c1", "c2", "m1", "m2"]);
    queue.add(&names);
    let states = queue.states();
    assert_eq!(states.len(), 17);
    assert!(states.values().all(|state| state == "queued"), "{states:?}");
    let output = queue.sandbox.run(&["queue", "run"]).exits(1);
    for part in [
        "bad: rejected",
        "f3:1:BAD",
        "c2: conflicts with the target",
        "changed on the target by",
        "m2: rejected: passes alone, fails together with m1 (landed as ",
        "m1 and m2 do not go together",
        "14 landed, 3 did not",
    ] {
        assert!(output.stderr.contains(part), "{part} is not in\n{output}");
    }
    let mut landed = queue.landed();
    landed.sort();
    let mut wanted = good.clone();
    wanted.extend(["c1", "m1"].map(str::to_owned));
    wanted.sort();
    assert_eq!(landed, wanted);
    // 12 for the trains, 4 to learn that `bad` fails alone and `m2` with `m1`.
    assert!(queue.runs() <= 16, "{} runs of the check for 17 branches", queue.runs());
    assert_eq!(std::fs::read_to_string(queue.sandbox.repo.join("new-b7")).unwrap(), "more\n");
    let author = queue.sandbox.git(&["log", "-1", "--format=%an", "main"]);
    assert_eq!(author, queue.sandbox.git(&["log", "-1", "--format=%an", "b1"]));
    queue.holds();
    queue.left_alone();
    // The queue is empty. Errors of `add` and `remove`.
    let tip = queue.sandbox.git(&["rev-parse", "main"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.sandbox.git(&["rev-parse", "main"]), tip);
    queue.sandbox.run(&["queue", "add", "main"]).exits(128);
    queue.sandbox.run(&["queue", "add", "nothing"]).exits(128);
    queue.sandbox.run(&["queue", "remove", "b1"]).exits(128);
}

#[test]
fn after_orders_branches_and_blocks_them_with_a_rejected_one() {
    let queue = QueueSandbox::new("batch = 3");
    let names = queue.good(4);
    queue.branch("bad", "main", &[("f3", "BAD\n")]);
    queue.branch("behind", "main", &[("f4", "fine\n")]);
    queue.branch("further", "main", &[("f5", "fine\n")]);
    queue.sandbox.run(&["queue", "add", "behind", "--after", "bad"]).exits(128);
    queue.add(&["bad"]);
    queue.sandbox.run(&["queue", "add", "behind", "--after", "bad", "--priority", "9"]).exits(0);
    queue.sandbox.run(&["queue", "add", "further", "--after", "behind"]).exits(0);
    queue.add(&[&names[0], &names[1]]);
    queue.sandbox.run(&["queue", "add", &names[2], "--priority", "100"]).exits(0);
    queue.sandbox.run(&["queue", "add", &names[3], "--after", &names[0]]).exits(0);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(queue.why("behind"), "behind: blocked: it comes after `bad`, which did not land");
    let states = queue.states();
    assert_eq!(
        [&states["bad"], &states["behind"], &states["further"]],
        ["rejected", "blocked", "blocked"]
    );
    let landed = queue.landed();
    let at = |name: &str| landed.iter().position(|l| l == name).unwrap();
    assert!(at("b0") < at("b3") && at("b2") < at("b1"), "{landed:?}");
    queue.holds();
}

#[test]
fn stacked_branch_lands_only_its_own_commits_after_a_squash() {
    let queue = QueueSandbox::new("batch = 1");
    queue.branch("below", "main", &[("f1", "one\ntwo\nthree\n")]);
    queue.branch("above", "below", &[("f1", "one\ntwo and more\nthree\n")]);
    queue.add(&["below"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.sandbox.run(&["queue", "add", "above", "--after", "below"]).exits(0);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    let patch = queue.sandbox.git(&["show", "--format=%s", "main"]);
    assert!(patch.starts_with("work of above") && patch.contains("+two and more"), "{patch}");
    assert!(!patch.contains("+three"), "{patch}");
    queue.holds();
}

#[test]
fn branches_are_verified_with_the_job_file_of_the_target() {
    let queue = QueueSandbox::new("");
    let gutted = "[[check]]\nname = \"nothing\"\nrun = [\"true\"]\n";
    queue.branch(
        "sly",
        "main",
        &[("harness.toml", gutted), ("check.sh", "exit 0\n"), ("f1", "BAD\n")],
    );
    queue.add(&["sly"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(
        queue.why("sly"),
        "sly: rejected: it fails alone on the target\n    \
         check `tests`: with `check.sh` and 1 more as on the target: `sh check.sh`: exit 1\n    ./f1:1:BAD"
    );
    // Good, it lands, and what comes next is judged by what it has brought.
    queue.branch("honest", "main", &[("harness.toml", gutted)]);
    queue.branch("later", "main", &[("f2", "BAD\n")]);
    queue.add(&["honest"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.add(&["later"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["honest", "later"]);
    assert_eq!(queue.states()["later"], "landed");
}

#[test]
fn queue_without_checks_refuses_branches() {
    let queue = QueueSandbox::new("");
    queue.branch("bare", "main", &[("f1", "fine\n")]);
    queue.sandbox.git(&["rm", "--quiet", "harness.toml"]);
    queue.sandbox.git(&["commit", "--quiet", "--message", "no rules"]);
    screen(&queue.sandbox, "queue_add_no_job_file", &["queue", "add", "bare"]);
    queue.sandbox.write("harness.toml", "[queue]\nbatch = 4\n");
    queue.sandbox.git(&["add", "harness.toml"]);
    queue.sandbox.git(&["commit", "--quiet", "--message", "no check"]);
    queue.add(&["bare"]);
    screen(&queue.sandbox, "queue_run_no_check", &["queue", "run"]);
    assert!(queue.landed().is_empty());
}
