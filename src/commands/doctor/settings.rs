//! The repository's settings, files and locks that are not ours: named, and never changed.

use std::path::{Path, PathBuf};

use super::{Diagnosis, Severity};
use crate::ambient;
use crate::process;
use crate::store::Store;
use crate::ui::human;

/// The least age of a lock of git that is reported, in seconds.
const OLD_LOCK: u64 = 5;

/// The keys of a repository's configuration that make git run a program: section, end of the key.
const PROGRAM_KEYS: [(&str, &str); 16] = [
    ("core", "fsmonitor"),
    ("core", "sshcommand"),
    ("core", "askpass"),
    ("core", "editor"),
    ("core", "pager"),
    ("core", "gitproxy"),
    ("core", "alternaterefscommand"),
    ("filter", "clean"),
    ("filter", "smudge"),
    ("filter", "process"),
    ("diff", "command"),
    ("diff", "textconv"),
    ("merge", "driver"),
    ("credential", "helper"),
    ("gpg", "program"),
    ("uploadpack", "packobjectshook"),
];

/// The locks of git's own files.
const LOCKS: [&str; 6] = [
    "index.lock",
    "HEAD.lock",
    "config.lock",
    "packed-refs.lock",
    "shallow.lock",
    "refs/stash.lock",
];

/// Names everything of others that changes what git does in this repository.
pub(super) fn check(store: &Store, diagnoses: &mut Vec<Diagnosis>) {
    let common_dir = store.repo().common_dir();
    for (key, value) in store.repo().local_settings() {
        if let Some((severity, text)) = judge(&key, &value, store.repo().top().is_some()) {
            diagnoses.push((severity, key, text));
        }
    }
    let files = [
        (
            "info/grafts",
            "git reads other parents than the commits name; `git replace --convert-graft-file` converts it",
        ),
        ("shallow", "the clone is shallow; `git fetch --unshallow` fetches the rest"),
        (
            "objects/info/alternates",
            "objects are borrowed from another repository, which must stay",
        ),
    ];
    for (name, text) in files {
        if has_lines(&common_dir.join(name)) {
            diagnoses.push((Severity::Note, name.into(), text.into()));
        }
    }
    let replaced = store.list("refs/replace/").map(|refs| refs.len()).unwrap_or_default();
    if replaced > 0 {
        let text = format!(
            "{}; `git replace --list` shows them, and git-harness ignores them",
            human::number(replaced, "replaced object")
        );
        diagnoses.push((Severity::Note, "refs/replace".into(), text));
    }
    for lock in old_locks(common_dir) {
        diagnoses.push((
            Severity::Problem,
            lock.display().to_string(),
            format!("a lock of git, {}", process::describe_lock(&lock)),
        ));
    }
    missing_lfs(store, diagnoses);
}

/// Judges a setting of the repository. Returns `None` for a setting that changes nothing for us.
fn judge(key: &str, value: &str, has_work_tree: bool) -> Option<(Severity, String)> {
    let lower = key.to_ascii_lowercase();
    let (section, rest) = lower.split_once('.')?;
    let name = rest.rsplit_once('.').map_or(rest, |(_, name)| name);
    let note = |text: &str| Some((Severity::Note, format!("`{value}`: {text}")));
    match (section, name) {
        ("core", "bare") if value == "true" && has_work_tree => Some((
            Severity::Problem,
            "the repository is marked as bare, but it has a work tree; `git config core.bare false` corrects that".into(),
        )),
        ("core", "worktree") => note("the work tree is elsewhere"),
        ("core", "hookspath") => note("git runs the hooks of this folder; git-harness does not run them"),
        ("url", "insteadof" | "pushinsteadof") => note("git uses another address than the one that is written"),
        ("include" | "includeif", "path") => note("more settings come from this file"),
        ("alias", _) if value.starts_with('!') => note("git runs this command"),
        // Git LFS installs these itself.
        ("filter", _) if rest.starts_with("lfs.") => None,
        (section, name) if PROGRAM_KEYS.contains(&(section, name)) => note("git runs this program"),
        _ => None,
    }
}

fn has_lines(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| {
        text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'))
    })
}

/// Returns the locks of git that have been there for some seconds.
fn old_locks(common_dir: &Path) -> Vec<PathBuf> {
    let mut locks: Vec<PathBuf> = LOCKS.iter().map(|name| common_dir.join(name)).collect();
    let mut next = vec![common_dir.join("refs/heads"), common_dir.join("refs/tags")];
    while let Some(folder) = next.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // The branches of tasks are ours.
            if is_folder && !path.ends_with("refs/heads/harness") {
                next.push(path);
            } else if path.extension().is_some_and(|end| end == "lock") {
                locks.push(path);
            }
        }
    }
    locks.retain(|lock| age(lock).is_some_and(|seconds| seconds >= OLD_LOCK));
    locks
}

fn age(file: &Path) -> Option<u64> {
    Some(file.symlink_metadata().ok()?.modified().ok()?.elapsed().ok()?.as_secs())
}

/// Reports a repository with files in LFS on a machine without `git-lfs`.
fn missing_lfs(store: &Store, diagnoses: &mut Vec<Diagnosis>) {
    let repo = store.repo();
    let attributes = (|| {
        let tree = repo.tree_of(&repo.resolve_commit("HEAD").ok()?).ok()?;
        repo.read_blob_at(&tree, ".gitattributes").ok()?
    })();
    let uses_lfs = attributes.is_some_and(|bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().any(|line| !line.starts_with('#') && line.contains("filter=lfs"))
    });
    let path = ambient::variable("PATH").unwrap_or_default();
    let top = repo.top().unwrap_or(Path::new("/"));
    if uses_lfs && process::find_in_path("git-lfs".as_ref(), path.as_ref(), top).is_err() {
        let text = "`.gitattributes` keeps files in LFS, but git-lfs is not installed: worktrees would have pointers instead of files";
        diagnoses.push((Severity::Problem, "git-lfs".into(), text.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::{Severity, judge};

    #[test]
    fn settings_that_run_programs_or_redirect_are_named() {
        let severity =
            |key: &str, value: &str| judge(key, value, true).map(|(severity, _)| severity);
        for (key, value) in [
            ("core.hooksPath", "/x"),
            ("core.worktree", "/x"),
            ("core.fsmonitor", "/x"),
            ("url.https://a/.insteadOf", "https://b/"),
            ("filter.x.clean", "sh"),
            ("merge.a.b.driver", "sh"),
            ("alias.go", "!sh"),
            ("include.path", "/x"),
            ("credential.https://x.helper", "y"),
        ] {
            assert_eq!(severity(key, value), Some(Severity::Note), "{key}");
        }
        assert_eq!(severity("core.bare", "true"), Some(Severity::Problem));
        for (key, value) in [
            ("core.bare", "false"),
            ("core.autocrlf", "true"),
            ("filter.lfs.clean", "git-lfs clean -- %f"),
            ("alias.go", "status"),
            ("user.name", "x"),
        ] {
            assert_eq!(severity(key, value), None, "{key}");
        }
    }
}
