//! Assignments with a scripted executor instead of keeper processes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::assignment::{
    AssignmentFolder, EarlierResult, Executor, Finished, Handover, KeeperWork, OnDeath,
};
use super::checks::ChecksAssignment;
use crate::domain::id::Oid;
use crate::keeper::seal;
use crate::process::{Environ, Lock};
use crate::repo::SealKey;
use crate::wire::keeper::{
    Assignment, ChecksOutcome, EvaluationWork, KeeperFile as _, Work, files,
};
use crate::wire::{VERSION, decode};

const ATTEMPT: &[u8] = include_bytes!("../../../fixtures/formats/v1/assignment.json");
const CHECKS: &[u8] = include_bytes!("../../../fixtures/formats/v1/assignment-checks.json");

/// The behaviour of one scripted keeper.
#[derive(Debug, Clone, PartialEq)]
enum Act {
    /// Ends before it takes over.
    NeverStart,
    /// Takes over and dies.
    Die,
    /// Takes over and writes the outcome of a tree.
    Answer(&'static str),
    /// Takes over and runs until the test ends it.
    Run,
}

/// Keepers without processes.
#[derive(Debug, Default)]
struct ScriptedExecutor {
    acts: RefCell<VecDeque<Act>>,
    starts: Cell<u32>,
    running: RefCell<Vec<Lock>>,
}

impl ScriptedExecutor {
    fn new(acts: &[Act]) -> Self {
        Self { acts: RefCell::new(acts.to_vec().into()), ..Self::default() }
    }
}

impl Executor for ScriptedExecutor {
    fn hand_over(&self, worktree: &str, dir: &Path, lock: &Lock, _env: &Environ) -> Result<()> {
        let assignment = Assignment::read(dir)?.context("no assignment was written")?;
        assert_eq!(assignment.worktree.name, worktree);
        assert!(dir.join(files::TMP).is_dir());
        assert!(!dir.join(files::OUTCOME).exists(), "an earlier outcome was left");
        self.starts.set(self.starts.get() + 1);
        let act = self.acts.borrow_mut().pop_front().context("one keeper too many")?;
        if act == Act::NeverStart {
            return Ok(());
        }
        lock.describe("process 7 on test, started at tick 1")?;
        match act {
            Act::NeverStart => {}
            Act::Die => std::fs::write(dir.join(files::LOG), "first\nlast words\n")?,
            Act::Answer(tree) => write_outcome(dir, tree),
            Act::Run => {
                self.running.borrow_mut().push(Lock::from(lock.as_fd().try_clone_to_owned()?));
            }
        }
        Ok(())
    }
}

fn write_outcome(dir: &Path, tree: &str) {
    let outcome = ChecksOutcome {
        v: VERSION,
        tree: tree.to_owned(),
        fault: None,
        setup_failure: None,
        checks: Vec::new(),
    };
    match Assignment::read(dir).unwrap() {
        Some(assignment) => seal::write_outcome(dir, &outcome, &assignment, &key()).unwrap(),
        None => drop(outcome.write(dir).unwrap()),
    }
}

fn key() -> SealKey {
    SealKey::from_hex(&"0b".repeat(32)).unwrap()
}

const TREE: &str = "cccccccccccccccccccccccccccccccccccccccc";
const OTHER: &str = "dddddddddddddddddddddddddddddddddddddddd";

/// Work whose answer is the outcome file, whatever its kind.
#[derive(Debug)]
struct ScriptedWork {
    assignment: Assignment,
    on_death: OnDeath,
    is_only_awaited: bool,
}

impl ScriptedWork {
    fn new(work: Work, on_death: OnDeath) -> Self {
        let assignment: Assignment = decode("assignment.json", ATTEMPT).unwrap();
        Self { assignment: Assignment { work, ..assignment }, on_death, is_only_awaited: false }
    }
}

impl KeeperWork for ScriptedWork {
    type Answer = ChecksOutcome;

    fn handover(&self) -> Result<Option<Handover>> {
        Ok((!self.is_only_awaited).then(|| Handover {
            common_dir: self.assignment.common_dir.clone(),
            name: "scripted".to_owned(),
            worktree: self.assignment.worktree.clone(),
            work: self.assignment.work.clone(),
            files: vec![(files::PROMPT, "prompt".to_owned())],
            environment: Environ::empty(),
            sandbox: None,
            key: key(),
        }))
    }

    fn answer(&self, dir: &Path, _asked: Option<&Assignment>) -> Result<Option<ChecksOutcome>> {
        Ok(ChecksOutcome::read(dir)?)
    }

    fn on_death(&self) -> OnDeath {
        self.on_death
    }
}

/// Returns work of each kind, with the consequences of death that the kind has.
fn kinds() -> Vec<ScriptedWork> {
    let attempt = decode::<Assignment>("assignment.json", ATTEMPT).unwrap().work;
    let checks = decode::<Assignment>("assignment-checks.json", CHECKS).unwrap().work;
    let Work::Attempt(agent) = &attempt else { panic!("{attempt:?}") };
    let evaluation = Work::Evaluation(Box::new(EvaluationWork {
        task: agent.task.clone(),
        attempt: agent.attempt,
        commit: agent.base.clone(),
        answer: "evaluation.json".into(),
        session: agent.session.clone(),
    }));
    vec![
        ScriptedWork::new(attempt, OnDeath::Report),
        ScriptedWork::new(evaluation, OnDeath::ReportOwn),
        ScriptedWork::new(checks.clone(), OnDeath::ReportOwn),
        ScriptedWork::new(checks, OnDeath::Replace),
    ]
}

fn folder(root: &tempfile::TempDir) -> AssignmentFolder {
    AssignmentFolder::create(root.path().join("assignment")).unwrap()
}

/// Checks of a tree in the worktree of the frozen assignment.
fn checks(tree: &Oid) -> ChecksAssignment<'_> {
    let assignment: Assignment = decode("assignment-checks.json", CHECKS).unwrap();
    ChecksAssignment {
        common_dir: assignment.common_dir,
        name: "test".to_owned(),
        worktree: assignment.worktree,
        tree,
        steps: &[],
        tasks: Vec::new(),
        environment: Environ::empty(),
        sandbox: None,
        on_death: OnDeath::ReportOwn,
        key: key(),
    }
}

fn tree() -> Oid {
    Oid::parse(TREE).unwrap()
}

#[test]
fn keeper_that_never_started_is_replaced_three_times_in_every_kind() {
    for work in kinds() {
        for (extra, is_answered) in [(3, true), (4, false)] {
            let root = tempfile::tempdir().unwrap();
            let acts = [vec![Act::NeverStart; extra], vec![Act::Answer(TREE)]].concat();
            let executor = ScriptedExecutor::new(&acts);
            let finished = folder(&root).wait(&executor, &work, EarlierResult::Use).unwrap();
            assert_eq!(executor.starts.get(), 4, "{work:?}");
            match finished {
                Finished::Answered(outcome) => assert!(is_answered && outcome.tree == TREE),
                Finished::Died(keeper) => assert!(!is_answered && !keeper.has_started()),
            }
        }
    }
}

#[test]
fn started_keeper_counts_as_the_first_of_the_replaced_ones() {
    let root = tempfile::tempdir().unwrap();
    let executor = ScriptedExecutor::new(&vec![Act::NeverStart; 4]);
    let work = kinds().remove(0);
    let folder = folder(&root);
    folder.start(&executor, &work.handover().unwrap().unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join(files::PROMPT)).unwrap(), "prompt");
    let finished = folder.wait_for_started(&executor, &work).unwrap();
    assert!(matches!(finished, Finished::Died(keeper) if !keeper.has_started()));
    assert_eq!(executor.starts.get(), 4);
}

#[test]
fn keeper_that_never_started_is_recognised_in_the_folder_of_an_earlier_keeper() {
    let root = tempfile::tempdir().unwrap();
    let (folder, tree) = (folder(&root), tree());
    let executor = ScriptedExecutor::new(&[Act::Answer(TREE), Act::NeverStart, Act::Answer(TREE)]);
    for _ in 0..2 {
        let finished = folder.wait(&executor, &checks(&tree), EarlierResult::Use).unwrap();
        assert!(matches!(finished, Finished::Answered(_)));
        folder.clear().unwrap();
    }
    assert_eq!(executor.starts.get(), 3);
}

#[test]
fn dead_keeper_is_reported_with_its_last_message() {
    for on_death in [OnDeath::Report, OnDeath::ReportOwn] {
        let root = tempfile::tempdir().unwrap();
        let executor = ScriptedExecutor::new(&[Act::Die]);
        let work = ScriptedWork { on_death, ..kinds().remove(0) };
        let finished = folder(&root).wait(&executor, &work, EarlierResult::Use).unwrap();
        let Finished::Died(keeper) = finished else { panic!("{finished:?}") };
        assert!(keeper.has_started() && keeper.assignment().is_some());
        assert_eq!(keeper.last_line(), "last words");
    }
}

#[test]
fn dead_keeper_whose_work_nobody_repeats_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let executor = ScriptedExecutor::new(&[Act::Die, Act::Answer(TREE)]);
    let work = ScriptedWork { on_death: OnDeath::Replace, ..kinds().remove(0) };
    let finished = folder(&root).wait(&executor, &work, EarlierResult::Use).unwrap();
    assert!(matches!(finished, Finished::Answered(_)));
}

#[test]
fn death_under_an_earlier_supervisor_starts_the_work_again_unless_it_must_be_rescued() {
    for (on_death, starts) in [(OnDeath::ReportOwn, 1), (OnDeath::Report, 0)] {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(&root);
        let work = ScriptedWork { on_death, ..kinds().remove(0) };
        let earlier = ScriptedExecutor::new(&[Act::Die]);
        assert!(folder.poll(&earlier, &work, EarlierResult::Use).unwrap().is_none());
        let executor = ScriptedExecutor::new(&[Act::Answer(TREE)]);
        let finished = folder.wait(&executor, &work, EarlierResult::Use).unwrap();
        assert_eq!(executor.starts.get(), starts);
        assert_eq!(matches!(finished, Finished::Answered(_)), starts == 1);
    }
}

#[test]
fn work_of_an_earlier_supervisor_is_not_started_if_it_can_only_be_awaited() {
    let root = tempfile::tempdir().unwrap();
    let executor = ScriptedExecutor::default();
    let work = ScriptedWork { is_only_awaited: true, ..kinds().remove(0) };
    let finished = folder(&root).wait(&executor, &work, EarlierResult::Use).unwrap();
    assert!(matches!(finished, Finished::Died(keeper) if keeper.assignment().is_none()));
}

#[test]
fn answer_of_an_earlier_keeper_is_used_unless_it_is_recorded_already() {
    let root = tempfile::tempdir().unwrap();
    let (folder, tree) = (folder(&root), tree());
    let earlier = ScriptedExecutor::new(&[Act::Answer(TREE)]);
    assert!(folder.poll(&earlier, &checks(&tree), EarlierResult::Use).unwrap().is_none());
    let none = ScriptedExecutor::default();
    let used = folder.poll(&none, &checks(&tree), EarlierResult::Use).unwrap();
    assert!(matches!(used, Some(Finished::Answered(outcome)) if outcome.tree == TREE));
    let executor = ScriptedExecutor::new(&[Act::Answer(TREE)]);
    let again = folder.wait(&executor, &checks(&tree), EarlierResult::Ignore).unwrap();
    assert!(matches!(again, Finished::Answered(_)));
    assert_eq!(executor.starts.get(), 1);
}

#[test]
fn answer_to_another_question_is_not_used() {
    let root = tempfile::tempdir().unwrap();
    let (folder, tree, other) = (folder(&root), tree(), Oid::parse(OTHER).unwrap());
    let earlier = ScriptedExecutor::new(&[Act::Answer(OTHER)]);
    assert!(folder.poll(&earlier, &checks(&other), EarlierResult::Use).unwrap().is_none());
    // The outcome of another tree, even if the assignment is the right one, is no answer.
    let executor = ScriptedExecutor::new(&[Act::Answer(OTHER)]);
    let finished = folder.wait(&executor, &checks(&tree), EarlierResult::Use).unwrap();
    assert!(matches!(finished, Finished::Died(keeper) if keeper.has_started()));
    assert_eq!(executor.starts.get(), 1);
}

#[test]
fn poll_returns_while_the_keeper_runs() {
    let root = tempfile::tempdir().unwrap();
    let (folder, tree) = (folder(&root), tree());
    let executor = ScriptedExecutor::new(&[Act::Run]);
    for _ in 0..2 {
        assert!(folder.poll(&executor, &checks(&tree), EarlierResult::Use).unwrap().is_none());
        assert_eq!(executor.starts.get(), 1);
    }
    let handover = checks(&tree).handover().unwrap().unwrap();
    let busy = folder.start(&executor, &handover).unwrap_err().to_string();
    assert!(busy.contains("is being carried out already: process 7"), "{busy}");
    write_outcome(folder.path(), TREE);
    executor.running.borrow_mut().clear();
    let finished = folder.poll(&executor, &checks(&tree), EarlierResult::Use).unwrap();
    assert!(matches!(finished, Some(Finished::Answered(_))));
}
