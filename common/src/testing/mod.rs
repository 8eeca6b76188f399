//! The in-memory bodies of the seam, for tests on the host: a frame in a vector ([`crate::memory`]), maps in
//! B-trees, a clock that is set by hand. They are the other half of the twin tests, which keep them honest: the same frame
//! over the same maps must end the same way in the kernel.

pub mod bytes;
pub mod families;
mod frame;
mod kernel;
mod tables;
pub mod world;

pub use frame::{Frame, Transport};
pub use kernel::FixedKernel;
pub use tables::{Half, MemTables};

pub use crate::memory::{Ended, FramePacket, Walk, run};
