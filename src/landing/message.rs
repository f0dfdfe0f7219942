//! Messages of commits on the target branch: the task in words, then trailers.

use super::LandingSubject;

/// The number of files that a message lists.
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
        "\nHarness-Run: {}\nHarness-Task: {}\nHarness-Attempt: {}\n",
        subject.run, subject.task, subject.attempt
    )
}
