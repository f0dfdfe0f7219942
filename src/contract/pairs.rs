//! Which file became which: what a comparison of a task's work with what was there before compares.

use std::collections::BTreeSet;

/// The extensions of a program's file, each with that of the same kind in the other language.
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

/// Which files a contract is about.
pub(crate) struct PairGlobs<'a> {
    /// Those before.
    pub from: &'a dyn Fn(&str) -> bool,
    /// Those after.
    pub to: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for PairGlobs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairGlobs").finish_non_exhaustive()
    }
}

/// One of two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreeSide {
    /// The one from which the work started.
    Before,
    /// The one that is judged.
    After,
}

/// A file after, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilePair {
    /// What it was; nothing if it is new.
    pub from: Option<String>,
    /// The file.
    pub to: String,
}

/// What is to be compared, and what cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FilePairs {
    /// In order of the files after.
    pub pairs: Vec<FilePair>,
    /// Files without what should have become of them, each as a sentence.
    pub problems: Vec<String>,
}

/// Finds the pairs of a task with these files.
///
/// `changed` is every path that differs between the trees. Without it only the task's own files count, as on a tree that
/// holds the work of others too. `has` says whether a tree has a path. Declaration files (`.d.ts`) are no programs.
pub(crate) fn find_pairs<E>(
    globs: &PairGlobs,
    files: &[String],
    changed: Option<&[String]>,
    has: impl Fn(TreeSide, &str) -> Result<bool, E>,
) -> Result<FilePairs, E> {
    let touched: BTreeSet<&str> =
        files.iter().chain(changed.unwrap_or_default()).map(|p| &**p).collect();
    let mut after: BTreeSet<String> = BTreeSet::new();
    let mut found = FilePairs::default();
    for path in touched {
        let about = (globs.from)(path) || (globs.to)(path);
        if is_declaration(path) || !about {
            continue;
        }
        if (globs.to)(path) && has(TreeSide::After, path)? {
            // One of the task's own that is as it was is found to be equal, which costs little.
            after.insert(path.to_owned());
            continue;
        }
        if !has(TreeSide::Before, path)? {
            continue;
        }
        let next = first(path, globs.to, |p| has(TreeSide::After, p))?;
        match next {
            Some(next) => {
                after.insert(next);
            }
            None if has(TreeSide::After, path)? => {
                found.problems.push(format!(
                    "{path}: it was not migrated: no file of its name matches the check's `to`"
                ));
            }
            None => found.problems.push(format!("{path}: it is gone, and no file took its place")),
        }
    }
    for to in after {
        let from = if has(TreeSide::Before, &to)? {
            Some(to.clone())
        } else {
            first(&to, globs.from, |p| has(TreeSide::Before, p))?
        };
        if let Some(from) = from.as_ref().filter(|from| **from != to)
            && has(TreeSide::After, from)?
        {
            found.problems.push(format!("{from}: it is still there beside {to}; a migrated file takes the place of the old one"));
        }
        found.pairs.push(FilePair { from, to });
    }
    Ok(found)
}

/// The first path of the same name with another extension that is wanted and there; that of the same kind comes first.
fn first<E>(
    path: &str,
    wanted: &dyn Fn(&str) -> bool,
    there: impl Fn(&str) -> Result<bool, E>,
) -> Result<Option<String>, E> {
    let Some((stem, extension)) = path.rsplit_once('.') else { return Ok(None) };
    let Some((_, kin)) = EXTENSIONS.iter().find(|(known, _)| *known == extension) else {
        return Ok(None);
    };
    for end in [*kin].into_iter().chain(EXTENSIONS.iter().map(|(end, _)| *end)) {
        let other = format!("{stem}.{end}");
        if other != path && wanted(&other) && there(&other)? {
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

    /// The pairs and problems of trees given as lists of paths.
    fn of(
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
        let Ok(found) = find_pairs(&globs, &owned(files), changed.as_deref(), has);
        let pair = |p: FilePair| format!("{} > {}", p.from.unwrap_or_default(), p.to);
        found.pairs.into_iter().map(pair).chain(found.problems).collect()
    }

    #[test]
    fn a_file_is_found_by_its_name_and_family() {
        let before = ["a.js", "b.mjs", "c.jsx", "d.js", "d.cjs"];
        let after = ["a.ts", "b.mts", "c.tsx", "d.cts", "d.ts"];
        let changed = [&before[..], &after[..]].concat();
        let found = of(&before, &after, &["a.js"], Some(&changed));
        let want =
            ["a.js > a.ts", "b.mjs > b.mts", "c.jsx > c.tsx", "d.cjs > d.cts", "d.js > d.ts"];
        assert_eq!(found, want);
        assert_eq!(
            of(&["a.js"], &["a.tsx"], &["a.js"], Some(&["a.js", "a.tsx"])),
            ["a.js > a.tsx"]
        );
    }

    #[test]
    fn new_files_changed_files_and_declarations() {
        let before = ["a.ts", "b.ts"];
        let after = ["a.ts", "b.ts", "new.ts", "new.d.ts", "new.css"];
        let changed = ["a.ts", "new.ts", "new.d.ts", "new.css"];
        assert_eq!(of(&before, &after, &[], Some(&changed)), ["a.ts > a.ts", " > new.ts"]);
    }

    #[test]
    fn a_file_of_the_task_without_a_successor_is_a_problem() {
        let none = "a.js: it was not migrated: no file of its name matches the check's `to`";
        assert_eq!(of(&["a.js"], &["a.js"], &["a.js"], Some(&[])), [none]);
        let gone = "a.js: it is gone, and no file took its place";
        assert_eq!(of(&["a.js"], &[], &["a.js"], Some(&["a.js"])), [gone]);
        assert_eq!(of(&["a.js"], &["b.ts"], &["a.js"], Some(&["a.js", "b.ts"])), [" > b.ts", gone]);
        // Also one that is not the task's.
        assert_eq!(of(&["a.js"], &[], &[], Some(&["a.js"])), [gone]);
    }

    #[test]
    fn a_copy_is_no_migration() {
        let found = of(&["a.js"], &["a.js", "a.ts"], &["a.js"], Some(&["a.ts"]));
        let beside =
            "a.js: it is still there beside a.ts; a migrated file takes the place of the old one";
        assert_eq!(found, ["a.js > a.ts", beside]);
    }

    #[test]
    fn on_a_tree_with_the_work_of_others_only_the_own_files_count() {
        let (before, after) = (["a.js", "b.js", "c.css"], ["a.ts", "b.ts", "c.css"]);
        assert_eq!(of(&before, &after, &["a.js", "c.css"], None), ["a.js > a.ts"]);
    }

    #[test]
    fn a_job_that_keeps_the_names_compares_each_file_with_itself() {
        let any = |path: &str| path.ends_with(".js");
        let globs = PairGlobs { from: &any, to: &any };
        let has = |_, path: &str| -> Result<bool, Infallible> { Ok(path == "a.js") };
        let Ok(found) = find_pairs(&globs, &["a.js".to_owned()], Some(&["a.js".to_owned()]), has);
        let pair = FilePair { from: Some("a.js".into()), to: "a.js".into() };
        assert_eq!(found, FilePairs { pairs: vec![pair], problems: Vec::new() });
    }
}
