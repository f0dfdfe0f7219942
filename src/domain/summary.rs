//! The word that describes a run as a whole.

use super::machine::stalled;
use super::phase::Phase;
use super::state::{RunPhase, RunState};

impl RunState {
    /// Returns the word that `status` shows for the run.
    pub fn summary(&self) -> &'static str {
        match self.phase {
            RunPhase::Cancelled => "cancelled",
            RunPhase::Active | RunPhase::Paused | RunPhase::Halted if self.ended() => "ended",
            RunPhase::Paused if self.count(&Phase::Running) > 0 => "draining",
            // The remaining tasks cannot start, even though no event halted the run.
            RunPhase::Active if stalled(self) => "halted",
            RunPhase::Active => "active",
            RunPhase::Paused => "paused",
            RunPhase::Halted => "halted",
        }
    }
}
