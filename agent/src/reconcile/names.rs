//! Names for the numbers of the data plane, as metrics and events show them.

use std::collections::BTreeMap;

use bascule_common::abi::names::program;

use super::{machine::Machine, observe::Known};
use crate::{
    kernel::bpf::XdpMode,
    model::{Desired, Network, Pool, ipam},
    plan::{Observed, Owner, Side, Xdp},
    state::rules,
    telemetry::{EndpointName, Names, NetworkName, ProgramName, RuleName},
};

/// Returns the addresses of a subnet: in use (with those that nobody can have), and left.
pub fn usage(desired: &Desired, network: &Network, pool: &Pool) -> (u64, u64) {
    let range = pool.dynamic_range();
    let mut taken = desired.addresses(network.id);
    taken.extend(pool.reserved());
    let edges = [pool.subnet.network(), pool.subnet.broadcast()];
    taken.extend(edges.into_iter().filter(|ip| ipam::is_edge(pool.subnet, *ip)));
    let inside = taken.iter().filter(|ip| range.contains(**ip)).count() as u128;
    let used = taken.iter().filter(|ip| pool.subnet.contains(**ip)).count() as u64;
    // Docker's numbers have 64 bits, and say the most that they can.
    let left = ipam::size(range).saturating_sub(inside);
    (used, u64::try_from(left).unwrap_or(u64::MAX))
}

/// Returns where the deny list is looked at for an uplink, where there is a list.
pub fn deny_mode(desired: &Desired, observed: &Observed, ifindex: u32) -> Option<&'static str> {
    (!desired.denials.is_empty()).then(|| match observed.xdp.get(&ifindex) {
        Some(Xdp::Attached { generic: false, .. }) => XdpMode::Native.label(),
        Some(Xdp::Attached { generic: true, .. }) => XdpMode::Generic.label(),
        Some(Xdp::Refused { .. }) | None => "tc",
    })
}

/// Returns every name; `programs` are those that are not at endpoints, which are attached in this mode.
pub fn names(desired: &Desired, programs: &[ProgramName], mode: &str) -> Names {
    let mut names = Names { programs: programs.to_vec(), ..Names::default() };
    for network in desired.networks.values() {
        // A subnet of IPv6 is as good as endless: it counts where there is no other.
        let (ips_in_use, ips_available) =
            network.pools().next().map(|pool| usage(desired, network, pool)).unwrap_or_default();
        let subnets: Vec<_> = network.pools().map(|pool| pool.subnet.to_string()).collect();
        let name = NetworkName {
            network: network.name.to_string(),
            id: network.id.short(),
            subnet: subnets.join(","),
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
                container_id: container.id.short(),
                network: networks.get(&network).cloned().unwrap_or_default(),
            };
            let own = endpoint.addresses().map(|ip| (ip, name.container.clone()));
            names.addresses.extend(own);
            names.endpoints.insert(endpoint.index, name);
            let sides = [("ingress", program::FROM_CONTAINER), ("egress", program::TO_CONTAINER)];
            names.programs.extend(sides.map(|(hook, program)| ProgramName {
                iface: endpoint.veth.clone(),
                hook: hook.to_owned(),
                mode: mode.to_owned(),
                program: program.to_owned(),
            }));
        }
    }
    for (container, rule) in rules(desired) {
        let gateway = desired.gateway(container, rule.family());
        let network = gateway.and_then(|(id, _)| networks.get(&id)).cloned();
        let name = RuleName {
            container: container.name.to_string(),
            network: network.unwrap_or_default(),
            host_ip: rule.host_ip.to_string(),
            host_port: rule.host.to_string(),
            proto: rule.proto.to_string(),
        };
        names.rules.insert(rule.index, name);
    }
    let prefix = |d: &crate::model::Denial| (d.slot, d.prefix.to_string());
    names.denials = desired.denials.values().map(prefix).collect();
    names
}

/// Returns the names of programs that are not at endpoints.
pub fn programs(
    desired: &Desired,
    observed: &Observed,
    known: &Known,
    machine: &Machine,
) -> Vec<ProgramName> {
    let mut programs = Vec::new();
    for (index, xdp) in &observed.xdp {
        let (Some(link), Some(mode)) =
            (observed.links.get(index), deny_mode(desired, observed, *index))
        else {
            continue;
        };
        if matches!(xdp, Xdp::Attached { .. }) {
            programs.push(ProgramName {
                iface: link.name.clone(),
                hook: "xdp".to_owned(),
                mode: mode.to_owned(),
                program: program::DENY.to_owned(),
            });
        }
    }
    for (hook, state) in &known.hooks {
        let Some(link) = observed.links.get(&hook.ifindex) else { continue };
        if matches!(link.owner, Owner::Endpoint(_)) {
            continue;
        }
        let side = match hook.side {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        };
        programs.push(ProgramName {
            iface: link.name.clone(),
            hook: side.to_owned(),
            mode: machine.hooks.mode().label().to_owned(),
            program: state.program.clone(),
        });
    }
    programs
}
