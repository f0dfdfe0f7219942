//! A control group for each command, if the system permits it. The kernel kills a control group
//! faster than any process tree can fork.
//!
//! A writable cgroup version 2 is needed, as in a container, as root, or under `systemd-run --user
//! --scope`. Otherwise no group is created, and only the sweep over `/proc` kills the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest time that the kernel may take to kill the members of a group.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A control group that a keeper created. Dropping the value removes the group if the group is
/// empty.
#[derive(Debug)]
pub(super) struct Cgroup {
    dir: PathBuf,
    parent: PathBuf,
}

impl Cgroup {
    /// Creates a group below the group of this process and moves this process into the new group,
    /// so that every child starts inside. [`leave`](Self::leave) must follow.
    pub(super) fn enter(marker: &str) -> Option<Self> {
        let parent = own_dir()?;
        // The kernel lets no process into a group that delegates controllers, so this process could
        // not return to such a parent.
        let delegated = fs::read_to_string(parent.join("cgroup.subtree_control")).ok()?;
        if !delegated.trim().is_empty() {
            return None;
        }
        let dir = parent.join(name(marker));
        fs::create_dir(&dir).ok()?;
        let group = Self { dir, parent };
        let killable = group.dir.join("cgroup.kill").exists();
        (killable && move_self(&group.dir)).then_some(group)
    }

    /// Moves this process back to the parent group. Returns `None` on failure: this process is then
    /// still a member of the new group, so nobody may kill that group.
    pub(super) fn leave(self) -> Option<Self> {
        move_self(&self.parent).then_some(self)
    }

    /// Returns the numbers of the processes in the group.
    pub(super) fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills all processes in the group at once and waits until they have ended.
    pub(super) fn kill(&self) {
        if fs::write(self.dir.join("cgroup.kill"), "1").is_err() {
            return;
        }
        let until = Instant::now() + KILL_TIMEOUT;
        while self.is_populated() && Instant::now() < until {
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn is_populated(&self) -> bool {
        fs::read_to_string(self.dir.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.dir).ok();
    }
}

/// Returns the group that a dead keeper left behind, if the group lies below the group of this
/// process.
pub(super) fn left_behind(marker: &str) -> Option<Cgroup> {
    let parent = own_dir()?;
    let dir = parent.join(name(marker));
    let group = dir.is_dir().then_some(Cgroup { dir, parent })?;
    // The caller kills the group, so this process must not be a member.
    let me = std::process::id().cast_signed();
    (!group.members().contains(&me)).then_some(group)
}

fn move_self(to: &Path) -> bool {
    fs::write(to.join("cgroup.procs"), "0").is_ok()
}

fn name(marker: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }
    };
    format!("git-harness-{}", marker.chars().map(plain).collect::<String>())
}

/// Creates the group of a marker, so that a keeper cannot create the group and falls back to the
/// sweep.
#[cfg(test)]
pub(super) fn occupy(marker: &str) -> Option<Cgroup> {
    let parent = own_dir()?;
    let dir = parent.join(name(marker));
    fs::create_dir(&dir).ok()?;
    Some(Cgroup { dir, parent })
}

/// Returns the directory of this process's own control group.
fn own_dir() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    group_dir(&groups, &mounts)
}

/// Returns the directory of the group, given the content of `/proc/self/cgroup` and
/// `/proc/self/mountinfo`.
fn group_dir(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then_some(())?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        Some(Path::new(at).join(own.strip_prefix(root).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_dir_is_found_from_mounts_and_groups() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 cgroup2 rw\n";
        let at = |groups: &str| group_dir(groups, mounts);
        assert_eq!(at("0::/\n"), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(at("1:cpu:/x\n0::/a/b\n"), Some("/sys/fs/cgroup/unified/a/b".into()));
        assert_eq!(at("1:cpu:/x\n"), None);
        let below = "41 31 0:38 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(group_dir("0::/pod/a\n", below), Some("/sys/fs/cgroup/a".into()));
        assert_eq!(group_dir("0::/other\n", below), None);
    }

    #[test]
    fn cgroup_name_of_a_marker_stays_inside_the_directory() {
        assert_eq!(name("../r 1"), "git-harness-___r_1");
    }
}
