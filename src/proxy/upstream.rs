//! The user's own proxies. An allowed host is reached through them, as the user reaches it.

use std::io::{self, Write as _};
use std::net::TcpStream;

use super::connect::{ReachedHost, Unreachable, resolve, to_address};
use super::request::read_head;
use crate::domain::network::{AllowList, Destination, HostName};
use crate::wire::network::UpstreamProxies;

/// The address of a proxy.
#[derive(Debug, PartialEq, Eq)]
struct ProxyUrl {
    host: String,
    port: u16,
    /// The header line with the user's name and password.
    authorization: String,
}

/// Returns the proxy that leads to a destination. `None` for a direct connection: an address that
/// the allow-list names is one of this machine or of a network beside it.
pub(super) fn choose<'a>(
    proxies: &'a UpstreamProxies,
    allowed: &AllowList,
    destination: &Destination,
    is_tunnel: bool,
) -> Option<&'a str> {
    let is_named = match destination.host {
        HostName::Address(address) => allowed.names((address, destination.port).into()),
        HostName::Dns(_) => false,
    };
    let proxy = if is_tunnel { &proxies.https } else { &proxies.http };
    let is_direct = is_named || is_excepted(&proxies.except, destination);
    proxy.as_deref().filter(|_| !is_direct)
}

/// Returns true if `NO_PROXY` has a host: by its name, by the end of its name, or with its port.
fn is_excepted(except: &str, destination: &Destination) -> bool {
    let host = destination.host.to_string();
    except.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let entry = match entry.strip_suffix(&format!(":{}", destination.port)) {
            Some(name) => name.to_owned(),
            None => entry,
        };
        let name = entry.trim_start_matches('*').trim_start_matches('.');
        let is_below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        entry == "*" || !name.is_empty() && (host == name || is_below)
    })
}

/// Connects with a destination through a proxy, or with the proxy itself for a plain request.
pub(super) fn connect(
    url: &str,
    destination: &Destination,
    is_tunnel: bool,
) -> Result<ReachedHost, Unreachable> {
    let failed = |why: String| Unreachable::Failed(format!("your own proxy: {why}"));
    let url = parse(url).ok_or_else(|| failed("it is not `http://host:port`".to_owned()))?;
    let mut stream = Err(io::Error::from(io::ErrorKind::NotFound));
    for address in resolve(&url.host, url.port)? {
        stream = to_address(address);
        if stream.is_ok() {
            break;
        }
    }
    let stream = stream.map_err(|error| failed(error.to_string()))?;
    let ProxyUrl { authorization, .. } = url;
    let reached =
        ReachedHost { is_proxy: true, headers: authorization, ..ReachedHost::directly(stream) };
    if !is_tunnel {
        return Ok(reached);
    }
    let early = open_tunnel(&reached.stream, destination, &reached.headers)?.map_err(failed)?;
    Ok(ReachedHost { early, ..reached })
}

/// Asks a proxy for a tunnel. Returns the bytes after its answer. The inner error is an answer that
/// refuses the tunnel.
fn open_tunnel(
    stream: &TcpStream,
    destination: &Destination,
    authorization: &str,
) -> io::Result<Result<Vec<u8>, String>> {
    let request =
        format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n{authorization}\r\n");
    let mut stream = stream;
    stream.write_all(request.as_bytes())?;
    let Some((head, rest)) = read_head(&mut stream)? else {
        return Ok(Err("it closed the connection".to_owned()));
    };
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    let status = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') {
        return Ok(Ok(rest));
    }
    let shown: String =
        line.chars().filter(|c| c.is_ascii() && !c.is_control()).take(100).collect();
    Ok(Err(format!("it answered `{shown}`")))
}

/// Parses the address of a proxy. Only a connection without TLS is possible.
fn parse(url: &str) -> Option<ProxyUrl> {
    let url = url.trim();
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return None,
        None => url,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let Destination { host, port } = Destination::parse(host, Some(80))?;
    let host = match host {
        HostName::Dns(name) => name,
        HostName::Address(address) => address.to_string(),
    };
    let authorization = user.map_or_else(String::new, |user| {
        format!("Proxy-Authorization: Basic {}\r\n", base64(&percent_decoded(user)))
    });
    Some(ProxyUrl { host, port, authorization })
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            (first, _) => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Encodes bytes as base64 (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let is_padding = place > chunk.len();
            out.push(if is_padding { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_address_may_hold_a_password() {
        let url = parse("http://una:p%40ss@Proxy.example:3128/").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("proxy.example", 3128));
        assert_eq!(url.authorization, "Proxy-Authorization: Basic dW5hOnBAc3M=\r\n");
        assert_eq!(parse("proxy.example:3128").unwrap().port, 3128);
        assert_eq!(parse("https://proxy.example:3128"), None);
        assert_eq!(parse("socks5://proxy.example:1080"), None);
        for (plain, encoded) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn excepted_hosts_are_reached_directly() {
        let to = |text: &str| Destination::parse(text, None).unwrap();
        for (except, host, expected) in [
            ("example.com", "example.com:443", true),
            ("example.com", "a.example.com:443", true),
            (".example.com", "a.example.com:443", true),
            ("*.example.com", "a.example.com:443", true),
            ("x, example.com:8443", "example.com:8443", true),
            ("example.com:8443", "example.com:443", false),
            ("example.com", "badexample.com:443", false),
            ("10.0.0.1", "10.0.0.1:443", true),
            ("*", "example.com:443", true),
            ("", "example.com:443", false),
            (".", "example.com:443", false),
        ] {
            assert_eq!(is_excepted(except, &to(host)), expected, "{except} {host}");
        }
    }
}
