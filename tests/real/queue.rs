//! The merge queue on a real package with 64 branches: one fails, two conflict in text, and two
//! fail only together.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{clone, harness, program, sh, text};

/// Independent branches that pass.
const GOOD: usize = 59;
/// The most verifications for these branches in one lane. One by one there would be at least 64.
const VERIFICATIONS: usize = 32;

/// Creates a clone with the branches and a check on `main` that counts its executions. A person has
/// a branch with uncommitted changes checked out.
fn prepared(name: &str, pause: &str) -> Option<PathBuf> {
    let repo = clone(name)?;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/real");
    std::fs::copy(fixtures.join("together.mjs"), repo.join(".harness/together.mjs")).unwrap();
    let runs = repo.parent().unwrap().join(format!("{name}.runs"));
    let check = format!(
        "#!/bin/sh\necho ran >>{}\nsleep {pause}\nexec node .harness/together.mjs\n",
        runs.display()
    );
    std::fs::write(repo.join(".harness/together.sh"), check).unwrap();
    // In a sandbox, the check could not count its executions outside of the worktree.
    let rules = "[sandbox]\nmode = \"off\"\n\n[[check]]\nname = \"together\"\n\
                 run = [\"sh\", \".harness/together.sh\"]\n";
    std::fs::write(repo.join("harness.toml"), rules).unwrap();
    let make = format!(
        r#"
        git config user.name t; git config user.email t@localhost
        git add -A; git commit -qm rules
        branch() {{ git checkout -qb "$1" main; }}
        done_with() {{ git add -A; git commit -qm "$1"; git checkout -q main; }}
        n=0
        for f in $(ls modules/[a-z]*.js | grep -v -e index -e noop -e mixin -e isNaN | head -{GOOD}); do
            n=$((n+1)); branch "good-$n"; echo "// reviewed in good-$n" >>$f; done_with "look at $f"
        done
        branch bad; echo 'export default (' >modules/isNaN.js; done_with "half a file"
        branch text-1; echo '{{"type": "module", "private": true}}' >package.json; done_with "private"
        branch text-2; echo '{{"type": "module", "license": "MIT"}}' >package.json; done_with "a license"
        branch meaning-1; git mv modules/noop.js modules/doNothing.js
        sed -i "s,'./noop.js','./doNothing.js',g" modules/*.js; done_with "a better name"
        branch meaning-2; printf "import noop from './noop.js';\nnoop();\n" >>modules/mixin.js; done_with "another use"
        git checkout -qb mine main; echo mine >>modules/VERSION; echo mine >>package.json; git add modules/VERSION
        "#
    );
    text(&repo, &make);
    Some(repo)
}

fn names() -> Vec<String> {
    // The failing branches are in the middle, and the two of a pair far apart.
    let mut names: Vec<String> = (1..=GOOD).map(|n| format!("good-{n}")).collect();
    for (at, name) in
        [(9, "meaning-1"), (17, "text-1"), (30, "bad"), (41, "text-2"), (50, "meaning-2")]
    {
        names.insert(at, name.to_owned());
    }
    names
}

/// Returns the state of the person's worktree.
fn checkout(repo: &Path) -> String {
    text(
        repo,
        "cat .git/HEAD; git status --porcelain=v2; find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha1sum",
    )
}

fn add(repo: &Path) {
    let names = names();
    let mut words = vec!["queue", "add"];
    words.extend(names.iter().map(String::as_str));
    assert_eq!(harness(repo, &words), 0);
}

fn holds(repo: &Path) -> Value {
    let out = Command::new(program())
        .args(["queue", "list", "--all", "--json"])
        .current_dir(repo)
        .output()
        .unwrap();
    let list: Value = serde_json::from_slice(&out.stdout).unwrap();
    let entries = list["entries"].as_array().unwrap();
    let of = |state: &str| -> Vec<&str> {
        let mut found: Vec<&str> = entries
            .iter()
            .filter(|e| e["state"] == state)
            .map(|e| e["branch"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(of("landed").len(), GOOD + 2, "landed: {list}");
    assert_eq!(of("conflict").len(), 1, "{list}");
    assert!(of("conflict")[0].starts_with("text-"));
    let rejected = of("rejected");
    assert!(
        rejected.len() == 2 && rejected[0] == "bad" && rejected[1].starts_with("meaning-"),
        "{rejected:?}"
    );
    let why = |name: &str| {
        let entry = entries.iter().find(|e| e["branch"] == name).unwrap();
        entry["why"].as_str().unwrap().to_owned()
    };
    assert!(why("bad").contains("SyntaxError"), "{}", why("bad"));
    assert!(why(rejected[1]).contains("noop.js"), "{}", why(rejected[1]));
    // The target passes, each branch is on it once, and each train has a verdict.
    let log = text(
        repo,
        "git log --first-parent --format='%(trailers:key=Harness-Branch,valueonly,separator=)' main | grep .",
    );
    let mut landed: Vec<&str> = log.lines().collect();
    landed.sort_unstable();
    landed.dedup();
    assert_eq!((landed.len(), log.lines().count()), (GOOD + 2, GOOD + 2));
    let tips = text(
        repo,
        "git log --first-parent --format='%(trailers:key=Harness-Data,valueonly)' $(git for-each-ref --format='%(refname)' refs/harness/queues) \
         | grep '\"event\":\"landed\"' | sed 's/.*\"new\":\"\\([0-9a-f]*\\)\".*/\\1/'",
    );
    for tip in tips.lines() {
        let note = text(repo, &format!("git notes --ref=harness-verdicts show {tip}^{{tree}}"));
        assert!(note.contains("\"pass\":true"), "{note}");
    }
    let broken = text(repo, "git fsck --strict 2>&1 | grep -v dangling || true");
    assert_eq!(broken, "", "git fsck");
    list
}

#[test]
fn of_sixty_four_branches_all_good_ones_land() {
    let Some(repo) = prepared("queue", "0") else { return };
    let before = checkout(&repo);
    add(&repo);
    assert_eq!(harness(&repo, &["queue", "run"]), 1);
    let list = holds(&repo);
    let runs = text(repo.parent().unwrap(), "wc -l <queue.runs").parse::<usize>().unwrap();
    println!("64 branches: {runs} runs of the check, {} verifications", list["verifications"]);
    assert!(runs <= VERIFICATIONS, "{runs} runs of the check");
    assert_eq!(checkout(&repo), before, "the person's work tree is as it was");
}

#[test]
fn the_same_with_everything_killed_again_and_again() {
    let Some(repo) = prepared("queue-kills", "0.4") else { return };
    let before = checkout(&repo);
    add(&repo);
    let mut kills = 0;
    let code = loop {
        let mut child = Command::new(program())
            .args(["queue", "run"])
            .current_dir(&repo)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Between two kills there is time for one or two verifications.
        std::thread::sleep(Duration::from_millis(900 + kills * 37 % 700));
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        child.kill().unwrap();
        // Only the keepers of this repository: their folder is an argument.
        sh(&repo, &format!("pkill -KILL -f 'keeper {}/'", repo.display()));
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 200, "it does not come to an end");
    };
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    let list = holds(&repo);
    println!("killed {kills} times: {} verifications", list["verifications"]);
    assert!(kills >= 3, "killed {kills} times only");
    assert_eq!(checkout(&repo), before, "the person's work tree is as it was");
}
