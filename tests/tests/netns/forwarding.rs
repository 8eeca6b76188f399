//! A host that does not forward: said, obeyed, and left alone where the operator wants it so.

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer, UdpServer},
    wait,
};

use crate::{Stage, at};

const FORWARD: &str = "net/ipv4/ip_forward";

fn not_forwarding() -> Stage {
    let net = Topology::new();
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--ip-forward=false"]));
    agent.network("n1", "");
    Stage { agent, net }
}

fn warned(stage: &Stage) -> bool {
    stage.agent.log().lines().any(|line| line.contains("WARN") && line.contains("ip_forward"))
}

#[test]
fn s104_moby_mq_005_forwarding_that_is_off_is_left_so_and_said() {
    let stage = not_forwarding();
    assert_eq!(stage.net.host.sysctl(FORWARD), "0");
    assert!(warned(&stage), "{}", stage.agent.log());
    let status = stage.agent.ok("status");
    assert!(status.contains("forward"), "{status}");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let _udp = UdpServer::start(&stage.net.outside, 53);
    traffic::does_not_answer(&c1.ns, OUTSIDE);
    traffic::unreachable(&c1.ns, at(OUTSIDE, 80));
    assert!(traffic::udp::try_exchange(&c1.ns, at(OUTSIDE, 53), 10).is_err());
    wait::wait_until("the drops are counted", wait::SOON, || {
        stage.agent.metrics().drops("c1", "forwarding_off") >= 4
    });
    // S105: what is not routed works.
    let _server = TcpServer::start(&c2.ns, 80);
    let _host = TcpServer::start(&stage.net.host, 81);
    traffic::reaches(&c1.ns, at(c2.address(), 80));
    traffic::reaches(&c1.ns, at(HOST, 81));
    traffic::reaches(&stage.net.host, at(c2.address(), 80));
    assert_eq!(stage.net.host.sysctl(FORWARD), "0");
}

#[test]
fn s104_forwarding_is_switched_on_by_default_and_stays_when_it_was_on() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    assert_eq!(net.host.sysctl(FORWARD), "1");
    drop(agent);
    // One that was on is the operator's.
    net.host.sysctl_set(FORWARD, "1");
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--ip-forward=false"]));
    assert!(!agent.log().contains("ip_forward"), "{}", agent.log());
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "");
    traffic::answers(&c1.ns, OUTSIDE);
    assert!(agent.cleanup(&[]).code != 2);
    assert_eq!(net.host.sysctl(FORWARD), "1");
}

#[test]
fn ip_forward_switched_off_later_is_warned_of_and_flows_that_stand_go_on() {
    let (stage, c1) = Stage::with_one("-p 8080:80");
    let _far = TcpServer::start(&stage.net.outside, 80);
    let mut open = traffic::Conversation::open(&c1.ns, at(OUTSIDE, 80)).expect("a connection");
    stage.net.host.sysctl_set(FORWARD, "0");
    // Turned off by hand, it is not turned on again behind the operator's back.
    open.say().expect("an open connection goes on");
    traffic::unreachable(&c1.ns, at(OUTSIDE, 80));
    wait::wait_until("the agent warns", wait::START, || warned(&stage));
    assert_eq!(stage.net.host.sysctl(FORWARD), "0");
    stage.net.host.sysctl_set(FORWARD, "1");
    traffic::reaches(&c1.ns, at(OUTSIDE, 80));
}
