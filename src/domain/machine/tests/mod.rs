//! Small cases of the machine. The simulation in `tests/sim` covers whole runs.

mod accounts;
mod budgets;
mod classes;
mod evaluations;
mod halting;
mod sessions;
mod splitting;

use super::{Decision, Effect, Observation, Request, decide, owed};
use crate::domain::event::{Halt, RunEventKind, TaskEventKind};
use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::plan::{Plan, Task};
use crate::domain::retry::{Policy, RetryReason};
use crate::domain::session::{Class, Cost, SessionProgress, SessionReport, Tokens, Usage};
use crate::domain::state::{Phase, RunPhase, RunState, TaskState};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, CheckReport, Finding, Verdict};

fn id(name: &str) -> TaskId {
    TaskId::parse(name).unwrap()
}

fn oid(digit: char) -> Oid {
    Oid::parse(&digit.to_string().repeat(40)).unwrap()
}

fn report(class: Class) -> SessionReport {
    SessionReport {
        class,
        detail: Some("so it said".into()),
        session: None,
        usage: Usage::default(),
        cumulative: false,
        resets_at: None,
        limited_model: None,
        denials: 0,
        progress: SessionProgress::Started,
    }
}

/// Returns a policy with an agent that can resume sessions and with a high limit of failures.
fn lenient() -> Policy {
    Policy {
        resumable: true,
        halt_above: crate::domain::retry::Share(999_999),
        ..Policy::default()
    }
}

/// Returns a plan of independent tasks of two files each.
fn plan(tasks: &[&str]) -> Plan {
    let task = |name: &&str| Task {
        id: id(name),
        files: vec![format!("{name}.a"), format!("{name}.b")],
        after: Vec::new(),
        lines: 10,
        tokens: 100,
        level: 0,
        vars: String::new(),
    };
    Plan { tasks: tasks.iter().map(task).collect() }
}

/// A run with its policy and the time.
struct MachineBench {
    state: RunState,
    policy: Policy,
    now: Timestamp,
}

impl MachineBench {
    /// Creates a run with tasks of two files each. The base has passed its checks.
    fn new(tasks: &[&str], policy: Policy) -> Self {
        Self::with_plan(plan(tasks), policy)
    }

    /// Creates a run of a plan. The base has passed its checks.
    fn with_plan(plan: Plan, policy: Policy) -> Self {
        let mut state = RunState::new(RunId::parse("run-1").unwrap(), plan);
        state.base_passed = Some(true);
        Self { state, policy, now: Timestamp(1_000_000) }
    }

    /// Decides on an observation, folds the events and returns them.
    fn observe(&mut self, observation: Observation) -> Vec<Decision> {
        let decisions = decide(&self.state, observation, self.now, &self.policy);
        for decision in &decisions {
            match decision {
                Decision::Run(event) => self.state.apply_run(event),
                Decision::Task(task, event) => self.state.apply_task(task, event),
            }
        }
        assert!(self.state.tasks == self.state.tasks.recomputed(), "the index has diverged");
        self.now = self.now.after_ms(1);
        decisions
    }

    /// Starts a task's next attempt, in the task's session if it can be resumed. Returns false if
    /// the attempt may not start.
    fn start(&mut self, task: &str) -> bool {
        let (task, kept) = (id(task), self.task(task).clone());
        let attempt = kept.attempt + 1;
        let session = kept.session.clone().filter(|_| self.policy.resumable);
        let resumed = session.is_some();
        let worktree = session.as_ref().map_or_else(|| format!("p-{task}"), |s| s.worktree.clone());
        let given = self.policy.resumable.then(|| format!("s-{task}-{attempt}"));
        let observation = Observation::Dispatched {
            task,
            attempt,
            base: oid('a'),
            worktree,
            owner: "here".into(),
            session: session.map(|s| s.id).or(given),
            resumed,
            work: None,
        };
        !self.observe(observation).is_empty()
    }

    /// Ends a task's attempt with changed work and this report.
    fn end(&mut self, task: &str, report: Option<SessionReport>) -> Vec<Decision> {
        self.end_with(task, Termination::Exited(0), report, true)
    }

    fn end_with(
        &mut self,
        task: &str,
        termination: Termination,
        report: Option<SessionReport>,
        changed: bool,
    ) -> Vec<Decision> {
        let candidate = Candidate { commit: oid('c'), tree: oid('d'), base: oid('a') };
        self.observe(Observation::AttemptEnded {
            task: id(task),
            attempt: self.task(task).attempt,
            termination,
            candidate: Some(candidate),
            changed,
            report: report.map(Box::new),
            stderr: None,
        })
    }

    /// Starts an attempt and ends it with a session of this class.
    fn run_attempt(&mut self, task: &str, class: Class) -> Vec<Decision> {
        assert!(self.start(task), "{task} may not start");
        self.end(task, Some(report(class)))
    }

    /// Delivers the checks' verdict on a task's candidate.
    fn verify(&mut self, task: &str, verdict: Verdict) -> Vec<Decision> {
        let checks = CheckReport { verdict, results: Vec::new() };
        let attempt = self.task(task).attempt;
        self.observe(Observation::Verified {
            task: id(task),
            attempt,
            tree: oid('d'),
            checks,
            stderr: None,
        })
    }

    /// Runs an attempt whose work fails a check.
    fn fail(&mut self, task: &str, check: &str) -> Vec<Decision> {
        assert!(self.start(task), "{task} may not start");
        self.end(task, None);
        let finding =
            Finding { attempt: 1, check: check.into(), text: "`x`: exit 1\n\nbad line".into() };
        self.verify(task, Verdict::Failed(vec![finding]))
    }

    /// Runs an attempt whose work lands.
    fn land(&mut self, task: &str) {
        assert!(self.start(task), "{task} may not start");
        self.end(task, Some(report(Class::Ok)));
        self.verify(task, Verdict::Passed);
        self.observe(Observation::Landed { task: id(task), commit: oid('e'), results: Vec::new() });
    }

    fn task(&self, name: &str) -> &TaskState {
        &self.state.tasks[&id(name)]
    }

    /// Returns the tasks that may start now.
    fn startable(&self) -> Vec<String> {
        let start = |effect| match effect {
            Effect::Start(task, _) => Some(task.to_string()),
            Effect::VerifyBase
            | Effect::Await(..)
            | Effect::Verify(..)
            | Effect::Evaluate(..)
            | Effect::Land(_)
            | Effect::Redispatch => None,
        };
        owed(&self.state, self.now, &self.policy).into_iter().filter_map(start).collect()
    }

    fn resume(&mut self) -> Vec<Decision> {
        self.observe(Observation::Requested(Request::Resume))
    }
}

/// Returns the reason of the first retry among the decisions.
fn retry_reason(decisions: &[Decision]) -> Option<RetryReason> {
    decisions.iter().find_map(|decision| match decision {
        Decision::Task(_, event) => {
            let TaskEventKind::Retried { reason, .. } = &event.kind else { return None };
            Some(*reason)
        }
        Decision::Run(_) => None,
    })
}

/// Returns true if the decisions contain an event of the run that `kind` accepts.
fn has_run_event(decisions: &[Decision], kind: impl Fn(&RunEventKind) -> bool) -> bool {
    decisions.iter().any(|d| match d {
        Decision::Run(event) => kind(&event.kind),
        Decision::Task(..) => false,
    })
}

#[test]
fn chosen_task_starts_although_others_are_due_before_it() {
    let only = [id("c")].into();
    let policy = Policy { jobs: 1, only, ..Policy::default() };
    let mut bench = MachineBench::new(&["a", "b", "c"], policy);
    assert_eq!(bench.startable(), ["c"]);
    assert!(!bench.start("a"), "a is not chosen");
    bench.land("c");
    assert!(bench.startable().is_empty());
}
