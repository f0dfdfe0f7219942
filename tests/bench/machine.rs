//! Time per event of the run machine alone: `owed`, `decide` and `apply`, for runs of different
//! sizes.
//!
//! `cargo bench --bench machine [-- --events 2000 --rounds 5 --tasks 1000,10000,100000]`. A stage
//! is a run that was folded up to some point. From there the benchmark carries out the owed effects
//! one after the other, as the engine does, and measures the machine's share: `owed` at every step,
//! `decide` on the observation, and the fold of the decisions. Small runs repeat a stage until
//! enough events were measured. The last column compares the largest run with the smallest.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it has measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads its arguments and the clock")]

use std::time::{Duration, Instant};

use git_harness::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use git_harness::domain::id::{Oid, RunId, TaskId, Timestamp};
use git_harness::domain::machine::{Decision, Effect, Observation, decide, owed};
use git_harness::domain::plan::{Plan, Task};
use git_harness::domain::retry::{Policy, Share};
use git_harness::domain::session::{Class, Cost, SessionProgress, SessionReport, Tokens, Usage};
use git_harness::domain::state::RunState;
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::{Candidate, CheckReport, Finding, Verdict};

/// Tasks in a chain of dependencies.
const CHAIN: usize = 10;

/// The outcome of attempts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BenchOutcome {
    /// Every attempt lands.
    Success,
    /// Some sessions crash, some keepers die, some work fails its checks.
    Mixed,
    /// Every task exceeds the context window and is split.
    Split,
}

/// A point of a run.
struct Stage {
    name: &'static str,
    /// The share of tasks that have ended, in percent.
    ended: usize,
    /// One of this many ended tasks has failed; 0 for none.
    failed: usize,
    chained: bool,
    evaluates: bool,
    outcome: BenchOutcome,
}

impl Stage {
    const fn new(name: &'static str, ended: usize) -> Self {
        let outcome = BenchOutcome::Success;
        Self { name, ended, failed: 0, chained: false, evaluates: false, outcome }
    }

    fn policy(&self) -> Policy {
        Policy {
            jobs: 16,
            resumable: true,
            feedback: 1,
            resume: 1,
            infra: 2,
            halt_above: Share(1_000_000),
            tokens: Some(u64::MAX),
            cost: Some(Cost(u64::MAX)),
            evaluates: self.evaluates,
            keep_going: self.failed > 0,
            ..Policy::default()
        }
    }
}

fn stages() -> Vec<Stage> {
    let chained = |name, ended| Stage { chained: true, ..Stage::new(name, ended) };
    vec![
        Stage::new("start", 0),
        Stage::new("middle", 50),
        Stage::new("end", 95),
        chained("dependencies, start", 0),
        chained("dependencies, middle", 50),
        Stage { failed: 10, outcome: BenchOutcome::Mixed, ..Stage::new("failures", 50) },
        Stage { failed: 10, outcome: BenchOutcome::Mixed, ..chained("failures, dependencies", 50) },
        Stage { evaluates: true, ..Stage::new("evaluations", 50) },
        Stage { outcome: BenchOutcome::Split, ..chained("splits", 50) },
    ]
}

fn oid(number: usize) -> Oid {
    Oid::parse(&format!("{number:040x}")).unwrap()
}

/// Returns a plan whose order is not the order of the names.
fn plan(count: usize, chained: bool) -> Plan {
    let name = |n: usize| TaskId::parse(&format!("src_{:06}", n * 7_919 % count)).unwrap();
    let task = |n: usize| Task {
        id: name(n),
        files: (0..4).map(|part| format!("src/{n}.{part}.rs")).collect(),
        after: if chained && !n.is_multiple_of(CHAIN) { vec![name(n - 1)] } else { Vec::new() },
        lines: 1,
        tokens: 1,
        level: 0,
        vars: String::new(),
    };
    Plan { tasks: (0..count).map(task).collect() }
}

fn report(class: Class) -> SessionReport {
    let tokens = Tokens { input: 1_000, output: 100, cache_read: 10, cache_write: 1 };
    SessionReport {
        class,
        detail: None,
        session: None,
        usage: Usage { tokens: Some(tokens), cost: Some(Cost(1)) },
        cumulative: false,
        resets_at: None,
        limited_model: None,
        denials: 0,
        progress: SessionProgress::Answered,
    }
}

/// A run, and the time that the machine took for it.
struct BenchRun<'a> {
    stage: &'a Stage,
    policy: Policy,
    state: RunState,
    now: Timestamp,
    steps: usize,
    events: usize,
    /// The time of each step.
    times: Vec<Duration>,
}

impl<'a> BenchRun<'a> {
    /// Folds the events of a run up to the stage.
    fn new(stage: &'a Stage, count: usize) -> Self {
        let plan = plan(count, stage.chained);
        let mut state = RunState::new(RunId::parse("bench").unwrap(), plan.clone());
        let at = Timestamp(1_000_000);
        state.apply_run(&RunEvent { at, kind: RunEventKind::Created { paused: false } });
        let kind = RunEventKind::BaseVerified { passed: true, results: Vec::new() };
        state.apply_run(&RunEvent { at, kind });
        let ended = count * stage.ended / 100;
        for (number, task) in plan.tasks.iter().enumerate() {
            let mut kinds = vec![TaskEventKind::Created];
            if number < ended {
                kinds.extend(past(stage, number));
            }
            for kind in kinds {
                state.apply_task(&task.id, &TaskEvent { at, kind });
            }
        }
        let now = at.after_ms(1);
        let policy = stage.policy();
        Self { stage, policy, state, now, steps: 0, events: 0, times: Vec::new() }
    }

    /// Carries out one owed effect. Returns false if there is none.
    fn step(&mut self) -> bool {
        self.steps += 1;
        self.now = self.now.after_ms(5);
        let began = Instant::now();
        let effects = owed(&self.state, self.now, &self.policy);
        let mut time = began.elapsed();
        let rank = |effect: &Effect| match effect {
            Effect::Land(_) => 0,
            Effect::Verify(..) => 1,
            Effect::Evaluate(..) => 2,
            Effect::Start(..) => 3,
            Effect::Await(..) => 4,
            Effect::VerifyBase | Effect::Redispatch => 5,
        };
        let Some(first) = effects.iter().map(rank).min() else { return false };
        let alike: Vec<_> = effects.into_iter().filter(|effect| rank(effect) == first).collect();
        let observation = self.observation(&alike[self.steps % alike.len()]);
        let began = Instant::now();
        let decisions = decide(&self.state, observation, self.now, &self.policy);
        for decision in &decisions {
            match decision {
                Decision::Run(event) => self.state.apply_run(event),
                Decision::Task(task, event) => self.state.apply_task(task, event),
            }
        }
        time += began.elapsed();
        self.times.push(time);
        assert!(!decisions.is_empty(), "an owed effect had no result");
        self.events += decisions.len();
        true
    }

    fn observation(&self, effect: &Effect) -> Observation {
        match effect {
            Effect::Start(task, attempt) => {
                let state = self.state.tasks.get(task).unwrap();
                let kept = state.session.clone();
                let base = kept.as_ref().and(state.base.clone()).unwrap_or_else(|| oid(1));
                Observation::Dispatched {
                    task: task.clone(),
                    attempt: *attempt,
                    base,
                    worktree: kept.as_ref().map_or("p01", |s| &s.worktree).to_owned(),
                    owner: "here".into(),
                    resumed: kept.is_some(),
                    work: None,
                    session: kept.map(|s| s.id).or_else(|| Some(format!("s-{task}-{attempt}"))),
                }
            }
            Effect::Await(task, attempt) => {
                let (termination, class) = match (self.stage.outcome, self.steps % 8) {
                    (BenchOutcome::Split, _) if !task.as_str().contains("_part_") => {
                        (Termination::Exited(1), Class::ContextExceeded)
                    }
                    (BenchOutcome::Mixed, 0) => (Termination::Exited(1), Class::Crashed),
                    (BenchOutcome::Mixed, 1) => (Termination::Lost, Class::Ok),
                    (_, _) => (Termination::Exited(0), Class::Ok),
                };
                let tree = oid(self.steps);
                Observation::AttemptEnded {
                    task: task.clone(),
                    attempt: *attempt,
                    termination,
                    candidate: Some(Candidate { commit: tree.clone(), tree, base: oid(1) }),
                    changed: true,
                    report: Some(Box::new(report(class))),
                    stderr: None,
                }
            }
            Effect::Verify(task, attempt) => {
                let fails =
                    self.stage.outcome == BenchOutcome::Mixed && self.steps.is_multiple_of(4);
                let finding =
                    Finding { attempt: *attempt, check: "tests".into(), text: "x".into() };
                let verdict = if fails { Verdict::Failed(vec![finding]) } else { Verdict::Passed };
                let checks = CheckReport { verdict, results: Vec::new() };
                let (task, attempt, tree) = (task.clone(), *attempt, self.candidate(task).tree);
                Observation::Verified { task, attempt, tree, checks, stderr: None }
            }
            Effect::Evaluate(task, attempt) => Observation::Evaluated {
                task: task.clone(),
                attempt: *attempt,
                tree: self.candidate(task).tree,
                began: self.now,
                termination: Termination::Exited(0),
                verdict: Verdict::Passed,
                report: Some(Box::new(report(Class::Ok))),
            },
            Effect::Land(task) => {
                let commit = self.candidate(task).commit;
                Observation::Landed { task: task.clone(), commit, results: Vec::new() }
            }
            Effect::VerifyBase => {
                let (verdict, results) = (Verdict::Passed, Vec::new());
                Observation::BaseVerified(CheckReport { verdict, results })
            }
            Effect::Redispatch => Observation::RedispatchDue,
        }
    }

    fn candidate(&self, task: &TaskId) -> Candidate {
        self.state.tasks.get(task).unwrap().candidate.clone().unwrap()
    }
}

/// Returns the events of a task that has ended.
fn past(stage: &Stage, number: usize) -> Vec<TaskEventKind> {
    let tree = oid(number);
    let candidate = Candidate { commit: tree.clone(), tree: tree.clone(), base: oid(1) };
    let mut kinds = vec![
        TaskEventKind::Started {
            attempt: 1,
            base: oid(1),
            worktree: "p01".into(),
            owner: "here".into(),
            session: Some(format!("s-{number}-1")),
            resumed: false,
            work: None,
        },
        TaskEventKind::Ended {
            attempt: 1,
            termination: Termination::Exited(0),
            candidate: Some(candidate),
            report: Some(Box::new(report(Class::Ok))),
        },
    ];
    if stage.failed > 0 && number.is_multiple_of(stage.failed) {
        let (reason, cause) = ("`tests` not passed".into(), "`tests`".into());
        kinds.push(TaskEventKind::Failed { reason, cause });
        return kinds;
    }
    let results = Vec::new();
    kinds.push(TaskEventKind::Verified {
        attempt: 1,
        tree,
        findings: None,
        results,
        landing: false,
    });
    kinds.push(TaskEventKind::Landed { commit: oid(number), results: Vec::new() });
    kinds
}

/// Measures each step of a stage. Returns the number of events.
fn measure(stage: &Stage, count: usize, least_events: usize, times: &mut Vec<Duration>) -> usize {
    let mut events = 0;
    while events < least_events {
        let mut run = BenchRun::new(stage, count);
        while events + run.events < least_events && run.step() {}
        assert!(run.events > 0, "{}: nothing to measure", stage.name);
        events += run.events;
        times.append(&mut run.times);
    }
    events
}

/// Returns the time per event, in nanoseconds. All rounds take the same steps. The time of a step
/// is that of its fastest round, since other processes disturb the rest.
fn time_per_event(stage: &Stage, count: usize, events: usize, rounds: usize) -> f64 {
    let mut fastest = Vec::new();
    let events = measure(stage, count, events, &mut fastest);
    for _ in 1..rounds {
        let mut times = Vec::new();
        measure(stage, count, events, &mut times);
        assert_eq!(times.len(), fastest.len(), "a round took other steps");
        fastest.iter_mut().zip(times).for_each(|(least, time)| *least = time.min(*least));
    }
    fastest.iter().sum::<Duration>().as_nanos() as f64 / events as f64
}

fn argument<'a>(arguments: &'a [String], name: &str, default: &'a str) -> &'a str {
    let at = arguments.iter().position(|argument| argument == name);
    at.and_then(|at| arguments.get(at + 1)).map_or(default, String::as_str)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let events: usize = argument(&arguments, "--events", "2000").parse().unwrap();
    let rounds: usize = argument(&arguments, "--rounds", "5").parse().unwrap();
    let counts = argument(&arguments, "--tasks", "1000,10000,100000").split(',');
    let counts: Vec<usize> = counts.map(|count| count.parse().unwrap()).collect();
    let heads: Vec<_> = counts.iter().map(|count| format!("{count:>12}")).collect();
    println!("ns per event            {}   ratio", heads.concat());
    for stage in stages() {
        let time = |count: &usize| time_per_event(&stage, *count, events, rounds);
        let times: Vec<_> = counts.iter().map(time).collect();
        let cells: Vec<_> = times.iter().map(|time| format!("{time:>12.0}")).collect();
        let ratio = times[times.len() - 1] / times[0];
        println!("{:<24}{}  {ratio:>6.2}", stage.name, cells.concat());
    }
}
