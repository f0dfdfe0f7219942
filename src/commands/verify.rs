//! `verify`: run the checks of a candidate again, regardless of the verdicts recorded for its tree.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::names::{self, RunUse};
use super::request::Requests;
use super::workspace;
use crate::cli as args;
use crate::domain::state::Phase;
use crate::domain::verdict::Verdict;
use crate::engine::{SetupReuse, verify_again};
use crate::error;
use crate::ui::{Ui, human, json, printable};
use crate::wire::cli;
use crate::wire::request::WireRequest;

/// `git harness verify`
pub(super) fn run(here: &Path, args: &args::VerifyArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = args.run.as_deref();
    let (workspace, task) = names::open_task(&store, here, &args.task, run, RunUse::Change)?;
    let run = workspace.run().clone();
    let (planned, s) = workspace.find_task(&task)?;
    let label = planned.label();
    let (phase, attempt) = (s.phase.clone(), s.attempt);
    let candidate = s.candidate.clone().with_context(|| {
        format!("`{run}/{label}` has no candidate to verify: the task is {}", s.phase.as_str())
    })?;
    let setup = if args.fresh { SetupReuse::Never } else { SetupReuse::IfMarked };
    let report = verify_again(&workspace.context()?, &task, attempt, &candidate, setup)?;
    let passed = report.verdict == Verdict::Passed;
    if args.json {
        ui.json(&cli::Verification {
            v: cli::Version,
            run: run.as_str(),
            task: task.as_str(),
            candidate: candidate.commit.as_str(),
            tree: candidate.tree.as_str(),
            passed,
            checks: report.results.iter().map(json::check).collect(),
        })?;
    } else {
        let commit = candidate.commit.short();
        ui.result(&format!("{run}/{label}, attempt {attempt}, candidate {commit}:\n"));
        for r in &report.results {
            let word = if r.passed { "passed" } else { "FAILED" };
            ui.result(&format!("  {word}  {}  ({})\n", r.name, human::duration(r.ms)));
        }
        match &report.verdict {
            Verdict::Passed => {}
            Verdict::Failed(findings) => {
                for finding in findings {
                    ui.result(&format!("\n{}:\n{}\n", finding.check, printable(&finding.text)));
                }
            }
            Verdict::Errored(why) => {
                anyhow::bail!("cannot verify `{run}/{label}`: {why}")
            }
        }
    }
    if passed && phase == Phase::Failed {
        let wire = WireRequest::Reconsider { task: task.to_string() };
        Requests::of(workspace).ask_and_report(&[wire], ui)?;
    }
    Ok(if passed { error::OK } else { error::INCOMPLETE })
}
