//! Why a packet was dropped, and which way it went. The numbers are API: never reused, extended at the
//! end only.

/// Why a packet was dropped.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The network has ICC off, and no link opens the port.
    PolicyIcc = 1,
    /// The destination is on another network.
    PolicyIsolation = 2,
    /// The network is internal, and the destination is not on it.
    PolicyInternal = 3,
    /// An egress rule forbids the destination.
    PolicyEgress = 4,
    /// The published port is not open to this source.
    PolicyPublishSource = 5,
    /// The port of the host is not published.
    UnpublishedPort = 6,
    /// The outside addressed a container directly.
    DirectRoutingBlocked = 7,
    /// A loopback address on the wire.
    MartianLoopback = 8,
    /// The frame's source is not the container's Ethernet address.
    SpoofedMac = 9,
    /// The packet's source is not the container's address.
    SpoofedIp = 10,
    /// No endpoint holds the address.
    NoEndpoint = 11,
    /// The endpoint is going away.
    EndpointDown = 12,
    /// The packet fits no flow and may not open one.
    CtInvalid = 13,
    /// The flow could not be entered.
    CtTableFull = 14,
    /// No port is left to masquerade with towards this destination.
    NatPortExhausted = 15,
    /// A limit was exceeded.
    RateLimited = 16,
    /// The TTL ended here.
    TtlExpired = 17,
    /// The packet is larger than the next link, and may not be fragmented.
    MtuExceeded = 18,
    /// A fragment of a kind that cannot be translated.
    FragUnsupported = 19,
    /// A checksum could not be adjusted.
    ChecksumBad = 20,
    /// The host has no route to the destination.
    FibNoRoute = 21,
    /// The next hop does not answer.
    FibNoNeigh = 22,
    /// The overlay identifier belongs to no network.
    OverlayUnknownVni = 23,
    /// The tunnel's other end is unknown.
    OverlayUnknownPeer = 24,
    /// The packet could not be decrypted.
    DecryptFailed = 25,
    /// A header is cut short or contradicts itself.
    Malformed = 26,
    /// A protocol that the network does not carry.
    UnsupportedProto = 27,
    /// The interface is attached, and its endpoint not entered yet.
    AgentNotReady = 28,
    /// It would have left with a container's address.
    Untranslated = 29,
    /// An ARP message about somebody else's address.
    SpoofedArp = 30,
    /// A neighbour discovery message about somebody else's address.
    SpoofedNd = 31,
    /// A VLAN tag.
    Vlan = 32,
    /// An Ethernet protocol that the network does not carry.
    L2Proto = 33,
    /// The deny list names the source.
    DenyCidr = 34,
    /// A later fragment of a datagram whose first fragment was not seen.
    FragNotFound = 35,
    /// The flow's endpoint is gone.
    CtStale = 36,
    /// The route leads to an interface that is no uplink, or has no address.
    NoUplink = 37,
    /// Broadcast or multicast where the network does not carry it.
    Multicast = 38,
    /// The host's ip_forward is 0.
    ForwardingOff = 39,
}

impl DropReason {
    /// Every reason, by number.
    pub const ALL: [Self; 39] = [
        Self::PolicyIcc,
        Self::PolicyIsolation,
        Self::PolicyInternal,
        Self::PolicyEgress,
        Self::PolicyPublishSource,
        Self::UnpublishedPort,
        Self::DirectRoutingBlocked,
        Self::MartianLoopback,
        Self::SpoofedMac,
        Self::SpoofedIp,
        Self::NoEndpoint,
        Self::EndpointDown,
        Self::CtInvalid,
        Self::CtTableFull,
        Self::NatPortExhausted,
        Self::RateLimited,
        Self::TtlExpired,
        Self::MtuExceeded,
        Self::FragUnsupported,
        Self::ChecksumBad,
        Self::FibNoRoute,
        Self::FibNoNeigh,
        Self::OverlayUnknownVni,
        Self::OverlayUnknownPeer,
        Self::DecryptFailed,
        Self::Malformed,
        Self::UnsupportedProto,
        Self::AgentNotReady,
        Self::Untranslated,
        Self::SpoofedArp,
        Self::SpoofedNd,
        Self::Vlan,
        Self::L2Proto,
        Self::DenyCidr,
        Self::FragNotFound,
        Self::CtStale,
        Self::NoUplink,
        Self::Multicast,
        Self::ForwardingOff,
    ];

    /// The name, as in metrics, events and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::PolicyIcc => "policy_icc",
            Self::PolicyIsolation => "policy_isolation",
            Self::PolicyInternal => "policy_internal",
            Self::PolicyEgress => "policy_egress",
            Self::PolicyPublishSource => "policy_publish_source",
            Self::UnpublishedPort => "unpublished_port",
            Self::DirectRoutingBlocked => "direct_routing_blocked",
            Self::MartianLoopback => "martian_loopback",
            Self::SpoofedMac => "spoofed_mac",
            Self::SpoofedIp => "spoofed_ip",
            Self::NoEndpoint => "no_endpoint",
            Self::EndpointDown => "endpoint_down",
            Self::CtInvalid => "ct_invalid",
            Self::CtTableFull => "ct_table_full",
            Self::NatPortExhausted => "nat_port_exhausted",
            Self::RateLimited => "rate_limited",
            Self::TtlExpired => "ttl_expired",
            Self::MtuExceeded => "mtu_exceeded",
            Self::FragUnsupported => "frag_unsupported",
            Self::ChecksumBad => "checksum_bad",
            Self::FibNoRoute => "fib_no_route",
            Self::FibNoNeigh => "fib_no_neigh",
            Self::OverlayUnknownVni => "overlay_unknown_vni",
            Self::OverlayUnknownPeer => "overlay_unknown_peer",
            Self::DecryptFailed => "decrypt_failed",
            Self::Malformed => "malformed",
            Self::UnsupportedProto => "unsupported_proto",
            Self::AgentNotReady => "agent_not_ready",
            Self::Untranslated => "untranslated",
            Self::SpoofedArp => "spoofed_arp",
            Self::SpoofedNd => "spoofed_nd",
            Self::Vlan => "vlan",
            Self::L2Proto => "l2_proto",
            Self::DenyCidr => "deny_cidr",
            Self::FragNotFound => "frag_not_found",
            Self::CtStale => "ct_stale",
            Self::NoUplink => "no_uplink",
            Self::Multicast => "multicast",
            Self::ForwardingOff => "forwarding_off",
        }
    }

    /// One sentence for an operator.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::PolicyIcc => "The network has ICC off, and no link opens the port.",
            Self::PolicyIsolation => "The destination is on another network.",
            Self::PolicyInternal => "The network is internal, and the destination is not on it.",
            Self::PolicyEgress => "An egress rule forbids the destination.",
            Self::PolicyPublishSource => "The published port is not open to this source.",
            Self::UnpublishedPort => "The port of the host is not published.",
            Self::DirectRoutingBlocked => "The outside addressed a container directly.",
            Self::MartianLoopback => "A loopback address on the wire.",
            Self::SpoofedMac => "The frame's source is not the container's Ethernet address.",
            Self::SpoofedIp => "The packet's source is not the container's address.",
            Self::NoEndpoint => "No endpoint holds the address.",
            Self::EndpointDown => "The endpoint is going away.",
            Self::CtInvalid => "The packet fits no flow and may not open one.",
            Self::CtTableFull => "The flow could not be entered.",
            Self::NatPortExhausted => {
                "No port is left to masquerade with towards this destination."
            }
            Self::RateLimited => "A limit was exceeded.",
            Self::TtlExpired => "The TTL ended here.",
            Self::MtuExceeded => {
                "The packet is larger than the next link, and may not be fragmented."
            }
            Self::FragUnsupported => "A fragment of a kind that cannot be translated.",
            Self::ChecksumBad => "A checksum could not be adjusted.",
            Self::FibNoRoute => "The host has no route to the destination.",
            Self::FibNoNeigh => "The next hop does not answer.",
            Self::OverlayUnknownVni => "The overlay identifier belongs to no network.",
            Self::OverlayUnknownPeer => "The tunnel's other end is unknown.",
            Self::DecryptFailed => "The packet could not be decrypted.",
            Self::Malformed => "A header is cut short or contradicts itself.",
            Self::UnsupportedProto => "A protocol that the network does not carry.",
            Self::AgentNotReady => "The interface is attached, and its endpoint not entered yet.",
            Self::Untranslated => "It would have left with a container's address.",
            Self::SpoofedArp => "An ARP message about somebody else's address.",
            Self::SpoofedNd => "A neighbour discovery message about somebody else's address.",
            Self::Vlan => "A VLAN tag.",
            Self::L2Proto => "An Ethernet protocol that the network does not carry.",
            Self::DenyCidr => "The deny list names the source.",
            Self::FragNotFound => {
                "A later fragment of a datagram whose first fragment was not seen."
            }
            Self::CtStale => "The flow's endpoint is gone.",
            Self::NoUplink => {
                "The route leads to an interface that is no uplink, or has no address."
            }
            Self::Multicast => "Broadcast or multicast where the network does not carry it.",
            Self::ForwardingOff => "The host's ip_forward is 0.",
        }
    }

    /// What an operator can do to let such packets through, or where to look; without a full stop.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::PolicyIcc => {
                "create the network with ICC (com.docker.network.bridge.enable_icc=true), or give one container a --link to an exposed port of the other"
            }
            Self::PolicyIsolation => {
                "connect both containers to one network (bascule network connect), or publish the port with -p and use an address of the host"
            }
            Self::PolicyInternal => {
                "connect the container to a network that is not --internal as well"
            }
            Self::PolicyEgress => "change the egress rule",
            Self::PolicyPublishSource => "publish the port to this source as well",
            Self::UnpublishedPort => "run the container with -p for the port",
            Self::DirectRoutingBlocked => {
                "publish the port with -p and use an address of the host; or let containers be addressed: gateway mode routed or nat-unprotected, or name the interface in com.docker.network.bridge.trusted_host_interfaces"
            }
            Self::MartianLoopback => "use an address of the host or of the container",
            Self::SpoofedMac | Self::SpoofedIp | Self::SpoofedArp | Self::SpoofedNd => {
                "send from the container's own addresses, as `bascule inspect` shows them"
            }
            Self::NoEndpoint => "see `bascule ps` for the addresses that there are",
            Self::EndpointDown => "start the container that publishes the port",
            Self::CtInvalid => {
                "open the connection anew: what it belonged to is not known any more"
            }
            Self::CtTableFull => "try again; `bascule status` tells how full the tables are",
            Self::NatPortExhausted => {
                "wait for connections to this destination to end, or give the host a further address"
            }
            Self::RateLimited => "send less",
            Self::TtlExpired => "send with a higher TTL, and look for a loop",
            Self::MtuExceeded => "send smaller packets, or let them be fragmented",
            Self::FragUnsupported | Self::FragNotFound => "send smaller packets, or all fragments",
            Self::ChecksumBad | Self::Malformed => "look at the packet in a capture",
            Self::FibNoRoute => "give the host a route to the destination",
            Self::FibNoNeigh => "see why the next hop does not answer ARP or neighbour discovery",
            Self::OverlayUnknownVni | Self::OverlayUnknownPeer | Self::DecryptFailed => {
                "see whether all hosts agree about the network"
            }
            Self::UnsupportedProto => "use an address of the family that the network has",
            Self::AgentNotReady => "try again; if it stays so, see `bascule status`",
            Self::Untranslated => {
                "see `bascule status`: an uplink without an address cannot masquerade"
            }
            Self::Vlan | Self::L2Proto => "send untagged IP",
            Self::DenyCidr => "take the prefix off the list: bascule policy deny rm",
            Self::CtStale => "open the connection anew",
            Self::NoUplink => {
                "give the interface of the route an address, and let --uplink of the agent match it"
            }
            Self::Multicast => "turn ICC on; multicast stays within its network",
            Self::ForwardingOff => "turn forwarding on: sysctl net.ipv4.ip_forward=1",
        }
    }

    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

/// Which way a packet went, seen from its container.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into the container, or into the host.
    In = 0,
    /// Out of the container, or out of the host.
    Out = 1,
}

impl Direction {
    /// The name, as in metrics, events and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    /// The direction with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::In),
            1 => Some(Self::Out),
            _ => None,
        }
    }
}
