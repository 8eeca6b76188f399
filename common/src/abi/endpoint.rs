//! Networks, endpoints and what surrounds them.

use super::{Ip4, Ip6, Mac, Port};

/// What the data plane knows of the container behind an interface of ours.
///
/// Maps `ENDPOINTS` (array by interface index) and `ENDPOINTS_HI` (hash, for indices past the array).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The container's IPv4 address on this network; unspecified where it has none.
    pub ip4: Ip4,
    /// Index of the network in `NETWORKS`.
    pub network: u32,
    /// Index of the endpoint; 0 marks an empty slot.
    pub endpoint: u32,
    /// Generation of that index; must equal `GENERATIONS[endpoint]`.
    pub generation: u32,
    /// Interface index of the host end of the veth.
    pub ifindex: u32,
    /// [`Endpoint::HAS_LINKS`], [`Endpoint::ALLOW_SPOOF`].
    pub flags: u16,
    /// MTU of the container's interface, in bytes from the IP header on.
    pub mtu: u16,
    /// The container's Ethernet address.
    pub mac: Mac,
    /// Ethernet address of its gateway: the bridge.
    pub gateway_mac: Mac,
    /// The container's IPv6 address on this network; unspecified where it has none. Its link-local address
    /// follows from `mac`.
    pub ip6: Ip6,
    /// Zero.
    pub reserved: [u32; 3],
}
const _: () = assert!(size_of::<Endpoint>() == 64 && align_of::<Endpoint>() == 4);

impl Endpoint {
    /// A link rule names this endpoint; where ICC is off, `LINKS` is worth a look.
    pub const HAS_LINKS: u16 = 1;
    /// Frames may carry any source: routers, keepalived, VPNs.
    pub const ALLOW_SPOOF: u16 = 2;
}

/// Key of `NEIGHBOURS4` and `NEIGHBOURS6`: an address on a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourKey<A> {
    /// Index of the network.
    pub network: u32,
    /// The address.
    pub address: A,
}
/// Key of `NEIGHBOURS4`.
pub type NeighbourKey4 = NeighbourKey<Ip4>;
/// Key of `NEIGHBOURS6`: an endpoint's address, and its link-local one.
pub type NeighbourKey6 = NeighbourKey<Ip6>;
const _: () = assert!(size_of::<NeighbourKey4>() == 8);
const _: () = assert!(size_of::<NeighbourKey6>() == 20);

/// Where an address of a network lives on this host. Maps `NEIGHBOURS4` and `NEIGHBOURS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface index of the host end of the veth.
    pub ifindex: u32,
    /// Index of the endpoint.
    pub endpoint: u32,
    /// Generation of that index.
    pub generation: u32,
    /// As in [`Endpoint::flags`].
    pub flags: u16,
    /// MTU of the container's interface.
    pub mtu: u16,
    /// The container's Ethernet address.
    pub mac: Mac,
    /// Ethernet address of its gateway.
    pub gateway_mac: Mac,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Neighbour>() == 32 && align_of::<Neighbour>() == 4);

/// A network. Map `NETWORKS` (array by network index; index 0 is never used).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// [`Network::ICC`] and the other flags; 0 marks an empty slot.
    pub flags: u32,
    /// Interface index of the bridge.
    pub bridge: u32,
    /// IPv4 address of the gateway, held by the bridge; unspecified where there is none.
    pub gateway4: Ip4,
    /// IPv4 source address for masquerade (`host_ipv4`); unspecified takes the uplink's.
    pub masquerade4: Ip4,
    /// MTU, in bytes from the IP header on.
    pub mtu: u32,
    /// Ethernet address of the bridge.
    pub gateway_mac: Mac,
    /// Zero.
    pub pad: u16,
    /// IPv6 address of the gateway; unspecified where there is none.
    pub gateway6: Ip6,
    /// IPv6 source address for masquerade (`host_ipv6`); unspecified takes the uplink's.
    pub masquerade6: Ip6,
}
const _: () = assert!(size_of::<Network>() == 60 && align_of::<Network>() == 4);

impl Network {
    /// The slot is in use.
    pub const PRESENT: u32 = 1;
    /// Containers of the network talk to each other freely.
    pub const ICC: u32 = 2;
    /// No way to the outside, nor to host addresses other than the gateway.
    pub const INTERNAL: u32 = 4;
    /// IPv4 sources are masqueraded on the way out.
    pub const MASQUERADE4: u32 = 1 << 3;
    /// IPv6 sources are masqueraded on the way out.
    pub const MASQUERADE6: u32 = 1 << 4;
    /// Who addresses a container directly by IPv4 reaches every port (gateway mode `nat-unprotected`).
    pub const UNPROTECTED4: u32 = 1 << 5;
    /// The same by IPv6.
    pub const UNPROTECTED6: u32 = 1 << 6;
    /// Who addresses a container directly by IPv4 reaches the ports that it publishes
    /// (gateway mode `routed`, or `allow-direct-routing`).
    pub const DIRECT4: u32 = 1 << 7;
    /// The same by IPv6.
    pub const DIRECT6: u32 = 1 << 8;
    /// Gateway mode `routed`, IPv4: with [`Network::DIRECT4`], echo requests pass too, and other networks
    /// reach what is published.
    pub const ROUTED4: u32 = 1 << 9;
    /// The same, IPv6.
    pub const ROUTED6: u32 = 1 << 10;
    /// There is no bridge between the containers: the programs answer ARP and neighbour discovery, and carry
    /// everything (`-o bascule.l2=bpf`). The device `bridge` holds the gateway's addresses.
    pub const L2_BPF: u32 = 1 << 11;
    /// `TRUSTED` may name interfaces for this network.
    pub const HAS_TRUSTED: u32 = 1 << 12;
    /// Port 53 of the gateway's addresses is the agent's server of names.
    pub const NAMES: u32 = 1 << 13;

    /// Whether there is a bridge that carries frames for all, and the containers may send some.
    #[inline(always)]
    pub const fn floods(&self) -> bool {
        self.flags & (Self::ICC | Self::L2_BPF) == Self::ICC
    }
}

/// A subnet of ours, by longest prefix. Maps `SUBNETS4` and `SUBNETS6` (key: prefix length and address).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subnet {
    /// Index of the network.
    pub network: u32,
    /// Zero.
    pub flags: u32,
}
const _: () = assert!(size_of::<Subnet>() == 8);

/// An address of the host itself. Maps `LOCALS4` and `LOCALS6` (key: the address).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Which table of `PORTS` holds the ports published on the address.
    pub table: u32,
    /// [`Local::BROADCAST`], [`Local::GATEWAY`].
    pub flags: u32,
}
const _: () = assert!(size_of::<Local>() == 8);

impl Local {
    /// A broadcast address of a subnet of the host's, not an address of one host.
    pub const BROADCAST: u32 = 1;
    /// Gateway address of one of our networks.
    pub const GATEWAY: u32 = 2;
}

/// An interface that leads out of the host. Map `UPLINKS` (key: interface index).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// IPv4 source address of what is masqueraded there; unspecified where the interface has none.
    pub masquerade4: Ip4,
    /// MTU, in bytes from the IP header on.
    pub mtu: u32,
    /// [`Uplink::LAYER3`].
    pub flags: u32,
    /// Ethernet address of the interface.
    pub mac: Mac,
    /// Zero.
    pub pad: u16,
    /// IPv6 source address of what is masqueraded there; unspecified where the interface has none.
    pub masquerade6: Ip6,
}
const _: () = assert!(size_of::<Uplink>() == 36 && align_of::<Uplink>() == 4);

impl Uplink {
    /// The device has no Ethernet header (tun, WireGuard, ipip).
    pub const LAYER3: u32 = 1;
}

/// Key of `LINKS`: what one endpoint may open on another where ICC is off.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    /// Index of the endpoint that opens.
    pub from: u32,
    /// Index of the endpoint that serves.
    pub to: u32,
    /// The served port.
    pub port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<LinkKey>() == 16);

/// Key of `TRUSTED`: an interface that may address the containers of a network directly
/// (`trusted_host_interfaces`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustKey {
    /// Index of the network.
    pub network: u32,
    /// Interface index.
    pub ifindex: u32,
}
const _: () = assert!(size_of::<TrustKey>() == 8);
