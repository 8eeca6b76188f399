//! How packets leave the host, and who comes in.

use std::net::Ipv4Addr;

use super::{KEY, Way, at};
use crate::{
    Agent, Dockerd, Topology,
    foreign::Foreign,
    topology::{HOST, NEIGHBOUR, OUTSIDE, ROUTER, UPLINK},
    traffic::{self, TcpServer},
};

/// All of it, on networks `blue` and `green`.
pub(super) fn all(way: &Way<'_>) {
    moby_mq_001_moby_mq_003_how_a_network_leaves_the_host(way);
    der_mq_003_many_pings_and_a_trace(way);
    moby_inc_004_moby_inc_007_moby_inc_008_moby_inc_010_who_comes_in(way);
    moby_inc_014_rules_of_others_drop_what_is_forwarded(way);
}

fn moby_mq_001_moby_mq_003_how_a_network_leaves_the_host(way: &Way<'_>) {
    let net = way.net;
    let second = Ipv4Addr::new(198, 51, 100, 77);
    net.host.sh(&format!("ip addr add {second}/24 dev up0"));
    way.network("bare", &format!("--subnet 10.77.2.0/24 -o {KEY}.enable_ip_masquerade=false"));
    way.network("leaving", &format!("-o com.docker.network.host_ipv4={second}"));
    let [bare, leaving, plain, peer] = way.containers([
        ("bare", "bare", ""),
        ("leaving", "leaving", ""),
        ("plain", "blue", ""),
        ("peer", "blue", ""),
    ]);
    net.route_to_host("10.77.2.0/24");
    let _servers = [&net.neighbour, &peer.ns].map(|ns| TcpServer::start(ns, 80));
    for (from, source) in [(&bare, bare.address()), (&leaving, second), (&plain, HOST)] {
        let seen = traffic::reaches(&from.ns, at(NEIGHBOUR, 80));
        assert_eq!(*seen.ip(), source, "{}", from.name);
    }
    let seen = traffic::reaches(&plain.ns, at(peer.address(), 80));
    assert_eq!(*seen.ip(), plain.address(), "inside of a network nothing is translated");
    way.remove("bare leaving plain peer");
    way.docker.ok("network rm bare leaving");
    net.host.sh(&format!("ip addr del {second}/24 dev up0"));
}

fn der_mq_003_many_pings_and_a_trace(way: &Way<'_>) {
    let [c1, c2] = way.containers([("c1", "blue", ""), ("c2", "blue", "")]);
    // Both say the same number, and each hears of its own packets alone.
    let ping = "ping -n -c 5 -i 0.2 -W 1 -e 4711";
    let both = [&c1, &c2].map(|container| {
        crate::process::start(container.ns.command("sh").args(["-c", &format!("{ping} {OUTSIDE}")]))
    });
    for running in both {
        let out = running.finish("ping", crate::process::LIMIT);
        assert!(out.stdout.contains("5 received, 0% packet loss"), "{out:?}");
    }
    // Whoever drops it on the way is heard of: the host, the router, the goal.
    let trace = way.docker.exec("c1", &format!("traceroute -n -q 1 -w 2 -m 5 {OUTSIDE}"));
    for hop in [ROUTER, OUTSIDE] {
        assert!(trace.lines().any(|line| line.contains(&hop.to_string())), "{hop}: {trace}");
    }
    way.remove("c1 c2");
}

fn moby_inc_004_moby_inc_007_moby_inc_008_moby_inc_010_who_comes_in(way: &Way<'_>) {
    let net = way.net;
    // The engine of these tests knows neither, and keeps them.
    for (name, subnet, option) in [
        ("routed", "10.77.4.0/24", "gateway_mode_ipv4=routed"),
        ("open", "10.77.5.0/24", "gateway_mode_ipv4=nat-unprotected"),
        ("trusted", "10.77.6.0/24", "trusted_host_interfaces=up0"),
    ] {
        way.network(name, &format!("--subnet {subnet} -o {KEY}.{option}"));
        net.route_to_host(subnet);
    }
    let [nat, routed, open, trusted] = way.containers([
        ("nat", "blue", "-p 8300:80"),
        ("routed", "routed", "-p 8301:80"),
        ("open", "open", "-p 8302:80"),
        ("trusted", "trusted", ""),
    ]);
    net.route_to_host(&format!("{}/32", nat.address()));
    let all = [&nat, &routed, &open, &trusted];
    let _servers = all.map(|c| [80, 81].map(|port| TcpServer::start(&c.ns, port)));
    let from = &net.neighbour;
    traffic::does_not_answer(from, nat.address());
    traffic::all_unreachable([
        (from, at(nat.address(), 80)),
        (from, at(nat.address(), 81)),
        (&routed.ns, at(nat.address(), 80)),
        (&routed.ns, at(nat.address(), 81)),
        (from, at(routed.address(), 81)),
    ]);
    traffic::answers(from, routed.address());
    traffic::reaches(from, at(routed.address(), 80));
    for container in [&open, &trusted] {
        for port in [80, 81] {
            traffic::reaches(from, at(container.address(), port));
        }
    }
    traffic::reaches(from, at(HOST, 8302));
    // MOBY-PM-010: a routed network has no ports of the host, but where Docker says that it has.
    let shown = !way.docker.ok("port routed").is_empty();
    assert_eq!(super::ports::is_served(way, 8301), shown);
    // It leaves as itself.
    let _near = TcpServer::start(&net.neighbour, 80);
    assert_eq!(*traffic::reaches(&routed.ns, at(NEIGHBOUR, 80)).ip(), routed.address());
    way.remove("nat routed open trusted");
    way.docker.ok("network rm routed open trusted");
}

fn moby_inc_014_rules_of_others_drop_what_is_forwarded(way: &Way<'_>) {
    let net = way.net;
    let web = way.container("web", "blue", "-p 8310:80");
    net.host.sh("iptables -I FORWARD -j DROP");
    let (_web, _far) = (TcpServer::start(&web.ns, 80), TcpServer::start(&net.outside, 80));
    assert_eq!(*traffic::reaches(&net.outside, at(HOST, 8310)).ip(), OUTSIDE);
    assert_eq!(*traffic::reaches(&web.ns, at(OUTSIDE, 80)).ip(), HOST);
    net.host.sh("iptables -D FORWARD -j DROP");
    way.remove("web");
}

/// What the agent's own switches let in, on a network that says nothing of it. The agent keeps them.
pub fn moby_inc_011_moby_inc_012_what_the_agent_lets_in(
    agent: &mut Agent,
    docker: &Dockerd,
    net: &Topology,
    driver: &'static str,
    settle: fn(&Agent, &Dockerd, &[&str]),
) {
    let switches = ["--allow-direct-routing", "--bridge-accept-fwmark", "2/3"];
    agent.set(agent.settings().clone().arg(&switches));
    agent.restart();
    let way = Way { agent, docker, net, driver, settle };
    way.network("direct", "--subnet 10.77.7.0/24");
    net.route_to_host("10.77.7.0/24");
    let web = way.container("web", "direct", "-p 8320:80");
    let _servers = [80, 81].map(|port| TcpServer::start(&web.ns, port));
    let (from, open, closed) = (&net.neighbour, at(web.address(), 80), at(web.address(), 81));
    // MOBY-INC-011: what is published, and no more.
    assert_eq!(*traffic::reaches(from, open).ip(), NEIGHBOUR);
    traffic::unreachable(from, closed);
    traffic::does_not_answer(from, web.address());
    // MOBY-INC-012: everything, by a mark whose bits under the mask are those.
    let marked = Foreign::marking(&net.host, UPLINK, 0xe);
    traffic::answers(from, web.address());
    assert_eq!(*traffic::reaches(from, closed).ip(), NEIGHBOUR);
    drop(marked);
    let other = Foreign::marking(&net.host, UPLINK, 0xd);
    traffic::unreachable(from, closed);
    drop(other);
    way.remove("web");
    docker.ok("network rm direct");
}
