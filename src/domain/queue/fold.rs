//! The fold over the inputs.

use super::state::Queue;
use super::types::{QueueInput, StopReason};

impl Queue {
    /// Folds an input and draws all conclusions. Every input is accepted: a late or repeated input
    /// has no effect, except for landings.
    pub fn apply(&mut self, input: QueueInput) {
        self.fold(input);
        self.settle();
    }

    /// Folds an input without drawing conclusions. For batches of inputs; call [`Queue::settle`]
    /// afterwards.
    pub fn fold(&mut self, input: QueueInput) {
        match input {
            QueueInput::Added(entries) => self.added(entries),
            QueueInput::Removed(entry) => self.removed(&entry),
            QueueInput::Replaced { entry, candidate } => self.replaced(&entry, candidate),
            QueueInput::Held(entry) => self.set_held(&entry, true),
            QueueInput::Released(entry) => self.set_held(&entry, false),
            QueueInput::Built { train, cars, conflicts } => self.built(train, cars, conflicts),
            QueueInput::Verified { train, prefix, attempt, verdict } => {
                self.record_verdict(train, prefix, attempt, verdict);
            }
            QueueInput::TreePassed(tree) => self.tree_passed(tree),
            QueueInput::Landed { tip, tree, entries } => self.landed(tip, tree, &entries),
            QueueInput::TargetMoved { tip, tree } => self.target_moved(tip, tree),
            QueueInput::ConflictFound { entry, candidate, tip, paths } => {
                self.eject_conflicting(&entry, &candidate, &tip, paths);
            }
            QueueInput::Refused { entry, candidate, reason } => {
                self.refused(&entry, &candidate, reason);
            }
            QueueInput::Rejected(entry) => self.rejected(&entry),
            QueueInput::Ejected { entry, candidate } => {
                if self.items.get(&entry).is_some_and(|i| i.entry.candidate == candidate) {
                    self.unrecorded_ejections.remove(&entry);
                }
            }
            QueueInput::Paused => self.stop = Some(StopReason::Paused),
            QueueInput::Resumed => self.stop = None,
        }
    }
}
