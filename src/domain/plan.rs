//! The plan: the tasks of a job at one commit. The plan is a pure function of the job and the
//! commit.

use super::id::{TaskId, encode_path};

/// The reason of a skip because a new plan does not have the task. `RunState::is_replaced`
/// recognizes such a task by this text.
pub const DROPPED: &str = "it is not in the plan any more";

/// A task: its files and its dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The name in refs. Unique in the plan, even if case is ignored.
    pub id: TaskId,
    /// The files as repository-relative paths (`/`-separated, UTF-8), sorted. Never empty.
    pub files: Vec<String>,
    /// The tasks that must be done first, sorted. There are no cycles.
    pub after: Vec<TaskId>,
    /// The number of lines in the files.
    pub lines: u64,
    /// The estimated number of tokens in the files. The planning layer makes the estimate.
    pub tokens: u64,
    /// The depth in the dependency graph; 0 for a task without dependencies.
    pub level: u32,
    /// The task's own prompt variables as a JSON object, or empty.
    pub vars: String,
}

impl Task {
    /// Returns the folder that all files are in. Returns `None` if the files are in several folders
    /// or at the top of the repository.
    pub fn folder(&self) -> Option<&str> {
        let mut folders = self.files.iter().map(|file| file.rsplit_once('/').map(|(f, _)| f));
        let folder = folders.next()??;
        folders.all(|other| other == Some(folder)).then_some(folder)
    }

    /// Returns the name for people: the file or the folder that the id was made from, else the id.
    pub fn label(&self) -> String {
        let file = self.files.first().map(String::as_str);
        let path = file.into_iter().chain(self.folder()).find(|path| self.is_named_after(path));
        path.unwrap_or(self.id.as_str()).to_owned()
    }

    /// Returns true if the id was made from this path: the id is the encoded path, or an end of the
    /// encoded path with a hash behind it.
    fn is_named_after(&self, path: &str) -> bool {
        let plain = encode_path(path);
        if self.id.as_str() == plain {
            return true;
        }
        let Some((kept, hash)) = self.id.as_str().rsplit_once('-') else { return false };
        let is_hash = hash.len() >= 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        is_hash && !kept.is_empty() && plain.ends_with(kept)
    }
}

/// The tasks of a run, in dispatch order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The tasks, unique by id.
    pub tasks: Vec<Task>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(id: &str, files: &[&str]) -> String {
        let task = Task {
            id: TaskId::parse(id).unwrap(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            after: Vec::new(),
            lines: 1,
            tokens: 1,
            level: 0,
            vars: String::new(),
        };
        task.label()
    }

    #[test]
    fn label_is_the_path_that_the_id_was_made_from() {
        assert_eq!(label("src__app_dot_js", &["src/app.js"]), "src/app.js");
        assert_eq!(label("isobjectlike_dot_js-11a1e31f", &["isObjectLike.js"]), "isObjectLike.js");
        assert_eq!(label("src__utils", &["src/utils/a.js", "src/utils/b.js"]), "src/utils");
        assert_eq!(label("m__a_dot_js", &["m/a.js", "n/b.js"]), "m/a.js", "a cycle");
        assert_eq!(label("finding-1", &["src/app.js"]), "finding-1", "an id of the job's own");
        assert_eq!(label("src__utils_part_1", &["src/utils/a.js"]), "src__utils_part_1");
    }
}
