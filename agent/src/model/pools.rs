//! Which subnet a network gets that names none: cut from pools, away from everything that is there.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::{Family, ipam};

/// Subnet of the default network, where it is free.
const DEFAULT: ([u8; 4], u8) = ([172, 17, 0, 0], 16);
/// Where the subnets of other networks come from, as /24 each: 5,632 of them.
const BUILT_IN: [([u8; 4], u8); 4] =
    [([172, 18, 0, 0], 15), ([172, 20, 0, 0], 14), ([172, 24, 0, 0], 13), ([10, 200, 0, 0], 13)];
const CHOSEN_PREFIX: u8 = 24;
const CHOSEN_PREFIX6: u8 = 64;
/// Routes with shorter prefixes are default routes in parts, as VPNs lay them (`0.0.0.0/1` and
/// `128.0.0.0/1`, `2000::/3`): they lead somewhere, but nobody lives there. `fc00::/7` is more than that.
const SHORTEST: (u8, u8) = (8, 7);

/// A block of addresses that subnets of one size are cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct AddressPool {
    base: IpNetwork,
    size: u8,
}

/// A pool as it is written in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    base: IpNetwork,
    size: u8,
}

/// A pool that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressPoolError {
    /// The text is something else.
    #[error("{0:?} is not a pool: write base=10.64.0.0/12,size=24")]
    Text(String),
    /// The base has bits behind its prefix.
    #[error("the base {0} of a pool should be {1}")]
    HostBits(IpNetwork, IpNetwork),
    /// No subnet of this size fits.
    #[error("subnets of a pool in {0} have a size from {1} to {2}, and not {3}")]
    Size(IpNetwork, u8, u8, u8),
}

impl AddressPool {
    /// Makes a pool of subnets with prefixes of `size` bits.
    pub fn new(base: IpNetwork, size: u8) -> Result<Self, AddressPoolError> {
        let network = IpNetwork::new(base.network(), base.prefix()).unwrap_or(base);
        let most = if base.is_ipv4() { 30 } else { 126 };
        if base != network {
            Err(AddressPoolError::HostBits(base, network))
        } else if base.prefix() == 0 || !(base.prefix()..=most).contains(&size) {
            Err(AddressPoolError::Size(base, base.prefix().max(1), most, size))
        } else {
            Ok(Self { base, size })
        }
    }

    /// Returns all of its addresses.
    pub const fn base(&self) -> IpNetwork {
        self.base
    }

    /// Returns the length of its subnets' prefixes.
    pub const fn size(&self) -> u8 {
        self.size
    }

    const fn built_in((base, prefix): ([u8; 4], u8), size: u8) -> Option<Self> {
        let [a, b, c, d] = base;
        match Ipv4Network::new_checked(Ipv4Addr::new(a, b, c, d), prefix) {
            Some(base) => Some(Self { base: IpNetwork::V4(base), size }),
            None => None,
        }
    }

    /// Returns the lowest subnet with a prefix of `size` bits that has nothing in common with what is
    /// taken, which is in order.
    fn first_free(&self, size: u8, taken: &[(u128, u128)]) -> Option<IpNetwork> {
        let (mut first, last) = ipam::ends(self.base);
        let bits: u8 = if self.base.is_ipv4() { 32 } else { 128 };
        let length = 1_u128.checked_shl(u32::from(bits.checked_sub(size)?))?;
        for &(from, to) in taken {
            if from > first.checked_add(length - 1)? {
                break;
            }
            if to >= first {
                // The next multiple behind it.
                first = to.checked_add(1)?.checked_next_multiple_of(length)?;
            }
        }
        (first.checked_add(length - 1)? <= last)
            .then(|| IpNetwork::new(ipam::address(self.base, first), size).ok())
            .flatten()
    }
}

impl TryFrom<Written> for AddressPool {
    type Error = AddressPoolError;
    fn try_from(Written { base, size }: Written) -> Result<Self, AddressPoolError> {
        Self::new(base, size)
    }
}

impl FromStr for AddressPool {
    type Err = AddressPoolError;
    fn from_str(text: &str) -> Result<Self, AddressPoolError> {
        let invalid = || AddressPoolError::Text(text.to_owned());
        let (mut base, mut size) = (None, None);
        for part in text.split(',') {
            match part.trim().split_once('=').ok_or_else(invalid)? {
                ("base", value) => base = Some(value.parse().map_err(|_| invalid())?),
                ("size", value) => size = Some(value.parse().map_err(|_| invalid())?),
                _ => return Err(invalid()),
            }
        }
        Self::new(base.ok_or_else(invalid)?, size.ok_or_else(invalid)?)
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base={},size={}", self.base, self.size)
    }
}

/// Where subnets come from that nobody names, and what they keep away from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPools {
    /// The operator's pools, in order; none leaves the built-in ones of their family.
    pub pools: Vec<AddressPool>,
    /// What is chosen by no means: parts of the site that this host does not see.
    pub exclude: Vec<IpNetwork>,
}

impl AddressPools {
    /// Returns whether the operator has said where subnets of a family come from.
    pub fn configured(&self, family: Family) -> bool {
        self.pools.iter().any(|pool| Family::of(pool.base.ip()) == family)
    }

    /// Chooses the lowest free subnet: of this size, or of the pool's own.
    ///
    /// `unique_local` is the prefix that IPv6 subnets come from where no pool has any.
    pub fn choose(
        &self,
        family: Family,
        size: Option<u8>,
        taken: &[IpNetwork],
        unique_local: Option<Ipv6Network>,
    ) -> Option<IpNetwork> {
        let own = self.pools.iter().copied().filter(|p| Family::of(p.base.ip()) == family);
        let own: Vec<_> = match family {
            _ if self.configured(family) => own.collect(),
            Family::V4 => {
                BUILT_IN.iter().filter_map(|p| AddressPool::built_in(*p, CHOSEN_PREFIX)).collect()
            }
            Family::V6 => {
                let base = unique_local.map(IpNetwork::V6);
                base.map(|base| AddressPool { base, size: CHOSEN_PREFIX6 }).into_iter().collect()
            }
        };
        self.first(own, size, taken)
    }

    /// Chooses the IPv4 subnet of the default network.
    pub fn choose_default(&self, taken: &[IpNetwork]) -> Option<IpNetwork> {
        let docker0 = AddressPool::built_in(DEFAULT, DEFAULT.1);
        docker0
            .filter(|_| !self.configured(Family::V4))
            .and_then(|pool| self.first(vec![pool], None, taken))
            .or_else(|| self.choose(Family::V4, None, taken, None))
    }

    fn first(
        &self,
        pools: Vec<AddressPool>,
        size: Option<u8>,
        taken: &[IpNetwork],
    ) -> Option<IpNetwork> {
        pools.into_iter().find_map(|pool| {
            let all = taken.iter().chain(&self.exclude);
            let same = all.filter(|t| t.is_ipv4() == pool.base.is_ipv4());
            let mut taken: Vec<_> = same.map(|t| ipam::ends(*t)).collect();
            taken.sort_unstable();
            let size = size.unwrap_or(pool.size);
            // A subnet larger than the block would reach out of it.
            if size < pool.base.prefix() { None } else { pool.first_free(size, &taken) }
        })
    }
}

/// Tells whether a route is a default route, or a part of one.
pub fn leads_anywhere(destination: IpNetwork) -> bool {
    let shortest = if destination.is_ipv4() { SHORTEST.0 } else { SHORTEST.1 };
    destination.prefix() < shortest
}

/// Returns the block of private addresses (RFC 1918) that has all of a subnet.
pub fn private_block(subnet: IpNetwork) -> Option<IpNetwork> {
    [([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16)]
        .into_iter()
        .filter_map(|(base, prefix)| Ipv4Network::new(Ipv4Addr::from(base), prefix).ok())
        .map(IpNetwork::V4)
        .find(|block| block.contains(subnet.ip()) && block.prefix() <= subnet.prefix())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn choose(pools: &[&str], size: Option<u8>, taken: &[&str]) -> Option<String> {
        let pools = pools.iter().map(|p| p.parse().unwrap()).collect();
        let taken: Vec<_> = taken.iter().map(|t| net(t)).collect();
        AddressPools { pools, exclude: Vec::new() }
            .choose(Family::V4, size, &taken, None)
            .map(|subnet| subnet.to_string())
    }

    #[test]
    fn s42_s56_chosen_subnets_keep_away_from_what_is_there() {
        let default = |taken: &[&str]| {
            let taken: Vec<_> = taken.iter().map(|t| net(t)).collect();
            AddressPools::default().choose_default(&taken).map(|s| s.to_string())
        };
        assert_eq!(default(&[]).as_deref(), Some("172.17.0.0/16"));
        assert_eq!(default(&["172.17.42.0/24"]).as_deref(), Some("172.18.0.0/24"));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(choose(&[], None, &["172.18.0.0/24", "172.18.1.128/25"]), some("172.18.2.0/24"));
        assert_eq!(choose(&[], None, &["172.16.0.0/12"]), some("10.200.0.0/24"));
        assert_eq!(choose(&[], None, &["0.0.0.0/0"]), None);
        let exclude = vec![net("172.18.0.0/15"), net("172.20.0.0/14")];
        let pools = AddressPools { exclude, pools: Vec::new() };
        assert_eq!(pools.choose(Family::V4, None, &[], None), Some(net("172.24.0.0/24")), "N25");
    }

    #[test]
    fn moby_ipam_006_the_first_free_block_in_order_and_holes_are_used() {
        let pools = ["base=10.0.0.0/8,size=8", "base=192.168.0.0/16,size=24"];
        let some = |text: &str| Some(text.to_owned());
        let taken = ["10.0.0.0/8", "192.168.128.0/24"];
        assert_eq!(choose(&pools, None, &taken), some("192.168.0.0/24"));
        let taken = ["10.3.0.0/16", "192.168.0.0/24", "192.168.2.0/24"];
        assert_eq!(choose(&pools, None, &taken), some("192.168.1.0/24"));
        let taken = ["10.3.0.0/16", "192.168.0.0/23", "192.168.2.7/32", "192.168.3.128/25"];
        assert_eq!(choose(&pools, None, &taken), some("192.168.4.0/24"));
    }

    #[test]
    fn moby_ipam_008_pools_are_exhausted_by_parts_as_well() {
        let pools = ["base=172.16.0.0/15,size=16"];
        assert_eq!(choose(&pools, None, &["172.16.0.0/16", "172.17.0.0/17"]), None);
        assert_eq!(choose(&pools, None, &["172.16.0.0/16"]), Some("172.17.0.0/16".into()));
        // The end of all addresses is no place to go on from.
        let pools = ["base=255.255.255.0/24,size=25"];
        assert_eq!(choose(&pools, None, &["255.255.255.0/24"]), None);
    }

    #[test]
    fn p31_a_size_is_cut_from_the_first_pool_that_is_large_enough() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(choose(&[], Some(28), &["172.18.0.0/28"]), some("172.18.0.16/28"));
        assert_eq!(choose(&[], Some(14), &[]), some("172.20.0.0/14"));
        assert_eq!(choose(&[], Some(8), &[]), None);
    }

    #[test]
    fn n24_p30_there_is_no_wall_at_31_networks() {
        let pools = AddressPools::default();
        let mut taken = vec![net("172.17.0.0/16")];
        for _ in 0..4_095 {
            let chosen = pools.choose(Family::V4, None, &taken, None).unwrap();
            assert_eq!(chosen.prefix(), 24);
            taken.push(chosen);
        }
    }

    #[test]
    fn p32_ipv6_subnets_come_from_one_unique_local_prefix_or_from_pools() {
        let ula = ipam::prefix48(ipam::unique_local([7; 32]));
        let choose = |pools: &AddressPools, taken: &[&str]| {
            let taken: Vec<_> = taken.iter().map(|t| net(t)).collect();
            pools.choose(Family::V6, None, &taken, ula).map(|s| s.to_string())
        };
        let pools = AddressPools::default();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(choose(&pools, &[]), some("fd07:707:707::/64"));
        let taken = ["fd07:707:707::/64", "fd07:707:707:1:8000::/65"];
        assert_eq!(choose(&pools, &taken), some("fd07:707:707:2::/64"));
        assert_eq!(choose(&pools, &["fc00::/7"]), None);
        let pools = vec!["base=2001:db8::/32,size=56".parse().unwrap()];
        let pools = AddressPools { pools, ..AddressPools::default() };
        assert_eq!(choose(&pools, &["2001:db8::1/128"]), some("2001:db8:0:100::/56"));
    }

    #[test]
    fn p30_pools_are_read_as_docker_writes_them() {
        let read = |text: &str| text.parse::<AddressPool>();
        let pool = read("base=175.33.0.0/16,size=24").unwrap();
        assert_eq!((pool.base(), pool.size()), (net("175.33.0.0/16"), 24));
        assert_eq!(pool.to_string().parse(), Ok(pool));
        for (bad, why) in [
            ("10.0.0.0/8", "is not a pool"),
            ("base=10.0.0.0/8", "is not a pool"),
            ("base=10.0.0.0/8,size=x", "is not a pool"),
            ("base=10.0.0.0/8,size=24,scope=local", "is not a pool"),
            ("base=10.1.0.0/8,size=24", "should be 10.0.0.0/8"),
            ("base=10.0.0.0/8,size=7", "from 8 to 30, and not 7"),
            ("base=10.0.0.0/8,size=32", "from 8 to 30, and not 32"),
            ("base=2001:db8::/32,size=127", "from 32 to 126"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn n25_p38_routes_of_a_vpn_that_takes_all_are_no_networks() {
        for anywhere in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/2", "::/0", "2000::/3"]
        {
            assert!(leads_anywhere(net(anywhere)), "{anywhere}");
        }
        for somewhere in ["10.0.0.0/8", "172.16.0.0/12", "fc00::/7", "2001:db8::/32"] {
            assert!(!leads_anywhere(net(somewhere)), "{somewhere}");
        }
    }

    #[test]
    fn s44_private_blocks_are_those_of_rfc_1918() {
        assert_eq!(private_block(net("172.18.3.0/24")), Some(net("172.16.0.0/12")));
        assert_eq!(private_block(net("10.0.0.0/8")), Some(net("10.0.0.0/8")));
        assert_eq!(private_block(net("172.0.0.0/8")), None);
        assert_eq!(private_block(net("203.0.113.0/24")), None);
        assert_eq!(private_block(net("fd00::/64")), None);
    }

    proptest! {
        #[test]
        fn moby_ipam_010_what_is_chosen_is_apart_and_the_lowest(
            taken in prop::collection::vec((any::<u16>(), 20_u8..=28), 0..40)
        ) {
            let pool = AddressPool::new(net("10.0.0.0/16"), 24).unwrap();
            let taken: Vec<_> = taken
                .into_iter()
                .map(|(n, prefix)| {
                    let ip = Ipv4Addr::from(u32::from_be_bytes([10, 0, 0, 0]) + u32::from(n));
                    IpNetwork::new(ip.into(), prefix).unwrap()
                })
                .collect();
            let free = |subnet: &IpNetwork| !taken.iter().any(|t| ipam::overlap(*t, *subnet));
            let mut all = (0..=255).map(|n| net(&format!("10.0.{n}.0/24")));
            let pools = AddressPools { pools: vec![pool], exclude: Vec::new() };
            prop_assert_eq!(pools.choose(Family::V4, None, &taken, None), all.find(free));
        }
    }
}
