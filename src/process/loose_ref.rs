//! Creation of one loose ref without a git process.
//!
//! The protocol is git's own for the files backend, the only supported one: the process that
//! creates `<ref>.lock` may change the ref. It writes the new value into that file and publishes
//! the value by a rename. This module is only for names that no other process creates, so one read
//! of packed-refs is enough. The caller syncs the ref with a barrier. Unusual cases are left to
//! git.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::domain::id::Oid;

/// Retries when an empty folder vanishes, since `git pack-refs` removes empty folders.
const TRIES: usize = 4;

/// Creates a ref in the usual, simple case. Returns false if nothing was created and the caller
/// must use git.
pub(crate) fn create_loose_ref(common_dir: &Path, name: &str, id: &Oid) -> io::Result<bool> {
    let is_simple = |part: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        !part.is_empty() && part.bytes().all(is_plain)
    };
    let zeros = id.as_str().bytes().all(|digit| digit == b'0');
    if zeros || !name.starts_with("refs/") || !name.split('/').all(is_simple) {
        return Ok(false);
    }
    let path = common_dir.join(name);
    let lock = common_dir.join(format!("{name}.lock"));
    let folder = path.parent().unwrap_or(common_dir);
    for _ in 0..TRIES {
        match fs::create_dir_all(folder) {
            Ok(()) => {}
            // There is a ref where a folder is needed.
            Err(e) if matches!(e.kind(), ErrorKind::NotADirectory | ErrorKind::AlreadyExists) => {
                return Ok(false);
            }
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        }
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&lock) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        // While the lock is held, no other process creates or packs the ref.
        let created = file.write_all(format!("{id}\n").as_bytes()).and_then(|()| {
            drop(file);
            if path.symlink_metadata().is_ok() || is_packed(common_dir, name)? {
                return Ok(false);
            }
            fs::rename(&lock, &path).map(|()| true)
        });
        if !matches!(created, Ok(true)) {
            fs::remove_file(&lock).ok();
        }
        return created;
    }
    Ok(false)
}

/// Returns true if packed-refs has the name, or a name that conflicts with it as a folder.
fn is_packed(common_dir: &Path, name: &str) -> io::Result<bool> {
    let text = match fs::read(common_dir.join("packed-refs")) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let parents = name.match_indices('/').map(|(at, _)| &name.as_bytes()[..at]);
    let clashing: Vec<&[u8]> = parents.chain([name.as_bytes()]).collect();
    let below = format!("{name}/");
    Ok(text.split(|byte| *byte == b'\n').any(|line| {
        let packed = line.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
        clashing.contains(&packed) || packed.starts_with(below.as_bytes())
    }))
}

#[cfg(test)]
mod tests {
    use super::super::Git;
    use super::super::git::tests::repository;
    use super::*;

    fn git_output(git: &Git, args: &[&str], input: &str) -> String {
        let output = git.output(args, input.as_bytes()).unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    #[test]
    fn loose_ref_is_seen_by_git_and_never_created_twice() {
        let (_dir, git) = repository();
        let id = Oid::parse(&git_output(&git, &["hash-object", "-w", "--stdin"], "one")).unwrap();
        let other =
            Oid::parse(&git_output(&git, &["hash-object", "-w", "--stdin"], "two")).unwrap();
        let make = |name: &str, id: &Oid| create_loose_ref(git.common_dir(), name, id).unwrap();
        assert!(make("refs/harness/x/1", &id));
        assert_eq!(git_output(&git, &["rev-parse", "refs/harness/x/1"], ""), id.as_str());
        assert!(!make("refs/harness/x/1", &other));
        git.output(&["pack-refs", "--all", "--prune"], b"").unwrap();
        assert!(!git.common_dir().join("refs/harness/x/1").exists());
        assert!(!make("refs/harness/x/1", &other));
        assert!(!make("refs/harness/x", &other));
        assert!(!make("refs/harness/x/1/2", &other));
        assert!(make("refs/harness/x/2", &other));
        assert_eq!(git_output(&git, &["rev-parse", "refs/harness/x/1"], ""), id.as_str());
        let left = git_output(&git, &["for-each-ref", "--format=%(refname)", "refs/harness"], "");
        assert_eq!(left, "refs/harness/x/1\nrefs/harness/x/2");
    }

    #[test]
    fn loose_ref_with_a_foreign_lock_or_an_odd_name_is_left_to_git() {
        let (_dir, git) = repository();
        let id = Oid::parse(&git_output(&git, &["hash-object", "-w", "--stdin"], "one")).unwrap();
        let make = |name: &str| create_loose_ref(git.common_dir(), name, &id).unwrap();
        fs::create_dir_all(git.common_dir().join("refs/harness")).unwrap();
        let lock = git.common_dir().join("refs/harness/a.lock");
        fs::write(&lock, b"").unwrap();
        assert!(!make("refs/harness/a"));
        assert!(lock.exists(), "the lock is not ours to remove");
        for odd in ["HEAD", "refs/harness/../x", "refs//x", "refs/harness/a.lock", "refs/a b"] {
            assert!(!make(odd), "{odd}");
        }
        fs::write(git.common_dir().join("refs/harness/file"), format!("{id}\n")).unwrap();
        assert!(!make("refs/harness/file/below"));
    }
}
