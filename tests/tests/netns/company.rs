//! Other people's programs on the same interfaces: both run, whoever came first.

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    foreign::{Foreign, Place, Side},
    topology::{HOST, OUTSIDE, UPLINK},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

/// Demands that a published port, the way out and the host itself work.
#[track_caller]
fn all_works(stage: &Stage, c1: &bascule_tests::Container) {
    let _server = TcpServer::start(&c1.ns, 80);
    let _own = TcpServer::start(&stage.net.host, 22);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    traffic::reaches(&stage.net.outside, at(HOST, 22));
    traffic::answers(&c1.ns, OUTSIDE);
    traffic::answers(&stage.net.host, OUTSIDE);
}

#[test]
fn appendix_d12_programs_before_and_after_ours_run_too() {
    let net = Topology::new();
    // There before the agent, and there after it; first and last in the chain.
    let mut programs = Vec::new();
    let both = [Side::Ingress, Side::Egress];
    for side in both {
        programs.push((side, "old", Foreign::attach(&net.host, UPLINK, side, Place::Last)));
    }
    let agent = Agent::start(&net.host);
    agent.network("n1", "");
    let mut stage = Stage { agent, net };
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    for side in both {
        let host = &stage.net.host;
        programs.push((side, "first", Foreign::attach(host, UPLINK, side, Place::First)));
        programs.push((side, "last", Foreign::attach(host, UPLINK, side, Place::Last)));
    }
    for round in ["at first", "after a restart of the agent"] {
        let before: Vec<u64> = programs.iter().map(|(.., program)| program.runs()).collect();
        all_works(&stage, &c1);
        for ((side, name, program), before) in programs.iter().zip(before) {
            assert!(program.runs() > before, "{round}, the {name} program at {side:?} did not run");
        }
        stage.agent.restart();
    }
    // They go: ours stay.
    drop(programs);
    all_works(&stage, &c1);
    stage.agent.restart();
    all_works(&stage, &c1);
}

#[test]
fn appendix_d12_programs_on_a_containers_veth_run_too() {
    let mut stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let c2 = stage.agent.container("c2", "n1", "");
    let port = stage.net.host.interfaces().into_iter().filter(|name| name.starts_with("bsc"));
    let watchers: Vec<_> = port
        .map(|veth| Foreign::attach(&stage.net.host, &veth, Side::Ingress, Place::First))
        .collect();
    assert_eq!(watchers.len(), 2);
    for _ in 0..2 {
        let before: Vec<u64> = watchers.iter().map(Foreign::runs).collect();
        all_works(&stage, &c1);
        traffic::answers(&c1.ns, c2.address());
        for (watcher, before) in watchers.iter().zip(before) {
            assert!(watcher.runs() > before, "a program on a veth did not run");
        }
        stage.agent.restart();
    }
}

#[test]
fn appendix_d12_filters_of_tc_stay_and_run() {
    // An administrator's own programs at the older place, clsact: they run after those of TCX.
    let net = Topology::new();
    let mut agent = Agent::prepare(&net.host, Settings::default());
    net.host.sh(&format!("tc qdisc add dev {UPLINK} clsact"));
    let filters = ["ingress", "egress"].map(|side| {
        let pin = agent.places.bpffs().join(format!("somebodys-{side}"));
        let program = Foreign::pinned(&pin);
        let pin = pin.display();
        net.host.sh(&format!("tc filter add dev {UPLINK} {side} prio 7 bpf da pinned {pin}"));
        (side, program)
    });
    agent.launch();
    agent.wait_ready();
    agent.network("n1", "");
    let mut stage = Stage { agent, net };
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    for _ in 0..2 {
        let before: Vec<u64> = filters.iter().map(|(_, filter)| filter.runs()).collect();
        all_works(&stage, &c1);
        for ((side, filter), before) in filters.iter().zip(before) {
            assert!(filter.runs() > before, "the filter at {side} did not run");
        }
        stage.agent.restart();
    }
    assert_eq!(stage.agent.stop(), 0);
    assert!(stage.agent.cleanup(&[]).ok());
    let left = stage.net.host.sh(&format!("tc filter show dev {UPLINK} ingress"));
    assert!(left.contains("somebodys-ingress"), "{left}");
    wait::wait_until("the host goes on", wait::SOON, || {
        traffic::ping(&stage.net.host, OUTSIDE, 1).received == 1
    });
}

#[test]
fn a_container_cannot_say_that_its_packets_were_judged() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "n1", "");
    // Narrower than the container knows.
    stage.net.host.sh(&format!("ip link set {UPLINK} mtu 1400"));
    stage.net.router.sh("ip link set lan1 mtu 1400");
    // Datagrams that may be fragmented on the way.
    c1.ns.sysctl_set("net/ipv4/ip_no_pmtu_disc", "1");
    let server = UdpServer::start(&stage.net.outside, 53);
    // What the programs write on what they send to an uplink themselves.
    let own = Foreign::indexing(&c1.ns, 0xba5c);
    // The kernel forwards what it has to fragment: it leaves by the uplink's program alone.
    for size in [100, 1450] {
        let seen = traffic::exchange(&c1.ns, at(OUTSIDE, 53), size);
        assert_eq!(*seen.ip(), HOST, "{size} bytes");
    }
    assert!(own.runs() > 1, "the container's program did not run");
    assert!(server.peers().iter().all(|peer| peer.ip() == HOST), "{:?}", server.peers());
}
