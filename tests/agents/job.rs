//! Jobs for the scenarios: files, and a job file with a preset.

use std::fmt::Write as _;

/// Tasks of the long scenarios; `GIT_HARNESS_AGENT_TASKS` raises the number.
pub(crate) fn many() -> usize {
    let asked = std::env::var("GIT_HARNESS_AGENT_TASKS").ok();
    asked.map_or(16, |n| n.parse().unwrap())
}

/// A job for one of the CLIs.
pub(crate) struct AgentJob {
    /// The files, each a task unless they are grouped.
    pub(crate) files: Vec<String>,
    preset: &'static str,
    sections: Vec<(&'static str, String)>,
}

impl AgentJob {
    /// Creates a job of so many tasks.
    pub(crate) fn of(tasks: usize, preset: &'static str) -> Self {
        let files = (1..=tasks).map(|n| format!("src/a{n:02}.txt")).collect();
        Self::with(files, preset)
    }

    /// Creates a job on these files.
    pub(crate) fn with(files: Vec<String>, preset: &'static str) -> Self {
        let agent = "timeout = \"2m\"\nidle-timeout = \"10s\"".to_owned();
        Self { files, preset, sections: vec![("agent", agent)] }
    }

    /// Adds lines to a section.
    pub(crate) fn set(mut self, section: &'static str, lines: &str) -> Self {
        self.sections.push((section, lines.to_owned()));
        self
    }

    /// The model whose prices the scenarios know. The other CLI has prices in its configuration.
    fn model(&self) -> &'static str {
        if self.preset == "claude" { "model = \"claude-opus-4-8\"\n" } else { "" }
    }

    /// Returns the variables that the agents get. A preset names those that a sandbox needs.
    fn passed(&self) -> &'static str {
        if self.sections.iter().any(|(name, _)| *name == "sandbox") { "[]" } else { PASSED }
    }

    /// Returns the text of the job file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "[job]\nname = \"job\"\ngoal = \"Mark every step as done.\"\n\
             [[check]]\nname = \"done\"\nwhen = [\"task\"]\n\
             run = [\"sh\", \"-c\", \"! grep -n 'todo$' \\\"$@\\\"\", \"sh\", \"{task.files}\"]\n",
        );
        let own = |section: &str| match section {
            "plan" => "include = [\"src/**\"]\n".to_owned(),
            "agent" => {
                format!("preset = \"{}\"\nenv = {}\n{}", self.preset, self.passed(), self.model())
            }
            // The state of the CLIs is in folders of the scenario, which a sandbox hides.
            "sandbox" if !self.sections.iter().any(|(name, _)| *name == "sandbox") => {
                "mode = \"off\"\n".to_owned()
            }
            _ => String::new(),
        };
        let mut names: Vec<_> = self.sections.iter().map(|(name, _)| *name).collect();
        names.extend(["plan", "agent", "sandbox"]);
        names.sort_unstable();
        names.dedup();
        for name in names {
            write!(text, "[{name}]\n{}", own(name)).unwrap();
            for (_, lines) in self.sections.iter().filter(|(section, _)| *section == name) {
                writeln!(text, "{lines}").unwrap();
            }
        }
        text
    }
}

/// Environment of the CLIs: the model's address, a key, and a folder for their state.
const PASSED: &str = r#"["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "OPENAI_API_KEY"]"#;
