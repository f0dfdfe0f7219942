//! Trains of entries in git: merges in memory, and early conflicts.

use std::collections::BTreeSet;

use anyhow::Result;
use rayon::prelude::*;

use super::checks::{self, RuledEntry};
use super::git_host::{GitHost, changed_between};
use super::host::QueuedEntry;
use crate::domain::id::Oid;
use crate::domain::queue::{Car, Conflict};
use crate::job::MergeStyle;
use crate::landing::{self, BuiltTrain, CarRequest, CarSubject, TargetHistory, TrainBuilder};
use crate::wire::queue::ConflictedPath;

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

    /// Merges entries one after the other onto a commit. Entries whose runs pin different files
    /// cannot be verified together: the later entry waits for another train.
    pub(super) fn build_train(
        &mut self,
        onto: &Oid,
        entries: &[QueuedEntry],
    ) -> Result<(Vec<Car>, Vec<Conflict>)> {
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
        let (history, branch_merge) = (&self.history, self.branch_merge());
        let requests: Vec<CarRequest<'_>> =
            together.iter().map(|entry| request(entry, branch_merge)).collect::<Result<_>>()?;
        let built = match self.builder().build(onto, &requests, history) {
            Ok(built) => built,
            // One of the entries cannot be merged at all. Building each alone tells which.
            Err(_) => self.build_one_by_one(onto, requests, history)?,
        };
        conflicts.extend(built.conflicts);
        Ok((built.cars, conflicts))
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
