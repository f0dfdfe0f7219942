//! Undoes changes of settings that make git run programs: puts the configuration back, and takes
//! new hooks away. The changed files are kept in quarantine.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Store;
use super::settings_watch::{Settings, all_settings, breaks_or_runs, changes};
use crate::ambient;
use crate::process;

/// A copy of what can be put back.
#[derive(Debug)]
pub(super) struct SettingsCopy {
    /// The content of the configuration.
    config: Vec<u8>,
    /// The names of the hooks.
    hooks: BTreeSet<String>,
}

impl SettingsCopy {
    /// Takes a copy.
    pub(super) fn take(store: &Store) -> Self {
        let config = std::fs::read(config_file(store)).unwrap_or_default();
        Self { config, hooks: hooks(store) }
    }

    /// Puts back what can be put back safely, and returns the names of the settings and the hooks.
    pub(super) fn restore(&self, store: &Store) -> Vec<String> {
        let mut restored = self.restore_config(store);
        for name in hooks(store).difference(&self.hooks) {
            let from = store.repo().common_dir().join("hooks").join(name);
            if quarantine(store, name).is_some_and(|to| std::fs::rename(from, to).is_ok()) {
                restored.push(format!("hooks/{name}"));
            }
        }
        restored
    }

    /// Puts the configuration back if it differs in nothing but keys that run programs or that
    /// break the repository: everything else may be a change of the user.
    fn restore_config(&self, store: &Store) -> Vec<String> {
        let file = config_file(store);
        let Ok(now) = std::fs::read(&file) else { return Vec::new() };
        let parse = |bytes: &[u8]| -> Settings { all_settings(&String::from_utf8_lossy(bytes)) };
        let changed = changes(&parse(&self.config), &parse(&now));
        if self.config.is_empty()
            || changed.is_empty()
            || !changed.iter().all(|n| breaks_or_runs(n))
        {
            return Vec::new();
        }
        let kept = quarantine(store, "config").is_some_and(|to| std::fs::write(to, &now).is_ok());
        if kept && process::write_atomic(&file, &self.config).is_ok() {
            changed
        } else {
            Vec::new()
        }
    }
}

fn config_file(store: &Store) -> PathBuf {
    store.repo().common_dir().join("config")
}

fn hooks(store: &Store) -> BTreeSet<String> {
    let entries = std::fs::read_dir(store.repo().common_dir().join("hooks"));
    let entries = entries.into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Returns an unused path in quarantine.
fn quarantine(store: &Store, name: &str) -> Option<PathBuf> {
    let folder = store.local().quarantine();
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join(format!("{name}.{}", ambient::now().0)))
}
