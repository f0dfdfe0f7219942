//! The network of a sandboxed command: the proxy in this keeper, and the way to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};

use super::{AssignedWork, files};
use crate::ambient;
use crate::domain::network::{AllowList, HostPattern};
use crate::process::{Command, Confinement, Environ};
use crate::proxy::{Entrance, Proxy};
use crate::sandbox;
use crate::wire::keeper::CheckStep;
use crate::wire::network::{UpstreamProxies, WireNetwork};

/// The name of the proxy's socket in the assignment's folder.
const SOCKET: &str = "network";

/// The port of the proxy inside. The next free one is used if the job forwards this port.
const PORT: u16 = 41080;

/// The lowest port that a program without rights can listen at.
const FIRST_PORT: u16 = 1024;

/// Writes the denied requests of a session into the assignment's folder, if there are any.
pub(super) fn record_denials(dir: &Path, denied: &[String]) -> Result<()> {
    if denied.is_empty() {
        return Ok(());
    }
    let text: String = denied.iter().map(|line| format!("{line}\n")).collect();
    Ok(std::fs::write(dir.join(files::DENIED), text)?)
}

/// The network of one command.
#[derive(Debug)]
pub(super) struct CommandNetwork {
    proxy: Proxy,
}

/// Connects a session's command with the hosts that its assignment lists. A command without a
/// sandbox, or with the machine's network, stays as it is.
pub(super) fn connect_session(
    dir: &Path,
    assigned: &AssignedWork,
    command: Command,
) -> Result<(Command, Option<CommandNetwork>)> {
    match &assigned.assignment.sandbox {
        Some(spec) if !spec.network => connect(dir, &spec.hosts, &assigned.upstream, command),
        Some(_) | None => Ok((command, None)),
    }
}

/// Connects the command of a check with the network that the job gives it.
pub(super) fn connect_check(
    dir: &Path,
    assigned: &AssignedWork,
    step: &CheckStep,
    command: Command,
) -> Result<(Command, Option<CommandNetwork>)> {
    match &step.network {
        None => Ok((command, None)),
        Some(WireNetwork::All) => {
            let sandbox = command.sandbox.clone();
            let sandbox = sandbox.map(|sandbox| Confinement { network: true, ..sandbox });
            Ok((command.sandbox(sandbox), None))
        }
        Some(WireNetwork::Hosts(hosts)) => connect(dir, hosts, &assigned.upstream, command),
    }
}

/// Connects a command with these hosts, through a proxy that runs until
/// [`close`](CommandNetwork::close).
fn connect(
    dir: &Path,
    hosts: &[String],
    upstream: &UpstreamProxies,
    command: Command,
) -> Result<(Command, Option<CommandNetwork>)> {
    let Some(sandbox) = command.sandbox.clone() else { return Ok((command, None)) };
    let mut env = command.env.clone();
    let (network, sandbox) = CommandNetwork::open(dir, hosts, upstream, sandbox, &mut env)?;
    Ok((command.env(env).sandbox(Some(sandbox)), Some(network)))
}

impl CommandNetwork {
    /// Starts the proxy of a command that may reach `hosts`, and connects the command's sandbox and
    /// environment with it.
    fn open(
        dir: &Path,
        hosts: &[String],
        upstream: &UpstreamProxies,
        sandbox: Confinement,
        env: &mut Environ,
    ) -> Result<(Self, Confinement)> {
        let patterns: Result<Vec<HostPattern>> = hosts
            .iter()
            .map(|text| HostPattern::parse(text).map_err(|error| anyhow!("{}", error.message)))
            .collect();
        let allowed = AllowList::new(patterns.context("the assignment's network")?);
        let mut forwarded = allowed.loopback();
        forwarded.retain(|address| address.port() >= FIRST_PORT);
        forwarded.sort();
        forwarded.dedup();
        let is_free = |port: &u16| forwarded.iter().all(|address| address.port() != *port);
        let port = (PORT..).find(is_free).unwrap_or(PORT);
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let mut listen = vec![own];
        listen.extend(&forwarded);
        let mut entrances = vec![Entrance::Proxy];
        entrances.extend(forwarded.into_iter().map(Entrance::Forward));
        let socket = dir.join(SOCKET);
        let proxy =
            Proxy::start(&socket, entrances, allowed, upstream.clone()).with_context(|| {
                format!("cannot start the proxy of the sandbox: {}", socket.display())
            })?;
        let program = ambient::program().context("cannot find this program")?;
        let sandbox = sandbox::connected(sandbox, &socket, &program, &listen);
        sandbox::set_variables(env, own);
        Ok((Self { proxy }, sandbox))
    }

    /// Ends the proxy. Returns the requests that were denied, one a line.
    pub(super) fn close(self) -> Vec<String> {
        self.proxy.close()
    }
}
