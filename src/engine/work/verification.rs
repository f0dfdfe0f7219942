//! The supervisor's side of a verification: uses recorded verdicts if possible, and otherwise
//! starts a keeper in a worktree that no agent has used.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::assignment::{AssignmentFolder, EarlierResult, Finished, KeeperWait, OnDeath};
use super::checks::{self, ChecksAssignment};
use crate::domain::id::{Oid, TaskId};
use crate::domain::verdict::{Candidate, CheckReport, Finding, Verdict};
use crate::engine::queue::TargetRules;
use crate::engine::{Context, target_checks};
use crate::keeper::{self, SetupReuse};
use crate::process::Lock;
use crate::verify::rules::RuleFiles;
use crate::verify::scope::TaskScope;
use crate::verify::{self, CheckStage, CheckSubject, scope};
use crate::wire::keeper::{CheckStep, ChecksOutcome, WorktreeSpec};

/// The assignment of a verification.
#[derive(Debug, Clone)]
pub(in crate::engine) struct VerificationAssignment {
    /// The stage, which selects the checks.
    pub stage: CheckStage,
    /// The task and its attempt. `None` for the run's base and the target's tip, which contain no
    /// new work.
    pub task: Option<(TaskId, u32)>,
    /// The commit to check out. Any commit with the tree will do.
    pub commit: Oid,
    /// The tree to verify.
    pub tree: Oid,
    /// The commit that the work started from.
    pub base: Oid,
    /// True if the tree is verified a second time after a failure, so a recorded failure must not
    /// be reused.
    pub again: bool,
    /// The rules of the target.
    pub rules: Option<Arc<TargetRules>>,
}

/// The result of a verification, with the lines for the notes.
#[derive(Debug)]
pub(in crate::engine) struct VerificationResult {
    /// The verdict.
    pub report: CheckReport,
    /// Lines for the tree's note.
    pub lines: Vec<String>,
}

impl VerificationAssignment {
    /// Creates the assignment for a tree with the work of at most one task.
    pub(in crate::engine) fn new(
        stage: CheckStage,
        task: Option<(TaskId, u32)>,
        (commit, tree, base): (Oid, Oid, Oid),
    ) -> Self {
        Self { stage, task, commit, tree, base, again: false, rules: None }
    }

    /// Returns the name of the assignment's folder.
    pub(in crate::engine) fn key(&self) -> String {
        let again = if self.again { ".again" } else { "" };
        let tree = &self.tree.as_str()[..12];
        match (&self.task, self.stage) {
            (None, _) => format!("base.{tree}{again}"),
            (Some((task, attempt)), CheckStage::Task) => format!("t.{task}.{attempt}"),
            (Some((task, attempt)), CheckStage::Landing) => format!("l.{task}.{attempt}"),
        }
    }
}

/// Returns the findings about a candidate that need no check: paths out of scope, content that
/// nothing may add, or a missing output file.
pub(in crate::engine) fn scope_findings(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    candidate: &Candidate,
) -> Result<Vec<Finding>> {
    let store = &ctx.store;
    let planned = ctx.task(task)?;
    let (repo, change) = (store.repo(), (&candidate.base, &candidate.tree));
    let rules = rule_files(ctx)?.in_tree(repo, &candidate.base)?;
    let scope = TaskScope { section: &ctx.job.scope, rules: &rules, task_files: &planned.files };
    let mut found = scope.violations(repo, change, attempt)?;
    if let (true, Some(output)) = (found.is_empty(), &ctx.job.output)
        && !store.repo().has_entry(&candidate.tree, &output.path)?
    {
        found.push(scope::missing_output(&output.path, attempt));
    }
    Ok(found)
}

/// Returns the rule files that decide about the run's tasks: those of its job, and those of the
/// target unless the run owns the target.
fn rule_files(ctx: &Context) -> Result<RuleFiles> {
    let mut rules = ctx.rule_files();
    if !ctx.manifest.target_created
        // Rules that cannot be read stop the run elsewhere.
        && let Some(of_target) = ctx.queue.find_rules(&ctx.tip()?).ok().flatten()
    {
        rules.extend(of_target.rule_files());
    }
    Ok(rules)
}

/// Returns the steps of an assignment, and the number of steps from the run's own job. The steps
/// after these are target checks.
fn planned_steps(
    ctx: &Context,
    assignment: &VerificationAssignment,
    worktree: &str,
) -> Result<(Vec<CheckStep>, usize)> {
    let worktree = ctx.worktrees.join(worktree).to_string_lossy().into_owned();
    let planned = assignment.task.as_ref().map(|(task, _)| ctx.task(task)).transpose()?;
    let files: &[String] = planned.as_ref().map_or(&[], |task| &task.files);
    let task = assignment.task.as_ref().map(|(task, attempt)| (task, files, *attempt));
    let subject = CheckSubject { run: &ctx.run, task, base: &assignment.base, worktree: &worktree };
    let mut steps = verify::steps(&ctx.job, assignment.stage, &subject, &ctx.salt);
    let own_count = steps.len();
    if let Some(rules) = assignment.rules.as_deref() {
        steps.extend(target_checks::steps(ctx, rules, &assignment.base, &worktree, &steps));
    }
    let section = &ctx.job.worktree;
    verify::add_setup(&mut steps, &section.setup, &section.setup_inputs);
    Ok((steps, own_count))
}

/// Returns the steps of an assignment, with the recorded verdicts on the tree.
pub(in crate::engine) fn steps(
    ctx: &Context,
    assignment: &VerificationAssignment,
    worktree: &str,
) -> Result<Vec<CheckStep>> {
    let (mut steps, own_count) = planned_steps(ctx, assignment, worktree)?;
    let who = assignment.task.as_ref().map(|(task, attempt)| (task, *attempt));
    let (own_steps, target_steps) = steps.split_at_mut(own_count);
    verify::add_recorded_verdicts(
        &ctx.store,
        &ctx.job,
        &ctx.run,
        &assignment.tree,
        who,
        own_steps,
    )?;
    if let Some(rules) = &assignment.rules {
        // The target's job decides which verdicts of target checks may be reused.
        verify::add_recorded_verdicts(
            &ctx.store,
            &rules.job,
            &ctx.run,
            &assignment.tree,
            who,
            target_steps,
        )?;
    }
    verify::forget_older_verdicts(&mut steps, ctx.queue.fresh_since());
    if assignment.again {
        steps.iter_mut().for_each(|step| step.known.retain(|known| known.passed));
    }
    Ok(steps)
}

/// Verifies a tree. Returns `None` while a keeper runs and is not awaited.
pub(in crate::engine) fn verify_tree(
    ctx: &Context,
    assignment: &VerificationAssignment,
    worktree: &str,
    wait: KeeperWait,
    earlier: EarlierResult,
) -> Result<Option<VerificationResult>> {
    let steps = steps(ctx, assignment, worktree)?;
    if let Some(mut report) = verify::known_verdict(&steps) {
        if let (Verdict::Failed(findings), Some((_, attempt))) =
            (&mut report.verdict, &assignment.task)
        {
            findings.iter_mut().for_each(|f| f.attempt = *attempt);
        }
        return Ok(Some(VerificationResult { report, lines: Vec::new() }));
    }
    let folder = AssignmentFolder::create(folder(ctx, assignment))?;
    let checks = checks_assignment(ctx, assignment, worktree, &folder, &steps)?;
    Ok(match folder.carry_out(&*ctx.keepers, &checks, wait, earlier)? {
        None => None,
        Some(Finished::Answered(outcome)) => {
            let result = conclude(ctx, assignment, &outcome, &steps)?;
            if let Verdict::Errored(_) = result.report.verdict {
                // The verification will be repeated, so the result must not be reused.
                folder.clear()?;
            }
            Some(result)
        }
        Some(Finished::Died(keeper)) => {
            folder.clear()?;
            let verdict = Verdict::Errored(checks::fault(&keeper));
            let report = CheckReport { verdict, results: Vec::new() };
            Some(VerificationResult { report, lines: Vec::new() })
        }
    })
}

/// Verifies a candidate again. See [`crate::engine::verify_again`].
pub(in crate::engine) fn verify_again(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    candidate: &Candidate,
    setup: SetupReuse,
) -> Result<CheckReport> {
    let findings = scope_findings(ctx, task, attempt, candidate)?;
    if !findings.is_empty() {
        let verdict = Verdict::Failed(findings);
        return Ok(CheckReport { verdict, results: Vec::new() });
    }
    let (worktree, _lock) = own_worktree(ctx)?;
    if setup == SetupReuse::Never {
        let worktrees = ctx.store.local().worktree_indexes(&ctx.run);
        keeper::forget_setups(&worktrees, Some(&worktree))?;
    }
    let Candidate { commit, tree, base } = candidate.clone();
    let assignment = VerificationAssignment::new(
        CheckStage::Task,
        Some((task.clone(), attempt)),
        (commit, tree, base),
    );
    let mut steps = steps(ctx, &assignment, &worktree)?;
    steps.iter_mut().for_each(|s| s.known.clear());
    let dir = ctx.store.local().verification(&ctx.run, &format!("v.{worktree}"));
    let folder = AssignmentFolder::create(dir)?;
    let checks = checks_assignment(ctx, &assignment, &worktree, &folder, &steps)?;
    let report = match folder.wait(&*ctx.keepers, &checks, EarlierResult::Ignore)? {
        Finished::Answered(outcome) => verify::verdict(&outcome, &steps, attempt),
        Finished::Died(keeper) => bail!(checks::fault(&keeper)),
    };
    std::fs::remove_dir_all(folder.path())?;
    Ok(report)
}

/// Returns true if the target's tip passes the run's landing checks. Recorded verdicts count. Fails
/// if there is no verdict: a fault of the machine says nothing about the tip.
pub(in crate::engine) fn tip_passes(ctx: &Context, tip: &Oid) -> Result<bool> {
    let (worktree, _lock) = own_worktree(ctx)?;
    let subject = (tip.clone(), ctx.store.repo().tree_of(tip)?, tip.clone());
    let assignment = VerificationAssignment::new(CheckStage::Landing, None, subject);
    let steps = steps(ctx, &assignment, &worktree)?;
    if let Some(report) = verify::known_verdict(&steps) {
        return Ok(report.verdict == Verdict::Passed);
    }
    let dir = ctx.store.local().verification(&ctx.run, &format!("v.{worktree}"));
    let folder = AssignmentFolder::create(dir)?;
    let checks = checks_assignment(ctx, &assignment, &worktree, &folder, &steps)?;
    let unknown = |why: &str| format!("cannot verify the target's tip {}: {why}", tip.short());
    let passes = match folder.wait(&*ctx.keepers, &checks, EarlierResult::Ignore)? {
        Finished::Answered(outcome) => match verify::verdict(&outcome, &steps, 0).verdict {
            Verdict::Passed => true,
            Verdict::Failed(_) => false,
            Verdict::Errored(why) => bail!(unknown(&why)),
        },
        Finished::Died(keeper) => bail!(unknown(keeper.last_line())),
    };
    std::fs::remove_dir_all(folder.path())?;
    if let Some(why) = ctx.store.changed_settings() {
        bail!(unknown(&why));
    }
    Ok(passes)
}

/// Takes a check worktree that no other verification uses.
fn own_worktree(ctx: &Context) -> Result<(String, Lock)> {
    let worktrees = ctx.store.local().worktree_indexes(&ctx.run);
    std::fs::create_dir_all(&worktrees)?;
    // Use a separate worktree with a lock, since the other worktrees belong to the supervisor.
    for n in 1..100 {
        let name = format!("v{n:02}");
        if let Ok(lock) = Lock::try_take(&worktrees.join(format!("{name}.lock")), "")? {
            return Ok((name, lock));
        }
    }
    bail!("too many verifications at a time")
}

/// Returns the checks of a verification as an assignment of a keeper.
fn checks_assignment<'a>(
    ctx: &Context,
    assignment: &'a VerificationAssignment,
    worktree: &str,
    folder: &AssignmentFolder,
    steps: &'a [CheckStep],
) -> Result<ChecksAssignment<'a>> {
    Ok(ChecksAssignment {
        common_dir: ctx.store.repo().common_dir().to_path_buf(),
        name: format!("{}.{}", ctx.run, assignment.key()),
        worktree: WorktreeSpec {
            name: worktree.to_owned(),
            path: ctx.worktrees.join(worktree),
            index: ctx.store.local().worktree_indexes(&ctx.run).join(worktree),
            commit: assignment.commit.to_string(),
            branch: None,
            setup: ctx.job.worktree.setup.clone(),
            setup_inputs: ctx.job.worktree.setup_inputs.clone(),
            setup_control: assignment.task.as_ref().map(|_| assignment.base.to_string()),
            keep: ctx.job.worktree.keep.patterns().to_vec(),
            provided: ctx.provided.clone(),
            leftovers: None,
        },
        tree: &assignment.tree,
        steps,
        tasks: Vec::new(),
        environment: ctx.keeper_environment(folder.path(), &verify::passed_variables(steps)),
        sandbox: ctx.sandbox(false)?,
        on_death: match assignment.task {
            Some(_) => OnDeath::ReportOwn,
            // The verification of the base is not retried later.
            None => OnDeath::Replace,
        },
        key: ctx.store.seal_key()?.clone(),
    })
}

/// Converts the outcome of a keeper to a result with the lines for the notes.
fn conclude(
    ctx: &Context,
    assignment: &VerificationAssignment,
    outcome: &ChecksOutcome,
    steps: &[CheckStep],
) -> Result<VerificationResult> {
    let attempt = assignment.task.as_ref().map_or(0, |(_, n)| *n);
    if let Some(why) = ctx.store.changed_settings() {
        // The checks may have seen other files than those of the tree.
        let report = CheckReport { verdict: Verdict::Errored(why), results: Vec::new() };
        return Ok(VerificationResult { report, lines: Vec::new() });
    }
    let report = verify::verdict(outcome, steps, attempt);
    let who = assignment.task.as_ref().map(|(task, attempt)| (task, *attempt));
    let lines = verify::note_lines(outcome, &report, ctx.run.as_str(), who, &ctx.store)?;
    Ok(VerificationResult { report, lines })
}

/// Returns the folder of an assignment. The folder is no longer needed once the verdict is on a
/// chain.
pub(in crate::engine) fn folder(
    ctx: &Context,
    assignment: &VerificationAssignment,
) -> std::path::PathBuf {
    ctx.store.local().verification(&ctx.run, &assignment.key())
}
