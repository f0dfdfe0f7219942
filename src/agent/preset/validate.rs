//! Consistency checks of a preset whose values have all been parsed.

use super::pattern::EventPattern;
use super::schema::{
    ErrorRule, OutputFormat, Preset, PresetCall, PresetPermissions, PromptVia, SessionSource,
};
use super::value_types::Argument;
use crate::job::{AgentSection, argument_template, in_prose};

/// The placeholders whose value is a text.
const TEXT_PLACEHOLDERS: [&str; 8] = [
    "prompt",
    "prompt_file",
    "session_id",
    "model",
    "cwd",
    "max_turns",
    "budget_usd",
    "last_message_file",
];

/// The placeholders whose value is a list of arguments. Each of these placeholders must be a
/// separate argument.
const LIST_PLACEHOLDERS: [&str; 2] = ["{permissions}", "{args}"];

/// A mistake in a preset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PresetFault {
    /// The key in the preset, such as `call.start`.
    pub key: String,
    /// The rest of a sentence that begins with the key.
    pub message: String,
}

impl PresetFault {
    fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// A setting of the job that the preset does not support.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnsupportedSetting {
    /// The key in the section of the job.
    pub(super) key: &'static str,
    /// The rest of a sentence that begins with the key.
    pub(super) message: String,
    /// The advice to the user.
    pub(super) hint: String,
}

impl Preset {
    /// Returns every mistake in the preset.
    pub(crate) fn faults(&self) -> Vec<PresetFault> {
        let mut faults = Vec::new();
        self.call_faults(&mut faults);
        self.session_faults(&mut faults);
        self.output_faults(&mut faults);
        for (index, rule) in self.errors.iter().enumerate() {
            if let Some(message) = error_rule_fault(rule) {
                faults.push(PresetFault::new(format!("errors[{index}]"), message));
            }
        }
        if let Some(default) = &self.permissions.default
            && self.permissions.get(default).is_none()
        {
            let known = PresetPermissions::NAMES.join("`, `");
            let message = format!(
                "names a profile that the preset does not have: `{default}`; a profile is one of `{known}`"
            );
            faults.push(PresetFault::new("permissions.default", message));
        }
        let is_inside = |path: &&String| {
            !path.starts_with('/') && !path.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        if let Some(path) = self.env.home.iter().find(|path| !is_inside(path)) {
            let message = format!("must hold paths inside the home: `{path}`");
            faults.push(PresetFault::new("env.home", message));
        }
        if let Some(message) = self.network.fault() {
            faults.push(PresetFault::new("network", message));
        }
        for (model, _) in self.prices.iter().filter(|(_, price)| !price.is_valid()) {
            faults.push(PresetFault::new(format!("prices.{model}"), "holds an invalid amount"));
        }
        if let Some(line) = self.usage.as_ref().and_then(|usage| usage.line.as_ref()) {
            let known = ["input", "output", "cache_read", "cache_write", "cost"];
            let mut names = line.regex().capture_names().flatten();
            if let Some(name) = names.find(|name| !known.contains(name)) {
                let known = known.join(", ");
                let message =
                    format!("has a group with an unknown name: `{name}`; known are {known}");
                faults.push(PresetFault::new("usage.line", message));
            }
        }
        faults
    }

    fn call_faults(&self, faults: &mut Vec<PresetFault>) {
        let PresetCall { start, resume, prompt } = &self.call;
        for (key, arguments) in [("call.start", start), ("call.resume", resume)] {
            if key == "call.resume" && arguments.is_empty() {
                continue;
            }
            let mut report = |message: String| faults.push(PresetFault::new(key, message));
            for argument in arguments {
                argument_faults(argument, &mut report);
            }
            if arguments.is_empty() {
                report("may not be empty".into());
            } else if !mentions(arguments, "args") {
                report("needs the place for the job's own arguments, \"{args}\"".into());
            }
            if self.name != "command" {
                match prompt {
                    PromptVia::Arg if !mentions(arguments, "prompt") => {
                        report("needs \"{prompt}\", since `prompt = \"arg\"`".into());
                    }
                    PromptVia::File if !mentions(arguments, "prompt_file") => {
                        report("needs \"{prompt_file}\", since `prompt = \"file\"`".into());
                    }
                    PromptVia::Arg | PromptVia::File | PromptVia::Stdin => {}
                }
            }
            if key == "call.resume" && !mentions(arguments, "session_id") {
                report("needs \"{session_id}\"".into());
            }
        }
    }

    fn session_faults(&self, faults: &mut Vec<PresetFault>) {
        match self.session.source {
            SessionSource::FirstEvent | SessionSource::EveryEvent => {
                if self.session.pointers.is_empty() {
                    let message = "is missing: nothing points to the session id in an event";
                    faults.push(PresetFault::new("session.pointers", message));
                }
            }
            SessionSource::None if !self.call.resume.is_empty() => {
                let message = "is missing: `call.resume` needs the id of the session";
                faults.push(PresetFault::new("session.source", message));
            }
            SessionSource::Ours | SessionSource::None => {}
        }
    }

    fn output_faults(&self, faults: &mut Vec<PresetFault>) {
        let output = &self.output;
        let has_events = output.format != OutputFormat::Text;
        if has_events && (output.final_events.is_empty() || output.ok.is_empty()) {
            let message = "needs `final` and `ok`, unless `format = \"text\"`";
            faults.push(PresetFault::new("output", message));
        }
        let patterns: [(&str, Vec<&EventPattern>); 8] = [
            ("output.final", output.final_events.iter().collect()),
            ("output.ok", output.ok.iter().collect()),
            ("output.work", output.work.iter().collect()),
            ("output.denied", output.denied.iter().collect()),
            ("output.messages", output.messages.iter().map(|text| &text.when).collect()),
            ("said", self.said.iter().map(|text| &text.when).collect()),
            ("watch", self.watch.noise.iter().chain(&self.watch.progress).collect()),
            ("watch.hopeless", self.watch.hopeless.iter().map(|rule| &rule.when).collect()),
        ];
        for (key, patterns) in patterns {
            if patterns.iter().any(|pattern| pattern.is_empty()) {
                faults.push(PresetFault::new(key, "has a pattern that matches every event: `{}`"));
            }
        }
    }
}

/// Returns true if one of the arguments holds the placeholder.
fn mentions(arguments: &[Argument], placeholder: &str) -> bool {
    let mut texts = arguments.iter().flat_map(Argument::texts);
    texts.any(|text| argument_template::names(text).any(|name| name == placeholder))
}

fn error_rule_fault(rule: &ErrorRule) -> Option<String> {
    let conditions =
        [rule.when.is_some(), !rule.status.is_empty(), rule.says.is_some(), !rule.exit.is_empty()];
    let count = conditions.into_iter().filter(|is_given| *is_given).count();
    if rule.when.as_ref().is_some_and(EventPattern::is_empty) {
        return Some("has a `when` that matches every event".into());
    }
    (count != 1).then(|| "needs exactly one of `when`, `status`, `says` and `exit`".into())
}

fn argument_faults(argument: &Argument, report: &mut impl FnMut(String)) {
    let is_text = |name: &str| TEXT_PLACEHOLDERS.contains(&name);
    if let Argument::Group(texts) = argument
        && !texts.iter().any(|text| argument_template::names(text).any(is_text))
    {
        report(format!("has a group without a placeholder: {texts:?}"));
    }
    for text in argument.texts() {
        if LIST_PLACEHOLDERS.contains(&text.as_str()) && matches!(argument, Argument::One(_)) {
            continue;
        }
        for name in argument_template::names(text).filter(|name| !is_text(name)) {
            let known = TEXT_PLACEHOLDERS.join("}`, `{");
            report(format!(
                "holds an unknown placeholder: `{{{name}}}`; known are `{{{known}}}`, and alone \
                 `{{permissions}}` and `{{args}}`"
            ));
        }
    }
}

/// Returns the settings of a job's section that the preset does not support.
pub(super) fn unsupported_settings(
    preset: &Preset,
    agent: &AgentSection,
) -> Vec<UnsupportedSetting> {
    let name = &preset.name;
    let is_command = name == "command";
    let hint = |for_command: &str| {
        if is_command { for_command.to_owned() } else { "leave it out".to_owned() }
    };
    let mut unsupported = Vec::new();
    if agent.model.is_some() && !mentions(&preset.call.start, "model") {
        unsupported.push(UnsupportedSetting {
            key: "model",
            message: format!("cannot be told to `{name}`"),
            hint: hint("write it into `command`"),
        });
    }
    if agent.max_turns.is_some() && !mentions(&preset.call.start, "max_turns") {
        unsupported.push(UnsupportedSetting {
            key: "max-turns",
            message: format!("cannot be told to `{name}`, which has no such cap"),
            hint: "leave it out".into(),
        });
    }
    if is_command && !agent.args.is_empty() {
        unsupported.push(UnsupportedSetting {
            key: "args",
            message: "has no meaning for the preset `command`".into(),
            hint: "write them into `command`".into(),
        });
    }
    if let Some(profile) = &agent.permissions
        && preset.permissions.get(profile).is_none()
    {
        let known = in_prose(preset.permissions.names(), "and");
        unsupported.push(UnsupportedSetting {
            key: "permissions",
            message: format!("cannot be `{profile}`: `{name}` has no such profile"),
            hint: if known.is_empty() { "leave it out".into() } else { format!("it has {known}") },
        });
    }
    unsupported
}
