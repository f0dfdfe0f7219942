//! The facts of this machine that a sandbox depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use super::programs::{Shown, Visibility};
use crate::process::find_in_path;
use crate::wire::keeper::{OverlayPrograms, SandboxSpec};

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

/// Folders of a home with programs: they hold nothing private.
const TOOLS: [&str; 22] = [
    ".asdf",
    ".bun/bin",
    ".cache/ms-playwright",
    ".cache/puppeteer",
    ".cargo/bin",
    ".config/mise",
    ".deno/bin",
    ".fnm",
    ".local/bin",
    ".local/lib",
    ".local/share/claude",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/pnpm",
    ".local/share/uv",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".sdkman",
    ".tool-versions",
    ".volta",
];

/// Folders of a home with downloaded packages. Programs write to them.
const CACHES: [&str; 24] = [
    ".bun/install/cache",
    ".bundle/cache",
    ".cache/composer",
    ".cache/coursier",
    ".cache/deno",
    ".cache/go-build",
    ".cache/node",
    ".cache/pip",
    ".cache/pnpm",
    ".cache/pre-commit",
    ".cache/pypoetry",
    ".cache/uv",
    ".cache/yarn",
    ".cargo/git",
    ".cargo/registry",
    ".gradle/caches",
    ".gradle/wrapper",
    ".local/share/pnpm/store",
    ".m2/repository",
    ".npm/_cacache",
    ".nuget/packages",
    ".pub-cache",
    ".yarn/berry",
    "go",
];

/// Settings of package managers, which are shown if they hold no login.
const SETTINGS: [&str; 5] =
    [".cargo/config.toml", ".npmrc", ".yarnrc.yml", ".config/pip/pip.conf", ".config/uv/uv.toml"];

/// Words in a settings file that may come with a login.
const LOGINS: [&str; 6] = ["token", "auth", "password", "passwd", "secret", "@"];

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
    /// Caches beside the known ones: absolute, or in the home as `~/folder`.
    pub caches: &'a [String],
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
    let hidden: Vec<PathBuf> = hidden.into_iter().collect();
    let rules = Visibility {
        hidden: hidden.iter().chain(&work_tree).map(PathBuf::as_path).collect(),
        closed: home.iter().chain(&work_tree).map(PathBuf::as_path).collect(),
        excluded: vec![facts.common_dir, facts.worktrees],
    };
    let shown = tools(&rules, path, home.as_deref());
    let caches = caches(&rules, facts, &homes(path, home.as_deref()));
    let overlay = || {
        let find = |name: &str| find_in_path(OsStr::new(name), path, Path::new("/")).ok();
        Some(OverlayPrograms { unshare: find("unshare")?, mount: find("mount")? })
    };
    Ok(SandboxSpec {
        program,
        overlay: overlay(),
        visible: shown.paths.into_iter().collect(),
        links: shown.links.into_iter().collect(),
        caches,
        home,
        masked: masked(),
        work_tree,
        network: true,
        hosts: Vec::new(),
        home_files: Vec::new(),
        keeps_home: false,
        hidden,
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
        caches: existing(&spec.caches),
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

/// Returns the paths in hidden folders that command lines need: their programs, and the absolute
/// paths among their arguments. Of a script the folder is shown, or the script alone where the
/// folder may not be shown. `excluded` are folders of which nothing is shown.
pub(crate) fn named_paths<'a>(
    spec: &SandboxSpec,
    command_lines: impl Iterator<Item = &'a Vec<String>>,
    search: &OsStr,
    excluded: &[&Path],
) -> Shown {
    let rules = Visibility {
        hidden: spec.hidden.iter().chain(&spec.work_tree).map(PathBuf::as_path).collect(),
        closed: spec.home.iter().chain(&spec.work_tree).map(PathBuf::as_path).collect(),
        excluded: excluded.to_vec(),
    };
    let mut shown = Shown::default();
    for argv in command_lines {
        let Some((program, arguments)) = argv.split_first() else { continue };
        let found = match Path::new(program) {
            path if path.is_absolute() => Some(path.to_path_buf()),
            path if program.contains('/') => Some(path.to_path_buf()),
            _ => find_in_path(OsStr::new(program), search, Path::new("/")).ok(),
        };
        let found = found.filter(|path| path.is_absolute());
        found.iter().for_each(|program| rules.show_program(program, search, &mut shown));
        for argument in arguments.iter().map(Path::new).filter(|path| path.is_absolute()) {
            rules.show_argument(argument, search, &mut shown);
        }
    }
    shown
}

/// Returns the folders of programs, from PATH and from the homes that PATH names.
fn tools(rules: &Visibility<'_>, path: &OsStr, home: Option<&Path>) -> Shown {
    let mut shown = Shown::default();
    for entry in std::env::split_paths(path).filter(|entry| entry.is_absolute()) {
        rules.show_programs(&entry, &mut shown);
    }
    let homes = homes(path, home);
    let tools = homes.iter().flat_map(|home| TOOLS.map(|tools| home.join(tools)));
    let settings = homes.iter().flat_map(|home| SETTINGS.map(|file| home.join(file)));
    let settings = settings.filter(|file| has_no_login(file));
    // The file with the addresses of name servers is often a link to a folder of sockets.
    let all = tools.chain(settings).chain(Some(PathBuf::from("/etc/resolv.conf")));
    let all = all.filter_map(|path| std::fs::canonicalize(path).ok());
    shown.paths.extend(all.filter(|path| rules.may_show(path)));
    shown
}

/// Returns the existing folders of packages, each in no other one.
fn caches(
    rules: &Visibility<'_>,
    facts: &MachineFacts<'_>,
    homes: &BTreeSet<PathBuf>,
) -> Vec<PathBuf> {
    let own = facts.environment.get(OsStr::new("HOME")).map(Path::new);
    let named = facts.caches.iter().filter_map(|cache| match cache.strip_prefix("~/") {
        Some(rest) => Some(own?.join(rest)),
        None => Some(PathBuf::from(cache)),
    });
    let known = homes.iter().flat_map(|home| CACHES.map(|cache| home.join(cache)));
    let all = known.chain(named).filter_map(|path| folder(&path));
    let all: BTreeSet<PathBuf> = all.filter(|path| rules.may_cover(path)).collect();
    super::outermost(all.iter()).into_iter().map(Path::to_path_buf).collect()
}

/// Returns true if a settings file has no word that comes with a login.
fn has_no_login(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).map(|text| text.to_ascii_lowercase());
    text.is_ok_and(|text| !LOGINS.iter().any(|word| text.contains(word)))
}

/// Returns the user's home and the homes that PATH names.
fn homes(path: &OsStr, home: Option<&Path>) -> BTreeSet<PathBuf> {
    let entries = std::env::split_paths(path).filter(|entry| entry.is_absolute());
    let named = entries.filter_map(|entry| home_of(&entry));
    home.map(Path::to_path_buf).into_iter().chain(named).collect()
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
            links: Vec::new(),
            caches: Vec::new(),
            overlay: None,
            work_tree: None,
            network: false,
            hosts: Vec::new(),
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
            links: Vec::new(),
            caches: Vec::new(),
            overlay: None,
            work_tree: repo.parent().map(Path::to_path_buf),
            network: false,
            hosts: Vec::new(),
            home_files: Vec::new(),
            keeps_home: false,
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let prompt = repo.join("harness/a/prompt.md");
        std::fs::create_dir_all(prompt.parent().unwrap()).unwrap();
        std::fs::write(&prompt, "").unwrap();
        let mut argv = vec!["sh".to_owned()];
        argv.extend([&script, &tool, &home, &repo, &prompt].map(|path| text(path)));
        let shown = named_paths(&spec, [&argv].into_iter(), OsStr::new("/usr/bin"), &[&repo]);
        assert_eq!(shown.paths.into_iter().collect::<Vec<_>>(), [script, home.join("tools")]);
    }
}
