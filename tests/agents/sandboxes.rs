//! The CLIs in a sandbox: the scripted model is on the loopback interface outside, and only the
//! proxy leads there.

use crate::cage::scenario;
use crate::job::AgentJob;
use crate::server::Script;
use crate::world::CliScenario;

fn lands_in_a_sandbox(world: &mut CliScenario, preset: &'static str) {
    world.keep_state_at_home();
    let files = ["src/a.txt", "src/b.txt"].map(str::to_owned);
    let job = AgentJob::with(files.to_vec(), preset)
        .set("sandbox", "mode = \"require\"\nnetwork = [\"{server}\"]");
    world.begin(Script { steps: 2, ..Script::default() }, &files, &job.text());
    let output = world.run(&["start"]).exits(0);
    println!("{output}");
    world.all_landed(&files);
    let shown = world.run(&["show", "src/a.txt", "--json"]).exits(0);
    assert!(shown.out.contains("\"sandbox\":\"bubblewrap\""), "{}", shown.out);
}

#[test]
fn claude_in_a_sandbox() {
    scenario(|world| lands_in_a_sandbox(world, "claude"));
}

#[test]
fn codex_in_a_sandbox() {
    scenario(|world| lands_in_a_sandbox(world, "codex"));
}
