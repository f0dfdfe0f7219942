//! The proxy between a sandbox and the network. It runs in the keeper, outside of the sandbox.
//!
//! A sandbox has a network of its own without interfaces. The first process inside
//! (`process::enter_sandbox`) opens listeners on the loopback interface there and passes them out
//! over a Unix socket. A listener belongs to the network that it was made in, so the keeper accepts
//! connections from inside, and no process has to stay inside to carry bytes.
//!
//! A request names a host, which must be on the allow-list. The name is resolved here, once; the
//! addresses are checked, and the connection goes to a checked address.
#![expect(clippy::disallowed_methods, reason = "each connection has threads of its own")]

mod connect;
mod denials;
mod relay;
mod request;
mod upstream;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use self::connect::Unreachable;
use self::denials::DenialLog;
use self::request::{PlainRequest, ProxyRequest, RequestKind};
use crate::ambient;
use crate::domain::network::AllowList;
use crate::wire::network::UpstreamProxies;

/// The largest number of connections at a time.
const MAX_CONNECTIONS: usize = 256;

/// The time for which the end of the threads is awaited. Only a look-up of a name takes longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause after a connection could not be accepted because descriptors or memory were short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The stack of a thread. The resolver of the C library needs the most.
const STACK: usize = 512 * 1024;

/// The meaning of a listener in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// Clients ask for hosts.
    Proxy,
    /// Clients are connected with this address of the machine.
    Forward(SocketAddr),
}

/// A running proxy. Dropping it ends all connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<SharedProxy>,
    door: Arc<UnixListener>,
    socket: PathBuf,
}

#[derive(Debug)]
struct SharedProxy {
    allowed: AllowList,
    upstream: UpstreamProxies,
    state: Mutex<ProxyState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ProxyState {
    closed: bool,
    /// The number of threads.
    threads: usize,
    /// The streams of each connection.
    connections: BTreeMap<u64, Vec<TcpStream>>,
    next: u64,
    listeners: Vec<Arc<TcpListener>>,
    denials: DenialLog,
}

impl Proxy {
    /// Starts a proxy that waits for the listeners of a sandbox at `socket`. `entrances` are the
    /// meanings of the listeners, in order.
    pub(crate) fn start(
        socket: &Path,
        entrances: Vec<Entrance>,
        allowed: AllowList,
        upstream: UpstreamProxies,
    ) -> io::Result<Self> {
        let door = Arc::new(bind(socket)?);
        let shared = Arc::new(SharedProxy {
            allowed,
            upstream,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let socket = socket.to_path_buf();
        let proxy = Self { shared: shared.clone(), door: door.clone(), socket };
        SharedProxy::spawn(&shared, move |shared| match door.accept() {
            Ok((sandbox, _)) => shared.accept_from(&sandbox, &entrances),
            Err(_closed) => {}
        })?;
        Ok(proxy)
    }

    /// Ends all connections and returns the requests that were denied, one a line.
    pub(crate) fn close(self) -> Vec<String> {
        self.end();
        self.shared.lock().denials.lines()
    }

    /// Ends all connections, and waits for the threads.
    fn end(&self) {
        rustix::net::shutdown(&self.door, rustix::net::Shutdown::Both).ok();
        std::fs::remove_file(&self.socket).ok();
        let mut state = self.shared.lock();
        if std::mem::replace(&mut state.closed, true) {
            return;
        }
        for listener in &state.listeners {
            rustix::net::shutdown(listener, rustix::net::Shutdown::Both).ok();
        }
        state.listeners.clear();
        for stream in state.connections.values().flatten() {
            stream.shutdown(Shutdown::Both).ok();
        }
        let running = |state: &mut ProxyState| state.threads > 0;
        drop(self.shared.changed.wait_timeout_while(state, CLOSE_TIMEOUT, running));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end();
    }
}

/// Binds a Unix socket. The path may be longer than the address of a socket can be.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let folder = File::open(folder)?;
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

/// A connection. Dropping it ends and forgets its streams.
struct ClientConnection<'a> {
    shared: &'a SharedProxy,
    number: u64,
}

impl ClientConnection<'_> {
    /// Adds a stream, which ends together with the connection.
    fn add(&self, stream: &TcpStream) -> io::Result<()> {
        let stream = stream.try_clone()?;
        let mut state = self.shared.lock();
        if state.closed {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        state.connections.entry(self.number).or_default().push(stream);
        Ok(())
    }
}

impl Drop for ClientConnection<'_> {
    fn drop(&mut self) {
        let streams = self.shared.lock().connections.remove(&self.number);
        for stream in streams.into_iter().flatten() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl SharedProxy {
    fn lock(&self) -> MutexGuard<'_, ProxyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that `end` waits for. A closed proxy starts none.
    fn spawn(shared: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) -> io::Result<()> {
        {
            let mut state = shared.lock();
            if state.closed {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            state.threads += 1;
        }
        let running = RunningThread(shared.clone());
        let thread = std::thread::Builder::new().name("proxy".into()).stack_size(STACK);
        thread.spawn(move || work(&running.0))?;
        Ok(())
    }

    /// Receives the listeners of a sandbox, and accepts connections on each.
    fn accept_from(self: &Arc<Self>, sandbox: &UnixStream, entrances: &[Entrance]) {
        for &entrance in entrances {
            let Ok(Some(listener)) = receive(sandbox) else { return };
            let listener = Arc::new(listener);
            self.lock().listeners.push(listener.clone());
            // An error means that the proxy has been closed, or that the machine has no thread.
            drop(Self::spawn(self, move |shared| shared.accept(&listener, entrance)));
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, entrance: Entrance) {
        loop {
            match listener.accept() {
                Ok((client, _)) => drop(Self::spawn(self, move |s| s.serve(&client, entrance))),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR | Errno::CONNABORTED) => {}
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        ambient::pause(ACCEPT_PAUSE);
                    }
                    Some(_) | None => return,
                },
            }
            if self.lock().closed {
                return;
            }
        }
    }

    fn serve(&self, client: &TcpStream, entrance: Entrance) {
        let (number, is_busy) = {
            let mut state = self.lock();
            state.next += 1;
            (state.next, state.connections.len() >= MAX_CONNECTIONS)
        };
        let connection = ClientConnection { shared: self, number };
        if connection.add(client).is_err() {
            return;
        }
        client.set_nodelay(true).ok();
        // An error means that one of both sides has gone.
        if is_busy {
            return drop(answer(client, 503, "Too many connections", "too many connections"));
        }
        match entrance {
            Entrance::Forward(address) => {
                if let Ok(server) = connect::to_address(address)
                    && connection.add(&server).is_ok()
                {
                    relay::tunnel(client, &server);
                }
            }
            Entrance::Proxy => drop(self.serve_request(client, &connection)),
        }
    }

    /// Reads a request and carries it out.
    fn serve_request(
        &self,
        client: &TcpStream,
        connection: &ClientConnection<'_>,
    ) -> io::Result<()> {
        let Some((head, rest)) = request::read_head(&mut &*client)? else { return Ok(()) };
        let ProxyRequest { destination, kind } = match request::parse(&head) {
            Ok(request) => request,
            Err(bad) => return answer(client, bad.status, bad.reason, bad.reason),
        };
        let reached = match self.allowed.permits(&destination) {
            true => connect::reach(self, &destination, kind == RequestKind::Tunnel),
            false => Err(Unreachable::Denied("`[sandbox] network` does not list it".to_owned())),
        };
        let reached = match reached {
            Ok(reached) => reached,
            Err(Unreachable::Denied(why)) => {
                self.lock().denials.add(&format!("{destination}: {why}"));
                let why = format!("{destination} is denied: {why}");
                return answer(client, 403, &why, &why);
            }
            Err(Unreachable::Failed(why)) => {
                let why = format!("{destination} cannot be reached: {why}");
                return answer(client, 502, &why, &why);
            }
        };
        let server = &reached.stream;
        connection.add(server)?;
        server.set_nodelay(true).ok();
        match kind {
            RequestKind::Tunnel => {
                (&mut &*client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                (&mut &*client).write_all(&reached.early)?;
                (&mut &*server).write_all(&rest)?;
                relay::tunnel(client, server);
                Ok(())
            }
            RequestKind::Plain(request) => {
                let head = request.head(reached.is_proxy, &reached.headers);
                (&mut &*server).write_all(head.as_bytes())?;
                exchange(client, server, &request, &rest)
            }
        }
    }
}

/// Passes the body of a request on, and the answer back.
fn exchange(
    client: &TcpStream,
    server: &TcpStream,
    request: &PlainRequest,
    rest: &[u8],
) -> io::Result<()> {
    // Bytes after the body would be a second request, to a host that was not checked.
    let early = rest.len().min(usize::try_from(request.body).unwrap_or(usize::MAX));
    (&mut &*server).write_all(&rest[..early])?;
    let left = request.body - early as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| relay::body(client, server, left));
        relay::answer(server, client);
        // The client may still send a body that the server has not waited for.
        client.shutdown(Shutdown::Both).ok();
    });
    Ok(())
}

/// Answers a request that is not carried out.
fn answer(client: &TcpStream, status: u16, reason: &str, why: &str) -> io::Result<()> {
    const DRAIN: Duration = Duration::from_secs(1);
    const MOST: u64 = 1024 * 1024;
    let mut client = client;
    let body = format!("git-harness: the sandbox's network: {why}\n");
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    // A socket that is closed with unread bytes resets the connection, and the answer is lost.
    client.set_read_timeout(Some(DRAIN))?;
    io::copy(&mut client.take(MOST), &mut io::sink())?;
    Ok(())
}

/// Counts a thread while it runs.
struct RunningThread(Arc<SharedProxy>);

impl Drop for RunningThread {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.changed.notify_all();
    }
}

/// Receives one listener. Returns `None` if the sender has gone.
fn receive(sandbox: &UnixStream) -> io::Result<Option<TcpListener>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut slices = [IoSliceMut::new(&mut byte)];
        match recvmsg(sandbox.as_fd(), &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => {
                other?;
                break;
            }
        }
    }
    let listener = ancillary.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message { fds.next() } else { None }
    });
    Ok(listener.map(TcpListener::from))
}

#[cfg(test)]
mod tests;
