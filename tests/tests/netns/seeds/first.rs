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
        let [a, b, c, d] = address.octets();
        assert_eq!(inside.ns.mac(interface), [0x02, 0x42, a, b, c, d], "from the address");
        let link_local = format!("fe80::42:{a:x}ff:fe{b:02x}:{:x}/64", u16::from_be_bytes([c, d]));
        let shown = inside.ns.sh(&format!("ip -6 -o addr show dev {interface} scope link"));
        assert!(shown.contains(&link_local), "{link_local} is not in {shown}");
        let routes = inside.ns.sh("ip route");
        assert!(routes.contains(&format!("dev {interface}")), "{routes}");
        assert!(routes.contains(&format!("src {address}")), "{routes}");
    }
    let routes = inside.ns.sh("ip route show default");
    assert!(routes.contains("dev eth0") && routes.trim().lines().count() == 1, "{routes}");
    // Detaching removes the interface.
    reader.docker("docker network disconnect rednet c1");
    assert_eq!(inside.ns.interfaces(), ["lo", "eth0"]);
}
