//! The built-in presets.

use std::sync::LazyLock;

use super::common_rules::CommonRules;
use super::schema::Preset;
use super::validate::PresetFault;

/// The preset files by name, in the order of `agent list`.
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

/// The names of the built-in presets.
pub(crate) const NAMES: [&str; 11] = {
    let mut names = [""; 11];
    let mut index = 0;
    while index < names.len() {
        names[index] = FILES[index].0;
        index += 1;
    }
    names
};

/// Returns the text of a built-in preset's file.
pub(super) fn builtin_text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(file_name, _)| *file_name == name).map(|(_, text)| *text)
}

/// Returns the built-in preset with this name.
pub(crate) fn builtin(name: &str) -> Result<Preset, String> {
    let text = builtin_text(name).ok_or_else(|| format!("there is no preset `{name}`"))?;
    parse(&format!("{name}.toml"), text)
}

/// Parses a preset's file.
fn parse(file: &str, text: &str) -> Result<Preset, String> {
    let preset: Preset = toml::from_str(text).map_err(|e| format!("{file}: {e}"))?;
    match preset.faults().first() {
        Some(PresetFault { key, message }) => Err(format!("{file}: `{key}` {message}")),
        None => Ok(preset),
    }
}

/// Returns the rules for all programs.
pub(crate) fn common() -> &'static CommonRules {
    static COMMON: LazyLock<CommonRules> = LazyLock::new(|| {
        // A test ensures that the file parses. If it does not, the program still works with the
        // rules of the presets.
        toml::from_str(include_str!("common.toml")).unwrap_or_default()
    });
    &COMMON
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_preset_parses_and_round_trips_through_json() {
        for (name, text) in FILES {
            let preset = parse(name, text).unwrap();
            assert_eq!(preset.name, name);
            let json = serde_json::to_string(&preset).unwrap();
            assert_eq!(serde_json::from_str::<Preset>(&json).unwrap(), preset, "{name}");
        }
        let common: CommonRules = toml::from_str(include_str!("common.toml")).unwrap();
        assert!(common.errors.len() > 10 && *super::common() == common);
    }

    #[test]
    fn preset_error_names_the_key() {
        let valid = builtin_text("codex").unwrap();
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
            let invalid = valid.replace(from, to);
            assert_ne!(invalid, valid, "{from}");
            let error = parse("codex.toml", &invalid).unwrap_err();
            assert!(error.starts_with("codex.toml") && error.contains(key), "{to}: {error}");
        }
    }
}
