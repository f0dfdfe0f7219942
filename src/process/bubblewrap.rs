//! A sandbox around a command: namespaces and mounts, made by bubblewrap (`bwrap`).
//!
//! A sandboxed command has its own process, IPC and mount namespaces, a `/proc` and a `/dev` of its
//! own, and no capabilities. It cannot see a process outside, and the kernel kills all its
//! processes together with bubblewrap.
//!
//! bubblewrap reads its options from a file in memory: the options hold the environment, and
//! everybody on the machine can read a command line. bubblewrap's own environment is readable
//! inside, so it holds only the marker.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Environ, MARK};

/// The user and group inside if this process is root. Inside, nothing runs as root.
pub(crate) const ORDINARY_ID: u32 = 1000;

/// The options of every sandbox, before the mounts.
const NAMESPACES: [&str; 10] = [
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
    "--clearenv",
    "--cap-drop",
    "ALL",
];

/// Mounts overlays, and then starts bubblewrap. The arguments are the program `mount`, the folder
/// of the overlays, and the command line of bubblewrap. One process mounts all overlays: the start
/// of a process costs more than a mount.
const MOUNT_OVERLAYS: &str = r#"
cd "$2" && "$1" -a -T fstab || exit 1
shift 2
cd / && exec "$@"
"#;

/// A mount of a sandbox. Later mounts cover earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mount {
    /// A file or folder of the machine, which can only be read.
    ReadOnly {
        /// The path on the machine.
        source: PathBuf,
        /// The path inside.
        target: PathBuf,
    },
    /// A file or folder of the machine, which can be written.
    Writable {
        /// The path on the machine.
        source: PathBuf,
        /// The path inside.
        target: PathBuf,
    },
    /// The system's devices, processes and message queues: `/dev` and `/proc` of the sandbox.
    System,
    /// An empty folder in memory.
    Empty(PathBuf),
    /// An earlier mount, which can no longer be written.
    Sealed(PathBuf),
    /// A symbolic link.
    Link {
        /// The target, as the link names it.
        to: PathBuf,
        /// The path inside.
        at: PathBuf,
    },
    /// A folder whose changes go to another folder: an overlay in the folder of [`Overlays`].
    Overlay {
        /// The path of the mounted overlay, relative to that folder.
        merged: PathBuf,
        /// The path inside.
        target: PathBuf,
    },
}

/// The overlays of a sandbox. bubblewrap can mount overlays from version 0.11 on, which many
/// systems do not have. So a user namespace around the sandbox mounts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlays {
    /// The program `unshare`.
    pub unshare: PathBuf,
    /// The program `mount`.
    pub mount: PathBuf,
    /// The folder with the file `fstab`, which describes the overlays. Paths in the file are
    /// relative to the folder.
    pub folder: PathBuf,
}

/// The sandbox of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confinement {
    /// The program `bwrap`.
    pub program: PathBuf,
    /// The mounts, in order.
    pub mounts: Vec<Mount>,
    /// True if the sandbox has the machine's network. False for a network without interfaces.
    pub network: bool,
    /// The program inside that prepares the sandbox and becomes the command, with its arguments.
    /// Empty if the command is started at once.
    pub entry: Vec<OsString>,
    /// Other names of folders on the machine, such as one with `..`, and the paths inside.
    pub aliases: Vec<(PathBuf, PathBuf)>,
    /// The overlays. `None` if no mount is one.
    pub overlays: Option<Overlays>,
}

impl Mount {
    fn add_to(&self, options: &mut Options, overlays: &Path) {
        match self {
            Self::ReadOnly { source, target } => options.add(&["--ro-bind"], &[source, target]),
            Self::Writable { source, target } => options.add(&["--bind"], &[source, target]),
            Self::System => options.add(&["--dev", "/dev", "--proc", "/proc"], &[]),
            Self::Empty(target) => options.add(&["--tmpfs"], &[target]),
            Self::Sealed(target) => options.add(&["--remount-ro"], &[target]),
            Self::Link { to, at } => options.add(&["--symlink"], &[to, at]),
            Self::Overlay { merged, target } => {
                options.add(&["--bind"], &[&overlays.join(merged), target]);
            }
        }
    }
}

/// The options of bubblewrap, each with a NUL at its end.
#[derive(Debug, Default)]
struct Options(Vec<u8>);

impl Options {
    fn add(&mut self, words: &[&str], paths: &[&Path]) {
        words.iter().for_each(|word| self.push(word.as_bytes()));
        paths.iter().for_each(|path| self.push(path.as_os_str().as_bytes()));
    }

    fn push(&mut self, option: &[u8]) {
        self.0.extend_from_slice(option);
        self.0.push(0);
    }
}

/// The files in memory that a sandbox inherits: its options, and its report.
#[derive(Debug)]
pub(super) struct SandboxFiles {
    options: File,
    report: File,
}

impl Confinement {
    /// Returns the path inside of a path on the machine.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        PathBuf::from(self.translate(path.as_os_str()))
    }

    /// Replaces the paths of moved folders in a text, such as an argument or a variable.
    pub(crate) fn translate(&self, text: &OsStr) -> OsString {
        let mut moved: Vec<_> = self.moved().collect();
        // The longest path first: a moved folder may lie in another one.
        moved.sort_by_key(|(source, _)| std::cmp::Reverse(source.as_os_str().len()));
        let mut bytes = text.as_bytes().to_vec();
        for (source, target) in moved {
            bytes = replace_path(&bytes, source.as_os_str().as_bytes(), target.as_os_str());
        }
        OsString::from_vec(bytes)
    }

    fn moved(&self) -> impl Iterator<Item = (&Path, &Path)> {
        let aliases = self.aliases.iter().map(|(name, target)| (name.as_path(), target.as_path()));
        let moved = self.mounts.iter().filter_map(|mount| match mount {
            Mount::ReadOnly { source, target } | Mount::Writable { source, target } => {
                (source != target).then_some((source.as_path(), target.as_path()))
            }
            Mount::System
            | Mount::Empty(_)
            | Mount::Sealed(_)
            | Mount::Link { .. }
            | Mount::Overlay { .. } => None,
        });
        moved.chain(aliases)
    }

    /// Returns bubblewrap's options for a command with this environment and working directory.
    /// `user` and `group` are those of this process.
    fn options(&self, env: &Environ, cwd: &Path, (user, group): (u32, u32)) -> Vec<u8> {
        let mut options = Options::default();
        options.add(&NAMESPACES, &[]);
        // The namespace that mounts overlays shows this user as root.
        let ids = match (user, &self.overlays) {
            (0, _) => Some((ORDINARY_ID, ORDINARY_ID)),
            (_, Some(_)) => Some((user, group)),
            (_, None) => None,
        };
        if let Some((user, group)) = ids {
            options.add(&["--uid", &user.to_string(), "--gid", &group.to_string()], &[]);
        }
        if !self.network {
            options.add(&["--unshare-net"], &[]);
        }
        let overlays = self.overlays.as_ref().map_or(Path::new("/"), |overlays| &overlays.folder);
        self.mounts.iter().for_each(|mount| mount.add_to(&mut options, overlays));
        options.add(&["--chdir"], &[&self.inside(cwd)]);
        for (name, value) in env.iter() {
            options.push(b"--setenv");
            options.push(name.as_bytes());
            options.push(self.translate(value).as_bytes());
        }
        options.0
    }

    /// Writes the files that bubblewrap reads and writes. They stay open in every child until the
    /// value is dropped.
    pub(super) fn files(&self, env: &Environ, cwd: &Path) -> io::Result<SandboxFiles> {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let mut options = memory_file("sandbox-options")?;
        options.write_all(&self.options(env, cwd, (user, group)))?;
        options.rewind()?;
        Ok(SandboxFiles { options, report: memory_file("sandbox-report")? })
    }

    /// Returns the command line that starts a program in the sandbox.
    pub(super) fn command_line<'a>(
        &self,
        files: &SandboxFiles,
        program: &Path,
        rest: impl Iterator<Item = &'a OsString>,
    ) -> Vec<OsString> {
        let fd = |file: &File| OsString::from(file.as_raw_fd().to_string());
        let mut line = self.mount_overlays();
        line.extend([
            self.program.clone().into(),
            "--json-status-fd".into(),
            fd(&files.report),
            "--args".into(),
            fd(&files.options),
            "--".into(),
        ]);
        line.extend(self.entry.iter().cloned());
        line.push(self.inside(program).into());
        line.extend(rest.map(|argument| self.translate(argument)));
        line
    }

    /// Returns the beginning of the command line, which mounts the overlays in a namespace around
    /// the sandbox. Empty without overlays.
    fn mount_overlays(&self) -> Vec<OsString> {
        let Some(overlays) = &self.overlays else { return Vec::new() };
        let mut line: Vec<OsString> = vec![overlays.unshare.clone().into()];
        let namespaces = ["--user", "--map-root-user", "--mount", "--propagation", "private"];
        line.extend(namespaces.map(OsString::from));
        line.extend(["--", "/bin/sh", "-c", MOUNT_OVERLAYS, "sh"].map(OsString::from));
        line.extend([overlays.mount.clone().into(), overlays.folder.clone().into()]);
        line
    }

    /// Returns the environment of bubblewrap itself.
    pub(super) fn own_environment(marker: &str) -> Environ {
        Environ::empty().with(MARK, marker)
    }
}

impl SandboxFiles {
    /// Returns the number of the first process inside. `None` if there was none.
    pub(super) fn first_process(&self) -> Option<i32> {
        let text = self.report_text().ok()?;
        let (_, rest) = text.split_once("\"child-pid\":")?;
        let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }

    fn report_text(&self) -> io::Result<String> {
        let mut text = String::new();
        let mut report = &self.report;
        report.rewind()?;
        report.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Returns true if the sandbox was set up, so that the exit code is that of the command.
    pub(super) fn has_run(&self) -> io::Result<bool> {
        Ok(self.report_text()?.contains("\"exit-code\""))
    }
}

/// Creates a file in memory that every child process inherits.
#[cfg(target_os = "linux")]
fn memory_file(name: &str) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::empty())?.into())
}

/// Fails: bubblewrap exists only for Linux.
#[cfg(not(target_os = "linux"))]
fn memory_file(_name: &str) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Replaces a path in a text where the path ends with a whole name.
fn replace_path(text: &[u8], path: &[u8], by: &OsStr) -> Vec<u8> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | 0x80..);
    let goes_on = |rest: &[u8]| match rest {
        [b'.', next, ..] => is_name(next),
        [next, ..] => is_name(next),
        [] => false,
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(path) {
            Some(after) if !goes_on(after) => {
                out.extend_from_slice(by.as_bytes());
                rest = after;
            }
            Some(_) | None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confinement() -> Confinement {
        let path = PathBuf::from;
        Confinement {
            program: path("/usr/bin/bwrap"),
            mounts: vec![
                Mount::ReadOnly { source: path("/"), target: path("/") },
                Mount::System,
                Mount::Empty(path("/run")),
                Mount::Writable { source: path("/x/p01"), target: path("/run/w") },
                Mount::Sealed(path("/run")),
            ],
            network: false,
            entry: Vec::new(),
            aliases: vec![(path("/x/../x/p01"), path("/run/w"))],
            overlays: None,
        }
    }

    #[test]
    fn moved_paths_are_replaced_only_where_they_end() {
        let text = |text: &str| confinement().translate(OsStr::new(text)).into_string().unwrap();
        assert_eq!(text("/x/p01"), "/run/w");
        assert_eq!(text("/x/../x/p01/src"), "/run/w/src");
        assert_eq!(text("--in=/x/p01/src:/x/p01"), "--in=/run/w/src:/run/w");
        assert_eq!(text("look into /x/p01."), "look into /run/w.");
        assert_eq!(text("/x/p010 /x/p01.gone"), "/x/p010 /x/p01.gone");
    }

    #[test]
    fn options_hold_mounts_in_order_and_the_environment() {
        let env = Environ::empty().with("HARNESS_WORKTREE", "/x/p01");
        let options = confinement().options(&env, Path::new("/x/p01/src"), (0, 0));
        let options = String::from_utf8(options).unwrap().replace('\0', " ");
        let expected = "--uid 1000 --gid 1000 --unshare-net --ro-bind / / --dev /dev --proc /proc --tmpfs /run \
                        --bind /x/p01 /run/w --remount-ro /run --chdir /run/w/src \
                        --setenv HARNESS_WORKTREE /run/w ";
        assert!(options.ends_with(expected), "{options}");
        let ordinary = confinement().options(&env, Path::new("/"), (7, 8));
        assert!(!String::from_utf8(ordinary).unwrap().contains("--uid"));
    }

    #[test]
    fn overlays_are_mounted_around_the_sandbox_and_bound_inside() {
        let path = PathBuf::from;
        let mut sandbox = confinement();
        assert!(sandbox.mount_overlays().is_empty());
        let (merged, target) = (path("npm/merged"), path("/h/.npm"));
        sandbox.mounts.push(Mount::Overlay { merged, target });
        let (unshare, mount, folder) = (path("/u"), path("/m"), path("/a/o"));
        sandbox.overlays = Some(Overlays { unshare, mount, folder });
        let line = sandbox.mount_overlays();
        assert_eq!(line.first().unwrap(), "/u");
        assert_eq!(line[line.len() - 2..], ["/m", "/a/o"]);
        // Around the sandbox, the user is shown as root. Inside it must be the user again.
        let options = sandbox.options(&Environ::empty(), Path::new("/"), (7, 8));
        let options = String::from_utf8(options).unwrap().replace('\0', " ");
        assert!(options.contains("--uid 7 --gid 8"), "{options}");
        assert!(options.contains("--bind /a/o/npm/merged /h/.npm"), "{options}");
    }
}
