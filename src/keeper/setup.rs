//! The set-up of a worktree: the job's commands, and the mark that decides whether they run again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::AssignedWork;
use super::caches;
use super::worktree::redactor;
use crate::domain::shell::shell_quote;
use crate::domain::termination::Termination;
use crate::process::{self, Command, Confinement, Containment, StopFlag};
use crate::repo::{self, Repo, Worktree};
use crate::wire::keeper::WorktreeSpec;
use crate::wire::{VERSION, one_line};

/// The time limit of one setup command.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The number of bytes that are kept of a setup command's output.
const SETUP_CAP: u64 = 64 * 1024;

/// The extension of a mark, beside the worktree's index.
const EXTENSION: &str = "setup";

/// The state in which a worktree was set up. The commands run again if it differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SetupMark {
    /// The format's version.
    v: u32,
    /// The commands.
    setup: Vec<Vec<String>>,
    /// The paths and blobs of the files that the set-up depends on.
    inputs: Vec<(String, String)>,
    /// The system, and the version of this program.
    system: String,
    /// The outputs of the checks' `version` commands, by command line, as far as they have run.
    #[serde(default)]
    versions: BTreeMap<String, String>,
    /// True if a reset removes files that the set-up has made.
    #[serde(default)]
    is_swept: bool,
}

impl SetupMark {
    fn path(spec: &WorktreeSpec) -> PathBuf {
        spec.index.with_extension(EXTENSION)
    }

    /// Returns the mark that a set-up of the worktree, as it was reset, would leave.
    fn wanted(repo: &Repo, worktree: &Worktree, spec: &WorktreeSpec) -> Result<Self> {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        Ok(Self {
            v: VERSION,
            setup: spec.setup.clone(),
            inputs: repo::files_named(
                repo,
                worktree,
                &spec.setup_inputs,
                &mentioned_paths(&spec.setup),
            )?,
            system: format!("{os} {arch} {}", env!("CARGO_PKG_VERSION")),
            ..Self::default()
        })
    }

    /// Reads the mark of a worktree. A damaged mark, or that of another version, is none.
    fn read(spec: &WorktreeSpec) -> Option<Self> {
        let bytes = std::fs::read(Self::path(spec)).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|mark: &Self| mark.v == VERSION)
    }

    fn write(&self, spec: &WorktreeSpec) -> Result<()> {
        Ok(process::write_atomic(&Self::path(spec), &serde_json::to_vec(self)?)?)
    }

    /// Returns true if a worktree with this mark needs no set-up to have the mark `wanted`.
    fn serves(&self, wanted: &Self) -> bool {
        let of_worktree = Self { versions: BTreeMap::new(), is_swept: false, ..self.clone() };
        !self.is_swept && of_worktree == *wanted
    }
}

/// Returns the words of the commands that may be paths: a file that a command names is an input. An
/// argument may be a shell script, or `--option=path`.
fn mentioned_paths(setup: &[Vec<String>]) -> BTreeSet<&str> {
    let is_separator = |c: char| c.is_whitespace() || "'\"`;&|<>(){}=,".contains(c);
    let words = setup.iter().flatten().flat_map(|argument| argument.split(is_separator));
    words.map(|word| word.strip_prefix("./").unwrap_or(word)).collect()
}

/// Takes the mark of a worktree that an agent is about to use. An agent may install other
/// dependencies, and may be killed.
pub(super) fn take_mark(spec: &WorktreeSpec) -> Option<SetupMark> {
    let mark = SetupMark::read(spec);
    // What the commands have downloaded stays, for the agent.
    std::fs::remove_file(SetupMark::path(spec)).ok();
    mark
}

/// Puts the mark of a worktree back, unless one of the changed paths is an input of the set-up.
pub(super) fn put_mark_back<'a>(
    spec: &WorktreeSpec,
    mark: &SetupMark,
    changed: impl Iterator<Item = &'a str>,
) -> Result<()> {
    if repo::names_any(&spec.setup_inputs, &mentioned_paths(&spec.setup), changed)? {
        return Ok(());
    }
    mark.write(spec)
}

/// Removes the mark of a worktree, and what the commands have downloaded, so that they run again.
pub(super) fn forget(spec: &WorktreeSpec) {
    // A missing file is fine. Any other error recurs when the mark is written.
    std::fs::remove_file(SetupMark::path(spec)).ok();
    caches::clear_setup(spec);
}

/// The use of an earlier set-up of a worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetupReuse {
    /// The set-up is used if its mark is the same.
    IfMarked,
    /// The commands run again.
    Never,
}

/// Removes the marks in a folder of worktree indexes: all, or that of one worktree.
pub(crate) fn forget_setups(indexes: &Path, worktree: Option<&str>) -> Result<()> {
    let entries = match std::fs::read_dir(indexes) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let is_wanted = worktree.is_none_or(|name| path.file_stem() == Some(name.as_ref()));
        if is_wanted && path.extension() == Some(EXTENSION.as_ref()) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A setup command that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the setup command `{command}` did not succeed ({how}): {}", one_line(.output))]
pub(super) struct SetupFailed {
    command: String,
    how: Termination,
    output: String,
    /// True if the set-up succeeds on the commit that the work started from.
    pub(super) is_of_work: bool,
}

impl SetupFailed {
    /// Returns the failure after the set-up succeeded on the commit that the work started from.
    pub(super) fn passed_on_control(self) -> Self {
        Self { is_of_work: self.may_be_of_work(), ..self }
    }

    /// Describes the failure for the author of the work, like the failure of a check.
    pub(super) fn finding(&self) -> String {
        let Self { command, how, output, .. } = self;
        format!(
            "`{command}`: {how}\n{output}\nWithout this work, the set-up of the worktree succeeds."
        )
    }

    /// Returns true if the content of the worktree can be the cause.
    pub(super) fn may_be_of_work(&self) -> bool {
        match self.how {
            Termination::Exited(_) | Termination::NotStarted(_) => true,
            Termination::Signalled(signal) => !matches!(signal, 9 | 15),
            Termination::TimedOut
            | Termination::Idle
            | Termination::Lingered
            | Termination::Hopeless
            | Termination::Stopped
            | Termination::Lost => false,
        }
    }
}

/// Runs the setup commands if the worktree's mark asks for it. `restore` then puts the tracked
/// files back, and returns true if the next reset removes files that the commands have made.
pub(super) fn set_up(
    repo: &Repo,
    dir: &Path,
    (assigned, worktree): (&AssignedWork, &Worktree),
    surroundings: (Option<&Confinement>, &StopFlag),
    restore: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    let spec = &assigned.assignment.worktree;
    if spec.setup.is_empty() {
        return Ok(());
    }
    let wanted = SetupMark::wanted(repo, worktree, spec)?;
    if SetupMark::read(spec).is_some_and(|mark| mark.serves(&wanted)) {
        return Ok(());
    }
    // A set-up that is cut off leaves a mixture, which no mark describes.
    forget(spec);
    run_commands(dir, assigned, surroundings)?;
    let is_swept = restore()?;
    SetupMark { is_swept, ..wanted }.write(spec)
}

fn run_commands(
    dir: &Path,
    assigned: &AssignedWork,
    (sandbox, stop): (Option<&Confinement>, &StopFlag),
) -> Result<()> {
    let spec = &assigned.assignment.worktree;
    let redactor = redactor(assigned)?;
    for (number, argv) in spec.setup.iter().enumerate() {
        let stdout = dir.join(format!("setup-{number}.out"));
        let stderr = dir.join(format!("setup-{number}.err"));
        let (cwd, marker) = (&spec.path, &assigned.assignment.marker);
        let command = Command::new(argv, cwd, marker, stdout.clone(), stderr)
            .env(assigned.environment(&[]))
            .redactor(redactor.clone())
            .cap(SETUP_CAP)
            .timeout(SETUP_TIMEOUT)
            .sandbox(sandbox.cloned())
            .containment(Containment::OwnProcess);
        let ended = process::run(&command, stop)?;
        if ended.termination != Termination::Exited(0) {
            let output = super::excerpt(&stdout, &command.stderr, 600);
            let words: Vec<_> = argv.iter().map(|word| shell_quote(word)).collect();
            let (command, how) = (words.join(" "), ended.termination);
            return Err(SetupFailed { command, how, output, is_of_work: false }.into());
        }
    }
    Ok(())
}

/// Notes the output of a `version` command in the worktree's mark. Returns false if the worktree
/// was set up with another version. Its mark is then removed.
pub(super) fn note_version(spec: &WorktreeSpec, argv: &[String], output: &str) -> Result<bool> {
    let Some(mut mark) = SetupMark::read(spec) else { return Ok(true) };
    // The path of the worktree is in the arguments, and the mark is that of the worktree.
    match mark.versions.insert(argv.join(" "), output.to_owned()) {
        Some(old) if old == output => Ok(true),
        Some(_) => {
            forget(spec);
            Ok(false)
        }
        None => mark.write(spec).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dir: &Path) -> WorktreeSpec {
        WorktreeSpec {
            name: "c01".into(),
            path: dir.join("c01"),
            index: dir.join("index"),
            commit: String::new(),
            branch: None,
            setup: vec![vec!["true".into()]],
            setup_inputs: Vec::new(),
            setup_control: None,
            keep: Vec::new(),
            provided: Vec::new(),
            leftovers: None,
        }
    }

    #[test]
    fn setup_mark_differs_with_commands_and_inputs_but_not_with_versions() {
        let input = |id: &str| vec![("lock".to_owned(), id.to_owned())];
        let mark = SetupMark { v: VERSION, inputs: input("1"), ..SetupMark::default() };
        assert!(mark.serves(&mark));
        let versions = BTreeMap::from([("tool".to_owned(), "1".to_owned())]);
        assert!(SetupMark { versions, ..mark.clone() }.serves(&mark));
        assert!(!SetupMark { inputs: input("2"), ..mark.clone() }.serves(&mark));
        assert!(!SetupMark { setup: vec![vec![]], ..mark.clone() }.serves(&mark));
        assert!(!SetupMark { is_swept: true, ..mark.clone() }.serves(&mark));
    }

    #[test]
    fn failed_setup_is_one_line_as_a_fault_and_whole_as_a_finding() {
        let failed = SetupFailed {
            command: "npm ci".to_owned(),
            how: Termination::Exited(7),
            output: "installing\nnpm error: no lock file\n".to_owned(),
            is_of_work: false,
        };
        assert_eq!(
            failed.to_string(),
            "the setup command `npm ci` did not succeed (exit 7): installing npm error: no lock file"
        );
        let finding = failed.passed_on_control().finding();
        assert!(finding.starts_with("`npm ci`: exit 7\ninstalling\nnpm error: no lock file\n"));
    }

    #[test]
    fn setup_commands_mention_paths_in_scripts_and_options() {
        let setup = [
            vec!["cp".to_owned(), "./lock".to_owned()],
            vec!["sh".to_owned(), "-c".to_owned(), "cd web&&pip install -r 'req.txt'".to_owned()],
            vec!["--file=tools/x.toml".to_owned()],
        ];
        let paths = mentioned_paths(&setup);
        for path in ["lock", "web", "req.txt", "tools/x.toml"] {
            assert!(paths.contains(path), "{path}: {paths:?}");
        }
    }

    #[test]
    fn other_version_of_a_tool_removes_the_setup_mark() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path());
        let tool = ["tool".to_owned()];
        assert!(note_version(&spec, &tool, "1").unwrap(), "without a set-up");
        assert_eq!(SetupMark::read(&spec), None);
        SetupMark { v: VERSION, ..SetupMark::default() }.write(&spec).unwrap();
        assert!(note_version(&spec, &tool, "1").unwrap());
        assert!(note_version(&spec, &tool, "1").unwrap());
        assert!(!note_version(&spec, &tool, "2").unwrap());
        assert_eq!(SetupMark::read(&spec), None);
        let other = SetupMark { v: VERSION + 1, ..SetupMark::default() };
        other.write(&spec).unwrap();
        assert_eq!(SetupMark::read(&spec), None, "a mark of another version");
    }
}
