//! The record of the watched settings outside of the repository: the hashes of their values while
//! commands without a sandbox may be at work. If the process that wrote the record was killed, the
//! next process of the same run or queue compares the settings with the record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Store;
use super::settings_watch::{Settings, changes};
use crate::ambient;
use crate::process;
use crate::repo;

/// The word that opens the line of an owner. The line of a setting opens with a hash.
const OPEN: &str = "open";

/// The content of the record.
#[derive(Debug, Default)]
pub(super) struct SettingsRecord {
    /// The runs and queues whose commands may be at work.
    open: BTreeSet<String>,
    /// The hashes of the values.
    settings: Settings,
}

impl SettingsRecord {
    /// Reads the record. Returns `None` if there is none.
    pub(super) fn read(store: &Store) -> Option<Self> {
        let text = std::fs::read_to_string(file(store)?).ok()?;
        let mut record = Self::default();
        for (word, name) in text.lines().filter_map(|line| line.split_once(' ')) {
            if word == OPEN {
                record.open.insert(name.to_owned());
            } else {
                record.settings.insert(name.to_owned(), word.to_owned());
            }
        }
        Some(record)
    }

    /// Returns true if a process of `owner` ended while its commands were at work.
    pub(super) fn is_open(&self, owner: &str) -> bool {
        self.open.contains(owner)
    }

    /// Returns the names of the settings that differ from the record.
    pub(super) fn changes(&self, now: &Settings) -> Vec<String> {
        changes(&self.settings, &hashed(now))
    }

    /// Adds an owner, and records the settings.
    pub(super) fn open(store: &Store, owner: &str, settings: &Settings) {
        let mut record = Self::read(store).unwrap_or_default();
        record.open.insert(owner.to_owned());
        record.settings = hashed(settings);
        record.write(store);
    }

    /// Removes an owner.
    pub(super) fn close(store: &Store, owner: &str) {
        if let Some(mut record) = Self::read(store)
            && record.open.remove(owner)
        {
            record.write(store);
        }
    }

    /// Errors are ignored: without a record, only changes during a process are noticed.
    fn write(&self, store: &Store) {
        let Some(file) = file(store) else { return };
        let open = self.open.iter().map(|owner| format!("{OPEN} {owner}\n"));
        let settings = self.settings.iter().map(|(name, hash)| format!("{hash} {name}\n"));
        let text: String = open.chain(settings).collect();
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)
                .and_then(|()| process::write_atomic(&file, text.as_bytes()))
                .ok();
        }
    }
}

/// Returns the settings with hashes for values, which may hold passwords.
fn hashed(settings: &Settings) -> Settings {
    let hash = |value: &String| repo::sha1_hex([value.as_bytes()]).unwrap_or_default();
    let pairs = settings.iter().map(|(name, value)| (name.clone(), hash(value)));
    pairs.collect::<BTreeMap<_, _>>()
}

fn file(store: &Store) -> Option<PathBuf> {
    let name = store.seal_key().ok()?.seal("settings", &[]).ok()?;
    Some(ambient::state_folder()?.join("git-harness").join("settings").join(&name[..40]))
}
