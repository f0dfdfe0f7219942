//! A tree that the queue wants to know about: known verdicts first, then a keeper in a place that no branch's author has used.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::desk::{Desk, Rules};
use crate::ambient;
use crate::domain::id::{Oid, RunId};
use crate::domain::verdict::{CheckReport, Verdict};
use crate::engine::work::verification::{clear, never_started};
use crate::error::Advice;
use crate::failpoint;
use crate::keeper::files;
use crate::process::{self, Environ, Lock};
use crate::verify::{self, CheckStage, CheckSubject};
use crate::wire::keeper::{Assignment, CheckStep, ChecksOutcome, ChecksWork, Work, WorktreeSpec};

/// How often a keeper that never began is started anew.
const MAX_FAILED_STARTS: u32 = 3;

/// A tree to be judged.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// A commit with that tree.
    pub commit: Oid,
    /// The tree.
    pub tree: Oid,
    /// The target's tip, whose rules hold.
    pub tip: Oid,
}

/// What was said of it, and the lines for its note.
#[derive(Debug)]
pub(super) struct Judged {
    pub verdict: CheckReport,
    pub lines: Vec<String>,
}

/// The checks of a tree as steps, with what is known of it; `vouched` are the ids that the book names. When a failure is looked at
/// once more, that it failed before says nothing.
pub(super) fn steps(
    desk: &Desk,
    rules: &Rules,
    case: &Case,
    worktree: &str,
    vouched: &HashSet<String>,
    again: bool,
) -> Result<Vec<CheckStep>> {
    let run = RunId::parse("queue")?;
    let worktree = rules.worktrees.join(worktree).to_string_lossy().into_owned();
    let subject = CheckSubject { run: &run, task: None, base: &case.tip, worktree: &worktree };
    let mut steps = verify::steps(&rules.job, CheckStage::Landing, &subject, &rules.salt);
    if steps.is_empty() {
        let short = desk.short();
        let what =
            format!("no check in `{short}:{}` says anything of a branch", crate::job::FILE_NAME);
        let hint = "add a `[[check]]` with `run` and without `{task…}`; without one everything would land unseen";
        return Err(Advice::new(what, hint).into());
    }
    let (voucher, trusts) = (desk.voucher(), rules.job.queue.trust_verdicts);
    verify::add_recorded_verdicts_if(&desk.store, &rules.job, &case.tree, &mut steps, &|line| {
        let vouched = trusts || (line.run == voucher && vouched.contains(&line.id));
        Ok(vouched && (line.pass || !again))
    })?;
    Ok(steps)
}

/// Judges a tree that is not known, in a place of the queue.
pub(super) fn judge(
    desk: &Desk,
    rules: &Arc<Rules>,
    case: &Case,
    steps: &[CheckStep],
    worktree: &str,
) -> Result<Judged> {
    let dir = desk.store.local().queue(&desk.key()).join("checks").join(worktree);
    std::fs::create_dir_all(dir.join(files::TMP))
        .with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let lock_path = dir.join(files::LOCK);
    let (mut started, mut stillborn) = (false, 0);
    loop {
        // A keeper of an earlier process may be at work there: what it says may be just what is wanted.
        let lock = Lock::wait(&lock_path)?;
        let before = Assignment::read(&dir)?;
        if let Some(outcome) = ChecksOutcome::read(&dir)?
            && before.as_ref().is_some_and(|spec| {
                spec.asks(case.tree.as_str(), steps, &rules.worktrees.join(worktree))
            })
        {
            let verdict = verify::verdict(&outcome, steps, 0);
            let lines = verify::note_lines(&outcome, &verdict, &desk.voucher(), None);
            clear(&dir)?;
            return Ok(Judged { verdict, lines });
        }
        if let Some(old) = before {
            // A keeper died here, or judged another tree; nothing of it may linger.
            process::kill_marked(&old.marker);
        }
        if started {
            let said = std::fs::read_to_string(dir.join(files::LOG)).unwrap_or_default();
            let last = said.lines().next_back().unwrap_or("it left no word").to_owned();
            clear(&dir)?;
            let fault = format!("the keeper of the checks died: {last}");
            let verdict = Verdict::Errored(fault);
            return Ok(Judged {
                verdict: CheckReport { verdict, results: Vec::new() },
                lines: Vec::new(),
            });
        }
        clear(&dir)?;
        std::fs::create_dir_all(dir.join(files::TMP))?;
        spec(desk, rules, case, steps, worktree).write(&dir)?;
        failpoint::hit("checks.spec-written");
        let env = environment(desk, &dir);
        desk.keepers.assign(&desk.program, worktree, &dir, &lock, &env)?;
        failpoint::hit("checks.keeper-started");
        drop(lock);
        drop(Lock::wait(&lock_path)?);
        if never_started(&lock_path) && stillborn < MAX_FAILED_STARTS {
            stillborn += 1;
        } else {
            started = true;
        }
    }
}

fn spec(
    desk: &Desk,
    rules: &Rules,
    case: &Case,
    steps: &[CheckStep],
    worktree: &str,
) -> Assignment {
    let local = desk.store.local().queue(&desk.key());
    Assignment {
        v: crate::wire::VERSION,
        common_dir: desk.store.repo().common_dir().to_path_buf(),
        marker: format!("queue.{}.{worktree}.{}", desk.key(), ambient::nonce()),
        worktree: WorktreeSpec {
            name: worktree.to_owned(),
            path: rules.worktrees.join(worktree),
            index: local.join("worktrees").join(worktree),
            commit: case.commit.to_string(),
            branch: None,
            setup: rules.job.worktree.setup.clone(),
            keep: rules.job.worktree.keep.patterns().to_vec(),
            overlay: rules.overlay.clone(),
        },
        work: Work::Checks(ChecksWork {
            tree: case.tree.to_string(),
            checks: steps.to_vec(),
            tasks: Vec::new(),
        }),
    }
}

fn environment(desk: &Desk, dir: &std::path::Path) -> Environ {
    let mut env =
        Environ::for_command(&desk.environment, &dir.join(files::TMP), &desk.identity, &[]);
    if cfg!(debug_assertions) {
        for name in [failpoint::COUNTER, failpoint::AT] {
            if let Some(value) = desk.environment.get(std::ffi::OsStr::new(name)) {
                env.set(name, value);
            }
        }
    }
    env
}
