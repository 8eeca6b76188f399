//! The world around a host: its router, an outside client behind it, and a neighbour on its segment.
//!
//! ```text
//!   outside                router                         host
//!   203.0.113.7/24 ── 203.0.113.254  198.51.100.254 ─┬─ 198.51.100.1/24 up0
//!                                                    └─ 198.51.100.9/24 neighbour
//! ```
//! The router knows no container's address: what leaves the host untranslated gets no answer unless
//! a test adds a route.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{Netns, wait};

/// Address of the host's uplink `up0`.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Address of the router on the host's segment.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
/// Address of a neighbour on the host's segment.
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// Address of the outside client.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Address of the router on the client's segment.
pub const ROUTER_OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
/// IPv6 address of the host's uplink, once the world speaks it ([`Topology::dual`]).
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1);
/// IPv6 address of the router on the host's segment.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0xff);
/// IPv6 address of the neighbour on the host's segment.
pub const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 9);
/// IPv6 address of the outside client.
pub const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 7);
/// IPv6 address of the router on the client's segment.
pub const ROUTER_OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0xff);
/// Name of the host's uplink.
pub const UPLINK: &str = "up0";

/// The namespaces of a test.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The host: the agent lives here.
    pub host: Netns,
    /// Its router.
    pub router: Netns,
    /// A client behind the router.
    pub outside: Netns,
    /// A machine on the host's own segment.
    pub neighbour: Netns,
}

impl Topology {
    /// Makes all of it.
    pub fn new() -> Self {
        let topology = Self {
            host: Netns::new("host"),
            router: Netns::new("router"),
            outside: Netns::new("outside"),
            neighbour: Netns::new("neighbour"),
        };
        topology.segment();
        topology.beyond();
        // Whether the agent turns forwarding on is for tests to see.
        topology.host.sysctl_set("net/ipv4/ip_forward", "0");
        wait::wait_until("the outside answers the host", wait::SOON, || {
            topology.host.try_sh(&format!("ping -c 1 -W 1 {OUTSIDE}")).ok()
        });
        topology
    }

    /// The host's segment: a switch in the router's namespace.
    fn segment(&self) {
        let router = &self.router;
        router.sh("ip link add lan0 type bridge stp_state 0");
        veth(&self.host, UPLINK, router, "lan1");
        veth(&self.neighbour, "eth0", router, "lan2");
        for port in ["lan1", "lan2"] {
            router.sh(&format!("ip link set {port} master lan0"));
        }
        router.sh(&format!("ip addr add {ROUTER}/24 dev lan0"));
        router.sh("ip link set lan0 up");
        self.host.sh(&format!("ip addr add {HOST}/24 dev {UPLINK}"));
        self.host.sh(&format!("ip route add default via {ROUTER}"));
        self.neighbour.sh(&format!("ip addr add {NEIGHBOUR}/24 dev eth0"));
        self.neighbour.sh(&format!("ip route add default via {ROUTER}"));
        router.sysctl_set("net/ipv4/ip_forward", "1");
        // The neighbour's packets to the host must not be "redirected" by the router's own advice.
        router.sysctl_set("net/ipv4/conf/all/send_redirects", "0");
        router.sysctl_set("net/ipv4/conf/lan0/send_redirects", "0");
    }

    fn beyond(&self) {
        veth(&self.outside, "eth0", &self.router, "wan0");
        self.router.sh(&format!("ip addr add {ROUTER_OUTSIDE}/24 dev wan0"));
        self.outside.sh(&format!("ip addr add {OUTSIDE}/24 dev eth0"));
        self.outside.sh(&format!("ip route add default via {ROUTER_OUTSIDE}"));
    }

    /// Makes all of it with IPv6 beside IPv4.
    pub fn dual() -> Self {
        let net = Self::new();
        let address = |ns: &Netns, dev: &str, address: Ipv6Addr| {
            ns.sh(&format!("ip -6 addr add {address}/64 dev {dev} nodad"));
        };
        address(&net.router, "lan0", ROUTER6);
        address(&net.router, "wan0", ROUTER_OUTSIDE6);
        net.router.sysctl_set("net/ipv6/conf/all/forwarding", "1");
        for (ns, dev, own, router) in [
            (&net.host, UPLINK, HOST6, ROUTER6),
            (&net.neighbour, "eth0", NEIGHBOUR6, ROUTER6),
            (&net.outside, "eth0", OUTSIDE6, ROUTER_OUTSIDE6),
        ] {
            address(ns, dev, own);
            ns.sh(&format!("ip -6 route add default via {router} dev {dev}"));
        }
        wait::wait_until("the outside answers the host over IPv6", wait::SOON, || {
            net.host.try_sh(&format!("ping -c 1 -W 1 {OUTSIDE6}")).ok()
        });
        net
    }

    /// Makes the router's way to the outside narrower than either end knows.
    pub fn narrow(&self, mtu: u32) {
        self.router.sh(&format!("ip route replace 203.0.113.0/24 dev wan0 mtu lock {mtu}"));
    }

    /// The same over IPv6.
    pub fn narrow6(&self, mtu: u32) {
        self.router
            .sh(&format!("ip -6 route add 2001:db8:113::/64 dev wan0 metric 1 mtu lock {mtu}"));
    }

    /// Has the router, and so the outside, know the way to a subnet behind the host.
    pub fn route_to_host(&self, subnet: &str) {
        self.router.sh(&format!("ip route replace {subnet} via {HOST}"));
        self.neighbour.sh(&format!("ip route replace {subnet} via {HOST}"));
    }

    /// The same for a subnet of IPv6.
    pub fn route6_to_host(&self, subnet: &str) {
        self.router.sh(&format!("ip -6 route replace {subnet} via {HOST6}"));
        self.neighbour.sh(&format!("ip -6 route replace {subnet} via {HOST6}"));
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a veth pair with both ends up.
pub fn veth(a: &Netns, a_name: &str, b: &Netns, b_name: &str) {
    a.sh(&format!(
        "ip link add {a_name} type veth peer name {b_name} netns {}",
        b.path().display()
    ));
    a.sh(&format!("ip link set {a_name} up"));
    b.sh(&format!("ip link set {b_name} up"));
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;
    use crate::{capture::Capture, traffic};

    #[test]
    fn everybody_reaches_everybody_who_has_a_route() {
        let net = Topology::new();
        let server = traffic::TcpServer::start(&net.outside, 80);
        let seen_as = traffic::reaches(&net.host, SocketAddrV4::new(OUTSIDE, 80));
        assert_eq!(*seen_as.ip(), HOST);
        assert_eq!(server.peers().len(), 1);
        let _udp = traffic::UdpServer::start(&net.host, 53);
        let seen_as = traffic::exchange(&net.outside, SocketAddrV4::new(HOST, 53), 4000);
        assert_eq!(*seen_as.ip(), OUTSIDE);
        traffic::answers(&net.outside, NEIGHBOUR);
        traffic::refused(&net.outside, SocketAddrV4::new(HOST, 81));
        let flow =
            traffic::iperf(&net.outside, 5201, &net.host, SocketAddrV4::new(OUTSIDE, 5201), 1, "");
        assert!(flow.received > 1 << 20, "{flow:?}");
    }

    #[test]
    fn everybody_reaches_everybody_over_ipv6_too() {
        use std::net::SocketAddrV6;
        let net = Topology::dual();
        let at = |ip, port| SocketAddrV6::new(ip, port, 0, 0);
        let any = at(Ipv6Addr::UNSPECIFIED, 80);
        let server = traffic::TcpServer::start_at(&net.outside, any);
        let seen_as = traffic::reaches(&net.host, at(OUTSIDE6, 80));
        assert_eq!(*seen_as.ip(), HOST6);
        assert_eq!(server.peers().len(), 1);
        let _udp = traffic::UdpServer::start_at(&net.host, at(Ipv6Addr::UNSPECIFIED, 53));
        assert_eq!(*traffic::exchange(&net.outside, at(HOST6, 53), 4000).ip(), OUTSIDE6);
        traffic::answers(&net.outside, NEIGHBOUR6);
        traffic::refused(&net.outside, at(HOST6, 81));
        let flow = traffic::iperf(&net.outside, 5201, &net.host, at(OUTSIDE6, 5201), 1, "");
        assert!(flow.received > 1 << 20, "{flow:?}");
    }

    #[test]
    fn without_offloads_every_checksum_on_the_wire_is_right() {
        let net = Topology::new();
        net.host.offloads_off(UPLINK);
        net.router.offloads_off("lan1");
        let capture = Capture::both_ways(&net.router, "lan1");
        let _server = traffic::TcpServer::start(&net.neighbour, 80);
        let _udp = traffic::UdpServer::start(&net.neighbour, 53);
        traffic::reaches(&net.host, SocketAddrV4::new(NEIGHBOUR, 80));
        traffic::exchange(&net.host, SocketAddrV4::new(NEIGHBOUR, 53), 100);
        capture.wait_for("the datagram", |packet| packet.ports().is_some_and(|p| p.1 == 53));
        assert!(capture.verify() > 4);
    }
}
