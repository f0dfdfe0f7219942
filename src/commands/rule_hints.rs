//! Hints of `validate` about files that decide about tasks although tasks or branches may change
//! the files.

use crate::job::{self, Check, Job, ScopePattern};

/// Programs whose first argument other than an option is a script.
const INTERPRETERS: [&str; 16] = [
    "sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "python", "python3", "node", "deno", "bun",
    "ruby", "perl", "php", "Rscript",
];

/// Options after which an interpreter expects code or a module instead of a script.
const INLINE: [&str; 6] = ["-c", "-e", "-m", "-E", "-p", "--eval"];

/// Returns the hints. `exists` returns true for the path of a file of the repository.
pub(super) fn rule_hints(job: &Job, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut hints = Vec::new();
    let is_file = |path: &String| exists(path) && !job.scope.protect.matches(path);
    for check in &job.checks {
        let script = script(&check.run).filter(is_file);
        if let Some(script) = &script {
            hints.push(format!(
                "the check `{}` runs the script `{script}`, and a branch that changes it is judged by its own version alone: \
                 add `protect = [\"{script}\"]` to [scope]",
                check.name
            ));
        }
        for path in arguments(check).filter(|path| script.as_ref() != Some(path)).filter(is_file) {
            if may_write(job, &path) {
                hints.push(format!(
                    "the check `{}` names `{path}`, which tasks may write, and sees what the task leaves there: if the file \
                     decides, add `protect = [\"{path}\"]` to [scope]",
                    check.name
                ));
            }
        }
    }
    hints
}

/// Returns the arguments of a check that are paths.
fn arguments(check: &Check) -> impl Iterator<Item = String> {
    let mut seen = std::collections::BTreeSet::new();
    let paths = check.run.iter().skip(1).filter_map(|argument| job::path_in_worktree(argument));
    paths.filter(move |path| seen.insert(path.clone()))
}

/// Returns the script that a command gives to an interpreter.
fn script(argv: &[String]) -> Option<String> {
    let (program, arguments) = argv.split_first()?;
    let name = program.rsplit('/').next().unwrap_or(program);
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if !INTERPRETERS.contains(&name) && !INTERPRETERS.contains(&plain) {
        return None;
    }
    let mut arguments = arguments.iter().take_while(|a| !INLINE.contains(&a.as_str()));
    job::path_in_worktree(arguments.find(|argument| !argument.starts_with('-'))?)
}

/// Returns true if the scope lets some task write a path.
fn may_write(job: &Job, path: &str) -> bool {
    let scope = &job.scope;
    let planned = || {
        let listed = job.plan.tasks.iter().any(|task| task.files.iter().any(|file| file == path));
        listed || (job.plan.include.matches(path) && !job.plan.exclude.matches(path))
    };
    let writes = |pattern: &ScopePattern| match pattern {
        ScopePattern::TaskFiles { ext: None } => planned(),
        ScopePattern::TaskFiles { ext: Some(_) } => false,
        ScopePattern::Glob(globs) => globs.matches(path),
    };
    !scope.read_only.matches(path) && (scope.always.matches(path) || scope.write.iter().any(writes))
}

#[cfg(test)]
mod tests {
    use super::rule_hints;
    use crate::job;

    /// Returns the hints about a job with one check in a repository with the files `a.py` and
    /// `t/x.sh`.
    fn hints(run: &str, scope: &str) -> Vec<String> {
        let text = format!(
            "[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n[plan]\ninclude = [\"*.py\"]\n\
             [scope]\n{scope}\n[[check]]\nname = \"c\"\nrun = {run}\n"
        );
        let job = job::parse(&text, "harness.toml").unwrap();
        rule_hints(&job, &|path| ["a.py", "t/x.sh"].contains(&path))
    }

    #[test]
    fn unprotected_script_of_an_interpreter_causes_a_hint() {
        for run in [
            r#"["sh", "t/x.sh"]"#,
            r#"["/bin/bash", "-eu", "./t/x.sh", "{task.files}"]"#,
            r#"["python3.11", "{worktree}/t/x.sh"]"#,
        ] {
            let hints = hints(run, "");
            assert_eq!(hints.len(), 1, "{run}: {hints:?}");
            assert!(hints[0].contains("add `protect = [\"t/x.sh\"]` to [scope]"), "{hints:?}");
        }
        for run in [r#"["sh", "-c", "t/x.sh"]"#, r#"["./t/x.sh"]"#, r#"["sh", "t/other.sh"]"#] {
            assert!(hints(run, "").is_empty(), "{run}");
        }
        assert!(hints(r#"["sh", "t/x.sh"]"#, "protect = [\"t\"]").is_empty());
    }

    #[test]
    fn named_file_that_tasks_may_write_causes_a_hint() {
        let compile = r#"["python3", "-m", "py_compile", "a.py"]"#;
        let hint = hints(compile, "");
        assert!(
            hint[0].starts_with("the check `c` names `a.py`, which tasks may write"),
            "{hint:?}"
        );
        for scope in ["read-only = [\"a.py\"]", "protect = [\"a.py\"]", "write = [\"src\"]"] {
            assert!(hints(compile, scope).is_empty(), "{scope}");
        }
        assert_eq!(hints(r#"["cmp", "t/x.sh", "b"]"#, "write = [\"t/**\"]").len(), 1);
    }
}
