//! The only module that spawns.
//!
//! Three things leave this program: the commands of a job (agents, checks, the setup of a place), which a *keeper*
//! runs under supervision ([`run`]); the keepers themselves ([`start_keeper`]), which outlive whoever started them; and
//! `git`, where its own code is wanted ([`Git`], [`RefUpdates`]). Each gets an environment built from nothing
//! ([`Environ`]), and no process of ours is ever grouped, signalled or waited for anywhere else.
//!
//! Liveness is a lock and never a process number ([`Lock`]): the kernel gives a lock back when its holder dies, however
//! it dies. A process number is only ever used together with its start time, through a pidfd, to ask or to end.
//!
//! Beside these it owns what makes a file survive a power cut ([`write_atomic`], [`sync_fs`]).
//!
//! Linux is the platform. Elsewhere the module compiles and the plain parts work; ending a tree is then ending its
//! process group, and a process that left the group is not found.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that may spawn, and it times what it waits for"
)]
#![cfg_attr(test, expect(clippy::disallowed_macros, reason = "its tests start plain commands"))]

mod cgroup;
mod child;
mod command;
#[cfg(test)]
mod command_tests;
mod detach;
mod durable;
mod environ;
mod git;
mod keeper_link;
mod lock;
mod loose_ref;
mod output;
mod procfs;
mod program;
mod redact;
mod refs;
mod stop;
#[cfg(test)]
mod stop_tests;
mod terminal;
mod tree;
mod watchdog;

pub(crate) use child::{CommandResult, run, run_with_listener};
#[cfg(test)]
use command::Stdin;
pub(crate) use command::{Command, Containment};
pub(crate) use detach::{KeeperHandle, adopt_lock, ask_to_stop, start_keeper, start_linked_keeper};
pub(crate) use durable::{free_space, sync_fs, write_atomic, write_executable};
pub(crate) use environ::Environ;
pub use git::Git;
pub(crate) use keeper_link::{KeeperInbox, KeeperLink, ReceivedAssignment, redirect_output};
pub(crate) use lock::{Holder, Lock, start_time};
pub(crate) use loose_ref::create_loose_ref;
pub(crate) use program::find_in_path;
pub(crate) use redact::Redactor;
pub(crate) use refs::RefUpdates;
pub use refs::{Expected, RefMove};
pub(crate) use stop::{SignalTarget, StopFlag, StopSignal, StopStep};
pub(crate) use terminal::{interact, page};
pub(crate) use tree::kill_marked;
pub(crate) use watchdog::{Activity, Listener, OutputStream};

/// The variable that marks every process of one command, so that those which escaped a dead keeper can be found. Its
/// value is unique for each keeper.
pub(crate) const MARK: &str = "HARNESS_MARK";
