//! Verification of a tree: the checks of a job as steps for a keeper, the outcome as a verdict, and
//! the scope.

pub(crate) mod evaluation;
pub(crate) mod rules;
pub(crate) mod scope;

use anyhow::Result;

use crate::ambient;
use crate::contract;
use crate::contract::ast_equal::AstEqualOptions;
use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::shell::shell_quote;
use crate::domain::verdict::{CheckReport, CheckResult, Finding, Verdict};
use crate::job::{AstEqualCheck, Check, Job, OutputCheck, placeholders};
use crate::keeper::{setup_key, verdict_key};
use crate::store::{Store, layout};
use crate::wire::keeper::{
    self, AllowedDifferences, BuiltIn, CheckStep, ChecksOutcome, KnownVerdict, millis,
};
use crate::wire::network::WireNetwork;
use crate::wire::notes::VerdictNote;
use crate::wire::{VERSION, decode};

/// The salt of checks for which no file is provided.
pub(crate) const NO_FILES: &str = "";

/// The tree to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStage {
    /// The candidate's own tree.
    Task,
    /// The tree that would be on the target.
    Landing,
}

/// The values of the placeholders in a check's arguments.
#[derive(Debug, Clone)]
pub struct CheckSubject<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The task, its files and the attempt. `None` for the run's base.
    pub task: Option<(&'a TaskId, &'a [String], u32)>,
    /// The commit from which the work started.
    pub base: &'a Oid,
    /// The path of the worktree in which the checks run.
    pub worktree: &'a str,
}

/// Returns the checks of a stage as steps. Checks that need a task do not apply to the run's base.
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
        // The key covers the engine's version and the inputs of the check except the tree. Both
        // stages use the key of the task stage, because the check of the candidate alone is
        // stricter. A candidate that lands unchanged therefore needs no second run.
        let (engine, alone) = match (&check.ast_equal, &built_in) {
            (Some(wanted), _) => {
                (contract::ast_equal::ENGINE, Some(ast_equal(wanted, CheckStage::Task, subject)))
            }
            (None, built_in) => (contract::json_schema::ENGINE, built_in.clone()),
        };
        let key = alone.map(|alone| vec!["built-in".to_owned(), engine.to_owned(), json(&alone)]);
        let network = WireNetwork::of(&check.network);
        CheckStep {
            name: check.name.clone(),
            argv: values(subject.worktree, &check.run),
            version: check.version.as_ref().map(|v| values(subject.worktree, v)),
            timeout_ms: millis(check.timeout),
            key_argv: key.unwrap_or_else(|| values("{worktree}", &check.run)),
            salt: match &network {
                None => salt.to_owned(),
                // With the network in the key, a check that failed without a network runs again.
                Some(network) => format!("{salt} {}", json(network)),
            },
            network,
            setup: String::new(),
            env: check.env.clone(),
            known: Vec::new(),
            built_in,
            put_back: None,
        }
    };
    job.checks.iter().filter(wanted).map(step).collect()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn handed_in(wanted: &OutputCheck) -> BuiltIn {
    let (path, schema) = (wanted.path.clone(), wanted.schema.clone());
    BuiltIn::HandedIn(keeper::HandedIn { path, schema })
}

fn ast_equal(wanted: &AstEqualCheck, stage: CheckStage, subject: &CheckSubject) -> BuiltIn {
    BuiltIn::AstEqual(keeper::AstEqual {
        from: wanted.from.patterns().to_vec(),
        to: wanted.to.patterns().to_vec(),
        options: allowed(&wanted.options),
        base: subject.base.to_string(),
        files: subject.task.map_or(&[][..], |(_, files, _)| files).to_vec(),
        merged: stage == CheckStage::Landing,
    })
}

fn allowed(options: &AstEqualOptions) -> AllowedDifferences {
    AllowedDifferences {
        extensions: options.extensions,
        type_imports: options.type_imports,
        define_fields: options.define_fields,
        ts_comments: options.ts_comments,
        max_any: options.max_any,
    }
}

/// Makes the set-up of the worktree part of the key of all steps that run there.
pub(crate) fn add_setup(steps: &mut [CheckStep], setup: &[Vec<String>], inputs: &[String]) {
    let key = setup_key(setup, inputs);
    for step in steps.iter_mut().filter(|step| step.built_in.is_none()) {
        step.setup.clone_from(&key);
    }
}

/// Removes recorded verdicts that are older than a time.
pub(crate) fn forget_older_verdicts(steps: &mut [CheckStep], since: Timestamp) {
    for step in steps {
        step.known.retain(|known| known.at >= since.0);
    }
}

/// Returns the names of the environment variables that steps ask for.
pub(crate) fn passed_variables(steps: &[CheckStep]) -> Vec<String> {
    steps.iter().flat_map(|step| step.env.iter().cloned()).collect()
}

/// Adds the recorded verdicts on a tree to each step.
///
/// A note alone proves nothing: an agent could have written the note. A verdict counts if a chain
/// of this run names the verdict's id, or if the job says `trust-verdicts = true`. An attempt's own
/// failure is ignored: an attempt is verified again only at the request of a person.
pub fn add_recorded_verdicts(
    store: &Store,
    job: &Job,
    run: &RunId,
    tree: &Oid,
    attempt_of: Option<(&TaskId, u32)>,
    steps: &mut [CheckStep],
) -> Result<()> {
    add_recorded_verdicts_if(store, job, tree, steps, &|line, cached| {
        if !cached {
            return Ok(false);
        }
        let own = attempt_of.is_some_and(|(task, attempt)| {
            line.task.as_deref() == Some(task.as_str()) && line.attempt == attempt
        });
        Ok((line.pass || !own) && trusted(store, job, run, line)?)
    })
}

/// Adds to each step the recorded verdicts on a tree for which `counts` returns true. The second
/// argument of `counts` is true if the job caches the check's verdicts.
pub(crate) fn add_recorded_verdicts_if(
    store: &Store,
    job: &Job,
    tree: &Oid,
    steps: &mut [CheckStep],
    counts: &dyn Fn(&VerdictNote, bool) -> Result<bool>,
) -> Result<()> {
    let Some(note) = store.note(layout::VERDICTS, tree)? else { return Ok(()) };
    for line in note.lines() {
        // A line that is damaged or has another version proves nothing.
        let Ok(line) = decode::<VerdictNote>(layout::VERDICTS, line.as_bytes()) else { continue };
        let cached = job.checks.iter().any(|c| c.name == line.check && c.cache);
        if !counts(&line, cached)? || !(job.queue.trust_verdicts || is_sealed(store, tree, &line)?)
        {
            continue;
        }
        for step in steps.iter_mut().filter(|s| s.name == line.check) {
            let known = KnownVerdict {
                key: line.key.clone(),
                passed: line.pass,
                id: line.id.clone(),
                text: line.text.clone(),
                at: line.at,
            };
            step.known.push(known);
        }
    }
    Ok(())
}

/// Seals a verdict on a tree.
pub fn seal_verdict(store: &Store, tree: &Oid, note: VerdictNote) -> Result<VerdictNote> {
    let parts = sealed_parts(tree.as_str(), &note);
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    let seal = store.seal(VERDICT, &parts)?;
    Ok(VerdictNote { seal, ..note })
}

/// Returns true if this copy of the repository recorded a verdict on the tree. An agent can write a
/// note, and a commit that vouches for it, but not the seal.
fn is_sealed(store: &Store, tree: &Oid, line: &VerdictNote) -> Result<bool> {
    let parts = sealed_parts(tree.as_str(), line);
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    store.has_sealed(VERDICT, &parts, &line.seal)
}

/// The kind of the seals of verdicts.
const VERDICT: &str = "verdict";

/// Returns the parts of a verdict that its seal covers.
fn sealed_parts(tree: &str, line: &VerdictNote) -> [String; 6] {
    let VerdictNote { check, key, pass, id, text, .. } = line;
    [tree.to_owned(), check.clone(), key.clone(), pass.to_string(), id.clone(), text.clone()]
}

fn trusted(store: &Store, job: &Job, run: &RunId, line: &VerdictNote) -> Result<bool> {
    Ok(job.queue.trust_verdicts || is_vouched_by_run(store, run, line)?)
}

/// Returns true if a chain of the run names the verdict's id.
pub(crate) fn is_vouched_by_run(store: &Store, run: &RunId, line: &VerdictNote) -> Result<bool> {
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

/// Returns the verdict if every step has a recorded verdict. A step with a version command counts
/// as not recorded, because the version is not known here.
pub(crate) fn known_verdict(steps: &[CheckStep]) -> Option<CheckReport> {
    let mut results = Vec::new();
    let mut findings = Vec::new();
    for step in steps {
        if step.version.is_some() {
            return None;
        }
        let key = verdict_key(step, "");
        let known = step.known.iter().find(|k| k.key == key)?;
        if !known.passed {
            let text = finding_text(step, &known.text);
            findings.push(Finding { attempt: 0, check: step.name.clone(), text });
        }
        let (name, passed, id) = (step.name.clone(), known.passed, known.id.clone());
        results.push(CheckResult { name, key, passed, ms: 0, id });
    }
    let verdict = if findings.is_empty() { Verdict::Passed } else { Verdict::Failed(findings) };
    Some(CheckReport { verdict, results })
}

/// Returns the outcome of a check keeper as a verdict on an attempt.
pub(crate) fn verdict(outcome: &ChecksOutcome, steps: &[CheckStep], attempt: u32) -> CheckReport {
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
            let text = finding_text(step, &check.text);
            findings.push(Finding { attempt, check: check.name.clone(), text });
        }
    }
    if let Some(text) = &outcome.setup_failure {
        findings.push(Finding { attempt, check: "setup".into(), text: text.clone() });
    }
    let verdict = match &outcome.fault {
        Some(fault) => Verdict::Errored(fault.clone()),
        None if findings.is_empty() => Verdict::Passed,
        None => Verdict::Failed(findings),
    };
    CheckReport { verdict, results }
}

/// Returns the text of a finding: the command line of the check, as a person would type it, and the
/// output. A built-in check has no command line.
fn finding_text(step: &CheckStep, output: &str) -> String {
    let text = if step.built_in.is_some() {
        output.to_owned()
    } else {
        let words: Vec<_> = step.key_argv.iter().map(|word| shell_quote(word)).collect();
        format!("`{}`: {output}", words.join(" "))
    };
    match &step.put_back {
        Some(rules) => format!("with {} as on the target: {text}", rules.describe()),
        None => text,
    }
}

/// Returns the note lines of the results that were not recorded before.
pub(crate) fn note_lines(
    outcome: &ChecksOutcome,
    report: &CheckReport,
    by: &str,
    attempt_of: Option<(&TaskId, u32)>,
    store: &Store,
) -> Result<Vec<String>> {
    let line = |(r, text): (&CheckResult, &str)| VerdictNote {
        v: VERSION,
        check: r.name.clone(),
        key: r.key.clone(),
        pass: r.passed,
        ms: r.ms,
        at: ambient::now().0,
        run: by.to_owned(),
        task: attempt_of.map(|(task, _)| task.to_string()),
        attempt: attempt_of.map_or(0, |(_, attempt)| attempt),
        id: r.id.clone(),
        text: text.to_owned(),
        seal: String::new(),
    };
    let tree = Oid::parse(&outcome.tree)?;
    let json = |line| Ok(serde_json::to_string(&seal_verdict(store, &tree, line)?)?);
    // The report has one result for each check, in order.
    let results = report.results.iter().zip(&outcome.checks);
    let fresh = results.filter(|(_, check)| check.known.is_none());
    fresh.map(|(result, check)| json(line((result, &check.text)))).collect()
}
