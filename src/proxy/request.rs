//! The head of a request to the proxy. Every byte of it comes from the sandbox.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Duration;

use crate::ambient;
use crate::domain::network::Destination;

/// The longest head in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// The largest number of header lines.
const MAX_LINES: usize = 128;

/// The time in which a head must have arrived.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The headers that concern one connection, and those that the proxy writes itself.
const DROPPED: [&str; 10] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request to the proxy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProxyRequest {
    /// The host that the request is for.
    pub(super) destination: Destination,
    /// The kind of request.
    pub(super) kind: RequestKind,
}

/// The kind of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// A tunnel.
    Tunnel,
    /// A request in absolute form, which is passed on without TLS.
    Plain(PlainRequest),
}

/// A request that is passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PlainRequest {
    /// The method.
    method: String,
    /// The path with the query.
    path: String,
    /// The host, as it is written in the request.
    authority: String,
    /// The header lines that are passed on.
    headers: Vec<String>,
    /// The number of bytes of the body.
    pub(super) body: u64,
}

/// A request that cannot be answered: a status with its reason, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRequest {
    /// The status.
    pub(super) status: u16,
    /// The reason.
    pub(super) reason: &'static str,
}

impl PlainRequest {
    /// Returns the head for the server, or, with an `absolute` form, for another proxy. The
    /// connection is closed after the answer: a second request on it would not have been checked.
    pub(super) fn head(&self, absolute: bool, more: &str) -> String {
        let Self { method, path, authority, headers, .. } = self;
        let server = if absolute { format!("http://{authority}") } else { String::new() };
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        format!(
            "{method} {server}{path} HTTP/1.1\r\nHost: {authority}\r\n{headers}{more}Connection: close\r\n\r\n"
        )
    }
}

/// Reads a head. Returns it with the bytes that follow it, or `None` if the stream ends before.
pub(super) fn read_head(stream: &mut &TcpStream) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let deadline = ambient::instant() + HEAD_TIMEOUT;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(ambient::instant());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let searched = bytes.len().saturating_sub(3);
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if let Some(at) = bytes[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(searched + at + 4);
            return Ok(Some((bytes, rest)));
        }
        if bytes.len() > MAX_HEAD {
            return Ok(Some((bytes, Vec::new())));
        }
    }
}

/// Parses a head.
pub(super) fn parse(head: &[u8]) -> Result<ProxyRequest, BadRequest> {
    let bad = |reason| BadRequest { status: 400, reason };
    if head.len() > MAX_HEAD {
        return Err(BadRequest { status: 431, reason: "the head is too long" });
    }
    let text = std::str::from_utf8(head).map_err(|_| bad("the head is not UTF-8"))?;
    let text = text.strip_suffix("\r\n\r\n").ok_or_else(|| bad("the head has no end"))?;
    let mut lines = text.split("\r\n");
    // A line break of another kind could hide a second request.
    if text.split("\r\n").any(|line| line.contains(|c: char| c.is_control() && c != '\t')) {
        return Err(bad("the head holds control characters"));
    }
    let first = lines.next().unwrap_or_default();
    let parts: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = parts.as_slice() else {
        return Err(bad("the request line is not `METHOD TARGET HTTP/1.1`"));
    };
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(bad("the method is not a word"));
    }
    let headers: Vec<(&str, &str)> = lines
        .map(header)
        .collect::<Option<_>>()
        .ok_or_else(|| bad("a header is not `Name: value`"))?;
    if headers.len() > MAX_LINES {
        return Err(BadRequest { status: 431, reason: "the head has too many lines" });
    }
    if *method == "CONNECT" {
        let destination = Destination::parse(target, None)
            .ok_or_else(|| bad("the target of CONNECT is not `host:port`"))?;
        return Ok(ProxyRequest { destination, kind: RequestKind::Tunnel });
    }
    plain(method, target, &headers)
}

fn plain(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<ProxyRequest, BadRequest> {
    let bad = |reason| BadRequest { status: 400, reason };
    let rest = match target.split_at_checked("http://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => rest,
        Some(_) | None => {
            return Err(bad("the target is not `http://host/path`; for TLS use CONNECT"));
        }
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let destination =
        Destination::parse(authority, Some(80)).ok_or_else(|| bad("the target names no host"))?;
    let path = match path.as_bytes().first() {
        None => "/".to_owned(),
        Some(b'/') => path.to_owned(),
        Some(_) => format!("/{path}"),
    };
    let named = |name: &str| {
        let name = name.to_owned();
        headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(&name)).map(|(_, value)| *value)
    };
    if named("transfer-encoding").next().is_some() {
        return Err(BadRequest { status: 411, reason: "a body needs a Content-Length" });
    }
    let lengths: Vec<&str> = named("content-length").collect();
    let body = match lengths.as_slice() {
        [] => 0,
        [length] if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map_err(|_| bad("the Content-Length is too large"))?
        }
        _ => return Err(bad("the Content-Length is not one number")),
    };
    let listed: Vec<String> = named("connection")
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let is_kept = |name: &str| {
        let name = name.to_ascii_lowercase();
        let is_length = name == "content-length";
        is_length || !DROPPED.contains(&name.as_str()) && !listed.contains(&name)
    };
    let kept = headers.iter().filter(|(name, _)| is_kept(name));
    let request = PlainRequest {
        method: method.to_owned(),
        path,
        authority: authority.to_owned(),
        headers: kept.map(|(name, value)| format!("{name}: {value}")).collect(),
        body,
    };
    Ok(ProxyRequest { destination, kind: RequestKind::Plain(request) })
}

/// Splits a header line. Returns `None` for a line without a name, such as a folded one.
fn header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_token)).then(|| (name, value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lines: &[&str]) -> Result<ProxyRequest, BadRequest> {
        parse(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
    }

    fn head(lines: &[&str]) -> String {
        match parsed(lines).unwrap().kind {
            RequestKind::Plain(request) => request.head(false, ""),
            RequestKind::Tunnel => panic!("a tunnel"),
        }
    }

    #[test]
    fn tunnel_goes_where_the_request_line_says() {
        let request = parsed(&["CONNECT A.example:443 HTTP/1.1", "Host: evil.net:443"]).unwrap();
        assert_eq!(request.destination.to_string(), "a.example:443");
        assert_eq!(request.kind, RequestKind::Tunnel);
    }

    #[test]
    fn plain_request_is_passed_on_for_one_host_and_one_answer() {
        let passed = head(&[
            "POST http://A.example:8080/x?y=1 HTTP/1.1",
            "Host: evil.net",
            "Proxy-Authorization: Basic eDp5",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            "Accept: */*",
            "Content-Length: 3",
        ]);
        assert_eq!(
            passed,
            "POST /x?y=1 HTTP/1.1\r\nHost: A.example:8080\r\nAccept: */*\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        );
        assert!(head(&["GET http://a.example HTTP/1.1"]).starts_with("GET / HTTP/1.1\r\n"));
        assert!(head(&["GET HTTP://a.example?q HTTP/1.0"]).starts_with("GET /?q HTTP/1.1\r\n"));
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        for lines in [
            vec!["CONNECT a.example:443@evil.net:443 HTTP/1.1"],
            vec!["CONNECT a.example:443  HTTP/1.1"],
            vec!["CONNECT a.example:443 HTTP/2.0"],
            vec!["CONNECT a.example HTTP/1.1"],
            vec!["CONNECT http://a.example:443 HTTP/1.1"],
            vec!["CONNECT a.example:443 HTTP/1.1\nHost: x"],
            vec!["CONNECT a.example:443\0.evil.net HTTP/1.1"],
            vec!["CONNECT a.example:443 HTTP/1.1", " folded: x"],
            vec!["CONNECT a.example:443 HTTP/1.1", "no colon"],
            vec!["GET / HTTP/1.1", "Host: a.example"],
            vec!["GET https://a.example/ HTTP/1.1"],
            vec!["GET http://user:a.example@evil.net/ HTTP/1.1"],
            vec!["GET http://a.example/ HTTP/1.1", "Content-Length: 1", "Content-Length: 2"],
            vec!["GET http://a.example/ HTTP/1.1", "Content-Length: +1"],
            vec!["GET http://a.example/ HTTP/1.1", "X: a\rGET http://evil.net/ HTTP/1.1"],
            vec![""],
        ] {
            assert_eq!(parsed(&lines).unwrap_err().status, 400, "{lines:?}");
        }
        let chunked = ["POST http://a.example/ HTTP/1.1", "Transfer-Encoding: chunked"];
        assert_eq!(parsed(&chunked).unwrap_err().status, 411);
        let long = format!("X: {}", "x".repeat(MAX_HEAD));
        assert_eq!(parsed(&["CONNECT a.example:443 HTTP/1.1", &long]).unwrap_err().status, 431);
        let many = vec!["X: 1"; MAX_LINES + 1];
        let mut lines = vec!["CONNECT a.example:443 HTTP/1.1"];
        lines.extend(many);
        assert_eq!(parsed(&lines).unwrap_err().status, 431);
        assert_eq!(parse(b"CONNECT \xff:443 HTTP/1.1\r\n\r\n").unwrap_err().status, 400);
    }
}
