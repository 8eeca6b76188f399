//! Podman's network: netavark, called as Podman calls it, with two containers on its default network.

use std::{fs, io::Write as _, net::Ipv4Addr, path::Path, process::Stdio};

use bascule_tests::{Netns, places};
use serde_json::json;

use super::{HOST, OUTSIDE, PORT, Worlds, at, host_and_outside, path, tireless};

/// Where Debian has it.
const PROGRAM: &str = "/usr/lib/podman/netavark";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 3);

/// Makes it; says so where netavark is not installed.
pub fn make(worlds: &mut Worlds) {
    if !Path::new(PROGRAM).exists() {
        worlds.notes.push(format!("netavark: not measured, there is no {PROGRAM}"));
        return;
    }
    let (host, outside) = host_and_outside();
    let files = places::directory();
    let [first, second] = [("c1", FIRST, true), ("c2", SECOND, false)].map(|(name, address, publish)| {
        let ns = tireless(name);
        let ports: Vec<_> = ["tcp", "udp"]
            .into_iter()
            .filter(|_| publish)
            .map(|proto| {
                json!({"container_port": PORT, "host_port": PORT, "host_ip": "", "protocol": proto, "range": 1})
            })
            .collect();
        setup(&host, &ns, files.path(), address, &json!(ports));
        ns
    });
    worlds.serve(&first, None);
    worlds.serve(&outside, None);
    worlds.way(path::CONTAINERS, "netavark", (&second, None), at(FIRST));
    worlds.way(path::PUBLISHED, "netavark", (&outside, None), at(HOST));
    worlds.way(path::LOOPBACK, "netavark", (&host, None), at(Ipv4Addr::LOCALHOST));
    worlds.way(path::OUTSIDE, "netavark", (&first, None), at(OUTSIDE));
    let version = host.sh(&format!("{PROGRAM} --version"));
    worlds.notes.push(format!(
        "netavark: {}, called with the JSON that Podman gives it; Podman itself does not run: it is in no packet's way",
        version.trim()
    ));
    worlds.keep((host, files));
}

fn setup(host: &Netns, ns: &Netns, files: &Path, address: Ipv4Addr, ports: &serde_json::Value) {
    let id = format!("{:064x}", ns.inode());
    let input = json!({
        "container_id": id,
        "container_name": ns.name(),
        "port_mappings": ports,
        "networks": {"podman": {"interface_name": "eth0", "static_ips": [address]}},
        "network_info": {"podman": {
            "dns_enabled": false,
            "driver": "bridge",
            "id": format!("{:064x}", 0x2f25_9bab),
            "internal": false,
            "ipv6_enabled": false,
            "name": "podman",
            "network_interface": "podman0",
            "subnets": [{"gateway": "10.88.0.1", "subnet": "10.88.0.0/16"}],
            "ipam_options": {"driver": "host-local"},
        }},
    });
    let log = fs::File::create(files.join(ns.name())).expect("a log");
    let mut command = host.command(PROGRAM);
    command.arg("--config").arg(files).arg("setup").arg(ns.path());
    command.stdin(Stdio::piped()).stdout(log.try_clone().expect("a log")).stderr(log);
    let mut child = command.spawn().expect("start netavark");
    let mut pipe = child.stdin.take().expect("piped");
    pipe.write_all(input.to_string().as_bytes()).expect("tell netavark what to do");
    drop(pipe);
    let success = child.wait().expect("netavark").success();
    let said = fs::read_to_string(files.join(ns.name())).unwrap_or_default();
    assert!(success, "netavark: {said}");
}
