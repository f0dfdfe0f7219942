//! Presets: the knowledge about agent programs, as data.
//!
//! `data/` has one file for each program. The files are part of the binary. `[presets.NAME]` in a
//! job file overrides a preset or defines a new one. No other part of the source names a program.

mod builtin;
mod common_rules;
mod invocation;
mod network;
pub(crate) mod pattern;
mod prices;
mod protocol;
mod resolve;
mod schema;
mod validate;
mod value_types;

pub(crate) use builtin::{NAMES, builtin, common};
pub(crate) use invocation::{InvocationRequest, invocation};
pub(crate) use resolve::{named, resolve, resolve_evaluator};
pub(crate) use schema::{
    ErrorRule, EventText, OutputFormat, Preset, PresetPermissions, PresetStopStep, PresetUsage,
    SessionSource, TokenPointers, UsageScope,
};
pub(crate) use value_types::{PresetSignal, PresetSignalTarget};

/// The name of the preset for an arbitrary program.
pub(crate) const COMMAND: &str = "command";
