//! The first process of a sandbox with a proxy: it opens the listeners inside, passes them out, and
//! becomes the command.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Opens listeners at these addresses, passes them to the proxy at `socket`, and becomes the
/// command `argv`. Returns only if that fails. The listeners are closed on exec.
pub(crate) fn enter_sandbox(
    socket: &Path,
    listen: &[SocketAddr],
    argv: &[OsString],
) -> io::Result<Infallible> {
    let context = |what: String| {
        move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    let proxy = UnixStream::connect(socket)
        .map_err(context("cannot connect with the sandbox's proxy".to_owned()))?;
    for address in listen {
        let failed = || context(format!("cannot listen at {address} in the sandbox"));
        let listener = TcpListener::bind(address).map_err(failed())?;
        send(&proxy, &listener).map_err(failed())?;
    }
    drop(proxy);
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(context(format!("cannot run `{}`", program.display()))(error))
}

fn send(proxy: &UnixStream, listener: &TcpListener) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [listener.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(proxy, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
