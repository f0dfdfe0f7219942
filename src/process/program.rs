//! The program of a command: finding it, starting it, and explaining why it cannot be started.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::bubblewrap::{Confinement, SandboxFiles};
use super::command::{Command, Stdin};
use super::{Environ, MARK};

/// Retries for a program that another process still has open for writing.
const TRIES: u32 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Returns the path of the command's program, or a message that says why there is none.
pub(super) fn find(command: &Command) -> Result<PathBuf, String> {
    let Some(program) = command.argv.first().filter(|program| !program.is_empty()) else {
        return Err("the command is empty".to_owned());
    };
    if !command.cwd.is_dir() {
        let (name, cwd) = (program.display(), command.cwd.display());
        return Err(format!("the directory that `{name}` should run in does not exist: {cwd}"));
    }
    let name = program.display();
    if program.as_bytes().contains(&b'/') {
        let path = command.cwd.join(program);
        return match executable(&path) {
            Executable::Yes => Ok(path),
            Executable::Missing => Err(format!("there is no program `{name}`: {}", path.display())),
            Executable::No => Err(format!(
                "`{name}` is not an executable file (`chmod +x` makes one): {}",
                path.display()
            )),
        };
    }
    let dirs = command.env.value("PATH").unwrap_or(OsStr::new(""));
    find_in_path(program, dirs, &command.cwd)
}

/// Searches `path`, in the format of `PATH`, for a program that is named without a folder. Relative
/// entries are resolved against `cwd`. Returns a message if there is none.
pub(crate) fn find_in_path(program: &OsStr, path: &OsStr, cwd: &Path) -> Result<PathBuf, String> {
    let mut unfit = None;
    for dir in std::env::split_paths(path) {
        let file = cwd.join(dir).join(program);
        match executable(&file) {
            Executable::Yes => return Ok(file),
            Executable::No => unfit = unfit.or(Some(file)),
            Executable::Missing => {}
        }
    }
    let name = program.display();
    Err(match unfit {
        Some(file) => format!("`{name}` is found, but not an executable file: {}", file.display()),
        None => format!("there is no program `{name}` in PATH"),
    })
}

enum Executable {
    Yes,
    No,
    Missing,
}

fn executable(path: &Path) -> Executable {
    match path.metadata() {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Executable::Yes,
        Ok(_) => Executable::No,
        Err(_) => Executable::Missing,
    }
}

/// Builds the `duct` expression of a command, in a process group of its own. A sandboxed command
/// needs the files until it has ended.
pub(super) fn build_expression(
    command: &Command,
    program: &Path,
    stdout: io::PipeWriter,
    stderr: io::PipeWriter,
) -> io::Result<(duct::Expression, Option<SandboxFiles>)> {
    let env = command.env.clone().with(MARK, &command.marker);
    let (expression, files) = match &command.sandbox {
        None => {
            let plain = duct::cmd(program, command.argv.iter().skip(1)).dir(&command.cwd);
            (plain.full_env(env.pairs()), None)
        }
        Some(sandbox) => {
            let (expression, files) = sandboxed(command, sandbox, program, &env)?;
            (expression, Some(files))
        }
    };
    let expression =
        expression.stdout_file(stdout).stderr_file(stderr).unchecked().before_spawn(|spawning| {
            spawning.process_group(0);
            Ok(())
        });
    let expression = match &command.stdin {
        Stdin::Null => expression.stdin_null(),
        Stdin::File(path) => expression.stdin_file(std::fs::File::open(path)?),
    };
    Ok((expression, files))
}

/// Builds the expression that starts a command in its sandbox.
fn sandboxed(
    command: &Command,
    sandbox: &Confinement,
    program: &Path,
    env: &Environ,
) -> io::Result<(duct::Expression, SandboxFiles)> {
    let files = sandbox.files(env, &command.cwd)?;
    let mut line = sandbox.command_line(&files, program, command.argv.iter().skip(1)).into_iter();
    let own = Confinement::own_environment(&command.marker);
    let first = line.next().unwrap_or_default();
    let expression = duct::cmd(first, line).dir("/").full_env(own.pairs());
    Ok((expression, files))
}

/// Starts the expression. Retries while the program is open for writing. When another thread forks
/// while a script is being checked out, the child holds the script open until its own exec.
pub(super) fn start(expression: &duct::Expression) -> io::Result<duct::Handle> {
    for _ in 0..TRIES {
        match expression.start() {
            Err(error) if error.raw_os_error() == Some(Errno::TXTBSY.raw_os_error()) => {
                std::thread::sleep(RETRY_PAUSE);
            }
            other => return other,
        }
    }
    expression.start()
}

/// Returns the reason why the program could not be started, if the command is at fault and not the
/// machine.
pub(super) fn explain_start_error(error: &io::Error, program: &Path) -> Option<String> {
    let program = program.display();
    match Errno::from_io_error(error)? {
        Errno::NOENT | Errno::NOTDIR => Some(format!(
            "the interpreter that the `#!` line of the program names does not exist: {program}"
        )),
        Errno::ACCESS | Errno::PERM => Some(format!("the program may not be executed: {program}")),
        Errno::NOEXEC => Some(format!(
            "the program is neither an executable for this system nor begins with `#!`: {program}"
        )),
        Errno::TOOBIG => Some(format!(
            "the arguments and variables are too long for the system; give the prompt on standard \
             input or as a file: {program}"
        )),
        _ => None,
    }
}
