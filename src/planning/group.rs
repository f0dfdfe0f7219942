//! From files to tasks that have no name yet.

use std::collections::BTreeMap;

use super::discover::File;

/// A task before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What its id is made from: the path of its file, or of its directory (empty for the top).
    pub path: String,
    /// Which part of a split directory it is, from 1; `None` if the directory is one task.
    pub part: Option<usize>,
    /// Its files, sorted by path. Never empty.
    pub files: Vec<File>,
}

/// One task a file.
pub fn by_file(files: Vec<File>) -> Vec<Draft> {
    files
        .into_iter()
        .map(|file| Draft { path: file.path.clone(), part: None, files: vec![file] })
        .collect()
}

/// One task a directory, more where a limit would be exceeded. `files` are sorted by path; the tasks are sorted by
/// their first one.
pub fn by_directory(files: Vec<File>, max_files: usize, max_lines: u64) -> Vec<Draft> {
    let mut directories: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for file in files {
        let dir = file.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        directories.entry(dir.to_owned()).or_default().push(file);
    }
    let mut drafts = Vec::new();
    for (path, files) in directories {
        let parts = split(files, max_files, max_lines);
        let is_split = parts.len() > 1;
        drafts.extend(parts.into_iter().enumerate().map(|(index, files)| Draft {
            path: path.clone(),
            part: is_split.then_some(index + 1),
            files,
        }));
    }
    drafts.sort_by(|a, b| a.files[0].path.cmp(&b.files[0].path));
    drafts
}

/// Cuts a directory's files, in their order, as rarely as the limits allow. A file that exceeds a limit by itself is a
/// part by itself: no file is ever dropped.
fn split(files: Vec<File>, max_files: usize, max_lines: u64) -> Vec<Vec<File>> {
    let mut parts: Vec<Vec<File>> = Vec::new();
    let mut lines = 0_u64;
    for file in files {
        match parts.last_mut() {
            Some(part) if part.len() < max_files && lines + file.lines <= max_lines => {
                lines += file.lines;
                part.push(file);
            }
            Some(_) | None => {
                lines = file.lines;
                parts.push(vec![file]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, u64)]) -> Vec<File> {
        let file = |&(path, lines): &(&str, u64)| File { path: path.into(), lines, bytes: 0 };
        list.iter().map(file).collect()
    }

    /// The drafts as text: `path#part: files`.
    fn shown(drafts: &[Draft]) -> Vec<String> {
        let names =
            |d: &Draft| d.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>().join(" ");
        let part = |d: &Draft| d.part.map_or(String::new(), |n| format!("#{n}"));
        drafts.iter().map(|d| format!("{}{}: {}", d.path, part(d), names(d))).collect()
    }

    #[test]
    fn a_directory_does_not_hold_what_is_in_its_directories() {
        let all = files(&[("a.js", 1), ("m/b.js", 1), ("m/n/c.js", 1), ("m/z.js", 1)]);
        assert_eq!(
            shown(&by_directory(all, 40, 3000)),
            [": a.js", "m: m/b.js m/z.js", "m/n: m/n/c.js"]
        );
    }

    #[test]
    fn tasks_are_in_the_order_of_their_first_paths() {
        // By directory name `m` comes before `m/a`; by first path it is the other way round.
        let all = files(&[("m/a/x.js", 1), ("m/b.js", 1)]);
        assert_eq!(shown(&by_directory(all, 40, 3000)), ["m/a: m/a/x.js", "m: m/b.js"]);
    }

    #[test]
    fn a_limit_is_reached_but_not_exceeded() {
        let all = files(&[("a", 10), ("b", 10), ("c", 10), ("d", 10), ("e", 1)]);
        assert_eq!(shown(&by_directory(all.clone(), 2, 99)), ["#1: a b", "#2: c d", "#3: e"]);
        assert_eq!(shown(&by_directory(all.clone(), 9, 20)), ["#1: a b", "#2: c d", "#3: e"]);
        assert_eq!(shown(&by_directory(all, 5, 41)), [": a b c d e"]);
    }

    #[test]
    fn a_file_above_the_limit_is_a_task_by_itself() {
        let all = files(&[("a", 1), ("b", 5000), ("c", 1)]);
        assert_eq!(shown(&by_directory(all, 40, 3000)), ["#1: a", "#2: b", "#3: c"]);
        assert_eq!(shown(&by_directory(files(&[("b", 5000)]), 40, 3000)), [": b"]);
    }

    #[test]
    fn a_limit_of_nothing_still_drops_no_file() {
        assert_eq!(shown(&by_directory(files(&[("a", 1), ("b", 1)]), 0, 0)), ["#1: a", "#2: b"]);
    }
}
