//! A repository and everything around it for one test: nothing from outside gets in, nothing stays behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::job::Job;

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command said and how it ended, as one text.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// The exit code; 128 and the signal's number when one ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- stdout\n{}--- stderr\n{}--- exit {}\n", self.out, self.err, self.code)
    }
}

impl Said {
    /// It ended with this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "another exit code was expected\n{self}");
        self
    }

    /// It said this, on either stream.
    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Self {
        let there = self.out.contains(what) || self.err.contains(what);
        assert!(there, "it should have said: {what}\n{self}");
        self
    }
}

/// A command that runs beside the test.
pub(crate) struct Background {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Background {
    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// What it has said so far on standard error.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// What it has printed so far on standard output.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    #[must_use]
    pub(crate) fn wait(mut self) -> Said {
        use std::os::unix::process::ExitStatusExt as _;
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if since.elapsed() > PATIENCE {
                self.child.kill().ok();
                self.child.wait().ok();
                panic!("it did not end in time\n{}", self.said());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read =
            |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Said { code, out: read(&self.out), err: read(&self.err) }
    }
}

/// A repository with a job, in a folder of its own with a HOME of its own.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    /// The user's repository.
    pub(crate) repo: PathBuf,
    /// The job as it was written.
    pub(crate) job: Job,
    /// The commit on which everything begins.
    pub(crate) base: String,
    before: std::cell::RefCell<BTreeMap<String, Vec<u8>>>,
    count: std::cell::Cell<u32>,
}

impl Sandbox {
    /// A repository with one commit: the tasks' files, a README, a folder of tests, and the job.
    pub(crate) fn new(job: Job) -> Self {
        Self::of_format(job, "sha1")
    }

    /// The same with ids of objects in this format.
    pub(crate) fn of_format(job: Job, objects: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("harness-it-").tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["repo", "home", "tmp", "scripts", "said"] {
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
        sandbox.write("README", "nobody's business\n");
        sandbox.write("shared", "one\ntwo\nthree\n");
        let scripts = sandbox.root().join("scripts");
        sandbox.write("harness.toml", &sandbox.job.text(&scripts.to_string_lossy()));
        sandbox.git(&["add", "--all"]);
        sandbox.git(&["commit", "--quiet", "--message", "base"]);
        // Things of the user's that a run must leave alone: a stash of edits, files git does not know, other refs.
        sandbox.write("README", "nobody's business\nan edit that is not committed\n");
        sandbox.write("untracked", "mine\n");
        sandbox.git(&["branch", "feature"]);
        sandbox.git(&["tag", "v1"]);
        sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
        sandbox.remember();
        sandbox
    }

    /// The folder around everything.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// A file in HOME, by which scripts and tests tell each other things.
    pub(crate) fn sign(&self, name: &str) -> PathBuf {
        self.root().join("home").join(name)
    }

    /// Makes such a file.
    pub(crate) fn give_sign(&self, name: &str) {
        std::fs::write(self.sign(name), "").unwrap();
    }

    /// Waits for such a file.
    #[track_caller]
    pub(crate) fn await_sign(&self, name: &str) {
        let path = self.sign(name);
        self.await_that(&format!("the file {name}"), || path.exists());
    }

    /// Waits until something is so.
    #[track_caller]
    pub(crate) fn await_that(&self, what: &str, mut so: impl FnMut() -> bool) {
        let since = Instant::now();
        while !so() {
            assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes a file of the user's work tree.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.repo.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes the script of a task (`alpha`), an attempt (`alpha.1`) or all (`default`); those of evaluators are in
    /// `judges/`.
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

    /// Starts a program in a folder.
    fn begin(
        &self,
        program: &Path,
        folder: &Path,
        args: &[&str],
        more: &[(&str, &str)],
    ) -> Background {
        let n = self.count.get() + 1;
        self.count.set(n);
        let file = |end: &str| self.root().join("said").join(format!("{n}.{end}"));
        let (out, err) = (file("out"), file("err"));
        let child = Command::new(program)
            .args(args)
            .current_dir(folder)
            .env_clear()
            .envs(self.environment())
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Background { child, out, err }
    }

    /// Runs the program under test to its end.
    #[must_use]
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.run_in(&self.repo, args, &[])
    }

    /// The same in another folder and with more variables.
    #[must_use]
    pub(crate) fn run_in(&self, folder: &Path, args: &[&str], more: &[(&str, &str)]) -> Said {
        self.begin(program(), folder, args, more).wait()
    }

    /// Runs the program under test beside the test.
    pub(crate) fn spawn(&self, args: &[&str]) -> Background {
        self.spawn_with(args, &[])
    }

    /// The same with more variables.
    pub(crate) fn spawn_with(&self, args: &[&str], more: &[(&str, &str)]) -> Background {
        self.begin(program(), &self.repo, args, more)
    }

    /// Runs git with an identity, in a folder; whatever comes of it.
    #[must_use]
    pub(crate) fn try_git(&self, folder: &Path, args: &[&str]) -> Said {
        let mut more = Vec::new();
        for role in ["AUTHOR", "COMMITTER"] {
            more.push((format!("GIT_{role}_NAME"), "A User"));
            more.push((format!("GIT_{role}_EMAIL"), "user@example.com"));
        }
        let more: Vec<_> = more.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        self.begin(Path::new("git"), folder, args, &more).wait()
    }

    /// Runs git in the user's repository; it must succeed. What it printed, without the last line's end.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let said = self.try_git(&self.repo, args);
        assert_eq!(said.code, 0, "git {}\n{said}", args.join(" "));
        said.out.trim_end().to_owned()
    }

    /// `status --json` of the only run.
    #[track_caller]
    pub(crate) fn status(&self) -> serde_json::Value {
        let said = self.run(&["status", "--json"]).exits(0);
        serde_json::from_str(&said.out).unwrap()
    }

    /// One task of it.
    #[track_caller]
    pub(crate) fn task(&self, id: &str) -> serde_json::Value {
        let status = self.status();
        let tasks = status["tasks"].as_array().unwrap();
        tasks.iter().find(|t| t["id"] == id).unwrap_or_else(|| panic!("no task {id}")).clone()
    }

    /// A file as the target has it.
    #[track_caller]
    pub(crate) fn landed(&self, path: &str) -> String {
        self.git(&["show", &format!("harness/job-1/result:{path}")])
    }

    /// Processes that belong to this sandbox: by their environment, folder or command line. Their ids and command lines.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        processes_of(&self.root())
    }

    /// The keepers among them.
    pub(crate) fn keepers(&self) -> Vec<i32> {
        let all = self.processes().into_iter();
        all.filter(|(_, line)| line.contains(" keeper ")).map(|(pid, _)| pid).collect()
    }

    /// Takes what is the user's as it is now for what it must be later.
    pub(crate) fn remember(&self) {
        *self.before.borrow_mut() = self.belongings();
    }

    /// What of the user's is not as it was: names, with what happened to them.
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

    /// Everything that is the user's: the work tree, HEAD, index, config, hooks, logs, and refs that are not ours.
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
        // A failed test must not leave its agents behind.
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

/// Sends a signal to a process, if it still exists.
pub(crate) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, signal).ok();
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|s| s != 'Z' && s != 'X')
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

/// The program under test: a link of its own, so that a build meanwhile does not change it under a long test.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_git-harness"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(folder).unwrap();
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let of = name.strip_prefix("git-harness.").and_then(|pid| pid.parse().ok());
            if of.is_some_and(|pid: i32| !is_alive(pid)) {
                std::fs::remove_file(entry.path()).ok();
            }
        }
        let own = folder.join(format!("git-harness.{}", std::process::id()));
        std::fs::remove_file(&own).ok();
        if std::fs::hard_link(built, &own).is_err() {
            std::fs::copy(built, &own).unwrap();
        }
        own
    })
}
