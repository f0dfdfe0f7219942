//! Frozen formats, and the refusal of other versions.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::job::TestJob;
use crate::queue::QueueSandbox;
use crate::sandbox::Sandbox;
use crate::screens::screen;

/// Returns the folder of the frozen formats of version 1.
fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats/v1")
}

/// Runs git in the repository with `input` on its standard input.
fn git_with_input(sandbox: &Sandbox, args: &[&str], input: &[u8]) -> String {
    let mut git = Command::new("git");
    git.args(args).current_dir(&sandbox.repo).stdin(Stdio::piped()).stdout(Stdio::piped());
    for kind in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{kind}_NAME"), "a test");
        git.env(format!("GIT_{kind}_EMAIL"), "test@example.org");
    }
    let mut git = git.spawn().unwrap();
    git.stdin.take().unwrap().write_all(input).unwrap();
    let output = git.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Changes the version in the message of a ref's tip to 99.
fn rewrite_version(sandbox: &Sandbox, name: &str) {
    let message = sandbox.git(&["log", "-1", "--format=%B", name]);
    let message = message.replace("Harness-V: 1\n", "Harness-V: 99\n");
    assert!(message.contains("Harness-V: 99"), "{message}");
    let tree = format!("{name}^{{tree}}");
    let mut args = vec!["commit-tree".to_owned(), tree];
    for parent in sandbox.git(&["log", "-1", "--format=%P", name]).split_whitespace() {
        args.extend(["-p".to_owned(), parent.to_owned()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let tip = git_with_input(sandbox, &args, message.as_bytes());
    sandbox.git(&["update-ref", name, &tip]);
}

/// Returns the refusal to read a ref or a file of version 99.
fn refusal(name: &str) -> String {
    format!("{name}: format 99, this git-harness reads 1; use the version that wrote it")
}

#[test]
fn queue_log_of_another_version_is_refused() {
    let queue = QueueSandbox::new("");
    let names = queue.good(1);
    queue.add(&[&names[0]]);
    let name = queue.sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness/queues"]);
    rewrite_version(&queue.sandbox, &name);
    for verb in ["list", "run"] {
        let args = if verb == "list" { vec!["queue"] } else { vec!["queue", verb] };
        queue.sandbox.run(&args).exits(128).says(&refusal(&name));
    }
}

#[test]
fn chains_and_journal_of_another_version_are_refused() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    let journal = sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness/targets"]);
    for (name, verb) in [
        ("refs/harness/tasks/job-1/alpha", "status"),
        ("refs/harness/runs/job-1", "status"),
        (&*journal, "start"),
    ] {
        let tip = sandbox.git(&["rev-parse", name]);
        rewrite_version(&sandbox, name);
        sandbox.run(&[verb]).exits(128).says(&refusal(name));
        sandbox.git(&["update-ref", name, &tip]);
    }
    sandbox.run(&["status"]).exits(0);
}

/// Starts a run and kills the supervisor while the agent of `alpha` waits for the sign `go`.
fn killed_run() -> Sandbox {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let waits = ": >\"$HOME/alpha.up\"; wait_for \"$HOME/go\"; edit alpha done";
    sandbox.script("default", waits);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("alpha.up");
    start.signal(Signal::KILL);
    start.wait().exits(137);
    sandbox
}

/// Changes the version of a JSON document to 99.
fn with_version_99(json: &str) -> String {
    let mut document: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(document["v"], 1, "{json}");
    document["v"] = 99.into();
    document.to_string()
}

#[test]
fn assignment_of_another_version_is_refused() {
    let sandbox = killed_run();
    let file = ".git/harness/runs/job-1/attempts/alpha.1/assignment.json";
    let assignment = std::fs::read_to_string(sandbox.repo.join(file)).unwrap();
    sandbox.write(file, &with_version_99(&assignment));
    sandbox.run(&["start"]).exits(128).says(&refusal(file));
    sandbox.write(file, &assignment);
    sandbox.give_sign("go");
    sandbox.run(&["start"]).exits(0);
}

#[test]
fn published_attempt_of_another_version_is_refused() {
    let sandbox = killed_run();
    sandbox.give_sign("go");
    let name = "refs/harness/attempts/job-1/alpha/1";
    let exists = || !sandbox.git(&["for-each-ref", name]).is_empty();
    sandbox.await_that("the attempt is published", exists);
    let outcome = sandbox.git(&["show", &format!("{name}:outcome.json")]);
    let outcome = with_version_99(&outcome);
    let blob = git_with_input(&sandbox, &["hash-object", "-w", "--stdin"], outcome.as_bytes());
    let old_blob = sandbox.git(&["rev-parse", &format!("{name}:outcome.json")]);
    let entries = format!("{}\n", sandbox.git(&["ls-tree", name])).replace(old_blob.trim(), &blob);
    let tree = git_with_input(&sandbox, &["mktree"], entries.as_bytes());
    let parent = sandbox.git(&["rev-parse", &format!("{name}^1")]);
    let args = ["commit-tree", &tree, "-p", parent.trim()];
    let message = sandbox.git(&["log", "-1", "--format=%B", name]);
    let tip = git_with_input(&sandbox, &args, message.as_bytes());
    sandbox.git(&["update-ref", name, &tip]);
    sandbox.run(&["start"]).says(&refusal(name));
    // The refusal counts as an infrastructure fault, and another attempt does the work.
    assert_ne!(sandbox.task("alpha")["attempts"], 1);
}

#[test]
fn request_of_another_version_is_answered_with_a_refusal() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    let frozen = std::fs::read_to_string(frozen().join("request.json")).unwrap();
    let request = |name: &str| format!(".git/harness/runs/job-1/requests/{name}");
    sandbox.write(&request("1-a.json"), &with_version_99(&frozen));
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    let answer = std::fs::read_to_string(sandbox.repo.join(request("1-a.done"))).unwrap();
    assert!(answer.contains("format 99, this git-harness reads 1"), "{answer}");
    assert_eq!(sandbox.task("beta")["state"], "todo");
    sandbox.write(&request("2-b.json"), &frozen);
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    // It can be read, but it is not of this copy.
    let answer = std::fs::read_to_string(sandbox.repo.join(request("2-b.done"))).unwrap();
    assert!(answer.contains("the request has no seal"), "{answer}");
}

#[test]
fn state_of_a_development_version_is_refused() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    sandbox.git(&["update-ref", "refs/harness/books/0123456789ab", "HEAD"]);
    let refused = "`refs/harness/books/0123456789ab` is state of a development version before 0.1";
    for args in [&["start"][..], &["status"], &["queue"]] {
        sandbox.run(args).exits(128).says(refused);
    }
}

/// The job of the frozen repository.
const JOB: &str = r#"[job]
name = "job"
goal = "Finish each file."

[plan]
include = ["alpha"]
group = "file"

[agent]
preset = "command"
command = ["sh", "-c", "echo done >\"$HARNESS_TASK\""]

[[check]]
name = "tests"
run = ["test", "-e", "alpha"]
"#;

/// Creates a repository with a run that has ended and a queue whose branch has landed, and
/// exports it.
fn export_all_formats(sandbox: &Sandbox) -> String {
    let repo = sandbox.root().join("frozen");
    std::fs::create_dir(&repo).unwrap();
    let git = |args: &[&str]| sandbox.try_git(&repo, args).exits(0).stdout;
    git(&["init", "--quiet", "--initial-branch=main"]);
    std::fs::write(repo.join("harness.toml"), JOB).unwrap();
    std::fs::write(repo.join("alpha"), "to be done\n").unwrap();
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "base"]);
    git(&["checkout", "--quiet", "-b", "feature"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "empty"]);
    std::fs::write(repo.join("beta"), "new\n").unwrap();
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "feature"]);
    git(&["checkout", "--quiet", "main"]);
    sandbox.run_in(&repo, &["queue", "add", "feature", "--target", "main"], &[]).exits(0);
    sandbox.run_in(&repo, &["queue", "run", "--target", "main"], &[]).exits(0);
    sandbox.run_in(&repo, &["start"], &[]).exits(0);
    git(&["fast-export", "--all"])
}

#[test]
fn frozen_formats_of_version_1_are_read() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let stream = frozen().join("repository.fast-export");
    if std::env::var_os("UPDATE_FORMATS").is_some() {
        std::fs::create_dir_all(frozen()).unwrap();
        std::fs::write(&stream, export_all_formats(&sandbox)).unwrap();
    }
    let stream = std::fs::read(&stream).unwrap();
    git_with_input(&sandbox, &["fast-import", "--quiet", "--force"], &stream);
    let status = sandbox.run(&["status", "--json"]).exits(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["run"], "job-1");
    assert_eq!(status["counts"]["done"], 1, "{status}");
    assert_eq!(status["tasks"][0]["attempts"], 1, "{status}");
    let queue = sandbox.run(&["queue", "--target", "main", "--json"]).exits(0);
    let queue: serde_json::Value = serde_json::from_str(&queue.stdout).unwrap();
    assert_eq!(queue["verifications"], 1, "{queue}");
    screen(&sandbox, "log_of_frozen_formats", &["log", "job-1"]);
    let landed = status["tasks"][0]["landed"].as_str().unwrap();
    screen(&sandbox, "why_of_frozen_formats", &["why", landed]);
}
