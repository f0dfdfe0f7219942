//! What the checks said of one tree, and whom a failure blames.

use super::id::Oid;

/// The commit an attempt proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The commit.
    pub commit: Oid,
    /// Its tree: what the checks judge.
    pub tree: Oid,
    /// The commit from which the attempt started.
    pub base: Oid,
}

/// One thing that is wrong, in words that the next attempt is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The attempt that earned it.
    pub attempt: u32,
    /// The check that found it, or one of the built-in names: `agent`, `scope`, `merge`, `review`,
    /// `evaluate`.
    pub check: String,
    /// What it said (capped by whoever made it).
    pub text: String,
}

impl Finding {
    /// The first line that says more than which command was run and how it ended.
    pub fn telling_line(&self) -> Option<&str> {
        let said = self.text.strip_prefix('`').and_then(|t| t.split_once("`: ")).map(|(_, t)| t);
        let said = said.unwrap_or(&self.text);
        let lines =
            || said.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("```"));
        let bare = |line: &&str| line.starts_with("exit ") || line.starts_with("signal ");
        lines().find(|l| !bare(l)).or_else(|| lines().next())
    }
}

/// One check's result on one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The check's name in the job.
    pub name: String,
    /// What makes the result reusable: a hash of expanded argv, OS, architecture and version output.
    pub key: String,
    /// Whether it passed.
    pub passed: bool,
    /// How long it ran, in milliseconds; 0 when it was known.
    pub ms: u64,
    /// The id under which this run's chain vouches for the verdict's note. The same id means the same evaluation.
    pub id: String,
}

/// A verdict of checks, of an evaluator or of the merge queue. `F` describes a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<F = Vec<Finding>> {
    /// The work is accepted.
    Passed,
    /// The work is rejected. A list of findings is never empty.
    Failed(F),
    /// No verdict was reached, for this reason: a fault of the infrastructure, never of the task.
    Errored(String),
}

/// The verdict of the checks on one tree, with the results behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The verdict that follows from the results.
    pub verdict: Verdict,
    /// The results in the job's order, as far as checks were run.
    pub results: Vec<CheckResult>,
}

/// The objection of an evaluator to a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The findings. Never empty.
    pub findings: Vec<Finding>,
    /// The digest of the findings: equal for equal findings in any order.
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::Finding;

    #[test]
    fn the_telling_line_is_what_was_said_and_not_what_was_run() {
        let cases = [
            (
                "`sh -c x`: exit 1\n\n```\nerror: no such field\nmore\n```",
                Some("error: no such field"),
            ),
            ("`sh -c x`: signal 9", Some("signal 9")),
            ("`a`: exit 2\n\n```\n\n```\n", Some("exit 2")),
            (
                "It touched `b`, which is not its own.",
                Some("It touched `b`, which is not its own."),
            ),
            ("\n  first  \nsecond", Some("first")),
            ("exit strategy\n", Some("exit strategy")),
            ("", None),
            ("\n \n", None),
        ];
        for (text, said) in cases {
            let finding = Finding { attempt: 1, check: "c".into(), text: text.into() };
            assert_eq!(finding.telling_line(), said, "{text:?}");
        }
    }
}
