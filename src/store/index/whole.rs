//! All tips of a run and its plan in one piece, for as long as no ref has moved.
//!
//! Listing ten thousand refs takes longer than reading what they say. Whether one has moved is told by the files that would
//! have changed, as git tells it of files in a work tree, and with the same care: what has changed a moment ago may change
//! once more without looking different, so of that there is no stamp.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::put;
use super::record::Record;
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::plan::{Plan, Task};
use crate::store::chain::Tip;
use crate::store::load::TaskTip;

/// The first bytes of the file: what it is, and the version of everything behind.
const MAGIC: &[u8; 8] = b"GHWHOLE1";
/// The length of that and of a checksum.
const HEAD: usize = 12;

/// How many tips are read or written by one thread on end.
const STRETCH: usize = 1024;

/// How long ago something must have changed to have a stamp, in nanoseconds: many times the resolution of any file system.
const SETTLED: i128 = 1_000_000_000;

/// By what one sees that no ref of a run has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Stamps {
    /// Of the file of packed refs: when it changed, its length, its number. None if there is none.
    pub(super) packed: Option<(i128, u64, u64)>,
    /// Of the folder of the run's loose refs: when a name in it changed, its number. A ref is moved by a rename.
    pub(super) folder: Option<(i128, u64)>,
}

/// When a file changed, in nanoseconds since the Unix epoch.
fn changed(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

impl Stamps {
    /// What is so now; nothing if something changed a moment ago, or cannot be looked at.
    pub(in crate::store) fn of(packed: &Path, folder: &Path) -> Option<Self> {
        let look = |path: &Path| match std::fs::symlink_metadata(path) {
            Ok(meta) => Some(Some(meta)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(None),
            Err(_) => None,
        };
        let (packed, folder) = (look(packed)?, look(folder)?);
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

fn planned(task: &Task) -> Planned<'_> {
    // Without a rest: a field that is new must be thought of here.
    let Task { id, files, after, lines, tokens, level, vars } = task;
    let (lines, tokens, level) = (*lines, *tokens, *level);
    let files = files.iter().map(String::as_str).collect();
    let after = after.iter().map(TaskId::as_str).collect();
    Planned { id: id.as_str(), files, after, lines, tokens, level, vars }
}

fn entry((task, tip, state): &TaskTip) -> Entry<'_> {
    (task.as_str(), tip.commit.as_str(), Record::of(&tip.tree, state))
}

/// A run's plan, and every tip: task, commit, its tree, the state after it.
#[derive(Debug)]
pub(in crate::store) struct Whole {
    pub(in crate::store) plan: Plan,
    /// In stretches, as they were read.
    pub(in crate::store) tips: Vec<Vec<TaskTip>>,
}

#[derive(Serialize, Deserialize)]
struct File<'a> {
    stamps: Stamps,
    plan: &'a str,
    #[serde(borrow)]
    tasks: Vec<Planned<'a>>,
    /// The tips follow in stretches of so many bytes, which are read side by side.
    stretches: Vec<usize>,
}

/// A tip in the file: task, commit, and what it says.
type Entry<'a> = (&'a str, &'a str, Record<'a>);

#[derive(Serialize, Deserialize)]
struct Planned<'a> {
    id: &'a str,
    #[serde(borrow)]
    files: Vec<&'a str>,
    after: Vec<&'a str>,
    lines: u64,
    tokens: u64,
    level: u32,
    vars: &'a str,
}

impl Whole {
    /// Reads a file, if nothing has moved since it was written and it is of this plan.
    pub(in crate::store) fn read(path: &Path, stamps: Stamps, plan: &str) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let sum = u32::from_le_bytes(bytes.get(8..HEAD)?.try_into().ok()?);
        if bytes.get(..8)? != MAGIC || sum != crc32fast::hash(bytes.get(HEAD..)?) {
            return None;
        }
        let (file, mut rest) = postcard::take_from_bytes::<File>(bytes.get(HEAD..)?).ok()?;
        if file.stamps != stamps || file.plan != plan {
            return None;
        }
        let id = |text: &str| TaskId::parse(text).ok();
        let mut tasks = Vec::with_capacity(file.tasks.len());
        for Planned { id: name, files, after, lines, tokens, level, vars } in file.tasks {
            let after = after.into_iter().map(id).collect::<Option<_>>()?;
            let files = files.into_iter().map(str::to_owned).collect();
            let vars = vars.to_owned();
            tasks.push(Task { id: id(name)?, files, after, lines, tokens, level, vars });
        }
        let mut stretches = Vec::with_capacity(file.stretches.len());
        for length in file.stretches {
            let (stretch, behind) = rest.split_at_checked(length)?;
            stretches.push(stretch);
            rest = behind;
        }
        let tips = stretches.into_par_iter().map(Self::tips).collect::<Option<_>>()?;
        Some(Self { plan: Plan { tasks }, tips })
    }

    fn tips(mut stretch: &[u8]) -> Option<Vec<TaskTip>> {
        let mut tips = Vec::with_capacity(STRETCH);
        while !stretch.is_empty() {
            let ((name, commit, record), behind) =
                postcard::take_from_bytes::<Entry>(stretch).ok()?;
            stretch = behind;
            let (tree, state) = record.state()?;
            let commit = Oid::parse(commit).ok()?;
            tips.push((TaskId::parse(name).ok()?, Tip { commit, tree }, Box::new(state)));
        }
        Some(tips)
    }

    /// Writes a file. At once or not at all; a repository that cannot be written to has none.
    pub(in crate::store) fn write(
        path: &Path,
        stamps: Stamps,
        id: &str,
        plan: &Plan,
        tips: &[TaskTip],
    ) {
        let stretch = |tips: &[TaskTip]| -> postcard::Result<Vec<u8>> {
            tips.iter().try_fold(Vec::new(), |bytes, tip| postcard::to_extend(&entry(tip), bytes))
        };
        let stretches = tips.par_chunks(STRETCH).map(stretch).collect::<Result<Vec<_>, _>>();
        let Ok(stretches) = stretches else { return };
        let file = File {
            stamps,
            plan: id,
            tasks: plan.tasks.iter().map(planned).collect(),
            stretches: stretches.iter().map(Vec::len).collect(),
        };
        let Ok(mut body) = postcard::to_stdvec(&file) else { return };
        body.extend(stretches.concat());
        let mut bytes = MAGIC.to_vec();
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        put(path, &bytes);
    }
}
