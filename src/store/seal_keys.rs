//! The key with which this copy of the repository seals its own records, and the keys of others
//! that a person trusts.
//!
//! The key lies outside of the repository, in `$XDG_STATE_HOME/git-harness/keys/`. Beside it, the
//! file with the suffix `.trusted` has one key a line: those of other users or homes that work on
//! the same copy. A seal names its key by a short id, so a refusal can say whose key is missing.

use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Store;
use crate::ambient;
use crate::repo::{self, Repo, SealKey};

/// The suffix of the file with the trusted keys.
const TRUSTED: &str = "trusted";

/// The keys whose seals count.
#[derive(Debug)]
pub(super) struct SealKeys {
    own: SealKey,
    /// The ids of the keys, and the keys. The own key is the first.
    all: Vec<(String, SealKey)>,
}

impl Store {
    /// Returns the key of this copy of the repository. The first call generates and stores the key,
    /// in the repository if there is no other place. Where nothing can be written, it is that of
    /// this process only. Fails if a stored key cannot be read.
    pub(crate) fn seal_key(&self) -> Result<&SealKey> {
        Ok(&self.seal_keys()?.own)
    }

    fn seal_keys(&self) -> Result<&SealKeys> {
        if let Some(keys) = self.seal_keys.get() {
            return Ok(keys);
        }
        let files = key_files(self.repo());
        let own = load_or_create(&files)?;
        let mut all = vec![(own.id()?, own.clone())];
        for file in &files {
            all.extend(read_trusted(&file.with_extension(TRUSTED))?);
        }
        Ok(self.seal_keys.get_or_init(|| SealKeys { own, all }))
    }

    /// Returns the seal of a text, which begins with the id of its key.
    pub(crate) fn seal(&self, kind: &str, parts: &[&[u8]]) -> Result<String> {
        let key = self.seal_key()?;
        Ok(format!("{} {}", key.id()?, key.seal(kind, parts)?))
    }

    /// Returns true if a seal is that of the text, with the key of this copy or a trusted one.
    pub(crate) fn has_sealed(&self, kind: &str, parts: &[&[u8]], seal: &str) -> Result<bool> {
        let Some((id, seal)) = seal.split_once(' ') else { return Ok(false) };
        let mut keys = self.seal_keys()?.all.iter().filter(|(known, _)| known == id);
        Ok(keys.any(|(_, key)| key.has_sealed(kind, parts, seal)))
    }

    /// Returns the id of the key of a seal, if neither this copy nor a trusted one has the key.
    pub(super) fn unknown_key(&self, seal: &str) -> Option<String> {
        let (id, _) = seal.split_once(' ')?;
        let keys = self.seal_keys().ok()?;
        let is_id =
            id.len() == keys.own.id().ok()?.len() && id.bytes().all(|b| b.is_ascii_hexdigit());
        let is_known = keys.all.iter().any(|(known, _)| known == id);
        (is_id && !is_known).then(|| id.to_owned())
    }

    /// Returns the file of the key: where it is, or where it would be.
    pub(super) fn key_file(&self) -> PathBuf {
        let mut files = key_files(self.repo());
        let stored = files.iter().position(|file| file.is_file());
        files.swap_remove(stored.unwrap_or(0))
    }
}

/// Returns the file with the trusted keys, beside the file of the own key.
pub(super) fn trusted_keys(key: &Path) -> PathBuf {
    key.with_extension(TRUSTED)
}

/// Returns the files in which the key may be stored: outside of the repository, and, for a process
/// without a folder for its state, in the repository.
fn key_files(repo: &Repo) -> Vec<PathBuf> {
    let common = repo.common_dir();
    let outside = || {
        let real = std::fs::canonicalize(common).ok()?;
        let name = repo::sha1_hex([real.as_os_str().as_bytes()]).ok()?;
        Some(ambient::state_folder()?.join("git-harness").join("keys").join(name))
    };
    outside().into_iter().chain([common.join("harness").join("seal-key")]).collect()
}

fn random_key() -> Result<SealKey> {
    let digits = format!("{}{}", ambient::nonce(), ambient::nonce());
    SealKey::from_hex(&digits).context("two nonces are no key")
}

fn load_or_create(files: &[PathBuf]) -> Result<SealKey> {
    for file in files {
        if let Some(key) = read_key(file)? {
            return Ok(key);
        }
    }
    let key = random_key()?;
    for file in files {
        // A file that cannot be written is no place for the key.
        if store_key(file, &key).is_ok() {
            return read_key(file)?.with_context(|| format!("the key is gone: {}", file.display()));
        }
    }
    Ok(key)
}

/// Reads a stored key. Returns `None` if there is none, or if its folder is closed to this user.
fn read_key(file: &Path) -> Result<Option<SealKey>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let damaged = || {
        format!(
            "the key in {} is damaged: delete it, then finished work is checked again",
            file.display()
        )
    };
    SealKey::from_hex(&text).with_context(damaged).map(Some)
}

/// Stores a key durably, unless another process has stored one at the same time.
fn store_key(file: &Path, key: &SealKey) -> Result<()> {
    let folder = file.parent().context("the key has no folder")?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = file.with_extension(ambient::nonce());
    let mut options = std::fs::OpenOptions::new();
    let mut written = options.write(true).create_new(true).mode(0o600).open(&new)?;
    written.write_all(key.to_hex().as_bytes())?;
    written.sync_all()?;
    // A link never replaces a key.
    let linked = std::fs::hard_link(&new, file);
    std::fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Reads the trusted keys, with their ids. Lines that begin with `#` are comments.
fn read_trusted(file: &Path) -> Result<Vec<(String, SealKey)>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    keys.map(|(n, line)| {
        let key = SealKey::from_hex(line);
        let key = key.with_context(|| format!("line {n} of {} is no key", file.display()))?;
        Ok((key.id()?, key))
    })
    .collect()
}

/// Returns true if a file cannot be read because it does not exist, or because its folder is closed
/// to this user.
fn is_missing(error: &std::io::Error) -> bool {
    use ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_stored_once_in_the_first_place_that_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("closed"), "").unwrap();
        let files = [dir.path().join("closed/keys/a"), dir.path().join("open/key")];
        let first = load_or_create(&files).unwrap();
        assert!(files[1].is_file());
        assert_eq!(load_or_create(&files).unwrap().to_hex(), first.to_hex());
        std::fs::write(&files[1], "").unwrap();
        let error = load_or_create(&files).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
    }
}
