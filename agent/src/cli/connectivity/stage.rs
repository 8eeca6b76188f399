//! The stage: three networks with four containers, made through the ordinary API, and the host beside them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
};

use super::{
    super::{args::Family, output},
    plan::Who,
    probe::Ears,
    sweep::LABEL,
};
use crate::{
    api::{client::Client, paths, proto},
    error::Failure,
    files,
    kernel::netns::Namespace,
};

/// Port that containers listen at, of TCP and of UDP.
pub const PORT: u16 = 8080;

/// The host that the agent serves.
#[derive(Debug)]
pub struct Host {
    /// Its network namespace: the agent's.
    pub namespace: Namespace,
    /// Address that it is reached by.
    pub address: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub address6: Option<Ipv6Addr>,
    /// Whether it speaks IPv6 at all.
    pub has_ipv6: bool,
}

impl Host {
    /// Finds out what the host has.
    pub fn of(status: &proto::Status) -> Result<Self, Failure> {
        let namespace = Namespace::of_process(status.pid).map_err(anyhow::Error::from)?;
        let addresses = fs::read_to_string(format!("/proc/{}/net/if_inet6", status.pid));
        let uplinks = || status.uplinks.iter();
        Ok(Self {
            namespace,
            address: uplinks().find_map(|uplink| uplink.masquerade.parse().ok()),
            address6: uplinks().find_map(|uplink| uplink.masquerade6.parse().ok()),
            has_ipv6: addresses.is_ok_and(|text| !text.trim().is_empty()),
        })
    }

    /// Makes sure that this is the only test of an agent: one removes what it finds of others. What it returns goes
    /// with the process however that ends, and is no file that could stay.
    pub fn only_one(&self, run_dir: &Path) -> Result<UnixListener, Failure> {
        let name = format!("bascule-connectivity-test {}", run_dir.display());
        let bind = || UnixListener::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes())?);
        let entered = self.namespace.run_blocking(bind).map_err(|error| {
            Failure::from(anyhow::Error::from(error)).hint("it takes root to send from containers")
        })?;
        entered.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                Failure::new("another connectivity test of this agent is running")
            }
            _ => error.into(),
        })
    }

    /// Returns its address in a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.address.map(IpAddr::V4),
            Family::V6 => self.address6.map(IpAddr::V6),
        }
    }
}

/// A container of the stage.
#[derive(Debug)]
pub struct Sandbox {
    /// Its name.
    pub name: String,
    /// Its network namespace.
    pub namespace: Namespace,
    /// What it hears.
    pub ears: Ears,
    /// Its `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    id: String,
    endpoint: proto::StartedEndpoint,
}

impl Sandbox {
    /// Returns its address in a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        let address = match family {
            Family::V4 => &self.endpoint.address,
            Family::V6 => &self.endpoint.address6,
        };
        address.split('/').next()?.parse().ok()
    }

    /// Returns its gateway's address in a family.
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.endpoint.gateway.parse().ok(),
            Family::V6 => self.endpoint.gateway6.parse().ok(),
        }
    }
}

/// Everything that is there for a test.
#[derive(Debug)]
pub struct Stage {
    /// The test's own part of names.
    pub run: String,
    /// The host.
    pub host: Host,
    client: Sandbox,
    server: Sandbox,
    stranger: Sandbox,
    inside: Sandbox,
    published: Vec<proto::PublishedPort>,
}

impl Stage {
    /// Makes it; `go_on` is asked before each part. What was made when it fails is found by its label.
    pub fn make(
        client: &Client,
        run_dir: &Path,
        host: Host,
        go_on: impl Fn() -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let [a, b, c]: [u8; 3] = rand::random();
        let run = format!("{a:02x}{b:02x}{c:02x}");
        let maker = Maker { client, run_dir, run: &run, has_ipv6: host.has_ipv6 };
        let network = |name, internal| go_on().and_then(|()| maker.network(name, internal));
        let sandbox = |name, network: &_, publish| {
            go_on().and_then(|()| maker.sandbox(name, network, publish))
        };
        let first = network("one", false)?;
        let second = network("two", false)?;
        let internal = network("internal", true)?;
        let server = sandbox("server", &first, true)?;
        Ok(Self {
            client: sandbox("client", &first, false)?,
            stranger: sandbox("stranger", &second, false)?,
            inside: sandbox("inside", &internal, false)?,
            published: client.get(&paths::container_ports(&server.id))?,
            server,
            run,
            host,
        })
    }

    /// Returns a container.
    pub fn sandbox(&self, who: Who) -> Option<&Sandbox> {
        match who {
            Who::Client => Some(&self.client),
            Who::Server => Some(&self.server),
            Who::Stranger => Some(&self.stranger),
            Who::Inside => Some(&self.inside),
            Who::Host => None,
        }
    }

    /// Returns the namespace that someone sends from.
    pub fn namespace(&self, who: Who) -> &Namespace {
        self.sandbox(who).map_or(&self.host.namespace, |sandbox| &sandbox.namespace)
    }

    /// Returns what `bascule why` calls someone.
    pub fn name(&self, who: Who) -> &str {
        self.sandbox(who).map_or("host", |sandbox| &sandbox.name)
    }

    /// Returns the host's port that leads to the server.
    pub fn published(&self, family: Family, proto: &str) -> Option<u16> {
        let is_of = |port: &&proto::PublishedPort| {
            port.proto == proto && port.host_ip.contains(':') == (family == Family::V6)
        };
        self.published.iter().find(is_of).map(|port| port.host_port)
    }
}

/// Makes the parts of a stage.
struct Maker<'a> {
    client: &'a Client,
    run_dir: &'a Path,
    run: &'a str,
    has_ipv6: bool,
}

impl Maker<'_> {
    fn name(&self, name: &str) -> String {
        format!("bascule-test-{}-{name}", self.run)
    }

    fn labels(&self) -> proto::Map {
        [(LABEL.to_owned(), self.run.to_owned())].into()
    }

    fn network(&self, name: &str, internal: bool) -> Result<String, Failure> {
        let body = proto::NetworkCreate {
            name: self.name(name),
            enable_ipv6: Some(self.has_ipv6),
            internal,
            labels: self.labels(),
            ..Default::default()
        };
        let created: proto::NetworkCreated = self.client.post(paths::NETWORKS_CREATE, &body)?;
        if !created.warning.is_empty() {
            output::complain(format!("warning: {}", created.warning));
        }
        Ok(body.name)
    }

    fn sandbox(&self, name: &str, network: &str, publish: bool) -> Result<Sandbox, Failure> {
        let publish =
            if publish { vec![format!("{PORT}/tcp"), format!("{PORT}/udp")] } else { vec![] };
        let body = proto::ContainerCreate {
            name: self.name(name),
            networks: vec![proto::ContainerNetwork {
                network: network.to_owned(),
                ..Default::default()
            }],
            publish,
            labels: self.labels(),
            ..Default::default()
        };
        let created: proto::ContainerCreated =
            self.client.post(paths::BASCULE_CONTAINERS, &body)?;
        let started: proto::ContainerStarted =
            self.client.request(&paths::container_start(&created.id))?;
        let namespace = Namespace::open(Path::new(&started.netns)).map_err(anyhow::Error::from)?;
        let endpoint = started.endpoints.into_iter().next().unwrap_or_default();
        let resolv_conf = files::directory(self.run_dir, &started.sandbox_id).join("resolv.conf");
        let ears = Ears::open(&namespace, self.has_ipv6)?;
        Ok(Sandbox { name: created.name, namespace, ears, resolv_conf, id: created.id, endpoint })
    }
}
