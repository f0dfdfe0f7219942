//! The store under several handles, compared with a model: nobody's move is lost, and nobody moves what has moved.
#![expect(clippy::disallowed_methods, reason = "tests start git and threads themselves")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use git_harness::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use git_harness::domain::id::{Oid, RunId, TaskId, Timestamp};
use git_harness::domain::machine::Decision;
use git_harness::domain::plan::{Plan, Task};
use git_harness::domain::session::{Class, Cost, SessionReport, Tokens, Usage};
use git_harness::domain::state::Phase;
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::{Candidate, CheckResult, Finding};
use git_harness::store::chain::{Batch, Ledger, findings};
use git_harness::store::create::NewRun;
use git_harness::store::journal::{JournalEntry, LandingRecord, Moved, TargetProof};
use git_harness::store::load::LoadedRun;
use git_harness::store::{Expected, Lost, RefMove, RunProof, Store, layout};
use git_harness::testing::Git;
use git_harness::testing::repo::{self, Repo};
use git_harness::wire::run::Manifest;

pub(crate) const JOB: &str = "[job]\ngoal = \"Test.\"\n[plan]\ninclude = [\"**\"]\n[agent]\npreset = \"command\"\n\
                   command = [\"true\"]\n[[check]]\nname = \"tests\"\nrun = [\"true\"]\n";

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) base: Oid,
}

/// A small generator with a fixed seed: the same test every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

pub(crate) fn run_id() -> RunId {
    RunId::parse("model-1").unwrap()
}

pub(crate) fn task(n: usize) -> TaskId {
    TaskId::parse(&format!("t{n}")).unwrap()
}

fn plan(tasks: usize) -> Plan {
    let one = |n| Task {
        id: task(n),
        files: vec![format!("f{n}")],
        after: Vec::new(),
        lines: 1,
        tokens: 1,
        level: 0,
        vars: String::new(),
    };
    Plan { tasks: (0..tasks).map(one).collect() }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Self { dir, base: Oid::parse(&"0".repeat(40)).unwrap() };
        fixture.git(&["init", "-q", "-b", "main"]);
        fixture.git(&["commit", "-q", "--allow-empty", "-m", "base"]);
        fixture.base = Oid::parse(fixture.git(&["rev-parse", "HEAD"]).trim()).unwrap();
        fixture
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
        let output = Command::new("git")
            .args(who)
            .args(args)
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(".git").join(name)
    }

    pub(crate) fn open(&self) -> Store {
        let repo = Repo::discover(self.dir.path()).unwrap();
        let private = repo.common_dir().join("harness").join("git");
        let git = Git::find(repo.common_dir(), &private, &std::env::vars_os().collect()).unwrap();
        Store::open(repo, git).unwrap()
    }

    pub(crate) fn commit(&self, store: &Store, content: &str, parent: &Oid) -> (Oid, Oid) {
        let blob = repo::write_blob(store.repo(), content.as_bytes()).unwrap();
        let tree = repo::write_tree(store.repo(), &[("file".to_owned(), blob)]).unwrap();
        let who = repo::Identity { name: "Test".into(), email: "test@example.org".into() };
        let commit =
            repo::commit(store.repo(), &tree, std::slice::from_ref(parent), content, &who, 1);
        (commit.unwrap(), tree)
    }

    /// A run of some tasks, held and loaded.
    pub(crate) fn run(&self, store: &Store, tasks: usize) -> (RunProof, LoadedRun) {
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

pub(crate) fn record(
    store: &Store,
    proof: &RunProof,
    ledger: &mut Ledger,
    n: usize,
    kind: TaskEventKind,
) {
    let event = TaskEvent { at: Timestamp(5), kind };
    let decisions = vec![Decision::Task(task(n), event)];
    ledger.record(store, proof, &mut Batch { decisions, ..Batch::default() }).unwrap();
}

/// What another process reads is what the holder knows.
fn agree(store: &Store, ledger: &Ledger) {
    let loaded = store.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.ledger.state, ledger.state);
    assert_eq!(loaded.ledger.run_seq, ledger.run_seq);
    for (task, tip) in &loaded.ledger.tips {
        assert_eq!(ledger.tips.get(task), Some(tip), "{task}");
    }
}

fn housekeeping(fixture: &Fixture, dice: &mut Dice) {
    match dice.roll(8) {
        0 => drop(fixture.git(&["pack-refs", "--all"])),
        1 => drop(fixture.git(&["gc", "-q"])),
        _ => {}
    }
}

#[test]
fn moves_of_several_handles_agree_with_a_model() {
    let fixture = Fixture::new();
    let handles = [fixture.open(), fixture.open(), fixture.open()];
    let mut dice = Dice(7);
    let values: Vec<Oid> =
        (0..5).map(|n| fixture.commit(&handles[0], &n.to_string(), &fixture.base).0).collect();
    // All values stay reachable, whatever the moves do.
    for (n, value) in values.iter().enumerate() {
        fixture.git(&["update-ref", &format!("refs/keep/{n}"), value.as_str()]);
    }
    let name = |n: usize| format!("refs/harness/tasks/model/r{n}");
    let mut model: BTreeMap<String, Oid> = BTreeMap::new();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..250 {
        let store = &handles[dice.roll(3)];
        let first = dice.roll(6);
        let mut moves = Vec::new();
        for n in first..first + 1 + dice.roll(3) {
            let now = model.get(&name(n)).cloned();
            let honest = dice.roll(6) > 0;
            let old = if honest { now } else { Some(values[dice.roll(5)].clone()) };
            match (dice.roll(4), old) {
                (0, Some(old)) => moves.push(RefMove::delete(name(n), old)),
                (_, old) => {
                    let new = values[dice.roll(5)].clone();
                    moves.push(RefMove::to(name(n), new, Expected::from_read(old)));
                }
            }
        }
        let fits = |m: &RefMove| Expected::from_read(model.get(&m.name).cloned()) == m.old;
        let there = |m: &RefMove| model.get(&m.name) == m.new.as_ref();
        let wanted = moves.iter().all(fits) || moves.iter().all(there);
        match store.transact(&moves) {
            Ok(()) => {
                assert!(wanted, "{moves:?} went through on {model:?}");
                done += 1;
                for m in moves {
                    match m.new {
                        Some(new) => drop(model.insert(m.name, new)),
                        None => drop(model.remove(&m.name)),
                    }
                }
            }
            Err(error) => {
                assert!(!wanted, "{moves:?} was refused on {model:?}: {error:#}");
                assert!(error.is::<Lost>(), "{error:#}");
                refused += 1;
            }
        }
        if dice.roll(6) == 0 {
            housekeeping(&fixture, &mut dice);
        }
        let reader = &handles[dice.roll(3)];
        for n in 0..9 {
            assert_eq!(reader.read(&name(n)).unwrap(), model.get(&name(n)).cloned());
        }
        let listed: BTreeMap<_, _> = reader
            .list(&layout::tasks(&RunId::parse("model").unwrap()))
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(listed, model);
    }
    assert!(done > 50 && refused > 20, "both happen: {done} done, {refused} refused");
}

/// What a session says of itself, never twice the same.
fn report(round: usize) -> SessionReport {
    let n = round as u64;
    let tokens = Tokens { input: n, output: 2 * n, cache_read: 3 * n, cache_write: 4 };
    SessionReport {
        class: Class::ALL[round % Class::ALL.len()],
        detail: Some(format!("line\n\nHarness-Class: ok {round}")),
        session: round.is_multiple_of(3).then(|| format!("learned {round}")),
        usage: Usage {
            tokens: (!round.is_multiple_of(5)).then_some(tokens),
            cost: Cost::from_usd(0.25),
        },
        cumulative: round.is_multiple_of(4),
        resets_at: round.is_multiple_of(7).then_some(Timestamp(n)),
        denials: 1,
    }
}

#[test]
fn notes_of_several_writers_are_all_kept() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let objects: Vec<Oid> =
        (0..3).map(|n| fixture.commit(&store, &format!("o{n}"), &fixture.base).0).collect();
    let line = |writer: usize, n: usize| format!("{{\"writer\":{writer},\"n\":{n}}}");
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (objects, fixture) = (&objects, &fixture);
            scope.spawn(move || {
                let store = fixture.open();
                for n in 0..8 {
                    let lines = [objects[n % 3].clone(), objects[(n + writer) % 3].clone()];
                    let lines = lines.map(|o| (o, vec![line(writer, n)])).into_iter().collect();
                    store.add_notes(layout::VERDICTS, &lines).unwrap();
                    if writer == 0 && n == 4 {
                        fixture.git(&["pack-refs", "--all"]);
                    }
                }
            });
        }
    });
    for (at, object) in objects.iter().enumerate() {
        let note = store.note(layout::VERDICTS, object).unwrap().unwrap();
        let shown = fixture.git(&["notes", "--ref=harness-verdicts", "show", object.as_str()]);
        assert_eq!(note.trim_end(), shown.trim_end(), "plain git shows the same");
        for (writer, n) in (0..3).flat_map(|w| (0..8).map(move |n| (w, n))) {
            if n % 3 == at || (n + writer) % 3 == at {
                let times = note.lines().filter(|l| *l == line(writer, n)).count();
                assert_eq!(times, 1, "{writer}, {n} in {note}");
            }
        }
    }
}

#[test]
fn chains_are_read_by_others_as_they_were_written() {
    let fixture = Fixture::new();
    let (writer, reader) = (fixture.open(), fixture.open());
    let (proof, LoadedRun { mut ledger, .. }) = fixture.run(&writer, 5);
    agree(&reader, &ledger);
    let mut dice = Dice(11);
    let owner = "here".to_owned();
    for round in 0..40usize {
        let n = dice.roll(5);
        let attempt = ledger.state.tasks[&task(n)].attempt;
        let (commit, tree) = fixture.commit(&writer, &format!("work {round}"), &fixture.base);
        let finding = Finding { attempt, check: "tests".into(), text: format!("line\n\n{round}") };
        let kind = match dice.roll(6) {
            0 | 1 => TaskEventKind::Started {
                attempt: attempt + 1,
                base: fixture.base.clone(),
                worktree: "p01".into(),
                owner: owner.clone(),
                session: (round % 2 == 0).then(|| format!("session {round}")),
                resumed: round % 4 == 0,
            },
            2 => TaskEventKind::Ended {
                attempt,
                termination: Termination::NotStarted("Harness-State: done".into()),
                candidate: Some(Candidate { commit, tree, base: fixture.base.clone() }),
                report: (round % 2 == 0).then(|| Box::new(report(round))),
            },
            3 => TaskEventKind::Verified {
                attempt,
                tree,
                findings: Some(vec![finding]),
                results: Vec::new(),
                landing: false,
            },
            4 => TaskEventKind::Conflicted { onto: fixture.base.clone(), finding },
            _ => TaskEventKind::Failed {
                reason: format!("round {round}"),
                cause: "Harness-Cause: none".into(),
            },
        };
        let told =
            matches!(kind, TaskEventKind::Verified { .. } | TaskEventKind::Conflicted { .. });
        record(&writer, &proof, &mut ledger, n, kind);
        if told {
            let all = findings(&reader, &ledger.tips[&task(n)].tree).unwrap();
            assert_eq!(all.last().unwrap().text, format!("line\n\n{round}"));
        }
        housekeeping(&fixture, &mut dice);
        let before = ledger.state.clone();
        let run = RunEvent { at: Timestamp(6), kind: RunEventKind::Paused(format!("at {round}")) };
        let decisions = vec![Decision::Run(run)];
        ledger.record(&writer, &proof, &mut Batch { decisions, ..Batch::default() }).unwrap();
        assert_ne!(ledger.state, before);
        agree(&reader, &ledger);
    }
    // Every commit that an attempt left is reachable from its chain.
    fixture.git(&["fsck", "--strict", "--no-dangling"]);
    assert!(reader.hold(&run_id(), "other").unwrap().is_err(), "a run has one holder");
}

#[test]
fn a_holder_whose_knowledge_is_old_writes_nothing() {
    let fixture = Fixture::new();
    let (store, other) = (fixture.open(), fixture.open());
    let (proof, LoadedRun { ledger: mut old, .. }) = fixture.run(&store, 2);
    drop(proof);
    let proof = other.hold(&run_id(), "other").unwrap().unwrap();
    let mut ledger = other.load(&run_id()).unwrap().unwrap().ledger;
    let skipped = |text: &str| TaskEventKind::Skipped { message: text.into() };
    record(&other, &proof, &mut ledger, 0, skipped("second"));
    drop(proof);
    let proof = store.hold(&run_id(), "again").unwrap().unwrap();
    let decision = |n: usize| {
        let event = TaskEvent { at: Timestamp(5), kind: skipped("first") };
        Decision::Task(task(n), event)
    };
    let before = old.state.clone();
    let mut batch = Batch { decisions: vec![decision(1), decision(0)], ..Batch::default() };
    let error = old.record(&store, &proof, &mut batch).unwrap_err();
    assert!(error.is::<Lost>(), "{error:#}");
    assert_eq!(old.state, before, "nothing is folded that was not written");
    agree(&other, &ledger);
}

fn landing(fixture: &Fixture, store: &Store, n: usize) -> LandingRecord {
    let target = layout::default_target(&run_id());
    let old = store.read(&target).unwrap().unwrap();
    let (candidate, _) = fixture.commit(store, &format!("candidate {n}"), &fixture.base);
    let (new, tree) = fixture.commit(store, &format!("landed {n}"), &old);
    let result = CheckResult {
        name: "tests".into(),
        key: "k".into(),
        passed: true,
        ms: 3,
        id: format!("id{n}"),
    };
    let (run, task) = (run_id(), task(n));
    LandingRecord { run, task, attempt: 1, candidate, old, new, tree, results: vec![result] }
}

fn land(store: &Store, queue: &TargetProof, landings: &[LandingRecord]) -> anyhow::Result<Moved> {
    let intent = store.intend(queue, landings)?;
    store.barrier()?;
    store.advance(queue, landings, Some(intent))
}

#[test]
fn what_is_journaled_together_moves_together_and_is_read_together() {
    let fixture = Fixture::new();
    let (store, reader) = (fixture.open(), fixture.open());
    let target = layout::default_target(&run_id());
    let (_proof, _run) = fixture.run(&store, 4);
    let queue = store.hold_target(&target).unwrap();
    assert_eq!(reader.open_landings(&target).unwrap(), Vec::new());
    for n in [0, 2] {
        let first = landing(&fixture, &store, n);
        let (new, tree) = fixture.commit(&store, "the second", &first.new);
        let second =
            LandingRecord { task: task(n + 1), old: first.new.clone(), new, tree, ..first.clone() };
        let both = [first, second.clone()];
        let intent = store.intend(&queue, &both).unwrap();
        assert_eq!(reader.open_landings(&target).unwrap(), Vec::new(), "only meant so far");
        assert_eq!(store.advance(&queue, &both, Some(intent)).unwrap(), Moved::Landed);
        assert_eq!(reader.read(&target).unwrap(), Some(second.new.clone()));
        assert_eq!(reader.open_landings(&target).unwrap(), both);
        let over = store.settle(&queue, &second, true).unwrap();
        store.transact(&[over]).unwrap();
        assert_eq!(reader.open_landings(&target).unwrap(), Vec::new());
    }
}

#[test]
fn what_landed_is_put_away_and_read_again_as_it_was() {
    let fixture = Fixture::new();
    let (store, reader) = (fixture.open(), fixture.open());
    let target = layout::default_target(&run_id());
    let (proof, LoadedRun { mut ledger, .. }) = fixture.run(&store, 6);
    let mut dice = Dice(3);
    for n in 0..4 {
        let queue = store.hold_target(&target).unwrap();
        let planned = landing(&fixture, &store, n);
        if n == 2 {
            // Somebody else is faster: nothing is moved and nothing journaled.
            let (elsewhere, _) = fixture.commit(&store, "somebody else", &planned.old);
            fixture.git(&["update-ref", &target, elsewhere.as_str()]);
            assert_eq!(
                land(&store, &queue, std::slice::from_ref(&planned)).unwrap(),
                Moved::TargetMoved
            );
            assert_eq!(reader.journal(&target).unwrap(), Some(JournalEntry::Settled));
            assert_eq!(reader.read(&target).unwrap(), Some(elsewhere));
            let over = store.settle(&queue, &planned, false).unwrap();
            store.transact(&[over]).unwrap();
            assert_eq!(reader.journal(&target).unwrap(), Some(JournalEntry::Settled));
            assert_eq!(reader.journal_target(&target).unwrap(), None, "nothing landed there");
            continue;
        }
        assert_eq!(land(&store, &queue, std::slice::from_ref(&planned)).unwrap(), Moved::Landed);
        assert_eq!(reader.journal(&target).unwrap(), Some(JournalEntry::Landing(planned.clone())));
        let moves = vec![store.settle(&queue, &planned, true).unwrap()];
        let kind =
            TaskEventKind::Landed { commit: planned.new.clone(), results: planned.results.clone() };
        let decisions = vec![Decision::Task(task(n), TaskEvent { at: Timestamp(9), kind })];
        ledger.record(&store, &proof, &mut Batch { decisions, moves, ..Batch::default() }).unwrap();
        assert_eq!(reader.journal(&target).unwrap(), Some(JournalEntry::Settled));
        assert_eq!(reader.journal_target(&target).unwrap(), Some(planned.new.clone()));
        assert_eq!(reader.read(&target).unwrap(), Some(planned.new));
        housekeeping(&fixture, &mut dice);
    }
    let failed = TaskEventKind::Failed { reason: "for good".into(), cause: "types".into() };
    record(&store, &proof, &mut ledger, 4, failed);
    let swept = store.sweep(&proof, &ledger.state, false).unwrap();
    assert_eq!(swept.chains, 3);
    let prefix = layout::tasks(&run_id());
    assert_eq!(reader.list(&prefix).unwrap().len(), 3, "what has not landed stays");
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.ledger.state, ledger.state, "an archived task reads as before");
    assert_eq!(loaded.missing, []);
    assert_eq!(store.sweep(&proof, &loaded.ledger.state, false).unwrap().chains, 0);
    // A chain that is lost begins anew; the others are as they were.
    fixture.git(&["gc", "-q"]);
    fixture.git(&["update-ref", "-d", &layout::task(&run_id(), &task(4))]);
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.missing, [task(4)]);
    store.recreate_tasks(&proof, &loaded.ledger.state.plan, &loaded.missing).unwrap();
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.missing, []);
    assert_eq!(loaded.ledger.state.tasks[&task(4)].phase, Phase::Todo);
    assert_eq!(loaded.ledger.state.tasks[&task(0)], ledger.state.tasks[&task(0)]);
}
