//! Our IPAM driver, asked by a real dockerd.

use bascule_tests::{traffic, wait};

use crate::stage::{DOCKERS, Stage};

/// What makes a network of ours with addresses of ours.
const CREATE: &str = "network create -d bascule --ipam-driver bascule";
const IDLE: &str = "busybox /bin/busybox sleep 1000";

#[test]
fn moby_rd_018_addresses_of_our_ipam_driver() {
    let mut stage = Stage::start(&[]);
    subnets_of_our_pools(&stage);
    moby_ipam_015_moby_ipam_023_moby_ipam_030_one_after_the_other(&stage);
    moby_ipam_011_moby_ipam_027_addresses_that_are_asked_for(&stage);
    moby_ipam_013_a_small_subnet(&stage);
    // Both sides forget nothing.
    stage.agent.restart();
    stage.docker.end("KILL");
    stage.docker.launch();
    stage.docker.wait_ready();
    let docker = &stage.docker;
    docker.ok("start a1 b1 fixed");
    let [a, b] = ["a1", "b1"].map(|name| docker.open(name));
    traffic::answers(&a.ns, b.address());
    let why = docker.fails(&format!("run -d --name again --network n2 --ip 10.88.0.9 {IDLE}"));
    assert!(why.contains("Address already in use"), "{why}");
    docker.ok("rm -f a1 b1 own c0 c1 c2 c3 fixed twice again");
    docker.ok("network rm n1 n2 n3");
    // Given back: it can be had again by anybody.
    wait::wait_until("the subnet", DOCKERS, || {
        stage.agent.cli(["network", "create", "--subnet", "10.88.0.0/24", "free"]).ok()
    });
}

fn subnets_of_our_pools(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("{CREATE} --ipam-opt k=v n1"));
    let shown = docker.inspect_network("n1");
    let subnet = shown["IPAM"]["Config"][0]["Subnet"].as_str().expect("a subnet").to_owned();
    assert!(subnet.ends_with("/24"), "{subnet}");
    assert!(!subnet.starts_with("172.17."), "docker0 is there");
    // Docker's own driver, with our addresses.
    docker.ok("network create --ipam-driver bascule n3");
    let [a, b, own] = docker.containers([("a1", "n1", ""), ("b1", "n1", ""), ("own", "n3", "")]);
    traffic::answers(&a.ns, b.address());
    assert_ne!(own.address().octets()[..3], a.address().octets()[..3]);
}

fn moby_ipam_015_moby_ipam_023_moby_ipam_030_one_after_the_other(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!(
        "{CREATE} --subnet 10.88.0.0/24 --ip-range 10.88.0.128/25 --gateway 10.88.0.254 \
         --aux-address r=10.88.0.130 n2"
    ));
    let next = |name: &str| docker.container(name, "n2", "").ns.addresses("eth0");
    let given = |last: u8| vec![(std::net::Ipv4Addr::new(10, 88, 0, last), 24)];
    for (name, last) in [("c0", 128), ("c1", 129), ("c2", 131)] {
        assert_eq!(next(name), given(last), "{name}");
    }
    assert!(docker.open("c0").ns.sh("ip route").contains("default via 10.88.0.254"));
    // What was just given back is not given out at once.
    docker.ok("rm -f c0");
    assert_eq!(next("c3"), given(132));
}

fn moby_ipam_011_moby_ipam_027_addresses_that_are_asked_for(stage: &Stage) {
    let docker = &stage.docker;
    // Beside the range, and within the subnet.
    let fixed = docker.container("fixed", "n2", "--ip 10.88.0.9");
    assert_eq!(fixed.address().to_string(), "10.88.0.9");
    let why = docker.fails(&format!("run -d --name twice --network n2 --ip 10.88.0.9 {IDLE}"));
    assert!(why.contains("Address already in use"), "{why}");
    for subnet in ["10.88.0.0/16", "10.88.0.0/24", "10.88.0.64/26"] {
        let why = docker.fails(&format!("{CREATE} --subnet {subnet} n4"));
        assert!(why.contains("Pool overlaps with other one on this address space"), "{why}");
    }
}

fn moby_ipam_013_a_small_subnet(stage: &Stage) {
    let docker = &stage.docker;
    docker.ok(&format!("{CREATE} --subnet 10.89.0.0/30 small"));
    assert_eq!(docker.container("s1", "small", "").address().to_string(), "10.89.0.2");
    let why = docker.fails(&format!("run -d --name s2 --network small {IDLE}"));
    assert!(why.to_lowercase().contains("no available"), "{why}");
    docker.ok("rm -f s1 s2");
    docker.ok("network rm small");
}
