//! What must hold at every step and in the end, said in other words than the machine's.

use std::collections::BTreeSet;

use git_harness::domain::id::TaskId;
use git_harness::domain::machine::{Effect, owed};
use git_harness::domain::state::{Phase, RunPhase};

use super::World;
use crate::book::Stage;

impl World {
    /// What must be owed, said in other words.
    pub(super) fn check_owed(&self) {
        let effects = owed(&self.state, self.now, &self.policy);
        let state = &self.state;
        let active = state.phase == RunPhase::Active;
        let alive = state.phase != RunPhase::Cancelled;
        let ready = state.base_passed.is_some_and(|p| p || !self.policy.base_must_pass);
        let mut wanted = BTreeSet::new();
        if active && state.base_passed.is_none() && !state.ended() {
            wanted.insert(Effect::JudgeBase);
        }
        let running = self.book.pages.values().filter(|p| p.stage == Stage::Open).count();
        let mut free = self.policy.jobs.saturating_sub(running);
        for planned in &state.plan.tasks {
            let page = &self.book.pages[&planned.id];
            let (task, due) = (planned.id.clone(), page.pause <= self.now);
            let landed = |t: &TaskId| self.book.pages[t].stage == Stage::Landed;
            match &page.stage {
                Stage::Open => {
                    wanted.insert(Effect::Await(task, page.attempt));
                }
                Stage::Offered(_) if due && alive => {
                    wanted.insert(Effect::Verify(task, page.attempt));
                }
                Stage::Accepted(_) if due && alive => {
                    wanted.insert(Effect::Land(task));
                }
                Stage::Waiting
                    if due && active && ready && free > 0 && planned.after.iter().all(landed) =>
                {
                    free -= 1;
                    wanted.insert(Effect::Start(task, page.attempt + 1));
                }
                _ => {}
            }
        }
        assert_eq!(effects.len(), wanted.len(), "{effects:?} but {wanted:?}");
        assert_eq!(effects.iter().cloned().collect::<BTreeSet<_>>(), wanted);
        let rank = |e: &Effect| match e {
            Effect::JudgeBase => 0,
            Effect::Await(..) | Effect::Land(_) => 1,
            Effect::Verify(..) => 2,
            Effect::Start(..) => 3,
            Effect::Redispatch => 4,
        };
        assert!(effects.is_sorted_by_key(rank), "what frees resources comes first: {effects:?}");
        assert!(running <= self.policy.jobs, "{running} attempts run");
    }

    /// What must hold when nothing more happens.
    pub fn check_end(&self) {
        self.journal.compare(&self.state);
        let blocked = |task: &TaskId| {
            let planned = self.state.plan.tasks.iter().find(|t| t.id == *task).unwrap();
            planned.after.iter().any(|t| self.state.tasks[t].phase != Phase::Done)
        };
        for (task, state) in &self.state.tasks {
            let times = self.target.iter().filter(|c| c.task.as_ref() == Some(task)).count();
            assert!(times <= 1, "{task} is on the target {times} times");
            assert_eq!(times == 1, state.phase == Phase::Done, "{task}: {state:?}");
            match self.state.phase {
                RunPhase::Active => {
                    assert!(state.phase.ended() || blocked(task), "{task}: {state:?}");
                }
                RunPhase::Paused | RunPhase::Halted => {
                    assert!(state.phase.ended() || state.phase == Phase::Todo, "{task}: {state:?}");
                }
                RunPhase::Cancelled => assert_ne!(state.phase, Phase::Running, "{task}: {state:?}"),
            }
        }
    }
}
