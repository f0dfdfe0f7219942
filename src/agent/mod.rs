//! The agent: what it is told, how it is called, and what its output says.
//!
//! An agent is any program that works on files. It never learns more than its prompt says, so the prompt says all.

pub(crate) mod brief;
pub(crate) mod classify;
pub(crate) mod evaluate;
pub(crate) mod filetype;
pub(crate) mod lint;
pub(crate) mod preset;
pub(crate) mod prompt;
pub(crate) mod transcript;
