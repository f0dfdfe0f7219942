//! What a tree must satisfy: the checks of a job as steps for a keeper, their outcome as a verdict, and the scope.

pub(crate) mod opinion;
pub(crate) mod scope;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::ambient;
use crate::contract;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::verdict::{CheckResult, Finding, Judgement, Verdict};
use crate::job::{AstEqualCheck, Check, Job, OutputCheck, placeholders};
use crate::keeper::spec::{self, BuiltIn, CheckStep, ChecksOutcome, Known, millis};
use crate::keeper::verdict_key;
use crate::store::{Store, codec, layout};

/// Which tree is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStage {
    /// The candidate's own.
    Task,
    /// The one that would be on the target.
    Landing,
}

/// What the placeholders in a check's arguments stand for.
#[derive(Debug, Clone)]
pub struct CheckSubject<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The task; none when the base is judged.
    pub task: Option<(&'a TaskId, &'a [String], u32)>,
    /// The commit from which the work started.
    pub base: &'a Oid,
    /// The place in which the checks run.
    pub worktree: &'a str,
}

/// The checks of a stage as steps. Checks that speak of a task have nothing to say of the base and are left out there.
pub fn steps(job: &Job, stage: CheckStage, subject: &CheckSubject, salt: &str) -> Vec<CheckStep> {
    let wanted = |check: &&Check| {
        let stage = match stage {
            CheckStage::Task => check.when.task,
            CheckStage::Landing => check.when.landing,
        };
        let of_a_task = placeholders::mentions_task(&check.run)
            || check.ast_equal.is_some()
            || check.output_check.is_some();
        stage && (subject.task.is_some() || !of_a_task)
    };
    let step = |check: &Check| {
        let values = |worktree: &str, argv: &[String]| {
            let values = placeholders::PlaceholderValues {
                task_id: subject.task.map_or("", |(id, _, _)| id.as_str()),
                task_files: subject.task.map_or(&[], |(_, files, _)| files),
                worktree,
                base: subject.base.as_str(),
                run: subject.run.as_str(),
                attempt: subject.task.map_or(0, |(_, _, n)| n),
                output: job.output.as_ref().map_or("", |output| &output.path),
                ..placeholders::PlaceholderValues::default()
            };
            placeholders::expand(argv, &values)
        };
        let built_in = match (&check.ast_equal, &check.output_check) {
            (Some(wanted), _) => Some(ast_equal(wanted, stage, subject)),
            (None, wanted) => wanted.as_ref().map(handed_in),
        };
        // Whatever it looks at beside the tree, and what looks. A candidate that lands as it is needs no second look: alone
        // it was looked at more closely.
        let (engine, alone) = match (&check.ast_equal, &built_in) {
            (Some(wanted), _) => {
                (contract::ast_equal::ENGINE, Some(ast_equal(wanted, CheckStage::Task, subject)))
            }
            (None, built_in) => (contract::json_schema::ENGINE, built_in.clone()),
        };
        let key = alone.map(|alone| {
            let alone = serde_json::to_string(&alone).unwrap_or_default();
            vec!["built-in".to_owned(), engine.to_owned(), alone]
        });
        CheckStep {
            name: check.name.clone(),
            argv: values(subject.worktree, &check.run),
            version: check.version.as_ref().map(|v| values(subject.worktree, v)),
            timeout_ms: millis(check.timeout),
            key_argv: key.unwrap_or_else(|| values("{worktree}", &check.run)),
            salt: salt.to_owned(),
            known: Vec::new(),
            built_in,
        }
    };
    job.checks.iter().filter(wanted).map(step).collect()
}

fn handed_in(wanted: &OutputCheck) -> BuiltIn {
    let (path, schema) = (wanted.path.clone(), wanted.schema.clone());
    BuiltIn::HandedIn(spec::HandedIn { path, schema })
}

fn ast_equal(wanted: &AstEqualCheck, stage: CheckStage, subject: &CheckSubject) -> BuiltIn {
    BuiltIn::AstEqual(spec::AstEqual {
        from: wanted.from.patterns().to_vec(),
        to: wanted.to.patterns().to_vec(),
        options: wanted.options,
        base: subject.base.to_string(),
        files: subject.task.map_or(&[][..], |(_, files, _)| files).to_vec(),
        merged: stage == CheckStage::Landing,
    })
}

/// One line of a verdict note.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerdictNote {
    /// The format's version.
    pub v: u32,
    /// The check's name.
    pub check: String,
    /// The verdict's key.
    pub key: String,
    /// What it says.
    pub pass: bool,
    /// Milliseconds.
    pub ms: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The run whose chain vouches for it, or the queue whose book does.
    pub run: String,
    /// The task on whose chain that is; none: the run's own.
    pub task: Option<String>,
    /// The attempt that earned it.
    #[serde(default)]
    pub attempt: u32,
    /// The id that the chain names.
    pub id: String,
    /// What a failed check printed, shortened; what a built-in check has counted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Adds to each step the verdicts on this tree that need not be earned again.
///
/// A note alone proves nothing: an agent could have written it. It counts when a chain of this run names its id, or
/// when the job says `trust-verdicts = true`. A failure is not held against the attempt that earned it: when that is
/// judged once more, a person wanted it to be.
pub fn recall(
    store: &Store,
    job: &Job,
    run: &RunId,
    tree: &Oid,
    who: Option<(&TaskId, u32)>,
    steps: &mut [CheckStep],
) -> Result<()> {
    recall_if(store, job, tree, steps, &|line| {
        let own = who.is_some_and(|(task, attempt)| {
            line.task.as_deref() == Some(task.as_str()) && line.attempt == attempt
        });
        Ok((line.pass || !own) && trusted(store, job, run, line)?)
    })
}

/// The same, with another opinion on which lines count.
pub(crate) fn recall_if(
    store: &Store,
    job: &Job,
    tree: &Oid,
    steps: &mut [CheckStep],
    counts: &dyn Fn(&VerdictNote) -> Result<bool>,
) -> Result<()> {
    let Some(note) = store.note(layout::VERDICTS, tree)? else { return Ok(()) };
    for line in note.lines() {
        let Ok(line) = serde_json::from_str::<VerdictNote>(line) else { continue };
        let cached = job.checks.iter().any(|c| c.name == line.check && c.cache);
        if line.v != codec::VERSION || !cached || !counts(&line)? {
            continue;
        }
        for step in steps.iter_mut().filter(|s| s.name == line.check) {
            let known = Known {
                key: line.key.clone(),
                passed: line.pass,
                id: line.id.clone(),
                text: line.text.clone(),
            };
            step.known.push(known);
        }
    }
    Ok(())
}

fn trusted(store: &Store, job: &Job, run: &RunId, line: &VerdictNote) -> Result<bool> {
    if job.queue.trust_verdicts {
        return Ok(true);
    }
    if line.run != run.as_str() {
        return Ok(false);
    }
    let chain = match &line.task {
        None => layout::run(run),
        Some(task) => layout::task(run, &TaskId::parse(task)?),
    };
    let Some(tip) = store.read(&chain)? else { return Ok(false) };
    let named = format!("Harness-Verdict: {}", line.id);
    Ok(store.messages(&tip)?.iter().any(|(_, m)| m.lines().any(|l| l == named)))
}

/// The verdict, if every step is known already and none needs a version command to say so.
pub(crate) fn known_verdict(steps: &[CheckStep]) -> Option<Verdict> {
    let mut results = Vec::new();
    let mut findings = Vec::new();
    for step in steps {
        if step.version.is_some() {
            return None;
        }
        let key = verdict_key(step, "");
        let known = step.known.iter().find(|k| k.key == key)?;
        if !known.passed {
            let text = known.text.clone();
            findings.push(Finding { attempt: 0, check: step.name.clone(), text });
        }
        let (name, passed, id) = (step.name.clone(), known.passed, known.id.clone());
        results.push(CheckResult { name, key, passed, ms: 0, id });
    }
    let judgement =
        if findings.is_empty() { Judgement::Accepted } else { Judgement::Rejected(findings) };
    Some(Verdict { judgement, results })
}

/// What a keeper of checks said, as a verdict on behalf of an attempt.
pub(crate) fn verdict(outcome: &ChecksOutcome, steps: &[CheckStep], attempt: u32) -> Verdict {
    let mut results = Vec::new();
    let mut findings = Vec::new();
    for (check, step) in outcome.checks.iter().zip(steps) {
        let id = check.known.clone().unwrap_or_else(ambient::nonce);
        results.push(CheckResult {
            name: check.name.clone(),
            key: check.key.clone(),
            passed: check.passed,
            ms: check.ms,
            id,
        });
        if !check.passed {
            let text = match step.built_in {
                Some(_) => check.text.clone(),
                None => format!("`{}`: {}", step.key_argv.join(" "), check.text),
            };
            findings.push(Finding { attempt, check: check.name.clone(), text });
        }
    }
    let judgement = match &outcome.fault {
        Some(fault) => Judgement::Inconclusive(fault.clone()),
        None if findings.is_empty() => Judgement::Accepted,
        None => Judgement::Rejected(findings),
    };
    Verdict { judgement, results }
}

/// The note lines for results that were earned just now.
pub(crate) fn note_lines(
    outcome: &ChecksOutcome,
    verdict: &Verdict,
    by: &str,
    who: Option<(&TaskId, u32)>,
) -> Vec<String> {
    let line = |(r, text): (&CheckResult, &str)| VerdictNote {
        v: codec::VERSION,
        check: r.name.clone(),
        key: r.key.clone(),
        pass: r.passed,
        ms: r.ms,
        at: ambient::now().0,
        run: by.to_owned(),
        task: who.map(|(task, _)| task.to_string()),
        attempt: who.map_or(0, |(_, attempt)| attempt),
        id: r.id.clone(),
        text: text.to_owned(),
    };
    let json = |line: VerdictNote| serde_json::to_string(&line).unwrap_or_default();
    // As the verdict was made: a result for each check.
    let results = verdict.results.iter().zip(&outcome.checks);
    let fresh = results.filter(|(_, check)| check.known.is_none());
    fresh.map(|(result, check)| json(line((result, &check.text)))).collect()
}
