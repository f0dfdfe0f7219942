//! The network of a sandbox: one proxy, which is reached at a fixed address inside.

use std::net::SocketAddr;
use std::path::Path;

use super::FOLDER;
use crate::process::{Confinement, Environ, Mount};

/// The names inside of the proxy's socket, and of this program.
const SOCKET: &str = "network";
const PROGRAM: &str = "git-harness";

/// The variables that name a proxy. Programs read some of them in one case only.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// The hosts that a sandbox reaches without the proxy: its own servers.
const OWN_HOSTS: &str = "localhost,127.0.0.1,::1";

/// Connects a sandbox with the proxy at `socket`. Inside, `program`, which is this program, opens
/// listeners at the addresses `listen` before it becomes the command.
pub(crate) fn connected(
    confinement: Confinement,
    socket: &Path,
    program: &Path,
    listen: &[SocketAddr],
) -> Confinement {
    let folder = Path::new(FOLDER);
    let show = |source: &Path, name: &str| Mount::ReadOnly {
        source: source.to_path_buf(),
        target: folder.join(name),
    };
    let mut mounts = confinement.mounts;
    let sealed = mounts.iter().position(|mount| *mount == Mount::Sealed(FOLDER.into()));
    let at = sealed.unwrap_or(mounts.len());
    mounts.splice(at..at, [show(socket, SOCKET), show(program, PROGRAM)]);
    let mut entry = vec![folder.join(PROGRAM).into(), "enter-sandbox".into()];
    for address in listen {
        entry.extend(["--listen".into(), address.to_string().into()]);
    }
    entry.extend([folder.join(SOCKET).into(), "--".into()]);
    Confinement { mounts, entry, network: false, ..confinement }
}

/// Sets the variables by which programs find the proxy.
pub(crate) fn set_variables(env: &mut Environ, proxy: SocketAddr) {
    for name in PROXIES {
        env.set(name, format!("http://{proxy}"));
    }
    for name in ["no_proxy", "NO_PROXY"] {
        env.set(name, OWN_HOSTS);
    }
    // Node.js ignores the variables above without this one.
    env.set("NODE_USE_ENV_PROXY", "1");
}
