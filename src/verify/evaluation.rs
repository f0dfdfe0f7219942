//! Conversion of evaluators' answers to verdicts.

use anyhow::Result;

use crate::contract::evaluator_answer;
use crate::domain::verdict::{Finding, Objection, Verdict};
use crate::repo::sha1_hex;

/// Parses an evaluator's answer on an attempt. An unreadable answer gives the verdict `Errored`.
pub(crate) fn from_answer(answer: &str, attempt: u32) -> Result<Verdict<Objection>> {
    let answer = match evaluator_answer::parse(answer) {
        Ok(answer) => answer,
        Err(fault) => return Ok(Verdict::Errored(format!("its answer {fault}"))),
    };
    if answer.pass {
        return Ok(Verdict::Passed);
    }
    let digest = digest(answer.findings.iter().map(|remark| remark.key.as_str()))?;
    let finding = |text| Finding { attempt, check: "evaluate".into(), text };
    let findings = answer.findings.into_iter().map(|remark| finding(remark.text)).collect();
    Ok(Verdict::Failed(Objection { findings, digest }))
}

/// Returns a hash of the set of finding keys: order and repetitions do not matter.
fn digest<'a>(keys: impl Iterator<Item = &'a str>) -> Result<String> {
    let sorted: std::collections::BTreeSet<&str> = keys.collect();
    sha1_hex(sorted.into_iter().flat_map(|key| [key.as_bytes(), &[0]]))
}

#[cfg(test)]
mod tests {
    use super::{Verdict, digest, from_answer};

    #[test]
    fn digest_is_independent_of_the_order() {
        let digest_of = |keys: &[&str]| digest(keys.iter().copied()).unwrap();
        assert_eq!(digest_of(&["a", "b"]), digest_of(&["b", "a", "b"]));
        assert_ne!(digest_of(&["a", "b"]), digest_of(&["ab"]));
    }

    #[test]
    fn answer_without_json_is_no_verdict_and_findings_of_a_pass_are_ignored() {
        assert!(matches!(from_answer("Looks good to me.", 1).unwrap(), Verdict::Errored(_)));
        let remarks = r#"{"pass": true, "findings": ["a matter of taste"]}"#;
        assert_eq!(from_answer(remarks, 1).unwrap(), Verdict::Passed);
    }
}
