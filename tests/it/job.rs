//! Job files for tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The folder of the scripted agent's verbs.
pub(crate) const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// Name of a check: no file of the job contains `BAD`.
pub(crate) const NO_BAD: &str = "no-bad";

/// Builder of a job file. Every task is one file at the top of the repository and has the file's
/// name.
#[derive(Debug, Clone)]
pub(crate) struct TestJob {
    /// The files, which are also the tasks.
    pub(crate) tasks: Vec<String>,
    /// Names of the checks that a landed tree must have passed.
    pub(crate) landing_checks: Vec<String>,
    sections: BTreeMap<&'static str, Vec<String>>,
    checks: String,
}

impl TestJob {
    /// Creates a job of these tasks with the check [`NO_BAD`] and the scripted agent.
    pub(crate) fn new(tasks: &[&str]) -> Self {
        let pattern = format!("! grep -n BAD {}", tasks.join(" "));
        Self::bare(tasks).check(NO_BAD, &["sh", "-c", &pattern], "")
    }

    /// Creates a job without a check.
    pub(crate) fn bare(tasks: &[&str]) -> Self {
        let quoted: Vec<_> = tasks.iter().map(|t| format!("\"{t}\"")).collect();
        let job = Self {
            tasks: tasks.iter().map(|t| (*t).to_owned()).collect(),
            landing_checks: Vec::new(),
            sections: BTreeMap::new(),
            checks: String::new(),
        };
        job.set("job", "name = \"job\"\ngoal = \"Do what the script says.\"")
            .set("plan", &format!("include = [{}]", quoted.join(", ")))
            .set("agent", "idle-timeout = \"60s\"")
    }

    /// Adds lines to a section.
    pub(crate) fn set(mut self, section: &'static str, lines: &str) -> Self {
        self.sections.entry(section).or_default().push(lines.to_owned());
        self
    }

    /// Replaces a section.
    pub(crate) fn only(mut self, section: &'static str, lines: &str) -> Self {
        self.sections.insert(section, vec![lines.to_owned()]);
        self
    }

    /// Adds a check; `more` are further lines of its section.
    pub(crate) fn check(mut self, name: &str, argv: &[&str], more: &str) -> Self {
        let argv = serde_json::to_string(argv).unwrap();
        writeln!(self.checks, "[[check]]\nname = \"{name}\"\nrun = {argv}\n{more}").unwrap();
        if !more.contains("when = [\"task\"]") {
            self.landing_checks.push(name.to_owned());
        }
        self
    }

    /// Adds a built-in check; `table` are the lines of its section, with the header.
    pub(crate) fn built_in(mut self, name: &str, table: &str) -> Self {
        writeln!(self.checks, "[[check]]\nname = \"{name}\"\n{table}").unwrap();
        self.landing_checks.push(name.to_owned());
        self
    }

    /// Returns the text of the file. `scripts` is the folder of the agent's scripts.
    pub(crate) fn text(&self, scripts: &str) -> String {
        let mut text = String::new();
        for (section, lines) in &self.sections {
            writeln!(text, "[{section}]\n{}", lines.join("\n")).unwrap();
            if *section == "agent" && !lines.concat().contains("command") {
                writeln!(text, "command = [\"sh\", \"{FIXTURES}/run-agent.sh\", \"{scripts}\"]")
                    .unwrap();
            }
            if *section == "evaluate" && !lines.concat().contains("command") {
                writeln!(
                    text,
                    "command = [\"sh\", \"{FIXTURES}/run-agent.sh\", \"{scripts}/judges\"]"
                )
                .unwrap();
            }
        }
        text.push_str(&self.checks);
        if !self.sections.contains_key("sandbox") {
            // Most agents of tests talk to their test through HOME, which a sandbox hides.
            text.push_str("[sandbox]\nmode = \"off\"\n");
        }
        text
    }
}
