//! Test fixtures of this module: a temporary repository, plain git, and a generator of random
//! files.

#![expect(clippy::disallowed_methods, reason = "tests compare with the real git")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Head, Identity, Repo, Worktree};
use crate::domain::id::Oid;

/// A repository in a temporary folder, with room for worktrees beside it.
pub(crate) struct RepoFixture {
    pub dir: tempfile::TempDir,
    pub repo: Repo,
}

/// Runs git in a folder, without the user's settings, and returns its output.
pub(crate) fn git_in(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "gc.auto=0", "-c", "core.quotePath=false"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/nonexistent/gitconfig")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .output()
        .expect("git runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "git {args:?} in {}: {text}{}",
        dir.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

impl RepoFixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        git_in(&work, &["init", "-q", "-b", "main"]);
        git_in(&work, &["config", "user.name", "Test"]);
        git_in(&work, &["config", "user.email", "test@example.org"]);
        let repo = Repo::discover(&work).unwrap();
        Self { dir, repo }
    }

    /// Runs plain git in the main work tree.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git_in(self.repo.work_dir().unwrap(), args)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        std::fs::canonicalize(self.dir.path()).unwrap().join(name)
    }

    pub(crate) fn tree(&self, files: &[(&str, &str)]) -> Oid {
        let files = files.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect();
        self.tree_of(&files)
    }

    pub(crate) fn tree_of(&self, files: &BTreeMap<String, String>) -> Oid {
        let entries: Vec<_> = files
            .iter()
            .map(|(p, c)| (p.clone(), super::write_blob(&self.repo, c.as_bytes()).unwrap()))
            .collect();
        super::write_tree(&self.repo, &entries).unwrap()
    }

    pub(crate) fn commit_tree(&self, tree: &Oid, parents: &[Oid]) -> Oid {
        let who = Identity { name: "T".into(), email: "t@example.org".into() };
        super::commit(&self.repo, tree, parents, "a commit", &who, 1_700_000_000).unwrap()
    }

    pub(crate) fn commit(&self, files: &[(&str, &str)], parents: &[Oid]) -> Oid {
        self.commit_tree(&self.tree(files), parents)
    }

    pub(crate) fn worktree(&self, name: &str, commit: &Oid) -> Worktree {
        let index = self.path(&format!("state-{name}"));
        super::create_worktree(&self.repo, &self.path(name), commit, &index).unwrap()
    }

    /// Returns the output of real `git status` in a worktree: empty if the worktree equals its
    /// `HEAD` and has no other files, not even ignored ones.
    pub(crate) fn status(worktree: &Worktree) -> String {
        git_in(&worktree.path, &["status", "--porcelain", "--ignored", "--untracked-files=all"])
    }

    pub(crate) fn reset(
        &self,
        worktree: &Worktree,
        commit: &Oid,
        keep: &[&str],
    ) -> super::reset::ResetStats {
        let keep: Vec<String> = keep.iter().map(|k| (*k).to_owned()).collect();
        worktree.reset_to(&self.repo, commit, &Head::Detached, &keep).unwrap()
    }
}

/// A generator of random files with a fixed seed.
pub(crate) struct RandomFiles(u64);

impl RandomFiles {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1))
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % limit as u64).unwrap()
    }

    pub(crate) fn path(&mut self) -> String {
        const NAMES: [&str; 7] = ["a", "b", "a-b", "c.txt", "dir", "é", "z"];
        let depth = 1 + self.below(3);
        (0..depth).map(|_| NAMES[self.below(NAMES.len())]).collect::<Vec<_>>().join("/")
    }

    pub(crate) fn content(&mut self) -> String {
        (0..1 + self.below(6)).map(|_| format!("line {}\n", self.below(30))).collect()
    }

    /// Returns random files. No path is a parent folder of another.
    pub(crate) fn files(&mut self, count: usize) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for _ in 0..count {
            let (path, content) = (self.path(), self.content());
            put(&mut files, path, content);
        }
        files
    }

    /// Returns a copy of the files with a few random edits, removals, additions and renames.
    pub(crate) fn edited(&mut self, files: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut files = files.clone();
        for _ in 0..1 + self.below(3) {
            let keys: Vec<String> = files.keys().cloned().collect();
            let pick = |r: &mut Self| keys.get(r.below(keys.len().max(1))).cloned();
            match (self.below(5), pick(self)) {
                (0, Some(path)) => drop(files.remove(&path)),
                (1, Some(path)) => {
                    let moved = files.remove(&path).unwrap_or_default();
                    let to = self.path();
                    put(&mut files, to, moved);
                }
                (2 | 3, Some(path)) => {
                    let content = self.content();
                    put(&mut files, path, content);
                }
                _ => {
                    let (path, content) = (self.path(), self.content());
                    put(&mut files, path, content);
                }
            }
        }
        files
    }
}

/// Sets the content of a path. Removes files whose paths conflict with that path: a path cannot be
/// a file and a folder.
pub(crate) fn put(files: &mut BTreeMap<String, String>, path: String, content: String) {
    let below = format!("{path}/");
    files.retain(|other, _| !other.starts_with(&below) && !path.starts_with(&format!("{other}/")));
    files.insert(path, content);
}
