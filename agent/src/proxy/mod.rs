//! The proxy: host processes whose sockets cannot be led to a container, because they are bound to a loopback
//! address or a device, or speak IPv6 to a container that does not. Everybody else never meets it.
//!
//! It listens on no published port. A program on the look-up of sockets ([`crate::kernel::bpf::Steering`])
//! hands it what arrives by the loopback device at published ports, however many there are, and the maps
//! say where that leads: it keeps no list. It lives and dies with the agent.

mod answer;
mod sockets;
mod tcp;
mod udp;

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    kernel::{
        bpf::{BpfError, Pins, Programs, ProxySlot, PublishedPorts, Steering, Tables},
        reserve,
    },
    telemetry::Metrics,
};

/// Connections that are carried at once, where the limit of open files allows it.
const CONNECTIONS: usize = 4_096;
/// Conversations over UDP that are carried at once.
const CONVERSATIONS: usize = 1_024;

/// Why the proxy cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The program or its map.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// A socket.
    #[error("cannot {what}: {source}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ProxyError {
    move |source| ProxyError::Socket { what, source }
}

/// What all tasks share.
struct Context {
    ports: PublishedPorts,
    metrics: Arc<Metrics>,
}

/// The running proxy; dropping it stops it.
pub struct Proxy {
    steering: Steering,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Proxy {
    /// Starts it, in the calling thread's network namespace and runtime.
    pub fn start(
        pins: &Pins,
        programs: &Programs,
        tables: Arc<Tables>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ProxyError> {
        let open_files = raise_open_files();
        let connections = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS.min(open_files / 4)));
        let ports = PublishedPorts::open(pins, tables)?;
        let context = Arc::new(Context { ports, metrics });
        let steering = Steering::start(pins, programs)?;
        let mut proxy = Self { steering, tasks: Vec::new() };
        let answers = Arc::new(answer::Sender::new().map_err(failed("make a raw socket"))?);
        for (slot, udp) in [(ProxySlot::Tcp4, ProxySlot::Udp4), (ProxySlot::Tcp6, ProxySlot::Udp6)]
        {
            let is_v6 = slot == ProxySlot::Tcp6;
            let pair = sockets::tcp(is_v6).and_then(|tcp| Ok((tcp, sockets::udp(is_v6)?)));
            let (tcp, datagrams) = match pair {
                Ok(pair) => pair,
                Err(error) if is_v6 => {
                    tracing::debug!(%error, "this host has no IPv6 for the proxy");
                    continue;
                }
                Err(error) => return Err(failed("make the proxy's sockets")(error)),
            };
            proxy.lead(slot, &tcp)?;
            proxy.lead(udp, &datagrams)?;
            let tcp = tokio::net::TcpListener::from_std(tcp.into()).map_err(failed("listen"))?;
            let datagrams =
                tokio::net::UdpSocket::from_std(datagrams.into()).map_err(failed("receive"))?;
            proxy.tasks.push(tokio::spawn(tcp::serve(
                tcp,
                Arc::clone(&context),
                Arc::clone(&connections),
            )));
            let limit = CONVERSATIONS.min(open_files / 4);
            let server = udp::Server::new(datagrams, Arc::clone(&context), Arc::clone(&answers));
            proxy.tasks.push(tokio::spawn(server.run(limit)));
        }
        Ok(proxy)
    }

    fn lead(&self, slot: ProxySlot, socket: &OwnedFd) -> Result<(), ProxyError> {
        reserve::disregard(socket).map_err(failed("look at the proxy's sockets"))?;
        Ok(self.steering.lead(slot, socket.as_fd())?)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Allows this process as many open files as it may have, and gives their number.
fn raise_open_files() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1_024 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}
