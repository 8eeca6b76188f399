//! Packets in a file that Wireshark reads: pcapng, with names of interfaces and a comment to each packet.
//!
//! Three kinds of blocks (draft-ietf-opsawg-pcapng), little-endian.

use std::io::{self, Write};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// Options.
const COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const USER_APPLICATION: u16 = 4;
/// Timestamps are nanoseconds.
const NANOSECONDS: u8 = 9;

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet = 1,
    /// An IP header.
    Raw = 101,
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Interface that it was seen at.
    pub interface: &'a str,
    /// What its frame begins with.
    pub link: Link,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// The beginning of its frame.
    pub frame: &'a [u8],
    /// Length of the frame.
    pub length: u32,
    /// What there is to say of it.
    pub comment: &'a str,
}

/// A file that is written. Every packet is there whole or not at all, whenever the writing ends.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    interfaces: Vec<(String, Link)>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend(1_u16.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        // Nobody knows how long it will be.
        body.extend(u64::MAX.to_le_bytes());
        option(
            &mut body,
            USER_APPLICATION,
            concat!("bascule ", env!("CARGO_PKG_VERSION")).as_bytes(),
        );
        end_of_options(&mut body);
        out.write_all(&block(SECTION, &body))?;
        out.flush()?;
        Ok(Self { out, interfaces: Vec::new() })
    }

    /// Adds a packet.
    pub fn write(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let mut blocks = Vec::new();
        let interface = self.interface(packet, &mut blocks);
        let mut body = Vec::new();
        body.extend(interface.to_le_bytes());
        body.extend(((packet.time >> 32) as u32).to_le_bytes());
        body.extend((packet.time as u32).to_le_bytes());
        body.extend((packet.frame.len() as u32).to_le_bytes());
        body.extend(packet.length.max(packet.frame.len() as u32).to_le_bytes());
        body.extend(packet.frame);
        pad(&mut body);
        option(&mut body, COMMENT, packet.comment.as_bytes());
        end_of_options(&mut body);
        blocks.extend(block(PACKET, &body));
        self.out.write_all(&blocks)?;
        self.out.flush()
    }

    /// Returns the number of a packet's interface, and describes it where it is new.
    fn interface(&mut self, packet: &Packet<'_>, blocks: &mut Vec<u8>) -> u32 {
        let is = |(name, link): &(String, Link)| name == packet.interface && *link == packet.link;
        if let Some(known) = self.interfaces.iter().position(is) {
            return known as u32;
        }
        let mut body = Vec::new();
        body.extend((packet.link as u16).to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        body.extend(0_u32.to_le_bytes());
        option(&mut body, IF_NAME, packet.interface.as_bytes());
        option(&mut body, IF_TSRESOL, &[NANOSECONDS]);
        end_of_options(&mut body);
        blocks.extend(block(INTERFACE, &body));
        self.interfaces.push((packet.interface.to_owned(), packet.link));
        (self.interfaces.len() - 1) as u32
    }
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_framed_and_interfaces_described_once() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file).expect("memory");
        let packet = Packet {
            interface: "bsc00000001",
            link: Link::Ethernet,
            time: 1 << 33,
            frame: &[1, 2, 3],
            length: 60,
            comment: "policy_icc",
        };
        for interface in ["bsc00000001", "bsc00000001", "up0"] {
            writer.write(&Packet { interface, ..packet }).expect("memory");
        }
        let mut kinds = Vec::new();
        let mut rest = file.as_slice();
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        while !rest.is_empty() {
            let length = number(&rest[4..8]) as usize;
            assert_eq!(number(&rest[length - 4..length]) as usize, length);
            assert_eq!(length % 4, 0);
            kinds.push(number(&rest[..4]));
            rest = &rest[length..];
        }
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, PACKET, INTERFACE, PACKET]);
    }
}
