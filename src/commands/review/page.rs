//! What a reviewer needs to know of one candidate.

use anyhow::Result;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use crate::agent::classify::{SessionExit, final_message};
use crate::agent::preset::{self, COMMAND};
use crate::domain::event::TaskEventKind;
use crate::domain::plan::Task;
use crate::domain::state::TaskState;
use crate::domain::verdict::{Candidate, CheckResult, Finding};
use crate::job;
use crate::repo::{self, FileChange};
use crate::store::load::LoadedRun;
use crate::store::{Store, chain, codec, layout};
use crate::ui::tone::Tone;
use crate::ui::{human, json as told, printable, table};

/// How many lines of a plain program's output are shown as its words.
const SAID: usize = 12;
/// How many lines around a change are shown.
const CONTEXT: usize = 3;

/// Everything about one candidate.
pub(super) struct CandidatePage {
    run: String,
    target: String,
    planned: Task,
    state: TaskState,
    candidate: Candidate,
    changes: Vec<FileChange>,
    checks: Vec<CheckResult>,
    findings: Vec<Finding>,
    said: Option<String>,
}

impl CandidatePage {
    /// Reads it.
    pub(super) fn of(
        store: &Store,
        loaded: &LoadedRun,
        planned: &Task,
        s: &TaskState,
        candidate: &Candidate,
    ) -> Result<Self> {
        let tip = loaded.ledger.tips.get(&planned.id);
        let mut checks = Vec::new();
        let mut findings = Vec::new();
        let mut said = None;
        if let Some(tip) = tip {
            // Newest first: what was said of this very tree.
            let chain = layout::task(&loaded.ledger.state.id, &planned.id);
            for (_, message) in store.messages(&tip.commit)? {
                if let TaskEventKind::Verified { tree, results, landing: false, .. } =
                    codec::read_task_event(&chain, &message)?.kind
                {
                    if tree == candidate.tree {
                        checks = results;
                    }
                    break;
                }
            }
            findings = chain::findings(store, &tip.tree)?;
            let path = format!("attempts/{}/stdout", s.attempt);
            said = store.repo().read_blob_at(&tip.tree, &path)?.and_then(|out| words(loaded, &out));
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
            said,
        })
    }

    /// How many files it changes.
    pub(super) fn files(&self) -> usize {
        self.changes.len()
    }

    /// How many lines it adds and removes.
    pub(super) fn lines(&self) -> (usize, usize) {
        let counts = self.changes.iter().map(counts);
        counts.fold((0, 0), |(a, r), (added, removed)| (a + added, r + removed))
    }

    /// Whether a check has passed it, and none has not.
    pub(super) fn proven(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|c| c.passed)
    }

    /// In a line of JSON, without the contents.
    pub(super) fn summary(&self) -> Value {
        let (added, removed) = self.lines();
        let file = |c: &FileChange| {
            let (added, removed) = counts(c);
            json!({"path": c.path, "from": c.from, "binary": c.binary, "added": added, "removed": removed})
        };
        json!({
            "run": self.run, "task": self.planned.id.as_str(), "state": self.state.phase.as_str(),
            "attempt": self.state.attempt, "since": self.state.at.0, "revised": self.state.review.revised,
            "base": self.candidate.base.as_str(), "candidate": self.candidate.commit.as_str(),
            "tree": self.candidate.tree.as_str(), "added": added, "removed": removed,
            "files": self.changes.iter().map(file).collect::<Vec<_>>(),
        })
    }

    /// All of it as JSON.
    pub(super) fn json(&self) -> Value {
        let check = |c: &CheckResult| json!({"name": c.name, "passed": c.passed, "ms": c.ms});
        let finding = |f: &Finding| json!({"attempt": f.attempt, "check": f.check, "text": f.text});
        let task = told::task(&self.run, &self.planned, &self.state, self.state.phase.as_str());
        let mut value = self.summary();
        value["v"] = 1.into();
        value["checks"] = self.checks.iter().map(check).collect();
        value["findings"] = self.findings.iter().map(finding).collect();
        value["said"] = json!(self.said);
        value["approved"] = task["approved"].clone();
        value
    }

    /// As a page for a person.
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
            let took = if check.ms > 0 { human::duration(check.ms) } else { "known".into() };
            let line = format!("  {word}  {}  ({took})\n", printable(&check.name));
            text.push_str(&tone.paint(&line, paints));
        }
        if self.checks.is_empty() {
            text.push_str("  none\n");
        }
        if !self.findings.is_empty() {
            text.push_str("\nwhat was wrong with earlier attempts:\n");
            for f in &self.findings {
                let line = f.telling_line().unwrap_or_default();
                let line = format!("  attempt {}, {}: {line}", f.attempt, f.check);
                text.push_str(&format!("{}\n", printable(&line)));
            }
        }
        if let Some(said) = &self.said {
            text.push_str("\nwhat the agent says:\n");
            for line in printable(said).lines() {
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

/// What the agent said in the end.
fn words(loaded: &LoadedRun, stdout: &[u8]) -> Option<String> {
    let job = job::parse(&loaded.job_text, &loaded.manifest.file).ok()?;
    let preset = preset::resolve(&job).ok()?;
    let said = if preset.name == COMMAND {
        let text = String::from_utf8_lossy(stdout);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SAID)..].join("\n")
    } else {
        let ended = SessionExit { code: Some(0), ..SessionExit::default() };
        final_message(&preset, ended, stdout, None)?
    };
    Some(said).filter(|said| !said.trim().is_empty())
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

/// One file, with the words that differ within changed lines standing out on a terminal.
fn patch(change: &FileChange, paints: bool) -> String {
    let name = printable(&change.path);
    let head = match (&change.from, &change.before, &change.after) {
        (Some(from), _, _) => format!("{} became {name}", printable(from)),
        (None, None, _) => format!("{name} (new)"),
        (None, _, None) => format!("{name} (removed)"),
        (None, Some(_), Some(_)) => name,
    };
    let mut text = format!("{}\n", Tone::Strong.paint(&head, paints));
    if change.binary {
        let size = |content: &Option<Vec<u8>>| content.as_ref().map_or(0, Vec::len);
        let (a, b) = (size(&change.before), size(&change.after));
        text.push_str(&format!("  binary: {a} bytes became {b}\n\n"));
        return text;
    }
    let (before, after) = (text_of(change.before.as_ref()), text_of(change.after.as_ref()));
    let diff = TextDiff::from_lines(&before, &after);
    if change.from.is_some() && before == after {
        text.push_str("  (nothing else changed)\n");
    }
    for group in diff.grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let span = |from: usize, to: usize| format!("{},{}", from + 1, to - from);
        let place = format!(
            "@@ -{} +{} @@",
            span(first.old_range().start, last.old_range().end),
            span(first.new_range().start, last.new_range().end)
        );
        text.push_str(&format!("{}\n", Tone::Action.paint(&place, paints)));
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
    fn a_change_reads_like_a_diff() {
        let text = patch(&change(Some("one\ntwo\nthree\n"), Some("one\n2\nthree\n")), false);
        assert_eq!(text, "a.js\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n\n");
        assert_eq!(counts(&change(Some("one\ntwo\n"), Some("one\n2\n3\n"))), (2, 1));
        assert!(patch(&change(None, Some("x\n")), false).starts_with("a.js (new)\n"));
    }

    #[test]
    fn words_within_a_line_stand_out_on_a_terminal() {
        let text = patch(&change(Some("let total = a + b;\n"), Some("let total = a - b;\n")), true);
        let strong = |tone: Tone, word: &str| tone.paint(word, true);
        assert!(text.contains(&strong(Tone::RemovedWord, "+")), "{text:?}");
        assert!(text.contains(&strong(Tone::AddedWord, "-")), "{text:?}");
    }

    #[test]
    fn what_is_no_text_is_only_said_and_controls_do_nothing() {
        let binary = FileChange { binary: true, ..change(Some("ab"), Some("abc")) };
        assert!(patch(&binary, false).contains("binary: 2 bytes became 3"));
        let evil = patch(&change(Some("a\n"), Some("\u{1b}[2Jb\n")), true);
        assert!(!evil.contains("\u{1b}[2J"), "{evil:?}");
    }
}
