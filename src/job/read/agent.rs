//! The sections `[agent]`, `[evaluate]` and `[worktree]`.

use toml::de::DeValue;

use super::{MINUTE, checked, count, inside_repository};
use crate::job::errors::ValueError;
use crate::job::placeholders::CommandKind;
use crate::job::schema::{
    AgentSection, EvaluateSection, JobKind, REPO, SETUP_INPUTS, WorktreeSection,
};
use crate::job::section::Section;

const EXAMPLE: &str = "command = [\"./my-agent\", \"{prompt_file}\"]";

/// Reads `[agent]`.
pub(super) fn agent(top: &Section<'_>, kind: JobKind) -> AgentSection {
    let section = top.section("agent");
    if !section.present() {
        let hint = format!("add a section [agent] with `preset = \"claude\"`, or with `{EXAMPLE}`");
        top.missing("agent", &hint);
    }
    let allow_empty = section.flag("allow-empty", false);
    if let (Some(value), true, JobKind::Report) = (section.find("allow-empty"), allow_empty, kind) {
        let error = ValueError::new("cannot be used with `kind = \"report\"`")
            .hint("a report that finds nothing is a file that says so, such as `[]`");
        section.add_error(value.span().start, "allow-empty", error);
    }
    AgentSection { allow_empty, ..program(&section) }
}

/// Reads `[evaluate]`, if the file has it.
pub(super) fn evaluate(top: &Section<'_>) -> Option<EvaluateSection> {
    let section = top.section("evaluate");
    section.present().then(|| EvaluateSection {
        agent: program(&section),
        rounds: count(&section, "rounds", 1, 3),
    })
}

/// Reads the keys that `[agent]` and `[evaluate]` have in common: the program and its options.
fn program(section: &Section<'_>) -> AgentSection {
    let preset = section.text("preset").map_or("command", |preset| preset.text);
    if section.present() && preset == "command" && section.find("command").is_none() {
        let hint = format!("write it like `{EXAMPLE}`, or name a preset such as \"claude\"");
        section.missing("command", &hint);
    }
    let prompt = section.text("prompt").and_then(|prompt| {
        checked(section, "prompt", prompt, inside_repository(prompt.text).map(str::to_owned))
    });
    AgentSection {
        preset: preset.to_owned(),
        command: section.argv("command", CommandKind::Agent).unwrap_or_default(),
        model: section.text("model").map(|model| model.text.to_owned()),
        permissions: permissions(section),
        args: arguments(section),
        max_turns: section
            .whole("max-turns", 1..=1_000_000)
            .and_then(|(turns, _)| u32::try_from(turns).ok()),
        prompt,
        timeout: section.duration("timeout", 30 * MINUTE),
        idle_timeout: section.duration("idle-timeout", 10 * MINUTE),
        timeout_is_set: section.find("timeout").is_some(),
        idle_timeout_is_set: section.find("idle-timeout").is_some(),
        env: environment(section),
        allow_empty: false,
    }
}

/// Reads the permission profile of the program.
fn permissions(section: &Section<'_>) -> Option<String> {
    let profiles = ["edit", "edit+shell", "all"].map(|profile| (profile, Some(profile)));
    section.choice("permissions", &profiles, None).map(str::to_owned)
}

/// Reads additional arguments for a preset's program. They have no placeholders.
fn arguments(section: &Section<'_>) -> Vec<String> {
    let texts = section.texts("args", "[\"--option\", \"value\"]").unwrap_or_default();
    for text in texts.iter().filter(|text| text.text.contains('\0')) {
        section.add_error(
            text.at,
            "args",
            ValueError::new("holds a NUL byte, which no argument can"),
        );
    }
    texts.into_iter().map(|text| text.text.to_owned()).collect()
}

/// Reads the names of the environment variables that are passed to the agent or a check.
pub(super) fn environment(section: &Section<'_>) -> Vec<String> {
    let names = section.texts("env", "[\"MY_API_KEY\"]").unwrap_or_default();
    for name in &names {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let error = if name.text.contains('=') {
            // The value may be a secret, so the message does not repeat it.
            ValueError::new("holds names only, not `NAME=value`")
                .hint("the value comes from the environment of `git harness start`")
        } else if name.text.is_empty() || !name.text.chars().all(is_allowed) {
            ValueError::new(format!("holds an invalid variable name: \"{}\"", name.text))
        } else if name.text.starts_with("GIT_") {
            ValueError::new(format!("cannot pass `GIT_*` on: \"{}\"", name.text))
                .hint("these would point the agent at another repository or index than its own")
        } else if name.text.starts_with("HARNESS_") || matches!(name.text, "TERM" | "TMPDIR") {
            ValueError::new(format!(
                "cannot pass on a variable that is set for every attempt: \"{}\"",
                name.text
            ))
        } else {
            continue;
        };
        section.add_error(name.at, "env", error);
    }
    names.iter().map(|name| name.text.to_owned()).collect()
}

/// Reads `[worktree]`.
pub(super) fn worktree(section: &Section<'_>) -> WorktreeSection {
    const DEFAULT_ROOT: &str = "../{repo}.harness";
    let root = section
        .text("root")
        .and_then(|root| checked(section, "root", root, worktree_root(root.text)))
        .unwrap_or(DEFAULT_ROOT);
    WorktreeSection {
        root: root.into(),
        setup: setup(section),
        setup_inputs: setup_inputs(section),
        keep: section.globs("keep").unwrap_or_default(),
    }
}

/// Checks `[worktree] root`.
fn worktree_root(text: &str) -> Result<&str, ValueError> {
    let without_repo = text.replace(REPO, "");
    if without_repo.contains(['{', '}']) {
        return Err(ValueError::new(format!(
            "knows no other placeholder than `{REPO}`: \"{text}\""
        )));
    }
    // This check uses the text alone, because this module does not read the file system.
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let is_inside = match parts.as_slice() {
        ["..", next, ..] => *next == REPO,
        _ => true,
    };
    if is_inside && !text.starts_with('/') {
        return Err(ValueError::new(format!(
            "must lie outside the repository's work tree: \"{text}\""
        ))
        .hint("use a folder beside it, such as \"../{repo}.harness\", or an absolute path"));
    }
    Ok(text)
}

/// Reads `[worktree] setup-inputs`.
fn setup_inputs(section: &Section<'_>) -> Vec<String> {
    let written = section.globs("setup-inputs").map(|globs| globs.patterns().to_vec());
    written.unwrap_or_else(|| SETUP_INPUTS.map(str::to_owned).to_vec())
}

/// Reads `[worktree] setup`, a list of commands.
fn setup(section: &Section<'_>) -> Vec<Vec<String>> {
    let Some(value) = section.find("setup") else {
        return Vec::new();
    };
    let hint = || Some("it is a list of commands: `setup = [[\"npm\", \"ci\"]]`".to_owned());
    let DeValue::Array(list) = value.get_ref() else {
        section.add_type_error("setup", value, "a list of commands", hint());
        return Vec::new();
    };
    if let Some(flat) = list.iter().find(|item| !item.get_ref().is_array()) {
        section.add_type_error("setup", flat, "a list of commands, each a list of strings", hint());
        return Vec::new();
    }
    list.iter().filter_map(|item| section.argv_of("setup", item, CommandKind::Setup)).collect()
}
