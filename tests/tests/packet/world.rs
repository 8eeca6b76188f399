//! The world of the tests in memory, and its addresses in words of both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use bascule_common::testing::{
    families::{BOTH, Family, six},
    world::{
        C1, C2, C3, C4, C5, CONTAINERS, HOST, NETWORKS, ROUTER, ROUTER_MAC, UPLINK, UPLINK_MAC,
        WORLD, World, bridge, ip, ip6, veth as interface,
    },
};
use bascule_common::{
    abi::{Ip6, Mac},
    testing,
};

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
    testing::Frame::mac(Ipv4Addr::new(a, b, c, d))
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
