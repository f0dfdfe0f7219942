//! What agents print: kept without secrets, readable, and to be watched while it is written.

use std::path::Path;

use crate::invariants::Claim;
use crate::job::Job;
use crate::sandbox::Sandbox;

const VALUE: &str = "a-\"secret\"-value-0123";
const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// The files below a folder that contain this.
fn files_with(folder: &Path, what: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files_with(&path, what, found);
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(what))
        {
            found.push(path.display().to_string());
        }
    }
}

#[track_caller]
fn assert_nowhere(sandbox: &Sandbox) {
    let base64 = sandbox.sign("base64");
    let base64 = std::fs::read_to_string(base64).unwrap();
    let json = serde_json::to_string(VALUE).unwrap();
    for secret in [VALUE, json.trim_matches('"'), base64.trim(), TOKEN] {
        let mut found = Vec::new();
        files_with(&sandbox.repo.join(".git/harness"), secret, &mut found);
        assert_eq!(found, Vec::<String>::new(), "{secret} is on the disk");
    }
}

#[test]
fn secrets_do_not_reach_the_disk_and_the_work_stays_as_it_is() {
    let check = "echo \"the check knows $(cat \"$HOME/token\")\"; ! grep -q half alpha";
    let job = Job::bare(&["alpha"])
        .only("job", "name = \"job\"\ngoal = \"Use sk-ant-fake-000 for it.\"")
        .set("agent", "env = [\"MY_KEY\"]")
        .set("worktree", "setup = [[\"sh\", \"-c\", \"echo setup has $MY_KEY\"]]")
        .check("not-half", &["sh", "-c", check], "");
    let sandbox = Sandbox::new(job);
    std::fs::write(sandbox.sign("token"), TOKEN).unwrap();
    // Half a secret is said first, the other half later.
    sandbox.script(
        "alpha.1",
        r#"printf %s "$MY_KEY" | base64 >"$HOME/base64"
           json=$(printf %s "$MY_KEY" | sed 's/"/\\"/g')
           say "it is $MY_KEY, {\"key\":\"$json\"}"; cat "$HOME/base64" >&2
           printf 'in two: %s' "${MY_KEY%value*}"; : >"$HOME/half"; wait_for "$HOME/on"
           printf 'value-0123 and that is all\n'; : >"$HOME/said"; wait_for "$HOME/go"
           edit alpha half"#,
    );
    let second = "expect_feedback '[redacted]'; edit alpha \"two $(cat \"$HOME/token\")\"";
    sandbox.script("alpha.2", second);
    let mut run = sandbox.spawn_with(&["start"], &[("MY_KEY", VALUE)]);
    sandbox.await_sign("half");
    assert_nowhere(&sandbox);
    sandbox.give_sign("on");
    sandbox.await_sign("said");
    assert_nowhere(&sandbox);
    assert!(!run.has_ended());
    sandbox.give_sign("go");
    run.wait().exits(0);
    assert_nowhere(&sandbox);
    let all = sandbox.git(&["cat-file", "--batch", "--batch-all-objects", "--buffer"]);
    assert!(!all.contains("secret"), "the value is in an object");
    let said = sandbox.run(&["show", "alpha", "--transcript", "--attempt", "1"]).exits(0);
    assert!(said.out.contains("it is [redacted], {\"key\":\"[redacted]\"}"), "{said}");
    assert!(said.out.contains("in two: [redacted] and that is all"), "{said}");
    let prompt = sandbox.run(&["show", "alpha", "--prompt"]).exits(0);
    assert!(prompt.out.contains("the check knows [redacted]"), "{prompt}");
    assert!(prompt.out.contains("Use [redacted] for it."), "{prompt}");
    assert_eq!(sandbox.landed("alpha"), format!("two {TOKEN}"));
    Claim::all(&sandbox).holds();
}
