//! What a walk needs to run outside the kernel: a frame in a vector, values by themselves, and the walks as
//! the programs run them. Tests run them over maps of their own ([`crate::testing`]), the agent over the
//! maps of the data plane, to say what would become of a packet.

mod own;
mod packet;
mod run;

pub use own::Own;
pub use packet::FramePacket;
pub use run::{Ended, Walk, run};
