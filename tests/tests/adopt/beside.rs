//! What else is on a host: other bridges, and firewalls.

use std::net::Ipv4Addr;

use bascule_tests::{
    Netns,
    firewall::{Firewalld, Ufw},
    topology::{self, HOST, OUTSIDE},
    traffic::{self, Conversation, TcpServer},
};

use crate::{Stage, at};

#[test]
fn other_bridges_and_firewalls_stay_as_they_are() {
    let stage = Stage::adopted(&["--live-restore"]);
    let (docker, net) = (&stage.docker, &stage.net);
    // A bridge as libvirt makes one, with a guest.
    let guest = Netns::new("guest");
    net.host.sh("ip link add virbr0 type bridge");
    net.host.sh("ip addr add 192.168.122.1/24 dev virbr0");
    net.host.sh("ip link set virbr0 up");
    topology::veth(&net.host, "vnet0", &guest, "eth0");
    net.host.sh("ip link set vnet0 master virbr0");
    net.host.wait_forwarding("vnet0");
    guest.sh("ip addr add 192.168.122.7/24 dev eth0");
    guest.sh("ip route add default via 192.168.122.1");
    let web = docker.container("web", "bridge", "-p 8080:80");
    stage.settle();
    let (_web, _guest) = (TcpServer::start(&web.ns, 80), TcpServer::start(&guest, 80));
    let _host = [22, 81].map(|port| TcpServer::start(&net.host, port));
    traffic::reaches(&net.host, at(Ipv4Addr::new(192, 168, 122, 7), 80));
    traffic::reaches(&guest, at(HOST, 8080));
    traffic::unreachable(&guest, at(web.address(), 80));
    // A guest that somebody plugs into Docker's own bridge is a station of that network, as far as the host's firewall
    // lets bridged packets through: Docker has left its policy at DROP.
    net.host.sh("iptables -P FORWARD ACCEPT");
    let plugged = Netns::new("plugged");
    topology::veth(&net.host, "vnet1", &plugged, "eth0");
    net.host.sh("ip link set vnet1 master docker0");
    net.host.wait_forwarding("vnet1");
    plugged.sh("ip addr add 172.17.200.7/16 dev eth0");
    traffic::reaches(&plugged, at(web.address(), 80));
    // ufw keeps the host's own services, and what is published is Docker's user's to say.
    let ufw = Ufw::new(&net.host);
    ufw.run("allow 22/tcp");
    ufw.run("--force enable");
    let published = || {
        traffic::reaches(&net.outside, at(HOST, 8080));
        traffic::reaches(&net.host, at(Ipv4Addr::LOCALHOST, 8080));
        traffic::answers(&web.ns, OUTSIDE);
    };
    published();
    traffic::reaches(&net.outside, at(HOST, 22));
    traffic::unreachable(&net.outside, at(HOST, 81));
    let fresh = docker.container("fresh", "bridge", "-p 8082:80");
    stage.settle();
    let _fresh = TcpServer::start(&fresh.ns, 80);
    traffic::reaches(&net.outside, at(HOST, 8082));
    // `policy` is obeyed whatever the firewall lets in.
    stage.agent.ok("policy deny add 203.0.113.0/24");
    traffic::unreachable(&net.outside, at(HOST, 8082));
    stage.agent.ok("policy deny rm 203.0.113.0/24");
    traffic::reaches(&net.outside, at(HOST, 8082));
    ufw.run("disable");
    // firewalld, and its reload.
    let firewalld = Firewalld::start(&net.host);
    published();
    assert!(firewalld.cmd("--reload").ok());
    published();
    let closed = Conversation::open(&net.outside, at(HOST, 81));
    assert!(closed.is_err(), "firewalld keeps the host's own services");
}
