//! The JSON of `collect`, and the values that templates are rendered with.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Version;

/// `collect --json` of a run whose tasks hand in outputs.
#[derive(Debug, Serialize)]
pub(crate) struct CollectedOutputs<'a> {
    pub v: Version,
    pub run: &'a str,
    pub summary: &'a CollectSummary,
    pub counts: CollectCounts,
    pub outputs: Vec<CollectedOutput<'a>>,
}

/// The numbers of collected items by severity, rule and folder.
#[derive(Debug, Default, Serialize)]
pub(crate) struct CollectCounts {
    pub items: usize,
    pub severity: BTreeMap<String, usize>,
    pub rule: BTreeMap<String, usize>,
    pub folder: BTreeMap<String, usize>,
}

/// `collect --json` of a run whose tasks change files.
#[derive(Debug, Serialize)]
pub(crate) struct CollectedChanges<'a> {
    pub v: Version,
    pub run: &'a str,
    pub summary: &'a CollectSummary,
    pub tasks: &'a [Value],
}

/// The progress of a run: the share of tasks that are done, and the tasks that are missing.
#[derive(Debug, Serialize)]
pub(crate) struct CollectSummary {
    pub state: &'static str,
    pub tasks: u32,
    pub done: u32,
    pub share: f64,
    pub missing: Vec<MissingTask>,
}

/// A task whose output is missing.
#[derive(Debug, Serialize)]
pub(crate) struct MissingTask {
    pub id: String,
    pub state: &'static str,
    pub files: Vec<String>,
}

/// The output of one task: JSON, or text.
#[derive(Debug, Serialize)]
pub(crate) struct CollectedOutput<'a> {
    pub task: &'a str,
    pub files: &'a [String],
    pub output: Value,
}

/// The values for a template of `[output] page`.
#[derive(Debug, Serialize)]
pub(crate) struct CollectPage<'a> {
    pub run: &'a str,
    pub job: &'a str,
    pub base: &'a str,
    pub summary: &'a CollectSummary,
    pub outputs: Vec<CollectedOutput<'a>>,
    pub items: Vec<Value>,
}

/// A line of the input of `[output] command`.
#[derive(Debug, Serialize)]
pub(crate) struct OutputFile<'a> {
    pub task: &'a str,
    pub files: &'a [String],
    pub path: &'a Path,
}

/// A task whose work is a change.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeTask<'a> {
    pub task: &'a str,
    pub files: &'a [String],
    pub state: &'a str,
    pub commit: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub vars: Value,
}

/// A finding that a task was to fix. The finding's own keys come first.
#[derive(Debug, Serialize)]
pub(crate) struct FixedFinding<'a> {
    #[serde(flatten)]
    pub finding: &'a Map<String, Value>,
    pub task: &'a str,
    pub state: &'a str,
    pub outcome: &'a str,
    pub why: Option<&'a str>,
    pub commit: Option<&'a str>,
}

/// The values for the template of a job's SKILL.md.
#[derive(Debug, Serialize)]
pub(crate) struct SkillPage<'a> {
    pub name: &'a str,
    pub line: &'a str,
    pub description: &'a str,
    pub report: bool,
}
