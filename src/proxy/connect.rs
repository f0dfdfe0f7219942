//! The way to a host: resolving its name, checking the addresses, and connecting.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::{SharedProxy, upstream};
use crate::domain::network::{AllowList, Destination, HostName, closed_range};

/// The time in which an address must answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The largest number of addresses that are tried.
const MAX_ADDRESSES: usize = 8;

/// A connection to a host, or to a proxy of the user that leads there.
#[derive(Debug)]
pub(super) struct ReachedHost {
    /// The connection.
    pub(super) stream: TcpStream,
    /// The bytes of the host that have been read.
    pub(super) early: Vec<u8>,
    /// True if the connection is one to a proxy, which expects a plain request in absolute form.
    pub(super) is_proxy: bool,
    /// The header lines for that proxy.
    pub(super) headers: String,
}

impl ReachedHost {
    /// Creates a connection to the host itself.
    pub(super) fn directly(stream: TcpStream) -> Self {
        Self { stream, early: Vec::new(), is_proxy: false, headers: String::new() }
    }
}

/// The reason why a host cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// The policy denies it.
    Denied(String),
    /// The network fails.
    Failed(String),
}

impl From<io::Error> for Unreachable {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Connects with a host that the allow-list permits.
pub(super) fn reach(
    proxy: &SharedProxy,
    destination: &Destination,
    is_tunnel: bool,
) -> Result<ReachedHost, Unreachable> {
    match &destination.host {
        HostName::Address(address) => {
            check(&proxy.allowed, SocketAddr::new(*address, destination.port))?;
        }
        HostName::Dns(_) => {}
    }
    if let Some(url) = upstream::choose(&proxy.upstream, &proxy.allowed, destination, is_tunnel) {
        return upstream::connect(url, destination, is_tunnel);
    }
    let addresses = match &destination.host {
        HostName::Address(address) => vec![SocketAddr::new(*address, destination.port)],
        HostName::Dns(name) => resolve(name, destination.port)?,
    };
    if proxy.lock().closed {
        return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
    }
    to_checked(&proxy.allowed, &addresses)
}

/// Connects with the first of these addresses that may be reached and answers.
fn to_checked(allowed: &AllowList, addresses: &[SocketAddr]) -> Result<ReachedHost, Unreachable> {
    let mut failed = Unreachable::Failed("it has no address".to_owned());
    let checked = addresses.iter().filter(|address| match check(allowed, **address) {
        Ok(()) => true,
        Err(denied) => {
            failed = denied;
            false
        }
    });
    let open: Vec<&SocketAddr> = checked.take(MAX_ADDRESSES).collect();
    for address in open {
        match to_address(*address) {
            Ok(stream) if is_this_machine(allowed, &stream) => {
                failed = Unreachable::Denied(format!("{} is this machine", address.ip()));
            }
            Ok(stream) => return Ok(ReachedHost::directly(stream)),
            Err(error) => failed = Unreachable::Failed(format!("{address}: {error}")),
        }
    }
    Err(failed)
}

/// Connects with an address that needs no check.
pub(super) fn to_address(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
}

/// Resolves a name.
pub(super) fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, Unreachable> {
    let resolved = (name, port).to_socket_addrs();
    Ok(resolved.map_err(|error| Unreachable::Failed(format!("no address: {error}")))?.collect())
}

/// Denies an address in a closed range, unless the allow-list names that very address with its
/// port.
fn check(allowed: &AllowList, address: SocketAddr) -> Result<(), Unreachable> {
    match closed_range(address.ip()) {
        Some(range) if !allowed.names(address) => {
            let why = format!(
                "it leads to {}, {}; `[sandbox] network` can name it as \"{address}\"",
                address.ip(),
                range.kind
            );
            Err(Unreachable::Denied(why))
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns true if a connection goes to an address of this machine, also a public one, that the
/// allow-list does not name. Services on this machine may trust connections from the machine
/// itself.
fn is_this_machine(allowed: &AllowList, stream: &TcpStream) -> bool {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return true };
    let plain = |address: SocketAddr| -> IpAddr { address.ip().to_canonical() };
    plain(local) == plain(peer) && !allowed.names(peer)
}
