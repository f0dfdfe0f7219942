//! The settings and files of the repository by which others make git run programs or read other
//! objects. An agent without a sandbox can write them, so they must stay as they were when the
//! process started.

use std::collections::BTreeMap;
use std::path::Path;

use super::Store;
use crate::repo;

/// The sections that start no program and redirect nothing. Users and agents change them all the
/// time: `git push -u` writes `branch`, an agent sets its `user`.
const HARMLESS: [&str; 16] = [
    "advice",
    "author",
    "branch",
    "color",
    "column",
    "committer",
    "feature",
    "gc",
    "index",
    "init",
    "log",
    "maintenance",
    "pull",
    "push",
    "status",
    "user",
];

/// Files of which any change counts.
const FILES: [&str; 4] = ["info/attributes", "info/grafts", "objects/info/alternates", "shallow"];

/// The number of changes that a message names.
const NAMED: usize = 3;

/// The watched settings: a name for people, and the value.
type Settings = BTreeMap<String, String>;

impl Store {
    /// Remembers the settings. A process that lands or starts agents calls this once, at its start.
    pub(crate) fn watch_settings(&self) {
        self.settings.get_or_init(|| settings(self));
    }

    /// Returns a sentence if the settings have changed since [`Store::watch_settings`].
    pub(crate) fn changed_settings(&self) -> Option<String> {
        let before = self.settings.get()?;
        let now = settings(self);
        let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let changed: Vec<String> = names
            .into_iter()
            .filter(|name| before.get(*name) != now.get(*name))
            .map(|name| format!("`{name}`"))
            .collect();
        if changed.is_empty() {
            return None;
        }
        let more = match changed.len().saturating_sub(NAMED) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let listed = changed.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        Some(format!(
            "{listed}{more} of `{}` changed while agents were at work; look at it, put it back unless it was you, and start \
             again",
            self.repo().common_dir().display()
        ))
    }
}

fn settings(store: &Store) -> Settings {
    let common = store.repo().common_dir();
    let mut settings = Settings::new();
    for name in ["config", "config.worktree"] {
        if let Ok(text) = std::fs::read(common.join(name)) {
            add_settings(&String::from_utf8_lossy(&text), &mut settings);
        }
    }
    for name in FILES {
        add_file(common, name, &mut settings);
    }
    for entry in std::fs::read_dir(common.join("hooks")).into_iter().flatten().flatten() {
        add_file(common, &format!("hooks/{}", entry.file_name().to_string_lossy()), &mut settings);
    }
    for (name, commit) in store.list("refs/replace/").unwrap_or_default() {
        settings.insert(name, commit.to_string());
    }
    settings
}

fn add_file(common: &Path, name: &str, settings: &mut Settings) {
    let path = common.join(name);
    let target = std::fs::read_link(&path).map(|to| to.display().to_string()).unwrap_or_default();
    if let Ok(bytes) = std::fs::read(&path) {
        let hash = repo::sha1_hex([target.as_bytes(), &bytes]).unwrap_or_default();
        settings.insert(name.to_owned(), hash);
    }
}

/// Adds the settings of a configuration file. Lines are read alone: only a difference matters, and
/// a file that git cannot parse has one too.
fn add_settings(text: &str, settings: &mut Settings) {
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut setting = line;
        if let Some((header, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = header.replace(" \"", ".").trim_end_matches('"').to_owned();
            setting = rest.trim();
        }
        let top = section.split('.').next().unwrap_or_default().to_ascii_lowercase();
        if setting.is_empty() || HARMLESS.contains(&top.as_str()) {
            continue;
        }
        let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
        let value_of_key = settings.entry(format!("{section}.{}", key.trim())).or_default();
        value_of_key.push_str(value.trim());
        value_of_key.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::{Settings, add_settings};

    fn of(text: &str) -> Vec<(String, String)> {
        let mut settings = Settings::new();
        add_settings(text, &mut settings);
        settings.into_iter().collect()
    }

    #[test]
    fn settings_that_run_programs_are_watched_and_harmless_ones_are_not() {
        let text = "[core]\n\tbare = false\n# a comment\n[Branch \"main\"]\n\tremote = origin\n\
                    [user] name = A\n[filter \"x\"]\n\tsmudge = run it\n\tsmudge = twice\n\trequired\n";
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            of(text),
            [
                pair("core.bare", "false\n"),
                pair("filter.x.required", "true\n"),
                pair("filter.x.smudge", "run it\ntwice\n"),
            ]
        );
    }
}
