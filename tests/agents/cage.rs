//! The cage: a network namespace with only the loopback device, and process and mount namespaces.
//! When a scenario ends, the kernel ends all that remains.
//!
//! A scenario is called twice. The outer call starts this test program again inside the cage. There
//! the body runs, with a model server in the same process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::world::CliScenario;

/// The CLIs under test, at pinned versions whose behaviour is known.
const CLIS: [&str; 2] = ["@anthropic-ai/claude-code@2.1.197", "@openai/codex@0.169.0"];

/// The variable with the scenario's folder inside the cage.
const INSIDE: &str = "AGENTS_CAGE";

/// First command of the cage: sets the loopback device up, with either tool that machines have. The
/// shell stays the parent, so that it reaps orphans.
const LOOPBACK: &str = r#"
ip link set lo up 2>/dev/null || ifconfig lo up 2>/dev/null || busybox ip link set lo up 2>/dev/null ||
perl -MSocket -e 'socket(S, AF_INET, SOCK_DGRAM, 0) && ioctl(S, 0x8914, pack("a16 s", "lo", 0x41)) or exit 1' ||
{ echo "no tool brings up the loopback device: ip, ifconfig, busybox or perl" >&2; exit 1; }
"$@"
status=$?
exit $status
"#;

fn caged() -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["sh", "-c", LOOPBACK, "cage"])
        .stdin(Stdio::null());
    command
}

fn last_words(out: &Output) -> String {
    let output = String::from_utf8_lossy(&out.stderr);
    output.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no reason given").to_owned()
}

/// Returns the folder of the programs, or the reason why there is none.
fn programs() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root: namespaces cannot be made".to_owned());
    }
    let tried = caged().arg("true").output();
    match tried {
        Ok(out) if out.status.success() => {}
        Ok(out) => return Err(format!("no namespaces: {}", last_words(&out))),
        Err(error) => return Err(format!("no `unshare`: {error}")),
    }
    for tool in ["npm", "node", "git"] {
        if !Command::new(tool).arg("--version").output().is_ok_and(|out| out.status.success()) {
            return Err(format!("no `{tool}`"));
        }
    }
    install()
}

/// Installs the CLIs once, in a folder of their own.
fn install() -> Result<PathBuf, String> {
    let versions = CLIS.map(|name| name.rsplit('@').next().unwrap()).join("-");
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = base.join(format!("agent-clis-{versions}"));
    let programs = folder.join("node_modules/.bin");
    if folder.exists() {
        return Ok(programs);
    }
    std::fs::create_dir_all(base).unwrap();
    // Only a complete installation gets the final name.
    let fresh = tempfile::Builder::new().prefix("agent-clis-").tempdir_in(base).unwrap();
    let out = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"])
        .arg("--prefix")
        .arg(fresh.path())
        .args(CLIS)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !out.status.success() {
        return Err(format!("npm cannot fetch {}: {}", CLIS.join(" and "), last_words(&out)));
    }
    match std::fs::rename(fresh.path(), &folder) {
        Ok(()) => drop(fresh.keep()),
        Err(error) => assert!(folder.exists(), "{}: {error}", folder.display()),
    }
    Ok(programs)
}

/// Runs the calling test function as a scenario in a cage.
#[track_caller]
pub(crate) fn scenario<F: FnOnce(&mut CliScenario)>(body: F) {
    let name = std::any::type_name::<F>();
    let name = name.strip_prefix("agents::").unwrap().strip_suffix("::{{closure}}").unwrap();
    if let Some(folder) = std::env::var_os(INSIDE) {
        let mut world = CliScenario::new(Path::new(&folder));
        body(&mut world);
        world.nothing_is_left();
        return;
    }
    static PROGRAMS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let programs = match PROGRAMS.get_or_init(programs) {
        Ok(programs) => programs,
        Err(why) => {
            println!("SKIPPED {name}: {why}");
            return;
        }
    };
    let mut folder =
        tempfile::Builder::new().prefix("agents-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut inner = caged();
    inner
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env_clear()
        .env(INSIDE, folder.path())
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HOME", folder.path().join("home"))
        .env("TMPDIR", folder.path().join("tmp"))
        .env("LANG", "C.UTF-8")
        .env("RUST_BACKTRACE", "0");
    for (key, value) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("GIT_HARNESS_") {
            inner.env(key, value);
        }
    }
    let out = inner.output().unwrap();
    let output = [&out.stdout[..], &out.stderr[..]].map(String::from_utf8_lossy).concat();
    println!("{}", output.trim());
    let ran = out.status.success() && output.contains("1 passed");
    if !ran && std::env::var_os("KEEP_SANDBOX").is_some() {
        folder.disable_cleanup(true);
        println!("kept: {}", folder.path().display());
    }
    drop(turn);
    assert!(ran, "the scenario did not hold: {}", out.status);
}
