//! Leftovers: work that no attempt has recorded. It is kept in a ref of its own before its worktree
//! is reset or removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::withhold::{Secrets, withhold};
use crate::ambient;
use crate::domain::id::Oid;
use crate::repo::{self, Identity, Repo};
use crate::wire::VERSION;
use crate::wire::keeper::WithheldFile;

/// Unrecorded work of a worktree, as a commit that no ref reaches yet.
#[derive(Debug)]
pub(crate) struct Leftover {
    /// The commit.
    pub commit: Oid,
    /// The files that are not in the commit, because they have a known secret.
    pub withheld: Vec<WithheldFile>,
}

/// Commits the work in a recorded worktree that no attempt has recorded. Returns `None` if there is
/// none. The caller makes a ref for the commit before the worktree changes.
pub(crate) fn commit_leftover(
    repo: &Repo,
    (path, index): (&Path, &Path),
    secrets: &Secrets,
) -> Result<Option<Leftover>> {
    let Some(work) = repo::unsaved_work(repo, path, index)? else { return Ok(None) };
    let kept = withhold(repo, (&work.checked_out, &work.tree), secrets)?;
    let message = format!(
        "work in {} that no attempt has recorded\n\nHarness-V: {VERSION}\n",
        path.display()
    );
    let author = Identity { name: "git-harness".into(), email: "git-harness@localhost".into() };
    let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
    let parents: Vec<Oid> = work.head.into_iter().collect();
    let commit = repo::commit(repo, &kept.tree, &parents, &message, &author, time)
        .with_context(|| format!("cannot save the work in {}", path.display()))?;
    Ok(Some(Leftover { commit, withheld: kept.withheld }))
}

/// Returns the sentence about kept work, for people.
pub(crate) fn leftover_note(path: &Path, name: &str, leftover: &Leftover, folder: &Path) -> String {
    let mut text =
        format!("{} had work that no attempt has recorded: it is kept in {name}", path.display());
    let files: BTreeSet<&str> = leftover.withheld.iter().map(|file| file.path.as_str()).collect();
    if !files.is_empty() {
        let files: Vec<String> = files.iter().map(|path| format!("`{path}`")).collect();
        text.push_str(&format!(
            ", without {}: it has the value of a secret variable, so it is only in {}",
            files.join(", "),
            folder.display()
        ));
    }
    text
}

/// Returns the folder for files with secrets, beside the folder of the worktrees' records.
pub(crate) fn withheld_folder(index: &Path, name: &str) -> PathBuf {
    let run = index.parent().and_then(Path::parent).unwrap_or(index);
    run.join("withheld").join(name)
}
