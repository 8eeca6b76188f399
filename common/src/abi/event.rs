//! Records of the ring buffer `EVENTS`.

use super::Port;

/// A packet that was dropped, or went on and was chosen to be told.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Monotonic clock, in nanoseconds.
    pub time: u64,
    /// Endpoint that a drop is counted for, or that a packet comes from or is for; 0 for none.
    pub endpoint: u32,
    /// Interface that the program is attached to.
    pub ifindex: u32,
    /// Length of the frame, in bytes.
    pub length: u32,
    /// A [`super::DropReason`], or [`SENT_ON`] or [`TO_KERNEL`].
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
    /// Bytes of the frame that the record carries.
    pub captured: u32,
}
const _: () = assert!(size_of::<Event>() == 64 && align_of::<Event>() == 8);

/// In the place of a reason: the packet went where it shall.
pub const SENT_ON: u8 = 240;
/// In the place of a reason: the packet was left to the kernel.
pub const TO_KERNEL: u8 = 241;

/// Bytes of a frame that a record has room for: every header, and where the payload begins.
pub const SNAP: usize = 128;

/// A record: a packet, and the beginning of its frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What became of it.
    pub event: Event,
    /// The frame's first [`Event::captured`] bytes; what is behind them means nothing.
    pub frame: [u8; SNAP],
}
const _: () = assert!(size_of::<Record>() == 192 && align_of::<Record>() == 8);
