//! The policy of a sandbox: which folders a command sees, and where. This part is a pure function
//! of facts. `machine` collects the facts of this machine, and `probe` tries the boundary.
//!
//! The whole disk can be read, except for the hidden folders: homes, temporary folders, sockets,
//! the user's work tree, the repository's `.git` and all worktrees. The worktree of the assignment
//! is at one path for all tasks, so that paths in prompts, caches and compilers' outputs agree. A
//! private `.git` lies over the shared one at the shared one's own path: everything that git does
//! works on the private one, and the shared one cannot be seen.

mod machine;
mod network;
mod overlay;
mod probe;
mod programs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::process::{Confinement, Mount, Overlays};
use crate::wire::keeper::{OverlayPrograms, SandboxSpec};

pub(crate) use machine::{MachineFacts, existing, named_paths, specify};
pub(crate) use network::{connected, set_variables};
pub(crate) use overlay::{Overlay, UPPER, make_overlays};
pub(crate) use probe::{SandboxChoice, UNSANDBOXED, choose};
pub(crate) use programs::Shown;

/// The folder of an assignment inside.
pub(crate) const FOLDER: &str = "/run/harness";

/// The worktree inside.
pub(crate) const WORKTREE: &str = "/run/harness/worktree";

/// The temporary folder inside.
const TMP: &str = "/run/harness/tmp";

/// The folder inside that holds the object stores.
const OBJECTS: &str = "/run/harness/objects";

/// The folders of one assignment. All paths are absolute and without links.
#[derive(Debug, Clone, Default)]
pub(crate) struct AssignmentFolders {
    /// The repository's common directory.
    pub common_dir: PathBuf,
    /// The private `.git` that lies over `common_dir`.
    pub private_git: PathBuf,
    /// The object stores: that of the repository, and its alternates.
    pub objects: Vec<PathBuf>,
    /// The files in the object stores that name further stores.
    pub alternates: Vec<PathBuf>,
    /// The worktree.
    pub worktree: PathBuf,
    /// The worktree, as commands name it. The name may have links or `..` in it.
    pub worktree_name: PathBuf,
    /// The folder for temporary files.
    pub tmp: PathBuf,
    /// The folder that becomes the home, or `None` for an empty one in memory.
    pub home: Option<PathBuf>,
    /// Files of the assignment that can be read.
    pub readable: Vec<PathBuf>,
    /// Files and folders of the assignment that can be written.
    pub writable: Vec<PathBuf>,
    /// Paths that the command lines need.
    pub named: Shown,
    /// The overlays of caches.
    pub overlays: CacheOverlays,
    /// An empty file.
    pub empty: PathBuf,
    /// The file that replaces `/etc/passwd`.
    pub users: Option<PathBuf>,
}

/// The overlays of an assignment.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheOverlays {
    /// The folder of the overlays.
    pub folder: PathBuf,
    /// The paths of the mounted overlays, relative to the folder, and the caches.
    pub caches: Vec<(PathBuf, PathBuf)>,
}

/// Returns the path inside of the object store with this number.
pub(crate) fn object_store(number: usize) -> PathBuf {
    Path::new(OBJECTS).join(number.to_string())
}

/// Returns the sandbox of an assignment.
pub(crate) fn confine(spec: &SandboxSpec, folders: &AssignmentFolders) -> Confinement {
    let same = |path: &Path| Mount::ReadOnly { source: path.into(), target: path.into() };
    let over = |source: &Path, target: PathBuf| Mount::ReadOnly { source: source.into(), target };
    let writable = |source: &Path, target: &Path| Mount::Writable {
        source: source.into(),
        target: target.into(),
    };
    let mut mounts = vec![same(Path::new("/")), Mount::System];
    let hidden = outermost(spec.hidden.iter().chain(&spec.work_tree));
    mounts.extend(hidden.iter().map(|path| Mount::Empty(path.to_path_buf())));
    let home = spec.home.as_ref().map(|home| match &folders.home {
        Some(private) => (home, writable(private, home)),
        None => (home, Mount::Empty(home.clone())),
    });
    // A folder of its own, so that it can be sealed. A home that is the work tree is not sealed.
    let top = spec.work_tree.as_ref().filter(|top| spec.home.as_ref() != Some(*top));
    let own_top = top.filter(|top| !hidden.contains(&top.as_path()));
    let own_top = own_top.map(|top| (top, Mount::Empty(top.clone())));
    // One of the two may lie in the other.
    let mut inner: Vec<(&PathBuf, Mount)> = home.into_iter().chain(own_top).collect();
    inner.sort_by_key(|(path, _)| *path);
    mounts.extend(inner.into_iter().map(|(_, mount)| mount));
    mounts.push(writable(&folders.private_git, &folders.common_dir));
    let shown = outermost(spec.visible.iter().chain(&folders.named.paths));
    let links = spec.links.iter().map(|(at, to)| (at, to)).chain(&folders.named.links);
    let links: BTreeMap<&PathBuf, &PathBuf> = links.collect();
    let is_shown = |path: &Path| shown.iter().any(|shown| path.starts_with(shown));
    let links = links.into_iter().filter(|(at, _)| !is_shown(at));
    mounts.extend(links.map(|(at, to)| Mount::Link { at: at.clone(), to: to.clone() }));
    mounts.extend(shown.iter().map(|path| same(path)));
    mounts.extend(caches(spec, folders));
    mounts.extend(top.cloned().map(Mount::Sealed));

    mounts.push(Mount::Empty(FOLDER.into()));
    mounts.push(writable(&folders.worktree, Path::new(WORKTREE)));
    mounts.push(over(&folders.worktree.join(".git"), Path::new(WORKTREE).join(".git")));
    mounts.push(writable(&folders.tmp, Path::new(TMP)));
    for (number, store) in folders.objects.iter().enumerate() {
        mounts.push(over(store, object_store(number)));
        let list = store.join("info/alternates");
        if folders.alternates.contains(&list) {
            mounts.push(over(&folders.empty, object_store(number).join("info/alternates")));
        }
    }
    let in_folder = |path: &Path| Path::new(FOLDER).join(path.file_name().unwrap_or_default());
    mounts.extend(folders.readable.iter().map(|path| over(path, in_folder(path))));
    mounts.extend(folders.writable.iter().map(|path| writable(path, &in_folder(path))));
    mounts.push(Mount::Sealed(FOLDER.into()));

    mounts.extend(spec.masked.iter().map(|path| over(&folders.empty, path.clone())));
    mounts.extend(folders.users.iter().map(|users| over(users, "/etc/passwd".into())));
    Confinement {
        program: spec.program.clone(),
        mounts,
        network: spec.network,
        entry: Vec::new(),
        aliases: vec![(folders.worktree_name.clone(), WORKTREE.into())],
        overlays: overlays(spec, folders),
    }
}

/// Returns the overlays, if there are any.
fn overlays(spec: &SandboxSpec, folders: &AssignmentFolders) -> Option<Overlays> {
    let programs = spec.overlay.as_ref().filter(|_| !folders.overlays.caches.is_empty())?;
    let OverlayPrograms { unshare, mount } = programs.clone();
    Some(Overlays { unshare, mount, folder: folders.overlays.folder.clone() })
}

/// Returns the mounts of the caches.
fn caches(spec: &SandboxSpec, folders: &AssignmentFolders) -> Vec<Mount> {
    if spec.overlay.is_some() {
        let overlay = |(merged, cache): &(PathBuf, PathBuf)| Mount::Overlay {
            merged: merged.clone(),
            target: cache.clone(),
        };
        return folders.overlays.caches.iter().map(overlay).collect();
    }
    if spec.network || !spec.hosts.is_empty() {
        return Vec::new();
    }
    let read_only = |path: &Path| Mount::ReadOnly { source: path.into(), target: path.into() };
    outermost(spec.caches.iter()).into_iter().map(read_only).collect()
}

/// Returns the paths that lie in no other of these paths, sorted and without duplicates.
fn outermost<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Vec<&'a Path> {
    let mut paths: Vec<&Path> = paths.map(PathBuf::as_path).collect();
    paths.sort();
    let mut kept: Vec<&Path> = Vec::new();
    for path in paths {
        if !kept.last().is_some_and(|last| path.starts_with(last)) {
            kept.push(path);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SandboxSpec {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        SandboxSpec {
            program: "/usr/bin/bwrap".into(),
            home: Some("/home/una".into()),
            hidden: paths(&["/tmp", "/home", "/run", "/srv/repo.harness"]),
            visible: paths(&["/home/una/.cargo/bin"]),
            masked: paths(&["/etc/shadow"]),
            links: Vec::new(),
            caches: paths(&["/home/una/.npm/_cacache"]),
            overlay: None,
            work_tree: Some("/home/una/repo".into()),
            network: true,
            hosts: Vec::new(),
            home_files: Vec::new(),
            keeps_home: false,
        }
    }

    fn folders() -> AssignmentFolders {
        AssignmentFolders {
            common_dir: "/home/una/repo/.git".into(),
            private_git: "/home/una/repo/.git/harness/a/git".into(),
            objects: vec!["/home/una/repo/.git/objects".into()],
            worktree: "/srv/repo.harness/r/p01".into(),
            worktree_name: "/srv/repo/../repo.harness/r/p01".into(),
            tmp: "/home/una/repo/.git/harness/a/tmp".into(),
            readable: vec!["/home/una/repo/.git/harness/a/prompt.md".into()],
            empty: "/home/una/repo/.git/harness/a/empty".into(),
            ..AssignmentFolders::default()
        }
    }

    /// Returns the last mount at a path or above it, which decides what is seen there.
    fn decides(confinement: &Confinement, path: &str) -> Mount {
        let at = |mount: &Mount| match mount {
            Mount::ReadOnly { target, .. }
            | Mount::Writable { target, .. }
            | Mount::Overlay { target, .. }
            | Mount::Empty(target) => Path::new(path).starts_with(target),
            Mount::Link { at, .. } => Path::new(path) == at,
            Mount::System => path.starts_with("/proc") || path.starts_with("/dev"),
            Mount::Sealed(_) => false,
        };
        confinement.mounts.iter().rfind(|mount| at(mount)).unwrap().clone()
    }

    fn source(mount: &Mount) -> Option<&Path> {
        match mount {
            Mount::ReadOnly { source, .. } | Mount::Writable { source, .. } => Some(source),
            Mount::System
            | Mount::Empty(_)
            | Mount::Sealed(_)
            | Mount::Link { .. }
            | Mount::Overlay { .. } => None,
        }
    }

    #[test]
    fn disk_is_read_only_and_private_folders_are_hidden() {
        let sandbox = confine(&spec(), &folders());
        let sees = |path| decides(&sandbox, path);
        assert_eq!(sees("/usr/bin"), Mount::ReadOnly { source: "/".into(), target: "/".into() });
        assert_eq!(sees("/home/una/.ssh/id"), Mount::Empty("/home/una".into()));
        assert_eq!(sees("/home/una/repo/src"), Mount::Empty("/home/una/repo".into()));
        assert_eq!(sees("/srv/repo.harness/r/p02"), Mount::Empty("/srv/repo.harness".into()));
        assert_eq!(sees("/run/user/1/bus"), Mount::Empty("/run".into()));
        assert_eq!(sees("/proc/1/environ"), Mount::System);
        assert_eq!(source(&sees("/etc/shadow")), Some(folders().empty.as_path()));
        assert_eq!(
            source(&sees("/home/una/.cargo/bin/cargo")),
            Some(Path::new("/home/una/.cargo/bin"))
        );
        assert!(sandbox.mounts.contains(&Mount::Sealed("/home/una/repo".into())));
    }

    #[test]
    fn private_git_lies_over_the_shared_one_and_reads_its_objects() {
        let sandbox = confine(&spec(), &folders());
        let git = decides(&sandbox, "/home/una/repo/.git/config");
        assert_eq!(
            git,
            Mount::Writable { source: folders().private_git, target: folders().common_dir }
        );
        let store = decides(&sandbox, "/run/harness/objects/0/pack");
        assert_eq!(source(&store), Some(Path::new("/home/una/repo/.git/objects")));
        assert!(matches!(store, Mount::ReadOnly { .. }));
    }

    #[test]
    fn every_worktree_has_the_same_path_inside() {
        let other = AssignmentFolders { worktree: "/srv/repo.harness/r/p02".into(), ..folders() };
        for folders in [folders(), other] {
            let sandbox = confine(&spec(), &folders);
            assert_eq!(sandbox.inside(&folders.worktree_name), Path::new(WORKTREE));
            assert_eq!(
                sandbox.inside(&folders.worktree.join("src")),
                Path::new(WORKTREE).join("src")
            );
            let link = decides(&sandbox, "/run/harness/worktree/.git");
            assert!(
                matches!(link, Mount::ReadOnly { .. }),
                "the link to the registration is fixed"
            );
            assert_eq!(sandbox.inside(&folders.readable[0]), Path::new("/run/harness/prompt.md"));
        }
    }

    #[test]
    fn files_that_name_further_object_stores_are_empty_inside() {
        let mut folders = folders();
        folders.alternates = vec!["/home/una/repo/.git/objects/info/alternates".into()];
        let sandbox = confine(&spec(), &folders);
        let list = decides(&sandbox, "/run/harness/objects/0/info/alternates");
        assert_eq!(source(&list), Some(folders.empty.as_path()));
    }

    #[test]
    fn home_in_the_work_tree_and_work_tree_as_home_can_be_written() {
        let folders = folders();
        let mut spec = spec();
        spec.home = Some("/home/una/repo/home".into());
        let sandbox = confine(&spec, &folders);
        assert_eq!(
            decides(&sandbox, "/home/una/repo/home/x"),
            Mount::Empty("/home/una/repo/home".into())
        );
        assert_eq!(decides(&sandbox, "/home/una/repo/src"), Mount::Empty("/home/una/repo".into()));
        spec.home = spec.work_tree.clone();
        let sandbox = confine(&spec, &folders);
        assert!(!sandbox.mounts.contains(&Mount::Sealed("/home/una/repo".into())));
        let git = decides(&sandbox, "/home/una/repo/.git/HEAD");
        assert_eq!(source(&git), Some(folders.private_git.as_path()));
    }

    #[test]
    fn caches_are_overlays_or_only_seen_where_nothing_can_be_downloaded() {
        let cache = PathBuf::from("/home/una/.npm/_cacache");
        let (mut spec, mut folders) = (spec(), folders());
        let sees = |spec: &SandboxSpec, folders: &AssignmentFolders| {
            decides(&confine(spec, folders), "/home/una/.npm/_cacache/x")
        };
        assert_eq!(sees(&spec, &folders), Mount::Empty("/home/una".into()));
        spec.network = false;
        assert_eq!(source(&sees(&spec, &folders)), Some(cache.as_path()));
        spec.overlay = Some(OverlayPrograms { unshare: "/u".into(), mount: "/m".into() });
        folders.overlays.caches = vec![("npm/merged".into(), cache.clone())];
        let overlay = Mount::Overlay { merged: "npm/merged".into(), target: cache };
        assert_eq!(sees(&spec, &folders), overlay);
    }

    #[test]
    fn links_are_made_unless_their_folder_is_shown() {
        let mut folders = folders();
        let links = [("/home/una/.cargo/bin/x", "y"), ("/home/una/current", "versions/20")];
        folders.named.links = links.map(|(at, to)| (at.into(), to.into())).into();
        let sandbox = confine(&spec(), &folders);
        let is_link = |mount: &&Mount| matches!(mount, Mount::Link { .. });
        let made: Vec<&Mount> = sandbox.mounts.iter().filter(is_link).collect();
        let at = PathBuf::from("/home/una/current");
        assert_eq!(made, [&Mount::Link { at, to: "versions/20".into() }]);
    }
}
