//! What a change needs to know of the world, gathered before it is judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;
use jiff::Timestamp;

use crate::model::{AddressPools, Family, NamespaceId, PortRange, Process, Proto};

/// What a change needs to know of the world.
pub struct Facts {
    /// The time.
    pub now: Timestamp,
    /// Gives random bytes.
    pub entropy: Box<dyn FnMut() -> [u8; 32] + Send>,
    /// Interfaces of the agent's namespace, with their addresses.
    pub interfaces: BTreeMap<String, Vec<IpNetwork>>,
    /// Bridges among them that are not ours, with their MTU.
    pub bridges: BTreeMap<String, u16>,
    /// Destinations of its routes, default routes excepted, whole or in parts.
    pub routes: Vec<IpNetwork>,
    /// What it knows of the site around it: addresses of interfaces that lead to a gateway, and what is
    /// behind gateways.
    pub site: Vec<IpNetwork>,
    /// The name servers that it asks.
    pub resolvers: Vec<IpAddr>,
    /// Where subnets come from that nobody names.
    pub pools: AddressPools,
    /// Ports that are chosen from where a mapping names none.
    pub choice: PortRange,
    /// Ports that processes of the host hold.
    pub held: BTreeSet<(Proto, IpAddr, u16)>,
    /// Ports that somebody else keeps from automatic choice.
    pub reserved: BTreeSet<u16>,
    /// MTU of networks that ask for none.
    pub mtu: u16,
    /// The brought namespace that the change concerns, or why it cannot be had.
    pub brought: Option<Result<Brought, String>>,
}

/// A namespace that is brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Which it is.
    pub id: NamespaceId,
    /// The process whose namespace it is, where it was brought so.
    pub process: Option<Process>,
    /// Whether the agent lives in it.
    pub is_agents: bool,
    /// Its interfaces.
    pub interfaces: BTreeSet<String>,
}

impl Facts {
    /// Returns the first port of a range that a process of the host holds.
    pub fn holder(&self, ip: IpAddr, ports: PortRange, proto: Proto) -> Option<u16> {
        let family = Family::of(ip);
        let first = family.unspecified();
        let last = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::BROADCAST),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(u128::MAX)),
        };
        let clash = |held: &IpAddr| *held == ip || held.is_unspecified() || ip.is_unspecified();
        self.held
            .range((proto, first, 0)..=(proto, last, u16::MAX))
            .filter(|(_, held, port)| clash(held) && (ports.first()..=ports.last()).contains(port))
            .map(|&(_, _, port)| port)
            .min()
    }

    /// Returns whether an address is one of the host's, and of it alone.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        // The broadcast address of the loopback network.
        const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 255, 255, 255));
        ip.is_unspecified()
            || (ip.is_loopback() && ip != GROUP)
            || self.interfaces.values().flatten().any(|n| n.ip() == ip)
    }

    /// Returns whether one of these ports is not to be chosen, unless it is named.
    pub fn is_reserved(&self, ports: PortRange) -> bool {
        self.reserved.range(ports.first()..=ports.last()).next().is_some()
    }

    /// Returns whether an interface of this name exists.
    pub fn has_interface(&self, name: &str) -> bool {
        self.interfaces.contains_key(name)
    }
}

#[cfg(test)]
use crate::model::PublishRange;

#[cfg(test)]
impl Facts {
    /// Returns a world with one interface, and a source of ids that never repeats.
    pub fn sample() -> Self {
        let mut count = 0_u64;
        let entropy = move || {
            count += 1;
            let mut bytes = [0x11; 32];
            // The first bytes make names; the last ones tell ids apart as well.
            bytes[..8].copy_from_slice(&(count << 32 | count).to_le_bytes());
            bytes
        };
        Self {
            now: Timestamp::UNIX_EPOCH,
            entropy: Box::new(entropy),
            interfaces: BTreeMap::from([
                ("lo".to_owned(), vec!["127.0.0.1/8".parse().unwrap()]),
                ("eth0".to_owned(), vec!["192.0.2.7/24".parse().unwrap()]),
            ]),
            bridges: BTreeMap::new(),
            routes: vec!["192.0.2.0/24".parse().unwrap()],
            site: vec!["192.0.2.7/24".parse().unwrap()],
            resolvers: Vec::new(),
            pools: AddressPools::default(),
            choice: PublishRange::default().or(None),
            held: BTreeSet::new(),
            reserved: BTreeSet::new(),
            mtu: 1500,
            brought: None,
        }
    }
}
