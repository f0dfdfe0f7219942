//! `demo`: make a new repository and carry out a whole job in it with a scripted agent. The demo
//! needs only git.

mod files;

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::names::{self, RunUse};
use super::start;
use super::workspace::{self, Workspace};
use crate::ambient;
use crate::cli;
use crate::domain::id::RunId;
use crate::domain::state::Phase;
use crate::repo::{self, Repo};
use crate::store::chain::findings;
use crate::store::layout;
use crate::store::{Expected, RefMove, Store};
use crate::ui::{Ui, human, table};

/// `git harness demo`
pub(super) fn run(args: &cli::DemoArgs, ui: &Ui) -> Result<u8> {
    if ambient::variable("GIT_DIR").is_some() {
        bail!("`GIT_DIR` is set: unset it, since the demo makes a repository of its own");
    }
    let dir = match &args.dir {
        Some(dir) => ambient::current_dir()?.join(dir),
        None => ambient::temp_dir().join(format!("git-harness-demo-{}", &ambient::nonce()[..6])),
    };
    let repository = dir.join("tally");
    if dir.symlink_metadata().is_ok() {
        bail!("the folder exists already: {}; name one that does not exist", dir.display());
    }
    make(&repository)
        .with_context(|| format!("cannot make the demo's repository in {}", dir.display()))?;
    ui.status(&format!(
        "a small JavaScript library of {} files is in {}\n\
         its job (`harness.toml`): turn every CommonJS module into an ES module\n\
         the agent is SCRIPTED, a shell script: no model, no key, no network. On purpose some of its first attempts go\n\
         wrong: two leave a check unsatisfied, one crashes, one writes where it may not, one does nothing, one leaves a\n\
         process behind, one commits by itself\n",
        files::FILES.len(),
        repository.display()
    ));
    let began = ambient::instant();
    let code = start::run(&repository, &cli::StartArgs::default(), ui)?;
    let wall_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let store = workspace::open_store(&repository)?;
    let run = names::find_run(&store, None, RunUse::Read)?;
    ui.result(&retried_tasks(&store, &run, wall_ms)?);
    ui.result(&commands(&repository, &run));
    Ok(code)
}

/// Makes the repository: writes the project's files and commits them, with git's identity or a
/// default one.
fn make(folder: &Path) -> Result<()> {
    for (path, text) in files::FILES {
        let to = folder.join(path);
        std::fs::create_dir_all(to.parent().unwrap_or(folder))?;
        std::fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
    }
    let git_repo = gix::init(folder)?;
    let branch = git_repo.head_name()?.context("a new repository has a branch")?;
    let repo = Repo::discover(folder)?;
    let mut entries = Vec::new();
    for (path, text) in files::FILES {
        entries.push(((*path).to_owned(), repo::write_blob(&repo, text.as_bytes())?));
    }
    let tree = repo::write_tree(&repo, &entries)?;
    let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
    let message = "tally: a small library of CommonJS modules";
    let commit = repo::commit(&repo, &tree, &[], message, &repo.identity(), time)?;
    let store = workspace::open_store(folder)?;
    store.transact(&[RefMove::to(branch.to_string(), commit, Expected::Absent)])?;
    let id = gix::ObjectId::from_hex(tree.as_str().as_bytes())?;
    let mut index = git_repo.index_from_tree(&id)?;
    index.write(gix::index::write::Options::default())?;
    Ok(())
}

/// Lists the tasks that needed more than one attempt or did not land, each with its first finding.
fn retried_tasks(store: &Store, run: &RunId, wall_ms: u64) -> Result<String> {
    let workspace = Workspace::load(store, run)?;
    let state = workspace.state();
    let attempts: u32 = state.tasks.values().map(|t| t.attempt).sum();
    let mut rows = Vec::new();
    for (task, s) in state.tasks.iter().filter(|(_, s)| s.attempt > 1 || s.landed.is_none()) {
        let task_findings = match workspace.loaded.ledger.tips.get(task) {
            Some(tip) => findings(store, &tip.tree)?,
            None => Vec::new(),
        };
        let first_finding = task_findings.first().map_or(String::new(), |f| {
            format!("{}: {}", f.check, f.summary_line().unwrap_or_default())
        });
        rows.push(vec![
            format!("  {}", state.tasks.label(task)),
            format!("{} attempts", s.attempt),
            s.phase.as_str().into(),
            first_finding,
        ]);
    }
    Ok(format!(
        "\n{} of {} tasks landed on `{}` in {}, in {attempts} attempts. Tasks that were retried:\n\n{}",
        state.count(&Phase::Done),
        state.tasks.len(),
        layout::short(&workspace.loaded.manifest.target),
        human::duration(wall_ms),
        table::columns(&rows)
    ))
}

/// Lists commands that show the result.
fn commands(repository: &Path, run: &RunId) -> String {
    format!(
        "\nInspect the result with plain git:\n\n  cd {}\n\
         \x20 git log --oneline harness/{run}/result\n\
         \x20 git diff --stat HEAD harness/{run}/result\n\
         \x20 git log --notes=harness -1 harness/{run}/result            its agent and the checks that it passed\n\
         \x20 git for-each-ref refs/harness                              all state of the run\n\
         \x20 git log --first-parent --format=%s refs/harness/tasks/{run}/src__text__pad_dot_js\n\
         \x20 git harness status\n\nThe agent was scripted: these changes were made by a shell script, not by a model.\n",
        repository.display()
    )
}
