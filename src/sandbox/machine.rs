//! The facts of this machine that a sandbox depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use crate::process::find_in_path;
use crate::wire::keeper::SandboxSpec;

/// Folders that are hidden on every machine: homes, temporary folders and sockets.
const HIDDEN: [&str; 6] = ["/tmp", "/var/tmp", "/run", "/var/run", "/home", "/root"];

/// Files and folders with secrets of the machine, which a sandbox of root could read: inside, the
/// user is not root, but still owns root's files.
const MASKED: [&str; 6] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/krb5.keytab",
];

/// The folder of the machine's own keys.
const HOST_KEYS: &str = "/etc/ssh";

/// Folders of a home with programs and downloaded packages: they hold nothing private.
const TOOLS: [&str; 28] = [
    ".bun/bin",
    ".cargo/bin",
    ".cargo/git",
    ".cargo/registry",
    ".asdf",
    ".cache/go-build",
    ".cache/pip",
    ".cache/uv",
    ".deno/bin",
    ".fnm",
    ".gradle/caches",
    ".gradle/wrapper",
    ".local/bin",
    ".local/lib",
    ".local/share/claude",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/pnpm",
    ".local/share/uv",
    ".m2/repository",
    ".npm/_cacache",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".sdkman",
    ".volta",
    "go",
];

/// The facts about a machine and a repository.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineFacts<'a> {
    /// The environment of the user.
    pub environment: &'a BTreeMap<OsString, OsString>,
    /// The repository's common directory.
    pub common_dir: &'a Path,
    /// The folder of the user's work tree. `None` for a bare repository.
    pub work_tree: Option<&'a Path>,
    /// The folder that holds the worktrees of all runs.
    pub worktrees: &'a Path,
}

/// Describes the sandbox of this machine. Returns a reason if there is no program for it.
pub(crate) fn specify(facts: &MachineFacts<'_>) -> Result<SandboxSpec, String> {
    if !cfg!(target_os = "linux") {
        return Err("there is a sandbox only on Linux".into());
    }
    let variable = |name: &str| facts.environment.get(OsStr::new(name));
    let path = variable("PATH").map_or(OsStr::new("/usr/bin:/bin"), OsString::as_os_str);
    let program = find_in_path(OsStr::new("bwrap"), path, Path::new("/"))
        .map_err(|why| format!("{why}; install bubblewrap"))?;
    let home = variable("HOME").and_then(|home| folder(Path::new(home)));
    let temporary = variable("TMPDIR").and_then(|tmp| folder(Path::new(tmp)));
    let mut hidden: BTreeSet<PathBuf> =
        HIDDEN.iter().filter_map(|p| folder(Path::new(p))).collect();
    hidden.extend(home.iter().cloned().chain(temporary));
    // The key of the seals lies there, and not always in a home.
    let state = variable("XDG_STATE_HOME").map(|state| Path::new(state).join("git-harness"));
    hidden.extend(state.and_then(|state| future_folder(&state)));
    hidden.extend(future_folder(facts.worktrees));
    hidden.extend(linked_worktrees(facts.common_dir));
    let work_tree = facts.work_tree.and_then(folder);
    let kept = |path: &PathBuf| may_be_shown(path, facts, home.as_deref());
    let mut visible: BTreeSet<PathBuf> = tools(path, home.as_deref()).collect();
    // The file with the addresses of name servers is often a link to a folder of sockets.
    visible.extend(std::fs::canonicalize("/etc/resolv.conf").ok());
    visible.retain(|path| hidden.iter().any(|hidden| path.starts_with(hidden)) && kept(path));
    Ok(SandboxSpec {
        program,
        home,
        hidden: hidden.into_iter().collect(),
        visible: visible.into_iter().collect(),
        masked: masked(),
        work_tree,
        network: true,
        home_files: Vec::new(),
        keeps_home: false,
    })
}

/// Returns the sandbox without the folders and files that do not exist now. bubblewrap cannot mount
/// anything there, and a hidden folder may be made later, such as that of the worktrees.
pub(crate) fn existing(spec: &SandboxSpec) -> SandboxSpec {
    let existing = |paths: &[PathBuf]| {
        paths.iter().filter(|path| path.symlink_metadata().is_ok()).cloned().collect()
    };
    SandboxSpec {
        hidden: existing(&spec.hidden),
        visible: existing(&spec.visible),
        masked: existing(&spec.masked),
        ..spec.clone()
    }
}

/// Returns a folder without links in its path. `None` if there is no such folder, and for the root.
fn folder(path: &Path) -> Option<PathBuf> {
    let path = std::fs::canonicalize(path).ok()?;
    (path.is_dir() && path.parent().is_some()).then_some(path)
}

/// Returns a folder that may not exist yet, without links in the part that exists.
fn future_folder(path: &Path) -> Option<PathBuf> {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(path), ..) => Some(path),
        (Err(_), Some(parent), Some(name)) => Some(future_folder(parent)?.join(name)),
        (Err(_), None, _) | (Err(_), _, None) => None,
    }
}

/// Returns true if showing a path shows neither a home nor the repository as a whole.
fn may_be_shown(path: &Path, facts: &MachineFacts<'_>, home: Option<&Path>) -> bool {
    let closed = [Some(facts.common_dir), facts.work_tree, Some(facts.worktrees), home];
    !closed.into_iter().flatten().any(|closed| closed.starts_with(path))
}

/// Returns the absolute paths in a command line that exist and that a sandbox may show: the folder
/// of a script, or a folder of scripts. Where the folder of a script may not be shown, the script
/// alone is.
pub(crate) fn argument_paths(
    spec: &SandboxSpec,
    argv: &[String],
    common_dir: &Path,
) -> Vec<PathBuf> {
    let is_hidden = |path: &Path| {
        let mut hidden = spec.hidden.iter().chain(&spec.work_tree);
        hidden.any(|hidden| path.starts_with(hidden)) || path.starts_with(common_dir)
    };
    let closed = [Some(common_dir), spec.work_tree.as_deref(), spec.home.as_deref()];
    let may_be_shown =
        |path: &Path| is_hidden(path) && !closed.iter().flatten().any(|c| c.starts_with(path));
    let shown = |path: PathBuf| {
        let folder = path.parent().filter(|folder| {
            let is_whole = spec.hidden.iter().any(|hidden| hidden == folder);
            path.is_file() && !is_whole && may_be_shown(folder)
        });
        let folder = folder.map(Path::to_path_buf);
        folder.or_else(|| may_be_shown(&path).then(|| path.clone()))
    };
    let arguments = argv.iter().map(Path::new).filter(|argument| argument.is_absolute());
    arguments
        .filter_map(|argument| std::fs::canonicalize(argument).ok())
        .filter_map(shown)
        .collect()
}

/// Returns the folders of programs and packages, from PATH and from the homes that PATH names.
fn tools<'a>(path: &'a OsStr, home: Option<&'a Path>) -> impl Iterator<Item = PathBuf> {
    let mut folders = BTreeSet::new();
    let mut homes: BTreeSet<PathBuf> = home.map(Path::to_path_buf).into_iter().collect();
    for entry in std::env::split_paths(path).filter(|entry| entry.is_absolute()) {
        if let Some(libraries) = entry.parent().map(|prefix| prefix.join("lib")) {
            // A program of a prefix finds its own files there, such as those of npm.
            folders.extend(entry.ends_with("bin").then_some(libraries));
        }
        homes.extend(home_of(&entry));
        folders.insert(entry);
    }
    folders.extend(homes.iter().flat_map(|home| TOOLS.map(|tools| home.join(tools))));
    folders.into_iter().filter_map(|path| folder(&path))
}

/// Returns the home of a folder such as `/home/una/.cargo/bin`: the part before the first name
/// with a dot.
fn home_of(path: &Path) -> Option<PathBuf> {
    let is_dotted = |c: &Component<'_>| c.as_os_str().as_encoded_bytes().starts_with(b".");
    let at = path.components().position(|c| is_dotted(&c))?;
    Some(path.components().take(at).collect()).filter(|home: &PathBuf| home.parent().is_some())
}

/// Returns the folders of the worktrees that are registered in a repository.
fn linked_worktrees(common_dir: &Path) -> Vec<PathBuf> {
    let registered =
        std::fs::read_dir(common_dir.join("worktrees")).into_iter().flatten().flatten();
    let link = |entry: std::fs::DirEntry| {
        let link = std::fs::read_to_string(entry.path().join("gitdir")).ok()?;
        let link = PathBuf::from(link.trim_end());
        // An agent may have written the registration. A folder without a link back is no worktree.
        let is_link = std::fs::symlink_metadata(&link).is_ok_and(|meta| meta.is_file());
        folder(link.parent()?).filter(|_| is_link && link.ends_with(".git"))
    };
    registered.filter_map(link).collect()
}

fn masked() -> Vec<PathBuf> {
    let keys = std::fs::read_dir(HOST_KEYS).into_iter().flatten().flatten();
    let keys = keys.filter(|entry| {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        name.starts_with(b"ssh_host_") && name.ends_with(b"_key")
    });
    let files = MASKED.iter().map(PathBuf::from).chain(keys.map(|entry| entry.path()));
    files.filter(|path| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_do_not_exist_yet_are_not_mounted() {
        let home = tempfile::tempdir().unwrap();
        let (made, missing) = (home.path().to_path_buf(), home.path().join("repo.harness"));
        let spec = SandboxSpec {
            program: "bwrap".into(),
            home: None,
            hidden: vec![made.clone(), missing.clone()],
            visible: vec![missing.clone()],
            masked: vec![missing.clone()],
            work_tree: None,
            network: false,
            home_files: Vec::new(),
            keeps_home: false,
        };
        let now = existing(&spec);
        assert_eq!((now.hidden, now.visible, now.masked), (vec![made], Vec::new(), Vec::new()));
        std::fs::create_dir(&missing).unwrap();
        assert_eq!(existing(&spec), spec);
    }

    #[test]
    fn home_of_a_tool_is_the_part_before_the_dotted_name() {
        assert_eq!(home_of(Path::new("/home/una/.cargo/bin")), Some("/home/una".into()));
        assert_eq!(home_of(Path::new("/usr/bin")), None);
        assert_eq!(home_of(Path::new("/.x/bin")), None);
    }

    #[test]
    fn scripts_of_a_command_line_are_shown_but_not_a_whole_home() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let repo = home.join("repo/.git");
        std::fs::create_dir_all(&repo).unwrap();
        let (script, tool) = (home.join("agent.sh"), home.join("tools/a.sh"));
        std::fs::create_dir(home.join("tools")).unwrap();
        std::fs::write(&script, "").unwrap();
        std::fs::write(&tool, "").unwrap();
        let spec = SandboxSpec {
            program: "bwrap".into(),
            home: Some(home.clone()),
            hidden: vec![home.clone()],
            visible: Vec::new(),
            masked: Vec::new(),
            work_tree: repo.parent().map(Path::to_path_buf),
            network: false,
            home_files: Vec::new(),
            keeps_home: false,
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let argv = [text(&script), text(&tool), text(&home), text(&repo), "/usr/bin".to_owned()];
        assert_eq!(argument_paths(&spec, &argv, &repo), [script, home.join("tools")]);
    }
}
