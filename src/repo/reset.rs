//! Reset of a worktree to exactly the tree of a commit, from any state. The cost follows the
//! difference.

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

use super::encoding::EncodingRules;
use super::folder_identity::FolderIdentity;
use super::walk::{self, UntrackedKind};
use super::worktree_cache;
use super::worktree_record::WorktreeRecord;
use super::{Head, Repo, Worktree, files, object_id, tree};
use crate::domain::id::Oid;

/// The statistics of a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ResetStats {
    /// Files and links that were written.
    pub written: usize,
    /// Paths that were removed. A folder counts as one.
    pub removed: usize,
    /// Ignored paths that were kept. A folder counts as one.
    pub kept: usize,
    /// Untracked paths that stay although no pattern keeps them.
    pub spared: usize,
}

/// The untracked files that a reset removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UntrackedFiles {
    /// All files, except those that are kept.
    Remove,
    /// The files that git does not ignore.
    RemoveUnignored,
    /// None.
    Spare,
}

impl Worktree {
    /// Makes the worktree exactly the tree of a commit and repairs its registration. Untracked and
    /// ignored files are removed. A file is kept only if a path or glob in `keep` matches it *and*
    /// the commit's own `.gitignore` ignores it. A pattern without `/` matches a name in any
    /// folder. The target of a symbolic link is never touched.
    ///
    /// Afterwards, `HEAD` is `head`. A branch in `head` does not move.
    pub(crate) fn reset_to(
        &self,
        repo: &Repo,
        commit: &Oid,
        head: &Head,
        keep: &[String],
    ) -> Result<ResetStats> {
        self.reset_sparing(repo, commit, head, keep, UntrackedFiles::Remove)
    }

    /// Resets the worktree like [`reset_to`](Self::reset_to), but removes fewer untracked files.
    pub(crate) fn reset_sparing(
        &self,
        repo: &Repo,
        commit: &Oid,
        head: &Head,
        keep: &[String],
        mode: UntrackedFiles,
    ) -> Result<ResetStats> {
        let keep = path_set(keep)?;
        let mut local = repo.own_local();
        let target = tree::peel_to_tree(&local, object_id(commit)?)?;
        // Without a record, every file counts as untracked. That is slow but correct.
        let record = match WorktreeRecord::load(&self.index, local.object_hash()) {
            Ok(Some(record)) if record.path == self.path && record.admin == self.admin => record,
            Ok(_) | Err(_) => WorktreeRecord::empty(&self.path, &self.admin, local.object_hash()),
        };
        let recorded = record.folder;
        self.repair(repo, commit, recorded)?;
        local.set_workdir(self.path.clone()).with_context(|| super::at(self.path.display()))?;
        let folder = FolderIdentity::of(&self.path)?;
        let same_folder = recorded.is_some_and(|old| folder.is_some_and(|new| old.is_of(&new)));
        let found = match worktree_cache::walk(&self.index) {
            Some(found) => found,
            None => walk::walk(&self.path, &record.state, record.stamp)?,
        };
        let differences = tree::differences(&local, record.tree, target)?;
        let mut plan = plan(record.state, &found, differences);

        let mut stats = ResetStats { written: plan.write, ..ResetStats::default() };
        let sweep = UntrackedSweep { root: &self.path, state: &plan.state, keep: &keep, mode };
        sweep.run(&local, found.untracked, &mut stats)?;
        for path in &plan.unlink {
            let path = self.path.join(OsStr::from_bytes(path));
            files::remove_any(&path).with_context(|| cannot_remove(&path))?;
        }
        stats.removed += plan.dropped;
        prune(&self.path, &plan.emptied);
        check_out(&local, &self.path, &mut plan.state)?;

        self.set_head(head, commit)?;
        let stamp = self.write_link()?;
        let record = WorktreeRecord {
            path: self.path.clone(),
            folder,
            admin: self.admin.clone(),
            tree: target,
            stamp,
            state: plan.state,
        };
        let index = record.index()?;
        // The record on the disk may stay if the file names are the same and few files were
        // written: files that were written since do not match their entries and are read again.
        let minor = same_folder && plan.same_paths && stats.written < RECORD_SKIP_LIMIT;
        if let Some(record) =
            if minor { worktree_cache::replace(&self.index, record) } else { Some(record) }
        {
            record.save(&self.index, &index)?;
        }
        files::replace_file(&self.admin.join("index"), &index)?;
        Ok(stats)
    }
}

/// The number of written files below which the record on the disk is not replaced.
const RECORD_SKIP_LIMIT: usize = 100;

/// The changes to the files that git tracks.
struct ResetPlan {
    /// The files of the target. Files that must be written carry [`Flags::UPDATE`].
    state: State,
    /// The number of files that must be written.
    write: usize,
    /// Existing files that must be removed, because they are not in the target or will be written
    /// again. Writing into an existing file would also change its hard links outside of the
    /// worktree.
    unlink: Vec<BString>,
    /// The number of removed files that are not in the target.
    dropped: usize,
    /// True if the files have the same names as before.
    same_paths: bool,
    /// Folders that may be empty afterwards.
    emptied: BTreeSet<BString>,
}

/// Plans a reset from the recorded `state`, the result of a walk, and the differences between the
/// recorded and the target tree.
fn plan(
    mut state: State,
    found: &walk::WalkResult,
    differences: Vec<tree::PathDifference>,
) -> ResetPlan {
    // A changed `.gitattributes` may change the checkout of all files in its folder and below, even
    // if their blobs are the same.
    let restyled: Vec<BString> = differences
        .iter()
        .filter_map(|d| d.path.strip_suffix(b".gitattributes").map(BString::from))
        .filter(|folder| folder.is_empty() || folder.ends_with(b"/"))
        .collect();
    let mut after: HashMap<BString, Option<tree::TreeEntry>> =
        differences.into_iter().map(|d| (d.path, d.after)).collect();
    let missing: HashSet<usize> = found.missing.iter().copied().collect();
    for at in found.maybe_changed.iter().chain(&found.missing).chain(&found.populated) {
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
        // Unlink only files that the walk reached through real folders. Any other path could lead
        // out of the worktree through a link.
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

/// The removal of untracked paths.
struct UntrackedSweep<'a> {
    root: &'a Path,
    state: &'a State,
    keep: &'a Option<GlobSet>,
    mode: UntrackedFiles,
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
        let nothing = GlobSet::empty();
        let keep = match (self.keep, self.mode) {
            (Some(keep), _) => keep,
            (None, UntrackedFiles::Remove) => {
                for (path, _) in untracked {
                    self.remove(path.as_bstr(), stats)?;
                }
                return Ok(());
            }
            (None, UntrackedFiles::RemoveUnignored | UntrackedFiles::Spare) => &nothing,
        };
        // Use the ignore rules of the target, not those that an agent left in the worktree.
        let mut rules = local
            .excludes(self.state, None, ignore::Source::IdMapping)
            .context("cannot read the ignore rules")?;
        for (path, kind) in untracked {
            self.keep_or_remove(keep, &mut rules, path.as_bstr(), kind, stats)?;
        }
        Ok(())
    }

    /// Keeps or removes a path and everything below. Returns true if anything was kept.
    fn keep_or_remove(
        &self,
        keep: &GlobSet,
        rules: &mut gix::AttributeStack<'_>,
        path: &BStr,
        kind: UntrackedKind,
        stats: &mut ResetStats,
    ) -> Result<bool> {
        let mode = if kind == UntrackedKind::Folder { Mode::DIR } else { Mode::FILE };
        let is_named = keep.is_match(OsStr::from_bytes(path));
        let may_stay = is_named || self.mode == UntrackedFiles::RemoveUnignored;
        if may_stay && !self.target_needs(path) {
            let ignored =
                rules.at_entry(path, Some(mode)).with_context(|| super::at(path))?.is_excluded();
            if ignored {
                *(if is_named { &mut stats.kept } else { &mut stats.spared }) += 1;
                return Ok(true);
            }
        }
        let is_spared = self.mode == UntrackedFiles::Spare && !self.target_needs(path);
        if kind != UntrackedKind::Folder {
            if is_spared {
                stats.spared += 1;
                return Ok(true);
            }
            self.remove(path, stats)?;
            return Ok(false);
        }
        let dir = self.root.join(OsStr::from_bytes(path));
        let mut stayed = false;
        for (name, kind) in walk::children(&dir)? {
            let child = tree::join(path, name.as_bstr());
            stayed |= self.keep_or_remove(keep, rules, child.as_bstr(), kind, stats)?;
        }
        if !stayed && is_spared {
            stats.spared += 1;
            return Ok(true);
        }
        if !stayed {
            self.remove(path, stats)?;
        }
        Ok(stayed)
    }

    /// Returns true if the target has a file at this path, below it, or at one of its parent
    /// folders.
    fn target_needs(&self, path: &BStr) -> bool {
        let at_or_above = path
            .find_iter(b"/")
            .chain(std::iter::once(path.len()))
            .any(|end| self.state.entry_by_path(path[..end].as_bstr()).is_some());
        at_or_above || self.state.path_is_directory(path)
    }

    fn remove(&self, path: &BStr, stats: &mut ResetStats) -> Result<()> {
        let path = self.root.join(OsStr::from_bytes(path));
        files::remove_any(&path).with_context(|| cannot_remove(&path))?;
        stats.removed += 1;
        Ok(())
    }
}

/// Removes the given folders that are empty, and parents that become empty, as git does.
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

/// Returns true if the path and all its parents are folders and not links.
pub(super) fn is_real_folder(root: &Path, folder: &[u8]) -> bool {
    let ends = folder.find_iter(b"/").chain(std::iter::once(folder.len()));
    ends.into_iter().all(|end| {
        std::fs::symlink_metadata(root.join(OsStr::from_bytes(&folder[..end])))
            .is_ok_and(|meta| meta.is_dir())
    })
}

/// The least number of files for which a checkout uses several threads.
const PARALLEL_FROM: usize = 100;

/// Writes the files that carry [`Flags::UPDATE`] and records their stat data.
fn check_out(local: &gix::Repository, root: &Path, state: &mut State) -> Result<()> {
    let mut part = State::new(local.object_hash());
    for entry in state.entries().iter().filter(|e| e.flags.contains(Flags::UPDATE)) {
        if entry.mode == Mode::COMMIT {
            // A submodule is an empty folder, as in a clone without its submodules.
            let folder = root.join(OsStr::from_bytes(entry.path(state)));
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make a folder: {}", folder.display()))?;
            continue;
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
        state.entries_mut().iter_mut().for_each(|entry| entry.flags.remove(Flags::UPDATE));
        return Ok(());
    }
    // `.gitattributes` files that this checkout does not write are on the disk already, with the
    // target's content.
    let mut options = local
        .checkout_options(attributes::Source::IdMappingThenWorktree)
        .context("cannot read the checkout settings")?;
    // Starting threads costs more than writing a few files.
    options.thread_limit = (part.entries().len() < PARALLEL_FROM).then_some(1);
    // The files at these paths were removed before. If another file or link has appeared there, gix
    // must not write to it.
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
    let mut written: Vec<Stat> = part.entries().iter().map(|e| e.stat).collect();
    if let Some(mut rules) = EncodingRules::of(local, state)? {
        for (entry, stat) in part.entries().iter().zip(&mut written) {
            if entry.mode != Mode::SYMLINK
                && let Some(converted) = rules.write(root, entry.path(&part))?
            {
                *stat = converted;
            }
        }
    }
    let updated = state.entries_mut().iter_mut().filter(|e| e.flags.contains(Flags::UPDATE));
    let updated = updated.filter(|e| e.mode != Mode::COMMIT);
    for (entry, stat) in updated.zip(written) {
        entry.stat = stat;
    }
    state.entries_mut().iter_mut().for_each(|entry| entry.flags.remove(Flags::UPDATE));
    Ok(())
}

/// Builds the set of paths that patterns match, or `None` without patterns. A pattern without `/`
/// matches a name in any folder.
pub(super) fn path_set(patterns: &[String]) -> Result<Option<GlobSet>> {
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
            .with_context(|| format!("not a path or glob: {pattern}"))?;
        set.add(glob);
    }
    Ok(Some(set.build().context("cannot use a list of paths")?))
}

fn cannot_remove(path: &Path) -> String {
    format!("cannot remove: {}", path.display())
}
