//! A scenario in the cage: a repository with a job, a model server, and the CLIs' configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::server::{ReceivedRequest, Script, ScriptedUsage, Server};

/// Time limit of a whole run.
const PATIENCE: Duration = Duration::from_secs(900);

/// Variables of the agents in these scenarios, beside those that the harness sets.
pub(crate) const PASSED: &str = r#"["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "IS_SANDBOX", "CODEX_HOME", "OPENAI_API_KEY"]"#;

/// Output and exit code of a command.
#[derive(Debug, Clone)]
pub(crate) struct ScenarioOutput {
    /// The exit code; 128 plus the number of the signal for a command that a signal ended.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl fmt::Display for ScenarioOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- stdout\n{}--- stderr\n{}--- exit {}\n", self.out, self.err, self.code)
    }
}

impl ScenarioOutput {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "another exit code was expected\n{self}");
        self
    }
}

/// A command that runs beside the scenario.
pub(crate) struct ScenarioCommand {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl ScenarioCommand {
    /// Waits until the command has printed `word`.
    #[track_caller]
    pub(crate) fn await_word(&mut self, word: &str) {
        let out = self.out.clone();
        let output = || std::fs::read_to_string(&out).is_ok_and(|output| output.contains(word));
        self.await_that(word, output);
    }

    /// Waits until a condition holds, while the command runs.
    #[track_caller]
    pub(crate) fn await_that(&mut self, what: &str, so: impl Fn() -> bool) {
        let since = Instant::now();
        while !so() {
            let late = since.elapsed() > PATIENCE || self.has_ended();
            assert!(!late || so(), "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns true if the command has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the command ends, and returns its output.
    pub(crate) fn wait(mut self) -> ScenarioOutput {
        let since = Instant::now();
        while !self.has_ended() {
            if since.elapsed() > PATIENCE {
                self.child.kill().ok();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().unwrap();
        let read =
            |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        ScenarioOutput { code, out: read(&self.out), err: read(&self.err) }
    }
}

/// A scenario's repository, server and programs.
pub(crate) struct CliScenario {
    root: PathBuf,
    /// The user's repository.
    pub(crate) repo: PathBuf,
    /// The program under test: a hard link, which a build does not replace.
    program: PathBuf,
    /// The model server, after [`Self::begin`].
    server: Option<Server>,
    subscribed: bool,
    /// True if the CLIs have their state in HOME, where a sandbox shows it.
    at_home: bool,
    count: u32,
}

impl CliScenario {
    pub(crate) fn new(root: &Path) -> Self {
        for name in ["repo", "home", "tmp", "said", "claude", "codex"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let program = root.join("git-harness");
        let built = Path::new(env!("CARGO_BIN_EXE_git-harness"));
        if std::fs::hard_link(built, &program).is_err() {
            std::fs::copy(built, &program).unwrap();
        }
        let root = root.to_owned();
        let repo = root.join("repo");
        Self { root, repo, program, server: None, subscribed: false, at_home: false, count: 0 }
    }

    /// Lets the CLIs have their state in HOME. Called before [`Self::begin`].
    pub(crate) fn keep_state_at_home(&mut self) {
        self.at_home = true;
        std::fs::remove_dir(self.root.join("codex")).unwrap();
        std::fs::create_dir(self.root.join("home/.codex")).unwrap();
        std::os::unix::fs::symlink("home/.codex", self.root.join("codex")).unwrap();
    }

    /// Starts a server with this script, and writes a repository with these files and this job, in
    /// which `{server}` is the server's address.
    pub(crate) fn begin(&mut self, script: Script, files: &[String], job: &str) {
        let untouched = |name: &String| (name.clone(), script.untouched(name));
        let files: Vec<_> = files.iter().map(untouched).collect();
        let server = Server::start(&self.root.join("requests.jsonl"), script);
        std::fs::write(self.root.join("codex/config.toml"), codex_config(&server)).unwrap();
        self.server = Some(server);
        for (name, text) in files {
            self.write(&name, &text);
        }
        let address = self.server().address();
        let address = address.trim_start_matches("http://");
        self.write("harness.toml", &job.replace("{server}", address));
        self.git(&["init", "--quiet", "--initial-branch=main"]);
        self.git(&["config", "user.name", "A User"]);
        self.git(&["config", "user.email", "user@example.com"]);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "base"]);
    }

    /// Returns the model server.
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Writes a file of the user's worktree.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.repo.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn environment(&self) -> BTreeMap<&'static str, OsString> {
        let home = |name: &str| self.root.join(name).into_os_string();
        let key = match self.subscribed {
            true => ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-not-a-token".into()),
            false => ("ANTHROPIC_API_KEY", "sk-ant-not-a-key-000".into()),
        };
        let mut environment = BTreeMap::from([
            key,
            ("PATH", std::env::var_os("PATH").unwrap()),
            ("HOME", home("home")),
            ("TMPDIR", home("tmp")),
            ("LANG", "C.UTF-8".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("ANTHROPIC_BASE_URL", self.server().address().into()),
            ("OPENAI_API_KEY", "sk-not-a-key-either-000".into()),
            ("CLAUDE_CONFIG_DIR", home("claude")),
            ("CODEX_HOME", home("codex")),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
            ("DISABLE_AUTOUPDATER", "1".into()),
            ("IS_SANDBOX", "1".into()),
        ]);
        if self.at_home {
            environment.retain(|name, _| !matches!(*name, "CLAUDE_CONFIG_DIR" | "CODEX_HOME"));
        }
        environment
    }

    fn spawn_program(&mut self, program: &Path, args: &[&str]) -> ScenarioCommand {
        self.count += 1;
        let file = |end: &str| self.root.join("said").join(format!("{}.{end}", self.count));
        let (out, err) = (file("out"), file("err"));
        let child = Command::new(program)
            .args(args)
            .current_dir(&self.repo)
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        ScenarioCommand { child, out, err }
    }

    /// Starts the program under test beside the scenario.
    pub(crate) fn spawn(&mut self, args: &[&str]) -> ScenarioCommand {
        let program = self.program.clone();
        self.spawn_program(&program, args)
    }

    /// Runs the program under test.
    pub(crate) fn run(&mut self, args: &[&str]) -> ScenarioOutput {
        self.spawn(args).wait()
    }

    /// Starts one of the CLIs directly, with a prompt on standard input.
    pub(crate) fn cli(&mut self, words: &[&str], prompt: &str) -> ScenarioCommand {
        let file = self.root.join("prompt");
        std::fs::write(&file, prompt).unwrap();
        let line = format!("exec env {} <{}", words.join(" "), file.display());
        self.spawn_program(Path::new("sh"), &["-c", &line])
    }

    /// Returns the classification of a CLI's output by a preset.
    #[track_caller]
    pub(crate) fn classified(&mut self, preset: &str, output: &ScenarioOutput) -> Value {
        let [out, err] = ["out", "err"].map(|end| self.root.join(end).display().to_string());
        std::fs::write(&out, &output.out).unwrap();
        std::fs::write(&err, &output.err).unwrap();
        let code = output.code.to_string();
        let classify = ["agent", "classify", preset, "--exit", &code, &out, &err];
        serde_json::from_str(&self.run(&classify).exits(0).out).unwrap()
    }

    /// Runs git in the repository. git must succeed.
    #[track_caller]
    pub(crate) fn git(&mut self, args: &[&str]) -> String {
        let output = self.spawn_program(Path::new("git"), args).wait();
        assert_eq!(output.code, 0, "git {}\n{output}", args.join(" "));
        output.out.trim_end().to_owned()
    }

    /// Returns `status --json`.
    #[track_caller]
    pub(crate) fn status(&mut self) -> Value {
        let output = self.run(&["status", "--json"]).exits(0);
        serde_json::from_str(&output.out).unwrap()
    }

    /// Asserts that every line of these files is done on the target.
    #[track_caller]
    pub(crate) fn all_landed(&mut self, files: &[String]) {
        let run = self.status()["run"].as_str().unwrap().to_owned();
        for file in files {
            let text = self.git(&["show", &format!("harness/{run}/result:{file}")]);
            let expected = self.server().script().untouched(file).replace(": todo", ": done");
            assert_eq!(format!("{text}\n"), expected, "{file} as it landed");
        }
    }

    /// Asserts that `status --json` has the tokens of the server, and claude's cost of them.
    #[track_caller]
    pub(crate) fn tokens_are_as_the_server_counts(&mut self, log: &[ReceivedRequest]) {
        let given: ScriptedUsage = log.iter().filter_map(|e| e.usage).sum();
        let status = self.status();
        let reported = &status["tokens"];
        // A session that was cut off counts with what it told, and its cost is unknown.
        let told: ScriptedUsage = log.iter().filter_map(|e| e.usage.or(e.begun)).sum();
        let expected = json!({
            "input": told.input, "output": told.output,
            "cache_read": told.cache_read, "cache_write": told.cache_write,
        });
        assert_eq!(*reported, expected, "the tokens that were given: {status:#}");
        if log[0].path != "/v1/messages" {
            assert_eq!(status["cost_usd"], Value::Null, "codex tells no cost");
            return;
        }
        // Prices of the jobs' model for a million tokens.
        let prices = [
            (given.input, 5.0),
            (given.output, 25.0),
            (given.cache_read, 0.5),
            (given.cache_write, 6.25),
        ];
        let expected: f64 = prices.iter().map(|(tokens, price)| *tokens as f64 * price / 1e6).sum();
        let reported = status["cost_usd"].as_f64().unwrap_or_default();
        assert!(
            (reported - expected).abs() < 1e-6,
            "cost {reported} instead of {expected}: {status:#}"
        );
    }

    /// Gives the agents a subscription in place of a key.
    pub(crate) fn subscribe(&mut self) {
        self.subscribed = true;
    }

    /// Returns the ids that the agents' daemons have written down.
    pub(crate) fn daemons(&self) -> String {
        std::fs::read_to_string(self.root.join("codex/daemons")).unwrap_or_default()
    }

    /// Asserts that no other process remains in the cage's process namespace.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        let remaining = processes();
        assert!(remaining.is_empty(), "these processes remain: {remaining:#?}");
    }
}

/// A process of a scenario.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// The command line.
    pub(crate) line: String,
    /// The environment, with a zero byte after each variable.
    pub(crate) environ: String,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.line)
    }
}

/// Returns every process except zombies.
pub(crate) fn processes() -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let text = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let stat = text("stat");
        let alive = stat.rsplit_once(") ").is_some_and(|(_, s)| !s.starts_with(['Z', 'X']));
        if pid != 1 && pid != own && alive {
            let line = text("cmdline").replace('\0', " ").trim().to_owned();
            found.push(Process { pid, line, environ: text("environ") });
        }
    }
    found
}

/// Kills a process, if it still exists.
pub(crate) fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, Signal::KILL).ok();
    }
}

/// Kills all processes until none remains.
pub(crate) fn kill_everything() {
    while let Some(process) = processes().first() {
        kill(process.pid);
    }
}

/// A provider for codex that is the server. Its configuration alone names it.
fn codex_config(server: &Server) -> String {
    format!(
        "model = \"scripted\"\nmodel_provider = \"scripted\"\ncheck_for_update_on_startup = false\n\
         [analytics]\nenabled = false\n\
         [model_providers.scripted]\nname = \"scripted\"\nbase_url = \"{}/v1\"\n\
         env_key = \"OPENAI_API_KEY\"\nwire_api = \"responses\"\n\
         request_max_retries = 1\nstream_max_retries = 1\n",
        server.address()
    )
}
