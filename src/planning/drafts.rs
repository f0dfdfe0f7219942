//! Task drafts, the limits of a task, and the grouping of files by folder.

use super::files::PlanFile;
use super::tree_paths::split;

/// A task without an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    /// The path from which the id is made: the path of a file of the task, or of a folder (empty
    /// for the top).
    pub path: String,
    /// The number of the task among the tasks with this path, from 1, or `None` for a single task.
    pub part: Option<usize>,
    /// The numbers of the files in the plan, sorted. Never empty.
    pub files: Vec<usize>,
}

impl Draft {
    /// Creates a draft that is named after `path`.
    pub(super) fn new(path: impl Into<String>, mut files: Vec<usize>) -> Self {
        files.sort_unstable();
        Self { path: path.into(), part: None, files }
    }
}

/// The limits of a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct TaskLimits<'f> {
    /// All files, sorted by path.
    pub files: &'f [PlanFile],
    /// The largest number of files, at least 1.
    pub max_files: usize,
    /// The largest number of lines. A single file always fits.
    pub max_lines: u64,
    /// The largest number of tokens. A single file always fits.
    pub max_tokens: u64,
}

impl TaskLimits<'_> {
    /// Returns true if these files fit into one task.
    pub(super) fn fit(&self, files: &[usize]) -> bool {
        let lines: u64 = files.iter().map(|f| self.files[*f].lines).sum();
        let tokens: u64 = files.iter().map(|f| self.files[*f].tokens).sum();
        files.len() <= 1
            || (files.len() <= self.max_files
                && lines <= self.max_lines
                && tokens <= self.max_tokens)
    }

    /// Returns true if these files together fit into one task.
    pub(super) fn fit_both(&self, first: &[usize], second: &[usize]) -> bool {
        self.fit(&[first, second].concat())
    }

    /// Splits files, in their order, into as few parts as the limits allow. A file that exceeds a
    /// limit by itself is a part of its own.
    pub(super) fn split(&self, files: &[usize]) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let (mut lines, mut tokens) = (0_u64, 0_u64);
        for file in files {
            let (file_lines, file_tokens) = (self.files[*file].lines, self.files[*file].tokens);
            match parts.last_mut() {
                Some(part)
                    if part.len() < self.max_files
                        && lines + file_lines <= self.max_lines
                        && tokens + file_tokens <= self.max_tokens =>
                {
                    lines += file_lines;
                    tokens += file_tokens;
                    part.push(*file);
                }
                Some(_) | None => {
                    (lines, tokens) = (file_lines, file_tokens);
                    parts.push(vec![*file]);
                }
            }
        }
        parts
    }

    /// Returns the deepest folder that holds all these files.
    pub(super) fn folder(&self, files: &[usize]) -> &str {
        let folder = |file: &usize| split(&self.files[*file].path).0;
        let mut common = files.first().map_or("", folder);
        for file in files {
            let other = folder(file);
            while !(common.is_empty() || other == common || is_below(other, common)) {
                common = split(common).0;
            }
        }
        common
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Groups files by folder. A folder with all files below it is one group if it fits.
///
/// A folder that does not fit is split: its own files form groups, a subfolder that fits is a
/// group, and a larger subfolder is split in turn. Neighbouring groups of one folder are joined
/// while they fit.
pub(super) fn group_by_directory(limits: &TaskLimits<'_>) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..limits.files.len()).collect();
    let mut groups = Vec::new();
    let mut pending = vec![(0_usize, all)];
    // `depth` is the length of the path prefix that the files share, such as `src/`.
    while let Some((depth, files)) = pending.pop() {
        if files.is_empty() {
            continue;
        }
        if limits.fit(&files) {
            groups.push(files);
            continue;
        }
        let mut own_files = Vec::new();
        let mut folders: Vec<(&str, Vec<usize>)> = Vec::new();
        for file in files {
            let path = limits.files[file].path.as_str();
            match path[depth..].split_once('/') {
                None => own_files.push(file),
                Some((folder, _)) => match folders.last_mut() {
                    Some((last, inside)) if *last == folder => inside.push(file),
                    Some(_) | None => folders.push((folder, vec![file])),
                },
            }
        }
        let mut small = limits.split(&own_files);
        for (folder, inside) in folders {
            if limits.fit(&inside) {
                small.push(inside);
            } else {
                pending.push((depth + folder.len() + 1, inside));
            }
        }
        let mut open: Option<Vec<usize>> = None;
        for files in small {
            open = Some(match open.take() {
                Some(before) if limits.fit_both(&before, &files) => [before, files].concat(),
                Some(before) => {
                    groups.push(before);
                    files
                }
                None => files,
            });
        }
        groups.extend(open);
    }
    for files in &mut groups {
        files.sort_unstable();
    }
    groups.sort_unstable();
    groups
}

/// Sorts drafts by their first files, and numbers drafts with the same path.
pub(super) fn number_parts(mut drafts: Vec<Draft>) -> Vec<Draft> {
    drafts.sort_by(|a, b| a.files.cmp(&b.files));
    let mut counts: std::collections::BTreeMap<String, (usize, usize)> = Default::default();
    for draft in &drafts {
        counts.entry(draft.path.clone()).or_default().0 += 1;
    }
    for draft in &mut drafts {
        if let Some((total, number)) = counts.get_mut(&draft.path) {
            *number += 1;
            draft.part = (*total > 1).then_some(*number);
        }
    }
    drafts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, u64)]) -> Vec<PlanFile> {
        let id = gix::ObjectId::null(gix::hash::Kind::Sha1);
        let file = |&(path, lines): &(&str, u64)| PlanFile {
            path: path.into(),
            lines,
            bytes: 0,
            tokens: 0,
            id,
        };
        list.iter().map(file).collect()
    }

    /// Groups files by folder and returns the drafts as text: `path#part: files`.
    fn shown(list: &[(&str, u64)], max_files: usize, max_lines: u64) -> Vec<String> {
        let files = files(list);
        let limits = TaskLimits { files: &files, max_files, max_lines, max_tokens: u64::MAX };
        let drafts = group_by_directory(&limits);
        let drafts = drafts.into_iter().map(|f| Draft::new(limits.folder(&f), f)).collect();
        let text = |d: &Draft| {
            let part = d.part.map_or(String::new(), |n| format!("#{n}"));
            let names: Vec<_> = d.files.iter().map(|f| files[*f].path.as_str()).collect();
            format!("{}{part}: {}", d.path, names.join(" "))
        };
        number_parts(drafts).iter().map(text).collect()
    }

    #[test]
    fn folder_that_fits_is_one_task_with_all_files_below() {
        let all = [("src/a.js", 1), ("src/m/b.js", 1), ("src/m/n/c.js", 1), ("src/z.js", 1)];
        assert_eq!(shown(&all, 40, 3000), ["src: src/a.js src/m/b.js src/m/n/c.js src/z.js"]);
        assert_eq!(shown(&[("a.js", 1), ("b/c.js", 1)], 40, 3000), [": a.js b/c.js"]);
    }

    #[test]
    fn large_folder_is_split_and_small_subfolders_are_joined() {
        let all = [
            ("s/a.js", 1),
            ("s/b.js", 1),
            ("s/big/c.js", 1),
            ("s/big/d.js", 1),
            ("s/big/e/f.js", 1),
            ("s/big/g/h.js", 1),
            ("s/tiny/i.js", 1),
            ("s/tiny2/j.js", 1),
            ("s/tiny3/k.js", 1),
        ];
        assert_eq!(
            shown(&all, 3, 3000),
            [
                "s#1: s/a.js s/b.js s/tiny/i.js",
                "s/big: s/big/c.js s/big/d.js s/big/e/f.js",
                "s/big/g: s/big/g/h.js",
                "s#2: s/tiny2/j.js s/tiny3/k.js"
            ]
        );
    }

    #[test]
    fn folders_with_a_common_name_prefix_are_not_joined() {
        let all = [("a-b/x", 1), ("a-b/y", 1), ("a/x", 1), ("a/y", 1), ("ab", 1)];
        assert_eq!(shown(&all, 2, 99), ["a-b: a-b/x a-b/y", "a: a/x a/y", ": ab"]);
    }

    #[test]
    fn limits_are_reached_but_not_exceeded() {
        let all = [("a", 10), ("b", 10), ("c", 10), ("d", 10), ("e", 1)];
        assert_eq!(shown(&all, 2, 99), ["#1: a b", "#2: c d", "#3: e"]);
        assert_eq!(shown(&all, 9, 20), ["#1: a b", "#2: c d", "#3: e"]);
        assert_eq!(shown(&all, 5, 41), [": a b c d e"]);
    }

    #[test]
    fn file_above_the_limit_has_a_task_of_its_own() {
        assert_eq!(
            shown(&[("a", 1), ("b", 5000), ("c", 1)], 40, 3000),
            ["#1: a", "#2: b", "#3: c"]
        );
        assert_eq!(shown(&[("b", 5000)], 40, 3000), [": b"]);
        assert_eq!(shown(&[("a", 1), ("b", 1)], 0, 0), ["#1: a", "#2: b"]);
    }
}
