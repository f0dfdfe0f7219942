//! The admission of attempts: they start from the target's tip, so the tip must pass its checks.

use std::sync::Arc;

use anyhow::Result;

use super::dispatcher::Engine;
use super::in_flight::WorkId;
use super::target_checks;
use super::target_health::Admission;
use super::work::verification::{self, VerificationAssignment};
use crate::domain::id::Oid;
use crate::domain::machine::Effect;
use crate::domain::verdict::CheckReport;
use crate::engine::RunReport;
use crate::store::layout;
use crate::verify::CheckStage;

impl Engine<'_> {
    /// Returns true if the owed attempts may start from the target's tip. Starts the verification
    /// of a tip that others have made.
    pub(super) fn admits_attempts(&mut self, owed: &[Effect]) -> Result<bool> {
        let starts = owed.iter().any(|effect| matches!(effect, Effect::Start(..)));
        if !starts || !self.policy.base_must_pass || self.interrupts.is_stopping() {
            return Ok(!starts || self.ctx.store.changed_settings().is_none());
        }
        if self.ctx.store.changed_settings().is_some() {
            return Ok(false);
        }
        let tip = self.ctx.tip()?;
        if tip == self.ctx.base || self.journal.state().tasks.has_landed(&tip) {
            self.health.trust(tip);
            return Ok(true);
        }
        Ok(match self.health.admit(&tip) {
            Admission::Start => true,
            Admission::StartAndVerify => {
                self.verify_tip(&tip);
                true
            }
            Admission::VerifyFirst => !self.verify_tip(&tip),
            Admission::Hold => false,
        })
    }

    /// Assigns the verification of a tip to a keeper. Returns false if there is nothing to wait
    /// for: no check applies to the tip.
    fn verify_tip(&mut self, tip: &Oid) -> bool {
        if self.in_flight.count(|work| matches!(work, WorkId::TargetTip(_))) > 0 {
            return true;
        }
        let again = self.health.assign(tip);
        let ctx = Arc::clone(&self.ctx);
        let assignment = || -> Result<Option<VerificationAssignment>> {
            let tree = ctx.store.repo().tree_of(tip)?;
            let subject = (tip.clone(), tree, tip.clone());
            let assignment = VerificationAssignment {
                rules: target_checks::rules(&ctx, tip)?,
                again,
                ..VerificationAssignment::new(CheckStage::Landing, None, subject)
            };
            Ok((!verification::steps(&ctx, &assignment, "")?.is_empty()).then_some(assignment))
        };
        // The target's rules may be invalid. The merge queue reports that.
        let Ok(Some(assignment)) = assignment() else {
            self.health.trust(tip.clone());
            return false;
        };
        let worktree = self.check_worktree(&assignment.key(), CheckStage::Landing);
        self.spawn_verification(WorkId::TargetTip(tip.clone()), worktree, assignment)
    }

    /// Records the verdict on a tip, and reports a tip that fails.
    pub(super) fn tip_verified(&mut self, tip: &Oid, report: &CheckReport) {
        if self.health.record(tip, &report.verdict) {
            let target = layout::short(&self.ctx.manifest.target).to_owned();
            self.report_findings(&format!("`{target}` at {}", tip.short()), report);
            let message = self.failing_target();
            (self.report)(RunReport::Note(message));
        }
    }

    /// Returns true if the tip is known to fail, to this run or to the merge queue.
    pub(super) fn tip_fails(&self, tip: &Oid) -> bool {
        let failing = self.queue.worker().and_then(|worker| worker.failing_tip);
        self.health.fails_at(tip) || failing.as_ref() == Some(tip)
    }

    /// Returns the message that the target fails.
    pub(super) fn failing_target(&self) -> String {
        let target = layout::short(&self.ctx.manifest.target);
        let tip = self.ctx.tip().map(|tip| tip.short().to_owned()).unwrap_or_default();
        format!(
            "not starting agents: `{target}` at {tip} fails its own checks; fix it there and the run continues"
        )
    }
}
