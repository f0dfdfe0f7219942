//! The merge of a candidate onto a commit of the target.

use anyhow::{Context as _, Result};

use crate::domain::id::Oid;
use crate::repo::{self, MergeResult};
use crate::store::Store;

/// The merge bases of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MergeBases {
    /// The merge bases that git finds.
    OfHistory,
    /// This commit, which is the only merge base that git would find.
    Single(Oid),
    /// This commit, whatever git would find: the commits of a squashed branch are not on the
    /// target.
    Recorded(Oid),
}

/// Merges candidates onto commits of the target.
#[derive(Debug)]
pub(crate) struct Merger {
    store: Store,
}

impl Merger {
    /// Creates a merger for the repository of a store.
    pub(crate) fn new(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    /// Merges a candidate onto a commit.
    pub(crate) fn merge(
        &self,
        bases: &MergeBases,
        onto: &Oid,
        candidate: &Oid,
    ) -> Result<MergeResult> {
        let base = self.first_base(bases, onto, candidate)?;
        repo::merge(self.store.repo(), &base, onto, candidate)
    }

    /// Returns the paths in which a candidate conflicts with a commit, or `None` if the two merge
    /// cleanly. Nothing is kept of the merge.
    pub(crate) fn conflict(
        &self,
        bases: &MergeBases,
        onto: &Oid,
        candidate: &Oid,
    ) -> Result<Option<Vec<String>>> {
        let base = self.first_base(bases, onto, candidate)?;
        repo::conflicts(self.store.repo(), &base, onto, candidate)
    }

    /// Returns the merge base, or the first of several.
    pub(crate) fn first_base(
        &self,
        bases: &MergeBases,
        onto: &Oid,
        candidate: &Oid,
    ) -> Result<Oid> {
        match bases {
            MergeBases::Single(base) | MergeBases::Recorded(base) => Ok(base.clone()),
            MergeBases::OfHistory => repo::merge_base(self.store.repo(), onto, candidate)?
                .with_context(|| {
                    format!("{} has no history in common with the target", candidate.short())
                }),
        }
    }
}
