//! Docker's networks with IPv6.

use std::net::SocketAddrV6;

use bascule_tests::{
    Topology,
    dockerd::cases::six,
    topology::{HOST6, OUTSIDE6},
    traffic::{self, TcpServer},
    wait,
};

use crate::{Stage, stage::rules};

#[test]
fn moby_icc_003_moby_icc_005_dockers_networks_with_ipv6() {
    let args = ["--live-restore", "--ipv6", "--fixed-cidr-v6", "fd00:1235::/64"];
    let mut stage = Stage::within(Topology::dual(), &args);
    // Two are there before, on the default network.
    let [d1, d2] = stage.docker.containers([("d1", "bridge", "-p 8410:80"), ("d2", "bridge", "")]);
    stage.adopt();
    stage.settle();
    let any = SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, 80, 0, 0);
    let servers = [&d1.ns, &stage.net.outside].map(|ns| TcpServer::start_at(ns, any));
    wait::wait_until("an address that was tried", wait::SOON, || {
        traffic::ping_with(&d2.ns, d1.address6(), 1, "-W 1").received == 1
    });
    let port = SocketAddrV6::new(HOST6, 8410, 0, 0);
    assert_eq!(*traffic::reaches(&stage.net.outside, port).ip(), OUTSIDE6);
    let far = SocketAddrV6::new(OUTSIDE6, 80, 0, 0);
    assert_eq!(*traffic::reaches(&d2.ns, far).ip(), HOST6);
    drop(servers);
    stage.way().remove("d1 d2");
    six::moby_icc_003_moby_icc_004_networks_with_ipv6(&stage.way());
    assert_eq!(rules(&stage.net.host), "");
}
