//! Contracts that need more than a command: what the program itself can say of a candidate's files.

pub mod ast_equal;
pub(crate) mod evaluator_answer;
pub(crate) mod json_schema;
pub(crate) mod pairs;
