//! How a program is called for one session: arguments, environment, and where the prompt goes.

use thiserror::Error;

use super::parts::Argument;
use super::schema::{Preset, PresetPermissions, PromptVia};

/// What is asked of a program.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InvocationRequest<'a> {
    /// Whether the session goes on, and does not begin.
    pub resume: bool,
    /// The session's name: ours, or the one that was learned.
    pub session_id: Option<&'a str>,
    /// The model, where the job names one.
    pub model: Option<&'a str>,
    /// The prompt…
    pub prompt: &'a str,
    /// … and a file that has it.
    pub prompt_file: &'a str,
    /// The folder in which it works.
    pub cwd: &'a str,
    /// The file into which it may write its last message.
    pub last_message_file: Option<&'a str>,
    /// At most so many turns.
    pub max_turns: Option<u32>,
    /// At most so much money, in US dollars.
    pub budget_usd: Option<f64>,
    /// The profile of what it may do; the preset's own default where the job names none.
    pub permissions: Option<&'a str>,
    /// The job's own arguments. Of the preset `command` they are program and arguments.
    pub args: &'a [String],
    /// Whether we are root.
    pub is_root: bool,
}

/// How a program is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Variables with values.
    pub env_set: Vec<(String, String)>,
    /// Variables that are passed through where they are set.
    pub env_pass: Vec<String>,
    /// Variables that must not be there, whoever passes them.
    pub env_unset: Vec<String>,
    /// Whether the prompt goes to standard input, which is closed behind it; it is closed from the beginning otherwise.
    pub stdin_prompt: bool,
}

/// Why a program cannot be called so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvocationError {
    /// Its sessions cannot go on.
    #[error("sessions of `{0}` cannot be resumed")]
    NoResume(String),
    /// The session has no name.
    #[error("`{0}` needs the name of a session, and there is none")]
    NoSession(String),
    /// It has no such profile.
    #[error("`{preset}` has no permissions `{profile}`; it has {known}")]
    NoProfile {
        /// The preset.
        preset: String,
        /// The profile.
        profile: String,
        /// Those that it has, in prose.
        known: String,
    },
    /// It does not work as root.
    #[error("`{preset}` does not work as root: {note}")]
    Root {
        /// The preset.
        preset: String,
        /// What a person must know.
        note: String,
    },
    /// Nothing is left to be started.
    #[error("`{0}` has no program to start: give `command` in [agent]")]
    Empty(String),
}

/// The longest prompt that goes in as an argument: Linux takes 128 KiB for one.
const LONGEST: usize = 100_000;

/// How a program is called for this.
pub(crate) fn invocation(
    preset: &Preset,
    ask: &InvocationRequest<'_>,
) -> Result<Invocation, InvocationError> {
    let name = || preset.name.clone();
    if ask.is_root && preset.root.refused {
        let note = preset.root.note.clone().unwrap_or_else(|| "run it as another user".into());
        return Err(InvocationError::Root { preset: name(), note });
    }
    let template = if ask.resume { &preset.call.resume } else { &preset.call.start };
    if template.is_empty() {
        return Err(InvocationError::NoResume(name()));
    }
    let permission = match ask.permissions.or(preset.permissions.default.as_deref()) {
        None => None,
        Some(profile) => {
            let no_profile = || InvocationError::NoProfile {
                preset: name(),
                profile: profile.to_owned(),
                known: known(&preset.permissions),
            };
            Some(preset.permissions.get(profile).ok_or_else(no_profile)?)
        }
    };
    let allowed: &[String] = permission.map_or(&[], |permission| match &permission.resume_args {
        Some(args) if ask.resume => args,
        Some(_) | None => &permission.args,
    });
    let too_long = ask.prompt.len() > LONGEST && preset.call.prompt == PromptVia::Arg;
    let instead = format!(
        "Your instructions are in the file {}. Read all of it, then do what it says.",
        ask.prompt_file
    );
    let values = Values {
        ask,
        prompt: if too_long { &instead } else { ask.prompt },
        model: ask.model.or(preset.model.as_deref()),
    };
    let mut argv = Vec::new();
    for argument in template {
        match argument {
            Argument::One(text) if text == "{args}" => argv.extend_from_slice(ask.args),
            Argument::One(text) if text == "{permissions}" => argv.extend_from_slice(allowed),
            Argument::One(text) => {
                // Of what has no value and stands alone, only a session's name is a must.
                let filled = values.fill(text).ok_or_else(|| InvocationError::NoSession(name()))?;
                argv.push(filled);
            }
            Argument::Group(texts) => {
                let filled: Option<Vec<String>> =
                    texts.iter().map(|text| values.fill(text)).collect();
                argv.extend(filled.unwrap_or_default());
            }
        }
    }
    if argv.is_empty() {
        return Err(InvocationError::Empty(name()));
    }
    let mut env_set = preset.env.set.clone();
    if let Some(permission) = permission {
        env_set.extend(permission.env.clone());
        if ask.is_root && permission.root_needs_env {
            env_set.extend(preset.root.env.clone());
        }
    }
    Ok(Invocation {
        argv,
        env_set: env_set.into_iter().collect(),
        env_pass: preset.env.pass.clone(),
        env_unset: preset.env.unset.clone(),
        stdin_prompt: preset.call.prompt == PromptVia::Stdin,
    })
}

/// The profiles that there are, in prose.
fn known(permissions: &PresetPermissions) -> String {
    let names = PresetPermissions::NAMES.into_iter().filter(|name| permissions.get(name).is_some());
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// The values of placeholders.
struct Values<'a> {
    ask: &'a InvocationRequest<'a>,
    prompt: &'a str,
    model: Option<&'a str>,
}

impl Values<'_> {
    /// The text with its placeholders replaced, once: what a value holds stays as it is. Nothing if one has no value.
    fn fill(&self, text: &str) -> Option<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            let close = rest.find('}').map_or(rest.len(), |close| close + 1);
            let (written, after) = rest.split_at(close);
            let value = match written {
                "{prompt}" => self.prompt.to_owned(),
                "{prompt_file}" => self.ask.prompt_file.to_owned(),
                "{session_id}" => self.ask.session_id?.to_owned(),
                "{model}" => self.model?.to_owned(),
                "{cwd}" => self.ask.cwd.to_owned(),
                "{max_turns}" => self.ask.max_turns?.to_string(),
                "{budget_usd}" => self.ask.budget_usd?.to_string(),
                "{last_message_file}" => self.ask.last_message_file?.to_owned(),
                // A brace of the program's own.
                _ => {
                    filled.push('{');
                    rest = &rest[1..];
                    continue;
                }
            };
            filled.push_str(&value);
            rest = after;
        }
        filled.push_str(rest);
        Some(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::preset::builtin;

    const ID: &str = "a1111111-1111-4111-8111-111111111111";

    fn argv(preset: &str, ask: &InvocationRequest<'_>) -> String {
        invocation(&builtin(preset).unwrap(), ask).unwrap().argv.join(" ")
    }

    #[test]
    fn claude_as_it_was_measured() {
        let ask = InvocationRequest {
            session_id: Some(ID),
            prompt: "do it",
            is_root: true,
            ..InvocationRequest::default()
        };
        let shared = "--permission-mode bypassPermissions";
        assert_eq!(
            argv("claude", &ask),
            format!("claude -p --output-format stream-json --verbose --session-id {ID} {shared}")
        );
        assert_eq!(
            argv(
                "claude",
                &InvocationRequest {
                    resume: true,
                    model: Some("opus"),
                    max_turns: Some(30),
                    budget_usd: Some(1.5),
                    ..ask
                }
            ),
            format!(
                "claude -p --output-format stream-json --verbose --resume {ID} {shared} --model opus --max-turns 30 --max-budget-usd 1.5"
            )
        );
        let call = invocation(&builtin("claude").unwrap(), &ask).unwrap();
        assert!(call.stdin_prompt);
        let set =
            |name: &str| call.env_set.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(set("IS_SANDBOX"), Some("1"));
        assert_eq!(set("CLAUDE_CODE_MAX_RETRIES"), Some("2"));
        assert!(call.env_pass.contains(&"ANTHROPIC_API_KEY".to_owned()));
        assert!(call.env_unset.contains(&"CLAUDECODE".to_owned()));
        let other = InvocationRequest { is_root: false, ..ask };
        let call = invocation(&builtin("claude").unwrap(), &other).unwrap();
        assert!(!call.env_set.iter().any(|(name, _)| name == "IS_SANDBOX"));
    }

    #[test]
    fn codex_as_it_was_measured() {
        let quiet = "-c check_for_update_on_startup=false -c analytics.enabled=false";
        let ask = InvocationRequest {
            last_message_file: Some("/t/last"),
            prompt: "do it",
            ..InvocationRequest::default()
        };
        assert_eq!(
            argv("codex", &ask),
            format!(
                "codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -o /t/last {quiet} -"
            )
        );
        let resume = InvocationRequest {
            resume: true,
            session_id: Some("01a2"),
            permissions: Some("edit"),
            ..ask
        };
        assert_eq!(
            argv("codex", &resume),
            format!(
                "codex exec resume --json --skip-git-repo-check -c approval_policy=never -c sandbox_mode=workspace-write -o /t/last {quiet} 01a2 -"
            )
        );
        let nameless = InvocationRequest { session_id: None, ..resume };
        let codex = builtin("codex").unwrap();
        assert_eq!(invocation(&codex, &nameless), Err(InvocationError::NoSession("codex".into())));
        let args = ["--image".to_owned(), "a.png".to_owned()];
        let model =
            InvocationRequest { args: &args, model: Some("gpt-5"), last_message_file: None, ..ask };
        assert_eq!(
            argv("codex", &model),
            format!(
                "codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m gpt-5 {quiet} --image a.png -"
            )
        );
    }

    #[test]
    fn every_preset_can_be_called_in_every_profile_it_has() {
        for name in crate::agent::preset::NAMES {
            let preset = builtin(name).unwrap();
            let args = [String::from("x")];
            for profile in
                PresetPermissions::NAMES.into_iter().filter(|p| preset.permissions.get(p).is_some())
            {
                for resume in [false, true] {
                    let ask = InvocationRequest {
                        resume,
                        session_id: Some(ID),
                        prompt: "{model} p",
                        prompt_file: "/t/p",
                        permissions: Some(profile),
                        args: &args,
                        ..InvocationRequest::default()
                    };
                    match invocation(&preset, &ask) {
                        Ok(call) => {
                            let text = call.argv.join(" ");
                            let told = call.stdin_prompt
                                || text.contains("{model} p")
                                || text.contains("/t/p");
                            assert!(told, "{name}: {text}");
                            assert!(!resume || text.contains(ID), "{name}: {text}");
                        }
                        Err(e) => assert!(resume && preset.call.resume.is_empty(), "{name}: {e}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_preset_cannot_do_is_said() {
        let amp = builtin("amp").unwrap();
        let ask = InvocationRequest { permissions: Some("edit"), ..InvocationRequest::default() };
        let said = invocation(&amp, &ask).unwrap_err().to_string();
        assert_eq!(said, "`amp` has no permissions `edit`; it has `all`");
        let aider = builtin("aider").unwrap();
        let resume = InvocationRequest { resume: true, ..InvocationRequest::default() };
        assert_eq!(invocation(&aider, &resume), Err(InvocationError::NoResume("aider".into())));
        let mut refused = aider;
        refused.root.refused = true;
        let root = InvocationRequest { is_root: true, ..InvocationRequest::default() };
        assert!(matches!(invocation(&refused, &root), Err(InvocationError::Root { .. })));
        let command = builtin("command").unwrap();
        assert_eq!(
            invocation(&command, &InvocationRequest::default()),
            Err(InvocationError::Empty("command".into()))
        );
    }

    #[test]
    fn a_prompt_that_is_too_long_for_an_argument_is_a_file() {
        let long = "x".repeat(LONGEST + 1);
        let ask = InvocationRequest {
            session_id: Some(ID),
            prompt: &long,
            prompt_file: "/t/prompt.md",
            ..InvocationRequest::default()
        };
        let call = invocation(&builtin("gemini").unwrap(), &ask).unwrap();
        assert!(call.argv.last().unwrap().contains("in the file /t/prompt.md."));
    }
}
