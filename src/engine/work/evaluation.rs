//! The supervisor's side of an evaluation: a keeper runs the evaluator's agent in a worktree that
//! neither attempts nor checks use.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::assignment::{
    AssignmentFolder, EarlierResult, Finished, Handover, KeeperWait, KeeperWork, OnDeath,
};
use super::attempt;
use super::call::{self, AgentProgram, CallInput, SessionCall, path_text};
use crate::agent::evaluate::{self, ChangeBrief, EvaluationBrief};
use crate::ambient;
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::machine::Observation;
use crate::domain::session::{Class, Cost, SessionReport};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, Finding, Objection, Verdict};
use crate::engine::Context;
use crate::keeper::{files, seal};
use crate::repo;
use crate::store::chain::Payload;
use crate::verify;
use crate::wire::keeper::{Assignment, EvaluationOutcome, EvaluationWork, Work, WorktreeSpec};

/// The assignment of an evaluation.
#[derive(Debug, Clone)]
pub(in crate::engine) struct EvaluationAssignment {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// The candidate to evaluate.
    pub candidate: Candidate,
    /// All findings so far.
    pub findings: Vec<Finding>,
    /// The largest cost of the evaluation, if the run has a limit.
    pub budget: Option<Cost>,
}

/// The result of an evaluation.
#[derive(Debug)]
pub(in crate::engine) struct EvaluationResult {
    /// The observation for the state machine.
    pub observation: Observation,
    /// The files that go onto the task's chain with the event.
    pub payload: Option<Payload>,
}

/// Returns the name of an evaluation's folder.
pub(in crate::engine) fn folder_name(task: &TaskId, attempt: u32) -> String {
    format!("{task}.{attempt}")
}

/// Removes the folder of an evaluation.
pub(in crate::engine) fn remove_folder(ctx: &Context, task: &TaskId, attempt: u32) -> Result<()> {
    let dir = ctx.store.local().evaluations(&ctx.run).join(folder_name(task, attempt));
    if dir.exists() {
        std::fs::remove_dir_all(&dir)
            .with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// An evaluation, as a keeper carries it out.
#[derive(Debug)]
struct PendingEvaluation<'a> {
    ctx: &'a Context,
    assignment: &'a EvaluationAssignment,
    worktree: &'a str,
    dir: &'a Path,
}

/// Evaluates a candidate. Returns `None` while a keeper runs and is not awaited.
pub(in crate::engine) fn evaluate(
    ctx: &Context,
    assignment: &EvaluationAssignment,
    worktree: &str,
    wait: KeeperWait,
) -> Result<Option<EvaluationResult>> {
    let name = folder_name(&assignment.task, assignment.attempt);
    let folder = AssignmentFolder::create(ctx.store.local().evaluations(&ctx.run).join(name))?;
    let pending = PendingEvaluation { ctx, assignment, worktree, dir: folder.path() };
    match folder.carry_out(&*ctx.keepers, &pending, wait, EarlierResult::Use)? {
        None => Ok(None),
        Some(Finished::Answered(outcome)) => conclude(assignment, outcome).map(Some),
        Some(Finished::Died(_keeper)) => {
            let why = "its keeper died".to_owned();
            Ok(Some(no_opinion(assignment, ambient::now(), Termination::Lost, why)))
        }
    }
}

impl KeeperWork for PendingEvaluation<'_> {
    type Answer = EvaluationOutcome;

    fn handover(&self) -> Result<Option<Handover>> {
        let Self { ctx, assignment, worktree, dir } = *self;
        let evaluator = ctx.evaluator.as_ref().context("the job has no evaluator")?;
        let EvaluationAssignment { task, attempt, candidate, .. } = assignment;
        let path = ctx.worktrees.join(worktree);
        let prompt = evaluation_prompt(ctx, assignment)?;
        // Every sandbox lets an agent write to this folder.
        let answer = dir.join(files::TMP).join("evaluation.json");
        let id = evaluator.gives_session_ids().then(ambient::uuid);
        let session = SessionCall {
            task,
            attempt: *attempt,
            base: &candidate.base,
            checkout: &candidate.commit,
            id: id.as_deref(),
            resumes: false,
            budget: assignment.budget,
        };
        let input = CallInput {
            dir,
            worktree: &path,
            prompt: &prompt,
            prompt_file: &dir.join(files::PROMPT),
            feedback_file: "",
            output: &path_text(&answer),
        };
        let program = AgentProgram { agent: &evaluator.agent, preset: &evaluator.preset };
        let call = call::build_call(ctx, program, session, input)?;
        Ok(Some(Handover {
            common_dir: ctx.store.repo().common_dir().to_path_buf(),
            name: format!("{}.e.{task}.{attempt}", ctx.run),
            environment: call.environment(ctx, session, input, &answer),
            sandbox: ctx.session_sandbox(&evaluator.preset, false)?,
            worktree: WorktreeSpec {
                name: worktree.to_owned(),
                path: path.clone(),
                index: ctx.store.local().worktree_indexes(&ctx.run).join(worktree),
                commit: candidate.commit.to_string(),
                branch: None,
                setup: ctx.job.worktree.setup.clone(),
                setup_inputs: ctx.job.worktree.setup_inputs.clone(),
                setup_control: None,
                keep: ctx.job.worktree.keep.patterns().to_vec(),
                provided: Vec::new(),
                leftovers: None,
            },
            work: Work::Evaluation(Box::new(EvaluationWork {
                task: task.to_string(),
                attempt: *attempt,
                commit: candidate.commit.to_string(),
                answer,
                session: call.session_work()?,
            })),
            files: vec![(files::PROMPT, prompt)],
            key: ctx.store.seal_key()?.clone(),
        }))
    }

    fn answer(&self, dir: &Path, _asked: Option<&Assignment>) -> Result<Option<EvaluationOutcome>> {
        let commit = self.assignment.candidate.commit.as_str();
        let key = self.ctx.store.seal_key()?;
        let Some(asked) = seal::read_assignment(dir, key)? else { return Ok(None) };
        let outcome: Option<EvaluationOutcome> = seal::read_outcome(dir, &asked, key)?;
        Ok(outcome.filter(|outcome| outcome.commit == commit))
    }

    fn on_death(&self) -> OnDeath {
        OnDeath::ReportOwn
    }
}

fn evaluation_prompt(ctx: &Context, assignment: &EvaluationAssignment) -> Result<String> {
    let evaluator = ctx.evaluator.as_ref().context("the job has no evaluator")?;
    let store = &ctx.store;
    let Candidate { commit, tree, base } = &assignment.candidate;
    let brief = attempt::task_brief(
        ctx,
        &assignment.task,
        assignment.attempt,
        commit,
        &assignment.findings,
    )?;
    let handed_in = match &ctx.job.output {
        None => None,
        Some(output) => store.repo().read_blob_at(tree, &output.path)?,
    };
    let diff = match &handed_in {
        Some(_) => String::new(),
        None => repo::unified_diff(store.repo(), base, commit)?,
    };
    let brief = EvaluationBrief {
        brief,
        change: ChangeBrief::new(base.as_str(), commit.as_str(), &diff),
        handed_in: handed_in.map(|bytes| evaluate::quote_output_file(&bytes)),
    };
    let template = evaluator.template.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    evaluate::render(template, &brief)
}

fn no_opinion(
    assignment: &EvaluationAssignment,
    began: Timestamp,
    termination: Termination,
    why: String,
) -> EvaluationResult {
    evaluation_result(assignment, began, termination, Verdict::Errored(why), None)
}

fn evaluation_result(
    assignment: &EvaluationAssignment,
    began: Timestamp,
    termination: Termination,
    opinion: Verdict<Objection>,
    report: Option<SessionReport>,
) -> EvaluationResult {
    EvaluationResult {
        observation: Observation::Evaluated {
            task: assignment.task.clone(),
            attempt: assignment.attempt,
            tree: assignment.candidate.tree.clone(),
            began,
            termination,
            verdict: opinion,
            report: report.map(Box::new),
        },
        payload: None,
    }
}

/// Converts the outcome of a keeper to a result.
fn conclude(
    assignment: &EvaluationAssignment,
    outcome: EvaluationOutcome,
) -> Result<EvaluationResult> {
    let began = Timestamp(outcome.began);
    let termination = Termination::from(outcome.termination);
    let report = outcome.report.map(SessionReport::from);
    let opinion = opinion_of(assignment, &termination, report.as_ref(), outcome.answer.as_deref())?;
    let mut evaluated = evaluation_result(assignment, began, termination, opinion, report);
    if let Some(tree) = outcome.files {
        let path = format!("evaluations/{}", assignment.attempt);
        evaluated.payload = Some(Payload { path, id: Oid::parse(&tree)?, is_tree: true });
    }
    Ok(evaluated)
}

/// Returns the evaluator's verdict. An answer counts only if the session completed.
fn opinion_of(
    assignment: &EvaluationAssignment,
    termination: &Termination,
    report: Option<&SessionReport>,
    answer: Option<&str>,
) -> Result<Verdict<Objection>> {
    let completed = match report {
        Some(report) => report.class == Class::Ok,
        None => matches!(termination, Termination::Exited(0) | Termination::Lingered),
    };
    if completed {
        return match answer {
            Some(answer) => verify::evaluation::from_answer(answer, assignment.attempt),
            None => Ok(Verdict::Errored("it said nothing".to_owned())),
        };
    }
    Ok(Verdict::Errored(match report {
        Some(SessionReport { class, detail: Some(detail), .. }) => format!("{class}: {detail}"),
        Some(SessionReport { class, detail: None, .. }) => class.to_string(),
        None => termination.to_string(),
    }))
}
