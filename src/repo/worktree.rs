//! A place to work: a linked worktree with a stable path, recycled from task to task.
//!
//! Registration is ours and not `git worktree add`'s: the admin folder is built aside and renamed into place, so that
//! `git worktree list` never meets half of one. Both git and gix fail there when worktrees are added side by side.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::worktree_record::WorktreeRecord;
use super::{Head, Repo, heads, link, oid};
use crate::domain::id::Oid;

/// After this long, what is being registered is left over from somebody who was killed.
const RUIN: Duration = Duration::from_secs(60);

/// A linked worktree of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Worktree {
    /// Where one works. Absolute, without links.
    pub path: PathBuf,
    /// Its admin folder, `<common>/worktrees/<id>`.
    pub admin: PathBuf,
    /// Our own note of what was put there, in a folder that agents do not write to.
    pub index: PathBuf,
}

/// Makes a place: registers it, detached at a commit, and checks the commit's files out in parallel. Registering is
/// one rename and needs no lock.
pub(crate) fn create_worktree(
    repo: &Repo,
    dest: &Path,
    commit: &Oid,
    private_index: &Path,
) -> Result<Worktree> {
    let worktree = register(repo, dest, commit, private_index)?;
    if let Err(error) = worktree.reset_to(repo, commit, &Head::Detached, &[]) {
        // The first error is the one that explains; what cannot be removed now is found by `remove_worktree` later.
        drop(worktree.remove(repo));
        return Err(error);
    }
    Ok(worktree)
}

fn register(repo: &Repo, dest: &Path, commit: &Oid, private_index: &Path) -> Result<Worktree> {
    let (Some(parent), Some(name)) = (dest.parent(), dest.file_name()) else {
        bail!("a place needs a path with a name: {}", dest.display());
    };
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot make a folder: {}", parent.display()))?;
    let path = std::fs::canonicalize(parent)
        .with_context(|| format!("cannot find a folder: {}", parent.display()))?
        .join(name);
    let inside = |root: &Path| path.starts_with(root);
    if repo.work_dir().is_some_and(inside) && !inside(repo.common_dir()) {
        bail!("a place must lie outside the repository's work tree: {}", path.display());
    }
    remove_any(&aside(&path)).with_context(|| format!("cannot remove: {}", path.display()))?;
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() && super::walk::list(&path)?.is_empty() => {}
        Ok(_) => bail!(
            "something is in the way of a place; move it, then start again: {}",
            path.display()
        ),
        Err(e) if e.kind() == ErrorKind::NotFound => std::fs::create_dir(&path)
            .with_context(|| format!("cannot make a place: {}", path.display()))?,
        Err(e) => {
            return Err(e).with_context(|| format!("cannot make a place: {}", path.display()));
        }
    }
    // A registration that a removed place left behind would be a second one for the same path.
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
        if worktree.install_admin(repo, commit)? {
            let record =
                WorktreeRecord::empty(&worktree.path, &worktree.admin, repo.local().object_hash());
            let index = record.index()?;
            record.save(&worktree.index, &index)?;
            return Ok(worktree);
        }
    }
    bail!("too many worktrees have this name; remove some with `git worktree remove`: {id}")
}

/// An existing place, after a restart.
pub(crate) fn open_worktree(repo: &Repo, dest: &Path, private_index: &Path) -> Result<Worktree> {
    let worktree = recorded(repo, dest, private_index)?
        .with_context(|| format!("no place of ours is there: {}", dest.display()))?;
    for dir in [&worktree.path, &worktree.admin] {
        let real = std::fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir());
        if !real {
            bail!("a part of this place is gone: {}", dir.display());
        }
    }
    Ok(worktree)
}

/// Removes a place and its registration, as far as they are there. Does nothing if we have no note of one.
pub(crate) fn remove_worktree(repo: &Repo, dest: &Path, private_index: &Path) -> Result<()> {
    match recorded(repo, dest, private_index) {
        Ok(Some(worktree)) => worktree.remove(repo),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The place that our note tells of.
fn recorded(repo: &Repo, dest: &Path, private_index: &Path) -> Result<Option<Worktree>> {
    let Some(record) = WorktreeRecord::load(private_index, repo.local().object_hash())? else {
        return Ok(None);
    };
    let wanted = match (dest.parent().map(std::fs::canonicalize), dest.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        (_, _) => dest.to_path_buf(),
    };
    if record.path != wanted {
        bail!("our note is of another place: {}", record.path.display());
    }
    if record.admin.parent() != Some(&repo.common_dir().join("worktrees")) {
        bail!("our note is of a place of another repository: {}", record.admin.display());
    }
    Ok(Some(Worktree {
        path: record.path,
        admin: record.admin,
        index: private_index.to_path_buf(),
    }))
}

impl Worktree {
    /// Puts the place's `HEAD` on a branch, or at a commit. Only that file changes.
    pub(crate) fn set_head(&self, head: &Head, commit: &Oid) -> Result<()> {
        let text = match head {
            Head::Branch(name) => format!("ref: {name}\n"),
            Head::Detached => format!("{commit}\n"),
        };
        link::replace_file(&self.admin.join("HEAD"), text.as_bytes())
    }

    /// The commit that the place's `HEAD` leads to now; nothing if it is unborn or broken.
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

    /// Removes the place: its folder is moved aside first, so that nobody sees half of it, then the registration goes.
    pub(crate) fn remove(&self, repo: &Repo) -> Result<()> {
        match recorded(repo, &self.path, &self.index)? {
            Some(ours) if ours == *self => {}
            Some(_) | None => bail!("not a place of ours, so it stays: {}", self.path.display()),
        }
        let failed = || format!("cannot remove a place: {}", self.path.display());
        let aside = aside(&self.path);
        remove_any(&aside).with_context(failed)?;
        match std::fs::rename(&self.path, &aside) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(failed),
        }
        drop_admin(repo, &self.admin)?;
        remove_any(&aside).with_context(failed)?;
        // The note goes last: as long as it is there, a removal that was cut short can be done again.
        remove_any(&self.index).with_context(failed)
    }

    /// Makes the admin folder afresh, whole or not at all. Says no if one appeared meanwhile.
    fn install_admin(&self, repo: &Repo, commit: &Oid) -> Result<bool> {
        let failed = || format!("cannot register a worktree: {}", self.admin.display());
        let name = self.admin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let site = repo.common_dir().join("harness").join("building");
        let building = site.join(format!("{name}-{}", std::process::id()));
        drop_ruins(&site);
        remove_any(&building).with_context(failed)?;
        std::fs::create_dir_all(&building).with_context(failed)?;
        let files = [
            ("HEAD", format!("{commit}\n").into_bytes()),
            ("commondir", b"../..\n".to_vec()),
            ("gitdir", link::line("", &self.path.join(".git"))),
        ];
        for (file, content) in files {
            std::fs::write(building.join(file), content).with_context(failed)?;
        }
        // `git worktree prune` drops an entry whose `.git` is missing, so that one comes first.
        link::replace_file(&self.path.join(".git"), &link::line("gitdir: ", &self.admin))?;
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
                remove_any(&building).with_context(failed)?;
                Ok(false)
            }
            Err(e) => Err(e).with_context(failed),
        }
    }

    /// Puts right whatever an agent did to the folder itself and to its registration: a missing or replaced folder, a
    /// broken link in either direction, left-over locks and half-done merges or rebases.
    pub(super) fn repair(&self, repo: &Repo, commit: &Oid) -> Result<()> {
        let failed = |path: &Path| format!("cannot repair a place: {}", path.display());
        match std::fs::symlink_metadata(&self.path) {
            Ok(meta) if meta.is_dir() => super::walk::unlock(&self.path, &meta)?,
            Ok(_) | Err(_) => {
                remove_any(&self.path).with_context(|| failed(&self.path))?;
                std::fs::create_dir_all(&self.path).with_context(|| failed(&self.path))?;
            }
        }
        let admin = std::fs::symlink_metadata(&self.admin);
        if !admin.is_ok_and(|meta| meta.is_dir()) {
            remove_any(&self.admin).with_context(|| failed(&self.admin))?;
            let folder = repo.common_dir().join("worktrees");
            std::fs::create_dir_all(&folder).with_context(|| failed(&folder))?;
            if !self.install_admin(repo, commit)? {
                bail!("the registration of a place is in use: {}", self.admin.display());
            }
            return Ok(());
        }
        for entry in super::walk::list(&self.admin)? {
            let name = entry.file_name();
            let ours =
                ["HEAD", "commondir", "gitdir", "index", "locked"].iter().any(|n| name == *n);
            let plain = entry.file_type().is_ok_and(|t| t.is_file());
            if !(ours && plain) {
                let path = entry.path();
                remove_any(&path).with_context(|| failed(&path))?;
            }
        }
        let links = [
            ("commondir", b"../..\n".to_vec()),
            ("gitdir", link::line("", &self.path.join(".git"))),
        ];
        for (file, content) in links {
            let path = self.admin.join(file);
            if std::fs::read(&path).ok().as_deref() != Some(content.as_slice()) {
                link::replace_file(&path, &content)?;
            }
        }
        Ok(())
    }

    /// Writes the place's `.git` file, whatever was there, and tells the time on that file system.
    pub(super) fn write_link(&self) -> Result<super::worktree_record::RecordStamp> {
        let path = self.path.join(".git");
        link::replace_file(&path, &link::line("gitdir: ", &self.admin))?;
        let meta = std::fs::symlink_metadata(&path)
            .with_context(|| format!("cannot read: {}", path.display()))?;
        let time = super::walk::stat_of(&meta).mtime;
        Ok(super::worktree_record::RecordStamp { secs: time.secs, nanos: time.nsecs })
    }
}

/// Removes what keepers left that were killed while they registered a worktree. Whoever is at it takes milliseconds. It
/// is only disk space: what cannot be removed is left to the next.
fn drop_ruins(site: &Path) {
    let old = |path: &Path| {
        let age = path.symlink_metadata().and_then(|m| m.modified()).map(|t| t.elapsed());
        age.is_ok_and(|age| age.is_ok_and(|age| age > RUIN))
    };
    for entry in std::fs::read_dir(site).into_iter().flatten().flatten() {
        if old(&entry.path()) {
            remove_any(&entry.path()).ok();
        }
    }
}

/// Takes a registration out of git's sight at once, then deletes it.
fn drop_admin(repo: &Repo, admin: &Path) -> Result<()> {
    let failed = || format!("cannot remove a registration: {}", admin.display());
    let name = admin.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = repo.common_dir().join(format!("harness-{name}-{}.gone", std::process::id()));
    remove_any(&aside).with_context(failed)?;
    match std::fs::rename(admin, &aside) {
        Ok(()) => remove_any(&aside).with_context(failed),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(failed),
    }
}

/// Where a place goes on its way out.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".gone");
    path.with_file_name(name)
}

/// A name for an admin folder: what git allows in a ref, as worktree names become part of refs.
fn admin_name(name: &str) -> String {
    let tame: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(80)
        .collect();
    if tame.trim_matches('-').is_empty() { "place".into() } else { tame }
}

/// Deletes whatever is at a path, without following a link, and even if an agent took away the right to. Nothing there
/// is no error.
pub(super) fn remove_any(path: &Path) -> std::io::Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let remove = || {
        if meta.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
    };
    match remove() {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == ErrorKind::PermissionDenied && meta.is_dir() => {
            open_up(path)?;
            remove()
        }
        Err(e) => Err(e),
    }
}

/// Gives us back all rights to a folder and those below it.
fn open_up(dir: &Path) -> std::io::Result<()> {
    let mode = std::fs::symlink_metadata(dir)?.permissions().mode();
    if mode & 0o700 != 0o700 {
        std::fs::set_permissions(dir, Permissions::from_mode(mode | 0o700))?;
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // The type comes from the listing and is never that of a link's target.
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
