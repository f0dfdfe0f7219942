//! Sweeping: folds the task chains of landed tasks into one archive ref. Other tasks are not
//! touched.

use anyhow::Result;

use super::chain::{Payload, chain_commit, put};
use super::load::files;
use super::{Expected, RefMove, RunProof, Store, layout};
use crate::domain::id::{Oid, TaskId};
use crate::domain::state::{Phase, RunState};
use crate::repo;

/// The largest number of chain tips that become parents of one archive commit. Git allows more, but
/// many tools do not.
const PARENTS: usize = 256;

/// The refs that a sweep drops, with their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweptRefs {
    /// The task chains that are folded into the archive: task, name and tip.
    pub chains: Vec<(TaskId, String, Oid)>,
    /// The branches that are deleted: name and tip.
    pub branches: Vec<(String, Oid)>,
}

impl Store {
    /// Returns the refs of landed tasks that a sweep drops. With `keep_branches`, the branches
    /// stay.
    pub fn swept_refs(&self, state: &RunState, keep_branches: bool) -> Result<SweptRefs> {
        let run = &state.id;
        let mut swept = SweptRefs::default();
        for (task, task_state) in state.tasks.iter().filter(|(_, s)| s.phase == Phase::Done) {
            let branch = layout::branch(run, task);
            if let (false, Some(tip)) = (keep_branches, self.read(&branch)?) {
                // A branch is deleted only if the chain keeps its commits: a person may have
                // committed on the branch.
                let kept = match &task_state.candidate {
                    Some(candidate) => self.repo().is_ancestor(&tip, &candidate.commit)?,
                    None => false,
                };
                if kept {
                    swept.branches.push((branch, tip));
                }
            }
            let name = layout::task(run, task);
            if let Some(tip) = self.read(&name)? {
                swept.chains.push((task.clone(), name, tip));
            }
        }
        Ok(swept)
    }

    /// Folds the chains of landed tasks into the run's archive and deletes their refs and branches.
    /// With `keep_branches`, the branches stay.
    pub fn sweep(
        &self,
        proof: &RunProof,
        state: &RunState,
        keep_branches: bool,
    ) -> Result<SweptRefs> {
        let run = proof.run();
        let swept = self.swept_refs(state, keep_branches)?;
        let mut payloads = Vec::new();
        let mut tips = Vec::new();
        let delete = |name: &String, tip: &Oid| RefMove::delete(name.clone(), tip.clone());
        let mut moves: Vec<RefMove> =
            swept.branches.iter().map(|(name, tip)| delete(name, tip)).collect();
        for (task, name, tip) in &swept.chains {
            let info = repo::commit_info(self.repo(), tip)?;
            let id = repo::write_blob(self.repo(), info.message.as_bytes())?;
            payloads.push(Payload { path: format!("{}/{task}", files::TASKS), id, is_tree: false });
            tips.push(tip.clone());
            moves.push(delete(name, tip));
        }
        for index in [self.local().index(run), self.local().snapshot(run)] {
            std::fs::remove_file(index).ok();
        }
        if !tips.is_empty() {
            self.archive(proof, &payloads, &tips)?;
            self.barrier()?;
        }
        for chunk in moves.chunks(1_000) {
            self.transact_in_bulk(chunk)?;
        }
        self.barrier()?;
        Ok(swept)
    }

    fn archive(&self, proof: &RunProof, payloads: &[Payload], tips: &[Oid]) -> Result<()> {
        let name = layout::archive(proof.run());
        let old = self.read(&name)?;
        let tree = match &old {
            Some(commit) => self.repo().tree_of(commit)?,
            None => repo::write_tree(self.repo(), &[])?,
        };
        let tree = put(self, &tree, payloads)?;
        let mut last = old.clone();
        for chunk in tips.chunks(PARENTS) {
            let mut parents: Vec<Oid> = last.iter().cloned().collect();
            parents.extend_from_slice(chunk);
            let message = format!("{}: {} task chains archived\n", proof.run(), chunk.len());
            last = Some(chain_commit(self, &name, &tree, &parents, &message)?);
        }
        match last {
            Some(new) => self.transact(&[RefMove::to(name, new, Expected::from_read(old))]),
            None => Ok(()),
        }
    }
}
