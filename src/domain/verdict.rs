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
    /// The name of the check, or a built-in name: `agent`, `setup`, `scope`, `merge`, `review`,
    /// `evaluate`.
    pub check: String,
    /// The description. The creator of the finding limits its length.
    pub text: String,
}

impl Finding {
    /// Returns the line that carries the error. For the output of a check this is the first line
    /// that names an error. Otherwise it is the first line that says more than the command and its
    /// exit status, or else the first line that is not blank.
    pub fn summary_line(&self) -> Option<&str> {
        let (command, text) = self.split_command();
        let lines =
            || text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("```"));
        let exit_status = |line: &&str| line.starts_with("exit ") || line.starts_with("signal ");
        let output = || lines().filter(|line| !exit_status(line) && !line.starts_with(HINT));
        let worst = command.and_then(|_| {
            let ranked = output().map(|line| (error_rank(line), line));
            ranked.filter(|(rank, _)| *rank > 0).reduce(|a, b| if b.0 > a.0 { b } else { a })
        });
        let line = worst.map(|(_, line)| line);
        line.or_else(|| output().next()).or_else(|| lines().next())
    }

    /// Returns the hint for a person, without its prefix.
    pub fn hint(&self) -> Option<&str> {
        self.text.lines().find_map(|line| line.trim().strip_prefix(HINT))
    }

    /// Describes the finding on one line: the command line of the check, the line that carries the
    /// error, and the hint.
    pub fn in_words(&self) -> Option<String> {
        let line = self.summary_line()?;
        let hint = self.hint().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
        Some(match self.split_command().0 {
            Some(command) => format!("`{}`: {line}{hint}", abbreviated(command)),
            None => format!("{line}{}{hint}", self.listed_after(line)),
        })
    }

    /// Returns the first item of the list that a line announces, and the number of the others.
    fn listed_after(&self, line: &str) -> String {
        let rest = self.text.split_once(line).map_or("", |(_, rest)| rest);
        let mut items = rest.lines().skip(1).map_while(|line| line.strip_prefix("- "));
        match (line.ends_with(':'), items.next()) {
            (true, Some(first)) => match items.count() {
                0 => format!(" {first}"),
                more => format!(" {first} and {more} more"),
            },
            (true, None) | (false, _) => String::new(),
        }
    }

    /// Splits the text of a check's finding into the command line and the rest.
    fn split_command(&self) -> (Option<&str>, &str) {
        match self.text.strip_prefix('`').and_then(|text| text.split_once("`: ")) {
            Some((command, text)) => (Some(command), text),
            None => (None, &self.text),
        }
    }
}

/// The prefix of a line that advises a person. No change to the task's files can follow the advice.
pub const HINT: &str = "hint: ";

/// The longest command line, in characters, that is quoted without a cut.
const QUOTED_COMMAND: usize = 60;

/// Returns a command line on one line, cut at its end if it is long.
fn abbreviated(command: &str) -> String {
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= QUOTED_COMMAND {
        return line;
    }
    format!("{}…", line.chars().take(QUOTED_COMMAND - 1).collect::<String>())
}

/// Ranks a line of a program's output: 2 if it reports an error, 1 if it mentions a failure, 0 for
/// any other line. Rank 0 includes lines that count no errors ("0 errors") and lines of tools that
/// only run other tools (npm, make).
pub fn error_rank(line: &str) -> u8 {
    let line = line.trim().to_ascii_lowercase();
    let none = ["0 error", "no error", "0 fail", "no fail", "errors: 0", "failures: 0"];
    let frames = ["npm ", "yarn ", "at ", "> ", "make: ", "make["];
    if none.iter().any(|text| line.contains(text)) || frames.iter().any(|f| line.starts_with(f)) {
        return 0;
    }
    let starts = ["e   ", "not ok", "fatal:", "fail ", "failed ", "✗", "✖", "×", "--- fail"];
    let reports = ["error:", "error[", "error ts", "exception:", "panicked at", " - error "];
    if starts.iter().any(|text| line.starts_with(text)) || reports.iter().any(|r| line.contains(r))
    {
        return 2;
    }
    let mentions = ["error", "fail", "fatal", "exception", "panic", "cannot ", "not found"];
    u8::from(mentions.iter().any(|text| line.contains(text)))
}

/// Findings with the same check and text, and their attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatedFinding<'a> {
    /// The first of the findings.
    pub finding: &'a Finding,
    /// The attempt of each finding, in order. An attempt may occur more than once.
    pub attempts: Vec<u32>,
}

impl RepeatedFinding<'_> {
    /// Returns the attempts and, if it differs from their number, the number of findings:
    /// `attempt 1`, `attempts 1 and 3`, `attempt 2 (4 times)`.
    pub fn attempts_in_words(&self) -> String {
        let mut attempts = self.attempts.clone();
        attempts.dedup();
        let numbers: Vec<_> = attempts.iter().map(ToString::to_string).collect();
        let list = match numbers.split_last() {
            Some((last, [])) => format!("attempt {last}"),
            Some((last, first)) => format!("attempts {} and {last}", first.join(", ")),
            None => String::new(),
        };
        match self.attempts.len() {
            count if count > numbers.len() => format!("{list} ({count} times)"),
            _ => list,
        }
    }
}

/// Groups equal findings, in the order of their first occurrence.
pub fn group_findings(findings: &[Finding]) -> Vec<RepeatedFinding<'_>> {
    let mut groups: Vec<RepeatedFinding<'_>> = Vec::new();
    for finding in findings {
        let is_equal = |group: &&mut RepeatedFinding<'_>| {
            group.finding.check == finding.check && group.finding.text == finding.text
        };
        match groups.iter_mut().find(is_equal) {
            Some(group) => group.attempts.push(finding.attempt),
            None => groups.push(RepeatedFinding { finding, attempts: vec![finding.attempt] }),
        }
    }
    groups
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
    use super::{Finding, group_findings};

    fn finding(attempt: u32, text: &str) -> Finding {
        Finding { attempt, check: "tests".into(), text: text.into() }
    }

    #[test]
    fn summary_line_of_a_check_is_the_line_that_carries_the_error() {
        let node = "> pkg@1.0.0 test\n> node --test\n\n✔ adds\nnot ok 2 - subtracts\nerror: 'no'";
        let tsc =
            "\n> tsc --noEmit\nFound 0 errors in lib.\nsrc/a.ts(1,7): error TS2322: Type 'x'.";
        let python = "Traceback (most recent call last):\n  File \"a.py\"\nValueError: bad literal";
        let npm = "npm error Lifecycle script failed\nbuild fails\nAssertionError: 1 == 2\n    at x (error:1)";
        for (output, line) in [
            (node, "not ok 2 - subtracts"),
            (tsc, "src/a.ts(1,7): error TS2322: Type 'x'."),
            (python, "ValueError: bad literal"),
            (npm, "AssertionError: 1 == 2"),
            ("all is well\nmore", "all is well"),
        ] {
            let finding = finding(1, &format!("`npm test`: exit 1\n{output}"));
            assert_eq!(finding.summary_line(), Some(line));
        }
        let words = finding(1, "The attempt changed nothing.\nerror: no such option");
        assert_eq!(words.summary_line(), Some("The attempt changed nothing."));
    }

    #[test]
    fn finding_in_words_has_the_command_line_the_error_the_first_item_and_the_hint() {
        let text = "`npx tsc`: exit 1\nhint: install it\nnot found: tsc";
        let words = finding(1, text).in_words();
        assert_eq!(words.as_deref(), Some("`npx tsc`: not found: tsc (hint: install it)"));
        let long = format!("`sh -c '{}'`: exit 1\nerror: x", "y ".repeat(80));
        let words = finding(1, &long).in_words().unwrap();
        assert!(words.ends_with("y y …`: error: x"), "{words}");
        assert_eq!(words.chars().count(), 60 + "``: error: x".len());
        assert_eq!(finding(1, "No.").in_words().as_deref(), Some("No."));
        for (text, words) in [
            ("2 paths:\n- `a`\n- `b`\nLeave them.", "2 paths: `a` and 1 more"),
            ("A path:\n- `a`\nLeave it.", "A path: `a`"),
            ("A path:\n", "A path:"),
            ("Bad.\n- `a`", "Bad."),
        ] {
            assert_eq!(finding(1, text).in_words().as_deref(), Some(words));
        }
    }

    #[test]
    fn equal_findings_are_grouped_with_their_attempts_and_count() {
        let findings = [finding(1, "a"), finding(1, "b"), finding(2, "a"), finding(4, "a")];
        let groups = group_findings(&findings);
        let words: Vec<_> = groups.iter().map(|group| group.attempts_in_words()).collect();
        assert_eq!(words, ["attempts 1, 2 and 4", "attempt 1"]);
        let twice = [finding(2, "a"), finding(2, "a"), finding(3, "a")];
        assert_eq!(group_findings(&twice)[0].attempts_in_words(), "attempts 2 and 3 (3 times)");
    }

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
