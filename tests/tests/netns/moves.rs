//! Flows whose way out moves: routes that change, and rules that choose by where a packet comes from.

use bascule_tests::{
    topology::{HOST, OUTSIDE, ROUTER, UPLINK},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{
    at, bridge_of,
    lines::{PROVIDER, SECOND, socket, stage, stays},
};

#[test]
fn appendix_d5_flows_follow_a_default_route_that_moves_under_traffic() {
    let (stage, _provider, c1) = stage("");
    let _udp = UdpServer::start(&stage.net.outside, 53);
    let _tcp = TcpServer::start(&stage.net.outside, 80);
    let socket = socket(&c1.ns, 53);
    assert_eq!(*traffic::udp::ask(&socket, 32).expect("an answer").ip(), HOST);
    let ns = c1.ns.clone();
    let ping = std::thread::spawn(move || traffic::ping_with(&ns, OUTSIDE, 60, "-i 0.1 -W 1"));
    stage.net.host.sh(&format!("ip route replace default via {PROVIDER} dev up1"));
    // As Linux does it: a masqueraded flow whose way out changes gets the new line's address.
    wait::wait_until("the same socket's datagrams use the new line", wait::SOON, || {
        traffic::udp::ask(&socket, 32).is_ok_and(|seen| *seen.ip() == SECOND)
    });
    stays(&socket, SECOND);
    assert_eq!(*traffic::reaches(&c1.ns, at(OUTSIDE, 80)).ip(), SECOND);
    let ping = ping.join().expect("ping");
    assert!(ping.received >= 40, "at most two seconds are lost: {}", ping.text);
    // And back, because the second line dies.
    stage.net.host.sh(&format!("ip route replace default via {ROUTER} dev {UPLINK}"));
    stage.net.host.sh("ip link set up1 down");
    wait::wait_until("the same socket's datagrams use the old line", wait::SOON, || {
        traffic::udp::ask(&socket, 32).is_ok_and(|seen| *seen.ip() == HOST)
    });
}

#[test]
fn n39_rules_by_network_and_by_interface_are_obeyed() {
    let (stage, _provider, c1) = stage("");
    stage.agent.network("n2", "--subnet 10.74.0.0/24");
    let c2 = stage.agent.container("c2", "n2", "");
    stage.agent.network("n3", "--subnet 10.75.0.0/24");
    let c3 = stage.agent.container("c3", "n3", "");
    let _udp = UdpServer::start(&stage.net.outside, 53);
    let host = &stage.net.host;
    host.sh(&format!("ip route add default via {PROVIDER} dev up1 table 102"));
    host.sh("ip rule add from 10.73.0.0/24 lookup 102");
    host.sh(&format!("ip rule add iif {} lookup 102", bridge_of(&stage, "n2")));
    let sockets = [&c1, &c2, &c3].map(|container| socket(&container.ns, 53));
    for (socket, want) in sockets.iter().zip([SECOND, SECOND, HOST]) {
        stays(socket, want);
    }
}

#[test]
fn s105_published_ports_are_shut_while_the_host_does_not_forward() {
    let (stage, _provider, c1) = stage("-p 8080:80 -p 8053:53/udp");
    stage.agent.network("n2", "");
    let c2 = stage.agent.container("c2", "n2", "");
    let c3 = stage.agent.container("c3", "n1", "");
    let (_tcp, _udp) = (TcpServer::start(&c1.ns, 80), UdpServer::start(&c1.ns, 53));
    let outside = &stage.net.outside;
    let mut open = traffic::Conversation::open(outside, at(HOST, 8080)).expect("a connection");
    stage.net.host.sysctl_set("net/ipv4/ip_forward", "0");
    traffic::unreachable(outside, at(HOST, 8080));
    assert!(traffic::udp::try_exchange(outside, at(HOST, 8053), 10).is_err());
    // Another network is reached by routing, one's own is not.
    traffic::unreachable(&c2.ns, at(HOST, 8080));
    traffic::reaches(&c3.ns, at(c1.address(), 80));
    open.say().expect("a connection that stands goes on");
    wait::wait_until("the drops are counted", wait::SOON, || {
        stage.agent.metrics().drops_anywhere("forwarding_off") >= 3
    });
    stage.net.host.sysctl_set("net/ipv4/ip_forward", "1");
    traffic::reaches(outside, at(HOST, 8080));
    traffic::reaches(&c2.ns, at(HOST, 8080));
}
