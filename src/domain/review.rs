//! The review of a candidate by a person.

use super::id::{Oid, Timestamp};

/// A person's approval of one candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The reviewer: name and address.
    pub by: String,
    /// The time of the approval.
    pub at: Timestamp,
    /// The candidate's commit.
    pub commit: Oid,
    /// The candidate's tree.
    pub tree: Oid,
}

/// The state of a task's review.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Review {
    /// The approval of the current candidate. A new candidate has none.
    pub approval: Option<Approval>,
    /// True if a person committed the candidate. The scope does not apply to people.
    pub revised: bool,
}
