//! Patterns of hosts, as a job file lists them.

use core::net::SocketAddr;
use std::fmt;

use super::address::closed_range;
use super::host::{Destination, HostName, parse_port, split_port};

/// The ports of a host whose pattern names none.
const WEB_PORTS: [u16; 2] = [443, 80];

/// The hosts that one entry of a list stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternHost {
    /// This host.
    Exactly(HostName),
    /// Every name below this one.
    Below(String),
}

/// An entry of a list of hosts: `example.com`, `*.example.com`, `127.0.0.1:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: PatternHost,
    /// The port. `None` for the ports of the web.
    port: Option<u16>,
}

/// An error in a pattern, with advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPatternError {
    /// The message, which follows the name of the key.
    pub message: String,
    /// The advice.
    pub hint: String,
}

impl HostPattern {
    /// Parses a pattern.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        let error = |message: &str, hint: &str| HostPatternError {
            message: format!("{message}: {text:?}"),
            hint: hint.to_owned(),
        };
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return Err(error(
                "has a URL where a host is needed",
                &format!("name the host: \"{host}\""),
            ));
        }
        if text == "*" {
            return Err(error(
                "cannot hold every host",
                "for the machine's network write `network = \"all\"`",
            ));
        }
        let (name, port) = split_port(text);
        let port = match port.map(parse_port) {
            Some(None) => {
                return Err(error(
                    "holds a port that is no number from 1 to 65535",
                    "write it like \"example.com:8443\"; an IPv6 address has brackets: \"[::1]:8080\"",
                ));
            }
            Some(port) => port,
            None => None,
        };
        let no_host = || {
            let hint = "a host is a name, a wildcard such as \"*.example.com\", or an address with its port";
            error("holds no host", hint)
        };
        if let Some(below) = name.strip_prefix("*.") {
            let Some(HostName::Dns(below)) = HostName::parse(below) else { return Err(no_host()) };
            if !below.contains('.') {
                let hint = format!("name more of it, such as \"*.example.{below}\"");
                return Err(error("holds a wildcard for too many hosts", &hint));
            }
            return Ok(Self { host: PatternHost::Below(below), port });
        }
        let host = HostName::parse(name).ok_or_else(no_host)?;
        match (&host, port) {
            (HostName::Address(address), None) => {
                if let Some(range) = closed_range(*address) {
                    let message = format!("holds {} without a port", range.kind);
                    return Err(error(&message, &format!("add the port: \"{host}:8080\"")));
                }
            }
            (HostName::Dns(name), _) if name == "localhost" || name.ends_with(".localhost") => {
                let hint = format!("name the address: \"127.0.0.1:{}\"", port.unwrap_or(8080));
                return Err(error("holds a name of this machine", &hint));
            }
            (HostName::Dns(_) | HostName::Address(_), _) => {}
        }
        Ok(Self { host: PatternHost::Exactly(host), port })
    }

    /// Returns the pattern of one destination.
    pub(crate) fn of(destination: Destination) -> Self {
        Self { host: PatternHost::Exactly(destination.host), port: Some(destination.port) }
    }

    /// Returns true if the pattern stands for this destination.
    pub(super) fn matches(&self, destination: &Destination) -> bool {
        let is_host = match (&self.host, &destination.host) {
            (PatternHost::Exactly(HostName::Address(one)), HostName::Address(other)) => {
                one.to_canonical() == other.to_canonical()
            }
            (PatternHost::Exactly(one), other) => one == other,
            (PatternHost::Below(above), HostName::Dns(name)) => {
                name.strip_suffix(above.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            (PatternHost::Below(_), HostName::Address(_)) => false,
        };
        let is_port = match self.port {
            Some(port) => port == destination.port,
            None => WEB_PORTS.contains(&destination.port),
        };
        is_host && is_port
    }

    /// Returns the address, if the pattern is an address with a port.
    pub(super) fn address_and_port(&self) -> Option<SocketAddr> {
        match (&self.host, self.port) {
            (PatternHost::Exactly(HostName::Address(address)), Some(port)) => {
                Some(SocketAddr::new(address.to_canonical(), port))
            }
            (PatternHost::Exactly(_) | PatternHost::Below(_), _) => None,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            PatternHost::Exactly(host) => host.fmt(f)?,
            PatternHost::Below(name) => write!(f, "*.{name}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::HostPattern;

    #[test]
    fn patterns_are_printed_in_their_normal_form() {
        for (text, normal) in [
            ("Example.COM.", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("example.com:8443", "example.com:8443"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("1.1.1.1", "1.1.1.1"),
        ] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), normal);
        }
    }

    #[test]
    fn bad_patterns_have_a_hint() {
        for (text, hint) in [
            ("https://example.com/v1", "name the host: \"example.com\""),
            ("*", "for the machine's network write `network = \"all\"`"),
            ("*.com", "name more of it, such as \"*.example.com\""),
            ("localhost:3000", "name the address: \"127.0.0.1:3000\""),
            ("127.0.0.1", "add the port: \"127.0.0.1:8080\""),
            ("[fd00::1]", "add the port: \"[fd00::1]:8080\""),
            ("10.0.0.1", "add the port: \"10.0.0.1:8080\""),
        ] {
            assert_eq!(HostPattern::parse(text).unwrap_err().hint, hint, "{text}");
        }
        for text in ["", "a b", "a.*.com", "*example.com", "a.example:x", "::1", "0x7f.1", "a/b"] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
