//! `network`: the hosts that sandboxed commands reach.

use toml::de::DeValue;

use super::super::errors::ValueError;
use super::super::section::Section;
use super::super::values::unknown_word;
use crate::domain::network::{HostPattern, NetworkAccess};

/// The word for the machine's network.
const ALL: &str = "all";

/// An example of a list.
const EXAMPLE: &str = "[\"packages.example.com\", \"127.0.0.1:8080\"]";

/// Reads `[sandbox] network`.
pub(super) fn sandbox(section: &Section<'_>) -> NetworkAccess {
    listed(section)
}

/// Reads `network` of a check, which may also be `true` or `false`.
pub(super) fn check(section: &Section<'_>) -> NetworkAccess {
    match section.find("network").map(|value| value.get_ref()) {
        Some(DeValue::Boolean(true)) => NetworkAccess::All,
        Some(DeValue::Boolean(false)) | None => NetworkAccess::none(),
        Some(_) => listed(section),
    }
}

fn listed(section: &Section<'_>) -> NetworkAccess {
    let Some(value) = section.find("network") else { return NetworkAccess::none() };
    match value.get_ref() {
        DeValue::String(word) if word == ALL => NetworkAccess::All,
        DeValue::String(word) => {
            let error = match HostPattern::parse(word) {
                Ok(_) => {
                    ValueError::new(format!("must be a list of hosts or \"{ALL}\": \"{word}\""))
                        .hint(format!("write it as a list: `network = [\"{word}\"]`"))
                }
                Err(_) => unknown_word(word, [ALL].into_iter()),
            };
            section.add_error(value.span().start, "network", error);
            NetworkAccess::none()
        }
        DeValue::Array(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Float(_)
        | DeValue::Integer(_)
        | DeValue::Table(_) => NetworkAccess::Listed(patterns(section)),
    }
}

fn patterns(section: &Section<'_>) -> Vec<HostPattern> {
    let mut patterns = Vec::new();
    for text in section.texts("network", EXAMPLE).into_iter().flatten() {
        match HostPattern::parse(text.text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let error = ValueError::new(error.message).hint(error.hint);
                section.add_error(text.at, "network", error);
            }
        }
    }
    patterns
}

#[cfg(test)]
mod tests {
    use crate::job::parse;

    /// Returns the errors of a job with these lines at its end.
    fn refusal(lines: &str) -> String {
        let text = format!("[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n{lines}");
        parse(&text, "j").unwrap_err().to_string()
    }

    #[test]
    fn bad_hosts_are_refused_with_position_and_hint() {
        for (network, expected) in [
            (
                "[\"a.example\", \"https://b.example/v1\"]",
                "j:6:25: `network` in [sandbox] has a URL where a host is needed: \"https://b.example/v1\"\nhint: name the host: \"b.example\"",
            ),
            (
                "[\"127.0.0.1\"]",
                "j:6:12: `network` in [sandbox] holds a loopback address without a port: \"127.0.0.1\"\nhint: add the port: \"127.0.0.1:8080\"",
            ),
            (
                "[\"*.com\"]",
                "j:6:12: `network` in [sandbox] holds a wildcard for too many hosts: \"*.com\"\nhint: name more of it, such as \"*.example.com\"",
            ),
            (
                "\"a.example\"",
                "j:6:11: `network` in [sandbox] must be a list of hosts or \"all\": \"a.example\"\nhint: write it as a list: `network = [\"a.example\"]`",
            ),
            (
                "true",
                "j:6:11: `network` in [sandbox] must be a list of strings, not `true` or `false`\nhint: write it like `network = [\"packages.example.com\", \"127.0.0.1:8080\"]`",
            ),
        ] {
            assert_eq!(refusal(&format!("[sandbox]\nnetwork = {network}")), expected);
        }
        let of_check = refusal("[[check]]\nname = \"x\"\nrun = [\"x\"]\nnetwork = [\"*\"]");
        assert_eq!(
            of_check,
            "j:8:12: `network` in [[check]] cannot hold every host: \"*\"\nhint: for the machine's network write `network = \"all\"`"
        );
    }
}
