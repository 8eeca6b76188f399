//! Subnets and addresses as an operator gets them: from pools, away from the site, kept, and never twice.

use std::{collections::BTreeSet, fs, thread};

use bascule_tests::{Agent, Topology, agent::Settings, process::Output, topology::HOST, wait};
use serde_json::{Value, json};

/// An agent with a configuration.
fn configured(net: &Topology, text: &str, settings: Settings) -> Agent {
    let mut agent = Agent::prepare(&net.host, settings);
    fs::write(agent.places.root().join("bascule.toml"), text).expect("a configuration");
    agent.launch();
    agent.wait_ready();
    agent
}

fn subnet(agent: &Agent, network: &str) -> String {
    text(&agent.inspect("network", network)["IPAM"]["Config"][0]["Subnet"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn address(agent: &Agent, container: &str, network: &str) -> String {
    let inspected = agent.inspect("container", container);
    text(&inspected["NetworkSettings"]["Networks"][network]["IPAddress"])
}

/// Creates a network and returns what was said beside its id.
fn create(agent: &Agent, words: &str) -> Output {
    let out = agent.cli(["network", "create"].into_iter().chain(words.split_whitespace()));
    assert!(out.ok() && out.stdout.trim().len() == 64, "{out:?}");
    out
}

#[test]
fn p30_p31_moby_ipam_021_moby_lc_024_subnets_come_from_the_operators_pools() {
    let net = Topology::new();
    let pools = "[ipam]\nexclude = [\"175.33.1.0/24\"]\n\
                 [[ipam.pools]]\nbase = \"175.30.0.0/16\"\nsize = 16\n\
                 [[ipam.pools]]\nbase = \"175.33.0.0/16\"\nsize = 24\n";
    let mut agent = configured(&net, pools, Settings::default());
    agent.network("a", "");
    agent.network("b", "");
    agent.network("c", "--subnet 0.0.0.0/28");
    let subnets = ["bridge", "a", "b", "c"].map(|name| subnet(&agent, name));
    assert_eq!(subnets, ["175.30.0.0/16", "175.33.0.0/24", "175.33.2.0/24", "175.33.3.0/28"]);
    // MOBY-LC-024: what stands stays, whatever the pools are now.
    agent.kill9();
    agent.launch_with(
        &Settings::default().arg(&["--default-address-pool", "base=10.66.0.0/16,size=26"]),
    );
    agent.wait_ready();
    agent.network("d", "");
    let subnets = ["bridge", "a", "d"].map(|name| subnet(&agent, name));
    assert_eq!(subnets, ["175.30.0.0/16", "175.33.0.0/24", "10.66.0.0/26"]);
}

#[test]
fn moby_ipam_008_pools_that_are_full_say_so_and_a_bad_pool_is_named_with_its_line() {
    let net = Topology::new();
    let pools = "bridge = \"none\"\n[[ipam.pools]]\nbase = \"10.77.0.0/30\"\nsize = 30\n";
    let agent = configured(&net, pools, Settings::default());
    agent.network("a", "");
    let error = agent.refused("network create b");
    assert!(error.contains("all predefined address pools have been fully subnetted"), "{error}");
    assert!(error.contains("[[ipam.pools]]"), "N24: what to do: {error}");
    agent.ok("network rm a");
    agent.network("b", "");
    let path = agent.places.root().join("bad.toml");
    fs::write(&path, "[[ipam.pools]]\nbase = \"10.1.0.0/8\"\nsize = 24\n").expect("a file");
    let out = agent.cli(["--config", path.to_str().expect("UTF-8"), "agent"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains("bad.toml:") && out.stderr.contains("10.0.0.0/8"), "{out:?}");
    let out = agent.cli(["agent", "--default-address-pool", "base=10.1.0.0/8,size=24"]);
    assert_eq!(out.code, 2, "{out:?}");
}

#[test]
fn n25_p38_a_vpn_that_takes_all_blocks_nothing_and_one_that_takes_a_part_does() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    net.host.sh("ip link add vpn0 type veth peer name vpn1");
    net.host.sh("ip link set vpn0 up");
    net.host.sh("ip addr add 10.8.0.2/24 dev vpn0");
    for route in ["0.0.0.0/1", "128.0.0.0/1"] {
        net.host.sh(&format!("ip route add {route} dev vpn0"));
    }
    let out = create(&agent, "a");
    assert_eq!((subnet(&agent, "a").as_str(), out.stderr.as_str()), ("172.18.0.0/24", ""));
    net.host.sh("ip route add 172.18.0.0/15 dev vpn0");
    create(&agent, "b");
    assert_eq!(subnet(&agent, "b"), "172.20.0.0/24");
    // Whoever names a subnet has it, and is told.
    let out = create(&agent, "--subnet 172.19.4.0/24 c");
    assert!(out.stderr.contains("route to 172.18.0.0/15"), "{out:?}");
    // The addresses of interfaces are not to be had at all.
    let error = agent.refused("network create --subnet 10.8.0.0/16 d");
    assert!(error.contains("10.8.0.2/24 of interface vpn0"), "{error}");
}

#[test]
fn s44_a_choice_that_the_site_may_have_made_already_is_told() {
    let net = Topology::new();
    net.host.sh("ip route add 172.30.0.0/16 via 198.51.100.254");
    let agent = Agent::start(&net.host);
    let out = create(&agent, "a");
    assert!(out.stderr.starts_with("warning: 172.18.0.0/24 was chosen;"), "{out:?}");
    assert!(out.stderr.contains("172.30.0.0/16 of the same private block"), "{out:?}");
    assert_eq!(create(&agent, "--subnet 172.25.0.0/16 b").stderr, "");
    let answer = agent.api("POST", "/networks/create", Some(&json!({"Name": "c"})));
    assert!(answer.body["Warning"].as_str().is_some_and(|w| w.contains("172.16.0.0/12")));
}

#[test]
fn p35_s53_addresses_stay_over_stops_and_kills() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("n", "--subnet 172.28.0.0/16 --subnet 2001:db8:1234::/64");
    agent.container("c1", "n", "");
    agent.container("c2", "n", "--ip 172.28.99.88 --ip6 2001:db8:1234::9988");
    agent.ok("container stop c1");
    agent.ok("container stop c2");
    agent.container("c3", "n", "");
    agent.restart();
    agent.ok("container start c2");
    agent.ok("container start c1");
    let found = ["c1", "c2", "c3"].map(|name| address(&agent, name, "n"));
    assert_eq!(found, ["172.28.0.2", "172.28.99.88", "172.28.0.3"]);
    let six = &agent.inspect("container", "c2")["NetworkSettings"]["Networks"]["n"];
    assert_eq!(six["GlobalIPv6Address"], "2001:db8:1234::9988", "MOBY-IPAM-024");
}

#[test]
fn p33_a_network_of_two_addresses_carries_packets() {
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.network("n", "--subnet 10.88.0.0/31 --subnet 2001:db8:88::/127");
    let c1 = agent.container("c1", "n", "");
    assert_eq!(address(&agent, "c1", "n"), "10.88.0.1");
    net.host.sh("ping -c 1 -W 2 10.88.0.1");
    net.host.sh("ping -c 1 -W 2 2001:db8:88::1");
    c1.ns.sh("ping -c 1 -W 2 10.88.0.0");
    c1.ns.sh("ping -c 1 -W 2 2001:db8:88::");
    c1.ns.sh(&format!("ping -c 1 -W 2 {HOST}"));
    c1.ns.sh(&format!("ping -c 1 -W 2 {}", bascule_tests::topology::OUTSIDE));
}

#[test]
fn moby_ipam_010_p14_requests_at_once_get_nothing_twice_and_leave_nothing() {
    const EACH: usize = 6;
    let net = Topology::new();
    let agent = Agent::start(&net.host);
    agent.network("shared", "--subnet 10.89.0.0/27");
    // More ask than there is room for: 29 addresses, 36 containers.
    thread::scope(|scope| {
        for worker in 0..6 {
            let agent = &agent;
            scope.spawn(move || {
                for n in 0..EACH {
                    let name = format!("w{worker}-{n}");
                    let network = json!({"Name": name});
                    let made = agent.api("POST", "/networks/create", Some(&network));
                    assert_eq!(made.status, 201, "{made:?}");
                    let networks = [json!({"Network": "shared"}), json!({"Network": name})];
                    let wish = json!({"Name": name, "Networks": networks});
                    let made = agent.api("POST", "/bascule/v1/containers", Some(&wish));
                    assert_eq!(made.status, 201, "{made:?}");
                    let start = format!("/bascule/v1/containers/{name}/start");
                    let started = agent.api("POST", &start, None);
                    assert!(matches!(started.status, 200 | 503), "{started:?}");
                }
            });
        }
    });
    let networks = agent.api("GET", "/networks", None).body;
    let networks = networks.as_array().expect("a list");
    let subnets: BTreeSet<_> =
        networks.iter().filter_map(|n| n["IPAM"]["Config"][0]["Subnet"].as_str()).collect();
    assert_eq!(subnets.len(), 6 * EACH + 2, "one each, with bridge and shared");
    let shared = agent.inspect("network", "shared");
    let places = shared["Containers"].as_object().expect("containers");
    let addresses: BTreeSet<_> = places.values().map(|place| text(&place["IPv4Address"])).collect();
    assert_eq!((places.len(), addresses.len()), (29, 29), "all that there is, and none twice");
    let usage = &shared["Status"]["IPAM"]["Subnets"]["10.89.0.0/27"];
    assert_eq!(*usage, json!({"IPsInUse": 32, "DynamicIPsAvailable": 0}), "P14");
    // Everything goes, at once as well.
    thread::scope(|scope| {
        for worker in 0..6 {
            let agent = &agent;
            scope.spawn(move || {
                for n in 0..EACH {
                    let path = format!("/bascule/v1/containers/w{worker}-{n}?force=1");
                    assert_eq!(agent.api("DELETE", &path, None).status, 204);
                }
            });
        }
    });
    let pruned = agent.api("POST", "/networks/prune", None).body;
    assert_eq!(pruned["NetworksDeleted"].as_array().map(Vec::len), Some(6 * EACH + 1));
    let left: Vec<_> = net.host.interfaces();
    assert!(
        !left.iter().any(|name| name.starts_with("br-") || name.starts_with("bsc")),
        "{left:?}"
    );
    agent.network("again", "");
    assert_eq!(subnet(&agent, "again"), "172.18.0.0/24");
}

#[test]
fn n25_a_route_that_comes_later_is_told() {
    let net = Topology::new();
    let mut agent = Agent::start(&net.host);
    agent.network("a", "--subnet 172.18.7.0/24");
    assert!(!agent.ok("status").contains("overlaps"));
    let told = "network a (172.18.7.0/24) overlaps with 172.18.0.0/16 by up0";
    let is_told = |agent: &Agent| agent.ok("status").contains(told);
    net.host.sh("ip route add 172.18.0.0/16 via 198.51.100.254");
    wait::wait_until("it is told", wait::SOON, || is_told(&agent));
    agent.restart();
    assert!(is_told(&agent), "{}", agent.ok("status"));
    assert!(agent.log().contains("overlaps with 172.18.0.0/16"));
    net.host.sh("ip route del 172.18.0.0/16");
    wait::wait_until("it is over", wait::SOON, || !is_told(&agent));
}
