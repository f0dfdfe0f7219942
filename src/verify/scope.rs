//! The scope: the paths that a task may change, and the content that no candidate may add. Nothing
//! here runs a check.

use anyhow::Result;

use crate::domain::id::Oid;
use crate::domain::verdict::Finding;
use crate::job::{ScopeSection, format_size};
use crate::repo::{self, PathContent, Repo};

/// The number of paths that a finding lists.
const LISTED: usize = 50;

/// Returns the finding that the file to hand in is missing.
pub(crate) fn missing_output(path: &str, attempt: u32) -> Finding {
    let text = format!(
        "`{path}` is not there, and that is the file to hand in. What is printed does not count."
    );
    Finding { attempt, check: "agent".into(), text }
}

/// Returns the findings about the change from `base` to `tree`.
pub(crate) fn violations(
    repo: &Repo,
    scope: &ScopeSection,
    task_files: &[String],
    (base, tree): (&Oid, &Oid),
    attempt: u32,
) -> Result<Vec<Finding>> {
    let changed = repo::changed_contents(repo, base, tree)?;
    let paths = changed.iter().map(|(path, _)| path.as_str());
    let found = [
        out_of_scope(scope, task_files, paths).map(|text| ("scope", text)),
        submodules(&changed).map(|text| ("scope", text)),
        large_files(scope.max_file_size, &changed).map(|text| ("scope", text)),
        conflict_markers(repo, base, tree)?.map(|text| ("merge", text)),
    ];
    let finding = |(check, text): (&str, String)| Finding { attempt, check: check.into(), text };
    Ok(found.into_iter().flatten().map(finding).collect())
}

fn out_of_scope<'a>(
    scope: &ScopeSection,
    task_files: &[String],
    changed: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let outside: Vec<_> = changed.filter(|path| !scope.allows(task_files, path)).collect();
    let line = |path: &&str| {
        let why = if scope.read_only.matches(path) { " (read-only)" } else { "" };
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
