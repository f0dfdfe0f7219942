//! A private `.git` for the commands of one assignment. In a sandbox it lies over the shared one,
//! at the shared one's path, so the worktree's `.git` file leads to it.
//!
//! It has the branches, tags and remote branches of the user, the worktree's own registration, and
//! an empty store whose alternates are the real stores. It has no hooks, no attributes, no stash,
//! no other worktree, and none of the settings that run programs. It is thrown away afterwards.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gix::bstr::ByteSlice;
use gix::refs::TargetRef;

use super::{Repo, Worktree, files, link};
use crate::domain::id::Oid;

/// The settings that are copied: the section, and the keys without which git would work otherwise
/// inside. No key runs a program or names a file.
const SETTINGS: [(&str, &[&str]); 7] = [
    (
        "core",
        &[
            "repositoryformatversion",
            "filemode",
            "ignorecase",
            "symlinks",
            "precomposeunicode",
            "autocrlf",
            "eol",
            "safecrlf",
            "quotepath",
            "abbrev",
        ],
    ),
    ("extensions", &["objectformat"]),
    ("user", &["name", "email"]),
    ("author", &["name", "email"]),
    ("committer", &["name", "email"]),
    ("remote", &["url", "fetch"]),
    ("branch", &["remote", "merge"]),
];

/// The namespaces of refs that are copied.
const NAMESPACES: [&str; 3] = ["refs/heads/", "refs/tags/", "refs/remotes/"];

/// The branches of tasks.
const TASK_BRANCHES: &[u8] = b"refs/heads/harness/";

/// The largest files that are read from a private `.git`.
const MAX_HEAD: u64 = 4096;
const MAX_REFS: u64 = 64 * 1024 * 1024;

/// A private `.git` as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PrivateGit {
    /// The folder.
    pub path: PathBuf,
    /// The name of the worktree's registration.
    registration: PathBuf,
}

/// The object stores of a repository, and the files in them that name further stores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ObjectStores {
    /// The folders, the repository's own first.
    pub stores: Vec<PathBuf>,
    /// The files.
    pub alternates: Vec<PathBuf>,
}

impl PrivateGit {
    /// Returns the private `.git` of a worktree in this folder, which may not exist.
    pub(crate) fn at(path: PathBuf, worktree: &Worktree) -> Self {
        let registration =
            Path::new("worktrees").join(worktree.admin.file_name().unwrap_or_default());
        Self { path, registration }
    }

    /// Writes the private `.git`. `inside` is the path of the worktree in the sandbox, and `stores`
    /// are those of the object stores.
    pub(crate) fn write(
        &self,
        repo: &Repo,
        worktree: &Worktree,
        inside: &Path,
        stores: &[PathBuf],
    ) -> Result<()> {
        self.write_files(repo, worktree, inside, stores)
            .with_context(|| format!("cannot write a private `.git`: {}", self.path.display()))
    }

    fn write_files(
        &self,
        repo: &Repo,
        worktree: &Worktree,
        inside: &Path,
        stores: &[PathBuf],
    ) -> Result<()> {
        files::remove_any(&self.path)?;
        let registration = self.path.join(&self.registration);
        for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info", "hooks"] {
            std::fs::create_dir_all(self.path.join(folder))?;
        }
        std::fs::create_dir_all(&registration)?;
        let put = |name: &str, content: &[u8]| std::fs::write(self.path.join(name), content);
        let lines: Vec<u8> = stores.iter().flat_map(|store| link::line("", store)).collect();
        put("objects/info/alternates", &lines)?;
        put("config", settings(repo)?.as_bytes())?;
        for name in ["HEAD", "info/exclude", "shallow"] {
            let shared = repo.common_dir().join(name);
            if shared.is_file() {
                std::fs::copy(shared, self.path.join(name))?;
            }
        }
        let head = std::fs::read(worktree.admin.join("HEAD"))?;
        std::fs::write(registration.join("HEAD"), &head)?;
        std::fs::write(registration.join("commondir"), "../..\n")?;
        std::fs::write(registration.join("gitdir"), link::line("", &inside.join(".git")))?;
        let index = worktree.admin.join("index");
        if index.is_file() {
            std::fs::copy(index, registration.join("index"))?;
        }
        self.write_refs(repo, head.strip_prefix(b"ref: ").unwrap_or_default().trim_ascii_end())
    }

    /// Writes the refs. Of the tasks' branches, only `own` is copied.
    fn write_refs(&self, repo: &Repo, own: &[u8]) -> Result<()> {
        let local = repo.local();
        let references = local.references()?;
        let mut packed = String::from("# pack-refs with: sorted \n");
        for namespace in NAMESPACES {
            for reference in references.prefixed(namespace)? {
                // A broken ref of somebody else's is not copied.
                let Ok(reference) = reference else { continue };
                let name = reference.name().as_bstr().to_owned();
                if name.starts_with(TASK_BRANCHES) && name != own {
                    continue;
                }
                match reference.target() {
                    TargetRef::Object(id) => packed.push_str(&format!("{id} {name}\n")),
                    TargetRef::Symbolic(target) => {
                        let file = self.path.join(OsStr::from_bytes(&name));
                        std::fs::create_dir_all(file.parent().unwrap_or(&self.path))?;
                        std::fs::write(file, format!("ref: {}\n", target.as_bstr()))?;
                    }
                }
            }
        }
        Ok(std::fs::write(self.path.join("packed-refs"), packed)?)
    }

    /// Returns true if the commit of the worktree's `HEAD` may be another than `base`, which it was
    /// when the private `.git` was written. Only compares files, whose content nobody has checked.
    pub(crate) fn has_moved(&self, worktree: &Worktree, base: &Oid) -> bool {
        let head = files::read_plain(&self.path.join(&self.registration).join("HEAD"), MAX_HEAD);
        let (Some(head), Ok(old)) = (head, std::fs::read(worktree.admin.join("HEAD"))) else {
            return true;
        };
        if head != old {
            return true;
        }
        let Some(branch) = head.strip_prefix(b"ref: ") else { return false };
        let branch = branch.trim_ascii_end();
        let is_loose = self.path.join(OsStr::from_bytes(branch)).symlink_metadata();
        let line = [base.as_str().as_bytes(), b" ", branch].concat();
        let packed = files::read_plain(&self.path.join("packed-refs"), MAX_REFS);
        is_loose.is_ok() || !packed.is_some_and(|refs| refs.lines().any(|l| l == line.as_slice()))
    }
}

/// The files in which git may record the stash.
const STASH: [&str; 2] = ["refs/stash", "logs/refs/stash"];

impl PrivateGit {
    /// Returns the index of the worktree, which may be anything.
    pub(crate) fn index(&self) -> PathBuf {
        self.path.join(&self.registration).join("index")
    }

    /// Returns true if the agent has made a stash. Only looks at files.
    pub(crate) fn has_stash(&self) -> bool {
        STASH.iter().any(|name| self.path.join(name).symlink_metadata().is_ok())
    }
}

/// Returns the object stores of a repository.
pub(crate) fn object_stores(repo: &Repo) -> Result<ObjectStores> {
    let mut found = ObjectStores::default();
    let mut next = vec![repo.common_dir().join("objects")];
    while let Some(store) = next.pop() {
        let Ok(store) = std::fs::canonicalize(&store) else { continue };
        if found.stores.contains(&store) {
            continue;
        }
        let list = store.join("info/alternates");
        if let Ok(text) = std::fs::read(&list) {
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(b"#"));
            next.extend(lines.map(|line| store.join(OsStr::from_bytes(line))));
            found.alternates.push(list);
        }
        found.stores.push(store);
    }
    Ok(found)
}

/// Returns the text of the private configuration.
fn settings(repo: &Repo) -> Result<String> {
    let file = repo.common_dir().join("config");
    let config = gix::config::File::from_path_no_includes(file, gix::config::Source::Local)?;
    let mut text = String::from("[core]\n\tbare = false\n\tlogAllRefUpdates = true\n");
    for section in config.sections() {
        let name = section.header().name().to_str_lossy().to_ascii_lowercase();
        let Some((_, keys)) = SETTINGS.iter().find(|(known, _)| *known == name) else { continue };
        let subsection =
            section.header().subsection_name().map(|name| quoted(&name.to_str_lossy()));
        text.push_str(&match subsection {
            None => format!("[{name}]\n"),
            Some(subsection) => format!("[{name} {subsection}]\n"),
        });
        for key in *keys {
            for value in section.values(key) {
                let value = value.to_str_lossy();
                let value = if *key == "url" { without_credentials(&value) } else { value.into() };
                text.push_str(&format!("\t{key} = {}\n", quoted(&value)));
            }
        }
    }
    Ok(text)
}

/// Returns a value as git's configuration writes it.
fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Removes user and password from a URL.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixture::{RepoFixture, git_in};

    #[test]
    fn credentials_are_removed_from_urls() {
        let clean = without_credentials;
        assert_eq!(clean("https://una:secret@example.com/a@b"), "https://example.com/a@b");
        assert_eq!(clean("https://token@example.com"), "https://example.com");
        assert_eq!(clean("git@example.com:a/b"), "git@example.com:a/b");
    }

    #[test]
    fn private_git_has_the_users_refs_and_no_stash_programs_or_passwords() {
        let fixture = RepoFixture::new();
        let commit = fixture.commit(&[("a", "one")], &[]);
        let id = commit.as_str();
        for name in ["heads/main", "heads/harness/job-1/other", "harness/runs/job-1", "stash"] {
            fixture.git(&["update-ref", &format!("refs/{name}"), id]);
        }
        fixture.git(&["config", "core.hooksPath", "/evil"]);
        fixture.git(&["config", "filter.x.smudge", "evil"]);
        fixture.git(&["config", "remote.origin.url", "https://una:secret@example.com/r"]);
        let worktree = fixture.worktree("p01", &commit);
        let private = PrivateGit::at(fixture.path("private"), &worktree);
        let stores = object_stores(&fixture.repo).unwrap().stores;
        private.write(&fixture.repo, &worktree, &worktree.path, &stores).unwrap();
        let inside = |args: &[&str]| git_in(&private.path, &[&["--git-dir=."], args].concat());
        let refs = inside(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        assert_eq!(refs.trim_end(), format!("refs/heads/main {id}"));
        assert_eq!(inside(&["show", "main:a"]), "one");
        let settings = inside(&["config", "--local", "--list"]);
        assert!(!settings.contains("evil") && !settings.contains("secret"), "{settings}");
        assert!(settings.contains("remote.origin.url=https://example.com/r"), "{settings}");
        assert!(!private.has_moved(&worktree, &commit));
        let head = private.path.join(&private.registration).join("HEAD");
        std::fs::write(head, "ref: refs/heads/elsewhere\n").unwrap();
        assert!(private.has_moved(&worktree, &commit));
    }

    #[test]
    fn values_are_quoted_as_git_reads_them() {
        assert_eq!(quoted("a \"b\" \\ ;c"), "\"a \\\"b\\\" \\\\ ;c\"");
    }
}
