//! Checks of a candidate's files that need no command, the parser of evaluators' answers, and
//! lenient JSON.

pub mod ast_equal;
pub(crate) mod evaluator_answer;
pub(crate) mod json_schema;
pub(crate) mod lenient_json;
pub(crate) mod pairs;
