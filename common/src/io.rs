//! The seam: what the data plane needs of the world. Each trait has two bodies: one over `__sk_buff`, BPF
//! maps and helpers (crate `bascule-ebpf`), one in memory (module `testing`).
//!
//! Reads of a packet give values, never references: after a write, the kernel's verifier considers old
//! packet pointers dead.

use core::ops::{Deref, DerefMut};

use crate::{
    abi::{
        Chosen, Config, Direction, Endpoint, Flow, FlowKey, FragmentKey, FragmentPorts, LinkKey,
        Local, Mac, Neighbour, Network, Rule, ServedKey, Stat, Subnet, TrustKey, Uplink,
        names::map::TABLES_GENERATION, watch,
    },
    datapath::{
        conntrack::{Entries, Touch},
        family::Family,
        short::Recent,
    },
    wire::Wire,
};

/// Which part of a transport checksum a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Addresses: part of the pseudo header, which a checksum left to the device already covers.
    Pseudo,
    /// The same of IPv6, whose header has no checksum of its own to make up for the change.
    Pseudo6,
    /// The segment itself, which a checksum left to the device does not cover yet.
    Segment,
}

impl Checksum {
    /// What the addresses of this family belong to.
    #[inline(always)]
    pub fn pseudo<A: Family>() -> Self {
        if A::ICMP_PSEUDO { Self::Pseudo6 } else { Self::Pseudo }
    }
}

/// A frame on its way.
pub trait Packet {
    /// Offset of the IP header: [`crate::wire::L3`], or 0 on a device without Ethernet headers.
    const NETWORK: u32;
    /// EtherType, in network byte order; of what is inside a VLAN tag, if the device took it off.
    fn protocol(&self) -> u16;
    /// Length of the frame, in bytes, Ethernet header included.
    fn length(&self) -> u32;
    /// Number of segments that the frame stands for; 1 without segmentation offload.
    fn segments(&self) -> u32;
    /// Payload of each segment, in bytes; 0 without segmentation offload.
    fn segment_size(&self) -> u32;
    /// Index of the interface that the program is attached to.
    fn interface(&self) -> u32;
    /// Index of the interface that the frame came in by; 0 for one that this host made.
    fn arrived_by(&self) -> u32;
    /// The mark that others left on the packet.
    fn mark(&self) -> u32;
    /// Whether the frame carries a VLAN tag.
    fn is_tagged(&self) -> bool;
    /// Whether the frame was addressed to this host's Ethernet address.
    fn is_for_host(&self) -> bool;
    /// The bytes at `offset` from the start of the frame, or none where the frame ends before.
    fn load<T: Wire>(&self, offset: u32) -> Option<T>;
    /// The same, or none where they cannot be had at once.
    fn near<T: Wire>(&self, offset: u32) -> Option<T> {
        self.load(offset)
    }
    /// Replaces the bytes at `offset`.
    fn store<T: Wire>(&mut self, offset: u32, value: T) -> Option<()>;
    /// Gives the frame these Ethernet addresses, and an Ethernet header if it has none; the offsets of
    /// such a frame are no longer valid then.
    fn address(&mut self, dst: Mac, src: Mac, ethertype: u16) -> Option<()>;
    /// Keeps the first `keep` bytes of the frame, and makes room for `room` bytes in front of its IP header.
    fn make_room(&mut self, keep: u32, room: u32) -> Option<()>;
    /// Where the IPv6 extension headers from `at` on lead: a [`crate::datapath::v6::Chain`].
    fn extensions(&self, at: u32, next: u8) -> u64;
    /// Adds `diff` ([`crate::wire::checksum`]) to the transport checksum at `offset`. A `udp` checksum of
    /// 0 means that there is none, and stays.
    fn adjust(&mut self, offset: u32, diff: u32, scope: Checksum, udp: bool) -> Option<()>;
    /// Adds what other addresses make of it, and what other ports do, both folded.
    fn adjust_both(
        &mut self,
        offset: u32,
        addresses: u16,
        scope: Checksum,
        ports: u16,
        udp: bool,
    ) -> Option<()> {
        self.adjust(offset, addresses.into(), scope, udp)?;
        self.adjust(offset, ports.into(), Checksum::Segment, udp)
    }
}

/// How an insertion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The entry is in.
    Yes,
    /// The key was taken.
    Exists,
    /// The table refused.
    Full,
}

/// The maps.
///
/// Large values that the agent alone writes come by [`Self::Ref`], since a BPF program has 512 bytes of
/// stack; whatever packets write is copied at once, because it may be recycled under the reader.
pub trait Tables<A: Family> {
    /// A value in place.
    type Ref<T: Copy + 'static>: Deref<Target = T>;
    /// Room for the two entries of a flow to be opened, zeroed.
    type Scratch: DerefMut<Target = Entries<A>>;
    /// A slot for a flow that was judged.
    type Recent: DerefMut<Target = Recent<A>>;
    /// That room: one for each CPU, since no two walks run on one at a time.
    fn scratch(&self) -> Option<Self::Scratch>;
    /// One of this CPU's [`crate::datapath::short::SLOTS`]; none where nothing is kept.
    fn recent(&self, place: u32) -> Option<Self::Recent>;
    /// How often flows of a slot began anew, on any CPU.
    fn restarts(&self, place: u32) -> u32 {
        let _ = place;
        0
    }
    /// Counts one more.
    fn restart(&self, place: u32) {
        let _ = place;
    }
    /// The switches.
    fn config(&self) -> Option<Self::Ref<Config>>;
    /// The endpoint behind an interface.
    fn endpoint(&self, ifindex: u32) -> Option<Self::Ref<Endpoint>>;
    /// Where an address of a network lives.
    fn neighbour(&self, network: u32, address: A) -> Option<Self::Ref<Neighbour>>;
    /// A network.
    fn network(&self, index: u32) -> Option<Self::Ref<Network>>;
    /// The current generation of an endpoint index, or of the tables ([`crate::abi::names::map::TABLES_GENERATION`]).
    fn generation(&self, endpoint: u32) -> u32;
    /// Who watches: bits of [`watch`].
    fn watched(&self) -> u32 {
        self.generation(TABLES_GENERATION) & (watch::CONNECTIONS | watch::PACKETS)
    }
    /// Counts a packet of a connection that is watched.
    fn count_traffic(&self, key: &FlowKey<A>, packets: u32, bytes: u32, flags: u64);
    /// A slot of those whose packets are told.
    fn chosen(&self, slot: u32) -> Option<Self::Ref<Chosen>>;
    /// An address of the host.
    fn local(&self, address: A) -> Option<Local>;
    /// The subnet of ours that an address belongs to.
    fn subnet(&self, address: A) -> Option<Subnet>;
    /// An uplink.
    fn uplink(&self, ifindex: u32) -> Option<Self::Ref<Uplink>>;
    /// Whether a link opens this.
    fn linked(&self, key: &LinkKey) -> bool;
    /// The rule in a slot of a port table, or 0.
    fn published(&self, table: u32, slot: u32) -> u32;
    /// The rule that publishes a port of a container, or 0.
    fn served(&self, key: &ServedKey) -> u32;
    /// Whether an interface may address the containers of a network directly.
    fn trusted(&self, key: &TrustKey) -> bool;
    /// The network that this device stands for, if nothing but the programs is between its containers.
    fn stands_for(&self, ifindex: u32) -> Option<u32>;
    /// Whether one more ICMP error may be sent now.
    fn may_answer(&self) -> bool;
    /// A rule.
    fn rule(&self, index: u32) -> Option<Self::Ref<Rule>>;
    /// An entry of conntrack.
    fn flow(&self, key: &FlowKey<A>) -> Option<Flow<A>>;
    /// Copies an entry of conntrack; in BPF past the stack. False: there is none.
    fn copy_flow(&self, key: &FlowKey<A>, to: &mut Flow<A>) -> bool {
        let Some(flow) = self.flow(key) else { return false };
        *to = flow;
        true
    }
    /// Enters a flow whose key must be free.
    fn insert_flow(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Inserted;
    /// Enters or replaces a flow.
    fn replace_flow(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Inserted;
    /// Remembers a flow that has just been opened, in the next one of `places`, and gives in `former` whom it takes the
    /// place of. False: nobody.
    fn remember_opened(&self, key: &FlowKey<A>, places: u32, former: &mut FlowKey<A>) -> bool {
        let _ = (key, places, former);
        false
    }
    /// Removes a flow.
    fn remove_flow(&self, key: &FlowKey<A>);
    /// Writes what a packet does to an entry whose other half is that of `peer`. False: there is no such entry.
    fn touch_flow(&self, key: &FlowKey<A>, peer: &FlowKey<A>, touch: Touch) -> bool;
    /// The ports of a datagram whose first fragment was seen.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts>;
    /// Remembers the ports of a first fragment.
    fn remember_fragment(&self, key: &FragmentKey<A>, ports: FragmentPorts);
    /// Counts traffic of an endpoint.
    fn count_endpoint(&self, endpoint: u32, direction: Direction, packets: u32, bytes: u32);
    /// Counts traffic of a published rule; `opened` counts a new connection.
    fn count_rule(&self, rule: u32, direction: Direction, packets: u32, bytes: u32);
    /// Counts a new connection of a published rule.
    fn count_connection(&self, rule: u32);
    /// Counts something of the data plane as a whole.
    fn count(&self, stat: Stat);
}

/// Where the host would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<A> {
    /// Out of this interface, to this next hop.
    Via {
        /// Interface index.
        ifindex: u32,
        /// Address of the next hop: a router's, or the destination's own.
        next_hop: A,
        /// MTU of the route, in bytes from the IP header on; 0 if it has none of its own.
        mtu: u32,
    },
    /// The host does not forward (`ip_forward` is 0).
    ForwardingOff,
    /// The kernel has an answer of its own: local, unreachable, prohibited, too large.
    Kernel,
}

/// The body of a loop.
pub trait Step {
    /// One round. False ends the loop.
    fn step(&mut self, round: u32) -> bool;
}

/// What only the kernel knows.
pub trait Kernel<A: Family> {
    /// The coarse clock ([`crate::abi::config::CLOCK_SHIFT`]).
    fn now(&self) -> u32;
    /// Looks a route up, as for a packet that came in by `arrived_by`.
    fn route(&self, arrived_by: u32, src: A, dst: A) -> Route<A>;
    /// Takes steps until one says that it was the last, `times` at most. In BPF this is `bpf_loop`, whose
    /// body the verifier checks once and not once for each round.
    fn repeat<S: Step>(&self, times: u32, steps: &mut S);
    /// Whether a socket of the host would receive a packet with this tuple.
    fn socket(&self, key: &FlowKey<A>) -> bool;
}
