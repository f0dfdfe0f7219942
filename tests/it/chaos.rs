//! Kills at every failpoint and at random moments: nothing that has landed is lost or repeated.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::send;
use crate::invariants::{Claim, done};
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// More starts than a run needs that is killed once.
const STARTS: u32 = 6;

/// Restarts a run until it has ended, and adds every task that was shown as done to `seen`.
fn go_on(sandbox: &Sandbox, acknowledged: &mut BTreeSet<String>) {
    for _ in 0..STARTS {
        let output = sandbox.run(&["start"]);
        if let Ok(status) = serde_json::from_str(&sandbox.run(&["status", "--json"]).stdout) {
            acknowledged.extend(done(&status));
        }
        match output.code {
            0 => return,
            137 => {}
            _ => panic!("the resumed run came to an unexpected end\n{output}"),
        }
    }
    panic!("it does not come to an end");
}

/// Pseudo-random numbers from a seed (xorshift), so that a failure can be reproduced.
struct KillSchedule(u64);

impl KillSchedule {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[cfg(debug_assertions)]
mod every_step {
    use super::*;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// Number of runs in parallel.
    const THREADS: usize = 2;

    fn steps(counter: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(counter).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Kills a fresh run at its Nth failpoint and resumes it. Returns the failpoint's name, or none
    /// if the run has fewer.
    fn killed_at(n: u64) -> Option<String> {
        let job = TestJob::new(&["alpha", "beta"]).set("limits", "jobs = 1").set("evaluate", "");
        let sandbox = Sandbox::new(job);
        sandbox.script("judges/default", "echo '{\"pass\": true}'");
        sandbox.script("alpha.1", "edit alpha BAD");
        sandbox.script("default", "echo done >\"$HARNESS_TASK\"");
        let counter = sandbox.sign("steps");
        let at = n.to_string();
        let file = counter.to_string_lossy().into_owned();
        let more = [
            ("GIT_HARNESS_FAILPOINT_COUNTER", file.as_str()),
            ("GIT_HARNESS_FAILPOINT_AT", at.as_str()),
        ];
        let repo = sandbox.repo.clone();
        let output = sandbox.run_in(&repo, &["start"], &more);
        let mut acknowledged = BTreeSet::new();
        if let Ok(status) = serde_json::from_str(&sandbox.run(&["status", "--json"]).stdout) {
            acknowledged.extend(done(&status));
        }
        let name = steps(&counter).get(usize::try_from(n).unwrap() - 1).cloned();
        let what = name.clone().unwrap_or_else(|| "no step".into());
        // A run whose base could not be verified halts for a person.
        let halted = output.code == 3 && output.stderr.contains("the keeper of the checks died");
        assert!(
            halted || matches!(output.code, 0 | 137),
            "killed at step {n}, {what}: an unexpected end\n{output}"
        );
        assert!(name.is_some() || output.code == 0, "nothing was killed, and yet:\n{output}");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            go_on(&sandbox, &mut acknowledged);
            Claim::all(&sandbox).acknowledged(acknowledged.clone()).holds();
        }));
        if let Err(problem) = result {
            let text = problem.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("killed at step {n}, {what}: {text}\nthe first start said:\n{output}");
        }
        name
    }

    /// Tries N = 1, 2, 3 … until a run completes without a kill.
    #[test]
    fn run_killed_at_every_failpoint_completes() {
        let (next, over) = (AtomicU64::new(1), AtomicBool::new(false));
        let since = Instant::now();
        let mut names: Vec<(u64, String)> = std::thread::scope(|scope| {
            let one = || {
                let mut names = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    match killed_at(n) {
                        Some(name) => names.push((n, name)),
                        None => over.store(true, Ordering::SeqCst),
                    }
                }
                names
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
            let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
                t.join().unwrap_or_else(|problem| std::panic::resume_unwind(problem))
            };
            threads.into_iter().flat_map(join).collect()
        });
        names.sort();
        let kinds: BTreeSet<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        println!(
            "killed at each of {} steps, of {} kinds, in {:.0?}: {kinds:?}",
            names.len(),
            kinds.len(),
            since.elapsed()
        );
        // Without failpoints every run would complete, and this test would prove nothing.
        for kind in [
            "create.run",
            "attempt.journaled",
            "keeper.before-agent",
            "keeper.published",
            "keeper.before-opinion",
            "evaluation.recorded",
            "verify.recorded",
        ] {
            assert!(kinds.contains(kind), "the step {kind} never came");
        }
        assert!(names.len() > 40, "only {} steps", names.len());
    }
}

/// Kills supervisor and keepers at random moments. `GIT_HARNESS_KILLS` sets the number of kills,
/// `GIT_HARNESS_SEED` the moments.
#[test]
fn run_killed_at_random_moments_completes() {
    let number =
        |name: &str, or: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(or);
    let kills = number("GIT_HARNESS_KILLS", 20);
    let seed = number("GIT_HARNESS_SEED", 20_261_122);
    let mut random = KillSchedule(seed.max(1));
    let mut killed = 0;
    let mut runs = 0;
    while killed < kills {
        runs += 1;
        let tasks = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];
        let job = TestJob::new(&tasks).set("limits", "jobs = 3").set("retry", "infra = 50");
        let sandbox = Sandbox::new(job);
        sandbox.script("default", "sleep 0.1; echo done >\"$HARNESS_TASK\"; sleep 0.1");
        sandbox.script("alpha.1", "edit alpha BAD");
        let mut acknowledged = BTreeSet::new();
        loop {
            let mut start = sandbox.spawn(&["start"]);
            let moment = Duration::from_millis(random.below(900));
            let since = Instant::now();
            while !start.has_ended() && since.elapsed() < moment {
                std::thread::sleep(Duration::from_millis(2));
            }
            if !start.has_ended() && killed < kills {
                killed += 1;
                // The supervisor, one keeper, or all of them.
                let whom = random.below(3);
                if whom != 1 {
                    start.signal(Signal::KILL);
                }
                let keepers = sandbox.keepers();
                let victims = if whom == 2 { keepers.len() } else { usize::from(whom == 1) };
                for pid in keepers.into_iter().take(victims) {
                    send(pid, Signal::KILL);
                }
            }
            let output = start.wait();
            if let Ok(status) = serde_json::from_str(&sandbox.run(&["status", "--json"]).stdout) {
                acknowledged.extend(done(&status));
            }
            match output.code {
                0 => break,
                137 => {}
                3 if output.stderr.contains("the keeper of the checks died") => {}
                _ => panic!("seed {seed}, after {killed} kills\n{output}"),
            }
        }
        Claim::all(&sandbox).acknowledged(acknowledged).holds();
    }
    println!("{killed} kills in {runs} runs, seed {seed}");
}
