//! The only module that spawns processes.
//!
//! This program starts three kinds of processes. The commands of a job (agents, checks, the setup
//! of a worktree) are run by a *keeper* under supervision ([`run`]). The keepers themselves
//! ([`start_keeper`]) outlive the process that started them. `git` is called for operations that
//! need git's own code ([`Git`], [`RefUpdates`]). Each process gets an environment that is built
//! from nothing ([`Environ`]). No other module groups, signals or waits for a process.
//!
//! Liveness is a lock and never a process number ([`Lock`]): the kernel releases a lock when its
//! holder dies, however it dies. A process number serves only to signal a process: through a pidfd,
//! and after a comparison of the start time.
//!
//! The module also writes files that survive a power cut ([`write_atomic`], [`sync_fs`]).
//!
//! Linux is the supported platform. On other platforms the module compiles and the plain parts
//! work. Killing a process tree there means killing its process group, and a process that has left
//! the group is not found.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that may spawn, and it times what it waits for"
)]
#![cfg_attr(test, expect(clippy::disallowed_macros, reason = "its tests start plain commands"))]

mod ancestry;
mod bubblewrap;
mod cgroup;
mod child;
mod command;
#[cfg(test)]
mod command_tests;
mod detach;
mod durable;
mod environ;
mod git;
mod import;
mod keeper_link;
mod lock;
mod loose_ref;
mod merge_tree;
mod orphans;
mod output;
mod ownership;
mod procfs;
mod program;
mod redact;
mod refs;
mod sandbox_entry;
mod signing;
mod stop;
#[cfg(test)]
mod stop_tests;
mod temp_folder;
mod terminal;
mod tree;
mod watchdog;

pub(crate) use ancestry::{assignment_of_this_process, hide_from_others};
pub(crate) use bubblewrap::{Confinement, Mount, ORDINARY_ID, Overlays};
pub(crate) use child::{CommandResult, run, run_with_listener};
#[cfg(test)]
use command::Stdin;
pub(crate) use command::{Command, Containment};
pub(crate) use detach::{
    KeeperHandle, adopt_lock, send_terminate, start_keeper, start_linked_keeper,
};
pub(crate) use durable::{free_space, sync_fs, write_atomic, write_executable};
pub(crate) use environ::Environ;
pub use git::Git;
pub(crate) use git::GitOutput;
pub(crate) use keeper_link::{KeeperInbox, KeeperLink, ReceivedAssignment, redirect_output};
pub(crate) use lock::{Holder, Lock, start_time};
pub(crate) use loose_ref::create_loose_ref;
pub(crate) use merge_tree::{TreeMerge, TreeMergeOutput};
pub(crate) use orphans::{describe_lock, marked_processes};
pub(crate) use ownership::{is_own_path, refusal_of_git};
pub(crate) use program::find_in_path;
pub(crate) use redact::{KnownSecrets, Redactor};
pub(crate) use refs::RefUpdates;
pub use refs::{Expected, RefMove};
pub(crate) use sandbox_entry::enter_sandbox;
pub(crate) use signing::{CommitDraft, CommitPerson};
pub(crate) use stop::{SignalTarget, StopFlag, StopSignal, StopStep};
pub(crate) use temp_folder::TempFolder;
pub(crate) use terminal::{interact, page};
pub(crate) use tree::kill_marked;
pub(crate) use watchdog::{Activity, Listener, OutputStream};

/// The environment variable that marks every process of one command, so that processes that escaped
/// a dead keeper can be found. Its value is unique for each keeper.
pub(crate) const MARK: &str = "HARNESS_MARK";

/// The environment variable that names the repository's common directory in every process that has
/// [`MARK`]. A command may work in other repositories, of which its marker says nothing.
pub(crate) const REPOSITORY: &str = "HARNESS_REPOSITORY";
