//! Entries of a tree that lead out of the repository or that make git run a program.

use anyhow::{Context as _, Result};
use gix::bstr::{BStr, BString, ByteSlice as _};

use super::{Repo, object_id, tree};
use crate::domain::id::Oid;

/// The file that describes submodules.
const MODULES: &str = ".gitmodules";

/// An entry that no candidate may add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnsafeEntry {
    /// A symbolic link to a place outside of the repository or inside of its `.git`.
    Link {
        /// The path of the link.
        path: String,
        /// The place to which it leads.
        target: String,
    },
    /// A description of submodules with a command, or with a value that git takes for an option.
    Modules {
        /// The key and its value.
        setting: String,
    },
}

/// Returns the unsafe entries that are added or changed from `a` to `b` (trees or commits), sorted.
pub(crate) fn added_unsafe_entries(repo: &Repo, a: &Oid, b: &Oid) -> Result<Vec<UnsafeEntry>> {
    let local = repo.local();
    let (a, b) =
        (tree::peel_to_tree(&local, object_id(a)?)?, tree::peel_to_tree(&local, object_id(b)?)?);
    let mut found = Vec::new();
    for difference in tree::differences(&local, a, b)? {
        let Some(entry) = difference.after else { continue };
        let is_modules = difference.path.eq_ignore_ascii_case(MODULES.as_bytes());
        if !entry.mode.is_link() && !is_modules {
            continue;
        }
        let blob = local.find_blob(entry.id).with_context(|| super::at(&difference.path))?;
        if entry.mode.is_link() {
            if is_modules || leaves(difference.path.as_bstr(), blob.data.as_bstr()) {
                let (path, target) = (difference.path.to_string(), blob.data.as_bstr().to_string());
                found.push(UnsafeEntry::Link { path, target });
            }
        } else {
            let settings = unsafe_settings(&blob.data).into_iter();
            found.extend(settings.map(|setting| UnsafeEntry::Modules { setting }));
        }
    }
    Ok(found)
}

/// Returns true if a link at `path` may lead out of the repository. Each link on the way down is
/// judged by itself, so that only `..` leads up. A `..` after a name is refused: the name may be a
/// link.
fn leaves(path: &BStr, target: &BStr) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut at: Vec<&[u8]> = path.split_str("/").collect();
    at.pop();
    let mut went_down = false;
    for part in target.split_str("/") {
        match part {
            b"" | b"." => {}
            b".." if went_down || at.pop().is_none() => return true,
            b".." => {}
            name => {
                at.push(name);
                went_down = true;
            }
        }
    }
    at.first().is_some_and(|first| first.eq_ignore_ascii_case(b".git"))
}

/// Returns the settings of a `.gitmodules` file that git itself refuses, or that run a command.
/// Each line is read by itself, so that a file that git cannot parse is judged too.
fn unsafe_settings(text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once_str("=") else { continue };
        let (key, value) = (key.trim(), value.trim());
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let is = |name: &str| key.eq_ignore_ascii_case(name.as_bytes());
        let is_command = is("update") && value.starts_with(b"!");
        let is_option = (is("url") || is("path")) && value.starts_with(b"-");
        if is_command || is_option {
            found.push(BString::from(line.trim()).to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_leaves_by_an_absolute_path_by_dots_or_into_git() {
        let table = [
            ("link", "file", false),
            ("a/b/link", "../../top", false),
            ("a/link", "./../a/c", false),
            ("a/link", "../..", true),
            ("link", "..", true),
            ("link", "/etc/passwd", true),
            ("link", "a/../b", true),
            ("a/b/link", "../c/../../../x", true),
            ("link", ".git/config", true),
            ("a/link", "../.GIT/hooks", true),
            ("a/link", ".git-notes", false),
        ];
        for (path, target, expected) in table {
            assert_eq!(leaves(path.into(), target.into()), expected, "{path} -> {target}");
        }
    }

    #[test]
    fn submodule_settings_with_commands_or_options_are_unsafe() {
        let text = b"[submodule \"a\"]\n\tpath = a\n\tUpdate = !touch x\n\turl = \"--upload-pack=x\"\n\turl = ../b\n";
        assert_eq!(unsafe_settings(text), ["Update = !touch x", "url = \"--upload-pack=x\""]);
    }
}
