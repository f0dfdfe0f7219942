//! The CLIs as plain commands, without a preset.

use crate::cage::scenario;
use crate::server::Script;
use crate::world::{CliScenario, PASSED};

/// Command lines that run each CLI without a person.
const CLAUDE: &str = r#"["claude", "-p", "--output-format", "stream-json", "--verbose", "--permission-mode", "bypassPermissions"]"#;
const CODEX: &str = r#"["codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-"]"#;

fn lands_a_job(world: &mut CliScenario, command: &str) {
    let files = ["src/a.txt", "src/b.txt", "src/c.txt"].map(str::to_owned);
    let job = format!(
        r#"
[job]
goal = "Mark every step as done."
[plan]
include = ["src/*.txt"]
[agent]
preset = "command"
command = {command}
env = {PASSED}
timeout = "2m"
idle-timeout = "60s"
[sandbox]
mode = "off"
[[check]]
name = "done"
run = ["sh", "-c", "! grep -n 'todo$' \"$@\"", "sh", "{{task.files}}"]
when = ["task"]
"#
    );
    world.begin(Script { steps: 3, ..Script::default() }, &files, &job);
    let output = world.run(&["start"]).exits(0);
    println!("{output}");
    world.all_landed(&files);
    let log = world.server().log();
    println!("{} requests, {} besides", log.len(), world.server().others());
    // Three steps and a last answer for each task: the model did the work, and did it once.
    assert_eq!(log.len(), 3 * 4);
    assert!(log.iter().all(|e| !e.session.is_empty() && e.files.len() == 1), "{log:#?}");
    assert!(log.iter().all(|e| e.turn == e.steps && !e.earlier), "{log:#?}");
}

#[test]
fn claude_as_any_program() {
    scenario(|world| lands_a_job(world, CLAUDE));
}

#[test]
fn codex_as_any_program() {
    scenario(|world| lands_a_job(world, CODEX));
}
