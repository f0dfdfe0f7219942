//! `[sandbox]`: the isolation of agents and checks.

use crate::domain::network::NetworkAccess;

/// `[sandbox]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSection {
    /// `mode`: the use of a sandbox. The default is auto.
    pub mode: SandboxMode,
    /// `network`: the hosts that agents reach beside those of their preset.
    pub network: NetworkAccess,
    /// `caches`: folders of downloaded packages, beside the known ones. Absolute, or in the home as
    /// `~/folder`.
    pub caches: Vec<String>,
}

/// The use of a sandbox, from the least to the most strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SandboxMode {
    /// Commands run with the rights of the user.
    Off,
    /// Commands run in a sandbox where the machine has one, else with the rights of the user.
    Auto,
    /// Commands run in a sandbox. Without one, nothing starts.
    Require,
}

impl SandboxSection {
    /// No sandbox: the start for [`join`](Self::join).
    pub const OFF: Self = Self {
        mode: SandboxMode::Off,
        network: NetworkAccess::Listed(Vec::new()),
        caches: Vec::new(),
    };

    /// Combines the sections of two jobs: the stricter mode, and the caches of both. The hosts are
    /// those of agents, which no two jobs share.
    pub fn join(&mut self, other: &Self) {
        self.mode = self.mode.max(other.mode);
        for cache in &other.caches {
            if !self.caches.contains(cache) {
                self.caches.push(cache.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_sandbox_has_the_stricter_mode_and_the_caches_of_both() {
        let section = |mode, caches: &[&str]| SandboxSection {
            mode,
            network: SandboxSection::OFF.network,
            caches: caches.iter().map(|cache| (*cache).to_owned()).collect(),
        };
        let mut joined = SandboxSection::OFF;
        joined.join(&section(SandboxMode::Require, &["~/a"]));
        joined.join(&section(SandboxMode::Auto, &["~/b", "~/a"]));
        assert_eq!(joined, section(SandboxMode::Require, &["~/a", "~/b"]));
    }
}
