//! The merge queue of one target. The queue decides which entries form a train, land, or are
//! ejected.
//!
//! The state is a fold over inputs, and the owed effects are a function of the state alone.
//! Recovery is therefore a replay of the inputs. Waiting entries are grouped; each group is built
//! into a `train`, and prefixes of the train are verified.
//!
//! - With a concurrency of 1, the train stands on the target's tip. A train that passes lands. A
//!   train that fails is bisected, left half first. The longest prefix that passes lands. The entry
//!   behind this prefix makes the train fail and is verified alone on the tip. The later entries
//!   return to the queue, because no verdict covers them.
//! - With a higher concurrency, all verifications but one belong to lanes. A lane screens a group
//!   in the same way but lands nothing. Entries that the bisection of a lane no longer needs go to
//!   other lanes. The integrator merges the groups that have passed, verifies the union on the real
//!   tip and lands it. If the union fails, prefixes of whole groups are verified. The longest
//!   prefix that passes lands. The group behind this prefix goes to a lane as a known failure, and
//!   the remaining groups are integrated again.
//!
//! The size of a group follows from the failure rate of the target's entries; see
//! [`FailureRate`].
//!
//! The landing rule: only a prefix of a train that stands on the target's tip lands, and only with
//! a passed verdict for its tree. An entry is rejected only if it fails alone on the tip and the
//! tip itself passes, or if it conflicts with the tip. Lanes and groups only save time: the rule
//! holds even if their verdicts are wrong.

mod check;
mod entry;
mod fold;
mod id;
mod joint;
mod outcome;
mod owed;
mod rate;
mod schedule;
mod state;
#[cfg(test)]
mod tests;
mod train;
mod transitions;
mod types;
mod waiting;

pub use self::entry::{EjectReason, Entry, EntryStatus, QueueItem};
pub use self::id::{EntryId, TrainId};
pub use self::joint::{JointSearch, JointStep};
pub use self::rate::{FailureRate, LARGEST_GROUP};
pub use self::state::{Queue, QueueSettings};
pub use self::train::{FailedPrefix, Train};
pub use self::types::{Car, Conflict, QueueEffect, QueueInput, StopReason, TrainKind};
pub use self::waiting::landing_order;
