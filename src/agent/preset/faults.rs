//! What can be wrong in a preset although every value of it can be read.

use super::parts::Argument;
use super::pattern::EventPattern;
use super::schema::{
    ErrorRule, OutputFormat, Preset, PresetCall, PresetPermissions, PromptVia, SessionSource,
};
use crate::job::{AgentSection, in_prose};

/// The placeholders of arguments.
pub(super) const PLACEHOLDERS: [&str; 8] = [
    "prompt",
    "prompt_file",
    "session_id",
    "model",
    "cwd",
    "max_turns",
    "budget_usd",
    "last_message_file",
];

/// Those that stand alone and become several arguments, or none.
pub(super) const LISTS: [&str; 2] = ["{permissions}", "{args}"];

impl Preset {
    /// Everything that is wrong: the key, and a sentence that goes on after it.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        self.call_faults(&mut found);
        self.output_faults(&mut found);
        for (n, rule) in self.errors.iter().enumerate() {
            if let Some(fault) = rule_fault(rule) {
                found.push((format!("errors[{n}]"), fault));
            }
        }
        if let Some(default) = &self.permissions.default
            && self.permissions.get(default).is_none()
        {
            let known = PresetPermissions::NAMES.join("`, `");
            let fault = format!(
                "names a profile that is not there: `{default}`; a profile is one of `{known}`"
            );
            found.push(("permissions.default".into(), fault));
        }
        for (model, _) in self.prices.iter().filter(|(_, price)| !price.is_sound()) {
            found.push((format!("prices.{model}"), "holds what is no amount".into()));
        }
        if let Some(line) = self.usage.as_ref().and_then(|usage| usage.line.as_ref()) {
            let known = ["input", "output", "cache_read", "cache_write", "cost"];
            let mut names = line.regex().capture_names().flatten();
            if let Some(name) = names.find(|name| !known.contains(name)) {
                let fault = format!(
                    "has a group with an unknown name: `{name}`; known are {}",
                    known.join(", ")
                );
                found.push(("usage.line".into(), fault));
            }
        }
        found
    }

    fn call_faults(&self, found: &mut Vec<(String, String)>) {
        let PresetCall { start, resume, prompt } = &self.call;
        for (key, arguments) in [("call.start", start), ("call.resume", resume)] {
            let mut note = |fault: String| found.push((key.to_owned(), fault));
            if key == "call.resume" && arguments.is_empty() {
                continue;
            }
            for argument in arguments {
                argument_faults(argument, &mut note);
            }
            let has =
                |text: &str| arguments.iter().any(|a| a.texts().iter().any(|t| t.contains(text)));
            if arguments.is_empty() {
                note("may not be empty".into());
            } else if !has("{args}") {
                note("needs the place for the job's own arguments, \"{args}\"".into());
            }
            if self.name != "command" {
                match prompt {
                    PromptVia::Arg if !has("{prompt}") => {
                        note("needs \"{prompt}\", since `prompt = \"arg\"`".into());
                    }
                    PromptVia::File if !has("{prompt_file}") => {
                        note("needs \"{prompt_file}\", since `prompt = \"file\"`".into());
                    }
                    PromptVia::Arg | PromptVia::File | PromptVia::Stdin => {}
                }
            }
            if key == "call.resume" && !has("{session_id}") {
                note("needs \"{session_id}\"".into());
            }
        }
        match self.session.source {
            SessionSource::FirstEvent | SessionSource::EveryEvent => {
                if self.session.pointers.is_empty() {
                    found.push((
                        "session.pointers".into(),
                        "is missing: where does the name stand?".into(),
                    ));
                }
            }
            SessionSource::None if !resume.is_empty() => {
                found.push((
                    "session.source".into(),
                    "is missing: nothing names the session that `call.resume` resumes".into(),
                ));
            }
            SessionSource::Ours | SessionSource::None => {}
        }
    }

    fn output_faults(&self, found: &mut Vec<(String, String)>) {
        let output = &self.output;
        let events = output.format != OutputFormat::Text;
        if events && (output.end.is_empty() || output.ok.is_empty()) {
            found.push((
                "output".into(),
                "needs `final` and `ok`, unless `format = \"text\"`".into(),
            ));
        }
        let shapes: [(&str, Vec<&EventPattern>); 8] = [
            ("output.final", output.end.iter().collect()),
            ("output.ok", output.ok.iter().collect()),
            ("output.work", output.work.iter().collect()),
            ("output.denied", output.denied.iter().collect()),
            ("output.messages", output.messages.iter().map(|said| &said.when).collect()),
            ("said", self.said.iter().map(|said| &said.when).collect()),
            ("watch", self.watch.noise.iter().chain(&self.watch.progress).collect()),
            ("watch.hopeless", self.watch.hopeless.iter().map(|hopeless| &hopeless.when).collect()),
        ];
        for (key, shapes) in shapes {
            if shapes.iter().any(|shape| shape.is_empty()) {
                found.push((key.into(), "has a shape that fits every event: `{}`".into()));
            }
        }
    }
}

fn rule_fault(rule: &ErrorRule) -> Option<String> {
    let given =
        [rule.when.is_some(), !rule.status.is_empty(), rule.says.is_some(), !rule.exit.is_empty()];
    let count = given.into_iter().filter(|given| *given).count();
    if rule.when.as_ref().is_some_and(EventPattern::is_empty) {
        return Some("has a `when` that fits every event".into());
    }
    (count != 1).then(|| "needs exactly one of `when`, `status`, `says` and `exit`".into())
}

fn argument_faults(argument: &Argument, note: &mut impl FnMut(String)) {
    if let Argument::Group(texts) = argument
        && !texts.iter().any(|text| PLACEHOLDERS.iter().any(|p| text.contains(&format!("{{{p}}}"))))
    {
        note(format!("has a group without a placeholder: {texts:?}"));
    }
    for text in argument.texts() {
        if LISTS.contains(&text.as_str()) && matches!(argument, Argument::One(_)) {
            continue;
        }
        for (at, _) in text.match_indices('{') {
            let name = text[at + 1..].split('}').next().unwrap_or_default();
            let word = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if word && !PLACEHOLDERS.contains(&name) {
                let known = PLACEHOLDERS.join("}`, `{");
                note(format!(
                    "holds an unknown placeholder: `{{{name}}}`; known are `{{{known}}}`, and alone `{{permissions}}` and `{{args}}`"
                ));
            }
        }
    }
}

/// What the job asks for and the preset cannot do: the key, what is wrong, and what to do.
pub(super) fn misfits(
    preset: &Preset,
    agent: &AgentSection,
) -> Vec<(&'static str, String, Option<String>)> {
    let takes = |placeholder: &str| {
        let texts = preset.call.start.iter().flat_map(Argument::texts);
        texts.into_iter().any(|text| text.contains(placeholder))
    };
    let name = &preset.name;
    let mut found = Vec::new();
    let own = name == "command";
    let hint =
        |instead: &str| Some(if own { instead.to_owned() } else { "leave it out".to_owned() });
    if agent.model.is_some() && !takes("{model}") {
        found.push((
            "model",
            format!("cannot be told to `{name}`"),
            hint("write it into `command`"),
        ));
    }
    if agent.max_turns.is_some() && !takes("{max_turns}") {
        found.push((
            "max-turns",
            format!("cannot be told to `{name}`, which has no such cap"),
            hint("leave it out"),
        ));
    }
    if own && !agent.args.is_empty() {
        let message = "has no meaning for the preset `command`".to_owned();
        found.push(("args", message, Some("write them into `command`".into())));
    }
    if let Some(profile) = &agent.permissions
        && preset.permissions.get(profile).is_none()
    {
        let known =
            PresetPermissions::NAMES.into_iter().filter(|p| preset.permissions.get(p).is_some());
        let known = in_prose(known, "and");
        let hint = if known.is_empty() { "leave it out".into() } else { format!("it has {known}") };
        found.push((
            "permissions",
            format!("cannot be `{profile}`: `{name}` has no such profile"),
            Some(hint),
        ));
    }
    found
}
