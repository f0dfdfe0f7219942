//! Real processes that are stopped in steps, and whose output is interpreted by a listener.

use std::time::Duration;

use super::command_tests::{LONG, Trial};
use super::*;
use crate::domain::termination::Termination;

/// A listener that takes each line of output as the name of an [`Activity`].
#[derive(Default)]
struct ScriptedListener {
    noise_limit: Option<Duration>,
    line: Vec<u8>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Listener for ScriptedListener {
    fn observe(&mut self, from: OutputStream, bytes: &[u8]) -> Activity {
        match from {
            OutputStream::Stdout => self.stdout.extend_from_slice(bytes),
            OutputStream::Stderr => self.stderr.extend_from_slice(bytes),
        }
        let mut activity = Activity::Nothing;
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let word = std::mem::take(&mut self.line);
            activity = activity.max(match &*word {
                b"noise" => Activity::Noise,
                b"progress" => Activity::Progress,
                b"final" => Activity::Final,
                b"hopeless" => Activity::Hopeless,
                _ => Activity::Nothing,
            });
        }
        activity
    }

    fn noise_limit(&self) -> Option<Duration> {
        self.noise_limit
    }
}

/// Runs a script with a listener. The linger limit is half a second.
fn listen(
    listener: &mut ScriptedListener,
    script: &str,
    change: fn(&mut Command),
) -> (Trial, CommandResult) {
    let trial = Trial::new();
    let mut command = trial.command(script);
    command.linger = Duration::from_millis(500);
    change(&mut command);
    let ended = run_with_listener(&command, &StopFlag::new().unwrap(), listener).unwrap();
    trial.assert_no_process_left();
    (trial, ended)
}

fn termination(script: &str, change: fn(&mut Command)) -> Termination {
    listen(&mut ScriptedListener::default(), script, change).1.termination
}

#[test]
fn idle_timeout_stops_a_command_that_prints_only_noise() {
    let idle = |command: &mut Command| command.idle = Some(Duration::from_secs(1));
    let noise = "echo progress; while :; do echo noise; sleep 0.05; done";
    assert_eq!(termination(noise, idle), Termination::Idle);
    let gets_on = "for i in $(seq 20); do echo progress; sleep 0.1; done; exit 3";
    assert_eq!(termination(gets_on, idle), Termination::Exited(3));
}

#[test]
fn noise_limit_stops_a_command_that_makes_no_progress() {
    let mut listener = ScriptedListener {
        noise_limit: Some(Duration::from_millis(300)),
        ..ScriptedListener::default()
    };
    let script = "while :; do echo noise; sleep 0.05; done";
    let (_, ended) = listen(&mut listener, script, |_| {});
    assert_eq!(ended.termination, Termination::Hopeless);
    // One line followed by silence counts as well.
    let (_, ended) = listen(&mut listener, "echo noise; sleep 1000", |_| {});
    assert_eq!(ended.termination, Termination::Hopeless);
}

#[test]
fn hopeless_command_is_stopped_at_once() {
    assert_eq!(termination("echo hopeless; sleep 1000", |_| {}), Termination::Hopeless);
}

#[test]
fn lingering_command_is_stopped_after_it_has_finished() {
    let (trial, ended) = listen(&mut ScriptedListener::default(), "echo final; sleep 1000", |_| {});
    assert_eq!(ended.termination, Termination::Lingered);
    assert_eq!(trial.read("out"), "final\n");
    let chatter = "echo final; while :; do echo progress; sleep 0.02; done";
    assert_eq!(termination(chatter, |_| {}), Termination::Lingered);
    // A command that exits in time is not stopped.
    assert_eq!(
        termination("echo final; sleep 0.3; exit 4", |command| command.linger = LONG),
        Termination::Exited(4)
    );
}

#[test]
fn listener_gets_all_output_also_after_the_stop_signal() {
    let mut listener = ScriptedListener::default();
    let script = "trap 'echo said in the end; exit' TERM; yes | head -c 3000000; echo err >&2;
                  echo hopeless; while :; do sleep 0.01; done";
    let (_, ended) = listen(&mut listener, script, |command| {
        command.grace = LONG;
        command.cap = 100;
    });
    assert_eq!((ended.termination, ended.stdout_kept), (Termination::Hopeless, 100));
    assert_eq!(listener.stdout.len() as u64, ended.stdout_bytes);
    assert!(listener.stdout.ends_with(b"hopeless\nsaid in the end\n"));
    assert!(listener.stderr.starts_with(b"err\n"));
}

#[test]
fn listener_gets_output_that_is_left_in_the_pipe() {
    use std::io::Write as _;
    let trial = Trial::new();
    let kept =
        output::OutputFile::create(&trial.path("out"), 100, &Redactor::new::<&str>(&[]).unwrap())
            .unwrap();
    let mut stream = child::CapturedStream::new(OutputStream::Stdout, kept).unwrap();
    stream.writer().unwrap().write_all(b"last words\n").unwrap();
    let mut listener = ScriptedListener::default();
    let mut watchdog = watchdog::Watchdog::new(Some(&mut listener), std::time::Instant::now());
    assert_eq!(stream.finish(&mut watchdog).unwrap(), (11, 11));
    assert_eq!(listener.stdout, b"last words\n");
}

/// Stops a command by these steps as soon as all its processes are running.
fn stop_by(script: &str, up: &[&str], steps: &[StopStep]) -> Trial {
    // Install the signal handlers of a keeper. If the tests run with SIGINT ignored (as a
    // background job of a script), the command would ignore SIGINT too.
    drop(StopFlag::on_terminate().unwrap());
    let trial = Trial::new();
    let stop = StopFlag::new().unwrap();
    let mut command = trial.command(script);
    command.stop = steps.to_vec();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| run(&command, &stop).unwrap());
        up.iter().for_each(|name| trial.await_file(name));
        stop.raise();
        let ended = ended.join().unwrap();
        assert_eq!((ended.termination, ended.survivors), (Termination::Stopped, 0));
    });
    trial.assert_no_process_left();
    trial
}

/// A shell function `waits NAME` that records in the file NAME whether it got SIGTERM within half a
/// minute.
const WAITS: &str = r#"
    waits() {
        trap "echo asked > $1; exit" TERM
        echo > "$1.up"
        i=0; while [ $i -lt 3000 ]; do sleep 0.01; i=$((i + 1)); done
        echo "not asked" > "$1"
    }
"#;

fn step(signal: StopSignal, target: SignalTarget, wait: Duration) -> StopStep {
    StopStep { signal, target, wait }
}

#[test]
fn stop_steps_signal_the_leader_first_and_the_tree_afterwards() {
    // The leader exits at the second request and is not signalled after that.
    let script = format!(
        "{WAITS} waits tool & trap 'sleep 0.2; cat tool > seen' TERM; trap 'echo int > leader; exit' INT
         while :; do sleep 0.01; done"
    );
    let steps = [
        step(StopSignal::Terminate, SignalTarget::Leader, Duration::from_secs(1)),
        step(StopSignal::Interrupt, SignalTarget::Leader, Duration::from_secs(1)),
        step(StopSignal::Terminate, SignalTarget::Leader, LONG),
        step(StopSignal::Terminate, SignalTarget::Tree, LONG),
    ];
    let trial = stop_by(&script, &["tool.up"], &steps);
    assert_eq!((&*trial.read("leader"), &*trial.read("seen")), ("int\n", ""));
    assert_eq!(trial.read("tool"), "asked\n");
}

#[test]
fn stop_signal_to_a_group_spares_processes_that_left_it() {
    let script = format!(
        "{WAITS} waits inside & setsid sh -c '{WAITS} waits outside' & trap '' TERM; wait; wait; sleep 1000"
    );
    let steps = [
        step(StopSignal::Terminate, SignalTarget::Group, Duration::from_secs(1)),
        step(StopSignal::Kill, SignalTarget::Leader, Duration::from_millis(100)),
    ];
    let trial = stop_by(&script, &["inside.up", "outside.up"], &steps);
    // Processes that the steps leave are killed.
    assert_eq!((&*trial.read("inside"), &*trial.read("outside")), ("asked\n", ""));
}
