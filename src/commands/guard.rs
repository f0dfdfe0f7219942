//! Verbs that decide are for people: an agent must not approve its own work.

use std::path::Path;

use anyhow::Result;

use super::open::open_repo;
use crate::ambient;
use crate::cli::{AccountsCommand, QueueAction, Verb};
use crate::error::Advice;
use crate::process;

/// Refuses a verb that decides if this process belongs to an attempt or a check of the repository.
pub(super) fn refuse_decisions_by_agents(verb: &Verb, here: &Path) -> Result<()> {
    let Some(name) = deciding(verb) else { return Ok(()) };
    // Without a repository, the command itself fails.
    let Ok(repo) = open_repo(here) else { return Ok(()) };
    let environment = ambient::environment();
    let Some(marker) = process::assignment_of_this_process(&environment, repo.common_dir()) else {
        return Ok(());
    };
    let what = format!(
        "`git harness {name}` is for people, and this process was started by an agent or a check of this repository \
         ({marker})"
    );
    Err(Advice::new(what, "a person runs it in a terminal of their own").into())
}

/// Returns the name of a verb that decides about tasks, candidates or runs, and `None` for a verb
/// that only reads.
fn deciding(verb: &Verb) -> Option<&'static str> {
    match verb {
        Verb::Start(args) if args.dry_run => None,
        Verb::Start(_) => Some("start"),
        Verb::Poll(_) => Some("poll"),
        Verb::Stop(_) => Some("stop"),
        Verb::Approve(_) => Some("approve"),
        Verb::Reject(_) => Some("reject"),
        Verb::Retry(_) => Some("retry"),
        Verb::Skip(_) => Some("skip"),
        Verb::Cancel(_) => Some("cancel"),
        Verb::Sweep(_) => Some("sweep"),
        Verb::Accounts(args) => match args.command {
            Some(AccountsCommand::Open { .. }) => Some("accounts open"),
            None => None,
        },
        Verb::Queue(args) => match args.action {
            None | Some(QueueAction::List(_)) => None,
            Some(QueueAction::Add(_)) => Some("queue add"),
            Some(QueueAction::Remove(_)) => Some("queue remove"),
            Some(QueueAction::Approve(_)) => Some("queue approve"),
            Some(QueueAction::Reject(_)) => Some("queue reject"),
            Some(QueueAction::Run(_)) => Some("queue run"),
            Some(QueueAction::Sweep) => Some("queue sweep"),
            Some(QueueAction::Pause) => Some("queue pause"),
            Some(QueueAction::Resume) => Some("queue resume"),
        },
        Verb::Init(_)
        | Verb::Status(_)
        | Verb::Runs(_)
        | Verb::Plan(_)
        | Verb::Validate(_)
        | Verb::Doctor(_)
        | Verb::New(_)
        | Verb::Agent(_)
        | Verb::Log(_)
        | Verb::Show(_)
        | Verb::Collect(_)
        | Verb::Review(_)
        | Verb::Why(_)
        | Verb::Blame(_)
        | Verb::Verify(_)
        | Verb::Demo(_)
        | Verb::Skill
        | Verb::Man(_)
        | Verb::Completions(_)
        | Verb::Keeper { .. }
        | Verb::EnterSandbox { .. } => None,
    }
}
