//! Review: a person reads what the checks have accepted, and says whether it lands.

use super::id::{Oid, Timestamp};

/// A person's word that a candidate may land: exactly this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who: name and address.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The candidate.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
}

/// Where a task stands with its reviewers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Review {
    /// The approval of the candidate as it is; a new candidate has none.
    pub approval: Option<Approval>,
    /// Whether a person has made the candidate out of an attempt's: no scope binds a person.
    pub revised: bool,
}
