//! The first document: containers on several networks.

use super::{Reader, assert_id};

#[test]
fn s22_s23_s24_s30_s31_s32_the_document_of_several_networks() {
    let reader = Reader::new();
    assert_id(&reader.docker("$ docker network create bluenet"));
    assert_id(&reader.docker("$ docker network create rednet"));
    assert_id(&reader.docker("$ docker run -itd --net bluenet --name c1 busybox sh"));
    let running = reader.attach("c1");
    assert_eq!(running.ns.interfaces(), ["lo", "eth0"]);
    reader.docker("$ docker rm -f c1");

    // Networks before the start.
    assert_id(&reader.docker("$ docker create -it --net bluenet --name c1 busybox sh"));
    let listed = reader.docker("$ docker ps -a");
    let line = listed.lines().find(|line| line.contains(" c1 ")).expect("c1 is listed");
    assert!(line.contains("Created"), "{line}");
    reader.docker("$ docker network connect rednet c1");
    reader.docker("$ docker start c1");
    let inside = reader.attach("c1");
    assert_eq!(inside.ns.interfaces(), ["lo", "eth0", "eth1"]);
    for (interface, network) in [("eth0", "bluenet"), ("eth1", "rednet")] {
        let address = reader.address("c1", network);
        assert_eq!(inside.address_on(interface), address);
        reader.ifconfig("c1", interface, address, 24);
    }
    reader.ifconfig_lo("c1");
    // At a shell inside: the whole table, in the document's order.
    let shown = reader.docker("$ docker exec -i c1 ip route");
    let shown: Vec<_> = shown.lines().map(str::trim).collect();
    let gateway = |network: &str| {
        let found = reader.inspect(&format!("docker network inspect {network}"));
        let config = found[0]["IPAM"]["Config"][0].clone();
        ["Subnet", "Gateway"].map(|key| config[key].as_str().expect("text").to_owned())
    };
    let ([blue, via], [red, _]) = (gateway("bluenet"), gateway("rednet"));
    let connected = |subnet: &str, interface: &str, network: &str| {
        let address = reader.address("c1", network);
        format!("{subnet} dev {interface} proto kernel scope link src {address}")
    };
    let wanted = [
        format!("default via {via} dev eth0"),
        connected(&blue, "eth0", "bluenet"),
        connected(&red, "eth1", "rednet"),
    ];
    assert_eq!(shown, wanted);
    // Detaching removes the interface.
    reader.docker("docker network disconnect rednet c1");
    assert_eq!(inside.ns.interfaces(), ["lo", "eth0"]);
}
