//! A frame in a vector.

use crate::{
    abi::Mac,
    datapath::v6,
    io::{Checksum, Packet},
    wire::{Ethernet, L3, Macs, Wire, checksum, ethertype},
};

/// A frame with what the kernel would say of it; `FramePacket<0>` has no Ethernet header.
#[derive(Clone, Debug)]
pub struct FramePacket<const NETWORK: u32 = L3> {
    /// The bytes, from the Ethernet header on, if there is one.
    pub bytes: Vec<u8>,
    /// Interface that the program is attached to.
    pub interface: u32,
    /// Interface that the frame came in by; 0 for one made by the host.
    pub arrived_by: u32,
    /// Segments that it stands for.
    pub segments: u32,
    /// Payload of each segment; 0 for an ordinary frame.
    pub segment_size: u32,
    /// Mark that others left.
    pub mark: u32,
    /// Carries a VLAN tag beside the bytes.
    pub tagged: bool,
    /// Addressed to the host's Ethernet address.
    pub for_host: bool,
}

impl FramePacket {
    /// An ordinary frame on an interface.
    pub fn new(bytes: Vec<u8>, interface: u32) -> Self {
        Self::of(bytes, interface)
    }
}

impl FramePacket<0> {
    /// A packet on an interface without Ethernet headers.
    pub fn bare(bytes: Vec<u8>, interface: u32) -> Self {
        Self::of(bytes, interface)
    }
}

impl<const NETWORK: u32> FramePacket<NETWORK> {
    /// A frame, or a packet without Ethernet header, on an interface.
    pub fn of(bytes: Vec<u8>, interface: u32) -> Self {
        Self {
            bytes,
            interface,
            arrived_by: interface,
            segments: 1,
            segment_size: 0,
            mark: 0,
            tagged: false,
            for_host: true,
        }
    }
}

impl<const NETWORK: u32> Packet for FramePacket<NETWORK> {
    const NETWORK: u32 = NETWORK;

    fn protocol(&self) -> u16 {
        if NETWORK != 0 {
            return self.load(12).unwrap_or(0);
        }
        match self.bytes.first().map(|byte| byte >> 4) {
            Some(4) => ethertype::IPV4,
            Some(6) => ethertype::IPV6,
            _ => 0,
        }
    }

    fn address(&mut self, dst: Mac, src: Mac, ethertype: u16) -> Option<()> {
        if NETWORK == 0 {
            self.bytes.splice(0..0, [0; L3 as usize]);
            return self.store(0, Ethernet { dst, src, ethertype });
        }
        self.store(0, Macs { dst, src })
    }

    fn make_room(&mut self, keep: u32, room: u32) -> Option<()> {
        self.bytes.resize(keep as usize, 0);
        let at = NETWORK as usize;
        self.bytes.splice(at..at, vec![0; room as usize]);
        Some(())
    }

    fn extensions(&self, at: u32, next: u8) -> u64 {
        v6::follow(self, at, next).0
    }

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

    fn mark(&self) -> u32 {
        self.mark
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
