//! The probe: a command in a sandbox tries what a sandbox must prevent. The sandbox is used only if
//! nothing succeeds.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::overlay::{Overlay, make_overlays};
use super::{AssignmentFolders, MachineFacts, TMP, confine, existing, specify};
use crate::domain::termination::Termination;
use crate::process::{self, Command, Containment, Environ, Mount, Overlays, StopFlag};
use crate::wire::keeper::{OverlayPrograms, SandboxSpec};

/// Prints a line for each attempt that succeeds. The arguments are a file of the shared `.git`, and
/// files that must not come into being.
const ATTEMPTS: &str = r#"
hidden=$1; shift
[ "$(id -u)" -ne 0 ] || echo "it is root"
[ ! -e "$hidden" ] || echo "the shared .git can be seen"
[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 8 ] || echo "processes outside can be seen"
[ "$(grep -c : /proc/net/dev)" -le 1 ] || echo "there is a network"
grep -q '^CapPrm:[[:space:]]*0*$' /proc/self/status || echo "it has capabilities"
if [ -e "$TMPDIR/cache" ]; then
  [ "$(cat "$TMPDIR/cache/package")" = lower ] || echo "an overlay does not show its lower layer"
  echo upper >"$TMPDIR/cache/package" || echo "an overlay cannot be written"
fi
(: >worktree-file) 2>/dev/null || echo "the worktree cannot be written"
for file; do (: >"$file") 2>/dev/null; done
echo tried
"#;

/// The word for commands that have the rights of the user.
pub(crate) const UNSANDBOXED: &str = "unsandboxed";

/// The folder of the overlay that the probe tries.
const CACHE: &str = "cache";

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

    /// Returns the reason why there is no sandbox. `None` if there is one.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Self::Sandboxed(_) => None,
            Self::Unavailable(why) => Some(why.clone()),
            Self::Off => Some("`[sandbox] mode` is \"off\"".into()),
        }
    }

    /// Returns the description for people.
    pub(crate) fn describe(&self) -> String {
        self.missing().map_or("bubblewrap".into(), |why| format!("{UNSANDBOXED}: {why}"))
    }
}

/// The facts on which the sandbox of a process depends: the repository, the folder of its
/// worktrees, and the caches that the job names.
type SandboxFacts = (PathBuf, PathBuf, Vec<String>);

/// Chooses the sandbox of a machine, after it has withstood the probe. A process tries it once for
/// each repository.
pub(crate) fn choose(facts: &MachineFacts<'_>) -> SandboxChoice {
    static CHOSEN: Mutex<BTreeMap<SandboxFacts, SandboxChoice>> = Mutex::new(BTreeMap::new());
    let mut chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
    let (common_dir, worktrees) = (facts.common_dir.to_path_buf(), facts.worktrees.to_path_buf());
    let choice = chosen.entry((common_dir, worktrees, facts.caches.to_vec()));
    choice.or_insert_with(|| try_sandbox(facts)).clone()
}

fn try_sandbox(facts: &MachineFacts<'_>) -> SandboxChoice {
    let tries = |spec: &SandboxSpec| withstands(spec, facts).map_err(|error| format!("{error:#}"));
    let chosen = specify(facts).and_then(|mut spec| {
        match tries(&spec) {
            // Overlays need more than the rest, such as another kernel.
            Err(_) if spec.overlay.take().is_some() => tries(&spec)?,
            other => other?,
        }
        Ok(spec)
    });
    match chosen {
        Ok(spec) => SandboxChoice::Sandboxed(Box::new(spec)),
        Err(why) => SandboxChoice::Unavailable(why),
    }
}

/// Tries the boundary of a sandbox.
fn withstands(spec: &SandboxSpec, facts: &MachineFacts<'_>) -> Result<()> {
    let name = format!("probe-{}", std::process::id());
    let folder = facts.common_dir.join("harness").join(&name);
    remove(&folder);
    let result = try_in(&folder, &name, spec, facts);
    remove(&folder);
    result
}

/// Removes the folder of a probe.
fn remove(folder: &Path) {
    // The kernel makes a folder without permissions there.
    let work = folder.join(CACHE).join("work/work");
    std::fs::set_permissions(work, std::fs::Permissions::from_mode(0o700)).ok();
    std::fs::remove_dir_all(folder).ok();
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
    let mut confinement = confine(&SandboxSpec { network: false, ..existing(spec) }, &folders);
    let lower = folder.join("lower");
    if let Some(OverlayPrograms { unshare, mount }) = spec.overlay.clone() {
        std::fs::create_dir_all(&lower).with_context(made)?;
        std::fs::write(lower.join("package"), "lower\n").with_context(made)?;
        let overlay = Overlay::new(Path::new(CACHE), vec![lower.clone()]);
        let merged = overlay.merged();
        make_overlays(folder, &[overlay]).with_context(made)?;
        confinement.mounts.push(Mount::Overlay { merged, target: Path::new(TMP).join(CACHE) });
        confinement.overlays = Some(Overlays { unshare, mount, folder: folder.to_path_buf() });
    }
    let command = Command::new(argv, &folders.worktree, name, stdout.clone(), stderr.clone())
        .env(Environ::empty().with("PATH", "/usr/local/bin:/usr/bin:/bin").with("TMPDIR", TMP))
        .timeout(TIMEOUT)
        .containment(Containment::Marker)
        .sandbox(Some(confinement));
    let ended = process::run(&command, &StopFlag::new()?)?;
    let printed = std::fs::read_to_string(&stdout)?;
    let lines: Vec<&str> = printed.lines().collect();
    if lower.exists() && std::fs::read_to_string(lower.join("package"))? != "lower\n" {
        bail!("the sandbox leaks: an overlay does not keep its lower layer");
    }
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
