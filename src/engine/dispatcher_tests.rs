//! The dispatcher on a real store, with a scripted executor instead of keeper processes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};

use super::queue::{OpenRun, QueueContext};
use super::requests;
use super::work::assignment::Executor;
use super::{Context, RunExit, RunOptions, RunReport, policy, prepare};
use crate::ambient;
use crate::domain::event::TaskEvent;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::plan::{Plan, Task};
use crate::domain::retry::Policy;
use crate::domain::state::Phase;
use crate::job;
use crate::process::{Environ, Git, Lock};
use crate::repo::fixture::RepoFixture;
use crate::store::create::NewRun;
use crate::store::{RunProof, Store};
use crate::wire::VERSION;
use crate::wire::keeper::{Assignment, KeeperFile as _, Work, files};
use crate::wire::request::WireRequest;
use crate::wire::run::Manifest;

const JOB: &str = r#"
[job]
name = "look"
kind = "report"
goal = "look at it"

[plan]
include = ["*.txt"]

[agent]
command = ["true"]

[output]
path = "report.json"

[retry]
infra = 0
redispatch = 0
halt-above = 1.0
"#;

/// The behaviour of every keeper.
#[derive(Debug, Clone, Copy, PartialEq)]
enum KeeperAct {
    /// Takes over and dies.
    Die,
    /// Takes over and runs until the test ends it.
    Run,
}

/// The record of the scripted keepers.
#[derive(Debug, Default)]
struct KeeperRecord {
    /// The attempts, in order: the task, and the task's phase in the refs at that moment.
    handed_over: Vec<(String, Phase)>,
    /// The locks of keepers that run.
    running: Vec<Lock>,
}

/// Keepers without processes.
#[derive(Debug)]
struct RecordingExecutor {
    act: KeeperAct,
    store: Store,
    run: RunId,
    keepers: Arc<Mutex<KeeperRecord>>,
}

impl Executor for RecordingExecutor {
    fn hand_over(&self, _worktree: &str, dir: &Path, lock: &Lock, _env: &Environ) -> Result<()> {
        let assignment = Assignment::read(dir)?.context("no assignment was written")?;
        let Work::Attempt(work) = assignment.work else { bail!("not an attempt") };
        let task = TaskId::parse(&work.task)?;
        let (_, state) = self.store.task_tip(&self.run, &task)?.context("no chain")?;
        let mut keepers = self.keepers.lock().unwrap();
        keepers.handed_over.push((work.task, state.phase));
        lock.describe("process 7 on test, started at tick 1")?;
        match self.act {
            KeeperAct::Die => std::fs::write(dir.join(files::LOG), "last words\n")?,
            KeeperAct::Run => keepers.running.push(Lock::from(lock.as_fd().try_clone_to_owned()?)),
        }
        Ok(())
    }
}

/// A run of three tasks in a repository of its own.
struct RunFixture {
    _repo: RepoFixture,
    store: Store,
    run: RunId,
    base: Oid,
    keepers: Arc<Mutex<KeeperRecord>>,
}

impl RunFixture {
    fn new() -> Self {
        let repo = RepoFixture::new();
        let base = repo.commit(&[("a.txt", "a\n"), ("b.txt", "b\n"), ("c.txt", "c\n")], &[]);
        repo.git(&["update-ref", "refs/heads/main", base.as_str()]);
        let common = repo.repo.common_dir().to_path_buf();
        let private = common.join("harness").join("git");
        let git = Git::find(&common, &private, &ambient::environment()).unwrap();
        let store = Store::open(repo.repo.clone(), git).unwrap();
        let run = RunId::parse("look-1").unwrap();
        let fixture = Self { _repo: repo, store, run, base, keepers: Arc::default() };
        let proof = fixture.proof();
        let new = NewRun {
            manifest: &fixture.manifest(),
            job_text: JOB,
            plan: &Plan { tasks: ["a", "b", "c"].map(task).to_vec() },
            pinned: &[],
            inputs: &[],
            paused: false,
        };
        fixture.store.create(&proof, &new).unwrap();
        fixture
    }

    fn proof(&self) -> RunProof {
        self.store.hold(&self.run, "a test").unwrap().unwrap()
    }

    fn manifest(&self) -> Manifest {
        Manifest {
            v: VERSION,
            run: self.run.to_string(),
            job: "look".into(),
            file: "harness.toml".into(),
            base: self.base.to_string(),
            target: "refs/heads/main".into(),
            plan: "p".into(),
            target_created: false,
            scope_dir: None,
            scope_files: None,
            unknown: BTreeMap::new(),
        }
    }

    fn context(&self, act: KeeperAct) -> Context {
        let (store, job) = (self.store.clone(), job::parse(JOB, "harness.toml").unwrap());
        let environment = ambient::environment();
        let program = ambient::program().unwrap();
        let queue =
            QueueContext::new(store.clone(), self.manifest().target, program, environment.clone());
        let executor = RecordingExecutor {
            act,
            store: store.clone(),
            run: self.run.clone(),
            keepers: Arc::clone(&self.keepers),
        };
        let tasks = ["a", "b", "c"].map(task).map(|task| (task.id.clone(), Arc::new(task)));
        Context {
            run: self.run.clone(),
            manifest: self.manifest(),
            queue: Arc::new(queue),
            open_run: OpenRun::new(|run| bail!("no run `{run}`")),
            base: self.base.clone(),
            preset: crate::agent::preset::resolve(&job).unwrap(),
            template: None,
            evaluator: None,
            tasks: Mutex::new(BTreeMap::from(tasks)),
            keepers: Box::new(executor),
            environment,
            worktrees: store.repo().common_dir().join("worktrees-of-the-test"),
            owner: "test/1".into(),
            identity: store.repo().identity(),
            overlay: Vec::new(),
            provided: Vec::new(),
            salt: String::new(),
            job,
            store,
        }
    }

    /// Executes the run. Returns the reason why the loop ended, and the reported task events.
    fn execute(&self, act: KeeperAct, jobs: usize, options: RunOptions) -> (RunExit, Vec<String>) {
        let ctx = self.context(act);
        let loaded = self.store.load(&self.run).unwrap().unwrap();
        let policy = Policy { jobs, ..policy(&ctx.job, &ctx.preset, jobs) };
        let mut reported = Vec::new();
        let mut report = |report: RunReport<'_>| {
            if let RunReport::Task { task, event, .. } = report {
                reported.push(format!("{task} {}", name(event)));
            }
        };
        let mut engine = prepare(
            ctx,
            self.proof(),
            loaded.ledger,
            &loaded.missing,
            policy,
            options,
            &mut report,
        )
        .unwrap();
        let exit = engine.run().unwrap();
        drop(engine);
        (exit, reported)
    }

    fn phases(&self) -> Vec<Phase> {
        let loaded = self.store.load(&self.run).unwrap().unwrap();
        loaded.ledger.state.tasks.values().map(|state| state.phase.clone()).collect()
    }

    fn handed_over(&self) -> Vec<(String, Phase)> {
        self.keepers.lock().unwrap().handed_over.clone()
    }
}

/// Returns the name of an event's kind.
fn name(event: &TaskEvent) -> String {
    format!("{:?}", event.kind).split([' ', '(']).next().unwrap_or_default().to_lowercase()
}

fn task(id: &str) -> Task {
    Task {
        id: TaskId::parse(id).unwrap(),
        files: vec![format!("{id}.txt")],
        after: Vec::new(),
        lines: 1,
        tokens: 1,
        level: 0,
        vars: String::new(),
    }
}

fn waiting() -> RunOptions {
    RunOptions { wait: true, ..RunOptions::default() }
}

#[test]
fn attempt_is_journaled_before_its_keeper_gets_it() {
    let fixture = RunFixture::new();
    let (exit, reported) = fixture.execute(KeeperAct::Die, 2, waiting());
    assert_eq!(exit, RunExit::Ended);
    let mut handed_over = fixture.handed_over();
    handed_over.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(handed_over, ["a", "b", "c"].map(|task| (task.to_owned(), Phase::Running)));
    assert_eq!(fixture.phases(), [Phase::Failed, Phase::Failed, Phase::Failed]);
    for task in ["a", "b", "c"] {
        let of_task: Vec<_> = reported.iter().filter(|r| r.starts_with(task)).cloned().collect();
        assert_eq!(of_task, ["started", "ended", "failed"].map(|kind| format!("{task} {kind}")));
    }
}

#[test]
fn poll_starts_as_many_keepers_as_jobs_and_leaves_them() {
    let fixture = RunFixture::new();
    assert_eq!(fixture.execute(KeeperAct::Run, 2, RunOptions::default()).0, RunExit::Later);
    assert_eq!(fixture.handed_over().len(), 2);
    // The next supervisor finds both at work, and starts nothing.
    assert_eq!(fixture.execute(KeeperAct::Run, 2, RunOptions::default()).0, RunExit::Later);
    assert_eq!(fixture.handed_over().len(), 2);
    // They die: their tasks fail, and the third task gets its keeper.
    fixture.keepers.lock().unwrap().running.clear();
    assert_eq!(fixture.execute(KeeperAct::Die, 2, waiting()).0, RunExit::Ended);
    assert_eq!(fixture.handed_over().len(), 3);
    assert_eq!(fixture.phases(), [Phase::Failed, Phase::Failed, Phase::Failed]);
}

#[test]
fn only_starts_the_chosen_tasks() {
    let fixture = RunFixture::new();
    let only = BTreeSet::from([TaskId::parse("c").unwrap()]);
    let (exit, _) = fixture.execute(KeeperAct::Die, 1, RunOptions { only, ..waiting() });
    assert_eq!(exit, RunExit::Ended);
    assert_eq!(fixture.phases(), [Phase::Todo, Phase::Todo, Phase::Failed]);
}

#[test]
fn cancelled_run_starts_nothing_and_needs_a_person() {
    let fixture = RunFixture::new();
    requests::ask(&fixture.store, &fixture.run, &WireRequest::Cancel).unwrap();
    let (exit, reported) = fixture.execute(KeeperAct::Die, 2, waiting());
    assert_eq!(exit, RunExit::Person("the run is cancelled".into()));
    assert_eq!((fixture.handed_over(), reported), (Vec::new(), Vec::new()));
}

#[test]
fn interrupted_supervisor_starts_nothing() {
    let fixture = RunFixture::new();
    let ctx = fixture.context(KeeperAct::Run);
    let loaded = fixture.store.load(&fixture.run).unwrap().unwrap();
    let policy = policy(&ctx.job, &ctx.preset, 2);
    let mut report = |_: RunReport<'_>| {};
    let proof = fixture.proof();
    let mut engine =
        prepare(ctx, proof, loaded.ledger, &[], policy, waiting(), &mut report).unwrap();
    engine.signal(signal_hook::consts::SIGINT);
    assert_eq!(engine.run().unwrap(), RunExit::Interrupted(signal_hook::consts::SIGINT));
    assert_eq!(fixture.handed_over(), Vec::new());
}
