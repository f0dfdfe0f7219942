//! The agent: what it is told.
//!
//! An agent is any program that works on files. It never learns more than its prompt says, so the prompt says all.

pub mod brief;
pub mod filetype;
pub mod prompt;
