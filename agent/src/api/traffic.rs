//! `GET /bascule/v1/traffic`: who is there, and what each has sent, received and lost. `bascule top` and the web page
//! show it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    rates::fill_rates,
    read::{clock, read},
};
use super::{context::Context, maps, reply::Reply};
use crate::state::Rejected;

mod rates;
mod read;

/// What the data plane has carried so far. Counters go on over restarts of the agent; what they grew by between two
/// readings, over the difference of their clocks, is a rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Traffic {
    /// When it was read, in RFC 3339.
    pub time: String,
    /// The same moment by a clock that is never set, in milliseconds.
    pub clock: u64,
    /// When the agent was started, in RFC 3339.
    pub started_at: String,
    /// Interfaces that lead out of the host.
    pub uplinks: Vec<TrafficUplink>,
    /// Networks, by name.
    pub networks: Vec<TrafficNetwork>,
    /// Endpoints, by container and network.
    pub endpoints: Vec<TrafficEndpoint>,
    /// Published ranges: of more than 2,000, those that have carried most.
    pub ports: Vec<TrafficPort>,
    /// How many published ranges there are.
    pub ports_total: usize,
    /// What was dropped and belongs to no endpoint.
    pub drops: Vec<TrafficDrop>,
    /// Links between containers.
    pub links: Vec<TrafficLink>,
    /// Connections that are tracked.
    pub connections: u64,
}

/// What was carried in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Amount {
    /// Packets; of a GSO packet, its segments.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
    /// Packets a second, where there was an earlier reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet_rate: Option<f64>,
    /// Bytes a second, where there was an earlier reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_rate: Option<f64>,
}

/// An interface that leads out of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrafficUplink {
    /// Its name.
    pub name: String,
    /// Addresses that masquerade uses.
    pub addresses: Vec<String>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrafficNetwork {
    /// Its id, shortened to 12 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// Its bridge.
    pub bridge: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether its containers talk to each other freely.
    pub icc: bool,
}

/// A container's place on a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrafficEndpoint {
    /// Its id, shortened to 12 digits.
    pub id: String,
    /// Its container's name.
    pub container: String,
    /// Its container's id, shortened.
    pub container_id: String,
    /// Its network's name.
    pub network: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its Ethernet address.
    pub mac: String,
    /// Interface in the container.
    pub interface: String,
    /// Interface on the host.
    pub host_interface: String,
    /// What went into the container.
    pub received: Amount,
    /// What came out of it.
    pub sent: Amount,
    /// What was dropped of either, all reasons together.
    pub dropped: Amount,
    /// The same by direction and reason.
    pub drops: Vec<TrafficDrop>,
    /// Connections of its that are tracked; those within a network are not.
    pub connections: u64,
}

/// What was dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrafficDrop {
    /// `in` or `out`, seen from the container, or from the host.
    pub direction: String,
    /// Why, as in metrics.
    pub reason: String,
    /// The reason in a sentence.
    pub explanation: String,
    /// How much.
    pub dropped: Amount,
}

/// A published range of ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrafficPort {
    /// Its container's name.
    pub container: String,
    /// The network that it leads into.
    pub network: String,
    /// The host's address that it is bound to, `0.0.0.0` or `::` for all.
    pub host_ip: String,
    /// The host's port, or ports as `8000-8999`.
    pub host_port: String,
    /// The container's port, or ports.
    pub container_port: String,
    /// `tcp` or `udp`.
    pub proto: String,
    /// What went into the container.
    pub received: Amount,
    /// What came out of it.
    pub sent: Amount,
    /// Connections that were opened so far.
    pub opened: u64,
    /// Connections that are open.
    pub active: u64,
}

/// A link: what one container may open on another, on a network of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TrafficLink {
    /// The container that may.
    pub from: String,
    /// The container that serves.
    pub to: String,
    /// The network that it holds on.
    pub network: String,
    /// The ports that it opens: `5432/tcp`, `8000-8010/udp`.
    pub ports: Vec<String>,
}

/// Answers with what was carried so far.
pub(super) async fn traffic(context: &Context) -> Result<Reply, Rejected> {
    maps::read(context, read).await
}
