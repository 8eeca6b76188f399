//! What is kept while somebody watches connections or packets.

use super::{AnyIp, Port};

/// Bits of the tables' generation ([`super::names::map::TABLES_GENERATION`]) that say what goes on: while one is set,
/// packets go the whole walk, and keep nothing of what it finds.
pub mod watch {
    /// Somebody changes a table.
    pub const CHANGING: u32 = 1;
    /// Somebody watches connections: their packets are counted in `TRAFFIC4` and `TRAFFIC6`.
    pub const CONNECTIONS: u32 = 2;
    /// Somebody watches packets: those that a slot of `CHOSEN` names are told.
    pub const PACKETS: u32 = 4;
    /// All of them.
    pub const ALL: u32 = CHANGING | CONNECTIONS | PACKETS;
    /// What raises the generation, and leaves the bits alone.
    pub const STEP: u64 = 8;
}

/// Beside the TCP flags in [`Traffic::flags`]: a SYN without ACK.
pub const OPENED: u64 = 1 << 8;

/// What went one way of a connection. Value of `TRAFFIC4` and `TRAFFIC6`, by the tuple
/// ([`super::FlowKey`]) that the packets went on with.
///
/// The entry of the tuple of zeros counts the packets that had no room.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets; a GSO packet counts its segments.
    pub packets: u64,
    /// Bytes from the IP header on, as offloads leave them.
    pub bytes: u64,
    /// Monotonic clock of the first of them, in nanoseconds, in steps of a few milliseconds.
    pub first: u64,
    /// The same of the last.
    pub last: u64,
    /// Every TCP flag that was seen, and [`OPENED`].
    pub flags: u64,
}
const _: () = assert!(size_of::<Traffic>() == 40 && align_of::<Traffic>() == 8);

/// Whose packets are told. Map `CHOSEN`, an array; what is zero of it holds of every packet, and a slot of zeros
/// of none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Address of either end; IPv4 in the first four bytes.
    pub address: AnyIp,
    /// Endpoint that sends or receives.
    pub endpoint: u32,
    /// Port of either end.
    pub port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// 1 where the slot is taken.
    pub taken: u8,
}
const _: () = assert!(size_of::<Chosen>() == 24 && align_of::<Chosen>() == 4);

impl Chosen {
    /// Slots of `CHOSEN`.
    pub const SLOTS: u32 = 8;
}
