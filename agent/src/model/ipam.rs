//! Which subnet, which address, which port: choices that never give out at once what was just given back.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnetwork::Ipv4Network;

use super::PortRange;

/// Ports that are chosen where a mapping names none.
pub const DYNAMIC_PORTS: (u16, u16) = (49_153, 65_535);
/// Subnet of the default network, where it is free.
pub const DEFAULT_SUBNET: ([u8; 4], u8) = ([172, 17, 0, 0], 16);
/// Where the subnets of other networks come from, as /24 each.
const POOLS: [([u8; 4], u8); 4] =
    [([172, 18, 0, 0], 15), ([172, 20, 0, 0], 14), ([172, 24, 0, 0], 13), ([10, 200, 0, 0], 13)];
const CHOSEN_PREFIX: u8 = 24;

/// Tells whether two networks have an address in common.
pub fn overlap(a: Ipv4Network, b: Ipv4Network) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

/// Chooses the lowest free subnet; `taken` is everything that it must not touch.
pub fn choose_subnet(taken: &[Ipv4Network]) -> Option<Ipv4Network> {
    POOLS.into_iter().find_map(|(base, prefix)| {
        let base = u32::from(Ipv4Addr::from(base));
        let size = 1_u32 << (32 - CHOSEN_PREFIX);
        (0..1_u32 << (CHOSEN_PREFIX - prefix))
            .filter_map(|n| Ipv4Network::new(Ipv4Addr::from(base + n * size), CHOSEN_PREFIX).ok())
            .find(|candidate| !taken.iter().any(|&t| overlap(*candidate, t)))
    })
}

/// Chooses the subnet of the default network.
pub fn choose_default_subnet(taken: &[Ipv4Network]) -> Option<Ipv4Network> {
    let (base, prefix) = DEFAULT_SUBNET;
    Ipv4Network::new(base.into(), prefix)
        .ok()
        .filter(|subnet| !taken.iter().any(|&t| overlap(*subnet, t)))
        .or_else(|| choose_subnet(taken))
}

/// Tells whether an address is the network's own or its broadcast.
pub fn is_edge(subnet: Ipv4Network, address: Ipv4Addr) -> bool {
    address == subnet.network() || address == subnet.broadcast()
}

/// Chooses the free address after the one that was given out last, round and round.
pub fn next_address(
    range: Ipv4Network,
    subnet: Ipv4Network,
    last: Option<Ipv4Addr>,
    used: &BTreeSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let (first, end) = (u32::from(range.network()), u32::from(range.broadcast()));
    let start = match last.map(u32::from) {
        Some(last) if (first..end).contains(&last) => last + 1,
        _ => first,
    };
    (start..=end)
        .chain(first..start)
        .map(Ipv4Addr::from)
        .find(|&address| !is_edge(subnet, address) && !used.contains(&address))
}

/// Chooses `count` free ports in a row after the one that was given out last, round and round.
pub fn next_ports(
    count: u16,
    last: Option<u16>,
    is_free: impl Fn(PortRange) -> bool,
) -> Option<PortRange> {
    let (first, end) = DYNAMIC_PORTS;
    let start = last.filter(|l| (first..end).contains(l)).map_or(first, |l| l + 1);
    (start..=end)
        .chain(first..start)
        .filter_map(|port| PortRange::new(port, count))
        .find(|&range| range.last() <= end && is_free(range))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Network {
        text.parse().unwrap()
    }

    #[test]
    fn s42_chosen_subnets_keep_away_from_what_is_there() {
        assert_eq!(choose_default_subnet(&[]), Some(net("172.17.0.0/16")));
        assert_eq!(choose_default_subnet(&[net("172.17.42.0/24")]), Some(net("172.18.0.0/24")));
        assert_eq!(
            choose_subnet(&[net("172.18.0.0/24"), net("172.18.1.128/25")]),
            Some(net("172.18.2.0/24"))
        );
        assert_eq!(choose_subnet(&[net("172.16.0.0/12")]), Some(net("10.200.0.0/24")));
        assert_eq!(choose_subnet(&[net("0.0.0.0/0")]), None);
    }

    #[test]
    fn s55_addresses_follow_one_another() {
        let subnet = net("172.25.0.0/24");
        let used =
            |list: &[[u8; 4]]| list.iter().map(|&a| Ipv4Addr::from(a)).collect::<BTreeSet<_>>();
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
        let used = [1, 2].map(|n| Ipv4Addr::new(10, 0, 0, n)).into();
        assert_eq!(next_address(subnet, subnet, None, &used), None);
    }

    #[test]
    fn s112_dynamic_ports_lie_in_their_range() {
        assert_eq!(next_ports(1, None, |_| true), PortRange::new(49_153, 1));
        assert_eq!(next_ports(10, Some(65_530), |_| true), PortRange::new(49_153, 10));
        assert_eq!(next_ports(1, Some(49_153), |_| true), PortRange::new(49_154, 1));
        assert_eq!(next_ports(1, None, |_| false), None);
    }

    proptest! {
        #[test]
        fn an_address_that_is_given_out_is_free_and_inside(base: u32, prefix in 8_u8..=30, seed: [u32; 8], last: Option<u32>) {
            let subnet = Ipv4Network::new(Ipv4Addr::from(base), prefix).unwrap();
            let subnet = Ipv4Network::new(subnet.network(), prefix).unwrap();
            let used = seed.iter().map(|s| Ipv4Addr::from(u32::from(subnet.network()).wrapping_add(s % 16))).collect();
            if let Some(address) = next_address(subnet, subnet, last.map(Ipv4Addr::from), &used) {
                prop_assert!(subnet.contains(address) && !used.contains(&address) && !is_edge(subnet, address));
            }
        }
    }
}
