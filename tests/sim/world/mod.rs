//! A world in which a run is carried out: keepers that outlive the supervisor, checks, a target branch, people, crashes.

mod act;
mod happened;
mod promises;

use std::collections::{BTreeMap, BTreeSet};

use git_harness::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use git_harness::domain::id::{Oid, RunId, TaskId, Timestamp};
use git_harness::domain::machine::{Decision, Effect, Observation, Request, decide};
use git_harness::domain::plan::Plan;
use git_harness::domain::retry::Policy;
use git_harness::domain::state::RunState;
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::Candidate;

use crate::book::Book;
use crate::page::{Page, Rules, Stage};
use crate::script::{self, Count, Mood, Program};
use crate::tape::Tape;
use crate::told::Journal;

/// A commit on the target.
#[derive(Debug, Clone)]
struct Commit {
    id: Oid,
    task: Option<TaskId>,
}

pub(crate) struct World {
    tape: Tape,
    mood: Mood,
    policy: Policy,
    pub state: RunState,
    now: Timestamp,
    journal: Journal,
    book: Book,
    /// The plan as the run was made with it.
    plan: Plan,
    program: Program,
    /// The machine that carries the run.
    owner: String,
    /// The thread in which an attempt works, as far as the harness knows one.
    threads: BTreeMap<(TaskId, u32), Option<String>>,
    /// What threads have used.
    counts: BTreeMap<String, Count>,
    answered: BTreeSet<(TaskId, u32)>,
    /// When the last jury of a task began.
    juries: BTreeMap<TaskId, Timestamp>,
    /// Whether the last thing that was told was only half written.
    torn: bool,
    was_torn: bool,
    /// What threads of the supervisor are at; a crash forgets it.
    flight: BTreeSet<Effect>,
    /// Every attempt that ever began, with what its keeper published.
    keepers: BTreeMap<(TaskId, u32), Option<Observation>>,
    /// Everything that was ever told.
    told: Vec<Observation>,
    candidates: Vec<(TaskId, u32, Candidate, bool)>,
    target: Vec<Commit>,
    /// Trees that the landing checks have accepted.
    known: BTreeSet<Oid>,
    ids: u64,
    turn: usize,
}

impl World {
    pub(crate) fn new(plan: Plan, policy: Policy, paused: bool, mood: Mood, tape: Tape) -> Self {
        let program = Program { talks: true, takes_ids: true, cumulative: false };
        Self::with(plan, policy, paused, (mood, program), tape)
    }

    pub(crate) fn with(
        plan: Plan,
        policy: Policy,
        paused: bool,
        (mood, program): (Mood, Program),
        tape: Tape,
    ) -> Self {
        let id = RunId::parse("sim-1").unwrap();
        let book = Book::new(&plan, paused, &policy);
        let state = RunState::new(id, plan.clone());
        let mut world = Self {
            tape,
            mood,
            policy,
            state,
            now: Timestamp(1_000_000),
            journal: Journal::default(),
            book,
            plan: plan.clone(),
            program,
            owner: "here".into(),
            threads: BTreeMap::new(),
            counts: BTreeMap::new(),
            answered: BTreeSet::new(),
            juries: BTreeMap::new(),
            torn: false,
            was_torn: false,
            flight: BTreeSet::new(),
            keepers: BTreeMap::new(),
            told: Vec::new(),
            candidates: Vec::new(),
            target: Vec::new(),
            known: BTreeSet::new(),
            ids: 0,
            turn: 0,
        };
        let at = world.now;
        world.write(&Decision::Run(RunEvent { at, kind: RunEventKind::Created { paused } }));
        for task in &plan.tasks {
            let event = TaskEvent { at, kind: TaskEventKind::Created };
            world.write(&Decision::Task(task.id.clone(), event));
        }
        let base = world.oid();
        world.target.push(Commit { id: base, task: None });
        world
    }

    fn write(&mut self, decision: &Decision) {
        self.journal.write(&mut self.state, decision);
    }

    fn oid(&mut self) -> Oid {
        self.ids += 1;
        Oid::parse(&format!("{:040x}", self.ids)).unwrap()
    }

    /// A person pays for more.
    pub(crate) fn raise_budgets(&mut self) {
        (self.policy.tokens, self.policy.cost) = (None, None);
        self.tell(Observation::JobChanged(vec!["[limits]".into()]));
    }

    fn tip(&self) -> Oid {
        self.target.last().unwrap().id.clone()
    }

    /// Tells the machine something and holds what it makes of it against the book.
    pub(crate) fn tell(&mut self, observation: Observation) -> bool {
        let decisions = decide(&self.state, observation.clone(), self.now, &self.policy);
        let news = !decisions.is_empty();
        let before = self.state.clone();
        let torn = self.tears(&decisions);
        for decision in &decisions {
            if !torn || matches!(decision, Decision::Run(_)) {
                self.write(decision);
            }
        }
        let pages = torn.then(|| self.book.pages.clone());
        let rules = Rules { policy: &self.policy, now: self.now };
        if let Some(expected) = self.book.take(&observation, rules, &self.state) {
            assert_eq!(
                news, expected,
                "whether this is news: {observation:?}\nin {before:?}\n{decisions:?}"
            );
        }
        if let (Observation::Dispatched { .. }, true) = (&observation, news) {
            self.check_dispatch(&observation);
        }
        self.told.push(observation);
        if let Some(pages) = pages {
            self.book.pages.extend(pages);
            self.crash();
            (self.torn, self.was_torn) = (true, true);
        }
        self.book.compare(&self.state, &self.policy);
        self.check_owed();
        news && !torn
    }

    /// Whether the machine is switched off after the run's chain was moved and before the task's was: git moves the refs
    /// of one transaction one after the other.
    fn tears(&mut self, decisions: &[Decision]) -> bool {
        let of_run = decisions.iter().filter(|d| matches!(d, Decision::Run(_))).count();
        let both = of_run > 0 && of_run < decisions.len();
        self.torn = false;
        both && !self.tape.over() && self.tape.pick(6) == 5
    }

    /// One step. Says whether anything can still happen.
    pub(crate) fn step(&mut self) -> bool {
        self.turn += 1;
        let action = if self.tape.over() { 0 } else { self.tape.pick(20) };
        match action {
            // Agents take longer than pauses last.
            12 => self.now = self.book.wakes(self.now).unwrap_or(self.now),
            13 => {
                let sections = vec![script::text(&mut self.tape)];
                self.tell(Observation::JobChanged(sections));
            }
            14 => self.crash(),
            15 => self.repeat(),
            16 => self.inject(),
            17 | 18 => self.ask(),
            19 => self.now = self.now.after_ms(700),
            _ => return self.work(),
        }
        true
    }

    /// The supervisor dies, and a new one takes over with what is on the chains.
    fn crash(&mut self) {
        self.flight.clear();
        self.journal.compare(&self.state, &self.plan);
        self.state = self.journal.reload(&self.state.id, &self.plan);
        if !self.tape.over() && self.tape.pick(4) == 3 {
            // The copy of the repository on another machine takes over.
            self.owner = if self.owner == "here" { "there" } else { "here" }.into();
        }
        let contained: Vec<_> =
            self.target.iter().filter_map(|c| Some((c.task.clone()?, c.id.clone()))).collect();
        for (task, commit) in contained {
            self.tell(Observation::Landed { task, commit, results: Vec::new() });
        }
    }

    /// Something that was told before is told once more.
    fn repeat(&mut self) {
        if let Some(old) = self.tape.one(&self.told.clone()) {
            // A person who asks again means it; and a moment later the base may be asked about anew.
            if !matches!(old, Observation::Requested(_) | Observation::BaseVerified(_)) {
                self.tell(old);
            }
        }
    }

    /// Something arrives that nobody waits for: from dead attempts, about other trees, with wrong numbers.
    fn inject(&mut self) {
        let Some((task, attempt, candidate, changed)) = self.tape.one(&self.candidates.clone())
        else {
            return;
        };
        let number = self.turn as u64;
        let checks = script::check_report(&mut self.tape, Mood::Kind, false, number);
        let (commit, tree) = (candidate.commit.clone(), candidate.tree.clone());
        let news = match self.tape.pick(11) {
            8 => Observation::RedispatchDue,
            9 => Observation::ServiceAnswered { task, attempt },
            10 => {
                let session = self.state.tasks[&task].session.as_ref().map(|s| s.id.clone());
                let owner = self.owner.clone();
                let (base, worktree) = (self.tip(), "p09".to_owned());
                let attempt = attempt + u32::try_from(self.tape.pick(3)).unwrap();
                Observation::Dispatched {
                    task,
                    attempt,
                    base,
                    worktree,
                    owner,
                    session,
                    resumed: true,
                }
            }
            0 => Observation::Verified { task, attempt, tree, checks },
            1 => Observation::LandingVerified { task, candidate: commit, tree, checks },
            2 => Observation::LandingConflict {
                task,
                candidate: commit,
                onto: self.tip(),
                paths: vec!["a".into()],
                told: String::new(),
            },
            3 => {
                let (termination, mood) = (Termination::Exited(0), self.mood);
                let mut count = Count::default();
                let report = script::report(
                    &mut self.tape,
                    mood,
                    self.program,
                    self.now,
                    ("stale", true),
                    &mut count,
                );
                Observation::AttemptEnded {
                    task,
                    attempt,
                    termination,
                    candidate: Some(candidate),
                    changed,
                    report: report.map(Box::new),
                }
            }
            4 => Observation::NeverStarted { task, attempt },
            7 => Observation::BaseVerified(checks),
            5 => {
                let tree = self.oid();
                Observation::Verified { task, attempt, tree, checks }
            }
            _ => {
                let (base, worktree) = (self.tip(), "p09".to_owned());
                let attempt = attempt + u32::try_from(self.tape.pick(3)).unwrap();
                Observation::Dispatched {
                    task,
                    attempt,
                    base,
                    worktree,
                    owner: "elsewhere".into(),
                    session: None,
                    resumed: false,
                }
            }
        };
        self.tell(news);
    }

    fn ask(&mut self) {
        let tasks: Vec<_> = self.state.tasks.keys().cloned().collect();
        let Some(task) = self.tape.one(&tasks) else { return };
        let request = match self.tape.pick(40) {
            0..=4 => Request::Stop(script::text(&mut self.tape)),
            5..=16 => Request::Resume,
            17..=20 => {
                let open = |(_, page): &(&TaskId, &Page)| page.open.is_some();
                let open = self.book.pages.iter().find(open).map(|(task, _)| task.clone());
                Request::Skip { task: open.unwrap_or(task), message: script::text(&mut self.tape) }
            }
            21..=32 if self.policy.review => {
                self.review();
                return;
            }
            21..=32 => Request::Retry(task),
            33..=37 => Request::Reconsider(task),
            _ => Request::Cancel,
        };
        self.tell(Observation::Requested(request));
    }

    /// A person reads one of the candidates that wait for it. Says whether there was one.
    pub(crate) fn review(&mut self) -> bool {
        let waits = |p: &Page| match &p.stage {
            Stage::Read(candidate) | Stage::Accepted(candidate) => Some(candidate.clone()),
            _ => None,
        };
        let pages = self.book.pages.iter();
        let all: Vec<_> =
            pages.filter_map(|(t, p)| Some((t.clone(), waits(p)?, p.attempt))).collect();
        let Some((task, candidate, attempt)) = self.tape.one(&all) else { return false };
        let by = "somebody".to_owned();
        let what = if self.tape.over() { 0 } else { self.tape.pick(8) };
        let commit = if what == 7 { self.oid() } else { candidate.commit.clone() };
        let news = match what {
            4 | 5 => {
                let message = script::text(&mut self.tape);
                Observation::Requested(Request::RequestChanges { task, commit, by, message })
            }
            6 => {
                let (commit, tree) = (self.oid(), self.oid());
                let candidate = Candidate { commit, tree, ..candidate };
                self.candidates.push((task.clone(), attempt, candidate.clone(), true));
                Observation::BranchMoved { task, candidate }
            }
            _ => Observation::Requested(Request::Approve { task, commit, by }),
        };
        self.tell(news)
    }

    pub(crate) fn calm(&self) -> bool {
        self.tape.over()
    }
}
