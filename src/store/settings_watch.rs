//! The settings and files of the repository that can make git run programs or read other objects.
//! An agent without a sandbox can write them, so they must stay as they were when the process
//! started, and as they were before an earlier process ended while agents were at work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::settings_record::SettingsRecord;
use super::settings_undo::SettingsCopy;
use super::user_branches::CheckedOutBranch;
use super::{Store, layout};
use crate::ambient;
use crate::domain::id::Oid;
use crate::repo;

/// The sections of which only the keys in [`PROGRAMS`] count: the others start no program and
/// redirect nothing. Users and agents change them all the time: `git push -u` writes `branch`, an
/// agent sets its `user`.
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

/// The keys whose value is a program that git 2.38 to 2.52, its tools or git-lfs run, or a file or
/// folder with further such keys or hooks. `*` stands for any text.
const PROGRAMS: [&str; 57] = [
    "alias.*",
    "browser.*.cmd",
    "browser.*.path",
    "commit.gpgsign",
    "core.alternaterefscommand",
    "core.askpass",
    "core.editor",
    "core.fsmonitor",
    "core.gitproxy",
    "core.hookspath",
    "core.pager",
    "core.sshcommand",
    "credential.helper",
    "credential.*.helper",
    "diff.external",
    "diff.*.command",
    "diff.*.textconv",
    "difftool.*.cmd",
    "difftool.*.path",
    "filter.*.clean",
    "filter.*.process",
    "filter.*.smudge",
    "gc.recentobjectshook",
    "gpg.program",
    "gpg.*.defaultkeycommand",
    "gpg.*.program",
    "guitool.*.cmd",
    "hook.*.command",
    "imap.tunnel",
    "include.path",
    "includeif.*.path",
    "init.templatedir",
    "instaweb.browser",
    "instaweb.httpd",
    "interactive.difffilter",
    "lfs.*.clean",
    "lfs.*.path",
    "lfs.*.smudge",
    "man.*.cmd",
    "man.*.path",
    "merge.*.driver",
    "mergetool.*.cmd",
    "mergetool.*.path",
    "pager.*",
    "push.gpgsign",
    "remote.*.receivepack",
    "remote.*.uploadpack",
    "remote.*.vcs",
    "sendemail.*",
    "sequence.editor",
    "submodule.*.update",
    "svn.authorsprog",
    "tag.forcesignannotated",
    "tag.gpgsign",
    "tar.*.command",
    "trailer.*",
    "uploadpack.packobjectshook",
];

/// Files of which any change counts.
const FILES: [&str; 5] = [
    "info/attributes",
    "info/grafts",
    "objects/info/alternates",
    "objects/info/http-alternates",
    "shallow",
];

/// The number of changes that a message names.
const NAMED: usize = 3;

/// The watched settings: a name for people, and the value.
pub(super) type Settings = BTreeMap<String, String>;

/// The settings that a process watches.
#[derive(Debug)]
pub(super) struct SettingsWatch {
    /// The settings at the start of the process.
    before: Settings,
    /// The branches and tags of people.
    refs: BTreeMap<String, Oid>,
    /// The branches that work trees of people had checked out.
    branches: Vec<CheckedOutBranch>,
    /// The copy of the files that can be put back.
    copy: SettingsCopy,
    /// True if commands without a sandbox may have worked: only they can have made a change that is
    /// undone.
    is_unsandboxed: AtomicBool,
    /// The sentence about the first noticed change. The sentence stays after the change is undone,
    /// because nothing that happened meanwhile is trusted.
    noticed: Mutex<Option<String>>,
}

impl Store {
    /// Remembers the settings. A process that lands or starts agents calls this once, at its start.
    /// `owner` names the run or the queue: if an earlier process of the same owner ended while
    /// commands were at work, the settings are compared with those of that process.
    pub(crate) fn watch_settings(&self, owner: &str) {
        self.settings.get_or_init(|| {
            let before = settings(self);
            let record = SettingsRecord::read(self);
            let recorded = record.filter(|record| record.is_open(owner));
            let changed = recorded.map(|record| record.changes(&before)).unwrap_or_default();
            SettingsWatch {
                before,
                refs: refs_of_people(self),
                branches: CheckedOutBranch::all(self),
                copy: SettingsCopy::take(self),
                is_unsandboxed: AtomicBool::new(false),
                noticed: Mutex::new(self.sentence(&changed, &[], &[])),
            }
        });
    }

    /// Records, outside of the repository, that commands of `owner` are at work, and the settings.
    pub(crate) fn open_settings(&self, owner: &str) {
        if let Some(watch) = self.settings.get().filter(|watch| watch.noticed().is_none()) {
            SettingsRecord::open(self, owner, &watch.before);
        }
    }

    /// Records that no command of `owner` is at work any more, or that a person was told of a
    /// change.
    pub(crate) fn close_settings(&self, owner: &str) {
        SettingsRecord::close(self, owner);
    }

    /// Notes that a command without a sandbox starts.
    pub(crate) fn note_unsandboxed(&self) {
        if let Some(watch) = self.settings.get() {
            watch.is_unsandboxed.store(true, Ordering::Relaxed);
        }
    }

    /// Returns true if commands without a sandbox may have worked.
    pub(crate) fn is_unsandboxed(&self) -> bool {
        self.settings.get().is_some_and(|watch| watch.is_unsandboxed.load(Ordering::Relaxed))
    }

    /// Returns a sentence if the settings, or branches that work trees of people have checked out,
    /// have changed since [`Store::watch_settings`]. If commands without a sandbox may have made
    /// the change, the first call that notices it undoes what can be undone safely.
    pub(crate) fn changed_settings(&self) -> Option<String> {
        let watch = self.settings.get()?;
        let mut noticed = watch.noticed();
        if noticed.is_none() {
            let changed = changes(&watch.before, &settings(self));
            if !self.is_unsandboxed() {
                return self.sentence(&changed, &[], &[]);
            }
            let restored = if changed.is_empty() { Vec::new() } else { watch.copy.restore(self) };
            let branches = watch.branches.iter().filter_map(|branch| branch.repair(self));
            *noticed = self.sentence(&changed, &restored, &branches.collect::<Vec<_>>());
        }
        noticed.clone()
    }

    /// Returns a sentence about the branches and tags of people, except for `target`, that have
    /// changed since [`Store::watch_settings`]. Their owner may have changed them: nothing tells
    /// the user's git from that of an agent in the user's work tree.
    pub(crate) fn changed_refs(&self, target: &str) -> Option<String> {
        let (before, now) = (&self.settings.get()?.refs, refs_of_people(self));
        let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
        let changed = changed.filter(|name| *name != target).map(|name| {
            let state = match (before.get(name), now.get(name)) {
                (None, _) => " (new)",
                (_, None) => " (deleted)",
                (Some(_), Some(_)) => "",
            };
            format!("`{}`{state}", layout::short(name))
        });
        let changed: Vec<String> = changed.collect();
        let more = changed.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        (!changed.is_empty()).then(|| {
            format!(
                "while commands without a sandbox were at work, {}{more} changed: look at them unless it was you",
                changed[..changed.len().min(NAMED)].join(", ")
            )
        })
    }

    /// Returns the sentence about changed settings, those of them that were put back, and moved
    /// branches.
    fn sentence(
        &self,
        changed: &[String],
        restored: &[String],
        moved: &[String],
    ) -> Option<String> {
        if changed.is_empty() && moved.is_empty() {
            return None;
        }
        let mut parts = Vec::new();
        if !changed.is_empty() {
            let folder = self.repo().common_dir().display();
            parts.push(format!(
                "{} of `{folder}` changed while agents were at work",
                listed(changed)
            ));
        }
        parts.extend(moved.iter().map(|moved| format!("while agents were at work, {moved}")));
        let mut text = parts.join("; ");
        if !restored.is_empty() {
            let folder = self.local().quarantine();
            text.push_str(&format!(
                "; put back: {}, and kept in `{}`",
                listed(restored),
                folder.display()
            ));
        }
        let advice = if changed.iter().all(|name| restored.contains(name)) {
            "look at it, and start again"
        } else {
            "look at it, put it back unless it was you, and start again"
        };
        Some(format!("{text}; {advice}"))
    }
}

impl SettingsWatch {
    fn noticed(&self) -> MutexGuard<'_, Option<String>> {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refs_of_people(store: &Store) -> BTreeMap<String, Oid> {
    let lists = ["refs/heads/", "refs/tags/"].map(|prefix| store.list(prefix).unwrap_or_default());
    let refs = lists.into_iter().flatten();
    refs.filter(|(name, _)| !name.starts_with(layout::BRANCHES)).collect()
}

/// Lists names for people.
fn listed(names: &[String]) -> String {
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let first = names.iter().take(NAMED).map(|name| format!("`{name}`"));
    format!("{}{more}", first.collect::<Vec<_>>().join(", "))
}

/// Returns the names that have another value in `now`, or are in only one of the two.
pub(super) fn changes(before: &Settings, now: &Settings) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != now.get(*name)).cloned().collect()
}

fn settings(store: &Store) -> Settings {
    let common = store.repo().common_dir();
    let mut settings = Settings::new();
    for name in ["config", "config.worktree"] {
        if let Ok(text) = std::fs::read(common.join(name)) {
            add_settings(&String::from_utf8_lossy(&text), &mut settings);
        }
    }
    add_included(common, &mut settings);
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

/// Adds the files that the configuration includes.
fn add_included(common: &Path, settings: &mut Settings) {
    let is_include = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("include") && name.ends_with(".path")
    };
    let included = settings.iter().filter(|(name, _)| is_include(name));
    let paths: Vec<String> = included.flat_map(|(_, value)| value.lines()).map(unquoted).collect();
    for path in paths {
        let home = ambient::environment()
            .get(std::ffi::OsStr::new("HOME"))
            .map(Path::new)
            .map(Path::to_path_buf);
        let path = match (path.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest).display().to_string(),
            (Some(_) | None, _) => path,
        };
        add_file(common, &path, settings);
    }
}

fn unquoted(value: &str) -> String {
    value.trim_matches('"').to_owned()
}

fn add_file(common: &Path, name: &str, settings: &mut Settings) {
    let path = common.join(name);
    let target = std::fs::read_link(&path).map(|to| to.display().to_string()).unwrap_or_default();
    if let Ok(bytes) = std::fs::read(&path) {
        let hash = repo::sha1_hex([target.as_bytes(), &bytes]).unwrap_or_default();
        settings.insert(name.to_owned(), hash);
    }
}

/// Returns true if a setting counts. Its name has the section in front.
fn is_watched(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let top = name.split('.').next().unwrap_or_default();
    // The address of a remote may name a program: `ext::sh -c …`.
    !HARMLESS.contains(&top) || value.contains("::") || runs_program(&name)
}

fn runs_program(name: &str) -> bool {
    PROGRAMS.iter().any(|pattern| match pattern.split_once('*') {
        Some((start, end)) => {
            name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
        None => name == *pattern,
    })
}

/// Returns true if a setting runs a program, or makes the repository unusable for its owner.
pub(super) fn breaks_or_runs(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    runs_program(&name) || name == "core.bare" || name == "core.worktree"
}

/// Adds the watched settings of a configuration file.
fn add_settings(text: &str, settings: &mut Settings) {
    for (name, value) in
        all_settings(text).into_iter().filter(|(name, value)| is_watched(name, value))
    {
        settings.entry(name).or_default().push_str(&value);
    }
}

/// Returns the settings of a configuration file, with a line for each value. Each line is read by
/// itself: only a difference matters, and a file that git cannot parse is compared too.
pub(super) fn all_settings(text: &str) -> Settings {
    let mut settings = Settings::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut setting = line;
        if let Some((header, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = header.replace(" \"", ".").trim_end_matches('"').to_owned();
            setting = rest.trim();
        }
        if setting.is_empty() {
            continue;
        }
        let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
        let values = settings.entry(format!("{section}.{}", key.trim())).or_default();
        values.push_str(value.trim());
        values.push('\n');
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::{PROGRAMS, Settings, add_included, add_settings, changes};

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

    #[test]
    fn every_key_that_runs_a_program_is_watched() {
        for pattern in PROGRAMS {
            let key = pattern.replace('*', "X y");
            let parts: Vec<&str> = key.split('.').collect();
            let (section, name) = (parts[0], parts[parts.len() - 1]);
            let subsection = parts[1..parts.len() - 1].join(".");
            let header = match subsection.as_str() {
                "" => format!("[{section}]"),
                subsection => format!("[{section} \"{subsection}\"]"),
            };
            let found = of(&format!("{header}\n\t{name} = run it\n"));
            assert_eq!(found.len(), 1, "{pattern}");
        }
        assert_eq!(of("[branch \"a\"]\n\tremote = ext::sh -c it\n").len(), 1);
        assert_eq!(of("[gc]\n\tauto = 0\n[init]\n\tdefaultBranch = x\n"), []);
    }

    #[test]
    fn included_files_are_watched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("more"), "[core]\n").unwrap();
        let read = || {
            let mut settings = Settings::new();
            add_settings("[includeIf \"onbranch:a.b\"]\n\tpath = \"more\"\n", &mut settings);
            add_included(dir.path(), &mut settings);
            settings
        };
        let before = read();
        std::fs::write(dir.path().join("more"), "[core]\n\tpager = it\n").unwrap();
        assert_eq!(changes(&before, &read()), ["more"]);
    }
}
