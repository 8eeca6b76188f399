//! What Docker's daemon tells of itself: the part of its API that is read here, and nothing that changes anything.
//!
//! Every question has a time limit. [`Engine::container_name`] of a container that is just being started is answered only
//! when the start is over, so nobody asks it while Docker waits for an answer of ours.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::Path,
};

use bollard::{
    API_DEFAULT_VERSION, Docker, models,
    query_parameters::{EventsOptions, ListContainersOptions, ListNetworksOptions},
};
use futures::{Stream, StreamExt as _};

/// How long an answer may take, in seconds.
const LIMIT: u64 = 10;

/// Why Docker says nothing.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is nobody to ask.
    #[error("cannot reach Docker's daemon at {socket}: {source}; is it running?")]
    Unreachable {
        /// Its socket.
        socket: String,
        /// Why not.
        source: Box<bollard::errors::Error>,
    },
    /// It refuses, or says what nobody understands.
    #[error("Docker's daemon does not tell {what}: {source}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Why not.
        source: Box<bollard::errors::Error>,
    },
}

impl EngineError {
    /// Returns whether what was asked about does not exist.
    pub fn is_absent(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        matches!(
            **source,
            bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }
        )
    }
}

type Result<T> = std::result::Result<T, EngineError>;

/// A connection to Docker's daemon.
#[derive(Clone, Debug)]
pub struct Engine {
    client: Docker,
}

/// What the daemon says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Whether containers outlive it.
    pub live_restore: bool,
    /// Whether it is part of a swarm.
    pub swarm: bool,
}

/// A network of Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineNetwork {
    /// Its id, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Who gives its addresses.
    pub ipam_driver: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether containers may be attached that no service made.
    pub attachable: bool,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub subnets: Vec<EngineSubnet>,
    /// Who is on it, where it was asked for by itself.
    pub places: Vec<EnginePlace>,
}

/// Addresses of a network of Docker's, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineSubnet {
    /// All of them.
    pub subnet: String,
    /// The gateway; empty where none was given.
    pub gateway: String,
    /// The part that dynamic ones come from; empty where it is all.
    pub ip_range: String,
    /// Addresses that are never given out, by name.
    pub auxiliary: BTreeMap<String, String>,
}

/// A container's place on a network of Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnginePlace {
    /// The network's id.
    pub network: String,
    /// The network's name; empty where the network was asked.
    pub network_name: String,
    /// The container's id; for a gateway of a swarm or of a remote driver something else.
    pub container: String,
    /// The container's name; empty where the container was asked.
    pub name: String,
    /// The endpoint's id.
    pub endpoint: String,
    /// The Ethernet address, as text.
    pub mac: String,
    /// Addresses, without prefix lengths.
    pub addresses: Vec<IpAddr>,
    /// Which place gives the default route: the highest.
    pub priority: i64,
    /// Further names on the network.
    pub aliases: Vec<String>,
}

/// A running container of Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineContainer {
    /// Its id, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its command, as one text.
    pub command: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its places.
    pub places: Vec<EnginePlace>,
    /// What it publishes, a port each.
    pub ports: Vec<EnginePort>,
    /// What it exposes, published or not: whether it is UDP, and the port.
    pub exposed: Vec<(bool, u16)>,
    /// Who has a link of the default network to it, and under which name.
    pub linked: Vec<(String, String)>,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnginePort {
    /// Whether it is UDP.
    pub udp: bool,
    /// The host's address.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host: u16,
    /// The container's port.
    pub container: u16,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineEvent {
    /// `container`, `network`, ...
    pub kind: String,
    /// `start`, `connect`, ...
    pub action: String,
    /// What it happened to.
    pub id: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
}

impl Engine {
    /// Connects to the daemon behind a socket, in a version of its API that both speak.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.display().to_string();
        let path = path.strip_prefix("unix://").unwrap_or(&path).to_owned();
        let failed =
            |source| EngineError::Unreachable { socket: path.clone(), source: Box::new(source) };
        let client =
            Docker::connect_with_unix(&path, LIMIT, API_DEFAULT_VERSION).map_err(failed)?;
        let client = client.negotiate_version().await.map_err(failed)?;
        Ok(Self { client })
    }

    /// Asks what the daemon is.
    pub async fn daemon(&self) -> Result<Daemon> {
        let info = self.client.info().await.map_err(refused("about itself"))?;
        let state = info.swarm.and_then(|swarm| swarm.local_node_state);
        Ok(Daemon {
            version: info.server_version.unwrap_or_default(),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            swarm: matches!(
                state,
                Some(models::LocalNodeState::ACTIVE | models::LocalNodeState::PENDING)
            ),
        })
    }

    /// Lists networks, without who is on them.
    pub async fn networks(&self) -> Result<Vec<EngineNetwork>> {
        let found = self.client.list_networks(None::<ListNetworksOptions>).await;
        Ok(found.map_err(refused("its networks"))?.into_iter().map(listed).collect())
    }

    /// Asks for a network by id or name, with who is on it: those that are just being started, too.
    pub async fn network(&self, id: &str) -> Result<EngineNetwork> {
        let found = self.client.inspect_network(id, None).await;
        Ok(inspected(found.map_err(refused(&format!("of network {id}")))?))
    }

    /// Lists containers that run, with their places and published ports.
    pub async fn containers(&self) -> Result<Vec<EngineContainer>> {
        let found = self.client.list_containers(None::<ListContainersOptions>).await;
        Ok(found.map_err(refused("its containers"))?.into_iter().map(container).collect())
    }

    /// Asks for the name of a container; one that is just being started is answered for when the start is over.
    pub async fn container_name(&self, id: &str) -> Result<String> {
        let found = self.client.inspect_container(id, None).await;
        let found = found.map_err(refused(&format!("of container {id}")))?;
        Ok(bare(found.name))
    }

    /// Asks for the host name of a container, and for its further names by endpoint; one that is just being started is
    /// answered for when the start is over.
    pub async fn container_names(
        &self,
        id: &str,
    ) -> Result<(String, BTreeMap<String, Vec<String>>)> {
        let found = self.client.inspect_container(id, None).await;
        let found = found.map_err(refused(&format!("of container {id}")))?;
        let networks = found.network_settings.and_then(|settings| settings.networks);
        let names = |place: models::EndpointSettings| {
            Some((place.endpoint_id?, place.aliases.unwrap_or_default()))
        };
        let names = networks.unwrap_or_default().into_values().filter_map(names).collect();
        Ok((found.config.and_then(|config| config.hostname).unwrap_or_default(), names))
    }

    /// Listens to what happens from now on to containers and networks.
    pub fn events(&self) -> impl Stream<Item = Result<EngineEvent>> + use<> {
        let kinds = ["container", "network"].map(str::to_owned).to_vec();
        let options = EventsOptions {
            filters: Some(HashMap::from([("type".to_owned(), kinds)])),
            ..EventsOptions::default()
        };
        self.client
            .events(Some(options))
            .map(|event| event.map(happened).map_err(refused("what happens")))
    }
}

fn refused(what: &str) -> impl FnOnce(bollard::errors::Error) -> EngineError {
    let what = what.to_owned();
    move |source| EngineError::Refused { what, source: Box::new(source) }
}

fn sorted(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

/// A name without the slash that Docker puts before it.
fn bare(name: Option<String>) -> String {
    name.unwrap_or_default().trim_start_matches('/').to_owned()
}

fn ipam_driver(ipam: Option<&models::Ipam>) -> String {
    ipam.and_then(|ipam| ipam.driver.clone()).unwrap_or_default()
}

fn subnets(ipam: Option<models::Ipam>) -> Vec<EngineSubnet> {
    let configs = ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let subnet = |config: models::IpamConfig| EngineSubnet {
        subnet: config.subnet.unwrap_or_default(),
        gateway: config.gateway.unwrap_or_default(),
        ip_range: config.ip_range.unwrap_or_default(),
        auxiliary: sorted(config.auxiliary_addresses),
    };
    configs.into_iter().map(subnet).collect()
}

fn listed(found: models::Network) -> EngineNetwork {
    EngineNetwork {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default(),
        driver: found.driver.unwrap_or_default(),
        internal: found.internal.unwrap_or(false),
        attachable: found.attachable.unwrap_or(false),
        options: sorted(found.options),
        labels: sorted(found.labels),
        ipam_driver: ipam_driver(found.ipam.as_ref()),
        subnets: subnets(found.ipam),
        places: Vec::new(),
    }
}

fn inspected(found: models::NetworkInspect) -> EngineNetwork {
    let id = found.id.unwrap_or_default();
    let place = |(container, place): (String, models::EndpointResource)| EnginePlace {
        network: id.clone(),
        container,
        name: place.name.unwrap_or_default(),
        endpoint: place.endpoint_id.unwrap_or_default(),
        mac: place.mac_address.unwrap_or_default(),
        addresses: addresses([place.ipv4_address, place.ipv6_address]),
        ..EnginePlace::default()
    };
    let places = found.containers.unwrap_or_default().into_iter().map(place).collect();
    EngineNetwork {
        name: found.name.unwrap_or_default(),
        driver: found.driver.unwrap_or_default(),
        internal: found.internal.unwrap_or(false),
        attachable: found.attachable.unwrap_or(false),
        options: sorted(found.options),
        labels: sorted(found.labels),
        ipam_driver: ipam_driver(found.ipam.as_ref()),
        subnets: subnets(found.ipam),
        places,
        id,
    }
}

/// Reads addresses, with or without a prefix length; an empty one is none.
fn addresses(texts: [Option<String>; 2]) -> Vec<IpAddr> {
    let read = |text: String| text.split('/').next()?.parse().ok();
    texts.into_iter().flatten().filter_map(read).collect()
}

fn container(found: models::ContainerSummary) -> EngineContainer {
    let id = found.id.unwrap_or_default();
    // Its own name is `/web`; with a link of another one it is `/other/alias`, too.
    let (links, names): (Vec<_>, Vec<_>) = found
        .names
        .unwrap_or_default()
        .into_iter()
        .map(|name| bare(Some(name)))
        .partition(|name| name.contains('/'));
    let name = names.into_iter().next().unwrap_or_default();
    let link = |link: &String| link.split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let networks =
        found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let place = |(network_name, place): (String, models::EndpointSettings)| EnginePlace {
        network: place.network_id.unwrap_or_default(),
        network_name,
        container: id.clone(),
        name: name.clone(),
        endpoint: place.endpoint_id.unwrap_or_default(),
        mac: place.mac_address.unwrap_or_default(),
        addresses: addresses([place.ip_address, place.global_ipv6_address]),
        priority: place.gw_priority.unwrap_or(0),
        aliases: place.aliases.unwrap_or_default(),
    };
    let places = networks.into_iter().map(place).collect();
    let ports = found.ports.unwrap_or_default();
    EngineContainer {
        created: found.created.unwrap_or(0),
        command: found.command.unwrap_or_default(),
        labels: sorted(found.labels),
        places,
        exposed: ports.iter().filter_map(|p| Some((is_udp(p)?, p.private_port))).collect(),
        ports: ports.iter().filter_map(port).collect(),
        linked: links.iter().filter_map(link).collect(),
        name,
        id,
    }
}

/// Returns whether a port is of UDP, where it is of that or of TCP.
fn is_udp(found: &models::PortSummary) -> Option<bool> {
    match found.typ? {
        models::PortSummaryTypeEnum::TCP => Some(false),
        models::PortSummaryTypeEnum::UDP => Some(true),
        _ => None,
    }
}

fn port(found: &models::PortSummary) -> Option<EnginePort> {
    let udp = is_udp(found)?;
    let host_ip = found.ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
    Some(EnginePort {
        udp,
        host_ip: host_ip.parse().ok()?,
        host: found.public_port.filter(|port| *port != 0)?,
        container: found.private_port,
    })
}

fn happened(event: models::EventMessage) -> EngineEvent {
    let actor = event.actor.unwrap_or_default();
    EngineEvent {
        kind: event.typ.map(|kind| kind.to_string()).unwrap_or_default(),
        action: event.action.unwrap_or_default(),
        id: actor.id.unwrap_or_default(),
        attributes: sorted(actor.attributes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_says_of_a_container_is_read() {
        let text = r#"{"Id":"c1","Names":["/other/alias","/web"],"Created":7,"Command":"httpd","Labels":{"k":"v"},
            "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":81,"Type":"tcp"},
                     {"IP":"::","PrivatePort":53,"PublicPort":5353,"Type":"udp"}],
            "NetworkSettings":{"Networks":{"blue":{"NetworkID":"n1","EndpointID":"e1","MacAddress":"02:42:0a:00:00:02",
              "IPAddress":"10.0.0.2","GlobalIPv6Address":"","Aliases":null}}}}"#;
        let found = container(serde_json::from_str(text).unwrap());
        assert_eq!((found.name.as_str(), found.created), ("web", 7));
        assert_eq!(found.ports.len(), 2, "what is exposed only is not published");
        assert_eq!(found.exposed, [(false, 80), (false, 81), (true, 53)]);
        assert_eq!(found.linked, [("other".to_owned(), "alias".to_owned())]);
        assert_eq!(
            (found.ports[1].host, found.ports[1].container, found.ports[1].udp),
            (5353, 53, true)
        );
        assert_eq!(found.places[0].addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(found.places[0].network_name, "blue");
    }

    #[test]
    fn what_docker_says_of_a_network_that_a_container_is_just_joining_is_read() {
        let text = r#"{"Id":"n1","Name":"blue","Driver":"bridge","Internal":true,"IPAM":{"Driver":"default","Options":null,
            "Config":[{"Subnet":"10.0.0.0/24","Gateway":"10.0.0.1"}]},"Options":{},"Labels":null,
            "Containers":{"c1":{"Name":"web","EndpointID":"e1","MacAddress":"02:42:0a:00:00:02","IPv4Address":"10.0.0.2/24","IPv6Address":""}}}"#;
        let found = inspected(serde_json::from_str(text).unwrap());
        assert!(found.internal);
        assert_eq!(found.subnets[0].gateway, "10.0.0.1");
        let place = &found.places[0];
        assert_eq!(
            (place.container.as_str(), place.name.as_str(), place.network.as_str()),
            ("c1", "web", "n1")
        );
        assert_eq!(place.addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    }
}
