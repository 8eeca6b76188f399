//! Networks of a container, and what its interfaces are like.

use serde_json::json;

use super::{IDLE, KEY, Way, at, beside};
use crate::{
    Container,
    dockerd::IMAGE,
    topology::OUTSIDE,
    traffic::{self, TcpServer},
};

/// All of it, on networks `blue` and `green`.
pub(super) fn all(way: &Way<'_>) {
    moby_icc_018_moby_api_028_networks_before_the_start(way);
    moby_icc_019_moby_pm_039_a_namespace_that_is_shared(way);
    moby_icc_022_moby_icc_023_moby_icc_024_ethernet_addresses(way);
    moby_icc_011_an_address_that_another_one_gets(way);
    moby_icc_006_moby_icc_010_moby_icc_032_what_an_interface_is_like(way);
    moby_lc_022_ipv6_that_stayed_on_opens_nothing(way);
    moby_icc_033_a_network_without_an_address_of_the_host(way);
    moby_api_010_moby_api_021_networks_by_another_one_and_of_any_name(way);
    what_is_sent_from_a_link_local_address_is_dropped(way);
}

fn moby_icc_018_moby_api_028_networks_before_the_start(way: &Way<'_>) {
    let docker = way.docker;
    for name in ["two", "moved"] {
        docker.ok(&format!("create --name {name} --network blue {IDLE}"));
        docker.ok(&format!("network connect green {name}"));
    }
    docker.ok("network disconnect blue moved");
    let error = docker.fails("network disconnect blue moved");
    assert!(error.contains("is not connected to"), "{error}");
    docker.ok("start two moved");
    let [one, other] = way.containers([("one", "blue", ""), ("other", "green", "")]);
    let (two, moved) = (docker.open("two"), docker.open("moved"));
    assert_eq!(two.ns.interfaces().len(), 3);
    assert_eq!(moved.ns.interfaces().len(), 2);
    for from in [&one, &other] {
        traffic::answers(&from.ns, beside(&two, from));
    }
    traffic::answers(&other.ns, moved.address());
    traffic::does_not_answer(&one.ns, moved.address());
    traffic::does_not_answer(&one.ns, other.address());
    for container in [&two, &moved] {
        traffic::answers(&container.ns, OUTSIDE);
    }
    way.remove("one two other moved");
}

fn moby_icc_019_moby_pm_039_a_namespace_that_is_shared(way: &Way<'_>) {
    let (docker, net) = (way.docker, way.net);
    let web = docker.container("web", "blue", "-p 8080:80");
    let inner = docker.container("inner", "container:web", "");
    (way.settle)(way.agent, docker, &[&inner.id]);
    assert_eq!(inner.ns.inode(), web.ns.inode());
    let _server = TcpServer::start(&inner.ns, 80);
    traffic::reaches(&net.outside, at(crate::topology::HOST, 8080));
    traffic::reaches(&net.host, at(super::LOOPBACK, 8080));
    traffic::reaches(&inner.ns, at(crate::topology::HOST, 8080));
    assert_eq!(way.agent.ok("ps -q").lines().count(), 1, "one endpoint, one container");
    way.remove("inner web");
}

fn moby_icc_022_moby_icc_023_moby_icc_024_ethernet_addresses(way: &Way<'_>) {
    let docker = way.docker;
    // The command line does not say it to this version of the API.
    let body = json!({"Image": IMAGE, "Cmd": ["/bin/busybox", "sleep", "100000"],
                      "MacAddress": "02:00:5e:00:00:99", "HostConfig": {"NetworkMode": "blue"}});
    let answer = docker.request("POST", "/containers/create?name=mac", Some(&body));
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    drop(docker.container("c1", "blue", ""));
    docker.ok("stop --time 0 c1");
    // Who comes in between has the address that the first one had.
    docker.ok("start mac");
    let c2 = docker.container("c2", "blue", "");
    docker.ok("start c1");
    docker.ok("network connect green mac");
    let c1 = docker.open("c1");
    way.settle();
    assert_ne!(c1.ns.mac("eth0"), c2.ns.mac("eth0"));
    traffic::answers(&c1.ns, c2.address());
    for again in [true, false] {
        let mac = docker.open("mac");
        let blue = mac.ns.interfaces().into_iter().find(|interface| {
            interface != "lo" && mac.ns.mac(interface) == [2, 0, 0x5e, 0, 0, 0x99]
        });
        let blue = mac.address_on(&blue.expect("the address that was asked for"));
        assert_eq!(blue, beside(&mac, &c1), "it is the first network's");
        assert_ne!(mac.ns.mac("eth0"), mac.ns.mac("eth1"));
        traffic::answers(&mac.ns, c1.address());
        traffic::answers(&c2.ns, blue);
        if again {
            docker.ok("restart --time 0 mac");
            way.settle();
        }
    }
    way.remove("mac c1 c2");
}

fn moby_icc_011_an_address_that_another_one_gets(way: &Way<'_>) {
    let peer = way.docker.container("peer", "blue", "");
    for name in ["before", "after"] {
        let container = way.container(name, "blue", "--ip 10.71.0.200");
        // The peer and the host know the former one still, for all that they have heard.
        for from in [&peer.ns, &way.net.host] {
            traffic::answers(from, container.address());
        }
        way.remove(name);
    }
    way.remove("peer");
}

fn moby_icc_006_moby_icc_010_moby_icc_032_what_an_interface_is_like(way: &Way<'_>) {
    way.network(
        "narrow",
        &format!(
            "-o com.docker.network.driver.mtu=1400 -o {KEY}.name=own0 \
             -o com.docker.network.container_iface_prefix=lan"
        ),
    );
    let sysctl = "--sysctl net.ipv6.conf.all.disable_ipv6=1";
    let [n1, n2] = way.containers([("n1", "narrow", sysctl), ("n2", "narrow", "")]);
    assert!(way.net.host.ifindex("own0").is_some());
    for container in [&n1, &n2] {
        assert!(container.ns.sh("ip link show lan0").contains("mtu 1400"));
    }
    assert!(!n1.ns.sh("ip address").contains("inet6"));
    assert!(!n2.ns.sh("ip address show dev lan0").contains("inet6"));
    let to = n2.address_on("lan0");
    assert_eq!(traffic::ping_with(&n1.ns, to, 1, "-s 1372 -M do").received, 1);
    assert_eq!(traffic::ping_with(&n1.ns, OUTSIDE, 1, "-s 1372 -M do").received, 1);
    way.remove("n1 n2");
    way.docker.ok("network rm narrow");
}

/// As if Docker had not been able to switch it off: the policy of a network is that of the addresses of its links, too.
fn moby_lc_022_ipv6_that_stayed_on_opens_nothing(way: &Way<'_>) {
    way.network("apart", &format!("-o {KEY}.enable_icc=false"));
    let [a1, a2, b1, b2] = way.containers([
        ("a1", "apart", ""),
        ("a2", "apart", ""),
        ("b1", "blue", ""),
        ("b2", "blue", ""),
    ]);
    let of_link = |container: &Container| {
        for setting in ["accept_dad", "disable_ipv6"] {
            container.ns.sysctl_set(&format!("net/ipv6/conf/eth0/{setting}"), "0");
        }
        let shown = container.ns.sh("ip -6 -o address show dev eth0 scope link");
        let address = shown.split("inet6 ").nth(1).and_then(|rest| rest.split('/').next());
        format!("{}%eth0", address.unwrap_or_else(|| panic!("{}: {shown}", container.name)))
    };
    let [_, to_a2, _, to_b2] = [&a1, &a2, &b1, &b2].map(of_link);
    traffic::does_not_answer(&a1.ns, to_a2);
    traffic::answers(&b1.ns, to_b2);
    way.remove("a1 a2 b1 b2");
    way.docker.ok("network rm apart");
}

fn moby_icc_033_a_network_without_an_address_of_the_host(way: &Way<'_>) {
    way.network(
        "bare",
        &format!("--internal --subnet 10.77.9.0/29 -o {KEY}.inhibit_ipv4=true -o {KEY}.name=bare0"),
    );
    let [c1, c2] = way.containers([("c1", "bare", ""), ("c2", "bare", "")]);
    assert_eq!(way.net.host.addresses("bare0"), []);
    traffic::answers(&c1.ns, c2.address());
    assert!(way.docker.pings("c2", "c1"));
    traffic::does_not_answer(&c1.ns, "10.77.9.1");
    way.remove("c1 c2");
    way.docker.ok("network rm bare");
}

fn moby_api_010_moby_api_021_networks_by_another_one_and_of_any_name(way: &Way<'_>) {
    let docker = way.docker;
    docker.ok(&format!(
        "network create --config-only --subnet 10.77.3.0/24 -o {KEY}.enable_icc=false --label k=v conf"
    ));
    way.network("test@#$", "--config-from conf");
    let [c1, c2] = way.containers([("c1", "test@#$", ""), ("c2", "test@#$", "")]);
    assert!(c1.address().to_string().starts_with("10.77.3."), "{}", c1.address());
    let _server = TcpServer::start(&c2.ns, 80);
    traffic::unreachable(&c1.ns, at(c2.address(), 80));
    traffic::answers(&c1.ns, OUTSIDE);
    assert!(way.agent.ok("network ls").contains(" test@#$ "));
    way.remove("c1 c2");
    docker.ok("network rm test@#$ conf");
}

fn what_is_sent_from_a_link_local_address_is_dropped(way: &Way<'_>) {
    let [plain, peer] =
        way.containers([("plain", "blue", "--link-local-ip 169.254.9.9"), ("peer", "blue", "")]);
    traffic::answers(&plain.ns, peer.address());
    assert!(plain.ns.sh("ip address show dev eth0").contains("169.254.9.9"));
    assert_eq!(traffic::ping_with(&plain.ns, peer.address(), 1, "-W 1 -I 169.254.9.9").received, 0);
    assert!(way.agent.metrics().drops_anywhere("spoofed_ip") > 0);
    way.remove("plain peer");
}
