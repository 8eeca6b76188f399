//! A frame in a vector.

use crate::{
    io::{Checksum, Packet},
    wire::{Wire, checksum},
};

/// A frame with what the kernel would say of it.
#[derive(Clone, Debug)]
pub struct FramePacket {
    /// The bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Interface that the program is attached to.
    pub interface: u32,
    /// Interface that the frame came in by; 0 for one made by the host.
    pub arrived_by: u32,
    /// Segments that it stands for.
    pub segments: u32,
    /// Payload of each segment; 0 for an ordinary frame.
    pub segment_size: u32,
    /// Carries a VLAN tag beside the bytes.
    pub tagged: bool,
    /// Addressed to the host's Ethernet address.
    pub for_host: bool,
}

impl FramePacket {
    /// An ordinary frame on an interface.
    pub fn new(bytes: Vec<u8>, interface: u32) -> Self {
        Self {
            bytes,
            interface,
            arrived_by: interface,
            segments: 1,
            segment_size: 0,
            tagged: false,
            for_host: true,
        }
    }
}

impl Packet for FramePacket {
    fn length(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn segments(&self) -> u32 {
        self.segments
    }

    fn segment_size(&self) -> u32 {
        self.segment_size
    }

    fn interface(&self) -> u32 {
        self.interface
    }

    fn arrived_by(&self) -> u32 {
        self.arrived_by
    }

    fn is_tagged(&self) -> bool {
        self.tagged
    }

    fn is_for_host(&self) -> bool {
        self.for_host
    }

    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        let start = offset as usize;
        let bytes = self.bytes.get(start..start.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice has the size of T, and any bytes are a T (Wire).
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn store<T: Wire>(&mut self, offset: u32, value: T) -> Option<()> {
        let start = offset as usize;
        let bytes = self.bytes.get_mut(start..start.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice has the size of T, and T has no padding (Wire).
        unsafe { bytes.as_mut_ptr().cast::<T>().write_unaligned(value) };
        Some(())
    }

    fn adjust(&mut self, offset: u32, diff: u32, _scope: Checksum, udp: bool) -> Option<()> {
        let old: u16 = self.load(offset)?;
        if udp && old == 0 {
            return Some(());
        }
        let new = match checksum::update(old, diff) {
            // RFC 768: a computed zero is sent as all ones.
            0 if udp => 0xffff,
            new => new,
        };
        self.store(offset, new)
    }
}
