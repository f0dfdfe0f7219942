//! The invocation of an agent's program for one session: arguments, environment, and prompt.

use std::borrow::Cow;

use thiserror::Error;

use super::schema::{PermissionProfile, Preset, PresetPermissions, PromptVia};
use super::value_types::Argument;
use crate::job::argument_template::{self, Replacement};

/// The session that a program is started for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InvocationRequest<'a> {
    /// True for a session that is resumed, false for a new session.
    pub resume: bool,
    /// The session's id: chosen by the harness, or learned from the program.
    pub session_id: Option<&'a str>,
    /// The model, if the job names one.
    pub model: Option<&'a str>,
    /// The prompt.
    pub prompt: &'a str,
    /// The path of a file with the prompt.
    pub prompt_file: &'a str,
    /// The working directory.
    pub cwd: &'a str,
    /// The file into which the program may write its last message.
    pub last_message_file: Option<&'a str>,
    /// The limit of turns.
    pub max_turns: Option<u32>,
    /// The limit of cost, in US dollars.
    pub budget_usd: Option<f64>,
    /// The permission profile. `None` selects the preset's default.
    pub permissions: Option<&'a str>,
    /// The job's own arguments. For the preset `command`: program and arguments.
    pub args: &'a [String],
    /// True if the program runs as root.
    pub is_root: bool,
}

/// The command line and the environment of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Variables with their values.
    pub env_set: Vec<(String, String)>,
    /// Variables that are passed through if they are set.
    pub env_pass: Vec<String>,
    /// Variables that must be absent.
    pub env_unset: Vec<String>,
    /// True if the prompt goes to standard input. Standard input is empty otherwise.
    pub stdin_prompt: bool,
}

/// The reason why a program cannot be invoked for a session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvocationError {
    /// The program cannot resume sessions.
    #[error("sessions of `{0}` cannot be resumed")]
    NoResume(String),
    /// The session has no id.
    #[error("`{0}` needs the name of a session, and there is none")]
    NoSession(String),
    /// The preset has no such permission profile.
    #[error("`{preset}` has no permissions `{profile}`; it has {known}")]
    NoProfile {
        /// The preset.
        preset: String,
        /// The missing profile.
        profile: String,
        /// The profiles of the preset, in prose.
        known: String,
    },
    /// The program does not work as root.
    #[error("`{preset}` does not work as root: {note}")]
    Root {
        /// The preset.
        preset: String,
        /// The advice to the user.
        note: String,
    },
    /// The command line is empty.
    #[error("`{0}` has no program to start: give `command` in [agent]")]
    Empty(String),
}

/// The longest prompt that is passed as an argument. Linux limits an argument to 128 KiB.
const LONGEST_PROMPT_ARGUMENT: usize = 100_000;

/// Returns the invocation of the preset's program for a session.
pub(crate) fn invocation(
    preset: &Preset,
    request: &InvocationRequest<'_>,
) -> Result<Invocation, InvocationError> {
    if request.is_root && preset.root.refused {
        let note = preset.root.note.clone().unwrap_or_else(|| "run it as another user".into());
        return Err(InvocationError::Root { preset: preset.name.clone(), note });
    }
    let template = if request.resume { &preset.call.resume } else { &preset.call.start };
    if template.is_empty() {
        return Err(InvocationError::NoResume(preset.name.clone()));
    }
    let profile = permission_profile(preset, request)?;
    let values = InvocationValues::new(preset, request, profile);
    let argv =
        expand(template, &values).ok_or_else(|| InvocationError::NoSession(preset.name.clone()))?;
    if argv.is_empty() {
        return Err(InvocationError::Empty(preset.name.clone()));
    }
    let mut env_set = preset.env.set.clone();
    if let Some(profile) = profile {
        env_set.extend(profile.env.clone());
        if request.is_root && profile.root_needs_env {
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

/// Returns the requested permission profile or the preset's default.
fn permission_profile<'p>(
    preset: &'p Preset,
    request: &InvocationRequest<'_>,
) -> Result<Option<&'p PermissionProfile>, InvocationError> {
    let Some(name) = request.permissions.or(preset.permissions.default.as_deref()) else {
        return Ok(None);
    };
    let no_profile = || InvocationError::NoProfile {
        preset: preset.name.clone(),
        profile: name.to_owned(),
        known: profiles_in_prose(&preset.permissions),
    };
    preset.permissions.get(name).map(Some).ok_or_else(no_profile)
}

/// Expands a command line. Returns `None` if a placeholder outside of a group has no value, such as
/// the id of a session without an id.
fn expand(template: &[Argument], values: &InvocationValues<'_>) -> Option<Vec<String>> {
    let expand_text =
        |text: &String| argument_template::expand(text, |name| values.replacement(name));
    let mut argv = Vec::new();
    for argument in template {
        match argument {
            Argument::One(text) => argv.extend(expand_text(text)?),
            Argument::Group(texts) => {
                let expanded: Option<Vec<Vec<String>>> = texts.iter().map(expand_text).collect();
                argv.extend(expanded.into_iter().flatten().flatten());
            }
        }
    }
    Some(argv)
}

/// Lists the profiles of a preset in prose.
fn profiles_in_prose(permissions: &PresetPermissions) -> String {
    let names: Vec<String> = permissions.names().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// The values of a preset's placeholders.
struct InvocationValues<'a> {
    request: &'a InvocationRequest<'a>,
    /// The prompt, or a reference to the prompt's file if the prompt is too long for an argument.
    prompt: Cow<'a, str>,
    model: Option<&'a str>,
    permission_args: &'a [String],
}

impl<'a> InvocationValues<'a> {
    fn new(
        preset: &'a Preset,
        request: &'a InvocationRequest<'a>,
        profile: Option<&'a PermissionProfile>,
    ) -> Self {
        let too_long =
            request.prompt.len() > LONGEST_PROMPT_ARGUMENT && preset.call.prompt == PromptVia::Arg;
        let prompt = if too_long {
            Cow::Owned(format!(
                "Your instructions are in the file {}. Read all of it, then do what it says.",
                request.prompt_file
            ))
        } else if request.prompt.starts_with('-') && preset.call.prompt == PromptVia::Arg {
            // Programs mistake an argument that begins with `-` for an option, even after `-p`.
            Cow::Owned(format!("\n{}", request.prompt))
        } else {
            Cow::Borrowed(request.prompt)
        };
        let permission_args: &[String] = match profile {
            None => &[],
            Some(PermissionProfile { resume_args: Some(args), .. }) if request.resume => args,
            Some(profile) => &profile.args,
        };
        let model = request.model.or(preset.model.as_deref());
        Self { request, prompt, model, permission_args }
    }

    fn replacement(&self, name: &str) -> Replacement<'_> {
        let text = |value: Option<&'a str>| value.map(Cow::Borrowed);
        let value = match name {
            "args" => return Replacement::Arguments(self.request.args.to_vec()),
            "permissions" => return Replacement::Arguments(self.permission_args.to_vec()),
            "prompt" => Some(Cow::Borrowed(&*self.prompt)),
            "prompt_file" => text(Some(self.request.prompt_file)),
            "session_id" => text(self.request.session_id),
            "model" => text(self.model),
            "cwd" => text(Some(self.request.cwd)),
            "max_turns" => self.request.max_turns.map(|turns| Cow::Owned(turns.to_string())),
            "budget_usd" => self.request.budget_usd.map(|usd| Cow::Owned(usd.to_string())),
            "last_message_file" => text(self.request.last_message_file),
            _ => return Replacement::Undefined,
        };
        value.map_or(Replacement::Missing, Replacement::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::preset::builtin;

    const ID: &str = "a1111111-1111-4111-8111-111111111111";

    fn argv(preset: &str, request: &InvocationRequest<'_>) -> String {
        invocation(&builtin(preset).unwrap(), request).unwrap().argv.join(" ")
    }

    #[test]
    fn invocation_of_claude_for_start_resume_and_root() {
        let request = InvocationRequest {
            session_id: Some(ID),
            prompt: "do it",
            is_root: true,
            ..InvocationRequest::default()
        };
        let shared = "--permission-mode bypassPermissions";
        assert_eq!(
            argv("claude", &request),
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
                    ..request
                }
            ),
            format!(
                "claude -p --output-format stream-json --verbose --resume {ID} {shared} --model opus --max-turns 30 --max-budget-usd 1.5"
            )
        );
        let call = invocation(&builtin("claude").unwrap(), &request).unwrap();
        assert!(call.stdin_prompt);
        let set =
            |name: &str| call.env_set.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(set("IS_SANDBOX"), Some("1"));
        assert_eq!(set("CLAUDE_CODE_MAX_RETRIES"), Some("2"));
        assert!(call.env_pass.contains(&"ANTHROPIC_API_KEY".to_owned()));
        assert!(call.env_unset.contains(&"CLAUDECODE".to_owned()));
        let other = InvocationRequest { is_root: false, ..request };
        let call = invocation(&builtin("claude").unwrap(), &other).unwrap();
        assert!(!call.env_set.iter().any(|(name, _)| name == "IS_SANDBOX"));
    }

    #[test]
    fn prompt_that_begins_with_a_dash_is_never_an_option() {
        for name in crate::agent::preset::NAMES.into_iter().filter(|name| *name != "command") {
            let preset = builtin(name).unwrap();
            for resume in [false, true] {
                let request = InvocationRequest {
                    resume,
                    session_id: Some(ID),
                    prompt: "- fix it\n--help",
                    prompt_file: "/t/prompt",
                    ..InvocationRequest::default()
                };
                if resume && preset.call.resume.is_empty() {
                    continue;
                }
                let argv = invocation(&preset, &request).unwrap().argv;
                assert!(!argv.iter().any(|arg| arg.starts_with("- fix")), "{name}: {argv:?}");
                let has_prompt = argv.iter().any(|arg| arg == "\n- fix it\n--help");
                assert_eq!(has_prompt, preset.call.prompt == PromptVia::Arg, "{name}: {argv:?}");
            }
        }
    }

    #[test]
    fn invocation_of_codex_for_start_and_resume() {
        let quiet = "-c check_for_update_on_startup=false -c analytics.enabled=false";
        let request = InvocationRequest {
            last_message_file: Some("/t/last"),
            prompt: "do it",
            ..InvocationRequest::default()
        };
        assert_eq!(
            argv("codex", &request),
            format!(
                "codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -o /t/last {quiet} -"
            )
        );
        let resume = InvocationRequest {
            resume: true,
            session_id: Some("01a2"),
            permissions: Some("edit"),
            ..request
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
        let model = InvocationRequest {
            args: &args,
            model: Some("gpt-5"),
            last_message_file: None,
            ..request
        };
        assert_eq!(
            argv("codex", &model),
            format!(
                "codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m gpt-5 {quiet} --image a.png -"
            )
        );
    }

    #[test]
    fn every_preset_is_invoked_with_every_permission_profile() {
        for name in crate::agent::preset::NAMES {
            let preset = builtin(name).unwrap();
            let args = [String::from("x")];
            for profile in preset.permissions.names() {
                for resume in [false, true] {
                    let request = InvocationRequest {
                        resume,
                        session_id: Some(ID),
                        prompt: "{model} p",
                        prompt_file: "/t/p",
                        permissions: Some(profile),
                        args: &args,
                        ..InvocationRequest::default()
                    };
                    match invocation(&preset, &request) {
                        Ok(call) => {
                            let text = call.argv.join(" ");
                            let has_prompt = call.stdin_prompt
                                || text.contains("{model} p")
                                || text.contains("/t/p");
                            assert!(has_prompt, "{name}: {text}");
                            assert!(!resume || text.contains(ID), "{name}: {text}");
                        }
                        Err(e) => assert!(resume && preset.call.resume.is_empty(), "{name}: {e}"),
                    }
                }
            }
        }
    }

    #[test]
    fn unsupported_invocation_is_an_error() {
        let amp = builtin("amp").unwrap();
        let request =
            InvocationRequest { permissions: Some("edit"), ..InvocationRequest::default() };
        let error = invocation(&amp, &request).unwrap_err().to_string();
        assert_eq!(error, "`amp` has no permissions `edit`; it has `all`");
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
    fn prompt_too_long_for_an_argument_is_passed_as_a_file() {
        let long = "x".repeat(LONGEST_PROMPT_ARGUMENT + 1);
        let request = InvocationRequest {
            session_id: Some(ID),
            prompt: &long,
            prompt_file: "/t/prompt.md",
            ..InvocationRequest::default()
        };
        let call = invocation(&builtin("gemini").unwrap(), &request).unwrap();
        assert!(call.argv.last().unwrap().contains("in the file /t/prompt.md."));
    }
}
