//! Names, which are Docker's in both ways: whoever is asked by one is reached.

use super::{KEY, Way, at};
use crate::{
    topology::HOST,
    traffic::{self, TcpServer},
    wait,
};

/// All of it, on networks `blue` and `green`.
pub(super) fn all(way: &Way<'_>) {
    moby_dns_019_a_link_is_a_name_of_ones_own(way);
    moby_dns_012_moby_dns_021_moby_dns_023_moby_dns_024_names_of_containers(way);
    moby_dns_026_an_alias_of_two_until_both_are_gone(way);
    moby_dns_031_the_host_by_its_name(way);
}

fn moby_dns_019_a_link_is_a_name_of_ones_own(way: &Way<'_>) {
    let docker = way.docker;
    way.network("grey", &format!("-o {KEY}.enable_icc=false"));
    // The one that is linked need not be there yet.
    way.containers([("app", "blue", "--link db:sql"), ("other", "blue", "")]);
    assert!(!docker.pings("app", "sql"));
    way.container("db", "blue", "");
    wait::wait_until("the link", wait::SOON, || docker.pings("app", "sql"));
    assert!(!docker.pings("other", "sql"), "a link is nobody else's");
    docker.ok("network disconnect blue db");
    assert!(!docker.pings("app", "sql"));
    docker.ok("network connect blue db");
    way.settle();
    wait::wait_until("the link", wait::SOON, || docker.pings("app", "sql"));
    docker.ok("restart --time 0 app");
    way.settle();
    wait::wait_until("the link", wait::SOON, || docker.pings("app", "sql"));
    // On a user's network it is a name alone, with Docker's own rules as well.
    let [server, _] =
        way.containers([("gdb", "grey", "--expose 80"), ("gapp", "grey", "--link gdb:sql")]);
    let _server = TcpServer::start(&server.ns, 80);
    let gapp = docker.open("gapp");
    assert!(docker.exec("gapp", "nslookup sql").contains(&server.address().to_string()));
    traffic::unreachable(&gapp.ns, at(server.address(), 80));
    way.remove("app other db gdb gapp");
    docker.ok("network rm grey");
}

fn moby_dns_012_moby_dns_021_moby_dns_023_moby_dns_024_names_of_containers(way: &Way<'_>) {
    let docker = way.docker;
    way.containers([("first", "blue", "--hostname foobar"), ("second", "blue", "")]);
    for name in ["first", "second"] {
        docker.ok(&format!("network connect green {name}"));
    }
    way.settle();
    for name in ["first", "FiRsT", "first.", "first.blue", "first.green", "foobar"] {
        assert!(docker.pings("second", name), "{name}");
    }
    let seen = |name: &str| {
        let said = docker.exec("second", &format!("ping -c 1 {name}"));
        said.split(['(', ')']).nth(1).map(str::to_owned)
    };
    assert_ne!(seen("first.blue"), seen("first.green"));
    assert!(docker.pings("first", "foobar"));
    docker.ok("stop --time 0 first");
    assert!(!docker.pings("second", "first"));
    way.remove("first second");
}

fn moby_dns_026_an_alias_of_two_until_both_are_gone(way: &Way<'_>) {
    let docker = way.docker;
    let [one, two, asks] = way.containers([
        ("one", "blue", "--network-alias both"),
        ("two", "blue", "--network-alias both"),
        ("asks", "blue", ""),
    ]);
    let addresses = [&one, &two].map(|container| container.address().to_string());
    let reverse = addresses.each_ref().map(|address| format!("-x {address}"));
    let found = |question: &str| {
        let out = asks.ns.sh(&format!("dig +short +time=5 +tries=2 @127.0.0.11 {question}"));
        let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // What Docker does not know it asks of others, of whom there are none.
    let is_gone = |question: &str| {
        let out = asks.ns.try_sh(&format!("dig +short +time=1 +tries=1 @127.0.0.11 {question}"));
        out.stdout.lines().all(|line| line.starts_with(';'))
    };
    let whole = || {
        let mut both = addresses.clone();
        both.sort();
        assert_eq!(found("both"), both);
        assert_eq!(reverse.each_ref().map(|of| found(of)), [["one.blue."], ["two.blue."]]);
    };
    whole();
    // Who is not there takes nothing along.
    docker.fails("network disconnect green one");
    docker.fails("network disconnect blue nosuch");
    whole();
    way.remove("one");
    assert_eq!(found("both"), [addresses[1].as_str()]);
    assert_eq!(found(&reverse[1]), ["two.blue."]);
    way.remove("two");
    for question in ["both", &reverse[0], &reverse[1]] {
        assert!(is_gone(question), "{question}");
    }
    way.remove("asks");
}

fn moby_dns_031_the_host_by_its_name(way: &Way<'_>) {
    let _server = TcpServer::start(&way.net.host, 81);
    let gateway = "--add-host host.docker.internal:host-gateway";
    let asks = way.container("asks", "blue", &format!("{gateway} --add-host far:{HOST}"));
    let hosts = way.docker.exec("asks", "cat /etc/hosts");
    for name in ["host.docker.internal", "far"] {
        let line = hosts.lines().find(|line| line.ends_with(name));
        let address = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{name}: {hosts}"));
        traffic::reaches(&asks.ns, at(address, 81));
    }
    way.remove("asks");
}
