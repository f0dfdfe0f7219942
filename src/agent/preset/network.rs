//! The hosts of a preset: what its program needs in a sandbox.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::domain::network::{Destination, HostName, HostPattern};

/// `[network]`: the hosts that the program reaches from a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PresetNetwork {
    /// Hosts, as in `[sandbox] network` of a job.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Variables of the user that hold the address of a server. The program reaches that server.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Hosts that the program reaches if a variable of the user is set. `{NAME}` in a host is the
    /// value of another variable, such as a region. Without that value, the host is left out.
    #[serde(default)]
    pub when: BTreeMap<String, Vec<String>>,
}

impl PresetNetwork {
    /// Returns the patterns of the hosts. `variable` looks a variable of the user up.
    pub(crate) fn patterns(&self, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let extra = self.when.iter().filter(|(name, _)| is_set(name)).flat_map(|(_, hosts)| hosts);
        let extra = extra.filter_map(|host| filled(host, &variable));
        let mut patterns: Vec<String> = self.hosts.iter().cloned().chain(extra).collect();
        // The value of a variable may be anything.
        patterns.retain(|text| HostPattern::parse(text).is_ok());
        let servers = self.urls.iter().filter_map(|name| server(&variable(name)?));
        patterns.extend(servers.map(|server| HostPattern::of(server).to_string()));
        patterns
    }

    /// Returns the first entry that is no pattern, with the reason.
    pub(super) fn fault(&self) -> Option<String> {
        let mut hosts = self.hosts.iter().chain(self.when.values().flatten());
        let with_any = |text: &String| filled(text, |_| Some("x".to_owned()));
        hosts.find_map(|text| match with_any(text).map(|text| HostPattern::parse(&text)) {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(error.message),
            None => Some(format!("holds a placeholder without an end: {text:?}")),
        })
    }
}

/// Replaces the placeholders in a host. Returns `None` if a variable is not set.
fn filled(host: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = host.to_owned();
    while let Some((before, rest)) = text.split_once('{') {
        let (name, after) = rest.split_once('}')?;
        let value = variable(name).filter(|value| !value.contains('{'))?;
        text = format!("{before}{value}{after}");
    }
    Some(text)
}

/// Returns the server of an address such as `http://127.0.0.1:8080/v1`.
fn server(url: &str) -> Option<Destination> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let server = Destination::parse(host, Some(port))?;
    let is_local = server.host == HostName::Dns("localhost".to_owned());
    let address = HostName::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Some(if is_local { Destination { host: address, ..server } } else { server })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_variables_add_hosts() {
        let network = PresetNetwork {
            hosts: vec!["api.example.com".into()],
            urls: vec!["BASE".into(), "UNSET".into(), "ODD".into()],
            when: BTreeMap::from([
                (
                    "CLOUD".to_owned(),
                    vec!["{REGION}.cloud.example".to_owned(), "{UNSET}.cloud.example".to_owned()],
                ),
                ("OTHER".to_owned(), vec!["other.example".to_owned()]),
            ]),
        };
        let patterns = |base: &str| {
            network.patterns(|name| match name {
                "BASE" => Some(base.to_owned()),
                "CLOUD" => Some("1".to_owned()),
                "REGION" => Some("eu-1".to_owned()),
                "OTHER" => Some(String::new()),
                "ODD" => Some("no address".to_owned()),
                _ => None,
            })
        };
        let with = |base: &str| patterns(base).split_off(2);
        assert_eq!(patterns("")[..2], ["api.example.com", "eu-1.cloud.example"]);
        assert_eq!(with("https://u:p@Gateway.example/v1"), ["gateway.example:443"]);
        assert_eq!(with("http://127.0.0.1:8099"), ["127.0.0.1:8099"]);
        assert_eq!(with("http://localhost:8099/"), ["127.0.0.1:8099"]);
        assert_eq!(with("http://[::1]:8099"), ["[::1]:8099"]);
        assert!(with("").is_empty());
    }
}
