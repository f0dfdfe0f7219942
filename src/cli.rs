//! Types of the command line. Their doc comments are the help texts, and part of the man pages.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

mod accounts;
mod jobs;
mod queue;
mod reviews;
mod tasks;
mod why;

pub(crate) use accounts::{AccountsArgs, AccountsCommand};
pub(crate) use jobs::{InitArgs, NewArgs, ValidateArgs};
pub(crate) use queue::{
    QueueAction, QueueAddArgs, QueueArgs, QueueListArgs, QueueRejectArgs, QueueRunArgs,
};
pub(crate) use reviews::{ApproveArgs, RejectArgs, ReviewArgs, ReviewFormat};
pub(crate) use tasks::{RetryArgs, RunsArgs, ShowArgs, SkipArgs, VerifyArgs};
pub(crate) use why::{BlameArgs, WhyArgs};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Carry out large AI coding jobs as many small, checked agent sessions, with all state in git
///
/// A job file (`harness.toml`) describes the job. `git harness start` plans the job as a set of
/// tasks. An independent agent process works on each task, in a git worktree and branch of its own.
/// Programs check the results, and candidates that pass land on the target branch. All state of a
/// run is in `refs/harness/*`. A run can be killed at any moment and started again: no finished
/// work is lost or done twice.
#[derive(Debug, Parser)]
#[command(name = "git-harness", bin_name = "git harness", version, max_term_width = 100)]
pub struct Cli {
    /// Run as if started in this folder
    #[arg(short = 'C', global = true, value_name = "DIR", hide_short_help = true)]
    pub directory: Option<PathBuf>,
    /// The command
    #[command(subcommand)]
    pub command: Verb,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a job from a recipe
    Init(InitArgs),
    /// Plan a job and carry it out, or continue its run
    Start(StartArgs),
    /// Show the state of a run
    Status(StatusArgs),
    /// List the runs
    Runs(RunsArgs),
    /// Take one step of a run: record results, start agents, land candidates
    Poll(PollArgs),
    /// Stop a run after its running agents have finished, or at once with `--now`
    Stop(StopArgs),
    /// Show the tasks of a job without starting it
    Plan(PlanArgs),
    /// Check a job file without running anything
    Validate(ValidateArgs),
    /// Check that everything that a job needs is installed
    Doctor(DoctorArgs),
    /// Have an agent write a job, checked by a program and graded by another session
    New(NewArgs),
    /// List agent presets, or classify a captured session
    Agent(AgentArgs),
    /// List the accounts that a limit of the service has closed, or open one
    Accounts(AccountsArgs),
    /// Show the events of a run, or of one task
    Log(LogArgs),
    /// Show one task in full
    Show(ShowArgs),
    /// Merge the outputs of a run's tasks, also before the run has ended
    Collect(CollectArgs),
    /// List the candidates that wait for a review, or show one
    Review(ReviewArgs),
    /// Let reviewed candidates land
    Approve(ApproveArgs),
    /// Request changes to a candidate; the message is feedback for a new attempt
    Reject(RejectArgs),
    /// Land branches through a merge queue, with the checks of the target
    Queue(QueueArgs),
    /// Show the run, task, agent and checks behind a commit, also after a rebase or a squash
    Why(WhyArgs),
    /// Show the task or branch that each line of a file comes from
    Blame(BlameArgs),
    /// Run the checks of a task's candidate again
    Verify(VerifyArgs),
    /// Try failed tasks again, with new budgets
    Retry(RetryArgs),
    /// Take tasks out of a run
    Skip(SkipArgs),
    /// Cancel a run; landed work stays landed
    Cancel(RunArgs),
    /// Remove the worktrees, branches and refs of landed work
    Sweep(SweepArgs),
    /// Run a whole job with a scripted agent in a new, small repository
    Demo(DemoArgs),
    /// Print a SKILL.md for agents that use this program
    Skill,
    /// Show a man page, or install all pages for `git help harness`
    Man(ManArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Run one assignment of a supervisor
    #[command(hide = true)]
    Keeper {
        /// The keeper's folder
        dir: PathBuf,
    },
    /// Open the listeners of a sandbox and become its command
    #[command(hide = true)]
    EnterSandbox {
        /// An address to listen at
        #[arg(long)]
        listen: Vec<SocketAddr>,
        /// The socket of the proxy
        socket: PathBuf,
        /// The command
        #[arg(last = true)]
        argv: Vec<OsString>,
    },
}

/// A run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `sweep`
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Show what would be removed and how much space that frees; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `start`
#[derive(Debug, Clone, Default, Args)]
pub struct StartArgs {
    /// The job file, or the NAME of `.harness/NAME/harness.toml`; default `harness.toml` at the
    /// repository's top
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// The run to continue, or the name of a new run; default the job's last run, else `<job>-1`
    #[arg(long, value_name = "NAME")]
    pub run: Option<String>,
    /// Run at most this many agents at a time; default `[limits] jobs`
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// Plan only files below this folder; default `HARNESS_SCOPE_DIR`, else `[plan.scope] dir`
    #[arg(long, value_name = "DIR")]
    pub scope_dir: Option<String>,
    /// Plan only files that match this glob; default `HARNESS_SCOPE_FILES`, else `[plan.scope]
    /// files`
    #[arg(long, value_name = "GLOB")]
    pub scope_files: Option<String>,
    /// Carry out only this task, named by its path, its id or a part of either that no other task
    /// has; may be repeated
    #[arg(long, value_name = "TASK")]
    pub only: Vec<String>,
    /// Show the plan of the run and write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Create the run with all its refs, but start no agents
    #[arg(long)]
    pub paused: bool,
    /// Run in the background
    #[arg(long)]
    pub detach: bool,
    /// Continue a run that halted after failures, even if its job has not changed
    #[arg(long)]
    pub force: bool,
    /// Start tasks even if a task before them has failed or was skipped
    #[arg(long)]
    pub keep_going: bool,
    /// Plan the run again from the current base, and keep done tasks
    #[arg(long)]
    pub update: bool,
    /// Ignore recorded verdicts, and set all worktrees up again
    #[arg(long)]
    pub fresh: bool,
    /// Print only errors and the last line
    #[arg(short, long)]
    pub quiet: bool,
    /// Run as the background process of `--detach`
    #[arg(long, hide = true)]
    pub in_background: bool,
}

/// `status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The run; default the only active run, else the newest
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "porcelain")]
    pub json: bool,
    /// Print a line for each task in a stable format: state, task, attempts, landed commit or `-`
    #[arg(long)]
    pub porcelain: bool,
    /// Refresh until the run has ended
    #[arg(short, long, conflicts_with_all = ["json", "porcelain"])]
    pub watch: bool,
    /// Exit with 0 if every task has ended, 1 if some have not, 2 if there is no such run
    #[arg(long)]
    pub exit_code: bool,
}

/// `poll`
#[derive(Debug, Args)]
pub struct PollArgs {
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Run at most this many agents at a time; default `[limits] jobs`
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
}

/// `stop`
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Stop running agents, too, and save their work so far
    #[arg(long)]
    pub now: bool,
}

/// `plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The job file, or the NAME of `.harness/NAME/harness.toml`; default `harness.toml` at the
    /// repository's top
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// Plan only files below this folder; default `HARNESS_SCOPE_DIR`, else `[plan.scope] dir`
    #[arg(long, value_name = "DIR")]
    pub scope_dir: Option<String>,
    /// Plan only files that match this glob; default `HARNESS_SCOPE_FILES`, else `[plan.scope]
    /// files`
    #[arg(long, value_name = "GLOB")]
    pub scope_files: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["dot", "edges"])]
    pub json: bool,
    /// Print the graph of the tasks for Graphviz, with arrows from tasks to their dependencies
    #[arg(long, conflicts_with = "edges")]
    pub dot: bool,
    /// Print the import graph as JSON: an object with a list of imported paths for each path
    #[arg(long, conflicts_with = "diff")]
    pub edges: bool,
    /// Write the prompt of each task's first attempt into this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "dot", "edges", "diff"])]
    pub prompts: Option<PathBuf>,
    /// Show the changes that `start` would make to the plan of the job's last run
    #[arg(long, conflicts_with = "dot")]
    pub diff: bool,
    /// With `--diff`: compare with the plan of this run
    #[arg(long, value_name = "NAME", requires = "diff")]
    pub run: Option<String>,
    /// With `--diff`: plan from the current base, like `start --update`
    #[arg(long, requires = "diff")]
    pub update: bool,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The job file, or the NAME of `.harness/NAME/harness.toml`; default `harness.toml` at the
    /// repository's top
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// Repair what interrupted processes of git-harness have left behind
    #[arg(long)]
    pub fix: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `agent`
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The command
    #[command(subcommand)]
    pub command: AgentCommand,
}

/// The commands of `agent`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// List the presets, the versions they were tested with, and their features
    List(AgentListArgs),
    /// Classify a captured session, as JSON
    Classify(AgentClassifyArgs),
}

/// `agent list`
#[derive(Debug, Args)]
pub struct AgentListArgs {
    /// Also list the presets of this job file
    #[arg(long, value_name = "FILE")]
    pub job: Option<PathBuf>,
    /// Print the presets in full, as JSON
    #[arg(long)]
    pub json: bool,
}

/// `agent classify`
#[derive(Debug, Args)]
pub struct AgentClassifyArgs {
    /// The preset
    #[arg(value_name = "PRESET")]
    pub preset: String,
    /// The exit code of the program
    #[arg(long, value_name = "N", required_unless_present = "signal")]
    pub exit: Option<i32>,
    /// The signal that ended the program
    #[arg(long, value_name = "N", conflicts_with = "exit")]
    pub signal: Option<i32>,
    /// The state of the worktree after the session: changed or not; default unknown
    #[arg(long, value_enum, value_name = "yes|no")]
    pub changed: Option<WorktreeChange>,
    /// The model, for its price, if the program does not report a model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The file into which the program wrote its last message
    #[arg(long, value_name = "FILE")]
    pub last_message: Option<PathBuf>,
    /// Use the presets of this job file
    #[arg(long, value_name = "FILE")]
    pub job: Option<PathBuf>,
    /// The program's standard output
    #[arg(value_name = "STDOUT")]
    pub stdout: PathBuf,
    /// The program's standard error
    #[arg(value_name = "STDERR")]
    pub stderr: Option<PathBuf>,
}

/// The answer to `--changed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WorktreeChange {
    /// The worktree had changed
    Yes,
    /// The worktree had not changed
    No,
}

/// `log`
#[derive(Debug, Args)]
pub struct LogArgs {
    /// A run, or a task: its path, its id, a part of either that no other task has, or RUN/TASK
    #[arg(value_name = "RUN|TASK", num_args = 0..=2)]
    pub names: Vec<String>,
    /// Show the output of a task's agent until its attempt ends
    #[arg(short, long)]
    pub follow: bool,
    /// Print a line of JSON for each event
    #[arg(long)]
    pub json: bool,
}

/// `collect`
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// The run; default the only active run, else the newest
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print JSON: a summary, the missing tasks, and each task's output
    #[arg(long, conflicts_with = "page")]
    pub json: bool,
    /// Print the page of the job's template (`[output] page`)
    #[arg(long)]
    pub page: bool,
}

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The folder of the new repository, which must not exist; default a new temporary folder
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Install all pages in the search path of `man`
    #[arg(long)]
    pub install: bool,
    /// Install below this folder instead of the program's prefix
    #[arg(long, value_name = "DIR", requires = "install")]
    pub prefix: Option<PathBuf>,
    /// Show this page; default git-harness
    #[arg(value_name = "PAGE")]
    pub page: Option<String>,
}

/// `completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
