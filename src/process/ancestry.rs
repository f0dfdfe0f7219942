//! The ancestors of this process. They tell whether a keeper, or a command that a keeper runs, has
//! started this process, directly or not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::{MARK, REPOSITORY, procfs};

/// The argument with which a keeper is started.
const KEEPER_VERB: &[u8] = b"keeper";

/// Returns the marker or the folder of the assignment of which this process is a part. Returns
/// `None` if it is part of none. `environment` is that of this process; `common_dir` is the
/// repository whose assignments count.
///
/// A command can remove its own variables, but not those of the processes that started it. A keeper
/// is recognised by its arguments.
pub(crate) fn assignment_of_this_process(
    environment: &BTreeMap<OsString, OsString>,
    common_dir: &Path,
) -> Option<String> {
    let own = |name: &str| environment.get(OsStr::new(name)).map(|value| value.as_bytes().to_vec());
    if let Some(marker) = marker(&own, common_dir) {
        return Some(marker);
    }
    let mut met = BTreeSet::new();
    let mut next = procfs::stat(std::process::id().cast_signed())?.parent;
    while next > 0 && met.insert(next) {
        let variables = procfs::texts(next, "environ");
        let value = |name: &str| {
            let prefix = [name.as_bytes(), b"="].concat();
            variables.iter().find_map(|pair| Some(pair.strip_prefix(&prefix[..])?.to_vec()))
        };
        if let Some(marker) = marker(&value, common_dir) {
            return Some(marker);
        }
        if let [_, verb, dir, ..] = procfs::texts(next, "cmdline").as_slice()
            && verb == KEEPER_VERB
            && is_inside(&PathBuf::from(OsString::from_vec(dir.clone())), common_dir)
        {
            return Some(String::from_utf8_lossy(dir).into_owned());
        }
        next = procfs::stat(next).map_or(0, |process| process.parent);
    }
    None
}

/// Returns the marker of a process that works for the repository. A marker without a repository
/// counts for each one.
fn marker(value: &dyn Fn(&str) -> Option<Vec<u8>>, common_dir: &Path) -> Option<String> {
    let marker = value(MARK)?;
    let repository = value(REPOSITORY).map(|path| PathBuf::from(OsString::from_vec(path)));
    let is_ours = repository.is_none_or(|path| is_inside(&path, common_dir));
    is_ours.then(|| String::from_utf8_lossy(&marker).into_owned())
}

fn is_inside(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    real(path).starts_with(real(folder))
}

/// Forbids other processes of the same user to read the environment and the memory of this process.
/// The processes that it starts are not affected. Only Linux supports this.
pub(crate) fn hide_from_others() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_in_the_own_environment_counts_for_its_repository_only() {
        let dir = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (dir.path().join("a"), dir.path().join("b"));
        let environment = |repository: Option<&Path>| {
            let pairs =
                [(MARK, Some("run.task.1".into())), (REPOSITORY, repository.map(Into::into))];
            let set =
                |(name, value): (&str, Option<OsString>)| Some((OsString::from(name), value?));
            pairs.into_iter().filter_map(set).collect::<BTreeMap<OsString, OsString>>()
        };
        let of = |environment: &_| assignment_of_this_process(environment, &here);
        assert_eq!(of(&environment(Some(&here))).as_deref(), Some("run.task.1"));
        assert_eq!(of(&environment(None)).as_deref(), Some("run.task.1"));
        assert_ne!(of(&environment(Some(&elsewhere))).as_deref(), Some("run.task.1"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn hidden_process_is_not_dumpable() {
        hide_from_others().unwrap();
        let behavior = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behavior, rustix::process::DumpableBehavior::NotDumpable);
    }
}
