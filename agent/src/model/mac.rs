//! Ethernet addresses.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An Ethernet address of one station.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// Text that is not the Ethernet address of one station.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid MAC address {0:?}: six pairs of hex digits with colons are needed, and neither a group address nor zero"
)]
pub struct ParseMacError(String);

impl MacAddress {
    /// Derives the address that belongs to an IPv4 address: `02:42` and its four bytes.
    pub const fn derived(ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// Derives the address of a bridge without an IPv4 address from its network's id: other than those that
    /// are derived from addresses.
    pub fn of_bridge(network: &super::NetworkId) -> Self {
        let [a, b, c, d, ..] = network.bytes();
        Self([0x02, 0x62, a, b, c, d])
    }

    /// Takes six bytes, unless they are a group's address or zero.
    pub fn of(octets: [u8; 6]) -> Option<Self> {
        (octets[0] & 1 == 0 && octets != [0; 6]).then_some(Self(octets))
    }

    /// Returns the six bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let error = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() {
            return Err(error());
        }
        Self::of(bytes).ok_or_else(error)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s62_mac_is_derived_from_the_address() {
        assert_eq!(
            MacAddress::derived(Ipv4Addr::new(172, 17, 0, 3)).to_string(),
            "02:42:ac:11:00:03"
        );
        assert_eq!(
            MacAddress::derived(Ipv4Addr::new(172, 25, 3, 3)).to_string(),
            "02:42:ac:19:03:03"
        );
    }

    #[test]
    fn s65_a_given_mac_is_of_one_station() {
        assert!("02:42:ac:11:00:02".parse::<MacAddress>().is_ok());
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "+2:42:ac:11:00:0x",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
