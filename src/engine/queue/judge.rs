//! A tree that the queue wants to know about: known verdicts first, then a keeper in a place that no branch's author has used.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;

use super::desk::{Desk, Rules};
use crate::domain::id::{Oid, RunId};
use crate::domain::verdict::{CheckReport, Verdict};
use crate::engine::work::assignment::{self, AssignmentFolder, EarlierResult, Finished, OnDeath};
use crate::engine::work::checks::{self, ChecksAssignment};
use crate::error::Advice;
use crate::verify::{self, CheckStage, CheckSubject};
use crate::wire::keeper::{CheckStep, WorktreeSpec};

/// A tree to be judged.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// A commit with that tree.
    pub commit: Oid,
    /// The tree.
    pub tree: Oid,
    /// The target's tip, whose rules hold.
    pub tip: Oid,
}

/// What was said of it, and the lines for its note.
#[derive(Debug)]
pub(super) struct Judged {
    pub verdict: CheckReport,
    pub lines: Vec<String>,
}

/// The checks of a tree as steps, with what is known of it; `vouched` are the ids that the book names. When a failure is looked at
/// once more, that it failed before says nothing.
pub(super) fn steps(
    desk: &Desk,
    rules: &Rules,
    case: &Case,
    worktree: &str,
    vouched: &HashSet<String>,
    again: bool,
) -> Result<Vec<CheckStep>> {
    let run = RunId::parse("queue")?;
    let worktree = rules.worktrees.join(worktree).to_string_lossy().into_owned();
    let subject = CheckSubject { run: &run, task: None, base: &case.tip, worktree: &worktree };
    let mut steps = verify::steps(&rules.job, CheckStage::Landing, &subject, &rules.salt);
    if steps.is_empty() {
        let short = desk.short();
        let what =
            format!("no check in `{short}:{}` says anything of a branch", crate::job::FILE_NAME);
        let hint = "add a `[[check]]` with `run` and without `{task…}`; without one everything would land unseen";
        return Err(Advice::new(what, hint).into());
    }
    let (voucher, trusts) = (desk.voucher(), rules.job.queue.trust_verdicts);
    verify::add_recorded_verdicts_if(&desk.store, &rules.job, &case.tree, &mut steps, &|line| {
        let vouched = trusts || (line.run == voucher && vouched.contains(&line.id));
        Ok(vouched && (line.pass || !again))
    })?;
    Ok(steps)
}

/// Judges a tree that is not known, in a place of the queue.
pub(super) fn judge(
    desk: &Desk,
    rules: &Arc<Rules>,
    case: &Case,
    steps: &[CheckStep],
    worktree: &str,
) -> Result<Judged> {
    let local = desk.store.local().queue(&desk.key());
    let folder = AssignmentFolder::create(local.join("checks").join(worktree))?;
    let checks = ChecksAssignment {
        common_dir: desk.store.repo().common_dir().to_path_buf(),
        name: format!("queue.{}.{worktree}", desk.key()),
        worktree: WorktreeSpec {
            name: worktree.to_owned(),
            path: rules.worktrees.join(worktree),
            index: local.join("worktrees").join(worktree),
            commit: case.commit.to_string(),
            branch: None,
            setup: rules.job.worktree.setup.clone(),
            keep: rules.job.worktree.keep.patterns().to_vec(),
            overlay: rules.overlay.clone(),
        },
        tree: &case.tree,
        steps,
        tasks: Vec::new(),
        environment: assignment::environment(&desk.environment, &desk.identity, folder.path(), &[]),
        on_death: OnDeath::ReportOwn,
    };
    let judged = match folder.wait(&desk.keepers, &checks, EarlierResult::Use)? {
        Finished::Answered(outcome) => {
            let verdict = verify::verdict(&outcome, steps, 0);
            let lines = verify::note_lines(&outcome, &verdict, &desk.voucher(), None);
            Judged { verdict, lines }
        }
        Finished::Died(keeper) => {
            let verdict = Verdict::Errored(checks::fault(&keeper));
            let verdict = CheckReport { verdict, results: Vec::new() };
            Judged { verdict, lines: Vec::new() }
        }
    };
    folder.clear()?;
    Ok(judged)
}
