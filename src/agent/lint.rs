//! Warnings about prompt templates.
//!
//! The rules come from observed failures of unattended agents. An agent guesses the checks if the
//! prompt omits them. An agent breaks rules for which the prompt gives no reason, if that leads to
//! the goal. Without an example, an agent matches a format only by chance. On a retry, an agent
//! repeats mistakes that the prompt does not mention.

use anyhow::Result;

use super::prompt::{self, Brief, FindingBrief};

/// The text of a made-up finding. If the prompt of a retry lacks this text, the template omits the
/// findings.
const FINDING_TEXT: &str = "a-finding-of-an-earlier-attempt";

/// Words that mark an instruction.
const INSTRUCTION_WORDS: [&str; 9] =
    ["must", "never", "do not", "don't", "only", "always", "leave", "avoid", "no "];

/// Words that mark a reason.
const REASON_WORDS: [&str; 9] =
    ["why:", "because", "so that", "since", "otherwise", "reason", "in order to", "lest", "else"];

/// Returns warnings about a template for tasks like `example`. The default template causes no
/// warnings.
pub(crate) fn lint(template: (&str, &str), example: &Brief) -> Result<Vec<String>> {
    let first = Brief { attempt: 1, findings: Vec::new(), ..example.clone() };
    let text = prompt::render(Some(template), &first)?;
    let (attempt, attempts) = (1, "attempt 1".to_owned());
    let check = "agent".to_owned();
    let finding = FindingBrief { attempt, attempts, check, text: FINDING_TEXT.into() };
    let retry = prompt::render(
        Some(template),
        &Brief { attempt: 2, findings: vec![finding], ..example.clone() },
    )?;
    let name = template.0;
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(format!("{name}: {text}"));
    let missing = |needle: &str| !needle.trim().is_empty() && !text.contains(needle.trim());
    if missing(&first.goal) {
        warn("the goal is missing: `{{ goal }}`".into());
    }
    if let Some(file) = first.task.files.iter().find(|file| missing(&file.path)) {
        warn(format!("a task's files are missing, such as {}: `task.files`", file.path));
    }
    for check in &first.checks {
        let requirement =
            if check.statement.is_empty() { &check.command } else { &check.statement };
        if missing(requirement.lines().next().unwrap_or_default()) {
            warn(format!("the check `{}` is not stated word for word: `checks`", check.name));
        }
    }
    if let Some(output) = &first.output {
        if missing(&output.path) {
            warn(format!(
                "the path of the output file is missing ({}): `output.path`",
                output.path
            ));
        }
        match &output.example {
            None => warn("the job has no example of the output file: `example` in [output]".into()),
            Some(example) if missing(example.lines().next().unwrap_or_default()) => {
                warn("the example of the output file is missing: `output.example`".into());
            }
            Some(_) => {}
        }
    }
    if !retry.contains(FINDING_TEXT) {
        warn("a retry does not get the earlier findings: `findings`".into());
    }
    for (line, rule) in unexplained_instructions(template.1) {
        warn(format!("line {line} gives an order without its reason: {rule}"));
    }
    Ok(warnings)
}

/// Returns the list items with an instruction and without a reason, each with its line.
fn unexplained_instructions(source: &str) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    let mut in_fence = false;
    let mut in_item = false;
    for (number, line) in source.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence || trimmed.starts_with("{%") || trimmed.is_empty() || trimmed.starts_with('#') {
            in_item = false;
            continue;
        }
        if let Some(item) = trimmed.strip_prefix("- ").or_else(|| trimmed.strip_prefix("* ")) {
            items.push((number + 1, item.to_owned()));
            in_item = true;
        } else if let (true, Some((_, item))) = (in_item, items.last_mut()) {
            item.push(' ');
            item.push_str(trimmed);
        }
    }
    let has_word = |item: &str, list: &[&str]| {
        let lower = format!("{} ", item.to_lowercase());
        list.iter().any(|word| {
            lower.match_indices(word).any(|(at, _)| {
                let before = lower[..at].chars().next_back();
                let after = lower[at + word.len()..].chars().next();
                let is_boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
                is_boundary(before) && (is_boundary(after) || word.ends_with(' '))
            })
        })
    };
    items.retain(|(_, item)| {
        !item.starts_with("{{")
            && has_word(item, &INSTRUCTION_WORDS)
            && !has_word(item, &REASON_WORDS)
    });
    items.into_iter().map(|(line, item)| (line, shortened(&item))).collect()
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::prompt::{BUILT_IN, CheckBrief, OutputBrief};

    fn brief() -> Brief {
        let check = |name: &str, command: &str, statement: &str| CheckBrief {
            name: name.into(),
            command: command.into(),
            statement: statement.into(),
            timeout_seconds: 60,
            when: vec!["task".into()],
        };
        Brief {
            output: Some(OutputBrief {
                path: "review.json".into(),
                example: Some("[{\"line\": 1}]\n".into()),
            }),
            checks: vec![check("tests", "npm test", ""), check("form", "", "It is valid.")],
            ..Brief::example()
        }
    }

    #[test]
    fn lint_accepts_the_default_prompt() {
        let change = Brief { output: None, ..brief() };
        for brief in [brief(), change] {
            assert_eq!(lint(("built-in", BUILT_IN), &brief).unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn lint_warns_about_everything_missing_in_a_prompt() {
        let text = "Fix it.\n\n- Never touch tests.\n- Keep names, because others use them.\n- Use no\n  globals.\n";
        let warnings = lint(("p.md", text), &brief()).unwrap().join("\n");
        let expected = "p.md: the goal is missing: `{{ goal }}`\n\
            p.md: a task's files are missing, such as src/a.js: `task.files`\n\
            p.md: the check `tests` is not stated word for word: `checks`\n\
            p.md: the check `form` is not stated word for word: `checks`\n\
            p.md: the path of the output file is missing (review.json): `output.path`\n\
            p.md: the example of the output file is missing: `output.example`\n\
            p.md: a retry does not get the earlier findings: `findings`\n\
            p.md: line 3 gives an order without its reason: Never touch tests.\n\
            p.md: line 5 gives an order without its reason: Use no globals.";
        assert_eq!(warnings, expected);
        let without = OutputBrief { path: "r".into(), example: None };
        let brief = Brief { output: Some(without), ..brief() };
        assert!(lint(("p.md", "{{ goal }}"), &brief).unwrap().join("").contains("no example"));
    }
}
