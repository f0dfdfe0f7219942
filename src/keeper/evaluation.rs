//! Keeping an evaluation: an agent looks at a candidate in a place of its own, and nothing that it does there is kept
//! but its answer.

use std::path::Path;

use anyhow::Result;

use super::AssignedWork;
use super::files;
use super::session;
use super::worktree::{prepare, redactor};
use crate::ambient;
use crate::failpoint;
use crate::process::{Redactor, StopFlag};
use crate::repo::{self, Repo};
use crate::wire::VERSION;
use crate::wire::facts::{WireSessionReport, WireTermination};
use crate::wire::keeper::{EvaluationOutcome, EvaluationWork, millis};

/// The longest answer that is read, in bytes.
const ANSWER: u64 = 1024 * 1024;

/// Runs the evaluator to its end and writes down what it said. Says whether nothing that it started is left.
pub(super) fn keep(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    work: &EvaluationWork,
    stop: &StopFlag,
) -> Result<bool> {
    let redactor = redactor(assigned)?;
    let preset = session::preset(&work.session)?;
    let mut outcome = EvaluationOutcome {
        v: VERSION,
        commit: work.commit.clone(),
        began: ambient::now().0,
        termination: WireTermination::Stopped,
        report: None,
        answer: None,
        wall_ms: 0,
        files: None,
    };
    let mut clean = true;
    match prepare(repo, dir, assigned, stop) {
        Err(_) if stop.is_raised() => {}
        Err(error) => outcome.termination = WireTermination::NotStarted(format!("{error:#}")),
        Ok(worktree) => {
            failpoint::hit("keeper.before-evaluator");
            let command =
                session::command(dir, assigned, (&work.session, preset.as_ref()), &redactor);
            let (ended, reading, said) = session::hold(&command, dir, preset.as_ref(), stop)?;
            clean = ended.survivors == 0;
            outcome.wall_ms = millis(ended.wall);
            outcome.report = reading.as_ref().map(WireSessionReport::from);
            outcome.termination = WireTermination::from(&ended.termination);
            outcome.answer = answer_file(&work.answer).or(said);
            if let Some(answer) = &mut outcome.answer {
                *answer = String::from_utf8_lossy(&redactor.clean(answer.as_bytes())).into_owned();
            }
            // Whatever it did to the place is nobody's work; the next that comes resets it.
            drop(worktree);
        }
    }
    outcome.files = Some(files_of(repo, dir, &outcome, &redactor)?);
    failpoint::hit("keeper.before-opinion");
    outcome.write(dir)?;
    Ok(clean)
}

/// What it wrote where it was told to, if it did.
fn answer_file(path: &Path) -> Option<String> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    if !meta.is_file() || meta.len() > ANSWER {
        return None;
    }
    std::fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty())
}

/// What is kept of the session beside its outcome, as a tree.
fn files_of(
    repo: &Repo,
    dir: &Path,
    outcome: &EvaluationOutcome,
    redactor: &Redactor,
) -> Result<String> {
    let mut entries = Vec::new();
    let json = serde_json::to_vec_pretty(outcome)?;
    entries.push((files::OUTCOME.to_owned(), repo::write_blob(repo, &json)?));
    for name in [files::STDOUT, files::STDERR, files::PROMPT] {
        if let Ok(bytes) = std::fs::read(dir.join(name)) {
            // The outputs were filtered before they were written; a prompt quotes what others have said.
            let bytes = if name == files::PROMPT { redactor.clean(&bytes) } else { bytes };
            entries.push((name.to_owned(), repo::write_blob(repo, &bytes)?));
        }
    }
    Ok(repo::write_tree(repo, &entries)?.to_string())
}
