//! What outlives restarts and crashes, and what is given back by them: cases of Docker's own suites.

use bascule_tests::{
    Agent, Container, Topology,
    container::attachment,
    topology::HOST,
    traffic::{self, TcpServer},
    wait,
};
use serde_json::{Value, json};

use crate::at;

fn stage() -> (Topology, Agent) {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    (net, agent)
}

/// Names of the networks that a container is on.
fn networks(agent: &Agent, container: &str) -> Vec<String> {
    let found = agent.inspect("container", container);
    let networks = found["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
    networks.keys().cloned().collect()
}

#[test]
fn moby_lc_003_moby_lc_014_moby_lc_018_attachments_and_ports_survive_crashes() {
    let (net, mut agent) = stage();
    for name in ["nw1", "nw2", "nw3"] {
        agent.network(name, "");
    }
    let three = "--network nw1 --network nw2 --network nw3";
    let id = agent.ok(&format!("run -d --name c1 {three} -p 8080:80"));
    let c1 = Container::open(&agent, "c1", &id);
    let server = TcpServer::start(&c1.ns, 80);
    for graceful in [true, false] {
        if graceful {
            agent.stop();
            agent.launch();
            agent.wait_ready();
        } else {
            agent.restart();
        }
        assert_eq!(networks(&agent, "c1"), ["nw1", "nw2", "nw3"]);
        assert_eq!(agent.ok("port c1"), "80/tcp -> 0.0.0.0:8080");
        traffic::reaches(&net.outside, at(HOST, 8080));
    }
    // It ends while nobody looks, and is started again at once.
    drop((server, c1));
    agent.ok("stop c1");
    agent.restart();
    agent.ok("start c1");
    let c1 = Container::open(&agent, "c1", &id);
    assert_eq!(c1.ns.interfaces(), ["lo", "eth0", "eth1", "eth2"]);
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&net.outside, at(HOST, 8080));
}

#[test]
fn moby_lc_004_containers_of_the_host_survive_a_crash() {
    let (_net, mut agent) = stage();
    let names: Vec<_> = (0..10).map(|n| format!("host{n}")).collect();
    for name in &names {
        agent.ok(&format!("run -d --name {name} --network host"));
    }
    agent.restart();
    let mut up: Vec<_> = agent.ok("ps --format {{.Names}}").lines().map(str::to_owned).collect();
    up.sort();
    assert_eq!(up, names);
    agent.ok(&format!("stop {}", names.join(" ")));
    agent.ok(&format!("start {}", names.join(" ")));
    agent.ok(&format!("rm -f {}", names.join(" ")));
}

#[test]
fn moby_lc_005_changes_to_a_container_that_does_not_run_persist() {
    let (_net, mut agent) = stage();
    agent.network("n1", "");
    agent.network("n2", "");
    let id = agent.ok("create --name c1 --network n1");
    agent.ok("network connect n2 c1");
    agent.restart();
    assert_eq!(networks(&agent, "c1"), ["n1", "n2"]);
    agent.ok("network disconnect n2 c1");
    agent.restart();
    assert_eq!(networks(&agent, "c1"), ["n1"], "S33");
    agent.ok("start c1");
    agent.ok("network connect n2 c1");
    agent.ok("stop c1");
    agent.ok("start c1");
    assert_eq!(networks(&agent, "c1"), ["n1", "n2"]);
    let c1 = Container::open(&agent, "c1", &id);
    assert_eq!(c1.ns.interfaces().len(), 3, "S26");
}

#[test]
fn moby_lc_012_a_bridge_that_lost_its_address_has_it_again() {
    let (net, mut agent) = stage();
    let c1 = agent.container("c1", "bridge", "");
    let before = net.host.addresses("bascule0");
    agent.stop();
    net.host.sh("ip addr flush dev bascule0");
    agent.launch();
    agent.wait_ready();
    wait::wait_equal("the address", wait::SOON, &before, || net.host.addresses("bascule0"));
    wait::wait_until("the host answers", wait::SOON, || {
        traffic::ping(&c1.ns, before[0].0, 1).received == 1
    });
}

#[test]
fn moby_icc_022_moby_icc_024_p12_ethernet_addresses_are_each_containers_own() {
    let (_net, agent) = stage();
    let a = agent.network("a-net", "");
    agent.network("b-net", "");
    let mac = |container: &str, network: &str| {
        attachment(&agent, container, network)["MacAddress"].clone()
    };
    // One that was stopped gets an address again; nobody else has it then, nor its Ethernet address.
    agent.ok("run -d --name one --network a-net");
    agent.ok("stop one");
    agent.ok("run -d --name two --network a-net");
    agent.ok("start one");
    assert_ne!(mac("one", "a-net"), mac("two", "a-net"));
    // What is said of the container is of its first network; each other one has its own.
    let own = json!("02:42:ac:11:00:42");
    let line =
        format!("run -d --name three --mac-address 02:42:ac:11:00:42 --network {}", &a[..12]);
    agent.ok(&line);
    agent.ok("network connect b-net three");
    assert_eq!(mac("three", "a-net"), own);
    assert_ne!(mac("three", "b-net"), own);
    let id = agent.ok("run -d --name four --network a-net");
    let settings = json!({"MacAddress": "02:42:ac:11:00:43"});
    let body: Value = json!({"Container": "four", "EndpointConfig": settings});
    assert_eq!(agent.api("POST", "/networks/b-net/connect", Some(&body)).status, 200);
    assert_eq!(mac("four", "b-net"), json!("02:42:ac:11:00:43"));
    let four = Container::open(&agent, "four", &id);
    assert!(four.ns.sh("ip -o link show eth1").contains("02:42:ac:11:00:43"));
}

#[test]
fn moby_ipam_020_moby_ipam_026_families_and_addresses_without_a_subnet() {
    let (_net, agent) = stage();
    agent.network("six", "--ipv6");
    let subnets = agent.inspect("network", "six")["IPAM"]["Config"].to_string();
    assert!(subnets.contains("\"fd"), "P32: {subnets}");
    // What is said in words of its own counts, not the option.
    for (enable, option) in [(false, "true"), (true, "false")] {
        let name = format!("said-{enable}");
        let options = json!({"com.docker.network.enable_ipv6": option});
        let body = json!({"Name": name, "EnableIPv6": enable, "Options": options});
        assert_eq!(agent.api("POST", "/networks/create", Some(&body)).status, 201);
        assert_eq!(agent.inspect("network", &name)["EnableIPv6"], json!(enable));
    }
    // An address of a subnet that nobody named.
    agent.network("n1", "");
    let subnet = agent.inspect("network", "n1")["IPAM"]["Config"][0]["Subnet"].to_string();
    let ip = subnet.trim_matches('"').replace(".0/24", ".77");
    let c1 = agent.container("c1", "n1", &format!("--ip {ip}"));
    assert_eq!(c1.address().to_string(), ip);
}

#[test]
fn moby_ipam_022_combinations_that_make_no_sense_are_refused_and_leave_nothing() {
    let (_net, agent) = stage();
    agent.network("taken", "--subnet 10.70.0.0/16");
    let before = agent.ok("network ls -q");
    for line in [
        "--subnet 10.71.0.0/16 --ip-range 10.72.0.0/24",
        "--subnet 10.71.0.0/16 --gateway 10.71.0.1 --gateway 10.71.0.2",
        "--subnet 10.71.0.0/16 --subnet 10.71.4.0/24",
        "--subnet 10.70.4.0/24",
        "--subnet 10.64.0.0/12",
    ] {
        let out = agent.cli(format!("network create {line} x").split(' '));
        assert!(matches!(out.code, 1 | 2) && !out.stderr.is_empty(), "{line}: {out:?}");
        assert_eq!(agent.ok("network ls -q"), before, "{line}");
    }
}
