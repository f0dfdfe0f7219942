//! The keeper: a small process of our own between supervisor and agent, one for each place at a time.
//!
//! It takes case after case over the line to its supervisor, an attempt or a verification each, and ends when the
//! supervisor has gone and its case is done: starting a process and opening the repository costs several times what a
//! small case does.
//!
//! It outlives the supervisor, prepares the place, runs the command, ends the whole process tree, saves what is left and
//! says how it went in one place: a keeper of an attempt publishes one ref, a keeper of checks writes one file. The
//! keeper records, the supervisor decides. Its lock is the only sign of its life.

mod attempt;
mod built_in;
mod checks;
mod evaluation;
mod session;
mod worktree;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ambient;
use crate::failpoint;
use crate::process::{self, Environ, Holder, KeeperInbox, ReceivedAssignment, StopFlag};
use crate::repo::{self, Repo};
use crate::wire::keeper::{Assignment, Work};

pub(crate) use crate::wire::keeper::files;
pub(crate) use attempt::rescue;
pub(crate) use checks::verdict_key;
pub(crate) use session::OUTPUT_HEAD;

/// How long a place that was saved is taken to look the same still: nobody goes there between two cases that follow each
/// other at once.
const FRESH: Duration = Duration::from_secs(1);

/// The life of a keeper: `dir` is the folder of its first case.
pub(crate) fn main(dir: &Path) -> Result<()> {
    let lock = process::adopt_lock().context("this command is started by `git harness` itself")?;
    let inbox = KeeperInbox::adopt()?;
    let stop = StopFlag::on_terminate()?;
    // As many keepers as there are jobs work side by side: more threads in each would only wait for each other.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().ok();
    let mut env = Environ::empty();
    for (name, value) in ambient::environment() {
        env.set(name, value);
    }
    let mut bench = Bench::default();
    let mut handed = ReceivedAssignment { dir: dir.to_path_buf(), lock, env };
    loop {
        let clean = match case(&mut bench, &handed, inbox.as_ref(), &stop) {
            Ok(clean) => clean,
            Err(error) => {
                // Before the lock: whoever sees that it is free must not hand us anything more.
                drop(inbox);
                return Err(error);
            }
        };
        let since = ambient::instant();
        // Who asked meant this case; whoever sees its lock free may hand us the next.
        stop.lower();
        if !clean {
            drop(inbox);
            return Ok(());
        }
        drop(handed);
        let Some(inbox) = &inbox else { return Ok(()) };
        handed = match inbox.next(&stop)? {
            Some(next) => next,
            None => return Ok(()),
        };
        process::redirect_output(&handed.dir.join(files::LOG))?;
        repo::set_walk_trust(since.elapsed() < FRESH);
    }
}

/// One case, from taking it over to having said how it went. Says whether nothing that it started is left.
fn case(
    bench: &mut Bench,
    handed: &ReceivedAssignment,
    inbox: Option<&KeeperInbox>,
    stop: &StopFlag,
) -> Result<bool> {
    let ReceivedAssignment { dir, lock, env } = handed;
    lock.describe(&Holder::this_process().to_string())?;
    failpoint::hit("keeper.started");
    let assignment = Assignment::read(dir)?
        .with_context(|| format!("no assignment can be read in {}", dir.display()))?;
    let assigned = &AssignedWork { assignment, env: env.clone() };
    let repo = bench.repo(&assigned.assignment.common_dir)?;
    let clean = match &assigned.assignment.work {
        Work::Attempt(work) => attempt::keep(&repo, dir, assigned, work, stop)?,
        Work::Checks(work) => checks::keep(&repo, dir, assigned, work, stop)?,
        Work::Evaluation(work) => evaluation::keep(&repo, dir, assigned, work, stop)?,
    };
    // Who hands us cases makes what we did durable before anybody hears of it; without them, nobody else would.
    if !inbox.is_some_and(KeeperInbox::is_connected) {
        process::sync_fs(repo.common_dir()).context("the disk did not take what was written")?;
    }
    failpoint::hit("keeper.done");
    Ok(clean)
}

/// An assignment, and the environment of what it starts.
#[derive(Debug)]
struct AssignedWork {
    assignment: Assignment,
    env: Environ,
}

/// What stays from case to case.
#[derive(Debug, Default)]
struct Bench {
    repo: Option<(PathBuf, Repo)>,
}

impl Bench {
    fn repo(&mut self, common_dir: &Path) -> Result<Repo> {
        if let Some((dir, repo)) = &self.repo
            && dir == common_dir
        {
            return Ok(repo.clone());
        }
        let repo = Repo::discover(common_dir)?;
        self.repo = Some((common_dir.to_path_buf(), repo.clone()));
        Ok(repo)
    }
}

/// What two output files say together, cut in the middle to about `limit` bytes, without control characters.
fn excerpt(stdout: &Path, stderr: &Path, limit: usize) -> String {
    let mut text = String::new();
    for path in [stdout, stderr] {
        let bytes = std::fs::read(path).unwrap_or_default();
        let part = String::from_utf8_lossy(&bytes);
        let part = part.trim_end();
        if !text.is_empty() && !part.is_empty() {
            text.push('\n');
        }
        text.push_str(part);
    }
    let clean: String =
        text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect();
    shorten(&clean, limit)
}

/// Cuts the middle out of a long text: the beginning names the problem, the end sums it up.
fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let head = floor(limit * 3 / 4);
    let tail = floor(text.len() - limit / 4);
    format!("{}\n[… {} bytes left out …]\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn a_long_text_loses_its_middle_at_character_boundaries() {
        let text = format!("first{}last", "é".repeat(1000));
        let short = shorten(&text, 100);
        assert!(short.starts_with("first") && short.ends_with("last"), "{short}");
        assert!(short.len() < 160, "{}", short.len());
        assert_eq!(shorten("short", 100), "short");
    }
}
