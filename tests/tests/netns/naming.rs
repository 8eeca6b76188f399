//! Names as programs in containers find them, by glibc's, musl's and busybox's resolvers and by the files that the
//! agent wrote for them.

use std::{fs, process::Command};

use bascule_tests::{
    Agent, Topology,
    agent::Settings,
    container::attachment,
    topology::{NEIGHBOUR, OUTSIDE},
    wait,
};

use crate::{
    Stage,
    files::{Asking, inside},
    names::{Upstream, dig, gateway, status},
};

/// A host whose containers are refused other names than their own at once, by nobody.
fn alone(net: Topology, more: &[&str]) -> Stage {
    let options = [&["--dns", "127.0.0.1"], more].concat();
    let agent = Agent::start_with(&net.host, Settings::default().arg(&options));
    Stage { agent, net }
}

/// The addresses that glibc finds, each once.
#[track_caller]
fn finds(agent: &Agent, container: &str, name: &str) -> Vec<String> {
    let out = agent.cli(["exec", container, "getent", "ahostsv4", name]);
    let lines = out.stdout.lines().filter(|line| line.contains("STREAM"));
    lines.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

#[track_caller]
fn address(agent: &Agent, container: &str, network: &str) -> String {
    attachment(agent, container, network)["IPAddress"].as_str().expect("an address").to_owned()
}

#[test]
fn s145_s148_s150_n29_moby_dns_019_moby_dns_021_a_name_follows_its_container() {
    let stage = alone(Topology::new(), &[]);
    let agent = &stage.agent;
    agent.network("n1", "--subnet 172.30.1.0/24");
    agent.ok("run -d --name web --network n1 --link db:sql");
    assert!(finds(agent, "web", "sql").is_empty(), "nobody yet");
    agent.ok("run -d --name db --network n1 --ip 172.30.1.10");
    for name in ["db", "sql", "sql.n1"] {
        assert_eq!(finds(agent, "web", name), ["172.30.1.10"], "{name}");
    }
    agent.ok("run -d --name other --network n1");
    assert!(finds(agent, "other", "sql").is_empty(), "a link is nobody else's");
    assert!(finds(agent, "db", "web").len() == 1, "the network's names are both ways");
    agent.ok("stop -t 0 db");
    assert!(finds(agent, "web", "db").is_empty() && finds(agent, "web", "sql").is_empty());
    // The same container with another address, and another one with its name.
    agent.ok("network disconnect n1 db");
    agent.ok("network connect --ip 172.30.1.11 n1 db");
    agent.ok("start db");
    for name in ["db", "sql"] {
        assert_eq!(finds(agent, "web", name), ["172.30.1.11"], "{name}");
    }
    agent.ok("rm -f db");
    assert!(finds(agent, "web", "sql").is_empty());
    agent.ok("run -d --name db --network n1 --ip 172.30.1.12");
    for name in ["db", "sql"] {
        assert_eq!(finds(agent, "web", name), ["172.30.1.12"], "{name}");
    }
    // One without a name of its own has its id.
    let id = agent.ok("run -d --network n1");
    let short = &id[..12];
    assert_eq!(finds(agent, "web", short).len(), 1);
    agent.ok(&format!("stop -t 0 {short}"));
    assert!(finds(agent, "web", short).is_empty());
}

#[test]
fn moby_dns_026_an_alias_of_two_is_found_until_both_are_gone() {
    let stage = alone(Topology::dual(), &[]);
    let agent = &stage.agent;
    agent.network("n1", "--ipv6");
    agent.network("n2", "");
    let both = ["c1", "c2"].map(|name| agent.container(name, "n1", "--network-alias both"));
    let c3 = agent.container("c3", "n1", "");
    // One of another network has the name there.
    agent.container("c4", "n2", "--network-alias both");
    let addresses = both.each_ref().map(|c| [c.address().to_string(), c.address6().to_string()]);
    let [all4, all6] = [0, 1].map(|family| {
        let mut all: Vec<_> = addresses.iter().map(|of| of[family].clone()).collect();
        all.sort();
        all
    });
    let alias = |kind: &str| dig(&c3.ns, "127.0.0.11", &format!("both.n1 {kind}"));
    // Who has an address by every name that it has, both families alike.
    let reverse = |of: &[String; 2]| {
        let [four, six] =
            [0, 1].map(|family| dig(&c3.ns, "127.0.0.11", &format!("-x {}", of[family])));
        assert_eq!(four, six);
        four
    };
    let whole = || {
        assert_eq!((alias("A"), alias("AAAA")), (all4.clone(), all6.clone()));
        for (of, name) in addresses.iter().zip(["c1", "c2"]) {
            let names = reverse(of);
            for name in [format!("{name}.n1."), "both.".to_owned()] {
                assert!(names.contains(&name), "{name} in {names:?}");
            }
        }
    };
    whole();
    // Who is not there takes nothing along.
    agent.refused("network disconnect n1 c4");
    agent.refused("network disconnect n1 nosuch");
    agent.ok("rm -f c4");
    whole();
    agent.ok("stop -t 0 c1");
    assert_eq!(
        (alias("A"), alias("AAAA")),
        (vec![addresses[1][0].clone()], vec![addresses[1][1].clone()])
    );
    assert_eq!(reverse(&addresses[0]), [""; 0], "nobody has it");
    assert!(reverse(&addresses[1]).contains(&"both.".to_owned()));
    agent.ok("network disconnect n1 c2");
    assert_eq!((alias("A"), alias("AAAA")), (vec![], vec![]));
    for of in &addresses {
        assert_eq!(reverse(of), [""; 0]);
    }
    // And it comes back with one of them.
    agent.ok("start c1");
    assert_eq!(alias("A").len(), 1);
    assert_eq!(alias("A")[0], address(agent, "c1", "n1"));
}

#[test]
fn s152_moby_dns_023_a_name_and_its_network_are_the_address_there() {
    let stage = alone(Topology::new(), &[]);
    let agent = &stage.agent;
    for network in ["one", "two"] {
        agent.network(network, "");
    }
    for name in ["first", "second"] {
        agent.ok(&format!("run -d --name {name} --network one"));
        agent.ok(&format!("network connect two {name}"));
    }
    for network in ["one", "two"] {
        let there = address(agent, "first", network);
        let pinged = format!("busybox ping -c 1 -W 10 first.{network}");
        let pinged = inside(agent, "second", &pinged);
        assert!(pinged.starts_with(&format!("PING first.{network} ({there}): ")), "{pinged}");
    }
    assert!(finds(agent, "second", "first.nosuch").is_empty());
}

#[test]
fn s157_s158_an_alias_is_of_one_network() {
    let stage = alone(Topology::new(), &[]);
    let agent = &stage.agent;
    for network in ["n1", "n2"] {
        agent.network(network, "");
        agent.ok(&format!("run -d --name on-{network} --network {network}"));
    }
    agent.ok("run -d --name c6 --network n1 --network-alias app");
    agent.ok("network connect --alias scoped-app n2 c6");
    let [one, two] = ["n1", "n2"].map(|network| address(agent, "c6", network));
    assert_eq!(finds(agent, "on-n1", "app"), [one]);
    assert_eq!(finds(agent, "on-n2", "scoped-app"), [two]);
    assert!(finds(agent, "on-n1", "scoped-app").is_empty());
    assert!(finds(agent, "on-n2", "app").is_empty());
    let error = agent.refused("network connect --alias two..dots n1 on-n2");
    assert!(error.contains("alias"), "P108: {error}");
}

/// A resolver of another make: what `getaddrinfo` and `getnameinfo` of musl find.
const MUSL: &str = r#"
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
    int error = getaddrinfo(argv[1], 0, &hints, &found);
    if (error) { fprintf(stderr, "%s\n", gai_strerror(error)); return 2; }
    for (; found; found = found->ai_next) {
        char text[256];
        int how = argc > 2 ? NI_NAMEREQD : NI_NUMERICHOST;
        if (getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, 0, 0, how)) return 3;
        puts(text);
    }
    return 0;
}
"#;

#[test]
fn s138_p101_n28_programs_of_musl_find_names_of_both_families() {
    let stage = alone(Topology::dual(), &[]);
    let agent = &stage.agent;
    let directory = tempfile::tempdir().expect("a directory");
    let [source, program] = ["musl.c", "musl"].map(|name| directory.path().join(name));
    fs::write(&source, MUSL).expect("written");
    let mut compiler = Command::new("musl-gcc");
    let built = compiler.arg("-static").arg("-o").arg(&program).arg(&source).status();
    assert!(built.expect("musl-gcc (Debian's package `musl-tools`)").success());
    let musl = program.display();
    agent.network("n1", "--subnet 172.30.1.0/24 --subnet fd73::/64");
    agent.network("four", "");
    let c1 = agent.container("c1", "n1", "");
    let c2 = agent.container("c2", "n1", "--network-alias app");
    agent.container("c3", "four", "");
    let both = [c2.address().to_string(), c2.address6().to_string()];
    for name in ["c2", "C2", "c2.n1", "app", "app."] {
        let found = inside(agent, "c1", &format!("{musl} {name}"));
        let mut found: Vec<_> = found.lines().collect();
        found.sort_unstable();
        assert_eq!(found, both, "{name}");
    }
    let own = inside(agent, "c3", &format!("{musl} c3"));
    assert_eq!(own, address(agent, "c3", "four"), "no IPv6 is no wait and no error");
    for address in &both {
        let server = &gateway(&stage, "n1")[0];
        // All names of an address (AARD-DNS-010); glibc takes the first, musl the last.
        let names = dig(&c1.ns, server, &format!("-x {address}"));
        let id = format!("{}.", &c2.id[..12]);
        for name in ["c2.n1.", "c2.", "app.", &id] {
            assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
        }
        let found = inside(agent, "c1", &format!("{musl} {address} name"));
        assert!(names.contains(&format!("{found}.")), "{found}: {names:?}");
        let found = inside(agent, "c1", &format!("getent hosts {address}"));
        assert_eq!(found.split_whitespace().nth(1), Some("c2.n1"), "{found}");
    }
    let out = agent.cli(["exec", "c1", &musl.to_string(), "nosuch"]);
    assert_eq!(out.code, 2, "{out:?}");
}

#[test]
fn moby_dns_011_programs_on_a_network_without_ipv4_find_names() {
    let net = Topology::new();
    let _upstream =
        Upstream::start(&net.outside, OUTSIDE, &["--address=/example.com/2001:db8:7::80"]);
    let server = OUTSIDE.to_string();
    let agent = Agent::start_with(&net.host, Settings::default().arg(&["--dns", &server]));
    let stage = Stage { agent, net };
    let agent = &stage.agent;
    agent.network("six", "--ipv4=false --ipv6 --subnet fd73::/64");
    agent.ok("run -d --name c1 --network six");
    let c2 = agent.container("c2", "six", "");
    let resolv = inside(agent, "c1", "cat /etc/resolv.conf");
    assert!(resolv.contains("nameserver 127.0.0.11\n"), "{resolv}");
    let found = |name: &str| inside(agent, "c1", &format!("getent ahostsv6 {name}"));
    assert!(found("c2").starts_with(&c2.address6().to_string()));
    // Asked by the host, which has IPv4 alone.
    assert!(found("www.example.com").starts_with("2001:db8:7::80"));
}

#[test]
fn p102_names_may_be_kept_for_as_long_as_the_operator_says() {
    for (options, ttl) in [(&[][..], "0"), (&["--dns-ttl", "4"][..], "4")] {
        let stage = alone(Topology::new(), options);
        stage.agent.network("n1", "");
        let c1 = stage.agent.container("c1", "n1", "");
        let server = gateway(&stage, "n1")[0];
        for question in ["c1", &format!("-x {}", c1.address())] {
            let shown = c1.ns.sh(&format!("dig +noall +answer @{server} {question}"));
            let line = shown.lines().next().unwrap_or_default();
            assert_eq!(line.split_whitespace().nth(1), Some(ttl), "{shown}");
        }
    }
}

#[test]
fn p107_moby_dns_003_aard_dns_007_without_others_to_ask_a_strange_name_fails() {
    let stage = alone(Topology::new(), &[]);
    let agent = &stage.agent;
    let long = "n".repeat(110);
    agent.network(&long, "");
    agent.network("inner", "--internal");
    let c1 = agent.container("c1", &long, "");
    let c2 = agent.container("c2", "inner", "");
    for (container, network) in [(&c1, long.as_str()), (&c2, "inner")] {
        let server = gateway(&stage, network)[0];
        for question in ["nosuch MX", "nosuch A", "_x._y.nosuch SRV", "-x 192.0.2.9"] {
            let found = status(&container.ns, server, question);
            assert_eq!(found, ("SERVFAIL".into(), 0), "{question} on {network}");
        }
        let own = container.address().to_string();
        assert_eq!(finds(agent, &container.name, &container.name), [own]);
    }
}

#[test]
fn p106_netav_dns_001_a_networks_changed_servers_are_asked_at_once() {
    let asking = Asking::new();
    let stage = &asking.stage;
    let agent = &stage.agent;
    let _first =
        Upstream::start(&stage.net.outside, OUTSIDE, &["--address=/example.com/192.0.2.1"]);
    let _second =
        Upstream::start(&stage.net.neighbour, NEIGHBOUR, &["--address=/example.com/192.0.2.2"]);
    asking.host_asks(&format!("nameserver {NEIGHBOUR}\n"));
    agent.network("n1", "");
    let c1 = agent.container("c1", "n1", "");
    let pid = agent.pid();
    let asks = |name: &str| dig(&c1.ns, "127.0.0.11", &format!("{name}.example.com"));
    wait::wait_until("the host's is asked", wait::SOON, || asks("a") == ["192.0.2.2"]);
    agent.ok(&format!("network update --dns-add {OUTSIDE} n1"));
    assert_eq!(asks("b"), ["192.0.2.1"]);
    agent.ok(&format!("network update --dns-drop {OUTSIDE} n1"));
    assert_eq!(asks("c"), ["192.0.2.2"]);
    assert_eq!(agent.pid(), pid);
}

#[test]
fn moby_dns_032_s139_the_default_network_has_names_where_the_operator_wants_them() {
    let stage = alone(Topology::new(), &["--default-bridge-dns"]);
    let agent = &stage.agent;
    agent.ok("run -d --name c1");
    agent.ok("run -d --name c2 --link c1:first");
    let one = address(agent, "c1", "bridge");
    assert_eq!(finds(agent, "c1", "c2"), [address(agent, "c2", "bridge")]);
    for name in ["c1", "first"] {
        assert_eq!(finds(agent, "c2", name), [one.as_str()], "{name}");
    }
    assert!(finds(agent, "c1", "first").is_empty());
}
