//! What the kernel does alone: two ends of a veth pair, a bridge, and routing.

use std::net::Ipv4Addr;

use bascule_tests::topology::veth;

use super::{HOST, OUTSIDE};
use super::{
    Worlds, at, bridge as make_bridge, container, enslave, host_and_outside, path, tireless,
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 3);

/// Nothing between two namespaces: what can be had.
pub fn direct(worlds: &mut Worlds) {
    let (first, second) = (tireless("first"), tireless("second"));
    veth(&first, "eth0", &second, "eth0");
    first.sh(&format!("ip addr add {FIRST}/16 dev eth0"));
    second.sh(&format!("ip addr add {SECOND}/16 dev eth0"));
    first.wait_up("eth0");
    worlds.serve(&first, None);
    worlds.way(path::CONTAINERS, "direct", (&second, None), at(FIRST));
}

/// A bridge, and no netfilter.
pub fn bridge(worlds: &mut Worlds) {
    let host = tireless("host");
    host.sysctl_set("net/bridge/bridge-nf-call-iptables", "0");
    make_bridge(&host, "br0", GATEWAY);
    let first = container(&host, "c1", FIRST, GATEWAY);
    let second = container(&host, "c2", SECOND, GATEWAY);
    enslave(&host, "c1", "br0");
    enslave(&host, "c2", "br0");
    worlds.serve(&first, None);
    worlds.way(path::CONTAINERS, "bridge", (&second, None), at(FIRST));
    worlds.keep(host);
}

/// A host that forwards between its uplink and one container, addresses as they are.
pub fn routed(worlds: &mut Worlds) {
    let (host, outside) = host_and_outside();
    host.sysctl_set("net/ipv4/ip_forward", "1");
    let first = container(&host, "c1", FIRST, GATEWAY);
    host.sh(&format!("ip addr add {GATEWAY}/16 dev c1"));
    host.wait_up("c1");
    outside.sh(&format!("ip route add 10.80.0.0/16 via {HOST}"));
    worlds.serve(&first, None);
    worlds.serve(&outside, None);
    worlds.way(path::PUBLISHED, "routed", (&outside, None), at(FIRST));
    worlds.way(path::OUTSIDE, "routed", (&first, None), at(OUTSIDE));
    worlds.keep(host);
}
