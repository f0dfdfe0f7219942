//! Making one ref that is not there yet without a process of git.
//!
//! It follows git's own protocol for the files backend (the only one we work with): whoever makes `<ref>.lock` may change
//! the ref, the new content is written there, and a rename publishes it. Only for names of which nobody but the caller
//! makes one, so that what stands in packed-refs need be looked up only once. It forces nothing to the disk: a barrier of
//! the caller does. Whatever is unusual is left to git, which knows all about it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::domain::id::Oid;

/// How often it is tried when an empty folder vanishes, as `git pack-refs` removes those.
const TRIES: usize = 4;

/// Makes the ref, if that is as plain a matter as it usually is. `false`: nothing was made, and git is to be asked.
pub(crate) fn create_loose_ref(common_dir: &Path, name: &str, id: &Oid) -> io::Result<bool> {
    let tame = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        !part.is_empty() && part.bytes().all(plain)
    };
    let zeros = id.as_str().bytes().all(|digit| digit == b'0');
    if zeros || !name.starts_with("refs/") || !name.split('/').all(tame) {
        return Ok(false);
    }
    let path = common_dir.join(name);
    let lock = common_dir.join(format!("{name}.lock"));
    let folder = path.parent().unwrap_or(common_dir);
    for _ in 0..TRIES {
        match fs::create_dir_all(folder) {
            Ok(()) => {}
            // A ref where we need a folder.
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
        // With the lock held, nobody else makes the ref or packs it.
        let made = file.write_all(format!("{id}\n").as_bytes()).and_then(|()| {
            drop(file);
            if path.symlink_metadata().is_ok() || is_packed(common_dir, name)? {
                return Ok(false);
            }
            fs::rename(&lock, &path).map(|()| true)
        });
        if !matches!(made, Ok(true)) {
            fs::remove_file(&lock).ok();
        }
        return made;
    }
    Ok(false)
}

/// Whether packed-refs has the name, or one that begins as a folder of that name would.
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

    fn said(git: &Git, args: &[&str], input: &str) -> String {
        let said = git.output(args, input.as_bytes()).unwrap();
        String::from_utf8(said.stdout).unwrap().trim_end().to_owned()
    }

    #[test]
    fn git_sees_what_was_made_and_nothing_is_made_twice() {
        let (_dir, git) = repository();
        let id = Oid::parse(&said(&git, &["hash-object", "-w", "--stdin"], "one")).unwrap();
        let other = Oid::parse(&said(&git, &["hash-object", "-w", "--stdin"], "two")).unwrap();
        let make = |name: &str, id: &Oid| create_loose_ref(git.common_dir(), name, id).unwrap();
        assert!(make("refs/harness/x/1", &id));
        assert_eq!(said(&git, &["rev-parse", "refs/harness/x/1"], ""), id.as_str());
        assert!(!make("refs/harness/x/1", &other));
        git.output(&["pack-refs", "--all", "--prune"], b"").unwrap();
        assert!(!git.common_dir().join("refs/harness/x/1").exists());
        assert!(!make("refs/harness/x/1", &other));
        assert!(!make("refs/harness/x", &other));
        assert!(!make("refs/harness/x/1/2", &other));
        assert!(make("refs/harness/x/2", &other));
        assert_eq!(said(&git, &["rev-parse", "refs/harness/x/1"], ""), id.as_str());
        let left = said(&git, &["for-each-ref", "--format=%(refname)", "refs/harness"], "");
        assert_eq!(left, "refs/harness/x/1\nrefs/harness/x/2");
    }

    #[test]
    fn a_lock_of_somebody_else_and_odd_names_are_left_to_git() {
        let (_dir, git) = repository();
        let id = Oid::parse(&said(&git, &["hash-object", "-w", "--stdin"], "one")).unwrap();
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
