//! The invariants of a run: at every step, at every start and at the end.

use std::collections::BTreeSet;

use git_harness::domain::id::TaskId;
use git_harness::domain::machine::{Effect, Observation, owed};
use git_harness::domain::state::{Phase, RunPhase};

use super::RunWorld;
use crate::oracle::OracleContext;
use crate::oracle::task::{OracleSession, OracleStage, TaskOracle};

impl RunWorld {
    /// Checks that the machine owes the effects that the oracle expects, in order.
    pub(super) fn check_owed(&self) {
        let effects = owed(&self.state, self.now, &self.policy);
        let oracle = &self.oracle;
        let mut expected = BTreeSet::new();
        if oracle.phase == RunPhase::Active && oracle.base_passed.is_none() && !oracle.all_ended() {
            expected.insert(Effect::VerifyBase);
        }
        for (id, task) in &oracle.tasks {
            let due = task.not_before <= self.now && oracle.phase != RunPhase::Cancelled;
            match &task.stage {
                OracleStage::Running => expected.insert(Effect::Await(id.clone(), task.attempt)),
                OracleStage::Verifying(_) if due => {
                    expected.insert(Effect::Verify(id.clone(), task.attempt))
                }
                OracleStage::Queued(_) if due => expected.insert(Effect::Land(id.clone())),
                _ => false,
            };
        }
        let context = OracleContext { policy: &self.policy, now: self.now };
        let evaluations = oracle.due_evaluations(context).into_iter();
        expected.extend(evaluations.map(|(task, attempt)| Effect::Evaluate(task, attempt)));
        let starts = oracle.due_starts(context);
        let as_start = |effect: &Effect| match effect {
            Effect::Start(task, attempt) => Some((task.clone(), *attempt)),
            _ => None,
        };
        assert_eq!(
            effects.iter().filter_map(as_start).collect::<Vec<_>>(),
            starts,
            "starts in order"
        );
        expected.extend(starts.into_iter().map(|(task, attempt)| Effect::Start(task, attempt)));
        if !oracle.due_redispatches(&self.policy).is_empty() {
            expected.insert(Effect::Redispatch);
        }
        assert_eq!(effects.len(), expected.len(), "owed {effects:?}, expected {expected:?}");
        assert_eq!(effects.iter().cloned().collect::<BTreeSet<_>>(), expected);
        let rank = |e: &Effect| match e {
            Effect::VerifyBase => 0,
            Effect::Await(..) | Effect::Land(_) => 1,
            Effect::Verify(..) => 2,
            Effect::Evaluate(..) => 3,
            Effect::Start(..) => 4,
            Effect::Redispatch => 5,
        };
        assert!(
            effects.is_sorted_by_key(rank),
            "effects that free resources come first: {effects:?}"
        );
    }

    /// Checks that the fold has kept what follows from the plan and the states.
    pub(super) fn check_index(&self) {
        let recomputed = self.state.tasks.recomputed();
        assert!(self.state.tasks == recomputed, "{:#?}\n{recomputed:#?}", self.state.tasks);
    }

    /// Checks each condition for the start of an attempt, and records the start.
    pub(super) fn check_dispatch(&mut self, observation: &Observation) {
        let Observation::Dispatched {
            task,
            attempt,
            base,
            worktree,
            owner,
            session,
            resumed,
            work,
        } = observation
        else {
            return;
        };
        let (oracle, policy, now) = (&self.oracle, &self.policy, self.now);
        assert_eq!(oracle.phase, RunPhase::Active, "started in an inactive run");
        assert!(
            oracle.base_passed.is_some_and(|passed| passed || !policy.base_must_pass),
            "started on a failing base"
        );
        let running: Vec<_> =
            oracle.tasks.values().filter(|task| task.stage == OracleStage::Running).collect();
        let slots = oracle.account.slots.min(policy.jobs);
        assert!(running.len() < slots, "more sessions than slots");
        assert!(now >= oracle.account.closed_until, "started while the account is closed");
        if oracle.account.needs_probe(policy) {
            let probes =
                running.iter().filter(|task| task.started >= oracle.account.closed_until).count();
            assert_eq!(probes, 0, "more than one probe of the account");
        }
        if oracle.canary_only() {
            let in_progress = |task: &&TaskOracle| {
                !matches!(task.stage, OracleStage::Waiting) && !task.phase().ended()
            };
            assert_eq!(
                oracle.tasks.values().filter(in_progress).count(),
                0,
                "more than one canary"
            );
        }
        assert!(!oracle.budget_exhausted(policy), "started over the run's budget");
        assert!(!oracle.split_tasks.contains_key(task), "{task}: started after its split");
        let expected = &oracle.tasks[task];
        assert!(!expected.budget.exhausted(policy), "{task}: started over its budget");
        assert_eq!(expected.stage, OracleStage::Waiting, "{task}: started and was not waiting");
        assert!(expected.not_before <= now, "{task}: started during a pause");
        assert_eq!(*attempt, expected.attempt + 1, "{task}: attempt number");
        let planned = oracle.plan.iter().find(|planned| planned.id == *task).unwrap();
        assert!(
            oracle.dependencies_allow(planned, policy),
            "{task}: started before its dependencies"
        );
        if work.is_some() {
            assert!(policy.from_candidate && !policy.report && !*resumed, "{task}: continued");
            assert!(expected.candidate.is_some(), "{task}: continued no candidate");
            assert!(expected.rejections < policy.feedback, "{task}: continued in the last attempt");
        }
        let id = session.clone().unwrap_or_default();
        let current = OracleSession {
            id,
            worktree: worktree.clone(),
            owner: owner.clone(),
            base: base.clone(),
        };
        if *resumed {
            assert!(policy.resumable);
            assert_eq!(
                expected.session.as_ref(),
                Some(&current),
                "{task}: resumed another session"
            );
        } else {
            let previous =
                expected.session.as_ref().filter(|s| policy.resumable && s.owner == *owner);
            assert!(previous.is_none() || worktree == "p09", "{task}: abandoned {previous:?}");
        }
        let oracle = self.oracle.tasks.get_mut(task).unwrap();
        (oracle.stage, oracle.attempt, oracle.started) = (OracleStage::Running, *attempt, now);
        oracle.session_known = session.is_some();
        if !resumed {
            oracle.candidate = None;
            oracle.review = (None, false);
            oracle.session = session.is_some().then(|| current.clone());
        }
        oracle.running = Some(current);
        self.attempt_sessions.insert((task.clone(), *attempt), session.clone());
        let is_new = self.published.insert((task.clone(), *attempt), None).is_none();
        assert!(is_new, "{task}: attempt {attempt} started twice");
    }

    /// Checks each condition for the start of an evaluation.
    pub(super) fn check_evaluation(&self, task: &TaskId) {
        let (oracle, policy) = (&self.oracle, &self.policy);
        assert_eq!(oracle.phase, RunPhase::Active, "started in an inactive run");
        assert!(
            self.now >= oracle.account.closed_until,
            "evaluation started while the account is closed"
        );
        assert!(!oracle.budget_exhausted(policy), "evaluation started over the run's budget");
        assert!(
            matches!(oracle.tasks[task].stage, OracleStage::Evaluating(_)),
            "{task}: evaluation without a candidate"
        );
        let evaluations =
            self.in_flight.iter().filter(|e| matches!(e, Effect::Evaluate(..))).count();
        let running: Vec<_> =
            oracle.tasks.values().filter(|task| task.stage == OracleStage::Running).collect();
        let slots = oracle.account.slots.min(policy.jobs);
        assert!(running.len() + evaluations < slots, "more sessions than slots");
        if oracle.account.has_refused && !oracle.account.proven {
            let probes =
                running.iter().filter(|task| task.started >= oracle.account.closed_until).count();
            assert_eq!((probes, evaluations), (0, 0), "more than one probe of the account");
        }
    }

    /// Returns the files of a task, or of the parts that it was split into.
    fn files(&self, task: &TaskId) -> Vec<String> {
        match self.state.split.get(task) {
            Some(parts) => parts.iter().flat_map(|part| self.files(part)).collect(),
            None => {
                let planned = self.state.tasks.planned_task(task);
                planned.unwrap().files.clone()
            }
        }
    }

    /// Checks the state of a run that has nothing left to do.
    pub(crate) fn check_end(&self) {
        self.chains.compare(&self.state, &self.plan);
        for task in &self.plan.tasks {
            assert_eq!(self.files(&task.id), task.files, "{}: every file in one part", task.id);
            let split = self.state.split.contains_key(&task.id);
            assert!(!split || self.state.tasks[&task.id].phase != Phase::Done);
        }
        let blocked = |task: &TaskId| {
            let planned = self.state.tasks.planned_task(task).unwrap();
            let phase = |t: &TaskId| &self.state.tasks[t].phase;
            let dependencies_ended =
                self.policy.keep_going && planned.after.iter().all(|t| phase(t).ended());
            !dependencies_ended && planned.after.iter().any(|t| *phase(t) != Phase::Done)
        };
        for (task, state) in self.state.tasks.iter() {
            let times = self.target.iter().filter(|c| c.task.as_ref() == Some(task)).count();
            assert!(times <= 1, "{task}: landed {times} times");
            let lands = state.phase == Phase::Done && !self.policy.report;
            assert_eq!(times == 1, lands, "{task}: {state:?}");
            match self.state.phase {
                RunPhase::Active => {
                    assert!(state.phase.ended() || blocked(task), "{task}: {state:?}");
                }
                RunPhase::Paused | RunPhase::Halted => {
                    let evaluating = state.phase == Phase::Verifying && state.evaluation.waiting;
                    let waits = matches!(state.phase, Phase::Todo | Phase::Reviewing) || evaluating;
                    assert!(state.phase.ended() || waits, "{task}: {state:?}");
                }
                RunPhase::Cancelled => assert_ne!(state.phase, Phase::Running, "{task}: {state:?}"),
            }
        }
    }
}
