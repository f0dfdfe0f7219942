//! What the kernel says about processes, read from `/proc`. Where there is none, it says nothing.

use std::ffi::OsStr;
use std::fs;

/// One process, as it was when looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    /// Its number.
    pub(super) pid: i32,
    /// Its parent's number.
    pub(super) parent: i32,
    /// The number of its process group.
    pub(super) group: i32,
    /// Whether it has ended and only waits to be reaped.
    pub(super) ended: bool,
    /// Whether it is stopped.
    pub(super) stopped: bool,
    /// When it started, in clock ticks since the machine did.
    pub(super) start: u64,
}

/// Looks at one process.
pub(super) fn stat(pid: i32) -> Option<ProcessStat> {
    // Not as text: a process may give itself any name.
    let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&line))
}

/// Looks at every process, one after the other: they go on forking meanwhile.
pub(super) fn all() -> Vec<ProcessStat> {
    let number = |name: &OsStr| name.to_str().and_then(|name| name.parse().ok());
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| number(&entry.file_name())).filter_map(stat).collect()
}

/// Whether the process was started with the variable at this value. One that may not be asked was not.
pub(super) fn carries(pid: i32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|&byte| byte == 0).any(|pair| pair == wanted.as_bytes()))
}

/// Reads a line of `/proc/<pid>/stat`. The name comes second, in parentheses, and may itself hold anything.
fn parse(pid: i32, line: &str) -> Option<ProcessStat> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let state = *fields.first()?;
    Some(ProcessStat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        ended: matches!(state, "Z" | "X" | "x"),
        stopped: matches!(state, "T" | "t"),
        start: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "42 (a) Z 1 (b) T 7 8 9 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let seen = parse(42, line).unwrap();
        assert_eq!((seen.parent, seen.group, seen.start), (7, 8, 12345));
        assert!(seen.stopped && !seen.ended);
        assert_eq!(parse(42, "nonsense"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let me = std::process::id().cast_signed();
        let seen = stat(me).unwrap();
        assert!(!seen.ended && seen.start > 0);
        assert!(all().iter().any(|other| (other.pid, other.start) == (me, seen.start)));
        assert!(!carries(me, super::super::MARK, "nobody"));
    }
}
