//! The outcomes of findings that tasks had to fix, as the agents state them in commit messages.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::domain::plan::Task;
use crate::domain::verdict::Candidate;
use crate::store::Store;

/// The outcome of one finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FindingOutcome {
    /// The code was changed, and the change landed.
    Fixed,
    /// The finding is wrong, for this reason.
    NotSo(String),
    /// Nothing was decided, for this reason if there is one.
    Open(Option<String>),
}

impl FindingOutcome {
    /// Returns the word used in JSON.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::NotSo(_) => "not so",
            Self::Open(_) => "open",
        }
    }

    /// Returns the reason.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Self::Fixed => None,
            Self::NotSo(why) => Some(why),
            Self::Open(why) => why.as_deref(),
        }
    }
}

/// Returns the findings in a task's variables. Returns none unless all of them are objects.
pub(crate) fn findings_of(vars: &Value) -> Option<Vec<&Map<String, Value>>> {
    vars.get("findings")?.as_array()?.iter().map(Value::as_object).collect()
}

/// Returns the ids of the findings that a landing candidate of a task has fixed. An id that is not
/// a single word is left out.
pub(crate) fn fixed_ids(store: &Store, task: &Task, candidate: &Candidate) -> Result<Vec<String>> {
    let vars = serde_json::from_str(&task.vars).unwrap_or(Value::Null);
    let Some(findings) = findings_of(&vars) else { return Ok(Vec::new()) };
    let stated = StatedOutcomes::read(store, Some(candidate))?;
    let has_changed = is_change(store, candidate)?;
    let is_word = |id: &str| {
        !id.is_empty() && !id.contains(|c: char| c.is_whitespace() || matches!(c, ',' | ':'))
    };
    let fixed = findings.into_iter().enumerate().filter_map(|(index, finding)| {
        let outcome = stated.of(index + 1, finding, has_changed, true);
        let id = id_of(finding).filter(|id| is_word(id));
        id.filter(|_| outcome == FindingOutcome::Fixed).map(str::to_owned)
    });
    Ok(fixed.collect())
}

/// Returns true if a candidate changes files.
pub(crate) fn is_change(store: &Store, candidate: &Candidate) -> Result<bool> {
    Ok(store.repo().tree_of(&candidate.base)? != candidate.tree)
}

fn id_of(finding: &Map<String, Value>) -> Option<&str> {
    finding.get("id").and_then(Value::as_str)
}

/// The outcomes in the messages of a task's commits, by the number of the finding, from 1, or by
/// its id.
#[derive(Debug, Default)]
pub(crate) struct StatedOutcomes(BTreeMap<String, FindingOutcome>);

impl StatedOutcomes {
    /// Reads the messages of a candidate's commits.
    pub(crate) fn read(store: &Store, candidate: Option<&Candidate>) -> Result<Self> {
        let Some(Candidate { commit, base, .. }) = candidate else { return Ok(Self::default()) };
        let range = format!("{base}..{commit}");
        let args = ["log", "--format=%B", "--no-show-signature", range.as_str(), "--"];
        let output = store.git().output(&args, b"")?;
        anyhow::ensure!(output.code == Some(0), "git log: {}", output.stderr);
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Reads lines such as `Finding 2: not so: REASON`. The first line about a finding counts, so
    /// the newest message comes first.
    fn parse(messages: &str) -> Self {
        let mut outcomes = BTreeMap::new();
        for line in messages.lines() {
            if let Some((label, outcome)) = parse_line(line) {
                outcomes.entry(label).or_insert(outcome);
            }
        }
        Self(outcomes)
    }

    /// Returns the outcome of the finding with this number. A landed change whose messages mention
    /// no finding counts as the fix of all findings. `has_landed` is true if the task landed a
    /// change.
    pub(crate) fn of(
        &self,
        number: usize,
        finding: &Map<String, Value>,
        has_landed: bool,
        is_done: bool,
    ) -> FindingOutcome {
        let by_id = || id_of(finding).and_then(|id| self.0.get(id));
        match self.0.get(&number.to_string()).or_else(by_id) {
            Some(FindingOutcome::Fixed) if has_landed => FindingOutcome::Fixed,
            Some(FindingOutcome::Fixed) => FindingOutcome::Open(None),
            Some(stated @ FindingOutcome::Open(_)) => stated.clone(),
            Some(stated @ FindingOutcome::NotSo(_)) if is_done => stated.clone(),
            Some(FindingOutcome::NotSo(_)) => FindingOutcome::Open(None),
            None if self.0.is_empty() && has_landed => FindingOutcome::Fixed,
            None => FindingOutcome::Open(None),
        }
    }
}

fn parse_line(line: &str) -> Option<(String, FindingOutcome)> {
    let rest = line.trim().strip_prefix("Finding ")?;
    let (label, stated) = rest.split_once(':')?;
    let label = label.trim().trim_matches('`').to_owned();
    let (word, why) = stated.split_once(':').unwrap_or((stated, ""));
    let why = why.trim().to_owned();
    let outcome = match word.trim().to_ascii_lowercase().as_str() {
        "fixed" => FindingOutcome::Fixed,
        // Without a reason nobody can judge that a finding is wrong.
        "not so" if !why.is_empty() => FindingOutcome::NotSo(why),
        "not so" | "open" => FindingOutcome::Open(Some(why).filter(|why| !why.is_empty())),
        _ => return None,
    };
    Some((label, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_of_each_finding_is_read_from_the_newest_message() {
        let messages = "Fix two\n\nFinding 1: fixed\n  finding 9: fixed\nFinding 2: Not so: x: y\n\nold\n\n\
                        Finding 2: fixed\nFinding 3: open: not my file\nFinding 4: not so\nFinding 5: solved";
        let stated = StatedOutcomes::parse(messages);
        let none = Map::new();
        let of = |number| stated.of(number, &none, true, true);
        assert_eq!(of(1), FindingOutcome::Fixed);
        assert_eq!(of(2), FindingOutcome::NotSo("x: y".into()));
        assert_eq!(of(3), FindingOutcome::Open(Some("not my file".into())));
        assert_eq!([4, 5, 9].map(of), [(); 3].map(|()| FindingOutcome::Open(None)));
        assert_eq!(
            stated.of(1, &none, false, true),
            FindingOutcome::Open(None),
            "nothing has landed"
        );
        assert_eq!(stated.of(2, &none, false, true), FindingOutcome::NotSo("x: y".into()));
        assert_eq!(
            stated.of(2, &none, false, false),
            FindingOutcome::Open(None),
            "the task failed"
        );
        let silent = StatedOutcomes::parse("Fix it");
        assert_eq!(silent.of(1, &none, true, true), FindingOutcome::Fixed);
        assert_eq!(silent.of(1, &none, false, true), FindingOutcome::Open(None));
    }

    #[test]
    fn outcome_of_a_finding_is_stated_by_number_or_by_id() {
        let stated = StatedOutcomes::parse(
            "Finding two-off: not so: why\nFinding `three`: fixed\nFinding 4: fixed",
        );
        let of = |number, id: &str| {
            let finding = [("id".to_owned(), Value::from(id))].into_iter().collect();
            stated.of(number, &finding, true, true)
        };
        assert_eq!(of(2, "two-off"), FindingOutcome::NotSo("why".into()));
        assert_eq!(of(3, "three"), FindingOutcome::Fixed);
        assert_eq!(of(4, "four"), FindingOutcome::Fixed);
        assert_eq!(of(1, "one"), FindingOutcome::Open(None));
    }
}
