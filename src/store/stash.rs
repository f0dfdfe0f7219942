//! The user's stash while agents work: `refs/stash` and its reflog, which all worktrees share.
//!
//! Git has one stash for a repository. An agent that runs `git stash pop` in its own worktree takes
//! the newest entry, and that entry may be the user's. No setting of git gives a worktree a stash
//! of its own, so the entries are watched and put back:
//!
//! - Before agents start, the supervisor records the entries of the user in
//!   `refs/harness/stash/RUN`.
//!   Entries that appear later are added as soon as they are seen, except for those that an agent
//!   made: git writes the branch into the message of each entry, and the branch of an agent's
//!   worktree is that of its task.
//! - When an agent ends, recorded entries that are missing are put back at their places, and the
//!   entries of that agent are removed. Both are reported.
//! - The record is a commit with all entries as parents, so that `git gc` keeps a dropped entry.
//!
//! An entry that the user drops while agents work comes back too, since nothing tells the user's
//! git from an agent's. That loses nothing, and the report names the entry.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::chain::state_commit;
use super::{Expected, RefMove, Store, codec, layout};
use crate::ambient;
use crate::domain::id::{Oid, RunId};
use crate::failpoint;
use crate::process::Lock;
use crate::repo;
use crate::wire::{VERSION, check_version};

/// The ref whose reflog is the stash.
const STASH: &str = "refs/stash";

/// The file of the record's tree that has the lines of the reflog.
const LINES: &str = "reflog";

/// The number of tries to lock the ref. Git holds the lock for milliseconds.
const TRIES: u32 = 40;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The content of git's lock files while this program holds them. Git's own are empty or have an
/// object id.
const LOCK_MARK: &[u8] = b"git-harness puts entries of the stash back\n";

/// An entry of the stash: one line of its reflog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StashEntry {
    /// The commit of the entry.
    pub commit: Oid,
    /// The value of the ref before, as the line has it.
    before: String,
    /// The rest of the line: the identity, the time and the message.
    rest: Vec<u8>,
}

impl StashEntry {
    /// Parses a line of the reflog. Returns `None` for a damaged line.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let before = String::from_utf8(parts.next()?.to_vec()).ok()?;
        let commit = Oid::parse(std::str::from_utf8(parts.next()?).ok()?).ok()?;
        (before.len() == commit.as_str().len()).then_some(())?;
        Some(Self { commit, before, rest: parts.next()?.to_vec() })
    }

    fn line(&self, before: &str) -> Vec<u8> {
        let mut line = format!("{before} {} ", self.commit).into_bytes();
        line.extend_from_slice(&self.rest);
        line.push(b'\n');
        line
    }

    /// Returns the message of the entry, as `git stash list` shows it.
    pub(crate) fn message(&self) -> String {
        let tab = self.rest.iter().position(|byte| *byte == b'\t');
        let message = tab.map_or(&[][..], |tab| &self.rest[tab + 1..]);
        String::from_utf8_lossy(message).into_owned()
    }
}

/// The changes of [`StashGuard::restore`] to the stash.
#[derive(Debug, Default)]
pub(crate) struct StashRepair {
    /// The user's entries that were put back, with their numbers in `git stash list`.
    pub restored: Vec<(usize, StashEntry)>,
    /// The entries of the agent that were removed.
    pub removed: Vec<StashEntry>,
}

impl StashRepair {
    /// Returns true if the stash was not changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.restored.is_empty() && self.removed.is_empty()
    }
}

/// The state of a file, to see that the file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

/// The user's entries of the stash while agents of a run work.
#[derive(Debug)]
pub(crate) struct StashGuard {
    run: RunId,
    /// The user's entries, oldest first.
    entries: Vec<StashEntry>,
    /// The commit of the record, if there is one.
    record: Option<Oid>,
    stamp: Option<FileStamp>,
}

impl StashGuard {
    /// Records the stash before the first agent of a run starts. All entries are the user's, except
    /// for those of agents of other runs.
    pub(crate) fn begin(store: &Store, run: &RunId) -> Result<Self> {
        let record = store.read(&layout::stash(run))?;
        let mut guard = Self { run: run.clone(), entries: Vec::new(), record, stamp: None };
        guard.stamp = guard.file_stamp(store);
        let own = layout::branches(run);
        for entry in read_entries(store)? {
            let branch = task_branch(store, &entry)?;
            if branch.is_none_or(|branch| branch.starts_with(&own)) {
                guard.entries.push(entry);
            }
        }
        guard.write(store)?;
        Ok(guard)
    }

    /// Returns the guard of an earlier supervisor, whose agents may have ended meanwhile.
    pub(crate) fn resume(store: &Store, run: &RunId) -> Result<Option<Self>> {
        remove_stale_locks(store)?;
        let name = layout::stash(run);
        let Some(commit) = store.read(&name)? else { return Ok(None) };
        let info = repo::commit_info(store.repo(), &commit)?;
        let trailers = codec::trailers(&info.message);
        check_version(&name, trailers.get("Harness-V").copied())?;
        let lines = store.repo().read_blob_at(&info.tree, LINES)?;
        let lines = lines.with_context(|| format!("`{name}` has no file `{LINES}`"))?;
        let mut guard =
            Self { run: run.clone(), entries: parse(&lines), record: Some(commit), stamp: None };
        guard.learn(store)?;
        Ok(Some(guard))
    }

    /// Adds the user's new entries to the record. Costs one `stat` if the stash has not changed.
    pub(crate) fn learn(&mut self, store: &Store) -> Result<()> {
        let stamp = self.file_stamp(store);
        if stamp == self.stamp {
            return Ok(());
        }
        self.stamp = stamp;
        let mut is_new = false;
        for entry in read_entries(store)? {
            let known = self.entries.iter().any(|known| known.commit == entry.commit);
            if !known && task_branch(store, &entry)?.is_none() {
                self.entries.push(entry);
                is_new = true;
            }
        }
        if is_new { self.write(store) } else { Ok(()) }
    }

    /// Puts the user's missing entries back, and removes the entries made on the branch of an agent
    /// that has ended.
    pub(crate) fn restore(
        &mut self,
        store: &Store,
        ended_branch: Option<&str>,
    ) -> Result<StashRepair> {
        self.learn(store)?;
        let is_known = |entry: &StashEntry| self.entries.iter().any(|e| e.commit == entry.commit);
        // Most agents leave the stash alone. The lock is taken only if there is something to do.
        for _ in 0..TRIES {
            let current = read_entries(store)?;
            let mut removed = Vec::new();
            for entry in &current {
                let branch = task_branch(store, entry)?;
                if !is_known(entry) && branch.is_some() && branch.as_deref() == ended_branch {
                    removed.push(entry.clone());
                }
            }
            let kept: Vec<_> = current.iter().filter(|e| !removed.contains(e)).cloned().collect();
            let (wanted, restored) = merged(&self.entries, kept);
            if restored.is_empty() && removed.is_empty() {
                break;
            }
            if replace(store, &current, &wanted)? {
                self.stamp = self.file_stamp(store);
                let number = |entry: &StashEntry| {
                    wanted.iter().rev().position(|e| e.commit == entry.commit).unwrap_or_default()
                };
                let restored = restored.into_iter().map(|e| (number(&e), e)).collect();
                return Ok(StashRepair { restored, removed });
            }
        }
        Ok(StashRepair::default())
    }

    /// Returns true if the user has no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ends the watch: deletes the record.
    pub(crate) fn end(mut self, store: &Store) -> Result<()> {
        self.entries.clear();
        self.write(store)
    }

    fn file_stamp(&self, store: &Store) -> Option<FileStamp> {
        let meta = log_file(store).symlink_metadata().ok()?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Some(FileStamp { inode: meta.ino(), len: meta.len(), modified })
    }

    /// Writes the record, or deletes it if there are no entries.
    fn write(&mut self, store: &Store) -> Result<()> {
        let name = layout::stash(&self.run);
        let old = self.record.take();
        if self.entries.is_empty() {
            let Some(old) = old else { return Ok(()) };
            return store.transact_in_bulk(&[RefMove::delete(name, old)]);
        }
        let lines: Vec<u8> = self.entries.iter().flat_map(|e| e.line(&e.before)).collect();
        let blob = repo::write_blob(store.repo(), &lines)?;
        let tree = repo::write_tree(store.repo(), &[(LINES.to_owned(), blob)])?;
        // An entry whose commit cannot be read would make the record unreadable for `git fsck`.
        let commits = self.entries.iter().map(|entry| &entry.commit);
        let parents: Vec<Oid> =
            commits.filter(|c| repo::commit_info(store.repo(), c).is_ok()).cloned().collect();
        let message =
            format!("the user's stash while agents of {} work\n\nHarness-V: {VERSION}\n", self.run);
        let commit = state_commit(store, &tree, &parents, &message)?;
        store.transact_in_bulk(&[RefMove::to(name, commit.clone(), Expected::from_read(old))])?;
        self.record = Some(commit);
        Ok(())
    }
}

fn log_file(store: &Store) -> PathBuf {
    store.repo().common_dir().join("logs").join(STASH)
}

/// Reads the entries of the stash, oldest first.
fn read_entries(store: &Store) -> Result<Vec<StashEntry>> {
    let path = log_file(store);
    match fs::read(&path) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn parse(bytes: &[u8]) -> Vec<StashEntry> {
    bytes.split(|byte| *byte == b'\n').filter_map(StashEntry::parse).collect()
}

/// Returns the full name of the task's branch on which an entry was made, or `None` if it was made
/// elsewhere. Git writes the branch into the message of the entry's commit, also if the entry has a
/// message of its own in the reflog.
fn task_branch(store: &Store, entry: &StashEntry) -> Result<Option<String>> {
    let Ok(info) = repo::commit_info(store.repo(), &entry.commit) else { return Ok(None) };
    let message = info.message.strip_prefix("WIP on ").or(info.message.strip_prefix("On "));
    let Some((branch, _)) = message.and_then(|message| message.split_once(": ")) else {
        return Ok(None);
    };
    let mut parts = branch.splitn(3, '/');
    let (Some("harness"), Some(run), Some(task)) = (parts.next(), parts.next(), parts.next())
    else {
        return Ok(None);
    };
    // The default target is a branch that people check out.
    let (Ok(run), false) = (RunId::parse(run), task == "result") else { return Ok(None) };
    let exists = store.read(&layout::run(&run))?.is_some();
    Ok(exists.then(|| format!("refs/heads/{branch}")))
}

/// Returns the current entries with the user's missing entries at their places, and the missing
/// entries.
fn merged(
    known: &[StashEntry],
    mut entries: Vec<StashEntry>,
) -> (Vec<StashEntry>, Vec<StashEntry>) {
    let mut restored = Vec::new();
    let mut next_at = 0;
    for entry in known {
        match entries.iter().position(|e| e.commit == entry.commit) {
            Some(at) => next_at = at + 1,
            None => {
                entries.insert(next_at, entry.clone());
                restored.push(entry.clone());
                next_at += 1;
            }
        }
    }
    (entries, restored)
}

/// Replaces the entries of the stash. Returns false if the stash was no longer `current`.
fn replace(store: &Store, current: &[StashEntry], wanted: &[StashEntry]) -> Result<bool> {
    let Some(newest) = wanted.last() else {
        let Some(tip) = store.read(STASH)? else { return Ok(false) };
        let is_current = current.last().is_some_and(|entry| entry.commit == tip);
        // Git deletes the reflog with the ref, also if the ref is packed.
        return Ok(is_current && store.transact(&[RefMove::delete(STASH.to_owned(), tip)]).is_ok());
    };
    let lock = RefLock::take(store)?;
    if read_entries(store)? != current {
        return Ok(false);
    }
    let mut before = wanted[0].before.clone();
    let mut lines = Vec::new();
    for entry in wanted {
        lines.extend(entry.line(&before));
        before = entry.commit.to_string();
    }
    lock.commit(&lines, &newest.commit).context("cannot put back entries of the stash")?;
    Ok(true)
}

/// Returns true if a killed process of this program has left locks of `refs/stash`.
pub(crate) fn has_stale_locks(store: &Store) -> Result<bool> {
    Ok(!own_locks(store).is_empty() && !Lock::is_held(&store.local().stash_lock())?)
}

/// Removes the locks of `refs/stash` that a killed process of this program has left. Returns the
/// removed files. Does nothing while another process puts entries back.
pub(crate) fn remove_stale_locks(store: &Store) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    if own_locks(store).is_empty() {
        return Ok(removed);
    }
    let turn_file = store.local().stash_lock();
    super::make_parent(&turn_file)?;
    let Some(_turn) = Lock::try_take_undescribed(&turn_file)? else { return Ok(removed) };
    for path in own_locks(store) {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        removed.push(path);
    }
    Ok(removed)
}

/// Returns the lock files of `refs/stash` and its reflog that this program has made.
fn own_locks(store: &Store) -> Vec<PathBuf> {
    let common_dir = store.repo().common_dir();
    let files = [common_dir.join(STASH), log_file(store)].map(|path| lock_path(&path));
    let limit = LOCK_MARK.len() as u64;
    let is_own = |path: &PathBuf| repo::read_plain(path, limit).is_some_and(|b| b == LOCK_MARK);
    files.into_iter().filter(is_own).collect()
}

/// The lock of `refs/stash`, as git takes it to move the ref or to rewrite its reflog. The lock
/// files carry a mark, and a kernel lock is held beside them: a marked file that is there while
/// nobody holds the kernel lock is stale.
struct RefLock {
    reference: PathBuf,
    log: PathBuf,
    fresh: PathBuf,
    held: Vec<PathBuf>,
    _turn: Lock,
}

impl RefLock {
    fn take(store: &Store) -> Result<Self> {
        let turn_file = store.local().stash_lock();
        super::make_parent(&turn_file)?;
        let turn = Lock::wait(&turn_file)?;
        let (reference, log) = (store.repo().common_dir().join(STASH), log_file(store));
        let fresh = turn_file.with_extension("new");
        for path in own_locks(store) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let mut lock = Self { reference, log, fresh, held: Vec::new(), _turn: turn };
        fs::write(&lock.fresh, LOCK_MARK)
            .with_context(|| format!("cannot write {}", lock.fresh.display()))?;
        for path in [lock.reference.clone(), lock.log.clone()] {
            super::make_parent(&path)?;
            let path = lock_path(&path);
            let mut tries = 0;
            // A link has its content from the first moment.
            while let Err(error) = fs::hard_link(&lock.fresh, &path) {
                if error.kind() != ErrorKind::AlreadyExists {
                    bail!("cannot create {}: {error}", path.display());
                }
                if tries == TRIES {
                    bail!(
                        "cannot put back entries of the stash: another git holds {}; remove the file if no git runs",
                        path.display()
                    );
                }
                tries += 1;
                ambient::pause(PAUSE);
            }
            lock.held.push(path);
        }
        failpoint::hit("stash.locked");
        Ok(lock)
    }

    /// Publishes the value of the ref and the reflog. The reflog comes last: if it is complete, so
    /// is the ref, and nothing is left to repair after a kill.
    fn commit(self, lines: &[u8], tip: &Oid) -> std::io::Result<()> {
        let tip = format!("{tip}\n");
        for (path, content) in [(&self.reference, tip.as_bytes()), (&self.log, lines)] {
            // Not truncated: the lock files are links to the same file.
            repo::remove_any(&self.fresh)?;
            let mut file = OpenOptions::new().write(true).create_new(true).open(&self.fresh)?;
            file.write_all(content)?;
            file.sync_all()?;
            if let Ok(meta) = path.metadata() {
                fs::set_permissions(&self.fresh, meta.permissions())?;
            }
            fs::rename(&self.fresh, path)?;
            failpoint::hit("stash.renamed");
        }
        Ok(())
    }
}

impl Drop for RefLock {
    fn drop(&mut self) {
        for path in self.held.iter().chain([&self.fresh]) {
            repo::remove_any(path).ok();
        }
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(digit: char) -> StashEntry {
        let id = digit.to_string().repeat(40);
        let line = format!("{} {id} A <a@b> 1 +0000\tOn main: {digit}", "0".repeat(40));
        StashEntry::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn missing_entries_are_put_back_at_their_places() {
        let list = |digits: &str| digits.chars().map(entry).collect::<Vec<_>>();
        let merge = |known: &str, current: &str| {
            let (entries, restored) = merged(&list(known), list(current));
            let text = |entries: &[StashEntry]| entries.iter().map(StashEntry::message).collect();
            let (entries, restored): (Vec<String>, Vec<String>) = (text(&entries), text(&restored));
            format!("{} {}", entries.join(""), restored.join("")).replace("On main: ", "")
        };
        assert_eq!(merge("123", ""), "123 123");
        assert_eq!(merge("123", "2"), "123 13");
        assert_eq!(merge("123", "13"), "123 2");
        assert_eq!(merge("12", "a1b"), "a12b 2");
        assert_eq!(merge("1", "ab"), "1ab 1");
        assert_eq!(merge("12", "12a"), "12a ");
        assert_eq!(merge("", "a"), "a ");
    }

    #[test]
    fn damaged_lines_of_the_reflog_are_left_out() {
        let good = format!("{} {} A <a@b> 1 +0000\tOn main: x", "0".repeat(40), "1".repeat(40));
        assert_eq!(parse(format!("{good}\nnothing\n\n0 1 x\n").as_bytes()).len(), 1);
        assert_eq!(StashEntry::parse(good.as_bytes()).unwrap().message(), "On main: x");
    }
}
