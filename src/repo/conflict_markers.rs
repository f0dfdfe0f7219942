//! Conflict markers that a change adds, as `git diff --check` finds them.

use std::collections::HashMap;

use anyhow::{Context, Result};
use gix::bstr::{BStr, ByteSlice};
use gix::index::State;
use gix::index::entry::Mode;
use gix::worktree::stack::state::attributes;

use super::{Repo, diff, object_id, tree};
use crate::domain::id::Oid;

/// The length of a conflict marker, unless the attribute `conflict-marker-size` says otherwise.
const DEFAULT_SIZE: usize = 7;

/// The largest file that is searched. Git treats larger files as binary.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// The extensions of prose, in which a line of `=` underlines a heading of any length.
const PROSE: [&[u8]; 6] = [b"md", b"markdown", b"rst", b"txt", b"adoc", b"asciidoc"];

/// A line that is a conflict marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MarkerLine {
    /// The path of the file; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The line's number, from 1.
    pub line: usize,
}

/// A marker in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marker<'a> {
    number: usize,
    text: &'a [u8],
}

/// Returns the conflict markers that the change from `a` to `b` (trees or commits) adds, sorted. A
/// marker that the change moves does not count. The attributes are those of `a`.
pub(crate) fn added_conflict_markers(repo: &Repo, a: &Oid, b: &Oid) -> Result<Vec<MarkerLine>> {
    let local = repo.local();
    let (a, b) =
        (tree::peel_to_tree(&local, object_id(a)?)?, tree::peel_to_tree(&local, object_id(b)?)?);
    let content = |entry: Option<tree::TreeEntry>| -> Result<Vec<u8>> {
        let Some(entry) = entry.filter(|entry| entry.mode.is_blob()) else {
            return Ok(Vec::new());
        };
        if local.find_header(entry.id)?.size() > MAX_BYTES {
            return Ok(Vec::new());
        }
        let bytes = local.find_blob(entry.id)?.take_data();
        Ok(if diff::is_binary(&bytes) { Vec::new() } else { bytes })
    };
    let mut sizes = MarkerSizes { local: &local, tree: a, stack: None };
    let mut added = Vec::new();
    let mut removed: HashMap<Vec<u8>, usize> = HashMap::new();
    for difference in tree::differences(&local, a, b)? {
        let path = difference.path.as_bstr();
        let failed = || super::at(path);
        let before = content(difference.before).with_context(failed)?;
        let after = content(difference.after).with_context(failed)?;
        if ![&before, &after].iter().any(|text| may_have_markers(text)) {
            continue;
        }
        let size = sizes.of(path)?;
        let mut old: HashMap<&[u8], usize> = HashMap::new();
        for marker in markers(&before, size) {
            *old.entry(marker.text).or_default() += 1;
        }
        for marker in without_headings(path, &after, size) {
            match old.get_mut(marker.text).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => added.push((path.to_string(), marker.number, marker.text.to_vec())),
            }
        }
        for (text, count) in old {
            *removed.entry(text.to_vec()).or_default() += count;
        }
    }
    added.retain(|(_, _, text)| match removed.get_mut(text).filter(|count| **count > 0) {
        Some(count) => {
            *count -= 1;
            false
        }
        None => true,
    });
    Ok(added.into_iter().map(|(path, line, _)| MarkerLine { path, line }).collect())
}

/// The sizes of conflict markers, by the attributes of a tree. The tree is only listed if a file
/// seems to have a marker.
struct MarkerSizes<'a> {
    local: &'a gix::Repository,
    tree: gix::ObjectId,
    stack: Option<gix::AttributeStack<'a>>,
}

impl MarkerSizes<'_> {
    fn of(&mut self, path: &BStr) -> Result<usize> {
        if self.stack.is_none() {
            let state = State::from_tree(&self.tree, &self.local.objects, tree::name_rules())
                .with_context(|| format!("cannot list a tree: {}", self.tree))?;
            let stack = self.local.attributes_only(&state, attributes::Source::IdMapping);
            self.stack = Some(stack.context("cannot read the attributes")?);
        }
        let Some(stack) = &mut self.stack else { return Ok(DEFAULT_SIZE) };
        let mut matches = stack.selected_attribute_matches(["conflict-marker-size"]);
        let entry = stack.at_entry(path, Some(Mode::FILE)).with_context(|| super::at(path))?;
        entry.matching_attributes(&mut matches);
        let mut values = matches.iter_selected().filter_map(|found| match found.assignment.state {
            gix::attrs::StateRef::Value(value) => value.as_bstr().to_str().ok()?.parse().ok(),
            gix::attrs::StateRef::Set
            | gix::attrs::StateRef::Unset
            | gix::attrs::StateRef::Unspecified => None,
        });
        Ok(values.next().filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE))
    }
}

/// Returns true if a line of the text could be a conflict marker of any size. An underline of
/// another length than a marker's is no reason to read the attributes.
fn may_have_markers(text: &[u8]) -> bool {
    text.lines().any(|line| {
        let Some(&first) = line.first().filter(|first| b"<|=>".contains(first)) else {
            return false;
        };
        let run = line.iter().take_while(|byte| **byte == first).count();
        let ends = line.get(run).is_none_or(u8::is_ascii_whitespace);
        ends && (run == DEFAULT_SIZE || (run > DEFAULT_SIZE && first != b'='))
    })
}

/// Returns the lines that begin with `size` times the same marker character, followed by a space
/// or the end of the line. That is git's own rule.
fn markers(text: &[u8], size: usize) -> Vec<Marker<'_>> {
    let is_marker = |line: &[u8]| {
        let first = line.first().filter(|first| b"<|=>".contains(first));
        first.is_some_and(|first| {
            line.len() >= size
                && line[..size].iter().all(|byte| byte == first)
                && line.get(size).is_none_or(u8::is_ascii_whitespace)
        })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| is_marker(line));
    lines.map(|(at, text)| Marker { number: at + 1, text }).collect()
}

/// Returns the markers of a file, without lines of `=` that underline a heading. Git's own rule
/// counts these too, and would refuse every heading of seven letters.
fn without_headings<'a>(path: &BStr, text: &'a [u8], size: usize) -> Vec<Marker<'a>> {
    let mut found = markers(text, size);
    if found.iter().any(|marker| !marker.text.starts_with(b"=")) {
        return found;
    }
    let lines: Vec<&[u8]> = text.lines().map(<[u8]>::trim_end).collect();
    let extension = path.rfind_byte(b'.').map_or(&b""[..], |dot| &path[dot + 1..]);
    let is_prose = PROSE.iter().any(|prose| extension.eq_ignore_ascii_case(prose));
    found.retain(|marker| {
        let at = marker.number - 1;
        if lines[at].len() > size {
            return true;
        }
        let line = |at: Option<usize>| at.and_then(|at| lines.get(at)).copied().unwrap_or_default();
        let above = line(at.checked_sub(1));
        let underlines = !above.is_empty() && (is_prose || above.chars().count() == size);
        let overlines = line(Some(at + 2)) == lines[at] && !line(Some(at + 1)).is_empty();
        !(underlines || overlines)
    });
    found
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    use super::*;

    const CONFLICT: &str = "a\n<<<<<<< HEAD\nb\n||||||| base\n=======\nc\n>>>>>>> theirs\n";

    /// Returns `PATH:LINE` of each marker that is added.
    fn added(fx: &RepoFixture, a: &[(&str, &str)], b: &[(&str, &str)]) -> Vec<String> {
        let (a, b) = (fx.tree(a), fx.tree(b));
        let found = added_conflict_markers(&fx.repo, &a, &b).unwrap();
        found.into_iter().map(|marker| format!("{}:{}", marker.path, marker.line)).collect()
    }

    #[test]
    fn added_conflict_markers_are_those_of_git_diff_check() {
        let fx = RepoFixture::new();
        let crlf = CONFLICT.replace('\n', "\r\n");
        let texts = [
            ("all.c", CONFLICT),
            ("crlf.c", crlf.as_str()),
            ("end.c", "x\n>>>>>>> theirs"),
            ("separator.c", "int a;\n}\n=======\nint b;\n"),
            ("none.c", "a <<<<<<< b\n<<<<<<<<\n======\n=======x\n>>>>>>\n"),
        ];
        let (a, b) = (fx.tree(&[("other", "x\n")]), fx.tree(&texts));
        let found = added_conflict_markers(&fx.repo, &a, &b).unwrap();
        let found: Vec<String> = found
            .iter()
            .map(|m| format!("{}:{}: leftover conflict marker", m.path, m.line))
            .collect();
        let alias = format!("alias.markers=!git diff --check {a} {b} || true");
        let git = fx.git(&["-c", "core.whitespace=-trailing-space", "-c", &alias, "markers"]);
        let git: Vec<&str> =
            git.lines().filter(|l| l.ends_with("leftover conflict marker")).collect();
        assert_eq!(found, git);
        assert_eq!(git.len(), 10);
    }

    #[test]
    fn conflict_markers_that_were_there_before_do_not_count() {
        let fx = RepoFixture::new();
        let edited = CONFLICT.replace("b\n", "B\n");
        assert_eq!(added(&fx, &[("f", CONFLICT)], &[("f", &edited)]), [""; 0]);
        assert_eq!(added(&fx, &[("f", CONFLICT)], &[("g", &edited)]), [""; 0], "renamed");
        let twice = format!("{CONFLICT}{CONFLICT}");
        assert_eq!(added(&fx, &[("f", CONFLICT)], &[("f", &twice)]).len(), 4);
    }

    #[test]
    fn headings_and_binary_files_have_no_conflict_markers() {
        let fx = RepoFixture::new();
        let binary = format!("\0{CONFLICT}");
        let files = [
            ("a.md", "Installation\n=======\ntext\n"),
            ("b.rst", "=======\nUsage\n=======\n"),
            ("c.py", "\"\"\"\nExample\n=======\n\"\"\"\n"),
            ("d.bin", &binary),
        ];
        assert_eq!(added(&fx, &[], &files), [""; 0]);
        assert_eq!(added(&fx, &[], &[("a.md", CONFLICT)]).len(), 4);
    }

    #[test]
    fn attribute_of_the_base_sets_the_size_of_conflict_markers() {
        let fx = RepoFixture::new();
        let rules = (".gitattributes", "fixtures/* conflict-marker-size=32\n");
        let long = format!("{} HEAD\n", "<".repeat(32));
        assert_eq!(added(&fx, &[rules], &[rules, ("fixtures/f", CONFLICT)]), [""; 0]);
        assert_eq!(added(&fx, &[rules], &[rules, ("fixtures/f", &long)]), ["fixtures/f:1"]);
        assert_eq!(added(&fx, &[], &[rules, ("fixtures/f", CONFLICT)]).len(), 4);
    }
}
