//! Pairs of files before and after a task's work, as input for a comparison.

use std::collections::BTreeSet;

/// The extensions of source files, each with the extension of the same kind in the other language.
const EXTENSIONS: [(&str, &str); 8] = [
    ("js", "ts"),
    ("jsx", "tsx"),
    ("mjs", "mts"),
    ("cjs", "cts"),
    ("ts", "js"),
    ("tsx", "jsx"),
    ("mts", "mjs"),
    ("cts", "cjs"),
];

/// Predicates that select the files to compare.
pub(crate) struct PairGlobs<'a> {
    /// Returns true for a path to compare in the tree before the work.
    pub from: &'a dyn Fn(&str) -> bool,
    /// Returns true for a path to compare in the tree after the work.
    pub to: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for PairGlobs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairGlobs").finish_non_exhaustive()
    }
}

/// The tree before or after the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreeSide {
    /// The tree that the work started from.
    Before,
    /// The tree that is checked.
    After,
}

/// A file and its predecessor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilePair {
    /// The predecessor; `None` for a new file.
    pub from: Option<String>,
    /// The file.
    pub to: String,
}

/// The pairs to compare, and the files without a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FilePairs {
    /// The pairs, ordered by `to`.
    pub pairs: Vec<FilePair>,
    /// Messages about files without a valid successor, and about old files that were not removed.
    pub problems: Vec<String>,
}

/// Finds the pairs to compare for a task that owns `files`.
///
/// `changed` holds every path that differs between the trees. `None` limits the pairs to the task's
/// own files: pass `None` for a tree that also holds the work of other tasks. `has` returns true if
/// a tree has a path. A declaration file (`.d.ts`) is not a program and has no pair.
pub(crate) fn find_pairs<E>(
    globs: &PairGlobs,
    files: &[String],
    changed: Option<&[String]>,
    has: impl Fn(TreeSide, &str) -> Result<bool, E>,
) -> Result<FilePairs, E> {
    let touched: BTreeSet<&str> =
        files.iter().chain(changed.unwrap_or_default()).map(|p| &**p).collect();
    let mut after: BTreeSet<String> = BTreeSet::new();
    let mut result = FilePairs::default();
    for path in touched {
        let is_compared = (globs.from)(path) || (globs.to)(path);
        if is_declaration(path) || !is_compared {
            continue;
        }
        if (globs.to)(path) && has(TreeSide::After, path)? {
            // An unchanged file of the task is compared, too, at little cost.
            after.insert(path.to_owned());
            continue;
        }
        if !has(TreeSide::Before, path)? {
            continue;
        }
        let successor = find_counterpart(path, globs.to, |p| has(TreeSide::After, p))?;
        match successor {
            Some(successor) => {
                after.insert(successor);
            }
            None if has(TreeSide::After, path)? => {
                result.problems.push(format!(
                    "{path}: it was not migrated: no file of its name matches the check's `to`"
                ));
            }
            None => result.problems.push(format!("{path}: it is gone, and no file took its place")),
        }
    }
    for to in after {
        let from = if has(TreeSide::Before, &to)? {
            Some(to.clone())
        } else {
            find_counterpart(&to, globs.from, |p| has(TreeSide::Before, p))?
        };
        if let Some(from) = from.as_ref().filter(|from| **from != to)
            && has(TreeSide::After, from)?
        {
            result.problems.push(format!("{from}: it is still there beside {to}; a migrated file takes the place of the old one"));
        }
        result.pairs.push(FilePair { from, to });
    }
    Ok(result)
}

/// Finds an existing path with the same stem and another extension. The extension of the same kind
/// takes precedence.
fn find_counterpart<E>(
    path: &str,
    is_compared: &dyn Fn(&str) -> bool,
    exists: impl Fn(&str) -> Result<bool, E>,
) -> Result<Option<String>, E> {
    let Some((stem, extension)) = path.rsplit_once('.') else { return Ok(None) };
    let Some((_, same_kind)) = EXTENSIONS.iter().find(|(known, _)| *known == extension) else {
        return Ok(None);
    };
    for end in [*same_kind].into_iter().chain(EXTENSIONS.iter().map(|(end, _)| *end)) {
        let other = format!("{stem}.{end}");
        if other != path && is_compared(&other) && exists(&other)? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

fn is_declaration(path: &str) -> bool {
    [".d.ts", ".d.mts", ".d.cts"].iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Returns the pairs and the problems of two trees.
    fn describe_pairs(
        before: &[&str],
        after: &[&str],
        files: &[&str],
        changed: Option<&[&str]>,
    ) -> Vec<String> {
        let js = |path: &str| path.ends_with("js") || path.ends_with(".jsx");
        let ts = |path: &str| path.ends_with("ts") || path.ends_with(".tsx");
        let globs = PairGlobs { from: &js, to: &ts };
        let owned = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let changed = changed.map(owned);
        let has = |side, path: &str| -> Result<bool, Infallible> {
            Ok(match side {
                TreeSide::Before => before.contains(&path),
                TreeSide::After => after.contains(&path),
            })
        };
        let Ok(pairs) = find_pairs(&globs, &owned(files), changed.as_deref(), has);
        let pair = |p: FilePair| format!("{} > {}", p.from.unwrap_or_default(), p.to);
        pairs.pairs.into_iter().map(pair).chain(pairs.problems).collect()
    }

    #[test]
    fn file_pair_is_found_by_stem_and_kind_of_extension() {
        let before = ["a.js", "b.mjs", "c.jsx", "d.js", "d.cjs"];
        let after = ["a.ts", "b.mts", "c.tsx", "d.cts", "d.ts"];
        let changed = [&before[..], &after[..]].concat();
        let pairs = describe_pairs(&before, &after, &["a.js"], Some(&changed));
        let want =
            ["a.js > a.ts", "b.mjs > b.mts", "c.jsx > c.tsx", "d.cjs > d.cts", "d.js > d.ts"];
        assert_eq!(pairs, want);
        assert_eq!(
            describe_pairs(&["a.js"], &["a.tsx"], &["a.js"], Some(&["a.js", "a.tsx"])),
            ["a.js > a.tsx"]
        );
    }

    #[test]
    fn file_pairs_of_new_changed_and_declaration_files() {
        let before = ["a.ts", "b.ts"];
        let after = ["a.ts", "b.ts", "new.ts", "new.d.ts", "new.css"];
        let changed = ["a.ts", "new.ts", "new.d.ts", "new.css"];
        assert_eq!(
            describe_pairs(&before, &after, &[], Some(&changed)),
            ["a.ts > a.ts", " > new.ts"]
        );
    }

    #[test]
    fn file_without_a_successor_is_a_problem() {
        let none = "a.js: it was not migrated: no file of its name matches the check's `to`";
        assert_eq!(describe_pairs(&["a.js"], &["a.js"], &["a.js"], Some(&[])), [none]);
        let gone = "a.js: it is gone, and no file took its place";
        assert_eq!(describe_pairs(&["a.js"], &[], &["a.js"], Some(&["a.js"])), [gone]);
        assert_eq!(
            describe_pairs(&["a.js"], &["b.ts"], &["a.js"], Some(&["a.js", "b.ts"])),
            [" > b.ts", gone]
        );
        // A file that belongs to no task is a problem, too.
        assert_eq!(describe_pairs(&["a.js"], &[], &[], Some(&["a.js"])), [gone]);
    }

    #[test]
    fn copied_file_with_its_original_is_a_problem() {
        let pairs = describe_pairs(&["a.js"], &["a.js", "a.ts"], &["a.js"], Some(&["a.ts"]));
        let beside =
            "a.js: it is still there beside a.ts; a migrated file takes the place of the old one";
        assert_eq!(pairs, ["a.js > a.ts", beside]);
    }

    #[test]
    fn file_pairs_without_changed_paths_cover_only_the_tasks_files() {
        let (before, after) = (["a.js", "b.js", "c.css"], ["a.ts", "b.ts", "c.css"]);
        assert_eq!(describe_pairs(&before, &after, &["a.js", "c.css"], None), ["a.js > a.ts"]);
    }

    #[test]
    fn file_pair_with_equal_globs_is_the_file_itself() {
        let any = |path: &str| path.ends_with(".js");
        let globs = PairGlobs { from: &any, to: &any };
        let has = |_, path: &str| -> Result<bool, Infallible> { Ok(path == "a.js") };
        let Ok(pairs) = find_pairs(&globs, &["a.js".to_owned()], Some(&["a.js".to_owned()]), has);
        let pair = FilePair { from: Some("a.js".into()), to: "a.js".into() };
        assert_eq!(pairs, FilePairs { pairs: vec![pair], problems: Vec::new() });
    }
}
