//! The fold: what is so, from what happened.

use std::collections::BTreeMap;

use super::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use super::id::{Oid, RunId, TaskId, Timestamp};
use super::plan::Plan;
use super::retry::Layer;
use super::verdict::Candidate;

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// Waiting for an attempt.
    #[default]
    Todo,
    /// An attempt is under way (or its end has not been seen yet).
    Running,
    /// A candidate waits for its checks, or is being checked.
    Verifying,
    /// Accepted; waits to land.
    Queued,
    /// On the target branch.
    Done,
    /// No try is left.
    Failed,
    /// Taken out by a person.
    Skipped,
}

impl Phase {
    /// Whether nothing more will happen to the task by itself.
    #[must_use]
    pub fn ended(&self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Skipped => true,
            Self::Todo | Self::Running | Self::Verifying | Self::Queued => false,
        }
    }

    /// The word that users see.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Todo => "todo",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Queued => "queued",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Everything that a task's tip says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskState {
    /// Where it stands.
    pub phase: Phase,
    /// Events so far.
    pub seq: u64,
    /// The number of the last attempt that started; 0 before the first.
    pub attempt: u32,
    /// Where the running attempt works.
    pub place: Option<String>,
    /// On which repository and machine the running attempt was started.
    pub owner: Option<String>,
    /// From where the last attempt started.
    pub base: Option<Oid>,
    /// How the last attempt ended, as a short phrase.
    pub ending: Option<String>,
    /// What the last attempt proposes.
    pub candidate: Option<Candidate>,
    /// Attempts charged to the task since its budgets were last made new.
    pub rejections: u32,
    /// Conflicts with the target since then; not the task's fault, but bounded.
    pub conflicts: u32,
    /// Infrastructure faults in a row.
    pub faults: u32,
    /// No effect is owed before this moment.
    pub not_before: Timestamp,
    /// The commit on the target.
    pub landed: Option<Oid>,
    /// Why it failed, was skipped, or waits.
    pub reason: Option<String>,
    /// When the last event happened.
    pub at: Timestamp,
}

impl TaskState {
    /// Folds one event. Total: a fact is never refused.
    pub fn apply(&mut self, event: &TaskEvent) {
        self.seq += 1;
        self.at = event.at;
        match &event.kind {
            TaskEventKind::Created => {}
            TaskEventKind::Started { attempt, base, place, owner } => {
                self.phase = Phase::Running;
                self.attempt = *attempt;
                self.base = Some(base.clone());
                self.place = Some(place.clone());
                self.owner = Some(owner.clone());
                self.candidate = None;
                self.ending = None;
                self.reason = None;
            }
            TaskEventKind::Ended { attempt, ending, candidate } => {
                // What was cut off is kept on the chain, but nobody judges it: checks that pass on an untouched tree would
                // land a task for which nothing was done.
                let whole = candidate.is_some() && !ending.cut_off();
                self.phase = if whole { Phase::Verifying } else { Phase::Todo };
                self.attempt = *attempt;
                self.place = None;
                self.owner = None;
                self.ending = Some(ending.to_string());
                self.candidate.clone_from(candidate);
            }
            TaskEventKind::Judged { findings, landing, .. } => {
                // It could be judged, so the infrastructure works.
                self.faults = 0;
                if findings.is_some() {
                    self.rejections += 1;
                    self.phase = Phase::Todo;
                } else {
                    if !landing {
                        self.phase = Phase::Queued;
                    }
                    self.reason = None;
                }
            }
            TaskEventKind::Conflicted { .. } => {
                self.conflicts += 1;
                self.phase = Phase::Todo;
            }
            TaskEventKind::Retried { layer, not_before, because } => {
                self.not_before = *not_before;
                self.reason.clone_from(because);
                match layer {
                    Layer::Feedback => self.phase = Phase::Todo,
                    Layer::Infra => {
                        self.faults += 1;
                        // A verification that could not be run is repeated; an attempt that broke starts anew.
                        self.phase = match (&self.phase, &self.candidate) {
                            (Phase::Queued, Some(_)) => Phase::Queued,
                            (Phase::Verifying, Some(_)) => Phase::Verifying,
                            _ => Phase::Todo,
                        };
                    }
                    Layer::Interrupted => self.phase = Phase::Todo,
                    Layer::Manual => {
                        self.rejections = 0;
                        self.conflicts = 0;
                        self.faults = 0;
                        self.candidate = None;
                        self.phase = Phase::Todo;
                    }
                }
                if self.phase == Phase::Todo {
                    self.place = None;
                    self.owner = None;
                }
            }
            TaskEventKind::Landed { commit, .. } => {
                self.phase = Phase::Done;
                self.landed = Some(commit.clone());
                self.reason = None;
            }
            TaskEventKind::Failed { reason } => {
                self.phase = Phase::Failed;
                self.reason = Some(reason.clone());
            }
            TaskEventKind::Skipped { message } => {
                self.phase = Phase::Skipped;
                self.reason = Some(message.clone());
            }
        }
    }
}

/// Whether the run as a whole goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RunPhase {
    /// Tasks are dispatched.
    #[default]
    Active,
    /// Nothing new starts until somebody says `start`.
    Paused,
    /// It stopped by itself and wants a person.
    Halted,
    /// Given up.
    Cancelled,
}

/// What is so in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    /// The run.
    pub id: RunId,
    /// Its plan, pinned.
    pub plan: Plan,
    /// Whether it goes on.
    pub phase: RunPhase,
    /// Whether it has waited since it was made, and nobody has asked it to stop: whoever drives it next may go on.
    pub waits_to_begin: bool,
    /// Why it is paused or halted.
    pub reason: Option<String>,
    /// What the landing checks said of the base; `None` before they were run.
    pub base_passed: Option<bool>,
    /// Every task of the plan.
    pub tasks: BTreeMap<TaskId, TaskState>,
}

impl RunState {
    /// A run in which nothing has happened yet.
    #[must_use]
    pub fn new(id: RunId, plan: Plan) -> Self {
        let tasks = plan.tasks.iter().map(|t| (t.id.clone(), TaskState::default())).collect();
        Self {
            id,
            plan,
            phase: RunPhase::Active,
            waits_to_begin: false,
            reason: None,
            base_passed: None,
            tasks,
        }
    }

    /// Folds an event of the run's chain.
    pub fn apply_run(&mut self, event: &RunEvent) {
        self.waits_to_begin = false;
        match &event.kind {
            RunEventKind::Created { paused } => {
                if *paused {
                    self.waits_to_begin = true;
                    self.phase = RunPhase::Paused;
                    self.reason = Some("made with `--paused`".into());
                }
            }
            RunEventKind::BaseJudged { passed, .. } => self.base_passed = Some(*passed),
            RunEventKind::Paused(reason) => {
                self.phase = RunPhase::Paused;
                self.reason = Some(reason.clone());
            }
            RunEventKind::Resumed => {
                self.phase = RunPhase::Active;
                self.reason = None;
                // Whoever resumes after a base that failed wants it looked at again.
                if self.base_passed == Some(false) {
                    self.base_passed = None;
                }
            }
            RunEventKind::Halted(reason) => {
                self.phase = RunPhase::Halted;
                self.reason = Some(reason.clone());
            }
            RunEventKind::Cancelled => {
                self.phase = RunPhase::Cancelled;
                self.reason = None;
            }
        }
    }

    /// Folds an event of a task's chain; an unknown task is left alone.
    pub fn apply_task(&mut self, task: &TaskId, event: &TaskEvent) {
        if let Some(state) = self.tasks.get_mut(task) {
            state.apply(event);
        }
    }

    /// Whether every task has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.tasks.values().all(|t| t.phase.ended())
    }

    /// How many tasks are in a phase.
    #[must_use]
    pub fn count(&self, phase: &Phase) -> usize {
        self.tasks.values().filter(|t| t.phase == *phase).count()
    }

    /// The word that `status` shows for the run.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        match self.phase {
            RunPhase::Cancelled => "cancelled",
            _ if self.ended() => "ended",
            RunPhase::Paused if self.count(&Phase::Running) > 0 => "draining",
            RunPhase::Active => "active",
            RunPhase::Paused => "paused",
            RunPhase::Halted => "halted",
        }
    }

    /// Whether everything a task waits for is done.
    #[must_use]
    pub fn unblocked(&self, after: &[TaskId]) -> bool {
        after.iter().all(|t| self.tasks.get(t).is_some_and(|s| s.phase == Phase::Done))
    }
}
