//! What the agent makes is the kernel's own: plain tools show it, and what does not come about leaves nothing.

use std::net::Ipv4Addr;

use bascule_tests::{
    Agent, Container, Topology,
    agent::Settings,
    topology::HOST,
    traffic::{self, TcpServer},
};
use serde_json::Value;

use crate::{Stage, at};

#[test]
fn s59_s63_s67_s68_s73_s193_the_hosts_own_tools_show_what_is_there() {
    let net = Topology::new();
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--mtu=1400"]));
    let stage = Stage { agent, net };
    let host = &stage.net.host;
    // `ip addr`, `ip route`, `ip link`, and what `brctl show` prints.
    assert!(host.sh("ip -4 -o addr show").contains("bascule0    inet 172.17.0.1/16 "));
    let ports = || {
        let shown = host.sh("ip -o link show master bascule0");
        shown.lines().filter(|line| line.contains(": bsc")).count()
    };
    assert_eq!(ports(), 0);
    let containers = ["c1", "c2", "c3"].map(|name| stage.agent.container(name, "bridge", ""));
    assert!(host.sh("ip -4 route show").contains("172.17.0.0/16 dev bascule0 proto kernel"));
    let shown = host.sh("ip -d -o link show bascule0");
    assert!(shown.contains("mtu 1400 ") && shown.contains("stp_state 0 "), "{shown}");
    assert_eq!(ports(), 3, "one for each container that runs");
    for (last, container) in (2..).zip(&containers) {
        let address = Ipv4Addr::new(172, 17, 0, last);
        assert_eq!(container.ns.addresses("eth0"), [(address, 16)]);
        assert_eq!(container.ns.mac("eth0"), [0x02, 0x42, 0xac, 0x11, 0, last]);
        let routes = container.ns.sh("ip route show default");
        assert!(routes.contains("via 172.17.0.1 dev eth0"), "{routes}");
    }
    stage.agent.ok("stop c3");
    assert_eq!(ports(), 2);
    stage.agent.ok("start c3");
    assert_eq!(ports(), 3);
    stage.agent.ok("rm -f c1 c2 c3");
    assert_eq!(ports(), 0);
}

#[test]
fn s190_a_run_takes_dockers_options_at_once() {
    let stage = Stage::dual();
    stage.agent.network("n1", "--subnet 10.19.0.0/24 --subnet fd19::/64");
    let db = stage.agent.container("db", "n1", "");
    let script =
        "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; ip -o addr show dev eth0";
    let words = "run --rm --name web -h web.example.org --net n1 --ip 10.19.0.90 --ip6 fd19::90 \
                 --network-alias www --link db:store --mac-address 02:42:0a:13:00:5b \
                 --add-host other:192.0.2.7 --dns-search example.org -p 8080:80 --expose 81 -P --";
    let words = words.split_whitespace().chain(["sh", "-c", script]);
    let out = stage.agent.cli(words);
    assert!(out.ok(), "{out:?}");
    for fact in [
        "web.example.org\nweb.example.org\n",
        "search example.org",
        "inet 10.19.0.90/24",
        "inet6 fd19::90/64",
    ] {
        assert!(out.stdout.contains(fact), "{fact:?} is not in {}", out.stdout);
    }
    let has = |a: &str, b: &str| {
        out.stdout.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.first() == Some(&a) && words.contains(&b)
        })
    };
    assert!(has("10.19.0.90", "web.example.org") && has("10.19.0.90", "web"), "{}", out.stdout);
    assert!(has("192.0.2.7", "other"), "{}", out.stdout);
    // `--rm`.
    assert!(!stage.agent.ok("ps -a --format {{.Names}}").lines().any(|name| name == "web"));

    // The same, staying, as others see it.
    let words = "run -d --name web --hostname web --network n1 --mac-address 02:42:0a:13:00:5b \
                 --network-alias www --link db:store --publish 8080:80 --expose 81 --publish-all";
    stage.agent.ok(words);
    let shown = stage.agent.inspect("container", "web");
    let place = &shown["NetworkSettings"]["Networks"]["n1"];
    assert_eq!(place["MacAddress"], "02:42:0a:13:00:5b");
    assert!(place["Aliases"].as_array().expect("aliases").contains(&Value::from("www")));
    assert!(place["Links"].as_array().expect("links").contains(&Value::from("db:store")));
    let ports = stage.agent.ok("port web");
    assert!(ports.contains("80/tcp -> 0.0.0.0:8080") && ports.contains("81/tcp -> "), "{ports}");
    let id = shown["Id"].as_str().expect("an id");
    let web = Container::open(&stage.agent, "web", id);
    let _server = TcpServer::start(&web.ns, 80);
    traffic::reaches(&db.ns, at(web.address(), 80));
}

#[test]
fn netav_lc_004_a_start_that_fails_leaves_nothing_and_the_next_one_works() {
    let stage = Stage::new();
    let host = &stage.net.host;
    stage.agent.network("n1", "--subnet 10.4.0.0/29");
    let before = (host.interfaces(), stage.agent.places.pins());
    let namespaces = || {
        let entries = std::fs::read_dir(stage.agent.places.run().join("netns"));
        entries.map_or(0, Iterator::count)
    };
    let bad = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.nosuch=1";
    // More often than there are addresses.
    for round in 0..8 {
        let line = format!("run -d --name c1 --network name=n1,driver-opt={bad} -p 8080:80");
        let out = stage.agent.cli(line.split_whitespace());
        assert!(out.code == 125 && out.stderr.contains("conf/eth0/nosuch"), "{round}: {out:?}");
        stage.agent.cli(["rm", "-f", "c1"]);
        assert_eq!((host.interfaces(), stage.agent.places.pins()), before, "{round}");
        assert_eq!(namespaces(), 0, "{round}");
        drop(TcpServer::start(host, 8080));
    }
    let c1 = stage.agent.container("c1", "n1", "-p 8080:80");
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
}
