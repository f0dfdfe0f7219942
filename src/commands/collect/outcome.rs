//! Outcomes of findings that tasks were to fix, as the agents state them in commit messages.

use std::collections::BTreeMap;

/// The outcome of one finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FindingOutcome {
    /// The code was changed, and the change landed.
    Fixed,
    /// The finding is wrong, for this reason.
    NotSo(String),
    /// Nothing was decided, for this reason if there is one.
    Open(Option<String>),
}

impl FindingOutcome {
    /// Returns the word used in JSON.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::NotSo(_) => "not so",
            Self::Open(_) => "open",
        }
    }

    /// Returns the reason.
    pub(super) fn why(&self) -> Option<&str> {
        match self {
            Self::Fixed => None,
            Self::NotSo(why) => Some(why),
            Self::Open(why) => why.as_deref(),
        }
    }
}

/// The outcomes in the messages of a task's commits, by the number of the finding, from 1.
#[derive(Debug, Default)]
pub(super) struct StatedOutcomes(BTreeMap<usize, FindingOutcome>);

impl StatedOutcomes {
    /// Reads lines such as `Finding 2: not so: REASON`. The first line about a finding counts, so
    /// the newest message comes first.
    pub(super) fn parse(messages: &str) -> Self {
        let mut outcomes = BTreeMap::new();
        for line in messages.lines() {
            if let Some((number, outcome)) = parse_line(line) {
                outcomes.entry(number).or_insert(outcome);
            }
        }
        Self(outcomes)
    }

    /// Returns the outcome of a finding. A change that says nothing of any finding has fixed all of
    /// them. `has_landed` is true if the task landed a change.
    pub(super) fn of(&self, number: usize, has_landed: bool, is_done: bool) -> FindingOutcome {
        match self.0.get(&number) {
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

fn parse_line(line: &str) -> Option<(usize, FindingOutcome)> {
    let rest = line.trim().strip_prefix("Finding ")?;
    let (number, stated) = rest.split_once(':')?;
    let number = number.trim().parse().ok()?;
    let (word, why) = stated.split_once(':').unwrap_or((stated, ""));
    let why = why.trim().to_owned();
    let outcome = match word.trim().to_ascii_lowercase().as_str() {
        "fixed" => FindingOutcome::Fixed,
        // Without a reason nobody can judge that a finding is wrong.
        "not so" if !why.is_empty() => FindingOutcome::NotSo(why),
        "not so" | "open" => FindingOutcome::Open(Some(why).filter(|why| !why.is_empty())),
        _ => return None,
    };
    Some((number, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_of_each_finding_is_read_from_the_newest_message() {
        let messages = "Fix two\n\nFinding 1: fixed\n  finding 9: fixed\nFinding 2: Not so: x: y\n\nold\n\n\
                        Finding 2: fixed\nFinding 3: open: not my file\nFinding 4: not so\nFinding 5: solved";
        let stated = StatedOutcomes::parse(messages);
        let of = |number| stated.of(number, true, true);
        assert_eq!(of(1), FindingOutcome::Fixed);
        assert_eq!(of(2), FindingOutcome::NotSo("x: y".into()));
        assert_eq!(of(3), FindingOutcome::Open(Some("not my file".into())));
        assert_eq!([4, 5, 9].map(of), [(); 3].map(|()| FindingOutcome::Open(None)));
        assert_eq!(stated.of(1, false, true), FindingOutcome::Open(None), "nothing has landed");
        assert_eq!(stated.of(2, false, true), FindingOutcome::NotSo("x: y".into()));
        assert_eq!(stated.of(2, false, false), FindingOutcome::Open(None), "the task failed");
        let silent = StatedOutcomes::parse("Fix it");
        assert_eq!(silent.of(1, true, true), FindingOutcome::Fixed);
        assert_eq!(silent.of(1, false, true), FindingOutcome::Open(None));
    }
}
