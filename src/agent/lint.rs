//! What makes prompts fail, as far as a program can see it.
//!
//! The rules are those by which prompts of unattended agents were seen to fail: an agent that is not told what it will be
//! judged by guesses, a rule without its reason is given up for the goal's sake, a form without an example is met by
//! chance, and what a retry is not told is done wrong again.

use anyhow::Result;

use super::prompt::{self, Brief, FindingBrief};

/// What stands in a retry's prompt if findings are told at all.
const MARK: &str = "a-finding-of-an-earlier-attempt";

/// Words that give an order.
const ORDERS: [&str; 9] =
    ["must", "never", "do not", "don't", "only", "always", "leave", "avoid", "no "];

/// Words that give a reason, or are one.
const REASONS: [&str; 9] =
    ["why:", "because", "so that", "since", "otherwise", "reason", "in order to", "lest", "else"];

/// What is wrong with a template for tasks like this one, in sentences; nothing for the built-in template.
pub(crate) fn lint(template: (&str, &str), like: &Brief) -> Result<Vec<String>> {
    let first = Brief { attempt: 1, findings: Vec::new(), ..like.clone() };
    let text = prompt::render(Some(template), &first)?;
    let finding = FindingBrief { attempt: 1, check: "agent".into(), text: MARK.into() };
    let retry = prompt::render(
        Some(template),
        &Brief { attempt: 2, findings: vec![finding], ..like.clone() },
    )?;
    let name = template.0;
    let mut said = Vec::new();
    let mut warn = |text: String| said.push(format!("{name}: {text}"));
    let missing = |needle: &str| !needle.trim().is_empty() && !text.contains(needle.trim());
    if missing(&first.goal) {
        warn("the goal is not in it: `{{ goal }}`".into());
    }
    if let Some(file) = first.task.files.iter().find(|file| missing(&file.path)) {
        warn(format!("a task's files are not in it, such as {}: `task.files`", file.path));
    }
    for check in &first.checks {
        let what = if check.statement.is_empty() { &check.command } else { &check.statement };
        if missing(what.lines().next().unwrap_or_default()) {
            warn(format!("the check `{}` is not stated word for word: `checks`", check.name));
        }
    }
    if let Some(output) = &first.output {
        if missing(&output.path) {
            warn(format!("where to hand in is not said ({}): `output.path`", output.path));
        }
        match &output.example {
            None => warn("there is no example of what is handed in: `example` in [output]".into()),
            Some(example) if missing(example.lines().next().unwrap_or_default()) => {
                warn("the example of what is handed in is not in it: `output.example`".into());
            }
            Some(_) => {}
        }
    }
    if !retry.contains(MARK) {
        warn("a retry is not told what was wrong before: `findings`".into());
    }
    for (line, rule) in orders(template.1) {
        warn(format!("line {line} gives an order without its reason: {rule}"));
    }
    Ok(said)
}

/// List items that give an order and no reason, each with its line in the template.
fn orders(source: &str) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    let mut fenced = false;
    let mut open = false;
    for (number, line) in source.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            fenced = !fenced;
        }
        if fenced || trimmed.starts_with("{%") || trimmed.is_empty() || trimmed.starts_with('#') {
            open = false;
            continue;
        }
        if let Some(item) = trimmed.strip_prefix("- ").or_else(|| trimmed.strip_prefix("* ")) {
            items.push((number + 1, item.to_owned()));
            open = true;
        } else if let (true, Some((_, item))) = (open, items.last_mut()) {
            item.push(' ');
            item.push_str(trimmed);
        }
    }
    let words = |item: &str, list: &[&str]| {
        let lower = format!("{} ", item.to_lowercase());
        list.iter().any(|word| {
            lower.match_indices(word).any(|(at, _)| {
                let before = lower[..at].chars().next_back();
                let after = lower[at + word.len()..].chars().next();
                let apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
                apart(before) && (apart(after) || word.ends_with(' '))
            })
        })
    };
    items.retain(|(_, item)| {
        !item.starts_with("{{") && words(item, &ORDERS) && !words(item, &REASONS)
    });
    items.into_iter().map(|(line, item)| (line, shortened(&item))).collect()
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(SHOWN).collect::<String>())
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
    fn the_built_in_template_is_clean() {
        let change = Brief { output: None, ..brief() };
        for brief in [brief(), change] {
            assert_eq!(lint(("built-in", BUILT_IN), &brief).unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn a_poor_template_is_told_all_that_it_lacks() {
        let text = "Fix it.\n\n- Never touch tests.\n- Keep names, because others use them.\n- Use no\n  globals.\n";
        let said = lint(("p.md", text), &brief()).unwrap().join("\n");
        let expected = "p.md: the goal is not in it: `{{ goal }}`\n\
            p.md: a task's files are not in it, such as src/a.js: `task.files`\n\
            p.md: the check `tests` is not stated word for word: `checks`\n\
            p.md: the check `form` is not stated word for word: `checks`\n\
            p.md: where to hand in is not said (review.json): `output.path`\n\
            p.md: the example of what is handed in is not in it: `output.example`\n\
            p.md: a retry is not told what was wrong before: `findings`\n\
            p.md: line 3 gives an order without its reason: Never touch tests.\n\
            p.md: line 5 gives an order without its reason: Use no globals.";
        assert_eq!(said, expected);
        let without = OutputBrief { path: "r".into(), example: None };
        let brief = Brief { output: Some(without), ..brief() };
        assert!(lint(("p.md", "{{ goal }}"), &brief).unwrap().join("").contains("no example"));
    }
}
