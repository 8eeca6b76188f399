//! Records of the ring buffer `EVENTS`.

use super::Port;

/// A dropped packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Monotonic clock, in nanoseconds.
    pub time: u64,
    /// Endpoint that the drop is counted for; 0 for none.
    pub endpoint: u32,
    /// Interface that the program is attached to.
    pub ifindex: u32,
    /// Length of the frame, in bytes.
    pub length: u32,
    /// A [`super::DropReason`].
    pub reason: u8,
    /// A [`super::Direction`].
    pub direction: u8,
    /// IP protocol number, or 0.
    pub proto: u8,
    /// 4, 6, or 0 where the frame is not IP.
    pub family: u8,
    /// Source address; an IPv4 address in the first four bytes.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Source port.
    pub src_port: Port,
    /// Destination port.
    pub dst_port: Port,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Event>() == 64 && align_of::<Event>() == 8);
