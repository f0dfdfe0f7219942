//! The message of a squashed branch. It keeps every author and every sentence.

use std::collections::BTreeSet;

use crate::repo::{Author, AuthoredCommit};

/// The trailer that names a further author.
const CO_AUTHOR: &str = "Co-authored-by";

/// The prefixes of trailers that git itself writes. A paragraph with one of them is a block of
/// trailers if a quarter of its lines are trailers.
const BY_GIT: [&str; 2] = ["Signed-off-by: ", "(cherry picked from commit "];

/// A message in its parts.
#[derive(Debug, PartialEq, Eq)]
struct MessageParts<'a> {
    /// The first paragraph.
    subject: &'a str,
    /// The other paragraphs, without the trailers.
    body: &'a str,
    /// The trailers, each with its continuation lines.
    trailers: Vec<&'a str>,
}

/// Returns the message of a squash of `commits`, which are sorted oldest first. `own_trailers` are
/// added at the end.
pub(super) fn message(commits: &[AuthoredCommit], own_trailers: &str) -> String {
    let parts: Vec<MessageParts<'_>> =
        commits.iter().map(|commit| MessageParts::of(&commit.message)).collect();
    let mut text = parts.first().map_or("", |first| first.subject).to_owned();
    match parts.as_slice() {
        [only] => push_paragraph(&mut text, only.body),
        all => {
            for part in all {
                let subject: Vec<&str> = part.subject.lines().map(str::trim).collect();
                push_paragraph(&mut text, &format!("* {}", subject.join(" ")));
                push_paragraph(&mut text, part.body);
            }
        }
    }
    let mut trailers: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let author = commits.first().map(|commit| commit.author.key());
    let theirs = parts.iter().flat_map(|part| part.trailers.iter().map(|line| (*line).to_owned()));
    let others = commits.iter().map(|commit| format!("{CO_AUTHOR}: {}", commit.author));
    for trailer in theirs.chain(others) {
        let key = match co_author(&trailer) {
            Some(person) if Some(&person) == author.as_ref() => continue,
            Some(person) => format!("{CO_AUTHOR}: {person}"),
            None => trailer.clone(),
        };
        if seen.insert(key) {
            trailers.push(trailer);
        }
    }
    push_paragraph(&mut text, &trailers.join("\n"));
    text.push_str(if trailers.is_empty() { "\n\n" } else { "\n" });
    text + own_trailers
}

fn push_paragraph(text: &mut String, paragraph: &str) {
    if !paragraph.is_empty() {
        text.push_str("\n\n");
        text.push_str(paragraph);
    }
}

/// Returns the person that a trailer names as an author, in the form of [`Author::key`].
fn co_author(trailer: &str) -> Option<String> {
    let (key, person) = trailer.split_once(':')?;
    let (name, email) = person.trim().rsplit_once('<').unwrap_or((person, ""));
    let email = email.trim_end().trim_end_matches('>');
    let author = Author { name: name.trim().into(), email: email.into(), seconds: 0, offset: 0 };
    key.trim().eq_ignore_ascii_case(CO_AUTHOR).then(|| author.key())
}

impl<'a> MessageParts<'a> {
    /// Splits a message by git's rules for trailers.
    fn of(message: &'a str) -> Self {
        let message = message.trim_matches('\n').trim_end();
        let (subject, rest) = split_paragraph(message);
        let rest = rest.trim_matches('\n');
        let start = last_paragraph(rest);
        match trailers(&rest[start..]) {
            Some(trailers) => Self { subject, body: rest[..start].trim_end(), trailers },
            None => Self { subject, body: rest, trailers: Vec::new() },
        }
    }
}

/// Splits a text into its first paragraph and the rest.
fn split_paragraph(text: &str) -> (&str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() && at > 0 {
            return (text[..at].trim_end(), &text[at..]);
        }
        at += line.len();
    }
    (text, "")
}

/// Returns the start of the last paragraph.
fn last_paragraph(text: &str) -> usize {
    let mut start = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if line.trim().is_empty() {
            start = at;
        }
    }
    start
}

/// Returns the trailers of a paragraph, or `None` if the paragraph is text. As in git, all lines
/// must be trailers, or at least a quarter of the lines if one of them is a trailer that git itself
/// writes.
fn trailers(paragraph: &str) -> Option<Vec<&str>> {
    let mut found: Vec<&str> = Vec::new();
    let (mut others, mut by_git) = (0, false);
    let mut at = 0;
    let mut last = 0;
    for line in paragraph.split_inclusive('\n') {
        if line.starts_with([' ', '\t']) && !found.is_empty() {
            // A continuation line.
            found.pop();
            found.push(paragraph[last..at + line.len()].trim_end());
        } else {
            last = at;
            found.push(line.trim_end());
            by_git |= BY_GIT.iter().any(|prefix| line.starts_with(prefix));
            others += usize::from(!is_trailer(line));
        }
        at += line.len();
    }
    let lines = found.len();
    (lines > 0 && (others == 0 || by_git && (lines - others) * 4 >= lines)).then_some(found)
}

fn is_trailer(line: &str) -> bool {
    line.starts_with(BY_GIT[1])
        || line.split_once(':').is_some_and(|(key, _)| {
            let key = key.trim_end();
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "Harness-Branch: b\n";

    fn squash(commits: &[(&str, &str)]) -> String {
        let commits: Vec<AuthoredCommit> = commits
            .iter()
            .map(|(name, message)| AuthoredCommit {
                author: Author {
                    name: (*name).into(),
                    email: format!("{}@example.org", name.to_lowercase()),
                    seconds: 0,
                    offset: 0,
                },
                message: (*message).into(),
            })
            .collect();
        message(&commits, OURS)
    }

    #[test]
    fn squash_of_one_commit_keeps_its_message_and_adds_to_its_trailers() {
        let text = "net: fix a leak\n\nBody.\n\nReported-by: Eve <eve@example.org>\nFixes: 0123 (\"net: the\n \
                    thing\")\n(cherry picked from commit 0123)\nSigned-off-by: Bob <bob@example.org>\n";
        assert_eq!(squash(&[("Bob", text)]), format!("{text}{OURS}"));
        assert_eq!(squash(&[("Bob", "fix: a thing")]), format!("fix: a thing\n\n{OURS}"));
        assert_eq!(squash(&[("Bob", "one\ntwo\n\nbody\n")]), format!("one\ntwo\n\nbody\n\n{OURS}"));
    }

    #[test]
    fn squash_names_all_authors_once_and_keeps_bodies_in_order() {
        let text = squash(&[
            (
                "Bob",
                "parser: rewrite\n\nA long explanation.\n\nFixes: #77\nSigned-off-by: Bob <bob@example.org>",
            ),
            (
                "Eve",
                "printer:\nrewrite\n\nCo-authored-by: Zoe <zoe@example.org>\nco-authored-by: Bob <BOB@example.org>",
            ),
            ("Ann", "fix typo"),
            ("Eve", "again"),
        ]);
        let want = "parser: rewrite\n\n* parser: rewrite\n\nA long explanation.\n\n* printer: rewrite\n\n* fix typo\n\n\
                    * again\n\nFixes: #77\nSigned-off-by: Bob <bob@example.org>\nCo-authored-by: Zoe <zoe@example.org>\n\
                    Co-authored-by: Eve <eve@example.org>\nCo-authored-by: Ann <ann@example.org>\nHarness-Branch: b\n";
        assert_eq!(text, want);
    }

    #[test]
    fn text_with_colons_is_a_block_of_trailers_only_by_the_rules_of_git() {
        let parts = MessageParts::of("a\n\nNote: this\nis text");
        assert_eq!((parts.body, parts.trailers.len()), ("Note: this\nis text", 0));
        let parts = MessageParts::of("a\n\nb\n\nNote: this\nand\nSigned-off-by: x");
        assert_eq!((parts.body, parts.trailers.len()), ("b", 3));
    }
}
