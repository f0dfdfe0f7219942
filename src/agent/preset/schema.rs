//! The schema of a preset's file. What a key means stands at its field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parts::{Argument, CodeRange, PresetDuration, PresetSignal, PresetSignalTarget, class};
use super::pattern::{EventPattern, Pattern, Pointer};
use super::prices::{self, Price};
use crate::domain::session::Class;

/// Everything that is known about one agent's program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Preset {
    /// Its name, as `[agent] preset` says it.
    pub name: String,
    /// With which version which parts of this were tried; `documentation only` where none was.
    pub tried: String,
    /// The model, where the job names one: it is handed to the program, and it has the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Names and globs of what the program leaves in its folder and nobody wants.
    #[serde(default)]
    pub litter: Vec<String>,
    /// How the program is found.
    #[serde(default)]
    pub detect: PresetDetect,
    /// How it is called.
    pub call: PresetCall,
    /// How its sessions are named.
    #[serde(default)]
    pub session: PresetSession,
    /// What it prints.
    pub output: PresetOutput,
    /// Where it tells what was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<PresetUsage>,
    /// Which events tell what went wrong, and where in them.
    #[serde(default)]
    pub said: Vec<EventText>,
    /// What failures mean, the first that fits; before the rules that hold for all programs.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// What to make of its output while it runs.
    #[serde(default)]
    pub watch: PresetWatch,
    /// What it may do.
    #[serde(default)]
    pub permissions: PresetPermissions,
    /// Its environment.
    #[serde(default)]
    pub env: PresetEnv,
    /// What is different for root.
    #[serde(default)]
    pub root: PresetRoot,
    /// How it is asked to stop, before its whole tree is ended.
    #[serde(default)]
    pub stop: Vec<PresetStopStep>,
    /// How long it may take.
    #[serde(default)]
    pub timeouts: PresetTimeouts,
    /// What models cost, by name.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
}

impl Preset {
    /// What a model costs, if that is known.
    pub(crate) fn price(&self, model: &str) -> Option<&Price> {
        prices::find(&self.prices, model)
    }
}

/// `[detect]`: how the program is found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetDetect {
    /// Its name on the search path; absent where any program will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Arguments that make it print its version.
    #[serde(default)]
    pub version: Vec<String>,
}

/// `[call]`: how it is called. Placeholders are `{prompt}`, `{prompt_file}`, `{session_id}`, `{model}`, `{cwd}`,
/// `{max_turns}`, `{budget_usd}` and `{last_message_file}`; `{permissions}` and `{args}` stand alone and become the
/// profile's arguments and the job's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetCall {
    /// Program and arguments of a session that begins.
    pub start: Vec<Argument>,
    /// Program and arguments of a session that goes on; none where sessions cannot.
    #[serde(default)]
    pub resume: Vec<Argument>,
    /// How the prompt gets in.
    pub prompt: PromptVia,
}

/// How the prompt gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PromptVia {
    /// As an argument, `{prompt}`. Linux limits one to 128 KiB.
    Arg,
    /// On standard input, which is closed behind it.
    Stdin,
    /// As a file, `{prompt_file}`.
    File,
}

/// `[session]`: how its sessions are named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetSession {
    /// Who names a session.
    #[serde(default)]
    pub source: SessionSource,
    /// Where the name stands in an event.
    #[serde(default)]
    pub pointers: Vec<Pointer>,
}

/// Who names a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SessionSource {
    /// We do, with a UUID.
    Ours,
    /// The program, in its first event.
    FirstEvent,
    /// The program, in every event.
    EveryEvent,
    /// Nobody: it cannot be resumed.
    #[default]
    None,
}

/// `[output]`: what it prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetOutput {
    /// In which form.
    pub format: OutputFormat,
    /// Events that say that it is over; the last of them counts.
    #[serde(default, rename = "final")]
    pub end: Vec<EventPattern>,
    /// What such an event must look like to mean that all is well.
    #[serde(default)]
    pub ok: Vec<EventPattern>,
    /// Events of work: an error before one is past, and an end before one is none.
    #[serde(default)]
    pub work: Vec<EventPattern>,
    /// The final message, in the end's event.
    #[serde(default)]
    pub message: Vec<Pointer>,
    /// Events with messages, of which the last is the final one, where the end has none.
    #[serde(default)]
    pub messages: Vec<EventText>,
    /// Texts of final messages that are failures, whatever the event says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lie: Option<Pattern>,
    /// Tools that were denied, in the end's event.
    #[serde(default)]
    pub denials: Vec<Pointer>,
    /// Events that each tell of a tool that was denied.
    #[serde(default)]
    pub denied: Vec<EventPattern>,
    /// What is begun and may never be finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<UnfinishedRule>,
    /// Whether success without a change means that it was not allowed to write.
    #[serde(default)]
    pub unchanged_is_blocked: bool,
    /// The model's name, in any event.
    #[serde(default)]
    pub model: Vec<Pointer>,
    /// When a limit lifts, in any event: a moment, or seconds from now.
    #[serde(default)]
    pub resets: Vec<Pointer>,
    /// For how many milliseconds it says that it will wait, in any event. That counts from when it was stopped for it.
    #[serde(default)]
    pub waits_ms: Vec<Pointer>,
    /// How text is read, where there are no events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextOutput>,
}

/// In which form it prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OutputFormat {
    /// One JSON object.
    Json,
    /// A JSON object a line.
    Jsonl,
    /// One JSON list of events.
    JsonArray,
    /// Text for people.
    Text,
}

/// `[output.text]`: how text is read. Without it, the exit code alone tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TextOutput {
    /// What is printed when it has answered.
    pub end: Pattern,
    /// What it promises to do…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Pattern>,
    /// … and what it prints when that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Pattern>,
}

/// `[output.unfinished]`: what is begun and may never be finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct UnfinishedRule {
    /// An event that begins it.
    pub begun: EventPattern,
    /// An event that ends it.
    pub done: EventPattern,
    /// What names it, in both.
    pub id: Pointer,
}

/// `[usage]`: where it tells what was used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetUsage {
    /// Since when it counts.
    pub scope: UsageScope,
    /// Where the numbers stand: the first that are not all nothing.
    #[serde(default)]
    pub counted: Vec<TokenPointers>,
    /// Whether what is read from and written to the cache is part of the input it reports.
    #[serde(default)]
    pub input_has_cache: bool,
    /// The money, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Pointer>,
    /// A line of text with the named groups `input`, `output`, `cache_read`, `cache_write` and `cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Pattern>,
}

/// Since when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UsageScope {
    /// Since this invocation began: the last report counts.
    Invocation,
    /// Since the thread began, over all invocations: the last report counts.
    ThreadCumulative,
    /// Since its last report: all of them are added.
    SumOfSteps,
}

/// `[[usage.counted]]`: numbers of tokens. Where a pointer has several ends, they are added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TokenPointers {
    /// The event that has them.
    pub when: EventPattern,
    /// Read.
    pub input: Pointer,
    /// Written; all of these are added.
    pub output: Vec<Pointer>,
    /// Read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Pointer>,
    /// Written to the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Pointer>,
    /// All together: what the others do not have of it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Pointer>,
}

/// `[[said]]`: an event that tells something in words, or by an HTTP status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct EventText {
    /// What it looks like.
    pub when: EventPattern,
    /// Its words.
    #[serde(default)]
    pub text: Vec<Pointer>,
    /// Its HTTP status.
    #[serde(default)]
    pub status: Vec<Pointer>,
}

/// `[[errors]]`: what a failure means. Exactly one of `when`, `status`, `says` and `exit` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ErrorRule {
    /// The class.
    #[serde(with = "class")]
    pub class: Class,
    /// An event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<EventPattern>,
    /// An HTTP status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<CodeRange>,
    /// Words; capitals do not matter, and typographic quotes are plain ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Pattern>,
    /// An exit code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit: Vec<CodeRange>,
}

/// The rules that hold for all programs: `common.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct CommonRules {
    /// Where in words an HTTP status stands: the first group.
    pub status_in_words: Vec<Pattern>,
    /// What failures mean.
    pub errors: Vec<ErrorRule>,
}

/// `[watch]`: what to make of its output while it runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetWatch {
    /// Events that are no progress: it tries again.
    #[serde(default)]
    pub noise: Vec<EventPattern>,
    /// Events that are progress; everything that is not noise where none is given.
    #[serde(default)]
    pub progress: Vec<EventPattern>,
    /// Events that only come when the service has answered; those of work where none is given.
    #[serde(default)]
    pub answer: Vec<EventPattern>,
    /// Lines of text that are no progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_text: Option<Pattern>,
    /// When to give up on it.
    #[serde(default)]
    pub hopeless: Vec<GiveUpRule>,
}

/// `[[watch.hopeless]]`: when to give up on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct GiveUpRule {
    /// An event…
    pub when: EventPattern,
    /// … seen so often without progress between; default once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Whether work behind it does not take it back.
    #[serde(default)]
    pub for_good: bool,
    /// … and followed by nothing but noise for so long; at once where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<PresetDuration>,
    /// How it has then ended.
    #[serde(with = "class")]
    pub class: Class,
}

/// `[permissions]`: what it may do, by profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetPermissions {
    /// The profile that works without a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Files may be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<PermissionProfile>,
    /// Files may be changed and commands run.
    #[serde(default, rename = "edit+shell", skip_serializing_if = "Option::is_none")]
    pub edit_shell: Option<PermissionProfile>,
    /// Everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<PermissionProfile>,
}

impl PresetPermissions {
    /// The names of the profiles.
    pub(crate) const NAMES: [&'static str; 3] = ["edit", "edit+shell", "all"];

    /// The profile with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&PermissionProfile> {
        match name {
            "edit" => self.edit.as_ref(),
            "edit+shell" => self.edit_shell.as_ref(),
            "all" => self.all.as_ref(),
            _ => None,
        }
    }
}

/// A profile of what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PermissionProfile {
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Arguments where a session goes on, if others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_args: Option<Vec<String>>,
    /// Variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether root needs `[root]` for it.
    #[serde(default)]
    pub root_needs_env: bool,
}

/// `[env]`: its environment, which is otherwise built from nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetEnv {
    /// Variables with values.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Variables that are passed through where they are set.
    #[serde(default)]
    pub pass: Vec<String>,
    /// Variables that are never there, whoever passes them; one that ends in `*` stands for all that begin so.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// `[root]`: what is different for root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetRoot {
    /// Variables that make it work.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What a person must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether it does not work at all.
    #[serde(default)]
    pub refused: bool,
}

/// `[[stop]]`: a step of asking it to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetStopStep {
    /// What is sent.
    pub signal: PresetSignal,
    /// To whom.
    pub whom: PresetSignalTarget,
    /// How long it is waited for.
    pub wait: PresetDuration,
}

/// `[timeouts]`: how long it may take, where the job does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetTimeouts {
    /// Without progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<PresetDuration>,
    /// In all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<PresetDuration>,
    /// Between its last event and its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<PresetDuration>,
}
