//! The document of the first networks, whose output is that of an experiment: `--format legacy`.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{Reader, assert_id, assert_shows};

const CONTAINER1: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const CONTAINER2: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 3);

impl Reader {
    fn legacy(&self, network: &str) -> Value {
        self.inspect(&format!("$ sudo docker network inspect --format legacy {network}"))
    }
}

/// The entry of a container in the experiment's output.
fn entry(mac: &str, address: &str) -> Value {
    json!({"mac_address": mac, "ipv4_address": address, "ipv6_address": ""})
}

#[test]
fn s5_s14_s16_s20_s25_s139_s141_s142_the_document_of_the_first_networks() {
    let reader = Reader::new();
    let table = reader.docker("$ sudo docker network ls");
    for (name, driver) in [("bridge", "bridge"), ("none", "null"), ("host", "host")] {
        let has = |line: &str| line.split_whitespace().skip(1).take(2).eq([name, driver]);
        assert!(table.lines().any(has), "{name} {driver}: {table}");
    }
    let shown = reader.legacy("bridge");
    assert_shows(&shown, &json!({"name": "bridge", "driver": "bridge", "containers": {}}));
    assert_id(shown["id"].as_str().expect("an id"));

    let first = reader.docker("$ sudo docker run -itd --name=container1 busybox");
    let second = reader.docker("$ sudo docker run -itd --name=container2 busybox");
    let containers = json!({
        &first: entry("02:42:ac:11:00:02", "172.17.0.2/16"),
        &second: entry("02:42:ac:11:00:03", "172.17.0.3/16"),
    });
    assert_shows(&reader.legacy("bridge"), &json!({"containers": containers}));
    for (name, address) in [("container1", CONTAINER1), ("container2", CONTAINER2)] {
        let inside = reader.attach(name);
        assert_eq!(inside.ns.interfaces(), ["lo", "eth0"]);
        reader.ifconfig(name, "eth0", address, 16);
        reader.ifconfig_lo(name);
    }
    // Names of others on the default network are a matter of links (`features.md` 1.11); each has its own.
    for (name, id, address) in
        [("container1", &first, CONTAINER1), ("container2", &second, CONTAINER2)]
    {
        let hosts = reader.hosts(name);
        let own = format!("{address} {}", &id[..12]);
        for line in [
            &own,
            "127.0.0.1 localhost",
            "::1 localhost ip6-localhost ip6-loopback",
            "fe00::0 ip6-localnet",
            "ff00::0 ip6-mcastprefix",
            "ff02::1 ip6-allnodes",
            "ff02::2 ip6-allrouters",
        ] {
            assert!(hosts.iter().any(|found| found == line), "{line} is not in {hosts:?}");
        }
    }
    reader.ping("container1", CONTAINER2);
    reader.ping("container2", CONTAINER1);

    assert_id(
        &reader.docker("$ docker network create -d bridge --subnet 172.20.0.0/16 isolated_nw"),
    );
    let empty = json!({"name": "isolated_nw", "driver": "bridge", "containers": {}});
    assert_shows(&reader.legacy("isolated_nw"), &empty);
    assert_eq!(reader.networks(), ["bridge", "host", "isolated_nw", "none"]);
    let third = reader.docker("$ docker run --net=isolated_nw -itd --name=container3 busybox");
    let alone = json!({&third: entry("02:42:ac:14:00:02", "172.20.0.2/16")});
    assert_eq!(reader.legacy("isolated_nw")["containers"].as_object().map(|c| c.len()), Some(1));
    assert_shows(&reader.legacy("isolated_nw"), &json!({"containers": alone}));
    reader.docker("$ docker network connect isolated_nw container2");
    let both = json!({
        &third: entry("02:42:ac:14:00:02", "172.20.0.2/16"),
        &second: entry("02:42:ac:14:00:03", "172.20.0.3/16"),
    });
    assert_shows(&reader.legacy("isolated_nw"), &json!({"containers": both}));
    let networks = "$ docker inspect --format='{{.NetworkSettings.Networks}}' container2";
    let shown = reader.docker(networks);
    assert!(shown.contains("bridge") && shown.contains("isolated_nw"), "{shown}");
    assert_eq!(reader.attach("container2").ns.interfaces(), ["lo", "eth0", "eth1"]);
    reader.ifconfig("container2", "eth0", CONTAINER2, 16);
    reader.ifconfig("container2", "eth1", Ipv4Addr::new(172, 20, 0, 3), 16);
    reader.ifconfig_lo("container2");
    assert_eq!(reader.attach("container3").ns.interfaces(), ["lo", "eth0"]);
    reader.ifconfig("container3", "eth0", Ipv4Addr::new(172, 20, 0, 2), 16);

    let (third, second) = (Ipv4Addr::new(172, 20, 0, 2), Ipv4Addr::new(172, 20, 0, 3));
    reader.ping_name("container3", "container2.isolated_nw", second);
    reader.ping_name("container3", "container2", second);
    reader.bad_address("container3", "container1");
    reader.ping_is_lost("container3", CONTAINER1);
    reader.ping_is_lost("container3", CONTAINER2);
    reader.ping_name("container2", "container3", third);
    // In the experiment names were known on the default network as well; the later documents have none there.
    reader.bad_address("container2", "container1");
    reader.ping("container2", CONTAINER1);

    reader.docker("$ docker network disconnect isolated_nw container2");
    let shown = reader.docker(networks);
    assert!(shown.contains("bridge") && !shown.contains("isolated_nw"), "{shown}");
    assert_eq!(reader.legacy("isolated_nw")["containers"].as_object().map(|c| c.len()), Some(1));
    assert_eq!(reader.attach("container2").ns.interfaces(), ["lo", "eth0"]);
    reader.ifconfig("container2", "eth0", CONTAINER2, 16);
    reader.ping_is_lost("container2", third);
    reader.ping("container2", CONTAINER1);

    // All stopped or disconnected.
    reader.docker("docker stop -t 0 container3");
    assert_eq!(reader.legacy("isolated_nw")["containers"], json!({}));
    reader.docker("docker rm container3");
    reader.docker("$ docker network rm isolated_nw");
    assert_eq!(reader.networks(), ["bridge", "host", "none"]);

    let error = reader.refused("$ docker network create -d overlay multi-host-network");
    assert!(error.contains("swarm") || error.contains("cluster"), "{error}");
    assert_eq!(reader.networks(), ["bridge", "host", "none"]);
}
