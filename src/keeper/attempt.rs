//! Attempts: runs the agent, ends its process tree, saves its work, and publishes the outcome as
//! one ref.

use std::path::Path;

use anyhow::{Context, Result};

use super::AssignedWork;
use super::files;
use super::network::{self, CommandNetwork};
use super::sandbox::{self, AgentCommits};
use super::session;
use super::setup;
use super::withhold::{CleanTree, Secrets, is_clean_history, withhold};
use super::worktree::{PreparedWorktree, prepare, redactor};
use crate::agent::preset::Preset;
use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::session::{Class, SessionReport, Usage};
use crate::domain::termination::Termination;
use crate::failpoint;
use crate::process::{self, CommandResult, Environ, Git, Redactor, RefMove, RefUpdates, StopFlag};
use crate::repo::{self, Head, Identity, Repo, Worktree};
use crate::wire::VERSION;
use crate::wire::facts::{WireSessionReport, WireTermination};
use crate::wire::keeper::{
    Assignment, AttemptWork, PublishedAttempt, SavedCommit, StreamSize, WithheldFile, Work, millis,
};

/// Runs an attempt to its end. Returns true if no process of the attempt is left.
pub(super) fn keep(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    work: &AttemptWork,
    stop: &StopFlag,
) -> Result<bool> {
    let began = ambient::instant();
    let base = Oid::parse(&work.base)?;
    let redactor = redactor(assigned)?;
    let preset = session::preset(&work.session)?;
    let mut given_up = None;
    let mut denied = Vec::new();
    let mut mark = None;
    let at = &assigned.assignment.worktree.commit;
    let secrets = Secrets::of(&assigned.assignment, &assigned.env)?;
    let mut notes = Vec::new();
    let (worktree, ended) = match prepare(repo, dir, assigned, at, stop) {
        Ok(PreparedWorktree { worktree, sandbox, notes: told }) => {
            notes = told;
            let prepared = began.elapsed();
            mark = setup::take_mark(&assigned.assignment.worktree);
            if let Some(folder) = work.output.as_ref().and_then(|o| Path::new(o).parent()) {
                std::fs::create_dir_all(worktree.path.join(folder))?;
            }
            failpoint::hit("keeper.before-agent");
            let session = (&work.session, preset.as_ref());
            let command = session::command(dir, assigned, session, &redactor, sandbox);
            let (command, connected) = network::connect_session(dir, assigned, command)?;
            let (ended, why) = session::run(&command, dir, preset.as_ref(), stop)?;
            given_up = why;
            denied = connected.map(CommandNetwork::close).unwrap_or_default();
            if let Some(preset) = &preset {
                clear_litter(repo, &assigned.assignment.worktree.path, preset, &base)?;
            }
            failpoint::hit("keeper.agent-ended");
            (Some((worktree, prepared)), Ok(ended))
        }
        Err(error) => (None, Err(format!("{error:#}"))),
    };
    let saving = ambient::instant();
    let mut outcome = PublishedAttempt {
        v: VERSION,
        termination: WireTermination::NotStarted(String::new()),
        candidate: None,
        report: None,
        wall_ms: 0,
        stdout: StreamSize::default(),
        stderr: StreamSize::default(),
        leftover: 0,
        prepare_ms: 0,
        save_ms: 0,
        sandbox: match &assigned.assignment.sandbox {
            Some(_) => Some(sandbox::NAME.to_owned()),
            None => work
                .unsandboxed
                .as_ref()
                .map(|why| format!("{}: {why}", crate::sandbox::UNSANDBOXED)),
        },
        withheld: Vec::new(),
        stash: Vec::new(),
        notes,
    };
    let mut content = None;
    let mut stash = Vec::new();
    let mut clean = true;
    match ended {
        Err(_) if stop.is_raised() => {
            outcome.termination = WireTermination::from(&Termination::Stopped);
        }
        Err(why) => outcome.termination = WireTermination::NotStarted(why),
        Ok(ended) => {
            clean = ended.survivors == 0;
            if let Termination::NotStarted(why) = &ended.termination {
                // The command itself is wrong, at least on this machine.
                let report = SessionReport::not_started(Class::BadInput, why.clone());
                outcome.report = Some(WireSessionReport::from(&report));
            }
            record_command(&mut outcome, ended);
        }
    }
    if let Some((worktree, prepared)) = &worktree {
        outcome.prepare_ms = millis(*prepared);
        let first = Oid::parse(&assigned.assignment.worktree.commit)?;
        let removed = is_removed(&assigned.assignment.worktree.path);
        let (commit, tree) = if removed {
            (base.clone(), repo.tree_of(&base)?)
        } else {
            let source = (&assigned.assignment, &assigned.env);
            let commits = sandbox::agent_commits(repo, dir, source, (worktree, &first))?;
            let saved = save(repo, worktree, (&first, &commits), work, &secrets)?;
            content = Some(saved.content);
            outcome.withheld = saved.withheld;
            (stash, outcome.stash) = stashed(repo, &commits.stash, &secrets)?;
            (saved.commit, saved.tree)
        };
        if let (Some(mark), false) = (&mark, removed) {
            let changed = repo::changed_contents(repo, &first, &tree)?;
            let paths = changed.iter().map(|(path, _)| path.as_str());
            setup::put_mark_back(&assigned.assignment.worktree, mark, paths)?;
        }
        let changed = tree != repo.tree_of(&base)? || !outcome.withheld.is_empty();
        outcome.candidate =
            Some(SavedCommit { commit: commit.to_string(), tree: tree.to_string() });
        let termination = Termination::from(outcome.termination.clone());
        if let (Some(preset), true) = (&preset, termination.began()) {
            let report = session::read(preset, dir, &termination, given_up, Some(changed));
            outcome.report = Some(WireSessionReport::from(&report));
        }
        if removed && termination.began() {
            let report = outcome.report.take().map(SessionReport::from);
            outcome.report = Some(WireSessionReport::from(&removed_report(report)));
        }
        failpoint::hit("keeper.saved");
    }
    outcome.save_ms = millis(saving.elapsed());
    network::record_denials(dir, &denied)?;
    publish(repo, dir, assigned, work, (&outcome, &stash), &redactor)?;
    if let Some((worktree, _)) = &worktree
        && worktree.admin.is_dir()
    {
        // The task's branch is deleted when the task lands. A worktree that stayed on the branch
        // would show a branch that does not exist.
        worktree.set_head(&Head::Detached, &base)?;
    }
    if let (Some((worktree, _)), Some(content)) = (&worktree, &content) {
        worktree.mark_saved(content)?;
    }
    Ok(clean)
}

/// Returns true if a worktree is no folder any more.
fn is_removed(path: &Path) -> bool {
    !std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Returns the report of a session whose agent removed its worktree. Usage and session are kept.
fn removed_report(report: Option<SessionReport>) -> SessionReport {
    let detail = "the agent removed its worktree".to_owned();
    let report = report.unwrap_or_else(|| SessionReport {
        usage: Usage::default(),
        ..SessionReport::not_started(Class::Blocked, String::new())
    });
    // A resumed session would find none of its changes. A new attempt starts clean.
    SessionReport { class: Class::Blocked, detail: Some(detail), ..report }
}

fn record_command(outcome: &mut PublishedAttempt, ended: CommandResult) {
    outcome.wall_ms = millis(ended.wall);
    outcome.stdout = StreamSize { printed: ended.stdout_bytes, kept: ended.stdout_kept };
    outcome.stderr = StreamSize { printed: ended.stderr_bytes, kept: ended.stderr_kept };
    outcome.leftover = ended.leftover;
    outcome.termination = WireTermination::from(&ended.termination);
}

/// Removes the files that the agent's program leaves at the top of the worktree, unless the project
/// has them.
fn clear_litter(repo: &Repo, folder: &Path, preset: &Preset, base: &Oid) -> Result<()> {
    if preset.litter.is_empty() || is_removed(folder) {
        return Ok(());
    }
    let litter = session::litter_globs(preset)?;
    let tree = repo.tree_of(base)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if litter.is_match(&name) && !repo.has_entry(&tree, &name)? {
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

/// The saved work of an attempt.
#[derive(Debug)]
struct SavedWork {
    /// The commit.
    commit: Oid,
    /// Its tree.
    tree: Oid,
    /// The content of the worktree as it is.
    content: Oid,
    /// The files that are not in the commit, because they have a known secret.
    withheld: Vec<WithheldFile>,
}

/// Saves the content of the worktree as a commit on top of `base`, the commit that was checked out,
/// or on top of the agent's own commits.
fn save(
    repo: &Repo,
    worktree: &Worktree,
    (base, commits): (&Oid, &AgentCommits),
    work: &AttemptWork,
    secrets: &Secrets,
) -> Result<SavedWork> {
    let base_tree = repo.tree_of(base)?;
    let snapshot = match &commits.index {
        Some(index) => repo::snapshot_with_index(repo, worktree, &base_tree, index),
        None => repo::snapshot(repo, worktree, &base_tree),
    };
    let snapshot = snapshot.context("cannot save the work of the attempt")?;
    // Later, the content is compared without the agent's index.
    let content = match commits.index.is_some() && snapshot.needs_index {
        true => repo::snapshot(repo, worktree, &base_tree)?.tree,
        false => snapshot.tree.clone(),
    };
    let mut head = commits.head.clone();
    let whole = match &work.output {
        Some(output) => with_output(repo, worktree, &snapshot.tree, output)?,
        None => snapshot.tree,
    };
    let CleanTree { tree, withheld } = withhold(repo, (&base_tree, &whole), secrets)?;
    if let Some(last) = &head
        && !(withheld.is_empty() && is_clean_history(repo, (base, last), secrets)?)
    {
        head = None;
    }
    let saved = |commit: Oid, tree: Oid| SavedWork { commit, tree, content, withheld };
    if work.base != base.as_str() && tree == base_tree {
        // A resumed session that changed nothing: the work of the earlier attempt stands.
        if head.as_ref().is_none_or(|head| head == base) {
            return Ok(saved(base.clone(), tree));
        }
    }
    // The agent may have committed. Commits on top of the base are kept. If HEAD does not descend
    // from the base, its history is not the task's, so only the content is taken.
    let head = head.filter(|h| repo.is_ancestor(base, h).unwrap_or(false));
    let parent = head.unwrap_or_else(|| base.clone());
    if parent != *base && repo.tree_of(&parent)? == tree {
        return Ok(saved(parent, tree));
    }
    let author = Identity { name: work.author.name.clone(), email: work.author.email.clone() };
    let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
    let commit = repo::commit(repo, &tree, &[parent], &work.message, &author, time)?;
    Ok(saved(commit, tree))
}

/// Trees with the names under which an attempt keeps them.
type NamedTrees = Vec<(String, Oid)>;

/// Returns the trees of stash entries with the names under which an attempt keeps them, and the
/// messages of the entries.
fn stashed(repo: &Repo, entries: &[Oid], secrets: &Secrets) -> Result<(NamedTrees, Vec<String>)> {
    let (mut kept, mut messages) = (Vec::new(), Vec::new());
    for (number, entry) in entries.iter().enumerate() {
        let info = repo::commit_info(repo, entry)?;
        messages.push(info.message.lines().next().unwrap_or_default().to_owned());
        let before = match info.parents.first() {
            Some(parent) => repo.tree_of(parent)?,
            None => repo::write_tree(repo, &[])?,
        };
        for (name, tree) in repo::stash_parts(repo, entry, &format!("stash-{number}"))? {
            kept.push((name, withhold(repo, (&before, &tree), secrets)?.tree));
        }
    }
    Ok((kept, messages))
}

/// Returns the tree with the output file added. The file can be missing from the tree because git
/// ignores it.
fn with_output(repo: &Repo, worktree: &Worktree, tree: &Oid, output: &str) -> Result<Oid> {
    let path = worktree.path.join(output);
    let is_file = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
    if !is_file || repo.has_entry(tree, output)? {
        return Ok(tree.clone());
    }
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let blob = repo::write_blob(repo, &bytes)?;
    repo::edit_tree(repo, Some(tree), &[(output.to_owned(), Some(blob))])
}

/// The work of an attempt whose keeper died.
#[derive(Debug)]
pub(crate) struct RescuedWork {
    /// The commit.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
    /// The worktree, and its content, which counts as saved once the commit is recorded.
    pub content: (Worktree, Oid),
    /// The files that are not in the commit, because they have a known secret.
    pub withheld: Vec<WithheldFile>,
    /// A tree with the entries of the agent's stash, if there are any.
    pub stash: Option<Oid>,
}

/// Saves the worktree of an attempt whose keeper died, after ending the attempt's processes.
/// Returns `None` if the worktree cannot be saved. `env` has the variables that the agent had.
pub(crate) fn rescue(
    repo: &Repo,
    dir: &Path,
    assignment: &Assignment,
    env: &Environ,
) -> Option<RescuedWork> {
    process::kill_marked(&assignment.marker);
    let Work::Attempt(work) = &assignment.work else { return None };
    let worktree =
        repo::open_worktree(repo, &assignment.worktree.path, &assignment.worktree.index).ok()?;
    let base = Oid::parse(&assignment.worktree.commit).ok()?;
    let secrets = Secrets::of(assignment, env).ok()?;
    let commits = sandbox::agent_commits(repo, dir, (assignment, env), (&worktree, &base));
    let commits = commits.unwrap_or_default();
    let saved = save(repo, &worktree, (&base, &commits), work, &secrets).ok();
    worktree.set_head(&Head::Detached, &base).ok();
    let saved = saved?;
    let (stash, _) = stashed(repo, &commits.stash, &secrets).unwrap_or_default();
    let stash = (!stash.is_empty()).then(|| with_trees(repo, None, stash).ok()).flatten();
    Some(RescuedWork {
        commit: saved.commit,
        tree: saved.tree,
        content: (worktree, saved.content),
        withheld: saved.withheld,
        stash,
    })
}

/// Imports the commits that an agent made in its private `.git`, if the keeper died before it could
/// do so: the last commit of `HEAD`, and the entries of the stash.
pub(crate) fn rescue_commits(
    repo: &Repo,
    dir: &Path,
    assignment: &Assignment,
    env: &Environ,
) -> Option<Vec<Oid>> {
    if !sandbox::is_left(dir) {
        return None;
    }
    let spec = &assignment.worktree;
    let worktree = repo::open_worktree(repo, &spec.path, &spec.index).ok()?;
    let base = Oid::parse(&spec.commit).ok()?;
    let commits = sandbox::agent_commits(repo, dir, (assignment, env), (&worktree, &base)).ok()?;
    let secrets = Secrets::of(assignment, env).ok()?;
    let found = commits.head.into_iter().chain(commits.stash);
    let is_clean = |tip: &Oid| is_clean_history(repo, (&base, tip), &secrets).unwrap_or(false);
    Some(found.filter(is_clean).collect())
}

/// Returns a tree with some trees added.
fn with_trees(repo: &Repo, tree: Option<&Oid>, added: NamedTrees) -> Result<Oid> {
    let tree = match tree {
        Some(tree) => tree.clone(),
        None => repo::write_tree(repo, &[])?,
    };
    let grafts: Vec<_> = added.into_iter().map(|(name, id)| (name, Some((id, true)))).collect();
    repo::edit_tree_entries(repo, &tree, &grafts)
}

/// Publishes the outcome. One compare-and-swap makes the attempt's work part of the repository
/// before a supervisor reads the outcome.
fn publish(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    work: &AttemptWork,
    (outcome, stash): (&PublishedAttempt, &[(String, Oid)]),
    redactor: &Redactor,
) -> Result<()> {
    let mut entries = Vec::new();
    let json = serde_json::to_vec_pretty(outcome)?;
    entries.push((files::OUTCOME.to_owned(), repo::write_blob(repo, &json)?));
    for name in [files::STDOUT, files::STDERR, files::PROMPT, files::DENIED] {
        if let Ok(bytes) = std::fs::read(dir.join(name)) {
            // The outputs were redacted when they were written. The other texts were not.
            let is_output = matches!(name, files::STDOUT | files::STDERR);
            let bytes = if is_output { bytes } else { redactor.clean(&bytes) };
            entries.push((name.to_owned(), repo::write_blob(repo, &bytes)?));
        }
    }
    let tree = with_trees(repo, Some(&repo::write_tree(repo, &entries)?), stash.to_vec())?;
    let mut parents = Vec::new();
    if let Some(saved) = &outcome.candidate {
        parents.push(Oid::parse(&saved.commit)?);
    }
    let termination = Termination::from(outcome.termination.clone());
    let message = format!(
        "{}: attempt {} {termination}\n\nHarness-V: {VERSION}\nHarness-Run: {}\nHarness-Task: {}\nHarness-Attempt: {}\nHarness-Nonce: {}\n",
        work.task,
        work.attempt,
        work.run,
        work.task,
        work.attempt,
        ambient::nonce()
    );
    let author = Identity { name: "git-harness".into(), email: "git-harness@localhost".into() };
    let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
    let commit = repo::commit(repo, &tree, &parents, &message, &author, time)?;
    failpoint::hit("keeper.before-publish");
    // A barrier makes this ref durable together with the work: the supervisor's barrier, or the
    // keeper's own if there is no supervisor.
    make_ref(repo, &assigned.env, &work.publish, &commit)?;
    failpoint::hit("keeper.published");
    Ok(())
}

/// Makes a ref that does not exist.
pub(super) fn make_ref(repo: &Repo, env: &Environ, name: &str, commit: &Oid) -> Result<()> {
    if process::create_loose_ref(repo.common_dir(), name, commit)? {
        return Ok(());
    }
    let private = repo.common_dir().join("harness").join("git");
    let env = env.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let git = Git::find_unchecked(repo.common_dir(), &private, &env)?;
    let (new, old) = (Some(commit.clone()), process::Expected::Absent);
    RefUpdates::in_bulk(&git)
        .transact(&[RefMove { name: name.to_owned(), new, old }])?
        .with_context(|| format!("cannot publish `{name}`"))?;
    Ok(())
}
