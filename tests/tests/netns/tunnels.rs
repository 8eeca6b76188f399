//! Uplinks that are no Ethernet: a VPN's tunnel, whose packets have no header before IP; and frames with
//! VLAN tags.

use std::net::Ipv4Addr;

use bascule_tests::{
    Container, Netns,
    capture::{Capture, inject},
    frame::Frame,
    topology::{HOST, NEIGHBOUR, OUTSIDE, UPLINK},
    traffic::{self, TcpServer, UdpServer},
    tunnel::Tunnel,
    wait,
};
use serde_json::Value;

use crate::{
    Stage, at,
    monitor::{Monitor, is, packets},
};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 99, 7, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 7, 2);
/// An address behind the far end.
const OFFICE: Ipv4Addr = Ipv4Addr::new(10, 99, 8, 1);

/// A host whose VPN leads to an office.
fn stage(options: &str, mtu: u32) -> (Stage, Container, Netns, Tunnel) {
    let (stage, c1) = Stage::with_one(options);
    let office = Netns::new("office");
    let tunnel = Tunnel::start(&stage.net.host, &office, "vpn0");
    for (ns, own, far) in [(&stage.net.host, OWN, FAR), (&office, FAR, OWN)] {
        ns.sh(&format!("ip link set vpn0 mtu {mtu}"));
        ns.sh(&format!("ip addr add {own}/32 peer {far} dev vpn0"));
    }
    stage.net.host.sh("ip route add 10.99.8.0/24 dev vpn0");
    office.sh(&format!("ip addr add {OFFICE}/32 dev lo"));
    // The agent is told of the device; what it does with it shows in the first packet.
    wait::wait_until("the tunnel is an uplink", wait::SOON, || {
        stage.agent.metrics().text.contains("\"vpn0\"")
            || traffic::ping(&c1.ns, FAR, 1).received == 1
    });
    (stage, c1, office, tunnel)
}

#[test]
fn appendix_d5_a_vpn_is_an_uplink() {
    let (stage, c1, office, _tunnel) = stage("-p 8080:80 -p 8053:53/udp", 1500);
    let (_tcp, _udp) = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
    let (_far, _far_udp) = (TcpServer::start(&office, 80), UdpServer::start(&office, 53));
    for to in [FAR, OFFICE] {
        assert_eq!(*traffic::reaches(&c1.ns, at(to, 80)).ip(), OWN);
        assert_eq!(*traffic::exchange(&c1.ns, at(FAR, 53), 64).ip(), OWN);
        traffic::answers(&c1.ns, to);
    }
    // Fragments out and back.
    traffic::exchange(&c1.ns, at(FAR, 53), 4000);
    traffic::refused(&c1.ns, at(FAR, 81));
    // Published ports, with the client's own address.
    assert_eq!(*traffic::reaches(&office, at(OWN, 8080)).ip(), FAR);
    assert_eq!(*traffic::exchange(&office, at(OWN, 8053), 4000).ip(), FAR);
    traffic::refused(&office, at(OWN, 8081));
    // The other uplink goes on.
    traffic::answers(&c1.ns, OUTSIDE);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    // No way to the container itself.
    office.sh("ip route add 172.16.0.0/12 dev vpn0");
    traffic::unreachable(&office, at(c1.address(), 80));
}

/// What is dropped on such a line has no Ethernet header, and what goes on into a container has one by then.
#[test]
fn p90_packets_of_a_vpn_are_written_as_they_are() {
    let (stage, c1, office, _tunnel) = stage("-p 8080:80", 1500);
    let _server = TcpServer::start(&c1.ns, 80);
    office.sh("ip route add 172.16.0.0/12 dev vpn0");
    let file = stage.agent.places.root().join("traced.pcapng");
    let args = format!("--type trace,drop --port 80 -o json --write {}", file.display());
    let monitor = Monitor::start(&stage, "monitor", &args);
    let on_line = |seen: &Value, kind: &str| is(seen, &[("Type", kind), ("Interface", "vpn0")]);
    monitor.expect(
        "a packet that goes on",
        || {
            traffic::reaches(&office, at(OWN, 8080));
        },
        |seen| on_line(seen, "trace"),
    );
    monitor.expect(
        "one that does not",
        || traffic::unreachable(&office, at(c1.address(), 80)),
        |seen| on_line(seen, "drop"),
    );
    drop(monitor);
    let fields =
        ["frame.interface_name", "frame.encap_type", "ip.src", "tcp.dstport", "frame.comment"];
    let far = FAR.to_string();
    for verdict in ["allowed into c1: ", "dropped into "] {
        let all = packets(&file, fields);
        let mut all = all.iter().filter(|p| p[0] == "vpn0" && p[4].starts_with(verdict)).peekable();
        assert!(all.peek().is_some(), "{verdict}");
        let [ethernet, raw_ip] = ["1", "7"];
        let wanted = if verdict.starts_with("allowed") { ethernet } else { raw_ip };
        for packet in all {
            assert_eq!(packet[1..4], [wanted, &far, "80"], "{packet:?}");
        }
    }
}

#[test]
fn a_vpn_carries_bulk_both_ways() {
    let (_stage, c1, office, _tunnel) = stage("-p 5201:5201", 1500);
    for options in ["", "-R"] {
        let flow = traffic::iperf(&office, 5202, &c1.ns, at(FAR, 5202), 1, options);
        assert!(flow.received > 1 << 20, "{options}: {flow:?}");
        let flow = traffic::iperf(&c1.ns, 5201, &office, at(OWN, 5201), 1, options);
        assert!(flow.received > 1 << 20, "published {options}: {flow:?}");
    }
}

#[test]
fn n26_a_vpn_narrower_than_the_network_loses_nothing() {
    let (_stage, c1, office, _tunnel) = stage("-p 5201:5201", 1380);
    assert!(c1.ns.sh("ip link show dev eth0").contains("mtu 1500 "));
    let flow = traffic::iperf(&office, 5202, &c1.ns, at(FAR, 5202), 1, "");
    assert!(flow.received > 1 << 20, "out: {flow:?}");
    let flow = traffic::iperf(&c1.ns, 5201, &office, at(OWN, 5201), 1, "-R");
    assert!(flow.received > 1 << 20, "answers of a published port: {flow:?}");
    let _udp = UdpServer::start(&office, 53);
    traffic::exchange(&c1.ns, at(FAR, 53), 1400);
    // Who may not fragment is told how much fits.
    c1.ns.sh("ip route flush cache");
    let ping = traffic::ping_with(&c1.ns, FAR, 2, "-i 0.2 -W 1 -s 1400 -M do");
    assert_eq!(ping.received, 0);
    assert!(ping.text.contains("mtu = 1380") || ping.text.contains("mtu=1380"), "{}", ping.text);
}

#[test]
fn appendix_d5_a_vpn_that_comes_up_takes_the_default_route() {
    let (stage, c1, office, _tunnel) = stage("-p 8080:80", 1500);
    let _far = TcpServer::start(&stage.net.outside, 80);
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), HOST);
    office.sh(&format!("ip addr add {OUTSIDE}/32 dev lo"));
    let _office = TcpServer::start(&office, 80);
    stage.net.host.sh("ip route add 0.0.0.0/1 dev vpn0");
    stage.net.host.sh("ip route add 128.0.0.0/1 dev vpn0");
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), OWN);
    stage.net.host.sh("ip route del 0.0.0.0/1");
    stage.net.host.sh("ip route del 128.0.0.0/1");
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), HOST);
}

/// A frame with tags of these protocols before its IPv4 packet.
fn tagged(frame: &Frame, tags: &[(u16, u16)]) -> Vec<u8> {
    let plain = frame.bytes();
    let mut bytes = plain[..12].to_vec();
    for (protocol, tag) in tags {
        bytes.extend(protocol.to_be_bytes());
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend(&plain[12..]);
    bytes
}

#[test]
fn appendix_d7_tagged_frames_of_containers_are_dropped() {
    const CTAG: u16 = 0x8100;
    const STAG: u16 = 0x88a8;
    let (stage, c1, c2) = Stage::with_pair();
    let capture = Capture::arriving(&c2.ns, "eth0");
    let line = Capture::both_ways(&stage.net.host, UPLINK);
    let (from, to) = (format!("{}:9", c1.address()), format!("{}:9", c2.address()));
    let near = Frame::udp(&from, &to).macs(c1.ns.mac("eth0"), c2.ns.mac("eth0"));
    let near = near.data(b"tagged");
    let far = Frame { dst: OUTSIDE.into(), dst_mac: bridge_mac(&stage), ..near.clone() };
    // Priority tags (VLAN 0) as well: a container has no business with them.
    let tags: [&[(u16, u16)]; 5] = [
        &[(CTAG, 7)],
        &[(CTAG, 0)],
        &[(STAG, 7)],
        &[(STAG, 7), (CTAG, 8)],
        &[(CTAG, 7), (CTAG, 8)],
    ];
    let mut count = 0;
    for tags in tags {
        for frame in [&near, &far] {
            inject(&c1.ns, "eth0", &tagged(frame, tags));
            count += 1;
        }
        wait::wait_equal(&format!("drops of {tags:x?}"), wait::SOON, &count, || {
            stage.agent.metrics().drops("c1", "vlan")
        });
    }
    let is_ours = |bytes: &Vec<u8>| bytes.ends_with(b"tagged");
    assert!(!capture.raw().iter().any(is_ours), "a tagged frame reached its neighbour");
    assert!(!line.raw().iter().any(is_ours), "a tagged frame left the host");
    traffic::answers(&c1.ns, c2.address());
}

fn bridge_mac(stage: &Stage) -> [u8; 6] {
    stage.net.host.mac(&crate::bridge_of(stage, "n1"))
}

#[test]
fn tagged_frames_on_an_uplink_are_another_network() {
    // A trunk: what is tagged belongs to whoever has that VLAN's interface, and nobody has.
    let (stage, c1) = Stage::with_one("-p 8053:53/udp");
    let capture = Capture::arriving(&c1.ns, "eth0");
    let frame = Frame::udp(&format!("{NEIGHBOUR}:9"), &format!("{HOST}:8053")).data(b"tagged");
    let frame = frame.macs(stage.net.neighbour.mac("eth0"), stage.net.host.mac(UPLINK));
    let neighbour = &stage.net.neighbour;
    inject(neighbour, "eth0", &frame.clone().vlan(7).bytes());
    inject(neighbour, "eth0", &frame.data(b"plain").bytes());
    capture.wait_for("the untagged one", |packet| packet.bytes().ends_with(b"plain"));
    let tagged = capture.raw().iter().any(|bytes| bytes.ends_with(b"tagged"));
    assert!(!tagged, "a frame of another VLAN reached a published port");
}
