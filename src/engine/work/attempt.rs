//! The supervisor's side of an attempt: starts the keeper, waits for its end, and reads the
//! outcome.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::assignment::{
    AssignmentFolder, EarlierResult, Finished, Handover, KeeperWait, KeeperWork, OnDeath,
};
use super::call::{self, AgentProgram, CallInput, SessionCall, path_text};
use crate::agent::classify::{Intervention, SessionExit, classify, last_lines};
use crate::agent::{brief, prompt};
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Observation;
use crate::domain::session::{Class, Cost, SessionReport};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, Finding};
use crate::engine::{Context, recover};
use crate::job;
use crate::keeper::{self, files};
use crate::landing::message;
use crate::planning;
use crate::repo;
use crate::store::chain::Payload;
use crate::store::layout;
use crate::wire::decode;
use crate::wire::keeper::{
    Assignment, AttemptWork, PublishedAttempt, WireAuthor, WithheldFile, Work, WorktreeSpec,
};

/// The outcome of an attempt. All fields are empty while the keeper runs and is not awaited.
#[derive(Debug, Default)]
pub(in crate::engine) struct AttemptOutcome {
    /// The observation for the state machine.
    pub observation: Option<Observation>,
    /// The files that go onto the task's chain with the event.
    pub payload: Option<Payload>,
    /// The commit that the keeper published. Its ref is deleted when the event is durable.
    pub published: Option<Oid>,
    /// The files that were left out of the candidate, because they have a known secret.
    pub withheld: Vec<WithheldFile>,
    /// The worktree whose content is saved once the event is recorded, and the content.
    pub rescued: Option<(repo::Worktree, Oid)>,
    /// Notes for the person who watches.
    pub notes: Vec<String>,
}

/// The parameters of a new attempt.
#[derive(Debug, Clone)]
pub(in crate::engine) struct AttemptLaunch {
    /// The name of the worktree.
    pub worktree: String,
    /// The commit that the attempt starts from.
    pub base: Oid,
    /// The commit that is checked out: the base or, for a resumed session, the work of the session
    /// so far.
    pub checkout: Oid,
    /// The session's id, if the agent has sessions.
    pub session: Option<String>,
    /// The reason for resuming the session. `None` for a new session.
    pub resumed: Option<String>,
    /// The number of the attempt whose rejected work is checked out, if the attempt continues it.
    pub work: Option<u32>,
    /// All findings so far.
    pub findings: Vec<Finding>,
    /// The largest cost of the attempt, if the job has a limit.
    pub budget: Option<Cost>,
}

/// The result of a launch.
#[derive(Debug)]
pub(in crate::engine) enum Launched {
    /// A keeper was started.
    Started(Box<Handover>),
    /// Nothing was started: the task does not fit into the model's context window, for this reason.
    TooLarge(String),
}

/// Starts an attempt's keeper.
pub(in crate::engine) fn launch(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    launch: &AttemptLaunch,
) -> Result<Launched> {
    let folder = AssignmentFolder::create(ctx.attempt_dir(task, attempt))?;
    let worktree = attempt_worktree(ctx, task, launch);
    link_task(ctx, task, &worktree.path);
    let rendered = render(ctx, task, attempt, launch)?;
    let prompt = match &launch.resumed {
        // The size of a resumed session is unknown, so the limit is not checked. The agent's
        // program reports an overflow.
        Some(why) => prompt::continuation(why, &rendered),
        None => match too_large(ctx, task, launch, &rendered)? {
            Some(why) => return Ok(Launched::TooLarge(why)),
            None => rendered,
        },
    };
    let handover = handover(ctx, (task, attempt), launch, folder.path(), worktree, prompt)?;
    folder.start(&*ctx.keepers, &handover)?;
    Ok(Launched::Started(Box::new(handover)))
}

/// Returns everything that the keeper of an attempt gets.
fn handover(
    ctx: &Context,
    (task, attempt): (&TaskId, u32),
    launch: &AttemptLaunch,
    dir: &Path,
    worktree: WorktreeSpec,
    prompt: String,
) -> Result<Handover> {
    let feedback = match launch.findings.is_empty() {
        true => String::new(),
        false => path_text(&dir.join(files::FEEDBACK)),
    };
    let output = ctx.job.output.as_ref().map(|output| output.path.as_str());
    let session = SessionCall {
        task,
        attempt,
        base: &launch.base,
        checkout: &launch.checkout,
        id: launch.session.as_deref(),
        resumes: launch.resumed.is_some(),
        budget: launch.budget,
    };
    let input = CallInput {
        dir,
        worktree: &worktree.path,
        prompt: &prompt,
        prompt_file: &dir.join(files::PROMPT),
        feedback_file: &feedback,
        output: output.unwrap_or_default(),
    };
    let program = AgentProgram { agent: &ctx.job.agent, preset: &ctx.preset };
    let call = call::build_call(ctx, program, session, input)?;
    let output_file = output.map_or_else(PathBuf::new, |path| worktree.path.join(path));
    Ok(Handover {
        common_dir: ctx.store.repo().common_dir().to_path_buf(),
        name: format!("{}.{task}.{attempt}", ctx.run),
        work: Work::Attempt(Box::new(AttemptWork {
            run: ctx.run.to_string(),
            task: task.to_string(),
            attempt,
            publish: ctx.attempt_ref(task, attempt),
            session: call.session_work()?,
            base: launch.base.to_string(),
            author: WireAuthor {
                name: ctx.identity.name.clone(),
                email: ctx.identity.email.clone(),
            },
            message: message::candidate(&ctx.subject(task, attempt)?),
            output: output.map(str::to_owned),
            unsandboxed: ctx.sandbox_choice().missing(),
        })),
        environment: call.environment(ctx, session, input, &output_file),
        sandbox: ctx.session_sandbox(&ctx.preset, session.resumes)?,
        files: vec![(files::FEEDBACK, feedback_text(&launch.findings)), (files::PROMPT, prompt)],
        key: ctx.store.seal_key()?.clone(),
        worktree,
    })
}

/// Returns a message if a task does not fit into the model's context window. Planning has checked
/// this, but findings make the prompt longer, and landed commits may have made the sources longer.
fn too_large(
    ctx: &Context,
    task: &TaskId,
    launch: &AttemptLaunch,
    prompt_text: &str,
) -> Result<Option<String>> {
    let Some(budget) = ctx.job.plan.budget else { return Ok(None) };
    let repo = ctx.store.repo();
    let tree = repo.tree_of(&launch.base)?;
    let mut sources = 0;
    for path in &ctx.task(task)?.files {
        if let Some(bytes) = repo.read_blob_at(&tree, path)? {
            sources += planning::count_tokens(&bytes);
        }
    }
    let factor = planning::TokenLimit { max_tokens: 0, factor: budget.factor };
    let sources = factor.model_tokens(sources);
    let prompt = factor.model_tokens(planning::count_tokens(prompt_text.as_bytes()));
    Ok((!budget.holds(prompt, sources)).then(|| {
        format!(
            "the prompt has about {prompt} tokens and the sources {sources}: with as much again for the work that is more \
             than four fifths of {} (`context-window`)",
            budget.context_window
        )
    }))
}

fn attempt_worktree(ctx: &Context, task: &TaskId, launch: &AttemptLaunch) -> WorktreeSpec {
    WorktreeSpec {
        name: launch.worktree.clone(),
        path: ctx.worktrees.join(&launch.worktree),
        index: ctx.store.local().worktree_indexes(&ctx.run).join(&launch.worktree),
        commit: launch.checkout.to_string(),
        leftovers: Some(layout::leftovers(&ctx.run, &launch.worktree)),
        // With an output file, no branch is needed: `collect` and `show` return the file.
        branch: ctx.job.output.is_none().then(|| layout::branch(&ctx.run, task)),
        setup: ctx.job.worktree.setup.clone(),
        setup_inputs: ctx.job.worktree.setup_inputs.clone(),
        setup_control: Some(launch.base.to_string()),
        keep: ctx.job.worktree.keep.patterns().to_vec(),
        provided: Vec::new(),
    }
}

/// Links a worktree under the task's name, for people. Failures are ignored. Nothing is written
/// through a link, and nothing but a link is replaced.
fn link_task(ctx: &Context, task: &TaskId, worktree: &Path) {
    let folder = ctx.worktrees.join(recover::TASK_LINKS);
    let records = ctx.store.local().worktree_indexes(&ctx.run);
    if repo::claim_worktrees_folder(&ctx.worktrees, &records).is_err() {
        return;
    }
    std::fs::create_dir(&folder).ok();
    let link = folder.join(task.as_str());
    let is = |path: &Path, kind: fn(&std::fs::FileType) -> bool| {
        std::fs::symlink_metadata(path).is_ok_and(|meta| kind(&meta.file_type()))
    };
    if is(&folder, std::fs::FileType::is_dir) {
        if is(&link, std::fs::FileType::is_symlink) {
            std::fs::remove_file(&link).ok();
        }
        std::os::unix::fs::symlink(worktree, &link).ok();
    }
}

fn render(ctx: &Context, task: &TaskId, attempt: u32, launch: &AttemptLaunch) -> Result<String> {
    let template = ctx.template.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let mut brief = task_brief(ctx, task, attempt, &launch.base, &launch.findings)?;
    if let Some(earlier) = launch.work {
        let repo = ctx.store.repo();
        let (base, work) = (repo.tree_of(&launch.base)?, repo.tree_of(&launch.checkout)?);
        let diff = repo::unified_diff(repo, &base, &work)?;
        brief.work = Some(prompt::WorkBrief::new(earlier, diff, launch.base.short()));
    }
    prompt::render(template, &brief)
}

/// Returns the brief of a task, with its files as of a commit.
pub(in crate::engine) fn task_brief(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    commit: &Oid,
    findings: &[Finding],
) -> Result<prompt::Brief> {
    let task = ctx.task(task)?;
    let base = gix::ObjectId::from_hex(commit.as_str().as_bytes())?;
    let counted = planning::line_counts(&ctx.store.repo().local(), base, &task.files)?;
    let lines = task.files.iter().cloned().zip(counted);
    let lines = lines.filter_map(|(path, n)| Some((path, n?))).collect();
    let mut pinned = BTreeMap::new();
    for (_, name) in job::required_files(&ctx.job) {
        if let Some((_, source)) = ctx.overlay.iter().find(|(path, _)| path == name) {
            pinned.insert(name.clone(), std::fs::read_to_string(source)?);
        }
    }
    let subject = brief::BriefInput {
        job: &ctx.job,
        name: &ctx.manifest.job,
        run: &ctx.run,
        task: &task,
        base: commit,
        attempt,
        lines: &lines,
        findings,
        pinned: &pinned,
        sandboxed: ctx.sandbox_choice().is_sandboxed(),
    };
    Ok(brief::brief(&subject))
}

fn feedback_text(findings: &[Finding]) -> String {
    let section = |f: &Finding| format!("## Attempt {}, {}\n\n{}\n\n", f.attempt, f.check, f.text);
    findings.iter().map(section).collect()
}

/// An attempt whose keeper is awaited.
#[derive(Debug)]
struct AwaitedAttempt<'a> {
    ctx: &'a Context,
    task: &'a TaskId,
    attempt: u32,
    base: &'a Oid,
    /// `None` if an earlier supervisor has launched the attempt.
    handover: Option<Box<Handover>>,
}

impl KeeperWork for AwaitedAttempt<'_> {
    type Answer = AttemptOutcome;

    fn handover(&self) -> Result<Option<Handover>> {
        Ok(self.handover.as_deref().cloned())
    }

    fn answer(&self, _dir: &Path, _asked: Option<&Assignment>) -> Result<Option<AttemptOutcome>> {
        let (ctx, task, attempt) = (self.ctx, self.task, self.attempt);
        let published = ctx.store.read(&ctx.attempt_ref(task, attempt))?;
        published.map(|id| read_published(ctx, task, attempt, self.base, id)).transpose()
    }

    /// The worktree of a dead keeper has work to rescue.
    fn on_death(&self) -> OnDeath {
        OnDeath::Report
    }
}

/// Observes an attempt, which may be published, lost, never started, or still running. `handover`
/// is the result of the attempt's [`launch`], or `None` if an earlier supervisor called it.
pub(in crate::engine) fn observe_attempt(
    ctx: &Context,
    (task, attempt): (&TaskId, u32),
    base: &Oid,
    wait: KeeperWait,
    handover: Option<Box<Handover>>,
) -> Result<AttemptOutcome> {
    let dir = ctx.attempt_dir(task, attempt);
    let is_launched = handover.is_some();
    let awaited = AwaitedAttempt { ctx, task, attempt, base, handover };
    let never_started = || AttemptOutcome {
        observation: Some(Observation::NeverStarted { task: task.clone(), attempt }),
        ..AttemptOutcome::default()
    };
    if !dir.is_dir() {
        return Ok(awaited.answer(&dir, None)?.unwrap_or_else(never_started));
    }
    let folder = AssignmentFolder::create(dir)?;
    let finished = match (is_launched, wait) {
        (true, KeeperWait::Block) => Some(folder.wait_for_started(&*ctx.keepers, &awaited)?),
        (true, KeeperWait::Poll) => None,
        (false, KeeperWait::Block | KeeperWait::Poll) => {
            folder.carry_out(&*ctx.keepers, &awaited, wait, EarlierResult::Use)?
        }
    };
    let keeper = match finished {
        None => return Ok(AttemptOutcome::default()),
        Some(Finished::Answered(outcome)) => return Ok(outcome),
        Some(Finished::Died(keeper)) => keeper,
    };
    let Some(assignment) = keeper.assignment() else { return Ok(never_started()) };
    ctx.store.remove_lock_of_dead_keeper(&ctx.attempt_ref(task, attempt))?;
    // The rescue saves the work before the worktree is used again. A keeper that never started has
    // left nothing to rescue.
    let saved = match keeper.has_started() {
        true => {
            let env = recover::agent_environment(ctx, folder.path(), assignment);
            keeper::rescue(ctx.store.repo(), folder.path(), assignment, &env)
        }
        false => None,
    };
    let base_tree = ctx.store.repo().tree_of(base)?;
    let changed =
        saved.as_ref().is_some_and(|saved| saved.tree != base_tree || !saved.withheld.is_empty());
    let mut rescued = None;
    let mut payload = None;
    let mut withheld = Vec::new();
    let candidate = saved.map(|saved| {
        rescued = Some(saved.content);
        withheld = saved.withheld;
        payload = saved.stash.map(|id| attempt_payload(attempt, id));
        Candidate { commit: saved.commit, tree: saved.tree, base: base.clone() }
    });
    let last_line = keeper.last_line();
    let stderr = std::fs::read(folder.path().join(files::STDERR)).unwrap_or_default();
    Ok(AttemptOutcome {
        observation: Some(Observation::AttemptEnded {
            task: task.clone(),
            attempt,
            termination: Termination::Lost,
            candidate,
            changed,
            report: dead_keeper_report(ctx, folder.path()).map(Box::new),
            stderr: last_lines(&stderr),
        }),
        payload,
        withheld,
        rescued,
        notes: vec![format!(
            "{}: the keeper of attempt {attempt} died: {last_line}",
            ctx.label(task)
        )],
        ..AttemptOutcome::default()
    })
}

/// Returns the report of a session whose keeper died: the session id that the keeper recorded, and
/// the usage in the part of the output that the keeper wrote.
fn dead_keeper_report(ctx: &Context, dir: &Path) -> Option<SessionReport> {
    let session = std::fs::read_to_string(dir.join(files::SESSION)).ok()?;
    let session = Some(session.trim().to_owned()).filter(|id| !id.is_empty());
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
    let exit = SessionExit { intervention: Some(Intervention::Stopped), ..SessionExit::default() };
    let (stdout, stderr) = (bytes(files::STDOUT), bytes(files::STDERR));
    let read = classify(&ctx.preset, exit, &stdout, &stderr, None, None, ambient::now());
    Some(SessionReport { class: Class::Crashed, detail: None, session, ..read })
}

/// Reads the ref that a keeper published. An agent can write this ref, so its content is not
/// trusted: the tree is read from the commit, the base is the commit from which this run started
/// the attempt, and `changed` is computed.
fn read_published(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    base: &Oid,
    published: Oid,
) -> Result<AttemptOutcome> {
    let repo = ctx.store.repo();
    let tree = repo.tree_of(&published)?;
    let name = ctx.attempt_ref(task, attempt);
    let bytes = repo
        .read_blob_at(&tree, files::OUTCOME)?
        .with_context(|| format!("`{name}` holds no outcome"))?;
    let outcome: PublishedAttempt = decode(&name, &bytes)?;
    let candidate = match &outcome.candidate {
        None => None,
        Some(saved) => {
            let commit = Oid::parse(&saved.commit)?;
            let tree = repo.tree_of(&commit)?;
            Some(Candidate { commit, tree, base: base.clone() })
        }
    };
    let base_tree = repo.tree_of(base)?;
    let is_changed = candidate.as_ref().is_some_and(|c| c.tree != base_tree);
    let changed = is_changed || !outcome.withheld.is_empty();
    let stderr = repo.read_blob_at(&tree, files::STDERR)?;
    let label = ctx.label(task);
    let leftover = (outcome.leftover > 0).then(|| {
        format!(
            "{label}: attempt {attempt} left {} processes behind, they were ended",
            outcome.leftover
        )
    });
    let stash = outcome.stash.iter().enumerate().map(|(number, message)| {
        format!(
            "{label}: attempt {attempt} left an entry in its stash: `{message}`; its files are kept in {}:attempts/{attempt}/stash-{number}",
            layout::task(&ctx.run, task)
        )
    });
    let told = outcome.notes.iter().map(|note| format!("{label}: attempt {attempt}: {note}"));
    let notes = leftover.into_iter().chain(stash).chain(told).collect();
    Ok(AttemptOutcome {
        observation: Some(Observation::AttemptEnded {
            task: task.clone(),
            attempt,
            termination: outcome.termination.into(),
            candidate,
            changed,
            report: outcome.report.map(|r| Box::new(r.into())),
            stderr: stderr.and_then(|bytes| last_lines(&bytes)),
        }),
        payload: Some(attempt_payload(attempt, tree)),
        published: Some(published),
        withheld: outcome.withheld,
        rescued: None,
        notes,
    })
}

/// Returns the files of an attempt, for its folder on the task's chain.
fn attempt_payload(attempt: u32, tree: Oid) -> Payload {
    Payload { path: format!("attempts/{attempt}"), id: tree, is_tree: true }
}
