//! Tests with each misbehaviour of an agent: a snapshot saves the work, a reset undoes the changes,
//! and nothing outside of the worktree is touched. The results are checked with real git.

#![expect(clippy::disallowed_methods, reason = "tests compare with the real git")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::fixture::{RepoFixture, git_in};
use super::misbehaviour_cases::{CASES, FILES, chmod, write};
use super::objects::read_blob;
use super::{
    Head, Worktree, changed_paths, changed_submodules, open_worktree, remove_worktree, snapshot,
};
use crate::domain::id::Oid;

/// Creates a folder outside of the worktree. Its files must not change.
fn outside(fx: &RepoFixture) -> std::path::PathBuf {
    let outside = fx.path("outside");
    write(&outside, "precious.txt", "precious\n");
    write(&outside, "b.txt", "not yours\n");
    write(&outside, "deep/c.txt", "nor this\n");
    outside
}

fn assert_outside(outside: &Path, case: &str) {
    for (file, content) in
        [("precious.txt", "precious\n"), ("b.txt", "not yours\n"), ("deep/c.txt", "nor this\n")]
    {
        let found = fs::read_to_string(outside.join(file)).unwrap_or_default();
        assert_eq!(found, content, "{case}: {file} outside was touched");
    }
}

/// Asserts, by real git, that the worktree equals the commit and that its registration is intact.
fn assert_exact(fx: &RepoFixture, worktree: &Worktree, commit: &Oid, case: &str) {
    assert_eq!(RepoFixture::status(worktree), "", "{case}: git status");
    let head = git_in(&worktree.path, &["rev-parse", "HEAD"]);
    assert_eq!(head.trim(), commit.as_str(), "{case}: HEAD");
    assert_eq!(worktree.head_commit(&fx.repo).as_ref(), Some(commit), "{case}: head_commit");
    // Compare every byte and every file mode, with a new index instead of git's stat cache.
    let index = worktree.path.with_extension("check");
    let output = Command::new("git")
        // With `--force`, since one tracked file is ignored. A worktree that equals the commit has
        // no other ignored file.
        .args(["add", "-A", "-f"])
        .current_dir(&worktree.path)
        .env("GIT_INDEX_FILE", &index)
        .output()
        .unwrap();
    assert!(output.status.success(), "{case}: git add");
    let tree = Command::new("git")
        .arg("write-tree")
        .current_dir(&worktree.path)
        .env("GIT_INDEX_FILE", &index)
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&tree.stdout).trim().to_owned();
    assert_eq!(tree, fx.repo.tree_of(commit).unwrap().as_str(), "{case}: content");
    fs::remove_file(&index).unwrap();
    let list = fx.git(&["worktree", "list", "--porcelain"]);
    assert!(list.contains(worktree.path.to_str().unwrap()), "{case}: {list}");
    assert!(!list.contains("prunable"), "{case}: {list}");
    let empty =
        Command::new("find").arg(&worktree.path).args(["-type", "d", "-empty"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&empty.stdout), "", "{case}: empty folders");
}

#[test]
fn snapshot_saves_every_misbehaviour_and_reset_undoes_it() {
    let fx = RepoFixture::new();
    let base = fx.commit(&FILES, &[]);
    let base_tree = fx.repo.tree_of(&base).unwrap();
    let mut other = FILES.to_vec();
    other[1].1 = "another\n";
    other[3] = ("dir/moved.txt", "three\n");
    other.push(("lonely/more/f.txt", "six\n"));
    other.push(("new", "a file where agents put folders\n"));
    let other = fx.commit(&other, std::slice::from_ref(&base));
    let outside = outside(&fx);
    let worktree = fx.worktree("p01", &base);
    assert_exact(&fx, &worktree, &base, "new");
    for case in CASES {
        // Reset to the same commit, and to another commit.
        for to in [&base, &other] {
            (case.act)(&worktree.path, &outside);
            let taken = snapshot(&fx.repo, &worktree, &base_tree).unwrap();
            assert_eq!(taken.changed, case.changed, "{}", case.name);
            let listed = changed_paths(&fx.repo, &base_tree, &taken.tree).unwrap();
            assert_eq!(listed.len(), case.changed.len(), "{}", case.name);
            fx.reset(&worktree, to, &[]);
            assert_exact(&fx, &worktree, to, case.name);
            assert_outside(&outside, case.name);
            // The snapshot can be checked out, and a snapshot of that checkout is the same.
            let kept = fx.commit_tree(&taken.tree, std::slice::from_ref(&base));
            fx.reset(&worktree, &kept, &[]);
            let again = snapshot(&fx.repo, &worktree, &base_tree).unwrap();
            assert_eq!(again.tree, taken.tree, "{}: there and back", case.name);
            assert_eq!(again.changed, taken.changed, "{}: there and back", case.name);
            fx.reset(&worktree, &base, &[]);
            assert_exact(&fx, &worktree, &base, case.name);
        }
    }
    fx.git(&["fsck", "--strict", "--no-dangling"]);
}

/// Creates a repository with one commit.
fn nested_repository(at: &Path) {
    write(at, "file.txt", "in\n");
    git_in(at, &["init", "-q"]);
    git_in(at, &["add", "."]);
    let who = ["-c", "user.name=A", "-c", "user.email=a@b.c"];
    git_in(at, &[&who[..], &["commit", "-qm", "x"]].concat());
}

#[test]
fn snapshot_stores_a_repository_as_one_submodule() {
    let fx = RepoFixture::new();
    let base = fx.commit(&FILES, &[]);
    let worktree = fx.worktree("p01", &base);
    let root = worktree.path.as_path();
    let links = |acted: &str| {
        let taken = snapshot(&fx.repo, &worktree, &base).unwrap();
        let listing = fx.git(&["ls-tree", "-r", taken.tree.as_str()]);
        let links = listing.lines().filter(|line| line.starts_with("160000"));
        let links: Vec<String> =
            links.map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect();
        let submodules = changed_submodules(&fx.repo, &base, &taken.tree).unwrap();
        assert_eq!(links, submodules, "{acted}");
        assert_eq!(taken.changed, links, "{acted}");
        fx.reset(&worktree, &base, &[]);
        fx.git(&["worktree", "prune"]);
        assert_exact(&fx, &worktree, &base, acted);
        links
    };
    nested_repository(&root.join("inner"));
    nested_repository(&root.join("deep/er"));
    nested_repository(&root.join("build/ignored"));
    git_in(root, &["init", "-q", "unborn"]);
    assert_eq!(links("left"), ["deep/er", "inner", "unborn"]);
    nested_repository(&root.join("inner"));
    git_in(root, &["worktree", "add", "-q", "--detach", "other"]);
    assert_eq!(links("a worktree"), ["inner", "other"]);
    nested_repository(&root.join("build/ignored"));
    git_in(root, &["add", "-f", "build/ignored"]);
    assert_eq!(links("staged with force"), ["build/ignored"]);
    // As after `git submodule add`, and a clone without its submodules.
    let commit = fx.git(&["rev-parse", base.as_str()]);
    let entry = format!("160000,{},lib", commit.trim());
    fs::create_dir(root.join("lib")).unwrap();
    git_in(root, &["update-index", "--add", "--cacheinfo", &entry]);
    git_in(root, &["commit", "-qm", "a submodule"]);
    assert_eq!(links("committed"), ["lib"]);
}

#[test]
fn repository_that_replaces_a_tracked_folder_is_a_submodule() {
    let fx = RepoFixture::new();
    let base = fx.commit(&FILES, &[]);
    let worktree = fx.worktree("p01", &base);
    nested_repository(&worktree.path.join("dir"));
    git_in(&worktree.path, &["rm", "-rq", "--cached", "dir"]);
    git_in(&worktree.path, &["add", "dir"]);
    let taken = snapshot(&fx.repo, &worktree, &base).unwrap();
    let want = ["dir", "dir/b.txt", "dir/deep/c.txt", "dir/deep/d.txt"];
    assert_eq!(taken.changed, want);
    assert_eq!(changed_submodules(&fx.repo, &base, &taken.tree).unwrap(), ["dir"]);
}

#[test]
fn snapshot_keeps_links_and_executable_bits() {
    let fx = RepoFixture::new();
    let base = fx.commit(&FILES, &[]);
    let worktree = fx.worktree("p01", &base);
    symlink("dir/b.txt", worktree.path.join("link")).unwrap();
    chmod(&worktree.path.join("run.sh"), 0o755);
    let taken = snapshot(&fx.repo, &worktree, &base).unwrap();
    let listing = fx.git(&["ls-tree", "-r", taken.tree.as_str()]);
    assert!(listing.lines().any(|l| l.starts_with("120000") && l.ends_with("\tlink")), "{listing}");
    assert!(
        listing.lines().any(|l| l.starts_with("100755") && l.ends_with("\trun.sh")),
        "{listing}"
    );
    let link = fx.git(&["rev-parse", &format!("{}:link", taken.tree)]);
    let link = Oid::parse(link.trim()).unwrap();
    assert_eq!(read_blob(&fx.repo, &link).unwrap(), b"dir/b.txt");
    let commit = fx.commit_tree(&taken.tree, &[]);
    fx.reset(&worktree, &commit, &[]);
    assert_eq!(fs::read_link(worktree.path.join("link")).unwrap(), Path::new("dir/b.txt"));
    assert_eq!(RepoFixture::status(&worktree), "");
}

#[test]
fn reset_keeps_only_ignored_paths_that_are_named() {
    let fx = RepoFixture::new();
    let base = fx.commit(&FILES, &[]);
    let worktree = fx.worktree("p01", &base);
    let fill = || {
        write(&worktree.path, "node_modules/m/i.js", "1\n");
        write(&worktree.path, "dir/node_modules/n/i.js", "2\n");
        write(&worktree.path, "build/cache/x", "3\n");
        write(&worktree.path, "build/out", "4\n");
        write(&worktree.path, "secret/node_modules.txt", "5\n");
        // The agent's own ignore rules have no effect.
        write(&worktree.path, ".gitignore", "mine\nnode_modules\nbuild\n");
        write(&worktree.path, "mine", "6\n");
    };
    fill();
    let stats = fx.reset(&worktree, &base, &["node_modules", "build/cache", "mine"]);
    assert_eq!(stats.kept, 3);
    let listed = RepoFixture::status(&worktree);
    let mut kept: Vec<&str> = listed.lines().collect();
    kept.sort_unstable();
    assert_eq!(kept, ["!! build/cache/x", "!! dir/node_modules/n/i.js", "!! node_modules/m/i.js"]);
    // A file of the commit wins over a kept path.
    let mut files = FILES.to_vec();
    files.push(("node_modules", "a file now\n"));
    let other = fx.commit(&files, &[]);
    fx.reset(&worktree, &other, &["node_modules"]);
    assert_eq!(fs::read_to_string(worktree.path.join("node_modules")).unwrap(), "a file now\n");
    fx.reset(&worktree, &base, &[]);
    assert_exact(&fx, &worktree, &base, "without keep");
}

#[test]
fn worktree_can_be_opened_lost_and_removed() {
    let fx = RepoFixture::new();
    let base = fx.commit(&FILES, &[]);
    let worktree = fx.worktree("p01", &base);
    let reopened = open_worktree(&fx.repo, &worktree.path, &worktree.index).unwrap();
    assert_eq!(reopened, worktree);
    // The agent deletes its whole worktree: opening the worktree fails, and a reset creates it
    // again.
    fs::remove_dir_all(&worktree.path).unwrap();
    assert!(open_worktree(&fx.repo, &worktree.path, &worktree.index).is_err());
    fx.reset(&worktree, &base, &[]);
    assert_exact(&fx, &worktree, &base, "made anew");
    // A link in place of the worktree is not followed.
    let outside = outside(&fx);
    fs::rename(&worktree.path, fx.path("moved")).unwrap();
    symlink(&outside, &worktree.path).unwrap();
    fx.reset(&worktree, &base, &[]);
    assert_exact(&fx, &worktree, &base, "link replaced");
    assert_outside(&outside, "link replaced");
    fs::remove_dir_all(fx.path("moved")).unwrap();

    worktree.remove(&fx.repo).unwrap();
    assert!(!worktree.path.exists() && !worktree.admin.exists() && !worktree.index.exists());
    assert_eq!(fx.git(&["worktree", "list"]).lines().count(), 1);
    remove_worktree(&fx.repo, &worktree.path, &worktree.index).unwrap();
    assert!(worktree.remove(&fx.repo).is_err(), "a worktree without a record is never removed");
}

#[test]
fn worktree_is_never_made_over_foreign_files() {
    let fx = RepoFixture::new();
    let base = fx.commit(&FILES, &[]);
    let state = fx.path("state");
    write(&fx.path("theirs"), "file", "x\n");
    assert!(super::create_worktree(&fx.repo, &fx.path("theirs"), &base, &state).is_err());
    let inside = fx.repo.work_dir().unwrap().join("worktree");
    let other = fx.path("records/state");
    let error = super::create_worktree(&fx.repo, &inside, &base, &other).unwrap_err();
    assert!(error.to_string().contains("outside"), "{error}");
    assert!(!inside.exists());
    assert!(
        remove_worktree(&fx.repo, &fx.path("theirs"), &state).is_ok(),
        "no record, nothing to do"
    );
    assert!(fx.path("theirs/file").exists());
}

#[test]
fn worktree_head_is_set_and_its_checkout_found() {
    let fx = RepoFixture::new();
    let base = fx.commit(&FILES, &[]);
    fx.git(&["update-ref", "refs/heads/harness/run/task", base.as_str()]);
    let worktree = fx.worktree("p01", &base);
    let branch = "refs/heads/harness/run/task";
    assert!(fx.repo.checked_out_at(branch).unwrap().is_empty());
    worktree.reset_to(&fx.repo, &base, &Head::Branch(branch.into()), &[]).unwrap();
    assert_eq!(RepoFixture::status(&worktree), "");
    assert_eq!(git_in(&worktree.path, &["symbolic-ref", "HEAD"]).trim(), branch);
    fs::create_dir_all(fx.repo.common_dir().join("worktrees/broken")).unwrap();
    assert_eq!(fx.repo.checked_out_at(branch).unwrap(), std::slice::from_ref(&worktree.path));
    assert_eq!(fx.repo.checked_out_at("refs/heads/main").unwrap(), [fx.repo.work_dir().unwrap()]);
    worktree.set_head(&Head::Detached, &base).unwrap();
    assert_eq!(worktree.head_commit(&fx.repo), Some(base));
    let from_worktree = super::Repo::discover(&worktree.path).unwrap();
    assert_eq!(from_worktree.common_dir(), fx.repo.common_dir());
    assert_eq!(from_worktree.work_dir(), fx.repo.work_dir());
    assert_eq!(from_worktree.name(), "work");
}

#[test]
fn snapshot_and_reset_apply_line_ends_and_filters() {
    let mut fx = RepoFixture::new();
    fx.git(&["config", "filter.shout.clean", "tr a-z A-Z"]);
    fx.git(&["config", "filter.shout.smudge", "tr A-Z a-z"]);
    // Settings are read when the repository is opened.
    fx.repo = super::Repo::discover(fx.repo.work_dir().unwrap()).unwrap();
    let rules = "*.crlf text eol=crlf\n*.loud filter=shout\n";
    let base =
        fx.commit(&[(".gitattributes", rules), ("t.crlf", "a\nb\n"), ("s.loud", "HELLO\n")], &[]);
    let worktree = fx.worktree("p01", &base);
    assert_eq!(fs::read_to_string(worktree.path.join("t.crlf")).unwrap(), "a\r\nb\r\n");
    assert_eq!(fs::read_to_string(worktree.path.join("s.loud")).unwrap(), "hello\n");
    assert!(snapshot(&fx.repo, &worktree, &base).unwrap().changed.is_empty());
    write(&worktree.path, "t.crlf", "a\r\nc\r\n");
    write(&worktree.path, "n.loud", "new\n");
    let taken = snapshot(&fx.repo, &worktree, &base).unwrap();
    assert_eq!(taken.changed, ["n.loud", "t.crlf"]);
    let blob = |path| fx.repo.read_blob_at(&taken.tree, path).unwrap().unwrap();
    assert_eq!(blob("t.crlf"), b"a\nc\n");
    assert_eq!(blob("n.loud"), b"NEW\n");
    // A change of the attributes changes how an unchanged blob is checked out.
    let plain =
        fx.commit(&[(".gitattributes", ""), ("t.crlf", "a\nb\n"), ("s.loud", "HELLO\n")], &[]);
    fx.reset(&worktree, &plain, &[]);
    assert_eq!(fs::read_to_string(worktree.path.join("t.crlf")).unwrap(), "a\nb\n");
    assert_eq!(RepoFixture::status(&worktree), "");
}
