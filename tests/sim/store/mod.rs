//! The store with several handles on one repository: no update is lost, and no stale update is
//! applied.
#![expect(clippy::disallowed_methods, reason = "tests start git and threads themselves")]

mod chains;
mod landings;
mod refs;
mod repair;
mod verdicts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use git_harness::domain::event::{TaskEvent, TaskEventKind};
use git_harness::domain::id::{Oid, RunId, TaskId, Timestamp};
use git_harness::domain::machine::Decision;
use git_harness::domain::plan::{Plan, Task};
use git_harness::store::chain::{Batch, Ledger};
use git_harness::store::create::NewRun;
use git_harness::store::load::LoadedRun;
use git_harness::store::{RunProof, Store, layout};
use git_harness::testing::Git;
use git_harness::testing::repo::{self, Repo};
use git_harness::wire::run::Manifest;

/// A job with one check.
const JOB: &str = r#"[job]
goal = "Test."
[plan]
include = ["**"]
[agent]
preset = "command"
command = ["true"]
[[check]]
name = "tests"
run = ["true"]
"#;

/// A repository with one commit.
struct StoreFixture {
    dir: tempfile::TempDir,
    base: Oid,
}

/// A linear congruential generator with a fixed seed.
struct Dice(u64);

impl Dice {
    /// Returns a number below `n`.
    fn roll(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

fn run_id() -> RunId {
    RunId::parse("model-1").unwrap()
}

fn task_id(n: usize) -> TaskId {
    TaskId::parse(&format!("t{n}")).unwrap()
}

fn plan(tasks: usize) -> Plan {
    let task = |n| Task {
        id: task_id(n),
        files: vec![format!("f{n}")],
        after: Vec::new(),
        lines: 1,
        tokens: 1,
        level: 0,
        vars: String::new(),
    };
    Plan { tasks: (0..tasks).map(task).collect() }
}

impl StoreFixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Self { dir, base: Oid::parse(&"0".repeat(40)).unwrap() };
        fixture.git(&["init", "-q", "-b", "main"]);
        fixture.git(&["commit", "-q", "--allow-empty", "-m", "base"]);
        fixture.base = Oid::parse(fixture.git(&["rev-parse", "HEAD"]).trim()).unwrap();
        fixture
    }

    fn git(&self, args: &[&str]) -> String {
        let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
        let output = Command::new("git")
            .args(identity)
            .args(args)
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/nonexistent/gitconfig")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns a path in the git directory.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(".git").join(name)
    }

    /// Opens another handle.
    fn open(&self) -> Store {
        let repo = Repo::discover(self.dir.path()).unwrap();
        let private = repo.common_dir().join("harness").join("git");
        let git = Git::find(repo.common_dir(), &private, &std::env::vars_os().collect()).unwrap();
        Store::open(repo, git).unwrap()
    }

    /// Writes a commit with one file. Returns the commit and its tree.
    fn commit(&self, store: &Store, content: &str, parent: &Oid) -> (Oid, Oid) {
        let blob = repo::write_blob(store.repo(), content.as_bytes()).unwrap();
        let tree = repo::write_tree(store.repo(), &[("file".to_owned(), blob)]).unwrap();
        let identity = repo::Identity { name: "Test".into(), email: "test@example.org".into() };
        let commit =
            repo::commit(store.repo(), &tree, std::slice::from_ref(parent), content, &identity, 1);
        (commit.unwrap(), tree)
    }

    /// Creates a run, locks it and loads it.
    fn run(&self, store: &Store, tasks: usize) -> (RunProof, LoadedRun) {
        let plan = plan(tasks);
        let manifest = Manifest {
            v: 1,
            run: run_id().to_string(),
            job: "model".into(),
            file: "harness.toml".into(),
            base: self.base.to_string(),
            target: layout::default_target(&run_id()),
            plan: String::new(),
            target_created: true,
            scope_dir: None,
            scope_files: None,
            unknown: BTreeMap::new(),
        };
        let proof = store.hold(&run_id(), "test").unwrap().unwrap();
        let new = NewRun {
            manifest: &manifest,
            job_text: JOB,
            plan: &plan,
            pinned: &[],
            inputs: &[],
            paused: false,
        };
        store.create(&proof, &new).unwrap();
        let loaded = store.load(&run_id()).unwrap().unwrap();
        assert_eq!(loaded.missing, []);
        (proof, loaded)
    }
}

/// Records an event of one task.
fn record(store: &Store, proof: &RunProof, ledger: &mut Ledger, n: usize, kind: TaskEventKind) {
    let event = TaskEvent { at: Timestamp(5), kind };
    let decisions = vec![Decision::Task(task_id(n), event)];
    ledger.record(store, proof, &mut Batch { decisions, ..Batch::default() }).unwrap();
}

/// Checks that another handle reads the state that the holder of the run has.
fn assert_same_state(store: &Store, ledger: &Ledger) {
    let loaded = store.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.ledger.state, ledger.state);
    assert_eq!(loaded.ledger.run_seq, ledger.run_seq);
    for (task, tip) in &loaded.ledger.tips {
        assert_eq!(ledger.tips.get(task), Some(tip), "{task}");
    }
}

/// Packs the repository, sometimes.
fn housekeeping(fixture: &StoreFixture, dice: &mut Dice) {
    match dice.roll(8) {
        0 => drop(fixture.git(&["pack-refs", "--all"])),
        1 => drop(fixture.git(&["gc", "-q"])),
        _ => {}
    }
}
