//! The protocol by hand: what dockerd would send, and what it never would.

use std::{
    fs,
    net::SocketAddrV4,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
};

use bascule_tests::{Agent, Netns, Topology, agent::Settings, api, topology::HOST, traffic};
use serde_json::{Value, json};

use crate::caller::{agent, endpoint, network, port, take};

#[test]
fn der_rd_001_moby_rd_013_moby_rd_015_activation_and_capabilities() {
    let (agent, docker) = agent(&Netns::new("host"));
    for body in ["", "null", "{}"] {
        let answer = docker.raw("Plugin.Activate", body.as_bytes());
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, json!({"Implements": ["NetworkDriver", "IpamDriver"]}));
        let answer = docker.raw("NetworkDriver.GetCapabilities", body.as_bytes());
        assert_eq!(answer.body, json!({"Scope": "local", "ConnectivityScope": "local"}));
        let spaces = docker.raw("IpamDriver.GetDefaultAddressSpaces", body.as_bytes()).body;
        assert_eq!(spaces["LocalDefaultAddressSpace"], "bascule-local");
        let capabilities = docker.raw("IpamDriver.GetCapabilities", body.as_bytes()).body;
        assert_eq!(capabilities["RequiresMACAddress"], false);
        docker.ok("NetworkDriver.DiscoverNew", &json!({"DiscoveryType": 1, "DiscoveryData": {}}));
    }
    // What it does not say that it has, nobody asks for.
    let unasked = docker.raw("NetworkDriver.GwAllocCheck", b"{\"Options\": {}}");
    assert_eq!(unasked.status, 404, "{}", unasked.body);
    let refused = docker.fails("NetworkDriver.AllocateNetwork", &json!({"NetworkID": "x"}));
    assert!(refused.contains("swarm"), "{refused}");
    drop(agent);
}

#[test]
fn the_socket_is_roots_alone_replaces_a_stale_one_and_goes_with_the_agent() {
    let host = Netns::new("host");
    let (mut agent, docker) = agent(&host);
    let found = fs::symlink_metadata(docker.socket()).expect("a socket");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    agent.kill9();
    assert!(docker.socket().exists(), "nobody was there to remove it");
    agent.launch();
    agent.wait_ready();
    docker.activate();
    // A second agent does not take the place of one that answers.
    let option = format!("--docker-plugin={}", docker.socket().display());
    let settings = Settings::default().arg(&["--bridge", "none", &option]);
    let mut second = Agent::prepare(&Netns::new("second"), settings);
    second.launch();
    assert_eq!(second.wait_end(), 1);
    assert!(second.log().contains("somebody answers there"), "{}", second.log());
    docker.activate();
    assert_eq!(agent.stop(), 0);
    assert!(!docker.socket().exists());
}

#[test]
fn der_rd_004_an_endpoint_from_its_first_day_to_its_last() {
    let net = Topology::dual();
    let (agent, docker) = agent(&net.host);
    let (n1, e1) = (network(1), endpoint(1));
    docker.create_network(&n1, 1, &json!({}));
    let bridges = net.host.interfaces();
    // An address of IPv6, and no Ethernet address: that is ours to choose.
    let created = docker.create_endpoint(&n1, &e1, "10.82.1.2/24");
    assert_eq!(created, json!({"Interface": {"MacAddress": "02:42:0a:52:01:02"}}));
    let joined = docker.join(&n1, &e1, "/run/docker/netns/000000000001");
    assert_eq!(joined["Gateway"], "10.82.1.1");
    assert_eq!(joined["GatewayIPv6"], "");
    assert_eq!(joined["InterfaceName"]["DstPrefix"], "eth");
    assert_eq!(joined["StaticRoutes"], json!([]));
    let source = joined["InterfaceName"]["SrcName"].as_str().expect("a name").to_owned();
    let shown = net.host.sh(&format!("ip addr show dev {source}"));
    assert!(shown.contains("state DOWN") && !shown.contains("inet"), "{shown}");
    assert!(shown.contains("02:42:0a:52:01:02"), "{shown}");
    // As Docker does it.
    let sandbox = Netns::new("sandbox");
    take(&net.host, &source, &sandbox, "10.82.1.2/24", "10.82.1.1");
    let _server = traffic::TcpServer::start(&sandbox, 80);
    docker.program(&n1, &e1, &[port(6, 80, 8080), port(17, 53, 0)]);
    traffic::reaches(&net.outside, SocketAddrV4::new(HOST, 8080));
    let shown = agent.ok("ps");
    assert!(shown.contains("0.0.0.0:8080->80/tcp"), "{shown}");
    // Once more is no other thing.
    docker.program(&n1, &e1, &[port(17, 53, 0), port(6, 80, 8080)]);
    assert_eq!(shown, agent.ok("ps"));
    assert_eq!(docker.info(&n1, &e1), json!({"Value": {}}));
    docker.revoke(&n1, &e1);
    traffic::tcp::refused(&net.outside, SocketAddrV4::new(HOST, 8080));
    docker.leave(&n1, &e1);
    docker.delete_endpoint(&n1, &e1);
    assert_eq!(net.host.interfaces(), bridges, "nothing is left of the pair");
    docker.delete_network(&n1);
    // What is not there is gone already.
    docker.revoke(&n1, &e1);
    docker.leave(&n1, &e1);
    docker.delete_endpoint(&n1, &e1);
    docker.delete_network(&n1);
    assert_eq!(docker.info(&n1, &e1), json!({"Value": {}}));
}

/// What is shown of containers, but for how long they are up.
const LISTED: &str = "ps -a --format {{.ID}}/{{.Names}}/{{.Networks}}/{{.Ports}}";

#[test]
fn der_rd_007_garbage_is_refused_and_changes_nothing() {
    let (agent, docker) = agent(&Netns::new("host"));
    let (n1, e1) = (network(1), endpoint(1));
    docker.create_network(&n1, 1, &json!({}));
    docker.create_endpoint(&n1, &e1, "10.82.1.2/24");
    let before = (agent.ok("network ls"), agent.ok(LISTED), agent.host.interfaces());
    let own = agent.network("own", "--subnet 10.82.9.0/24");
    let other = endpoint(2);
    let with = |key: &str, value: Value| {
        let mut body =
            json!({"NetworkID": n1, "EndpointID": other, "Interface": {"Address": "10.82.1.3/24"}});
        body[key] = value;
        body
    };
    let ports = |ports: Value| json!({"NetworkID": n1, "EndpointID": e1, "Options": {"com.docker.network.portmap": ports}});
    let cases: Vec<(&str, Value, &str)> = vec![
        ("CreateNetwork", json!({}), "NetworkID"),
        ("CreateNetwork", json!([]), "does not read"),
        ("CreateNetwork", json!({"NetworkID": "nosuch"}), "64 hex"),
        ("CreateNetwork", json!({"NetworkID": network(3)}), "IPv4 or IPv6"),
        (
            "CreateNetwork",
            json!({"NetworkID": network(3), "IPv4Data": [{"Pool": "0.0.0.0/0"}]}),
            "null IPAM",
        ),
        (
            "CreateNetwork",
            json!({"NetworkID": network(3), "IPv4Data": [{"Pool": "10.82.1.0/25"}]}),
            "overlaps",
        ),
        (
            "CreateNetwork",
            json!({"NetworkID": network(3), "IPv4Data": [{"Pool": "x"}]}),
            "prefix length",
        ),
        (
            "CreateNetwork",
            json!({"NetworkID": n1, "IPv4Data": [{"Pool": "10.82.7.0/24"}]}),
            "another one",
        ),
        (
            "CreateNetwork",
            json!({"NetworkID": network(3), "IPv4Data": [{"Pool": "10.82.7.0/24"}],
            "Options": {"com.docker.network.generic": {"com.docker.network.bridge.enable_icc": "maybe"}}}),
            "enable_icc",
        ),
        ("DeleteNetwork", json!({"NetworkID": own}), "not one of Docker's"),
        ("CreateEndpoint", with("NetworkID", network(7).into()), "not found"),
        ("CreateEndpoint", with("NetworkID", own.clone().into()), "not one of Docker's"),
        ("CreateEndpoint", with("EndpointID", "0".into()), "64 hex"),
        ("CreateEndpoint", with("EndpointID", e1.clone().into()), "another one"),
        ("CreateEndpoint", with("Interface", json!({"Address": "10.82.2.2/24"})), "10.82.2.2"),
        ("CreateEndpoint", with("Interface", json!({"Address": "10.82.1.1/24"})), "already in use"),
        ("CreateEndpoint", with("Interface", json!({"Address": "10.82.1.3"})), "prefix"),
        (
            "CreateEndpoint",
            with("Interface", json!({"Address": "10.82.1.3/24", "MacAddress": "x"})),
            "MacAddress",
        ),
        ("CreateEndpoint", with("Interface", json!({})), "needs an address"),
        ("Join", json!({"NetworkID": n1, "EndpointID": other, "SandboxKey": "/x"}), "not known"),
        ("Join", json!({"NetworkID": n1, "EndpointID": e1, "SandboxKey": ""}), "SandboxKey"),
        ("Join", json!({"NetworkID": n1, "EndpointID": e1}), "SandboxKey"),
        ("ProgramExternalConnectivity", json!({"NetworkID": n1, "EndpointID": other}), "not known"),
        ("ProgramExternalConnectivity", ports(json!([port(132, 80, 80)])), "sctp"),
        ("ProgramExternalConnectivity", ports(json!([port(6, 0, 80)])), "port 0"),
        ("ProgramExternalConnectivity", ports(json!("x")), "portmap"),
        ("EndpointOperInfo", json!({}), "EndpointID"),
    ];
    for (method, body, word) in cases {
        let why = docker.fails(&format!("NetworkDriver.{method}"), &body);
        assert!(why.contains(word), "{method} {body}: {why}");
    }
    for body in ["{", "nul", "\"", "\u{0}", "{}{}", "[[[["] {
        let answer = docker.raw("NetworkDriver.CreateEndpoint", body.as_bytes());
        assert!(answer.body["Err"].as_str().is_some_and(|why| !why.is_empty()), "{body}");
    }
    let answer = docker.raw("NetworkDriver.CreateEndpoint", &vec![b' '; (1 << 20) + 1]);
    assert_eq!(answer.status, 413);
    assert!(answer.body["Err"].as_str().is_some_and(|why| why.contains("1048576")));
    for method in ["NetworkDriver.NoSuch", "NoSuch", "", "IpamDriver.NoSuch"] {
        let answer = docker.raw(method, b"{}");
        assert_eq!(answer.status, 404, "{method}");
        assert!(answer.body["Err"].as_str().is_some_and(|why| !why.is_empty()));
    }
    agent.ok("network rm own");
    assert_eq!(before, (agent.ok("network ls"), agent.ok(LISTED), agent.host.interfaces()));
    docker.activate();
}

#[test]
fn moby_rd_016_pools_and_addresses() {
    let net = Topology::new();
    let (mut agent, docker) = agent(&net.host);
    let pool = |pool: &str, range: &str, v6: bool| json!({"AddressSpace": "bascule-local", "Pool": pool, "SubPool": range, "Options": null, "V6": v6});
    let address = |pool: &Value, address: &str, gateway: bool| {
        let options = gateway.then(|| json!({"RequestAddressType": "com.docker.network.gateway"}));
        json!({"PoolID": pool["PoolID"], "Address": address, "Options": options})
    };
    let ask = |method: &str, body: &Value| docker.ok(&format!("IpamDriver.{method}"), body);
    let fails = |method: &str, body: &Value| docker.fails(&format!("IpamDriver.{method}"), body);
    // One of our own choice, until it fits Docker.
    let (first, second) =
        (ask("RequestPool", &pool("", "", false)), ask("RequestPool", &pool("", "", false)));
    assert_ne!(first, second);
    ask("ReleasePool", &json!({"PoolID": first["PoolID"]}));
    assert_eq!(ask("RequestPool", &pool("", "", false)), first, "it is free again");
    let v6 = ask("RequestPool", &pool("", "", true));
    assert!(v6["Pool"].as_str().is_some_and(|p| p.ends_with("::/64")), "{v6}");
    // One that is asked for, twice.
    let p = ask("RequestPool", &pool("10.83.0.0/24", "10.83.0.128/25", false));
    assert_eq!(p["PoolID"], "bascule-local/10.83.0.0/24/10.83.0.128/25");
    assert_eq!(ask("RequestPool", &pool("10.83.0.0/24", "10.83.0.128/25", false)), p);
    assert_eq!(
        fails("RequestPool", &pool("10.83.0.0/25", "", false)),
        "Pool overlaps with other one on this address space"
    );
    assert!(fails("RequestPool", &pool("", "10.0.0.0/24", false)).contains("range"));
    assert!(fails("RequestPool", &pool("10.84.0.0/24", "", true)).contains("IPv6"));
    let other = json!({"AddressSpace": "nosuch", "Pool": "", "V6": false});
    assert!(fails("RequestPool", &other).contains("nosuch"));
    // A gateway can be asked for again; nothing else can.
    let gateway = ask("RequestAddress", &address(&p, "10.83.0.254", true));
    assert_eq!(gateway["Address"], "10.83.0.254/24");
    assert_eq!(ask("RequestAddress", &address(&p, "10.83.0.254", true)), gateway);
    assert_eq!(
        fails("RequestAddress", &address(&p, "10.83.0.254", false)),
        "Address already in use"
    );
    assert_eq!(
        fails("RequestAddress", &address(&p, "10.83.1.1", false)),
        "requested address is out of range"
    );
    assert_eq!(ask("RequestAddress", &address(&p, "10.83.0.7", false))["Address"], "10.83.0.7/24");
    let next = ask("RequestAddress", &address(&p, "", false))["Address"].clone();
    assert_eq!(next, "10.83.0.128/24");
    // All of it outlives the agent.
    agent.restart();
    assert_eq!(ask("RequestAddress", &address(&p, "", false))["Address"], "10.83.0.129/24");
    assert_eq!(fails("RequestAddress", &address(&p, "10.83.0.7", false)), "Address already in use");
    ask("ReleaseAddress", &json!({"PoolID": p["PoolID"], "Address": "10.83.0.7"}));
    ask("RequestAddress", &address(&p, "10.83.0.7", false));
    // Our own networks keep away from it, and it from them.
    assert!(agent.refused("network create --subnet 10.83.0.0/24 x").contains("overlaps"));
    agent.network("own", "--subnet 10.85.0.0/24");
    assert!(fails("RequestPool", &pool("10.85.0.0/16", "", false)).contains("overlaps"));
    // A small one is full at last.
    let small = ask("RequestPool", &pool("10.86.0.0/30", "", false));
    ask("RequestAddress", &address(&small, "", true));
    ask("RequestAddress", &address(&small, "", false));
    assert!(fails("RequestAddress", &address(&small, "", false)).contains("no available IPv4"));
    // Given back as often as it was given, it is gone.
    for _ in 0..3 {
        ask("ReleasePool", &json!({"PoolID": p["PoolID"]}));
    }
    assert!(fails("RequestAddress", &address(&p, "", false)).contains("not known"));
    ask("ReleaseAddress", &json!({"PoolID": p["PoolID"], "Address": "10.83.0.7"}));
    agent.network("free", "--subnet 10.83.0.0/24");
}

#[test]
fn a_body_may_come_late_and_a_connection_may_say_nothing() {
    use std::io::{Read as _, Write as _};
    let (_agent, docker) = agent(&Netns::new("host"));
    let mut silent = std::os::unix::net::UnixStream::connect(docker.socket()).expect("a socket");
    let mut late = std::os::unix::net::UnixStream::connect(docker.socket()).expect("a socket");
    silent.write_all(b"POST /Plug").expect("written");
    let body = format!("{}\n", json!({"NetworkID": network(1)}));
    let head = format!(
        "POST /NetworkDriver.DeleteNetwork HTTP/1.1\r\nHost: \r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    late.write_all(head.as_bytes()).expect("written");
    docker.activate();
    late.write_all(body.as_bytes()).expect("written");
    let mut text = String::new();
    late.read_to_string(&mut text).expect("an answer");
    assert_eq!(api::parse(&text).expect("HTTP").body, json!({}));
}

#[test]
fn an_ipv6_network_says_both_gateways() {
    let (_agent, docker) = agent(&Netns::new("host"));
    let (n1, e1) = (network(1), endpoint(1));
    docker.ok(
        "NetworkDriver.CreateNetwork",
        &json!({"NetworkID": n1, "Options": {"com.docker.network.enable_ipv6": true, "com.docker.network.generic": {}},
            "IPv4Data": [{"AddressSpace": "LocalDefault", "Gateway": "10.82.1.128/24", "Pool": "10.82.1.0/24",
                          "AuxAddresses": {"dns": "10.82.1.200/24"}}],
            "IPv6Data": [{"AddressSpace": "LocalDefault", "Gateway": "fd82:1::1/64", "Pool": "fd82:1::/64"}]}),
    );
    let created = docker.ok(
        "NetworkDriver.CreateEndpoint",
        &json!({"NetworkID": n1, "EndpointID": e1, "Unknown": [1],
            "Interface": {"Address": "10.82.1.2/24", "AddressIPv6": "fd82:1::2/64", "MacAddress": "02:00:00:00:00:07"}}),
    );
    assert_eq!(created, json!({"Interface": {}}), "Docker has chosen it itself");
    let joined = docker.join(&n1, &e1, "/run/docker/netns/a");
    assert_eq!(
        (&joined["Gateway"], &joined["GatewayIPv6"]),
        (&json!("10.82.1.128"), &json!("fd82:1::1"))
    );
    assert_eq!(joined["DisableGatewayService"], false);
    // Nobody gets out of an internal one, and Docker is not to help.
    let (n2, e2) = (network(2), endpoint(2));
    docker.ok(
        "NetworkDriver.CreateNetwork",
        &json!({"NetworkID": n2, "Options": {"com.docker.network.internal": true,
                "com.docker.network.generic": {"com.docker.network.container_iface_prefix": "lan"}},
            "IPv4Data": [{"Gateway": "10.82.2.1/24", "Pool": "10.82.2.0/24"}], "IPv6Data": null}),
    );
    docker.create_endpoint(&n2, &e2, "10.82.2.2/24");
    let joined = docker.join(&n2, &e2, "/run/docker/netns/a");
    assert_eq!((&joined["Gateway"], &joined["DisableGatewayService"]), (&json!(""), &json!(true)));
    assert_eq!(joined["InterfaceName"]["DstPrefix"], "lan");
}
