//! Test repositories: each has a job, a HOME and a folder of its own, and leaves nothing behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::{CommandOutput, PATIENCE, RunningCommand, is_alive, send};
use crate::job::TestJob;

/// A repository with a job, in a folder and with a HOME of its own.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    /// The user's repository.
    pub(crate) repo: PathBuf,
    /// The job as it was written.
    pub(crate) job: TestJob,
    /// The commit that a run starts from.
    pub(crate) base: String,
    before: std::cell::RefCell<BTreeMap<String, Vec<u8>>>,
    count: std::cell::Cell<u32>,
}

impl Sandbox {
    /// Creates a repository with one commit: the files of the tasks, a README, and the job.
    pub(crate) fn new(job: TestJob) -> Self {
        Self::of_format(job, "sha1")
    }

    /// Creates a repository with the object format `objects`.
    pub(crate) fn of_format(job: TestJob, objects: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("harness-it-").tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["repo", "home", "tmp", "scripts", "output"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let mut sandbox = Self {
            folder,
            repo: root.join("repo"),
            job,
            base: String::new(),
            before: std::cell::RefCell::default(),
            count: std::cell::Cell::default(),
        };
        sandbox.script("default", "edit \"$HARNESS_TASK\" \"done in attempt $HARNESS_ATTEMPT\"");
        let format = format!("--object-format={objects}");
        sandbox.git(&["init", "--quiet", "--initial-branch=main", &format]);
        for task in sandbox.job.tasks.clone() {
            sandbox.write(&task, "to be done\n");
        }
        sandbox.write("README", "a file of no task\n");
        sandbox.write("shared", "one\ntwo\nthree\n");
        let scripts = sandbox.root().join("scripts");
        sandbox.write("harness.toml", &sandbox.job.text(&scripts.to_string_lossy()));
        sandbox.git(&["add", "--all"]);
        sandbox.git(&["commit", "--quiet", "--message", "base"]);
        // A run must leave these alone: uncommitted edits, untracked files, other refs.
        sandbox.write("README", "a file of no task\nan edit that is not committed\n");
        sandbox.write("untracked", "mine\n");
        sandbox.git(&["branch", "feature"]);
        sandbox.git(&["tag", "v1"]);
        sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
        sandbox.remember();
        sandbox
    }

    /// The folder that holds the repository, HOME and scripts.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// The path of a file in HOME by which scripts and tests synchronise.
    pub(crate) fn sign(&self, name: &str) -> PathBuf {
        self.root().join("home").join(name)
    }

    /// Creates the file that [`Self::sign`] names.
    pub(crate) fn give_sign(&self, name: &str) {
        std::fs::write(self.sign(name), "").unwrap();
    }

    /// Waits until a script creates the file that [`Self::sign`] names.
    #[track_caller]
    pub(crate) fn await_sign(&self, name: &str) {
        let path = self.sign(name);
        self.await_that(&format!("the file {name}"), || path.exists());
    }

    /// Waits until `condition` returns true.
    #[track_caller]
    pub(crate) fn await_that(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let since = Instant::now();
        while !condition() {
            assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes a file of the user's worktree.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.repo.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes the script of a task (`alpha`), an attempt (`alpha.1`) or all tasks (`default`).
    /// Scripts of evaluators are below `judges/`.
    pub(crate) fn script(&self, name: &str, body: &str) {
        let text = format!(". \"$HARNESS_FIXTURES/agent.sh\"\n{body}\n");
        let path = self.root().join("scripts").join(format!("{name}.sh"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn environment(&self) -> BTreeMap<OsString, OsString> {
        let root = self.root();
        let path = std::env::var_os("PATH").unwrap();
        [
            ("PATH", path),
            ("HOME", root.join("home").into()),
            ("TMPDIR", root.join("tmp").into()),
            ("LANG", "C.UTF-8".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
    }

    /// Starts a program in a folder. `more` are additional environment variables.
    fn begin(
        &self,
        program: &Path,
        folder: &Path,
        args: &[&str],
        more: &[(&str, &str)],
    ) -> RunningCommand {
        let n = self.count.get() + 1;
        self.count.set(n);
        let file = |end: &str| self.root().join("output").join(format!("{n}.{end}"));
        let (stdout, stderr) = (file("out"), file("err"));
        let child = Command::new(program)
            .args(args)
            .current_dir(folder)
            .env_clear()
            .envs(self.environment())
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        RunningCommand::new(child, stdout, stderr)
    }

    /// Runs the program under test in the repository.
    pub(crate) fn run(&self, args: &[&str]) -> CommandOutput {
        self.run_in(&self.repo, args, &[])
    }

    /// Runs the program under test in `folder` with additional environment variables.
    pub(crate) fn run_in(
        &self,
        folder: &Path,
        args: &[&str],
        more: &[(&str, &str)],
    ) -> CommandOutput {
        self.begin(program(), folder, args, more).wait()
    }

    /// Runs the program under test beside the test.
    pub(crate) fn spawn(&self, args: &[&str]) -> RunningCommand {
        self.spawn_with(args, &[])
    }

    /// Runs the program under test beside the test, with additional environment variables.
    pub(crate) fn spawn_with(&self, args: &[&str], more: &[(&str, &str)]) -> RunningCommand {
        self.begin(program(), &self.repo, args, more)
    }

    /// Runs git with an identity in `folder`. git may fail.
    pub(crate) fn try_git(&self, folder: &Path, args: &[&str]) -> CommandOutput {
        let mut more = Vec::new();
        for role in ["AUTHOR", "COMMITTER"] {
            more.push((format!("GIT_{role}_NAME"), "A User"));
            more.push((format!("GIT_{role}_EMAIL"), "user@example.com"));
        }
        let more: Vec<_> = more.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        self.begin(Path::new("git"), folder, args, &more).wait()
    }

    /// Runs git in the repository and returns its trimmed output. git must succeed.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = self.try_git(&self.repo, args);
        assert_eq!(output.code, 0, "git {}\n{output}", args.join(" "));
        output.stdout.trim_end().to_owned()
    }

    /// Returns `status --json` of the only run.
    #[track_caller]
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = self.run(&["status", "--json"]).exits(0);
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Returns one task of `status --json`.
    #[track_caller]
    pub(crate) fn task(&self, id: &str) -> serde_json::Value {
        let status = self.status();
        let tasks = status["tasks"].as_array().unwrap();
        tasks.iter().find(|t| t["id"] == id).unwrap_or_else(|| panic!("no task {id}")).clone()
    }

    /// Returns the content of a file on the target.
    #[track_caller]
    pub(crate) fn landed(&self, path: &str) -> String {
        self.git(&["show", &format!("harness/job-1/result:{path}")])
    }

    /// Returns id and command line of each process that names this sandbox in its environment,
    /// working directory or command line.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        processes_of(&self.root())
    }

    /// Returns the process ids of the keepers.
    pub(crate) fn keepers(&self) -> Vec<i32> {
        let all = self.processes().into_iter();
        all.filter(|(_, line)| line.contains(" keeper ")).map(|(pid, _)| pid).collect()
    }

    /// Records the state of the user's files and refs for [`Self::harmed`].
    pub(crate) fn remember(&self) {
        *self.before.borrow_mut() = self.belongings();
    }

    /// Returns the changes of the user's files and refs since [`Self::remember`].
    pub(crate) fn harmed(&self) -> Vec<String> {
        let (before, now) = (self.before.borrow(), self.belongings());
        let mut harmed = Vec::new();
        for (name, was) in before.iter() {
            match now.get(name) {
                None => harmed.push(format!("{name} is gone")),
                Some(is) if is != was => harmed.push(format!("{name} has changed")),
                Some(_) => {}
            }
        }
        harmed
            .extend(now.keys().filter(|n| !before.contains_key(*n)).map(|n| format!("{n} is new")));
        harmed
    }

    /// Returns all that is the user's: the worktree, HEAD, index, config, hooks, logs, and the refs
    /// that the program does not own.
    fn belongings(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(&self.repo, &self.repo, &mut found);
        let not_plain =
            [".git/objects/", ".git/harness/", ".git/worktrees/", ".git/refs/", ".git/packed-refs"];
        let ours =
            [".git/logs/refs/harness/", ".git/logs/refs/heads/harness/", ".git/logs/refs/notes/"];
        found.retain(|name, _| !not_plain.iter().chain(&ours).any(|p| name.starts_with(p)));
        for line in self.git(&["for-each-ref", "--format=%(refname) %(objectname)"]).lines() {
            let (name, id) = line.split_once(' ').unwrap();
            let ours = ["refs/harness/", "refs/notes/harness", "refs/heads/harness/"];
            if !ours.iter().any(|p| name.starts_with(p)) {
                found.insert(name.to_owned(), id.as_bytes().to_vec());
            }
        }
        found
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A failed test must not leave agents behind.
        for (pid, _) in self.processes() {
            send(pid, Signal::KILL);
        }
        if std::thread::panicking() && std::env::var_os("KEEP_SANDBOX").is_some() {
            self.folder.disable_cleanup(true);
        }
    }
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if name == ".git/objects" || name == ".git/harness" {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            collect(root, &path, found);
        } else {
            found.insert(name, std::fs::read(&path).unwrap_or_default());
        }
    }
}

fn processes_of(root: &Path) -> Vec<(i32, String)> {
    let root = root.to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let text = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let line = text("cmdline");
        let folder = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let ours = line.contains(&root)
            || text("environ").contains(&root)
            || folder.to_string_lossy().starts_with(&root);
        if ours && is_alive(pid) {
            found.push((pid, line));
        }
    }
    found
}

/// Returns the path of the program under test. A hard link protects a long test from a build
/// that replaces the program.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_git-harness"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(folder).unwrap();
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("git-harness.").and_then(|pid| pid.parse().ok());
            if owner.is_some_and(|pid: i32| !is_alive(pid)) {
                std::fs::remove_file(entry.path()).ok();
            }
        }
        let link = folder.join(format!("git-harness.{}", std::process::id()));
        std::fs::remove_file(&link).ok();
        if std::fs::hard_link(built, &link).is_err() {
            std::fs::copy(built, &link).unwrap();
        }
        link
    })
}
