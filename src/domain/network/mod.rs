//! The network of sandboxed commands: the hosts that they may reach.

mod address;
mod pattern;

use core::net::{IpAddr, SocketAddr};
use std::fmt;

pub(crate) use self::address::closed_range;
pub use self::pattern::{HostPattern, HostPatternError};

/// The ports of a host whose pattern names none.
const WEB_PORTS: [u16; 2] = [443, 80];

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

/// A host, as a request names it. Names are in lower case and without a final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostName {
    /// A name of the domain name system.
    Dns(String),
    /// An address.
    Address(IpAddr),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The host.
    pub host: HostName,
    /// The port.
    pub port: u16,
}

impl HostName {
    /// Parses a host. IPv6 addresses have brackets. Returns `None` for a text that is neither a
    /// name nor an address, such as a decimal number, which a resolver would take for an address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner.parse().ok().map(|address| Self::Address(IpAddr::V6(address)));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        (name.len() <= 253 && name.split('.').all(is_label) && !is_number)
            .then(|| Self::Dns(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Destination {
    /// Parses `host:port`. `default` is the port of a text without one.
    pub(crate) fn parse(text: &str, default: Option<u16>) -> Option<Self> {
        let (host, port) = split_port(text);
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None => default?,
        };
        Some(Self { host: HostName::parse(host)?, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Splits a text at the colon before its port.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok()).flatten().filter(|port| *port != 0)
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
