//! Candidates, verdicts, and the findings and results behind a verdict.

use super::id::Oid;

/// The work of an attempt, proposed for landing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The commit.
    pub commit: Oid,
    /// The commit's tree, which the checks verify.
    pub tree: Oid,
    /// The commit that the attempt started from.
    pub base: Oid,
}

/// A problem with a candidate, for the prompt of the next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The attempt that made the candidate.
    pub attempt: u32,
    /// The name of the check, or a built-in name: `agent`, `scope`, `merge`, `review`, `evaluate`.
    pub check: String,
    /// The description. The creator of the finding limits its length.
    pub text: String,
}

impl Finding {
    /// Returns the first line that says more than the command and its exit status, or else the
    /// first line that is not blank.
    pub fn summary_line(&self) -> Option<&str> {
        let after_command = self.text.strip_prefix('`').and_then(|t| t.split_once("`: "));
        let text = after_command.map_or(self.text.as_str(), |(_, text)| text);
        let lines =
            || text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("```"));
        let exit_status = |line: &&str| line.starts_with("exit ") || line.starts_with("signal ");
        lines().find(|l| !exit_status(l)).or_else(|| lines().next())
    }
}

/// The result of one check on one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The check's name in the job file.
    pub name: String,
    /// The key for reuse of the result: a hash of expanded argv, OS, architecture and version
    /// output.
    pub key: String,
    /// True if the check passed.
    pub passed: bool,
    /// The duration in milliseconds; 0 if the result was reused.
    pub ms: u64,
    /// The id by which the run's chain vouches for the result's note. Results with the same id come
    /// from the same execution.
    pub id: String,
}

/// A verdict of checks, of an evaluator or of the merge queue. `F` describes a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<F = Vec<Finding>> {
    /// The work is accepted.
    Passed,
    /// The work is rejected. If `F` is a list of findings, the list is not empty.
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

impl CheckReport {
    /// Returns the findings of a failed verdict. Empty for any other verdict.
    pub fn findings(&self) -> &[Finding] {
        match &self.verdict {
            Verdict::Failed(findings) => findings,
            Verdict::Passed | Verdict::Errored(_) => &[],
        }
    }
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
    fn summary_line_skips_the_command_and_its_exit_status() {
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
        for (text, expected) in cases {
            let finding = Finding { attempt: 1, check: "c".into(), text: text.into() };
            assert_eq!(finding.summary_line(), expected, "{text:?}");
        }
    }
}
