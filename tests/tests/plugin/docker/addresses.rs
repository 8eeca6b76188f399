//! Our IPAM driver, asked by a real dockerd.

use bascule_tests::{traffic, wait};

use crate::stage::{DOCKERS, Stage};

#[test]
fn moby_rd_018_addresses_of_our_ipam_driver() {
    let mut stage = Stage::start(&[]);
    let docker = &stage.docker;
    docker.ok("network create -d bascule --ipam-driver bascule --ipam-opt k=v n1");
    let shown = docker.inspect("network", "n1");
    let subnet = shown["IPAM"]["Config"][0]["Subnet"].as_str().expect("a subnet").to_owned();
    assert!(subnet.ends_with("/24"), "{subnet}");
    assert!(!subnet.starts_with("172.17."), "docker0 is there");
    docker.ok(
        "network create -d bascule --ipam-driver bascule --subnet 10.88.0.0/24 --ip-range 10.88.0.128/25 \
         --gateway 10.88.0.254 --aux-address r=10.88.0.130 n2",
    );
    // Docker's own driver, with our addresses.
    docker.ok("network create --ipam-driver bascule n3");
    let a = docker.container("a1", "n1", "");
    let b = docker.container("b1", "n1", "");
    traffic::answers(&a.ns, b.address());
    let own = docker.container("own", "n3", "");
    assert_ne!(own.address().octets()[..3], a.address().octets()[..3]);
    let addresses: Vec<_> = (0..3)
        .map(|n| docker.container(&format!("c{n}"), "n2", "").address().to_string())
        .collect();
    assert_eq!(addresses, ["10.88.0.128", "10.88.0.129", "10.88.0.131"]);
    let fixed = docker.container("fixed", "n2", "--ip 10.88.0.9");
    assert_eq!(fixed.address().to_string(), "10.88.0.9");
    let why = stage
        .fails("run -d --name twice --network n2 --ip 10.88.0.9 busybox /bin/busybox sleep 1000");
    assert!(why.contains("Address already in use"), "{why}");
    let why =
        stage.fails("network create -d bascule --ipam-driver bascule --subnet 10.88.0.0/16 n4");
    assert!(why.contains("Pool overlaps with other one on this address space"), "{why}");
    // Both sides forget nothing.
    stage.agent.restart();
    stage.docker.end("KILL");
    stage.docker.launch();
    stage.docker.wait_ready();
    let docker = &stage.docker;
    docker.ok("start a1 b1 fixed");
    let b = docker.open("b1", &b.id);
    let a = docker.open("a1", &a.id);
    traffic::answers(&a.ns, b.address());
    let why = stage
        .fails("run -d --name again --network n2 --ip 10.88.0.9 busybox /bin/busybox sleep 1000");
    assert!(why.contains("Address already in use"), "{why}");
    docker.ok("rm -f a1 b1 own c0 c1 c2 fixed twice again");
    docker.ok("network rm n1 n2 n3");
    // Given back: it can be had again by anybody.
    wait::wait_until("the subnet", DOCKERS, || {
        stage.agent.cli(["network", "create", "--subnet", "10.88.0.0/24", "free"]).ok()
    });
}
