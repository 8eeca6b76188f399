//! The walks, as the programs run them.

use super::FramePacket;
use crate::{
    abi::{DropReason, Ip4, Ip6},
    datapath::{self, BothKernels, BothTables, Family, Outcome, Verdict, family, rewrite},
    io::{Packet, Tables},
    wire::{L3, ethertype},
};

/// The walks, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// [`datapath::from_container()`].
    FromContainer,
    /// [`datapath::to_container()`].
    ToContainer,
    /// [`datapath::from_uplink()`].
    FromUplink,
    /// [`datapath::to_uplink()`].
    ToUplink,
    /// [`datapath::to_bridge()`].
    ToBridge,
    /// [`datapath::from_names()`].
    FromNames,
}

impl Walk {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromUplink,
        Self::ToUplink,
        Self::ToBridge,
        Self::FromNames,
    ];
}

/// How a frame ended on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The verdict, or the reason of a drop. A frame that became an answer goes back.
    pub outcome: Outcome,
    /// Why the frame that was answered was dropped.
    pub answered: Option<DropReason>,
}

/// Runs a walk on the host, as the programs do: the walk, and what may follow it.
pub fn run<const NETWORK: u32, T: BothTables, K: BothKernels>(
    walk: Walk,
    packet: &mut FramePacket<NETWORK>,
    tables: &T,
    kernel: &K,
) -> Ended {
    let outcome = match walk {
        Walk::FromContainer => datapath::from_container(packet, tables, kernel),
        Walk::ToContainer => datapath::to_container(packet, tables),
        Walk::FromUplink => datapath::from_uplink(packet, tables, kernel),
        Walk::ToUplink => datapath::to_uplink(packet, tables, kernel),
        Walk::ToBridge => datapath::to_bridge(packet, tables),
        Walk::FromNames => datapath::from_names(packet, tables),
    };
    let Ok(verdict) = outcome else { return Ended { outcome, answered: None } };
    if packet.protocol() == ethertype::IPV6 {
        follow::<Ip6, NETWORK, T>(walk, packet, tables, verdict)
    } else {
        follow::<Ip4, NETWORK, T>(walk, packet, tables, verdict)
    }
}

fn follow<A: Family, const NETWORK: u32, T: Tables<A>>(
    walk: Walk,
    packet: &mut FramePacket<NETWORK>,
    tables: &T,
    mut verdict: Verdict,
) -> Ended {
    let answered = verdict.answers();
    if answered.is_some() {
        let outcome = match walk {
            Walk::FromContainer => {
                datapath::from_container::answered::<A, _, _>(packet, tables, &verdict)
            }
            _ => datapath::from_uplink::answered::<A, _, _>(packet, tables, &verdict),
        };
        return Ended { outcome, answered };
    }
    if verdict.clamp != 0 {
        // Whatever is redirected has an Ethernet header by now.
        let mut framed = FramePacket::<L3>::new(packet.bytes.clone(), packet.interface);
        if let Ok(view) = family::view::<A, _>(&framed) {
            rewrite::clamp_segment_size(&mut framed, &view, verdict.clamp);
        }
        packet.bytes = framed.bytes;
        verdict.clamp = 0;
    }
    Ended { outcome: Ok(verdict), answered }
}
