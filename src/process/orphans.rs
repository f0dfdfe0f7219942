//! Processes of assignments, and the users of files, as `doctor` reports them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::{MARK, REPOSITORY, procfs};

/// A process that carries the marker of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MarkedProcess {
    /// The process number.
    pub pid: i32,
    /// The marker.
    pub marker: String,
}

/// Returns the living processes that carry the marker of an assignment for the repository.
pub(crate) fn marked_processes(common_dir: &Path) -> Vec<MarkedProcess> {
    let own = std::process::id().cast_signed();
    let living = procfs::all().into_iter().filter(|process| !process.ended && process.pid != own);
    let marked = living.filter_map(|process| {
        let variables = procfs::texts(process.pid, "environ");
        let value = |name: &str| {
            let prefix = format!("{name}=");
            variables.iter().find_map(|pair| Some(pair.strip_prefix(prefix.as_bytes())?.to_vec()))
        };
        let repository = PathBuf::from(OsString::from_vec(value(REPOSITORY)?));
        let marker = String::from_utf8_lossy(&value(MARK)?).into_owned();
        (repository == common_dir).then_some(MarkedProcess { pid: process.pid, marker })
    });
    marked.collect()
}

/// Returns the numbers of the processes that have a file open, as far as this user may know.
pub(crate) fn users_of(path: &Path) -> Vec<i32> {
    let Ok(path) = std::fs::canonicalize(path) else { return Vec::new() };
    let has_open = |pid: i32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|open| open == path)
    };
    procfs::all().into_iter().map(|process| process.pid).filter(|pid| has_open(*pid)).collect()
}

/// Returns the age of a lock file and the processes that have it open, for people.
pub(crate) fn describe_lock(path: &Path) -> String {
    let modified = path.symlink_metadata().and_then(|meta| meta.modified());
    let seconds = modified.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default().as_secs();
    let age = match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    };
    match users_of(path).as_slice() {
        [] => format!("{age} old, and no process has it open; remove it if no git runs"),
        pids => {
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            format!("{age} old, held by process {}", pids.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::describe_lock;

    #[test]
    fn lock_is_described_with_age_and_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.lock");
        let file = std::fs::File::create(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(600))
            .unwrap();
        let held = format!("10 min old, held by process {}", std::process::id());
        assert_eq!(describe_lock(&path), held);
        drop(file);
        assert!(describe_lock(&path).starts_with("10 min old, and no process has it open"));
    }
}
