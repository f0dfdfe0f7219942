//! The oracle of a whole run: what an observation must mean, and what may begin, in other words than the machine's.

use std::collections::{BTreeMap, BTreeSet};

use git_harness::domain::event::Halt;
use git_harness::domain::id::{TaskId, Timestamp};
use git_harness::domain::machine::{Observation, Request};
use git_harness::domain::plan::Plan;
use git_harness::domain::retry::Policy;
use git_harness::domain::session::Class;
use git_harness::domain::state::{RunPhase, RunState};
use git_harness::domain::verdict::{CheckReport, Verdict};

use crate::page::{Consequence, Page, Rules, Stage};
use crate::purse;
use crate::standing::Standing;

/// A task as the book has it planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub id: TaskId,
    pub files: Vec<String>,
    pub after: BTreeSet<TaskId>,
}

/// The book of a run.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub plan: Vec<Planned>,
    pub pages: BTreeMap<TaskId, Page>,
    /// Tasks that were split.
    pub parts: BTreeMap<TaskId, [TaskId; 2]>,
    pub standing: Standing,
    pub phase: RunPhase,
    pub base: Option<bool>,
}

impl Book {
    pub(crate) fn new(plan: &Plan, paused: bool, policy: &Policy) -> Self {
        let planned = |t: &git_harness::domain::plan::Task| Planned {
            id: t.id.clone(),
            files: t.files.clone(),
            after: t.after.iter().cloned().collect(),
        };
        Self {
            plan: plan.tasks.iter().map(planned).collect(),
            pages: plan.tasks.iter().map(|t| (t.id.clone(), Page::default())).collect(),
            parts: BTreeMap::new(),
            standing: Standing::new(policy),
            phase: if paused { RunPhase::Paused } else { RunPhase::Active },
            base: None,
        }
    }

    fn count(&self, stage: &Stage) -> usize {
        self.pages.values().filter(|p| p.stage == *stage).count()
    }

    pub(crate) fn all_over(&self) -> bool {
        self.pages.values().all(|p| p.phase().ended())
    }

    /// Whether those that a task waits for let it go.
    pub(crate) fn let_go(&self, planned: &Planned, policy: &Policy) -> bool {
        let stage = |t: &TaskId| &self.pages[t].stage;
        let over = |t: &TaskId| self.pages[t].phase().ended();
        planned.after.iter().all(|t| *stage(t) == Stage::Landed)
            || (policy.keep_going && planned.after.iter().all(over))
    }

    /// Whether nobody does anything, and nobody could: all is over, or waits for what has gone wrong.
    fn all_quiet(&self, policy: &Policy) -> bool {
        self.plan.iter().all(|p| match self.pages[&p.id].stage {
            Stage::Waiting => !self.let_go(p, policy),
            _ => self.pages[&p.id].phase().ended(),
        })
    }

    pub(crate) fn broke(&self, policy: &Policy) -> bool {
        purse::all_empty(self.pages.values().flat_map(|p| [&p.purse, &p.jury]), policy)
    }

    /// The tasks of which a jury may speak now.
    pub(crate) fn shown(&self, rules: Rules<'_>) -> Vec<(TaskId, u32)> {
        let closed = self.phase != RunPhase::Active || rules.now < self.standing.lifts;
        if closed || self.broke(rules.policy) {
            return Vec::new();
        }
        let due = |p: &Page| matches!(p.stage, Stage::Shown(_)) && p.pause <= rules.now;
        let all = self.plan.iter().map(|p| (&p.id, &self.pages[&p.id]));
        all.filter(|(_, p)| due(p)).map(|(id, p)| (id.clone(), p.attempt)).collect()
    }

    /// Whether one task is to go alone, since the last ones have failed.
    pub(crate) fn wary(&self) -> bool {
        self.standing.wary && self.count(&Stage::Landed) <= self.standing.amnesty.0
    }

    /// What may begin: as many as there is room for, those that have somewhere to go on first.
    pub(crate) fn may_begin(&self, rules: Rules<'_>) -> Vec<(TaskId, u32)> {
        let Rules { policy, now } = rules;
        let ready = self.base.is_some_and(|good| good || !policy.base_must_pass);
        let closed = now < self.standing.lifts;
        if self.phase != RunPhase::Active || !ready || closed || self.broke(policy) {
            return Vec::new();
        }
        let pages = self.pages.values();
        let running: Vec<_> = pages.filter(|p| p.stage == Stage::Open).collect();
        let shown = self.shown(rules).len();
        let mut room = self.standing.room.min(policy.jobs).saturating_sub(running.len() + shown);
        if shown > 0 && self.standing.has_refused && !self.standing.trusted {
            return Vec::new();
        }
        if self.wary() {
            let under_way = |p: &Page| !matches!(p.stage, Stage::Waiting) && !p.phase().ended();
            room = room.min(usize::from(!self.pages.values().any(under_way)));
        }
        if self.standing.doubts(policy) {
            let asks = running.iter().any(|p| p.began >= self.standing.lifts);
            room = room.min(usize::from(!asks));
        }
        let due = |p: &&Planned| {
            let page = &self.pages[&p.id];
            page.stage == Stage::Waiting && page.pause <= now && self.let_go(p, policy)
        };
        let (first, then): (Vec<_>, Vec<_>) = self
            .plan
            .iter()
            .filter(due)
            .partition(|p| policy.resumable && self.pages[&p.id].thread.is_some());
        let all = first.into_iter().chain(then).take(room);
        all.map(|p| (p.id.clone(), self.pages[&p.id].attempt + 1)).collect()
    }

    /// Those that failed and are tried once more when nothing else is left to do.
    pub(crate) fn second_round(&self, policy: &Policy) -> Vec<TaskId> {
        let failed: Vec<_> = self.pages.iter().filter(|(_, p)| p.stage == Stage::Failed).collect();
        let all = failed.len() + self.count(&Stage::Landed);
        let few =
            failed.len() as u64 * 1_000_000 <= u64::from(policy.redispatch_below.0) * all as u64;
        if self.phase != RunPhase::Active || !self.all_quiet(policy) || !few {
            return Vec::new();
        }
        let hope = |p: &Page| {
            p.cause != "context_exceeded"
                && p.redispatches < policy.redispatch
                && !p.purse.empty(policy)
        };
        failed.into_iter().filter(|(_, p)| hope(p)).map(|(t, _)| t.clone()).collect()
    }

    /// When something may begin of itself.
    pub(crate) fn wakes(&self, now: Timestamp) -> Option<Timestamp> {
        let pages = self.pages.values().filter(|p| !p.phase().ended()).map(|p| p.pause);
        pages.chain([self.standing.lifts]).filter(|at| *at > now).min()
    }

    /// Whether an observation is news, and what it means if so; `None` where the book cannot tell. Dispatching is judged
    /// by the world. `found` is what the machine made of it.
    pub(crate) fn take(
        &mut self,
        observation: &Observation,
        rules: Rules<'_>,
        found: &RunState,
    ) -> Option<bool> {
        match observation {
            Observation::Dispatched { .. } => None,
            Observation::BaseVerified(checks) => Some(self.base_judged(checks, rules.policy)),
            Observation::JobChanged(_) => Some(true),
            Observation::RedispatchDue => {
                let again = self.second_round(rules.policy);
                for task in &again {
                    let page = self.pages.get_mut(task).unwrap();
                    page.anew(rules);
                    page.redispatches += 1;
                }
                Some(!again.is_empty())
            }
            Observation::ServiceAnswered { task, attempt } => {
                let page = self.pages.get(task)?;
                let runs = page.stage == Stage::Open && page.attempt == *attempt;
                Some(runs && self.standing.answered(page.began))
            }
            Observation::Requested(Request::Stop(_)) => {
                let stops = self.phase == RunPhase::Active && !self.all_over();
                if stops {
                    self.phase = RunPhase::Paused;
                }
                Some(stops)
            }
            Observation::Requested(Request::Resume) => self.resume(rules.policy),
            Observation::Requested(Request::Cancel) => {
                let news = self.phase != RunPhase::Cancelled;
                self.phase = RunPhase::Cancelled;
                Some(news)
            }
            Observation::AttemptEnded { task, .. }
            | Observation::NeverStarted { task, .. }
            | Observation::Verified { task, .. }
            | Observation::Evaluated { task, .. }
            | Observation::BranchMoved { task, .. }
            | Observation::LandingConflict { task, .. }
            | Observation::LandingVerified { task, .. }
            | Observation::Landed { task, .. }
            | Observation::Requested(
                Request::Retry(task)
                | Request::Reconsider(task)
                | Request::Skip { task, .. }
                | Request::Approve { task, .. }
                | Request::RequestChanges { task, .. },
            ) => {
                let before = self.pages.get(task)?.stage.clone();
                let mut halts = Vec::new();
                let news = self.of_task(task, observation, rules, found, &mut halts);
                if before != Stage::Failed && self.pages[task].stage == Stage::Failed {
                    let index = usize::from(halts.first() == Some(&Halt::Budget));
                    halts.splice(index..index, self.despairs(task, rules.policy));
                }
                if let (Some(last), RunPhase::Active) = (halts.last(), &self.phase) {
                    (self.phase, self.standing.stop) = (RunPhase::Halted, Some(*last));
                }
                Some(news)
            }
        }
    }

    /// One more has failed: whether that is too much.
    fn despairs(&self, task: &TaskId, policy: &Policy) -> Option<Halt> {
        let failed: Vec<_> = self.pages.values().filter(|p| p.stage == Stage::Failed).collect();
        let alike = failed.iter().all(|p| p.cause == self.pages[task].cause);
        let landed = self.count(&Stage::Landed);
        let too_many = self.standing.despairs(landed, failed.len(), alike, policy);
        (too_many && !self.all_over()).then_some(Halt::Failures)
    }

    fn base_judged(&mut self, checks: &CheckReport, policy: &Policy) -> bool {
        if self.base.is_some() || self.phase == RunPhase::Cancelled {
            return false;
        }
        let bad = match checks.verdict {
            Verdict::Passed => false,
            Verdict::Failed(_) => policy.base_must_pass,
            Verdict::Errored(_) => true,
        };
        self.base = match checks.verdict {
            Verdict::Passed => Some(true),
            Verdict::Failed(_) => Some(false),
            Verdict::Errored(_) => None,
        };
        if bad {
            (self.phase, self.standing.stop) = (RunPhase::Halted, Some(Halt::Base));
        }
        true
    }

    fn resume(&mut self, policy: &Policy) -> Option<bool> {
        if self.phase == RunPhase::Cancelled {
            return Some(false);
        }
        if self.broke(policy) {
            let failures = self.standing.stop == Some(Halt::Failures);
            let stop = if failures { Halt::Failures } else { Halt::Budget };
            (self.phase, self.standing.stop) = (RunPhase::Halted, Some(stop));
            // Whether it has been said in these words before.
            return None;
        }
        if self.phase == RunPhase::Active {
            return Some(false);
        }
        self.phase = RunPhase::Active;
        self.standing.goes_on(self.count(&Stage::Landed), self.count(&Stage::Failed));
        self.base = self.base.filter(|good| *good);
        Some(true)
    }

    fn of_task(
        &mut self,
        task: &TaskId,
        observation: &Observation,
        rules: Rules<'_>,
        found: &RunState,
        halts: &mut Vec<Halt>,
    ) -> bool {
        let cancelled = self.phase == RunPhase::Cancelled;
        let split = self.parts.contains_key(task);
        let fresh = !self.pages.values().any(Page::shows_work);
        let Some(page) = self.pages.get_mut(task) else { return false };
        let stage = page.stage.clone();
        let due = page.pause <= rules.now;
        match (observation, &stage) {
            (
                Observation::AttemptEnded {
                    attempt, termination, candidate, changed, report, ..
                },
                stage,
            ) if *attempt == page.attempt && page.open.is_some() => {
                let (told, began) = (report.as_deref(), page.began);
                page.close(termination, candidate.as_ref(), told);
                let mut consequence = Consequence::Nothing;
                if *stage == Stage::Open && split {
                    page.stage = Stage::Skipped;
                } else if *stage == Stage::Open {
                    consequence = page.ended(termination, *changed, told, fresh, rules);
                }
                if self.broke(rules.policy) {
                    halts.push(Halt::Budget);
                }
                match consequence {
                    Consequence::Nothing => {}
                    Consequence::Heard => {
                        let Rules { policy, now } = rules;
                        let said = told.unwrap();
                        self.standing.hear(said, began, now, policy, &found.account);
                        let refused = matches!(said.class, Class::RateLimited | Class::Overloaded);
                        if refused && self.standing.refusals > 20 {
                            halts.push(Halt::Account);
                        }
                    }
                    Consequence::Hopeless => halts.push(Halt::Agent),
                    Consequence::TooLarge => self.split(task),
                }
                true
            }
            (Observation::NeverStarted { attempt, .. }, Stage::Open)
                if *attempt == page.attempt =>
            {
                if split {
                    page.stage = Stage::Skipped;
                } else {
                    (page.stage, page.open, page.pause) = (Stage::Waiting, None, rules.now);
                }
                true
            }
            (Observation::Verified { attempt, tree, checks, .. }, Stage::Offered(candidate))
                if *attempt == page.attempt && *tree == candidate.tree && due =>
            {
                page.judged(candidate, checks, false, rules);
                true
            }
            (
                Observation::Evaluated {
                    attempt, tree, began, termination, verdict, report, ..
                },
                stage,
            ) if *attempt == page.attempt
                && page.asked.as_ref().is_some_and(|c| c.tree == *tree)
                && (matches!(stage, Stage::Shown(_)) || page.phase().ended()) =>
            {
                let told = report.as_deref();
                let consequence = page.heard(verdict, termination, told, rules);
                if self.broke(rules.policy) {
                    halts.push(Halt::Budget);
                }
                let Rules { policy, now } = rules;
                match (consequence, told) {
                    (Consequence::Hopeless, _) => halts.push(Halt::Agent),
                    (Consequence::Heard, Some(told)) if matches!(verdict, Verdict::Errored(_)) => {
                        self.standing.hear(told, *began, now, policy, &found.account);
                        if self.standing.refusals > 20 {
                            halts.push(Halt::Account);
                        }
                    }
                    (Consequence::Heard, _) => self.standing.serves(*began, policy),
                    (_, _) => {}
                }
                true
            }
            (
                Observation::LandingVerified { candidate: commit, checks, .. },
                Stage::Accepted(candidate),
            ) if *commit == candidate.commit && due => {
                page.judged(candidate, checks, true, rules);
                true
            }
            (
                Observation::LandingConflict { candidate: commit, .. },
                Stage::Accepted(candidate),
            ) if *commit == candidate.commit => {
                page.conflicted(rules);
                true
            }
            (Observation::Landed { .. }, stage) if *stage != Stage::Landed => {
                page.stage = Stage::Landed;
                true
            }
            (Observation::Requested(Request::Approve { commit, .. }), Stage::Read(candidate))
                if !cancelled && *commit == candidate.commit =>
            {
                page.stage = Stage::Accepted(candidate.clone());
                page.read.0 = Some(commit.clone());
                true
            }
            (
                Observation::Requested(Request::RequestChanges { commit, .. }),
                Stage::Read(candidate) | Stage::Accepted(candidate),
            ) if !cancelled && rules.policy.review && *commit == candidate.commit => {
                page.sent_back(rules);
                true
            }
            (
                Observation::BranchMoved { candidate: new, .. },
                Stage::Read(candidate) | Stage::Accepted(candidate),
            ) if rules.policy.review && new != candidate => {
                page.revised(new);
                true
            }
            (Observation::Requested(Request::Retry(_)), Stage::Failed | Stage::Skipped)
                if !cancelled && !split =>
            {
                page.anew(rules);
                page.purse.excuse();
                page.redispatches = 0;
                true
            }
            (Observation::Requested(Request::Reconsider(_)), Stage::Failed) if !cancelled => {
                let Some(left) = page.left.clone() else { return false };
                page.again += 1;
                (page.asked, page.read) = (None, (None, false));
                page.content = true;
                page.stage = Stage::Offered(left);
                true
            }
            (Observation::Requested(Request::Skip { .. }), stage)
                if !matches!(stage, Stage::Landed | Stage::Skipped) =>
            {
                page.stage = Stage::Skipped;
                true
            }
            _ => false,
        }
    }

    /// A task of several files becomes two, and whoever waits for it waits for both.
    fn split(&mut self, task: &TaskId) {
        let at = self.plan.iter().position(|p| p.id == *task).unwrap();
        let whole = self.plan[at].clone();
        if whole.files.len() < 2 {
            self.pages.get_mut(task).unwrap().fail("context_exceeded");
            return;
        }
        let names = (1..).map(|n| TaskId::parse(&format!("{task}_part_{n}")).unwrap());
        let mut free = names.filter(|name| !self.pages.contains_key(name));
        let ids = [free.next().unwrap(), free.next().unwrap()];
        for other in &mut self.plan {
            if other.after.remove(task) {
                other.after.extend(ids.clone());
            }
        }
        let half = whole.files.len() - whole.files.len() / 2;
        let (one, two) = whole.files.split_at(half);
        for (n, (id, files)) in ids.iter().zip([one, two]).enumerate() {
            let (id, files) = (id.clone(), files.to_vec());
            self.pages.insert(id.clone(), Page::default());
            self.plan.insert(at + 1 + n, Planned { id, files, after: whole.after.clone() });
        }
        self.parts.insert(task.clone(), ids);
        self.pages.get_mut(task).unwrap().stage = Stage::Skipped;
    }

    /// Compares with what the machine says of the run.
    pub(crate) fn compare(&self, state: &RunState, policy: &Policy) {
        assert_eq!(state.phase, self.phase, "{:?}", state.reason);
        assert_eq!(state.base_passed, self.base);
        if self.phase == RunPhase::Halted {
            assert_eq!(state.halt, self.standing.stop, "{:?}", state.reason);
        }
        self.standing.compare(&state.account, policy);
        let planned = |t: &git_harness::domain::plan::Task| Planned {
            id: t.id.clone(),
            files: t.files.clone(),
            after: t.after.iter().cloned().collect(),
        };
        assert_eq!(state.plan.tasks.iter().map(planned).collect::<Vec<_>>(), self.plan);
        assert_eq!(state.tasks.len(), self.pages.len());
        for (task, page) in &self.pages {
            page.compare(task, &state.tasks[task], policy);
        }
    }
}
