//! BPF: the object, its maps and programs in the kernel, and where they are attached.
//!
//! Nothing here decides: every function does what it is told, or says what there is. A start is
//! [`Features::probe`], [`Pins::open`], [`load`], filling of the [`Tables`], and then [`Hooks`].

mod attach;
mod bpffs;
mod cgroup;
mod cleanup;
mod clsact;
mod error;
mod features;
pub mod inspect;
mod kept;
mod layout;
mod load;
mod map;
mod mapping;
mod object;
mod ports;
mod published;
mod sizes;
mod steering;
mod sys;
mod tables;
mod tallies;
mod watching;
mod xdp;

pub use attach::{Attached, Attachment, Hook, Hooks, Mode, Side};
pub use bpffs::Pins;
pub use cgroup::{CgroupHook, find_cgroup};
pub use cleanup::{Removed, cleanup};
pub use error::BpfError;
pub use features::Features;
pub use layout::Geometry;
pub use load::{Collected, Fate, Loaded, Program, Programs, Report, collect, load, load_object};
pub use map::{CounterHash, CounterSlots, Hash, Slots, Sum, Table};
pub use object::OBJECT;
pub use ports::{PortKey, Ports};
pub use published::PublishedPorts;
pub use sizes::{Host, MapMemory, Memory, Sizes, Wanted, half_open};
pub use steering::{ProxySlot, Steering};
pub use tables::{Denials, Endpoints, Flows, Prefix, Prefix4, Prefix6, Tables};
pub use xdp::{XdpAttached, XdpMode};
