//! Ending whole process trees.
//!
//! A process that wants to get away forks twice, starts a session of its own, closes its output and ignores SIGTERM;
//! then it is in no group and no session that we know, and its parent is gone. Two things it cannot shed: as orphan it
//! becomes a child of the nearest *sub-reaper*, which a keeper is; and it was started with the marker in its
//! environment, unless it went to the trouble of removing that. So a tree is everything that descends from the
//! keeper, together with everything that carries the marker and what descends from that.
//!
//! What is found is stopped first, all of it, and only then killed: a process that still runs could fork between the
//! look and the signal. Groups are signalled as well as processes, because the kernel does that atomically with
//! respect to forks. Then we look again, until nothing is found twice in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use super::cgroup::{self, Cgroup};
use super::stop::SignalTarget;
use super::{MARK, procfs};
use procfs::ProcessStat;

/// How long a tree is fought. What is still there then is stuck in the kernel, and no signal reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often everything is stopped before killing begins regardless.
const STOPS: usize = 20;

/// A process, told apart from a later one with the same number.
type Id = (i32, u64);

/// What ending a tree came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KillCount {
    /// How many processes were ended, not counting the main one.
    pub(super) ended: usize,
    /// How many could not be.
    pub(super) survivors: usize,
}

/// The processes of one command.
#[derive(Debug)]
pub(super) struct ProcessTree {
    marker: String,
    /// The process that was started; its parent reaps it.
    main: Option<Id>,
    /// Of the children of this process, those that are not the command's; `None` if children of this process say
    /// nothing, because it does other things besides.
    others: Option<BTreeSet<Id>>,
    /// Nothing that started before can belong to it.
    since: u64,
    /// All that were seen alive when they should not have been.
    found: BTreeSet<Id>,
    cgroup: Option<Cgroup>,
}

impl ProcessTree {
    /// The processes that carry a marker, with all their descendants.
    pub(super) fn by_marker(marker: &str) -> Self {
        Self {
            marker: marker.to_owned(),
            main: None,
            others: None,
            since: 0,
            found: BTreeSet::new(),
            cgroup: None,
        }
    }

    /// The processes that carry a marker and every child that this process gets from now on, with all their
    /// descendants.
    pub(super) fn by_parent(marker: &str) -> Self {
        Self { others: Some(children().iter().map(id).collect()), ..Self::by_marker(marker) }
    }

    /// Says which process was started, and in which group.
    pub(super) fn started(&mut self, pid: i32, cgroup: Option<Cgroup>) {
        self.since = procfs::stat(pid).map_or(0, |seen| seen.start);
        self.main = Some((pid, self.since));
        self.cgroup = cgroup;
    }

    /// All processes of the tree, also those that have ended and were not reaped.
    fn members(&self) -> Vec<ProcessStat> {
        let all = procfs::all();
        let me = std::process::id().cast_signed();
        let mut by_parent: BTreeMap<i32, Vec<&ProcessStat>> = BTreeMap::new();
        for seen in &all {
            by_parent.entry(seen.parent).or_default().push(seen);
        }
        let mut members: BTreeMap<i32, ProcessStat> = BTreeMap::new();
        let mut add = |seed: &ProcessStat| {
            let mut next = vec![*seed];
            while let Some(seen) = next.pop() {
                // Not through this process, should it itself run inside the tree.
                if seen.pid != me && members.insert(seen.pid, seen).is_none() {
                    next.extend(by_parent.get(&seen.pid).into_iter().flatten().copied());
                }
            }
        };
        for seen in &all {
            let ours = self.main == Some(id(seen))
                || (seen.parent == me
                    && self.others.as_ref().is_some_and(|others| !others.contains(&id(seen))));
            if ours {
                add(seen);
            }
        }
        // The environment is the dearer thing to ask for, so it comes last and for the young only.
        for seen in all.iter().filter(|seen| seen.start >= self.since) {
            if procfs::carries(seen.pid, MARK, &self.marker) {
                add(seen);
            }
        }
        members.into_values().collect()
    }

    /// The processes of the tree that live.
    pub(super) fn living(&self) -> Vec<ProcessStat> {
        self.members().into_iter().filter(|seen| !seen.ended).collect()
    }

    /// Asks some of them to stop.
    pub(super) fn ask(&self, how: super::StopSignal, target: SignalTarget) {
        let how = match how {
            super::StopSignal::Interrupt => Signal::INT,
            super::StopSignal::Terminate => Signal::TERM,
            super::StopSignal::Kill => Signal::KILL,
        };
        let meant = |seen: &ProcessStat| match target {
            SignalTarget::Leader => self.main == Some(id(seen)),
            SignalTarget::Group => self.main.is_some_and(|(pid, _)| seen.group == pid),
            SignalTarget::Tree => true,
        };
        // One by one also where it is a group: its number may be another's as soon as its leader was reaped.
        for seen in self.living().iter().filter(|seen| meant(seen)) {
            signal(seen, how);
            // A stopped process would not hear it.
            signal(seen, Signal::CONT);
        }
        #[cfg(not(target_os = "linux"))]
        match (target, self.main.and_then(|(pid, _)| Pid::from_raw(pid))) {
            (SignalTarget::Leader, Some(main)) => drop(rustix::process::kill_process(main, how)),
            (SignalTarget::Leader, None) => {}
            (SignalTarget::Group | SignalTarget::Tree, _) => self.signal_main_group(how),
        }
    }

    /// Ends all of them.
    pub(super) fn end(&mut self) -> KillCount {
        let survivors = if self.is_gone() { 0 } else { self.sweep() };
        // It may be removed only now that it is empty.
        self.cgroup = None;
        let main = self.main;
        KillCount { ended: self.found.iter().filter(|&&one| Some(one) != main).count(), survivors }
    }

    /// Whether nothing can be left, which the kernel tells at once and a sweep only after several looks at every process
    /// of the machine: orphans come to this process, all its children are the command's, and it has none.
    fn is_gone(&self) -> bool {
        self.others.as_ref().is_some_and(BTreeSet::is_empty) && is_childless()
    }

    fn sweep(&mut self) -> usize {
        #[cfg(not(target_os = "linux"))]
        self.signal_main_group(Signal::KILL);
        let until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(1);
        let mut quiet = 0;
        if let Some(group) = self.cgroup.take() {
            // Looked at first, since nothing is left to count afterwards.
            self.note(&self.members());
            self.note(&group.members().into_iter().filter_map(procfs::stat).collect::<Vec<_>>());
            group.end();
            self.cgroup = Some(group);
        }
        loop {
            let members = self.stop_all();
            let living: Vec<_> = members.iter().filter(|seen| !seen.ended).copied().collect();
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

    /// Stops all that run, until a look finds none that runs. Gives what that look found.
    fn stop_all(&mut self) -> Vec<ProcessStat> {
        for _ in 0..STOPS {
            let members = self.members();
            self.note(&members);
            let mut running = members.iter().filter(|seen| !seen.ended && !seen.stopped).peekable();
            if running.peek().is_none() {
                return members;
            }
            running.for_each(|seen| signal(seen, Signal::STOP));
        }
        self.members()
    }

    fn note(&mut self, seen: &[ProcessStat]) {
        self.found.extend(seen.iter().filter(|seen| !seen.ended).map(id));
    }

    /// Reaps the orphans that came to us, each by its number: whoever started the main process waits for that one.
    fn reap(&self, members: &[ProcessStat]) -> usize {
        if self.others.is_none() {
            return 0;
        }
        let me = std::process::id().cast_signed();
        let orphans = members.iter().filter(|seen| seen.ended && seen.parent == me);
        let reaped = orphans.filter(|seen| self.main != Some(id(seen))).filter_map(|seen| {
            let pid = Pid::from_raw(seen.pid)?;
            rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).ok().flatten()
        });
        reaped.count()
    }

    #[cfg(not(target_os = "linux"))]
    fn signal_main_group(&self, how: Signal) {
        if let Some(group) = self.main.and_then(|(pid, _)| Pid::from_raw(pid)) {
            rustix::process::kill_process_group(group, how).ok();
        }
    }
}

fn id(seen: &ProcessStat) -> Id {
    (seen.pid, seen.start)
}

/// Whether this process is known to have no child, neither living nor waiting to be reaped. Children of all threads
/// count, and so do orphans that came to us: the kernel makes each of them one that can be waited for.
#[cfg(target_os = "linux")]
fn is_childless() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, look), Err(rustix::io::Errno::CHILD))
}

/// Elsewhere orphans go to another process, so having no child proves nothing.
#[cfg(not(target_os = "linux"))]
fn is_childless() -> bool {
    false
}

/// The children of this process.
fn children() -> Vec<ProcessStat> {
    if is_childless() {
        return Vec::new();
    }
    let me = std::process::id().cast_signed();
    procfs::all().into_iter().filter(|seen| seen.parent == me).collect()
}

/// Kills these processes and, since they can no longer leave them, their groups.
fn kill_all(living: &[ProcessStat]) {
    // Not asked of the kernel by a call: in a pid namespace whose first process kept its group, the answer is 0, which
    // `rustix` does not expect (it panics, seen with `unshare --fork`).
    let own = procfs::stat(std::process::id().cast_signed()).map_or(0, |me| me.group);
    let mut groups = BTreeSet::new();
    for seen in living {
        let still = procfs::stat(seen.pid).is_some_and(|now| {
            id(&now) == id(seen) && now.group == seen.group && now.stopped && !now.ended
        });
        let foreign = seen.group <= 1 || seen.group == own;
        if !still || foreign || !groups.insert(seen.group) {
            continue;
        }
        if let Some(group) = Pid::from_raw(seen.group) {
            rustix::process::kill_process_group(group, Signal::KILL).ok();
        }
    }
    for seen in living {
        signal(seen, Signal::KILL);
    }
}

/// Signals the process that was seen, and never a later one with the same number. That it has gone meanwhile, or may
/// not be signalled, shows at the next look.
#[cfg(target_os = "linux")]
fn signal(seen: &ProcessStat, how: Signal) {
    let Some(pid) = Pid::from_raw(seen.pid) else {
        return;
    };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    // Compared after the pidfd was opened: from then on the number cannot change its meaning unnoticed.
    if procfs::stat(seen.pid).is_some_and(|now| id(&now) == id(seen)) {
        rustix::process::pidfd_send_signal(&pidfd, how).ok();
    }
}

/// Without `/proc` nothing is ever seen.
#[cfg(not(target_os = "linux"))]
fn signal(_seen: &ProcessStat, _how: Signal) {}

/// Ends every process that carries the marker, with all their descendants, for recovery when a keeper has died. Never
/// this process itself. Says how many were ended.
pub(crate) fn kill_marked(marker: &str) -> usize {
    let mut tree = ProcessTree::by_marker(marker);
    tree.cgroup = cgroup::left_behind(marker);
    tree.end().ended
}

/// The living processes that carry the marker, with all their descendants.
#[cfg(test)]
pub(crate) fn living_marked(marker: &str) -> Vec<i32> {
    ProcessTree::by_marker(marker).living().iter().map(|seen| seen.pid).collect()
}
