//! Networks: who reaches whom, by which name, and what is seen of it. On the way dockerd says and hears what MOBY-RD-001,
//! MOBY-RD-004, MOBY-RD-005, MOBY-RD-009, MOBY-RD-011 and MOBY-RD-014 are about.

use std::net::SocketAddrV4;

use bascule_tests::{
    dockerd::cases::six,
    topology::{HOST, OUTSIDE},
    traffic, wait,
};
use serde_json::json;

use crate::stage::{DOCKERS, Stage, listed};

#[test]
fn networks_of_a_real_docker() {
    let stage = Stage::start(&[]);
    moby_icc_001_containers_reach_each_other_by_name(&stage);
    moby_api_022_names_are_learnt_and_follow_a_rename(&stage);
    moby_icc_014_options_and_labels_apply(&stage);
    moby_int_001_moby_icc_033_an_internal_network_is_internal(&stage);
    six::moby_icc_003_moby_icc_004_networks_with_ipv6(&stage.way());
    moby_ipam_024_addresses_that_are_asked_for(&stage);
    moby_inc_015_networks_come_and_go_while_a_container_runs(&stage);
    moby_rd_015_moby_rd_020_beside_a_swarm(&stage);
    moby_lc_007_nothing_is_left(&stage);
}

fn container<'a>(found: &'a [serde_json::Value], name: &str) -> Option<&'a serde_json::Value> {
    let name = format!("/{name}");
    found.iter().find(|c| c["Names"][0] == name.as_str())
}

fn moby_icc_001_containers_reach_each_other_by_name(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("network create -d bascule --subnet 10.81.1.0/24 --label team=a blue");
    docker.ok("network create -d bascule green");
    let c1 = docker.container("c1", "blue", "--label app=one");
    let c2 = docker.container("c2", "blue", "--network-alias www");
    let g1 = docker.container("g1", "green", "");
    // As dockerd has it on a host that it has made a router itself.
    stage.net.host.sh("iptables -P FORWARD DROP");
    traffic::answers(&c1.ns, c2.address());
    for name in ["c2", "www", &c2.id[..12]] {
        stage.docker.exec("c1", &format!("ping -c 1 -W 5 {name}"));
    }
    let mac =
        docker.inspect_container("c1")["NetworkSettings"]["Networks"]["blue"]["MacAddress"].clone();
    let seen = c1.ns.mac("eth0").map(|byte| format!("{byte:02x}")).join(":");
    assert_eq!(mac, seen.as_str(), "MOBY-RD-008");
    // Out by the host's address, and not to another network.
    let _server = traffic::TcpServer::start(&stage.net.outside, 80);
    assert_eq!(*traffic::reaches(&c1.ns, SocketAddrV4::new(OUTSIDE, 80)).ip(), HOST);
    traffic::does_not_answer(&c1.ns, g1.address());
    let _server = traffic::TcpServer::start(&g1.ns, 80);
    traffic::tcp::unreachable(&c1.ns, SocketAddrV4::new(g1.address(), 80));
}

fn moby_api_022_names_are_learnt_and_follow_a_rename(stage: &Stage) {
    let id = stage.docker.inspect_container("c1")["Id"].clone();
    wait::wait_until("the names", DOCKERS, || {
        let found = listed(&stage.agent);
        let shown = stage.agent.ok("network ls");
        let c1 = container(&found, "c1");
        c1.is_some_and(|c| c["Id"] == id && c["Labels"]["app"] == "one")
            && container(&found, "c2").is_some()
            && shown.contains(" blue ")
            && shown.contains(" green ")
    });
    assert!(stage.agent.ok("ps").contains("/bin/busybox"), "its command");
    let shown = stage.agent.inspect("network", "blue");
    assert_eq!((&shown["Driver"], &shown["Labels"]["team"]), (&json!("bascule"), &json!("a")));
    assert_eq!(shown["Containers"][id.as_str().expect("an id")]["Name"], "c1");
    wait::wait_until("aliases", DOCKERS, || {
        let shown = stage.agent.inspect("container", "c2");
        shown["NetworkSettings"]["Networks"]["blue"]["Aliases"].to_string().contains("www")
    });
    assert!(stage.agent.metrics().traffic("c1", "out").0 > 0);
    stage.docker.ok("rename c2 two");
    wait::wait_until("the new name", DOCKERS, || {
        let found = listed(&stage.agent);
        container(&found, "two").is_some() && container(&found, "c2").is_none()
    });
    stage.docker.ok("rename two c2");
    assert_eq!(stage.agent.metrics().drops_anywhere("agent_not_ready"), 0);
}

fn moby_icc_014_options_and_labels_apply(stage: &Stage) {
    let docker = &stage.docker;
    let why = stage
        .docker
        .fails("network create -d bascule -o com.docker.network.bridge.enable_icc=maybe bad");
    assert!(why.contains("remote: ") && why.contains("enable_icc"), "{why}");
    docker.ok(
        "network create -d bascule -o com.docker.network.bridge.enable_icc=false \
         -o com.docker.network.driver.mtu=1400 -o com.docker.network.container_iface_prefix=lan quiet",
    );
    let q1 = docker.container("q1", "quiet", "");
    let q2 = docker.container("q2", "quiet", "");
    let address = q2.address_on("lan0");
    traffic::does_not_answer(&q1.ns, address);
    assert!(q1.ns.sh("ip link show lan0").contains("mtu 1400"));
    traffic::answers(&q1.ns, OUTSIDE);
    // A label says it as well, as soon as it is read.
    docker.ok("network create -d bascule --label com.docker.network.bridge.enable_icc=false soon");
    let s1 = docker.container("s1", "soon", "");
    let s2 = docker.container("s2", "soon", "");
    wait::wait_until("the label", DOCKERS, || {
        traffic::ping_with(&s1.ns, s2.address(), 1, "-W 1").received == 0
    });
    // Without a bridge.
    docker.ok("network create -d bascule -o bascule.l2=bpf flat");
    let f1 = docker.container("f1", "flat", "");
    let f2 = docker.container("f2", "flat", "");
    traffic::answers(&f1.ns, f2.address());
    traffic::answers(&f1.ns, OUTSIDE);
    docker.ok("rm -f q1 q2 s1 s2 f1 f2");
    docker.ok("network rm quiet soon flat");
}

fn moby_int_001_moby_icc_033_an_internal_network_is_internal(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("network create -d bascule --internal inside");
    let i1 = docker.container("i1", "inside", "-p 8300:80");
    let i2 = docker.container("i2", "inside", "");
    traffic::answers(&i1.ns, i2.address());
    assert!(!i1.ns.sh("ip route").contains("default"));
    assert_eq!(i1.ns.interfaces().len(), 2, "no way round by another bridge");
    stage.docker.exec("i1", "ping -c 1 -W 5 i2");
    traffic::tcp::refused(&stage.net.outside, SocketAddrV4::new(HOST, 8300));
    docker.ok("rm -f i1 i2");
    docker.ok("network rm inside");
    // And one that the host itself is not on.
    let isolated = "-o com.docker.network.bridge.gateway_mode_ipv4=isolated";
    let why = docker.fails(&format!("network create -d bascule {isolated} alone"));
    assert!(why.contains("can only be used for an internal network"), "{why}");
    docker.ok(&format!(
        "network create -d bascule --internal --subnet 10.81.9.0/24 {isolated} alone"
    ));
    let a1 = docker.container("a1", "alone", "");
    let a2 = docker.container("a2", "alone", "");
    traffic::answers(&a1.ns, a2.address());
    assert!(!stage.net.host.sh("ip -4 addr").contains("10.81.9."), "the host has no address there");
    assert_eq!(a1.ns.sh("ip route show default"), "");
    docker.ok("rm -f a1 a2");
    docker.ok("network rm alone");
}

fn moby_ipam_024_addresses_that_are_asked_for(stage: &Stage) {
    let docker = &stage.docker;
    let fixed = docker.container("fixed", "blue", "--ip 10.81.1.77");
    assert_eq!(fixed.address().to_string(), "10.81.1.77");
    docker.ok("restart -t 0 fixed");
    let fixed = docker.open("fixed");
    assert_eq!(fixed.address().to_string(), "10.81.1.77");
    docker.ok("rm -f fixed");
}

fn moby_inc_015_networks_come_and_go_while_a_container_runs(stage: &Stage) {
    let docker = &stage.docker;
    let (c1, g1) = (docker.open("c1"), docker.open("g1"));
    docker.ok("network connect green c1");
    traffic::answers(&c1.ns, g1.address());
    assert!(c1.ns.interfaces().contains(&"eth1".to_owned()));
    let shown = wait::wait_for("the second network", DOCKERS, || {
        let found = listed(&stage.agent);
        let shown = container(&found, "c1")?.clone();
        shown["NetworkSettings"]["Networks"]["green"].is_object().then_some(shown)
    });
    assert!(shown["NetworkSettings"]["Networks"]["blue"].is_object(), "{shown}");
    docker.ok("network disconnect green c1");
    traffic::does_not_answer(&c1.ns, g1.address());
    assert_eq!(c1.ns.interfaces().len(), 2);
    docker.ok("network disconnect blue c1");
    docker.ok("network connect blue c1");
    stage.docker.exec("c1", "ping -c 1 -W 5 c2");
}

/// What is ours is one host's, and goes on as it was while Docker finds nodes of a swarm.
fn moby_rd_015_moby_rd_020_beside_a_swarm(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok("swarm init --advertise-addr 198.51.100.1 --listen-addr 198.51.100.1");
    docker.ok("network create -d bascule beside");
    let n1 = docker.container("n1", "beside", "-p 8600:80");
    let _server = traffic::TcpServer::start(&n1.ns, 80);
    traffic::reaches(&stage.net.outside, SocketAddrV4::new(HOST, 8600));
    assert!(docker.pings("c1", "c2"));
    let why = docker.fails("network create -d bascule --scope swarm everywhere");
    assert!(why.contains("swarm"), "{why}");
    docker.ok("rm -f n1");
    docker.ok("network rm beside");
    docker.ok("swarm leave --force");
}

fn moby_lc_007_nothing_is_left(stage: &Stage) {
    let docker = &stage.docker;
    let why = stage.docker.fails("network rm blue");
    assert!(why.contains("active endpoints"), "{why}");
    docker.ok("rm -f c1 c2 g1");
    docker.ok("network rm blue green");
    assert_eq!(stage.agent.ok("ps -aq"), "");
    assert_eq!(stage.agent.ok("network ls -q").lines().count(), 2, "host and none");
    let left = stage.net.host.interfaces();
    assert!(
        left.iter().all(|name| !name.starts_with("bs") && !name.starts_with("br-")),
        "{left:?}"
    );
}
