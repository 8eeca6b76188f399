//! Published ports.
//!
//! `PORTS` is an array of tables, each an array of [`SLOTS`] slots: one read finds the rule of a
//! published port however many there are. Table [`WILDCARD_TABLE`] holds what is published on every
//! address; an address that a binding names has a table of its own, with the wildcard's rules merged
//! in. Table [`ANY_TABLE`] holds every port published on any address, for the reservation on the host. IPv6 has
//! tables of its own.

use super::{AnyIp, Port};

/// Slots of a table: 65,536 ports of TCP, then those of UDP.
pub const SLOTS: u32 = 2 * 65_536;
/// Index of the table of ports published on every IPv4 address of the host.
pub const WILDCARD_TABLE: u32 = 0;
/// Index of the table of ports published on any IPv4 address.
pub const ANY_TABLE: u32 = 1;
/// Index of the table of ports published on every IPv6 address of the host.
pub const WILDCARD_TABLE6: u32 = 2;
/// Index of the table of ports published on any IPv6 address.
pub const ANY_TABLE6: u32 = 3;
/// Index of the first table of a single address.
pub const FIRST_OWN_TABLE: u32 = 4;
/// Number of tables.
pub const TABLES: u32 = 64;

/// The slot of a port in its table, or none for a protocol that is not published.
#[inline(always)]
pub const fn slot(proto: u8, port: Port) -> Option<u32> {
    match proto {
        6 => Some(port.number() as u32),
        17 => Some(65_536 + port.number() as u32),
        _ => None,
    }
}

/// One slot of a port table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSlot {
    /// Index in `RULES`; 0 is an empty slot.
    pub rule: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<PortSlot>() == 8);

/// A published range of ports. Map `RULES` (array by rule index; index 0 is never used).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// First port on the host, in host byte order.
    pub host_base: u16,
    /// First port in the container, in host byte order.
    pub container_base: u16,
    /// Number of ports.
    pub count: u16,
    /// IP protocol number; 0 marks an empty slot.
    pub proto: u8,
    /// [`Rule::IPV6`], [`Rule::EVERYWHERE`], [`Rule::HELD`].
    pub flags: u8,
    /// Index of the network.
    pub network: u32,
    /// Index of the endpoint.
    pub endpoint: u32,
    /// Generation of that endpoint.
    pub generation: u32,
    /// The container's address.
    pub address: AnyIp,
    /// The host address it is bound to; unspecified is every one of the family.
    pub host: AnyIp,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Rule>() == 56 && align_of::<Rule>() == 4);

impl Rule {
    /// The addresses are IPv6.
    pub const IPV6: u8 = 1;
    /// The mapping names no address of the host: where the container has no IPv6, `::1` leads there as well.
    pub const EVERYWHERE: u8 = 2;
    /// Docker's daemon holds the ports by sockets of its own, and takes them again when it is started.
    pub const HELD: u8 = 4;

    /// The container's port for a port of the host that the rule covers.
    #[inline(always)]
    pub const fn container_port(&self, host_port: Port) -> Port {
        Port::new(self.container_base.wrapping_add(host_port.number().wrapping_sub(self.host_base)))
    }

    /// The host's port for a port of the container that the rule covers.
    #[inline(always)]
    pub const fn host_port(&self, container_port: Port) -> Port {
        let offset = container_port.number().wrapping_sub(self.container_base);
        Port::new(self.host_base.wrapping_add(offset))
    }

    /// Whether the rule covers this port of the host.
    #[inline(always)]
    pub const fn covers(&self, host_port: Port) -> bool {
        host_port.number().wrapping_sub(self.host_base) < self.count
    }
}

/// Key of `SERVED`, a longest-prefix table: which rule publishes a port of a container. A range is some
/// prefixes, each of [`ServedKey::FIXED_BITS`] and the common bits of its ports.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServedKey {
    /// Index of the endpoint, in network byte order.
    pub endpoint: u32,
    /// IP protocol number.
    pub proto: u8,
    /// [`Rule::IPV6`], or 0.
    pub family: u8,
    /// The container's port.
    pub port: Port,
}
const _: () = assert!(size_of::<ServedKey>() == 8);

impl ServedKey {
    /// Bits in front of the port.
    pub const FIXED_BITS: u32 = 48;
}
