//! Both families of IP in words, for tests of what holds for both.

use std::net::Ipv6Addr;

use super::world::twin;
use crate::abi::service;

/// The IPv6 address that stands beside an IPv4 one everywhere in this world.
pub fn six(text: &str) -> Ipv6Addr {
    twin(text.parse().expect("an address"))
}

/// A family, for what holds for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Four,
    /// IPv6.
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
