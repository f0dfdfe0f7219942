//! The agent: what it is told, how it is called, and what its output says.
//!
//! An agent is any program that works on files. It never learns more than its prompt says, so the prompt says all.

pub mod brief;
pub mod classify;
pub mod evaluate;
pub mod filetype;
pub mod lint;
pub mod preset;
pub mod prompt;
pub mod transcript;
