//! The frame that a packet would be.

use std::net::IpAddr;

use bascule_common::{
    abi::Mac,
    wire::{Icmp, Icmp6, checksum, proto, tcp},
};

/// Identifier of the echo requests that are asked about.
pub const ECHO_ID: u16 = 0xba5c;
/// Time to live.
const TTL: u8 = 64;

/// A packet without payload: a SYN, a datagram, an echo request; or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// TCP, UDP or the family's ICMP.
    pub proto: u8,
    /// Source port, or identifier of an echo.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The answer.
    pub reply: bool,
}

impl Probe {
    /// The number of ICMP in the family of an address.
    pub const fn icmp(address: IpAddr) -> u8 {
        if address.is_ipv4() { proto::ICMP } else { proto::ICMPV6 }
    }

    /// The bytes, with an Ethernet header where the device has one (destination, source).
    pub fn build(&self, ethernet: Option<(Mac, Mac)>) -> Vec<u8> {
        let segment = self.segment();
        let mut bytes = Vec::with_capacity(14 + 40 + segment.len());
        if let Some((dst, src)) = ethernet {
            bytes.extend(dst);
            bytes.extend(src);
            let ethertype: u16 = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
            bytes.extend(ethertype.to_be_bytes());
        }
        bytes.extend(self.header(segment.len() as u16));
        bytes.extend(segment);
        bytes
    }

    fn header(&self, payload: u16) -> Vec<u8> {
        if self.src.is_ipv6() {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(payload.to_be_bytes());
            header.extend([self.proto, TTL]);
            header.extend(self.addresses());
            return header;
        }
        let mut header = vec![0x45, 0];
        header.extend((20 + payload).to_be_bytes());
        header.extend([0, 0, 0x40, 0, TTL, self.proto, 0, 0]);
        header.extend(self.addresses());
        fill(&mut header, 10, &[]);
        header
    }

    fn addresses(&self) -> Vec<u8> {
        let octets = |address| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        [octets(self.src), octets(self.dst)].concat()
    }

    fn segment(&self) -> Vec<u8> {
        let ports = [self.src_port.to_be_bytes(), self.dst_port.to_be_bytes()].concat();
        let (mut segment, at) = match self.proto {
            proto::TCP => {
                let flags = if self.reply { tcp::SYN | tcp::ACK } else { tcp::SYN };
                let acked = u8::from(self.reply);
                let rest = [0, 0, 0, 1, 0, 0, 0, acked, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
                ([ports, rest.to_vec()].concat(), 16)
            }
            proto::UDP => ([ports, vec![0, 8, 0, 0]].concat(), 6),
            _ => {
                let (kind, id) = match (self.src.is_ipv4(), self.reply) {
                    (true, false) => (Icmp::ECHO, self.src_port),
                    (true, true) => (Icmp::ECHO_REPLY, self.dst_port),
                    (false, false) => (Icmp6::ECHO, self.src_port),
                    (false, true) => (Icmp6::ECHO_REPLY, self.dst_port),
                };
                let [a, b] = id.to_be_bytes();
                (vec![kind, 0, 0, 0, a, b, 0, 1], 2)
            }
        };
        let mut pseudo = Vec::new();
        if self.proto != proto::ICMP {
            pseudo = self.addresses();
            pseudo.extend((segment.len() as u32).to_be_bytes());
            pseudo.extend([0, 0, 0, self.proto]);
        }
        fill(&mut segment, at, &pseudo);
        segment
    }
}

/// Writes the checksum of a header, with what it covers beside it.
fn fill(bytes: &mut [u8], at: usize, beside: &[u8]) {
    let sum = checksum::both(checksum::sum(beside), checksum::sum(bytes));
    let sum = match !checksum::fold(sum) {
        // A computed zero means "none" in UDP; all ones are the same number.
        0 => 0xffff,
        sum => sum,
    };
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_ne_bytes());
    }
}
