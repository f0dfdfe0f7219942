//! The supervisor's side of an attempt: starts the keeper, waits for its end, and reads the
//! outcome.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::call::{self, AgentProgram, CallInput};
use super::verification;
use crate::agent::{brief, prompt};
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Observation;
use crate::domain::session::{Class, Cost, SessionReport, Usage};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, Finding};
use crate::engine::{Context, KeeperWait};
use crate::failpoint;
use crate::job;
use crate::keeper::{self, files};
use crate::landing::message;
use crate::planning;
use crate::process::{Environ, Lock};
use crate::store::chain::Payload;
use crate::store::layout;
use crate::wire::decode;
use crate::wire::keeper::{
    Assignment, AttemptWork, PublishedAttempt, SessionWork, WireAuthor, Work, WorktreeSpec, millis,
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
    /// A note for the person who watches.
    pub note: Option<String>,
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
    /// All findings so far.
    pub findings: Vec<Finding>,
    /// The largest cost of the attempt, if the job has a limit.
    pub budget: Option<Cost>,
}

/// Starts an attempt's keeper. If the task does not fit into the model's context window, returns a
/// message and starts nothing.
pub(in crate::engine) fn launch(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    launch: &AttemptLaunch,
) -> Result<Option<String>> {
    let dir = ctx.attempt_dir(task, attempt);
    std::fs::create_dir_all(dir.join(files::TMP))
        .with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let lock = Lock::try_take(&dir.join(files::LOCK), "")?
        .map_err(|holder| anyhow::anyhow!("the attempt is being carried out already: {holder}"))?;
    let worktree = attempt_worktree(ctx, task, launch);
    link_task(ctx, task, &worktree.path);
    let prompt = dir.join(files::PROMPT);
    let rendered = render(ctx, task, attempt, launch)?;
    let prompt_text = match &launch.resumed {
        // The size of a resumed session is unknown, so the limit is not checked. The agent's
        // program reports an overflow.
        Some(why) => prompt::continuation(why, &rendered),
        None => match too_large(ctx, task, launch, &rendered)? {
            Some(why) => return Ok(Some(why)),
            None => rendered,
        },
    };
    std::fs::write(&prompt, &prompt_text)?;
    let feedback = dir.join(files::FEEDBACK);
    std::fs::write(&feedback, feedback_text(&launch.findings))?;
    let feedback_argument =
        if launch.findings.is_empty() { String::new() } else { path_text(&feedback) };
    let input = CallInput {
        dir: &dir,
        worktree: &worktree.path,
        prompt: &prompt_text,
        prompt_file: &prompt,
        feedback_file: &feedback_argument,
        output: ctx.job.output.as_ref().map_or("", |output| &output.path),
    };
    let program = AgentProgram { agent: &ctx.job.agent, preset: &ctx.preset };
    let call = call::build_call(ctx, program, task, attempt, launch, input)?;
    let spec = Assignment {
        v: crate::wire::VERSION,
        common_dir: ctx.store.repo().common_dir().to_path_buf(),
        marker: format!("{}.{task}.{attempt}.{}", ctx.run, ambient::nonce()),
        worktree,
        work: Work::Attempt(Box::new(AttemptWork {
            run: ctx.run.to_string(),
            task: task.to_string(),
            attempt,
            publish: ctx.attempt_ref(task, attempt),
            session: SessionWork {
                argv: call.argv.clone(),
                prompt_on_stdin: call.prompt_on_stdin,
                timeout_ms: millis(call.timeout),
                idle_ms: Some(millis(call.idle)),
                preset: call.preset.as_ref().map(serde_json::to_value).transpose()?,
                secrets: call.secrets.clone(),
            },
            base: launch.base.to_string(),
            author: WireAuthor {
                name: ctx.identity.name.clone(),
                email: ctx.identity.email.clone(),
            },
            message: message::candidate(&ctx.subject(task, attempt)?),
            output: ctx.job.output.as_ref().map(|output| output.path.clone()),
        })),
    };
    spec.write(&dir)?;
    failpoint::hit("attempt.spec-written");
    let mut env = environment(ctx, &dir, &call.pass);
    call.apply_env(&mut env);
    env.set("HARNESS_RUN", ctx.run.as_str());
    env.set("HARNESS_TASK", task.as_str());
    env.set("HARNESS_ATTEMPT", attempt.to_string());
    env.set("HARNESS_WORKTREE", spec.worktree.path.as_os_str());
    let output = ctx.job.output.as_ref().map(|output| spec.worktree.path.join(&output.path));
    env.set("HARNESS_OUTPUT", output.as_deref().unwrap_or(Path::new("")).as_os_str());
    env.set("HARNESS_PROMPT_FILE", prompt.as_os_str());
    env.set("HARNESS_FEEDBACK_FILE", feedback_argument);
    assign(ctx, &launch.worktree, &dir, &lock, &env)?;
    failpoint::hit("attempt.keeper-started");
    Ok(None)
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

/// Assigns a folder to the keeper of a worktree.
pub(in crate::engine) fn assign(
    ctx: &Context,
    worktree: &str,
    dir: &Path,
    lock: &Lock,
    env: &Environ,
) -> Result<()> {
    ctx.keepers.assign(&ctx.program, worktree, dir, lock, env)
}

/// Returns the environment of a keeper and its commands: built from nothing, with the variables in
/// `pass`.
pub(in crate::engine) fn environment(ctx: &Context, dir: &Path, pass: &[String]) -> Environ {
    let mut env =
        Environ::for_command(&ctx.environment, &dir.join(files::TMP), &ctx.identity, pass);
    if cfg!(debug_assertions) {
        for name in [failpoint::COUNTER, failpoint::AT] {
            if let Some(value) = ctx.environment.get(std::ffi::OsStr::new(name)) {
                env.set(name, value);
            }
        }
    }
    env
}

pub(in crate::engine) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn attempt_worktree(ctx: &Context, task: &TaskId, launch: &AttemptLaunch) -> WorktreeSpec {
    WorktreeSpec {
        name: launch.worktree.clone(),
        path: ctx.worktrees.join(&launch.worktree),
        index: ctx.store.local().worktree_indexes(&ctx.run).join(&launch.worktree),
        commit: launch.checkout.to_string(),
        // With an output file, no branch is needed: `collect` and `show` return the file.
        branch: ctx.job.output.is_none().then(|| layout::branch(&ctx.run, task)),
        setup: ctx.job.worktree.setup.clone(),
        keep: ctx.job.worktree.keep.patterns().to_vec(),
        overlay: Vec::new(),
    }
}

/// Links a worktree under the task's name, for people. Failures are ignored.
fn link_task(ctx: &Context, task: &TaskId, worktree: &Path) {
    let folder = ctx.worktrees.join("tasks");
    let link = folder.join(task.as_str());
    if std::fs::create_dir_all(&folder).is_ok() {
        std::fs::remove_file(&link).ok();
        std::os::unix::fs::symlink(worktree, &link).ok();
    }
}

/// Replaces scripts in a command by their pinned copies. A script that the commit contains exactly
/// as pinned is not replaced. The copies let a job with uncommitted scripts run everywhere.
pub(in crate::engine) fn pinned_argv(
    ctx: &Context,
    base: &Oid,
    argv: Vec<String>,
) -> Result<Vec<String>> {
    let tree = ctx.store.repo().tree_of(base)?;
    let mut out = Vec::with_capacity(argv.len());
    for arg in argv {
        let path = arg.strip_prefix("./").unwrap_or(&arg);
        let Some((_, source)) = ctx.overlay.iter().find(|(p, _)| p == path) else {
            out.push(arg);
            continue;
        };
        let committed = ctx.store.repo().read_blob_at(&tree, path)?;
        let same = committed.is_some_and(|bytes| std::fs::read(source).is_ok_and(|s| s == bytes));
        out.push(if same { arg } else { path_text(source) });
    }
    Ok(out)
}

fn render(ctx: &Context, task: &TaskId, attempt: u32, launch: &AttemptLaunch) -> Result<String> {
    let template = ctx.template.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    prompt::render(template, &task_brief(ctx, task, attempt, &launch.base, &launch.findings)?)
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
    };
    Ok(brief::brief(&subject))
}

fn feedback_text(findings: &[Finding]) -> String {
    let section = |f: &Finding| format!("## Attempt {}, {}\n\n{}\n\n", f.attempt, f.check, f.text);
    findings.iter().map(section).collect()
}

/// Observes an attempt, which may be published, lost, never started, or still running.
pub(in crate::engine) fn observe_attempt(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    base: &Oid,
    wait: KeeperWait,
) -> Result<AttemptOutcome> {
    let dir = ctx.attempt_dir(task, attempt);
    let lock_path = dir.join(files::LOCK);
    if dir.is_dir() {
        match wait {
            KeeperWait::Block => drop(Lock::wait(&lock_path)?),
            KeeperWait::Poll if Lock::is_held(&lock_path)? => return Ok(AttemptOutcome::default()),
            KeeperWait::Poll => {}
        }
    }
    if let Some(published) = ctx.store.read(&ctx.attempt_ref(task, attempt))? {
        return read_published(ctx, task, attempt, base, published);
    }
    let Some(spec) = Assignment::read(&dir)? else {
        let observation = Some(Observation::NeverStarted { task: task.clone(), attempt });
        return Ok(AttemptOutcome { observation, ..AttemptOutcome::default() });
    };
    // The keeper died without an outcome. The rescue kills its processes and saves its work before
    // the worktree is used again. A keeper that never started has left nothing to rescue.
    let began = !verification::never_started(&lock_path);
    let saved = if began { keeper::rescue(ctx.store.repo(), &spec) } else { None };
    let base_tree = ctx.store.repo().tree_of(base)?;
    let changed = saved.as_ref().is_some_and(|(_, tree)| *tree != base_tree);
    let candidate = saved.map(|(commit, tree)| Candidate { commit, tree, base: base.clone() });
    let log = std::fs::read_to_string(dir.join(files::LOG)).unwrap_or_default();
    let last_line = log.lines().next_back().unwrap_or("it left no log");
    Ok(AttemptOutcome {
        observation: Some(Observation::AttemptEnded {
            task: task.clone(),
            attempt,
            termination: Termination::Lost,
            candidate,
            changed,
            report: dead_keeper_report(&dir).map(Box::new),
        }),
        note: Some(format!("{task}: the keeper of attempt {attempt} died: {last_line}")),
        ..AttemptOutcome::default()
    })
}

/// Returns a session report with the session id that a dead keeper recorded.
fn dead_keeper_report(dir: &Path) -> Option<SessionReport> {
    let session = std::fs::read_to_string(dir.join(files::SESSION)).ok()?;
    Some(SessionReport {
        class: Class::Crashed,
        detail: None,
        session: Some(session.trim().to_owned()).filter(|id| !id.is_empty()),
        usage: Usage::default(),
        cumulative: false,
        resets_at: None,
        denials: 0,
    })
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
    let changed = candidate.as_ref().is_some_and(|c| c.tree != base_tree);
    let leftover = (outcome.leftover > 0).then(|| {
        format!(
            "{task}: attempt {attempt} left {} processes behind, they were ended",
            outcome.leftover
        )
    });
    Ok(AttemptOutcome {
        observation: Some(Observation::AttemptEnded {
            task: task.clone(),
            attempt,
            termination: outcome.termination.into(),
            candidate,
            changed,
            report: outcome.report.map(|r| Box::new(r.into())),
        }),
        payload: Some(Payload { path: format!("attempts/{attempt}"), id: tree, is_tree: true }),
        published: Some(published),
        note: leftover,
    })
}
