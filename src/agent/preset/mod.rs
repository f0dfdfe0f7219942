//! Presets: what is known about an agent's program, as data.
//!
//! One file for each program lies in `data/` and is part of the binary; a job file overrides what is in them or adds
//! a program of its own in `[presets.NAME]`. Nothing else in the source knows a program by name.

mod builtin;
mod faults;
mod invocation;
mod parts;
pub(crate) mod pattern;
mod prices;
mod resolve;
mod schema;

pub(crate) use builtin::{NAMES, builtin, common};
pub(crate) use invocation::{InvocationRequest, invocation};
pub(crate) use parts::{PresetSignal, PresetSignalTarget};
pub(crate) use resolve::{named, resolve, resolve_evaluator};
pub(crate) use schema::{
    ErrorRule, EventText, OutputFormat, Preset, PresetPermissions, PresetStopStep, PresetUsage,
    SessionSource, TokenPointers, UsageScope,
};

/// The preset of any program, of which nothing is known.
pub(crate) const COMMAND: &str = "command";
