//! The scripted model. It does a task in steps with the CLI's shell tool, and then reports that it
//! is done.
//!
//! A file of a task has a line `step N: todo` for each step. A step marks its line in every file
//! and prints a word that stays in the conversation. A model that sees earlier steps does not
//! repeat them; a model that starts over does.

use serde_json::Value;

/// Parameters of the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// The number of turns of a task, which is the number of lines of its files.
    pub(crate) steps: usize,
    /// The delay before each answer.
    pub(crate) think: std::time::Duration,
    /// An additional command of the first step.
    pub(crate) besides: String,
}

/// A conversation as the model sees it, in either protocol.
#[derive(Debug, Clone, Default)]
pub(super) struct Conversation {
    /// The identity of the CLI's session.
    pub(super) session: String,
    /// True if the request offers tools. Requests without tools are side requests of the CLI.
    pub(super) main: bool,
    /// The user's messages, in order.
    pub(super) prompts: Vec<String>,
    /// The tools' outputs, in order.
    pub(super) results: Vec<String>,
    /// True if the model has answered before the newest prompt: an earlier session is resumed.
    pub(super) earlier: bool,
}

impl Conversation {
    /// Adds a message of the user.
    pub(super) fn prompt(&mut self, text: &str, spoken: bool) {
        self.prompts.push(text.to_owned());
        self.earlier = spoken;
    }

    /// Returns the files of the task, from the list in the prompt.
    pub(super) fn files(&self) -> Vec<String> {
        let Some(task) = self.prompts.iter().find_map(|p| p.split("\n# Your task\n").nth(1)) else {
            return Vec::new();
        };
        let list = task.split("\nThis is task ").next().unwrap_or_default();
        let names = list.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next());
        names.map(str::to_owned).collect()
    }

    /// Returns the number of finished steps.
    pub(super) fn steps_seen(&self) -> usize {
        let is_finished = |step: usize| self.results.iter().any(|r| r.contains(&step_mark(step)));
        (1..).take_while(|step| is_finished(*step)).count()
    }
}

/// The word that marks a finished step in the conversation.
fn step_mark(step: usize) -> String {
    format!("taken-step-{step}.")
}

impl Script {
    /// Returns the next command for the shell tool, or none if the task is done.
    pub(super) fn command(&self, seen: &Conversation) -> Option<String> {
        let step = seen.steps_seen() + 1;
        let files = seen.files();
        if !seen.main || step > self.steps || files.is_empty() {
            return None;
        }
        let besides = if step == 1 { self.besides.as_str() } else { "" };
        let files = files.join(" ");
        let word = step_mark(step);
        Some(format!(
            "sed -i 's/^step {step}: todo$/step {step}: done/' {files} && {besides} echo {word}"
        ))
    }

    /// Returns the content of a file before the first step.
    pub(crate) fn untouched(&self, name: &str) -> String {
        let lines: String = (1..=self.steps).map(|step| format!("step {step}: todo\n")).collect();
        format!("{name}\n{lines}")
    }
}

/// Returns a text, or the joined texts of a list of blocks.
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
