//! Rule files: the files of a repository that decide about a candidate. They are the job file, the
//! schemas, the programs of the checks and what `[scope] protect` names.
//!
//! Every other file that a check names is judged and never judges: no copy from another commit
//! replaces it.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::domain::id::Oid;
use crate::job::{self, Job, PathGlobs};
use crate::repo::{self, Repo};

/// The number of symbolic links that a path may lead over, as on Linux.
const MAX_LINKS: usize = 40;

/// The rule files of one job or of several jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleFiles {
    /// The paths, also of files that the repository does not have.
    paths: BTreeSet<String>,
    protect: Vec<PathGlobs>,
}

impl RuleFiles {
    /// Returns the rule files of a job. `job_file` is the path of the job file.
    pub(crate) fn of(job: &Job, job_file: &str) -> Self {
        let programs = job::programs_of_checks(job);
        let mut paths: BTreeSet<String> = job::schemas(job).chain(programs).collect();
        paths.insert(job_file.to_owned());
        let protect = Some(&job.scope.protect).filter(|globs| !globs.is_empty());
        Self { paths, protect: protect.cloned().into_iter().collect() }
    }

    /// Adds the rule files of another job.
    pub(crate) fn extend(&mut self, other: Self) {
        self.paths.extend(other.paths);
        self.protect.extend(other.protect);
    }

    /// Adds the paths of files that the job provides although the repository does not have them. A
    /// candidate must not replace a folder above such a file.
    pub(crate) fn add_provided<'a>(&mut self, files: impl Iterator<Item = &'a String>) {
        self.paths.extend(files.cloned());
    }

    /// Adds the files to which the rule files lead that are symbolic links. `link_at` returns the
    /// text of the link at a path.
    pub(crate) fn follow_links(
        &mut self,
        link_at: &dyn Fn(&str) -> Result<Option<String>>,
    ) -> Result<()> {
        for path in self.paths.clone() {
            let mut path = path;
            for _ in 0..MAX_LINKS {
                let Some((link, target)) = first_link(&path, link_at)? else { break };
                self.paths.insert(link);
                let Some(target) = target else { break };
                path = target;
                self.paths.insert(path.clone());
            }
        }
        Ok(())
    }

    /// Returns true if a change of this path changes a rule file: the path is one, or it takes the
    /// place of a folder above one.
    pub(crate) fn has(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let above_one = || {
            let next = self.paths.range(below.clone()..).next();
            next.is_some_and(|file| file.starts_with(&below))
        };
        self.paths.contains(path)
            || above_one()
            || self.protect.iter().any(|globs| globs.matches(path))
    }

    /// Follows the symbolic links of a tree.
    pub(crate) fn in_tree(mut self, repo: &Repo, tree: &Oid) -> Result<Self> {
        self.follow_links(&|path| repo.read_link_at(tree, path))?;
        Ok(self)
    }

    /// Returns the rule files that differ between two trees.
    pub(crate) fn changed(&self, repo: &Repo, before: &Oid, after: &Oid) -> Result<Vec<String>> {
        let changes = repo::changed_paths(repo, before, after)?;
        Ok(changes.into_iter().map(|change| change.path).filter(|path| self.has(path)).collect())
    }
}

/// Returns the first symbolic link on the way to a path, and the path to which the link and the
/// rest lead. The second path is `None` if it lies outside of the repository.
fn first_link(
    path: &str,
    link_at: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<Option<(String, Option<String>)>> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let (link, rest) = path.split_at(end);
        let Some(text) = link_at(link)? else { continue };
        let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
        let target = (!text.starts_with('/')).then(|| inside(&format!("{folder}/{text}{rest}")));
        return Ok(Some((link.to_owned(), target.flatten())));
    }
    Ok(None)
}

/// Removes `.` and `..` from a path. Returns `None` if the path leaves the repository.
fn inside(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::RuleFiles;
    use crate::job;

    fn rules(job: &str) -> RuleFiles {
        let text = format!("[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n{job}");
        RuleFiles::of(&job::parse(&text, "harness.toml").unwrap(), "harness.toml")
    }

    #[test]
    fn rule_files_are_job_file_programs_and_protected_files() {
        let rules = rules(
            "[scope]\nprotect = [\"ci/**\"]\n\
             [[check]]\nname = \"a\"\nrun = [\"./tools/check.sh\", \"src/main.py\"]\n\
             version = [\"tools/version\"]\n\
             [[check]]\nname = \"b\"\nrun = [\"{worktree}/b.sh\"]\n\
             [[check]]\nname = \"c\"\nrun = [\"sh\", \"c.sh\"]\n\
             [[check]]\nname = \"d\"\nrun = [\"d.sh\"]\n",
        );
        for path in ["harness.toml", "tools/check.sh", "tools/version", "b.sh", "ci/a", "ci/b/c"] {
            assert!(rules.has(path), "{path}");
        }
        // An argument is judged. A program without a slash is looked up in PATH.
        for path in ["src/main.py", "c.sh", "sh", "d.sh", "tools/other", "cip"] {
            assert!(!rules.has(path), "{path}");
        }
    }

    #[test]
    fn path_in_place_of_a_folder_of_a_rule_file_is_a_rule_file() {
        let rules = rules("[[check]]\nname = \"a\"\nrun = [\"tools/ci/check.sh\"]\n");
        assert!(rules.has("tools") && rules.has("tools/ci"));
        assert!(!rules.has("tool") && !rules.has("tools/c") && !rules.has("tools/ci/check"));
    }

    #[test]
    fn schemas_are_rule_files() {
        let text = "[job]\ngoal = \"g\"\nkind = \"report\"\n[agent]\ncommand = [\"a\"]\n\
                    [output]\npath = \"r.json\"\n\
                    [[check]]\nname = \"s\"\noutput = \"r.json\"\nschema = \"s/r.schema.json\"\n";
        let rules = RuleFiles::of(&job::parse(text, "harness.toml").unwrap(), "jobs/x.toml");
        assert!(rules.has("s/r.schema.json") && rules.has("jobs/x.toml"));
        assert!(!rules.has("harness.toml"));
    }

    #[test]
    fn rule_files_behind_links_are_rule_files() {
        let mut rules = rules(
            "[[check]]\nname = \"a\"\nrun = [\"bin/check\"]\n\
             [[check]]\nname = \"b\"\nrun = [\"loop/b\"]\n\
             [[check]]\nname = \"c\"\nrun = [\"./out\"]\n",
        );
        let links = BTreeMap::from([
            ("bin", "./lib/bin"),
            ("lib/bin/check", "../real/check.sh"),
            ("loop", "loop"),
            ("out", "../../elsewhere"),
        ]);
        let link_at = |path: &str| Ok(links.get(path).map(|text| (*text).to_owned()));
        rules.follow_links(&link_at).unwrap();
        for path in ["bin", "lib/bin/check", "lib/real/check.sh", "loop", "out"] {
            assert!(rules.has(path), "{path}");
        }
        assert!(!rules.has("elsewhere") && !rules.has("lib/real/other"));
    }
}
