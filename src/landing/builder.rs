//! Trains: each candidate is merged in memory onto the result of the candidate before it. No ref
//! moves here.

use std::collections::BTreeSet;

use anyhow::Result;

use super::history::LandedWork;
use super::{LandingSubject, MergeBases, MergeResult, Merger, TargetHistory, message, squash};
use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::queue::{Car, Conflict, EntryId};
use crate::job::MergeStyle;
use crate::repo::{self, AuthoredCommit, Identity, Repo};

/// The number of commits of a branch that are searched for its fork point before git's merge base
/// is computed.
const MAX_OWN_COMMITS: usize = 256;

/// The number of commits whose messages are kept.
const MAX_MESSAGES: usize = 1_000;

/// The number of commits that are read between a train's base and the target's history.
const MAX_CARS_AHEAD: usize = 1_000;

/// An entry that wants a place in a train.
#[derive(Debug)]
pub struct CarRequest<'a> {
    /// The entry.
    pub entry: &'a EntryId,
    /// The commit to merge.
    pub candidate: &'a Oid,
    /// The way in which the commit is merged.
    pub merge: MergeStyle,
    /// The kind of work: it decides the author and the message of the landed commit.
    pub subject: CarSubject<'a>,
    /// The fork point, if it is recorded. A squashed branch's tip that is nearer to the candidate
    /// takes precedence.
    pub base: Option<&'a Oid>,
}

/// The kind of work that an entry lands.
#[derive(Debug)]
pub enum CarSubject<'a> {
    /// A branch, whose authors and messages are kept.
    Branch,
    /// A task of a run.
    Task(LandingSubject<'a>),
}

/// A built train.
#[derive(Debug, Default)]
pub struct BuiltTrain {
    /// The commits.
    pub cars: Vec<Car>,
    /// The entries that could not be merged.
    pub conflicts: Vec<Conflict>,
}

/// Builds trains. A train may hold branches and tasks.
#[derive(Debug)]
pub struct TrainBuilder<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The merges.
    pub merger: &'a Merger,
    /// The committer.
    pub who: &'a Identity,
}

/// The own commits of a candidate.
#[derive(Debug)]
struct OwnCommits {
    bases: MergeBases,
    /// The commits that were read, newest first.
    commits: Vec<Oid>,
    /// True if these are all commits since the fork point.
    is_complete: bool,
}

/// The cars between the target's tip and the car that is being built.
#[derive(Debug, Default)]
struct CarsAhead {
    /// The commits of the squashed candidates. They are not on the target.
    squashed: BTreeSet<Oid>,
    /// True if a car is a merge commit.
    merges: bool,
}

impl CarsAhead {
    /// Reads the commits from `onto` down to the known history. There are such commits if `onto` is
    /// a car of a train that has not landed.
    fn read(repo: &Repo, onto: &Oid, history: &TargetHistory) -> Result<Self> {
        let mut ahead = Self::default();
        let mut next = Some(onto.clone());
        for _ in 0..MAX_CARS_AHEAD {
            let Some(id) = next.filter(|id| !history.contains(id)) else { return Ok(ahead) };
            let info = repo::commit_info(repo, &id)?;
            ahead.merges |= info.parents.len() > 1;
            if let Some(LandedWork::Branch(_, candidate)) = message::landed_work(&info.message) {
                ahead.squashed.insert(candidate);
            }
            next = info.parents.into_iter().next();
        }
        ahead.merges = true;
        Ok(ahead)
    }
}

impl TrainBuilder<'_> {
    /// Merges entries onto a commit, in order. Entries in conflict are left out.
    pub fn build(
        &self,
        onto: &Oid,
        requests: &[CarRequest<'_>],
        history: &TargetHistory,
    ) -> Result<BuiltTrain> {
        let mut built = BuiltTrain::default();
        let mut tip = onto.clone();
        let mut ahead = CarsAhead::read(self.repo, onto, history)?;
        for request in requests {
            let entry = request.entry.clone();
            let own = self.own_commits(request, history, &ahead)?;
            match self.merger.merge(&own.bases, &tip, request.candidate)? {
                MergeResult::Clean { tree } => {
                    let commits = self.branch_commits(request, &own, &tip, (history, &ahead))?;
                    let commit = self.commit(request, &commits, &tip, &tree)?;
                    match request.merge {
                        // If the fork point was not reached, only the tip is known to be the
                        // candidate's own.
                        MergeStyle::Squash if own.is_complete => ahead.squashed.extend(own.commits),
                        MergeStyle::Squash => {
                            ahead.squashed.insert(request.candidate.clone());
                        }
                        MergeStyle::Merge => ahead.merges = true,
                    }
                    tip = commit.clone();
                    built.cars.push(Car { entry, commit, tree });
                }
                MergeResult::Conflict { paths } => {
                    let with_base =
                        tip == *onto || self.conflict(onto, request, history)?.is_some();
                    built.conflicts.push(Conflict { entry, paths, with_base });
                }
            }
        }
        Ok(built)
    }

    /// Returns the paths in which an entry conflicts with a commit, or `None` if the two merge
    /// cleanly.
    pub fn conflict(
        &self,
        onto: &Oid,
        request: &CarRequest<'_>,
        history: &TargetHistory,
    ) -> Result<Option<Vec<String>>> {
        let ahead = CarsAhead::read(self.repo, onto, history)?;
        let own = self.own_commits(request, history, &ahead)?;
        self.merger.conflict(&own.bases, onto, request.candidate)
    }

    /// Returns the paths that an entry changes. Empty if the paths cannot be determined.
    pub(crate) fn changed_paths(
        &self,
        onto: &Oid,
        request: &CarRequest<'_>,
        history: &TargetHistory,
    ) -> Vec<String> {
        let base = self.base(onto, request, history);
        let changes =
            base.and_then(|base| repo::changed_paths(self.repo, &base, request.candidate));
        changes.into_iter().flatten().map(|change| change.path).collect()
    }

    /// Returns the fork point of an entry, or the first merge base if there are several.
    pub(crate) fn base(
        &self,
        onto: &Oid,
        request: &CarRequest<'_>,
        history: &TargetHistory,
    ) -> Result<Oid> {
        let ahead = CarsAhead::read(self.repo, onto, history)?;
        let own = self.own_commits(request, history, &ahead)?;
        self.merger.first_base(&own.bases, onto, request.candidate)
    }

    /// Returns the merge bases of a candidate and the candidate's own commits. The fork point is
    /// the commit at which the candidate left the target, or the tip of the squashed branch on
    /// which it is stacked. The commits of a squashed branch are not on the target, so git would
    /// count them as the candidate's own commits.
    ///
    /// The only parent of a commit is the commit's merge base with every branch that contains the
    /// parent and not the commit. If candidate and target are linear, the fork point is therefore
    /// the first commit of the candidate's history that is on the target. No search for a merge
    /// base is needed, however long both histories are.
    fn own_commits(
        &self,
        request: &CarRequest<'_>,
        history: &TargetHistory,
        ahead: &CarsAhead,
    ) -> Result<OwnCommits> {
        let squash = request.merge == MergeStyle::Squash;
        let mut commits = Vec::new();
        let mut next = request.candidate.clone();
        let mut bases = MergeBases::OfHistory;
        while commits.len() < MAX_OWN_COMMITS {
            if next != *request.candidate {
                let landed = history.is_landed_tip(&next) || ahead.squashed.contains(&next);
                if request.base == Some(&next) || squash && landed {
                    bases = MergeBases::Recorded(next);
                    break;
                }
                if !ahead.merges && history.is_linear_since(&next) {
                    bases = MergeBases::Single(next);
                    break;
                }
            }
            let mut parents = repo::commit_info(self.repo, &next)?.parents;
            commits.push(next);
            match (parents.pop(), parents.is_empty()) {
                (Some(parent), true) => next = parent,
                (_, _) => break,
            }
        }
        let is_complete = bases != MergeBases::OfHistory;
        // A squashed branch that the walk met is nearer than the recorded base.
        if let (Some(base), false) = (request.base, matches!(bases, MergeBases::Recorded(_))) {
            bases = MergeBases::Recorded(base.clone());
        }
        Ok(OwnCommits { bases, commits, is_complete })
    }

    /// Creates the landed commit: one parent for a squash, two for a merge.
    fn commit(
        &self,
        request: &CarRequest<'_>,
        commits: &[AuthoredCommit],
        tip: &Oid,
        tree: &Oid,
    ) -> Result<Oid> {
        let CarRequest { entry, candidate, merge, subject, .. } = request;
        let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
        let mut parents = vec![tip.clone()];
        if *merge == MergeStyle::Merge {
            parents.push((*candidate).clone());
        }
        let trailers = message::branch_trailers(entry, candidate);
        let message = match subject {
            CarSubject::Task(subject) => message::landing(subject),
            CarSubject::Branch => match (merge, commits.first()) {
                (MergeStyle::Squash, Some(first)) => {
                    let (repo, author) = (self.repo, &first.author);
                    let message = squash::message(commits, &trailers);
                    return repo::commit_as(repo, author, tree, &parents, &message, self.who, time);
                }
                (MergeStyle::Merge, Some(_) | None) | (MergeStyle::Squash, None) => {
                    message::branch_merge(entry, commits, &trailers)
                }
            },
        };
        repo::commit(self.repo, tree, &parents, &message, self.who, time)
    }

    /// Reads the own commits of a branch, oldest first. Merges are left out, and so are the commits
    /// of landed branches on which the branch is stacked.
    fn branch_commits(
        &self,
        request: &CarRequest<'_>,
        own: &OwnCommits,
        tip: &Oid,
        (history, ahead): (&TargetHistory, &CarsAhead),
    ) -> Result<Vec<AuthoredCommit>> {
        if matches!(request.subject, CarSubject::Task(_)) {
            return Ok(Vec::new());
        }
        let candidate = request.candidate;
        let mut ids: Vec<Oid> = own.commits.iter().rev().cloned().collect();
        if !own.is_complete {
            let mut without = vec![tip];
            if let MergeBases::Single(base) | MergeBases::Recorded(base) = &own.bases {
                without.push(base);
            }
            let mut commits = repo::own_commits(self.repo, candidate, &without, MAX_MESSAGES)?;
            let landed: Vec<Oid> = commits
                .iter()
                .map(|(id, _)| id)
                .filter(|id| *id != candidate)
                .filter(|id| history.is_landed_tip(id) || ahead.squashed.contains(*id))
                .cloned()
                .collect();
            if request.merge == MergeStyle::Squash && !landed.is_empty() {
                without.extend(&landed);
                commits = repo::own_commits(self.repo, candidate, &without, MAX_MESSAGES)?;
            }
            ids = commits.into_iter().filter(|(_, merges)| !merges).map(|(id, _)| id).collect();
        }
        if ids.is_empty() {
            ids.push(candidate.clone());
        }
        ids.iter().map(|id| self.merger.authored_commit(id)).collect()
    }
}
