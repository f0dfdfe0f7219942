//! The chains of a simulated run. Every event is written as the commit message that the store
//! writes, and is read back.

use std::collections::BTreeMap;

use git_harness::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use git_harness::domain::id::{RunId, TaskId};
use git_harness::domain::machine::Decision;
use git_harness::domain::plan::Plan;
use git_harness::domain::state::{RunState, TaskState};
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::{Objection, Verdict};
use git_harness::store::codec;

/// The chains, which survive a crash of the supervisor.
#[derive(Debug, Default)]
pub(crate) struct SimulatedChains {
    pub decisions: Vec<Decision>,
    /// The message of the last commit of every task's chain.
    tips: BTreeMap<TaskId, String>,
    events: BTreeMap<TaskId, Vec<TaskEvent>>,
    run: Vec<RunEvent>,
}

/// Returns a task's state as a chain's tip records it: with texts cut to one line.
fn as_recorded(state: &TaskState) -> TaskState {
    let line =
        |text: &Option<String>| text.as_deref().map(codec::one_line).filter(|t| !t.is_empty());
    TaskState {
        worktree: line(&state.worktree),
        owner: line(&state.owner),
        termination: state.termination.as_ref().map(|termination| {
            Termination::parse(&codec::one_line(&termination.to_string())).unwrap()
        }),
        reason: line(&state.reason),
        cause: line(&state.cause),
        ..state.clone()
    }
}

/// Returns an event without the texts that the chain stores in its tree and not in the message.
fn without_texts(event: &TaskEvent) -> TaskEvent {
    let mut event = event.clone();
    match &mut event.kind {
        TaskEventKind::Verified { findings: Some(findings), .. } => findings.clear(),
        TaskEventKind::Evaluated {
            verdict: Verdict::Failed(Objection { findings, .. }), ..
        } => {
            findings.clear();
        }
        TaskEventKind::Conflicted { finding, .. }
        | TaskEventKind::ChangesRequested { finding, .. } => {
            finding.attempt = 0;
            finding.text.clear();
        }
        _ => {}
    }
    event
}

/// Returns an event with the service's text cut to one line.
fn with_one_line(event: &RunEvent) -> RunEvent {
    let mut event = event.clone();
    if let RunEventKind::Account(account) | RunEventKind::EvaluatorAccount(account) =
        &mut event.kind
    {
        account.because = account.because.as_deref().map(codec::one_line);
    }
    event
}

impl SimulatedChains {
    /// Writes a decision and folds it into the state.
    pub(crate) fn write(&mut self, state: &mut RunState, decision: &Decision) {
        let run = state.id.to_string();
        let number = self.decisions.len();
        match decision {
            Decision::Run(event) => {
                state.apply_run(event);
                let seq = self.run.len() as u64 + 1;
                let message =
                    codec::write_run(&run, event, seq, &format!("{number:032x}")).unwrap();
                let read = codec::read_run_event("run", &message).unwrap();
                assert_eq!(read, with_one_line(event), "round trip of a run's event:\n{message}");
                self.run.push(read);
            }
            Decision::Task(task, event) => {
                state.apply_task(task, event);
                let after = &state.tasks[task];
                let nonce = format!("{number:032x}");
                let message = codec::write_task(&run, task, event, after, &nonce).unwrap();
                let read = codec::read_task_event("task", &message).unwrap();
                assert_eq!(read, without_texts(event), "round trip of a task's event:\n{message}");
                let recorded = codec::read_state("task", &message).unwrap();
                assert_eq!(recorded, as_recorded(after), "round trip of a state:\n{message}");
                let title = message.lines().next().unwrap();
                assert!(title.starts_with(&format!("{task}: ")), "{title}");
                let trailers = codec::trailers(&message);
                assert_eq!(trailers["Harness-Task"], task.as_str());
                assert_eq!(trailers["Harness-Nonce"], nonce);
                self.tips.insert(task.clone(), message);
                self.events.entry(task.clone()).or_default().push(read);
            }
        }
        self.decisions.push(decision.clone());
    }

    /// Returns the state that a new supervisor loads: the run's chain folded, and the tips of the
    /// tasks.
    pub(crate) fn reload(&self, id: &RunId, plan: &Plan) -> RunState {
        let mut state = RunState::new(id.clone(), plan.clone());
        for event in &self.run {
            state.apply_run(event);
        }
        let read = |(task, message): (&TaskId, &String)| {
            (task.clone(), codec::read_state("task", message).unwrap())
        };
        state.tasks.restore(self.tips.iter().map(read));
        state
    }

    /// Checks that both the decisions and the events read back fold to the state, and that the
    /// tips give the table that the fold has kept.
    pub(crate) fn compare(&self, state: &RunState, plan: &Plan) {
        let recorded = |(task, state): (&TaskId, &TaskState)| (task.clone(), as_recorded(state));
        let mut kept = state.tasks.clone();
        kept.restore(state.tasks.iter().map(recorded));
        assert!(self.reload(&state.id, plan).tasks == kept, "loaded table");
        let mut replayed = RunState::new(state.id.clone(), plan.clone());
        for decision in &self.decisions {
            match decision {
                Decision::Run(event) => replayed.apply_run(event),
                Decision::Task(task, event) => replayed.apply_task(task, event),
            }
        }
        let mut read = RunState::new(state.id.clone(), plan.clone());
        for event in &self.run {
            read.apply_run(event);
        }
        for (task, events) in &self.events {
            for event in events {
                read.apply_task(task, event);
            }
        }
        for folded in [replayed, read] {
            assert_eq!(folded.phase, state.phase);
            assert_eq!(folded.base_passed, state.base_passed);
            assert_eq!(folded.reason, state.reason);
            assert_eq!((folded.halt, folded.canary), (state.halt, state.canary));
            assert_eq!(folded.baseline, state.baseline);
            assert_eq!(folded.split, state.split);
            assert!(folded.tasks.planned().eq(state.tasks.planned()), "replayed plan");
            for (task, expected) in state.tasks.iter() {
                assert_eq!(
                    as_recorded(&folded.tasks[task]),
                    as_recorded(expected),
                    "{task}: replayed state"
                );
            }
        }
    }
}
