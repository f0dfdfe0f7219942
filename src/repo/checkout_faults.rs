//! Faults of a tree: paths that a worktree cannot hold, whatever the checks say.

use anyhow::{Context, Result};
use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::State;
use gix::index::entry::Mode;

use super::encoding::{EncodingRules, is_attributes_file, mentions_encoding, new_unknown_encoding};
use super::{AttributeFiles, Repo, object_id, tree};
use crate::domain::id::Oid;

/// A path that cannot be checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckoutFault {
    /// The path and the reason.
    pub message: String,
    /// True if the fault may come from `.gitattributes` files that were the same before.
    pub needs_attributes: bool,
}

/// Returns the first fault that a tree (or a commit's tree) has and the tree before has not: a
/// submodule that differs, a name that git refuses, or a file that cannot be written in its
/// encoding.
pub(crate) fn new_checkout_fault(
    repo: &Repo,
    attributes: &AttributeFiles,
    before: &Oid,
    after: &Oid,
) -> Result<Option<CheckoutFault>> {
    let local = repo.local();
    let before = tree::peel_to_tree(&local, object_id(before)?)?;
    let after = tree::peel_to_tree(&local, object_id(after)?)?;
    let differences = tree::differences(&local, before, after)?;
    for difference in &differences {
        let path = &difference.path;
        let mut sides = difference.before.iter().chain(&difference.after);
        let message = if sides.any(|entry| entry.mode.is_commit()) {
            format!("it adds, moves or removes the submodule `{path}`")
        } else if difference.after.is_some() && tree::check_path(path).is_err() {
            format!("git does not allow the path `{path}` in a tree")
        } else {
            continue;
        };
        return Ok(Some(CheckoutFault { message, needs_attributes: false }));
    }
    for difference in differences.iter().filter(|d| is_attributes_file(d.path.as_bstr())) {
        let content = |side: Option<tree::TreeEntry>| match side.filter(|e| e.mode.is_blob()) {
            Some(entry) => {
                Ok(local.find_blob(entry.id).context("cannot read the attributes")?.take_data())
            }
            None => anyhow::Ok(Vec::new()),
        };
        let (old, new) = (content(difference.before)?, content(difference.after)?);
        if let Some(assignment) = new_unknown_encoding(&old, &new) {
            let path = &difference.path;
            let message = format!("git-harness cannot write `{assignment}`, as `{path}` wants");
            return Ok(Some(CheckoutFault { message, needs_attributes: false }));
        }
    }
    let folders: Vec<&BStr> =
        differences.iter().filter_map(|difference| attributes_folder(&difference.path)).collect();
    let changed = |path: &BStr| {
        differences.binary_search_by(|difference| difference.path.as_bstr().cmp(path)).is_ok()
    };
    let is_chosen =
        |path: &BStr| changed(path) || folders.iter().any(|folder| path.starts_with(folder));
    let message = encoding_fault(&local, attributes, after, &is_chosen)?;
    let needs_attributes = folders.is_empty();
    Ok(message.map(|message| CheckoutFault { message, needs_attributes }))
}

/// Returns a file of a commit or tree that a worktree cannot hold in its encoding, with the reason.
pub(crate) fn unwritable_file(
    repo: &Repo,
    attributes: &AttributeFiles,
    commit: &Oid,
) -> Result<Option<String>> {
    let local = repo.local();
    let root = tree::peel_to_tree(&local, object_id(commit)?)?;
    encoding_fault(&local, attributes, root, &|_| true)
}

/// Returns the folder of a file with attributes.
fn attributes_folder(path: &BString) -> Option<&BStr> {
    let end = path.rfind_byte(b'/').map_or(0, |slash| slash + 1);
    is_attributes_file(path.as_bstr()).then(|| path[..end].as_bstr())
}

/// Returns the first of the chosen files of a tree that cannot be written in its encoding.
fn encoding_fault(
    local: &gix::Repository,
    attributes: &AttributeFiles,
    root: gix::ObjectId,
    is_chosen: &dyn Fn(&BStr) -> bool,
) -> Result<Option<String>> {
    // Listing all files of a tree is much slower than finding its attributes.
    if !mentions_encoding(local, attributes.with_encoding(local, root)?)? {
        return Ok(None);
    }
    let state = State::from_tree(&root, &local.objects, tree::name_rules())
        .with_context(|| format!("cannot list a tree: {root}"))?;
    let Some(mut rules) = EncodingRules::of(local, &state)? else { return Ok(None) };
    for entry in state.entries() {
        let path = entry.path(&state);
        let is_file = matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE);
        if !is_file || !is_chosen(path) {
            continue;
        }
        let content = || {
            let blob = local.find_blob(entry.id);
            Ok(blob.with_context(|| format!("cannot read a file: {path}"))?.take_data())
        };
        if let Some(reason) = rules.fault(path, content)? {
            return Ok(Some(format!("`{path}` cannot be checked out: {reason}")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    use super::*;

    fn fault(before: &[(&str, &str)], after: &[(&str, &str)]) -> Option<CheckoutFault> {
        let fx = RepoFixture::new();
        let attributes = AttributeFiles::default();
        new_checkout_fault(&fx.repo, &attributes, &fx.tree(before), &fx.tree(after)).unwrap()
    }

    #[test]
    fn encoding_that_a_file_cannot_have_is_a_fault_of_the_change() {
        let (file, latin) = ("a.txt", "*.txt working-tree-encoding=windows-1252\n");
        let (attributes, none) = (".gitattributes", "");
        let unmapped = fault(&[(attributes, latin)], &[(attributes, latin), (file, "日\n")]);
        let unmapped = unmapped.unwrap();
        assert!(unmapped.needs_attributes, "another change may have brought the attribute");
        let message = "`a.txt` cannot be checked out: \
                       the content cannot be converted to working-tree-encoding=windows-1252";
        assert_eq!(unmapped.message, message);
        let restyled =
            fault(&[(attributes, none), (file, "日\n")], &[(attributes, latin), (file, "日\n")]);
        assert_eq!(restyled, Some(CheckoutFault { needs_attributes: false, ..unmapped }));
        // A fault that the tree before has, and a file that can be converted, are not faults.
        let old = [(attributes, latin), (file, "日\n")];
        assert_eq!(fault(&old, &[(attributes, latin), (file, "日\n"), ("new", "日\n")]), None);
        assert_eq!(fault(&[], &[(attributes, latin), (file, "ü\n")]), None);
    }

    #[test]
    fn unknown_encodings_and_flags_are_faults() {
        for (value, part) in [
            ("=NO-SUCH", "git-harness cannot write working-tree-encoding=NO-SUCH"),
            ("=UTF-32", "git-harness cannot write working-tree-encoding=UTF-32"),
            ("", "`working-tree-encoding` needs the name of an encoding"),
        ] {
            let word = format!("working-tree-encoding{value}");
            let attributes = format!("*.txt {word}\n");
            let attributes = ("d/.gitattributes", attributes.as_str());
            // A branch that adds the attribute, with or without a file to which it applies.
            for file in [("d/a.txt", "a\n"), ("other", "a\n")] {
                let found = fault(&[], &[attributes, file]).unwrap();
                let message =
                    format!("git-harness cannot write `{word}`, as `d/.gitattributes` wants");
                assert_eq!((found.message, found.needs_attributes), (message, false));
            }
            // A branch that adds a file to which an existing attribute applies.
            let found = fault(&[attributes], &[attributes, ("d/a.txt", "a\n")]).unwrap();
            assert_eq!(found.message, format!("`d/a.txt` cannot be checked out: {part}"));
        }
        let valid = "*.txt working-tree-encoding=UTF-16LE\n";
        assert_eq!(fault(&[], &[(".gitattributes", valid), ("a.txt", "a\n")]), None);
    }

    #[test]
    fn names_that_git_refuses_and_changed_submodules_are_faults() {
        let fx = RepoFixture::new();
        let base = fx.tree(&[("a", "1\n")]);
        let blob = super::super::write_blob(&fx.repo, b"evil\n").unwrap();
        let made = |line: &str| {
            let alias = format!("!printf '{line}\\n' | git mktree --missing");
            let tree = fx.git(&["-c", &format!("alias.made={alias}"), "made"]);
            Oid::parse(tree.trim()).unwrap()
        };
        for (line, message) in [
            (format!("100644 blob {blob}\\t.GIT"), "git does not allow the path `.GIT` in a tree"),
            (
                format!("160000 commit {}\\tlib", "1".repeat(40)),
                "it adds, moves or removes the submodule `lib`",
            ),
        ] {
            let attributes = AttributeFiles::default();
            let found = new_checkout_fault(&fx.repo, &attributes, &base, &made(&line));
            let found = found.unwrap().unwrap();
            assert_eq!((found.message.as_str(), found.needs_attributes), (message, false));
        }
    }
}
