//! Checks of a candidate's files that need no command, and the parser of evaluators' answers.

pub mod ast_equal;
pub(crate) mod evaluator_answer;
pub(crate) mod json_schema;
pub(crate) mod pairs;
