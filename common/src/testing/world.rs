//! A small world: a host with four networks, five containers and one uplink. Both bodies of the walks run in it: the
//! host's in memory, and the kernel's, whose test layer makes its interfaces, addresses and routes.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    FixedKernel, Frame, FramePacket, MemTables, Walk, bytes::assert_checksums, families::Family,
    run,
};
use crate::{
    abi::{
        Address as _, DropReason, Endpoint, Ip4, Ip6, LinkKey, Local, Mac, Neighbour, NeighbourKey,
        Network, Port, Rule, ServedKey, Subnet, Uplink, service,
    },
    datapath::Verdict,
    wire::proto,
};

/// Interface index of the uplink.
pub const UPLINK: u32 = 100;
/// The uplink's own Ethernet address.
pub const UPLINK_MAC: Mac = [2, 0, 0, 0, 0, 50];
/// The router's.
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 51];
/// The host's address.
pub const HOST: &str = "198.51.100.1";
/// The broadcast address of its segment.
pub const BROADCAST: &str = "198.51.100.255";
/// Its router.
pub const ROUTER: &str = "198.51.100.254";
/// Somebody outside.
pub const WORLD: &str = "203.0.113.7";
/// An open, masqueraded network.
pub const OPEN: u32 = Network::ICC | Network::MASQUERADE4 | Network::MASQUERADE6;
/// Gateway of the first network.
pub const GATEWAY: &str = "172.20.0.1";
/// Gateway of the second network.
pub const GATEWAY2: &str = "172.21.0.1";
/// Networks, by index from 1: the gateway in a /16, and flags. The third is internal, the fourth is not masqueraded.
pub const NETWORKS: [(&str, u32); 4] = [
    (GATEWAY, OPEN),
    (GATEWAY2, OPEN),
    ("172.22.0.1", Network::ICC | Network::INTERNAL),
    ("172.23.0.1", Network::ICC),
];
/// A container of the first network.
pub const C1: &str = "172.20.0.2";
/// Another one.
pub const C2: &str = "172.20.0.3";
/// A container of the second network.
pub const C3: &str = "172.21.0.2";
/// A container of the third network.
pub const C4: &str = "172.22.0.2";
/// A container of the fourth network.
pub const C5: &str = "172.23.0.2";
/// Containers, by their endpoint's index from 1, with the index of their network.
pub const CONTAINERS: [(&str, u32); 5] = [(C1, 1), (C2, 1), (C3, 2), (C4, 3), (C5, 4)];

/// Interface index of the host end of an endpoint's veth.
pub const fn veth(endpoint: u32) -> u32 {
    10 + endpoint
}

/// Interface index of a network's bridge.
pub const fn bridge(network: u32) -> u32 {
    20 + network
}

/// The address, for the maps.
pub fn ip(text: &str) -> Ip4 {
    text.parse::<Ipv4Addr>().expect("an address").into()
}

/// The IPv6 address that stands beside an IPv4 one everywhere in this world: `fd00:a:b:c::d`, in decimal.
pub fn twin(address: Ipv4Addr) -> Ipv6Addr {
    let digits = |byte: u8| u16::from_str_radix(&byte.to_string(), 16).expect("decimal digits");
    let [a, b, c, d] = address.octets().map(digits);
    Ipv6Addr::new(0xfd00, a, b, c, 0, 0, 0, d)
}

/// The IPv6 address beside an IPv4 one, for the maps.
pub fn ip6(text: &str) -> Ip6 {
    twin(text.parse().expect("an address")).into()
}

/// The Ethernet address that is derived from an address.
pub fn mac(text: &str) -> Mac {
    Frame::mac(text.parse().expect("an address"))
}

/// The gateway of a network.
fn gateway(network: u32) -> &'static str {
    NETWORKS[network as usize - 1].0
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    /// Its maps.
    pub tables: MemTables,
    /// Its kernel.
    pub kernel: FixedKernel,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// The host as described above, with nothing published and nobody linked.
    pub fn new() -> Self {
        let kernel = FixedKernel::new(UPLINK, ip(ROUTER), ip6(ROUTER));
        let mut world = Self { tables: MemTables::default(), kernel };
        for (index, (gateway, flags)) in (1..).zip(NETWORKS) {
            world = world.network(index, flags);
            let subnet = Subnet { network: index, flags: 0 };
            let [a, b, ..] = ip(gateway).octets();
            world.tables.four.subnets.push((16, Ip4::new([a, b, 0, 0]), subnet));
            // The first three groups are the same in all of it.
            world.tables.six.subnets.push((48, ip6(gateway), subnet));
            world.local(gateway, Local::GATEWAY);
        }
        for (index, (address, network)) in (1..).zip(CONTAINERS) {
            world.endpoint(index, network, address);
        }
        world.local(HOST, 0);
        let broadcast = Local { table: 0, flags: Local::BROADCAST };
        world.tables.four.locals.insert(ip(BROADCAST), broadcast);
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

    /// The same with published ports of both families, a network without ICC, and a link.
    pub fn busy() -> Self {
        Self::new()
            .publish(5, proto::TCP, (8080, 80, 1), 1)
            .publish6(6, proto::TCP, (8080, 80, 1), 1)
            .publish(7, proto::UDP, (53, 5353, 4), 2)
            .publish6(8, proto::UDP, (53, 5353, 4), 2)
            .icc_off(1)
            .link(1, 2, proto::TCP, 80)
    }

    /// Gives a network other flags.
    pub fn network(mut self, index: u32, flags: u32) -> Self {
        let gateway = gateway(index);
        let network = Network {
            flags: flags | Network::PRESENT,
            bridge: bridge(index),
            gateway4: ip(gateway),
            gateway6: ip6(gateway),
            gateway_mac: mac(gateway),
            mtu: 1500,
            ..Network::default()
        };
        self.tables.networks.insert(index, network);
        self
    }

    /// Gives the host an address.
    fn local(&mut self, address: &str, flags: u32) {
        let local = Local { table: service::WILDCARD_TABLE, flags };
        self.tables.four.locals.insert(ip(address), local);
        let local = Local { table: service::WILDCARD_TABLE6, flags };
        self.tables.six.locals.insert(ip6(address), local);
    }

    fn endpoint(&mut self, index: u32, network: u32, address: &str) {
        // No two have the same.
        let generation = index;
        let endpoint = Endpoint {
            ip4: ip(address),
            ip6: ip6(address),
            network,
            endpoint: index,
            generation,
            ifindex: veth(index),
            mtu: 1500,
            mac: mac(address),
            gateway_mac: mac(gateway(network)),
            ..Endpoint::default()
        };
        self.tables.generations.insert(index, generation);
        self.tables.endpoints.insert(veth(index), endpoint);
        let neighbour = Neighbour {
            ifindex: veth(index),
            endpoint: index,
            generation,
            mtu: 1500,
            mac: mac(address),
            gateway_mac: mac(gateway(network)),
            ..Neighbour::default()
        };
        let key = NeighbourKey { network, address: ip(address) };
        self.tables.four.neighbours.insert(key, neighbour);
        for address in [ip6(address), Ip6::link_local(&mac(address))] {
            self.tables.six.neighbours.insert(NeighbourKey { network, address }, neighbour);
        }
    }

    /// Takes the bridge from between a network's containers.
    pub fn unbridge(mut self, network: u32) -> Self {
        let found = self.tables.networks.get_mut(&network).expect("a network");
        found.flags |= Network::L2_BPF;
        self.tables.bridges.insert(found.bridge, network.into());
        let gateway = Local { table: service::WILDCARD_TABLE6, flags: Local::GATEWAY };
        self.tables.six.locals.insert(Ip6::link_local(&found.gateway_mac), gateway);
        self
    }

    /// Closes a network to itself.
    pub fn icc_off(mut self, network: u32) -> Self {
        self.tables.networks.get_mut(&network).expect("a network").flags &= !Network::ICC;
        self
    }

    /// Lets one endpoint open a port of another.
    pub fn link(mut self, from: u32, to: u32, proto: u8, port: u16) -> Self {
        let key = LinkKey { from, to, proto, port: Port::new(port), pad: 0, reserved: 0 };
        let tables = &mut self.tables;
        tables.links.insert(key, 1);
        for index in [from, to] {
            let endpoint = tables.endpoints.get_mut(&veth(index)).expect("an endpoint");
            endpoint.flags |= Endpoint::HAS_LINKS;
        }
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

    /// The same in IPv6.
    pub fn publish6(self, rule: u32, proto: u8, ports: (u16, u16, u16), endpoint: u32) -> Self {
        let world = self.publish_in(service::WILDCARD_TABLE6, rule, proto, ports, endpoint);
        world.with(|tables| {
            let address = tables.endpoints[&veth(endpoint)].ip6.to_any();
            let rule = tables.rules.get_mut(&rule).expect("the rule");
            (rule.flags, rule.address) = (Rule::IPV6, address);
        })
    }

    /// The same in a family.
    pub fn publish_on(
        self,
        family: Family,
        rule: u32,
        proto: u8,
        ports: (u16, u16, u16),
        endpoint: u32,
    ) -> Self {
        match family {
            Family::Four => self.publish(rule, proto, ports, endpoint),
            Family::Six => self.publish6(rule, proto, ports, endpoint),
        }
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
        let to = self.tables.endpoints[&veth(endpoint)];
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

    /// Changes anything else.
    pub fn with(mut self, change: impl FnOnce(&mut MemTables)) -> Self {
        change(&mut self.tables);
        self
    }

    /// Runs a frame, and demands right checksums of what comes out.
    pub fn run(
        &self,
        walk: Walk,
        interface: u32,
        frame: &Frame,
    ) -> (Result<Verdict, DropReason>, Vec<u8>) {
        let mut packet = FramePacket::new(frame.build(), interface);
        let end = run(walk, &mut packet, &self.tables, &self.kernel).outcome;
        if end.is_ok() {
            assert_checksums(&packet.bytes);
        }
        (end, packet.bytes)
    }

    /// Runs a frame that an endpoint's container sends.
    pub fn container_sends(
        &self,
        endpoint: u32,
        frame: &Frame,
    ) -> (Result<Verdict, DropReason>, Vec<u8>) {
        self.run(Walk::FromContainer, veth(endpoint), frame)
    }

    /// Runs a frame that arrives from outside.
    pub fn uplink_gets(&self, frame: &Frame) -> (Result<Verdict, DropReason>, Vec<u8>) {
        self.run(Walk::FromUplink, UPLINK, frame)
    }

    /// Empties the tables of flows.
    pub fn forget_flows(&self) {
        self.tables.four.flows.borrow_mut().clear();
        self.tables.six.flows.borrow_mut().clear();
    }
}

/// The frame, addressed to a station of the container's network by way of the gateway.
pub fn routed(frame: Frame, gateway: &str) -> Frame {
    frame.to_mac(mac(gateway))
}
