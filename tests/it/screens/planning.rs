//! `plan`, `validate`, `doctor`, `init`, `agent list` and `demo`.

use crate::job::TestJob;
use crate::sandbox::Sandbox;

use super::{screen, screen_with_little_path, screen_without_progress};

#[test]
fn plan_of_files() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    screen(&sandbox, "plan", &["plan"]);
    screen(&sandbox, "plan_json", &["plan", "--json"]);
    screen(&sandbox, "plan_dot", &["plan", "--dot"]);
    screen(&sandbox, "plan_scope_matches_nothing", &["plan", "--scope-dir", "nowhere"]);
}

/// A repository of modules that import each other, with a job that follows the imports.
fn modules() -> Sandbox {
    let job = TestJob::bare(&["README.js"])
        .check("tests", &["true"], "")
        .only("plan", "include = [\"src/**/*.js\"]\norder = \"dependency\"");
    let sandbox = Sandbox::new(job);
    for (path, text) in [
        ("src/a.js", "export const a = 1;\n"),
        ("src/b.js", "import { a } from './a.js';\nexport const b = a;\n"),
        ("src/c.js", "import { b } from './b.js';\nimport './d.js';\nexport const c = b;\n"),
        ("src/d.js", "import { c } from './c.js';\nexport const d = c;\n"),
        ("src/e.js", "import './missing.js';\n"),
    ] {
        sandbox.write(path, text);
    }
    sandbox.git(&["add", "src"]);
    sandbox.git(&["commit", "--quiet", "--message", "modules"]);
    sandbox
}

#[test]
fn plan_by_dependency() {
    let sandbox = modules();
    screen(&sandbox, "plan_dependency", &["plan"]);
    screen(&sandbox, "plan_dependency_dot", &["plan", "--dot"]);
    screen(&sandbox, "plan_edges", &["plan", "--edges"]);
}

#[test]
fn plan_diff_after_a_change() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    let text = text.replace("\"alpha\", \"beta\"", "\"alpha\", \"shared\"");
    sandbox.write("harness.toml", &text);
    screen(&sandbox, "plan_diff", &["plan", "--diff"]);
}

#[test]
fn validate_and_doctor() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    screen(&sandbox, "validate", &["validate"]);
    screen_with_little_path(&sandbox, "doctor", &["doctor"]);
    let sandbox =
        Sandbox::new(TestJob::new(&["alpha"]).set("agent", "command = [\"no-such-agent\"]"));
    screen_with_little_path(&sandbox, "doctor_agent_missing", &["doctor"]);
}

#[test]
fn init_writes_a_job() {
    let sandbox = Sandbox::new(TestJob::bare(&["top.txt"]));
    sandbox.git(&["rm", "--quiet", "--cached", "harness.toml"]);
    std::fs::remove_file(sandbox.repo.join("harness.toml")).unwrap();
    screen(&sandbox, "init_list", &["init", "--list"]);
    screen(&sandbox, "init", &["init", "--recipe", "review"]);
    screen(&sandbox, "init_again", &["init", "--recipe", "review"]);
}

#[test]
fn agent_list() {
    let sandbox = Sandbox::new(TestJob::bare(&["top.txt"]));
    screen(&sandbox, "agent_list", &["agent", "list"]);
}

#[test]
fn demo() {
    let sandbox = Sandbox::new(TestJob::bare(&["top.txt"]));
    screen_without_progress(&sandbox, "demo", &["demo"]);
}
