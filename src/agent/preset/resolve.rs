//! From a job to its preset: what is built in, with what the job's own tables say put over it.

use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::builtin::{NAMES, text as builtin_text};
use super::faults::misfits;
use super::parts::{Argument, PresetDuration};
use super::schema::Preset;
use crate::job::{AgentSection, Job, JobError, JobErrors, in_prose, nearest, position};

/// The preset of a job's agent, with the job's model, program and time-outs in it.
pub(crate) fn resolve(job: &Job) -> Result<Preset, JobErrors> {
    called(job, "agent", &job.agent)
}

/// The same for the job's evaluator, if it has one.
pub(crate) fn resolve_evaluator(job: &Job) -> Result<Option<Preset>, JobErrors> {
    job.evaluate.as_ref().map(|evaluate| called(job, "evaluate", &evaluate.agent)).transpose()
}

/// A preset for what a section of the job says of a program.
fn called(job: &Job, section: &'static str, agent: &AgentSection) -> Result<Preset, JobErrors> {
    let tables = PresetTables::read(job, section)?;
    let mut preset = tables.preset(&agent.preset)?;
    let mut wrong = Vec::new();
    for name in job.presets.tables.keys().filter(|name| **name != agent.preset) {
        // What is not used today must not be wrong either.
        if let Err(faults) = tables.preset(name) {
            wrong.extend(faults.errors);
        }
    }
    wrong.extend(misfits(&preset, agent).into_iter().map(|(key, message, hint)| {
        let at = tables.caller_key(key);
        tables.error(at, &format!("{section}.{key}"), message, hint)
    }));
    if !wrong.is_empty() {
        return Err(tables.errors(wrong));
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

/// A preset by name, as a job's tables or the binary have it.
pub(crate) fn named(name: &str, job: Option<&Job>) -> Result<Preset, JobErrors> {
    match job {
        Some(job) => PresetTables::read(job, "agent")?.preset(name),
        None => PresetTables { section: "agent", file: String::new(), text: "", document: None }
            .preset(name),
    }
}

/// Puts another program in the place of the first argument.
fn replace_program(call: &mut Vec<Argument>, command: &[String]) {
    if !call.is_empty() {
        call.splice(..1, command.iter().cloned().map(Argument::One));
    }
}

/// The tables of a job file, with their places in it.
struct PresetTables<'j> {
    /// The section whose program it is about.
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
                let at = e.span().map_or(0, |span| span.start);
                let error = tables.error(at, "", e.message().to_owned(), None);
                Err(tables.errors(vec![error]))
            }
        }
    }

    /// What the file says of a preset, and where its table begins.
    fn own(&self, name: &str) -> Option<(&DeTable<'j>, usize)> {
        let presets = self.document.as_ref()?.get("presets")?.get_ref().as_table()?;
        let (key, value) = presets.get_key_value(name)?;
        Some((value.get_ref().as_table()?, key.span().start))
    }

    fn caller_key(&self, key: &str) -> usize {
        let agent = self.document.as_ref().and_then(|document| document.get(self.section));
        let value = agent.and_then(|agent| agent.get_ref().as_table()?.get(key));
        value.map_or(0, |value| value.span().start)
    }

    fn error(&self, at: usize, key: &str, message: String, hint: Option<String>) -> JobError {
        let (line, column) = position(self.text, at);
        // A fault of a key's value goes on after the key's name.
        let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
        let message =
            if key.is_empty() { message } else { format!("`{last}` in [{section}] {message}") };
        JobError { line, column, key: key.to_owned(), message, hint }
    }

    fn errors(&self, mut errors: Vec<JobError>) -> JobErrors {
        errors.sort_by_key(|e| (e.line, e.column));
        JobErrors { file: self.file.clone(), errors }
    }

    fn preset(&self, name: &str) -> Result<Preset, JobErrors> {
        let one = |error| self.errors(vec![error]);
        let merged = self.merged(name, &mut Vec::new()).map_err(one)?;
        let header = self.own(name).map_or(0, |(_, at)| at);
        let whole = Spanned::new(0..self.text.len(), merged);
        let mut preset = Preset::deserialize(Deserializer::from(whole))
            .map_err(|e| one(self.unreadable(name, header, &e)))?;
        preset.name = name.to_owned();
        let faults: Vec<JobError> = preset
            .faults()
            .into_iter()
            .map(|(key, fault)| {
                let at = self.own(name).and_then(|(table, _)| place(table, &key)).unwrap_or(header);
                self.error(at, &format!("presets.{name}.{key}"), fault, None)
            })
            .collect();
        if faults.is_empty() { Ok(preset) } else { Err(self.errors(faults)) }
    }

    /// The tables that a name stands for, one over the other.
    fn merged(&self, name: &str, above: &mut Vec<String>) -> Result<DeTable<'j>, JobError> {
        let own = self.own(name);
        let builtin = builtin_text(name).and_then(|text| DeTable::parse(text).ok());
        let Some((table, header)) = own else {
            return builtin.map(Spanned::into_inner).ok_or_else(|| self.unknown(name, above));
        };
        let path = format!("presets.{name}");
        above.push(name.to_owned());
        let mut base = match table.get("extends") {
            None => builtin.map(Spanned::into_inner).unwrap_or_else(|| {
                let mut new = DeTable::new();
                // A program of one's own has a name, and nobody but its owner has tried it.
                for (key, value) in [("name", name), ("tried", "by whoever wrote the job file")] {
                    let value = DeValue::String(value.to_owned().into());
                    new.insert(Spanned::new(0..0, key.into()), Spanned::new(0..0, value));
                }
                new
            }),
            Some(value) => {
                let at = value.span().start;
                let Some(base) = value.get_ref().as_str() else {
                    let message = "must be the name of a preset".into();
                    return Err(self.error(at, &format!("{path}.extends"), message, None));
                };
                if base == name && builtin.is_some() {
                    builtin.map(Spanned::into_inner).unwrap_or_default()
                } else if above.iter().any(|name| name == base) {
                    let message = format!("goes in a circle: `{}`", above.join("`, `"));
                    return Err(self.error(at, &format!("{path}.extends"), message, None));
                } else {
                    self.merged(base, above).map_err(|mut error| {
                        if error.key == "agent.preset" {
                            let (line, column) = position(self.text, at);
                            error =
                                JobError { line, column, key: format!("{path}.extends"), ..error };
                        }
                        error
                    })?
                }
            }
        };
        if table.contains_key("name") {
            let message = "is given already: it is what stands behind `presets.`".into();
            return Err(self.error(header, &format!("{path}.name"), message, None));
        }
        let mut over = table.clone();
        over.remove("extends");
        put_over(&mut base, over, true);
        Ok(base)
    }

    fn unknown(&self, name: &str, above: &[String]) -> JobError {
        let presets = self.document.as_ref().and_then(|document| document.get("presets"));
        let own = presets.and_then(|presets| presets.get_ref().as_table());
        let own: Vec<&str> =
            own.into_iter().flatten().map(|(key, _)| key.get_ref().as_ref()).collect();
        let known = || {
            NAMES.into_iter().chain(own.iter().copied().filter(|n| !above.iter().any(|a| a == n)))
        };
        let hint = match nearest(name, known()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!(
                "known are {}; others are described in [presets.NAME]",
                in_prose(known(), "and")
            ),
        };
        let message = format!("there is no preset \"{name}\"");
        let (line, column) = position(self.text, self.caller_key("preset"));
        JobError {
            line,
            column,
            key: format!("{}.preset", self.section),
            message,
            hint: Some(hint),
        }
    }

    /// What the reader says, as one of ours.
    fn unreadable(&self, name: &str, header: usize, error: &Error) -> JobError {
        let said = error.message();
        let at =
            error.span().filter(|span| inside(self.own(name), span)).map_or(header, |s| s.start);
        let (line, column) = position(self.text, at);
        let quoted = |text: &str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let names = quoted(said);
        let (message, hint) = match (said.starts_with("unknown field"), names.split_first()) {
            (true, Some((field, known))) => {
                let hint = match nearest(field, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        format!("known are {}", in_prose(known.iter().map(String::as_str), "and"))
                    }
                };
                (format!("unknown key `{field}` in [presets.{name}]"), Some(hint))
            }
            (true, None) | (false, _) => {
                let said = said.lines().collect::<Vec<_>>().join(", ");
                (
                    format!(
                        "[presets.{name}]: {}",
                        said.replace("missing field", "it needs the key")
                    ),
                    None,
                )
            }
        };
        JobError { line, column, key: format!("presets.{name}"), message, hint }
    }
}

/// Whether a place lies in the file's own table: what is built in has places of its own, and nothing wrong in it.
fn inside(own: Option<(&DeTable<'_>, usize)>, span: &Range<usize>) -> bool {
    own.is_some_and(|(_, header)| span.start >= header)
}

/// Where a key such as `errors[2]` or `call.start` stands in a table, or the nearest thing above it.
fn place(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) =
        key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (first, index) = match first.split_once('[') {
        Some((first, index)) => (first, index.trim_end_matches(']').parse::<usize>().ok()),
        None => (first, None),
    };
    let value = table.get(first)?;
    let here = value.span().start;
    let below = match (value.get_ref(), index, rest) {
        (DeValue::Table(table), _, Some(rest)) => place(table, rest),
        (DeValue::Array(list), Some(index), _) => list.get(index).map(|item| item.span().start),
        _ => None,
    };
    Some(below.unwrap_or(here))
}

/// Puts one table over another: tables are put together, `errors` come before those that were there, and everything
/// else takes the place of what was there.
fn put_over<'t>(base: &mut DeTable<'t>, over: DeTable<'t>, top: bool) {
    for (key, mut value) in over {
        if let Some(there) = base.get_mut(&key) {
            match (there.get_mut(), value.get_mut()) {
                (DeValue::Table(there), DeValue::Table(value)) => {
                    put_over(there, std::mem::take(value), false);
                    continue;
                }
                (DeValue::Array(there), DeValue::Array(value))
                    if top && key.get_ref() == "errors" =>
                {
                    std::mem::replace(there, DeArray::new())
                        .into_iter()
                        .for_each(|rule| value.push(rule));
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

    /// A job with these lines, which begin at line 5 and in `[agent]`.
    fn job(lines: &str) -> Job {
        parse(&format!("[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n{lines}\n"), "j")
            .unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn what_is_built_in_is_there_by_name() {
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
    fn a_table_is_put_over_what_is_built_in() {
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
    fn a_program_of_ones_own_needs_no_rust() {
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
        let ask = InvocationRequest {
            permissions: job.agent.permissions.as_deref(),
            ..InvocationRequest::default()
        };
        assert_eq!(invocation(&preset, &ask).unwrap().argv, ["mine", "--json", "--write"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let mut wrong = Vec::new();
        for (lines, said) in [
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
                "j:5:10: `name` in [presets.codex] is given already: it is what stands behind `presets.`",
            ),
        ] {
            let found = resolve(&job(lines)).unwrap_err().to_string();
            if found != said {
                wrong.push((lines, said, found));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
