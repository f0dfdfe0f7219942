//! The sandbox that a job chooses, as commands report it.

use anyhow::Result;

use super::workspace;
use crate::ambient;
use crate::domain::id::RunId;
use crate::engine;
use crate::job::{Job, SandboxMode};
use crate::process::write_atomic;
use crate::sandbox::{self, MachineFacts, SandboxChoice};
use crate::store::Store;
use crate::ui::Ui;

/// The file in a run's folder that describes the sandbox of its last supervisor.
const FILE: &str = "sandbox";

/// Tries the sandbox of this machine, whatever the mode of a job.
pub(super) fn try_machine(store: &Store, job: &Job) -> SandboxChoice {
    let repo = store.repo();
    sandbox::choose(&MachineFacts {
        environment: &ambient::environment(),
        common_dir: repo.common_dir(),
        work_tree: repo.work_dir(),
        worktrees: &workspace::worktrees_root(repo, job),
        caches: &job.sandbox.caches,
    })
}

/// Fails if a job requires a sandbox and this machine has none. Writes nothing.
pub(super) fn ensure(store: &Store, job: &Job) -> Result<SandboxChoice> {
    let choice = match job.sandbox.mode {
        SandboxMode::Off => SandboxChoice::Off,
        SandboxMode::Auto | SandboxMode::Require => try_machine(store, job),
    };
    match (&choice, job.sandbox.mode) {
        (SandboxChoice::Unavailable(why), SandboxMode::Require) => {
            Err(engine::queue::no_sandbox(why).into())
        }
        (SandboxChoice::Unavailable(_), SandboxMode::Auto | SandboxMode::Off)
        | (SandboxChoice::Sandboxed(_) | SandboxChoice::Off, _) => Ok(choice),
    }
}

/// Fails as [`ensure`] does, records the sandbox for `status`, and warns if there is none.
pub(super) fn announce(store: &Store, run: &RunId, job: &Job, ui: &Ui) -> Result<()> {
    let choice = ensure(store, job)?;
    if let SandboxChoice::Unavailable(why) = &choice {
        ui.status(&format!("warning: no sandbox, so agents and checks have your rights: {why}"));
    }
    let file = store.local().run(run).join(FILE);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(write_atomic(&file, choice.describe().as_bytes())?)
}

/// Returns the description of the sandbox of a run's last supervisor. `None` if none has started.
pub(super) fn recorded(store: &Store, run: &RunId) -> Option<String> {
    std::fs::read_to_string(store.local().run(run).join(FILE)).ok()
}
