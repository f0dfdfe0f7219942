//! Process information from `/proc`. Without `/proc`, no process is found.

use std::ffi::OsStr;
use std::fs;

/// The state of one process at the time of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    /// The process number.
    pub(super) pid: i32,
    /// The process number of its parent.
    pub(super) parent: i32,
    /// The number of its process group.
    pub(super) group: i32,
    /// True if the process has ended and waits to be reaped.
    pub(super) ended: bool,
    /// True if the process is stopped.
    pub(super) stopped: bool,
    /// The start time in clock ticks since boot.
    pub(super) start: u64,
}

/// Reads the state of one process.
pub(super) fn stat(pid: i32) -> Option<ProcessStat> {
    // Read as bytes: a process may give itself any name.
    let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&line))
}

/// Reads the state of every process, one after the other. The list is not a snapshot: processes
/// fork meanwhile.
pub(super) fn all() -> Vec<ProcessStat> {
    let number = |name: &OsStr| name.to_str().and_then(|name| name.parse().ok());
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| number(&entry.file_name())).filter_map(stat).collect()
}

/// Returns true if the process was started with the variable set to this value. Returns false for a
/// process whose environment may not be read.
pub(super) fn has_variable(pid: i32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|&byte| byte == 0).any(|pair| pair == wanted.as_bytes()))
}

/// Returns the texts in a file of a process, such as its arguments or its environment. Returns none
/// for a process whose file may not be read.
pub(super) fn texts(pid: i32, file: &str) -> Vec<Vec<u8>> {
    let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// Parses a line of `/proc/<pid>/stat`. The name is the second field, in parentheses, and may hold
/// any character.
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
    fn stat_line_is_parsed_whatever_the_process_name() {
        let line = "42 (a) Z 1 (b) T 7 8 9 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let process = parse(42, line).unwrap();
        assert_eq!((process.parent, process.group, process.start), (7, 8, 12345));
        assert!(process.stopped && !process.ended);
        assert_eq!(parse(42, "nonsense"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn own_process_is_found_in_procfs() {
        let me = std::process::id().cast_signed();
        let process = stat(me).unwrap();
        assert!(!process.ended && process.start > 0);
        assert!(all().iter().any(|other| (other.pid, other.start) == (me, process.start)));
        assert!(!has_variable(me, super::super::MARK, "nobody"));
    }
}
