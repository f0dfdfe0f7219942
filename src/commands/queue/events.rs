//! Events of a queue as lines for people.

use crate::domain::id::Oid;
use crate::domain::queue::TrainKind;
use crate::engine::queue::QueueReport;
use crate::engine::queue::host::QueuedEntry;
use crate::ui::{Ui, human};
use crate::wire::queue::{ConflictedPath, Ejection, QueueEvent};

/// The number of lines of a finding that are shown.
const FINDING_LINES: usize = 20;
/// The number of hex digits of an object id that are shown.
const SHORT_ID: usize = 12;

/// Prints a report of the worker.
pub(super) fn report(report: &QueueReport<'_>, ui: &Ui) {
    match report {
        QueueReport::Note(text) => ui.status(&format!("note: {text}")),
        QueueReport::Verifying(kind, entries) => {
            let verb = match kind {
                TrainKind::Lane => "screening",
                TrainKind::Integrate => "verifying",
                TrainKind::Confirm => "verifying alone",
            };
            ui.status(&format!("{verb} {}", names(entries)));
        }
        QueueReport::Event(event) => lines(event).iter().for_each(|line| ui.status(line)),
    }
}

fn names(entries: &[QueuedEntry]) -> String {
    if entries.is_empty() {
        return "the target's tip".into();
    }
    entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>().join(", ")
}

fn lines(event: &QueueEvent) -> Vec<String> {
    match event {
        QueueEvent::Added { candidate, .. } => {
            vec![format!("{}: added at {}", candidate.entry, candidate.commit.short())]
        }
        QueueEvent::Replaced(candidate) => {
            let (entry, commit) = (&candidate.entry, candidate.commit.short());
            vec![format!("{entry}: moved to {commit}; it is verified again")]
        }
        QueueEvent::Approved { candidate, by } => {
            vec![format!("{}: approved by {by}", candidate.entry)]
        }
        QueueEvent::Removed { entry, why } => vec![format!("{entry}: {why}")],
        QueueEvent::Paused { by } => vec![format!("paused by {by}")],
        QueueEvent::Resumed { by } => vec![format!("resumed by {by}")],
        QueueEvent::Verified { passed, ms, .. } => {
            let word = if *passed { "passed" } else { "failed" };
            vec![format!("{word} ({})", human::duration(*ms))]
        }
        QueueEvent::Landed { new, entries, .. } => {
            let with_commit = entries.iter().filter(|landed| landed.landed_as.is_some());
            let names: Vec<&str> = with_commit.map(|landed| landed.entry.as_str()).collect();
            let mut lines = Vec::new();
            if !names.is_empty() {
                lines.push(format!("landed: {} as {}", names.join(", "), new.short()));
            }
            let without = entries.iter().filter(|landed| landed.landed_as.is_none());
            lines.extend(without.map(|landed| nothing_landed(&landed.entry)));
            lines
        }
        QueueEvent::Ejected { candidate, reason } => ejection(&candidate.entry, reason),
    }
}

/// Returns the line about a branch that has landed without a commit.
pub(super) fn nothing_landed(entry: &str) -> String {
    format!("{entry}: landed without a commit: the target had its content already")
}

/// Returns the line about a landed entry and a rejected entry that fails only together with it.
pub(in crate::commands) fn joint_failure(landed: &str, rejected: &str, candidate: &Oid) -> String {
    format!("{landed}: fails together with {rejected} ({}), which passes alone", candidate.short())
}

/// Returns the reason why a branch did not land, as lines.
pub(super) fn ejection(entry: &str, reason: &Ejection) -> Vec<String> {
    let indented = |text: &str| format!("    {text}");
    match reason {
        Ejection::Blocked { by } => {
            vec![format!("{entry}: blocked: it comes after `{by}`, which did not land")]
        }
        Ejection::ChangesRequested { by, message } => {
            let head = format!("{entry}: changes requested by {by}");
            std::iter::once(head).chain(message.lines().map(indented)).collect()
        }
        Ejection::Rejected { finding, refused: true, .. } => {
            let mut lines = finding.lines();
            let head = format!("{entry}: rejected: {}", lines.next().unwrap_or_default());
            std::iter::once(head).chain(lines.map(indented)).collect()
        }
        Ejection::Rejected { finding, refused: false, partner, .. } => {
            let head = match partner {
                Some(partner) => format!("{entry}: rejected: {partner}"),
                None => format!("{entry}: rejected: it fails alone on the target"),
            };
            let finding = finding.lines().take(FINDING_LINES);
            std::iter::once(head).chain(finding.map(indented)).collect()
        }
        Ejection::Conflict { sides, .. } => {
            let head = format!(
                "{entry}: conflicts with the target; merge the target into it and add it again"
            );
            std::iter::once(head).chain(sides.iter().flat_map(conflict)).collect()
        }
    }
}

/// Describes a path in conflict: its blobs on all sides, and the target's commits that touched the
/// path.
fn conflict(path: &ConflictedPath) -> Vec<String> {
    let mut lines = vec![format!("    {}", path.path)];
    let short = |id: &str| id.get(..SHORT_ID).unwrap_or(id).to_owned();
    let blob = |id: &Option<String>| id.as_deref().map_or_else(|| "no file".to_owned(), short);
    if path.base.is_some() || path.target.is_some() || path.branch.is_some() {
        lines.push(format!(
            "        base {}, target {}, branch {}",
            blob(&path.base),
            blob(&path.target),
            blob(&path.branch)
        ));
    }
    for landed in &path.landed {
        let (commit, subject) = (short(&landed.id), &landed.subject);
        lines.push(format!("        changed on the target by {commit} {subject}"));
    }
    lines
}
