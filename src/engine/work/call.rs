//! The command line of an agent: from the job for a plain command, and from the preset for any
//! other program.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::agent::preset::{COMMAND, InvocationRequest, Preset, invocation};
use crate::domain::id::{Oid, TaskId};
use crate::domain::session::Cost;
use crate::engine::Context;
use crate::job::{AgentSection, placeholders};
use crate::keeper::files;
use crate::process::Environ;
use crate::wire::keeper::{SessionWork, millis};

/// The longest prompt in bytes that is passed as an argument. Linux accepts 128 KiB, including the
/// final NUL (`MAX_ARG_STRLEN`).
const LONGEST_ARGUMENT: usize = 130_000;

/// Parts of variable names that mark a secret value. Presets also pass on addresses and regions,
/// which must stay readable in transcripts.
const SECRET_WORDS: [&str; 7] =
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "HEADER", "COOKIE"];

/// The command line of an agent, with its environment and limits.
#[derive(Debug)]
pub(in crate::engine) struct AgentCall {
    /// The program and its arguments.
    argv: Vec<String>,
    /// True if the prompt goes to standard input.
    prompt_on_stdin: bool,
    /// The preset, for the keeper. `None` for a plain command.
    preset: Option<Preset>,
    /// The names of ambient variables that are passed on.
    pass: Vec<String>,
    /// The names of passed variables whose values are redacted in transcripts.
    secrets: Vec<String>,
    /// Variables to set.
    set: Vec<(String, String)>,
    /// Variables to remove.
    unset: Vec<String>,
    /// The longest time without progress.
    idle: Duration,
    /// The longest time in total.
    timeout: Duration,
}

impl AgentCall {
    /// Returns the part of an assignment that calls the program.
    pub(in crate::engine) fn session_work(&self) -> Result<SessionWork> {
        Ok(SessionWork {
            argv: self.argv.clone(),
            prompt_on_stdin: self.prompt_on_stdin,
            timeout_ms: millis(self.timeout),
            idle_ms: Some(millis(self.idle)),
            preset: self.preset.as_ref().map(serde_json::to_value).transpose()?,
            secrets: self.secrets.clone(),
        })
    }

    /// Returns the environment of the program and its keeper, with the variables that tell an agent
    /// of its task. `output` is the file that the program is asked to write.
    pub(in crate::engine) fn environment(
        &self,
        ctx: &Context,
        session: SessionCall<'_>,
        input: CallInput<'_>,
        output: &Path,
    ) -> Environ {
        let mut env = ctx.keeper_environment(input.dir, &self.pass);
        self.apply_env(&mut env);
        env.set("HARNESS_RUN", ctx.run.as_str());
        env.set("HARNESS_TASK", session.task.as_str());
        env.set("HARNESS_ATTEMPT", session.attempt.to_string());
        env.set("HARNESS_WORKTREE", input.worktree.as_os_str());
        env.set("HARNESS_OUTPUT", output.as_os_str());
        env.set("HARNESS_PROMPT_FILE", input.prompt_file.as_os_str());
        env.set("HARNESS_FEEDBACK_FILE", input.feedback_file);
        env
    }

    /// Applies the preset's variables to the environment.
    fn apply_env(&self, env: &mut Environ) {
        for name in &self.unset {
            env.remove_all(name);
        }
        for (name, value) in &self.set {
            env.set(name, value);
        }
    }
}

/// The texts and files that a command line may contain.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct CallInput<'a> {
    /// The path of the output file. Empty if the job has no output file.
    pub output: &'a str,
    /// The keeper's folder.
    pub dir: &'a Path,
    /// The worktree.
    pub worktree: &'a Path,
    /// The prompt.
    pub prompt: &'a str,
    /// The file with the prompt.
    pub prompt_file: &'a Path,
    /// The file with the findings. Empty if there are none.
    pub feedback_file: &'a str,
}

/// The program of an agent or evaluator.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct AgentProgram<'a> {
    /// The section of the job.
    pub agent: &'a AgentSection,
    /// The preset.
    pub preset: &'a Preset,
}

/// The session that a command line starts or resumes.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct SessionCall<'a> {
    /// The task.
    pub task: &'a TaskId,
    /// The attempt.
    pub attempt: u32,
    /// The base of the task's work.
    pub base: &'a Oid,
    /// The commit that is checked out.
    pub checkout: &'a Oid,
    /// The session's id, if the program has sessions.
    pub id: Option<&'a str>,
    /// True if the session is resumed.
    pub resumes: bool,
    /// The largest cost, if there is a limit.
    pub budget: Option<Cost>,
}

/// Builds the command line of a program for a session.
pub(in crate::engine) fn build_call(
    ctx: &Context,
    program: AgentProgram<'_>,
    session: SessionCall<'_>,
    input: CallInput<'_>,
) -> Result<AgentCall> {
    let AgentProgram { agent, preset } = program;
    if preset.name == COMMAND {
        return command_call(ctx, agent, session, input);
    }
    let last_message = path_text(&input.dir.join(files::LAST_MESSAGE));
    let invoked = invocation(
        preset,
        &InvocationRequest {
            resume: session.resumes,
            session_id: session.id,
            model: agent.model.as_deref(),
            prompt: input.prompt,
            prompt_file: &path_text(input.prompt_file),
            cwd: &path_text(input.worktree),
            last_message_file: Some(&last_message),
            max_turns: agent.max_turns,
            budget_usd: session.budget.map(|cost| cost.usd()),
            permissions: agent.permissions.as_deref(),
            args: &agent.args,
            is_root: rustix::process::geteuid().is_root() && !ctx.sandbox_choice().is_sandboxed(),
        },
    )?;
    let is_secret = |name: &&String| SECRET_WORDS.iter().any(|word| name.contains(word));
    let secrets = agent.env.iter().chain(invoked.env_pass.iter().filter(is_secret)).cloned();
    let timeout = |is_set: bool, job: Duration, preset: Option<Duration>| {
        if is_set { job } else { preset.unwrap_or(job) }
    };
    Ok(AgentCall {
        argv: pinned_argv(ctx, session.checkout, invoked.argv)?,
        prompt_on_stdin: invoked.stdin_prompt,
        preset: Some(preset.clone()),
        secrets: secrets.collect(),
        pass: agent.env.iter().chain(&invoked.env_pass).cloned().collect(),
        set: invoked.env_set,
        unset: invoked.env_unset,
        idle: timeout(
            agent.idle_timeout_is_set,
            agent.idle_timeout,
            preset.timeouts.idle.map(|t| t.0),
        ),
        timeout: timeout(agent.timeout_is_set, agent.timeout, preset.timeouts.wall.map(|t| t.0)),
    })
}

fn command_call(
    ctx: &Context,
    agent: &AgentSection,
    session: SessionCall<'_>,
    input: CallInput<'_>,
) -> Result<AgentCall> {
    let mentions = |placeholder: &str| agent.command.iter().any(|a| a.contains(placeholder));
    if mentions("{prompt}") && input.prompt.len() > LONGEST_ARGUMENT {
        bail!(
            "the prompt has {} bytes, too many for an argument: use `{{prompt_file}}` or standard input",
            input.prompt.len()
        );
    }
    let values = placeholders::PlaceholderValues {
        prompt: input.prompt,
        prompt_file: &path_text(input.prompt_file),
        task_id: session.task.as_str(),
        task_files: &ctx.task(session.task)?.files,
        worktree: &path_text(input.worktree),
        output: input.output,
        base: session.base.as_str(),
        run: ctx.run.as_str(),
        attempt: session.attempt,
        feedback_file: input.feedback_file,
    };
    Ok(AgentCall {
        argv: pinned_argv(ctx, session.checkout, placeholders::expand(&agent.command, &values))?,
        prompt_on_stdin: !mentions("{prompt_file}") && !mentions("{prompt}"),
        preset: None,
        pass: agent.env.clone(),
        secrets: agent.env.clone(),
        set: Vec::new(),
        unset: Vec::new(),
        idle: agent.idle_timeout,
        timeout: agent.timeout,
    })
}

/// Replaces scripts in a command by their pinned copies. A script that the commit contains exactly
/// as pinned is not replaced. The copies let a job with uncommitted scripts run everywhere.
fn pinned_argv(ctx: &Context, base: &Oid, argv: Vec<String>) -> Result<Vec<String>> {
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

/// Returns a path as an argument.
pub(in crate::engine) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
