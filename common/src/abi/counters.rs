//! Counters. All maps of them are per CPU and summed by the reader.

/// Packets and bytes (from the IP header on, as offloads leave them: a GSO packet counts its segments).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}
const _: () = assert!(size_of::<Count>() == 16);

/// Traffic of an endpoint. Map `ENDPOINT_STATS` (by endpoint index).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointCounters {
    /// Into the container.
    pub received: Count,
    /// Out of the container.
    pub sent: Count,
}
const _: () = assert!(size_of::<EndpointCounters>() == 32);

/// Traffic of a published rule. Map `RULE_STATS` (by rule index).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounters {
    /// Towards the container.
    pub received: Count,
    /// Back to the clients.
    pub sent: Count,
    /// Flows opened.
    pub connections: u64,
}
const _: () = assert!(size_of::<RuleCounters>() == 40);

/// Key of `DROPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    /// Endpoint index; 0 where the packet belongs to none.
    pub endpoint: u32,
    /// A [`super::DropReason`].
    pub reason: u8,
    /// A [`super::Direction`].
    pub direction: u8,
    /// Zero.
    pub pad: u16,
}
const _: () = assert!(size_of::<DropKey>() == 8);

/// Counters of the data plane as a whole. Map `STATS`, an array of `u64` by this number.
///
/// The `To...` ones count what is handed to the kernel's own bridge or stack, by reason.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stat {
    /// Flows opened.
    FlowsOpened = 0,
    /// Half-lost flows whose surviving entry was adopted.
    FlowsAdopted = 1,
    /// Flows that found no free port to masquerade with.
    PortsExhausted = 2,
    /// Events that the ring had no room for, or the limit no token.
    EventsLost = 3,
    /// To the kernel: ARP and IPv6 neighbour discovery.
    ToNeighbourDiscovery = 4,
    /// To the kernel: broadcast and multicast within an open network.
    ToBroadcast = 5,
    /// To the kernel: a frame for an address of the network that no endpoint of ours holds.
    ToUnknownNeighbour = 6,
    /// To the kernel: traffic for the host itself.
    ToHost = 7,
    /// To the kernel: IP options, or a protocol that the programs do not translate.
    ToUntranslatable = 8,
    /// To the kernel, which answers: TTL at its end.
    ToTtl = 9,
    /// To the kernel, which fragments or answers: larger than the next link.
    ToMtu = 10,
    /// To the kernel: no uplink of ours, or no usable route.
    ToRouting = 11,
    /// To the kernel: an ICMP error about no flow of ours.
    ToUnrelatedError = 12,
    /// To the kernel: IPv6 and other protocols within an open network.
    ToOtherProtocol = 13,
    /// Half-open flows that made room for later ones.
    EarlyDrops = 14,
}

impl Stat {
    /// Number of counters.
    pub const COUNT: u32 = 15;
    /// Every counter, by number.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::FlowsOpened,
        Self::FlowsAdopted,
        Self::PortsExhausted,
        Self::EventsLost,
        Self::ToNeighbourDiscovery,
        Self::ToBroadcast,
        Self::ToUnknownNeighbour,
        Self::ToHost,
        Self::ToUntranslatable,
        Self::ToTtl,
        Self::ToMtu,
        Self::ToRouting,
        Self::ToUnrelatedError,
        Self::ToOtherProtocol,
        Self::EarlyDrops,
    ];

    /// For a hand-over to the kernel, its reason as a label of the metrics.
    pub const fn handover_label(self) -> Option<&'static str> {
        Some(match self {
            Self::FlowsOpened
            | Self::FlowsAdopted
            | Self::PortsExhausted
            | Self::EventsLost
            | Self::EarlyDrops => return None,
            Self::ToNeighbourDiscovery => "neighbour_discovery",
            Self::ToBroadcast => "broadcast",
            Self::ToUnknownNeighbour => "unknown_neighbour",
            Self::ToHost => "host",
            Self::ToUntranslatable => "untranslatable",
            Self::ToTtl => "ttl",
            Self::ToMtu => "mtu",
            Self::ToRouting => "routing",
            Self::ToUnrelatedError => "unrelated_error",
            Self::ToOtherProtocol => "other_protocol",
        })
    }
}

/// What the agent counts of questions about names; outlives it. Key of `QUESTIONS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionKey {
    /// Index of the network on which was asked; [`Self::NOBODY`], or [`Self::HOST`].
    pub network: u32,
    /// Code of the answer.
    pub code: u16,
    /// What is counted: one of the numbers below.
    pub kind: u8,
    /// Who answered, or why nobody did.
    pub which: u8,
    /// A server of others, IPv4 as mapped; zero where it is about none.
    pub server: [u8; 16],
}
const _: () = assert!(size_of::<QuestionKey>() == 24);

impl QuestionKey {
    /// A question that was answered.
    pub const ANSWERED: u8 = 1;
    /// A question or connection that was not taken.
    pub const REFUSED: u8 = 2;
    /// A question that a server of others did not answer.
    pub const SILENT: u8 = 3;
    /// Nobody knows who asked.
    pub const NOBODY: u32 = 0;
    /// A process of the host asked.
    pub const HOST: u32 = u32::MAX;
}

/// Counters that the agent keeps of its own doing, and that outlive it. Map `TALLIES`, an array of `u64` by this
/// number.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tally {
    /// Collections of idle connections.
    Collections = 0,
    /// Entries that they removed.
    Collected = 1,
    /// Passes of reconciliation.
    Passes = 2,
    /// Actions of theirs.
    Actions = 3,
}

impl Tally {
    /// Slots of the map: some to spare, so that it need not be replaced.
    pub const SLOTS: u32 = 256;
    /// First of the slots that count what the agent's proxy carries.
    pub const PROXY: u32 = 16;
    /// First of the slots that count repairs, by kind.
    pub const REPAIRS: u32 = 32;

    /// The slot of packets that were dropped for a reason, for endpoints that have gone.
    pub const fn dropped(reason: u8) -> u32 {
        128 + (reason as u32 & 0x7f)
    }
}
