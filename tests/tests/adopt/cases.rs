//! What a client of Docker can ask for, on one daemon whose networks are taken over.

use bascule_tests::{
    dockerd::cases,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer},
};

use crate::{Stage, at, stage::settle};

#[test]
fn who_reaches_whom_on_dockers_networks() {
    cases::who_reaches_whom(&Stage::adopted(&["--live-restore"]).way());
}

#[test]
fn what_is_published_of_dockers_networks_and_what_becomes_of_it() {
    let mut stage = Stage::adopted(&["--live-restore"]);
    cases::what_is_published_and_what_becomes_of_it(&stage.way());
    moby_icc_020_moby_inc_016_none_and_the_default_network(&stage);
    s88_a_container_of_dockers_on_a_network_of_ours(&stage);
    cases::outside::moby_inc_011_moby_inc_012_what_the_agent_lets_in(
        &mut stage.agent,
        &stage.docker,
        &stage.net,
        "",
        settle,
    );
}

fn moby_icc_020_moby_inc_016_none_and_the_default_network(stage: &Stage) {
    let docker = &stage.docker;
    let alone = docker.container("alone", "none", "");
    assert_eq!(alone.ns.interfaces(), ["lo"]);
    let d1 = docker.container("d1", "bridge", "");
    let d2 = docker.container("d2", "bridge", "");
    settle(&stage.agent, docker, &[&alone.id]);
    traffic::answers(&d1.ns, d2.address());
    assert!(!docker.pings("d1", "d2"), "no names on the default network");
    docker.ok("rm --force alone d1 d2");
}

fn s88_a_container_of_dockers_on_a_network_of_ours(stage: &Stage) {
    let (docker, agent, net) = (&stage.docker, &stage.agent, &stage.net);
    agent.network("own", "--subnet 10.75.0.0/24");
    let bare = docker.container("bare", "none", "");
    // Docker's containers are Docker's; a namespace is one of ours where it is said to be.
    let blue = docker.container("blue1", "bridge", "");
    settle(agent, docker, &[&bare.id]);
    let why = agent.refused("network connect own blue1");
    assert!(why.contains("Docker"), "{why}");
    for name in ["pid:1", "netns:/run/netns/blue"] {
        let why = agent.refused(&format!("network connect own {name}"));
        assert!(why.contains("`bascule container create --network own --"), "{why}");
    }
    let netns = bare.ns.path();
    agent.ok(&format!(
        "container create --name bare-own --network own --netns {} -p 8800:80",
        netns.display()
    ));
    agent.ok("container start bare-own");
    let peer = agent.container("peer", "own", "");
    let _server = TcpServer::start(&bare.ns, 80);
    traffic::reaches(&peer.ns, at(bare.address(), 80));
    traffic::reaches(&net.outside, at(HOST, 8800));
    traffic::answers(&bare.ns, OUTSIDE);
    traffic::does_not_answer(&blue.ns, bare.address());
    let pinged = docker.ok(&format!("exec bare /bin/busybox ping -c 1 -W 5 {}", peer.address()));
    assert!(pinged.contains("1 packets received"), "{pinged}");
    agent.ok("rm -f bare-own peer");
    assert_eq!(bare.ns.interfaces(), ["lo"]);
    agent.ok("network rm own");
    docker.ok("rm --force bare blue1");
}
