//! Names for the numbers of the data plane, as metrics and events show them.

use std::collections::BTreeMap;

use super::{machine::Machine, observe::Known};
use crate::{
    model::Desired,
    plan::{Observed, Side},
    state::rules,
    telemetry::{EndpointName, Names, NetworkName, ProgramName, RuleName},
};

/// Returns the addresses of a network: in use (with those that nobody can have), and left.
pub fn usage(desired: &Desired, network: &crate::model::Network) -> (u64, u64) {
    let range = network.dynamic_range();
    let mut taken = desired.addresses(network.id);
    taken.extend(network.reserved());
    taken.insert(network.subnet.network());
    taken.insert(network.subnet.broadcast());
    let inside = taken.iter().filter(|ip| range.contains(**ip)).count() as u64;
    let used = taken.iter().filter(|ip| network.subnet.contains(**ip)).count() as u64;
    (used, u64::from(range.size()).saturating_sub(inside))
}

/// Returns every name.
pub fn names(desired: &Desired, observed: &Observed, known: &Known, machine: &Machine) -> Names {
    let mut names = Names::default();
    for network in desired.networks.values() {
        let (ips_in_use, ips_available) = usage(desired, network);
        let name = NetworkName {
            network: network.name.to_string(),
            id: network.id.short(),
            subnet: network.subnet.to_string(),
            bridge: network.bridge.clone(),
            ips_in_use,
            ips_available,
        };
        names.networks.insert(network.index, name);
    }
    let networks: BTreeMap<_, _> =
        desired.networks.values().map(|n| (n.id, n.name.to_string())).collect();
    for container in desired.containers.values() {
        for (network, endpoint) in container.endpoints() {
            let name = EndpointName {
                endpoint: endpoint.id.short(),
                container: container.name.to_string(),
                network: networks.get(&network).cloned().unwrap_or_default(),
            };
            names.endpoints.insert(endpoint.index, name);
        }
    }
    for (container, rule) in rules(desired) {
        let network = desired.gateway(container).and_then(|(id, _)| networks.get(&id)).cloned();
        let name = RuleName {
            container: container.name.to_string(),
            network: network.unwrap_or_default(),
            host_ip: rule.host_ip.to_string(),
            host_port: rule.host.to_string(),
            proto: rule.proto.to_string(),
        };
        names.rules.insert(rule.index, name);
    }
    for (hook, state) in &known.hooks {
        let Some(link) = observed.links.get(&hook.ifindex) else { continue };
        let side = match hook.side {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        };
        names.programs.push(ProgramName {
            iface: link.name.clone(),
            hook: side.to_owned(),
            mode: machine.hooks.mode().label().to_owned(),
            program: state.program.clone(),
        });
    }
    names
}
