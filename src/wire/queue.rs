//! Events of a queue log, as the trailer `Harness-Data` holds them.

use serde::{Deserialize, Serialize};

use super::facts::{WireFinding, WireResult};
use crate::domain::id::Oid;

/// Object ids as text.
mod id {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::domain::id::Oid;

    pub(super) fn serialize<S: Serializer>(id: &Oid, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(id.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Oid, D::Error> {
        Oid::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// An optional object id as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectId(#[serde(with = "id")] pub Oid);

/// An entry of the queue and its commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryCommit {
    /// The branch, without `refs/heads/`, or `RUN/TASK`.
    pub entry: String,
    /// The commit.
    #[serde(with = "id")]
    pub commit: Oid,
}

/// An entry that has landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandedEntry {
    /// The branch, without `refs/heads/`, or `RUN/TASK`.
    pub entry: String,
    /// The entry's candidate.
    #[serde(with = "id")]
    pub commit: Oid,
    /// The commit on the target. Absent if the candidate was on the target already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed_as: Option<ObjectId>,
    /// The results of the checks of the entry's task. Empty for a branch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<WireResult>,
}

/// The reason why an entry was ejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Ejection {
    /// The entry fails the checks, alone on the target's tip.
    Rejected {
        /// The output of the failed checks.
        finding: String,
        /// The output as findings, for the next attempt of a task. Empty for a branch.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        findings: Vec<WireFinding>,
        /// The results of the failed verification. Empty for a branch.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        results: Vec<WireResult>,
        /// True if the entry was refused before its checks ran: the finding is the reason.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
        /// The tree that failed. Absent for a branch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tree: Option<ObjectId>,
        /// The landing together with which the entry fails. Without this landing, the entry passes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partner: Option<JointPartner>,
    },
    /// The entry does not merge with the target's tip.
    Conflict {
        /// The paths in conflict.
        sides: Vec<ConflictedPath>,
        /// The target's tip.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        onto: Option<ObjectId>,
    },
    /// A reviewer requested changes.
    ChangesRequested {
        /// The reviewer.
        by: String,
        /// The requested changes.
        message: String,
    },
    /// An entry that has to land first was ejected.
    Blocked {
        /// The ejected entry.
        by: String,
    },
}

/// The landing with which a rejected entry fails. The entry passes on the commit before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JointPartner {
    /// The landed entry. Absent if the commit was not made by a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The commit on the target.
    pub commit: ObjectId,
}

impl std::fmt::Display for JointPartner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let commit = self.commit.0.short();
        match &self.entry {
            Some(entry) => {
                write!(f, "passes alone, fails together with {entry} (landed as {commit})")
            }
            None => write!(f, "passes alone, fails together with {commit} on the target"),
        }
    }
}

/// A path in conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictedPath {
    /// The path.
    pub path: String,
    /// The id of the merge base's blob; `None` if the merge base has no such file.
    pub base: Option<String>,
    /// The id of the target's blob.
    pub target: Option<String>,
    /// The id of the branch's blob.
    pub branch: Option<String>,
    /// The target's commits that touched the path since the merge base, newest first.
    pub landed: Vec<TargetCommit>,
}

/// A commit of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetCommit {
    /// The id.
    pub id: String,
    /// The subject.
    pub subject: String,
}

/// An event of the queue log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum QueueEvent {
    /// A branch or a task was added to the queue.
    Added {
        /// The entry and its commit.
        #[serde(flatten)]
        candidate: EntryCommit,
        /// The attempt that made the candidate of a task `RUN/TASK`. Absent for a branch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// The priority. Entries with a higher number land first.
        priority: i64,
        /// The entries that have to land first.
        after: Vec<String>,
        /// The target's tip at that time, which does not contain the branch.
        #[serde(with = "id")]
        tip: Oid,
        /// The person who added the branch, or the supervisor that added the task.
        by: String,
    },
    /// The branch has moved to another commit.
    Replaced(EntryCommit),
    /// A reviewer approved the entry.
    Approved {
        /// The reviewed commit.
        #[serde(flatten)]
        candidate: EntryCommit,
        /// The reviewer.
        by: String,
    },
    /// The entry was removed by a person, or its branch is gone.
    Removed {
        /// The entry.
        entry: String,
        /// The reason, with the person's name.
        why: String,
    },
    /// The queue was paused: no new train starts.
    Paused {
        /// The person who paused the queue.
        by: String,
    },
    /// The queue was resumed.
    Resumed {
        /// The person who resumed the queue.
        by: String,
    },
    /// The checks have passed or failed on a tree.
    Verified {
        /// A commit with that tree.
        #[serde(with = "id")]
        commit: Oid,
        /// The tree.
        #[serde(with = "id")]
        tree: Oid,
        /// The entries that the tree contains and the target does not.
        entries: Vec<String>,
        /// True if all checks passed.
        passed: bool,
        /// The results of the checks. The log vouches for verdict notes that have the ids of these
        /// results.
        results: Vec<WireResult>,
        /// The duration in milliseconds.
        ms: u64,
    },
    /// Entries have landed.
    Landed {
        /// The tip of the target before the landing.
        #[serde(with = "id")]
        old: Oid,
        /// The tip of the target after the landing.
        #[serde(with = "id")]
        new: Oid,
        /// The entries in the order in which they landed.
        entries: Vec<LandedEntry>,
    },
    /// An entry left the queue without having landed.
    Ejected {
        /// The entry and its commit.
        #[serde(flatten)]
        candidate: EntryCommit,
        /// The reason.
        #[serde(flatten)]
        reason: Ejection,
    },
}
