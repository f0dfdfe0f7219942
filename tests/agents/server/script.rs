//! The model: what it makes of a conversation. It is asked for a task in the harness's own words, does it in steps
//! with the CLI's own shell tool, and then says that it is done.
//!
//! A file of a task has a line `step N: todo` for each step. A step marks its line in every file and prints a word that
//! stays in the conversation: a model that sees earlier steps does not take them again, and one that starts over does.

use serde_json::Value;

/// How the model works.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// How many turns it needs for a task: as many as its files have lines.
    pub(crate) steps: usize,
    /// How long it thinks before it answers.
    pub(crate) think: std::time::Duration,
    /// A command that goes with its first step.
    pub(crate) besides: String,
}

/// What the model sees of a conversation, whichever protocol it came by.
#[derive(Debug, Clone, Default)]
pub(super) struct Conversation {
    /// Who it is with.
    pub(super) session: String,
    /// Whether it offers tools: else it is some side errand of the CLI.
    pub(super) main: bool,
    /// What the user wrote, in order.
    pub(super) prompts: Vec<String>,
    /// What the tools said, in order.
    pub(super) results: Vec<String>,
    /// Whether the model has spoken before the newest prompt: an earlier session goes on.
    pub(super) earlier: bool,
}

impl Conversation {
    /// Another message of the user's.
    pub(super) fn prompt(&mut self, text: &str, spoken: bool) {
        self.prompts.push(text.to_owned());
        self.earlier = spoken;
    }

    /// The files of the task: the list in the harness's prompt.
    pub(super) fn files(&self) -> Vec<String> {
        let Some(task) = self.prompts.iter().find_map(|p| p.split("\n# Your task\n").nth(1)) else {
            return Vec::new();
        };
        let list = task.split("\nThis is task ").next().unwrap_or_default();
        let names = list.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next());
        names.map(str::to_owned).collect()
    }

    /// How many steps it has seen the ends of.
    pub(super) fn steps_seen(&self) -> usize {
        let output = |step: usize| self.results.iter().any(|r| r.contains(&told(step)));
        (1..).take_while(|step| said(*step)).count()
    }
}

/// The word by which the model knows later that it has taken a step.
fn told(step: usize) -> String {
    format!("taken-step-{step}.")
}

impl Script {
    /// The next command for the shell tool, or none: done.
    pub(super) fn command(&self, seen: &Conversation) -> Option<String> {
        let step = seen.steps_seen() + 1;
        let files = seen.files();
        if !seen.main || step > self.steps || files.is_empty() {
            return None;
        }
        let besides = if step == 1 { self.besides.as_str() } else { "" };
        let files = files.join(" ");
        let word = told(step);
        Some(format!(
            "sed -i 's/^step {step}: todo$/step {step}: done/' {files} && {besides} echo {word}"
        ))
    }

    /// What a file looks like before any of it is done.
    pub(crate) fn untouched(&self, name: &str) -> String {
        let lines: String = (1..=self.steps).map(|step| format!("step {step}: todo\n")).collect();
        format!("{name}\n{lines}")
    }
}

/// A text, or the texts of a list of blocks.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<_> = blocks.iter().filter_map(|b| b["text"].as_str()).collect();
            texts.join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}
