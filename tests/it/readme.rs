//! The sessions of README.md, run as a reader would run them.
//!
//! A session is a fenced `console` block, or an indented block of commands. Every command must
//! succeed. Output that a block shows must occur; commit ids and progress counts may differ.

use std::path::Path;

use crate::job::{FIXTURES, TestJob};
use crate::queue::QueueSandbox;
use crate::sandbox::Sandbox;

/// Commands that the test does not run, each with the reason.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo install --path .", "installs from the network"),
    ("cargo run -- demo", "builds the program; the screen `demo` holds the output"),
    ("cargo test", "would run itself"),
    ("cargo test --test agents", "needs root, npm and the network"),
];

/// A block of README.md: commands, and the lines of output below them.
#[derive(Debug, Default)]
struct ReadmeSession {
    commands: Vec<String>,
    output: Vec<String>,
}

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

fn without_comment(command: &str) -> String {
    command.split(" #").next().unwrap().trim().to_owned()
}

/// Returns the sessions of README.md in order.
fn sessions() -> Vec<ReadmeSession> {
    let mut sessions = Vec::new();
    let mut session = ReadmeSession::default();
    let mut fence: Option<String> = None;
    for line in readme().lines().chain([""]) {
        if let Some(language) = line.strip_prefix("```") {
            sessions.push(std::mem::take(&mut session));
            fence = if fence.is_some() { None } else { Some(language.to_owned()) };
        } else if let Some(language) = &fence {
            match line.strip_prefix("$ ") {
                _ if language != "console" && language != "sh" => {}
                Some(command) => session.commands.push(without_comment(command)),
                None if language == "sh" => session.commands.push(without_comment(line)),
                None => session.output.push(line.to_owned()),
            }
        } else if let Some(command) = line.strip_prefix("    ") {
            session.commands.push(without_comment(command));
        } else {
            sessions.push(std::mem::take(&mut session));
        }
    }
    sessions.retain(|session| !session.commands.is_empty());
    sessions
}

/// Returns the first fenced block of this language.
fn fenced(language: &str) -> String {
    let text = readme();
    let block = text.split(&format!("```{language}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// Runs the commands of a session, and returns what they print on standard error.
fn run(sandbox: &Sandbox, session: &ReadmeSession, task: &str) -> String {
    let mut stderr = String::new();
    for command in &session.commands {
        if NOT_RUN.iter().any(|(skipped, _)| skipped == command) {
            continue;
        }
        let words: Vec<&str> = command
            .split_whitespace()
            .map(|word| if word == "TASK" { task } else { word })
            .collect();
        let Some(args) = words.strip_prefix(&["git", "harness"]) else {
            panic!("README.md: run this command, or say in NOT_RUN why not: {command}")
        };
        let bin = sandbox.root().join("bin");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = sandbox.run_in(&sandbox.repo, args, &[("PATH", &path)]);
        assert_eq!(output.code, 0, "README.md: {command}\n{output}");
        stderr.push_str(&output.stderr);
    }
    stderr
}

/// Returns a line with placeholders for commit ids and progress counts.
fn redacted(line: &str) -> String {
    let ids = regex::Regex::new(r"\b[0-9a-f]{7}\b").unwrap();
    let counts = regex::Regex::new(r"^\[ *\d+/(\d+)\]").unwrap();
    let line = ids.replace_all(line, "0123456");
    counts.replace(&line, "[N/$1]").into_owned()
}

/// Asserts that the output has every line that the session shows. `…` stands for any lines. Lines
/// of progress may come in another order, since several agents are at work.
fn assert_shown(session: &ReadmeSession, output: &str) {
    let lines: Vec<String> = output.lines().map(redacted).collect();
    for shown in session.output.iter().filter(|line| *line != "…") {
        assert!(lines.contains(&redacted(shown)), "README.md shows: {shown}\n{output}");
    }
}

fn executable(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A repository without files of the sandbox, with the files that `fill` writes.
fn project(fill: impl FnOnce(&Sandbox)) -> Sandbox {
    let sandbox = Sandbox::new(TestJob::bare(&["alpha"]));
    sandbox.git(&["rm", "--quiet", "-r", "--force", "."]);
    fill(&sandbox);
    sandbox.git(&["add", "--all"]);
    sandbox.git(&["commit", "--quiet", "--message", "a project"]);
    sandbox
}

#[test]
fn session_of_the_demonstration_project() {
    let session = &sessions()[0];
    assert_eq!(session.commands, ["git harness start"]);
    let sandbox = project(|sandbox| copy_folder(&Path::new(FIXTURES).join("demo"), &sandbox.repo));
    assert_shown(session, &run(&sandbox, session, ""));
}

#[test]
fn session_of_a_job_of_ones_own() {
    let sessions = sessions();
    let session = sessions.iter().find(|s| s.commands[0] == "git harness validate").unwrap();
    let sandbox = project(|sandbox| {
        sandbox.write("harness.toml", &fenced("toml"));
        sandbox.write("src/one.js", "exports.one = 1;\n");
        sandbox.write("src/two.js", "exports.two = 2;\n");
        let agent = "#!/bin/sh\nfor f in src/*.js; do grep -q \"\\`$f\\`\" \"$1\" && echo '// done' >>$f; done\nexit 0\n";
        executable(&sandbox.repo.join("my-agent"), agent);
    });
    executable(&sandbox.root().join("bin/npm"), "#!/bin/sh\nexit 0\n");
    run(&sandbox, session, "src__one_dot_js");
    assert_eq!(sandbox.status()["counts"]["done"], 2);
}

#[test]
fn session_of_the_merge_queue() {
    let sessions = sessions();
    let session = sessions.iter().find(|s| s.commands[0].contains("queue add")).unwrap();
    let queue = QueueSandbox::new("");
    for branch in ["fix-login", "faster-search", "search-ui"] {
        queue.branch(branch, "main", &[(branch, "new\n")]);
    }
    run(&queue.sandbox, session, "");
    assert_eq!(queue.landed(), ["fix-login", "faster-search", "search-ui"]);
}

#[test]
fn every_session_is_run_or_has_a_reason() {
    let tested = ["git harness start", "git harness validate", "git harness queue add"];
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    for session in sessions() {
        if !tested.iter().any(|command| session.commands[0].starts_with(command)) {
            run(&sandbox, &session, "");
        }
    }
}
