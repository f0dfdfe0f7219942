//! Messages of commits on the target branch: the task or the branch in words, then trailers.

use super::LandingSubject;
use super::history::LandedWork;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::queue::EntryId;
use crate::repo::AuthoredCommit;
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

/// Returns the message of a merge commit: a list of the titles of the branch's commits, newest
/// first.
pub(super) fn branch_merge(entry: &EntryId, commits: &[AuthoredCommit], trailers: &str) -> String {
    let mut text = format!("Merge branch '{entry}'\n");
    for commit in commits.iter().rev().take(LISTED) {
        let title = commit.message.lines().next().unwrap_or_default();
        text.push_str(&format!("\n- {title}"));
    }
    if commits.len() > LISTED {
        text.push_str(&format!("\n- and {} more", commits.len() - LISTED));
    }
    format!("{text}\n\n{trailers}")
}

/// Returns the trailers of a landed branch.
pub(super) fn branch_trailers(entry: &EntryId, candidate: &Oid) -> String {
    format!("{BRANCH}: {entry}\n{WORK}: {candidate}\n")
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

/// Returns the id, possibly abbreviated, in the sentence that `git revert` writes about the
/// reverted commit.
pub(super) fn reverted_commit(message: &str) -> Option<String> {
    let start = message.lines().find_map(|line| line.strip_prefix("This reverts commit "))?;
    let id: String = start.chars().take_while(char::is_ascii_hexdigit).collect();
    (id.len() >= 7).then_some(id)
}
