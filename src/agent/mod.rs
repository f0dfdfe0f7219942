//! Agents: prompts, invocations, and the classification of their output.
//!
//! An agent is any program that works on files. The prompt is the agent's only source of
//! information about the task.

pub(crate) mod brief;
pub(crate) mod classify;
pub(crate) mod evaluate;
pub(crate) mod filetype;
pub(crate) mod lint;
pub(crate) mod preset;
pub(crate) mod prompt;
pub(crate) mod transcript;
