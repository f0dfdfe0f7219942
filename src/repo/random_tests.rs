//! Tests of snapshots and resets with random files, compared with the written files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::fixture::{RandomFiles, RepoFixture, git_in};
use super::snapshot;

/// Turns a folder that contains the files `before` into one that contains exactly the files
/// `after`. Touches only files that differ.
fn write_files(root: &Path, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    for path in before.keys().filter(|p| !after.contains_key(*p)) {
        fs::remove_file(root.join(path)).unwrap();
        let mut folder = Path::new(path).parent().unwrap();
        while folder != Path::new("") && fs::remove_dir(root.join(folder)).is_ok() {
            folder = folder.parent().unwrap();
        }
    }
    for (path, content) in after {
        if before.get(path) != Some(content) {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
    }
}

#[test]
fn snapshot_and_reset_follow_random_edits() {
    let fx = RepoFixture::new();
    let mut random = RandomFiles::new(7);
    let mut base = random.files(20);
    let mut commit = fx.commit_tree(&fx.tree_of(&base), &[]);
    let worktree = fx.worktree("p01", &commit);
    for round in 0..150 {
        let mut work = base.clone();
        for _ in 0..random.below(4) {
            work = random.edited(&work);
        }
        write_files(&worktree.path, &base, &work);
        let taken = snapshot(&fx.repo, &worktree, &commit).unwrap();
        assert_eq!(taken.tree, fx.tree_of(&work), "round {round}");
        // Reset to another tree from the edited state.
        let next = if random.below(3) == 0 { random.files(20) } else { random.edited(&work) };
        let next_commit = fx.commit_tree(&fx.tree_of(&next), &[]);
        fx.reset(&worktree, &next_commit, &[]);
        let clean = snapshot(&fx.repo, &worktree, &next_commit).unwrap();
        assert!(clean.changed.is_empty(), "round {round}: {:?}", clean.changed);
        if round % 10 == 0 {
            assert_eq!(RepoFixture::status(&worktree), "", "round {round}");
            git_in(&worktree.path, &["diff", "--exit-code", "HEAD"]);
        }
        (base, commit) = (next, next_commit);
    }
    fx.git(&["fsck", "--strict", "--no-dangling"]);
}
