//! `[sandbox]`: the isolation of agents and checks.

use crate::domain::network::NetworkAccess;

/// `[sandbox]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSection {
    /// `mode`: the use of a sandbox. The default is auto.
    pub mode: SandboxMode,
    /// `network`: the hosts that agents reach beside those of their preset.
    pub network: NetworkAccess,
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
