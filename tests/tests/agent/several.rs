//! Several agents on one kernel, each in a namespace of its own, know nothing of each other.

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    places,
    topology::HOST,
    traffic::{self, TcpServer},
};

use crate::at;

#[test]
fn s19_two_agents_know_nothing_of_each_other() {
    let (one, two) = (Topology::new(), Topology::new());
    let (mut first, second) = (Agent::start(&one.host), Agent::start(&two.host));
    // The same names, subnets, addresses and ports.
    let mut servers = Vec::new();
    for (net, agent) in [(&one, &first), (&two, &second)] {
        agent.network("n1", "--subnet 10.83.0.0/24");
        let c1 = agent.container("c1", "n1", "--ip 10.83.0.5 -p 8080:80");
        let server = TcpServer::start(&c1.ns, 80);
        traffic::reaches(&net.outside, at(HOST, 8080));
        servers.push(server);
    }
    assert!(servers.iter().all(|server| server.peers().len() == 1), "nobody serves the other's");
    assert_eq!(first.metrics().sum("bascule_port_connections_total", &[]), 1.0);
    // One more of its own does not show at the other.
    first.network("n2", "");
    assert!(!second.ok("network ls").contains("n2"));
    // The first goes, with everything.
    assert_eq!(first.stop(), 0);
    let out = first.cleanup(&["--purge"]);
    assert!(out.ok(), "{out:?}");
    traffic::refused(&one.outside, at(HOST, 8080));
    traffic::reaches(&two.outside, at(HOST, 8080));
    second.ok("container rm -f c1");
    traffic::refused(&two.outside, at(HOST, 8080));
}

#[test]
fn a_reservation_holds_in_its_own_namespace_alone() {
    let (one, two) = (Topology::new(), Topology::new());
    let agent = Agent::start(&one.host);
    agent.network("n1", "");
    let _c1 = agent.container("c1", "n1", "-p 8080:80");
    let taken = one.host.run(|| std::net::TcpListener::bind(at(HOST, 8080)));
    assert!(taken.is_err());
    drop(TcpServer::start(&two.host, 8080));
}

#[test]
fn a_second_agent_on_the_same_directories_is_refused() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.network("n1", "");
    let before = (agent.places.pins(), net.host.interfaces());
    let mut command = agent.agent_command(&Settings::default());
    let out = bascule_tests::process::run(&mut command, bascule_tests::wait::START);
    assert_eq!(out.code, 1, "{out:?}");
    let pid = agent.pid().to_string();
    assert!(out.stderr.contains(&pid), "names the process {pid}: {}", out.stderr);
    assert!(out.stderr.contains("another agent"), "{}", out.stderr);
    // One directory in common is enough.
    let other = places::Places::new();
    let mut command = agent.agent_command(&Settings::default());
    command.env("BASCULE_RUN_DIR", other.run());
    let out = bascule_tests::process::run(&mut command, bascule_tests::wait::START);
    assert_eq!(out.code, 1, "{out:?}");
    assert_eq!((agent.places.pins(), net.host.interfaces()), before);
    assert!(agent.ok("network ls").contains("n1"), "the first goes on");
}
