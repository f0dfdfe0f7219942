//! The built-in check `ast-equal` in whole runs.

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

const BEFORE: &str = "function sub(a, b) {\n  return a - b;\n}\nmodule.exports = sub;\n";

/// Creates a repository with one JavaScript file, and a job that migrates it.
fn migration() -> Sandbox {
    let table = "[check.ast-equal]\nfrom = \"**/*.js\"\nto = \"**/*.ts\"\nmax-any = 1";
    let job = TestJob::bare(&["a.js"])
        .built_in("same-program", table)
        .set("scope", "write = [\"{task.files}\", \"*.ts\"]")
        .set("retry", "feedback = 3");
    let mut sandbox = Sandbox::new(job);
    sandbox.write("a.js", BEFORE);
    sandbox.git(&["commit", "--quiet", "--message", "a program", "--", "a.js"]);
    sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.remember();
    sandbox
}

/// Returns a script that writes `a.ts` with these types, this operator and these additional lines.
fn typed(kind: &str, operator: &str, more: &str) -> String {
    format!(
        "edit a.ts 'function sub(a: {kind}, b: {kind}): number {{\n  return a {operator} b;\n}}{more}\nmodule.exports = sub;'"
    )
}

#[test]
fn migration_lands_once_ast_equal_passes() {
    let sandbox = migration();
    let brief = "expect_brief 'must be the same program'; expect_brief 'once at most'";
    sandbox.script("a_dot_js.1", &format!("{brief}\nrm a.js\n{}", typed("number", "+", "")));
    let feedback = "expect_feedback 'a.ts:2: `return a + b;` instead of `return a - b;`'; expect_feedback '- 2: return a - b;'; \
                expect_feedback '+ 2: return a + b;'";
    sandbox.script("a_dot_js.2", &format!("{feedback}\n{}", typed("number", "-", "")));
    let feedback = "expect_feedback 'a.js: it is still there beside a.ts'";
    let types = "edit types.ts 'export type N = number;'; edit other.ts 'f();'";
    sandbox.script(
        "a_dot_js.3",
        &format!("{feedback}\nrm a.js; {types}\n{}", typed("any", "-", "\nenum E { A }")),
    );
    let feedback = "expect_feedback 'says `any` 2 times'; expect_feedback 'an enum is code'; \
                expect_feedback 'other.ts:1: `f();` in a new file, which may hold types only'; \
                ! grep -q 'types.ts' \"$HARNESS_FEEDBACK_FILE\" || exit 99";
    let types = "edit types.ts 'export type N = number;'";
    sandbox.script(
        "a_dot_js.4",
        &format!("{feedback}\nrm a.js; {types}\n{}", typed("number", "-", "")),
    );
    sandbox.run(&["start"]).exits(0);
    assert!(sandbox.landed("a.ts").contains("a: number"));
    assert_eq!(sandbox.git(&["ls-tree", "--name-only", "harness/job-1/result", "a.js"]), "");
    // The check reads trees and needs no check worktree.
    let worktrees: Vec<_> = walk(&sandbox.root().join("repo.harness"));
    assert!(worktrees.iter().any(|p| p.starts_with('p')), "{worktrees:?}");
    assert!(!worktrees.iter().any(|p| p.starts_with('c')), "{worktrees:?}");
    Claim::all(&sandbox).landed(&["a_dot_js"]).holds();
}

/// Returns the names of the worktrees below a folder.
fn walk(root: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for run in std::fs::read_dir(root).into_iter().flatten().flatten() {
        for place in std::fs::read_dir(run.path()).into_iter().flatten().flatten() {
            names.push(place.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

#[test]
fn ast_equal_fails_a_file_that_was_not_migrated() {
    let sandbox = migration();
    sandbox.script("default", "edit types.ts 'export interface A {}'");
    sandbox.run(&["start"]).exits(1);
    let task = sandbox.task("a_dot_js");
    assert_eq!(task["state"], "failed");
    let output = sandbox.run(&["show", "a_dot_js", "--json"]).exits(0).stdout;
    let shown: serde_json::Value = serde_json::from_str(&output).unwrap();
    let finding = shown["findings"].as_array().unwrap().last().unwrap();
    assert_eq!(finding["check"], "same-program");
    assert_eq!(
        finding["text"],
        "a.js: it was not migrated: no file of its name matches the check's `to`\n\
         1 file compared, 0 times `any`; each must stay the same program once the types are taken away"
    );
}
