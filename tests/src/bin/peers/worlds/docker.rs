//! Docker: a real daemon with one published port, and hosts with the rules that it would have written for many.

use std::{io::Write as _, net::Ipv4Addr, process::Stdio};

use bascule_tests::{Dockerd, Netns, process::Killed, wait};

use super::{
    HOST, OUTSIDE, PORT, Worlds, at, bridge, container, enslave, host_and_outside, path, tire_not,
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
const FIRST: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 3);
/// First of the other published ports.
const OTHERS: u16 = 20_000;

/// A real dockerd, as it comes.
pub fn real(worlds: &mut Worlds) {
    let (host, outside) = host_and_outside();
    let docker = Dockerd::start(&host, &[]);
    let publish = format!("-p {PORT}:{PORT} -p {PORT}:{PORT}/udp");
    let first = docker.container("c1", "bridge", &publish);
    let second = docker.container("c2", "bridge", "");
    for ns in [&first.ns, &second.ns] {
        assert!(tire_not(ns), "a container keeps connections");
    }
    worlds.serve(&first.ns, None);
    worlds.serve(&outside, None);
    worlds.way(path::CONTAINERS, "docker", (&second.ns, None), at(first.address()));
    worlds.way(path::PUBLISHED, "docker", (&outside, None), at(HOST));
    worlds.way(path::LOOPBACK, "docker", (&host, None), at(Ipv4Addr::LOCALHOST));
    worlds.way(path::OUTSIDE, "docker", (&first.ns, None), at(OUTSIDE));
    let version = docker.version();
    worlds.notes.push(format!(
        "docker: dockerd {version} with {}, one published port over TCP and UDP, its own docker-proxy for 127.0.0.1",
        iptables(&host)
    ));
    worlds.keep(docker);
}

/// Hosts with the rules of many published ports.
pub fn generated(worlds: &mut Worlds) {
    for (system, ports) in [("docker-1000", 1_000), ("docker-10000", 10_000)] {
        let (host, outside) = host_and_outside();
        host.sysctl_set("net/ipv4/ip_forward", "1");
        bridge(&host, "docker0", GATEWAY);
        let first = container(&host, "c1", FIRST, GATEWAY);
        let second = container(&host, "c2", SECOND, GATEWAY);
        enslave(&host, "c1", "docker0");
        enslave(&host, "c2", "docker0");
        restore(&host, &rules(ports));
        worlds.serve(&first, None);
        worlds.serve(&outside, None);
        worlds.servers.extend(["tcp", "udp"].map(|proto| proxy(&host, proto)));
        worlds.way(path::CONTAINERS, system, (&second, None), at(FIRST));
        worlds.way(path::PUBLISHED, system, (&outside, None), at(HOST));
        worlds.way(path::LOOPBACK, system, (&host, None), at(Ipv4Addr::LOCALHOST));
        worlds.way(path::OUTSIDE, system, (&first, None), at(OUTSIDE));
        worlds.keep(host);
    }
    worlds.notes.push(
        "docker-1000, docker-10000: no daemon; the rules that dockerd writes for so many ports of one container over TCP, \
         generated, with the port that is measured, over UDP too, in their middle; docker-proxy for that port alone"
            .to_owned(),
    );
}

/// What dockerd starts for a published port.
fn proxy(host: &Netns, proto: &str) -> Killed {
    // It tells its parent by descriptor 3, and closes it, whatever that is.
    let line = format!(
        "exec docker-proxy -proto {proto} -host-ip 0.0.0.0 -host-port {PORT} \
         -container-ip {FIRST} -container-port {PORT} 3>/dev/null"
    );
    let mut command = host.command("sh");
    command.args(["-c", &line]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let proxy = Killed(child.expect("start docker-proxy"));
    wait::wait_until("docker-proxy listens", wait::SOON, || {
        let listening = host.sh(&format!("ss -H -l -n --{proto} sport = :{PORT}"));
        !listening.is_empty()
    });
    proxy
}

fn iptables(host: &Netns) -> String {
    host.sh("iptables -V").trim().to_owned()
}

fn restore(host: &Netns, rules: &str) {
    let mut child = host
        .command("iptables-restore")
        .stdin(Stdio::piped())
        .spawn()
        .expect("start iptables-restore");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(rules.as_bytes()).expect("tell iptables-restore the rules");
    drop(input);
    assert!(child.wait().expect("iptables-restore").success(), "iptables-restore refuses");
}

/// Ports in the order of their rules: the one that is measured is in the middle.
fn ports(count: u16) -> impl Iterator<Item = u16> {
    let others = move |from: u16, to: u16| (from..to).map(|number| OTHERS + number);
    let half = count / 2;
    others(0, half).chain([PORT]).chain(others(half, count - 1))
}

/// What `iptables-save` shows of dockerd's, for so many published ports.
fn rules(count: u16) -> String {
    let each = |rule: &dyn Fn(&str, u16) -> String| -> String {
        let protos = |port| if port == PORT { &["tcp", "udp"][..] } else { &["tcp"] };
        let all =
            ports(count).flat_map(|port| protos(port).iter().map(move |proto| (*proto, port)));
        all.map(|(proto, port)| rule(proto, port)).collect()
    };
    let masquerade = each(&|proto, port| {
        format!(
            "-A POSTROUTING -s {FIRST}/32 -d {FIRST}/32 -p {proto} -m {proto} --dport {port} -j MASQUERADE\n"
        )
    });
    let translate = each(&|proto, port| {
        format!(
            "-A DOCKER ! -i docker0 -p {proto} -m {proto} --dport {port} -j DNAT --to-destination {FIRST}:{port}\n"
        )
    });
    let accept = each(&|proto, port| {
        format!(
            "-A DOCKER -d {FIRST}/32 ! -i docker0 -o docker0 -p {proto} -m {proto} --dport {port} -j ACCEPT\n"
        )
    });
    format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
         :DOCKER - [0:0]\n\
         -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
         -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
         -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n{masquerade}\
         -A DOCKER -i docker0 -j RETURN\n{translate}COMMIT\n\
         *filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n\
         :DOCKER-ISOLATION-STAGE-1 - [0:0]\n:DOCKER-ISOLATION-STAGE-2 - [0:0]\n:DOCKER-USER - [0:0]\n\
         -A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
         -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A FORWARD -o docker0 -j DOCKER\n-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n\
         -A FORWARD -i docker0 -o docker0 -j ACCEPT\n{accept}\
         -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2\n\
         -A DOCKER-ISOLATION-STAGE-1 -j RETURN\n-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP\n\
         -A DOCKER-ISOLATION-STAGE-2 -j RETURN\n-A DOCKER-USER -j RETURN\nCOMMIT\n"
    )
}
