//! Resolution of a job's preset: the built-in preset, overridden by the job's `[presets]` tables.

use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::builtin::{NAMES, builtin_text};
use super::schema::Preset;
use super::validate::{PresetFault, UnsupportedSetting, unsupported_settings};
use super::value_types::{Argument, PresetDuration};
use crate::job::{AgentSection, Job, JobError, JobErrors, in_prose, position, suggest};

/// Returns the preset of a job's agent, with the job's model, program and timeouts.
pub(crate) fn resolve(job: &Job) -> Result<Preset, JobErrors> {
    resolve_section(job, "agent", &job.agent)
}

/// Returns the preset of a job's evaluator, with the job's model, program and timeouts.
pub(crate) fn resolve_evaluator(job: &Job) -> Result<Option<Preset>, JobErrors> {
    job.evaluate
        .as_ref()
        .map(|evaluate| resolve_section(job, "evaluate", &evaluate.agent))
        .transpose()
}

/// Returns the preset for a section of the job.
fn resolve_section(
    job: &Job,
    section: &'static str,
    agent: &AgentSection,
) -> Result<Preset, JobErrors> {
    let tables = PresetTables::read(job, section)?;
    let mut preset = tables.preset(&agent.preset)?;
    let mut errors = Vec::new();
    for name in job.presets.tables.keys().filter(|name| **name != agent.preset) {
        // An unused preset must be valid, too.
        if let Err(invalid) = tables.preset(name) {
            errors.extend(invalid.errors);
        }
    }
    let unsupported = unsupported_settings(&preset, agent).into_iter();
    errors.extend(unsupported.map(|UnsupportedSetting { key, message, hint }| {
        let offset = tables.offset_in_section(key);
        tables.error(offset, &format!("{section}.{key}"), message, Some(hint))
    }));
    if !errors.is_empty() {
        return Err(tables.errors(errors));
    }
    preset.model = agent.model.clone().or(preset.model);
    if preset.name != "command" && !agent.command.is_empty() {
        for call in [&mut preset.call.start, &mut preset.call.resume] {
            replace_program(call, &agent.command);
        }
        preset.detect.program = agent.command.first().cloned();
        preset.detect.version.clear();
    }
    let (wall, idle) = (agent.timeout_is_set, agent.idle_timeout_is_set);
    if wall || preset.timeouts.wall.is_none() {
        preset.timeouts.wall = Some(PresetDuration(agent.timeout));
    }
    if idle || preset.timeouts.idle.is_none() {
        preset.timeouts.idle = Some(PresetDuration(agent.idle_timeout));
    }
    Ok(preset)
}

/// Returns the preset with this name, from the job's tables or the binary.
pub(crate) fn named(name: &str, job: Option<&Job>) -> Result<Preset, JobErrors> {
    match job {
        Some(job) => PresetTables::read(job, "agent")?.preset(name),
        None => PresetTables { section: "agent", file: String::new(), text: "", document: None }
            .preset(name),
    }
}

/// Replaces the first argument, the program.
fn replace_program(call: &mut Vec<Argument>, command: &[String]) {
    if !call.is_empty() {
        call.splice(..1, command.iter().cloned().map(Argument::One));
    }
}

/// The `[presets]` tables of a job file, with their positions.
struct PresetTables<'j> {
    /// The section that names the preset.
    section: &'static str,
    file: String,
    text: &'j str,
    document: Option<DeTable<'j>>,
}

impl<'j> PresetTables<'j> {
    fn read(job: &'j Job, section: &'static str) -> Result<Self, JobErrors> {
        let text = job.presets.text.as_str();
        let file = job.presets.file.clone();
        match DeTable::parse(text) {
            Ok(document) => Ok(Self { section, file, text, document: Some(document.into_inner()) }),
            Err(e) => {
                let tables = Self { section, file, text, document: None };
                let offset = e.span().map_or(0, |span| span.start);
                let error = tables.error(offset, "", e.message().to_owned(), None);
                Err(tables.errors(vec![error]))
            }
        }
    }

    /// Returns the job's table for a preset and the table's offset in the file.
    fn own_table(&self, name: &str) -> Option<(&DeTable<'j>, usize)> {
        let presets = self.document.as_ref()?.get("presets")?.get_ref().as_table()?;
        let (key, value) = presets.get_key_value(name)?;
        Some((value.get_ref().as_table()?, key.span().start))
    }

    /// Returns the offset of a key's value in the section that names the preset.
    fn offset_in_section(&self, key: &str) -> usize {
        let section = self.document.as_ref().and_then(|document| document.get(self.section));
        let value = section.and_then(|section| section.get_ref().as_table()?.get(key));
        value.map_or(0, |value| value.span().start)
    }

    fn error(&self, offset: usize, key: &str, message: String, hint: Option<String>) -> JobError {
        let (line, column) = position(self.text, offset);
        // The message is the rest of a sentence that begins with the key.
        let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
        let message =
            if key.is_empty() { message } else { format!("`{last}` in [{section}] {message}") };
        JobError { line, column, key: key.to_owned(), message, hint }
    }

    fn errors(&self, mut errors: Vec<JobError>) -> JobErrors {
        errors.sort_by_key(|e| (e.line, e.column));
        JobErrors { file: self.file.clone(), errors }
    }

    /// Returns the preset with this name after all overrides.
    fn preset(&self, name: &str) -> Result<Preset, JobErrors> {
        let single = |error| self.errors(vec![error]);
        let merged = self.merged(name, &mut Vec::new()).map_err(single)?;
        let header = self.own_table(name).map_or(0, |(_, offset)| offset);
        let document = Spanned::new(0..self.text.len(), merged);
        let mut preset = Preset::deserialize(Deserializer::from(document))
            .map_err(|error| single(self.deserialize_error(name, header, &error)))?;
        preset.name = name.to_owned();
        let faults: Vec<JobError> = preset
            .faults()
            .into_iter()
            .map(|PresetFault { key, message }| {
                let own = self.own_table(name).and_then(|(table, _)| key_offset(table, &key));
                let offset = own.unwrap_or(header);
                self.error(offset, &format!("presets.{name}.{key}"), message, None)
            })
            .collect();
        if faults.is_empty() { Ok(preset) } else { Err(self.errors(faults)) }
    }

    /// Merges the tables of a preset and of the presets that it extends. `extending` holds the
    /// names from the requested preset down to this preset, to detect cycles.
    fn merged(&self, name: &str, extending: &mut Vec<String>) -> Result<DeTable<'j>, JobError> {
        let own = self.own_table(name);
        let builtin = builtin_text(name).and_then(|text| DeTable::parse(text).ok());
        let Some((table, header)) = own else {
            return builtin
                .map(Spanned::into_inner)
                .ok_or_else(|| self.unknown_preset(name, extending));
        };
        let path = format!("presets.{name}");
        extending.push(name.to_owned());
        let mut base = match table.get("extends") {
            None => builtin.map(Spanned::into_inner).unwrap_or_else(|| {
                let mut new = DeTable::new();
                // The job may omit these required keys of a new preset.
                for (key, value) in [("name", name), ("tried", "by whoever wrote the job file")] {
                    let value = DeValue::String(value.to_owned().into());
                    new.insert(Spanned::new(0..0, key.into()), Spanned::new(0..0, value));
                }
                new
            }),
            Some(value) => {
                let offset = value.span().start;
                let Some(base) = value.get_ref().as_str() else {
                    let message = "must be the name of a preset".into();
                    return Err(self.error(offset, &format!("{path}.extends"), message, None));
                };
                if base == name && builtin.is_some() {
                    builtin.map(Spanned::into_inner).unwrap_or_default()
                } else if extending.iter().any(|name| name == base) {
                    let message = format!("goes in a circle: `{}`", extending.join("`, `"));
                    return Err(self.error(offset, &format!("{path}.extends"), message, None));
                } else {
                    self.merged(base, extending).map_err(|mut error| {
                        if error.key == "agent.preset" {
                            let (line, column) = position(self.text, offset);
                            error =
                                JobError { line, column, key: format!("{path}.extends"), ..error };
                        }
                        error
                    })?
                }
            }
        };
        if table.contains_key("name") {
            let message = "is given already, as the part after `presets.`".into();
            return Err(self.error(header, &format!("{path}.name"), message, None));
        }
        let mut overrides = table.clone();
        overrides.remove("extends");
        merge(&mut base, overrides, true);
        Ok(base)
    }

    fn unknown_preset(&self, name: &str, extending: &[String]) -> JobError {
        let presets = self.document.as_ref().and_then(|document| document.get("presets"));
        let own = presets.and_then(|presets| presets.get_ref().as_table());
        let own: Vec<&str> =
            own.into_iter().flatten().map(|(key, _)| key.get_ref().as_ref()).collect();
        let is_other = |name: &&str| !extending.iter().any(|other| other == name);
        let known = || NAMES.into_iter().chain(own.iter().copied().filter(is_other));
        let hint = match suggest(name, known()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!(
                "known are {}; others are described in [presets.NAME]",
                in_prose(known(), "and")
            ),
        };
        let message = format!("there is no preset \"{name}\"");
        let (line, column) = position(self.text, self.offset_in_section("preset"));
        JobError {
            line,
            column,
            key: format!("{}.preset", self.section),
            message,
            hint: Some(hint),
        }
    }

    /// Converts an error of the deserializer.
    fn deserialize_error(&self, name: &str, header: usize, error: &Error) -> JobError {
        let text = error.message();
        let own = error.span().filter(|span| is_inside(self.own_table(name), span));
        let (line, column) = position(self.text, own.map_or(header, |span| span.start));
        let quoted = |text: &str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let names = quoted(text);
        let (message, hint) = match (text.starts_with("unknown field"), names.split_first()) {
            (true, Some((field, known))) => {
                let hint = match suggest(field, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        format!("known are {}", in_prose(known.iter().map(String::as_str), "and"))
                    }
                };
                (format!("unknown key `{field}` in [presets.{name}]"), Some(hint))
            }
            (true, None) | (false, _) => {
                let text = text.lines().collect::<Vec<_>>().join(", ");
                (
                    format!(
                        "[presets.{name}]: {}",
                        text.replace("missing field", "it needs the key")
                    ),
                    None,
                )
            }
        };
        JobError { line, column, key: format!("presets.{name}"), message, hint }
    }
}

/// Returns true if a span lies in the job's own table. Spans in built-in presets refer to another
/// text.
fn is_inside(own: Option<(&DeTable<'_>, usize)>, span: &Range<usize>) -> bool {
    own.is_some_and(|(_, header)| span.start >= header)
}

/// Returns the offset of a key such as `errors[2]` or `call.start`, or of the nearest enclosing
/// key.
fn key_offset(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) =
        key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (first, index) = match first.split_once('[') {
        Some((first, index)) => (first, index.trim_end_matches(']').parse::<usize>().ok()),
        None => (first, None),
    };
    let value = table.get(first)?;
    let nested = match (value.get_ref(), index, rest) {
        (DeValue::Table(table), _, Some(rest)) => key_offset(table, rest),
        (DeValue::Array(list), Some(index), _) => list.get(index).map(|item| item.span().start),
        _ => None,
    };
    Some(nested.unwrap_or(value.span().start))
}

/// Merges `overrides` into `base`.
///
/// Tables are merged recursively, and the rules of the top-level `errors` are put before the rules
/// of the base. Any other value replaces the base's value.
fn merge<'t>(base: &mut DeTable<'t>, overrides: DeTable<'t>, is_top: bool) {
    for (key, mut value) in overrides {
        if let Some(base_value) = base.get_mut(&key) {
            match (base_value.get_mut(), value.get_mut()) {
                (DeValue::Table(base_table), DeValue::Table(table)) => {
                    merge(base_table, std::mem::take(table), false);
                    continue;
                }
                (DeValue::Array(base_rules), DeValue::Array(rules))
                    if is_top && key.get_ref() == "errors" =>
                {
                    std::mem::replace(base_rules, DeArray::new())
                        .into_iter()
                        .for_each(|rule| rules.push(rule));
                }
                _ => {}
            }
        }
        base.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::preset::{InvocationRequest, SessionSource, builtin, invocation};
    use crate::domain::session::Class;
    use crate::job::parse;

    /// Parses a job. The first of `lines` is line 5 of the file and belongs to `[agent]`.
    fn job(lines: &str) -> Job {
        parse(&format!("[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n{lines}\n"), "j")
            .unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn resolve_finds_every_builtin_preset() {
        for name in NAMES {
            let mut preset = resolve(&job(&format!("preset = \"{name}\""))).unwrap();
            if name != "command" {
                assert_eq!(preset.call.start[0].texts(), ["a"], "{name}");
                preset.call = builtin(name).unwrap().call;
                preset.detect = builtin(name).unwrap().detect;
            }
            assert_eq!(preset.timeouts.wall.map(|p| p.0.as_secs()), Some(1800), "{name}");
            preset.timeouts = builtin(name).unwrap().timeouts;
            assert_eq!(preset, builtin(name).unwrap());
            assert_eq!(named(name, None).unwrap(), builtin(name).unwrap());
        }
    }

    #[test]
    fn presets_table_overrides_and_extends_a_builtin_preset() {
        let job = job(r#"preset = "codex"
model = "mine-1"
timeout = "7m"
[presets.codex]
litter = ["*.tmp"]
env.set.TZ = "Europe/Berlin"
timeouts.idle = "3m"
[[presets.codex.errors]]
class = "overloaded"
says = "usage limit"
[presets.codex.prices]
mine-1 = { input = 1, output = 2 }
[presets.mine]
extends = "codex"
[presets.mine.call]
start = ["mine", "{args}"]"#);
        let preset = resolve(&job).unwrap();
        let built_in = builtin("codex").unwrap();
        assert_eq!(preset.litter, ["*.tmp"]);
        assert_eq!(&*preset.env.set["TZ"], "Europe/Berlin");
        assert_eq!(preset.errors.len(), built_in.errors.len() + 1);
        assert_eq!(preset.errors[0].class, Class::Overloaded);
        assert_eq!(preset.errors[1..], built_in.errors);
        assert!(preset.price("mine-1").is_some() && preset.price("gpt-5").is_some());
        assert_eq!(preset.model.as_deref(), Some("mine-1"));
        let seconds = |period: Option<PresetDuration>| period.map(|period| period.0.as_secs());
        assert_eq!(
            (seconds(preset.timeouts.wall), seconds(preset.timeouts.idle)),
            (Some(420), Some(180))
        );
        let mine = named("mine", Some(&job)).unwrap();
        assert_eq!((&*mine.name, &*mine.env.set["TZ"]), ("mine", "Europe/Berlin"));
        assert_eq!(mine.call.resume, built_in.call.resume);
        assert_eq!(mine.call.start.len(), 2);
    }

    #[test]
    fn presets_table_defines_a_new_preset() {
        let job = parse(
            r#"[job]
goal = "g"
[agent]
preset = "mine"
permissions = "edit"
[presets.mine]
call = { start = ["mine", "--json", "{permissions}", "{args}"], prompt = "stdin" }
session = { source = "first-event", pointers = ["/id"] }
output = { format = "jsonl", final = [{ "/t" = "end" }], ok = [{ "/t" = "end", "/ok" = true }] }
permissions = { edit = { args = ["--write"] } }
"#,
            "j",
        )
        .unwrap();
        let preset = resolve(&job).unwrap();
        assert_eq!(preset.session.source, SessionSource::FirstEvent);
        let request = InvocationRequest {
            permissions: job.agent.permissions.as_deref(),
            ..InvocationRequest::default()
        };
        assert_eq!(invocation(&preset, &request).unwrap().argv, ["mine", "--json", "--write"]);
    }

    #[test]
    fn preset_errors_name_position_and_hint() {
        let mut mismatches = Vec::new();
        for (lines, expected) in [
            (
                "preset = \"cladue\"",
                "j:5:10: there is no preset \"cladue\"\nhint: did you mean \"claude\"?",
            ),
            (
                "preset = \"zzz\"\n[presets.yyyy]\nextends = \"command\"",
                "j:5:10: there is no preset \"zzz\"\nhint: known are `claude`, `codex`, `gemini`, `opencode`, `qwen`, `copilot`, `aider`, `cursor-agent`, `amp`, `goose`, `command` and `yyyy`; others are described in [presets.NAME]",
            ),
            (
                "[presets.claude]\nliter = []",
                "j:6:1: unknown key `liter` in [presets.claude]\nhint: did you mean `litter`?",
            ),
            (
                "[presets.claude.call]\nprompt = \"pipe\"",
                "j:6:10: [presets.claude]: unknown variant `pipe`, expected one of `arg`, `stdin`, `file`",
            ),
            (
                "[presets.mine]\nextends = \"cluade\"",
                "j:6:11: there is no preset \"cluade\"\nhint: did you mean \"claude\"?",
            ),
            (
                "[presets.a]\nextends = \"b\"\n[presets.b]\nextends = \"a\"",
                "j:6:11: `extends` in [presets.a] goes in a circle: `b`, `a`\nj:8:11: `extends` in [presets.b] goes in a circle: `a`, `b`",
            ),
            ("[presets.mine]\nlitter = []", "j:5:10: [presets.mine]: it needs the key `call`"),
            (
                "[presets.codex.call]\nstart = [\"codex\", \"{modle}\", \"{args}\"]",
                "j:6:9: `start` in [presets.codex.call] holds an unknown placeholder: `{modle}`; known are `{prompt}`, `{prompt_file}`, `{session_id}`, `{model}`, `{cwd}`, `{max_turns}`, `{budget_usd}`, `{last_message_file}`, and alone `{permissions}` and `{args}`",
            ),
            (
                "[[presets.codex.errors]]\nclass = \"auth\"",
                "j:5:1: `errors[0]` in [presets.codex] needs exactly one of `when`, `status`, `says` and `exit`",
            ),
            (
                "[[presets.codex.errors]]\nclass = \"auth\"\nsays = \"(\"",
                "j:7:8: [presets.codex]: is no regular expression: unclosed group: `(`",
            ),
            (
                "preset = \"command\"\nmodel = \"m\"",
                "j:6:9: `model` in [agent] cannot be told to `command`\nhint: write it into `command`",
            ),
            (
                "preset = \"codex\"\nmax-turns = 3",
                "j:6:13: `max-turns` in [agent] cannot be told to `codex`, which has no such cap\nhint: leave it out",
            ),
            (
                "preset = \"amp\"\npermissions = \"edit\"",
                "j:6:15: `permissions` in [agent] cannot be `edit`: `amp` has no such profile\nhint: it has `all`",
            ),
            (
                "args = [\"x\"]",
                "j:5:8: `args` in [agent] has no meaning for the preset `command`\nhint: write them into `command`",
            ),
            (
                "[presets.codex]\nname = \"x\"",
                "j:5:10: `name` in [presets.codex] is given already, as the part after `presets.`",
            ),
        ] {
            let error = resolve(&job(lines)).unwrap_err().to_string();
            if error != expected {
                mismatches.push((lines, expected, error));
            }
        }
        assert!(mismatches.is_empty(), "{mismatches:#?}");
    }
}
