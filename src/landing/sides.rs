//! The sides of paths in conflict (base, target and branch), and the commits that changed the paths
//! on the target.

use anyhow::Result;

use crate::domain::id::Oid;
use crate::repo::{self, Repo};
use crate::wire::queue::{ConflictedPath, TargetCommit};

/// The number of commits of the target that are searched.
const MAX_COMMITS: usize = 1_000;

/// The number of landed commits named for each path in conflict.
const MAX_NAMED: usize = 3;

/// Returns the sides of the paths in which a candidate conflicts with a tip. `base` is their merge
/// base, if known.
pub(crate) fn conflict_versions(
    repo: &Repo,
    base: Option<&Oid>,
    tip: &Oid,
    candidate: &Oid,
    paths: &[String],
) -> Result<Vec<ConflictedPath>> {
    let mut sides: Vec<ConflictedPath> = Vec::with_capacity(paths.len());
    for path in paths {
        let blob = |commit: Option<&Oid>| -> Option<String> {
            repo.entry_id(&repo.tree_of(commit?).ok()?, path)
                .ok()
                .flatten()
                .map(|id| id.to_string())
        };
        sides.push(ConflictedPath {
            path: path.clone(),
            base: blob(base),
            target: blob(Some(tip)),
            branch: blob(Some(candidate)),
            landed: Vec::new(),
        });
    }
    let mut next = Some(tip.clone());
    let mut read = 0;
    while let Some(commit) = next.take().filter(|commit| Some(commit) != base) {
        let info = repo::commit_info(repo, &commit)?;
        let Some(parent) = info.parents.first() else { break };
        let changed = repo::changed_paths(repo, parent, &commit)?;
        for side in sides.iter_mut().filter(|side| side.landed.len() < MAX_NAMED) {
            if changed.iter().any(|change| change.path == side.path) {
                let title = info.message.lines().next().unwrap_or_default().to_owned();
                side.landed.push(TargetCommit { id: commit.to_string(), subject: title });
            }
        }
        read += 1;
        next = info.parents.into_iter().next().filter(|_| read < MAX_COMMITS);
    }
    Ok(sides)
}

/// Returns the sides as text, for the agent that has to do the work again.
pub(crate) fn describe(sides: &[ConflictedPath]) -> String {
    let mut text = String::new();
    for side in sides {
        text.push_str(&format!("- `{}`\n", side.path));
        let versions = [
            ("before either changed it", &side.base),
            ("on the target now", &side.target),
            ("as this attempt left it", &side.branch),
        ];
        if versions.iter().any(|(_, blob)| blob.is_some()) {
            for (when, blob) in versions {
                let where_from = match blob {
                    Some(id) => format!("`git cat-file blob {id}`"),
                    None => "no file".to_owned(),
                };
                text.push_str(&format!("  - {when}: {where_from}\n"));
            }
        }
        for TargetCommit { id: commit, subject: title } in &side.landed {
            let short = commit.get(..12).unwrap_or(commit);
            text.push_str(&format!("  - changed on the target by {short}, \"{title}\"\n"));
        }
    }
    text
}
