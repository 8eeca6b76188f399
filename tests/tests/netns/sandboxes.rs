//! Containers as sandboxes: how they come to networks, what their interfaces are, and what is said of them.

use std::net::{IpAddr, Ipv4Addr};

use bascule_tests::{
    Container,
    container::attachment,
    topology::{HOST, OUTSIDE},
    traffic::{self, TcpServer},
    wait,
};
use serde_json::{Value, json};

use crate::{Stage, at};

fn default_route(c: &Container) -> String {
    c.ns.sh("ip route show default")
}

fn networks(stage: &Stage, container: &str) -> Vec<String> {
    let shown = stage.agent.inspect("container", container);
    let networks = shown["NetworkSettings"]["Networks"].as_object().expect("an object").clone();
    networks.keys().cloned().collect()
}

fn open(stage: &Stage, name: &str) -> Container {
    let id = stage.agent.ok(&format!("inspect --format {{{{.Id}}}} {name}"));
    Container::open(&stage.agent, name, &id)
}

#[test]
fn s26_s27_s28_s29_s30_create_connect_start_has_every_interface_at_once() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "--internal");
    stage.agent.network("n3", "--subnet 10.61.0.0/24");
    stage.agent.ok("create -it --name c1 --network n1");
    stage.agent.ok("network connect n2 c1");
    stage.agent.ok("network connect --ip 10.61.0.9 n3 c1");
    assert_eq!(stage.agent.ok("ps -a --format {{.Status}}"), "Created", "S28");
    assert_eq!(networks(&stage, "c1"), ["n1", "n2", "n3"]);
    assert_eq!(
        attachment(&stage.agent, "c1", "n1")["IPAddress"],
        "",
        "it has none before its start"
    );
    stage.agent.ok("start c1");
    let c1 = open(&stage, "c1");
    assert_eq!(c1.ns.interfaces(), ["lo", "eth0", "eth1", "eth2"]);
    assert_eq!(c1.address_on("eth2"), Ipv4Addr::new(10, 61, 0, 9));
    // The default route is the first network's, and each network has a route with the own address.
    assert!(default_route(&c1).contains("dev eth0"), "S31: {}", default_route(&c1));
    let routes = c1.ns.sh("ip route");
    assert!(
        routes.contains("10.61.0.0/24 dev eth2") && routes.contains("src 10.61.0.9"),
        "{routes}"
    );
    traffic::answers(&c1.ns, OUTSIDE);
    stage.agent.ok("network disconnect n2 c1");
    assert_eq!(networks(&stage, "c1"), ["n1", "n3"], "S33");
    stage.agent.ok("network connect n2 c1");
    assert!(c1.ns.interfaces().contains(&"eth3".to_owned()), "numbers count up while it runs");
}

#[test]
fn s23_p18_moby_icc_018_every_interface_is_there_before_the_first_process() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let script = "ip -4 -o addr show | wc -l; ip -o link show up | wc -l; ip route show default";
    let words = ["run", "--rm", "--network", "n1", "--network", "n2", "--", "sh", "-c", script];
    let out = stage.agent.cli(words);
    let lines: Vec<_> = out.stdout.lines().collect();
    assert_eq!(lines[..2], ["3", "3"], "{out:?}");
    assert!(lines[2].contains("dev eth0"), "{out:?}");
    let words = "run --rm -- sh -c".split(' ').chain(["ip -4 -o addr show dev eth0"]);
    assert!(stage.agent.cli(words).stdout.contains(" 172.17.0."), "S22: not the default network");
}

#[test]
fn s85_moby_icc_019_a_container_shares_the_network_of_another() {
    let mut stage = Stage::new();
    stage.agent.network("n1", "");
    let web = stage.agent.container("web", "n1", "-p 8080:80 --hostname web.lan");
    let _server = TcpServer::start(&web.ns, 80);
    let inside = |stage: &Stage, what: &str| {
        let words = "run --rm --network container:web -- sh -c".split(' ');
        let out = stage.agent.cli(words.chain([what]));
        assert_eq!(out.code, 0, "{what}: {out:?}");
        out.stdout.trim().to_owned()
    };
    let seen = inside(&stage, "readlink /proc/self/ns/net");
    assert_eq!(seen, format!("net:[{}]", web.ns.inode()));
    assert_eq!(inside(&stage, "hostname"), "web.lan");
    assert!(inside(&stage, "cat /etc/hosts").contains(&format!("{}\tweb.lan web", web.address())));
    assert_eq!(
        inside(&stage, "curl -s -m 5 -o /dev/null -w %{local_ip} 127.0.0.1:80 || true"),
        "127.0.0.1"
    );
    // It stays as an empty one as well, and has nothing of its own to show.
    let id = stage.agent.ok("run -d --name guest --network container:web");
    let shown = stage.agent.inspect("container", "guest");
    assert_eq!(shown["HostConfig"]["NetworkMode"], json!(format!("container:{}", web.id)));
    assert_eq!(shown["NetworkSettings"]["Networks"], json!({}));
    assert_eq!(shown["NetworkSettings"]["SandboxKey"], "");
    let network = stage.agent.inspect("network", "n1");
    assert!(network["Containers"].get(&id).is_none(), "{network}");
    let out = stage.agent.cli(["exec", "guest", "hostname"]);
    assert_eq!(out.stdout, "web.lan\n", "{out:?}");
    for (line, text) in [
        (
            "network connect n1 guest",
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        (
            "create --network container:guest -p 80",
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            "create --network container:guest --expose 80",
            "conflicting options: port exposing and the container type network mode",
        ),
        (
            "create --network container:guest -h x",
            "conflicting options: hostname and the network mode",
        ),
        (
            "create --network container:guest --link web",
            "container type network can't be used with links",
        ),
        ("create --network container:guest --ip 10.0.0.1", "user-defined networks only"),
        ("create --network container:guest --network n1", "conflicting options"),
        ("create --network container:", "invalid container format container:<name|id>"),
        ("create --network container:nobody", "No such container: nobody"),
    ] {
        let error = stage.agent.refused(line);
        assert!(error.contains(text), "{line}: {error}");
    }
    stage.agent.restart();
    assert_eq!(stage.agent.ok("ps --format {{.Names}}").lines().count(), 2);
    assert_eq!(inside(&stage, "readlink /proc/self/ns/net"), seen);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    // Without the other there is nothing left of it.
    stage.agent.ok("stop web");
    assert_eq!(stage.agent.ok("ps --format {{.Names}}"), "");
    let error = stage.agent.refused("start guest");
    assert!(error.contains(&format!("cannot join network of a non running container: {}", web.id)));
    stage.agent.ok("rm web");
    assert!(stage.agent.refused("start guest").contains("No such container"));
    stage.agent.ok("rm guest");
}

#[test]
fn s81_s82_s83_s84_s86_moby_icc_020_host_and_none() {
    let stage = Stage::new();
    let out = stage.agent.cli("run --rm --network none -- ls -m /sys/class/net".split(' '));
    assert_eq!(out.stdout, "lo\n", "S86: {out:?}");
    let out = stage.agent.cli("run --rm --network none -- ping -c 1 -W 2 127.0.0.1".split(' '));
    assert_eq!(out.code, 0, "{out:?}");
    let out = stage.agent.cli("run --rm --network host -- readlink /proc/self/ns/net".split(' '));
    assert_eq!(out.stdout.trim(), format!("net:[{}]", stage.net.host.inode()), "S82");
    stage.agent.ok("run -d --name alone --network none");
    stage.agent.ok("run -d --name hosted --network host");
    for (name, mode) in [("alone", "none"), ("hosted", "host")] {
        let shown = stage.agent.inspect("container", name);
        assert_eq!(shown["HostConfig"]["NetworkMode"], mode);
        let place = &shown["NetworkSettings"]["Networks"][mode];
        assert_eq!(
            (place["IPAddress"].as_str(), place["MacAddress"].as_str()),
            (Some(""), Some(""))
        );
        let id = stage.agent.ok(&format!("network inspect --format {{{{.Id}}}} {mode}"));
        assert_eq!(place["NetworkID"], json!(id));
    }
    assert_eq!(stage.agent.ok("ps --filter name=alone --format {{.Networks}}"), "none");
    // A guest of one in the host's network is there, too.
    let out = stage
        .agent
        .cli("run --rm --network container:hosted -- readlink /proc/self/ns/net".split(' '));
    assert_eq!(out.stdout.trim(), format!("net:[{}]", stage.net.host.inode()));
    for line in ["create --network host --ip 10.0.0.1", "create --network none --network-alias x"] {
        assert!(stage.agent.refused(line).contains("invalid endpoint settings"), "{line}");
    }
}

#[test]
fn s24_every_network_of_one_command_has_options_of_its_own() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.61.1.0/24 --subnet fd61:1::/64");
    stage.agent.network("n2", "--subnet 10.61.2.0/24");
    let line = "run -d --name c1 --network name=n1,ip=10.61.1.7,ip6=fd61:1::7,alias=db,alias=sql \
         --network name=n2,mac-address=02:42:00:00:00:42,gw-priority=5,\
         driver-opt=com.docker.network.endpoint.ifname=net7";
    stage.agent.ok(&line.replace(",         driver", ",driver"));
    let n1 = attachment(&stage.agent, "c1", "n1");
    assert_eq!(n1["IPAMConfig"], json!({"IPv4Address": "10.61.1.7", "IPv6Address": "fd61:1::7"}));
    assert_eq!(n1["Aliases"], json!(["db", "sql"]));
    assert_eq!((&n1["Links"], &n1["DriverOpts"]), (&Value::Null, &Value::Null));
    let n2 = attachment(&stage.agent, "c1", "n2");
    assert_eq!((&n2["GwPriority"], &n2["IPAMConfig"]), (&json!(5), &Value::Null));
    assert_eq!(n2["MacAddress"], "02:42:00:00:00:42");
    assert_eq!(n2["DriverOpts"], json!({"com.docker.network.endpoint.ifname": "net7"}));
    let c1 = open(&stage, "c1");
    assert_eq!(c1.ns.interfaces(), ["lo", "eth0", "net7"]);
    assert!(default_route(&c1).contains("dev net7"), "{}", default_route(&c1));
    let twice = stage.agent.cli("run -d --network name=n1,ip=10.61.1.8 --ip 10.61.1.9".split(' '));
    assert_eq!(twice.code, 2);
    assert!(twice.stderr.contains("cannot specify both --ip and per-network"), "{twice:?}");
}

#[test]
fn s35_s36_s54_inspect_has_dockers_shape() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.61.1.0/24");
    stage.agent.ok("run -d --name c1 -p 8080:80 --expose 443");
    stage.agent.ok("network connect --ip 10.61.1.5 n1 c1");
    let shown = stage.agent.inspect("container", "c1");
    let settings = shown["NetworkSettings"].as_object().expect("an object");
    let keys: Vec<_> = settings.keys().map(String::as_str).collect();
    let docker = [
        "Bridge",
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "HairpinMode",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "LinkLocalIPv6Address",
        "LinkLocalIPv6PrefixLen",
        "MacAddress",
        "Networks",
        "Ports",
        "SandboxID",
        "SandboxKey",
        "SecondaryIPAddresses",
        "SecondaryIPv6Addresses",
    ];
    assert_eq!(keys, docker);
    let ports = json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": null});
    assert_eq!(settings["Ports"], ports);
    // What stands above the networks is the default network's.
    let (first, n1) = (&settings["Networks"]["bridge"], &settings["Networks"]["n1"]);
    let keys: Vec<_> = first.as_object().expect("an object").keys().map(String::as_str).collect();
    let docker = [
        "Aliases",
        "DNSNames",
        "DriverOpts",
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "GwPriority",
        "IPAMConfig",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "Links",
        "MacAddress",
        "NetworkID",
    ];
    assert_eq!(keys, docker);
    for key in ["EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress"] {
        assert_eq!(settings[key], first[key], "{key}");
    }
    for key in ["IPAMConfig", "Links", "Aliases", "DriverOpts", "DNSNames"] {
        assert_eq!(first[key], Value::Null, "{key}");
    }
    assert_eq!(n1["IPAMConfig"], json!({"IPv4Address": "10.61.1.5"}));
    let id = shown["Id"].as_str().expect("an id");
    assert_eq!(n1["DNSNames"], json!(["c1", &id[..12]]));
    let error = stage.agent.refused("create --network bridge --ip 172.17.0.9 --network-alias x");
    assert_eq!(
        error,
        "Error response from daemon: invalid endpoint settings:\n\
         * user-specified IP address is supported on user-defined networks only\n\
         * network-scoped aliases are only supported for user-defined networks"
    );
    stage.agent.ok("stop c1");
    let n1 = attachment(&stage.agent, "c1", "n1");
    assert_eq!((&n1["EndpointID"], &n1["IPAddress"]), (&json!(""), &json!("")));
    assert_eq!(n1["IPAMConfig"], json!({"IPv4Address": "10.61.1.5"}));
}

#[test]
fn p10_p11_moby_icc_026_moby_icc_027_moby_lc_023_interfaces_have_names_and_sysctls_that_were_asked_for()
 {
    let mut stage = Stage::new();
    stage.agent.network("n1", "-o com.docker.network.container_iface_prefix=net");
    stage.agent.network("n2", "");
    stage.agent.network("n3", "--ipv6");
    let c1 = stage.agent.container("c1", "n1", "");
    assert_eq!(c1.ns.interfaces(), ["lo", "net0"], "the network's prefix");
    let sysctls = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.ifname.forwarding=0";
    let name = "com.docker.network.endpoint.ifname=foobar";
    stage.agent.ok(&format!("network connect --driver-opt {sysctls} --driver-opt {name} n2 c1"));
    let v6 = "com.docker.network.endpoint.sysctls=net.ipv6.conf.IFNAME.accept_source_route=1";
    stage.agent.ok(&format!("network connect --driver-opt {v6} n3 c1"));
    assert_eq!(c1.ns.interfaces(), ["lo", "net0", "foobar", "eth0"]);
    let address = attachment(&stage.agent, "c1", "n2")["IPAddress"].clone();
    assert_eq!(json!(c1.address_on("foobar").to_string()), address);
    let set = |stage: &Stage| {
        let c1 = open(stage, "c1");
        assert_eq!(c1.ns.sysctl("net/ipv4/conf/foobar/log_martians"), "1");
        assert_eq!(c1.ns.sysctl("net/ipv4/conf/foobar/forwarding"), "0");
        assert_eq!(c1.ns.sysctl("net/ipv6/conf/eth0/accept_source_route"), "1");
    };
    set(&stage);
    stage.agent.restart();
    set(&stage);
    let clash = stage.agent.refused(&format!("create --network n2 --network name=n3,driver-opt={name} --network name=n1,driver-opt={name} --name c2")
        .replace("create", "container create"));
    assert!(clash.contains("foobar"), "{clash}");
    stage.agent.ok("network disconnect n2 c1");
    assert_eq!(c1.ns.interfaces(), ["lo", "net0", "eth0"]);
    stage.agent.ok("stop c1");
    stage.agent.ok("start c1");
    assert_eq!(open(&stage, "c1").ns.interfaces(), ["lo", "net0", "eth0"]);
    let wrong = stage.agent.refused(
        "network connect --driver-opt com.docker.network.endpoint.sysctls=net.ipv4.conf.eth0.forwarding=1 \
         --alias a..b --link-local-ip 10.0.0.1 n2 c1",
    );
    for text in [
        "unrecognised network interface sysctl 'net.ipv4.conf.eth0.forwarding=1'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V'",
        "* invalid network alias \"a..b\"",
        "* invalid link-local IP address: 10.0.0.1",
    ] {
        assert!(wrong.contains(text), "{wrong}");
    }
    // A sysctl that there is not: nothing of the attachment stays.
    let error = stage.agent.refused(
        "network connect --driver-opt com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.nonsense=1 n2 c1",
    );
    assert!(error.contains("nonsense"), "{error}");
    assert_eq!(networks(&stage, "c1"), ["n1", "n3"]);
    assert_eq!(open(&stage, "c1").ns.interfaces(), ["lo", "net0", "eth0"]);
}

#[test]
fn p9_moby_icc_030_the_highest_priority_gives_the_default_route() {
    let stage = Stage::new();
    for n in 1..=5 {
        stage.agent.network(
            &format!("testnet{n}"),
            &format!("--subnet 10.70.{n}.0/24 --subnet fd70:{n}::/64"),
        );
    }
    stage
        .agent
        .ok("create --name c1 --network name=testnet1,gw-priority=1 --network testnet2 -p 8080:80");
    stage.agent.ok("start c1");
    let c1 = open(&stage, "c1");
    let by = |n: u8| {
        let (v4, v6) = (default_route(&c1), c1.ns.sh("ip -6 route show default"));
        let want4 = format!("default via 10.70.{n}.1 ");
        let want6 = format!("default via fd70:{n}::1 ");
        assert!(v4.starts_with(&want4) && v4.lines().count() == 1, "testnet{n}: {v4}");
        assert!(v6.starts_with(&want6) && v6.lines().count() == 1, "testnet{n}: {v6}");
        // Published ports follow.
        traffic::answers(&c1.ns, OUTSIDE);
    };
    by(1);
    stage.agent.ok("network connect --gw-priority 10 testnet3 c1");
    by(3);
    stage.agent.ok("network connect --gw-priority 10 testnet4 c1");
    by(3);
    stage.agent.ok("network connect --gw-priority=-5 testnet5 c1");
    by(3);
    let _server = TcpServer::start(&c1.ns, 80);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    stage.agent.ok("network disconnect testnet3 c1");
    by(4);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    stage.agent.ok("network disconnect testnet4 c1");
    by(1);
    traffic::reaches(&stage.net.outside, at(HOST, 8080));
    stage.agent.ok("network disconnect testnet1 c1");
    by(2);
    stage.agent.ok("network disconnect testnet2 c1");
    by(5);
}

#[test]
fn moby_lc_010_an_interface_that_was_renamed_inside_is_in_nobodys_way() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    stage.agent.network("n2", "");
    let c1 = stage.agent.container("c1", "n1", "");
    stage.agent.ok("network connect n2 c1");
    c1.ns.sh("ip link set eth1 down");
    c1.ns.sh("ip link set eth1 name mine");
    stage.agent.ok("network disconnect n1 c1");
    stage.agent.ok("network connect n1 c1");
    traffic::answers(&c1.ns, OUTSIDE);
    stage.agent.ok("stop c1");
    stage.agent.ok("start c1");
    let c1 = open(&stage, "c1");
    assert_eq!(c1.ns.interfaces(), ["lo", "eth0", "eth1"]);
    assert_eq!(networks(&stage, "c1"), ["n1", "n2"]);
    traffic::answers(&c1.ns, OUTSIDE);
}

#[test]
fn s41_s61_s70_the_end_of_a_container_gives_everything_back() {
    let stage = Stage::new();
    stage.agent.network("n1", "--subnet 10.61.1.0/29");
    stage.agent.network("n2", "");
    let before = stage.net.host.interfaces().len();
    let bridges = stage.net.host.sh("ip -o link show type bridge").lines().count();
    for _ in 0..3 {
        // Five addresses are left beside the gateway: every end gives its own back.
        stage.agent.ok("run -d --name c1 --network n1 --network n2 -p 8080:80");
        stage.agent.ok("run -d --name c2 --network n1");
        stage.agent.ok("run -d --name c3 --network n1");
        stage.agent.ok("stop c1");
        stage.agent.ok("rm -f c1 c2 c3");
        assert_eq!(stage.net.host.interfaces().len(), before, "S70");
    }
    assert_eq!(stage.net.host.sh("ip -o link show type bridge").lines().count(), bridges);
    let pins = std::fs::read_dir(stage.agent.places.run().join("netns")).expect("there").count();
    assert_eq!(pins, 0, "namespaces stayed");
    let network = stage.agent.inspect("network", "n1");
    assert_eq!(network["Containers"], json!({}));
}

#[test]
fn s53_moby_ipam_024_moby_icc_023_what_was_asked_for_is_kept_over_restarts() {
    let mut stage = Stage::new();
    stage.agent.network("n1", "--subnet 172.28.0.0/16 --subnet 2001:db8:1234::/64");
    stage.agent.ok("run -d --name c1 --network n1 --ip 172.28.99.88 --ip6 2001:db8:1234::9988 --mac-address 02:42:ac:11:00:42");
    stage.agent.ok("run -d --name c2 --network n1");
    for step in ["stop c1", "start c1", "restart", "stop c1", "restart", "start c1"] {
        if step == "restart" {
            stage.agent.restart()
        } else {
            drop(stage.agent.ok(step))
        }
        let place = attachment(&stage.agent, "c1", "n1");
        assert_eq!(place["MacAddress"], "02:42:ac:11:00:42", "{step}");
        assert_eq!(place["IPAMConfig"]["IPv4Address"], "172.28.99.88", "{step}");
        if stage.agent.ok("ps --format {{.Names}}").lines().any(|name| name == "c1") {
            assert_eq!(place["IPAddress"], "172.28.99.88", "{step}");
            assert_eq!(place["GlobalIPv6Address"], "2001:db8:1234::9988", "{step}");
        }
    }
    // Nobody else gets it while its container is away.
    stage.agent.ok("stop c1");
    let error = stage.agent.refused("create --network n1 --ip 172.28.99.88");
    assert!(error.contains("Address already in use"), "{error}");
}

#[test]
fn s187_s188_what_a_crash_leaves_is_in_nobodys_way() {
    let mut stage = Stage::new();
    stage.agent.network("multihost", "");
    stage.agent.ok("run -d --name redis_db --network multihost -p 6379:6379");
    stage.agent.kill9();
    stage.agent.restart();
    // The documents' way out, word for word.
    stage.agent.ok("rm -f redis_db");
    stage.agent.ok("network disconnect -f multihost redis_db");
    stage.agent.ok("run -d --name redis_db --network multihost -p 6379:6379");
    let redis = open(&stage, "redis_db");
    let _server = TcpServer::start(&redis.ns, 6379);
    traffic::reaches(&stage.net.outside, at(HOST, 6379));
    let error = stage.agent.refused("network connect multihost redis_db");
    assert!(
        error.contains("endpoint with name redis_db already exists in network multihost"),
        "{error}"
    );
    let error = stage.agent.refused("network disconnect multihost nobody");
    assert!(error.contains("No such container: nobody"), "{error}");
    assert!(
        stage.agent.refused("network disconnect -f nowhere redis_db").contains("nowhere not found")
    );
}

#[test]
fn n17_an_endpoint_is_disconnected_by_force_by_whatever_it_is_called() {
    let mut stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 = stage.agent.container("c1", "bridge", "");
    let c2 = stage.agent.container("c2", "n1", "");
    let endpoint = || {
        let id = attachment(&stage.agent, "c1", "n1")["EndpointID"].clone();
        id.as_str().expect("an id").to_owned()
    };
    let calls: [&dyn Fn() -> String; 5] =
        [&|| "c1".to_owned(), &|| c1.id.clone(), &|| c1.id[..12].to_owned(), &endpoint, &|| {
            endpoint()[..12].to_owned()
        }];
    for called in calls {
        stage.agent.ok("network connect n1 c1");
        assert_eq!(c1.ns.interfaces().len(), 3, "lo, and one on each network");
        let called = called();
        stage.agent.ok(&format!("network disconnect -f n1 {called}"));
        assert_eq!(c1.ns.interfaces(), ["lo", "eth0"], "{called}");
    }
    // Of that network alone, and not without force.
    stage.agent.ok("network connect n1 c1");
    let id = endpoint();
    stage.agent.ok(&format!("network disconnect -f bridge {id}"));
    let error = stage.agent.refused(&format!("network disconnect n1 {id}"));
    assert!(error.contains(&format!("No such container: {id}")), "{error}");
    assert_eq!(c1.ns.interfaces().len(), 3);
    // After a crash, and when the container is gone.
    stage.agent.kill9();
    stage.agent.restart();
    assert_eq!(attachment(&stage.agent, "c1", "n1")["EndpointID"], id, "it is the same");
    stage.agent.ok(&format!("network disconnect -f n1 {id}"));
    assert_eq!(c1.ns.interfaces(), ["lo", "eth0"]);
    stage.agent.ok("rm -f c1");
    for gone in [&id, &c1.id] {
        stage.agent.ok(&format!("network disconnect -f n1 {gone}"));
    }
    assert_eq!(c2.ns.interfaces(), ["lo", "eth0"], "nobody else's");
}

#[test]
fn link_local_addresses_that_were_asked_for_are_there() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let c1 =
        stage.agent.container("c1", "n1", "--link-local-ip 169.254.7.1 --link-local-ip fe80::7:1");
    let c2 = stage.agent.container("c2", "n1", "--link-local-ip 169.254.7.2");
    let shown = attachment(&stage.agent, "c1", "n1")["IPAMConfig"]["LinkLocalIPs"].clone();
    assert_eq!(shown, json!(["169.254.7.1", "fe80::7:1"]));
    let addresses = c1.ns.sh("ip -o addr show dev eth0");
    assert!(
        addresses.contains("169.254.7.1/16") && addresses.contains("fe80::7:1/64"),
        "{addresses}"
    );
    let error = stage.agent.refused("create --network n1 --link-local-ip 169.254.7.1");
    assert!(error.contains("Address already in use"), "{error}");
    drop((c1, c2));
}

#[test]
fn s71_names_for_ip_netns_are_links_that_go_with_their_containers() {
    let stage = Stage::new();
    stage.agent.network("n1", "");
    let name = format!("box-{}-{}", std::process::id(), stage.net.host.inode());
    let c1 = stage.agent.container(&name, "n1", "");
    let link = std::path::Path::new("/run/netns").join(&name);
    assert_eq!(
        std::fs::read_link(&link).expect("a link"),
        bascule_tests::container::sandbox(&stage.agent, &c1.id)
    );
    // `ip netns` works with it, from the host's side, and changes what the container itself may not.
    let out = stage.net.host.try_sh(&format!("ip -n {name} addr add 10.9.9.9/32 dev eth0"));
    assert!(out.ok(), "{out:?}");
    assert!(c1.ns.sh("ip -o addr show dev eth0").contains("10.9.9.9/32"));
    stage.agent.ok(&format!("rm -f {name}"));
    wait::wait_until("the link is gone", wait::SOON, || link.symlink_metadata().is_err());
}

/// The gratuitous ARP messages and unsolicited advertisements of an address in a capture, with their times.
fn said(frames: &[Vec<u8>], address: IpAddr) -> usize {
    let is = |frame: &&Vec<u8>| match address {
        IpAddr::V4(ip) => {
            frame.len() >= 42
                && frame[12..14] == [8, 6]
                && frame[28..32] == ip.octets()
                && frame[38..42] == ip.octets()
        }
        IpAddr::V6(ip) => {
            frame.len() >= 78
                && frame[12..14] == [0x86, 0xdd]
                && frame[20] == 58
                && frame[54] == 136
                && frame[62..78] == ip.octets()
                && frame[..6] == [0x33, 0x33, 0, 0, 0, 1]
        }
    };
    frames.iter().filter(is).count()
}

#[test]
fn s66_p64_moby_icc_011_moby_lc_016_new_addresses_are_announced() {
    use bascule_tests::capture::Capture;
    let mut stage = Stage::new();
    let options =
        "--subnet 10.61.1.0/24 --subnet fd61:1::/64 -o com.docker.network.advertise_addr_ms=100";
    stage.agent.network("n1", options);
    stage.agent.network("once", "-o com.docker.network.advertise_addr_nmsgs=1");
    stage.agent.network("never", "-o com.docker.network.advertise_addr_nmsgs=0");
    let c2 = stage.agent.container("c2", "n1", "");
    stage.agent.ok("network connect once c2");
    stage.agent.ok("network connect never c2");
    let ear = Capture::arriving(&c2.ns, "eth0");
    let (ear1, ear0) = (Capture::arriving(&c2.ns, "eth1"), Capture::arriving(&c2.ns, "eth2"));
    // The peer knows the address by a former holder.
    let [ip, ip6]: [IpAddr; 2] =
        ["10.61.1.77", "fd61:1::77"].map(|a| a.parse().expect("an address"));
    c2.ns.sh("ip neigh replace 10.61.1.77 lladdr 02:42:00:00:00:99 dev eth0 nud stale");
    c2.ns.sh("ip neigh replace fd61:1::77 lladdr 02:42:00:00:00:99 dev eth0 nud stale");
    stage.agent.ok("run -d --name c1 --network n1 --ip 10.61.1.77 --ip6 fd61:1::77 --network once --network never");
    for address in [ip, ip6] {
        wait::wait_equal("three announcements", wait::SOON, &3, || said(&ear.raw(), address));
        let neighbour = c2.ns.sh(&format!("ip neigh show {address} dev eth0"));
        assert!(neighbour.contains("lladdr 02:42:0a:3d:01:4d"), "S66: {neighbour}");
    }
    let on = |network: &str| -> IpAddr {
        let address = attachment(&stage.agent, "c1", network)["IPAddress"].clone();
        address.as_str().expect("text").parse().expect("an address")
    };
    let (once, never) = (on("once"), on("never"));
    wait::wait_equal("one announcement", wait::SOON, &1, || said(&ear1.raw(), once));
    assert_eq!(said(&ear.raw(), ip), 3, "no more than asked for");
    assert_eq!(said(&ear0.raw(), never), 0);
    // And again when an agent takes over, for nobody knows what was.
    stage.agent.restart();
    for address in [ip, ip6] {
        wait::wait_until("announced again", wait::SOON, || said(&ear.raw(), address) > 3);
    }
    assert_eq!(said(&ear0.raw(), never), 0);
    let error = stage.agent.refused("network create -o com.docker.network.advertise_addr_ms=99 x");
    assert!(
        error.contains("com.docker.network.advertise_addr_ms must be in the range 100 to 2000"),
        "{error}"
    );
}
