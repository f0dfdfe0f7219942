//! `skill`: print the SKILL.md that explains this program to an agent.

use anyhow::Result;

use crate::error;
use crate::ui::Ui;

/// The SKILL.md in the form that agent programs read: front matter with a name and the situations
/// for its use, then Markdown.
const SKILL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/SKILL.md"));

/// `git harness skill`
pub(super) fn run(ui: &Ui) -> Result<u8> {
    ui.result(SKILL);
    Ok(error::OK)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Checks that every command and option in the text exists.
    #[test]
    fn skill_names_only_existing_commands_and_options() {
        let cli = crate::cli::Cli::command();
        let mut named = 0;
        for words in super::SKILL.split("`git harness ").skip(1) {
            let line = words.split('`').next().unwrap();
            let mut parts = line.split_whitespace();
            let verb = parts.next().unwrap();
            let command = cli.find_subcommand(verb).unwrap_or_else(|| panic!("no command {verb}"));
            for option in parts.filter_map(|word| word.strip_prefix("--")) {
                let known = command.get_arguments().any(|a| a.get_long() == Some(option));
                assert!(known, "{verb} has no --{option}");
            }
            named += 1;
        }
        assert!(named > 15, "{named}");
    }
}
