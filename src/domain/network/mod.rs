//! The network of sandboxed commands: the hosts that they may reach.

mod address;
mod host;
mod pattern;

use core::net::SocketAddr;

pub(crate) use self::address::closed_range;
pub(crate) use self::host::{Destination, HostName};
pub use self::pattern::{HostPattern, HostPatternError};

/// The network of a command in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkAccess {
    /// The machine's network.
    All,
    /// The hosts that match one of these patterns, through a proxy.
    Listed(Vec<HostPattern>),
}

impl NetworkAccess {
    /// Returns the access to no host.
    pub fn none() -> Self {
        Self::Listed(Vec::new())
    }
}

/// The hosts that a command may reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowList(Vec<HostPattern>);

impl AllowList {
    /// Creates a list of patterns.
    pub(crate) fn new(patterns: Vec<HostPattern>) -> Self {
        Self(patterns)
    }

    /// Returns true if a command may ask for this destination.
    pub(crate) fn permits(&self, destination: &Destination) -> bool {
        self.0.iter().any(|pattern| pattern.matches(destination))
    }

    /// Returns true if a pattern is this address with this port.
    pub(crate) fn names(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|pattern| pattern.address_and_port() == Some(canonical(address)))
    }

    /// Returns the loopback addresses with a port that the list names.
    pub(crate) fn loopback(&self) -> Vec<SocketAddr> {
        let named = self.0.iter().filter_map(HostPattern::address_and_port);
        named.filter(|address| address.ip().is_loopback()).collect()
    }
}

/// Returns an address, with an IPv4-mapped one as an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> AllowList {
        AllowList::new(patterns.iter().map(|text| HostPattern::parse(text).unwrap()).collect())
    }

    fn permits(patterns: &[&str], destination: &str) -> bool {
        Destination::parse(destination, None).is_some_and(|to| list(patterns).permits(&to))
    }

    #[test]
    fn host_names_are_compared_without_case_and_final_dot() {
        assert!(permits(&["API.Example.com."], "api.example.COM:443"));
        assert!(permits(&["api.example.com"], "api.example.com.:443"));
        assert!(!permits(&["api.example.com"], "api.example.com..:443"));
        assert!(!permits(&["api.example.com"], "xapi.example.com:443"));
        assert!(!permits(&["api.example.com"], "api.example.com.evil.net:443"));
        assert!(!permits(&["example.com"], "api.example.com:443"));
    }

    #[test]
    fn wildcard_stands_for_one_or_more_labels() {
        assert!(permits(&["*.example.com"], "a.example.com:443"));
        assert!(permits(&["*.example.com"], "a.b.Example.com:443"));
        assert!(!permits(&["*.example.com"], "example.com:443"));
        assert!(!permits(&["*.example.com"], "evilexample.com:443"));
        assert!(!permits(&["*.example.com"], "a.example.com.evil.net:443"));
    }

    #[test]
    fn only_web_ports_are_open_unless_a_pattern_names_its_port() {
        assert!(permits(&["a.example"], "a.example:443"));
        assert!(permits(&["a.example"], "a.example:80"));
        assert!(!permits(&["a.example"], "a.example:22"));
        assert!(permits(&["a.example:22"], "a.example:22"));
        assert!(!permits(&["a.example:22"], "a.example:443"));
    }

    #[test]
    fn destinations_that_a_resolver_would_reinterpret_are_refused() {
        for text in [
            "2130706433:443",
            "0x7f000001:443",
            "0177.0.0.1:443",
            "127.1:443",
            "a.0x7f:443",
            "a.example",
            "a.example:",
            "a.example:0",
            "a.example:65536",
            "a.example:+443",
            "a.example:443@evil.net",
            "evil.net@a.example:443",
            "a.example:443/x",
            "a..example:443",
            "a example:443",
            "a%2eexample:443",
            "ａ.example:443",
            "::1:443",
            "[::1%lo]:443",
            "[::1]",
            ":443",
            "",
        ] {
            assert_eq!(Destination::parse(text, None), None, "{text}");
        }
    }

    #[test]
    fn address_is_named_only_together_with_its_port() {
        let list = list(&["127.0.0.1:8080", "10.1.2.3:443", "[::1]:9000", "1.1.1.1"]);
        let names = |text: &str| list.names(text.parse().unwrap());
        assert!(names("127.0.0.1:8080") && names("[::ffff:127.0.0.1]:8080") && names("[::1]:9000"));
        assert!(names("10.1.2.3:443"));
        assert!(!names("127.0.0.1:8081") && !names("127.0.0.2:8080") && !names("1.1.1.1:443"));
        let loopback: Vec<String> = list.loopback().iter().map(ToString::to_string).collect();
        assert_eq!(loopback, ["127.0.0.1:8080", "[::1]:9000"]);
    }
}
