//! Making a place exactly some commit's tree again, whatever was done to it, at a cost that follows the difference.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::State;
use gix::index::entry::{Flags, Mode, Stat};
use gix::worktree::stack::state::{attributes, ignore};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::walk::{self, UntrackedKind};
use super::worktree_cache;
use super::worktree_record::WorktreeRecord;
use super::{Head, Repo, Worktree, object_id, tree, worktree};
use crate::domain::id::Oid;

/// What a reset came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ResetStats {
    /// Files and links written.
    pub written: usize,
    /// Paths removed; a folder counts as one.
    pub removed: usize,
    /// Paths that stayed because they are ignored and were to be kept.
    pub kept: usize,
}

impl Worktree {
    /// Makes the place exactly the tree of a commit, whatever is in it now, and repairs its registration. Files that
    /// git ignores go too, except those that a path or glob in `keep` names *and* the commit's own `.gitignore`
    /// ignores. A pattern without `/` matches a name in any folder. What a symbolic link points to is never touched.
    ///
    /// With [`Head::Branch`] the place's `HEAD` is on that branch afterwards; the branch itself does not move.
    pub(crate) fn reset_to(
        &self,
        repo: &Repo,
        commit: &Oid,
        head: &Head,
        keep: &[String],
    ) -> Result<ResetStats> {
        let keep = keep_set(keep)?;
        let mut local = repo.own_local();
        let target = tree::of(&local, object_id(commit)?)?;
        self.repair(repo, commit)?;
        local.set_workdir(self.path.clone()).with_context(|| super::at(self.path.display()))?;

        // Without a note everything is a stranger: slow, and still right.
        let record = match WorktreeRecord::load(&self.index, local.object_hash()) {
            Ok(Some(record)) if record.path == self.path && record.admin == self.admin => record,
            Ok(_) | Err(_) => WorktreeRecord::empty(&self.path, &self.admin, local.object_hash()),
        };
        let found = match worktree_cache::walk(&self.index) {
            Some(found) => found,
            None => walk::walk(&self.path, &record.state, record.stamp)?,
        };
        let differences = tree::differences(&local, record.tree, target)?;
        let mut plan = plan(record.state, &found, differences);

        let mut stats = ResetStats { written: plan.write, ..ResetStats::default() };
        let sweep = UntrackedSweep { root: &self.path, state: &plan.state, keep: &keep };
        sweep.run(&local, found.untracked, &mut stats)?;
        for path in &plan.unlink {
            let path = self.path.join(OsStr::from_bytes(path));
            worktree::remove_any(&path).with_context(|| cannot_remove(&path))?;
        }
        stats.removed += plan.dropped;
        prune(&self.path, &plan.emptied);
        check_out(&local, &self.path, &mut plan.state)?;

        self.set_head(head, commit)?;
        let stamp = self.write_link()?;
        let record = WorktreeRecord {
            path: self.path.clone(),
            admin: self.admin.clone(),
            tree: target,
            stamp,
            state: plan.state,
        };
        let index = record.index()?;
        // An older note is as good when it names the same files: those that were written since look different from what
        // it says of them.
        let minor = plan.same_paths && stats.written < MINOR;
        if let Some(record) =
            if minor { worktree_cache::renew(&self.index, record) } else { Some(record) }
        {
            record.save(&self.index, &index)?;
        }
        super::link::replace_file(&self.admin.join("index"), &index)?;
        Ok(stats)
    }
}

/// How many files may be written without our note being written anew.
const MINOR: usize = 100;

/// What is to be done to the files that git knows.
struct ResetPlan {
    /// The files of the target; those to write carry [`Flags::UPDATE`].
    state: State,
    /// How many those are.
    write: usize,
    /// Files that are there and must go, because they are not in the target or are to be written afresh. Writing into
    /// one would change whatever it is a hard link to.
    unlink: Vec<BString>,
    /// How many of those are not in the target.
    dropped: usize,
    /// Whether the files have the same names as before.
    same_paths: bool,
    /// Folders that may be empty now.
    emptied: BTreeSet<BString>,
}

fn plan(
    mut state: State,
    found: &walk::WalkResult,
    differences: Vec<tree::PathDifference>,
) -> ResetPlan {
    // Where attributes changed, files with the same content may look different when checked out.
    let restyled: Vec<BString> = differences
        .iter()
        .filter_map(|d| d.path.strip_suffix(b".gitattributes").map(BString::from))
        .filter(|folder| folder.is_empty() || folder.ends_with(b"/"))
        .collect();
    let mut after: HashMap<BString, Option<tree::TreeEntry>> =
        differences.into_iter().map(|d| (d.path, d.after)).collect();
    let missing: HashSet<usize> = found.missing.iter().copied().collect();
    for at in found.doubtful.iter().chain(&found.missing) {
        state.entries_mut()[*at].flags.insert(Flags::UPDATE);
    }
    let (mut unlink, mut emptied, mut dropped, mut write) = (Vec::new(), BTreeSet::new(), 0, 0);
    for (at, (entry, path)) in state.entries_mut_with_paths().enumerate() {
        match after.remove(path) {
            Some(Some(new)) => {
                entry.id = new.id;
                entry.mode = new.mode.into();
                entry.flags.insert(Flags::UPDATE);
            }
            Some(None) => entry.flags.insert(Flags::REMOVE),
            None if restyled.iter().any(|folder| path.starts_with(folder)) => {
                entry.flags.insert(Flags::UPDATE);
            }
            None => {}
        }
        if !entry.flags.intersects(Flags::UPDATE | Flags::REMOVE) {
            continue;
        }
        entry.stat = Stat::default();
        // Only what the walk saw through real folders: a path could lead through a link to somewhere else.
        if !missing.contains(&at) {
            unlink.push(path.to_owned());
        }
        if entry.flags.contains(Flags::REMOVE) {
            dropped += usize::from(!missing.contains(&at));
            if let Some(slash) = path.rfind_byte(b'/') {
                emptied.insert(path[..slash].into());
            }
        } else {
            write += 1;
        }
    }
    let before = state.entries().len();
    state.remove_entries(|_, _, entry| entry.flags.contains(Flags::REMOVE));
    let shrank = state.entries().len() < before;
    let mut grew = false;
    for (path, entry) in after {
        if let Some(new) = entry {
            let mode = Mode::from(new.mode);
            state.dangerously_push_entry(
                Stat::default(),
                new.id,
                Flags::UPDATE,
                mode,
                path.as_bstr(),
            );
            write += 1;
            grew = true;
        }
    }
    if grew {
        state.sort_entries();
    }
    ResetPlan { state, write, unlink, dropped, same_paths: !(grew || shrank), emptied }
}

/// Removing what git does not know.
struct UntrackedSweep<'a> {
    root: &'a Path,
    state: &'a State,
    keep: &'a Option<GlobSet>,
}

impl UntrackedSweep<'_> {
    fn run(
        &self,
        local: &gix::Repository,
        untracked: Vec<(BString, UntrackedKind)>,
        stats: &mut ResetStats,
    ) -> Result<()> {
        if untracked.is_empty() {
            return Ok(());
        }
        let Some(keep) = self.keep else {
            for (path, _) in untracked {
                self.remove(path.as_bstr(), stats)?;
            }
            return Ok(());
        };
        // The target's own rules, not those that an agent left lying there.
        let mut rules = local
            .excludes(self.state, None, ignore::Source::IdMapping)
            .context("cannot read the ignore rules")?;
        for (path, kind) in untracked {
            self.sort_out(keep, &mut rules, path.as_bstr(), kind, stats)?;
        }
        Ok(())
    }

    /// Keeps or removes one path. Says whether something stayed.
    fn sort_out(
        &self,
        keep: &GlobSet,
        rules: &mut gix::AttributeStack<'_>,
        path: &BStr,
        kind: UntrackedKind,
        stats: &mut ResetStats,
    ) -> Result<bool> {
        let mode = if kind == UntrackedKind::Folder { Mode::DIR } else { Mode::FILE };
        if keep.is_match(OsStr::from_bytes(path)) && !self.target_needs(path) {
            let ignored =
                rules.at_entry(path, Some(mode)).with_context(|| super::at(path))?.is_excluded();
            if ignored {
                stats.kept += 1;
                return Ok(true);
            }
        }
        if kind != UntrackedKind::Folder {
            self.remove(path, stats)?;
            return Ok(false);
        }
        let dir = self.root.join(OsStr::from_bytes(path));
        let mut stayed = false;
        for (name, kind) in walk::children(&dir)? {
            let child = tree::join(path, name.as_bstr());
            stayed |= self.sort_out(keep, rules, child.as_bstr(), kind, stats)?;
        }
        if !stayed {
            self.remove(path, stats)?;
        }
        Ok(stayed)
    }

    /// Whether the target has a file at this path, below it, or where it would need a folder above.
    fn target_needs(&self, path: &BStr) -> bool {
        let at_or_above = path
            .find_iter(b"/")
            .chain(std::iter::once(path.len()))
            .any(|end| self.state.entry_by_path(path[..end].as_bstr()).is_some());
        at_or_above || self.state.path_is_directory(path)
    }

    fn remove(&self, path: &BStr, stats: &mut ResetStats) -> Result<()> {
        let path = self.root.join(OsStr::from_bytes(path));
        worktree::remove_any(&path).with_context(|| cannot_remove(&path))?;
        stats.removed += 1;
        Ok(())
    }
}

/// Removes folders that lost their last file, upwards, as git does; those with something left stay.
fn prune(root: &Path, folders: &BTreeSet<BString>) {
    for folder in folders.iter().rev() {
        let mut rest: &[u8] = folder;
        loop {
            if !is_real_folder(root, rest)
                || std::fs::remove_dir(root.join(OsStr::from_bytes(rest))).is_err()
            {
                break;
            }
            let Some(slash) = rest.rfind_byte(b'/') else {
                break;
            };
            rest = &rest[..slash];
        }
    }
}

/// Whether no part of a path is a link.
fn is_real_folder(root: &Path, folder: &[u8]) -> bool {
    let ends = folder.find_iter(b"/").chain(std::iter::once(folder.len()));
    ends.into_iter().all(|end| {
        std::fs::symlink_metadata(root.join(OsStr::from_bytes(&folder[..end])))
            .is_ok_and(|meta| meta.is_dir())
    })
}

/// From how many files on they are written by more than one thread.
const PARALLEL_FROM: usize = 100;

/// Writes the files that carry [`Flags::UPDATE`], and notes their stat data.
fn check_out(local: &gix::Repository, root: &Path, state: &mut State) -> Result<()> {
    let mut part = State::new(local.object_hash());
    for entry in state.entries().iter().filter(|e| e.flags.contains(Flags::UPDATE)) {
        if entry.mode == Mode::COMMIT {
            bail!("git-harness cannot check out a submodule: {}", entry.path(state));
        }
        part.dangerously_push_entry(
            Stat::default(),
            entry.id,
            Flags::empty(),
            entry.mode,
            entry.path(state),
        );
    }
    if part.entries().is_empty() {
        return Ok(());
    }
    // Attributes that are not among these files are on disk already, as the target has them.
    let mut options = local
        .checkout_options(attributes::Source::IdMappingThenWorktree)
        .context("cannot read the checkout settings")?;
    // Starting threads costs more than writing a few files.
    options.thread_limit = (part.entries().len() < PARALLEL_FROM).then_some(1);
    // Nothing is in the way any more, and what is all the same must not be written through.
    options.destination_is_initially_empty = true;
    options.overwrite_existing = false;
    options.keep_going = false;
    let objects = local.objects.clone().into_arc().context("cannot open the object database")?;
    let nothing = gix::progress::Discard;
    let outcome = gix::worktree::state::checkout(
        &mut part,
        PathBuf::from(root),
        objects,
        &nothing,
        &nothing,
        &AtomicBool::new(false),
        options,
    )
    .with_context(|| format!("cannot check out files: {}", root.display()))?;
    if let Some(collision) = outcome.collisions.first() {
        bail!(
            "two names of the commit are one on this file system, or something is in the way: {}",
            collision.path
        );
    }
    if let Some(path) = outcome.delayed_paths_unprocessed.first() {
        bail!("a filter process did not deliver a file: {path}");
    }
    let written = part.entries().iter().map(|e| e.stat);
    let wanted = state.entries_mut().iter_mut().filter(|e| e.flags.contains(Flags::UPDATE));
    for (entry, stat) in wanted.zip(written) {
        entry.stat = stat;
        entry.flags.remove(Flags::UPDATE);
    }
    Ok(())
}

/// The patterns of what stays; nothing if there are none.
fn keep_set(patterns: &[String]) -> Result<Option<GlobSet>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bare = pattern.trim_start_matches('/').trim_end_matches('/');
        let anywhere = !pattern.trim_end_matches('/').contains('/');
        let full = if anywhere { format!("**/{bare}") } else { bare.to_owned() };
        let glob = GlobBuilder::new(&full)
            .literal_separator(true)
            .build()
            .with_context(|| format!("not a path or glob to keep: {pattern}"))?;
        set.add(glob);
    }
    Ok(Some(set.build().context("cannot use the paths to keep")?))
}

fn cannot_remove(path: &Path) -> String {
    format!("cannot remove: {}", path.display())
}
