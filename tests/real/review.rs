//! The recipe `review` on a real code base, with a real linter as the agent. Every file is reviewed
//! exactly once, also with kills, and with one part that is never valid.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{harness, program, sh, text};

/// The code base, and the linter. Pinned, so that the findings stay the same.
const PACKAGE: &str = "eslint@8.57.1";

/// The part whose reviews are invalid.
const SPOILT: &str = "lib/cli-engine";

/// Returns a folder with the linter (`tools`) and a repository with the code base and the job
/// (`repo`), or the reason why there is none.
fn prepared(name: &str) -> Option<PathBuf> {
    let dir = tempfile::Builder::new().prefix("harness-review-").tempdir().unwrap().keep();
    std::fs::create_dir(dir.join("tools")).unwrap();
    let line = format!("npm install --silent --no-audit --no-fund --prefix tools {PACKAGE} 2>&1");
    let installed = sh(&dir, &line);
    if !installed.status.success() {
        let message = String::from_utf8_lossy(&installed.stdout).trim().to_owned();
        println!("SKIPPED {name}: npm cannot install {PACKAGE}: {message}");
        return None;
    }
    text(
        &dir,
        "mkdir repo && cp -r tools/node_modules/eslint/lib repo/ && cd repo && git init -q -b main && git add -A && \
         git -c user.name=t -c user.email=t@localhost commit -qm base",
    );
    let repo = dir.join("repo");
    assert_eq!(harness(&repo, &["init", "--recipe", "review"]), 0);
    Some(dir)
}

/// Gives the recipe's job the linter. With `spoilt`, reviews of one part are invalid.
fn with_linter(dir: &Path, spoilt: bool) {
    let job = dir.join("repo/harness.toml");
    let lint = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real/lint.cjs");
    let spoil = format!("case \" $*\" in *\" {SPOILT}\"*) echo '[{{}}]' >\"$2\";; esac");
    let script =
        format!("node {} \"$@\"\n{}\n", lint.display(), if spoilt { spoil.as_str() } else { "" });
    std::fs::write(dir.join("agent.sh"), script).unwrap();
    let command = format!(
        "command = [\"sh\", \"{}\", \"{}\", \"{{output}}\", \"{{task.files}}\"]",
        dir.join("agent.sh").display(),
        dir.join("tools").display()
    );
    // The evaluator runs the linter again, and expects the same findings.
    let again = "\"$TMPDIR/again.json\"";
    let judge = format!(
        "node {} \"$1\" {again} $(shift; echo \"$@\") || exit 1\n\
         if cmp -s review.json {again}; then echo '{{\"pass\": true}}'\n\
         else echo '{{\"pass\": false, \"findings\": [\"the linter says something else\"]}}'; fi\n",
        lint.display()
    );
    std::fs::write(dir.join("judge.sh"), judge).unwrap();
    let judge = format!(
        "command = [\"sh\", \"{}\", \"{}\", \"{{task.files}}\"]",
        dir.join("judge.sh").display(),
        dir.join("tools").display()
    );
    let recipe = std::fs::read_to_string(&job).unwrap();
    let mut commands = [command, judge].into_iter();
    let lines = recipe.lines().map(|line| match line {
        line if line.starts_with("preset = ") => commands.next().unwrap(),
        line if line.starts_with("env = ") => String::new(),
        // The invalid part is a large share of this code base.
        "[retry]" => "[retry]\nhalt-above = 1".to_owned(),
        line => line.to_owned(),
    });
    // A sandbox would hide the linter, which is in a temporary folder.
    let text = lines.collect::<Vec<_>>().join("\n") + "\n\n[sandbox]\nmode = \"off\"\n";
    std::fs::write(&job, text).unwrap();
}

/// Returns the linter's findings for these files in one run, in a canonical order.
fn in_one_go(dir: &Path, files: &[String]) -> Vec<String> {
    let lint = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real/lint.cjs");
    let all = dir.join("all.json");
    let line = format!(
        "node {} {} {} {}",
        lint.display(),
        dir.join("tools").display(),
        all.display(),
        files.join(" ")
    );
    text(&dir.join("repo"), &line);
    sorted(&serde_json::from_str(&std::fs::read_to_string(all).unwrap()).unwrap())
}

fn sorted(items: &Value) -> Vec<String> {
    let mut items: Vec<_> = items.as_array().unwrap().iter().map(Value::to_string).collect();
    items.sort();
    items
}

fn json(repo: &Path, words: &str) -> Value {
    serde_json::from_str(&text(repo, &format!("{} {words} 2>/dev/null", program()))).unwrap()
}

fn files_of(tasks: &Value) -> Vec<String> {
    let tasks = tasks.as_array().unwrap().iter();
    let files = tasks.flat_map(|t| t["files"].as_array().unwrap().clone());
    files.map(|f| f.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_file_is_reviewed_once_also_when_everything_is_killed() {
    let Some(dir) = prepared("review") else { return };
    with_linter(&dir, false);
    let repo = dir.join("repo");
    let plan = json(&repo, "plan --json");
    let files = files_of(&plan["tasks"]);
    let all = text(&repo, "git ls-files 'lib/*.js'").lines().count();
    assert!(files.len() > 300 && files.len() == all, "{} of {all} files", files.len());
    assert!(
        plan["tasks"].as_array().unwrap().iter().all(|t| t["lines"].as_u64().unwrap() <= 5_000)
    );

    for round in 0..2 {
        let mut child = Command::new(program())
            .args(["start", "--quiet", "--jobs", "2"])
            .current_dir(&repo)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let done = |n: usize| {
            let state = sh(&repo, &format!("{} status --porcelain", program()));
            String::from_utf8_lossy(&state.stdout).matches("done ").count() > n
        };
        while !done(2 + round * 3) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            std::thread::sleep(Duration::from_millis(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        sh(&repo, &format!("pkill -9 -f 'keeper {}'", repo.join(".git/harness").display()));
    }
    let part = json(&repo, "collect --json");
    let share = part["summary"]["share"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0, "a part-done run is collected with its share: {share}");

    assert_eq!(harness(&repo, &["start", "--quiet", "--jobs", "2"]), 0);
    assert_eq!(files_of(&json(&repo, "collect --json")["outputs"]), files, "in the plan's order");
    let collected = json(&repo, "collect");
    assert!(collected.as_array().unwrap().len() > 100);
    assert_eq!(sorted(&collected), in_one_go(&dir, &files), "no file twice, none left out");
    let page = text(&repo, &format!("{} collect --page 2>/dev/null", program()));
    assert!(page.contains("## Medium") && page.contains("max-lines-per-function"));
    // The outputs are not in the history.
    assert_eq!(
        text(&repo, "git rev-parse harness/review-1/result"),
        text(&repo, "git rev-parse main")
    );
    assert_eq!(text(&repo, "git fsck --strict 2>&1 | grep -v dangling || true"), "");
}

#[test]
fn a_part_that_is_never_valid_is_missing_and_nothing_else() {
    let Some(dir) = prepared("review with a part that is never valid") else { return };
    with_linter(&dir, true);
    let repo = dir.join("repo");
    assert_eq!(harness(&repo, &["start", "--quiet", "--jobs", "2"]), 1);
    let collected = json(&repo, "collect --json");
    let missing = collected["summary"]["missing"].as_array().unwrap();
    let lost = files_of(&collected["summary"]["missing"]);
    assert!(!missing.is_empty() && missing.iter().all(|t| t["state"] == "failed"));
    assert!(
        lost.iter().all(|f| f.starts_with("lib/")) && lost.iter().any(|f| f.starts_with(SPOILT))
    );
    let plan = files_of(&json(&repo, "plan --json")["tasks"]);
    let reviewed: Vec<String> = plan.into_iter().filter(|f| !lost.contains(f)).collect();
    assert_eq!(sorted(&json(&repo, "collect")), in_one_go(&dir, &reviewed));
    let shown = text(&repo, &format!("{} show {}", program(), missing[0]["id"].as_str().unwrap()));
    assert!(shown.contains("at `/0`: missing properties 'id', 'file'"), "{shown}");
}
