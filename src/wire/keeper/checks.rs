//! Verifications: their checks, recorded verdicts and outcomes.

use serde::{Deserialize, Serialize};

use crate::wire::network::WireNetwork;

/// A verification.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChecksWork {
    /// The tree to verify.
    pub tree: String,
    /// The checks, in order.
    pub checks: Vec<CheckStep>,
    /// The entries of a merge queue whose candidates are in the tree, in order. After a restart,
    /// the worker forms the same train again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
}

/// A check of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStep {
    /// The name.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The command whose output is part of the verdict's key.
    pub version: Option<Vec<String>>,
    /// The time limit, in milliseconds.
    pub timeout_ms: u64,
    /// The arguments as they enter the verdict's key: without the path of the worktree.
    pub key_argv: Vec<String>,
    /// The part of the verdict's key for inputs outside the tree: a hash of the files that the job
    /// provides, and the tree with the rule files that were put back. Empty without such inputs.
    pub salt: String,
    /// The hash of the worktree's set-up, as part of the verdict's key. Empty without a set-up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub setup: String,
    /// The names of the environment variables that are passed to this check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The verdicts on this tree that are recorded and trusted. Empty if the check must run.
    pub known: Vec<KnownVerdict>,
    /// The built-in check that replaces the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuiltIn>,
    /// The rule files that are put back before the check runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_back: Option<RulesPutBack>,
    /// The network of the check in a sandbox; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<WireNetwork>,
}

/// Rule files that a check sees as they are on the target, not as the candidate leaves them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesPutBack {
    /// A commit that has the verified tree with these files put back.
    pub commit: String,
    /// The files.
    pub files: Vec<String>,
}

impl RulesPutBack {
    /// Returns the files for people: the first, and the number of the others.
    pub(crate) fn describe(&self) -> String {
        let first = self.files.first().map_or("", String::as_str);
        match self.files.len() {
            0 | 1 => format!("`{first}`"),
            n => format!("`{first}` and {} more", n - 1),
        }
    }
}

/// A built-in check.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BuiltIn {
    /// The task's files are the same programs as before, if types are ignored.
    AstEqual(AstEqual),
    /// The output file is there and conforms to its schema.
    HandedIn(HandedIn),
}

/// The check of an output file.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct HandedIn {
    /// The path of the output file.
    pub path: String,
    /// The name of the JSON Schema among the job's pinned files.
    pub schema: Option<String>,
}

/// The comparison of programs that ignores their types.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct AstEqual {
    /// The globs of the files before.
    pub from: Vec<String>,
    /// The globs of the files after.
    pub to: Vec<String>,
    /// The allowed differences beside types.
    pub options: AllowedDifferences,
    /// The commit that has the files before.
    pub base: String,
    /// The task's files.
    pub files: Vec<String>,
    /// True if the tree holds the work of other tasks too.
    pub merged: bool,
}

/// The differences that `ast-equal` allows beside types.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub struct AllowedDifferences {
    /// True if the extension of a relative import may change.
    pub extensions: bool,
    /// True if an unused import may become a type import.
    pub type_imports: bool,
    /// True if a field without a value is code and must stay.
    pub define_fields: bool,
    /// True if comments that silence the type checker may be added.
    pub ts_comments: bool,
    /// The largest number of `any` that a file may have.
    pub max_any: Option<usize>,
}

/// A recorded verdict of a check.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct KnownVerdict {
    /// The verdict's key.
    pub key: String,
    /// True if the check passed.
    pub passed: bool,
    /// The id under which a chain vouches for the verdict.
    pub id: String,
    /// The output of a failed check.
    pub text: String,
    /// The time of the verdict, in milliseconds since the Unix epoch. Only the supervisor uses it.
    #[serde(skip)]
    pub at: u64,
}

/// The outcome of a verification.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChecksOutcome {
    /// The format's version.
    pub v: u32,
    /// The verified tree.
    pub tree: String,
    /// The infrastructure fault that ended the verification.
    pub fault: Option<String>,
    /// The failure of a set-up that succeeds without the work. It ends the verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_failure: Option<String>,
    /// The outcomes of the checks, in order, up to the first fault.
    pub checks: Vec<CheckOutcome>,
}

/// The outcome of a check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CheckOutcome {
    /// The check's name.
    pub name: String,
    /// The verdict's key.
    pub key: String,
    /// True if the check passed.
    pub passed: bool,
    /// The id of a recorded verdict, if the check did not run.
    pub known: Option<String>,
    /// The duration in milliseconds.
    pub ms: u64,
    /// The output, shortened for a prompt.
    pub text: String,
}
