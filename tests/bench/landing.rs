//! Landing alone, compared with a loop of git commands that lands the same branches, in the same
//! run.
//!
//! `cargo bench --bench landing -- --files 20000 --branches 256`. The queue is durable (barriers
//! for each train), looks up a verdict for each tree, asserts that a landing changes only its
//! files, and writes notes and a queue log; the loop does none of that. A second figure includes
//! the verdicts, from a check that does nothing in a worktree of all files.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it has measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "benchmarks start processes and read the environment and the clock"
)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Files that a branch changes.
const CHANGES: usize = 3;

fn argument(name: &str, otherwise: usize) -> usize {
    let mut words = std::env::args().skip_while(|word| word != name).skip(1);
    words.next().map_or(otherwise, |word| word.parse().unwrap())
}

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git").args(args).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn text(n: usize, more: &str) -> String {
    let mut text = String::new();
    for line in 0..20 {
        writeln!(text, "line {line} of {n}").unwrap();
    }
    text + more
}

fn path(n: usize) -> String {
    format!("src/d{:03}/f{n:05}.txt", n / 100)
}

fn import(dir: &Path, stream: &str) {
    let mut child = Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The change of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Some files are edited.
    Edits,
    /// One of the files is also renamed.
    Rename,
}

/// Creates a repository with so many files, and independent branches `w0`, `w1` …
fn prepare(dir: &Path, files: usize, branches: usize, kind: Change) {
    git(dir, &["init", "--quiet", "--bare", "--initial-branch=main"]);
    for (key, value) in [("user.name", "t"), ("user.email", "t@localhost"), ("gc.auto", "0")] {
        git(dir, &["config", key, value]);
    }
    let blob =
        |path: &str, text: &str| format!("M 100644 inline {path}\ndata {}\n{text}\n", text.len());
    let head = |branch: &str, n: usize| {
        let at = 1_700_000_000 + n;
        format!(
            "commit refs/heads/{branch}\ncommitter t <t@localhost> {at} +0000\ndata {}\n{branch}\n",
            branch.len()
        )
    };
    let mut base = head("main", 0);
    base += &blob(
        "harness.toml",
        "[queue]\nbatch = 16\ntrust-verdicts = true\n[sandbox]\nmode = \"off\"\n[[check]]\nname = \"nothing\"\nrun = [\"true\"]\n",
    );
    (0..files).for_each(|n| base += &blob(&path(n), &text(n, "")));
    import(dir, &base);
    let tip = git(dir, &["rev-parse", "main"]);
    let step = files / (branches * CHANGES);
    let mut stream = String::new();
    for branch in 0..branches {
        stream += &head(&format!("w{branch}"), branch + 1);
        writeln!(stream, "from {tip}").unwrap();
        for change in 0..CHANGES {
            let n = (branch * CHANGES + change) * step;
            let old = path(n);
            let mut new = old.clone();
            if change == 0 && kind == Change::Rename {
                writeln!(stream, "D {old}").unwrap();
                new = old.replace("/f", "/renamed");
            }
            stream += &blob(&new, &text(n, &format!("more {branch}\n")));
        }
    }
    import(dir, &stream);
    git(dir, &["branch", "loop", "main"]);
}

/// Lands all branches with plain git.
fn by_loop(dir: &Path, branches: usize) -> Duration {
    let script = format!(
        "n=0; while [ $n -lt {branches} ]; do tip=$(git rev-parse loop) && tree=$(git merge-tree --write-tree loop w$n) && \
         new=$(git commit-tree -p $tip -m w$n $tree) && git update-ref refs/heads/loop $new $tip || exit 1; n=$((n+1)); done"
    );
    let since = Instant::now();
    assert!(Command::new("sh").args(["-c", &script]).current_dir(dir).status().unwrap().success());
    since.elapsed()
}

fn harness(dir: &Path, args: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_git-harness"))
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn by_queue(dir: &Path, branches: usize) -> Duration {
    let names: Vec<String> = (0..branches).map(|n| format!("w{n}")).collect();
    let mut words = vec!["queue", "add"];
    words.extend(names.iter().map(String::as_str));
    harness(dir, &words);
    let since = Instant::now();
    harness(dir, &["queue", "run"]);
    since.elapsed()
}

fn main() {
    // `cargo test --benches` only checks that the benchmark runs.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let (files, branches) = (argument("--files", 20_000), argument("--branches", 256));
    println!("{files} files, {branches} branches of {CHANGES} files; landings a second:");
    println!("disjoint edits");
    measure(files, branches, Change::Edits);
    println!("with a rename in each branch, so that git merges each");
    measure(files, branches, Change::Rename);
}

fn measure(files: usize, branches: usize, kind: Change) {
    let dir = tempfile::Builder::new().prefix("harness-bench-").tempdir().unwrap();
    let repo = dir.path().join("repo");
    std::fs::create_dir(&repo).unwrap();
    prepare(&repo, files, branches, kind);
    let other = dir.path().join("other");
    git(dir.path(), &["clone", "--quiet", "--bare", "repo", "other"]);
    let with_checks = by_queue(&other, branches);
    // The trees have passing verdicts: merging, target checks and landing remain.
    git(&repo, &["fetch", "--quiet", "../other", "+refs/notes/*:refs/notes/*"]);
    let queue = by_queue(&repo, branches);
    let plain = by_loop(&repo, branches);
    let rate = |took: Duration| branches as f64 / took.as_secs_f64();
    assert_eq!(git(&repo, &["diff", "--name-only", "loop", "main"]), "");
    let tree = |repo: &Path| git(repo, &["rev-parse", "main^{tree}"]);
    assert_eq!(tree(&other), tree(&repo));
    println!("  git merge-tree, commit-tree, update-ref in a loop  {:6.0}", rate(plain));
    println!("  git harness queue run, trains of 16, durable       {:6.0}", rate(queue));
    println!("  the same with a check that does nothing            {:6.0}", rate(with_checks));
    let ratio = |took: Duration| rate(took) / rate(plain);
    println!("  ratios: {:.2} and {:.2}", ratio(queue), ratio(with_checks));
}
