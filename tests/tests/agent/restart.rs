//! Killed and started again: the data plane does not notice.

use std::{collections::BTreeSet, time::Duration};

use bascule_tests::{
    Agent, Topology,
    topology::{HOST, OUTSIDE},
    traffic::{self, Conversation, TcpServer, UdpServer},
    wait,
};

use crate::{at, stream::Stream};

#[test]
fn fifty_kills_lose_no_packet() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    agent.network("n2", "");
    let c1 = agent.container("c1", "n1", "-p 4000:40/udp -p 8080:80");
    let c2 = agent.container("c2", "n1", "");
    let c3 = agent.container("c3", "n2", "");
    let _far = UdpServer::start(&net.outside, 53);
    let _near = UdpServer::start(&c1.ns, 40);
    let _web = TcpServer::start(&c1.ns, 80);
    let streams = [
        Stream::start("within the network", &c2.ns, at(c1.address(), 40)),
        Stream::start("masqueraded", &c2.ns, at(OUTSIDE, 53)),
        Stream::start("published", &net.outside, at(HOST, 4000)),
        Stream::start("a hairpin", &c3.ns, at(HOST, 4000)),
    ];
    let mut conversation = Conversation::open(&net.outside, at(HOST, 8080)).expect("TCP");
    for round in 0..50_u64 {
        agent.kill9();
        if round % 4 < 2 {
            agent.forget_programs();
        }
        agent.launch();
        if round % 2 == 0 {
            agent.wait_ready();
        } else {
            // Somewhere in the middle of the start, each time a little later.
            std::thread::sleep(Duration::from_millis(round * 20));
        }
        conversation.say().unwrap_or_else(|error| panic!("round {round}: TCP: {error}"));
    }
    agent.restart();
    for stream in &streams {
        stream.goes_on();
    }
    for stream in streams {
        stream.end();
    }
    conversation.say().expect("TCP goes on");
    // The agent that is there now knows everything, and its programs are the live ones.
    assert!(agent.metrics().traffic("c1", "in").0 > 100);
    agent.ok("container rm -f c3");
    traffic::refused(&net.outside, at(HOST, 8081));
}

#[test]
fn sigterm_leaves_the_data_plane_and_the_next_start_takes_it_over() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "-p 4000:40/udp");
    let _server = UdpServer::start(&c1.ns, 40);
    let stream = Stream::start("published", &net.outside, at(HOST, 4000));
    // The interface of the server of names is another one with each agent.
    let sorted = || net.host.interfaces().into_iter().collect::<BTreeSet<_>>();
    let pin = || net.host.ifindex("bascule-names").map(|index| format!("/links/{index}-in"));
    let rest = |agent: &Agent, pin: Option<String>| {
        let pin = pin.expect("a server of names");
        let pins = agent.places.pins().into_iter();
        pins.filter(|name| !name.ends_with(&pin)).collect::<Vec<_>>()
    };
    let before = (agent.places.pins(), sorted(), rest(&agent, pin()));
    assert_eq!(agent.stop(), 0, "{}", agent.log());
    stream.goes_on();
    // New flows work too, and the port stays reserved.
    traffic::exchange(&net.neighbour, at(HOST, 4000), 10);
    let taken = net.host.run(|| std::net::UdpSocket::bind(at(HOST, 4000)));
    assert!(taken.is_err(), "the reservation outlives the agent");
    assert_eq!(agent.places.pins(), before.0);
    let out = agent.cli(["network", "ls"]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("agent"), "says that no agent runs: {}", out.stderr);
    agent.launch();
    agent.wait_ready();
    stream.goes_on();
    stream.end();
    assert_eq!(rest(&agent, pin()), before.2);
    assert_eq!(sorted(), before.1);
    let listed = agent.ok("container ls --no-trunc");
    assert!(listed.contains(&c1.id), "{listed}");
}

#[test]
fn what_was_broken_while_the_agent_was_away_is_repaired() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    let id = agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "");
    let c2 = agent.container("c2", "n1", "");
    let bridge = format!("br-{}", &id[..12]);
    agent.kill9();
    // Somebody takes c1's interface off the bridge, and the gateway address away.
    let shown = net.host.sh(&format!("ip -o link show master {bridge}"));
    let port = shown.split(": ").nth(1).and_then(|name| name.split('@').next()).expect("a port");
    net.host.sh(&format!("ip link set {port} nomaster"));
    net.host.sh(&format!("ip addr flush dev {bridge}"));
    agent.launch();
    agent.wait_ready();
    wait::wait_until("the port is back", wait::SOON, || {
        net.host.sh(&format!("ip -o link show master {bridge}")).lines().count() == 2
    });
    wait::wait_until("the address is back", wait::SOON, || !net.host.addresses(&bridge).is_empty());
    traffic::answers(&c1.ns, c2.address());
    traffic::answers(&c1.ns, OUTSIDE);
    // What is broken under its eyes is repaired and counted.
    net.host.sh(&format!("ip addr flush dev {bridge}"));
    wait::wait_until("the address is back", wait::SOON, || !net.host.addresses(&bridge).is_empty());
    wait::wait_until("the repair is counted", wait::SOON, || {
        agent.metrics().sum("bascule_reconcile_repairs_total", &[]) > 0.0
    });
}

#[test]
fn p98_a_container_whose_namespace_vanishes_is_taken_down_as_far_as_it_is_there() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "-p 8080:80");
    let path = bascule_tests::container::sandbox(&agent, &c1.id);
    agent.kill9();
    // As after an unclean end of everything but the store.
    drop(c1);
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).expect("a mount");
    agent.launch();
    agent.wait_ready();
    wait::wait_until("it is no longer running", wait::SOON, || {
        !agent.ok("container ls").split_whitespace().any(|word| word == "c1")
    });
    traffic::becomes_refused(&net.outside, at(HOST, 8080));
    agent.ok("container start c1");
    traffic::refused(&net.outside, at(HOST, 8080));
    agent.ok("container rm -f c1");
}
