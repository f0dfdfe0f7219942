//! From files to tasks that have no name yet, by where the files lie.

use super::discover::PlanFile;
use super::snapshot::split;

/// A task before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    /// What its id is made from: the path of a file of its own, or of a directory (empty for the top).
    pub path: String,
    /// Which of the tasks of this path it is, from 1; `None` if it is the only one.
    pub part: Option<usize>,
    /// Its files by their numbers, sorted. Never empty.
    pub files: Vec<usize>,
}

impl Draft {
    /// A task of files that are named after something.
    pub(super) fn new(path: impl Into<String>, mut files: Vec<usize>) -> Self {
        files.sort_unstable();
        Self { path: path.into(), part: None, files }
    }
}

/// How much fits into one task.
#[derive(Debug, Clone, Copy)]
pub(super) struct TaskLimits<'f> {
    /// All files, sorted by path.
    pub files: &'f [PlanFile],
    /// The most files; 0 counts as 1.
    pub max_files: usize,
    /// The most lines. A single file always fits.
    pub max_lines: u64,
    /// The most tokens. A single file always fits.
    pub max_tokens: u64,
}

impl TaskLimits<'_> {
    /// Whether these files may be one task.
    pub(super) fn fit(&self, files: &[usize]) -> bool {
        let lines: u64 = files.iter().map(|f| self.files[*f].lines).sum();
        let tokens: u64 = files.iter().map(|f| self.files[*f].tokens).sum();
        files.len() <= 1
            || (files.len() <= self.max_files
                && lines <= self.max_lines
                && tokens <= self.max_tokens)
    }

    /// Whether both together may be one task.
    pub(super) fn fit_both(&self, some: &[usize], others: &[usize]) -> bool {
        self.fit(&[some, others].concat())
    }

    /// Cuts files, in their order, as rarely as the limits allow. A file that exceeds a limit by itself is a part by
    /// itself: no file is ever dropped.
    pub(super) fn split(&self, files: &[usize]) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let (mut lines, mut tokens) = (0_u64, 0_u64);
        for file in files {
            let (more, heavier) = (self.files[*file].lines, self.files[*file].tokens);
            match parts.last_mut() {
                Some(part)
                    if part.len() < self.max_files
                        && lines + more <= self.max_lines
                        && tokens + heavier <= self.max_tokens =>
                {
                    lines += more;
                    tokens += heavier;
                    part.push(*file);
                }
                Some(_) | None => {
                    (lines, tokens) = (more, heavier);
                    parts.push(vec![*file]);
                }
            }
        }
        parts
    }

    /// The deepest folder that holds all of these files.
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

/// Whole folders with all that is below them, as large as fit: one that does not fit is split along its sub-folders,
/// those of them that are small are put together again, and its own files stand by themselves.
pub(super) fn by_directory(limits: &TaskLimits<'_>) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..limits.files.len()).collect();
    let mut found = Vec::new();
    let mut pending = vec![(0_usize, all)];
    // `depth` is how many bytes of their paths the files have in common: `src/` of those in `src`.
    while let Some((depth, files)) = pending.pop() {
        if files.is_empty() {
            continue;
        }
        if limits.fit(&files) {
            found.push(files);
            continue;
        }
        let mut own = Vec::new();
        let mut folders: Vec<(&str, Vec<usize>)> = Vec::new();
        for file in files {
            let path = limits.files[file].path.as_str();
            match path[depth..].split_once('/') {
                None => own.push(file),
                Some((folder, _)) => match folders.last_mut() {
                    Some((last, inside)) if *last == folder => inside.push(file),
                    Some(_) | None => folders.push((folder, vec![file])),
                },
            }
        }
        let mut small = limits.split(&own);
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
                    found.push(before);
                    files
                }
                None => files,
            });
        }
        found.extend(open);
    }
    for files in &mut found {
        files.sort_unstable();
    }
    found.sort_unstable();
    found
}

/// Sorts drafts by their first files, and numbers those that are named after the same.
pub(super) fn finish(mut drafts: Vec<Draft>) -> Vec<Draft> {
    drafts.sort_by(|a, b| a.files.cmp(&b.files));
    let mut counts: std::collections::BTreeMap<String, (usize, usize)> = Default::default();
    for draft in &drafts {
        counts.entry(draft.path.clone()).or_default().0 += 1;
    }
    for draft in &mut drafts {
        if let Some((all, so_far)) = counts.get_mut(&draft.path) {
            *so_far += 1;
            draft.part = (*all > 1).then_some(*so_far);
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

    /// The tasks as text: `path#part: files`.
    fn shown(list: &[(&str, u64)], max_files: usize, max_lines: u64) -> Vec<String> {
        let files = files(list);
        let limits = TaskLimits { files: &files, max_files, max_lines, max_tokens: u64::MAX };
        let drafts = by_directory(&limits);
        let drafts = drafts.into_iter().map(|f| Draft::new(limits.folder(&f), f)).collect();
        let text = |d: &Draft| {
            let part = d.part.map_or(String::new(), |n| format!("#{n}"));
            let names: Vec<_> = d.files.iter().map(|f| files[*f].path.as_str()).collect();
            format!("{}{part}: {}", d.path, names.join(" "))
        };
        finish(drafts).iter().map(text).collect()
    }

    #[test]
    fn a_folder_that_fits_is_one_task_with_all_below_it() {
        let all = [("src/a.js", 1), ("src/m/b.js", 1), ("src/m/n/c.js", 1), ("src/z.js", 1)];
        assert_eq!(shown(&all, 40, 3000), ["src: src/a.js src/m/b.js src/m/n/c.js src/z.js"]);
        assert_eq!(shown(&[("a.js", 1), ("b/c.js", 1)], 40, 3000), [": a.js b/c.js"]);
    }

    #[test]
    fn a_large_one_is_split_along_its_folders_and_small_ones_are_put_together() {
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
    fn names_that_begin_alike_are_not_the_same_folder() {
        let all = [("a-b/x", 1), ("a-b/y", 1), ("a/x", 1), ("a/y", 1), ("ab", 1)];
        assert_eq!(shown(&all, 2, 99), ["a-b: a-b/x a-b/y", "a: a/x a/y", ": ab"]);
    }

    #[test]
    fn a_limit_is_reached_but_not_exceeded() {
        let all = [("a", 10), ("b", 10), ("c", 10), ("d", 10), ("e", 1)];
        assert_eq!(shown(&all, 2, 99), ["#1: a b", "#2: c d", "#3: e"]);
        assert_eq!(shown(&all, 9, 20), ["#1: a b", "#2: c d", "#3: e"]);
        assert_eq!(shown(&all, 5, 41), [": a b c d e"]);
    }

    #[test]
    fn a_file_above_the_limit_is_a_task_by_itself() {
        assert_eq!(
            shown(&[("a", 1), ("b", 5000), ("c", 1)], 40, 3000),
            ["#1: a", "#2: b", "#3: c"]
        );
        assert_eq!(shown(&[("b", 5000)], 40, 3000), [": b"]);
        assert_eq!(shown(&[("a", 1), ("b", 1)], 0, 0), ["#1: a", "#2: b"]);
    }
}
