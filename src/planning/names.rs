//! Task ids: readable, valid in a ref, and unique in a plan.
//!
//! `src/app.js` becomes `src__app_dot_js`. An id without a hash can be decoded to its path, so such
//! ids are unique. An id that cannot be decoded gets a hash of the path. The id with the hash may
//! still clash with the id of another path; clashing ids get longer hashes. Ids have only
//! lower-case letters, so they are unique on file systems that ignore case, too.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};

use crate::domain::id::{MAX_NAME, TaskId, encode_path};
use crate::repo::sha1_hex;

/// The number of hash digits in an id, by the number of clashes. The last is the whole hash.
const HASH_DIGITS: [usize; 3] = [8, 16, 40];
/// The name of the top folder, which has an empty path.
const TOP: &str = "root";

/// Makes the ids of all tasks of a plan. A task is named after a path (empty for the top folder)
/// and, if the path has several tasks, the number of the part. The pairs are distinct.
pub(super) fn task_ids(tasks: &[(&str, Option<usize>)]) -> Result<Vec<TaskId>> {
    let mut clashes = vec![0_usize; tasks.len()];
    loop {
        let mut names = Vec::with_capacity(tasks.len());
        for (&(path, part), &clashed) in tasks.iter().zip(&clashes) {
            names.push(name(path, part, clashed)?);
        }
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(names.len());
        for name in &names {
            *seen.entry(name).or_default() += 1;
        }
        let clashing: Vec<_> = (0..names.len()).filter(|&i| seen[names[i].as_str()] > 1).collect();
        if clashing.is_empty() {
            return names
                .iter()
                .map(|name| TaskId::parse(name).with_context(|| format!("a bad task id: {name}")))
                .collect();
        }
        for index in clashing {
            if clashes[index] > HASH_DIGITS.len() {
                bail!("two tasks have the same path: `{}`", tasks[index].0);
            }
            clashes[index] += 1;
        }
    }
}

/// Returns the name of one task. `clashed` is the number of shorter names that clashed.
fn name(path: &str, part: Option<usize>, clashed: usize) -> Result<String> {
    let suffix = part.map_or(String::new(), |n| format!("_part_{n}"));
    let plain = if path.is_empty() { TOP.to_owned() } else { encode_path(path) };
    if clashed == 0 && is_faithful(path, &plain) && plain.len() + suffix.len() <= MAX_NAME {
        return Ok(plain + &suffix);
    }
    let digits = HASH_DIGITS[clashed.saturating_sub(1).min(HASH_DIGITS.len() - 1)];
    let hash = hash(path)?;
    let room = MAX_NAME - suffix.len() - digits - 1;
    // The end of a long path is more specific than its start.
    let kept = plain[plain.len().saturating_sub(room)..].trim_start_matches('-');
    let kept = if kept.is_empty() { "path" } else { kept };
    Ok(format!("{kept}-{}{suffix}", &hash[..digits]))
}

/// Decodes an encoded path.
fn decode(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    let mut rest = plain;
    while let Some(c) = rest.chars().next() {
        let (decoded, taken) = if rest.starts_with("_dot_") {
            ('.', 5)
        } else if rest.starts_with("__") {
            ('/', 2)
        } else {
            (c, c.len_utf8())
        };
        out.push(decoded);
        rest = &rest[taken..];
    }
    out
}

/// Returns true if the encoding stands for this path only and is a valid id. Two such paths with
/// the same encoding would have the same decoding, and so be the same path.
fn is_faithful(path: &str, plain: &str) -> bool {
    if path.is_empty() {
        return true;
    }
    decode(plain) == path
        && plain != TOP
        && plain != "result"
        && !plain.starts_with('-')
        && !ends_like_a_part(plain)
}

/// Returns true if a name ends like the name of a part.
fn ends_like_a_part(plain: &str) -> bool {
    let stem = plain.trim_end_matches(|c: char| c.is_ascii_digit());
    stem.len() < plain.len() && stem.ends_with("_part_")
}

/// Returns the SHA-1 of the path's bytes in hex (`printf %s PATH | sha1sum`). The hash algorithm of
/// the repository does not matter.
fn hash(path: &str) -> Result<String> {
    sha1_hex([path.as_bytes()])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn ids(tasks: &[(&str, Option<usize>)]) -> Vec<String> {
        task_ids(tasks).unwrap().iter().map(ToString::to_string).collect()
    }

    fn id(path: &str) -> String {
        ids(&[(path, None)]).remove(0)
    }

    /// Returns true if the id is `plain` with eight digits of a hash.
    fn is_hashed(id: &str, plain: &str) -> bool {
        let Some((kept, hash)) = id.rsplit_once('-') else {
            return false;
        };
        kept == plain && hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit())
    }

    #[test]
    fn plain_path_has_a_readable_id() {
        assert_eq!(id("src/app.js"), "src__app_dot_js");
        assert_eq!(id("src/.env"), "src___dot_env");
        assert_eq!(id("a_b/c-d_1.tar.gz"), "a_b__c-d_1_dot_tar_dot_gz");
        assert_eq!(id("a..b"), "a_dot__dot_b");
        assert_eq!(id("src"), "src");
        assert_eq!(id(""), "root");
        assert_eq!(ids(&[("src", Some(1)), ("src", Some(12))]), ["src_part_1", "src_part_12"]);
    }

    #[test]
    fn hash_in_an_id_is_the_sha1_of_the_path() {
        // `printf %s src/App.js | sha1sum`
        assert_eq!(id("src/App.js"), "src__app_dot_js-1e43fa63");
    }

    #[test]
    fn path_that_cannot_be_decoded_has_a_hash() {
        for (path, plain) in [
            ("README", "readme"),
            ("a b", "a-b"),
            ("a__b", "a__b"),
            ("a_dot_b", "a_dot_b"),
            ("a_/b", "a___b"),
            ("a_.b", "a__dot_b"),
            ("a_dot/dot_b", "a_dot__dot_b"),
            ("x_part_2", "x_part_2"),
            ("x/part_2", "x__part_2"),
            ("result", "result"),
            ("root", "root"),
            ("-x", "x"),
            ("日本", "path"),
            ("été.md", "t-_dot_md"),
        ] {
            assert!(is_hashed(&id(path), plain), "{path} -> {}", id(path));
        }
        assert!(is_hashed(ids(&[("A", Some(3))])[0].strip_suffix("_part_3").unwrap(), "a"));
    }

    #[test]
    fn long_path_keeps_its_end() {
        let long = format!("{}/last.js", "deep/".repeat(40));
        for task in [(long.as_str(), None), (long.as_str(), Some(1234))] {
            let id = ids(&[task]).remove(0);
            assert_eq!(id.len(), MAX_NAME);
            assert!(id.contains("__last_dot_js-"), "{id}");
        }
    }

    #[test]
    fn path_that_looks_like_a_hashed_id_does_not_clash() {
        let taken = id("A");
        let longer = name("A", None, 2).unwrap();
        let whole = name("A", None, 3).unwrap();
        let ids = ids(&[("A", None), (&taken, None), (&longer, None), (&whole, None)]);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 4, "{ids:?}");
    }

    #[test]
    fn duplicate_path_is_refused() {
        assert!(task_ids(&[("a", None), ("a", None)]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn different_paths_have_different_ids(
            paths in prop::collection::hash_set("(/|\\.|_|-|_dot_|__|_part_|[abA01é ]){1,6}", 1..60),
            parts in 0_usize..3,
        ) {
            let part = (parts > 0).then_some(parts);
            let mut tasks: Vec<_> = paths.iter().map(|p| (p.as_str(), None)).collect();
            // Some folders are split, so the names of parts occur with the other names.
            tasks.extend(paths.iter().filter_map(|p| part.map(|n| (p.as_str(), Some(n)))));
            tasks.push(("", None));
            let ids = task_ids(&tasks).unwrap();
            prop_assert_eq!(ids.iter().collect::<HashSet<_>>().len(), tasks.len());
            for id in &ids {
                prop_assert!(TaskId::parse(id.as_str()).is_ok());
            }
            prop_assert_eq!(&ids, &task_ids(&tasks).unwrap());
            // Without a clash, an id depends on nothing but its own task.
            tasks.reverse();
            let mut again = task_ids(&tasks).unwrap();
            again.reverse();
            prop_assert_eq!(&ids, &again);
        }
    }
}
