//! A world in which a run is carried out: keepers that outlive the supervisor, checks, a target branch, people, crashes.

mod promises;

use std::collections::{BTreeMap, BTreeSet};

use git_harness::domain::event::{Ending, RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use git_harness::domain::id::{Oid, RunId, TaskId, Timestamp};
use git_harness::domain::machine::{
    Decision, Effect, Observation, Request, decide, next_wake, owed,
};
use git_harness::domain::plan::Plan;
use git_harness::domain::retry::Policy;
use git_harness::domain::state::{Phase, RunPhase, RunState};
use git_harness::domain::verdict::{Candidate, Judgement, Verdict};

use crate::book::{Book, Page, Stage};
use crate::script::{self, Mood};
use crate::tape::Tape;
use crate::told::Journal;

/// A commit on the target.
#[derive(Debug, Clone)]
struct Commit {
    id: Oid,
    task: Option<TaskId>,
}

pub struct World {
    tape: Tape,
    mood: Mood,
    policy: Policy,
    pub state: RunState,
    now: Timestamp,
    journal: Journal,
    book: Book,
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
    pub fn new(plan: Plan, policy: Policy, paused: bool, mood: Mood, tape: Tape) -> Self {
        let id = RunId::parse("sim-1").unwrap();
        let pages = plan.tasks.iter().map(|t| (t.id.clone(), Page::default())).collect();
        let book = Book { pages, ..Book::default() };
        let state = RunState::new(id, plan.clone());
        let mut world = Self {
            tape,
            mood,
            policy,
            state,
            now: Timestamp(1_000_000),
            journal: Journal::default(),
            book,
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

    fn tip(&self) -> Oid {
        self.target.last().unwrap().id.clone()
    }

    /// Tells the machine something and holds what it makes of it against the book.
    pub fn tell(&mut self, observation: Observation) -> bool {
        let decisions = decide(&self.state, observation.clone(), self.now, &self.policy);
        let news = !decisions.is_empty();
        let before = self.state.clone();
        for decision in &decisions {
            self.write(decision);
        }
        if let Some(expected) = self.book.take(&observation, &self.policy, self.now) {
            assert_eq!(
                news, expected,
                "whether this is news: {observation:?}\nin {before:?}\n{decisions:?}"
            );
        }
        match &observation {
            Observation::Dispatched { task, attempt, .. } if news => {
                self.check_dispatch(&before, task, *attempt);
            }
            Observation::BaseJudged(verdict) => self.check_base(&before, verdict, news),
            Observation::Asked(Request::Cancel) => self.book.cancelled = true,
            Observation::Asked(Request::Stop(_)) => {
                let wanted = before.phase == RunPhase::Active && !before.ended();
                assert_eq!(self.state.phase == RunPhase::Paused && news, wanted);
            }
            Observation::Asked(Request::Resume) => {
                let wanted = matches!(before.phase, RunPhase::Paused | RunPhase::Halted);
                assert_eq!(self.state.phase == RunPhase::Active && news, wanted);
            }
            _ => {}
        }
        self.told.push(observation);
        if before.phase == RunPhase::Cancelled {
            assert_eq!(self.state.phase, RunPhase::Cancelled, "what is given up stays so");
        }
        for (task, page) in &self.book.pages {
            page.compare(task, &self.state.tasks[task], &self.policy);
        }
        self.check_owed();
        news
    }

    fn check_base(&self, before: &RunState, verdict: &Verdict, news: bool) {
        assert_eq!(news, before.base_passed.is_none() && before.phase != RunPhase::Cancelled);
        if !news {
            return;
        }
        let bad = match verdict.judgement {
            Judgement::Accepted => false,
            Judgement::Rejected(_) => self.policy.base_must_pass,
            Judgement::Inconclusive(_) => true,
        };
        assert_eq!(self.state.phase == RunPhase::Halted, bad || before.phase == RunPhase::Halted);
    }

    fn check_dispatch(&mut self, before: &RunState, task: &TaskId, attempt: u32) {
        assert_eq!(before.phase, RunPhase::Active, "nothing new starts");
        let ready = before.base_passed.is_some_and(|p| p || !self.policy.base_must_pass);
        assert!(ready, "the base was not judged good");
        assert!(before.count(&Phase::Running) < self.policy.jobs, "a slot too many");
        let page = self.book.pages.get_mut(task).unwrap();
        assert_eq!(page.stage, Stage::Waiting, "{task} was not waiting");
        assert!(page.pause <= self.now, "{task} has to wait");
        assert_eq!(attempt, page.attempt + 1, "{task}: numbers are not left out");
        page.stage = Stage::Open;
        page.open = true;
        page.attempt = attempt;
        page.left = None;
        let fresh = self.keepers.insert((task.clone(), attempt), None).is_none();
        assert!(fresh, "{task}: the attempt {attempt} was used twice");
    }

    /// One step. Says whether anything can still happen.
    pub fn step(&mut self) -> bool {
        self.turn += 1;
        let action = if self.tape.over() { 0 } else { self.tape.pick(20) };
        match action {
            14 => self.crash(),
            15 => self.repeat(),
            16 => self.inject(),
            17 | 18 => self.ask(),
            19 => self.now = self.now.after_ms(700),
            _ => return self.work(),
        }
        true
    }

    /// Begins what is owed and finishes one thing that is under way; else waits.
    fn work(&mut self) -> bool {
        for effect in owed(&self.state, self.now, &self.policy) {
            match effect {
                Effect::Start(task, attempt) => self.dispatch(&task, attempt),
                Effect::Land(_) if self.flight.iter().any(|e| matches!(e, Effect::Land(_))) => {}
                effect => {
                    self.flight.insert(effect);
                }
            }
        }
        let some: Vec<_> = self.flight.iter().cloned().collect();
        if let Some(effect) = self.tape.one(&some) {
            self.flight.remove(&effect);
            self.now = self.now.after_ms(1);
            self.finish(effect);
            return true;
        }
        let pauses = self.book.pages.values().filter(|p| !p.phase().ended()).map(|p| p.pause);
        let first = pauses.filter(|p| *p > self.now).min();
        assert_eq!(next_wake(&self.state, self.now), first, "when to look again");
        match first {
            Some(wake) => {
                self.now = wake;
                true
            }
            None => false,
        }
    }

    fn dispatch(&mut self, task: &TaskId, attempt: u32) {
        let base = self.tip();
        let place = format!("p{:02}", self.flight.len() + 1);
        let owner = script::text(&mut self.tape) + "owner";
        let (task, observation) = (
            task.clone(),
            Observation::Dispatched {
                task: task.clone(),
                attempt,
                base,
                place,
                owner,
                session: None,
                resumed: false,
            },
        );
        assert!(self.tell(observation), "{task}: what is owed is not refused");
        self.flight.insert(Effect::Await(task, attempt));
    }

    fn finish(&mut self, effect: Effect) {
        match effect {
            Effect::JudgeBase => {
                let number = self.turn as u64;
                let verdict = script::verdict(&mut self.tape, Mood::Kind, true, number);
                self.tell(Observation::BaseJudged(verdict));
            }
            Effect::Await(task, attempt) => self.see(&task, attempt),
            Effect::Verify(task, attempt) => {
                let Some(candidate) = self.state.tasks[&task].candidate.clone() else { return };
                let mood = self.mood_now();
                let verdict = script::verdict(&mut self.tape, mood, false, self.turn as u64);
                self.tell(Observation::Verified { task, attempt, tree: candidate.tree, verdict });
            }
            Effect::Land(task) => self.land(&task),
            Effect::Start(..) => {}
            Effect::Redispatch => {
                self.tell(Observation::PassOver);
            }
        }
    }

    fn mood_now(&self) -> Mood {
        match self.mood {
            Mood::Changing => script::MOODS[self.turn * 7 % 9],
            mood => mood,
        }
    }

    /// What became of an attempt: published once, seen as often as somebody looks.
    fn see(&mut self, task: &TaskId, attempt: u32) {
        let key = (task.clone(), attempt);
        if self.keepers.get(&key).is_some_and(Option::is_none) {
            if !self.tape.over() && self.tape.pick(12) == 11 {
                let news = Observation::NeverBegan { task: task.clone(), attempt };
                self.keepers.insert(key, Some(news.clone()));
                self.tell(news);
                return;
            }
            let mood = self.mood_now();
            let left = script::attempt(&mut self.tape, mood);
            let (commit, mut tree, base) = (self.oid(), self.oid(), self.tip());
            let before = self.candidates.iter().rfind(|c| c.0 == *task);
            if let (Some((_, _, old, _)), 1) = (before, self.tape.pick(3)) {
                // It did the same once more.
                tree = old.tree.clone();
            }
            let candidate = left.saved.then_some(Candidate { commit, tree, base });
            if let Some(candidate) = &candidate {
                self.candidates.push((task.clone(), attempt, candidate.clone(), left.changed));
            }
            let ended = Observation::AttemptEnded {
                task: task.clone(),
                attempt,
                ending: left.ending,
                changed: left.changed && candidate.is_some(),
                candidate,
                reading: None,
            };
            self.keepers.insert(key.clone(), Some(ended));
        }
        if let Some(Some(ended)) = self.keepers.get(&key).cloned() {
            self.tell(ended);
        }
    }

    fn land(&mut self, task: &TaskId) {
        let contained = self.target.iter().find(|c| c.task.as_ref() == Some(task)).cloned();
        if let Some(commit) = contained {
            let (task, commit) = (task.clone(), commit.id);
            self.tell(Observation::Landed { task, commit, results: Vec::new() });
            return;
        }
        let Stage::Accepted(candidate) = self.book.pages[task].stage.clone() else { return };
        let mood = self.mood_now();
        let (task, onto) = (task.clone(), self.tip());
        let commit = candidate.commit.clone();
        if script::conflicts(&mut self.tape, mood) {
            let paths = vec![script::text(&mut self.tape)];
            self.tell(Observation::LandingConflict { task, candidate: commit, onto, paths });
            return;
        }
        // The merged tree: the same candidate on the same tip is the same tree.
        let merged = |a: &Oid, b: &Oid| {
            Oid::parse(&format!("{}{}", &a.as_str()[20..], &b.as_str()[20..])).unwrap()
        };
        let tree = merged(&onto, &commit);
        if !self.known.contains(&tree) {
            let verdict = script::verdict(&mut self.tape, mood, true, self.turn as u64);
            if verdict.judgement == Judgement::Accepted {
                self.known.insert(tree.clone());
            }
            self.tell(Observation::LandingJudged { task, candidate: commit, tree, verdict });
            return;
        }
        if !self.tape.over() && self.tape.pick(6) == 5 {
            // Somebody else was faster.
            let id = self.oid();
            self.target.push(Commit { id, task: None });
            return;
        }
        self.check_landing(&task, &candidate);
        let id = self.oid();
        self.target.push(Commit { id: id.clone(), task: Some(task.clone()) });
        if !self.tape.over() && self.tape.pick(4) == 3 {
            self.crash();
            return;
        }
        self.tell(Observation::Landed { task, commit: id, results: Vec::new() });
    }

    fn check_landing(&self, task: &TaskId, candidate: &Candidate) {
        let page = &self.book.pages[task];
        assert!(
            page.accepted.contains(&candidate.commit),
            "{task}: landed without having been accepted"
        );
        let made = self.candidates.iter().find(|(_, _, c, _)| c == candidate).unwrap();
        assert_eq!(
            (&made.0, made.1),
            (task, page.attempt),
            "what lands is the last attempt's work"
        );
        assert!(self.target.iter().all(|c| c.task.as_ref() != Some(task)), "{task} lands twice");
    }

    /// The supervisor dies, and a new one takes over with what is on the chains.
    fn crash(&mut self) {
        self.flight.clear();
        self.journal.compare(&self.state);
        self.state = self.journal.reload(&self.state.id, &self.state.plan);
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
            if !matches!(old, Observation::Asked(_) | Observation::BaseJudged(_)) {
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
        let verdict = script::verdict(&mut self.tape, Mood::Kind, false, number);
        let (commit, tree) = (candidate.commit.clone(), candidate.tree.clone());
        let news = match self.tape.pick(8) {
            0 => Observation::Verified { task, attempt, tree, verdict },
            1 => Observation::LandingJudged { task, candidate: commit, tree, verdict },
            2 => Observation::LandingConflict {
                task,
                candidate: commit,
                onto: self.tip(),
                paths: vec!["a".into()],
            },
            3 => {
                let ending = Ending::Exited(0);
                Observation::AttemptEnded {
                    task,
                    attempt,
                    ending,
                    candidate: Some(candidate),
                    changed,
                    reading: None,
                }
            }
            4 => Observation::NeverBegan { task, attempt },
            7 => Observation::BaseJudged(verdict),
            5 => {
                let tree = self.oid();
                Observation::Verified { task, attempt, tree, verdict }
            }
            _ => {
                let (base, place) = (self.tip(), "p09".to_owned());
                let attempt = attempt + u32::try_from(self.tape.pick(3)).unwrap();
                Observation::Dispatched {
                    task,
                    attempt,
                    base,
                    place,
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
            17..=20 => Request::Skip(task, script::text(&mut self.tape)),
            21..=32 => Request::Retry(task),
            33..=37 => Request::Reconsider(task),
            _ => Request::Cancel,
        };
        self.tell(Observation::Asked(request));
    }

    pub fn calm(&self) -> bool {
        self.tape.over()
    }
}
