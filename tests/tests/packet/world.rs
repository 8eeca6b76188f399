//! A host in words: its networks, containers, uplink and published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bascule_common::{
    abi::{
        Address as _, Endpoint, Ip4, Ip6, LinkKey, Local, Mac, Neighbour, NeighbourKey, Network,
        Port, Rule, ServedKey, Subnet, Uplink, service,
    },
    testing::{MemTables, world::twin},
};

/// Interface index of the uplink.
pub const UPLINK: u32 = 50;
/// The uplink's own Ethernet address, and the router's.
pub const UPLINK_MAC: Mac = [2, 0, 0, 0, 0, 50];
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 51];
pub const HOST: &str = "198.51.100.1";
pub const ROUTER: &str = "198.51.100.254";
pub const WORLD: &str = "203.0.113.7";
/// Two containers of network 1, one of network 2, one of network 3 (internal), one of network 4 (not
/// masqueraded). Container `n` is endpoint `n`, behind interface `100 + n`.
pub const C1: &str = "172.20.0.2";
pub const C2: &str = "172.20.0.3";
pub const C3: &str = "172.21.0.2";
pub const C4: &str = "172.22.0.2";
pub const C5: &str = "172.23.0.2";
pub const CONTAINERS: [(&str, u32); 5] = [(C1, 1), (C2, 1), (C3, 2), (C4, 3), (C5, 4)];
/// Networks by index from 1: second byte of the subnet.
pub const NETWORKS: [u8; 4] = [20, 21, 22, 23];

/// Interface index of a container's host end.
pub const fn interface(container: u32) -> u32 {
    100 + container
}

/// Interface index of a network's bridge.
pub const fn bridge(network: u32) -> u32 {
    10 + network
}

pub fn ip(text: &str) -> Ip4 {
    text.parse::<Ipv4Addr>().expect("an address").into()
}

/// The IPv6 address that stands beside an IPv4 one everywhere in this world.
pub fn six(text: &str) -> Ipv6Addr {
    twin(text.parse().expect("an address"))
}

/// The same, for the maps.
pub fn ip6(text: &str) -> Ip6 {
    six(text).into()
}

/// The IPv4 address that an IPv6 one stands beside.
fn untwin(address: Ipv6Addr) -> Ipv4Addr {
    let [_, a, b, c, .., d] = address.segments();
    let byte = |group: u16| format!("{group:x}").parse().expect("decimal digits");
    Ipv4Addr::new(byte(a), byte(b), byte(c), byte(d))
}

/// The Ethernet address that is derived from an address of this world, or that stands for a group.
pub fn mac(text: &str) -> Mac {
    let [a, b, c, d] = match text.parse().expect("an address") {
        IpAddr::V4(four) => four.octets(),
        IpAddr::V6(six) if six.is_multicast() => {
            let [.., a, b, c, d] = six.octets();
            return [0x33, 0x33, a, b, c, d];
        }
        IpAddr::V6(six) if six.is_unicast_link_local() => {
            let [.., a, _, _, b, c, d] = six.octets();
            [a, b, c, d]
        }
        IpAddr::V6(six) => untwin(six).octets(),
    };
    [2, 0x42, a, b, c, d]
}

/// The gateway of the network that an address is on.
pub fn gateway(container: &str) -> String {
    match container.parse().expect("an address") {
        IpAddr::V4(four) => {
            let [a, b, ..] = four.octets();
            format!("{a}.{b}.0.1")
        }
        IpAddr::V6(address) => six(&gateway(&untwin(address).to_string())).to_string(),
    }
}

/// The IPv6 address that stands beside an IPv4 one, with a port, in words.
pub fn at6(text: &str, port: u16) -> String {
    Family::Six.at(text, port)
}

/// A container's link-local address, in words.
pub fn link_local(container: &str) -> String {
    Ipv6Addr::from(Ip6::link_local(&mac(container))).to_string()
}

/// A family, for what holds for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Four,
    Six,
}

/// Both families.
pub const BOTH: [Family; 2] = [Family::Four, Family::Six];

impl Family {
    /// The family's address of what an IPv4 address names in this world.
    pub fn ip(self, four: &str) -> String {
        match self {
            Self::Four => four.to_owned(),
            Self::Six => six(four).to_string(),
        }
    }

    /// The same, with a port.
    pub fn at(self, four: &str, port: u16) -> String {
        match self {
            Self::Four => format!("{four}:{port}"),
            Self::Six => format!("[{}]:{port}", six(four)),
        }
    }

    /// The family's choice of two.
    pub fn of<T>(self, four: T, six: T) -> T {
        match self {
            Self::Four => four,
            Self::Six => six,
        }
    }

    /// The family's table of what is published on every address.
    pub fn table(self) -> u32 {
        self.of(service::WILDCARD_TABLE, service::WILDCARD_TABLE6)
    }
}

/// What the maps hold.
#[derive(Clone)]
pub struct World {
    pub tables: MemTables,
}

impl World {
    /// The host as described above, with nothing published and nobody linked.
    pub fn new() -> Self {
        let mut world = Self { tables: MemTables::default() };
        world.tables.flow_capacity = 4096;
        for (index, second) in (1..).zip(NETWORKS) {
            world.network(index, second);
        }
        for (index, (address, network)) in (1..).zip(CONTAINERS) {
            world.endpoint(index, network, address);
        }
        world.tables.four.locals.insert(ip(HOST), Local::default());
        world
            .tables
            .six
            .locals
            .insert(ip6(HOST), Local { table: service::WILDCARD_TABLE6, flags: 0 });
        let broadcast = Local { table: 0, flags: Local::BROADCAST };
        world.tables.four.locals.insert(ip("198.51.100.255"), broadcast);
        let uplink = Uplink {
            masquerade4: ip(HOST),
            masquerade6: ip6(HOST),
            mtu: 1500,
            mac: UPLINK_MAC,
            ..Uplink::default()
        };
        world.tables.uplinks.insert(UPLINK, uplink);
        world
    }

    fn network(&mut self, index: u32, second: u8) {
        let address = format!("172.{second}.0.1");
        let flags = match index {
            3 => Network::ICC | Network::INTERNAL,
            4 => Network::ICC,
            _ => Network::ICC | Network::MASQUERADE4 | Network::MASQUERADE6,
        };
        let network = Network {
            flags: flags | Network::PRESENT,
            bridge: bridge(index),
            gateway4: ip(&address),
            gateway6: ip6(&address),
            gateway_mac: mac(&address),
            mtu: 1500,
            ..Network::default()
        };
        self.tables.networks.insert(index, network);
        let subnet = Subnet { network: index, flags: 0 };
        self.tables.four.subnets.push((16, Ip4::new([172, second, 0, 0]), subnet));
        // The first three groups are the same in all of it.
        self.tables.six.subnets.push((48, ip6(&address), subnet));
        let local = Local { table: 0, flags: Local::GATEWAY };
        self.tables.four.locals.insert(ip(&address), local);
        let local = Local { table: service::WILDCARD_TABLE6, ..local };
        self.tables.six.locals.insert(ip6(&address), local);
    }

    fn endpoint(&mut self, index: u32, network: u32, address: &str) {
        let endpoint = Endpoint {
            ip4: ip(address),
            ip6: ip6(address),
            network,
            endpoint: index,
            generation: index,
            ifindex: interface(index),
            mtu: 1500,
            mac: mac(address),
            gateway_mac: mac(&gateway(address)),
            ..Endpoint::default()
        };
        self.tables.generations.insert(index, index);
        self.tables.endpoints.insert(interface(index), endpoint);
        let neighbour = Neighbour {
            ifindex: interface(index),
            endpoint: index,
            generation: index,
            mtu: 1500,
            mac: mac(address),
            gateway_mac: mac(&gateway(address)),
            ..Neighbour::default()
        };
        let key = NeighbourKey { network, address: ip(address) };
        self.tables.four.neighbours.insert(key, neighbour);
        for address in [ip6(address), Ip6::link_local(&mac(address))] {
            self.tables.six.neighbours.insert(NeighbourKey { network, address }, neighbour);
        }
    }

    /// Takes the bridge from between a network's containers.
    pub fn unbridge(mut self, index: u32) -> Self {
        let network = self.tables.networks.get_mut(&index).expect("a network");
        network.flags |= Network::L2_BPF;
        let link_local = Ip6::link_local(&network.gateway_mac);
        self.tables.bridges.insert(network.bridge, index.into());
        let gateway = Local { table: service::WILDCARD_TABLE6, flags: Local::GATEWAY };
        self.tables.six.locals.insert(link_local, gateway);
        self
    }

    /// Turns ICC off.
    pub fn icc_off(mut self, network: u32) -> Self {
        self.tables.networks.get_mut(&network).expect("a network").flags &= !Network::ICC;
        self
    }

    /// Opens a port of one endpoint to another.
    pub fn link(mut self, from: u32, to: u32, proto: u8, port: u16) -> Self {
        let key = LinkKey { from, to, proto, port: Port::new(port), pad: 0, reserved: 0 };
        self.tables.links.insert(key, 1);
        for endpoint in self.tables.endpoints.values_mut() {
            if [from, to].contains(&endpoint.endpoint) {
                endpoint.flags |= Endpoint::HAS_LINKS;
            }
        }
        let tables = &mut self.tables;
        let four = tables.four.neighbours.values_mut();
        for neighbour in four.chain(tables.six.neighbours.values_mut()) {
            if [from, to].contains(&neighbour.endpoint) {
                neighbour.flags |= Endpoint::HAS_LINKS;
            }
        }
        self
    }

    /// Publishes `count` ports from `host` on, at `container` on, of an endpoint, on every address.
    pub fn publish(self, rule: u32, proto: u8, ports: (u16, u16, u16), endpoint: u32) -> Self {
        self.publish_in(service::WILDCARD_TABLE, rule, proto, ports, endpoint)
    }

    /// The same, on every address of a family.
    pub fn publish_on(
        self,
        family: Family,
        rule: u32,
        proto: u8,
        ports: (u16, u16, u16),
        endpoint: u32,
    ) -> Self {
        let world = self.publish_in(family.table(), rule, proto, ports, endpoint);
        if family == Family::Four {
            return world;
        }
        world.with(|tables| {
            let address = tables.endpoints[&interface(endpoint)].ip6.to_any();
            let rule = tables.rules.get_mut(&rule).expect("the rule");
            (rule.flags, rule.address) = (Rule::IPV6, address);
        })
    }

    /// Names the rule of each published port by the container's port too, as the agent does.
    pub fn served(self, rule: u32) -> Self {
        self.with(|tables| {
            let value = tables.rules[&rule];
            for port in value.container_base..value.container_base + value.count {
                let key = ServedKey {
                    endpoint: value.endpoint.to_be(),
                    proto: value.proto,
                    family: value.flags & Rule::IPV6,
                    port: Port::new(port),
                };
                tables.served.insert(key, rule);
            }
        })
    }

    /// Publishes in a table.
    pub fn publish_in(
        mut self,
        table: u32,
        rule: u32,
        proto: u8,
        (host, container, count): (u16, u16, u16),
        endpoint: u32,
    ) -> Self {
        let to = self.tables.endpoints[&interface(endpoint)];
        let value = Rule {
            host_base: host,
            container_base: container,
            count,
            proto,
            network: to.network,
            endpoint,
            generation: to.generation,
            address: to.ip4.to_any(),
            ..Rule::default()
        };
        self.tables.rules.insert(rule, value);
        for port in host..host + count {
            let slot = service::slot(proto, Port::new(port)).expect("a protocol with ports");
            self.tables.ports.insert((table, slot), rule);
            self.tables.ports.insert((table | service::ANY_TABLE, slot), rule);
        }
        self
    }

    /// Changes anything else.
    pub fn with(mut self, change: impl FnOnce(&mut MemTables)) -> Self {
        change(&mut self.tables);
        self
    }
}
