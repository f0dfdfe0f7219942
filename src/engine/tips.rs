//! Tips of the target that others have made: what fails there already must not be paid for by tasks that begin from it.

use std::sync::Arc;

use anyhow::Result;

use super::dispatcher::Engine;
use super::gate;
use super::work::verification::{self, VerificationAssignment};
use crate::domain::id::Oid;
use crate::domain::machine::Effect;
use crate::domain::verdict::{CheckReport, Verdict};
use crate::store::layout;
use crate::verify::CheckStage;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Tips {
    /// The last of which it is known, and whether it passes.
    last: Option<(Oid, bool)>,
    /// The one that is asked about, and how often it has failed.
    asked: Option<(Oid, u32)>,
}

impl Tips {
    /// Whether this one is known to fail.
    pub(super) fn fails_at(&self, tip: &Oid) -> bool {
        self.last.as_ref().is_some_and(|(last, good)| last == tip && !good)
    }

    /// It cannot be found out: whatever is in the way will be met by the tasks' own checks, which charge nobody for it.
    pub(super) fn give_up(&mut self) {
        if let Some((tip, _)) = self.asked.take() {
            self.last = Some((tip, true));
        }
    }
}

impl Engine<'_> {
    /// Whether attempts may begin from the target's tip, which is found out if others have made it. While that is going on they begin
    /// if the last that is known was good: a target that moves all the time must not keep them from it.
    pub(super) fn may_begin_from_tip(&mut self, owed: &[Effect]) -> Result<bool> {
        let starts = owed.iter().any(|effect| matches!(effect, Effect::Start(..)));
        if !starts || !self.policy.base_must_pass || self.stopping_since.is_some() {
            return Ok(true);
        }
        let tip = self.ctx.tip()?;
        if let Some((last, good)) = &self.tips.last
            && *last == tip
        {
            return Ok(*good);
        }
        let mut landed = self.ledger.state.tasks.values().filter_map(|s| s.landed.as_ref());
        if tip == self.ctx.base || landed.any(|commit| *commit == tip) {
            self.tips.last = Some((tip, true));
            return Ok(true);
        }
        let was_good = self.tips.last.as_ref().is_none_or(|(_, good)| *good);
        let before = self.tips.last.is_some();
        if !self.ask_about(&tip) {
            self.tips.last = Some((tip, true));
            return Ok(true);
        }
        Ok(was_good && before)
    }

    /// Has a tip judged, unless that is going on. Says whether there is anything to wait for.
    fn ask_about(&mut self, tip: &Oid) -> bool {
        let effect = Effect::VerifyBase;
        if self.in_flight.contains_key(&effect) || self.not_awaited.contains(&effect) {
            return true;
        }
        let failed = self.tips.asked.as_ref().filter(|(asked, _)| asked == tip);
        let failed = failed.map_or(0, |(_, times)| *times);
        let ctx = Arc::clone(&self.ctx);
        let case = || -> Result<Option<VerificationAssignment>> {
            let tree = ctx.store.repo().tree_of(tip)?;
            let case = VerificationAssignment::new(
                CheckStage::Landing,
                None,
                (tip.clone(), tree, tip.clone()),
            );
            let case = VerificationAssignment {
                rules: gate::rules(&ctx, tip)?,
                again: failed > 0,
                ..case
            };
            Ok((!verification::steps(&ctx, &case, "")?.is_empty()).then_some(case))
        };
        // What the target asks may be wrong: landing says so.
        let Ok(Some(case)) = case() else { return false };
        self.tips.asked = Some((tip.clone(), failed));
        let worktree = self.check_worktree(&case.key(), CheckStage::Landing);
        self.spawn_verification(effect, worktree, case)
    }

    /// What a keeper has said of a tip. One that fails is looked at once more.
    pub(super) fn tip_judged(&mut self, case: &VerificationAssignment, report: &CheckReport) {
        let tip = &case.commit;
        match &report.verdict {
            Verdict::Errored(_) => self.tips.give_up(),
            Verdict::Passed => self.tips.last = Some((tip.clone(), true)),
            Verdict::Failed(_) if !case.again => self.tips.asked = Some((tip.clone(), 1)),
            Verdict::Failed(_) => {
                self.tips.last = Some((tip.clone(), false));
                let target = layout::short(&self.ctx.manifest.target).to_owned();
                self.tell_findings(&format!("`{target}` at {}", tip.short()), report);
                self.hold_landing(format!(
                    "no agent begins: `{target}` fails at {} with nothing of this run on it; commit what mends it there, and it goes on",
                    tip.short()
                ));
            }
        }
    }
}
