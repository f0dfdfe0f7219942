//! The branches that work trees of people have checked out while commands without a sandbox work.
//!
//! Git moves such a branch only from its own work tree, and then writes a line into the reflog of
//! that work tree's HEAD. A fetch, a push or `git branch --force` from elsewhere is refused. A
//! branch that moves without such a line was moved by plumbing in another work tree, or by a text
//! editor: no person does that by accident, and an agent in its worktree can do nothing else. The
//! branch is set back to the commit that its work tree last recorded.
//!
//! Work trees without a reflog and our own branches are not compared. A target may also be at the
//! commit that its journal records.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Expected, RefMove, Store, layout};
use crate::ambient;
use crate::domain::id::Oid;

/// The number of times that a change is read before it counts: git writes the reflog and moves the
/// branch one after the other.
const TRIES: u32 = 5;

/// The pause between two reads.
const PAUSE: Duration = Duration::from_millis(20);

/// A branch that a work tree has checked out.
#[derive(Debug)]
pub(super) struct CheckedOutBranch {
    /// The administrative folder of the work tree.
    admin: PathBuf,
    /// The content of its HEAD.
    head: String,
    /// The branch.
    name: String,
    tip: Option<Oid>,
}

impl CheckedOutBranch {
    /// Returns the branches that work trees of people have checked out.
    pub(super) fn all(store: &Store) -> Vec<Self> {
        let common = store.repo().common_dir();
        let linked = std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten();
        let folders = std::iter::once(common.to_path_buf()).chain(linked.map(|entry| entry.path()));
        folders.filter_map(|admin| Self::read(store, admin)).collect()
    }

    fn read(store: &Store, admin: PathBuf) -> Option<Self> {
        let head = read_head(&admin)?;
        let name = head.strip_prefix("ref: ")?.to_owned();
        let is_of_person = name.starts_with("refs/heads/") && !name.starts_with(layout::BRANCHES);
        last_logged(&admin).filter(|_| is_of_person)?;
        let tip = store.read(&name).ok()?;
        Some(Self { admin, head, name, tip })
    }

    /// Returns the sentence about a move that the work tree did not make, after the branch was set
    /// back. Returns `None` if there is none.
    pub(super) fn repair(&self, store: &Store) -> Option<String> {
        for _ in 0..TRIES {
            let head = read_head(&self.admin)?;
            let tip = store.read(&self.name).ok()?;
            if head == self.head && tip == self.tip {
                return None;
            }
            let logged = last_logged(&self.admin)?;
            // A checkout of another branch has a line, too.
            let shown = match head.strip_prefix("ref: ") {
                Some(branch) => store.read(branch).ok()?,
                None => Oid::parse(&head).ok(),
            };
            let landed = store.sealed_journal_target(&self.name).ok()?;
            if shown.is_some() && (shown == Some(logged) || shown == landed) {
                return None;
            }
            ambient::pause(PAUSE);
        }
        Some(self.set_back(store))
    }

    fn set_back(&self, store: &Store) -> String {
        let Self { admin, head, name, .. } = self;
        let tip = store.read(name).ok().flatten();
        let is_same_head = read_head(admin).as_ref() == Some(head);
        let is_target = store.sealed_journal_target(name).is_ok_and(|landed| landed.is_some());
        let what = match &tip {
            _ if !is_same_head => format!("HEAD of `{}` was changed", admin.display()),
            Some(tip) => {
                format!("`{name}` was moved to {} although it is checked out", tip.short())
            }
            None => format!("`{name}` was deleted although it is checked out"),
        };
        // The next landing of a target, or a person, judges its tip.
        let Some(logged) = last_logged(admin).filter(|_| is_same_head && !is_target) else {
            return what;
        };
        let back = RefMove::to(name.clone(), logged.clone(), Expected::from_read(tip));
        match store.transact(&[back]) {
            Ok(()) => format!("{what}, and is back at {}", logged.short()),
            Err(error) => format!("{what} ({error:#})"),
        }
    }
}

fn read_head(admin: &Path) -> Option<String> {
    Some(std::fs::read_to_string(admin.join("HEAD")).ok()?.trim_end().to_owned())
}

/// Returns the commit of the last line of a work tree's reflog of HEAD.
fn last_logged(admin: &Path) -> Option<Oid> {
    let bytes = std::fs::read(admin.join("logs/HEAD")).ok()?;
    let line = bytes.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
    let id = line.split(|byte| *byte == b' ').nth(1)?;
    Oid::parse(std::str::from_utf8(id).ok()?).ok()
}
