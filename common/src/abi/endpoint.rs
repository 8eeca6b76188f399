//! Networks, endpoints and what surrounds them.

use super::{Ip4, Mac, Port};

/// What the data plane knows of the container behind an interface of ours.
///
/// Maps `ENDPOINTS` (array by interface index) and `ENDPOINTS_HI` (hash, for indices past the array).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The container's address on this network.
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
    /// Room for the IPv6 address.
    pub ip6: [u8; 16],
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

/// Key of `NEIGHBOURS4`: an address on a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourKey4 {
    /// Index of the network.
    pub network: u32,
    /// The address.
    pub ip4: Ip4,
}
const _: () = assert!(size_of::<NeighbourKey4>() == 8);

/// Where an address of a network lives on this host. Map `NEIGHBOURS4`.
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
    /// The network's address.
    pub subnet4: Ip4,
    /// Its mask.
    pub mask4: Ip4,
    /// Address of the gateway, held by the bridge.
    pub gateway4: Ip4,
    /// Source address for masquerade; unspecified takes the uplink's.
    pub masquerade4: Ip4,
    /// MTU, in bytes from the IP header on.
    pub mtu: u32,
    /// Ethernet address of the bridge.
    pub gateway_mac: Mac,
    /// Zero.
    pub pad: u16,
    /// Room for IPv6.
    pub reserved: [u32; 8],
}
const _: () = assert!(size_of::<Network>() == 68 && align_of::<Network>() == 4);

impl Network {
    /// The slot is in use.
    pub const PRESENT: u32 = 1;
    /// Containers of the network talk to each other freely.
    pub const ICC: u32 = 2;
    /// No way to the outside, nor to host addresses other than the gateway.
    pub const INTERNAL: u32 = 4;
    /// Source addresses are masqueraded on the way out.
    pub const MASQUERADE: u32 = 8;
}

/// A subnet of ours, by longest prefix. Map `SUBNETS4` (key: prefix length and address).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subnet {
    /// Index of the network.
    pub network: u32,
    /// Zero.
    pub flags: u32,
}
const _: () = assert!(size_of::<Subnet>() == 8);

/// An address of the host itself. Map `LOCALS4` (key: the address).
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
    /// Source address of what is masqueraded there; unspecified where the interface has none.
    pub masquerade4: Ip4,
    /// MTU, in bytes from the IP header on.
    pub mtu: u32,
    /// [`Uplink::LAYER3`].
    pub flags: u32,
    /// Ethernet address of the interface.
    pub mac: Mac,
    /// Zero.
    pub pad: u16,
}
const _: () = assert!(size_of::<Uplink>() == 20 && align_of::<Uplink>() == 4);

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
