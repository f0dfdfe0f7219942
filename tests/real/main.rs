//! Every module of a real npm package through a whole job, with kills, by polls, and in copies; the
//! built-in checks on real files; and merges with the oldest git.
//!
//! Needs npm with a registry, node and perl. Where one of them is missing, every test prints that
//! it is skipped, and why.
#![expect(clippy::print_stdout, reason = "what is skipped is told")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start processes, wait and read the environment"
)]

mod graphs;
#[path = "../sim/merges/mod.rs"]
mod merges;
mod migration;
mod old_git;
mod queue;
mod review;
mod stripped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The package, pinned, so that the counts below stay true.
const PACKAGE: &str = "underscore@1.13.8";

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_git-harness")
}

fn sh(dir: &Path, line: &str) -> Output {
    Command::new("sh").args(["-c", line]).current_dir(dir).output().unwrap()
}

fn text(dir: &Path, line: &str) -> String {
    let out = sh(dir, line);
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn harness(dir: &Path, words: &[&str]) -> i32 {
    let mut command = Command::new(program());
    command.args(words).current_dir(dir).stdin(Stdio::null());
    command.output().unwrap().status.code().unwrap_or(-1)
}

/// Returns a repository with the package's modules, or the reason why there is none.
fn origin() -> Result<&'static Path, String> {
    static ORIGIN: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    ORIGIN.get_or_init(make_origin).as_deref().map_err(Clone::clone)
}

fn make_origin() -> Result<PathBuf, String> {
    for tool in ["npm", "node", "perl"] {
        if !sh(Path::new("/"), &format!("{tool} --version")).status.success() {
            return Err(format!("`{tool}` is not installed"));
        }
    }
    let dir = tempfile::Builder::new().prefix("harness-real-").tempdir().unwrap().keep();
    let packed = sh(&dir, &format!("npm pack --silent {PACKAGE} && tar xf *.tgz"));
    if !packed.status.success() {
        let message = String::from_utf8_lossy(&packed.stderr).trim().to_owned();
        return Err(format!("npm cannot fetch {PACKAGE}: {message}"));
    }
    let repo = dir.join("repo");
    std::fs::create_dir_all(repo.join(".harness")).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real");
    for (name, to) in [
        ("codemod.sh", ".harness/codemod.sh"),
        ("syntax.sh", ".harness/syntax.sh"),
        ("harness.toml", "harness.toml"),
    ] {
        std::fs::copy(fixtures.join(name), repo.join(to)).unwrap();
    }
    std::fs::write(repo.join("package.json"), "{\"type\": \"module\"}\n").unwrap();
    text(
        &repo,
        "cp -r ../package/modules . && rm modules/package.json && git init -q -b main && git add -A && \
         git -c user.name=t -c user.email=t@localhost commit -qm base",
    );
    Ok(repo)
}

/// Returns a clone, or prints why the test is skipped.
fn clone(name: &str) -> Option<PathBuf> {
    let origin = match origin() {
        Ok(origin) => origin,
        Err(why) => {
            println!("SKIPPED {name}: {why}");
            return None;
        }
    };
    let to = origin.parent().unwrap().join(name);
    text(origin, &format!("git clone -q . {}", to.display()));
    Some(to)
}

/// Asserts that every task is on the target once, every module is transformed once and parses, and
/// nothing temporary remains.
fn assert_whole(repo: &Path, run: &str, tasks: usize) {
    let target = format!("harness/{run}/result");
    let landed = text(
        repo,
        &format!(
            "git log --first-parent --format='%(trailers:key=Harness-Task,valueonly)' {target}"
        ),
    );
    let mut count = BTreeMap::new();
    for task in landed.lines().filter(|l| !l.is_empty()) {
        *count.entry(task.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(count.len(), tasks, "every task has landed");
    assert!(count.values().all(|n| *n == 1), "none twice: {count:?}");
    let out = tempfile::tempdir().unwrap();
    text(repo, &format!("git archive {target} | tar x -C {}", out.path().display()));
    let marked =
        text(out.path(), "grep -c '^// transformed by task' modules/*.js | grep -c ':1$' || true");
    assert_eq!(marked, tasks.to_string(), "every module is transformed once");
    text(out.path(), "for f in modules/*.js; do node --check $f || exit 1; done");
    let broken = text(repo, "git fsck --strict 2>&1 | grep -v dangling || true");
    assert_eq!(broken, "", "git fsck");
    assert_eq!(text(repo, "git for-each-ref refs/harness/attempts"), "");
    assert_eq!(text(repo, "find $(git rev-parse --git-common-dir)/refs -name '*.lock'"), "");
}

fn modules(repo: &Path) -> usize {
    text(repo, "git ls-tree --name-only HEAD modules/ | grep -c '[.]js$'").parse().unwrap()
}

#[test]
fn killed_ten_times_every_module_lands_once() {
    let Some(repo) = clone("kills") else { return };
    let before =
        text(&repo, "git status --porcelain; cat .git/HEAD; cat .git/config; git rev-parse main");
    for round in 0..10u64 {
        let mut child = Command::new(program())
            .args(["start", "--run", "k", "--quiet"])
            .current_dir(&repo)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(700 + round * 137 % 900));
        child.kill().unwrap();
        child.wait().unwrap();
        // Only the keepers of this repository: their folder is an argument.
        let folder = repo.join(".git/harness");
        sh(&repo, &format!("pkill -9 -f 'keeper {}'", folder.display()));
    }
    assert_eq!(harness(&repo, &["start", "--run", "k", "--quiet"]), 0);
    assert_whole(&repo, "k", modules(&repo));
    let after =
        text(&repo, "git status --porcelain; cat .git/HEAD; cat .git/config; git rev-parse main");
    assert_eq!(before, after, "the user's checkout is as it was");
}

#[test]
fn copies_made_on_the_way_complete_by_themselves() {
    let Some(repo) = clone("copied") else { return };
    let mut child = Command::new(program())
        .args(["start", "--run", "m", "--quiet"])
        .current_dir(&repo)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut copies = Vec::new();
    for n in 0..2 {
        std::thread::sleep(Duration::from_millis(1500));
        let copy = repo.parent().unwrap().join(format!("copy{n}.git"));
        text(&repo, &format!("git clone -q --mirror . {}", copy.display()));
        copies.push(copy);
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for copy in copies {
        assert_eq!(harness(&copy, &["start", "--run", "m", "--quiet"]), 0);
        assert_whole(&copy, "m", modules(&repo));
    }
}

#[test]
fn polls_alone_complete_a_run() {
    let Some(repo) = clone("polled") else { return };
    let scope = "modules/_*.js";
    assert_eq!(harness(&repo, &["start", "--paused", "--run", "p", "--scope-files", scope]), 0);
    let tasks: usize =
        text(&repo, "git ls-tree --name-only HEAD modules/ | grep -c 'modules/_'").parse().unwrap();
    let mut polls = 0;
    let code = loop {
        let code = harness(&repo, &["poll"]);
        polls += 1;
        if code != 0 || polls > 2000 {
            break code;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(code, 2, "every task has ended");
    assert_whole(&repo, "p", tasks);
}
