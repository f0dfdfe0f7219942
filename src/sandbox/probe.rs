//! The probe: a command in a sandbox tries what a sandbox must prevent. The sandbox is used only if
//! nothing succeeds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{AssignmentFolders, MachineFacts, confine, existing, specify};
use crate::domain::termination::Termination;
use crate::process::{self, Command, Containment, Environ, StopFlag};
use crate::wire::keeper::SandboxSpec;

/// Prints a line for each attempt that succeeds. The arguments are a file of the shared `.git`, and
/// files that must not come into being.
const ATTEMPTS: &str = r#"
hidden=$1; shift
[ "$(id -u)" -ne 0 ] || echo "it is root"
[ ! -e "$hidden" ] || echo "the shared .git can be seen"
[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 8 ] || echo "processes outside can be seen"
[ "$(grep -c : /proc/net/dev)" -le 1 ] || echo "there is a network"
(: >worktree-file) 2>/dev/null || echo "the worktree cannot be written"
for file; do (: >"$file") 2>/dev/null; done
echo tried
"#;

/// The time limit of the probe.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The sandbox that is used, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SandboxChoice {
    /// Commands run in a sandbox.
    Sandboxed(Box<SandboxSpec>),
    /// Commands have the rights of the user: the machine has no sandbox, for this reason.
    Unavailable(String),
    /// Commands have the rights of the user, as the job wants it.
    Off,
}

impl SandboxChoice {
    /// Returns the sandbox, with or without the machine's network.
    pub(crate) fn spec(&self, network: bool) -> Option<SandboxSpec> {
        match self {
            Self::Sandboxed(spec) => Some(SandboxSpec { network, ..spec.as_ref().clone() }),
            Self::Unavailable(_) | Self::Off => None,
        }
    }

    /// Returns true if commands run in a sandbox.
    pub(crate) fn is_sandboxed(&self) -> bool {
        matches!(self, Self::Sandboxed(_))
    }

    /// Returns the description for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Sandboxed(_) => "bubblewrap".into(),
            Self::Unavailable(why) => format!("none: {why}"),
            Self::Off => "off".into(),
        }
    }
}

/// Chooses the sandbox of a machine, after it has withstood the probe.
pub(crate) fn choose(facts: &MachineFacts<'_>) -> SandboxChoice {
    let tried = specify(facts).and_then(|spec| {
        withstands(&spec, facts).map(|()| spec).map_err(|error| format!("{error:#}"))
    });
    match tried {
        Ok(spec) => SandboxChoice::Sandboxed(Box::new(spec)),
        Err(why) => SandboxChoice::Unavailable(why),
    }
}

/// Tries the boundary of a sandbox.
fn withstands(spec: &SandboxSpec, facts: &MachineFacts<'_>) -> Result<()> {
    let name = format!("probe-{}", std::process::id());
    let folder = facts.common_dir.join("harness").join(&name);
    let result = try_in(&folder, &name, spec, facts);
    std::fs::remove_dir_all(&folder).ok();
    result
}

fn try_in(folder: &Path, name: &str, spec: &SandboxSpec, facts: &MachineFacts<'_>) -> Result<()> {
    let folders = AssignmentFolders {
        common_dir: facts.common_dir.to_path_buf(),
        private_git: folder.join("git"),
        objects: vec![facts.common_dir.join("objects")],
        worktree: folder.join("worktree"),
        worktree_name: folder.join("worktree"),
        tmp: folder.join("tmp"),
        empty: folder.join("empty"),
        ..AssignmentFolders::default()
    };
    let made = || format!("cannot make the folder of the sandbox's probe: {}", folder.display());
    for path in [&folders.private_git, &folders.worktree, &folders.tmp] {
        std::fs::create_dir_all(path).with_context(made)?;
    }
    for path in [&folders.empty, &folders.worktree.join(".git")] {
        std::fs::write(path, "").with_context(made)?;
    }
    let mut forbidden: Vec<PathBuf> = ["/", "/etc", "/usr", "/tmp"].map(PathBuf::from).into();
    forbidden.extend(spec.home.iter().chain(&spec.work_tree).cloned());
    forbidden.extend([facts.common_dir.to_path_buf(), facts.common_dir.join("objects")]);
    let forbidden: Vec<PathBuf> = forbidden.iter().map(|path| path.join(name)).collect();
    let before: Vec<&PathBuf> = forbidden.iter().filter(|path| path.exists()).collect();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut argv: Vec<String> = ["sh", "-c", ATTEMPTS, "sh"].map(str::to_owned).into();
    argv.push(text(&facts.common_dir.join("harness")));
    argv.extend(forbidden.iter().map(|path| text(path)));
    let (stdout, stderr) = (folder.join("out"), folder.join("err"));
    let confinement = confine(&SandboxSpec { network: false, ..existing(spec) }, &folders);
    let command = Command::new(argv, &folders.worktree, name, stdout.clone(), stderr.clone())
        .env(Environ::empty().with("PATH", "/usr/local/bin:/usr/bin:/bin"))
        .timeout(TIMEOUT)
        .containment(Containment::Marker)
        .sandbox(Some(confinement));
    let ended = process::run(&command, &StopFlag::new()?)?;
    let printed = std::fs::read_to_string(&stdout)?;
    let lines: Vec<&str> = printed.lines().collect();
    let written = forbidden.iter().find(|path| path.exists() && !before.contains(path));
    if let Some(path) = written {
        bail!("the sandbox leaks: it can write {}", path.display());
    }
    match (&ended.termination, lines.as_slice()) {
        (Termination::Exited(0), ["tried"]) => Ok(()),
        (Termination::Exited(0), [leak, ..]) if *leak != "tried" => {
            bail!("the sandbox leaks: {leak}")
        }
        (how, _) => {
            let errors = std::fs::read_to_string(&stderr)?;
            bail!("the sandbox cannot be tried: {how} {}", errors.trim_end())
        }
    }
}
