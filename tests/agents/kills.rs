//! Kills of agents, keepers and supervisor: finished work is not repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cage::scenario;
use crate::job::{AgentJob, many};
use crate::server::{Fault, ReceivedRequest, Script};
use crate::world::{CliScenario, kill, kill_everything, processes};

/// Pseudo-random numbers from a seed (xorshift), so that a failure can be reproduced.
struct KillTimes(u64);

impl KillTimes {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

const STEPS: usize = 5;
const THINK: Duration = Duration::from_millis(150);

fn script() -> Script {
    Script { steps: STEPS, think: THINK, ..Script::default() }
}

/// Kills the agent of a task: its first process, or all of them.
fn kill_agent(task: &str, preset: &str, all: bool) {
    let mark = format!("HARNESS_TASK={task}");
    let mut of_task: Vec<_> = processes()
        .into_iter()
        .filter(|p| p.environ.split('\0').any(|pair| pair == mark) && p.line.contains(preset))
        .collect();
    of_task.sort_by_key(|p| p.pid);
    for process in of_task.iter().take(if all { usize::MAX } else { 1 }) {
        kill(process.pid);
    }
}

/// Kills one session in five at a random moment.
fn one_in_five_dies(preset: &'static str, seed: u64) -> impl FnMut(&ReceivedRequest) + Send {
    let mut random = KillTimes(seed);
    let mut fates: BTreeMap<usize, Option<(usize, u64, bool)>> = BTreeMap::new();
    move |entry| {
        let fate = fates.entry(entry.number).or_insert_with(|| {
            let turn = usize::try_from(random.below(STEPS as u64 + 1)).unwrap();
            let (late, all) = (random.below(200), random.below(2) == 0);
            (entry.number % 5 == 2).then_some((turn, late, all))
        });
        let Some((_, late, all)) = fate.take_if(|(turn, _, _)| *turn == entry.turn) else { return };
        let task = entry.files[0].replace('/', "__").replace('.', "_dot_");
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(late));
            kill_agent(&task, preset, all);
        });
    }
}

fn waste(world: &mut CliScenario, preset: &'static str) {
    let job = AgentJob::of(many(), preset);
    let files = job.files.clone();
    world.begin(script(), &files, &job.text());
    let mut dies = one_in_five_dies(preset, 20_261_122);
    world.server().plan(move |entry| {
        dies(entry);
        None
    });
    let output = world.run(&["start", "--jobs", "4"]);
    let log = world.server().log();
    println!("{}", output.err);
    output.exits(0);
    world.all_landed(&files);
    // An undisturbed session sends one request a step, and a last one.
    let (requests, wanted) = (log.len(), (STEPS + 1) * files.len());
    // The first request of a resumed session holds the finished steps.
    let mut spared = 0;
    let mut resumed = 0;
    for pair in log.iter().filter(|e| e.earlier).map(|e| (e, before(&log, e))) {
        let (entry, Some(last)) = pair else { continue };
        if !last.earlier {
            resumed += 1;
            spared += entry.steps;
        }
    }
    let share = |count: usize| {
        let hundredths = count * 100 / files.len();
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    };
    println!(
        "requests a landed task: {} undisturbed, {} with one session in five killed; it would be {} if the {resumed} that \
         went on had started over",
        share(wanted),
        share(requests),
        share(requests + spared),
    );
    assert!(resumed > 0 && spared > 0, "nobody was killed");
    assert!(requests * 4 <= wanted * 5, "{requests} requests instead of {wanted}");
}

/// Returns the previous request of the same session.
fn before<'a>(log: &'a [ReceivedRequest], entry: &ReceivedRequest) -> Option<&'a ReceivedRequest> {
    log.iter().rfind(|e| e.session == entry.session && e.turn + 1 == entry.turn)
}

#[test]
fn claude_wastes_little() {
    scenario(|world| waste(world, "claude"));
}

#[test]
fn codex_wastes_little() {
    scenario(|world| waste(world, "codex"));
}

fn goes_on(world: &mut CliScenario, preset: &'static str) {
    let job = AgentJob::of(2, preset);
    let files = job.files.clone();
    world.begin(script(), &files, &job.text());
    // Both agents wait in the middle of their tasks.
    world.server().plan(|entry| (entry.steps == 2).then_some(Fault::HangAtOnce));
    let mut running = world.spawn(&["start", "--jobs", "2"]);
    let server = world.server().clone();
    let both = || server.log().iter().filter(|e| e.steps == 2).count() == 2;
    running.await_that("two sessions in the middle of their tasks", both);
    kill_everything();
    running.wait().exits(137);
    let before = world.server().log();
    world.server().plan(|_| None);
    let output = world.run(&["start", "--jobs", "2"]).exits(0);
    println!("{}", output.err);
    world.all_landed(&files);
    let after = world.server().log().split_off(before.len());
    let names =
        |log: &[ReceivedRequest]| log.iter().map(|e| e.session.clone()).collect::<BTreeSet<_>>();
    assert_eq!(names(&before), names(&after), "the same sessions, and no other");
    for session in names(&after) {
        let first = after.iter().find(|e| e.session == session).unwrap();
        // The killed CLI may not have written the last step to its own transcript.
        assert!(first.earlier && first.steps >= 1, "the conversation is lost: {first:#?}");
    }
}

#[test]
fn claude_goes_on_after_the_end_of_everything() {
    scenario(|world| goes_on(world, "claude"));
}

#[test]
fn codex_goes_on_after_the_end_of_everything() {
    scenario(|world| goes_on(world, "codex"));
}
