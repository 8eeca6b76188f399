//! Variables of legacy links, as Docker has them: `DB_PORT_5432_TCP_ADDR=172.17.0.5`.

use std::net::IpAddr;

use super::hosts;
use crate::model::{Container, Desired, Link, Proto};

/// Ports that get variables of their own; the rest of a larger range has those of its ends.
const EACH: usize = 256;
/// Neighbours that are a range.
const RANGE: usize = 3;
/// Variables of a container that its links do not tell: they are everybody's own.
const OWN: [&str; 2] = ["HOME", "PATH"];

/// Returns the variables of a container's links, each with a NUL behind it.
pub(super) fn environment(desired: &Desired, container: &Container) -> String {
    let mut text = String::new();
    for link in &container.links {
        let Some((target, addresses)) = hosts::target(desired, link) else { continue };
        let Some(address) = addresses.first() else { continue };
        for variable in of_link(container, link, target, *address) {
            text.push_str(&variable);
            text.push('\0');
        }
    }
    text
}

fn of_link(container: &Container, link: &Link, target: &Container, ip: IpAddr) -> Vec<String> {
    let prefix = link.alias.as_str().to_ascii_uppercase().replace(['-', '.'], "_");
    let ports = ports(target);
    let url = |(port, proto): (u16, Proto)| match ip {
        IpAddr::V4(ip) => format!("{proto}://{ip}:{port}"),
        IpAddr::V6(ip) => format!("{proto}://[{ip}]:{port}"),
    };
    let mut variables = Vec::new();
    if let Some(&first) = ports.first() {
        variables.push(format!("{prefix}_PORT={}", url(first)));
    }
    for range in ranges(&ports) {
        let [(first, proto), .., (last, _)] = *range else { continue };
        let upper = proto.to_string().to_ascii_uppercase();
        let (begin, end) =
            (format!("{prefix}_PORT_{first}_{upper}"), format!("{prefix}_PORT_{last}_{upper}"));
        variables.extend([
            format!("{begin}_START={}", url((first, proto))),
            format!("{begin}_ADDR={ip}"),
            format!("{begin}_PROTO={proto}"),
            format!("{begin}_PORT_START={first}"),
            format!("{end}_END={}", url((last, proto))),
            format!("{begin}_PORT_END={last}"),
        ]);
    }
    for &(port, proto) in ports.iter().take(EACH) {
        let one = format!("{prefix}_PORT_{port}_{}", proto.to_string().to_ascii_uppercase());
        variables.extend([
            format!("{one}={}", url((port, proto))),
            format!("{one}_ADDR={ip}"),
            format!("{one}_PORT={port}"),
            format!("{one}_PROTO={proto}"),
        ]);
    }
    variables.push(format!("{prefix}_NAME=/{}/{}", container.name, link.alias));
    let theirs = target
        .env
        .iter()
        .filter(|variable| variable.split_once('=').is_some_and(|(name, _)| !OWN.contains(&name)));
    variables.extend(theirs.map(|variable| format!("{prefix}_ENV_{variable}")));
    variables
}

/// What a container serves, each port once, TCP first.
fn ports(target: &Container) -> Vec<(u16, Proto)> {
    let served = target.served();
    let mut ports: Vec<_> =
        served.iter().flat_map(|e| e.ports.ports().map(|p| (p, e.proto))).collect();
    ports.sort_by_key(|(port, proto)| (*proto != Proto::Tcp, *port));
    ports.dedup();
    ports
}

/// Neighbouring ports of one protocol, where they are enough.
fn ranges(ports: &[(u16, Proto)]) -> impl Iterator<Item = &[(u16, Proto)]> {
    let follows =
        |a: &(u16, Proto), b: &(u16, Proto)| a.1 == b.1 && a.0.checked_add(1) == Some(b.0);
    ports.chunk_by(follows).filter(|range| range.len() >= RANGE)
}
