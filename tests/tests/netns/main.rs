//! Real traffic between real namespaces, through the real agent: every sentence that an operator would
//! check by hand. Each test has a host, a router and an outside of its own.
//!
//! The agent's own life (crashes, restarts, refusals) is in `agent`; packets byte by byte are in `packet`.

mod answers;
mod brought;
mod bulk;
mod catalogue;
mod checksums;
mod choices;
mod churn;
mod company;
mod counters;
mod deny;
mod errors;
mod families;
mod files;
mod firewalls;
mod flows;
mod forwarding;
mod groups;
mod host;
mod hosts6;
mod inspection;
mod ipv6;
mod lines;
mod links;
mod local;
mod local6;
mod modes;
mod monitor;
mod moves;
mod mtu;
mod names;
mod naming;
mod networks;
mod out;
mod plain;
mod plumbing;
mod prometheus;
mod proxied;
mod published;
mod resolving;
mod reuse;
mod rows;
mod sandboxes;
mod scale;
mod sctp;
mod seeds;
mod stress;
mod traces;
mod tunnels;
mod unbridged;
mod uplinks;
mod walls;
mod watched;
mod why;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use bascule_tests::{Agent, Container, Topology};

/// A host with an agent.
struct Stage {
    agent: Agent,
    net: Topology,
}

impl Stage {
    fn new() -> Self {
        let net = Topology::new();
        Self { agent: Agent::start(&net.host), net }
    }

    /// A host with an agent, in a world that has IPv6 too.
    fn dual() -> Self {
        let net = Topology::dual();
        Self { agent: Agent::start(&net.host), net }
    }

    /// A host with an agent and two containers of one network.
    fn with_pair() -> (Self, Container, Container) {
        let stage = Self::new();
        stage.agent.network("n1", "");
        let c1 = stage.agent.container("c1", "n1", "");
        let c2 = stage.agent.container("c2", "n1", "");
        (stage, c1, c2)
    }

    /// A host with an agent and one container of one network.
    fn with_one(options: &str) -> (Self, Container) {
        let stage = Self::new();
        stage.agent.network("n1", "");
        let c1 = stage.agent.container("c1", "n1", options);
        (stage, c1)
    }
}

/// An IPv6 address and port.
fn at6(address: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(address, port, 0, 0)
}

/// An address and port.
fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

/// Name of the bridge of a network.
fn bridge_of(stage: &Stage, network: &str) -> String {
    let id = stage.agent.inspect("network", network)["Id"].as_str().expect("an id").to_owned();
    format!("br-{}", &id[..12])
}
