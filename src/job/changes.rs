//! The differences between two versions of a job, and their effect on a run.

use super::Job;

/// The sections that can change without invalidating the results of an ended run.
const RESULTS_STAY_VALID: [&str; 6] =
    ["[plan]", "[worktree]", "[sandbox]", "[retry]", "[limits]", "[queue]"];

/// Returns the sections in which two jobs differ, in the order of the documentation.
pub(crate) fn changed_sections(old: &Job, new: &Job) -> Vec<&'static str> {
    let differs = [
        ("[job]", old.job != new.job),
        ("[plan]", old.plan != new.plan),
        ("[agent]", old.agent != new.agent),
        ("[presets]", old.presets != new.presets),
        ("[worktree]", old.worktree != new.worktree),
        ("[sandbox]", old.sandbox != new.sandbox),
        ("[[check]]", old.checks != new.checks),
        ("[scope]", old.scope != new.scope),
        ("[output]", old.output != new.output),
        ("[evaluate]", old.evaluate != new.evaluate),
        ("[retry]", old.retry != new.retry),
        ("[limits]", old.limits != new.limits),
        ("[queue]", old.queue != new.queue),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// Returns the sections and keys whose changes an existing run cannot adopt.
pub(crate) fn unadoptable_changes(old: &Job, new: &Job) -> Vec<&'static str> {
    let mut sections = Vec::new();
    let (a, b) = (&old.job, &new.job);
    if (&a.base, &a.target, a.kind) != (&b.base, &b.target, b.kind) {
        sections.push("[job]");
    }
    if old.worktree.root != new.worktree.root {
        sections.push("[worktree] root");
    }
    sections
}

/// Returns true if the results of a run of `old` are invalid for `new`.
pub(crate) fn invalidates_results(old: &Job, new: &Job) -> bool {
    changed_sections(old, new).iter().any(|section| !RESULTS_STAY_VALID.contains(section))
}

#[cfg(test)]
mod tests {
    use super::{changed_sections, invalidates_results, unadoptable_changes};
    use crate::job::{Job, parse};

    fn job(rest: &str) -> Job {
        let text = format!("[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n{rest}");
        parse(&text, "harness.toml").unwrap()
    }

    #[test]
    fn limits_leave_results_valid_and_a_new_check_does_not() {
        let (old, limits) = (job(""), job("[limits]\njobs = 9\n"));
        assert_eq!(changed_sections(&old, &limits), ["[limits]"]);
        assert!(!invalidates_results(&old, &limits));
        let check = job("[[check]]\nname = \"c\"\nrun = [\"true\"]\n");
        assert_eq!(changed_sections(&old, &check), ["[[check]]"]);
        assert!(invalidates_results(&old, &check));
    }

    #[test]
    fn worktree_root_cannot_change_in_a_run() {
        let (old, moved) = (job(""), job("[worktree]\nroot = \"../elsewhere\"\n"));
        assert_eq!(unadoptable_changes(&old, &moved), ["[worktree] root"]);
        assert!(unadoptable_changes(&old, &old).is_empty());
    }
}
