//! `man`: the manual pages, embedded.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::ambient;
use crate::cli;
use crate::error::{self, Advice};
use crate::process::write_atomic;
use crate::ui::Ui;

/// Embeds pages by their file names.
macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../man/", $name)))),*]
    };
}

/// Every page: file name and text.
pub const PAGES: &[(&str, &str)] = pages![
    "git-harness.1",
    "git-harness-start.1",
    "git-harness-status.1",
    "git-harness-runs.1",
    "git-harness-poll.1",
    "git-harness-stop.1",
    "git-harness-plan.1",
    "git-harness-validate.1",
    "git-harness-doctor.1",
    "git-harness-accounts.1",
    "git-harness-agent.1",
    "git-harness-init.1",
    "git-harness-new.1",
    "git-harness-log.1",
    "git-harness-show.1",
    "git-harness-review.1",
    "git-harness-approve.1",
    "git-harness-reject.1",
    "git-harness-queue.1",
    "git-harness-why.1",
    "git-harness-blame.1",
    "git-harness-verify.1",
    "git-harness-retry.1",
    "git-harness-skill.1",
    "git-harness-skip.1",
    "git-harness-cancel.1",
    "git-harness-collect.1",
    "git-harness-sweep.1",
    "git-harness-demo.1",
    "git-harness-man.1",
    "git-harness-completions.1",
    "githarness-job.5",
    "githarness-preset.7",
    "githarness-security.7",
    "githarness-internals.7",
];

/// `git harness man`
pub(crate) fn run(args: &cli::ManArgs, ui: &Ui) -> Result<u8> {
    if !args.install {
        let wanted = args.page.as_deref().unwrap_or("git-harness");
        let page = PAGES.iter().find(|(name, _)| {
            name.rsplit_once('.').is_some_and(|(stem, _)| stem == wanted) || *name == wanted
        });
        let Some((_, text)) = page else {
            let names: Vec<_> = PAGES.iter().map(|(n, _)| *n).collect();
            let hint = format!("there is: {}", names.join(", "));
            return Err(Advice::new(format!("no such page: {wanted}"), hint).into());
        };
        ui.result(text);
        return Ok(error::OK);
    }
    let prefix = match &args.prefix {
        Some(prefix) => prefix.clone(),
        None => prefix().context(
            "cannot tell where this program is installed; name a folder with `--prefix`",
        )?,
    };
    for (name, text) in PAGES {
        let section = name.rsplit_once('.').map_or("1", |(_, s)| s);
        let folder = prefix.join("share/man").join(format!("man{section}"));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let path = folder.join(name);
        write_atomic(&path, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    ui.status(&format!("wrote {} pages below {}", PAGES.len(), prefix.join("share/man").display()));
    Ok(error::OK)
}

/// Returns the installation prefix: the parent of the folder that holds this program. `man`
/// searches `../share/man` of every folder in PATH, and so finds pages below the prefix.
pub(crate) fn prefix() -> Option<PathBuf> {
    let program = ambient::program().ok()?;
    Some(program.parent()?.parent()?.to_path_buf())
}
