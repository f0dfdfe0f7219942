//! The network of sandboxed commands.

use serde::{Deserialize, Serialize};

use crate::domain::network::NetworkAccess;

/// The variable with the user's proxies in the environment that a keeper receives. The keeper takes
/// it out. The address of a proxy may hold a password, so no file has it.
pub(crate) const UPSTREAM: &str = "HARNESS_UPSTREAM";

/// The network of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WireNetwork {
    /// The machine's network.
    All,
    /// These hosts, through the proxy.
    Hosts(Vec<String>),
}

impl WireNetwork {
    /// Returns the network of a check. `None` for a check without one.
    pub(crate) fn of(access: &NetworkAccess) -> Option<Self> {
        match access {
            NetworkAccess::All => Some(Self::All),
            NetworkAccess::Listed(hosts) if hosts.is_empty() => None,
            NetworkAccess::Listed(hosts) => {
                Some(Self::Hosts(hosts.iter().map(ToString::to_string).collect()))
            }
        }
    }
}

/// The proxies of the user, as their environment names them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct UpstreamProxies {
    /// The proxy for tunnels: `HTTPS_PROXY`.
    pub https: Option<String>,
    /// The proxy for plain requests: `http_proxy`.
    pub http: Option<String>,
    /// The hosts that are reached without a proxy: `NO_PROXY`.
    #[serde(default)]
    pub except: String,
}

impl UpstreamProxies {
    /// Reads the proxies from the user's environment, in lower case first, as curl does.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&str; 4]| {
            names.into_iter().filter_map(&variable).find(|value| !value.trim().is_empty())
        };
        Self {
            https: first(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http: first(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            except: first(["no_proxy", "NO_PROXY", "", ""]).unwrap_or_default(),
        }
    }

    /// Returns the text for [`UPSTREAM`]. `None` if the user has no proxies.
    pub(crate) fn to_text(&self) -> Option<String> {
        let is_set = self.https.is_some() || self.http.is_some();
        is_set.then(|| serde_json::to_string(self).ok()).flatten()
    }

    /// Parses the text of [`UPSTREAM`].
    pub(crate) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}
