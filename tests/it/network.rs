//! The network of sandboxes: an agent reaches the hosts of its list, and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::sandbox_attacks::missing_sandbox;

/// A server on the loopback interface of this machine. It answers `hello`, or sends the client of
/// `/redirect` to a host that no list has.
struct LoopbackServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl LoopbackServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let kept = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &kept);
            }
        });
        Self { address, requests }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, requests: &Mutex<Vec<String>>) {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains("\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
        }
    }
    let line = text.lines().next().unwrap_or_default().to_owned();
    let head = match line.contains("/redirect") {
        true => "302 Found\r\nLocation: http://elsewhere.example/",
        false => "200 OK",
    };
    requests.lock().unwrap().push(line);
    write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello").ok();
}

/// Shell functions for a client without a program. `ask TEXT…` sends the texts to the proxy, each
/// one after an answer, and prints the answers.
const CLIENT: &str = r#"
cat >"$TMPDIR/ask" <<'BASH'
rest=${http_proxy##*:}
exec 3<>"/dev/tcp/127.0.0.1/${PORT:-$rest}" || { echo no connection; exit 0; }
for text; do
    printf "$text" >&3
    [ $# -eq 1 ] || IFS= read -r line <&3 && printf '%s\n' "$line"
done
cat <&3
BASH
ask() { bash "$TMPDIR/ask" "$@" 2>&1 | tr -d '\r'; echo; }
"#;

/// Returns a job with a sandbox and these lines in `[sandbox]`.
fn job(tasks: &[&str], network: &str) -> TestJob {
    TestJob::new(tasks)
        .set("sandbox", &format!("mode = \"require\"\n{network}"))
        .set("retry", "redispatch = 0\nfeedback = 0")
}

#[test]
fn agent_reaches_listed_addresses_and_denials_are_recorded() {
    if let Some(why) = missing_sandbox() {
        eprintln!("{why}");
        return;
    }
    let (listed, other) = (LoopbackServer::start(), LoopbackServer::start());
    let (to, port) = (listed.address, listed.port());
    let sandbox =
        Sandbox::new(job(&["alpha"], &format!("network = [\"{to}\", \"*.example.com\"]")));
    sandbox.script(
        "default",
        &format!(
            r#"{CLIENT}
exec >alpha
say "== forwarded"; PORT={port} ask 'GET /forwarded HTTP/1.1\r\n\r\n'
say "== tunnel"; ask 'CONNECT {to} HTTP/1.1\r\n\r\n' 'GET /tunnel HTTP/1.1\r\n\r\n'
say "== plain"; ask 'GET http://{to}/plain HTTP/1.1\r\n\r\n'
say "== redirect"; ask 'GET http://{to}/redirect HTTP/1.1\r\n\r\n'
say "== elsewhere"; ask 'GET http://elsewhere.example/ HTTP/1.1\r\n\r\n'
say "== other port"; ask 'CONNECT {other} HTTP/1.1\r\n\r\n'
say "== direct"; PORT={other_port} ask 'GET /direct HTTP/1.1\r\n\r\n'
say "== metadata"; ask 'GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\n\r\n'
say "== smuggled"; ask 'CONNECT {to} HTTP/1.1\nHost: x\r\n\r\n'
say "== two requests"; ask 'GET http://{to}/first HTTP/1.1\r\n\r\nGET http://{to}/second HTTP/1.1\r\n\r\n'
say "== interfaces"; grep -c : /proc/net/dev
say "== end"
"#,
            other = other.address,
            other_port = other.port(),
        ),
    );
    let started = sandbox.run(&["start"]).exits(0);
    let printed = sandbox.landed("alpha");
    let section = |name: &str| {
        let start = printed.split(&format!("== {name}\n")).nth(1).unwrap_or_else(|| {
            panic!("no section {name}\n{printed}\n{started}");
        });
        start.split("\n== ").next().unwrap_or_default().trim().to_owned()
    };
    assert!(section("forwarded").ends_with("hello"), "{printed}");
    assert!(section("tunnel").starts_with("HTTP/1.1 200 Connection established"), "{printed}");
    assert!(section("tunnel").ends_with("hello"), "{printed}");
    assert!(section("plain").ends_with("hello"), "{printed}");
    assert!(section("redirect").starts_with("HTTP/1.1 302 "), "{printed}");
    for denied in ["elsewhere", "other port", "metadata"] {
        assert!(section(denied).starts_with("HTTP/1.1 403 "), "{denied}\n{printed}");
    }
    assert_eq!(
        section("smuggled").lines().next(),
        Some("HTTP/1.1 400 the head holds control characters")
    );
    assert!(section("direct").ends_with("no connection"), "{printed}");
    assert_eq!(section("interfaces").trim(), "1", "{printed}");
    let paths = ["/forwarded", "/tunnel", "/plain", "/redirect", "/first"];
    assert_eq!(listed.requests(), paths.map(|path| format!("GET {path} HTTP/1.1")));
    assert!(other.requests().is_empty());

    let shown = sandbox.run(&["show", "alpha"]).exits(0).stdout;
    let denied = shown.split("attempt 1, denied by the sandbox:\n").nth(1).unwrap_or(&shown);
    for line in [
        "  elsewhere.example:80: `[sandbox] network` does not list it",
        "  169.254.169.254:80: `[sandbox] network` does not list it",
        &format!("  {}: `[sandbox] network` does not list it", other.address),
    ] {
        assert!(denied.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    let json = sandbox.run(&["show", "alpha", "--json"]).exits(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["denied"].as_array().map(Vec::len), Some(3), "{json}");
    sandbox.await_that("the end of the keepers", || sandbox.processes().is_empty());
}

#[test]
fn agent_has_the_network_of_the_machine_if_the_job_says_so() {
    if let Some(why) = missing_sandbox() {
        eprintln!("{why}");
        return;
    }
    let server = LoopbackServer::start();
    let sandbox = Sandbox::new(job(&["alpha"], "network = \"all\""));
    let port = server.port();
    sandbox.script(
        "default",
        &format!("{CLIENT}\nPORT={port} ask 'GET /all HTTP/1.1\\r\\n\\r\\n' >alpha\nsay \"${{http_proxy-none}}\" >>alpha"),
    );
    sandbox.run(&["start"]).exits(0);
    assert!(sandbox.landed("alpha").ends_with("hello\nnone"), "{}", sandbox.landed("alpha"));
    assert_eq!(server.requests(), ["GET /all HTTP/1.1"]);
}

#[test]
fn check_reaches_the_hosts_of_its_own_list() {
    if let Some(why) = missing_sandbox() {
        eprintln!("{why}");
        return;
    }
    let server = LoopbackServer::start();
    let port = server.port();
    let client = |path: &str| {
        format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.1\\r\\n\\r\\n' >&3 && grep hello <&3"
        )
    };
    let (with, without) = (client("/with"), format!("! ({})", client("/without")));
    let job = TestJob::bare(&["alpha"])
        .set("sandbox", "mode = \"require\"")
        .check("with", &["bash", "-c", &with], &format!("network = [\"127.0.0.1:{port}\"]"))
        .check("without", &["bash", "-c", &without], "")
        .check("all", &["bash", "-c", &client("/all")], "network = \"all\"");
    let sandbox = Sandbox::new(job);
    sandbox.run(&["start"]).exits(0);
    let requests = server.requests();
    assert!(requests.contains(&"GET /with HTTP/1.1".to_owned()), "{requests:?}");
    assert!(requests.contains(&"GET /all HTTP/1.1".to_owned()), "{requests:?}");
    assert!(!requests.contains(&"GET /without HTTP/1.1".to_owned()), "{requests:?}");
}
