//! Writing frames, all checksums right.

use std::net::IpAddr;

use super::{Body, Frame, MF, UDP};
use crate::checksum::{add, finish, pseudo};

impl Frame {
    /// The frame's bytes, all checksums right.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.dst_mac, self.src_mac].concat();
        if let Some(tag) = self.vlan {
            bytes.extend(0x8100_u16.to_be_bytes());
            bytes.extend(tag.to_be_bytes());
        }
        let ethertype: u16 = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(self.ip_bytes());
        bytes
    }

    /// Cuts the packet into fragments of this many bytes of payload each.
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        assert_eq!(size % 8, 0, "fragments begin at multiples of eight bytes");
        let whole = self.l4_bytes();
        let count = whole.chunks(size).count();
        let cut = |(index, chunk): (usize, &[u8])| {
            let more = index + 1 < count;
            let body = Body::Raw { proto: self.proto(), payload: chunk.to_vec() };
            let part = Self { body, ..self.clone() };
            let offset = u16::try_from(index * size).expect("a packet");
            if self.src.is_ipv4() {
                Self { fragment: if more { MF } else { 0 } | (offset / 8), ..part }
            } else {
                part.fragment6(offset, more, 0x7777_0001)
            }
        };
        whole.chunks(size).enumerate().map(cut).collect()
    }

    /// Length of the headers in front of layer 4, in bytes.
    pub(super) fn header(&self) -> usize {
        if self.src.is_ipv4() {
            20 + self.options.len()
        } else {
            40 + self.extensions.iter().map(|(_, rest)| 1 + rest.len()).sum::<usize>()
        }
    }

    /// The IP packet alone.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let l4 = self.l4_bytes();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.packet4(src.octets(), dst.octets(), l4),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.packet6(src.octets(), dst.octets(), &l4),
            other => panic!("{other:?} are of two families"),
        }
    }

    fn packet4(&self, src: [u8; 4], dst: [u8; 4], l4: Vec<u8>) -> Vec<u8> {
        let header = self.header();
        let total = u16::try_from(header + l4.len()).expect("an IPv4 packet");
        let mut bytes = vec![0x40 | u8::try_from(header / 4).expect("a header"), self.tos];
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.proto(), 0, 0]);
        bytes.extend(src);
        bytes.extend(dst);
        bytes.extend(&self.options);
        let sum = finish(add(0, &bytes));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(l4);
        bytes
    }

    fn packet6(&self, src: [u8; 16], dst: [u8; 16], l4: &[u8]) -> Vec<u8> {
        let payload = u16::try_from(self.header() - 40 + l4.len()).expect("an IPv6 packet");
        let mut bytes = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        bytes.extend(payload.to_be_bytes());
        // Each header says what the next one is.
        let numbers: Vec<u8> = self.extensions.iter().map(|(number, _)| *number).collect();
        let mut following = numbers.into_iter().chain([self.proto()]);
        bytes.push(following.next().expect("at least the protocol"));
        bytes.push(self.ttl);
        bytes.extend(src);
        bytes.extend(dst);
        for ((_, rest), next) in self.extensions.iter().zip(following) {
            bytes.push(next);
            bytes.extend(rest);
        }
        bytes.extend(l4);
        bytes
    }

    pub(super) fn l4_bytes(&self) -> Vec<u8> {
        let mut bytes;
        let at;
        match &self.body {
            Body::Tcp { src, dst, flags, seq, ack, options, payload } => {
                bytes = [src.to_be_bytes(), dst.to_be_bytes()].concat();
                bytes.extend(seq.to_be_bytes());
                let words = 5 + u8::try_from(options.len() / 4).expect("options");
                bytes.extend(ack.to_be_bytes());
                bytes.extend([words << 4, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(options);
                bytes.extend(payload);
                at = 16;
            }
            Body::Udp { src, dst, checksum, payload } => {
                bytes = [src.to_be_bytes(), dst.to_be_bytes()].concat();
                let length = u16::try_from(8 + payload.len()).expect("a datagram");
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(payload);
                if !checksum {
                    return bytes;
                }
                at = 6;
            }
            Body::Icmp { kind, code, rest, payload } => {
                bytes = vec![*kind, *code, 0, 0];
                bytes.extend(rest);
                bytes.extend(payload);
                at = 2;
            }
            Body::Raw { payload, .. } => return payload.clone(),
        }
        let front = pseudo(self.src, self.dst, self.proto(), bytes.len());
        let mut sum = finish(add(front, &bytes));
        if self.proto() == UDP && sum == 0 {
            sum = 0xffff;
        }
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}
