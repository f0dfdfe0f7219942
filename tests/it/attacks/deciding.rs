//! Agents and checks that use the verbs which are for people.

use crate::job::TestJob;
use crate::sandbox::Sandbox;

#[test]
fn agent_cannot_approve_a_candidate() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("limits", "jobs = 1")
        .set("queue", "review = \"required\"");
    let sandbox = Sandbox::new(job);
    // With its marker, without it, and from an orphan in another session.
    let script = format!(
        "edit beta done; cd '{}'\n\
         approve() {{ \"$@\" '{}' approve alpha --run job-1 >>\"$HOME/answers\" 2>&1; }}\n\
         for how in 'env' 'env -u HARNESS_MARK' 'env -i PATH=/usr/bin:/bin' 'setsid env -i PATH=/usr/bin:/bin'; do\n\
         if approve $how; then echo succeeded >>\"$HOME/answers\"; fi\n\
         done",
        sandbox.repo.display(),
        env!("CARGO_BIN_EXE_git-harness"),
    );
    sandbox.script("beta", &script);
    drop(sandbox.run(&["start"]));
    let answers = std::fs::read_to_string(sandbox.sign("answers")).unwrap();
    assert!(!answers.contains("succeeded"), "{answers}");
    assert_eq!(answers.matches("`git harness approve` is for people").count(), 4, "{answers}");
    assert_ne!(sandbox.task("alpha")["state"], "done");
    sandbox.run(&["approve", "alpha", "beta"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done in attempt 1");
}
