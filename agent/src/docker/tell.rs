//! Words for what was found of Docker: pure.

use super::{
    engine::{EngineContainer, EngineNetwork},
    report::{ContainerReport, DaemonReport, KeyReport, NetworkReport, Report},
    rules::Left,
    seen,
};
use crate::model::{Adoption, GatewayMode, NetworkOptions, Phase, keys};

/// What was found.
pub(super) struct Summary<'a> {
    pub(super) daemon: DaemonReport,
    pub(super) keys: Vec<KeyReport>,
    pub(super) left: &'a Left,
    pub(super) networks: &'a [EngineNetwork],
    pub(super) containers: &'a [EngineContainer],
    /// Whether there are rules of the daemon's.
    pub(super) rules: bool,
}

/// Returns the word for a phase.
pub(super) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Off => "off",
        Phase::Taking => "taking",
        Phase::On => "on",
        Phase::Releasing => "releasing",
    }
}

/// Puts what was found into a report.
pub(super) fn found(report: &mut Report, found: &Summary<'_>, adoption: &Adoption) {
    let socket = std::mem::take(&mut report.daemon.socket);
    report.daemon = DaemonReport { socket, ..found.daemon.clone() };
    report.networks = found
        .networks
        .iter()
        .filter(|n| seen::is_served(n))
        .map(|n| network(n, adoption))
        .collect();
    let served = |c: &&EngineContainer| {
        c.places
            .iter()
            .any(|p| found.networks.iter().any(|n| n.id == p.network && seen::is_served(n)))
    };
    report.containers = found.containers.iter().filter(served).map(container).collect();
    report.rules.clone_from(&found.left.rules);
    match adoption.phase {
        Phase::Off => {
            report.config.keys.clone_from(&found.keys);
            report.breaks = breaks(found);
            report.notes = notes(found);
        }
        Phase::Taking => {
            report.daemon.restart = true;
            report.notes.push(
                "the networks are served; Docker's daemon has yet to be started again".into(),
            );
        }
        Phase::On => {
            report.daemon.restart = found.rules;
            report.notes = notes(found);
            let rules = found.left.rules.iter();
            report
                .drift
                .extend(rules.map(|rule| format!("a rule of Docker's is there again, as `bascule docker adopt` takes it away: {rule}")));
        }
        Phase::Releasing => {
            report.daemon.restart = true;
            report.notes.push(
                "Docker's configuration is as it was; the networks are served until its daemon has been started again"
                    .into(),
            );
        }
    }
}

fn network(network: &EngineNetwork, adoption: &Adoption) -> NetworkReport {
    let (options, _) = NetworkOptions::read(network.options.clone());
    let mut policy = Vec::new();
    let words = [
        (network.internal, "internal"),
        (!options.icc || adoption.icc_off && seen::is_default(network), "icc off"),
        (!options.masquerade && !seen::is_default(network), "no masquerade"),
    ];
    policy.extend(words.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_owned()));
    for (mode, key) in
        [(options.gateway_mode4, keys::GATEWAY_MODE4), (options.gateway_mode6, keys::GATEWAY_MODE6)]
    {
        if mode != GatewayMode::Nat {
            policy.extend(network.options.get(key).map(|text| format!("{key}={text}")));
        }
    }
    NetworkReport {
        name: network.name.clone(),
        id: network.id.clone(),
        bridge: seen::bridge(network),
        subnets: network.subnets.iter().map(|s| s.subnet.clone()).collect(),
        policy,
    }
}

fn container(container: &EngineContainer) -> ContainerReport {
    let place = |place: &super::engine::EnginePlace| {
        let addresses: Vec<_> = place.addresses.iter().map(ToString::to_string).collect();
        format!("{} {}", place.network_name, addresses.join(" ")).trim().to_owned()
    };
    let port = |port: &super::engine::EnginePort| {
        let proto = if port.udp { "udp" } else { "tcp" };
        let host = std::net::SocketAddr::new(port.host_ip, port.host);
        format!("{}/{proto} -> {host}", port.container)
    };
    ContainerReport {
        name: container.name.clone(),
        id: container.id.clone(),
        networks: container.places.iter().map(place).collect(),
        ports: container.ports.iter().map(port).collect(),
    }
}

fn breaks(found: &Summary<'_>) -> Vec<String> {
    let mut breaks = Vec::new();
    if found.daemon.restart && !found.daemon.live_restore {
        breaks.push(
            "Docker's daemon is started again, and stops all containers: it runs without live-restore. Those with a \
             restart policy come back by themselves"
                .to_owned(),
        );
    }
    if found.rules {
        breaks.push(
            "connections that Docker's rules or its proxies translate (out of containers, and to published ports) are \
             not known here: some end, those through a proxy at once, and have to be opened again. Those inside of a \
             network go on, and new ones find their way all along"
                .to_owned(),
        );
    }
    breaks
}

fn notes(found: &Summary<'_>) -> Vec<String> {
    let mut notes: Vec<_> = found
        .left
        .own
        .iter()
        .map(|rule| {
            format!("a rule of yours in Docker's chain stays, and sees no packet that is redirected: {rule}")
        })
        .collect();
    if found.left.forward_drop {
        notes.push(
            "the policy of FORWARD is DROP and stays so: what is served here does not pass there"
                .to_owned(),
        );
    }
    notes
}
