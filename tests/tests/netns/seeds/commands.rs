//! The document of the `network` commands.

use std::net::Ipv4Addr;

use serde_json::json;

use super::{Reader, assert_id, assert_shows};

const CONTAINER1: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const CONTAINER3: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 3);

#[test]
fn s1_s8_s9_s12_s13_s17_s33_s34_s35_s36_s43_s52_s97_s140_s149_s154_s155_s158_s162_s163_the_document_of_network_commands()
 {
    let reader = Reader::new();
    creating(&reader);
    basic(&reader);
    links(&reader);
    aliases(&reader);
    disconnecting(&reader);
    stale_endpoints(&reader);
    removing(&reader);
}

fn creating(reader: &Reader) {
    let id = reader.docker("$ docker network create simple-network");
    assert_id(&id);
    let found = reader.inspect("$ docker network inspect simple-network");
    let wanted = json!({
        "Name": "simple-network", "Id": id, "Scope": "local", "Driver": "bridge",
        "IPAM": {"Driver": "default"}, "Containers": {}, "Options": {}, "Labels": {}
    });
    assert_shows(&found[0], &wanted);
    let config = &found[0]["IPAM"]["Config"][0];
    let subnet = config["Subnet"].as_str().expect("a subnet");
    let gateway = config["Gateway"].as_str().expect("a gateway");
    assert_eq!(subnet.replace(".0/", ".1/").split('/').next(), Some(gateway), "{config}");

    let error = reader.refused(
        "$ docker network create -d overlay --subnet=192.168.0.0/16 --subnet=192.170.0.0/16 \
         --gateway=192.168.0.100 --gateway=192.170.0.100 --ip-range=192.168.1.0/24 \
         --aux-address=\"my-router=192.168.1.5\" --aux-address=\"my-switch=192.168.1.6\" \
         --aux-address=\"my-printer=192.170.1.5\" --aux-address=\"my-nas=192.170.1.6\" \
         my-multihost-network",
    );
    assert!(error.contains("swarm") || error.contains("cluster"), "{error}");

    // The document's engine chose the subnet that the address is from; here it is said.
    assert_id(&reader.docker(
        "$ docker network create --subnet 172.23.0.0/16 \
         -o \"com.docker.network.bridge.host_binding_ipv4\"=\"172.23.0.1\" my-network",
    ));
    let found = reader.inspect("$ docker network inspect my-network");
    let options = json!({"com.docker.network.bridge.host_binding_ipv4": "172.23.0.1"});
    let ipam = json!({
        "Driver": "default", "Options": {},
        "Config": [{"Subnet": "172.23.0.0/16", "Gateway": "172.23.0.1"}]
    });
    let wanted = json!({
        "Name": "my-network", "Scope": "local", "Driver": "bridge", "IPAM": ipam,
        "Containers": {}, "Options": options, "Labels": {}
    });
    assert_shows(&found[0], &wanted);
    assert_id(&reader.docker("$ docker run -d -P --name redis --network my-network redis"));
    let listed = reader.docker("$ docker ps");
    assert!(listed.contains("172.23.0.1:49153->6379/tcp"), "{listed}");
    reader.docker("docker rm -f redis");
}

fn basic(reader: &Reader) {
    assert_id(&reader.docker("$ docker run -itd --name=container1 busybox"));
    let second = reader.docker("$ docker run -itd --name=container2 busybox");
    let network =
        reader.docker("$ docker network create -d bridge --subnet 172.25.0.0/16 isolated_nw");
    reader.docker("$ docker network connect isolated_nw container2");
    let found = reader.inspect("$ docker network inspect isolated_nw");
    let containers = json!({&second: {
        "Name": "container2", "MacAddress": "02:42:ac:19:00:02",
        "IPv4Address": "172.25.0.2/16", "IPv6Address": ""
    }});
    // The gateway without a mask, as later engines have it.
    let ipam = json!({
        "Driver": "default", "Config": [{"Subnet": "172.25.0.0/16", "Gateway": "172.25.0.1"}]
    });
    let wanted = json!({
        "Name": "isolated_nw", "Id": network, "Scope": "local", "Driver": "bridge", "IPAM": ipam,
        "Containers": containers
    });
    assert_shows(&found[0], &wanted);
    // The one option that nobody gave: what carries a subnet of this size.
    assert_eq!(found[0]["Options"], json!({"bascule.l2": "bpf"}));
    assert_id(found[0]["Containers"][&second]["EndpointID"].as_str().expect("an id"));

    let third = "$ docker run --network=isolated_nw --ip=172.25.3.3 -itd --name=container3 busybox";
    assert_id(&reader.docker(third));
    let format = "--format='{{json .NetworkSettings.Networks}}'";
    let found = reader.inspect(&format!("$ docker inspect {format} container3"));
    let wanted = json!({
        "IPAMConfig": {"IPv4Address": "172.25.3.3"}, "NetworkID": network,
        "Gateway": "172.25.0.1", "IPAddress": "172.25.3.3", "IPPrefixLen": 16, "IPv6Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "MacAddress": "02:42:ac:19:03:03"
    });
    assert_shows(&found, &json!({"isolated_nw": wanted}));
    assert_eq!(found.as_object().map(|networks| networks.len()), Some(1), "not on bridge");
    assert_id(found["isolated_nw"]["EndpointID"].as_str().expect("an id"));

    let found = reader.inspect(&format!("$ docker inspect {format} container2"));
    let bridge = reader.docker("docker network inspect -f {{.Id}} bridge");
    let wanted = json!({
        "bridge": {
            "NetworkID": bridge, "Gateway": "172.17.0.1", "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0, "IPAMConfig": null, "IPAddress": "172.17.0.3",
            "IPPrefixLen": 16, "IPv6Gateway": "", "MacAddress": "02:42:ac:11:00:03"
        },
        "isolated_nw": {
            "NetworkID": network, "Gateway": "172.25.0.1", "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0, "IPAddress": "172.25.0.2", "IPPrefixLen": 16,
            "IPv6Gateway": "", "MacAddress": "02:42:ac:19:00:02"
        }
    });
    assert_shows(&found, &wanted);
    assert_eq!(reader.attach("container2").ns.interfaces(), ["lo", "eth0", "eth1"]);
    reader.ifconfig("container2", "eth0", Ipv4Addr::new(172, 17, 0, 3), 16);
    reader.ifconfig("container2", "eth1", Ipv4Addr::new(172, 25, 0, 2), 16);
    reader.ifconfig_lo("container2");

    reader.ping_name("container2", "container3", CONTAINER3);
    reader.bad_address("container2", "container1");
    reader.ping("container2", CONTAINER1);
    reader.ping_is_lost("container3", CONTAINER1);
}

fn links(reader: &Reader) {
    let fourth =
        "$ docker run --network=isolated_nw -itd --name=container4 --link container5:c5 busybox";
    assert_id(&reader.docker(fourth));
    reader.bad_address("container4", "container5");
    reader.bad_address("container4", "c5");
    let fifth =
        "$ docker run --network=isolated_nw -itd --name=container5 --link container4:c4 busybox";
    assert_id(&reader.docker(fifth));
    let four = reader.address("container4", "isolated_nw");
    let five = reader.address("container5", "isolated_nw");
    for (from, name, to) in [
        ("container4", "c5", five),
        ("container4", "container5", five),
        ("container5", "c4", four),
        ("container5", "container4", four),
    ] {
        reader.ping_name(from, name, to);
    }

    reader.docker("$ docker network create -d bridge --subnet 172.26.0.0/24 local_alias");
    reader.docker("$ docker network connect --link container5:foo local_alias container4");
    reader.docker("$ docker network connect --link container4:bar local_alias container5");
    let fifth = reader.address("container5", "local_alias");
    assert_eq!(fifth, Ipv4Addr::new(172, 26, 0, 3));
    reader.ping_name("container4", "foo", fifth);
    reader.ping_name("container4", "c5", five);
    reader.docker("$ docker network disconnect isolated_nw container5");
    reader.bad_address("container4", "c5");
    reader.ping_name("container4", "foo", fifth);
}

fn aliases(reader: &Reader) {
    let named = |name: &str| {
        let line = "$ docker run --network=isolated_nw -itd --network-alias app busybox";
        assert_id(&reader.docker(&line.replace("-itd", &format!("-itd --name={name}"))));
        reader.address(name, "isolated_nw")
    };
    let six = named("container6");
    reader.ping_name("container4", "app", six);
    reader.ping_name("container4", "container6", six);
    reader.docker("$ docker network connect --alias scoped-app local_alias container6");
    let scoped = reader.address("container6", "local_alias");
    reader.ping_name("container4", "scoped-app", scoped);
    reader.bad_address("container3", "scoped-app");
    let format = "--format='{{json .NetworkSettings.Networks}}'";
    let found = reader.inspect(&format!("$ docker inspect {format} container6"));
    for (network, alias) in [("isolated_nw", "app"), ("local_alias", "scoped-app")] {
        let aliases = found[network]["Aliases"].as_array().cloned().unwrap_or_default();
        assert!(aliases.contains(&json!(alias)), "{network}: {found}");
    }
    let seven = named("container7");
    reader.docker("$ docker stop -t 0 container6");
    // It is still on the network, which shows those that run.
    let shown = reader.docker("docker network inspect isolated_nw");
    assert!(shown.contains("container7") && !shown.contains("container6"), "{shown}");
    reader.ping_is_lost("container4", six);
    reader.ping_name("container4", "app", seven);
    reader.docker("$ docker start container6");
    let both = [reader.address("container6", "isolated_nw"), seven];
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < both.len() {
        let shown = reader.docker("docker exec container4 busybox ping -c 1 -w 10 app");
        let to = both.iter().find(|to| shown.starts_with(&format!("PING app ({to}): ")));
        seen.insert(to.unwrap_or_else(|| panic!("neither of {both:?}: {shown}")));
    }
}

fn disconnecting(reader: &Reader) {
    reader.docker("$ docker network disconnect isolated_nw container2");
    let format = "--format='{{json .NetworkSettings.Networks}}'";
    let found = reader.inspect(&format!("$ docker inspect {format} container2"));
    let wanted = json!({
        "Gateway": "172.17.0.1", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
        "IPAddress": "172.17.0.3", "IPPrefixLen": 16, "IPv6Gateway": "",
        "MacAddress": "02:42:ac:11:00:03"
    });
    assert_shows(&found, &json!({"bridge": wanted}));
    assert_eq!(found.as_object().map(|networks| networks.len()), Some(1), "{found}");
    let shown = reader.docker("$ docker network inspect isolated_nw");
    assert!(shown.contains("container3") && !shown.contains("container2"), "{shown}");
    let third = reader.docker("docker inspect --format={{.Id}} container3");
    let containers = json!({third: {
        "Name": "container3", "MacAddress": "02:42:ac:19:03:03",
        "IPv4Address": "172.25.3.3/16", "IPv6Address": ""
    }});
    let found = reader.inspect("$ docker network inspect isolated_nw");
    assert_shows(&found[0], &json!({"Containers": containers}));
    assert_eq!(reader.attach("container2").ns.interfaces(), ["lo", "eth0"]);
    reader.ifconfig("container2", "eth0", Ipv4Addr::new(172, 17, 0, 3), 16);
    reader.ping_is_lost("container2", CONTAINER3);
    reader.ping("container2", CONTAINER1);
    reader.docker("$ docker stop -t 0 container4 container5 container6 container7");
    reader.docker("$ docker rm container4 container5 container6 container7");
}

fn stale_endpoints(reader: &Reader) {
    reader.docker("docker network create multihost");
    reader.docker("$ docker run -d --name redis_db --network multihost redis");
    reader.docker("$ docker rm -f redis_db");
    reader.docker("$ docker network disconnect -f multihost redis_db");
    assert_id(&reader.docker("$ docker run -d --name redis_db --network multihost redis"));
    reader.docker("docker rm -f redis_db");
    reader.docker("docker network rm multihost");
}

fn removing(reader: &Reader) {
    let error = reader.refused("docker network rm isolated_nw");
    assert!(error.contains("has active endpoints"), "{error}");
    reader.docker("$ docker network disconnect isolated_nw container3");
    let found = reader.inspect("$ docker network inspect isolated_nw");
    assert_shows(&found[0], &json!({"Containers": {}}));
    reader.docker("$ docker network rm isolated_nw");
    let left = ["bridge", "host", "local_alias", "my-network", "none", "simple-network"];
    assert_eq!(reader.networks(), left);
}
