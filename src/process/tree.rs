//! Killing whole process trees.
//!
//! A process that wants to escape forks twice, starts a session of its own, closes its output and
//! ignores SIGTERM. The process is then in no known group and session, and its parent is gone. Two
//! traces remain. As an orphan it becomes a child of the nearest *sub-reaper*, which a keeper is.
//! And its environment holds the marker that the process was started with, unless the process
//! removed the marker. So a tree consists of all descendants of the keeper, all processes that
//! carry the marker, and all descendants of those.
//!
//! All processes of the tree are stopped first, and only then killed: a running process could fork
//! between the scan and the signal. Process groups are signalled as well as processes, because the
//! kernel signals a group atomically with respect to forks. The scan is repeated until it finds
//! nothing twice in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use super::cgroup::{self, Cgroup};
use super::stop::SignalTarget;
use super::{MARK, procfs};
use procfs::ProcessStat;

/// The longest time for killing a tree. A process that is left then is stuck in the kernel, and no
/// signal reaches it.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// The number of tests whether a sandbox has ended, and the pause between them.
const SANDBOX_TRIES: u32 = 100;
const SANDBOX_PAUSE: Duration = Duration::from_micros(300);

/// The number of SIGSTOP rounds after which the tree is killed even if a process still runs.
const STOPS: usize = 20;

/// The number and the start time of a process. The start time distinguishes a later process with
/// the same number.
type Id = (i32, u64);

/// The result of killing a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KillCount {
    /// The number of killed processes, not counting the main process.
    pub(super) ended: usize,
    /// The number of processes that could not be killed.
    pub(super) survivors: usize,
}

/// The processes of one command.
#[derive(Debug)]
pub(super) struct ProcessTree {
    marker: String,
    /// The main process. Its parent reaps it.
    main: Option<Id>,
    /// The children of this process that do not belong to the command. `None` if this process also
    /// has children of other commands.
    earlier_children: Option<BTreeSet<Id>>,
    /// The start time of the main process. Older processes cannot belong to the tree.
    since: u64,
    /// All processes that were found alive after the end of the main process.
    leftover: BTreeSet<Id>,
    cgroup: Option<Cgroup>,
    /// True if the main process is a sandbox: see [`without_sandbox`](Self::without_sandbox).
    sandboxed: bool,
}

impl ProcessTree {
    /// Selects the processes that carry a marker, with all their descendants.
    pub(super) fn by_marker(marker: &str) -> Self {
        Self {
            marker: marker.to_owned(),
            main: None,
            earlier_children: None,
            since: 0,
            leftover: BTreeSet::new(),
            cgroup: None,
            sandboxed: false,
        }
    }

    /// Selects the processes that carry a marker and every future child of this process, with all
    /// their descendants.
    pub(super) fn by_parent(marker: &str) -> Self {
        Self {
            earlier_children: Some(children().iter().map(id).collect()),
            ..Self::by_marker(marker)
        }
    }

    /// Sets the main process and its control group.
    pub(super) fn started(&mut self, pid: i32, cgroup: Option<Cgroup>) {
        self.since = procfs::stat(pid).map_or(0, |process| process.start);
        self.main = Some((pid, self.since));
        self.cgroup = cgroup;
    }

    /// Declares that the main process is the sandbox of the command.
    pub(super) fn in_sandbox(self, sandboxed: bool) -> Self {
        Self { sandboxed, ..self }
    }

    /// Returns the command itself and the processes that get its signals. A sandbox consists of the
    /// main process, its child, which is the first process inside, and that one's first child,
    /// which is the command. A signal to the sandbox's own two would kill everything at once.
    fn without_sandbox(&self, living: Vec<ProcessStat>) -> (Option<Id>, Vec<ProcessStat>) {
        let Some(main) = self.main.filter(|_| self.sandboxed) else { return (self.main, living) };
        let child_of = |parent: i32| {
            let children = living.iter().filter(|process| process.parent == parent);
            children.min_by_key(|process| (process.start, process.pid))
        };
        let first = child_of(main.0).map(id);
        let command = first.and_then(|first| child_of(first.0)).map(id);
        if command.is_none() {
            return (Some(main), living);
        }
        let inside = living.into_iter().filter(|process| {
            let process = Some(id(process));
            process != Some(main) && process != first
        });
        (command, inside.collect())
    }

    /// Scans for all processes of the tree, including those that have ended and were not reaped.
    fn members(&self) -> Vec<ProcessStat> {
        let all = procfs::all();
        let me = std::process::id().cast_signed();
        let mut by_parent: BTreeMap<i32, Vec<&ProcessStat>> = BTreeMap::new();
        for process in &all {
            by_parent.entry(process.parent).or_default().push(process);
        }
        let mut members: BTreeMap<i32, ProcessStat> = BTreeMap::new();
        let mut add = |seed: &ProcessStat| {
            let mut next = vec![*seed];
            while let Some(process) = next.pop() {
                // This process may itself be part of the tree and must not be killed.
                if process.pid != me && members.insert(process.pid, process).is_none() {
                    next.extend(by_parent.get(&process.pid).into_iter().flatten().copied());
                }
            }
        };
        for process in &all {
            let ours = self.main == Some(id(process))
                || (process.parent == me
                    && self
                        .earlier_children
                        .as_ref()
                        .is_some_and(|earlier_children| !earlier_children.contains(&id(process))));
            if ours {
                add(process);
            }
        }
        // Reading environments is expensive, so it comes last and only for young processes.
        for process in all.iter().filter(|process| process.start >= self.since) {
            if procfs::has_variable(process.pid, MARK, &self.marker) {
                add(process);
            }
        }
        members.into_values().collect()
    }

    /// Returns the living processes of the tree.
    pub(super) fn living(&self) -> Vec<ProcessStat> {
        self.members().into_iter().filter(|process| !process.ended).collect()
    }

    /// Sends a signal to some processes of the tree.
    pub(super) fn signal(&self, stop_signal: super::StopSignal, target: SignalTarget) {
        let unix_signal = match stop_signal {
            super::StopSignal::Interrupt => Signal::INT,
            super::StopSignal::Terminate => Signal::TERM,
            super::StopSignal::Kill => Signal::KILL,
        };
        let (command, living) = self.without_sandbox(self.living());
        let group = living.iter().find(|process| command == Some(id(process))).map(|p| p.group);
        let is_target = |process: &ProcessStat| match target {
            SignalTarget::Leader => command == Some(id(process)),
            SignalTarget::Group if self.sandboxed => group == Some(process.group),
            SignalTarget::Group => self.main.is_some_and(|(pid, _)| process.group == pid),
            SignalTarget::Tree => true,
        };
        // Each process is signalled by itself, also for a group: the group's number may be reused
        // as soon as its leader was reaped.
        for process in living.iter().filter(|process| is_target(process)) {
            signal(process, unix_signal);
            // A stopped process would not handle the signal.
            signal(process, Signal::CONT);
        }
        #[cfg(not(target_os = "linux"))]
        match (target, self.main.and_then(|(pid, _)| Pid::from_raw(pid))) {
            (SignalTarget::Leader, Some(main)) => {
                drop(rustix::process::kill_process(main, unix_signal))
            }
            (SignalTarget::Leader, None) => {}
            (SignalTarget::Group | SignalTarget::Tree, _) => self.signal_main_group(unix_signal),
        }
    }

    /// Kills all processes of the tree.
    pub(super) fn kill(&mut self) -> KillCount {
        let survivors = if self.is_certainly_empty() { 0 } else { self.sweep() };
        // The control group can be removed only now that it is empty.
        self.cgroup = None;
        let main = self.main;
        KillCount { ended: self.leftover.iter().filter(|&&id| Some(id) != main).count(), survivors }
    }

    /// Reaps the first process of a sandbox. When bubblewrap has ended, the kernel kills that
    /// process, and it becomes a child of this process. Without it, [`kill`](Self::kill) need not
    /// scan every process of the machine. Gives up soon, where bubblewrap still runs.
    pub(super) fn reap_sandbox(&self, first: i32) {
        let is_only_command = self.earlier_children.as_ref().is_some_and(BTreeSet::is_empty);
        let Some(first) = Pid::from_raw(first).filter(|_| is_only_command) else { return };
        for _ in 0..SANDBOX_TRIES {
            match rustix::process::waitpid(Some(first), WaitOptions::NOHANG) {
                Ok(None) => std::thread::sleep(SANDBOX_PAUSE),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }

    /// Returns true if no process can be left: any orphan of the command would be a child of this
    /// process, and this process has no children. The kernel answers at once, while a sweep scans
    /// every process of the machine several times.
    fn is_certainly_empty(&self) -> bool {
        self.earlier_children.as_ref().is_some_and(BTreeSet::is_empty) && is_childless()
    }

    fn sweep(&mut self) -> usize {
        #[cfg(not(target_os = "linux"))]
        self.signal_main_group(Signal::KILL);
        let until = Instant::now() + KILL_TIMEOUT;
        let mut pause = Duration::from_millis(1);
        let mut quiet = 0;
        if let Some(group) = self.cgroup.take() {
            // Recorded before the kill, since nothing is left to record afterwards.
            self.record_living(&self.members());
            self.record_living(
                &group.members().into_iter().filter_map(procfs::stat).collect::<Vec<_>>(),
            );
            group.kill();
            self.cgroup = Some(group);
        }
        loop {
            let members = self.stop_all();
            let living: Vec<_> = members.iter().filter(|process| !process.ended).copied().collect();
            kill_all(&living);
            let reaped = self.reap(&members);
            quiet = if living.is_empty() && reaped == 0 { quiet + 1 } else { 0 };
            if quiet == 2 {
                return 0;
            }
            if Instant::now() >= until {
                return living.len();
            }
            if quiet == 0 {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }

    /// Sends SIGSTOP until a scan finds no running process. Returns the result of that scan.
    fn stop_all(&mut self) -> Vec<ProcessStat> {
        for _ in 0..STOPS {
            let members = self.members();
            self.record_living(&members);
            let mut running =
                members.iter().filter(|process| !process.ended && !process.stopped).peekable();
            if running.peek().is_none() {
                return members;
            }
            running.for_each(|process| signal(process, Signal::STOP));
        }
        self.members()
    }

    fn record_living(&mut self, process: &[ProcessStat]) {
        self.leftover.extend(process.iter().filter(|process| !process.ended).map(id));
    }

    /// Reaps orphans that became children of this process, each by its number. The main process is
    /// reaped by the code that started it.
    fn reap(&self, members: &[ProcessStat]) -> usize {
        if self.earlier_children.is_none() {
            return 0;
        }
        let me = std::process::id().cast_signed();
        let orphans = members.iter().filter(|process| process.ended && process.parent == me);
        let reaped =
            orphans.filter(|process| self.main != Some(id(process))).filter_map(|process| {
                let pid = Pid::from_raw(process.pid)?;
                rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).ok().flatten()
            });
        reaped.count()
    }

    #[cfg(not(target_os = "linux"))]
    fn signal_main_group(&self, unix_signal: Signal) {
        if let Some(group) = self.main.and_then(|(pid, _)| Pid::from_raw(pid)) {
            rustix::process::kill_process_group(group, unix_signal).ok();
        }
    }
}

fn id(process: &ProcessStat) -> Id {
    (process.pid, process.start)
}

/// Returns true if this process certainly has no child, neither living nor waiting to be reaped.
/// The children of all threads count, and so do orphans.
#[cfg(target_os = "linux")]
fn is_childless() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, look), Err(rustix::io::Errno::CHILD))
}

/// Returns false: on other platforms, orphans go to another process, so having no child proves
/// nothing.
#[cfg(not(target_os = "linux"))]
fn is_childless() -> bool {
    false
}

/// Returns the children of this process.
fn children() -> Vec<ProcessStat> {
    if is_childless() {
        return Vec::new();
    }
    let me = std::process::id().cast_signed();
    procfs::all().into_iter().filter(|process| process.parent == me).collect()
}

/// Kills these processes and their process groups, which stopped processes cannot leave.
fn kill_all(living: &[ProcessStat]) {
    // Read from `/proc` instead of `getpgid`: in a pid namespace whose first process kept its
    // group, the answer of the call is 0, which makes `rustix` panic (seen with `unshare --fork`).
    let own = procfs::stat(std::process::id().cast_signed()).map_or(0, |me| me.group);
    let mut groups = BTreeSet::new();
    for process in living {
        let still = procfs::stat(process.pid).is_some_and(|now| {
            id(&now) == id(process) && now.group == process.group && now.stopped && !now.ended
        });
        let foreign = process.group <= 1 || process.group == own;
        if !still || foreign || !groups.insert(process.group) {
            continue;
        }
        if let Some(group) = Pid::from_raw(process.group) {
            rustix::process::kill_process_group(group, Signal::KILL).ok();
        }
    }
    for process in living {
        signal(process, Signal::KILL);
    }
}

/// Signals the process that the scan found, and never a later process with the same number. A
/// failure is ignored: the next scan shows if the process is still there.
#[cfg(target_os = "linux")]
fn signal(process: &ProcessStat, unix_signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return;
    };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    // Compared after the pidfd is opened: the pidfd keeps referring to the same process, even if
    // the number is reused.
    if procfs::stat(process.pid).is_some_and(|now| id(&now) == id(process)) {
        rustix::process::pidfd_send_signal(&pidfd, unix_signal).ok();
    }
}

/// Does nothing: without `/proc`, no process is ever found.
#[cfg(not(target_os = "linux"))]
fn signal(_seen: &ProcessStat, _unix_signal: Signal) {}

/// Kills every process that carries the marker, with all descendants, for recovery after a keeper
/// has died. Never kills this process. Returns the number of killed processes.
pub(crate) fn kill_marked(marker: &str) -> usize {
    let mut tree = ProcessTree::by_marker(marker);
    tree.cgroup = cgroup::left_behind(marker);
    tree.kill().ended
}

/// Returns the living processes that carry the marker, with all their descendants.
#[cfg(test)]
pub(crate) fn living_marked(marker: &str) -> Vec<i32> {
    ProcessTree::by_marker(marker).living().iter().map(|process| process.pid).collect()
}
