//! Candidates that lead out of the repository.

use crate::job::TestJob;
use crate::sandbox::Sandbox;

#[test]
fn link_that_leaves_the_repository_is_refused_with_a_finding() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("sandbox", "mode = \"off\"")
        .set("scope", "write = [\"**\"]");
    let sandbox = Sandbox::new(job);
    std::fs::write(sandbox.sign("secret"), "private\n").unwrap();
    sandbox.script("alpha.1", "ln -sf \"$HOME/secret\" alpha; ln -s ../../beta inside-not");
    sandbox.script(
        "alpha.2",
        "expect_feedback 'leads to'; expect_feedback '/home/secret'; expect_feedback '../../beta'\n\
         edit alpha done; mkdir -p deep; ln -s ../beta deep/inside",
    );
    sandbox.script("beta", "edit beta done");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done");
    assert_eq!(sandbox.landed("deep/inside"), "../beta");
    assert_eq!(std::fs::read_to_string(sandbox.sign("secret")).unwrap(), "private\n");
}
