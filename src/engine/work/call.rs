//! The command line of an agent: from the job for a plain command, and from the preset for any
//! other program.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::attempt::{AttemptLaunch, path_text, pinned_argv};
use crate::agent::preset::{COMMAND, InvocationRequest, Preset, invocation};
use crate::domain::id::TaskId;
use crate::engine::Context;
use crate::job::{AgentSection, placeholders};
use crate::keeper::files;
use crate::process::Environ;

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
    pub argv: Vec<String>,
    /// True if the prompt goes to standard input.
    pub prompt_on_stdin: bool,
    /// The preset, for the keeper. `None` for a plain command.
    pub preset: Option<Preset>,
    /// The names of ambient variables that are passed on.
    pub pass: Vec<String>,
    /// The names of passed variables whose values are redacted in transcripts.
    pub secrets: Vec<String>,
    /// Variables to set.
    set: Vec<(String, String)>,
    /// Variables to remove.
    unset: Vec<String>,
    /// The longest time without progress.
    pub idle: Duration,
    /// The longest time in total.
    pub timeout: Duration,
}

impl AgentCall {
    /// Applies the preset's variables to the environment.
    pub(in crate::engine) fn apply_env(&self, env: &mut Environ) {
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

/// Builds the command line of a program for an attempt.
pub(in crate::engine) fn build_call(
    ctx: &Context,
    program: AgentProgram<'_>,
    task: &TaskId,
    attempt: u32,
    launch: &AttemptLaunch,
    input: CallInput<'_>,
) -> Result<AgentCall> {
    let AgentProgram { agent, preset } = program;
    if preset.name == COMMAND {
        return command_call(ctx, agent, task, attempt, launch, input);
    }
    let last_message = path_text(&input.dir.join(files::LAST_MESSAGE));
    let invoked = invocation(
        preset,
        &InvocationRequest {
            resume: launch.resumed.is_some(),
            session_id: launch.session.as_deref(),
            model: agent.model.as_deref(),
            prompt: input.prompt,
            prompt_file: &path_text(input.prompt_file),
            cwd: &path_text(input.worktree),
            last_message_file: Some(&last_message),
            max_turns: agent.max_turns,
            budget_usd: launch.budget.map(|cost| cost.usd()),
            permissions: agent.permissions.as_deref(),
            args: &agent.args,
            is_root: rustix::process::geteuid().is_root(),
        },
    )?;
    let is_secret = |name: &&String| SECRET_WORDS.iter().any(|word| name.contains(word));
    let secrets = agent.env.iter().chain(invoked.env_pass.iter().filter(is_secret)).cloned();
    let timeout = |is_set: bool, job: Duration, preset: Option<Duration>| {
        if is_set { job } else { preset.unwrap_or(job) }
    };
    Ok(AgentCall {
        argv: pinned_argv(ctx, &launch.checkout, invoked.argv)?,
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
    task: &TaskId,
    attempt: u32,
    launch: &AttemptLaunch,
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
        task_id: task.as_str(),
        task_files: &ctx.task(task)?.files,
        worktree: &path_text(input.worktree),
        output: input.output,
        base: launch.base.as_str(),
        run: ctx.run.as_str(),
        attempt,
        feedback_file: input.feedback_file,
    };
    Ok(AgentCall {
        argv: pinned_argv(ctx, &launch.checkout, placeholders::expand(&agent.command, &values))?,
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
