//! Messages of commits on the target branch: the task or the branch in words, then trailers.

use anyhow::Result;

use super::LandingSubject;
use super::history::LandedWork;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::queue::EntryId;
use crate::job::MergeStyle;
use crate::repo::{self, Repo};
use crate::store::codec;

/// The trailers with the branch of a landed commit, and the branch's commit.
const BRANCH: &str = "Harness-Branch";
const WORK: &str = "Harness-Work";

/// The trailers with the run and the task of a landed commit.
const RUN: &str = "Harness-Run";
const TASK: &str = "Harness-Task";

/// The number of files or commits that a message lists.
const LISTED: usize = 20;
/// The largest width of a subject line, in characters.
const SUBJECT_WIDTH: usize = 72;

/// Returns the message of a landing commit.
pub(crate) fn landing(subject: &LandingSubject) -> String {
    let mut text = format!("{}\n\n{}\n\n", title(subject), subject.goal.trim());
    for file in subject.planned.files.iter().take(LISTED) {
        text.push_str(&format!("- {file}\n"));
    }
    if subject.planned.files.len() > LISTED {
        text.push_str(&format!("- and {} more\n", subject.planned.files.len() - LISTED));
    }
    text.push_str(&trailers(subject));
    text
}

/// Returns the message of an attempt's commit.
pub(crate) fn candidate(subject: &LandingSubject) -> String {
    format!("{}\n\nAttempt {}.\n{}", title(subject), subject.attempt, trailers(subject))
}

fn title(subject: &LandingSubject) -> String {
    let what = match subject.planned.files.as_slice() {
        [one] => one.clone(),
        [first, ..] => {
            let folder = first.rsplit_once('/').map_or(".", |(folder, _)| folder);
            format!("{folder} ({} files)", subject.planned.files.len())
        }
        [] => subject.task.to_string(),
    };
    let title = format!("{}: {what}", subject.job);
    if title.chars().count() <= SUBJECT_WIDTH {
        return title;
    }
    // The end of a path is more specific than its beginning.
    let keep = SUBJECT_WIDTH.saturating_sub(subject.job.chars().count() + 3).max(10);
    let skip = what.chars().count().saturating_sub(keep);
    format!("{}: …{}", subject.job, what.chars().skip(skip).collect::<String>())
}

fn trailers(subject: &LandingSubject) -> String {
    format!(
        "\n{RUN}: {}\n{TASK}: {}\nHarness-Attempt: {}\n",
        subject.run, subject.task, subject.attempt
    )
}

/// Returns the message of a landed branch: the commit's own message for a branch with one commit,
/// otherwise the title of the newest commit and a list of all titles.
pub(super) fn branch(
    repo: &Repo,
    merge: MergeStyle,
    entry: &EntryId,
    candidate: &Oid,
    commits: &[Oid],
) -> Result<String> {
    let body = repo::commit_info(repo, candidate)?.message;
    let title = |message: &str| message.lines().next().unwrap_or_default().to_owned();
    let mut text = match (merge, commits) {
        (MergeStyle::Squash, [_]) => body.trim_end().to_owned(),
        (merge, commits) => {
            let mut text = match merge {
                MergeStyle::Merge => format!("Merge branch '{entry}'"),
                MergeStyle::Squash => title(&body),
            };
            text.push('\n');
            for commit in commits.iter().take(LISTED) {
                let body = repo::commit_info(repo, commit)?.message;
                text.push_str(&format!("\n- {}", title(&body)));
            }
            if commits.len() > LISTED {
                text.push_str(&format!("\n- and {} more", commits.len() - LISTED));
            }
            text
        }
    };
    let last = text.rsplit("\n\n").next().unwrap_or_default();
    let is_trailer = |line: &str| {
        line.split_once(": ").is_some_and(|(key, _)| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
    };
    let trailers = text.contains("\n\n") && last.lines().all(is_trailer);
    text.push_str(if trailers { "\n" } else { "\n\n" });
    text.push_str(&format!("{BRANCH}: {entry}\n{WORK}: {candidate}\n"));
    Ok(text)
}

/// Returns the work that a commit of the target landed. Returns `None` if git-harness did not
/// create the commit.
pub(super) fn landed_work(message: &str) -> Option<LandedWork> {
    let trailers = codec::trailers(message);
    if let (Some(run), Some(task)) = (trailers.get(RUN), trailers.get(TASK)) {
        return Some(LandedWork::Task(RunId::parse(run).ok()?, TaskId::parse(task).ok()?));
    }
    let entry = EntryId::parse(trailers.get(BRANCH)?).ok()?;
    Some(LandedWork::Branch(entry, Oid::parse(trailers.get(WORK)?).ok()?))
}
