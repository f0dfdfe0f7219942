//! The binary: gathers what is ambient, runs a command, returns an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(git_harness::commands::run())
}
