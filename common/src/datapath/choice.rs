//! Which source port a flow gets.

use crate::{
    abi::{Config, FlowKey, Port},
    datapath::family::Family,
    wire::proto,
};

/// The order in which source ports are tried: a function of the tuple alone.
pub(super) struct Choice {
    own: Port,
    keeps_own: bool,
    may_change: bool,
    masquerade: bool,
    first: u32,
    count: u32,
    hash: u32,
}

impl Choice {
    #[inline(always)]
    pub(super) fn new<A: Family>(config: &Config, key: &FlowKey<A>, masquerade: bool) -> Self {
        let first = u32::from(config.masquerade_first);
        let count = u32::from(config.masquerade_last).wrapping_sub(first).wrapping_add(1);
        let may_change = match key.proto {
            proto::TCP | proto::UDP => true,
            // An echo request; a reply belongs to a flow already.
            icmp if icmp == A::ICMP => key.src_port.0 != 0,
            _ => false,
        };
        Self {
            own: key.src_port,
            keeps_own: !may_change || !masquerade || config.masquerades_with(key.src_port),
            may_change,
            masquerade,
            first,
            count,
            hash: hash(key),
        }
    }

    /// The port of an attempt, or none if there is no further one.
    #[inline(always)]
    pub(super) fn port(&self, attempt: u32) -> Option<Port> {
        if attempt == 0 && self.keeps_own {
            return Some(self.own);
        }
        if !self.may_change {
            return None;
        }
        // Each anywhere: with steps of one length, those of some tuples would all end in one published range.
        let spread = mix(self.hash, attempt);
        // The high part of a product instead of a remainder: no division, and no bias worth the name.
        let offset = (u64::from(spread).wrapping_mul(u64::from(self.count)) >> 32) as u32;
        Some(Port::new(self.first.wrapping_add(offset) as u16))
    }

    /// Whether an attempt takes a port of the host's that something else could hold. The original port
    /// of a client of a published port is no port of the host's.
    #[inline(always)]
    pub(super) fn translates(&self, attempt: u32) -> bool {
        self.may_change && (self.masquerade || attempt != 0)
    }
}

/// A hash of a tuple (the finisher of MurmurHash3, word by word).
#[inline(always)]
fn hash<A: Family>(key: &FlowKey<A>) -> u32 {
    let ports = (u32::from(key.src_port.0) << 16) | u32::from(key.dst_port.0);
    let hash = mix(mix(0x9747_b28c, ports), u32::from(key.proto));
    mix_address(mix_address(hash, key.src), key.dst)
}

#[inline(always)]
fn mix_address<A: Family>(hash: u32, address: A) -> u32 {
    let [a, b, c, d] = address.to_any().0;
    if A::BITS == 32 {
        return mix(hash, a);
    }
    mix(mix(mix(mix(hash, a), b), c), d)
}

#[inline(always)]
fn mix(hash: u32, word: u32) -> u32 {
    let hash = hash ^ word;
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}
