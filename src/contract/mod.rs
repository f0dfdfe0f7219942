//! Contracts that need more than a command: what the program itself can say of a candidate's files.

pub mod ast_equal;
pub(crate) mod opinion;
pub(crate) mod pairs;
pub(crate) mod schema;
