//! A small world: two networks, three containers, one uplink. Both engines of the twin tests run in it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{FixedKernel, Frame, FramePacket, MemTables, Walk, run};
use crate::{
    abi::{
        Address as _, DropReason, Endpoint, Ip4, Ip6, LinkKey, Local, Mac, Neighbour, NeighbourKey,
        Network, Port, Rule, Subnet, Uplink, service,
    },
    datapath::Verdict,
    wire::{checksum, proto},
};

/// Interface index of the uplink.
pub const UPLINK: u32 = 100;
/// The host's address.
pub const HOST: &str = "198.51.100.1";
/// Its router.
pub const ROUTER: &str = "198.51.100.254";
/// Somebody outside.
pub const WORLD: &str = "203.0.113.9";
/// Gateway of the first network.
pub const GATEWAY: &str = "172.20.0.1";
/// Gateway of the second network.
pub const GATEWAY2: &str = "172.21.0.1";
/// A container of the first network.
pub const C1: &str = "172.20.0.2";
/// Another one.
pub const C2: &str = "172.20.0.3";
/// A container of the second network.
pub const C3: &str = "172.21.0.2";

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

/// The world.
#[derive(Debug)]
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

/// An open, masqueraded network.
pub const OPEN: u32 = Network::ICC | Network::MASQUERADE4 | Network::MASQUERADE6;

/// Interface index of the host end of an endpoint's veth.
pub const fn veth(endpoint: u32) -> u32 {
    10 + endpoint
}

/// Interface index of a network's bridge.
pub const fn bridge(network: u32) -> u32 {
    20 + network
}

impl World {
    /// Both networks are open and masqueraded; nothing is published.
    pub fn new() -> Self {
        let kernel = FixedKernel::new(UPLINK, ip(ROUTER), ip6(ROUTER));
        let mut world = Self { tables: MemTables::default(), kernel };
        world.network(1, GATEWAY, OPEN);
        world.network(2, GATEWAY2, OPEN);
        world.endpoint(1, 1, C1, GATEWAY);
        world.endpoint(2, 1, C2, GATEWAY);
        world.endpoint(3, 2, C3, GATEWAY2);
        for host in [HOST, GATEWAY, GATEWAY2] {
            world.tables.four.locals.insert(ip(host), Local::default());
            let local = Local { table: service::WILDCARD_TABLE6, flags: 0 };
            world.tables.six.locals.insert(ip6(host), local);
        }
        let uplink = Uplink {
            masquerade4: ip(HOST),
            masquerade6: ip6(HOST),
            mtu: 1500,
            ..Uplink::default()
        };
        world.tables.uplinks.insert(UPLINK, uplink);
        world
    }

    /// Adds or changes a network, a /16.
    pub fn network(&mut self, index: u32, gateway: &str, flags: u32) {
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
        let subnet = Subnet { network: index, flags: 0 };
        self.tables.four.subnets.push((16, network_of(gateway), subnet));
        // The first three groups are the same in all of it.
        self.tables.six.subnets.push((48, ip6(gateway), subnet));
    }

    /// Adds an endpoint, behind [`veth`].
    pub fn endpoint(&mut self, index: u32, network: u32, address: &str, gateway: &str) {
        self.tables.generations.insert(index, 1);
        let endpoint = Endpoint {
            ip4: ip(address),
            ip6: ip6(address),
            network,
            endpoint: index,
            generation: 1,
            ifindex: veth(index),
            mtu: 1500,
            mac: mac(address),
            gateway_mac: mac(gateway),
            ..Endpoint::default()
        };
        self.tables.endpoints.insert(veth(index), endpoint);
        let key = NeighbourKey { network, address: ip(address) };
        let neighbour = Neighbour {
            ifindex: veth(index),
            endpoint: index,
            generation: 1,
            mtu: 1500,
            mac: mac(address),
            gateway_mac: mac(gateway),
            ..Neighbour::default()
        };
        self.tables.four.neighbours.insert(key, neighbour);
        for address in [ip6(address), Ip6::link_local(&mac(address))] {
            self.tables.six.neighbours.insert(NeighbourKey { network, address }, neighbour);
        }
    }

    /// Takes the bridge from between a network's containers.
    pub fn unbridge(&mut self, network: u32) {
        let found = self.tables.networks.get_mut(&network).expect("a network");
        found.flags |= Network::L2_BPF;
        self.tables.bridges.insert(found.bridge, network.into());
        let gateway = Local { table: service::WILDCARD_TABLE6, flags: Local::GATEWAY };
        for address in [found.gateway6, Ip6::link_local(&found.gateway_mac)] {
            self.tables.six.locals.insert(address, gateway);
        }
    }

    /// Closes a network to itself.
    pub fn icc_off(&mut self, network: u32) {
        self.tables.networks.get_mut(&network).expect("a network").flags &= !Network::ICC;
    }

    /// Lets one endpoint open a port of another.
    pub fn link(&mut self, from: u32, to: u32, proto: u8, port: u16) {
        let key = LinkKey { from, to, proto, port: Port::new(port), pad: 0, reserved: 0 };
        self.tables.links.insert(key, 1);
        for index in [from, to] {
            self.tables.endpoints.get_mut(&veth(index)).expect("an endpoint").flags |=
                Endpoint::HAS_LINKS;
            let tables = &mut self.tables;
            let four = tables.four.neighbours.values_mut();
            for neighbour in four.chain(tables.six.neighbours.values_mut()) {
                if neighbour.endpoint == index {
                    neighbour.flags |= Endpoint::HAS_LINKS;
                }
            }
        }
    }

    /// Publishes ports in IPv6.
    pub fn publish6(&mut self, rule: u32, proto: u8, ports: (u16, u16, u16), endpoint: u32) {
        self.publish_in(service::WILDCARD_TABLE6, rule, proto, ports, endpoint);
        let address = self.tables.endpoints[&veth(endpoint)].ip6.to_any();
        let rule = self.tables.rules.get_mut(&rule).expect("the rule");
        (rule.flags, rule.address) = (Rule::IPV6, address);
    }

    /// Publishes `count` ports from `host` on, at `container` on, of an endpoint.
    pub fn publish(&mut self, rule: u32, proto: u8, ports: (u16, u16, u16), endpoint: u32) {
        self.publish_in(service::WILDCARD_TABLE, rule, proto, ports, endpoint);
    }

    fn publish_in(
        &mut self,
        table: u32,
        rule: u32,
        proto: u8,
        (host, container, count): (u16, u16, u16),
        endpoint: u32,
    ) {
        let to = self.tables.endpoints[&veth(endpoint)];
        self.tables.rules.insert(
            rule,
            Rule {
                host_base: host,
                container_base: container,
                count,
                proto,
                network: to.network,
                endpoint,
                generation: to.generation,
                address: to.ip4.to_any(),
                ..Rule::default()
            },
        );
        for port in host..host + count {
            let slot = service::slot(proto, Port::new(port)).expect("a protocol with ports");
            self.tables.ports.insert((table, slot), rule);
        }
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

fn network_of(gateway: &str) -> Ip4 {
    let [a, b, ..] = ip(gateway).octets();
    Ip4::new([a, b, 0, 0])
}

/// The frame, addressed to a station of the container's network by way of the gateway.
pub fn routed(frame: Frame, gateway: &str) -> Frame {
    frame.to_mac(mac(gateway))
}

/// Source address and port, destination address and port.
pub type Tuple = ((Ipv4Addr, u16), (Ipv4Addr, u16));

/// The tuple of an IPv4 packet that starts at `at`.
pub fn tuple(bytes: &[u8], at: usize) -> Tuple {
    let address =
        |from: usize| Ipv4Addr::new(bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]);
    let word = |from: usize| u16::from_be_bytes([bytes[from], bytes[from + 1]]);
    let l4 = at + usize::from(bytes[at] & 0x0f) * 4;
    let (src, dst) = match bytes[at + 9] {
        // An echo's identifier stands for both.
        proto::ICMP => (word(l4 + 4), word(l4 + 4)),
        _ => (word(l4), word(l4 + 2)),
    };
    ((address(at + 12), src), (address(at + 16), dst))
}

/// Computes every checksum of a frame from scratch.
pub fn assert_checksums(bytes: &[u8]) {
    if bytes[12..14] == [0x86, 0xdd] {
        return assert_checksums6(bytes);
    }
    let header = usize::from(bytes[14] & 0x0f) * 4;
    assert_eq!(
        checksum::fold(checksum::sum(&bytes[14..14 + header])),
        0xffff,
        "IP header checksum"
    );
    let fragment = u16::from_be_bytes([bytes[20], bytes[21]]) & 0x3fff;
    if fragment != 0 {
        return;
    }
    let segment = &bytes[14 + header..];
    let pseudo = |proto: u8| {
        let mut all = bytes[26..34].to_vec();
        all.extend([0, proto]);
        all.extend((segment.len() as u16).to_be_bytes());
        all.extend(segment);
        checksum::fold(checksum::sum(&all))
    };
    match bytes[23] {
        proto::ICMP => {
            assert_eq!(checksum::fold(checksum::sum(segment)), 0xffff, "ICMP checksum");
        }
        proto::UDP if segment[6..8] == [0, 0] => {}
        proto @ (proto::TCP | proto::UDP) => {
            assert_eq!(pseudo(proto), 0xffff, "transport checksum")
        }
        _ => {}
    }
}

/// The same for IPv6, of frames whose extension headers are of eight bytes each.
fn assert_checksums6(bytes: &[u8]) {
    let (mut at, mut next) = (54, bytes[20]);
    while matches!(
        next,
        proto::HOP_BY_HOP | proto::ROUTING | proto::FRAGMENT | proto::DESTINATION | proto::AH
    ) {
        if next == proto::FRAGMENT && u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]) != 0 {
            return;
        }
        next = bytes[at];
        at += 8;
    }
    if matches!(next, proto::TCP | proto::UDP | proto::ICMPV6) {
        let segment = &bytes[at..];
        let mut all = bytes[22..54].to_vec();
        all.extend((segment.len() as u32).to_be_bytes());
        all.extend([0, 0, 0, next]);
        all.extend(segment);
        assert_eq!(checksum::fold(checksum::sum(&all)), 0xffff, "transport checksum");
    }
}
