//! The attribute `working-tree-encoding`: the encodings in which a worktree can hold a file.
//!
//! gix converts files both ways, with two exceptions. It reads UTF-16 but writes UTF-8 instead, so
//! this module writes UTF-16. And it writes a file unconverted, without an error, if it does not
//! know the encoding or if the content cannot be converted. Such a file is a fault of its commit.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use gix::ObjectId;
use gix::attrs::StateRef;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::filter::plumbing::encoding::{Encoding, UTF_8};
use gix::filter::plumbing::worktree::encode_to_worktree;
use gix::index::State;
use gix::index::entry::Stat;
use gix::worktree::stack::state::attributes::Source;

use super::{files, walk};

/// The name of the attribute.
const ATTRIBUTE: &str = "working-tree-encoding";

/// The name of a file with attributes.
const ATTRIBUTES_FILE: &[u8] = b".gitattributes";

/// The encoding of a file in a worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileEncoding {
    /// The file is written as it is.
    Utf8,
    /// gix reads the encoding, and this module writes it.
    Utf16 {
        /// True if the byte with the higher bits comes first.
        big_endian: bool,
        /// True if the file begins with a byte order mark.
        mark: bool,
    },
    /// gix reads and writes the encoding.
    Other(&'static Encoding),
    /// The encoding is not known.
    Unknown,
}

impl FileEncoding {
    /// Returns the encoding with a name. UTF-16 without a byte order is written as git writes it on
    /// Linux.
    fn named(name: &BStr) -> Self {
        match name.to_ascii_uppercase().as_slice() {
            b"" | b"UTF-8" | b"UTF8" => Self::Utf8,
            b"UTF-16" => Self::Utf16 { big_endian: false, mark: true },
            b"UTF-16LE" => Self::Utf16 { big_endian: false, mark: false },
            b"UTF-16BE" => Self::Utf16 { big_endian: true, mark: false },
            _ => match Encoding::for_label(name) {
                Some(encoding) if encoding == UTF_8 => Self::Utf8,
                Some(encoding) if encoding.output_encoding() == encoding => Self::Other(encoding),
                Some(_) | None => Self::Unknown,
            },
        }
    }
}

/// Returns true if the attributes of a worktree name an encoding for a path. They may be those that
/// an agent has left.
pub(super) fn has_encoding(local: &gix::Repository, state: &State, path: &BStr) -> Result<bool> {
    let attributes = local
        .attributes_only(state, Source::WorktreeThenIdMapping)
        .context("cannot read the attributes")?;
    Ok(EncodingRules { attributes }.value(path)?.is_some())
}

/// The encodings of the files of an index.
pub(super) struct EncodingRules<'repo> {
    attributes: gix::AttributeStack<'repo>,
}

impl<'repo> EncodingRules<'repo> {
    /// Returns the encodings, or `None` if no file with attributes names one.
    pub(super) fn of(local: &'repo gix::Repository, state: &State) -> Result<Option<Self>> {
        let own = state.entries().iter().filter(|entry| is_attributes_file(entry.path(state)));
        if !mentions_encoding(local, own.map(|entry| entry.id))? {
            return Ok(None);
        }
        let attributes = local
            .attributes_only(state, Source::IdMapping)
            .context("cannot read the attributes")?;
        Ok(Some(Self { attributes }))
    }

    /// Returns the value of the attribute for a path, as people write it.
    fn value(&mut self, path: &BStr) -> Result<Option<AttributeValue>> {
        let mut outcome = self.attributes.selected_attribute_matches([ATTRIBUTE]);
        self.attributes
            .at_entry(path, None)
            .with_context(|| super::at(path))?
            .matching_attributes(&mut outcome);
        let state = outcome.iter_selected().next().map(|found| match found.assignment.state {
            StateRef::Unspecified => None,
            StateRef::Set | StateRef::Unset => Some(AttributeValue::Flag),
            StateRef::Value(name) => Some(AttributeValue::Name(name.as_bstr().to_owned())),
        });
        Ok(state.flatten())
    }

    /// Returns the reason why a file cannot be written in its encoding, if there is one.
    pub(super) fn fault(
        &mut self,
        path: &BStr,
        content: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Option<String>> {
        let name = match self.value(path)? {
            None => return Ok(None),
            Some(AttributeValue::Flag) => {
                return Ok(Some(format!("`{ATTRIBUTE}` needs the name of an encoding")));
            }
            Some(AttributeValue::Name(name)) => name,
        };
        let encodes = match FileEncoding::named(name.as_bstr()) {
            FileEncoding::Utf8 => true,
            FileEncoding::Utf16 { .. } => std::str::from_utf8(&content()?).is_ok(),
            FileEncoding::Other(encoding) => {
                encode_to_worktree(&content()?, encoding, &mut Vec::new()).is_ok()
            }
            FileEncoding::Unknown => {
                let text = format!("git-harness cannot write {ATTRIBUTE}={name}");
                return Ok(Some(text));
            }
        };
        let text = || format!("the content cannot be converted to {ATTRIBUTE}={name}");
        Ok((!encodes).then(text))
    }

    /// Writes a file that gix has checked out again, if it must be UTF-16. Returns its stat data.
    pub(super) fn write(&mut self, root: &Path, path: &BStr) -> Result<Option<Stat>> {
        let Some(AttributeValue::Name(name)) = self.value(path)? else { return Ok(None) };
        let FileEncoding::Utf16 { big_endian, mark } = FileEncoding::named(name.as_bstr()) else {
            return Ok(None);
        };
        let file = root.join(OsStr::from_bytes(path));
        let failed = || format!("cannot convert a file: {}", file.display());
        let content = std::fs::read(&file).with_context(failed)?;
        // As in git, content that cannot be converted is written as it is.
        let Ok(text) = std::str::from_utf8(&content) else { return Ok(None) };
        let mode = std::fs::symlink_metadata(&file).with_context(failed)?.permissions();
        files::replace_file(&file, &utf16(text, big_endian, mark))?;
        std::fs::set_permissions(&file, mode).with_context(failed)?;
        let meta = std::fs::symlink_metadata(&file).with_context(failed)?;
        Ok(Some(walk::stat_of(&meta)))
    }
}

/// The value of an attribute.
enum AttributeValue {
    /// Set or unset, without a value.
    Flag,
    Name(BString),
}

fn utf16(text: &str, big_endian: bool, mark: bool) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
    let bytes = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
    units.flat_map(bytes).collect()
}

/// Returns an assignment in a file with attributes that no checkout here can follow, whatever file
/// it applies to. An assignment that is in `before`, too, does not count.
pub(super) fn new_unknown_encoding(before: &[u8], after: &[u8]) -> Option<String> {
    let unknown = |word: &&[u8]| match word.strip_prefix(ATTRIBUTE.as_bytes()) {
        Some(b"") => true,
        Some(value) => value.strip_prefix(b"=").is_some_and(|name| {
            matches!(FileEncoding::named(name.as_bstr()), FileEncoding::Unknown)
        }),
        None => word.strip_prefix(b"-") == Some(ATTRIBUTE.as_bytes()),
    };
    let lines = |text| ByteSlice::lines(text).filter(|line: &&[u8]| !line.starts_with(b"#"));
    let words = |text| lines(text).flat_map(|line| line.fields());
    let known: Vec<&[u8]> = words(before).filter(unknown).collect();
    let new = words(after).filter(unknown).find(|word| !known.contains(word));
    new.map(|word| word.as_bstr().to_string())
}

/// Returns true if the path is that of a file with attributes.
pub(super) fn is_attributes_file(path: &BStr) -> bool {
    let folder = path.strip_suffix(ATTRIBUTES_FILE);
    folder.is_some_and(|folder| folder.is_empty() || folder.ends_with(b"/"))
}

/// Returns true if one of the files with attributes names an encoding: the given blobs, or the
/// files outside of the tree that apply to all of it.
pub(super) fn mentions_encoding(
    local: &gix::Repository,
    blobs: impl IntoIterator<Item = ObjectId>,
) -> Result<bool> {
    let mentions = |content: &[u8]| content.find(ATTRIBUTE).is_some();
    let mut files = local.attribute_global_paths().context("cannot read the attributes")?;
    files.push(local.common_dir().join("info").join("attributes"));
    if files.iter().any(|file| std::fs::read(file).is_ok_and(|content| mentions(&content))) {
        return Ok(true);
    }
    for id in blobs {
        if blob_mentions_encoding(local, id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns true if a file with attributes names an encoding.
pub(super) fn blob_mentions_encoding(local: &gix::Repository, id: ObjectId) -> Result<bool> {
    let blob = local.find_blob(id).with_context(|| format!("cannot read a file: {id}"))?;
    Ok(blob.data.find(ATTRIBUTE).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{RepoFixture, git_in};
    use super::*;

    #[test]
    fn checkout_writes_utf16_as_git_does() {
        let fx = RepoFixture::new();
        let attributes = "*.u working-tree-encoding=UTF-16\n*.l working-tree-encoding=utf-16le\n\
                          *.b working-tree-encoding=UTF-16BE\n*.w working-tree-encoding=windows-1252\n";
        let text = "grüße, 𝄞\n";
        let files = [(".gitattributes", attributes), ("a.u", text), ("a.l", text), ("a.b", text)];
        let more = [("d/empty.u", ""), ("a.w", "grüße\n"), ("plain", text)];
        let commit = fx.commit(&[&files[..], &more[..]].concat(), &[]);
        let worktree = fx.worktree("p", &commit);
        let by_git = fx.path("git");
        fx.git(&["worktree", "add", "-q", by_git.to_str().unwrap(), commit.as_str()]);
        for (path, _) in files.iter().chain(&more) {
            let read = |root: &Path| std::fs::read(root.join(path)).unwrap();
            assert_eq!(read(&worktree.path), read(&by_git), "{path}");
        }
        assert_eq!(RepoFixture::status(&worktree), "");
        // The unchanged files are read back without a difference.
        let snapshot = super::super::snapshot(&fx.repo, &worktree, &commit).unwrap();
        assert_eq!(snapshot.changed, Vec::<String>::new());
        std::fs::write(worktree.path.join("a.b"), [0, b'n', 0, b'\n']).unwrap();
        let snapshot = super::super::snapshot(&fx.repo, &worktree, &commit).unwrap();
        assert_eq!(snapshot.changed, ["a.b"]);
        let now = git_in(&by_git, &["cat-file", "-p", &format!("{}:a.b", snapshot.tree)]);
        assert_eq!(now, "n\n");
    }
}
