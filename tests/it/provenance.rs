//! Provenance: `why` and `blame` on landed commits and on their rewritten copies.

use serde_json::Value;

use crate::job::TestJob;
use crate::queue::QueueSandbox;
use crate::sandbox::Sandbox;
use crate::screens::screen;

fn why(sandbox: &Sandbox, commit: &str) -> Value {
    let output = sandbox.run(&["why", commit, "--json"]);
    let value: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(output.code, i32::from(value["origins"].as_array().unwrap().is_empty()), "{output}");
    value["origins"].clone()
}

fn landed() -> Sandbox {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("limits", "jobs = 1"));
    sandbox.script("alpha.1", "edit alpha BAD");
    sandbox.script("alpha.2", "edit alpha 'the first line'");
    sandbox.run(&["start"]).exits(0);
    sandbox.git(&["stash", "--quiet", "--include-untracked"]);
    sandbox
}

#[test]
fn why_and_blame_name_task_and_checks_of_a_landed_commit() {
    let sandbox = landed();
    let target = "harness/job-1/result";
    let commits = sandbox.git(&["rev-list", "--first-parent", target, "^main"]);
    for commit in commits.lines() {
        let origins = why(&sandbox, commit);
        assert_eq!(
            (&origins[0]["by"], &origins[0]["note"]["run"]),
            (&"note".into(), &"job-1".into())
        );
        assert_eq!(origins[0]["note"]["checks"][0]["passed"], true);
    }
    let page = sandbox.run(&["why", commits.lines().next().unwrap()]).exits(0).stdout;
    for part in ["job-1/alpha#2", "passed no-bad", "git cat-file blob", "agent"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    sandbox.run(&["why", "main"]).exits(1);
    let blame = sandbox.run(&["blame", "alpha", target]).exits(0).stdout;
    assert!(blame.contains("job-1/alpha#2") && blame.contains("the first line"), "{blame}");
    screen(&sandbox, "blame_unknown_file", &["blame", "nothing", target]);
}

#[test]
fn why_finds_the_origin_after_rebase_amend_cherry_pick_and_squash() {
    let sandbox = landed();
    let target = "harness/job-1/result";
    let alpha = sandbox.git(&["log", "-1", "--format=%H", target, "--", "alpha"]);
    let beta = sandbox.git(&["log", "-1", "--format=%H", target, "--", "beta"]);
    let of = |origins: &Value| origins[0]["landed"].as_str().unwrap_or("none").to_owned();

    // A rebase keeps the trailers.
    sandbox.git(&["switch", "--quiet", "--create", "rebased", target]);
    sandbox.git(&["commit", "--quiet", "--allow-empty", "--message", "in between"]);
    sandbox.git(&["cherry-pick", "--allow-empty", "--keep-redundant-commits", &alpha]);
    let origins = why(&sandbox, "HEAD");
    assert_eq!((origins[0]["by"].as_str().unwrap(), of(&origins)), ("trailers", alpha.clone()));

    // An amended message keeps the tree.
    sandbox.git(&["switch", "--quiet", "--create", "amended", target]);
    sandbox.git(&["commit", "--quiet", "--amend", "--message", "in other words"]);
    let last = sandbox.git(&["rev-parse", target]);
    let origins = why(&sandbox, "HEAD");
    assert_eq!((origins[0]["by"].as_str().unwrap(), of(&origins)), ("tree", last));

    // A cherry-pick with another message keeps the change.
    sandbox.git(&["switch", "--quiet", "--create", "picked", "main"]);
    sandbox.write("README", "another base\n");
    sandbox.git(&["commit", "--quiet", "--all", "--message", "another base"]);
    sandbox.git(&["cherry-pick", &beta]);
    sandbox.git(&["commit", "--quiet", "--amend", "--message", "in other words"]);
    let origins = why(&sandbox, "HEAD");
    assert_eq!((origins[0]["by"].as_str().unwrap(), of(&origins)), ("patch", beta.clone()));
    assert!(why(&sandbox, "HEAD~1").as_array().unwrap().is_empty());

    // git quotes the messages of the commits that it squashes.
    sandbox.git(&["switch", "--quiet", "--create", "squashed", "main"]);
    sandbox.git(&["merge", "--squash", target]);
    sandbox.git(&["commit", "--quiet", "--no-edit"]);
    let origins = why(&sandbox, "HEAD");
    let mut whose: Vec<&str> =
        origins.as_array().unwrap().iter().map(|o| o["who"].as_str().unwrap()).collect();
    whose.sort_unstable();
    assert_eq!(whose, ["job-1/alpha#2", "job-1/beta#1"]);

    // `--repair` writes a note.
    sandbox.git(&["switch", "--quiet", "picked"]);
    screen(&sandbox, "why_repair", &["why", "--repair"]);
    assert_eq!(why(&sandbox, "HEAD")[0]["by"], "note");
    sandbox.run(&["doctor"]).says("git config --add notes.rewriteRef refs/notes/harness");
    sandbox.git(&["config", "--add", "notes.rewriteRef", "refs/notes/harness"]);
    let output = sandbox.run(&["doctor"]);
    assert!(!output.stdout.contains("notes.rewriteRef"), "{output}");
}

#[test]
fn why_knows_commits_of_the_merge_queue() {
    let queue = QueueSandbox::new("");
    queue.good(3);
    queue.add(&["b0", "b1", "b2"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    let origins = why(&queue.sandbox, "main~1");
    assert_eq!((&origins[0]["who"], &origins[0]["by"]), (&"b1".into(), &"note".into()));
    screen(&queue.sandbox, "why_branch", &["why", "main"]);
    screen(&queue.sandbox, "blame_branch", &["blame", "new-b0"]);
}

#[test]
fn blame_resolves_paths_as_git_does_and_ignores_revisions() {
    let queue = QueueSandbox::new("");
    let sandbox = &queue.sandbox;
    let repo = sandbox.repo.clone();
    std::fs::create_dir_all(repo.join("src/deep")).unwrap();
    sandbox.write("src/a", "one\n");
    sandbox.git(&["add", "src/a"]);
    sandbox.git(&["commit", "--quiet", "-m", "one"]);
    let first = sandbox.git(&["rev-parse", "--short=7", "HEAD"]);
    let absolute = repo.join("src/a");
    for (folder, file) in [
        ("src", "a"),
        ("src", "./a"),
        ("src/deep", "../a"),
        ("", "src/deep/../a"),
        ("src/deep", absolute.to_str().unwrap()),
    ] {
        let output = sandbox.run_in(&repo.join(folder), &["blame", file], &[]).exits(0);
        assert!(output.stdout.starts_with(&first), "{file} in {folder}: {output}");
    }
    sandbox.run(&["blame", "../a"]).exits(128).says("is outside the repository");
    // A commit that only formats.
    sandbox.write("src/a", "ONE\n");
    sandbox.git(&["commit", "--quiet", "-m", "format", "src/a"]);
    let format = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.write(".ignored-revisions", &format!("{format}\n"));
    sandbox.git(&["config", "blame.ignoreRevsFile", ".ignored-revisions"]);
    let output = sandbox.run_in(&repo.join("src"), &["blame", "a"], &[]).exits(0);
    assert!(output.stdout.starts_with(&first), "{output}");
}
