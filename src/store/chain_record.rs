//! The record of chains, outside of the repository, where no sandboxed command can write: the last
//! durable tip of each chain that this copy wrote. Seals do not show that a chain was replaced as a
//! whole or, while no supervisor ran, set back to an earlier event. The record shows both.
//!
//! A file for each chain of a run or a target, below `$XDG_STATE_HOME/git-harness/chains/`, has
//! lines with a ref and its tip. The last line of a ref counts. The chains of a run's tasks are in
//! the file of the run.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use super::Store;
use crate::ambient;
use crate::domain::id::Oid;

/// The least size in bytes of a file that is written anew when it is read.
const LARGE: usize = 1 << 20;

/// The tip of a chain that begins anew.
const NONE: &str = "-";

/// The recorded tips of the chains in one file.
#[derive(Debug, Default)]
pub(super) struct ChainRecord {
    /// True if this copy of the repository has written to the chain.
    pub exists: bool,
    /// The recorded tips, by ref.
    pub tips: BTreeMap<String, Oid>,
}

impl Store {
    /// Records durable tips of chains that this copy wrote, in the file of the chain `owner`.
    /// Errors are ignored: without a record, the seals alone decide.
    pub(crate) fn record_tips<'a>(
        &self,
        owner: &str,
        tips: impl Iterator<Item = (&'a String, &'a Oid)>,
    ) {
        let lines: String = tips.map(|(name, tip)| format!("{name} {tip}\n")).collect();
        self.append_record(owner, &lines);
    }

    /// Begins the record of the chain `owner`, which does not exist yet. Without this, a chain that
    /// a person has deleted could not begin anew.
    pub(super) fn begin_record(&self, owner: &str) {
        let Some(file) = self.record_file(owner) else { return };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, "")).ok();
        }
    }

    /// Removes the tips of chains that this copy is about to begin anew.
    pub(super) fn forget_tips<'a>(&self, owner: &str, names: impl Iterator<Item = &'a String>) {
        let lines: String = names.map(|name| format!("{name} {NONE}\n")).collect();
        self.append_record(owner, &lines);
    }

    fn append_record(&self, owner: &str, lines: &str) {
        let Some(file) = self.record_file(owner).filter(|_| !lines.is_empty()) else { return };
        let append = || {
            let mut options = std::fs::OpenOptions::new();
            options.append(true).create(true).open(&file)?.write_all(lines.as_bytes())
        };
        if append().is_err()
            && let Some(folder) = file.parent()
        {
            std::fs::create_dir_all(folder).and_then(|()| append()).ok();
        }
    }

    /// Reads the record of the chain `owner`.
    pub(super) fn read_record(&self, owner: &str) -> ChainRecord {
        let Some(file) = self.record_file(owner) else { return ChainRecord::default() };
        let Ok(text) = std::fs::read_to_string(&file) else { return ChainRecord::default() };
        // The last line may be cut off.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let mut tips = BTreeMap::new();
        for (name, tip) in lines.filter_map(|line| line.split_once(' ')) {
            match Oid::parse(tip) {
                Ok(tip) => tips.insert(name.to_owned(), tip),
                Err(_) => tips.remove(name),
            };
        }
        if text.len() > LARGE {
            let short: String = tips.iter().map(|(name, tip)| format!("{name} {tip}\n")).collect();
            let new = file.with_extension(ambient::nonce());
            std::fs::write(&new, short).and_then(|()| std::fs::rename(&new, &file)).ok();
        }
        ChainRecord { exists: true, tips }
    }

    /// Returns the file of a chain. With another key it is another file.
    fn record_file(&self, owner: &str) -> Option<PathBuf> {
        let name = self.seal_key().ok()?.seal("record", &[owner.as_bytes()]).ok()?;
        Some(ambient::state_folder()?.join("git-harness").join("chains").join(&name[..40]))
    }
}
