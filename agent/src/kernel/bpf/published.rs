//! The published ports as the programs see them, for the agent's own proxy: one decision, in
//! [`bascule_common::datapath::socket`], and the maps themselves to decide by.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bascule_common::{
    abi::{Ip4, Ip6, Local, Neighbour, NeighbourKey4, NeighbourKey6, Port, Rule, names::map},
    datapath::socket::{self, Backend, Host as _, Lead, Published},
};

use super::{
    BpfError,
    bpffs::Pins,
    error::pin,
    map::Hash,
    sys::{self, Kind},
    tables::Tables,
};

/// What is published, read from the maps at every question.
#[derive(Debug)]
pub struct PublishedPorts {
    tables: Arc<Tables>,
    locals4: Hash<Ip4, Local>,
    locals6: Hash<Ip6, Local>,
    neighbours4: Hash<NeighbourKey4, Neighbour>,
    neighbours6: Hash<NeighbourKey6, Neighbour>,
}

impl PublishedPorts {
    /// Opens the maps.
    pub fn open(pins: &Pins, tables: Arc<Tables>) -> Result<Self, BpfError> {
        let fd = |name| {
            let path = pins.map(name);
            sys::object_get(&path, Kind::Map).map_err(pin("open the map pinned at", &path))
        };
        Ok(Self {
            tables,
            locals4: Hash::new(map::LOCALS4, fd(map::LOCALS4)?)?,
            locals6: Hash::new(map::LOCALS6, fd(map::LOCALS6)?)?,
            neighbours4: Hash::new(map::NEIGHBOURS4, fd(map::NEIGHBOURS4)?)?,
            neighbours6: Hash::new(map::NEIGHBOURS6, fd(map::NEIGHBOURS6)?)?,
        })
    }

    /// The container behind a port of the host, for a client whose socket could not be translated; none
    /// where the port is not published, or its container not there.
    pub fn backend(&self, proto: u8, asked: SocketAddr) -> Option<SocketAddr> {
        let address = match asked.ip() {
            IpAddr::V4(ip) => Ip4::from(ip).to_shared(),
            IpAddr::V6(ip) => Ip6::from(ip),
        };
        let lead = socket::find_for_proxy(self, proto, address, Port::new(asked.port()));
        let Lead::To(Backend { address, port, .. }) = lead else { return None };
        let ip = std::net::Ipv6Addr::from(address.octets()).to_canonical();
        Some(SocketAddr::new(ip, port.number()))
    }
}

// A map that cannot be read publishes nothing.
impl Published<Ip4> for PublishedPorts {
    fn local(&self, address: Ip4) -> Option<Local> {
        self.locals4.get(&address).ok().flatten()
    }

    fn slot(&self, table: u32, slot: u32) -> u32 {
        self.tables.ports.rule(table, slot)
    }

    fn rule(&self, index: u32) -> Option<Rule> {
        self.tables.rules.get(index).ok().flatten()
    }

    fn holder(&self, network: u32, address: Ip4) -> Option<(u32, u32)> {
        let neighbour = self.neighbours4.get(&NeighbourKey4 { network, address }).ok().flatten()?;
        Some((neighbour.endpoint, neighbour.generation))
    }
}

impl Published<Ip6> for PublishedPorts {
    fn local(&self, address: Ip6) -> Option<Local> {
        self.locals6.get(&address).ok().flatten()
    }

    fn slot(&self, table: u32, slot: u32) -> u32 {
        self.tables.ports.rule(table, slot)
    }

    fn rule(&self, index: u32) -> Option<Rule> {
        self.tables.rules.get(index).ok().flatten()
    }

    fn holder(&self, network: u32, address: Ip6) -> Option<(u32, u32)> {
        let neighbour = self.neighbours6.get(&NeighbourKey6 { network, address }).ok().flatten()?;
        Some((neighbour.endpoint, neighbour.generation))
    }
}
