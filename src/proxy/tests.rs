//! Tests of a whole proxy. Its listeners are in the network of the tests, not in a sandbox.

use std::io::{IoSlice, Read as _, Write as _};
use std::sync::mpsc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::*;
use crate::domain::network::{Destination, HostPattern};

/// A running proxy with one entrance.
struct TestProxy {
    proxy: Proxy,
    entrance: SocketAddr,
    _folder: tempfile::TempDir,
}

impl TestProxy {
    fn start(allowed: Vec<HostPattern>, entrance: Entrance, upstream: UpstreamProxies) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A path that is longer than the address of a socket can be.
        let deep = folder.path().join("x".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let socket = deep.join("s");
        let allowed = AllowList::new(allowed);
        let proxy = Proxy::start(&socket, vec![entrance], allowed, upstream).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let entrance = listener.local_addr().unwrap();
        let dir = File::open(&deep).unwrap();
        let sandbox = UnixStream::connect(format!("/proc/self/fd/{}/s", dir.as_raw_fd())).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [listener.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&sandbox, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty()).unwrap();
        Self { proxy, entrance, _folder: folder }
    }

    fn proxy(allowed: Vec<HostPattern>) -> Self {
        Self::start(allowed, Entrance::Proxy, UpstreamProxies::default())
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.entrance).unwrap()
    }

    /// Sends a text and returns everything that is answered.
    fn ask(&self, text: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// Starts a server that serves connections with `serve`, one after the other.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    address
}

/// Starts a server that answers a request once the client has sent everything, and reports it.
fn recording_server() -> (SocketAddr, mpsc::Receiver<String>) {
    let (sender, received) = mpsc::channel();
    let address = server(move |mut stream| {
        let mut buffer = [0; 4096];
        let mut text = String::new();
        while !text.ends_with("END") && !text.ends_with("\r\n\r\n") {
            let n = stream.read(&mut buffer).unwrap();
            if n == 0 {
                break;
            }
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Everything that comes after the request is part of the report.
        stream.read_to_string(&mut text).ok();
        sender.send(text).unwrap();
    });
    (address, received)
}

fn named(address: SocketAddr) -> Vec<HostPattern> {
    vec![HostPattern::parse(&address.to_string()).unwrap()]
}

fn by_name(name: &str, port: u16) -> HostPattern {
    HostPattern::of(Destination::parse(&format!("{name}:{port}"), None).unwrap())
}

#[test]
fn tunnel_reaches_an_address_that_the_list_names() {
    let (address, received) = recording_server();
    let proxy = TestProxy::proxy(named(address));
    let answer = proxy.ask(&format!("CONNECT {address} HTTP/1.1\r\n\r\nGET / END"));
    assert!(answer.starts_with("HTTP/1.1 200 Connection established\r\n\r\n"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(received.recv().unwrap(), "GET / END");
    assert!(proxy.proxy.close().is_empty());
}

#[test]
fn name_that_leads_to_loopback_is_denied_and_recorded() {
    let (address, _received) = recording_server();
    let port = address.port();
    let proxy = TestProxy::proxy(vec![by_name("localhost", port)]);
    for _ in 0..2 {
        let answer = proxy.ask(&format!("CONNECT LocalHost.:{port} HTTP/1.1\r\n\r\n"));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 403 localhost:{port} is denied: ")),
            "{answer}"
        );
        assert!(answer.contains("a loopback address"), "{answer}");
    }
    let denials = proxy.proxy.close();
    assert_eq!(denials.len(), 1, "{denials:?}");
    assert!(denials[0].starts_with(&format!("localhost:{port}: it leads to ")), "{denials:?}");
    assert!(denials[0].ends_with("(2 times)"), "{denials:?}");
}

#[test]
fn name_may_lead_to_an_address_that_the_list_names() {
    let (address, _received) = recording_server();
    let mut allowed = named(address);
    allowed.push(by_name("localhost", address.port()));
    let proxy = TestProxy::proxy(allowed);
    let answer = proxy.ask(&format!("CONNECT localhost:{} HTTP/1.1\r\n\r\nEND", address.port()));
    assert!(answer.ends_with("hello"), "{answer}");
}

#[test]
fn hosts_that_are_not_listed_are_denied() {
    let proxy = TestProxy::proxy(vec![HostPattern::parse("*.example.com").unwrap()]);
    for host in ["example.org:443", "169.254.169.254:80", "[::ffff:127.0.0.1]:80", "10.0.0.1:443"] {
        let answer = proxy.ask(&format!("CONNECT {host} HTTP/1.1\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.ends_with("is denied: `[sandbox] network` does not list it\n"), "{answer}");
    }
    let answer = proxy.ask("CONNECT a.example.com:443@example.org:443 HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(proxy.proxy.close().len(), 4);
}

#[test]
fn plain_request_is_passed_on_without_what_follows_its_body() {
    let (address, received) = recording_server();
    let proxy = TestProxy::proxy(named(address));
    let answer = proxy.ask(&format!(
        "POST http://{address}/x HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 3\r\n\r\nENDGET http://evil.example/ HTTP/1.1\r\n\r\n"
    ));
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(
        received.recv().unwrap(),
        format!(
            "POST /x HTTP/1.1\r\nHost: {address}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nEND"
        )
    );
}

#[test]
fn end_of_one_direction_leaves_the_other_open() {
    let address = server(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let proxy =
        TestProxy::start(Vec::new(), Entrance::Forward(address), UpstreamProxies::default());
    let mut stream = proxy.connect();
    stream.write_all(b"all of it").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "ALL OF IT");
}

#[test]
fn closing_ends_open_connections_and_all_threads() {
    let (sender, accepted) = mpsc::channel();
    let address = server(move |stream| sender.send(stream).unwrap());
    let proxy = TestProxy::proxy(named(address));
    let mut tunnel = proxy.connect();
    write!(tunnel, "CONNECT {address} HTTP/1.1\r\n\r\n").unwrap();
    let mut behind = accepted.recv().unwrap();
    let mut silent = proxy.connect();
    write!(silent, "CONNECT ").unwrap();
    let (shared, socket) = (proxy.proxy.shared.clone(), proxy.proxy.socket.clone());
    assert!(socket.symlink_metadata().is_ok());
    proxy.proxy.close();
    assert!(socket.symlink_metadata().is_err());
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).ok();
    tunnel.read_to_end(&mut rest).ok();
    assert_eq!(behind.read(&mut [0; 8]).unwrap_or(0), 0);
    let state = shared.lock();
    assert_eq!((state.threads, state.connections.len(), state.listeners.len()), (0, 0, 0));
}

#[test]
fn own_proxy_of_the_user_is_asked_for_allowed_names_only() {
    let (address, received) = recording_server();
    let upstream = UpstreamProxies {
        https: Some(format!("http://una:secret@{address}")),
        http: Some(format!("http://{address}")),
        except: "direct.example".to_owned(),
    };
    let allowed = ["a.example", "direct.invalid"].map(|text| HostPattern::parse(text).unwrap());
    let proxy = TestProxy::start(allowed.into(), Entrance::Proxy, upstream);
    let denied = proxy.ask("CONNECT b.example:443 HTTP/1.1\r\n\r\n");
    assert!(denied.starts_with("HTTP/1.1 403 "), "{denied}");
    let answer = proxy.ask("CONNECT a.example:443 HTTP/1.1\r\nX: 1\r\n\r\n");
    assert!(answer.ends_with("established\r\n\r\nhello"), "{answer}");
    assert_eq!(
        received.recv().unwrap(),
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Authorization: Basic dW5hOnNlY3JldA==\r\n\r\n"
    );
    let answer = proxy.ask("GET http://a.example/x HTTP/1.1\r\n\r\n");
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(
        received.recv().unwrap(),
        "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    );
}
