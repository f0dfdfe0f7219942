//! Rule files of runs: a check judges what a task leaves, and no task changes what judges it.

use std::os::unix::fs::PermissionsExt as _;

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Creates a repository with a committed script that the job can name.
fn with_script(job: TestJob, path: &str, text: &str) -> Sandbox {
    let mut sandbox = Sandbox::new(job);
    sandbox.write(path, text);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.repo.join(path), mode).unwrap();
    sandbox.git(&["add", path]);
    sandbox.git(&["commit", "--quiet", "--message", "a script"]);
    sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.remember();
    sandbox
}

#[test]
fn check_judges_the_named_file_as_the_task_leaves_it() {
    let job = TestJob::bare(&["alpha"])
        .check("syntax", &["sh", "-n", "main.sh"], "")
        .set("scope", "write = [\"**\"]");
    let sandbox = with_script(job, "main.sh", "echo fine\n");
    sandbox.script("alpha.1", "edit alpha done; echo '(' >>main.sh");
    let repair = "expect_feedback 'sh -n main.sh'; echo 'echo fine' >main.sh; edit alpha done";
    sandbox.script("alpha.2", repair);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(
        (&sandbox.task("alpha")["attempts"], &*sandbox.landed("main.sh")),
        (&2.into(), "echo fine")
    );
}

#[test]
fn file_that_a_task_deletes_is_not_brought_back_for_its_check() {
    let job = TestJob::bare(&["alpha"])
        .check("syntax", &["sh", "-c", "test -e \"$1\"", "-", "./main.sh"], "")
        .set("scope", "write = [\"**\"]");
    let sandbox = with_script(job, "main.sh", "echo fine\n");
    sandbox.script("alpha.1", "edit alpha done; rm main.sh");
    sandbox.script("alpha.2", "expect_feedback syntax; edit main.sh 'echo fine'; edit alpha done");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
    assert_eq!(sandbox.landed("main.sh"), "echo fine");
}

#[test]
fn task_that_changes_a_check_program_fails_by_scope() {
    let job = TestJob::bare(&["alpha"])
        .check("tests", &["./check.sh"], "")
        .set("scope", "write = [\"**\"]");
    let sandbox = with_script(job, "check.sh", "#!/bin/sh\n! grep -n BAD alpha\n");
    sandbox.script("alpha.1", "edit alpha BAD; echo 'exit 0' >check.sh");
    sandbox.script("alpha.2", "expect_feedback '`check.sh` (a rule file'; edit alpha BAD");
    let both = "expect_feedback '(a rule file'; expect_feedback './check.sh`: exit 1'";
    sandbox.script("alpha.3", &format!("{both}; edit alpha fine"));
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.task("alpha")["attempts"], 3);
}

#[test]
fn task_may_change_a_rule_file_that_write_names() {
    let job = TestJob::bare(&["alpha"])
        .check("tests", &["./check.sh"], "")
        .set("scope", "write = [\"{task.files}\", \"check.sh\"]");
    let sandbox = with_script(job, "check.sh", "#!/bin/sh\n! grep -n BAD alpha\n");
    let stricter = "edit alpha fine; echo '! grep -n WORSE alpha' >>check.sh";
    sandbox.script("alpha.1", stricter);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], 1);
    assert!(sandbox.landed("check.sh").contains("WORSE"));
}

#[test]
fn task_with_a_weaker_rule_file_is_judged_by_the_old_one() {
    let job = TestJob::bare(&["alpha"])
        .check("tests", &["./check.sh"], "")
        .set("scope", "write = [\"{task.files}\", \"check.sh\"]");
    let sandbox = with_script(job, "check.sh", "#!/bin/sh\n! grep -n BAD alpha\n");
    sandbox.script("alpha.1", "edit alpha BAD; printf '#!/bin/sh\nexit 0\n' >check.sh");
    let told = "expect_feedback 'with `check.sh` as on the target'; edit alpha fine";
    sandbox.script("alpha.2", told);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
    assert_eq!(sandbox.landed("alpha"), "fine");
}

#[test]
fn uncommitted_edit_of_a_check_program_decides_nothing() {
    let job = TestJob::new(&["alpha"]).check("tests", &["./check.sh"], "");
    let sandbox = with_script(job, "check.sh", "#!/bin/sh\nexit 0\n");
    sandbox.write("check.sh", "#!/bin/sh\nexit 1\n");
    sandbox.remember();
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn provided_script_is_never_written_through_a_link_of_a_task() {
    let job = TestJob::bare(&["alpha"])
        .check("tests", &["sh", "tools/check.sh"], "")
        .set("scope", "write = [\"**\"]")
        .set("retry", "feedback = 1");
    let sandbox = Sandbox::new(job);
    // The script is beside the job and in no commit.
    sandbox.write("tools/check.sh", "! grep -n BAD alpha\n");
    sandbox.remember();
    let precious = sandbox.root().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("check.sh"), "mine").unwrap();
    let link = format!("edit alpha fine; ln -s {} tools", precious.display());
    sandbox.script("alpha.1", &link);
    sandbox.script("alpha.2", "expect_feedback '`tools` (a rule file'; edit alpha fine");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(std::fs::read_to_string(precious.join("check.sh")).unwrap(), "mine");
    assert_eq!(sandbox.landed("alpha"), "fine");
}

#[test]
fn prompt_names_protected_files_among_those_that_must_stay() {
    let scope = "write = [\"**\", \"ci/list\"]\nprotect = [\"ci/*.sh\", \"ci/list\"]";
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]).set("scope", scope));
    let prompt =
        "expect_brief '- `ci/*.sh`'; [ \"$(grep -c 'ci/list' \"$HARNESS_PROMPT_FILE\")\" = 1 ]";
    sandbox.script("alpha.1", &format!("{prompt}; edit alpha fine"));
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], 1);
}

#[test]
fn validate_hints_at_an_unprotected_script_and_strict_refuses_it() {
    let job = TestJob::bare(&["alpha"]).check("tests", &["sh", "ci/check.sh"], "");
    let sandbox = with_script(job, "ci/check.sh", "exit 0\n");
    let line = "add `protect = [\"ci/check.sh\"]` to [scope]";
    sandbox.run(&["validate"]).exits(0).says(line);
    sandbox.run(&["validate", "--strict"]).exits(1).says(line);
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    sandbox.write("harness.toml", &format!("{text}[scope]\nprotect = [\"ci/check.sh\"]\n"));
    sandbox.run(&["validate", "--strict"]).exits(0);
}
