//! The scope: the paths that a task may change.

use crate::domain::verdict::Finding;
use crate::job::ScopeSection;

/// The number of paths that a finding lists.
const LISTED: usize = 50;

/// Returns the finding that the file to hand in is missing.
pub(crate) fn missing_output(path: &str, attempt: u32) -> Finding {
    let text = format!(
        "`{path}` is not there, and that is the file to hand in. What is printed does not count."
    );
    Finding { attempt, check: "agent".into(), text }
}

/// Returns a finding about changes outside the scope, if there are any.
pub(crate) fn violation(
    scope: &ScopeSection,
    task_files: &[String],
    changed: &[String],
    attempt: u32,
) -> Option<Finding> {
    let outside: Vec<_> = changed.iter().filter(|p| !scope.allows(task_files, p)).collect();
    if outside.is_empty() {
        return None;
    }
    let mut text =
        format!("{} of the changed paths may not be changed by this task:\n", outside.len());
    for path in outside.iter().take(LISTED) {
        let why = if scope.read_only.matches(path) { " (read-only)" } else { "" };
        text.push_str(&format!("- `{path}`{why}\n"));
    }
    if outside.len() > LISTED {
        text.push_str(&format!("- … and {} more\n", outside.len() - LISTED));
    }
    text.push_str("Leave them exactly as they are.");
    Some(Finding { attempt, check: "scope".into(), text })
}
