//! Published ports of Docker's containers, in every form; nobody meets the sockets that dockerd holds them by.

use std::net::Ipv4Addr;

use bascule_tests::{
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
};

use crate::{Stage, at};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn published_ports_lead_to_containers_from_everywhere() {
    let mut stage = Stage::adopted(&["--live-restore"]);
    {
        let (docker, net) = (&stage.docker, &stage.net);
        docker.ok("network create blue");
        let options = "-p 8080:80 -p 7000-7009:7000-7009 -p 5300:53/udp";
        let web = docker.container("web", "blue", options);
        let own = docker.container("own", "bridge", "-p 127.0.0.1:8081:80");
        let other = docker.container("other", "bridge", "");
        let peer = docker.container("peer", "blue", "");
        stage.settle();
        let _web = [80, 7000, 7009].map(|port| TcpServer::start(&web.ns, port));
        let _udp = UdpServer::start(&web.ns, 53);
        let _own = TcpServer::start(&own.ns, 80);
        // MOBY-PM-002, MOBY-PM-017, CNI-PM-003: from outside, with the client's own address.
        assert_eq!(*traffic::reaches(&net.outside, at(HOST, 8080)).ip(), OUTSIDE);
        // MOBY-PM-029, NETAV-PM-002: ranges; NETAV-PM-001: datagrams.
        for port in [7000, 7009] {
            traffic::reaches(&net.outside, at(HOST, port));
        }
        traffic::exchange(&net.outside, at(HOST, 5300), 400);
        // MOBY-PM-016: from the host itself, by every address.
        for address in [LOOPBACK, HOST, Ipv4Addr::new(127, 0, 0, 9)] {
            traffic::reaches(&net.host, at(address, 8080));
        }
        traffic::exchange(&net.host, at(LOOPBACK, 5300), 400);
        // MOBY-PM-015: Docker's own socket is of IPv4 alone.
        net.host.sh("curl --silent --show-error --max-time 10 http://[::1]:8080/");
        // MOBY-PM-013, MOBY-PM-019, MOBY-INC-006: from other networks, from its own, and from itself.
        for from in [&other, &peer, &web] {
            traffic::reaches(&from.ns, at(HOST, 8080));
            traffic::exchange(&from.ns, at(HOST, 5300), 400);
        }
        // NETAV-PM-003: an address that is named is the only one.
        traffic::reaches(&net.host, at(LOOPBACK, 8081));
        traffic::refused(&net.outside, at(HOST, 8081));
        // `docker port` and `bascule port` say the same.
        assert_eq!(docker.ok("port own"), "80/tcp -> 127.0.0.1:8081");
        let ours = stage.agent.ok("port own");
        assert!(ours.contains("127.0.0.1:8081"), "{ours}");
        // MOBY-PM-024: taken is taken.
        let error = docker.fails("run --detach -p 8080:80 busybox /bin/busybox true");
        assert!(error.contains("port is already allocated"), "{error}");
    }
    // MOBY-LC-014: the daemon takes its sockets again, and the port program of ours lets it.
    stage.restart_docker("KILL");
    stage.settle();
    let (docker, net) = (&stage.docker, &stage.net);
    let error = docker.log();
    assert!(!error.contains("address already in use"), "{error}");
    let web = docker.open("web");
    {
        let _web = TcpServer::start(&web.ns, 80);
        traffic::reaches(&net.outside, at(HOST, 8080));
        traffic::reaches(&net.host, at(LOOPBACK, 8080));
    }
    // MOBY-PM-045, MOBY-PM-020: gone with the container, and the next one's at once.
    drop(web);
    docker.ok("rm --force web");
    stage.settle();
    traffic::refused(&net.outside, at(HOST, 8080));
    let next = docker.container("next", "bridge", "-p 8080:80");
    stage.settle();
    let _next = TcpServer::start(&next.ns, 80);
    traffic::reaches(&net.outside, at(HOST, 8080));
}
