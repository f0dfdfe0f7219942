//! The schema of preset files. The fields' comments define the keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::network::PresetNetwork;
use super::pattern::{EventPattern, Pattern, Pointer};
use super::prices::{self, Price};
use super::value_types::{
    Argument, CodeRange, PresetDuration, PresetSignal, PresetSignalTarget, class,
};
use crate::domain::session::Class;

/// The description of an agent program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Preset {
    /// The name for `[agent] preset`.
    pub name: String,
    /// The tested version and features; `documentation only` for an untested preset.
    pub tried: String,
    /// The model that the job names. It is passed to the program and determines the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Names and globs of unwanted files that the program leaves in its working directory.
    #[serde(default)]
    pub litter: Vec<String>,
    /// Detection of the program.
    #[serde(default)]
    pub detect: PresetDetect,
    /// Command lines.
    pub call: PresetCall,
    /// Session ids.
    #[serde(default)]
    pub session: PresetSession,
    /// The format of the output.
    pub output: PresetOutput,
    /// Reports of tokens and cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<PresetUsage>,
    /// Events with error texts or HTTP statuses.
    #[serde(default)]
    pub said: Vec<EventText>,
    /// Classes of failures. The first matching rule wins, before the rules of `common.toml`.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// Rules for the output of a running session.
    #[serde(default)]
    pub watch: PresetWatch,
    /// Permission profiles.
    #[serde(default)]
    pub permissions: PresetPermissions,
    /// The environment.
    #[serde(default)]
    pub env: PresetEnv,
    /// The hosts that the program reaches from a sandbox.
    #[serde(default)]
    pub network: PresetNetwork,
    /// Differences for the root user.
    #[serde(default)]
    pub root: PresetRoot,
    /// Steps to stop the program before its whole process tree is killed.
    #[serde(default)]
    pub stop: Vec<PresetStopStep>,
    /// Default timeouts.
    #[serde(default)]
    pub timeouts: PresetTimeouts,
    /// Prices by model.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
}

impl Preset {
    /// Returns the price of a model, if known.
    pub(crate) fn price(&self, model: &str) -> Option<&Price> {
        prices::find(&self.prices, model)
    }
}

/// `[detect]`: detection of the program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetDetect {
    /// The program's name on the search path; absent for an arbitrary program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The command that prints the version.
    #[serde(default)]
    pub version: Vec<String>,
}

/// `[call]`: command lines. The placeholders are `{prompt}`, `{prompt_file}`, `{session_id}`,
/// `{model}`, `{cwd}`, `{max_turns}`, `{budget_usd}` and `{last_message_file}`. `{permissions}`
/// expands to the arguments of the permission profile, `{args}` to the arguments of the job. Each
/// of the two must be a separate argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetCall {
    /// Program and arguments for a new session.
    pub start: Vec<Argument>,
    /// Program and arguments for a resumed session; empty if the program cannot resume.
    #[serde(default)]
    pub resume: Vec<Argument>,
    /// The way in which the prompt is passed.
    pub prompt: PromptVia,
}

/// The way in which the prompt is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PromptVia {
    /// As the argument `{prompt}`. Linux limits an argument to 128 KiB.
    Arg,
    /// On standard input, which is then closed.
    Stdin,
    /// As the file `{prompt_file}`.
    File,
}

/// `[session]`: session ids.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetSession {
    /// The source of a session's id.
    #[serde(default)]
    pub source: SessionSource,
    /// Pointers to the id in an event. The first pointer with a value applies.
    #[serde(default)]
    pub pointers: Vec<Pointer>,
}

/// The source of a session's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SessionSource {
    /// The harness chooses a UUID.
    Ours,
    /// The program reports the id in its first event.
    FirstEvent,
    /// The program reports the id in every event.
    EveryEvent,
    /// Sessions have no id and cannot be resumed.
    #[default]
    None,
}

/// `[output]`: the format of the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetOutput {
    /// The format.
    pub format: OutputFormat,
    /// Patterns of final events. The last matching event counts.
    #[serde(default, rename = "final")]
    pub final_events: Vec<EventPattern>,
    /// Patterns of a final event that reports success.
    #[serde(default)]
    pub ok: Vec<EventPattern>,
    /// Events of work. Work supersedes earlier errors and earlier final events.
    #[serde(default)]
    pub work: Vec<EventPattern>,
    /// Pointers to the final message in the final event.
    #[serde(default)]
    pub message: Vec<Pointer>,
    /// Events with messages. If the final event has no message, the last message is the final
    /// message.
    #[serde(default)]
    pub messages: Vec<EventText>,
    /// Final messages that report a failure although the final event reports success.
    #[serde(default, rename = "lie", skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<Pattern>,
    /// Pointers to denied tools in the final event.
    #[serde(default)]
    pub denials: Vec<Pointer>,
    /// Events that each report a denied tool.
    #[serde(default)]
    pub denied: Vec<EventPattern>,
    /// Operations that may be unfinished at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<UnfinishedRule>,
    /// True if success without a change means that the program was not allowed to write.
    #[serde(default)]
    pub unchanged_is_blocked: bool,
    /// Pointers to the model's name in any event.
    #[serde(default)]
    pub model: Vec<Pointer>,
    /// Pointers to the time at which a limit resets. The time is a timestamp or a number of seconds
    /// from now. The latest time counts.
    #[serde(default)]
    pub resets: Vec<Pointer>,
    /// The events whose time in `resets` counts. Default: all events.
    #[serde(default)]
    pub resets_in: Vec<EventPattern>,
    /// Pointers to an announced wait in milliseconds, in any event. The wait starts when the
    /// harness gives up on the session.
    #[serde(default)]
    pub waits_ms: Vec<Pointer>,
    /// Rules for text output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextOutput>,
}

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OutputFormat {
    /// A single JSON object.
    Json,
    /// A JSON object per line.
    Jsonl,
    /// A JSON list of events.
    JsonArray,
    /// Text for people.
    Text,
}

/// `[output.text]`: rules for text output. Without these rules only the exit code counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TextOutput {
    /// Text at the end of an answer.
    pub end: Pattern,
    /// Text that announces an action.
    #[serde(default, rename = "promise", skip_serializing_if = "Option::is_none")]
    pub announced: Option<Pattern>,
    /// Text that reports the completion of the announced action.
    #[serde(default, rename = "kept", skip_serializing_if = "Option::is_none")]
    pub completed: Option<Pattern>,
}

/// `[output.unfinished]`: operations that may be unfinished at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct UnfinishedRule {
    /// The event at the beginning of an operation.
    pub begun: EventPattern,
    /// The event at the end of an operation.
    pub done: EventPattern,
    /// The operation's id, in both events.
    pub id: Pointer,
}

/// `[usage]`: reports of tokens and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetUsage {
    /// The period that a report covers.
    pub scope: UsageScope,
    /// Pointers to the token counts. The first entry with a count above zero applies.
    #[serde(default)]
    pub counted: Vec<TokenPointers>,
    /// True if the reported input includes tokens read from and written to the cache.
    #[serde(default)]
    pub input_has_cache: bool,
    /// The cost in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Pointer>,
    /// A line of text with the named groups `input`, `output`, `cache_read`, `cache_write` and
    /// `cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Pattern>,
}

/// The period that a usage report covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UsageScope {
    /// The invocation so far. The last report counts.
    Invocation,
    /// The thread so far, over all its invocations. The last report counts.
    ThreadCumulative,
    /// The time since the previous report. The sum of all reports counts.
    SumOfSteps,
}

/// `[[usage.counted]]`: pointers to the token counts. The values at a pointer with wildcards are
/// added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct TokenPointers {
    /// The event with the counts.
    pub when: EventPattern,
    /// The id of the message that the counts belong to. The counts of all messages are added. The
    /// last event of a message counts. Only messages after the events of the other entries count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Pointer>,
    /// Input tokens.
    pub input: Pointer,
    /// Output tokens. The values at all pointers are added.
    pub output: Vec<Pointer>,
    /// Tokens read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Pointer>,
    /// Tokens written to the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Pointer>,
    /// All tokens. If `output` is smaller than the difference of `total` and `input`, the
    /// difference is the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Pointer>,
}

/// `[[said]]`: an event with a text or an HTTP status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct EventText {
    /// The event.
    pub when: EventPattern,
    /// The text.
    #[serde(default)]
    pub text: Vec<Pointer>,
    /// The HTTP status.
    #[serde(default)]
    pub status: Vec<Pointer>,
}

/// `[[errors]]`: the class of a failure. A rule has exactly one of `when`, `status`, `says` and
/// `exit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ErrorRule {
    /// The class.
    #[serde(with = "class")]
    pub class: Class,
    /// An event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<EventPattern>,
    /// HTTP statuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<CodeRange>,
    /// A pattern of the error text. Case is ignored, and typographic quotes match plain quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Pattern>,
    /// Exit codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit: Vec<CodeRange>,
}

/// `[watch]`: rules for the output of a running session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetWatch {
    /// Events without progress, such as retries.
    #[serde(default)]
    pub noise: Vec<EventPattern>,
    /// Events of progress. Default: all events but `noise`.
    #[serde(default)]
    pub progress: Vec<EventPattern>,
    /// Events that prove that the service has answered. Default: the events of work.
    #[serde(default)]
    pub answer: Vec<EventPattern>,
    /// Lines of text without progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_text: Option<Pattern>,
    /// Rules for giving up on a session.
    #[serde(default)]
    pub hopeless: Vec<GiveUpRule>,
}

/// `[[watch.hopeless]]`: a rule for giving up on a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct GiveUpRule {
    /// The event.
    pub when: EventPattern,
    /// The number of matching events without progress between them; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// True if later work does not supersede the event.
    #[serde(default, rename = "for-good")]
    pub permanent: bool,
    /// The time without progress after which the harness gives up. Default: it gives up at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<PresetDuration>,
    /// The class of the session.
    #[serde(with = "class")]
    pub class: Class,
}

/// `[permissions]`: permission profiles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetPermissions {
    /// The default profile. A session with this profile must not wait for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Permission to change files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<PermissionProfile>,
    /// Permission to change files and to run commands.
    #[serde(default, rename = "edit+shell", skip_serializing_if = "Option::is_none")]
    pub edit_shell: Option<PermissionProfile>,
    /// Permission for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<PermissionProfile>,
}

impl PresetPermissions {
    /// The names that a profile can have.
    pub(crate) const NAMES: [&'static str; 3] = ["edit", "edit+shell", "all"];

    /// Returns the profile with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&PermissionProfile> {
        match name {
            "edit" => self.edit.as_ref(),
            "edit+shell" => self.edit_shell.as_ref(),
            "all" => self.all.as_ref(),
            _ => None,
        }
    }

    /// Returns the names of the preset's profiles.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(|name| self.get(name).is_some())
    }
}

/// A permission profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PermissionProfile {
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Arguments for a resumed session, if different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_args: Option<Vec<String>>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// True if root needs the variables of `[root]` for this profile.
    #[serde(default)]
    pub root_needs_env: bool,
}

/// `[env]`: the environment. A variable of the user is absent unless `pass` names the variable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetEnv {
    /// Variables with values.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Variables that are passed through if they are set.
    #[serde(default)]
    pub pass: Vec<String>,
    /// Variables that are always absent. A name that ends in `*` is a prefix.
    #[serde(default)]
    pub unset: Vec<String>,
    /// Files of the home that a sandboxed program gets as copies: its login and settings.
    #[serde(default)]
    pub home: Vec<String>,
}

/// `[root]`: differences for the root user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetRoot {
    /// Variables that the program needs to run as root.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Advice to the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// True if the program does not run as root.
    #[serde(default)]
    pub refused: bool,
}

/// `[[stop]]`: a step to stop the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetStopStep {
    /// The signal.
    pub signal: PresetSignal,
    /// The processes that receive the signal.
    pub whom: PresetSignalTarget,
    /// The time to wait for the program to exit.
    pub wait: PresetDuration,
}

/// `[timeouts]`: timeouts for jobs that set none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetTimeouts {
    /// The longest time without progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<PresetDuration>,
    /// The longest time in total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<PresetDuration>,
    /// The longest time between the final event and the exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<PresetDuration>,
}
