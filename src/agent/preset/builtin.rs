//! The presets that are part of the binary.

use std::sync::LazyLock;

use super::schema::{CommonRules, Preset};

/// The files, by name, in the order in which they are listed.
const FILES: [(&str, &str); 11] = [
    ("claude", include_str!("data/claude.toml")),
    ("codex", include_str!("data/codex.toml")),
    ("gemini", include_str!("data/gemini.toml")),
    ("opencode", include_str!("data/opencode.toml")),
    ("qwen", include_str!("data/qwen.toml")),
    ("copilot", include_str!("data/copilot.toml")),
    ("aider", include_str!("data/aider.toml")),
    ("cursor-agent", include_str!("data/cursor-agent.toml")),
    ("amp", include_str!("data/amp.toml")),
    ("goose", include_str!("data/goose.toml")),
    ("command", include_str!("data/command.toml")),
];

/// The names of the presets that are part of the binary.
pub(crate) const NAMES: [&str; 11] = {
    let mut names = [""; 11];
    let mut n = 0;
    while n < names.len() {
        names[n] = FILES[n].0;
        n += 1;
    }
    names
};

/// The text of a preset's file.
pub(super) fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The preset with this name.
pub(crate) fn builtin(name: &str) -> Result<Preset, String> {
    let text = text(name).ok_or_else(|| format!("there is no preset `{name}`"))?;
    read(&format!("{name}.toml"), text)
}

/// Reads a preset's file.
fn read(file: &str, text: &str) -> Result<Preset, String> {
    let preset: Preset = toml::from_str(text).map_err(|e| format!("{file}: {e}"))?;
    match preset.faults().first() {
        Some((key, fault)) => Err(format!("{file}: `{key}` {fault}")),
        None => Ok(preset),
    }
}

/// The rules that hold for all programs.
pub(crate) fn common() -> &'static CommonRules {
    static COMMON: LazyLock<CommonRules> = LazyLock::new(|| {
        // A test reads it; should it ever be wrong all the same, nothing is known in common.
        toml::from_str(include_str!("common.toml"))
            .unwrap_or(CommonRules { status_in_words: Vec::new(), errors: Vec::new() })
    });
    &COMMON
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_preset_and_survives_json() {
        for (name, text) in FILES {
            let preset = read(name, text).unwrap();
            assert_eq!(preset.name, name);
            let json = serde_json::to_string(&preset).unwrap();
            assert_eq!(serde_json::from_str::<Preset>(&json).unwrap(), preset, "{name}");
        }
        let common: CommonRules = toml::from_str(include_str!("common.toml")).unwrap();
        assert!(common.errors.len() > 10 && *super::common() == common);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        let good = text("codex").unwrap();
        for (from, to, key) in [
            ("class = \"bad_input\"\nexit = [2]", "class = \"bad_input\"", "errors"),
            ("\"-m\", \"{model}\"", "\"-m\", \"{modle}\"", "call.start"),
            ("default = \"all\"", "default = \"everything\"", "permissions.default"),
            ("\"{session_id}\", \"-\"", "\"-\"", "call.resume"),
            ("\"{args}\", \"-\",", "\"-\",", "call.start"),
            ("gpt-5 = { input = 1.25", "gpt-5 = { input = -1.25", "prices"),
            (
                "source = \"first-event\"\npointers = [\"/thread_id\"]",
                "source = \"first-event\"",
                "session.pointers",
            ),
            ("when = { \"/type\" = \"turn.failed\" }", "when = {}", "said"),
            ("[permissions.all]\nargs", "[permissions.edit+shell]\nargs", "expected"),
            ("says = 'at capacity", "says = 'at (capacity", "regular expression"),
            ("pointers = [\"/thread_id\"]", "pointers = [\"thread_id\"]", "JSON pointer"),
            ("wait = \"4s\"", "wait = \"4\"", "duration"),
            ("class = \"auth\"", "class = \"autn\"", "no class"),
            ("[detect]", "[detcet]", "detcet"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            let said = read("codex.toml", &bad).unwrap_err();
            assert!(said.starts_with("codex.toml") && said.contains(key), "{to}: {said}");
        }
    }
}
