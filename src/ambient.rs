//! The only module that reads the clock, randomness and the environment. Other modules get the
//! values passed in.
#![expect(clippy::disallowed_methods, reason = "only this module may call the disallowed methods")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::id::Timestamp;

/// Returns the current wall-clock time. Only for display and for back-off across restarts.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the monotonic time. For durations.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Returns 128 random bits as 32 hexadecimal digits.
///
/// Two processes can build byte-identical commits in the same second. Both would then believe that
/// they moved a ref (measured). A nonce in every event makes the commits differ.
pub(crate) fn nonce() -> String {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a random UUID (RFC 9562, version 4), for sessions whose id this program chooses.
pub(crate) fn uuid() -> String {
    let hex = nonce();
    // The two bits of the variant are 10, so the digit is 8, 9, a or b.
    let variant = match hex.as_bytes()[16] & 3 {
        0 => '8',
        1 => '9',
        2 => 'a',
        _ => 'b',
    };
    format!(
        "{}-{}-4{}-{variant}{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}

/// Returns the environment of this process.
pub(crate) fn environment() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().collect()
}

/// Returns one environment variable, if it is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Returns the user's folder for state that outlives programs (XDG Base Directory Specification).
/// `None` without a HOME.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

/// Returns the current directory.
pub(crate) fn current_dir() -> std::io::Result<PathBuf> {
    std::env::current_dir()
}

/// Returns the folder for temporary files.
pub(crate) fn temp_dir() -> PathBuf {
    std::env::temp_dir()
}

/// Returns the path of this program, for starting keepers. After an upgrade during a run, the
/// kernel appends ` (deleted)` to the path. The suffix is removed, so the new program at the path
/// is used.
pub(crate) fn program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or(path.clone(), PathBuf::from))
}

/// Returns the host name.
pub(crate) fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

/// Sleeps. Only for waiting on a change that sends no event.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
