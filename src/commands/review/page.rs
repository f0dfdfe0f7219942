//! The page on which a person reviews a candidate.

use anyhow::Result;
use similar::{ChangeTag, TextDiff};

use crate::agent::classify::{SessionExit, final_message};
use crate::agent::preset::{self, COMMAND};
use crate::commands::workspace::Workspace;
use crate::domain::event::TaskEventKind;
use crate::domain::id::TaskId;
use crate::domain::plan::Task;
use crate::domain::state::TaskState;
use crate::domain::verdict::{Candidate, CheckResult, Finding};
use crate::repo::{self, FileChange};
use crate::store::{chain, codec, layout};
use crate::ui::tone::Tone;
use crate::ui::{human, json, printable, table};
use crate::wire::cli;

/// The number of lines at the end of a command's output that are shown as its message.
const MESSAGE_LINES: usize = 12;
/// The number of unchanged lines that are shown around a change.
const CONTEXT: usize = 3;

/// A candidate with the evidence for a decision.
pub(super) struct CandidatePage {
    run: String,
    target: String,
    planned: Task,
    state: TaskState,
    candidate: Candidate,
    changes: Vec<FileChange>,
    /// The results of the checks on the candidate's tree.
    checks: Vec<CheckResult>,
    /// The findings about earlier attempts.
    findings: Vec<Finding>,
    /// The agent's last message.
    message: Option<String>,
}

impl CandidatePage {
    /// Reads everything about a candidate.
    pub(super) fn read(
        workspace: &Workspace,
        task: &TaskId,
        candidate: &Candidate,
    ) -> Result<Self> {
        let (planned, s) = workspace.find_task(task)?;
        let (store, loaded) = (&workspace.store, &workspace.loaded);
        let mut checks = Vec::new();
        let mut findings = Vec::new();
        let mut message = None;
        if let Some(tip) = loaded.ledger.tips.get(task) {
            let chain = layout::task(workspace.run(), task);
            // Newest first: only the newest verdict can be about this tree.
            for (_, text) in store.messages(&tip.commit)? {
                if let TaskEventKind::Verified { tree, results, landing: false, .. } =
                    codec::read_task_event(&chain, &text)?.kind
                {
                    if tree == candidate.tree {
                        checks = results;
                    }
                    break;
                }
            }
            findings = chain::findings(store, &tip.tree)?;
            let path = format!("attempts/{}/stdout", s.attempt);
            let stdout = store.repo().read_blob_at(&tip.tree, &path)?;
            message = stdout.and_then(|stdout| last_message(workspace, &stdout));
        }
        Ok(Self {
            run: loaded.manifest.run.clone(),
            target: loaded.manifest.target.clone(),
            planned: planned.clone(),
            state: s.clone(),
            candidate: candidate.clone(),
            changes: repo::file_changes(store.repo(), &candidate.base, &candidate.tree)?,
            checks,
            findings,
            message,
        })
    }

    /// Returns the number of changed files.
    pub(super) fn files(&self) -> usize {
        self.changes.len()
    }

    /// Returns the numbers of added and of removed lines.
    pub(super) fn lines(&self) -> (usize, usize) {
        let counts = self.changes.iter().map(counts);
        counts.fold((0, 0), |(a, r), (added, removed)| (a + added, r + removed))
    }

    /// Returns true if at least one check has passed the candidate and none has failed it.
    pub(super) fn checks_passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|c| c.passed)
    }

    /// Returns the candidate without the contents of its files, for `--format json`.
    pub(super) fn summary(&self) -> cli::ReviewSummary {
        let (added, removed) = self.lines();
        let file = |change: &FileChange| {
            let (added, removed) = counts(change);
            let (path, from) = (change.path.clone(), change.from.clone());
            cli::ChangedFile { path, from, binary: change.binary, added, removed }
        };
        cli::ReviewSummary {
            run: self.run.clone(),
            task: self.planned.id.to_string(),
            state: self.state.phase.as_str(),
            attempt: self.state.attempt,
            since: self.state.at.0,
            revised: self.state.review.revised,
            base: self.candidate.base.to_string(),
            candidate: self.candidate.commit.to_string(),
            tree: self.candidate.tree.to_string(),
            added,
            removed,
            files: self.changes.iter().map(file).collect(),
        }
    }

    /// Returns the whole page, for `--format json`.
    pub(super) fn wire(&self) -> cli::Review<'_> {
        cli::Review {
            summary: self.summary(),
            v: cli::Version,
            checks: self.checks.iter().map(json::check).collect(),
            findings: self.findings.iter().map(json::finding).collect(),
            said: self.message.as_deref(),
            approved: self.state.review.approval.as_ref().map(json::approval),
        }
    }

    /// Formats the page for people.
    pub(super) fn text(&self, paints: bool) -> String {
        let row = |a: &str, b: String| vec![a.to_owned(), b];
        let (added, removed) = self.lines();
        let c = &self.candidate;
        let mut rows = vec![
            row(
                "task",
                format!("{}/{} ({})", self.run, self.planned.id, self.state.phase.as_str()),
            ),
            row("attempt", self.state.attempt.to_string()),
            row("candidate", format!("{} on {}", c.commit.short(), c.base.short())),
            row("lands on", layout::short(&self.target).to_owned()),
            row(
                "changes",
                format!("{}, +{added} -{removed}", human::number(self.changes.len(), "file")),
            ),
        ];
        if self.state.review.revised {
            rows.push(row("revised", "by a person, on the task's branch".into()));
        }
        if let Some(a) = &self.state.review.approval {
            rows.push(row("approved", format!("by {}, {} UTC", a.by, human::moment(a.at))));
        }
        let mut text = Tone::Strong.paint(&printable(&table::columns(&rows)), paints);
        text.push_str("\nchecks:\n");
        for check in &self.checks {
            let (word, tone) =
                if check.passed { ("passed", Tone::Plain) } else { ("FAILED", Tone::Bad) };
            let took = if check.ms > 0 { human::duration(check.ms) } else { "reused".into() };
            let line = format!("  {word}  {}  ({took})\n", printable(&check.name));
            text.push_str(&tone.paint(&line, paints));
        }
        if self.checks.is_empty() {
            text.push_str("  none\n");
        }
        if !self.findings.is_empty() {
            text.push_str("\nfindings about earlier attempts:\n");
            for f in &self.findings {
                let line = f.summary_line().unwrap_or_default();
                let line = format!("  attempt {}, {}: {line}", f.attempt, f.check);
                text.push_str(&format!("{}\n", printable(&line)));
            }
        }
        if let Some(message) = &self.message {
            text.push_str("\nthe agent's last message:\n");
            for line in printable(message).lines() {
                text.push_str(&format!("  {line}\n"));
            }
        }
        text.push('\n');
        for change in &self.changes {
            text.push_str(&patch(change, paints));
        }
        text
    }
}

/// Returns the last message in an agent's output.
fn last_message(workspace: &Workspace, stdout: &[u8]) -> Option<String> {
    let preset = preset::resolve(workspace.job().ok()?).ok()?;
    let message = if preset.name == COMMAND {
        let text = String::from_utf8_lossy(stdout);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(MESSAGE_LINES)..].join("\n")
    } else {
        let ended = SessionExit { code: Some(0), ..SessionExit::default() };
        final_message(&preset, ended, stdout, None)?
    };
    Some(message).filter(|message| !message.trim().is_empty())
}

fn text_of(content: Option<&Vec<u8>>) -> String {
    content.map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn counts(change: &FileChange) -> (usize, usize) {
    if change.binary {
        return (0, 0);
    }
    let (before, after) = (text_of(change.before.as_ref()), text_of(change.after.as_ref()));
    let diff = TextDiff::from_lines(&before, &after);
    let count = |tag| diff.iter_all_changes().filter(|c| c.tag() == tag).count();
    (count(ChangeTag::Insert), count(ChangeTag::Delete))
}

/// Formats the changes of one file. On a terminal, changed words within a line are emphasised.
fn patch(change: &FileChange, paints: bool) -> String {
    let name = printable(&change.path);
    let head = match (&change.from, &change.before, &change.after) {
        (Some(from), _, _) => format!("{} renamed to {name}", printable(from)),
        (None, None, _) => format!("{name} (new)"),
        (None, _, None) => format!("{name} (removed)"),
        (None, Some(_), Some(_)) => name,
    };
    let mut text = format!("{}\n", Tone::Strong.paint(&head, paints));
    if change.binary {
        let size = |content: &Option<Vec<u8>>| content.as_ref().map_or(0, Vec::len);
        let (a, b) = (size(&change.before), size(&change.after));
        text.push_str(&format!("  binary: {a} bytes before, {b} after\n\n"));
        return text;
    }
    let (before, after) = (text_of(change.before.as_ref()), text_of(change.after.as_ref()));
    let diff = TextDiff::from_lines(&before, &after);
    if change.from.is_some() && before == after {
        text.push_str("  (no other change)\n");
    }
    for group in diff.grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let range = |from: usize, to: usize| format!("{},{}", from + 1, to - from);
        let hunk = format!(
            "@@ -{} +{} @@",
            range(first.old_range().start, last.old_range().end),
            range(first.new_range().start, last.new_range().end)
        );
        text.push_str(&format!("{}\n", Tone::Action.paint(&hunk, paints)));
        for op in &group {
            for line in diff.iter_inline_changes(op) {
                let (sign, plain, word) = match line.tag() {
                    ChangeTag::Equal => (' ', Tone::Plain, Tone::Plain),
                    ChangeTag::Delete => ('-', Tone::Removed, Tone::RemovedWord),
                    ChangeTag::Insert => ('+', Tone::Added, Tone::AddedWord),
                };
                text.push_str(&plain.paint(&sign.to_string(), paints));
                for (emphasised, piece) in line.iter_strings_lossy() {
                    let tone = if emphasised { word } else { plain };
                    let piece = piece.trim_end_matches(['\n', '\r']);
                    text.push_str(&tone.paint(&printable(piece), paints));
                }
                text.push('\n');
            }
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: Option<&str>, after: Option<&str>) -> FileChange {
        let bytes = |text: Option<&str>| text.map(|t| t.as_bytes().to_vec());
        FileChange {
            path: "a.js".into(),
            from: None,
            before: bytes(before),
            after: bytes(after),
            binary: false,
        }
    }

    #[test]
    fn change_is_shown_as_a_unified_diff() {
        let text = patch(&change(Some("one\ntwo\nthree\n"), Some("one\n2\nthree\n")), false);
        assert_eq!(text, "a.js\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n\n");
        assert_eq!(counts(&change(Some("one\ntwo\n"), Some("one\n2\n3\n"))), (2, 1));
        assert!(patch(&change(None, Some("x\n")), false).starts_with("a.js (new)\n"));
    }

    #[test]
    fn changed_words_are_emphasised_on_a_terminal() {
        let text = patch(&change(Some("let total = a + b;\n"), Some("let total = a - b;\n")), true);
        let strong = |tone: Tone, word: &str| tone.paint(word, true);
        assert!(text.contains(&strong(Tone::RemovedWord, "+")), "{text:?}");
        assert!(text.contains(&strong(Tone::AddedWord, "-")), "{text:?}");
    }

    #[test]
    fn binary_files_show_sizes_and_control_characters_are_escaped() {
        let binary = FileChange { binary: true, ..change(Some("ab"), Some("abc")) };
        assert!(patch(&binary, false).contains("binary: 2 bytes before, 3 after"));
        let evil = patch(&change(Some("a\n"), Some("\u{1b}[2Jb\n")), true);
        assert!(!evil.contains("\u{1b}[2J"), "{evil:?}");
    }
}
