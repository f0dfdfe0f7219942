//! What an evaluator is told: what the agent was told to reach, what it did, and how to answer.

use anyhow::Result;
use serde::Serialize;

use super::prompt::{self, Brief};

/// The template that is used when the job names none.
pub(crate) const BUILT_IN: &str = include_str!("evaluate.md.j2");
/// What errors call it.
const BUILT_IN_NAME: &str = "built-in prompt of evaluators";

/// How much of a change, or of what was handed in, a prompt quotes, in bytes. The files themselves are there to be read.
const QUOTE: usize = 60_000;

/// What a prompt of an evaluator is made from: all that a task's own prompt is made from, and the work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct EvaluationBrief {
    /// What the agent was told.
    #[serde(flatten)]
    pub brief: Brief,
    /// What it changed.
    pub change: ChangeBrief,
    /// What it handed in, where that is the work.
    pub handed_in: Option<String>,
}

/// The change that a candidate makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ChangeBrief {
    /// The commit from which the attempt started.
    pub base: String,
    /// The candidate.
    pub commit: String,
    /// The difference as text, perhaps only its beginning.
    pub diff: String,
    /// Whether something of it was left out.
    pub cut: bool,
}

impl ChangeBrief {
    /// A change; of a long one the beginning.
    pub(crate) fn new(base: &str, commit: &str, diff: &str) -> Self {
        let shown = beginning(diff);
        Self {
            base: base.to_owned(),
            commit: commit.to_owned(),
            diff: shown.to_owned(),
            cut: shown.len() < diff.len(),
        }
    }
}

/// The beginning of a text, up to the end of a line.
fn beginning(text: &str) -> &str {
    if text.len() <= QUOTE {
        return text;
    }
    let end = (0..=QUOTE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..text[..end].rfind('\n').map_or(end, |at| at + 1)]
}

/// Of what was handed in, what a prompt quotes.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = beginning(&text);
    if shown.len() == text.len() {
        return text.into_owned();
    }
    format!("{shown}[… {} bytes more, in the file …]", text.len() - shown.len())
}

/// Makes the prompt of one evaluation. `template` is the name and the text of the user's template; `None` takes the
/// built-in one.
pub(crate) fn render(template: Option<(&str, &str)>, brief: &EvaluationBrief) -> Result<String> {
    prompt::page(template.unwrap_or((BUILT_IN_NAME, BUILT_IN)), brief)
}

/// Whether a template can be rendered for tasks like this one, whatever they hand in.
pub(crate) fn validate(template: (&str, &str), like: &Brief) -> Result<()> {
    let change = ChangeBrief::new("0123456", "789abcd", "+ a line\n");
    let handed_in = like.output.is_some().then(|| "[]".to_owned());
    render(Some(template), &EvaluationBrief { brief: like.clone(), change, handed_in }).map(drop)
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
    fn it_says_what_was_to_be_done_what_was_done_and_how_to_answer() {
        let text = render(None, &example()).unwrap();
        for part in ["Do what the job says.", "`src/a.js`", "+let a;", "\"pass\": false", "`c0de`"]
        {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains("is longer than that"), "{text}");
    }

    #[test]
    fn a_long_change_is_cut_at_a_line_and_says_how_to_see_the_rest() {
        let line = "+é a line of a change\n";
        let change = ChangeBrief::new("ba5e", "c0de", &line.repeat(QUOTE / line.len() + 10));
        assert!(change.cut && change.diff.len() <= QUOTE && change.diff.ends_with('\n'));
        let text = render(None, &EvaluationBrief { change, ..example() }).unwrap();
        assert!(text.contains("`git diff ba5e c0de` shows all of it"), "{text}");
        assert!(quoted("x".repeat(QUOTE + 5).as_bytes()).ends_with("5 bytes more, in the file …]"));
    }

    #[test]
    fn of_a_report_the_file_is_shown() {
        let mut brief = example();
        brief.brief.output = Some(OutputBrief { path: "review.json".into(), example: None });
        brief.handed_in = Some("[{\"file\": \"a\"}]".into());
        let text = render(None, &brief).unwrap();
        assert!(text.contains("[{\"file\": \"a\"}]") && !text.contains("+let a;"), "{text}");
    }

    #[test]
    fn a_template_that_names_what_is_not_there_is_refused() {
        let wrong = validate(("e.md", "{{ change.patch }}"), &Brief::example()).unwrap_err();
        assert!(format!("{wrong:#}").contains("change.patch"), "{wrong:#}");
        validate(("e.md", "{{ change.diff }} {{ handed_in }}"), &Brief::example()).unwrap();
    }
}
