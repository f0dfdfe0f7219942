//! Presets: what is known about an agent's program, as data.
//!
//! One file for each program lies in `data/` and is part of the binary; a job file overrides what is in them or adds
//! a program of its own in `[presets.NAME]`. Nothing else in the source knows a program by name.

mod builtin;
mod faults;
mod invocation;
mod parts;
pub mod pattern;
mod prices;
mod resolve;
mod schema;

pub use builtin::{NAMES, builtin, common};
pub use invocation::{Ask, Invocation, Unfit, invocation};
pub use parts::{Argument, Codes, Period, Signal, Whom};
pub use prices::Price;
pub use resolve::{named, resolve, resolve_evaluator};
pub use schema::{
    Call, Common, Counted, Detect, Env, ErrorRule, Format, Hopeless, Output, Permission,
    Permissions, Preset, PromptVia, Root, Said, Session, SessionSource, StopStep, Text, Timeouts,
    Unfinished, UsageRule, UsageScope, Watch,
};

/// The preset of any program, of which nothing is known.
pub const COMMAND: &str = "command";
