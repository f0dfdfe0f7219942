//! The situations that a simulated world has gone through.

use std::collections::BTreeSet;

use git_harness::domain::event::{RunEventKind, TaskEventKind};
use git_harness::domain::machine::Decision;
use git_harness::domain::verdict::Verdict;

use super::RunWorld;

impl RunWorld {
    /// Returns the names of the situations.
    pub(crate) fn coverage(&self) -> BTreeSet<String> {
        let mut situations = BTreeSet::new();
        if self.had_torn_write {
            situations.insert("torn write".to_owned());
        }
        let mut skipped = BTreeSet::new();
        for decision in &self.chains.decisions {
            match decision {
                Decision::Run(event) => situations.extend(situation_of_run(&event.kind)),
                Decision::Task(task, event) => {
                    if matches!(event.kind, TaskEventKind::Skipped { .. }) {
                        skipped.insert(task.clone());
                    } else if matches!(event.kind, TaskEventKind::Retried { .. }) {
                        skipped.remove(task);
                    } else if skipped.contains(task)
                        && matches!(event.kind, TaskEventKind::Ended { .. })
                    {
                        situations.insert("skipped while running".to_owned());
                    }
                    situations.extend(situation_of_task(&event.kind));
                }
            }
        }
        situations
    }
}

fn situation_of_run(kind: &RunEventKind) -> Option<String> {
    Some(match kind {
        RunEventKind::Halted { halt, .. } => format!("halted: {}", halt.as_str()),
        RunEventKind::Resumed { canary: true, .. } => "canary after failures".into(),
        RunEventKind::Account(account) if account.slots.is_some() => "fewer slots".into(),
        RunEventKind::Account(account) if account.proven && account.strikes > 0 => {
            "account proven by an answer".into()
        }
        RunEventKind::Split { task, .. } if task.as_str().contains("_part_") => {
            "split again".into()
        }
        RunEventKind::Split { .. } => "split".into(),
        RunEventKind::Replanned { .. } => "replanned".into(),
        RunEventKind::JobChanged(_) => "job changed".into(),
        _ => return None,
    })
}

fn situation_of_task(kind: &TaskEventKind) -> Option<String> {
    Some(match kind {
        TaskEventKind::Started { resumed: true, .. } => "session resumed".into(),
        TaskEventKind::Started { work: Some(_), .. } => "candidate continued".into(),
        TaskEventKind::Ended { report: Some(report), .. } => format!("ended: {}", report.class),
        TaskEventKind::Retried { reason, .. } => format!("retried: {reason}"),
        TaskEventKind::Failed { cause, .. } => cause.clone(),
        TaskEventKind::Approved(_) => "approved".into(),
        TaskEventKind::ChangesRequested { .. } => "changes requested".into(),
        TaskEventKind::Revised { .. } => "revised".into(),
        TaskEventKind::Evaluated { verdict, .. } => match verdict {
            Verdict::Passed => "evaluation passed".into(),
            Verdict::Failed(_) => "evaluation failed".into(),
            Verdict::Errored(_) => "evaluation errored".into(),
        },
        _ => return None,
    })
}
