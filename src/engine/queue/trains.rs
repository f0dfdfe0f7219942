//! Trains of entries in git: merges in memory, and early conflicts.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;

use super::checks::{self, RuledEntry};
use super::context::TargetRules;
use super::git_host::{GitHost, changed_between};
use super::host::{QueuedEntry, TrainBuild};
use crate::domain::id::Oid;
use crate::domain::queue::{Car, Conflict, EntryId};
use crate::job::{self, MergeStyle, RulesChangeMode};
use crate::landing::{self, BuiltTrain, CarRequest, CarSubject, TargetHistory, TrainBuilder};
use crate::repo;
use crate::wire::queue::ConflictedPath;

/// The reason why a car must not stay in a train.
enum CarFinding {
    /// The base of the train has the content already.
    Contained,
    /// The entry cannot land, for this reason.
    Refused(String),
    /// Another car may be the cause: the entry waits for the next train.
    Waits,
}

impl GitHost<'_> {
    fn builder(&self) -> TrainBuilder<'_> {
        let context = &self.context;
        let (repo, merger) = (context.store.repo(), &context.merger);
        TrainBuilder { repo, merger, who: &context.identity }
    }

    /// Returns the merge style of branches: the target's.
    fn branch_merge(&self) -> MergeStyle {
        self.rules.as_ref().map_or(MergeStyle::Squash, |rules| rules.job.queue.merge)
    }

    /// Merges entries one after the other onto a commit. Entries whose runs provide different files
    /// cannot be verified together: the later entry waits for another train. So does an entry
    /// behind one that changes rule files: those rules must land before they decide.
    pub(super) fn build_train(
        &mut self,
        onto: &Oid,
        entries: &[QueuedEntry],
    ) -> Result<TrainBuild> {
        let ruled = self.runs.all_ruled(entries)?;
        let fits = checks::compatible(&ruled);
        let (mut together, mut conflicts) = (Vec::new(), Vec::new());
        for (entry, fit) in ruled.iter().zip(fits) {
            if fit {
                together.push(entry);
            } else {
                let paths = Vec::new();
                let entry = entry.entry.id.clone();
                conflicts.push(Conflict { entry, paths, with_base: false });
            }
        }
        let mut build = TrainBuild { conflicts, ..TrainBuild::default() };
        // An entry that adds nothing or is refused is left out, and the others are merged again.
        loop {
            let built = self.merge_train(onto, &together)?;
            let findings = self.examine(onto, &together, &built)?;
            if findings.is_empty() {
                build.conflicts.extend(built.conflicts);
                build.cars = built.cars;
                return Ok(build);
            }
            for (entry, finding) in findings {
                together.retain(|other| other.entry.id != entry);
                match finding {
                    CarFinding::Contained => build.contained.push(entry),
                    CarFinding::Refused(reason) => build.refused.push((entry, reason)),
                    CarFinding::Waits => {
                        let (paths, with_base) = (Vec::new(), false);
                        build.conflicts.push(Conflict { entry, paths, with_base });
                    }
                }
            }
        }
    }

    fn merge_train(&self, onto: &Oid, entries: &[&RuledEntry]) -> Result<BuiltTrain> {
        let (history, branch_merge) = (&self.history, self.branch_merge());
        let requests: Vec<CarRequest<'_>> =
            entries.iter().map(|entry| request(entry, branch_merge)).collect::<Result<_>>()?;
        match self.builder().build(onto, &requests, history) {
            Ok(built) => Ok(built),
            // One of the entries cannot be merged at all. Building each alone tells which.
            Err(_) => self.build_one_by_one(onto, requests, history),
        }
    }

    /// Returns the cars that must not stay in a train: they change nothing, they cannot be checked
    /// out, or they break the rules of the target.
    fn examine(
        &self,
        onto: &Oid,
        entries: &[&RuledEntry],
        built: &BuiltTrain,
    ) -> Result<Vec<(EntryId, CarFinding)>> {
        let (repo, attributes) = (self.context.store.repo(), self.context.merger.attributes());
        let base = repo.tree_of(onto)?;
        let of_runs = entries.iter().map(|entry| (*entry).clone()).collect::<Vec<_>>();
        let rule_files =
            checks::rule_files(&of_runs, self.rules.as_deref()).in_tree(repo, &base)?;
        // Only the target's own rule files are refused to everybody.
        let refuses =
            |rules: &&Arc<TargetRules>| rules.job.queue.rules_change == RulesChangeMode::Refuse;
        let refused_files = self.rules.as_ref().filter(refuses);
        let refused_files =
            refused_files.map(|rules| rules.rule_files().in_tree(repo, &base)).transpose()?;
        let mut before = &base;
        let mut findings = Vec::new();
        for (at, car) in built.cars.iter().enumerate() {
            let entry = entries.iter().find(|entry| entry.entry.id == car.entry);
            let Some(candidate) = entry.map(|entry| &entry.entry.candidate) else { continue };
            if car.tree == *before {
                findings
                    .push((car.entry.clone(), self.without_change(onto, &base, car, candidate)?));
            } else if let Some(fault) =
                repo::new_checkout_fault(repo, attributes, before, &car.tree)?
            {
                let own = *before == base || !fault.needs_attributes;
                let refused = || CarFinding::Refused(fault.message);
                findings.push((car.entry.clone(), if own { refused() } else { CarFinding::Waits }));
            } else if let Some(rules) = &self.rules
                && let Some(reason) = rules.violation(&self.context, before, &car.tree)?
            {
                findings.push((car.entry.clone(), CarFinding::Refused(reason)));
                break;
            } else if !rule_files.changed(repo, before, &car.tree)?.is_empty() {
                if entry.is_some_and(|entry| entry.needs_target_checks())
                    && let Some(files) = &refused_files
                    && let Some(file) = files.changed(repo, before, &car.tree)?.first()
                {
                    let reason = format!(
                        "it changes the rule file `{file}`, and `rules-change` in {} is \"refuse\"",
                        job::FILE_NAME
                    );
                    findings.push((car.entry.clone(), CarFinding::Refused(reason)));
                    break;
                }
                let behind = built.cars.get(at + 1..).unwrap_or_default().iter();
                findings.extend(behind.map(|car| (car.entry.clone(), CarFinding::Waits)));
                break;
            }
            before = &car.tree;
        }
        Ok(findings)
    }

    /// Returns the reason why no worktree can hold the target's tip, if there is one. What is
    /// merged onto the tip can be verified only if it mends the tip.
    pub(super) fn target_fault(&mut self, tip: &Oid) -> Result<Option<String>> {
        if let Some((known, fault)) = &self.target_fault
            && known == tip
        {
            return Ok(fault.clone());
        }
        let (repo, attributes) = (self.context.store.repo(), self.context.merger.attributes());
        let fault = repo::unwritable_file(repo, attributes, tip)?;
        let on_target =
            |fault| format!("on `{}` at {}, {fault}", self.context.short(), tip.short());
        let fault = fault.map(on_target);
        self.target_fault = Some((tip.clone(), fault.clone()));
        Ok(fault)
    }

    /// Returns true if no worktree can hold a tree.
    pub(super) fn is_unwritable(&self, tree: &Oid) -> Result<bool> {
        let (repo, attributes) = (self.context.store.repo(), self.context.merger.attributes());
        Ok(repo::unwritable_file(repo, attributes, tree)?.is_some())
    }

    /// Returns the finding for a car that changes nothing.
    fn without_change(
        &self,
        onto: &Oid,
        base: &Oid,
        car: &Car,
        candidate: &Oid,
    ) -> Result<CarFinding> {
        let repo = self.context.store.repo();
        if repo.is_ancestor(candidate, onto)?
            && let Some(revert) = self.history.reverted_by(repo, candidate)?
        {
            let (short, revert) = (self.context.short(), revert.short());
            return Ok(CarFinding::Refused(format!(
                "contained in {short}; {revert} reverted it: revert that commit, or rebase"
            )));
        }
        // A car before may have the same content, and may not land.
        Ok(if car.tree == *base { CarFinding::Contained } else { CarFinding::Waits })
    }

    fn build_one_by_one(
        &self,
        onto: &Oid,
        requests: Vec<CarRequest<'_>>,
        history: &TargetHistory,
    ) -> Result<BuiltTrain> {
        let mut mergeable = Vec::new();
        let mut conflicts = Vec::new();
        for request in requests {
            match self.builder().build(onto, std::slice::from_ref(&request), history) {
                Ok(_) => mergeable.push(request),
                Err(error) => conflicts.push(Conflict {
                    entry: request.entry.clone(),
                    paths: vec![format!("{error:#}")],
                    with_base: true,
                }),
            }
        }
        let mut built = self.builder().build(onto, &mergeable, history)?;
        built.conflicts.extend(conflicts);
        Ok(built)
    }

    /// Returns the waiting entries that conflict with a tip in paths that have changed since `old`.
    pub(super) fn conflicting(
        &mut self,
        old: &Oid,
        tip: &Oid,
        waiting: &[QueuedEntry],
    ) -> Result<Vec<(QueuedEntry, Vec<String>)>> {
        let landed: BTreeSet<String> = changed_between(&self.context, old, tip)?;
        let ruled = self.runs.all_ruled(waiting)?;
        let (builder, branch_merge) = (self.builder(), self.branch_merge());
        let (history, touched) = (&self.history, &self.touched);
        let unknown =
            ruled.par_iter().filter(|entry| !touched.contains_key(&entry.entry.candidate));
        let new: Vec<(Oid, Vec<String>)> = unknown
            .filter_map(|entry| {
                let request = request(entry, branch_merge).ok()?;
                let paths = builder.changed_paths(tip, &request, history);
                Some((entry.entry.candidate.clone(), paths))
            })
            .collect();
        self.touched.extend(new);
        let (builder, history, touched) = (self.builder(), &self.history, &self.touched);
        let meets = |candidate: &Oid| {
            let paths = touched.get(candidate);
            paths.is_some_and(|paths| paths.iter().any(|path| landed.contains(path)))
        };
        let conflicts =
            ruled.par_iter().filter(|entry| meets(&entry.entry.candidate)).filter_map(|entry| {
                // An entry that cannot be merged for another reason is found when its train is
                // built.
                let request = request(entry, branch_merge).ok()?;
                let paths = builder.conflict(tip, &request, history).ok()??;
                Some((entry.entry.clone(), paths))
            });
        Ok(conflicts.collect())
    }

    /// Returns the target's line from the fork point of an entry to a tip.
    pub(super) fn history_since_fork(
        &mut self,
        tip: &Oid,
        entry: &QueuedEntry,
    ) -> Result<Vec<Oid>> {
        let ruled = self.runs.ruled(entry)?;
        let request = request(&ruled, self.branch_merge())?;
        // Nothing can be said of an entry that has no fork point.
        let base = self.builder().base(tip, &request, &self.history).ok();
        Ok(base.map(|base| self.history.between(&base, tip)).unwrap_or_default())
    }

    /// Returns both sides of the paths in conflict, and the commits of the target that touched the
    /// paths.
    pub(super) fn sides(
        &mut self,
        tip: &Oid,
        entry: &QueuedEntry,
        paths: &[String],
    ) -> Result<Vec<ConflictedPath>> {
        let ruled = self.runs.ruled(entry)?;
        let request = request(&ruled, self.branch_merge())?;
        let base = self.builder().base(tip, &request, &self.history).ok();
        let repo = self.context.store.repo();
        landing::sides::conflict_versions(repo, base.as_ref(), tip, &entry.candidate, paths)
    }
}

/// Returns an entry's request for a place in a train. Tasks are merged as their run's job says.
fn request(ruled: &RuledEntry, branch_merge: MergeStyle) -> Result<CarRequest<'_>> {
    let QueuedEntry { id, candidate, attempt } = &ruled.entry;
    let (merge, subject) = match (&ruled.task, attempt) {
        (Some((run, task)), Some(attempt)) => {
            let subject = run.subject(task, *attempt)?;
            (run.job.queue.merge, CarSubject::Task(subject))
        }
        (None, _) | (Some(_), None) => (branch_merge, CarSubject::Branch),
    };
    Ok(CarRequest { entry: id, candidate, merge, subject, base: None })
}
