//! Disturbances of a simulated world: repeated and stale observations, and requests of people.

use git_harness::domain::id::TaskId;
use git_harness::domain::machine::{Observation, Request};
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::Candidate;

use super::RunWorld;
use crate::oracle::task::{OracleStage, TaskOracle};
use crate::outcomes::{self, DefaultOutcome, UsageTotal};

impl RunWorld {
    /// Repeats a former observation.
    pub(super) fn repeat_observation(&mut self) {
        if let Some(old) = self.choices.pick(&self.observations.clone()) {
            // A repeated request is a new request, and the base may be due for another
            // verification.
            if !matches!(old, Observation::Requested(_) | Observation::BaseVerified(_)) {
                self.observe(old);
            }
        }
    }

    /// Makes an observation that nobody waits for: of an ended attempt, of another tree or with a
    /// wrong number.
    pub(super) fn inject_stale_observation(&mut self) {
        let Some((task, attempt, candidate, changed)) = self.choices.pick(&self.candidates.clone())
        else {
            return;
        };
        let number = self.step_count as u64;
        let checks =
            outcomes::check_report(&mut self.choices, DefaultOutcome::Success, false, number);
        let (commit, tree) = (candidate.commit.clone(), candidate.tree.clone());
        let observation = match self.choices.below(11) {
            8 => Observation::RedispatchDue,
            9 => Observation::ServiceAnswered { task, attempt },
            10 => {
                let session = self.state.tasks[&task].session.as_ref().map(|s| s.id.clone());
                let owner = self.owner.clone();
                let (base, worktree) = (self.tip(), "p09".to_owned());
                let attempt = attempt + u32::try_from(self.choices.below(3)).unwrap();
                Observation::Dispatched {
                    task,
                    attempt,
                    base,
                    worktree,
                    owner,
                    session,
                    resumed: true,
                    work: None,
                }
            }
            0 => Observation::Verified { task, attempt, tree, checks, stderr: None },
            1 => Observation::LandingVerified { task, candidate: commit, tree, checks },
            2 => Observation::LandingConflict {
                task,
                candidate: commit,
                onto: self.tip(),
                paths: vec!["a".into()],
                description: String::new(),
            },
            3 => {
                let (termination, default) = (Termination::Exited(0), self.default_outcome);
                let mut usage = UsageTotal::default();
                let report = outcomes::report(
                    &mut self.choices,
                    default,
                    self.agent,
                    self.now,
                    ("stale", true),
                    &mut usage,
                );
                Observation::AttemptEnded {
                    task,
                    attempt,
                    termination,
                    candidate: Some(candidate),
                    changed,
                    report: report.map(Box::new),
                    stderr: None,
                }
            }
            4 => Observation::NeverStarted { task, attempt },
            7 => Observation::BaseVerified(checks),
            5 => {
                let tree = self.oid();
                Observation::Verified { task, attempt, tree, checks, stderr: None }
            }
            _ => {
                let (base, worktree) = (self.tip(), "p09".to_owned());
                let attempt = attempt + u32::try_from(self.choices.below(3)).unwrap();
                Observation::Dispatched {
                    task,
                    attempt,
                    base,
                    worktree,
                    owner: "elsewhere".into(),
                    session: None,
                    resumed: false,
                    work: None,
                }
            }
        };
        self.observe(observation);
    }

    /// Makes a random request, as a person may.
    pub(super) fn act_as_person(&mut self) {
        let tasks: Vec<_> = self.state.tasks.keys().cloned().collect();
        let Some(task) = self.choices.pick(&tasks) else { return };
        let request = match self.choices.below(40) {
            0..=4 => Request::Stop(outcomes::text(&mut self.choices)),
            5..=16 => Request::Resume,
            17..=20 => {
                let is_running = |(_, oracle): &(&TaskId, &TaskOracle)| oracle.running.is_some();
                let running = self.oracle.tasks.iter().find(is_running).map(|(id, _)| id.clone());
                let message = outcomes::text(&mut self.choices);
                Request::Skip { task: running.unwrap_or(task), message }
            }
            21..=32 if self.policy.review => {
                self.review();
                return;
            }
            21..=32 => Request::Retry(task),
            33..=37 => Request::Reconsider(task),
            _ => Request::Cancel,
        };
        self.observe(Observation::Requested(request));
    }

    /// Reviews a random candidate, as a person may. Returns true if the review was recorded.
    pub(crate) fn review(&mut self) -> bool {
        let reviewable = |task: &TaskOracle| match &task.stage {
            OracleStage::Reviewing(candidate) | OracleStage::Queued(candidate) => {
                Some(candidate.clone())
            }
            _ => None,
        };
        let tasks = self.oracle.tasks.iter();
        let all: Vec<_> = tasks
            .filter_map(|(id, task)| Some((id.clone(), reviewable(task)?, task.attempt)))
            .collect();
        let Some((task, candidate, attempt)) = self.choices.pick(&all) else { return false };
        let by = "somebody".to_owned();
        let action = if self.choices.exhausted() { 0 } else { self.choices.below(8) };
        let commit = if action == 7 { self.oid() } else { candidate.commit.clone() };
        let observation = match action {
            4 | 5 => {
                let message = outcomes::text(&mut self.choices);
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
        self.observe(observation)
    }
}
