//! The `git` executable, shielded from the repository and the user's settings.
//!
//! Many files and settings that git reads can make git run a program: hooks, filters, a file-system
//! monitor, an editor, a credential helper. Agents work in the repository, so git must not read
//! such a file or setting if an agent could have written it. Therefore git never discovers its
//! repository. Its environment is built from nothing, with an empty home and an empty
//! configuration. Every setting that runs a program is switched off, except for filters and merge
//! drivers, which cannot be switched off. Only plumbing that does not use them is called. The one
//! exception are merges, whose result must be that of the user's git (`merge_tree`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::merge_tree::PASSED;
use super::{Environ, write_atomic};

/// The oldest supported git. Version 2.38 has `merge-tree --write-tree`.
const OLDEST: GitVersion = GitVersion { major: 2, minor: 38, patch: 0 };

/// Settings that override the configuration of the repository.
const SETTINGS: [&str; 18] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.sshCommand=/bin/false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.quotePath=true",
    // An argument that is an object id is never the name of a ref, so git need not look for one.
    "core.warnAmbiguousRefs=false",
    "core.logAllRefUpdates=true",
    "core.fsync=all",
    "credential.helper=",
    "protocol.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "commit.gpgSign=false",
    "rerere.enabled=false",
];

/// The environment variables of every call, except those that hold a path.
const VARIABLES: [(&str, &str); 14] = [
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "/bin/false"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_ADVICE", "0"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "/bin/false"),
    ("GIT_MERGE_AUTOEDIT", "no"),
];

/// Variables that describe a repository or a call of git, and not the user's settings.
pub(super) const REPOSITORY_VARIABLES: [&str; 13] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_IMPLICIT_WORK_TREE",
];

/// The interval at which a call on another repository looks for an interruption.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(10);

/// The name and address for the reflog of the target branch. Commits name their own authors.
const REFLOG_IDENTITY: (&str, &str) = ("git-harness", "git-harness@localhost");

/// The version of an installed git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitVersion {
    /// As in **2**.47.3.
    pub major: u32,
    /// As in 2.**47**.3.
    pub minor: u32,
    /// As in 2.47.**3**.
    pub patch: u32,
}

impl fmt::Display for GitVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The result of a call of git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitOutput {
    /// The exit code; `None` if a signal ended git.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: Vec<u8>,
    /// The standard error, as text.
    pub stderr: String,
}

/// The `git` executable, bound to one repository.
#[derive(Debug, Clone)]
pub struct Git {
    exe: PathBuf,
    version: GitVersion,
    common_dir: PathBuf,
    private: PathBuf,
    env: Environ,
    /// The variables by which git finds the user's configuration files and drivers.
    user_files: Environ,
}

impl Git {
    /// Finds `git` in the PATH of `ambient`, checks its version, and binds it to the repository
    /// whose common directory (its `.git`) is given. `private` is a directory for an empty HOME and
    /// an empty configuration, and is created if missing.
    pub fn find(
        common_dir: &Path,
        private: &Path,
        ambient: &BTreeMap<OsString, OsString>,
    ) -> Result<Self> {
        let (exe, path) = locate(ambient)?;
        // Before anything is written.
        let version = ask_version(&exe, path)?;
        if version < OLDEST {
            bail!("git {OLDEST} or newer is needed; `{}` is version {version}", exe.display());
        }
        let git = Self::find_unchecked(common_dir, private, ambient)?;
        Ok(Self { version, ..git })
    }

    /// Finds git like [`Git::find`] without checking the version. For a keeper, whose supervisor
    /// has checked the version.
    pub fn find_unchecked(
        common_dir: &Path,
        private: &Path,
        ambient: &BTreeMap<OsString, OsString>,
    ) -> Result<Self> {
        let (exe, path) = locate(ambient)?;
        let common_dir = std::path::absolute(common_dir)
            .with_context(|| format!("not a directory: {}", common_dir.display()))?;
        let private = std::path::absolute(private)
            .with_context(|| format!("not a directory: {}", private.display()))?;
        let env = isolated_environment(&private, path)
            .with_context(|| format!("cannot prepare a home for git: {}", private.display()))?
            .with("GIT_DIR", &common_dir);
        let mut user_files = Environ::empty();
        for name in PASSED {
            if let Some(value) = ambient.get(OsStr::new(name)) {
                user_files.set(name, value);
            }
        }
        Ok(Self { exe, version: OLDEST, common_dir, private, env, user_files })
    }

    /// Returns the version of git.
    pub fn version(&self) -> GitVersion {
        self.version
    }

    /// Returns the common directory of the repository.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// Returns a copy with one more environment variable, such as `GIT_INDEX_FILE`.
    pub fn with(&self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let mut git = self.clone();
        git.env.set(name.as_ref(), value.as_ref());
        git
    }

    /// Runs git once with `args` and the input `stdin`, and waits. A non-zero exit code is not an
    /// error here.
    pub fn output(&self, args: &[&str], stdin: &[u8]) -> Result<GitOutput> {
        let run = self
            .expression(&[], args)
            .stdin_bytes(stdin)
            .stdout_capture()
            .stderr_capture()
            .run()
            .with_context(|| format!("cannot start git: {}", self.exe.display()))?;
        Ok(GitOutput {
            code: run.status.code(),
            stdout: run.stdout,
            stderr: String::from_utf8_lossy(&run.stderr).trim_end().to_owned(),
        })
    }

    /// Runs git with the user's configuration, filters, keys and helpers: for the user's own work
    /// trees, and for other repositories. Git never prompts. A non-zero exit code is not an error
    /// here.
    pub fn as_user(
        &self,
        args: &[&str],
        environment: &BTreeMap<OsString, OsString>,
    ) -> Result<GitOutput> {
        let is_git_variable = |name: &OsString| name.as_bytes().starts_with(b"GIT_");
        let call = self.user_call(args, environment, &|name| !is_git_variable(name));
        let call = call.stdin_null().stdout_capture().stderr_capture();
        let run =
            call.run().with_context(|| format!("cannot start git: {}", self.exe.display()))?;
        Ok(GitOutput {
            code: run.status.code(),
            stdout: run.stdout,
            stderr: String::from_utf8_lossy(&run.stderr).trim_end().to_owned(),
        })
    }

    /// Runs git on another repository, as the user's git in this environment: also with variables
    /// such as `GIT_SSH_COMMAND` and `GIT_CONFIG_COUNT`. Git never prompts on a terminal. When
    /// `interrupted` returns true, git is ended.
    pub fn on_remote(
        &self,
        args: &[&str],
        environment: &BTreeMap<OsString, OsString>,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<GitOutput> {
        let passes = |name: &OsString| !REPOSITORY_VARIABLES.iter().any(|local| name == local);
        let started = || format!("cannot start git: {}", self.exe.display());
        let call = self.user_call(args, environment, &passes);
        let call = call.stdin_null().stdout_capture().stderr_capture();
        let handle = call.start().with_context(started)?;
        loop {
            if let Some(run) = handle.try_wait().with_context(started)? {
                return Ok(GitOutput {
                    code: run.status.code(),
                    stdout: run.stdout.clone(),
                    stderr: String::from_utf8_lossy(&run.stderr).trim_end().to_owned(),
                });
            }
            if interrupted() {
                // Git leads a process group, with its hooks and its transport.
                for pid in handle.pids() {
                    let group = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
                    let signal = rustix::process::Signal::TERM;
                    group.map(|group| rustix::process::kill_process_group(group, signal).ok());
                }
                let stderr = "interrupted".to_owned();
                return Ok(GitOutput { code: None, stdout: Vec::new(), stderr });
            }
            std::thread::sleep(INTERRUPT_INTERVAL);
        }
    }

    /// Builds a call as the user's git, with the variables that pass.
    fn user_call(
        &self,
        args: &[&str],
        environment: &BTreeMap<OsString, OsString>,
        passes: &dyn Fn(&OsString) -> bool,
    ) -> duct::Expression {
        let kept = environment.iter().filter(|(name, _)| passes(name));
        let mut env: BTreeMap<OsString, OsString> =
            kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        for name in ["GIT_DIR", "GIT_WORK_TREE"] {
            env.extend(self.env.value(name).map(|value| (name.into(), value.to_owned())));
        }
        env.insert("GIT_TERMINAL_PROMPT".into(), "0".into());
        let dir = self.env.value("GIT_WORK_TREE").map_or(self.common_dir.as_path(), Path::new);
        let call = duct::cmd(&self.exe, args).dir(dir).full_env(env);
        isolated(call)
    }

    /// Builds a call as the user's git, with all variables but those of a repository.
    pub(super) fn plain_user_call(
        &self,
        args: &[&str],
        environment: &BTreeMap<OsString, OsString>,
    ) -> duct::Expression {
        let passes = |name: &OsString| !REPOSITORY_VARIABLES.iter().any(|local| name == local);
        self.user_call(args, environment, &passes)
    }

    /// Builds the `duct` expression of a call, with additional settings.
    pub(super) fn expression(&self, settings: &[&str], args: &[&str]) -> duct::Expression {
        let mut argv = vec!["--no-pager"];
        for setting in SETTINGS.iter().chain(settings) {
            argv.extend(["-c", setting]);
        }
        argv.extend(args);
        // With GIT_DIR set and GIT_WORK_TREE not set, git takes its working directory for the work
        // tree.
        let dir = self.env.value("GIT_WORK_TREE").map_or(self.private.as_path(), Path::new);
        isolated(duct::cmd(&self.exe, argv).dir(dir).full_env(self.env.pairs()))
    }

    /// Returns the variables by which git finds the user's configuration files and drivers.
    pub(super) fn user_files(&self) -> &Environ {
        &self.user_files
    }

    /// Returns the path of the executable.
    pub(super) fn exe(&self) -> &Path {
        &self.exe
    }

    /// Returns the private directory.
    pub(super) fn private(&self) -> &Path {
        &self.private
    }
}

/// Returns the first `git` in the PATH of an environment, and that PATH.
pub(super) fn locate(ambient: &BTreeMap<OsString, OsString>) -> Result<(PathBuf, &OsStr)> {
    let path = ambient.get(OsStr::new("PATH")).map_or(OsStr::new(""), OsString::as_os_str);
    let mut folders = std::env::split_paths(path).filter(|dir| dir.is_absolute());
    match folders.find_map(|dir| Some(dir.join("git")).filter(|exe| exe.is_file())) {
        Some(exe) => Ok((exe, path)),
        None => {
            bail!("there is no `git` in PATH; install git {OLDEST} or newer: {}", path.display())
        }
    }
}

/// Puts git into its own process group. Otherwise a Ctrl-C, which this program handles, would also
/// kill git in the middle of a transaction.
pub(super) fn isolated(expression: duct::Expression) -> duct::Expression {
    expression.unchecked().before_spawn(|spawning| {
        spawning.process_group(0);
        Ok(())
    })
}

/// Builds the environment of every call, and creates the empty home and configuration that the
/// environment names.
fn isolated_environment(private: &Path, path: &OsStr) -> std::io::Result<Environ> {
    let home = private.join("empty-home");
    std::fs::create_dir_all(&home)?;
    // An empty file and not `/dev/null`: `git config --global` as root would replace the device
    // file.
    let config = private.join("empty-config");
    if !config.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
        write_atomic(&config, b"")?;
    }
    let mut env = Environ::empty();
    for (name, value) in VARIABLES {
        env.set(name, value);
    }
    for role in ["AUTHOR", "COMMITTER"] {
        env.set(format!("GIT_{role}_NAME"), REFLOG_IDENTITY.0);
        env.set(format!("GIT_{role}_EMAIL"), REFLOG_IDENTITY.1);
    }
    Ok(env.with("PATH", path).with("HOME", home).with("GIT_CONFIG_GLOBAL", config))
}

fn ask_version(exe: &Path, path: &OsStr) -> Result<GitVersion> {
    let env = Environ::empty().with("PATH", path).with("LC_ALL", "C");
    let run = isolated(duct::cmd(exe, ["--version"]).full_env(env.pairs()))
        .stdin_null()
        .stdout_capture()
        .stderr_null()
        .run()
        .with_context(|| format!("cannot start git: {}", exe.display()))?;
    let text = OsStr::from_bytes(run.stdout.trim_ascii_end());
    match GitVersion::parse(&text.to_string_lossy()) {
        Some(version) => Ok(version),
        None => bail!("`{} --version` does not name a version: {}", exe.display(), text.display()),
    }
}

impl GitVersion {
    /// Parses the output of `git --version`, which may end in a vendor's suffix.
    fn parse(text: &str) -> Option<Self> {
        let word = text.strip_prefix("git version ")?.split_ascii_whitespace().next()?;
        let mut parts = word.split(['.', '-']);
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
            patch: parts.next().and_then(|patch| patch.parse().ok()).unwrap_or(0),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Creates a repository without commits, with git bound to it.
    pub(in super::super) fn repository() -> (tempfile::TempDir, Git) {
        let dir = tempfile::tempdir().unwrap();
        let path = OsString::from("/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin");
        let ambient = BTreeMap::from([(OsString::from("PATH"), path)]);
        let common = dir.path().join("repo");
        let git = Git::find(&common, &dir.path().join("private"), &ambient).unwrap();
        let made = git.output(&["init", "--quiet", "--bare"], b"").unwrap();
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        (dir, git)
    }

    #[test]
    fn git_version_is_parsed_with_vendor_suffixes() {
        let read = |text: &str| GitVersion::parse(text).map(|version| version.to_string());
        assert_eq!(read("git version 2.47.3").as_deref(), Some("2.47.3"));
        assert_eq!(read("git version 2.39.5 (Apple Git-154)").as_deref(), Some("2.39.5"));
        assert_eq!(read("git version 2.52.0.windows.1").as_deref(), Some("2.52.0"));
        assert_eq!(read("git version 2.50-rc1").as_deref(), Some("2.50.0"));
        assert_eq!(read("hub version 2"), None);
        assert!(GitVersion::parse("git version 2.9.5").unwrap() < OLDEST);
        assert!(GitVersion::parse("git version 2.39.5").unwrap() > OLDEST);
    }

    #[test]
    fn missing_git_and_old_git_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let ambient = BTreeMap::from([(OsString::from("PATH"), bin.clone().into_os_string())]);
        let find = || Git::find(dir.path(), &dir.path().join("private"), &ambient).unwrap_err();
        assert!(find().to_string().contains("there is no `git` in PATH"));
        let made = duct::cmd!(
            "/bin/sh",
            "-c",
            "printf '#!/bin/sh\necho git version 2.20.1\n' > git; chmod +x git"
        );
        made.dir(&bin).run().unwrap();
        assert!(find().to_string().contains("is version 2.20.1"));
        assert!(!dir.path().join("private").exists(), "nothing is written before");
    }

    #[test]
    fn git_runs_no_program_that_the_repository_configures() {
        let (dir, git) = repository();
        let witness = dir.path().join("ran");
        let command = format!("touch {}; false", witness.display());
        for key in ["core.fsmonitor", "core.sshCommand", "core.editor", "core.pager"] {
            git.output(&["config", key, &command], b"").unwrap();
        }
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        git.output(&["config", "core.bare", "false"], b"").unwrap();
        let inside = git.with("GIT_WORK_TREE", &work);
        let status = inside.output(&["status", "--porcelain"], b"").unwrap();
        assert_eq!((status.code, status.stderr.as_str()), (Some(0), ""));
        let blob = inside.output(&["hash-object", "-w", "--stdin"], b"text").unwrap();
        assert_eq!(blob.stdout.trim_ascii_end().len(), 40);
        assert!(!witness.exists());
    }
}
