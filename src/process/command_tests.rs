//! Commands and keepers with real processes: misbehaving trees, limits, and killed keepers.
//!
//! All tests of a binary share one process, which is the parent of everything they start. So most
//! tests tell their processes apart by the marker alone. A test that needs a keeper starts this
//! binary once more, with a `trial=` argument, to run only the test [`keeper`]. Without the
//! argument, that test does nothing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::tree::living_marked;
use super::*;
use crate::domain::termination::Termination;

pub(super) const LONG: Duration = Duration::from_secs(120);

/// A directory in which a script runs in a marked shell.
pub(super) struct Trial {
    pub(super) dir: tempfile::TempDir,
}

impl Trial {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn marker(&self) -> String {
        marker(self.dir.path())
    }

    pub(super) fn command(&self, script: &str) -> Command {
        command(self.dir.path(), script)
    }

    fn run(&self, script: &str) -> CommandResult {
        run(&self.command(script), &StopFlag::new().unwrap()).unwrap()
    }

    pub(super) fn assert_no_process_left(&self) {
        assert_eq!(living_marked(&self.marker()), Vec::<i32>::new());
    }

    /// Starts a keeper that runs the script.
    fn keeper(&self, script: &str) -> KeeperHandle {
        fs::write(self.path("script"), script).unwrap();
        let lock = Lock::try_take(&self.path("lock"), "starting").unwrap().unwrap();
        let exe = std::env::current_exe().unwrap();
        let (_, module) = module_path!().split_once("::").unwrap();
        let args = [
            "--exact".to_owned(),
            format!("{module}::keeper"),
            "--nocapture".to_owned(),
            format!("trial={}", self.dir.path().display()),
        ];
        start_keeper(&exe, &args.map(OsString::from), &lock, &environ(), &self.path("log")).unwrap()
    }

    /// Waits until a file is not empty.
    pub(super) fn await_file(&self, name: &str) {
        while self.read(name).is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn marker(dir: &Path) -> String {
    dir.display().to_string()
}

fn environ() -> Environ {
    Environ::empty().with("PATH", "/usr/local/bin:/usr/bin:/bin")
}

fn command(dir: &Path, script: &str) -> Command {
    Command::new(["sh", "-c", script], dir, &marker(dir), dir.join("out"), dir.join("err"))
        .env(environ())
        .cap(1 << 20)
        .timeout(LONG)
        .grace(Duration::from_millis(200))
}

/// Acts as the keeper of a trial. Does nothing in a normal test run.
#[test]
fn keeper() {
    let trial = std::env::args().find_map(|arg| arg.strip_prefix("trial=").map(PathBuf::from));
    let Some(dir) = trial else { return };
    let lock = adopt_lock().unwrap();
    let stop = StopFlag::on_terminate().unwrap();
    lock.describe(&Holder::this_process().to_string()).unwrap();
    let script = fs::read_to_string(dir.join("script")).unwrap();
    let mut command = command(&dir, &script);
    command.containment = Containment::ControlGroup;
    // Occupies the name until the end of the trial, so that the keeper cannot create a control
    // group.
    let _occupied = dir.join("no-cgroup").exists().then(|| cgroup::occupy(&command.marker));
    let ended = run(&command, &stop).unwrap();
    write_atomic(&dir.join("ended"), format!("{ended:?}").as_bytes()).unwrap();
}

#[test]
fn termination_is_that_of_the_main_process() {
    let trial = Trial::new();
    assert_eq!(trial.run("exit 0").termination, Termination::Exited(0));
    assert_eq!(trial.run("exit 41").termination, Termination::Exited(41));
    assert_eq!(trial.run("kill -ABRT $$").termination, Termination::Signalled(6));
    assert_eq!(trial.run("kill -KILL $$").termination, Termination::Signalled(9));
    assert_eq!(trial.run("(exit 3) & exit 5").termination, Termination::Exited(5));
}

#[test]
fn command_gets_its_streams_variables_and_directory() {
    let trial = Trial::new();
    fs::write(trial.path("in"), "from a file").unwrap();
    let mut command = trial.command("cat; echo $V, $HARNESS_MARK >&2; pwd >&2");
    command.stdin = Stdin::File(trial.path("in"));
    command.env.set("V", "value");
    let ended = run(&command, &StopFlag::new().unwrap()).unwrap();
    assert_eq!((ended.stdout_bytes, ended.stdout_kept), (11, 11));
    assert_eq!(trial.read("out"), "from a file");
    let cwd = trial.dir.path().canonicalize().unwrap();
    assert_eq!(trial.read("err"), format!("value, {}\n{}\n", trial.marker(), cwd.display()));
    assert_eq!(trial.run("cat").termination, Termination::Exited(0));
}

#[test]
fn command_that_cannot_start_is_explained() {
    let trial = Trial::new();
    fs::write(trial.path("plain"), "exit 0").unwrap();
    let script = |name: &str, text: &str| {
        let made =
            duct::cmd!("/bin/sh", "-c", "printf %s \"$2\" > $1; chmod +x $1", "sh", name, text);
        made.dir(trial.dir.path()).run().unwrap();
    };
    script("no-interpreter", "#!/no/such/program\n");
    script("no-program", "exit 0");
    script("good", "#!/bin/sh\nexit 7\n");
    let end = |program: &str, change: fn(&mut Command)| {
        let mut command = trial.command("");
        command.argv = vec![OsString::from(program)];
        change(&mut command);
        run(&command, &StopFlag::new().unwrap()).unwrap().termination
    };
    let why = |program: &str, change: fn(&mut Command), wanted: &str| {
        let termination = end(program, change);
        assert!(
            matches!(&termination, Termination::NotStarted(why) if why.contains(wanted)),
            "{termination:?}"
        );
    };
    why("no-such-program", |_| {}, "no program `no-such-program` in PATH");
    why("./absent", |_| {}, "there is no program `./absent`: /");
    why("./plain", |_| {}, "`./plain` is not an executable file");
    why("./no-interpreter", |_| {}, "`#!` line");
    why("./no-program", |_| {}, "nor begins with `#!`");
    why("sh", |command| command.cwd = "/no/such/place".into(), "does not exist: /no/such/place");
    why("", |_| {}, "the command is empty");
    why("sh", |command| command.argv.clear(), "the command is empty");
    assert_eq!(end("./good", |_| {}), Termination::Exited(7));
}

#[test]
fn output_flood_is_counted_and_capped() {
    let trial = Trial::new();
    let ended = trial.run("echo first; yes | head -c 200000000; echo last; echo small >&2");
    assert_eq!(ended.termination, Termination::Exited(0));
    assert_eq!((ended.stdout_bytes, ended.stdout_kept), (200_000_011, 1 << 20));
    assert_eq!((ended.stderr_bytes, ended.stderr_kept), (6, 6));
    let out = trial.read("out");
    assert!(out.starts_with("first\ny\n") && out.ends_with("y\nlast\n"));
    let gap = format!("\n[git-harness: {} bytes left out]\n", 200_000_011 - (1 << 20));
    assert_eq!(out.len(), (1 << 20) + gap.len());
    assert!(out.contains(&gap));
}

#[test]
fn timeout_and_idle_timeout_stop_a_command() {
    let trial = Trial::new();
    let end = |script: &str, change: fn(&mut Command)| {
        let mut command = trial.command(script);
        change(&mut command);
        let ended = run(&command, &StopFlag::new().unwrap()).unwrap();
        trial.assert_no_process_left();
        ended.termination
    };
    let hang = "trap '' TERM; while :; do echo still here; sleep 0.05; done";
    assert_eq!(
        end(hang, |command| command.timeout = Duration::from_millis(300)),
        Termination::TimedOut
    );
    let silent = "echo a; sleep 1000";
    assert_eq!(
        end(silent, |command| command.idle = Some(Duration::from_millis(300))),
        Termination::Idle
    );
    // The running time exceeds the idle limit, but no pause in the output does.
    let talks = "for i in $(seq 25); do echo $i >&2; sleep 0.1; done";
    assert_eq!(
        end(talks, |command| command.idle = Some(Duration::from_secs(2))),
        Termination::Exited(0)
    );
}

#[test]
fn stop_signal_leaves_a_grace_period_for_cleanup() {
    let trial = Trial::new();
    let stop = StopFlag::new().unwrap();
    let mut command = trial.command(
        "(trap 'sleep 0.2; echo wrapped > tidy; exit' TERM; echo > up; while :; do sleep 0.01; done) &
         trap 'exit 0' TERM; while :; do sleep 0.01; done",
    );
    command.grace = LONG;
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| run(&command, &stop).unwrap());
        trial.await_file("up");
        stop.raise();
        let ended = ended.join().unwrap();
        assert_eq!((ended.termination, ended.survivors), (Termination::Stopped, 0));
    });
    assert_eq!(trial.read("tidy"), "wrapped\n");
    trial.assert_no_process_left();
    assert_eq!(run(&command, &stop).unwrap().termination, Termination::Stopped);
}

#[test]
fn daemon_that_holds_the_output_is_killed_without_delay() {
    let trial = Trial::new();
    let ended = trial.run("echo said; sleep 1000 & exit 0");
    assert_eq!((ended.termination, ended.leftover), (Termination::Exited(0), 1));
    assert_eq!(trial.read("out"), "said\n");
    trial.assert_no_process_left();
}

/// A script whose processes ignore TERM, fork twice, and leave their session, group and output.
const EVADER: &str = r#"
    evade='trap "" TERM HUP INT; echo $$ >> pids; sleep 1000 & sleep 1000; sleep 1000; :'
    for i in 1 2 3; do
        (setsid nohup sh -c "$evade" < /dev/null > /dev/null 2>&1 &)
        (sh -c "$evade" < /dev/null > /dev/null 2>&1 &)
    done
    while [ "$(wc -l < pids 2> /dev/null || echo 0)" -lt 6 ]; do sleep 0.01; done
"#;

#[test]
fn detached_processes_are_killed_with_the_tree() {
    let trial = Trial::new();
    let ended = trial.run(EVADER);
    assert_eq!((ended.termination, ended.survivors), (Termination::Exited(0), 0));
    assert!(ended.leftover >= 12, "{}", ended.leftover);
    assert_eq!(trial.read("pids").lines().count(), 6);
    trial.assert_no_process_left();
}

/// Returns the numbers in the file `pids` whose processes are alive.
fn alive(trial: &Trial) -> Vec<String> {
    let lives = |pid: &str| procfs::stat(pid.parse().unwrap()).is_some_and(|seen| !seen.ended);
    trial.read("pids").lines().filter(|pid| lives(pid)).map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn keeper_kills_descendants_without_the_marker() {
    for cgroup in [true, false] {
        let trial = Trial::new();
        if !cgroup {
            fs::write(trial.path("no-cgroup"), "").unwrap();
        }
        let script = EVADER.replace("setsid nohup", "setsid env -i PATH=\"$PATH\" nohup");
        trial.keeper(&script).wait().unwrap();
        let ended = trial.read("ended");
        assert!(ended.contains("Exited(0)") && ended.contains("survivors: 0"), "{ended}");
        assert_eq!(trial.read("pids").lines().count(), 6);
        assert_eq!(alive(&trial), Vec::<String>::new());
        drop(Lock::wait(&trial.path("lock")).unwrap());
    }
}

/// A script whose processes fork as fast as they can, in sessions of their own. Four processes stay
/// and fork sleepers. One process starts its successor and exits, again and again, so that its
/// process number keeps changing.
const FORKER: &str = r#"
    printf '%s\n' 'trap "" TERM; sh ./run < /dev/null > /dev/null 2>&1 & exit' > run
    printf '%s\n' 'trap "" TERM; while :; do (sleep 1000 &); sleep 0.01; done' > fork
    for i in 1 2 3 4; do setsid sh ./fork & done
    setsid sh ./run &
    sleep 0.5
"#;

#[test]
fn fork_loop_is_killed_by_the_sweep() {
    let trial = Trial::new();
    let ended = trial.run(FORKER);
    assert_eq!((ended.termination, ended.survivors), (Termination::Exited(0), 0));
    assert!(ended.leftover > 8, "{}", ended.leftover);
    trial.assert_no_process_left();
}

#[cfg(target_os = "linux")]
#[test]
fn fork_loop_is_killed_by_a_keeper_with_and_without_cgroup() {
    for cgroup in [true, false] {
        let trial = Trial::new();
        if !cgroup {
            fs::write(trial.path("no-cgroup"), "").unwrap();
        }
        trial.keeper(FORKER).wait().unwrap();
        let ended = trial.read("ended");
        assert!(ended.contains("Exited(0)") && ended.contains("survivors: 0"), "{ended}");
        trial.assert_no_process_left();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn tree_of_a_killed_keeper_is_found_by_marker_and_killed() {
    let trial = Trial::new();
    let keeper = trial.keeper(&format!("{EVADER} echo > up; sleep 1000"));
    trial.await_file("up");
    let path = trial.path("lock");
    assert!(Lock::is_held(&path).unwrap());
    kill_process(Pid::from_raw(keeper.pid()).unwrap(), Signal::KILL).unwrap();
    // The command is still running and has not inherited the lock.
    drop(Lock::wait(&path).unwrap());
    keeper.wait().unwrap();
    assert!(living_marked(&trial.marker()).len() >= 13);
    assert!(kill_marked(&trial.marker()) >= 13);
    trial.assert_no_process_left();
    assert_eq!(alive(&trial), Vec::<String>::new());
    assert_eq!(kill_marked(&trial.marker()), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn keeper_is_stopped_by_sigterm_to_the_holder_of_its_lock() {
    let trial = Trial::new();
    let keeper = trial.keeper("echo > up; sleep 1000");
    trial.await_file("up");
    let by = Lock::try_take(&trial.path("lock"), "me").unwrap().unwrap_err();
    let holder = by.holder().unwrap();
    assert_eq!(holder.pid, keeper.pid());
    assert!(!send_terminate(holder.pid, holder.start + 1).unwrap());
    assert!(!keeper.has_ended().unwrap());
    // Signals of a terminal have no effect.
    let pid = Pid::from_raw(keeper.pid()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    assert!(send_terminate(holder.pid, holder.start).unwrap());
    keeper.wait().unwrap();
    assert!(trial.read("ended").contains("Stopped"), "{}", trial.read("ended"));
    assert!(!send_terminate(holder.pid, holder.start).unwrap());
    trial.assert_no_process_left();
}

#[test]
fn lock_is_handed_to_a_keeper_without_a_gap() {
    let trial = Trial::new();
    let path = trial.path("lock");
    let lock = Lock::try_take(&path, "starter").unwrap().unwrap();
    let args = ["-c", "echo up; exec sleep 1000"].map(OsString::from);
    let keeper =
        start_keeper(Path::new("/bin/sh"), &args, &lock, &environ(), &trial.path("log")).unwrap();
    drop(lock);
    assert!(Lock::is_held(&path).unwrap());
    trial.await_file("log");
    assert!(Lock::is_held(&path).unwrap());
    assert!(Lock::try_take(&path, "other").unwrap().is_err());
    kill_process(Pid::from_raw(keeper.pid()).unwrap(), Signal::KILL).unwrap();
    keeper.wait().unwrap();
    drop(Lock::wait(&path).unwrap());
}

#[test]
fn keeper_refuses_to_start_without_a_lock() {
    let trial = Trial::new();
    let exe = std::env::current_exe().unwrap();
    let (_, module) = module_path!().split_once("::").unwrap();
    let trial_arg = format!("trial={}", trial.dir.path().display());
    let by_hand = duct::cmd!(exe, "--exact", format!("{module}::keeper"), trial_arg);
    // A pipe: `/dev/null` could be locked where a `git config` as root has made a file of it.
    let run = by_hand.stdin_bytes("").stdout_capture().stderr_capture().unchecked().run().unwrap();
    assert!(String::from_utf8_lossy(&run.stdout).contains("standard input is not a lock"));
}
