//! What has happened in a world, in a few words each.

use std::collections::BTreeSet;

use git_harness::domain::event::{RunEventKind, TaskEventKind};
use git_harness::domain::machine::Decision;
use git_harness::domain::verdict::Verdict;

use super::World;

impl World {
    pub(crate) fn happened(&self) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        if self.was_torn {
            words.insert("half written".to_owned());
        }
        let mut out = BTreeSet::new();
        for decision in &self.journal.decisions {
            match decision {
                Decision::Run(event) => words.extend(of_run(&event.kind)),
                Decision::Task(task, event) => {
                    if matches!(event.kind, TaskEventKind::Skipped { .. }) {
                        out.insert(task.clone());
                    } else if matches!(event.kind, TaskEventKind::Retried { .. }) {
                        out.remove(task);
                    } else if out.contains(task)
                        && matches!(event.kind, TaskEventKind::Ended { .. })
                    {
                        words.insert("taken out while under way".to_owned());
                    }
                    words.extend(of_task(&event.kind));
                }
            }
        }
        words
    }
}

fn of_run(kind: &RunEventKind) -> Option<String> {
    Some(match kind {
        RunEventKind::Halted { halt, .. } => format!("halted: {}", halt.as_str()),
        RunEventKind::Resumed { canary: true, .. } => "one first after failures".into(),
        RunEventKind::Account(account) if account.slots.is_some() => "fewer slots".into(),
        RunEventKind::Account(account) if account.proven && account.strikes > 0 => {
            "an answer proves the account".into()
        }
        RunEventKind::Split { task, .. } if task.as_str().contains("_part_") => {
            "split again".into()
        }
        RunEventKind::Split { .. } => "split".into(),
        RunEventKind::Replanned { .. } => "the plan was made again".into(),
        RunEventKind::JobChanged(_) => "the job has changed".into(),
        _ => return None,
    })
}

fn of_task(kind: &TaskEventKind) -> Option<String> {
    Some(match kind {
        TaskEventKind::Started { resumed: true, .. } => "goes on with its session".into(),
        TaskEventKind::Ended { report: Some(report), .. } => format!("ended: {}", report.class),
        TaskEventKind::Retried { reason, .. } => format!("again: {reason}"),
        TaskEventKind::Failed { cause, .. } => cause.clone(),
        TaskEventKind::Approved(_) => "approved".into(),
        TaskEventKind::ChangesRequested { .. } => "sent back".into(),
        TaskEventKind::Revised { .. } => "revised".into(),
        TaskEventKind::Evaluated { verdict, .. } => match verdict {
            Verdict::Passed => "the evaluator is content".into(),
            Verdict::Failed(_) => "the evaluator objects".into(),
            Verdict::Errored(_) => "the evaluator is silent".into(),
        },
        _ => return None,
    })
}
