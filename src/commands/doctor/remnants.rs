//! The remains of interrupted processes: found, and repaired with `--fix`.

use anyhow::Result;

use super::{Diagnosis, Severity};
use crate::engine::upkeep;
use crate::store::Store;

/// Reports the remains, and repairs them if `fix` is true.
pub(super) fn check(store: &Store, fix: bool, diagnoses: &mut Vec<Diagnosis>) -> Result<()> {
    let remnants = upkeep::find_remnants(store)?;
    let has_broken_refs = remnants.iter().any(|remnant| {
        matches!(remnant, upkeep::Remnant::BrokenRef(_) | upkeep::Remnant::DamagedChain(..))
    });
    if !has_broken_refs {
        diagnoses.push((Severity::Ok, "refs".into(), "no broken ref in refs/harness".into()));
    }
    for remnant in &remnants {
        let (subject, text) = remnant.describe();
        diagnoses.push(match fix.then(|| upkeep::repair_remnant(store, remnant)) {
            None => (
                Severity::Problem,
                subject,
                format!("{text}; `git harness doctor --fix` repairs it"),
            ),
            Some(Ok(repair)) => (Severity::Fixed, subject, format!("{text}: {repair}")),
            Some(Err(error)) => (Severity::Problem, subject, format!("{text}: {error:#}")),
        });
    }
    if let Some((folder, count)) = upkeep::quarantined(store) {
        let text =
            format!("{count} in {}; delete them when you do not need them", folder.display());
        diagnoses.push((Severity::Note, "quarantined refs".into(), text));
    }
    let leftovers = upkeep::leftover_refs(store)?;
    if !leftovers.is_empty() {
        let text = format!("kept work that no attempt has recorded: {}", leftovers.join(", "));
        diagnoses.push((Severity::Note, "leftovers".into(), text));
    }
    Ok(())
}
