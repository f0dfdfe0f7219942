//! What must hold at every step and in the end, said in other words than the machine's.

use std::collections::BTreeSet;

use git_harness::domain::id::TaskId;
use git_harness::domain::machine::{Effect, Observation, owed};
use git_harness::domain::state::{Phase, RunPhase};

use super::World;
use crate::page::{Page, Rules, Stage, Thread};

impl World {
    /// What must be owed, said in other words.
    pub(super) fn check_owed(&self) {
        let effects = owed(&self.state, self.now, &self.policy);
        let book = &self.book;
        let mut wanted = BTreeSet::new();
        if book.phase == RunPhase::Active && book.base.is_none() && !book.all_over() {
            wanted.insert(Effect::VerifyBase);
        }
        for (task, page) in &book.pages {
            let due = page.pause <= self.now && book.phase != RunPhase::Cancelled;
            match &page.stage {
                Stage::Open => wanted.insert(Effect::Await(task.clone(), page.attempt)),
                Stage::Offered(_) if due => {
                    wanted.insert(Effect::Verify(task.clone(), page.attempt))
                }
                Stage::Accepted(_) if due => wanted.insert(Effect::Land(task.clone())),
                _ => false,
            };
        }
        let rules = Rules { policy: &self.policy, now: self.now };
        let jury = book.shown(rules).into_iter();
        wanted.extend(jury.map(|(task, attempt)| Effect::Evaluate(task, attempt)));
        let begin = book.may_begin(rules);
        let start = |effect: &Effect| match effect {
            Effect::Start(task, attempt) => Some((task.clone(), *attempt)),
            _ => None,
        };
        assert_eq!(effects.iter().filter_map(start).collect::<Vec<_>>(), begin, "in this order");
        wanted.extend(begin.into_iter().map(|(task, attempt)| Effect::Start(task, attempt)));
        if !book.second_round(&self.policy).is_empty() {
            wanted.insert(Effect::Redispatch);
        }
        assert_eq!(effects.len(), wanted.len(), "{effects:?} but {wanted:?}");
        assert_eq!(effects.iter().cloned().collect::<BTreeSet<_>>(), wanted);
        let rank = |e: &Effect| match e {
            Effect::VerifyBase => 0,
            Effect::Await(..) | Effect::Land(_) => 1,
            Effect::Verify(..) => 2,
            Effect::Evaluate(..) => 3,
            Effect::Start(..) => 4,
            Effect::Redispatch => 5,
        };
        assert!(effects.is_sorted_by_key(rank), "what frees resources comes first: {effects:?}");
    }

    /// An attempt begins: whether it may, promise by promise, and where it goes on.
    pub(super) fn check_dispatch(&mut self, news: &Observation) {
        let Observation::Dispatched { task, attempt, base, worktree, owner, session, resumed } =
            news
        else {
            return;
        };
        let (book, policy, now) = (&self.book, &self.policy, self.now);
        assert_eq!(book.phase, RunPhase::Active, "nothing new starts");
        assert!(book.base.is_some_and(|p| p || !policy.base_must_pass), "the base is not good");
        let running: Vec<_> = book.pages.values().filter(|p| p.stage == Stage::Open).collect();
        let room = book.standing.room.min(policy.jobs);
        assert!(running.len() < room, "a slot too many");
        assert!(now >= book.standing.lifts, "an agent starts while the account is closed");
        if book.standing.doubts(policy) {
            let asks = running.iter().filter(|p| p.began >= book.standing.lifts).count();
            assert_eq!(asks, 0, "one goes first, and nobody with it");
        }
        if book.wary() {
            let busy = |p: &&Page| !matches!(p.stage, Stage::Waiting) && !p.phase().ended();
            assert_eq!(
                book.pages.values().filter(busy).count(),
                0,
                "one goes first until it lands"
            );
        }
        assert!(!book.broke(policy), "an attempt is begun that nobody pays for");
        assert!(!book.parts.contains_key(task), "{task} was split");
        let page = &book.pages[task];
        assert!(!page.purse.empty(policy), "{task}: an attempt that its budget does not bear");
        assert_eq!(page.stage, Stage::Waiting, "{task} was not waiting");
        assert!(page.pause <= now, "{task} has to wait");
        assert_eq!(*attempt, page.attempt + 1, "{task}: numbers are not left out");
        let planned = book.plan.iter().find(|p| p.id == *task).unwrap();
        assert!(book.let_go(planned, policy), "{task} has to wait for others");
        let id = session.clone().unwrap_or_default();
        let here =
            Thread { id, worktree: worktree.clone(), owner: owner.clone(), base: base.clone() };
        if *resumed {
            assert!(policy.resumable);
            assert_eq!(page.thread.as_ref(), Some(&here), "{task} goes on with what it had");
        } else {
            let kept = page.thread.as_ref().filter(|t| policy.resumable && t.owner == *owner);
            assert!(kept.is_none() || worktree == "p09", "{task} gives up {kept:?}");
        }
        let page = self.book.pages.get_mut(task).unwrap();
        (page.stage, page.attempt, page.began) = (Stage::Open, *attempt, now);
        page.named = session.is_some();
        if !resumed {
            page.left = None;
            page.read = (None, false);
            page.thread = session.is_some().then(|| here.clone());
        }
        page.open = Some(here);
        self.threads.insert((task.clone(), *attempt), session.clone());
        let fresh = self.keepers.insert((task.clone(), *attempt), None).is_none();
        assert!(fresh, "{task}: the attempt {attempt} was used twice");
    }

    /// A jury is asked: whether it may, promise by promise.
    pub(super) fn check_jury(&self, task: &TaskId) {
        let (book, policy) = (&self.book, &self.policy);
        assert_eq!(book.phase, RunPhase::Active, "nothing new starts");
        assert!(self.now >= book.standing.lifts, "a jury is asked while the account is closed");
        assert!(!book.broke(policy), "a jury that nobody pays for");
        assert!(
            matches!(book.pages[task].stage, Stage::Shown(_)),
            "{task}: there is nothing to see"
        );
        let juries = self.flight.iter().filter(|e| matches!(e, Effect::Evaluate(..))).count();
        let running: Vec<_> = book.pages.values().filter(|p| p.stage == Stage::Open).collect();
        let room = book.standing.room.min(policy.jobs);
        assert!(running.len() + juries < room, "a slot too many");
        if book.standing.has_refused && !book.standing.trusted {
            let asks = running.iter().filter(|p| p.began >= book.standing.lifts).count();
            assert_eq!((asks, juries), (0, 0), "one goes first, and nobody with it");
        }
    }

    /// The files of a task, or of what it was split into.
    fn files(&self, task: &TaskId) -> Vec<String> {
        match self.state.split.get(task) {
            Some(parts) => parts.iter().flat_map(|part| self.files(part)).collect(),
            None => {
                let planned = self.state.plan.tasks.iter().find(|t| t.id == *task);
                planned.unwrap().files.clone()
            }
        }
    }

    /// What must hold when nothing more happens.
    pub(crate) fn check_end(&self) {
        self.journal.compare(&self.state, &self.plan);
        for task in &self.plan.tasks {
            assert_eq!(self.files(&task.id), task.files, "{} is done once", task.id);
            let split = self.state.split.contains_key(&task.id);
            assert!(!split || self.state.tasks[&task.id].phase != Phase::Done);
        }
        let blocked = |task: &TaskId| {
            let planned = self.state.plan.tasks.iter().find(|t| t.id == *task).unwrap();
            let phase = |t: &TaskId| &self.state.tasks[t].phase;
            let tried = self.policy.keep_going && planned.after.iter().all(|t| phase(t).ended());
            !tried && planned.after.iter().any(|t| *phase(t) != Phase::Done)
        };
        for (task, state) in &self.state.tasks {
            let times = self.target.iter().filter(|c| c.task.as_ref() == Some(task)).count();
            assert!(times <= 1, "{task} is on the target {times} times");
            let lands = state.phase == Phase::Done && !self.policy.report;
            assert_eq!(times == 1, lands, "{task}: {state:?}");
            match self.state.phase {
                RunPhase::Active => {
                    assert!(state.phase.ended() || blocked(task), "{task}: {state:?}");
                }
                RunPhase::Paused | RunPhase::Halted => {
                    let shown = state.phase == Phase::Verifying && state.evaluation.waiting;
                    let waits = matches!(state.phase, Phase::Todo | Phase::Reviewing) || shown;
                    let rests = state.phase.ended() || waits;
                    assert!(rests, "{task}: {state:?}");
                }
                RunPhase::Cancelled => assert_ne!(state.phase, Phase::Running, "{task}: {state:?}"),
            }
        }
    }
}
