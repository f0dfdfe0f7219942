//! The guard of the target's `harness.toml`: nothing lands that makes the file unreadable or takes
//! the last check out, because nothing could land after that. And the changes of rule files on the
//! target, which make verdicts void.

use anyhow::Result;

use super::checks::{self, RuledEntry};
use super::context::{QueueContext, TargetRules};
use super::git_host::GitHost;
use super::host::QueuedEntry;
use crate::domain::id::{Oid, RunId};
use crate::job::{self, Job, JobError, JobErrors};
use crate::verify::{self, CheckStage, CheckSubject, NO_FILES};

impl TargetRules {
    /// Returns true if the `harness.toml` of two trees differs.
    pub(super) fn differ(&self, context: &QueueContext, a: &Oid, b: &Oid) -> Result<bool> {
        let repo = context.store.repo();
        Ok(repo.entry_id(a, job::FILE_NAME)? != repo.entry_id(b, job::FILE_NAME)?)
    }

    /// Returns the reason why the change from a tree to another breaks the rules of the target.
    pub(super) fn violation(
        &self,
        context: &QueueContext,
        before: &Oid,
        after: &Oid,
    ) -> Result<Option<String>> {
        if !self.differ(context, before, after)? {
            return Ok(None);
        }
        let (repo, file) = (context.store.repo(), job::FILE_NAME);
        let Some(bytes) = repo.read_blob_at(after, file)? else {
            let short = context.short();
            return Ok(Some(format!(
                "no regular file `{file}` is left; nothing could land on `{short}` after it"
            )));
        };
        let Ok(text) = String::from_utf8(bytes) else {
            return Ok(Some(format!("`{file}` is not UTF-8")));
        };
        let old = repo.read_blob_at(before, file)?.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(errors) = new_errors(old.as_deref().unwrap_or_default(), &text) {
            return Ok(Some(errors.to_string()));
        }
        let job = match job::parse_queue(&text, file) {
            Ok(job) => job,
            Err(errors) => return Ok(Some(errors.to_string())),
        };
        let lost = self.has_checks(&self.job, before)? && !self.has_checks(&job, before)?;
        Ok(lost.then(|| format!("{file}: no [[check]]: every change would land unchecked")))
    }

    /// Returns true if a job has a check that applies to branches.
    fn has_checks(&self, job: &Job, base: &Oid) -> Result<bool> {
        let run = RunId::parse("queue")?;
        let subject = CheckSubject { run: &run, task: None, base, worktree: "" };
        Ok(!verify::steps(job, CheckStage::Landing, &subject, NO_FILES).is_empty())
    }
}

impl GitHost<'_> {
    /// Returns the tip at which a rule file of the target, or of the runs of entries, has changed
    /// last: the first tip that this worker has read, or a later one. A tree that passed before may
    /// fail with the rule files as they are now.
    pub(super) fn last_rule_change(&mut self, tip: &Oid, entries: &[QueuedEntry]) -> Result<Oid> {
        let (read, mut changed) =
            self.rule_change.take().unwrap_or_else(|| (tip.clone(), tip.clone()));
        if read != *tip {
            // The run of a task may be gone.
            let ruled = entries.iter().filter_map(|entry| self.runs.ruled(entry).ok());
            let ruled: Vec<RuledEntry> = ruled.collect();
            let repo = self.context.store.repo();
            let files = checks::rule_files(&ruled, self.rules.as_deref()).in_tree(repo, tip)?;
            if !files.changed(repo, &read, tip)?.is_empty() {
                changed = tip.clone();
            }
        }
        self.rule_change = Some((tip.clone(), changed.clone()));
        Ok(changed)
    }
}

/// Returns the errors of a job file that the file did not have before. A file without a job, whose
/// keys are missing, is good enough for a queue.
fn new_errors(before: &str, after: &str) -> Option<JobErrors> {
    let known = job::parse(before, job::FILE_NAME).err().map_or_else(Vec::new, |e| e.errors);
    let mut errors = job::parse(after, job::FILE_NAME).err()?;
    errors.errors.retain(|new| {
        let same = |old: &JobError| (&old.key, &old.message) == (&new.key, &new.message);
        !new.message.contains("is missing in") && !known.iter().any(same)
    });
    (!errors.errors.is_empty()).then_some(errors)
}
