//! The oldest git that must work, that of Debian 12: unpacked from its package, it merges the same
//! trials as the git of this machine does in `tests/sim`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::{merges, sh};

/// The version, without Debian's own number.
const VERSION: &str = "2.39.5";

/// The number of trials of each kind.
const TRIALS: u64 = 40;

/// Unpacks the package. Returns a search path that begins with its git, or the reason why there is
/// none.
fn unpack(dir: &Path) -> Result<String, String> {
    let download =
        format!("apt-get download git=1:{VERSION}* && dpkg-deb --extract git_*.deb root");
    let out = sh(dir, &download);
    if !out.status.success() {
        let errors = String::from_utf8_lossy(&out.stderr);
        let last = errors.lines().last().unwrap_or_default();
        return Err(format!("the package of git {VERSION} cannot be had here: {last}"));
    }
    // The package's git looks for its other programs where it would have been installed.
    let (root, bin) = (dir.join("root/usr"), dir.join("bin"));
    std::fs::create_dir(&bin).unwrap();
    let (exec, git) = (root.join("lib/git-core"), root.join("bin/git"));
    let wrapper =
        format!("#!/bin/sh\nGIT_EXEC_PATH='{}' exec '{}' \"$@\"\n", exec.display(), git.display());
    std::fs::write(bin.join("git"), wrapper).unwrap();
    std::fs::set_permissions(bin.join("git"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let version = sh(dir, &format!("PATH='{path}' git --version"));
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    if version != format!("git version {VERSION}") {
        return Err(format!("git {VERSION} does not run here: it says `{version}`"));
    }
    Ok(path)
}

#[test]
fn merges_by_the_git_of_debian_12_are_the_same() {
    let dir = tempfile::Builder::new().prefix("harness-old-git-").tempdir().unwrap();
    match unpack(dir.path()) {
        Ok(path) => merges::compare_all(&path, TRIALS),
        Err(reason) => println!("skipped: {reason}"),
    }
}
