//! The snapshot of a run: its plan and all tips in one file, valid as long as no ref has moved.
//!
//! Listing ten thousand refs takes longer than reading their states. The stat data of `packed-refs`
//! and of the folder of loose refs tells whether a ref has moved, just as git detects changed files
//! of a work tree by stat data. A file that changed a moment ago may change again without a visible
//! difference, so no stamps are taken shortly after a change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::replace_file;
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::plan::{Plan, Task};
use crate::store::chain::Tip;
use crate::store::load::TaskTip;

/// The first bytes of the file: the type of the file and the version of the format.
const MAGIC: &[u8; 8] = b"GHSNAPS1";
/// The length of the magic and the checksum, in bytes.
const HEAD: usize = 12;

/// The number of tips that one thread reads or writes at a time.
const CHUNK: usize = 1024;

/// The age in nanoseconds that the last change must exceed before stamps are taken. This is many
/// times the time resolution of any file system.
const SETTLED: i128 = 1_000_000_000;

/// The stat data that tells whether a ref of a run has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Stamps {
    /// The modification time, length and inode of `packed-refs`. `None` if the file is missing.
    pub(super) packed: Option<(i128, u64, u64)>,
    /// The modification time and inode of the folder of the run's loose refs. A ref moves by a
    /// rename in this folder. `None` if the folder is missing.
    pub(super) folder: Option<(i128, u64)>,
}

/// Returns the modification time in nanoseconds since the Unix epoch.
fn changed(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

impl Stamps {
    /// Returns the present stamps. Returns `None` after a recent change, or if a path cannot be
    /// read.
    pub(in crate::store) fn of(packed: &Path, folder: &Path) -> Option<Self> {
        let stat = |path: &Path| match std::fs::symlink_metadata(path) {
            Ok(meta) => Some(Some(meta)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(None),
            Err(_) => None,
        };
        let (packed, folder) = (stat(packed)?, stat(folder)?);
        let now = i128::from(ambient::now().0) * 1_000_000;
        let settled = |meta: &Metadata| now - changed(meta) > SETTLED;
        if ![&packed, &folder].into_iter().flatten().all(settled) {
            return None;
        }
        Some(Self {
            packed: packed.map(|meta| (changed(&meta), meta.len(), meta.ino())),
            folder: folder.map(|meta| (changed(&meta), meta.ino())),
        })
    }
}

fn task_record(task: &Task) -> PlannedTaskRecord<'_> {
    // No `..`: a new field must be added here.
    let Task { id, files, after, lines, tokens, level, vars } = task;
    let (lines, tokens, level) = (*lines, *tokens, *level);
    let files = files.iter().map(String::as_str).collect();
    let after = after.iter().map(TaskId::as_str).collect();
    PlannedTaskRecord { id: id.as_str(), files, after, lines, tokens, level, vars }
}

fn tip_record((task, tip, state): &TaskTip) -> TipRecord<'_> {
    (task.as_str(), tip.commit.as_str(), Record::of(&tip.tree, state))
}

/// A run's plan and all tips.
#[derive(Debug)]
pub(in crate::store) struct Snapshot {
    pub(in crate::store) plan: Plan,
    /// The tips, in the chunks in which they were read.
    pub(in crate::store) tips: Vec<Vec<TaskTip>>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotFile<'a> {
    stamps: Stamps,
    plan: &'a str,
    #[serde(borrow)]
    tasks: Vec<PlannedTaskRecord<'a>>,
    /// The lengths of the chunks of tips that follow. The chunks are read in parallel.
    chunks: Vec<usize>,
}

/// A tip in the file: task, commit, and the record of the state.
type TipRecord<'a> = (&'a str, &'a str, Record<'a>);

#[derive(Serialize, Deserialize)]
struct PlannedTaskRecord<'a> {
    id: &'a str,
    #[serde(borrow)]
    files: Vec<&'a str>,
    after: Vec<&'a str>,
    lines: u64,
    tokens: u64,
    level: u32,
    vars: &'a str,
}

impl Snapshot {
    /// Reads a snapshot. Returns `None` if the file is missing or damaged, belongs to another plan,
    /// or was written before a ref moved.
    pub(in crate::store) fn read(path: &Path, stamps: Stamps, plan: &str) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let sum = u32::from_le_bytes(bytes.get(8..HEAD)?.try_into().ok()?);
        if bytes.get(..8)? != MAGIC || sum != crc32fast::hash(bytes.get(HEAD..)?) {
            return None;
        }
        let (file, mut rest) =
            postcard::take_from_bytes::<SnapshotFile>(bytes.get(HEAD..)?).ok()?;
        if file.stamps != stamps || file.plan != plan {
            return None;
        }
        let id = |text: &str| TaskId::parse(text).ok();
        let mut tasks = Vec::with_capacity(file.tasks.len());
        for PlannedTaskRecord { id: name, files, after, lines, tokens, level, vars } in file.tasks {
            let after = after.into_iter().map(id).collect::<Option<_>>()?;
            let files = files.into_iter().map(str::to_owned).collect();
            let vars = vars.to_owned();
            tasks.push(Task { id: id(name)?, files, after, lines, tokens, level, vars });
        }
        let mut chunks = Vec::with_capacity(file.chunks.len());
        for length in file.chunks {
            let (chunk, after_chunk) = rest.split_at_checked(length)?;
            chunks.push(chunk);
            rest = after_chunk;
        }
        let tips = chunks.into_par_iter().map(Self::tips).collect::<Option<_>>()?;
        Some(Self { plan: Plan { tasks }, tips })
    }

    fn tips(mut chunk: &[u8]) -> Option<Vec<TaskTip>> {
        let mut tips = Vec::with_capacity(CHUNK);
        while !chunk.is_empty() {
            let ((name, commit, record), after_chunk) =
                postcard::take_from_bytes::<TipRecord>(chunk).ok()?;
            chunk = after_chunk;
            let (tree, state) = record.state()?;
            let commit = Oid::parse(commit).ok()?;
            tips.push((TaskId::parse(name).ok()?, Tip { commit, tree }, Box::new(state)));
        }
        Some(tips)
    }

    /// Replaces a snapshot by a rename. On an error, the old file stays; its stamps keep it from
    /// being used after a move.
    pub(in crate::store) fn write(
        path: &Path,
        stamps: Stamps,
        id: &str,
        plan: &Plan,
        tips: &[TaskTip],
    ) {
        let chunk = |tips: &[TaskTip]| -> postcard::Result<Vec<u8>> {
            tips.iter()
                .try_fold(Vec::new(), |bytes, tip| postcard::to_extend(&tip_record(tip), bytes))
        };
        let chunks = tips.par_chunks(CHUNK).map(chunk).collect::<Result<Vec<_>, _>>();
        let Ok(chunks) = chunks else { return };
        let file = SnapshotFile {
            stamps,
            plan: id,
            tasks: plan.tasks.iter().map(task_record).collect(),
            chunks: chunks.iter().map(Vec::len).collect(),
        };
        let Ok(mut body) = postcard::to_stdvec(&file) else { return };
        body.extend(chunks.concat());
        let mut bytes = MAGIC.to_vec();
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        replace_file(path, &bytes);
    }
}
