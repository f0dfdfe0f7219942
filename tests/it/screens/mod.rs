//! Whole screens of the program, held as snapshots: command line, output and exit code. Tests of
//! other files use them for the text of their own situations.
//!
//! After a change of visible text, `INSTA_UPDATE=always cargo test --test it` rewrites the
//! snapshots. The difference is then read and committed. With `CI` set, nothing is written.

mod errors;
mod launch;
mod merge_queue;
mod outcome;
mod overview;
mod planning;
mod review;

use std::path::Path;

use crate::command::CommandOutput;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Replacements for text that differs from run to run. A longer pattern comes before its part.
const FILTERS: &[(&str, &str)] = &[
    (r"\b[0-9a-f]{40}\b", "0123456789abcdef0123456789abcdef01234567"),
    (r"\b[0-9a-f]{12}\b", "0123456789ab"),
    (r"\b[0-9a-f]{7}\b", "0123456"),
    (r"git-harness-demo-[0-9a-f]{6}", "git-harness-demo-012345"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-01-02 03:04:05"),
    (r"\b1\d{12}\b", "1234567890123"),
    (r"process \d+ on \S+, started at tick \d+", "process 1234 on HOST, started at tick 12345"),
    (r"driven by [^\s/]+/\d+", "driven by HOST/1234"),
    // The manual pages may be installed for the whole machine.
    (r"(ok|note) +manual +.*", "note  manual  INSTALLED OR NOT"),
    (r"\bversion \d+\.\d+(\.\d+)?", "version 1.2.3"),
    // Columns of durations are as wide as the longest. The first pattern spans an empty column.
    (r"\b\d+(\.\d+)? (ms|s)\b {10,}", "12.3 s              "),
    (r"\b\d+(\.\d+)? (ms|s)\b {2,9}([^ ])", "12.3 s     ${3}"),
    (r"\b\d+(\.\d+)? (ms|s)\b", "12.3 s"),
    // `why` names no duration below 1 ms.
    (r"(check +passed \S+) \(12\.3 s\)", "${1}"),
    (r"\bSINCE +", "SINCE   "),
    (r"\bAGE +", "AGE     "),
];

/// A shell function for scripts: waits until the base is verified and no work of another task is
/// pending, so that the lines of the screen have one order.
const SETTLED: &str = r#"settled() {
  until git log --format=%s refs/harness/runs/job-1 | grep -q 'on the base' &&
    ! git for-each-ref --format='%(refname:lstrip=4) %(subject)' refs/harness/tasks/job-1 |
    grep -v "^$HARNESS_TASK " | grep -qE "attempt [0-9]+ (${1:-started|exit|accepted})"
  do sleep 0.02; done
}
"#;

/// A repository with this job whose agents work one at a time and wait for each other's verdicts.
fn sequential(job: TestJob) -> Sandbox {
    let sandbox = Sandbox::new(job.set("limits", "jobs = 1"));
    script(&sandbox, "default", "settled; edit \"$HARNESS_TASK\" done");
    sandbox
}

/// Writes a script that may call `settled`.
fn script(sandbox: &Sandbox, name: &str, body: &str) {
    sandbox.script(name, &format!("{SETTLED}{body}"));
}

/// Runs the program in the repository and compares the screen with the snapshot `name`.
pub(crate) fn screen(sandbox: &Sandbox, name: &str, args: &[&str]) {
    screen_in(sandbox, &sandbox.repo, name, args);
}

/// Runs the program in the repository and compares the screen, without the lines of progress,
/// with the snapshot `name`.
pub(crate) fn screen_without_progress(sandbox: &Sandbox, name: &str, args: &[&str]) {
    compare_without_progress(sandbox, name, args, sandbox.run(args));
}

/// Runs the program in `folder` and compares the screen with the snapshot `name`.
pub(crate) fn screen_in(sandbox: &Sandbox, folder: &Path, name: &str, args: &[&str]) {
    let output = sandbox.run_in(folder, args, &[]);
    compare(sandbox, name, args, &output);
}

/// Runs the program where PATH holds little, so that what is installed here makes no difference.
fn screen_with_little_path(sandbox: &Sandbox, name: &str, args: &[&str]) {
    let folder = sandbox.root().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    for program in ["git", "sh", "grep"] {
        let path = std::env::var_os("PATH").unwrap();
        let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
        let found = candidates.find(|candidate| candidate.exists()).unwrap();
        std::os::unix::fs::symlink(found, folder.join(program)).ok();
    }
    let path = folder.to_str().unwrap();
    compare(sandbox, name, args, &sandbox.run_in(&sandbox.repo, args, &[("PATH", path)]));
}

/// Compares the screen of a command that has ended, without the lines of progress, with the
/// snapshot `name`. Several agents and checks run at a time: the order of these lines differs from
/// run to run.
pub(crate) fn compare_without_progress(
    sandbox: &Sandbox,
    name: &str,
    args: &[&str],
    mut output: CommandOutput,
) {
    let starts = ["[", "note: ", "the landing checks pass on the base"];
    let is_progress = |line: &&str| starts.iter().any(|start| line.starts_with(start));
    let lines = output.stderr.lines().filter(|line| !is_progress(line));
    output.stderr = lines.map(|line| format!("{line}\n")).collect();
    compare(sandbox, name, args, &output);
}

/// Compares the screen of a command that has ended with the snapshot `name`.
pub(crate) fn compare(sandbox: &Sandbox, name: &str, args: &[&str], output: &CommandOutput) {
    let quote = |word: &&str| {
        if word.is_empty() || word.contains([' ', '*', '"']) {
            format!("'{word}'")
        } else {
            (*word).to_owned()
        }
    };
    let words: Vec<String> = args.iter().map(quote).collect();
    let text = format!("$ git harness {}\n{output}", words.join(" "));

    let mut settings = insta::Settings::new();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let literal = |path: &Path| regex::escape(&path.to_string_lossy());
    settings.add_filter(&literal(&sandbox.root()), "/SANDBOX");
    settings.add_filter(&literal(Path::new(env!("CARGO_MANIFEST_DIR"))), "/SOURCE");
    for (pattern, placeholder) in FILTERS {
        settings.add_filter(pattern, *placeholder);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}
