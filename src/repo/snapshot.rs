//! Snapshots: the content of a worktree, written as a tree.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::filter::Pipeline;
use gix::filter::plumbing::pipeline::convert::ToGitOutcome;
use gix::index::State;
use gix::index::entry::Mode;
use gix::objs::tree::EntryKind;
use gix::worktree::stack::state::{attributes, ignore};

use super::agent_index::{AgentIndex, is_repository};
use super::encoding::has_encoding;
use super::walk::{self, UntrackedKind};
use super::worktree_cache;
use super::worktree_record::WorktreeRecord;
use super::{Repo, Worktree, object_id, objects, oid, tree};
use crate::domain::id::Oid;

/// The result of [`snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorktreeSnapshot {
    /// The tree.
    pub tree: Oid,
    /// The paths that differ from the base, sorted. Bytes that are not UTF-8 are replaced.
    pub changed: Vec<String>,
    /// True if the agent has made git track a path. Without the index that it used, the tree may
    /// lack ignored files.
    pub needs_index: bool,
}

/// Writes the content of a worktree as a tree, as `git add --all` would: tracked files with their
/// current content, and new files that are not ignored. A file that the agent committed or staged
/// is tracked, even if git ignores it. Otherwise, the agent's changes to the worktree's index,
/// `HEAD` or `.git` have no effect. A nested repository is one entry, a submodule. A submodule of
/// the base stays as it is, whatever is in its folder. Pipes, sockets and devices are left out.
pub(crate) fn snapshot(
    repo: &Repo,
    worktree: &Worktree,
    base_tree: &Oid,
) -> Result<WorktreeSnapshot> {
    snapshot_with_index(repo, worktree, base_tree, &worktree.admin.join("index"))
}

/// Writes the content of a worktree as [`snapshot`] does, for an agent whose git used another
/// index.
pub(crate) fn snapshot_with_index(
    repo: &Repo,
    worktree: &Worktree,
    base_tree: &Oid,
    index: &Path,
) -> Result<WorktreeSnapshot> {
    let mut local = repo.own_local();
    let base = tree::peel_to_tree(&local, object_id(base_tree)?)?;
    local.set_workdir(worktree.path.clone()).with_context(|| super::at(worktree.path.display()))?;
    let record = match WorktreeRecord::load(&worktree.index, local.object_hash()) {
        Ok(Some(record)) if record.path == worktree.path => record,
        // Without a record every file is read and compared.
        Ok(_) | Err(_) => WorktreeRecord {
            tree: base,
            state: state_of(&local, base)?,
            ..WorktreeRecord::empty(&worktree.path, &worktree.admin, local.object_hash())
        },
    };
    let tracked = AgentIndex::read(repo, &local, worktree, &record, index);
    let found = walk::walk(&worktree.path, &record.state, record.stamp)?;
    let mut edits: Vec<tree::TreeEdit> = Vec::new();
    for at in missing_files(&record.state, &found) {
        edits.push((record.state.entry(at).path(&record.state).to_owned(), None));
    }
    if !found.maybe_changed.is_empty() || !found.untracked.is_empty() {
        let mut reader = WorktreeReader::new(&local, &record.state, &worktree.path)?;
        for at in &found.maybe_changed {
            let entry = record.state.entry(*at);
            let path = entry.path(&record.state);
            let now = reader.read(path, Some(entry.mode))?;
            let recorded = entry.mode.to_tree_entry_mode().map(|mode| (mode.kind(), entry.id));
            if now != recorded {
                edits.push((path.to_owned(), now));
            }
        }
        let rules = local
            .excludes(&record.state, None, ignore::Source::WorktreeThenIdMappingIfNotSkipped)
            .context("cannot read the ignore rules")?;
        let mut new = NewPaths::new(&worktree.path, rules, &tracked);
        for (path, kind) in &found.untracked {
            new.collect(path.as_bstr(), *kind)?;
        }
        for path in new.files {
            if let Some(entry) = reader.read(path.as_bstr(), None)? {
                edits.push((path, Some(entry)));
            }
        }
        // Git cannot link a repository without a commit, and the scope refuses every link.
        let unborn = ObjectId::empty_tree(local.object_hash());
        let new = new.repositories.into_iter().map(|path| (path, unborn));
        link(&record.state, &mut edits, new);
    }
    link(&record.state, &mut edits, tracked.submodules(worktree));
    worktree_cache::keep_walk(&worktree.index, found);
    let written = tree::apply(&local, record.tree, &edits)?;
    if written.is_empty_tree() {
        objects::write(&local, &gix::objs::Tree::empty())?;
    }
    let changed = tree::differences(&local, base, written)?;
    Ok(WorktreeSnapshot {
        tree: oid(written),
        changed: changed.into_iter().map(|d| d.path.to_string()).collect(),
        needs_index: tracked.has_any(),
    })
}

/// Returns the tracked files of a worktree that were changed or removed since the checkout. Nothing
/// is written.
pub(crate) fn modified_files(repo: &Repo, worktree: &Worktree) -> Result<Vec<String>> {
    let mut local = repo.own_local();
    local.objects.enable_object_memory();
    local.set_workdir(worktree.path.clone()).with_context(|| super::at(worktree.path.display()))?;
    let record = WorktreeRecord::load(&worktree.index, local.object_hash())?
        .with_context(|| format!("no record of the worktree {}", worktree.path.display()))?;
    let found = walk::walk(&worktree.path, &record.state, record.stamp)?;
    let path = |at: usize| record.state.entry(at).path(&record.state);
    let mut modified_files: Vec<BString> =
        missing_files(&record.state, &found).map(|at| path(at).to_owned()).collect();
    let mut reader = WorktreeReader::new(&local, &record.state, &worktree.path)?;
    for at in found.maybe_changed {
        let entry = record.state.entry(at);
        let recorded = entry.mode.to_tree_entry_mode().map(|mode| (mode.kind(), entry.id));
        if reader.read(path(at), Some(entry.mode))? != recorded {
            modified_files.push(path(at).to_owned());
        }
    }
    let mut modified_files: Vec<String> = modified_files.iter().map(ToString::to_string).collect();
    modified_files.sort();
    Ok(modified_files)
}

/// Returns the missing files of a worktree, without submodules: their folders are empty there, and
/// an empty folder is easily lost.
fn missing_files<'a>(
    state: &'a State,
    found: &'a walk::WalkResult,
) -> impl Iterator<Item = usize> + 'a {
    found.missing.iter().copied().filter(|at| state.entry(*at).mode != Mode::COMMIT)
}

/// Returns the files of a tree as an index without stat data.
fn state_of(local: &gix::Repository, root: ObjectId) -> Result<State> {
    State::from_tree(&root, &local.objects, tree::name_rules())
        .with_context(|| format!("cannot list a tree: {root}"))
}

/// Replaces everything at and below some folders by a submodule.
fn link(
    state: &State,
    edits: &mut Vec<tree::TreeEdit>,
    submodules: impl IntoIterator<Item = (BString, ObjectId)>,
) {
    for (path, id) in submodules {
        let prefix = tree::join(path.as_bstr(), BStr::new(""));
        edits.retain(|(edited, _)| *edited != path && !edited.starts_with(&prefix));
        let tracked = state.prefixed_entries(prefix.as_bstr()).into_iter().flatten();
        edits.extend(tracked.map(|entry| (entry.path(state).to_owned(), None)));
        edits.push((path, Some((EntryKind::Commit, id))));
    }
}

/// The untracked paths of a worktree that are part of the work.
struct NewPaths<'a> {
    root: &'a Path,
    rules: gix::AttributeStack<'a>,
    tracked: &'a AgentIndex,
    files: Vec<BString>,
    repositories: Vec<BString>,
}

impl<'a> NewPaths<'a> {
    fn new(root: &'a Path, rules: gix::AttributeStack<'a>, tracked: &'a AgentIndex) -> Self {
        Self { root, rules, tracked, files: Vec::new(), repositories: Vec::new() }
    }

    /// Collects the files at and below a path that are not ignored, or that the agent has tracked.
    fn collect(&mut self, path: &BStr, kind: UntrackedKind) -> Result<()> {
        let name = path.rfind_byte(b'/').map_or(path, |slash| path[slash + 1..].as_bstr());
        // Skip `.git` and its equivalents on other file systems: git refuses a tree with such a
        // name.
        if gix::validate::path::component(name, None, tree::name_rules()).is_err() {
            return Ok(());
        }
        let mode = match kind {
            UntrackedKind::Other => return Ok(()),
            UntrackedKind::File => Mode::FILE,
            UntrackedKind::Folder => Mode::DIR,
        };
        let entry = self.rules.at_entry(path, Some(mode)).with_context(|| super::at(path))?;
        let is_ignored = entry.is_excluded();
        if kind == UntrackedKind::File {
            if !is_ignored || self.tracked.has_file(path) {
                self.files.push(path.to_owned());
            }
            return Ok(());
        }
        if is_ignored && !self.tracked.has_below(path) {
            return Ok(());
        }
        if !is_ignored && is_repository(self.root, path) {
            self.repositories.push(path.to_owned());
            return Ok(());
        }
        for (name, kind) in walk::children(&self.root.join(OsStr::from_bytes(path)))? {
            self.collect(tree::join(path, name.as_bstr()).as_bstr(), kind)?;
        }
        Ok(())
    }
}

/// A reader of worktree files that writes their content as blobs, as `git add` would.
struct WorktreeReader<'a> {
    local: &'a gix::Repository,
    state: &'a State,
    root: &'a Path,
    filters: Pipeline<'a>,
    trust_executable: bool,
    /// False if links are checked out as files with the target as their content.
    trust_links: bool,
}

impl<'a> WorktreeReader<'a> {
    fn new(local: &'a gix::Repository, state: &'a State, root: &'a Path) -> Result<Self> {
        let attributes = local
            .attributes_only(state, attributes::Source::WorktreeThenIdMapping)
            .context("cannot read the attributes")?;
        let filters =
            Pipeline::new(local, attributes.detach()).context("cannot read the filters")?;
        let trust_executable = local.config_snapshot().boolean("core.fileMode") != Some(false);
        let trust_links = local.config_snapshot().boolean("core.symlinks") != Some(false);
        Ok(Self { local, state, root, filters, trust_executable, trust_links })
    }

    /// Writes the content of a file or link as a blob. Returns `None` if there is neither at the
    /// path. `known` is the recorded mode of a tracked file.
    fn read(&mut self, path: &BStr, known: Option<Mode>) -> Result<Option<(EntryKind, ObjectId)>> {
        let full = self.root.join(OsStr::from_bytes(path));
        let failed = || format!("cannot read what the agent left: {}", full.display());
        let meta = match std::fs::symlink_metadata(&full) {
            Ok(meta) => meta,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(failed),
        };
        if meta.is_symlink() {
            let target =
                std::fs::read_link(&full).with_context(failed)?.into_os_string().into_vec();
            let id = objects::retry_write(|| self.local.write_blob(&target).map(gix::Id::detach))?;
            return Ok(Some((EntryKind::Link, id)));
        }
        if !meta.is_file() {
            return Ok(None);
        }
        let file = match std::fs::File::open(&full) {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                // A file without read permission is still part of the agent's work.
                let mode = meta.permissions().mode() | 0o400;
                std::fs::set_permissions(&full, Permissions::from_mode(mode))
                    .with_context(failed)?;
                std::fs::File::open(&full)
            }
            other => other,
        }
        .with_context(failed)?;
        if !self.trust_links && known == Some(Mode::SYMLINK) {
            let target = std::fs::read(&full).with_context(failed)?;
            let id = objects::retry_write(|| self.local.write_blob(&target).map(gix::Id::detach))?;
            return Ok(Some((EntryKind::Link, id)));
        }
        let relative = Path::new(OsStr::from_bytes(path));
        let mut content = Vec::new();
        match self.filters.convert_to_git(file, relative, self.state) {
            Ok(ToGitOutcome::Unchanged(mut file)) => {
                std::io::Read::read_to_end(&mut file, &mut content).with_context(failed)?;
            }
            Ok(ToGitOutcome::Buffer(buffer)) => content.extend_from_slice(buffer),
            Ok(ToGitOutcome::Process(mut stream)) => {
                std::io::Read::read_to_end(&mut stream, &mut content).with_context(failed)?;
            }
            // The work is kept as it is. Such a commit is refused when it wants to land.
            Err(_) if has_encoding(self.local, self.state, path)? => {
                content = std::fs::read(&full).with_context(failed)?;
            }
            Err(error) => return Err(error).with_context(failed),
        }
        let id = objects::retry_write(|| self.local.write_blob(&content).map(gix::Id::detach))?;
        let executable = if self.trust_executable {
            // Git checks the owner's bit only.
            meta.permissions().mode() & 0o100 != 0
        } else {
            known == Some(Mode::FILE_EXECUTABLE)
        };
        let kind = if executable { EntryKind::BlobExecutable } else { EntryKind::Blob };
        Ok(Some((kind, id)))
    }
}
