//! Networks and what a container finds in its namespace.

use bascule_tests::{
    container::attachment,
    traffic::{self, TcpServer},
};

use crate::{Stage, at};

fn subnet(stage: &Stage, network: &str) -> String {
    let inspected = stage.agent.inspect("network", network);
    inspected["IPAM"]["Config"][0]["Subnet"].as_str().expect("a subnet").to_owned()
}

#[test]
fn s1_create_prints_the_id_and_ls_shows_it_cut() {
    let stage = Stage::new();
    let id = stage.agent.network("n1", "");
    assert_eq!(id.len(), 64);
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let listed = stage.agent.ok("network ls");
    let mut lines = listed.lines();
    let head: Vec<&str> = lines.next().expect("a head").split("  ").map(str::trim).collect();
    let head: Vec<&str> = head.into_iter().filter(|word| !word.is_empty()).collect();
    assert_eq!(head, ["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
    let line = lines.find(|line| line.contains("n1")).expect("the network");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, [&id[..12], "n1", "bridge", "local"]);
    assert_eq!(stage.agent.inspect("network", &id)["Name"], "n1");
    assert_eq!(stage.agent.inspect("network", &id[..12])["Name"], "n1");
}

#[test]
fn s8_inspect_has_dockers_shape() {
    let stage = Stage::new();
    stage.agent.network(
        "n1",
        "--subnet 172.25.0.0/16 --gateway 172.25.0.254 -o com.docker.network.driver.mtu=1400",
    );
    let c1 = stage.agent.container("c1", "n1", "--ip 172.25.3.3");
    let inspected = stage.agent.inspect("network", "n1");
    assert_eq!(inspected["Scope"], "local");
    assert_eq!(inspected["Driver"], "bridge");
    assert_eq!(inspected["IPAM"]["Driver"], "default");
    assert_eq!(inspected["IPAM"]["Config"][0]["Subnet"], "172.25.0.0/16");
    assert_eq!(inspected["IPAM"]["Config"][0]["Gateway"], "172.25.0.254");
    assert_eq!(inspected["Options"]["com.docker.network.driver.mtu"], "1400");
    assert_eq!(inspected["Labels"], serde_json::json!({}));
    let endpoint = &inspected["Containers"][&c1.id];
    assert_eq!(endpoint["Name"], "c1");
    assert_eq!(endpoint["IPv4Address"], "172.25.3.3/16");
    assert_eq!(endpoint["MacAddress"], "02:42:ac:19:03:03");
    assert_eq!(endpoint["IPv6Address"], "");
    assert_eq!(endpoint["EndpointID"].as_str().map(str::len), Some(64));
    assert_eq!(attachment(&stage.agent, "c1", "n1")["IPAMConfig"]["IPv4Address"], "172.25.3.3");
    // S12: only running containers are listed.
    stage.agent.ok("container stop c1");
    assert_eq!(stage.agent.inspect("network", "n1")["Containers"], serde_json::json!({}));
}

#[test]
fn s42_subnets_are_chosen_without_overlap() {
    let stage = Stage::new();
    // What the host reaches already, by address or by route, is not to be had.
    stage.net.host.sh("ip addr add 172.18.0.9/24 dev up0");
    stage.net.host.sh("ip route add 172.18.1.0/24 via 198.51.100.254");
    stage.agent.network("fixed", "--subnet 172.18.3.0/24");
    let mut seen = vec!["172.18.0.0/24".to_owned(), "172.18.1.0/24".into(), "172.18.3.0/24".into()];
    for name in ["a", "b", "c", "d"] {
        stage.agent.network(name, "");
        let chosen = subnet(&stage, name);
        assert!(!seen.contains(&chosen), "{chosen} was taken");
        seen.push(chosen);
    }
}

#[test]
fn s55_addresses_follow_the_gateway() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.77.0.0/24");
    let c1 = stage.agent.container("c1", "n1", "");
    let c2 = stage.agent.container("c2", "n1", "");
    assert_eq!(c1.address().to_string(), "10.77.0.2");
    assert_eq!(c2.address().to_string(), "10.77.0.3");
    assert_eq!(stage.net.host.addresses(&bridge(&stage, "n1"))[0].0.to_string(), "10.77.0.1");
}

fn bridge(stage: &Stage, network: &str) -> String {
    let id = stage.agent.inspect("network", network)["Id"].as_str().expect("an id").to_owned();
    format!("br-{}", &id[..12])
}

#[test]
fn s62_mac_is_derived_from_the_address() {
    let (_stage, c1, c2) = Stage::with_pair();
    for container in [&c1, &c2] {
        let [a, b, c, d] = container.address().octets();
        assert_eq!(container.ns.mac("eth0"), [0x02, 0x42, a, b, c, d]);
    }
}

#[test]
fn s30_s31_interfaces_come_in_order_with_one_default_route() {
    let stage = Stage::new();
    stage.agent.network("first", "--subnet 10.71.0.0/24");
    stage.agent.network("second", "--subnet 10.72.0.0/24");
    stage.agent.ok("container create --name c1 --network first");
    stage.agent.ok("network connect second c1");
    stage.agent.ok("container start c1");
    let id = stage.agent.inspect("container", "c1")["Id"].as_str().expect("an id").to_owned();
    let c1 = bascule_tests::Container::open(&stage.agent, "c1", &id);
    assert_eq!(c1.address_on("eth0").to_string(), "10.71.0.2");
    assert_eq!(c1.address_on("eth1").to_string(), "10.72.0.2");
    let routes = c1.ns.sh("ip -4 route show");
    let routes: Vec<&str> = routes.lines().map(str::trim).collect();
    let defaults: Vec<&&str> = routes.iter().filter(|r| r.starts_with("default")).collect();
    assert_eq!(defaults.len(), 1, "{routes:?}");
    assert!(defaults[0].starts_with("default via 10.71.0.1 dev eth0"), "{routes:?}");
    for (subnet, device, source) in
        [("10.71.0.0/24", "eth0", "10.71.0.2"), ("10.72.0.0/24", "eth1", "10.72.0.2")]
    {
        let found = routes.iter().any(|route| {
            route.starts_with(&format!("{subnet} dev {device}"))
                && route.contains(&format!("src {source}"))
        });
        assert!(found, "{subnet}: {routes:?}");
    }
}

#[test]
fn s38_loopback_is_up() {
    let (_stage, c1) = Stage::with_one("");
    let shown = c1.ns.sh("ip addr show dev lo");
    assert!(shown.contains("UP"), "{shown}");
    assert!(shown.contains("inet 127.0.0.1/8"), "{shown}");
    assert!(shown.contains("inet6 ::1/128"), "{shown}");
    assert!(shown.contains("mtu 65536"), "{shown}");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&c1.ns, at(std::net::Ipv4Addr::LOCALHOST, 80));
}

#[test]
fn s74_s75_mtu_is_set_per_network_and_differs_between_interfaces_of_a_container() {
    let stage = Stage::new();
    stage.agent.network("large", "--subnet 10.75.1.0/24 -o com.docker.network.driver.mtu=9001");
    stage.agent.network("plain", "--subnet 10.75.2.0/24");
    stage.agent.network("small", "-o com.docker.network.driver.mtu=1280");
    let c1 = stage.agent.container("c1", "large", "");
    let c2 = stage.agent.container("c2", "large", "");
    for network in ["plain", "small"] {
        stage.agent.ok(&format!("network connect {network} c1"));
    }
    stage.agent.ok("network connect plain c2");
    let all = [("eth0", "large", 9001), ("eth1", "plain", 1500), ("eth2", "small", 1280)];
    for (interface, network, mtu) in all {
        let inside = c1.ns.sh(&format!("ip link show dev {interface}"));
        let bridge = stage.net.host.sh(&format!("ip link show dev {}", bridge(&stage, network)));
        for shown in [inside, bridge] {
            assert!(shown.contains(&format!("mtu {mtu} ")), "{shown}");
        }
    }
    // Each carries what it says, and no more.
    for (interface, fits) in [("eth0", 9001), ("eth1", 1500)] {
        let to = c2.address_on(interface);
        let whole = traffic::ping_with(&c1.ns, to, 2, &format!("-W 1 -M do -s {}", fits - 28));
        assert_eq!(whole.received, 2, "{interface}: {whole:?}");
        let over = traffic::ping_with(&c1.ns, to, 1, &format!("-W 1 -M do -s {}", fits - 27));
        assert_eq!(over.received, 0, "{interface}: {over:?}");
    }
}

#[test]
fn moby_icc_001_s93_s99_same_network_reaches_every_port_with_the_own_address() {
    let (_stage, c1, c2) = Stage::with_pair();
    let _tcp = TcpServer::start(&c2.ns, 4444);
    let _udp = traffic::UdpServer::start(&c2.ns, 4444);
    assert_eq!(*traffic::reaches(&c1.ns, at(c2.address(), 4444)).ip(), c1.address());
    assert_eq!(*traffic::exchange(&c1.ns, at(c2.address(), 4444), 100).ip(), c1.address());
    // Larger than a frame: fragments.
    assert_eq!(*traffic::exchange(&c1.ns, at(c2.address(), 4444), 5000).ip(), c1.address());
    traffic::answers(&c1.ns, c2.address());
    traffic::refused(&c1.ns, at(c2.address(), 4445));
}

#[test]
fn s69_the_host_and_its_containers_reach_each_other() {
    let (stage, c1) = Stage::with_one("");
    let gateway = stage.net.host.addresses(&bridge(&stage, "n1"))[0].0;
    let _in_container = TcpServer::start(&c1.ns, 80);
    let _on_host = TcpServer::start(&stage.net.host, 81);
    assert_eq!(*traffic::reaches(&stage.net.host, at(c1.address(), 80)).ip(), gateway);
    assert_eq!(*traffic::reaches(&c1.ns, at(gateway, 81)).ip(), c1.address());
    let seen_as = traffic::reaches(&c1.ns, at(bascule_tests::topology::HOST, 81));
    assert_eq!(*seen_as.ip(), c1.address(), "traffic to the host itself is not translated");
    traffic::answers(&stage.net.host, c1.address());
    traffic::answers(&c1.ns, gateway);
}

#[test]
fn s95_a_container_on_two_networks_talks_to_both() {
    let stage = Stage::new();
    stage.agent.network("left", "");
    stage.agent.network("right", "");
    let both = stage.agent.container("both", "left", "");
    let left = stage.agent.container("left", "left", "");
    let right = stage.agent.container("right", "right", "");
    // S25: on a running container.
    stage.agent.ok("network connect right both");
    for peer in [&left, &right] {
        let _server = TcpServer::start(&peer.ns, 80);
        traffic::reaches(&both.ns, at(peer.address(), 80));
        traffic::answers(&both.ns, peer.address());
    }
    let _server = TcpServer::start(&both.ns, 80);
    traffic::reaches(&right.ns, at(both.address_on("eth1"), 80));
    // It is no router between them.
    traffic::unreachable(&left.ns, at(right.address(), 80));
}

#[test]
fn s32_s34_moby_inc_015_disconnect_takes_the_interface_and_leaves_the_others() {
    let stage = Stage::new();
    stage.agent.network("left", "");
    stage.agent.network("right", "");
    let both = stage.agent.container("both", "left", "");
    let left = stage.agent.container("left", "left", "");
    let right = stage.agent.container("right", "right", "");
    stage.agent.ok("network connect right both");
    traffic::answers(&both.ns, right.address());
    stage.agent.ok("network disconnect right both");
    assert!(both.ns.ifindex("eth1").is_none());
    assert!(both.ns.ifindex("eth0").is_some());
    traffic::answers(&both.ns, left.address());
    // MOBY-INC-015: what is left is the way through the host, which isolation closes.
    traffic::does_not_answer(&both.ns, right.address());
    let networks = &stage.agent.inspect("container", "both")["NetworkSettings"]["Networks"];
    assert_eq!(networks.as_object().map(|map| map.len()), Some(1));
    let members = &stage.agent.inspect("network", "right")["Containers"];
    assert_eq!(members.as_object().map(|map| map.len()), Some(1));
}

#[test]
fn s16_s17_a_network_goes_when_nobody_is_on_it() {
    let (stage, _c1) = Stage::with_one("");
    let bridge = bridge(&stage, "n1");
    let error = stage.agent.refused("network rm n1");
    assert!(error.contains("has active endpoints"), "{error}");
    assert!(stage.net.host.ifindex(&bridge).is_some());
    stage.agent.ok("container stop c1");
    stage.agent.ok("container rm c1");
    stage.agent.ok("network rm n1");
    assert!(stage.net.host.ifindex(&bridge).is_none());
    assert!(!stage.agent.ok("network ls").contains("n1"));
}

#[test]
fn s64_s168_without_ipv6_interfaces_have_their_link_local_address_alone() {
    let (_stage, c1) = Stage::with_one("");
    let [a, b, c, d] = c1.address().octets();
    let want = format!("fe80::42:{a:x}ff:fe{b:02x}:{:x}", u16::from_be_bytes([c, d]));
    let shown = c1.ns.sh("ip -6 addr show dev eth0");
    assert!(shown.contains(&want), "wanted {want}: {shown}");
    assert_eq!(shown.matches("inet6").count(), 1, "no other IPv6 address: {shown}");
}

#[test]
fn s67_host_ends_have_unique_names_and_are_on_the_bridge() {
    let (stage, _c1, _c2) = Stage::with_pair();
    let bridge = bridge(&stage, "n1");
    let shown = stage.net.host.sh(&format!("ip -o link show master {bridge}"));
    let ports: Vec<&str> =
        shown.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next()).collect();
    assert_eq!(ports.len(), 2, "{shown}");
    assert!(ports.iter().all(|name| name.starts_with("bsc") && name.len() == 11), "{ports:?}");
    assert_ne!(ports[0], ports[1]);
    let shown = stage.net.host.sh(&format!("ip -d link show dev {bridge}"));
    assert!(shown.contains("stp_state 0"), "{shown}");
}
