//! The in-memory bodies of the seam, for tests on the host: a frame in a vector, maps in B-trees, a clock
//! that is set by hand. They are the other half of the twin tests, which keep them honest: the same frame
//! over the same maps must end the same way in the kernel.

mod frame;
mod kernel;
mod packet;
mod tables;
pub mod world;

pub use frame::{Frame, Transport};
pub use kernel::FixedKernel;
pub use packet::FramePacket;
pub use tables::MemTables;

use crate::{
    abi::DropReason,
    datapath::{self, Flat, Verdict},
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
}

/// Runs a walk on the host.
pub fn run<const NETWORK: u32>(
    walk: Walk,
    packet: &mut FramePacket<NETWORK>,
    tables: &MemTables,
    kernel: &FixedKernel,
) -> Result<Verdict, DropReason> {
    let end: Flat = match walk {
        Walk::FromContainer => datapath::from_container(packet, tables, kernel),
        Walk::ToContainer => datapath::to_container(packet, tables),
        Walk::FromUplink => datapath::from_uplink(packet, tables, kernel),
        Walk::ToUplink => datapath::to_uplink(packet, tables, kernel),
    };
    end.end()
        .map_err(|number| DropReason::from_number(number).expect("a walk ends with a known reason"))
}
