//! The supervisor's side of an evaluation: a keeper runs the evaluator's agent in a worktree that
//! neither attempts nor checks use.

use anyhow::{Context as _, Result};

use super::attempt::{self, AttemptLaunch, path_text};
use super::call::{self, AgentProgram, CallInput};
use super::verification;
use crate::agent::evaluate::{self, ChangeBrief, EvaluationBrief};
use crate::ambient;
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::machine::Observation;
use crate::domain::session::{Class, Cost, SessionReport};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, Finding, Objection, Verdict};
use crate::engine::{Context, KeeperWait};
use crate::failpoint;
use crate::keeper::files;
use crate::process::{self, Lock};
use crate::repo;
use crate::store::chain::Payload;
use crate::verify;
use crate::wire::keeper::{
    Assignment, EvaluationOutcome, EvaluationWork, SessionWork, Work, WorktreeSpec, millis,
};

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

/// Evaluates a candidate. Returns `None` while a keeper runs and is not awaited.
pub(in crate::engine) fn evaluate(
    ctx: &Context,
    assignment: &EvaluationAssignment,
    worktree: &str,
    wait: KeeperWait,
) -> Result<Option<EvaluationResult>> {
    let dir = ctx
        .store
        .local()
        .evaluations(&ctx.run)
        .join(folder_name(&assignment.task, assignment.attempt));
    std::fs::create_dir_all(dir.join(files::TMP))
        .with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let lock_path = dir.join(files::LOCK);
    let mut started = false;
    loop {
        let lock = match (Lock::try_take(&lock_path, "")?, wait) {
            (Ok(lock), KeeperWait::Block | KeeperWait::Poll) => lock,
            (Err(_), KeeperWait::Block) => Lock::wait(&lock_path)?,
            (Err(_), KeeperWait::Poll) => return Ok(None),
        };
        let commit = assignment.candidate.commit.as_str();
        if let Some(outcome) = EvaluationOutcome::read(&dir)?.filter(|o| o.commit == commit) {
            return conclude(assignment, outcome).map(Some);
        }
        if let Some(old) = Assignment::read(&dir)? {
            // A keeper died in this folder, or evaluated another commit. Kill its processes.
            process::kill_marked(&old.marker);
        }
        if started {
            let why = "its keeper died".to_owned();
            return Ok(Some(no_opinion(assignment, ambient::now(), Termination::Lost, why)));
        }
        verification::clear(&dir)?;
        std::fs::create_dir_all(dir.join(files::TMP))?;
        start_keeper(ctx, assignment, worktree, &dir, &lock)?;
        drop(lock);
        if wait == KeeperWait::Poll {
            return Ok(None);
        }
        drop(Lock::wait(&lock_path)?);
        started = true;
    }
}

/// Starts the keeper of an evaluation.
fn start_keeper(
    ctx: &Context,
    assignment: &EvaluationAssignment,
    worktree: &str,
    dir: &std::path::Path,
    lock: &Lock,
) -> Result<()> {
    let evaluator = ctx.evaluator.as_ref().context("the job has no evaluator")?;
    let EvaluationAssignment { task, attempt, candidate, .. } = assignment;
    let path = ctx.worktrees.join(worktree);
    let prompt = dir.join(files::PROMPT);
    let prompt_text = evaluation_prompt(ctx, assignment)?;
    std::fs::write(&prompt, &prompt_text)?;
    // Every sandbox lets an agent write to this folder.
    let answer = dir.join(files::TMP).join("evaluation.json");
    let launch = AttemptLaunch {
        worktree: worktree.to_owned(),
        base: candidate.base.clone(),
        checkout: candidate.commit.clone(),
        session: evaluator.gives_session_ids().then(ambient::uuid),
        resumed: None,
        findings: Vec::new(),
        budget: assignment.budget,
    };
    let input = CallInput {
        dir,
        worktree: &path,
        prompt: &prompt_text,
        prompt_file: &prompt,
        feedback_file: "",
        output: &path_text(&answer),
    };
    let program = AgentProgram { agent: &evaluator.agent, preset: &evaluator.preset };
    let call = call::build_call(ctx, program, task, *attempt, &launch, input)?;
    let spec = Assignment {
        v: crate::wire::VERSION,
        common_dir: ctx.store.repo().common_dir().to_path_buf(),
        marker: format!("{}.e.{task}.{attempt}.{}", ctx.run, ambient::nonce()),
        worktree: WorktreeSpec {
            name: worktree.to_owned(),
            path: path.clone(),
            index: ctx.store.local().worktree_indexes(&ctx.run).join(worktree),
            commit: candidate.commit.to_string(),
            branch: None,
            setup: ctx.job.worktree.setup.clone(),
            keep: ctx.job.worktree.keep.patterns().to_vec(),
            overlay: Vec::new(),
        },
        work: Work::Evaluation(Box::new(EvaluationWork {
            task: task.to_string(),
            attempt: *attempt,
            commit: candidate.commit.to_string(),
            answer: answer.clone(),
            session: SessionWork {
                argv: call.argv.clone(),
                prompt_on_stdin: call.prompt_on_stdin,
                timeout_ms: millis(call.timeout),
                idle_ms: Some(millis(call.idle)),
                preset: call.preset.as_ref().map(serde_json::to_value).transpose()?,
                secrets: call.secrets.clone(),
            },
        })),
    };
    spec.write(dir)?;
    failpoint::hit("evaluation.spec-written");
    let mut env = attempt::environment(ctx, dir, &call.pass);
    call.apply_env(&mut env);
    env.set("HARNESS_RUN", ctx.run.as_str());
    env.set("HARNESS_TASK", task.as_str());
    env.set("HARNESS_ATTEMPT", attempt.to_string());
    env.set("HARNESS_WORKTREE", path.as_os_str());
    env.set("HARNESS_OUTPUT", answer.as_os_str());
    env.set("HARNESS_PROMPT_FILE", prompt.as_os_str());
    env.set("HARNESS_FEEDBACK_FILE", "");
    attempt::assign(ctx, worktree, dir, lock, &env)?;
    failpoint::hit("evaluation.keeper-started");
    Ok(())
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
