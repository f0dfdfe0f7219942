//! Programs that run in the user's own terminal with the user's own environment: a pager, a
//! difftool.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

/// Shows a text through a pager, with additional environment variables. `pager` is a shell command
/// line. Returns true if the pager could be started. Leaving the pager early is not an error.
#[expect(clippy::disallowed_methods, reason = "this module spawns")]
pub(crate) fn page(pager: &str, text: &str, more: &[(&str, &str)]) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", pager]).envs(more.iter().copied()).stdin(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).ok();
    }
    child.wait().is_ok()
}

/// Runs an interactive program and waits for its end. Returns its exit code, or `None` if a signal
/// ended it.
#[expect(clippy::disallowed_methods, reason = "this module spawns")]
pub(crate) fn interact(argv: &[OsString], folder: &std::path::Path) -> io::Result<Option<i32>> {
    let (program, args) = argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program"))?;
    Command::new(program).args(args).current_dir(folder).status().map(|status| status.code())
}
