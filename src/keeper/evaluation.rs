//! Evaluations: runs an evaluator on a candidate in a worktree of its own. Only the evaluator's
//! answer is kept.

use std::path::Path;

use anyhow::Result;

use super::AssignedWork;
use super::files;
use super::network::{self, CommandNetwork};
use super::seal;
use super::session;
use super::setup;
use super::worktree::{prepare, redactor};
use crate::ambient;
use crate::failpoint;
use crate::process::{Redactor, StopFlag};
use crate::repo::{self, Repo};
use crate::wire::VERSION;
use crate::wire::facts::{WireSessionReport, WireTermination};
use crate::wire::keeper::{EvaluationOutcome, EvaluationWork, millis};

/// The longest answer in bytes.
const ANSWER: u64 = 1024 * 1024;

/// Runs the evaluator to its end and writes the outcome. Returns true if no process of the
/// evaluator is left.
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
    match prepare(repo, dir, assigned, &assigned.assignment.worktree.commit, stop) {
        Err(_) if stop.is_raised() => {}
        Err(error) => outcome.termination = WireTermination::NotStarted(format!("{error:#}")),
        Ok(prepared) => {
            let spec = &assigned.assignment.worktree;
            let mark = setup::take_mark(spec);
            failpoint::hit("keeper.before-evaluator");
            let session = (&work.session, preset.as_ref());
            let command =
                session::command(dir, assigned, session, &redactor, prepared.sandbox.clone());
            let (command, connected) = network::connect_session(dir, assigned, command)?;
            let (ended, report, last_message) =
                session::run_to_report(&command, dir, preset.as_ref(), stop)?;
            let denied = connected.map(CommandNetwork::close).unwrap_or_default();
            network::record_denials(dir, &denied)?;
            clean = ended.survivors == 0;
            outcome.wall_ms = millis(ended.wall);
            outcome.report = report.as_ref().map(WireSessionReport::from);
            outcome.termination = WireTermination::from(&ended.termination);
            outcome.answer = answer_file(&work.answer).or(last_message);
            if let Some(answer) = &mut outcome.answer {
                *answer = String::from_utf8_lossy(&redactor.clean(answer.as_bytes())).into_owned();
            }
            if let Some(mark) = mark
                // A worktree that cannot be read is set up again.
                && let Ok(modified) = repo::modified_files(repo, &prepared.worktree)
            {
                setup::put_mark_back(spec, &mark, modified.iter().map(String::as_str))?;
            }
            // The evaluator's changes to the worktree are not kept: the next assignment resets the
            // worktree.
            drop(prepared);
        }
    }
    outcome.files = Some(files_of(repo, dir, &outcome, &redactor)?);
    failpoint::hit("keeper.before-opinion");
    seal::write_outcome(dir, &outcome, &assigned.assignment, &assigned.key)?;
    Ok(clean)
}

/// Reads the answer from the file that the evaluator was asked to write.
fn answer_file(path: &Path) -> Option<String> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    if !meta.is_file() || meta.len() > ANSWER {
        return None;
    }
    let text = String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned();
    (!text.trim().is_empty()).then_some(text)
}

/// Writes the files that are kept of the session, with the outcome, as a tree.
fn files_of(
    repo: &Repo,
    dir: &Path,
    outcome: &EvaluationOutcome,
    redactor: &Redactor,
) -> Result<String> {
    let mut entries = Vec::new();
    let json = serde_json::to_vec_pretty(outcome)?;
    entries.push((files::OUTCOME.to_owned(), repo::write_blob(repo, &json)?));
    for name in [files::STDOUT, files::STDERR, files::PROMPT, files::DENIED] {
        if let Ok(bytes) = std::fs::read(dir.join(name)) {
            // The outputs were redacted when they were written. The other texts were not.
            let is_output = matches!(name, files::STDOUT | files::STDERR);
            let bytes = if is_output { bytes } else { redactor.clean(&bytes) };
            entries.push((name.to_owned(), repo::write_blob(repo, &bytes)?));
        }
    }
    Ok(repo::write_tree(repo, &entries)?.to_string())
}
