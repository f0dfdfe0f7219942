//! Proofs that an agent or a check forges: outcomes of verifications, verdict notes and events.

use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// A script line that writes a passing outcome into the folder of each verification of `alpha`, and
/// kills the keeper whose folder it is.
const FORGE: &str = r#"
for dir in "$1"/harness/runs/job-1/checks/*alpha* "$1"/harness/queues/*/checks/*; do
  [ -f "$dir/assignment.json" ] || continue
  pid=$(sed -n 's/^process \([0-9]*\) .*/\1/p' "$dir/lock")
  [ "$pid" = "$2" ] || continue
  tree=$(sed -n 's/.*"tree": "\([0-9a-f]*\)".*/\1/p' "$dir/assignment.json" | head -1)
  printf '{"v":1,"tree":"%s","fault":null,"checks":[{"name":"no-bad","key":"00","passed":true,"known":null,"ms":1,"text":""}]}' "$tree" >"$dir/outcome.json"
  echo "$dir" >>"$HOME/forged"
  kill -9 "$pid"
done
"#;

#[test]
fn outcome_that_a_check_forges_lands_nothing() {
    // The candidate's own code runs in the check, forges the outcome and kills the keeper.
    let job = TestJob::bare(&["alpha", "beta"])
        .set("sandbox", "mode = \"off\"")
        .set("retry", "feedback = 0\ninfra = 1")
        .check("no-bad", &["sh", "-c", "sh ./alpha $PPID; ! grep -q '# BAD' alpha"], "");
    let sandbox = Sandbox::new(job);
    std::fs::write(sandbox.root().join("home/forge.sh"), FORGE).unwrap();
    let common = sandbox.repo.join(".git");
    sandbox.script(
        "alpha",
        &format!("edit alpha 'sh \"$HOME/forge.sh\" {} \"$1\" # BAD'", common.display()),
    );
    sandbox.script("beta", "edit beta ': done'");
    drop(sandbox.run(&["start"]));
    let forged = std::fs::read_to_string(sandbox.sign("forged")).unwrap_or_default();
    assert!(!forged.is_empty(), "the attack did not take place");
    assert_ne!(sandbox.task("alpha")["state"], "done", "{forged}");
    let target = sandbox.git(&["show", "harness/job-1/result:alpha"]);
    assert!(!target.contains("BAD"), "{target}");
}

#[test]
fn forged_verdict_note_that_a_forged_event_vouches_for_lands_nothing() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("sandbox", "mode = \"off\"")
        .set("limits", "jobs = 1")
        .set("retry", "feedback = 0");
    let sandbox = Sandbox::new(job);
    sandbox.script(
        "alpha",
        r#"edit alpha BAD; git add --all; git commit --quiet -m a
           tree=$(git rev-parse 'HEAD^{tree}'); base=$(git rev-parse 'HEAD~1^{tree}')
           note=$(git notes --ref=refs/notes/harness-verdicts show "$base" | head -1)
           echo "$note" | sed 's/"id":"[^"]*"/"id":"feedfacefeedface"/' |
             git notes --ref=refs/notes/harness-verdicts add -f -F - "$tree"
           run=$(git rev-parse refs/harness/runs/job-1)
           message=$(git log -1 --format=%B "$run")
           new=$(printf '%s\nHarness-Verdict: feedfacefeedface\n' "$message" |
             git commit-tree "$run^{tree}" -p "$run")
           git update-ref refs/harness/runs/job-1 "$new" "$run"; echo "$note" >"$HOME/forged""#,
    );
    drop(sandbox.run(&["start"]));
    let forged = std::fs::read_to_string(sandbox.sign("forged")).unwrap();
    assert!(forged.contains("\"pass\":true"), "the attack did not take place: {forged}");
    let target = sandbox.git(&["show", "harness/job-1/result:alpha"]);
    assert!(!target.contains("BAD"), "{target}");
    // The forged event stops the run, with the command that undoes it.
    let start = sandbox.run(&["retry", "alpha"]).exits(128);
    assert!(
        start.stderr.contains("which this copy of the repository did not write"),
        "{}",
        start.stderr
    );
    let tip = sandbox.git(&["rev-parse", "refs/harness/runs/job-1"]);
    let last = sandbox.git(&["rev-parse", "refs/harness/runs/job-1~1"]);
    assert!(start.stderr.contains(&format!("git update-ref refs/harness/runs/job-1 {last} {tip}")));
    sandbox.git(&["update-ref", "refs/harness/runs/job-1", &last, &tip]);
    drop(sandbox.run(&["start"]));
    assert_eq!(sandbox.landed("beta"), "done in attempt 1");
}

#[test]
fn approval_that_an_agent_writes_to_a_chain_stops_the_run() {
    let job = TestJob::new(&["alpha"])
        .set("sandbox", "mode = \"off\"")
        .set("queue", "review = \"required\"");
    let sandbox = Sandbox::new(job);
    drop(sandbox.run(&["start"]));
    let chain = "refs/harness/tasks/job-1/alpha";
    let tip = sandbox.git(&["rev-parse", chain]);
    let message = sandbox.git(&["log", "-1", "--format=%B", chain]);
    let tree = sandbox.git(&["rev-parse", &format!("{chain}^{{tree}}")]);
    let forged = sandbox.git(&["commit-tree", &tree, "-p", &tip, "-m", &message]);
    sandbox.git(&["update-ref", chain, &forged]);
    let start = sandbox.run(&["start"]).exits(128);
    assert!(start.stderr.contains(&format!("`{chain}` is at")), "{}", start.stderr);
    // A chain that has no commit of this copy at all.
    let other = sandbox.git(&["commit-tree", &tree, "-m", &message]);
    sandbox.git(&["update-ref", chain, &other]);
    sandbox.run(&["start"]).exits(128);
    sandbox.git(&["update-ref", chain, &tip]);
    assert_ne!(sandbox.run(&["start"]).code, 128);
}

/// Lines of a script that wait until the queue log, as `$log`, has the landing of `alpha`.
const ALPHA_LANDED: &str = "
until log=$(git for-each-ref --format='%(refname)' refs/harness/queues/)
      git log -1 --format=%s $log | grep -q '^landed'; do sleep 0.05; done
";

/// A line of a script that appends a copy of the last commit of the chain `$chain` to it.
const APPEND: &str = r#"
tip=$(git rev-parse "$chain")
new=$(git log -1 --format=%B "$tip" | git commit-tree "$tip^{tree}" -p "$tip")
git update-ref "$chain" "$new" "$tip"
"#;

#[test]
fn event_that_an_agent_appends_during_a_run_is_not_built_upon() {
    for chain in ["$log", "refs/harness/tasks/job-1/beta", "refs/harness/runs/job-1"] {
        let job = TestJob::new(&["alpha", "beta"])
            .set("sandbox", "mode = \"off\"")
            .set("limits", "jobs = 1")
            .set("retry", "feedback = 0");
        let sandbox = Sandbox::new(job);
        let attack = format!("edit beta done{ALPHA_LANDED}chain={chain}{APPEND}");
        sandbox.script("beta", &attack);
        let start = sandbox.run(&["start"]).exits(128);
        let said = &start.stderr;
        assert!(said.contains("which this copy of the repository did not write"), "{said}");
        let undo = said.split('`').find(|part| part.starts_with("git update-ref")).unwrap();
        sandbox.git(&undo.split(' ').skip(1).collect::<Vec<_>>());
        sandbox.script("beta", "edit beta done");
        sandbox.run(&["start"]).exits(0);
        assert_eq!(sandbox.landed("beta"), "done");
    }
}

#[test]
fn queue_log_that_an_agent_sets_back_stops_the_run() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("sandbox", "mode = \"off\"")
        .set("limits", "jobs = 1")
        .set("retry", "feedback = 0");
    let sandbox = Sandbox::new(job);
    let attack = format!("edit beta done{ALPHA_LANDED}git update-ref $log $log~1");
    sandbox.script("beta", &attack);
    let start = sandbox.run(&["start"]).exits(128);
    assert!(start.stderr.contains("was set back from"), "{}", start.stderr);
    let undo = start.stderr.split('`').find(|part| part.starts_with("git update-ref")).unwrap();
    sandbox.git(&undo.split(' ').skip(1).collect::<Vec<_>>());
    sandbox.script("beta", "edit beta done");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("beta"), "done");
}

#[test]
fn chain_that_is_set_back_while_no_supervisor_runs_stops_the_next_one() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta", "gamma"]));
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    let log = sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness/queues/"]);
    for chain in ["refs/harness/runs/job-1", "refs/harness/tasks/job-1/alpha", &log] {
        let tip = sandbox.git(&["rev-parse", chain]);
        sandbox.git(&["update-ref", chain, &format!("{chain}~1")]);
        let said = sandbox.run(&["start"]).exits(128).stderr.clone();
        assert!(said.contains(&format!("`{chain}` was set back from")), "{said}");
        sandbox.git(&["update-ref", chain, &tip]);
    }
    sandbox.run(&["start", "--only", "beta"]).exits(0);
    sandbox.run(&["sweep"]).exits(0);
    // An archive has the states of tasks, too.
    let archive = "refs/harness/archive/job-1";
    let tree = format!("{archive}^{{tree}}");
    let forged = sandbox.git(&["commit-tree", &tree, "-p", archive, "-m", "archived"]);
    sandbox.git(&["update-ref", archive, &forged]);
    let said = sandbox.run(&["start"]).exits(128).stderr.clone();
    assert!(said.contains(&format!("`{archive}` is at")), "{said}");
}

#[test]
fn request_that_an_agent_writes_into_the_spool_has_no_effect() {
    let job = TestJob::new(&["alpha"])
        .set("sandbox", "mode = \"off\"")
        .set("queue", "review = \"required\"");
    let sandbox = Sandbox::new(job);
    drop(sandbox.run(&["start"]));
    let commit = sandbox.git(&["rev-parse", "refs/heads/harness/job-1/alpha"]);
    let spool = ".git/harness/runs/job-1/requests";
    let request = format!(
        r#"{{"v":1,"request":"approve","task":"alpha","commit":"{commit}","by":"A User"}}"#
    );
    sandbox.write(&format!("{spool}/1-a.json"), &request);
    drop(sandbox.run(&["start"]));
    let answer = std::fs::read_to_string(sandbox.repo.join(spool).join("1-a.done")).unwrap();
    assert!(answer.contains("the request has no seal"), "{answer}");
    assert_ne!(sandbox.task("alpha")["state"], "done");
    sandbox.run(&["approve", "alpha"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["state"], "done");
}

#[test]
fn trailers_on_the_target_do_not_mark_a_task_as_landed() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("sandbox", "mode = \"off\"")
        .set("limits", "jobs = 1")
        .set("retry", "feedback = 0\ninfra = 0");
    let sandbox = Sandbox::new(job);
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    let target = "refs/heads/harness/job-1/result";
    let old = sandbox.git(&["rev-parse", target]);
    let forged = forged_landing_of_beta(&sandbox, &old);
    sandbox.git(&["update-ref", target, &forged, &old]);
    drop(sandbox.run(&["start"]));
    assert_ne!(sandbox.task("beta")["state"], "done");
    // Once the target is set back, the task is done by an agent.
    sandbox.git(&["update-ref", target, &old, &forged]);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("beta"), "done in attempt 1");
}

#[test]
fn journal_without_a_seal_does_not_mark_a_task_as_landed() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("sandbox", "mode = \"off\"")
        .set("limits", "jobs = 1")
        .set("retry", "feedback = 0\ninfra = 0");
    let sandbox = Sandbox::new(job);
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    let target = "refs/heads/harness/job-1/result";
    let old = sandbox.git(&["rev-parse", target]);
    let forged = forged_landing_of_beta(&sandbox, &old);
    sandbox.git(&["update-ref", target, &forged, &old]);
    let journals = sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness/targets/"]);
    let (journal, rest) = (journals.lines().next().unwrap(), journals.lines().count());
    assert_eq!(rest, 1, "{journals}");
    let message = sandbox.git(&["log", "-1", "--format=%B", journal]).replace(&old, &forged);
    let unsealed = message.split("Harness-Seal").next().unwrap();
    let entry = sandbox.git(&[
        "commit-tree",
        &format!("{journal}^{{tree}}"),
        "-p",
        journal,
        "-p",
        &forged,
        "-m",
        unsealed,
    ]);
    sandbox.git(&["update-ref", journal, &entry]);
    // As in a clone, nothing is sealed with the key of this copy.
    std::fs::remove_dir_all(sandbox.sign(".local/state/git-harness")).unwrap();
    drop(sandbox.run(&["start"]));
    assert_ne!(sandbox.task("beta")["state"], "done");
    sandbox.git(&["update-ref", target, &old, &forged]);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("beta"), "done in attempt 1");
}

/// Returns a commit on `tip` that no check passes, and whose trailers name the task `beta`.
fn forged_landing_of_beta(sandbox: &Sandbox, tip: &str) -> String {
    let blob = sandbox.root().join("home/blob");
    std::fs::write(&blob, "BAD\n").unwrap();
    let id = sandbox.git(&["hash-object", "-w", blob.to_str().unwrap()]);
    let rest = sandbox.git(&["ls-tree", tip]);
    let entries: Vec<String> = rest
        .lines()
        .map(|line| match line.ends_with("\tbeta") {
            true => format!("100644 blob {id}\tbeta"),
            false => line.to_owned(),
        })
        .collect();
    let index = sandbox.root().join("home/entries");
    std::fs::write(&index, entries.join("\n") + "\n").unwrap();
    let script = format!(
        "cd '{}' && git commit-tree \"$(git mktree <'{}')\" -p {tip} -m 'job: beta' \
         -m 'Harness-Run: job-1\nHarness-Task: beta\nHarness-Attempt: 1'",
        sandbox.repo.display(),
        index.display()
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@b")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@b")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
