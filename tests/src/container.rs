//! A running container, seen from a test.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde_json::Value;

use crate::{Agent, Netns};

/// A container and its namespace.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its namespace.
    pub ns: Netns,
}

impl Container {
    /// Opens the namespace of a container that the agent made.
    #[track_caller]
    pub fn open(agent: &Agent, name: &str, id: &str) -> Self {
        let path = sandbox(agent, id);
        let ns = Netns::open(name, &path)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        Self { name: name.to_owned(), id: id.to_owned(), ns }
    }

    /// Address on the network whose interface this is.
    #[track_caller]
    pub fn address_on(&self, interface: &str) -> Ipv4Addr {
        let addresses = self.ns.addresses(interface);
        addresses.first().unwrap_or_else(|| panic!("{} has no {interface}", self.name)).0
    }

    /// IPv6 address of `eth0`, not the one of the link.
    #[track_caller]
    pub fn address6(&self) -> Ipv6Addr {
        let text = self.ns.sh("ip -6 -o addr show dev eth0 scope global");
        let address = text.split_whitespace().nth(3).and_then(|a| a.split('/').next());
        let address = address.and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("{} has no IPv6 address: {text}", self.name))
    }

    /// Address of `eth0`.
    #[track_caller]
    pub fn address(&self) -> Ipv4Addr {
        self.address_on("eth0")
    }
}

/// Where the agent pins the namespace of a container that it made.
pub fn sandbox(agent: &Agent, id: &str) -> PathBuf {
    agent.places.run().join("netns").join(id)
}

/// One network of a container's inspection.
#[track_caller]
pub fn attachment(agent: &Agent, container: &str, network: &str) -> Value {
    let inspected = agent.inspect("container", container);
    inspected["NetworkSettings"]["Networks"][network].clone()
}
