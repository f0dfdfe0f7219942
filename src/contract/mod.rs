//! Contracts that need more than a command: what the program itself can say of a candidate's files.

pub mod ast_equal;
pub mod opinion;
pub mod pairs;
pub mod schema;
