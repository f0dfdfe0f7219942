//! `verify`: a candidate's checks once more, whatever was known of them.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{request, workspace};
use crate::cli;
use crate::domain::state::Phase;
use crate::domain::verdict::Verdict;
use crate::engine::verify_again;
use crate::error;
use crate::ui::{Ui, human, printable};
use crate::wire::request::WireRequest;

/// `git harness verify`
pub(super) fn run(here: &Path, args: &cli::VerifyArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let (run, task) = workspace::resolve_task(&store, &args.task, None)?;
    let loaded = workspace::load_run(&store, &run)?;
    let (_, s) = workspace::find_task(&loaded, &task)?;
    let (phase, attempt) = (s.phase.clone(), s.attempt);
    let candidate = s.candidate.clone().with_context(|| {
        format!("`{run}/{task}` has no candidate to verify: it is {}", s.phase.as_str())
    })?;
    let ctx = workspace::context(&store, &loaded)?;
    let verdict = verify_again(&ctx, &task, attempt, &candidate)?;
    let passed = verdict.verdict == Verdict::Passed;
    if args.json {
        let checks: Vec<_> = verdict
            .results
            .iter()
            .map(|r| serde_json::json!({"name": r.name, "passed": r.passed, "ms": r.ms}))
            .collect();
        let value = serde_json::json!({
            "v": 1, "run": run.as_str(), "task": task.as_str(), "candidate": candidate.commit.as_str(),
            "tree": candidate.tree.as_str(), "passed": passed, "checks": checks,
        });
        ui.result(&format!("{value}\n"));
    } else {
        let commit = candidate.commit.short();
        ui.result(&format!("{run}/{task}, attempt {attempt}, candidate {commit}:\n"));
        for r in &verdict.results {
            let word = if r.passed { "passed" } else { "FAILED" };
            ui.result(&format!("  {word}  {}  ({})\n", r.name, human::duration(r.ms)));
        }
        match &verdict.verdict {
            Verdict::Passed => {}
            Verdict::Failed(findings) => {
                for finding in findings {
                    ui.result(&format!("\n{}:\n{}\n", finding.check, printable(&finding.text)));
                }
            }
            Verdict::Errored(why) => anyhow::bail!("it could not be judged: {why}"),
        }
    }
    if passed && phase == Phase::Failed {
        let wire = WireRequest::Reconsider { task: task.to_string() };
        request::tell(&store, &run, &[wire], ui)?;
    }
    Ok(if passed { error::OK } else { error::INCOMPLETE })
}
