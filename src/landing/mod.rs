//! Landing commits: accepted candidates are merged in memory onto the target's current tip. No ref
//! moves here.

pub(crate) mod builder;
pub(crate) mod finding_outcomes;
pub(crate) mod history;
mod merger;
pub(crate) mod message;
pub(crate) mod sides;
mod squash;

use crate::domain::id::{RunId, TaskId};

pub use builder::{BuiltTrain, CarRequest, CarSubject, TrainBuilder};
pub use history::TargetHistory;
pub use merger::Merger;
pub(crate) use merger::{MergeBases, MergeResult};

/// The task and job that a landing commit describes.
#[derive(Debug)]
pub struct LandingSubject<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The task.
    pub task: &'a TaskId,
    /// The planned task.
    pub planned: std::sync::Arc<crate::domain::plan::Task>,
    /// The attempt that made the candidate.
    pub attempt: u32,
    /// The job's name.
    pub job: &'a str,
    /// The job's goal.
    pub goal: &'a str,
}
