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

/// Returns the message of an attempt's commit with the work of an earlier attempt. It has the
/// messages of that work's commits, the newest first: agents state the outcomes of findings there.
pub(crate) fn continued(subject: &LandingSubject, commits: &[AuthoredCommit]) -> String {
    let title = title(subject);
    let is_own_line = |line: &&str| {
        let number = line.strip_prefix("Attempt ").and_then(|rest| rest.strip_suffix('.'));
        *line == title
            || line.starts_with("Harness-")
            || number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let mut text = title.clone();
    for commit in commits.iter().rev() {
        let lines: Vec<_> = commit.message.lines().filter(|line| !is_own_line(line)).collect();
        let words = lines.join("\n");
        if !words.trim().is_empty() {
            text.push_str(&format!("\n\n{}", words.trim()));
        }
    }
    format!("{text}\n\nAttempt {}.\n{}", subject.attempt, trailers(subject))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Task;
    use crate::repo::Author;

    #[test]
    fn message_of_continued_work_has_the_words_of_its_commits_once() {
        let planned = Task {
            id: TaskId::parse("a").unwrap(),
            files: vec!["src/a.js".to_owned()],
            after: Vec::new(),
            lines: 1,
            tokens: 1,
            level: 0,
            vars: String::new(),
        };
        let (run, task) = (RunId::parse("fix-1").unwrap(), planned.id.clone());
        let subject = |attempt| LandingSubject {
            run: &run,
            task: &task,
            planned: planned.clone().into(),
            attempt,
            job: "fix",
            goal: "Fix it.",
        };
        let commit = |message: String| AuthoredCommit {
            author: Author { name: "a".into(), email: "b".into(), seconds: 0, offset: 0 },
            message,
        };
        let stated = commit("Fix\n\nFinding 1: fixed\nFinding 2: not so: meant\n".to_owned());
        let second = continued(&subject(2), &[stated, commit(candidate(&subject(1)))]);
        let expected = "fix: src/a.js\n\nFix\n\nFinding 1: fixed\nFinding 2: not so: meant\n\nAttempt 2.\n\n\
                        Harness-Run: fix-1\nHarness-Task: a\nHarness-Attempt: 2\n";
        assert_eq!(second, expected);
        let later = commit("Finding 1: open".to_owned());
        let third = continued(&subject(3), &[commit(second), later]);
        assert!(third.starts_with("fix: src/a.js\n\nFinding 1: open\n\nFix\n\nFinding 1: fixed\n"));
        assert_eq!(third.matches("Attempt ").count(), 1, "{third}");
    }
}
