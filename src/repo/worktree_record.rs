//! The record of a worktree: its identity, the tree that was checked out, and the stat data of each
//! file at the checkout.
//!
//! The file of a record has a few lines of text and then a git index. The file lies in a folder to
//! which agents do not normally write. With a record, a walk finds changes without reading files.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gix::ObjectId;
use gix::index::State;

use super::folder_identity::FolderIdentity;
use super::walk::RecordStamp;
use super::worktree_cache;

/// The record of a worktree. See the module documentation.
#[derive(Clone)]
pub(super) struct WorktreeRecord {
    /// The folder of the worktree.
    pub path: PathBuf,
    /// The identity of the folder, if it existed when the record was made.
    pub folder: Option<FolderIdentity>,
    /// The admin folder of the worktree.
    pub admin: PathBuf,
    /// The tree that was checked out.
    pub tree: ObjectId,
    /// The time of the checkout. A file whose modification time is not clearly earlier may have
    /// changed again without a difference in its stat data.
    pub stamp: RecordStamp,
    /// The files of `tree`, with their stat data at the checkout.
    pub state: State,
}

const MAGIC: &[u8] = b"git-harness worktree 2\n";

/// Returns a cheap checksum that detects a torn file. It does not defend against forgery.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    let sum = words.iter().fold(bytes.len() as u64, |sum, w| mix(sum, u64::from_le_bytes(*w)));
    rest.iter().fold(sum, |sum, b| mix(sum, u64::from(*b)))
}

impl WorktreeRecord {
    /// Creates a record without files.
    pub(super) fn empty(path: &Path, admin: &Path, hash: gix::hash::Kind) -> Self {
        Self {
            path: path.to_path_buf(),
            folder: None,
            admin: admin.to_path_buf(),
            tree: ObjectId::empty_tree(hash),
            stamp: RecordStamp::default(),
            state: State::new(hash),
        }
    }

    /// Records the identity of the folder that is at the path now.
    pub(super) fn with_folder(self) -> Result<Self> {
        Ok(Self { folder: FolderIdentity::of(&self.path)?, ..self })
    }

    /// Reads a record. Returns `None` if the file is missing.
    pub(super) fn load(file: &Path, hash: gix::hash::Kind) -> Result<Option<Self>> {
        if let Some(record) = worktree_cache::record(file) {
            return Ok(Some(record));
        }
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot read a worktree's record: {}", file.display())
                });
            }
        };
        Self::parse(&bytes, hash)
            .with_context(|| format!("a worktree's record is damaged: {}", file.display()))
            .map(Some)
    }

    fn parse(bytes: &[u8], hash: gix::hash::Kind) -> Result<Self> {
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else { bail!("it does not start as one") };
        let mut field = |key: &str| -> Result<&[u8]> {
            let end = rest.iter().position(|b| *b == b'\n').context("it ends too soon")?;
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            line.strip_prefix(key.as_bytes()).with_context(|| format!("it lacks `{key}`"))
        };
        let path = PathBuf::from(std::ffi::OsString::from_vec(field("path ")?.to_vec()));
        let admin = PathBuf::from(std::ffi::OsString::from_vec(field("admin ")?.to_vec()));
        let folder = match std::str::from_utf8(field("folder ")?)? {
            "" => None,
            identity => Some(identity.parse()?),
        };
        let tree = ObjectId::from_hex(field("tree ")?)?;
        let stamp = std::str::from_utf8(field("stamp ")?)?;
        let (secs, nanos) = stamp.split_once(' ').context("its time is no time")?;
        let stamp = RecordStamp { secs: secs.parse()?, nanos: nanos.parse()? };
        let want: u64 = std::str::from_utf8(field("sum ")?)?.parse()?;
        if sum(rest) != want {
            bail!("its end is missing or wrong");
        }
        // The time stamp of git's index is not used: the record has its own.
        let epoch = State::new(hash).timestamp();
        let options = gix::index::decode::Options { thread_limit: Some(1), ..Default::default() };
        let (state, _) = State::from_bytes(rest, epoch, hash, options)?;
        Ok(Self { path, folder, admin, tree, stamp, state })
    }

    /// Formats the files as a git index.
    pub(super) fn index(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.state.entries().len() * 112);
        let options = gix::index::write::Options {
            extensions: gix::index::write::Extensions::None,
            skip_hash: false,
        };
        self.state.write_to(&mut bytes, options).context("cannot write an index")?;
        // Hashed in one piece: hashing many small writes takes several times as long.
        let mut hasher = gix::hash::hasher(self.state.object_hash());
        hasher.update(&bytes);
        bytes.extend_from_slice(hasher.try_finalize().context("cannot hash an index")?.as_slice());
        Ok(bytes)
    }

    /// Writes the record, with the index inside.
    pub(super) fn save(self, file: &Path, index: &[u8]) -> Result<()> {
        let as_line = |path: &Path| -> Result<Vec<u8>> {
            let bytes = path.as_os_str().as_bytes();
            if bytes.contains(&b'\n') {
                bail!("a worktree's path must not hold a line break: {}", path.display());
            }
            Ok(bytes.to_vec())
        };
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(b"path ");
        head.extend(as_line(&self.path)?);
        head.extend_from_slice(b"\nadmin ");
        head.extend(as_line(&self.admin)?);
        let stamp = self.stamp;
        let folder = self.folder.map(|folder| folder.to_string()).unwrap_or_default();
        let middle = format!(
            "\nfolder {folder}\ntree {}\nstamp {} {}\nsum {}\n",
            self.tree,
            stamp.secs,
            stamp.nanos,
            sum(index)
        );
        head.extend_from_slice(middle.as_bytes());
        head.extend_from_slice(index);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make a folder: {}", parent.display()))?;
        }
        super::files::replace_file(file, &head)?;
        worktree_cache::put(file, self);
        Ok(())
    }
}
