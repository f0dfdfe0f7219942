//! Cost of a task beside its agent, compared with a shell loop that does the same work at the same
//! parallelism.
//!
//! `cargo bench --bench overhead [-- --files 300,20000 --tasks N --loop-tasks N --jobs N --keep
//! --sandbox]`. With `--sandbox`, agents and checks run in one; the loop never does.
//! Both sides carry out the same trivial tasks in equal repositories: the agent appends a line, and
//! a check looks for it. The harness is durable and verifies every tree twice; the loop does
//! neither. Both print the whole time for all tasks, divided by their number. The harness creates
//! its worktrees first. That time is part of the number and is shown as `first`, the time until the
//! first task has landed, so the number falls with more tasks.

#![expect(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const AGENT: &str = r#"echo x >> "$1""#;
const CHECK: &str = r#"grep -q x "$1""#;

/// A task of the loop: a worktree, the edit, the check, a commit; then, alone, a squash onto the
/// target.
const LOOP: &str = r#"
set -e
f=$1
n=$(basename "$f" .txt)
# Side by side it fails now and then, when it meets the half-made worktree of another.
until git worktree add -q -f -B "loop/$n" "$BENCH/wt/$n" base 2>/dev/null; do rm -rf "$BENCH/wt/$n"; done
cd "$BENCH/wt/$n"
sh -c "$AGENT" sh "$f"
sh -c "$CHECK" sh "$f"
git commit -qam "$n"
cd "$BENCH/target"
flock "$BENCH/lock" sh -c 'git merge -q --squash "loop/$1" >/dev/null && git commit -qm "$1"' sh "$n"
git worktree remove --force "$BENCH/wt/$n"
"#;

struct OverheadOptions {
    files: Vec<usize>,
    tasks: Option<usize>,
    loop_tasks: Option<usize>,
    jobs: usize,
    keep: bool,
    sandbox: bool,
}

fn options() -> Result<OverheadOptions> {
    let mut options = OverheadOptions {
        files: vec![300, 20_000],
        tasks: None,
        loop_tasks: None,
        jobs: 4,
        keep: false,
        sandbox: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("`{arg}` needs a value"));
        match arg.as_str() {
            "--files" => {
                let numbers = value()?;
                let numbers = numbers.split(',').map(str::parse);
                options.files = numbers.collect::<std::result::Result<_, _>>()?;
            }
            "--tasks" => options.tasks = Some(value()?.parse()?),
            "--loop-tasks" => options.loop_tasks = Some(value()?.parse()?),
            "--jobs" => options.jobs = value()?.parse()?,
            "--keep" => options.keep = true,
            "--sandbox" => options.sandbox = true,
            // cargo passes this to every benchmark.
            "--bench" => {}
            _ => return Err(format!("unknown argument: {arg}").into()),
        }
    }
    Ok(options)
}

/// A command with an environment of its own, independent of a user's settings.
fn command(program: impl AsRef<Path>, dir: &Path) -> Command {
    let mut command = Command::new(program.as_ref());
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.current_dir(dir).env_clear().env("PATH", path).env("HOME", dir);
    command.env("GIT_CONFIG_GLOBAL", "/nonexistent/gitconfig").env("GIT_CONFIG_NOSYSTEM", "1");
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {message}", output.status).into())
}

fn git(dir: &Path, args: &[&str]) -> Result<String> {
    run(command("git", dir).args(args))
}

/// Creates a repository with this many files; those of tasks are below `tasks/`.
fn make(repo: &Path, files: usize, tasks: usize) -> Result<()> {
    let text = |n: usize| format!("file {n}\n").repeat(40);
    std::fs::create_dir_all(repo.join("tasks"))?;
    for n in 0..tasks {
        std::fs::write(repo.join(format!("tasks/t{n:03}.txt")), "a task\n".repeat(40))?;
    }
    for n in 0..files.saturating_sub(tasks) {
        let dir = repo.join(format!("src/d{:03}", n / 100));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("f{n}.txt")), text(n).replace('x', "y"))?;
    }
    git(repo, &["init", "-q", "-b", "main"])?;
    for (key, value) in [
        ("user.name", "Bench"),
        ("user.email", "bench@example.org"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
    ] {
        git(repo, &["config", key, value])?;
    }
    git(repo, &["add", "-A"])?;
    git(repo, &["commit", "-qm", "base"])?;
    git(repo, &["branch", "base"])?;
    Ok(())
}

/// Times in milliseconds.
#[derive(Default)]
struct OverheadTimes {
    wall: f64,
    /// Per task, between the first and the last landing.
    steady: f64,
    /// Until the first landing.
    first: f64,
    parts: BTreeMap<&'static str, f64>,
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn ours(root: &Path, files: usize, tasks: usize, opts: &OverheadOptions) -> Result<OverheadTimes> {
    let repo = root.join("ours");
    let (jobs, mode) = (opts.jobs, if opts.sandbox { "require" } else { "off" });
    std::fs::create_dir(&repo)?;
    let job = format!(
        "[job]\nname = \"bench\"\ngoal = \"Append a line.\"\n[plan]\ninclude = [\"tasks/*.txt\"]\ngroup = \"file\"\n\
         [agent]\npreset = \"command\"\ncommand = [\"sh\", \"-c\", '{AGENT}', \"sh\", \"{{task.files}}\"]\n\
         [[check]]\nname = \"done\"\nrun = [\"sh\", \"-c\", '{CHECK}', \"sh\", \"{{task.files}}\"]\n\
         [limits]\njobs = {jobs}\n[sandbox]\nmode = \"{mode}\"\n"
    );
    std::fs::write(repo.join("harness.toml"), job)?;
    make(&repo, files, tasks)?;
    settle();
    let began_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1000.0;
    let began = Instant::now();
    run(command(env!("CARGO_BIN_EXE_git-harness"), &repo).args(["start", "--quiet"]))?;
    let mut side = OverheadTimes { wall: ms(began), ..OverheadTimes::default() };
    let mut landed = Vec::new();
    let chains = git(&repo, &["for-each-ref", "--format=%(refname)", "refs/harness/tasks/"])?;
    for chain in chains.lines() {
        let messages = git(&repo, &["log", "--first-parent", "--format=%B", chain])?;
        let outcome =
            git(&repo, &["cat-file", "blob", &format!("{chain}:attempts/1/outcome.json")])?;
        let outcome: serde_json::Value = serde_json::from_str(&outcome)?;
        for (part, key) in [("prepare", "prepare_ms"), ("agent", "wall_ms"), ("save", "save_ms")] {
            *side.parts.entry(part).or_default() += outcome[key].as_f64().unwrap_or(0.0);
        }
        stages(&messages, &mut side, &mut landed)?;
    }
    if landed.len() != tasks {
        return Err(format!("{} of {tasks} tasks landed", landed.len()).into());
    }
    landed.sort_by(f64::total_cmp);
    side.first = landed[0] - began_at;
    side.steady = (landed[tasks - 1] - landed[0]) / (tasks.max(2) - 1) as f64;
    side.parts.values_mut().for_each(|v| *v /= tasks as f64);
    Ok(side)
}

/// Returns the time that tasks spent in each state, from the times of their events.
fn stages(messages: &str, side: &mut OverheadTimes, landed: &mut Vec<f64>) -> Result<()> {
    let value = |line: &str, key: &str| line.strip_prefix(key).map(str::to_owned);
    let mut states: Vec<(String, f64)> = Vec::new();
    let mut state = String::new();
    for line in messages.lines() {
        if let Some(text) = value(line, "Harness-State: ") {
            state = text;
        }
        if let Some(text) = value(line, "Harness-At: ") {
            states.push((state.clone(), text.parse()?));
        }
    }
    states.reverse();
    for pair in states.windows(2) {
        let part = match pair[0].0.as_str() {
            "running" => "in: running",
            "verifying" => "in: verifying",
            "queued" => "in: queued",
            _ => continue,
        };
        *side.parts.entry(part).or_default() += pair[1].1 - pair[0].1;
    }
    landed.extend(states.iter().filter(|(s, _)| s == "done").map(|(_, at)| *at).take(1));
    Ok(())
}

fn plain(root: &Path, files: usize, tasks: usize, jobs: usize) -> Result<OverheadTimes> {
    let repo = root.join("loop");
    std::fs::create_dir(&repo)?;
    make(&repo, files, tasks)?;
    let target = root.join("target").to_string_lossy().into_owned();
    git(&repo, &["worktree", "add", "-q", "-b", "result", &target, "base"])?;
    std::fs::write(root.join("loop.sh"), LOOP)?;
    let names: String = (0..tasks).map(|n| format!("tasks/t{n:03}.txt\n")).collect();
    std::fs::write(root.join("names"), names)?;
    settle();
    let began = Instant::now();
    let each = format!("xargs -P{jobs} -n1 sh '{0}/loop.sh' < '{0}/names'", root.display());
    let mut shell = command("sh", &repo);
    run(shell.args(["-c", &each]).env("BENCH", root).env("AGENT", AGENT).env("CHECK", CHECK))?;
    let side = OverheadTimes { wall: ms(began), ..OverheadTimes::default() };
    let landed = git(&repo, &["rev-list", "--count", "base..result"])?;
    if landed.trim() != tasks.to_string() {
        return Err(format!("the loop landed {} of {tasks} tasks", landed.trim()).into());
    }
    Ok(side)
}

/// Measures agent and check alone, in milliseconds a task.
fn alone(root: &Path) -> Result<f64> {
    std::fs::write(root.join("alone.txt"), "")?;
    let began = Instant::now();
    for _ in 0..20 {
        for script in [AGENT, CHECK] {
            run(command("sh", root).args(["-c", script, "sh", "alone.txt"]))?;
        }
    }
    Ok(ms(began) / 20.0)
}

/// ext4 does not reuse the inodes of deleted files for five seconds, and searches for others one by
/// one meanwhile. The files that one side deletes must not slow the other side down.
fn settle() {
    Command::new("sync").status().ok();
    std::thread::sleep(Duration::from_secs(7));
}

fn main() -> Result<()> {
    let options = options()?;
    println!(
        "files  tasks  ours ms/task  (steady)  (first)  tasks  loop ms/task  ratio  agent+check alone"
    );
    for files in &options.files {
        let large = *files > 5_000;
        // The number of jobs of a typical run. The loop is the same for each, and slow.
        let tasks = options.tasks.unwrap_or(if large { 400 } else { 200 });
        let loop_tasks = options.loop_tasks.unwrap_or(if large { 24 } else { 60 });
        let root: PathBuf = tempfile::tempdir()?.keep();
        let root = root.canonicalize()?;
        let alone = alone(&root)?;
        let our_side = ours(&root, *files, tasks, &options)?;
        let loop_side = plain(&root, *files, loop_tasks, options.jobs)?;
        let (our_ms, loop_ms) = (our_side.wall / tasks as f64, loop_side.wall / loop_tasks as f64);
        println!(
            "{files:>5}  {tasks:>5}  {our_ms:>12.1}  {:>8.1}  {:>7.0}  {loop_tasks:>5}  {loop_ms:>12.1}  {:>5.3}  {alone:>17.1}",
            our_side.steady,
            our_side.first,
            our_ms / loop_ms,
        );
        let parts = our_side.parts.iter().map(|(part, ms)| format!("{part} {ms:.0}"));
        println!("       ours, ms each: {}", parts.collect::<Vec<_>>().join(", "));
        if options.keep {
            println!("       kept in {}", root.display());
        } else {
            std::fs::remove_dir_all(&root)?;
            settle();
        }
    }
    Ok(())
}
