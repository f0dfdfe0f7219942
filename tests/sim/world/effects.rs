//! The effects that the supervisor carries out: attempts, verifications, evaluations and landings.

use git_harness::domain::id::{Oid, TaskId};
use git_harness::domain::machine::{Effect, Observation, evaluator_slots, next_wake, owed};
use git_harness::domain::session::SessionReport;
use git_harness::domain::verdict::{Candidate, Verdict};

use super::{RunWorld, SimulatedCommit};
use crate::oracle::task::OracleStage;
use crate::outcomes::{self, DefaultOutcome};

impl RunWorld {
    /// Starts all owed effects and completes a random one. If there is none, waits for the end of
    /// the next pause. Returns false if nothing is left to do.
    pub(super) fn carry_out_effect(&mut self) -> bool {
        for effect in owed(&self.state, self.now, &self.policy) {
            match effect {
                Effect::Start(task, attempt) => self.dispatch(&task, attempt),
                Effect::Land(_) if self.in_flight.iter().any(|e| matches!(e, Effect::Land(_))) => {}
                Effect::Evaluate(task, attempt) => self.start_evaluation(task, attempt),
                effect => {
                    self.in_flight.insert(effect);
                }
            }
        }
        let in_flight: Vec<_> = self.in_flight.iter().cloned().collect();
        if let Some(effect) = self.choices.pick(&in_flight) {
            self.in_flight.remove(&effect);
            self.now = self.now.after_ms(1);
            self.finish(effect);
            return true;
        }
        let wake = self.oracle.next_wake(self.now);
        assert_eq!(next_wake(&self.state, self.now), wake, "next end of a pause");
        match wake {
            Some(wake) => {
                self.now = wake;
                true
            }
            None => false,
        }
    }

    /// Starts an attempt as the engine does: resumes the task's session in its worktree, or starts
    /// a new session.
    fn dispatch(&mut self, task: &TaskId, attempt: u32) {
        let state = &self.state.tasks[task];
        let may_continue = state.candidate_to_continue(&self.policy).is_some();
        let previous =
            state.session.clone().filter(|s| self.policy.resumable && s.owner == self.owner);
        let resumed = previous.is_some();
        let (base, worktree, session) = match previous {
            Some(previous) => (state.base.clone().unwrap(), previous.worktree, Some(previous.id)),
            None => {
                let assigned = self.agent.takes_session_ids.then(|| format!("s-{task}-{attempt}"));
                let worktree = format!("p{}", self.oid().as_str().trim_start_matches('0'));
                (self.tip(), worktree, assigned)
            }
        };
        let owner = self.owner.clone();
        // The work of a candidate may not merge.
        let continues = may_continue && !resumed && self.choices.below(3) > 0;
        let work = continues.then(|| self.oid());
        let observation = Observation::Dispatched {
            task: task.clone(),
            attempt,
            base,
            worktree,
            owner,
            session,
            resumed,
            work,
        };
        if self.observe(observation) {
            self.in_flight.insert(Effect::Await(task.clone(), attempt));
        } else {
            assert!(self.torn_write, "{task}: an owed start was refused");
        }
    }

    /// Starts an evaluation as the engine does: if a slot is free.
    fn start_evaluation(&mut self, task: TaskId, attempt: u32) {
        let effect = Effect::Evaluate(task.clone(), attempt);
        let evaluations =
            self.in_flight.iter().filter(|e| matches!(e, Effect::Evaluate(..))).count();
        if !self.in_flight.contains(&effect)
            && evaluations < evaluator_slots(&self.state, &self.policy)
        {
            self.check_evaluation(&task);
            self.evaluation_starts.insert(task, self.now);
            self.in_flight.insert(effect);
        }
    }

    /// Completes an evaluation with a random verdict.
    fn finish_evaluation(&mut self, task: TaskId, attempt: u32) {
        let Some(candidate) = self.state.tasks[&task].candidate.clone() else { return };
        let (default, mut usage) = (self.current_default(), Default::default());
        let session = ("evaluator", false);
        let report =
            outcomes::report(&mut self.choices, default, self.agent, self.now, session, &mut usage);
        let (termination, verdict) =
            outcomes::evaluation(&mut self.choices, default, report.as_ref());
        let began = self.evaluation_starts[&task];
        let report = report.map(Box::new);
        let tree = candidate.tree;
        self.observe(Observation::Evaluated {
            task,
            attempt,
            tree,
            began,
            termination,
            verdict,
            report,
        });
    }

    /// Completes an effect with a random outcome.
    pub(super) fn finish(&mut self, effect: Effect) {
        match effect {
            Effect::VerifyBase => {
                let number = self.step_count as u64;
                let checks = outcomes::check_report(
                    &mut self.choices,
                    DefaultOutcome::Success,
                    true,
                    number,
                );
                self.observe(Observation::BaseVerified(checks));
            }
            Effect::Await(task, attempt) => self.observe_attempt(&task, attempt),
            Effect::Verify(task, attempt) => {
                let Some(candidate) = self.state.tasks[&task].candidate.clone() else { return };
                let default = self.current_default();
                let checks = outcomes::check_report(
                    &mut self.choices,
                    default,
                    false,
                    self.step_count as u64,
                );
                self.observe(Observation::Verified {
                    task,
                    attempt,
                    tree: candidate.tree,
                    checks,
                    stderr: None,
                });
            }
            Effect::Evaluate(task, attempt) => self.finish_evaluation(task, attempt),
            Effect::Land(task) => self.land(&task),
            Effect::Start(..) => {}
            Effect::Redispatch => {
                self.observe(Observation::RedispatchDue);
            }
        }
    }

    /// Returns the default outcome of this step.
    fn current_default(&self) -> DefaultOutcome {
        match self.default_outcome {
            DefaultOutcome::Alternating => outcomes::DEFAULT_OUTCOMES[self.step_count * 7 % 15],
            default => default,
        }
    }

    /// Observes an attempt. The keeper publishes the outcome once, and every later observation
    /// repeats the outcome.
    fn observe_attempt(&mut self, task: &TaskId, attempt: u32) {
        let key = (task.clone(), attempt);
        if self.published.get(&key).is_some_and(Option::is_none) {
            if !self.choices.exhausted() && self.choices.below(12) == 11 {
                let observation = Observation::NeverStarted { task: task.clone(), attempt };
                self.published.insert(key, Some(observation.clone()));
                self.observe(observation);
                return;
            }
            if self.answer_early(task, attempt) {
                return;
            }
            let default = self.current_default();
            let simulated = outcomes::attempt(&mut self.choices, default);
            let report = self.report(task, attempt, default);
            let (commit, mut tree, base) = (self.oid(), self.oid(), self.tip());
            let previous = self.candidates.iter().rfind(|c| c.0 == *task);
            if let (Some((_, _, old, _)), 1) = (previous, self.choices.below(3)) {
                // The agent made the same change again.
                tree = old.tree.clone();
            }
            let candidate = simulated.saved.then_some(Candidate { commit, tree, base });
            if let Some(candidate) = &candidate {
                self.candidates.push((task.clone(), attempt, candidate.clone(), simulated.changed));
            }
            let ended = Observation::AttemptEnded {
                task: task.clone(),
                attempt,
                termination: simulated.termination,
                changed: simulated.changed && candidate.is_some(),
                candidate,
                report: report.map(Box::new),
                stderr: None,
            };
            self.published.insert(key.clone(), Some(ended));
        }
        if let Some(Some(ended)) = self.published.get(&key).cloned() {
            self.observe(ended);
        }
    }

    /// Makes the service answer a running session, at random and once an attempt. Returns true if
    /// the service answered. The attempt then runs on.
    fn answer_early(&mut self, task: &TaskId, attempt: u32) -> bool {
        let refused = matches!(
            self.default_outcome,
            DefaultOutcome::RateLimited | DefaultOutcome::Overloaded | DefaultOutcome::AuthFails
        );
        let answers = if self.choices.exhausted() { !refused } else { self.choices.below(3) == 2 };
        let key = (task.clone(), attempt);
        if !answers || !self.agent.reports || !self.answered.insert(key) {
            return false;
        }
        self.observe(Observation::ServiceAnswered { task: task.clone(), attempt });
        if !self.torn_write {
            self.in_flight.insert(Effect::Await(task.clone(), attempt));
        }
        true
    }

    /// Returns the report of an attempt's session. Sometimes the agent works in another session
    /// than the assigned one.
    fn report(
        &mut self,
        task: &TaskId,
        attempt: u32,
        default: DefaultOutcome,
    ) -> Option<SessionReport> {
        let assigned = self.attempt_sessions.get(&(task.clone(), attempt)).cloned().flatten();
        let own = || format!("own-{task}-{attempt}");
        let other_session = !self.choices.exhausted() && self.choices.below(8) == 7;
        let session = assigned.filter(|_| !other_session).unwrap_or_else(own);
        let usage = self.session_usage.entry(session.clone()).or_default();
        outcomes::report(
            &mut self.choices,
            default,
            self.agent,
            self.now,
            (&session, other_session),
            usage,
        )
    }

    /// Lands a task's candidate: merges, verifies and moves the target, one step per call.
    fn land(&mut self, task: &TaskId) {
        let contained = self.target.iter().find(|c| c.task.as_ref() == Some(task)).cloned();
        if let Some(commit) = contained {
            let (task, commit) = (task.clone(), commit.id);
            self.observe(Observation::Landed { task, commit, results: Vec::new() });
            return;
        }
        let OracleStage::Queued(candidate) = self.oracle.tasks[task].stage.clone() else { return };
        let default = self.current_default();
        let (task, onto) = (task.clone(), self.tip());
        let commit = candidate.commit.clone();
        if outcomes::conflicts(&mut self.choices, default) {
            let paths = vec![outcomes::text(&mut self.choices)];
            self.observe(Observation::LandingConflict {
                task,
                candidate: commit,
                onto,
                paths,
                description: String::new(),
            });
            return;
        }
        // The same candidate on the same tip gives the same merged tree.
        let merge = |a: &Oid, b: &Oid| {
            Oid::parse(&format!("{}{}", &a.as_str()[20..], &b.as_str()[20..])).unwrap()
        };
        let tree = merge(&onto, &commit);
        if !self.passed_trees.contains(&tree) {
            let checks =
                outcomes::check_report(&mut self.choices, default, true, self.step_count as u64);
            if checks.verdict == Verdict::Passed {
                self.passed_trees.insert(tree.clone());
            }
            self.observe(Observation::LandingVerified { task, candidate: commit, tree, checks });
            return;
        }
        if !self.choices.exhausted() && self.choices.below(6) == 5 {
            // Somebody else has moved the target.
            let id = self.oid();
            self.target.push(SimulatedCommit { id, task: None });
            return;
        }
        self.check_landing(&task, &candidate);
        let id = self.oid();
        self.target.push(SimulatedCommit { id: id.clone(), task: Some(task.clone()) });
        if !self.choices.exhausted() && self.choices.below(4) == 3 {
            self.crash();
            return;
        }
        self.observe(Observation::Landed { task, commit: id, results: Vec::new() });
    }

    /// Checks that a landing is justified.
    fn check_landing(&self, task: &TaskId, candidate: &Candidate) {
        let oracle = &self.oracle.tasks[task];
        assert!(
            oracle.passed_commits.contains(&candidate.commit),
            "{task}: landed without a verdict"
        );
        let origin = self.candidates.iter().find(|(_, _, c, _)| c == candidate).unwrap();
        assert_eq!(
            (&origin.0, origin.1),
            (task, oracle.attempt),
            "{task}: landed candidate of another attempt"
        );
        assert!(self.target.iter().all(|c| c.task.as_ref() != Some(task)), "{task} lands twice");
    }
}
