//! The prompt of an evaluator: the agent's task, the agent's work, and the form of the answer.

use anyhow::Result;
use serde::Serialize;

use super::prompt::{self, Brief};

/// The default template.
pub(crate) const BUILT_IN: &str = include_str!("evaluate.md.j2");
/// The name of the default template in errors.
const BUILT_IN_NAME: &str = "built-in prompt of evaluators";

/// The largest quotation of a change or an output file in a prompt, in bytes. The evaluator can
/// read the rest in its worktree.
const LONGEST_QUOTATION: usize = 60_000;

/// The values of an evaluator's prompt: the values of the task's own prompt, and the work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct EvaluationBrief {
    /// The values of the task's own prompt.
    #[serde(flatten)]
    pub brief: Brief,
    /// The change of the candidate.
    pub change: ChangeBrief,
    /// The output file, if the work is an output file.
    pub handed_in: Option<String>,
}

/// The change of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ChangeBrief {
    /// The commit that the attempt started from.
    pub base: String,
    /// The candidate's commit.
    pub commit: String,
    /// The diff, or the beginning of a long diff.
    pub diff: String,
    /// True if the diff is incomplete.
    pub cut: bool,
}

impl ChangeBrief {
    /// Creates the brief of a change. A long diff is cut.
    pub(crate) fn new(base: &str, commit: &str, diff: &str) -> Self {
        let shown = cut_at_line_end(diff);
        Self {
            base: base.to_owned(),
            commit: commit.to_owned(),
            diff: shown.to_owned(),
            cut: shown.len() < diff.len(),
        }
    }
}

/// Cuts a long text at the end of a line.
fn cut_at_line_end(text: &str) -> &str {
    if text.len() <= LONGEST_QUOTATION {
        return text;
    }
    let end = (0..=LONGEST_QUOTATION).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..text[..end].rfind('\n').map_or(end, |line_end| line_end + 1)]
}

/// Quotes an output file. A long file is cut.
pub(crate) fn quote_output_file(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = cut_at_line_end(&text);
    if shown.len() == text.len() {
        return text.into_owned();
    }
    format!("{shown}[… {} bytes more, in the file …]", text.len() - shown.len())
}

/// Renders the prompt of an evaluation. `template` is the name and the text of the user's template;
/// `None` selects the default template.
pub(crate) fn render(template: Option<(&str, &str)>, brief: &EvaluationBrief) -> Result<String> {
    prompt::render_template(template.unwrap_or((BUILT_IN_NAME, BUILT_IN)), brief)
}

/// Checks that a template can be rendered for tasks like `example`. The candidate is made up.
pub(crate) fn validate(template: (&str, &str), example: &Brief) -> Result<()> {
    let change = ChangeBrief::new("0123456", "789abcd", "+ a line\n");
    let handed_in = example.output.is_some().then(|| "[]".to_owned());
    render(Some(template), &EvaluationBrief { brief: example.clone(), change, handed_in }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::prompt::OutputBrief;

    fn example() -> EvaluationBrief {
        let diff = "--- a/src/a.js\n+++ b/src/a.js\n+let a;\n";
        EvaluationBrief {
            brief: Brief::example(),
            change: ChangeBrief::new("ba5e", "c0de", diff),
            handed_in: None,
        }
    }

    #[test]
    fn evaluate_prompt_states_goal_change_and_form_of_the_answer() {
        let text = render(None, &example()).unwrap();
        for part in ["Do what the job says.", "`src/a.js`", "+let a;", "\"pass\": false", "`c0de`"]
        {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains("is longer than that"), "{text}");
    }

    #[test]
    fn evaluate_prompt_cuts_a_long_change_at_a_line_end() {
        let line = "+é a line of a change\n";
        let change =
            ChangeBrief::new("ba5e", "c0de", &line.repeat(LONGEST_QUOTATION / line.len() + 10));
        assert!(
            change.cut && change.diff.len() <= LONGEST_QUOTATION && change.diff.ends_with('\n')
        );
        let text = render(None, &EvaluationBrief { change, ..example() }).unwrap();
        assert!(text.contains("`git diff ba5e c0de` shows all of it"), "{text}");
        assert!(
            quote_output_file("x".repeat(LONGEST_QUOTATION + 5).as_bytes())
                .ends_with("5 bytes more, in the file …]")
        );
    }

    #[test]
    fn evaluate_prompt_quotes_the_output_file_instead_of_the_change() {
        let mut brief = example();
        brief.brief.output = Some(OutputBrief { path: "review.json".into(), example: None });
        brief.handed_in = Some("[{\"file\": \"a\"}]".into());
        let text = render(None, &brief).unwrap();
        assert!(text.contains("[{\"file\": \"a\"}]") && !text.contains("+let a;"), "{text}");
    }

    #[test]
    fn evaluate_template_with_an_unknown_name_is_refused() {
        let error = validate(("e.md", "{{ change.patch }}"), &Brief::example()).unwrap_err();
        assert!(format!("{error:#}").contains("change.patch"), "{error:#}");
        validate(("e.md", "{{ change.diff }} {{ handed_in }}"), &Brief::example()).unwrap();
    }
}
