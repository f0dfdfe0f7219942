//! The scope: the paths that a task may change, and the content that no candidate may add. Nothing
//! here runs a check.

use anyhow::Result;

use super::rules::RuleFiles;
use crate::domain::id::Oid;
use crate::domain::verdict::Finding;
use crate::job::{ScopeSection, format_size};
use crate::repo::{self, PathContent, Repo, UnsafeEntry};
use crate::wire::keeper::WithheldFile;

/// The number of paths that a finding lists.
const LISTED: usize = 50;

/// Returns the finding that the file to hand in is missing.
pub(crate) fn missing_output(path: &str, attempt: u32) -> Finding {
    let text = format!(
        "`{path}` is not there, and that is the file to hand in. What is printed does not count."
    );
    Finding { attempt, check: "agent".into(), text }
}

/// Returns the finding about files that were left out of the candidate because they have secrets.
pub(crate) fn secrets(withheld: &[WithheldFile], attempt: u32) -> Option<Finding> {
    let line = |file: &WithheldFile| {
        format!("`{}:{}` has the value of the variable `{}`", file.path, file.line, file.variable)
    };
    (!withheld.is_empty()).then(|| {
        let text = format!(
            "No file may contain a secret:\n{}The files were left out of the commit. Read the variable when the program \
             runs, and do not write its value anywhere.",
            listed(&withheld.iter().map(line).collect::<Vec<_>>())
        );
        Finding { attempt, check: "secret".into(), text }
    })
}

/// The scope of one task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskScope<'a> {
    /// The section of the job.
    pub section: &'a ScopeSection,
    /// The rule files. The task may change only those that the section names.
    pub rules: &'a RuleFiles,
    /// The task's files.
    pub task_files: &'a [String],
}

impl TaskScope<'_> {
    /// Returns the findings about the change from `base` to `tree`.
    pub(crate) fn violations(
        &self,
        repo: &Repo,
        (base, tree): (&Oid, &Oid),
        attempt: u32,
    ) -> Result<Vec<Finding>> {
        let changed = repo::changed_contents(repo, base, tree)?;
        let paths = changed.iter().map(|(path, _)| path.as_str());
        let found = [
            self.out_of_scope(paths).map(|text| ("scope", text)),
            submodules(&changed).map(|text| ("scope", text)),
            large_files(self.section.max_file_size, &changed).map(|text| ("scope", text)),
            unsafe_entries(&repo::added_unsafe_entries(repo, base, tree)?)
                .map(|text| ("scope", text)),
            conflict_markers(repo, base, tree)?.map(|text| ("merge", text)),
        ];
        let finding =
            |(check, text): (&str, String)| Finding { attempt, check: check.into(), text };
        Ok(found.into_iter().flatten().map(finding).collect())
    }

    /// Returns true if the task must not change the path because it is a rule file. A task may
    /// change the rule files that the section names without a wildcard.
    fn is_closed_rule_file(&self, path: &str) -> bool {
        self.rules.has(path) && !self.section.names(path)
    }

    fn out_of_scope<'a>(&self, changed: impl Iterator<Item = &'a str>) -> Option<String> {
        let is_outside = |path: &&str| {
            !self.section.allows(self.task_files, path) || self.is_closed_rule_file(path)
        };
        let outside: Vec<_> = changed.filter(is_outside).collect();
        let line = |path: &&str| {
            let why = match (self.section.read_only.matches(path), self.is_closed_rule_file(path)) {
                (true, _) => " (read-only)",
                (false, true) => " (a rule file: it decides whether this work is accepted)",
                (false, false) => "",
            };
            format!("`{path}`{why}")
        };
        let count = outside.len();
        let paths = listed(&outside.iter().map(line).collect::<Vec<_>>());
        (count > 0).then(|| {
            format!(
                "{count} of the changed paths may not be changed by this task:\n{paths}Leave them exactly as they are."
            )
        })
    }
}

fn submodules(changed: &[(String, PathContent)]) -> Option<String> {
    let is_submodule = |(_, content): &&(String, PathContent)| *content == PathContent::Submodule;
    let found: Vec<_> =
        changed.iter().filter(is_submodule).map(|(path, _)| format!("`{path}`")).collect();
    (!found.is_empty()).then(|| {
        format!(
            "A git repository or a submodule lies in the worktree, and its files would be missing in the commit:\n{}\
             Remove the folder, or only the `.git` in it if its files are part of the work.",
            listed(&found)
        )
    })
}

fn unsafe_entries(found: &[UnsafeEntry]) -> Option<String> {
    let line = |entry: &UnsafeEntry| match entry {
        UnsafeEntry::Link { path, target } => format!("`{path}` leads to `{target}`"),
        UnsafeEntry::Modules { setting } => format!("`.gitmodules` has `{setting}`"),
    };
    (!found.is_empty()).then(|| {
        format!(
            "The target of a symbolic link must be inside the repository and may have `..` only at its start. Submodules \
             must not name commands or options:\n{}Remove them, or copy the content.",
            listed(&found.iter().map(line).collect::<Vec<_>>())
        )
    })
}

fn large_files(most: u64, changed: &[(String, PathContent)]) -> Option<String> {
    let line = |(path, content): &(String, PathContent)| match content {
        PathContent::File(size) if *size > most => {
            Some(format!("`{path}`: {}", format_size(*size)))
        }
        PathContent::File(_) | PathContent::Nothing | PathContent::Submodule => None,
    };
    let found: Vec<_> = changed.iter().filter_map(line).collect();
    (!found.is_empty()).then(|| {
        format!(
            "A file may have at most {} (`[scope] max-file-size`):\n{}Remove them, or make them smaller.",
            format_size(most),
            listed(&found)
        )
    })
}

fn conflict_markers(repo: &Repo, base: &Oid, tree: &Oid) -> Result<Option<String>> {
    let found = repo::added_conflict_markers(repo, base, tree)?;
    let line = |marker: &repo::MarkerLine| {
        format!("`{}:{}: leftover conflict marker`", marker.path, marker.line)
    };
    let lines: Vec<_> = found.iter().map(line).collect();
    Ok((!lines.is_empty()).then(|| {
        format!(
            "The change adds conflict markers (`git diff --check`):\n{}Resolve the conflicts and remove the markers.",
            listed(&lines)
        )
    }))
}

/// Formats a list of at most [`LISTED`] lines.
fn listed(lines: &[String]) -> String {
    let mut text: String = lines.iter().take(LISTED).map(|line| format!("- {line}\n")).collect();
    if lines.len() > LISTED {
        text.push_str(&format!("- … and {} more\n", lines.len() - LISTED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::TaskScope;
    use crate::job;
    use crate::verify::rules::RuleFiles;

    /// Returns the text of the finding about a task with the file `src/a.js` that changes `path`.
    fn finding(scope: &str, path: &str) -> Option<String> {
        let text = format!(
            "[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n[scope]\n{scope}\n\
             [[check]]\nname = \"c\"\nrun = [\"ci/check.sh\", \"src/a.js\"]\n"
        );
        let job = job::parse(&text, "harness.toml").unwrap();
        let rules = RuleFiles::of(&job, "harness.toml");
        let files = ["src/a.js".to_owned()];
        let scope = TaskScope { section: &job.scope, rules: &rules, task_files: &files };
        scope.out_of_scope([path].into_iter())
    }

    #[test]
    fn rule_file_is_in_scope_only_if_named_without_a_wildcard() {
        let table = [
            ("", "ci/check.sh", true),
            ("write = [\"**\"]", "ci/check.sh", true),
            ("write = [\"**\"]", "harness.toml", true),
            ("write = [\"**\"]\nprotect = [\"docs\"]", "docs/a", true),
            ("write = [\"ci\"]", "ci/check.sh", true),
            ("always = [\"ci/check.s?\"]", "ci/check.sh", true),
            ("write = [\"**\"]", "ci", true),
            ("write = [\"ci/check.sh\"]", "ci/check.sh", false),
            ("always = [\"./ci/check.sh\"]", "ci/check.sh", false),
            ("write = [\"ci/check.sh\"]\nread-only = [\"ci\"]", "ci/check.sh", true),
            ("", "src/a.js", false),
            ("protect = [\"src\"]", "src/a.js", true),
            ("write = [\"**\"]", "ci/other.sh", false),
        ];
        for (scope, path, outside) in table {
            assert_eq!(finding(scope, path).is_some(), outside, "{scope}: {path}");
        }
    }

    #[test]
    fn scope_finding_says_why_a_rule_file_must_stay() {
        let text = finding("write = [\"**\"]", "ci/check.sh").unwrap();
        assert!(text.contains("- `ci/check.sh` (a rule file: "), "{text}");
    }
}
