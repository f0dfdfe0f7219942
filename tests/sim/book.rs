//! The oracle: what an observation must mean for a task, kept in its own words and compared with the machine.

use std::collections::{BTreeMap, BTreeSet};

use git_harness::domain::event::Ending;
use git_harness::domain::id::{Oid, TaskId, Timestamp};
use git_harness::domain::machine::{Observation, Request};
use git_harness::domain::retry::Policy;
use git_harness::domain::state::{Phase, TaskState};
use git_harness::domain::verdict::{Candidate, Judgement, Verdict};

/// Where a task stands in the book.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stage {
    #[default]
    Waiting,
    Open,
    Offered(Candidate),
    Accepted(Candidate),
    Landed,
    Failed,
    Skipped,
}

/// One task's page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub stage: Stage,
    pub attempt: u32,
    /// Whether its end is still news, also when the task was taken out meanwhile.
    pub open: bool,
    pub rejections: u32,
    pub conflicts: u32,
    pub faults: u32,
    /// How often a person had failed work taken up again since the budgets were made new.
    pub again: u32,
    /// Nothing that was asked before this moment can still be news.
    pub pause: Timestamp,
    /// What the last attempt left: a person may have it taken up again.
    pub left: Option<Candidate>,
    /// Every candidate that the checks have accepted as it is.
    pub accepted: BTreeSet<Oid>,
}

/// The book of a run.
#[derive(Debug, Default)]
pub struct Book {
    pub pages: BTreeMap<TaskId, Page>,
    pub cancelled: bool,
}

impl Page {
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Waiting => Phase::Todo,
            Stage::Open => Phase::Running,
            Stage::Offered(_) => Phase::Verifying,
            Stage::Accepted(_) => Phase::Queued,
            Stage::Landed => Phase::Done,
            Stage::Failed => Phase::Failed,
            Stage::Skipped => Phase::Skipped,
        }
    }

    fn fault(&mut self, policy: &Policy, now: Timestamp, stay: bool) {
        if self.faults == policy.infra {
            self.stage = Stage::Failed;
            return;
        }
        self.faults += 1;
        if !stay {
            self.stage = Stage::Waiting;
        }
        // One second, doubled each time, one minute at most.
        let pause = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000];
        self.pause = now.after_ms(pause[(self.faults as usize - 1).min(6)]);
    }

    fn rejected(&mut self, policy: &Policy, now: Timestamp) {
        self.rejections += 1;
        self.faults = 0;
        let out = self.rejections > policy.feedback;
        self.stage = if out { Stage::Failed } else { Stage::Waiting };
        if !out {
            self.pause = now;
        }
    }

    fn ended(
        &mut self,
        ending: &Ending,
        candidate: Option<&Candidate>,
        changed: bool,
        policy: &Policy,
        now: Timestamp,
    ) {
        self.left = candidate.cloned();
        self.open = false;
        match (ending, candidate) {
            (Ending::Stopped, _) => {
                self.stage = Stage::Waiting;
                self.pause = now;
            }
            (Ending::Lost | Ending::NotStarted(_), _) | (_, None) => self.fault(policy, now, false),
            (_, Some(_)) if !changed && !policy.allow_empty => self.rejected(policy, now),
            (_, Some(candidate)) => self.stage = Stage::Offered(candidate.clone()),
        }
    }

    fn judged(
        &mut self,
        candidate: &Candidate,
        verdict: &Verdict,
        landing: bool,
        policy: &Policy,
        now: Timestamp,
    ) {
        match &verdict.judgement {
            Judgement::Accepted => {
                self.faults = 0;
                if !landing {
                    self.accepted.insert(candidate.commit.clone());
                    self.stage = Stage::Accepted(candidate.clone());
                }
            }
            Judgement::Rejected(_) => self.rejected(policy, now),
            Judgement::Inconclusive(_) => self.fault(policy, now, true),
        }
    }

    /// Compares with what the machine says of the task.
    pub fn compare(&self, task: &TaskId, state: &TaskState, policy: &Policy) {
        assert_eq!(self.phase(), state.phase, "{task}: {self:?}\n{state:?}");
        assert_eq!(self.attempt, state.attempt, "{task}: number of the last attempt");
        let here = (self.rejections, self.conflicts, self.faults);
        let there = (state.rejections, state.conflicts, state.faults);
        assert_eq!(here, there, "{task}: rejections, conflicts, faults");
        assert!(self.rejections <= policy.feedback + 1 + self.again, "{task}: {self:?}");
        assert!(self.conflicts <= policy.feedback.max(1) + 1 + self.again, "{task}: {self:?}");
        assert!(self.faults <= policy.infra, "{task}: {self:?}");
        // An attempt whose task was taken out works on in its place until it ends.
        if !state.phase.ended() {
            let working = state.phase == Phase::Running;
            let said = (state.place.is_some(), state.owner.is_some());
            assert_eq!(said, (working, working), "{task}: place and owner of a running attempt");
        }
        assert_eq!(
            state.candidate, self.left,
            "{task}: the candidate is what the last attempt left"
        );
        let judged = matches!(state.phase, Phase::Verifying | Phase::Queued);
        assert!(!judged || state.candidate.is_some(), "{task}: there is something to judge");
    }
}

impl Book {
    /// Whether an observation is news, and what it means if so. Dispatching is judged by the world.
    pub fn take(
        &mut self,
        observation: &Observation,
        policy: &Policy,
        now: Timestamp,
    ) -> Option<bool> {
        let cancelled = self.cancelled;
        let task = match observation {
            Observation::BaseJudged(_) | Observation::PassOver | Observation::JobChanged(_) => {
                return None;
            }
            Observation::Answered { .. } => return None,
            Observation::Dispatched { task, .. }
            | Observation::AttemptEnded { task, .. }
            | Observation::NeverBegan { task, .. }
            | Observation::Verified { task, .. }
            | Observation::LandingConflict { task, .. }
            | Observation::LandingJudged { task, .. }
            | Observation::Landed { task, .. }
            | Observation::Asked(
                Request::Retry(task) | Request::Reconsider(task) | Request::Skip(task, _),
            ) => task,
            Observation::Asked(Request::Stop(_) | Request::Resume | Request::Cancel) => {
                return None;
            }
        };
        let Some(page) = self.pages.get_mut(task) else { return Some(false) };
        let stage = page.stage.clone();
        let due = page.pause <= now;
        Some(match (observation, &stage) {
            (Observation::Dispatched { .. }, _) => return None,
            (
                Observation::AttemptEnded { attempt, ending, candidate, changed, .. },
                Stage::Open,
            ) if *attempt == page.attempt => {
                page.ended(ending, candidate.as_ref(), *changed, policy, now);
                true
            }
            (
                Observation::AttemptEnded { attempt, candidate, .. },
                Stage::Skipped | Stage::Landed,
            ) if *attempt == page.attempt && page.open => {
                page.open = false;
                page.left.clone_from(candidate);
                true
            }
            (Observation::NeverBegan { attempt, .. }, Stage::Open) if *attempt == page.attempt => {
                page.open = false;
                page.stage = Stage::Waiting;
                page.pause = now;
                true
            }
            (Observation::Verified { attempt, tree, verdict, .. }, Stage::Offered(candidate))
                if *attempt == page.attempt && *tree == candidate.tree && due =>
            {
                page.judged(candidate, verdict, false, policy, now);
                true
            }
            (
                Observation::LandingJudged { candidate: commit, verdict, .. },
                Stage::Accepted(candidate),
            ) if *commit == candidate.commit && due => {
                page.judged(candidate, verdict, true, policy, now);
                true
            }
            (
                Observation::LandingConflict { candidate: commit, .. },
                Stage::Accepted(candidate),
            ) if *commit == candidate.commit => {
                page.conflicts += 1;
                let out = page.conflicts > policy.feedback.max(1);
                page.stage = if out { Stage::Failed } else { Stage::Waiting };
                if !out {
                    page.pause = now;
                }
                true
            }
            (Observation::Landed { .. }, stage) if *stage != Stage::Landed => {
                page.stage = Stage::Landed;
                true
            }
            (Observation::Asked(Request::Retry(_)), Stage::Failed | Stage::Skipped)
                if !cancelled =>
            {
                (page.rejections, page.conflicts, page.faults, page.again) = (0, 0, 0, 0);
                page.open = false;
                (page.stage, page.pause, page.left) = (Stage::Waiting, now, None);
                true
            }
            (Observation::Asked(Request::Reconsider(_)), Stage::Failed) if !cancelled => {
                match &page.left {
                    Some(left) => {
                        page.again += 1;
                        page.stage = Stage::Offered(left.clone());
                        true
                    }
                    None => false,
                }
            }
            (Observation::Asked(Request::Skip(..)), stage)
                if !matches!(stage, Stage::Landed | Stage::Skipped) =>
            {
                page.stage = Stage::Skipped;
                true
            }
            _ => false,
        })
    }
}
