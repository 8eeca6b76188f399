//! Which address, which port: choices that never give out at once what was just given back.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::{IpNetwork, Ipv6Network};

use super::{MacAddress, PortRange};

/// A longer prefix leaves no room for an Ethernet address behind it.
const WITH_MAC: u8 = 80;

/// Tells whether two networks have an address in common.
pub fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

/// Makes a unique local prefix of 48 bits (RFC 4193) from random bytes, as a number.
pub fn unique_local([a, b, c, d, e, ..]: [u8; 32]) -> u64 {
    u64::from_be_bytes([0, 0, 0xfd, a, b, c, d, e])
}

/// Returns the prefix of 48 bits with this number.
pub fn prefix48(number: u64) -> Option<Ipv6Network> {
    Ipv6Network::new(Ipv6Addr::from(u128::from(number) << 80), 48).ok()
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Returns the first and the last address of a network, as numbers.
pub fn ends(network: IpNetwork) -> (u128, u128) {
    (number(network.network()), number(network.broadcast()))
}

/// Returns the address of the subnet's family with this number.
pub fn address(subnet: IpNetwork, number: u128) -> IpAddr {
    match subnet {
        IpNetwork::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpNetwork::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// Returns the first address of a subnet that a station can have.
pub fn first(subnet: IpNetwork) -> IpAddr {
    let network = number(subnet.network());
    // Of two addresses, or one, none is the network's.
    let small = subnet.prefix() >= if subnet.is_ipv4() { 31 } else { 127 };
    address(subnet, if small { network } else { network.saturating_add(1) })
}

/// Tells whether an address is the network's own or its broadcast.
pub fn is_edge(subnet: IpNetwork, address: IpAddr) -> bool {
    match subnet {
        IpNetwork::V4(subnet) if subnet.prefix() < 31 => {
            address == subnet.network() || address == subnet.broadcast()
        }
        // The first one is every router's (RFC 4291, 2.6.1).
        IpNetwork::V6(subnet) if subnet.prefix() < 127 => address == subnet.network(),
        _ => false,
    }
}

/// Chooses the free address after the one that was given out last, round and round.
pub fn next_address(
    range: IpNetwork,
    subnet: IpNetwork,
    last: Option<IpAddr>,
    used: &BTreeSet<IpAddr>,
) -> Option<IpAddr> {
    let (first, end) = ends(range);
    let start = match last.map(number) {
        Some(last) if (first..end).contains(&last) => last + 1,
        _ => first,
    };
    // However large a subnet is, the search ends after as many steps as there are addresses in use.
    (start..=end)
        .chain(first..start)
        .map(|number| address(subnet, number))
        .find(|&address| !is_edge(subnet, address) && !used.contains(&address))
}

/// Derives an IPv6 address that ends with an Ethernet address, where the range has room for it and nobody
/// has it: the same container keeps it, and neighbours need not learn anew.
pub fn derived_address(
    range: IpNetwork,
    mac: MacAddress,
    used: &BTreeSet<IpAddr>,
) -> Option<IpAddr> {
    let IpNetwork::V6(range) = range else { return None };
    let [a, b, c, d, e, f] = mac.octets();
    let suffix = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let address = Ipv6Addr::from(u128::from(range.network()) | u128::from(suffix)).into();
    (range.prefix() <= WITH_MAC && !used.contains(&address)).then_some(address)
}

/// Returns how many addresses a network has, as far as the number goes.
pub fn size(network: IpNetwork) -> u128 {
    let (first, last) = ends(network);
    (last - first).saturating_add(1)
}

/// Chooses `count` free ports of a range, in a row after the one that was given out last, round and round.
pub fn next_ports(
    of: PortRange,
    count: u16,
    last: Option<u16>,
    is_free: impl Fn(PortRange) -> bool,
) -> Option<PortRange> {
    let (first, end) = (of.first(), of.last());
    let start = last.filter(|l| (first..end).contains(l)).map_or(first, |l| l + 1);
    (start..=end)
        .chain(first..start)
        .filter_map(|port| PortRange::new(port, count))
        .find(|&range| range.last() <= end && is_free(range))
}

#[cfg(test)]
mod tests {
    use ipnetwork::Ipv4Network;
    use proptest::prelude::*;

    use super::*;
    use crate::model::PublishRange;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn s55_addresses_follow_one_another() {
        let subnet = net("172.25.0.0/24");
        let used =
            |list: &[[u8; 4]]| list.iter().map(|&a| IpAddr::from(a)).collect::<BTreeSet<_>>();
        let gateway = [172, 25, 0, 1];
        assert_eq!(
            next_address(subnet, subnet, None, &used(&[gateway])),
            Some([172, 25, 0, 2].into())
        );
        let last = Some([172, 25, 0, 2].into());
        assert_eq!(
            next_address(subnet, subnet, last, &used(&[gateway])),
            Some([172, 25, 0, 3].into())
        );
        let last = Some([172, 25, 0, 254].into());
        assert_eq!(
            next_address(subnet, subnet, last, &used(&[gateway])),
            Some([172, 25, 0, 2].into())
        );
    }

    #[test]
    fn a_full_subnet_gives_nothing() {
        let subnet = net("10.0.0.0/30");
        let used = [1, 2].map(|n| IpAddr::from([10, 0, 0, n])).into();
        assert_eq!(next_address(subnet, subnet, None, &used), None);
    }

    #[test]
    fn s169_an_ipv6_address_ends_with_the_ethernet_address() {
        let mac = "02:42:ac:11:00:03".parse().unwrap();
        let derived = |range: &str, used: &[&str]| {
            let used = used.iter().map(|a| a.parse().unwrap()).collect();
            derived_address(net(range), mac, &used).map(|a| a.to_string())
        };
        assert_eq!(derived("2001:db8:1::/64", &[]), Some("2001:db8:1::242:ac11:3".into()));
        assert_eq!(derived("2001:db8:1::/80", &[]), Some("2001:db8:1::242:ac11:3".into()));
        // S170: a longer prefix has no room for it.
        assert_eq!(derived("2001:db8:1::/81", &[]), None);
        assert_eq!(derived("2001:db8:1::/64", &["2001:db8:1::242:ac11:3"]), None);
    }

    #[test]
    fn addresses_of_large_ipv6_subnets_are_found_without_walking_them() {
        let used = ["2001:db8::1", "2001:db8::2"].map(|a| a.parse().unwrap()).into();
        let next = |range: &str, last: Option<&str>| {
            let last = last.map(|a| a.parse().unwrap());
            next_address(net(range), net("2001:db8::/32"), last, &used).map(|a| a.to_string())
        };
        assert_eq!(next("2001:db8::/32", None), Some("2001:db8::3".into()));
        let end = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(next("2001:db8::/32", Some(end)), Some("2001:db8::3".into()));
        // IPAM-019: the last two addresses of a subnet are addresses like others.
        let end = "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe";
        assert_eq!(next(&format!("{end}/127"), None), Some(end.into()));
        assert_eq!(size(net("2001:db8::/32")), 1 << 96);
        assert_eq!(size(net("::/0")), u128::MAX);
        assert_eq!(size(net("10.0.0.0/8")), 1 << 24);
    }

    #[test]
    fn moby_icc_033_both_addresses_of_a_point_to_point_subnet_are_stations() {
        let subnet = net("192.168.135.0/31");
        let one = next_address(subnet, subnet, None, &BTreeSet::new());
        assert_eq!(one, Some([192, 168, 135, 0].into()));
        let two = next_address(subnet, subnet, one, &one.into_iter().collect());
        assert_eq!(two, Some([192, 168, 135, 1].into()));
    }

    #[test]
    fn s112_dynamic_ports_lie_in_their_range() {
        let of = PublishRange::default().or(None);
        assert_eq!(next_ports(of, 1, None, |_| true), PortRange::new(49_153, 1));
        assert_eq!(next_ports(of, 10, Some(65_530), |_| true), PortRange::new(49_153, 10));
        assert_eq!(next_ports(of, 1, Some(49_153), |_| true), PortRange::new(49_154, 1));
        assert_eq!(next_ports(of, 1, None, |_| false), None);
        let few = PortRange::new(8000, 2).unwrap();
        assert_eq!(next_ports(few, 1, Some(49_153), |_| true), PortRange::new(8000, 1));
        assert_eq!(next_ports(few, 3, None, |_| true), None);
    }

    proptest! {
        #[test]
        fn an_address_that_is_given_out_is_free_and_inside(base: u32, prefix in 8_u8..=30, seed: [u32; 8], last: Option<u32>) {
            let subnet = Ipv4Network::new(Ipv4Addr::from(base), prefix).unwrap();
            let subnet = Ipv4Network::new(subnet.network(), prefix).unwrap();
            let used = seed.iter().map(|s| Ipv4Addr::from(u32::from(subnet.network()).wrapping_add(s % 16)).into()).collect();
            let subnet = IpNetwork::V4(subnet);
            let last = last.map(|last| Ipv4Addr::from(last).into());
            if let Some(address) = next_address(subnet, subnet, last, &used) {
                prop_assert!(subnet.contains(address) && !used.contains(&address) && !is_edge(subnet, address));
            }
        }
    }
}
