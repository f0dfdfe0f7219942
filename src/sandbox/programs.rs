//! The programs in hidden folders that commands need, such as those in a home: their folders, the
//! libraries beside them, the links that lead to them, and the interpreters that run them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::process::find_in_path;

/// Names of files and folders that hold keys and logins. Nothing in them is ever shown.
const PRIVATE: [&str; 12] = [
    ".aws",
    ".azure",
    ".docker",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".mozilla",
    ".netrc",
    ".password-store",
    ".ssh",
    "gcloud",
    "keyrings",
];

/// Files that mark the top folder of a package: everything below belongs to it.
const PACKAGE_MARKS: [&str; 2] = ["package.json", "pyvenv.cfg"];

/// Folders with files of the programs in the `bin` beside them.
const LIBRARIES: [&str; 3] = ["lib", "lib64", "libexec"];

/// The largest number of links on a path, as in the kernel.
const MAX_LINKS: usize = 40;

/// The longest chain of interpreters, as in the kernel.
const MAX_INTERPRETERS: usize = 4;

/// The largest `#!` line.
const MAX_HEADER: u64 = 512;

/// The paths in hidden folders that a sandbox shows, and the links to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Folders and files.
    pub paths: BTreeSet<PathBuf>,
    /// Links, with their targets.
    pub links: BTreeMap<PathBuf, PathBuf>,
}

/// The paths that a sandbox may show.
#[derive(Debug, Clone, Default)]
pub(super) struct Visibility<'a> {
    /// Folders that are hidden. Everything else can be read anyway.
    pub hidden: Vec<&'a Path>,
    /// Folders that must not be shown as a whole, such as a home.
    pub closed: Vec<&'a Path>,
    /// Folders of which nothing is shown.
    pub excluded: Vec<&'a Path>,
}

impl Visibility<'_> {
    /// Returns true if a path is hidden and may be shown.
    pub(super) fn may_show(&self, path: &Path) -> bool {
        self.is_hidden(path) && self.may_cover(path)
    }

    /// Returns true if the content of a path may be seen, be it hidden or not.
    pub(super) fn may_cover(&self, path: &Path) -> bool {
        let is_private = |name: Component<'_>| {
            PRIVATE.iter().any(|private| name.as_os_str() == OsStr::new(private))
        };
        !self.hidden.contains(&path)
            && !self.closed.iter().any(|closed| closed.starts_with(path))
            && !self.excluded.iter().any(|excluded| path.starts_with(excluded))
            && !path.components().any(is_private)
    }

    fn is_hidden(&self, path: &Path) -> bool {
        self.hidden.iter().any(|hidden| path.starts_with(hidden))
    }

    /// Shows a folder or file, and the links on the way to it. Returns its path without links.
    fn show_links(&self, path: &Path, shown: &mut Shown) -> PathBuf {
        let (links, real) = resolve(path);
        let hidden = links.into_iter().filter(|(at, _)| self.may_show(at));
        shown.links.extend(hidden);
        real
    }

    /// Shows a folder of programs, and the files that they need.
    pub(super) fn show_programs(&self, folder: &Path, shown: &mut Shown) {
        let real = self.show_links(folder, shown);
        shown.paths.extend(self.folders_of(&real).into_iter().filter(|path| path.exists()));
    }

    /// Shows a program, the files beside it, and its interpreters. `search` is a `PATH`.
    pub(super) fn show_program(&self, program: &Path, search: &OsStr, shown: &mut Shown) {
        let mut program = program.to_path_buf();
        for _ in 0..MAX_INTERPRETERS {
            let real = self.show_links(&program, shown);
            // The content of a candidate must not decide what is shown.
            if self.excluded.iter().any(|excluded| real.starts_with(excluded)) {
                return;
            }
            if self.is_hidden(&real) {
                let folders = real.parent().map_or_else(Vec::new, |at| self.folders_of(at));
                let alone = folders.is_empty() && self.may_show(&real);
                shown.paths.extend(folders.into_iter().filter(|path| path.exists()));
                shown.paths.extend(alone.then(|| real.clone()));
            }
            match interpreter(&real, search) {
                Some(next) => program = next,
                None => return,
            }
        }
    }

    /// Shows a path of a command line: a folder, or the folder of a script.
    pub(super) fn show_argument(&self, path: &Path, search: &OsStr, shown: &mut Shown) {
        if path.is_file() {
            self.show_program(path, search, shown);
        } else if path.exists() {
            let real = self.show_links(path, shown);
            shown.paths.extend(Some(real).filter(|real| self.may_show(real)));
        }
    }

    /// Returns the folders that the programs in a folder need, as far as they may be shown.
    fn folders_of(&self, folder: &Path) -> Vec<PathBuf> {
        if let Some(package) = package(folder).filter(|package| self.may_show(package)) {
            return vec![package.to_path_buf()];
        }
        let mut folders = vec![folder.to_path_buf()];
        if let Some(prefix) = folder.parent().filter(|_| folder.ends_with("bin")) {
            folders.extend(LIBRARIES.map(|name| prefix.join(name)));
        }
        folders.retain(|path| self.may_show(path));
        folders
    }
}

/// Returns the top folder of the package that a folder belongs to, such as a Python environment or
/// the folder `node_modules`.
fn package(folder: &Path) -> Option<&Path> {
    let modules = OsStr::new("node_modules");
    let outermost = folder.ancestors().filter(|path| path.file_name() == Some(modules)).last();
    let marked = |path: &&Path| {
        // The work tree of a repository is no installed package.
        let is_package = PACKAGE_MARKS.iter().any(|mark| path.join(mark).is_file());
        is_package && path.join(".git").symlink_metadata().is_err()
    };
    outermost.or_else(|| folder.ancestors().take(4).find(marked))
}

/// Resolves the links of a path. Returns them in order, and the path without links.
fn resolve(path: &Path) -> (Vec<(PathBuf, PathBuf)>, PathBuf) {
    let names = |path: &Path| -> Vec<OsString> {
        path.components().map(|name| name.as_os_str().to_owned()).collect()
    };
    let mut rest: VecDeque<OsString> = names(path).into();
    let (mut links, mut real) = (Vec::new(), PathBuf::new());
    while let Some(name) = rest.pop_front() {
        if name == "." || name == ".." {
            real = if name == ".." { real.parent().unwrap_or(&real).to_path_buf() } else { real };
            continue;
        }
        let next = real.join(&name);
        match std::fs::read_link(&next) {
            Ok(target) if links.len() < MAX_LINKS => {
                for name in names(&target).into_iter().rev() {
                    rest.push_front(name);
                }
                links.push((next, target));
            }
            Ok(_) | Err(_) => real = next,
        }
    }
    (links, real)
}

/// Returns the interpreter that the first line of a script names.
fn interpreter(script: &Path, search: &OsStr) -> Option<PathBuf> {
    let mut header = Vec::new();
    let file = std::fs::File::open(script).ok().filter(|_| script.is_file())?;
    file.take(MAX_HEADER).read_to_end(&mut header).ok()?;
    let line = header.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let first = Path::new(OsStr::from_bytes(words.next()?));
    if !first.ends_with("env") {
        return Some(first.to_path_buf()).filter(|path| path.is_absolute());
    }
    let name = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?;
    find_in_path(OsStr::from_bytes(name), search, Path::new("/")).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A home with files.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new(files: &[(&str, &str)]) -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let path = home.path(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            home
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(path)
        }

        fn link(&self, at: &str, to: &str) {
            std::fs::create_dir_all(self.path(at).parent().unwrap()).unwrap();
            symlink(to, self.path(at)).unwrap();
        }

        /// Returns the paths and links that a program needs, relative to the home.
        fn needs(&self, program: &str) -> (Vec<String>, Vec<String>) {
            let home = self.path("");
            let home = home.components().as_path();
            let repo = home.join("repo");
            let rules =
                Visibility { hidden: vec![home], closed: vec![home], excluded: vec![&repo] };
            let mut shown = Shown::default();
            rules.show_program(&home.join(program), self.path("bin").as_os_str(), &mut shown);
            let text = |path: &PathBuf| path.strip_prefix(home).unwrap().display().to_string();
            (shown.paths.iter().map(text).collect(), shown.links.keys().map(text).collect())
        }
    }

    #[test]
    fn program_behind_a_link_is_shown_with_its_package() {
        let home = Home::new(&[
            ("src/cli/package.json", "{}"),
            ("src/cli/dist/cli.js", "#!/usr/bin/env node\n"),
            ("bin/node", "ELF"),
        ]);
        home.link("bin/tool", "../src/cli/dist/cli.js");
        let (paths, links) = home.needs("bin/tool");
        assert_eq!(paths, ["bin", "src/cli"]);
        assert_eq!(links, ["bin/tool"]);
    }

    #[test]
    fn interpreter_of_a_python_environment_is_shown_as_a_whole() {
        let home = Home::new(&[
            (".local/share/pipx/venvs/aider/pyvenv.cfg", ""),
            (".pyenv/versions/3/bin/python", "ELF"),
            (".pyenv/versions/3/lib/os.py", ""),
        ]);
        let script = ".local/share/pipx/venvs/aider/bin/aider";
        let python = home.path(".local/share/pipx/venvs/aider/bin/python");
        std::fs::create_dir_all(python.parent().unwrap()).unwrap();
        std::fs::write(home.path(script), format!("#!{}\n", python.display())).unwrap();
        home.link(
            ".local/share/pipx/venvs/aider/bin/python",
            &home.path(".pyenv/versions/3/bin/python").to_string_lossy(),
        );
        home.link(".local/bin/aider", "../share/pipx/venvs/aider/bin/aider");
        let (paths, links) = home.needs(".local/bin/aider");
        let expected =
            [".local/share/pipx/venvs/aider", ".pyenv/versions/3/bin", ".pyenv/versions/3/lib"];
        assert_eq!(paths, expected);
        assert!(links.contains(&".local/bin/aider".to_owned()), "{links:?}");
    }

    #[test]
    fn folder_that_is_a_link_is_a_link_inside() {
        let home = Home::new(&[("versions/20/bin/node", "ELF")]);
        home.link("current", "versions/20");
        let (paths, links) = home.needs("current/bin/node");
        assert_eq!((paths, links), (vec!["versions/20/bin".into()], vec!["current".into()]));
    }

    #[test]
    fn script_of_a_candidate_shows_nothing_and_keys_are_never_shown() {
        let home = Home::new(&[(".ssh/id", "KEY"), ("tool.sh", "echo")]);
        let evil = format!("#!{}\n", home.path(".ssh/id").display());
        std::fs::create_dir(home.path("repo")).unwrap();
        std::fs::write(home.path("repo/check.sh"), &evil).unwrap();
        assert_eq!(home.needs("repo/check.sh"), (Vec::new(), Vec::new()));
        assert_eq!(home.needs(".ssh/id"), (Vec::new(), Vec::new()));
        // Directly in a home, a script is shown without the other files there.
        assert_eq!(home.needs("tool.sh").0, ["tool.sh"]);
    }
}
