//! Linked worktrees with a stable path, recycled from task to task.
//!
//! This module registers worktrees itself, without `git worktree add`: it builds the admin folder
//! elsewhere and renames it into place, so that `git worktree list` never finds an incomplete
//! folder. Both git and gix fail on an incomplete folder, so concurrent calls of `git worktree add`
//! disturb each other.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::folder_identity::{
    FolderIdentity, check_worktrees_folder, claim_worktrees_folder, set_aside,
};
use super::worktree_record::WorktreeRecord;
use super::{Head, Repo, files, heads, link, oid};
use crate::domain::id::Oid;

/// The age above which an unfinished registration counts as left behind by a killed process.
const STALE_AGE: Duration = Duration::from_secs(60);

/// A linked worktree that this program created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Worktree {
    /// The folder of the worktree's files. The path is absolute and without links.
    pub path: PathBuf,
    /// The admin folder, `<common>/worktrees/<id>`.
    pub admin: PathBuf,
    /// The file of the [`WorktreeRecord`], in a folder to which agents do not write.
    pub index: PathBuf,
}

/// Creates a worktree: registers it, detached at a commit, and checks out the commit's files in
/// parallel. The registration is one rename and needs no lock.
pub(crate) fn create_worktree(
    repo: &Repo,
    dest: &Path,
    commit: &Oid,
    private_index: &Path,
) -> Result<Worktree> {
    let worktree = register(repo, dest, commit, private_index)?;
    if let Err(error) = worktree.reset_to(repo, commit, &Head::Detached, &[]) {
        // Report the first error. If the removal fails too, `remove_worktree` can repeat it.
        drop(worktree.remove(repo));
        return Err(error);
    }
    Ok(worktree)
}

fn register(repo: &Repo, dest: &Path, commit: &Oid, private_index: &Path) -> Result<Worktree> {
    let (Some(parent), Some(name)) = (dest.parent(), dest.file_name()) else {
        bail!("a worktree needs a path with a name: {}", dest.display());
    };
    claim_worktrees_folder(parent, records_of(private_index))?;
    let path = std::fs::canonicalize(parent)
        .with_context(|| format!("cannot find a folder: {}", parent.display()))?
        .join(name);
    let inside = |root: &Path| path.starts_with(root);
    if repo.work_dir().is_some_and(inside) && !inside(repo.common_dir()) {
        bail!("a worktree must lie outside the repository's work tree: {}", path.display());
    }
    let unfinished = removal_path(&path);
    match recorded(repo, dest, private_index) {
        Ok(Some(old)) => old.delete_moved(repo, &unfinished)?,
        Ok(None) | Err(_) => drop(set_aside(&unfinished)?),
    }
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() && super::walk::list(&path)?.is_empty() => {}
        Ok(_) => bail!(
            "something is in the way of a worktree; move it, then start again: {}",
            path.display()
        ),
        Err(e) if e.kind() == ErrorKind::NotFound => std::fs::create_dir(&path)
            .with_context(|| format!("cannot make a worktree: {}", path.display()))?,
        Err(e) => {
            return Err(e).with_context(|| format!("cannot make a worktree: {}", path.display()));
        }
    }
    // A path must not have two registrations: drop one that a removed worktree left behind.
    for admin in heads::admin_dirs(repo.common_dir())? {
        if link::work_dir_of(&admin).is_some_and(|registered| registered == path) {
            drop_admin(repo, &admin)?;
        }
    }
    let id = admin_name(&name.to_string_lossy());
    let folder = repo.common_dir().join("worktrees");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make a folder: {}", folder.display()))?;
    for number in 0..10_000 {
        let admin =
            if number == 0 { folder.join(&id) } else { folder.join(format!("{id}{number}")) };
        if std::fs::symlink_metadata(&admin).is_ok() {
            continue;
        }
        let worktree = Worktree { path: path.clone(), admin, index: private_index.to_path_buf() };
        if worktree.create_admin(repo, commit)? {
            let record =
                WorktreeRecord::empty(&worktree.path, &worktree.admin, repo.local().object_hash())
                    .with_folder()?;
            let index = record.index()?;
            record.save(&worktree.index, &index)?;
            return Ok(worktree);
        }
    }
    bail!("too many worktrees have this name; remove some with `git worktree remove`: {id}")
}

/// Opens an existing worktree after a restart.
pub(crate) fn open_worktree(repo: &Repo, dest: &Path, private_index: &Path) -> Result<Worktree> {
    let worktree = recorded(repo, dest, private_index)?
        .with_context(|| format!("no recorded worktree is there: {}", dest.display()))?;
    for dir in [&worktree.path, &worktree.admin] {
        let real = std::fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir());
        if !real {
            bail!("a part of this worktree is gone: {}", dir.display());
        }
    }
    Ok(worktree)
}

/// Removes a worktree and its registration, if they exist. Does nothing without a record.
pub(crate) fn remove_worktree(repo: &Repo, dest: &Path, private_index: &Path) -> Result<()> {
    match recorded(repo, dest, private_index) {
        Ok(Some(worktree)) => worktree.remove(repo),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the folder and the registration of the worktree that a record describes.
pub(crate) fn recorded_paths(repo: &Repo, private_index: &Path) -> Option<(PathBuf, PathBuf)> {
    let record = WorktreeRecord::load(private_index, repo.local().object_hash()).ok()??;
    Some((record.path, record.admin))
}

/// Returns the folder of a recorded worktree, if the folder or its registration is gone.
pub(crate) fn lost_worktree(repo: &Repo, private_index: &Path) -> Option<PathBuf> {
    let (path, admin) = recorded_paths(repo, private_index)?;
    let is_folder = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    (!is_folder(&path) || !is_folder(&admin)).then_some(path)
}

/// Returns the registered worktrees: registration and folder.
pub(crate) fn registrations(repo: &Repo) -> Result<Vec<(PathBuf, PathBuf)>> {
    let admins = heads::admin_dirs(repo.common_dir())?.into_iter();
    Ok(admins.filter_map(|admin| Some((admin.clone(), link::work_dir_of(&admin)?))).collect())
}

/// Removes the registrations of a folder that is gone.
pub(crate) fn forget_registration(repo: &Repo, folder: &Path) -> Result<()> {
    for (admin, work_dir) in registrations(repo)? {
        if work_dir == folder && std::fs::symlink_metadata(folder).is_err() {
            drop_admin(repo, &admin)?;
        }
    }
    Ok(())
}

/// Removes a registration below the repository's `worktrees`.
pub(crate) fn drop_registration(repo: &Repo, admin: &Path) -> Result<()> {
    if admin.parent() != Some(&repo.common_dir().join("worktrees")) {
        bail!("this is no registration of a worktree: {}", admin.display());
    }
    drop_admin(repo, admin)
}

/// Clears the path of a worktree whose record is damaged or of another worktree. Nothing is
/// deleted: the folder gets another name, which is returned.
pub(crate) fn set_damaged_aside(dest: &Path, private_index: &Path) -> Result<Option<PathBuf>> {
    if let Some(parent) = dest.parent() {
        check_worktrees_folder(parent, records_of(private_index))?;
    }
    let aside = set_aside(dest)?;
    files::remove_any(private_index)
        .with_context(|| format!("cannot remove: {}", private_index.display()))?;
    Ok(aside)
}

/// Returns the worktree that the record describes, or `None` without a record. Fails if the folder
/// that holds the worktrees was replaced.
pub(super) fn recorded(repo: &Repo, dest: &Path, private_index: &Path) -> Result<Option<Worktree>> {
    if let Some(parent) = dest.parent() {
        check_worktrees_folder(parent, records_of(private_index))?;
    }
    let Some(record) = WorktreeRecord::load(private_index, repo.local().object_hash())? else {
        return Ok(None);
    };
    let expected = match (dest.parent().map(std::fs::canonicalize), dest.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        (Some(Ok(_)), None) | (Some(Err(_)) | None, Some(_) | None) => dest.to_path_buf(),
    };
    if record.path != expected {
        bail!("the record is of another worktree: {}", record.path.display());
    }
    if record.admin.parent() != Some(&repo.common_dir().join("worktrees")) {
        bail!("the record is of a worktree of another repository: {}", record.admin.display());
    }
    Ok(Some(Worktree {
        path: record.path,
        admin: record.admin,
        index: private_index.to_path_buf(),
    }))
}

impl Worktree {
    /// Sets the worktree's `HEAD` to a branch or to a commit. No other file changes.
    pub(crate) fn set_head(&self, head: &Head, commit: &Oid) -> Result<()> {
        let text = match head {
            Head::Branch(name) => format!("ref: {name}\n"),
            Head::Detached => format!("{commit}\n"),
        };
        files::replace_file(&self.admin.join("HEAD"), text.as_bytes())
    }

    /// Returns the commit of the worktree's `HEAD`, or `None` if `HEAD` is unborn or broken.
    pub(crate) fn head_commit(&self, repo: &Repo) -> Option<Oid> {
        let head = std::fs::read_to_string(self.admin.join("HEAD")).ok()?;
        let local = repo.local();
        let id = match head.strip_prefix("ref:") {
            None => gix::ObjectId::from_hex(head.trim().as_bytes()).ok()?,
            Some(name) => {
                let mut reference = local.try_find_reference(name.trim()).ok()??;
                reference.peel_to_id().ok()?.detach()
            }
        };
        Some(oid(local.find_commit(id).ok()?.id))
    }

    /// Removes the worktree. The folder is moved aside first, so that no process sees a
    /// half-deleted folder. The registration follows.
    pub(crate) fn remove(&self, repo: &Repo) -> Result<()> {
        match recorded(repo, &self.path, &self.index)? {
            Some(recorded) if recorded == *self => {}
            Some(_) | None => {
                bail!("not a recorded worktree, so it is not removed: {}", self.path.display())
            }
        }
        if self.admin.join("locked").exists() {
            bail!(
                "this worktree is locked, so it is not removed; `git worktree unlock` releases it: {}",
                self.path.display()
            );
        }
        let failed = || format!("cannot remove a worktree: {}", self.path.display());
        let aside = removal_path(&self.path);
        self.delete_moved(repo, &aside)?;
        let identity = self.identity(repo)?;
        if identity.map(|folder| folder.is_at(&self.path)).transpose()? == Some(true) {
            std::fs::rename(&self.path, &aside).with_context(failed)?;
        } else if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.is_symlink()) {
            std::fs::remove_file(&self.path).with_context(failed)?;
        }
        drop_admin(repo, &self.admin)?;
        self.delete_moved(repo, &aside)?;
        files::remove_any(&super::unsaved::mark(&self.index)).with_context(failed)?;
        // The record is removed last: while it exists, an interrupted removal can be repeated.
        files::remove_any(&self.index).with_context(failed)
    }

    /// Returns the identity of the folder that this program made.
    fn identity(&self, repo: &Repo) -> Result<Option<FolderIdentity>> {
        let record = WorktreeRecord::load(&self.index, repo.local().object_hash())?;
        Ok(record.and_then(|record| record.folder))
    }

    /// Deletes the worktree's folder after it was moved to `aside`. Another folder at that path is
    /// renamed instead.
    fn delete_moved(&self, repo: &Repo, aside: &Path) -> Result<()> {
        let identity = self.identity(repo)?;
        if identity.map(|folder| folder.is_at(aside)).transpose()? == Some(true) {
            files::remove_any(aside)
                .with_context(|| format!("cannot remove: {}", aside.display()))?;
        }
        set_aside(aside).map(drop)
    }

    /// Creates the admin folder atomically. Returns false if another process has created one with
    /// the same name.
    fn create_admin(&self, repo: &Repo, commit: &Oid) -> Result<bool> {
        let failed = || format!("cannot register a worktree: {}", self.admin.display());
        let name = self.admin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let site = repo.common_dir().join("harness").join("building");
        let building = site.join(format!("{name}-{}", std::process::id()));
        remove_stale_registrations(&site);
        files::remove_any(&building).with_context(failed)?;
        std::fs::create_dir_all(&building).with_context(failed)?;
        let files = [
            ("HEAD", format!("{commit}\n").into_bytes()),
            ("commondir", b"../..\n".to_vec()),
            ("gitdir", link::line("", &self.path.join(".git"))),
        ];
        for (file, content) in files {
            std::fs::write(building.join(file), content).with_context(failed)?;
        }
        // `git worktree prune` removes a registration whose worktree has no `.git` file, so that
        // file is written first.
        files::replace_file(&self.path.join(".git"), &link::line("gitdir: ", &self.admin))?;
        match std::fs::rename(&building, &self.admin) {
            Ok(()) => Ok(true),
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::AlreadyExists
                        | ErrorKind::DirectoryNotEmpty
                        | ErrorKind::NotADirectory
                ) =>
            {
                files::remove_any(&building).with_context(failed)?;
                Ok(false)
            }
            Err(e) => Err(e).with_context(failed),
        }
    }

    /// Repairs the folder itself and its registration after any change by an agent: a missing or
    /// replaced folder, a broken link in either direction, stale locks, and unfinished merges or
    /// rebases. A folder that is not the recorded one is moved out of the way and not touched.
    pub(super) fn repair(
        &self,
        repo: &Repo,
        commit: &Oid,
        recorded: Option<FolderIdentity>,
    ) -> Result<()> {
        let failed = |path: &Path| format!("cannot repair a worktree: {}", path.display());
        if let Some(parent) = self.path.parent() {
            claim_worktrees_folder(parent, records_of(&self.index))?;
        }
        if recorded.map(|folder| folder.is_at(&self.path)).transpose()? == Some(true) {
            let meta = std::fs::symlink_metadata(&self.path)?;
            super::walk::unlock(&self.path, &meta)?;
        } else {
            set_aside(&self.path)?;
            std::fs::create_dir(&self.path).with_context(|| failed(&self.path))?;
        }
        let admin = std::fs::symlink_metadata(&self.admin);
        if !admin.is_ok_and(|meta| meta.is_dir()) {
            files::remove_any(&self.admin).with_context(|| failed(&self.admin))?;
            let folder = repo.common_dir().join("worktrees");
            std::fs::create_dir_all(&folder).with_context(|| failed(&folder))?;
            if !self.create_admin(repo, commit)? {
                bail!("the registration of a worktree is in use: {}", self.admin.display());
            }
            return Ok(());
        }
        for entry in super::walk::list(&self.admin)? {
            let name = entry.file_name();
            let is_expected =
                ["HEAD", "commondir", "gitdir", "index", "locked"].iter().any(|n| name == *n);
            let is_plain = entry.file_type().is_ok_and(|t| t.is_file());
            if !(is_expected && is_plain) {
                let path = entry.path();
                files::remove_any(&path).with_context(|| failed(&path))?;
            }
        }
        let links = [
            ("commondir", b"../..\n".to_vec()),
            ("gitdir", link::line("", &self.path.join(".git"))),
        ];
        for (file, content) in links {
            let path = self.admin.join(file);
            if std::fs::read(&path).ok().as_deref() != Some(content.as_slice()) {
                files::replace_file(&path, &content)?;
            }
        }
        Ok(())
    }

    /// Writes the worktree's `.git` file and returns the file's modification time, which is the
    /// current time on the file system's clock.
    pub(super) fn write_link(&self) -> Result<super::walk::RecordStamp> {
        let path = self.path.join(".git");
        files::replace_file(&path, &link::line("gitdir: ", &self.admin))?;
        let meta = std::fs::symlink_metadata(&path)
            .with_context(|| format!("cannot read: {}", path.display()))?;
        let time = super::walk::stat_of(&meta).mtime;
        Ok(super::walk::RecordStamp { secs: time.secs, nanos: time.nsecs })
    }
}

/// Returns the folder of the records of the worktrees that lie beside the worktree of a record.
fn records_of(index: &Path) -> &Path {
    index.parent().unwrap_or(index)
}

/// Removes unfinished registrations of killed keepers. A registration takes milliseconds, so no
/// process works on an old one any more. Errors are ignored, since only disk space is lost.
fn remove_stale_registrations(site: &Path) {
    let old = |path: &Path| {
        let age = path.symlink_metadata().and_then(|m| m.modified()).map(|t| t.elapsed());
        age.is_ok_and(|age| age.is_ok_and(|age| age > STALE_AGE))
    };
    for entry in std::fs::read_dir(site).into_iter().flatten().flatten() {
        if old(&entry.path()) {
            files::remove_any(&entry.path()).ok();
        }
    }
}

/// Moves a registration out of git's sight with one rename, then deletes it.
fn drop_admin(repo: &Repo, admin: &Path) -> Result<()> {
    let failed = || format!("cannot remove a registration: {}", admin.display());
    let name = admin.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = repo.common_dir().join(format!("harness-{name}-{}.gone", std::process::id()));
    files::remove_any(&aside).with_context(failed)?;
    match std::fs::rename(admin, &aside) {
        Ok(()) => files::remove_any(&aside).with_context(failed),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(failed),
    }
}

/// Returns the path to which a worktree is moved for its removal.
fn removal_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".gone");
    path.with_file_name(name)
}

/// Returns a name for an admin folder. It has only characters that git allows in a ref, since
/// worktree names become parts of ref names.
fn admin_name(name: &str) -> String {
    let cleaned: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(80)
        .collect();
    if cleaned.trim_matches('-').is_empty() { "worktree".into() } else { cleaned }
}
