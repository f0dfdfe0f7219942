//! Environments of child processes, built from nothing.
//!
//! The environment of the user's shell must not influence an agent: an inherited `GIT_DIR` or
//! `GIT_INDEX_FILE` would point its commits at the user's own repository. So only variables that
//! this module or the job names are passed on.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::domain::identity::Identity;

/// The search path for programs if the user's own PATH is not known.
const PLAIN_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Settings of git in commands. Background maintenance outlives the command that starts it, and
/// nobody would wait for it before the worktree is recycled. A signature needs the user's key or a
/// passphrase, and the agent's commits never land: a task lands as a new commit.
const GIT_CONFIG: [(&str, &str); 5] = [
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("tag.forceSignAnnotated", "false"),
];

/// All environment variables of a child process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environ(BTreeMap<OsString, OsString>);

impl Environ {
    /// Creates an environment without variables.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// Creates the environment of a job's command: PATH, HOME and LANG of the user, `TERM=dumb`, a
    /// private TMPDIR, an identity for commits (a fresh machine has none), and settings that keep
    /// git from signing and from starting maintenance in the background. Ambient variables that
    /// `pass` names are added if they are set. `GIT_*` variables are never passed on, even if
    /// named.
    pub(crate) fn for_command(
        ambient: &BTreeMap<OsString, OsString>,
        tmpdir: &Path,
        who: &Identity,
        pass: &[String],
    ) -> Self {
        let or = |name: &str, plain: &str| {
            ambient.get(OsStr::new(name)).cloned().unwrap_or_else(|| OsString::from(plain))
        };
        let mut env = Self::empty();
        env.set("PATH", or("PATH", PLAIN_PATH));
        env.set("HOME", or("HOME", "/"));
        env.set("LANG", or("LANG", "C.UTF-8"));
        env.set("TERM", "dumb");
        env.set("TMPDIR", tmpdir);
        for role in ["AUTHOR", "COMMITTER"] {
            env.set(format!("GIT_{role}_NAME"), &who.name);
            env.set(format!("GIT_{role}_EMAIL"), &who.email);
        }
        for (at, (key, value)) in GIT_CONFIG.into_iter().enumerate() {
            env.set(format!("GIT_CONFIG_KEY_{at}"), key);
            env.set(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        env.set("GIT_CONFIG_COUNT", GIT_CONFIG.len().to_string());
        for name in pass.iter().filter(|name| !name.starts_with("GIT_")) {
            if let Some(value) = ambient.get(OsStr::new(name)) {
                env.set(name, value);
            }
        }
        env
    }

    /// Sets one variable and replaces its old value.
    pub(crate) fn set(
        &mut self,
        name: impl Into<OsString>,
        value: impl Into<OsString>,
    ) -> &mut Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Returns the environment with one variable set.
    pub(crate) fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.set(name, value);
        self
    }

    /// Removes a variable. A name that ends in `*` removes all variables that begin with the text
    /// before the `*`.
    pub(crate) fn remove_all(&mut self, name: &str) {
        match name.strip_suffix('*') {
            None => {
                self.0.remove(OsStr::new(name));
            }
            Some(prefix) => self.0.retain(|n, _| !n.to_string_lossy().starts_with(prefix)),
        }
    }

    /// Returns the value of one variable.
    pub(crate) fn value(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Iterates over all variables, sorted by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Returns the variables in the form that `duct` takes.
    pub(super) fn pairs(&self) -> BTreeMap<OsString, OsString> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambient() -> BTreeMap<OsString, OsString> {
        [
            ("PATH", "/opt/bin"),
            ("GIT_DIR", "/elsewhere"),
            ("GIT_CONFIG_COUNT", "9"),
            ("KEY", "secret"),
            ("OTHER", "x"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
    }

    fn who() -> Identity {
        Identity { name: "A".into(), email: "a@b".into() }
    }

    #[test]
    fn environment_holds_only_named_variables() {
        let pass = ["KEY".to_owned(), "UNSET".to_owned()];
        let env = Environ::for_command(&ambient(), Path::new("/t"), &who(), &pass);
        assert_eq!(env.value("PATH"), Some(OsStr::new("/opt/bin")));
        assert_eq!(env.value("HOME"), Some(OsStr::new("/")));
        assert_eq!(env.value("TMPDIR"), Some(OsStr::new("/t")));
        assert_eq!(env.value("KEY"), Some(OsStr::new("secret")));
        assert_eq!(env.value("OTHER"), None);
        assert_eq!(env.value("UNSET"), None);
        assert_eq!(env.value("GIT_COMMITTER_EMAIL"), Some(OsStr::new("a@b")));
    }

    #[test]
    fn environment_never_passes_git_variables() {
        let pass = ["GIT_DIR".to_owned(), "GIT_CONFIG_COUNT".to_owned()];
        let env = Environ::for_command(&ambient(), Path::new("/t"), &who(), &pass);
        assert_eq!(env.value("GIT_DIR"), None);
        assert_eq!(env.value("GIT_CONFIG_COUNT"), Some(OsStr::new("5")));
    }
}
