//! What `verbose` adds to the status: programs, maps, and what is in use of what there is.

use std::collections::BTreeMap;

use super::super::{context::Context, engine, maps, proto, view};
use crate::{
    state::Rejected,
    telemetry::{Counters, Names, masquerade_ports},
};

/// Reads it from the kernel, which waits.
pub(super) fn details(context: &Context) -> Result<proto::StatusDetails, Rejected> {
    let names = context.names.get();
    let counters = context.metrics.counters().map_err(Rejected::internal)?;
    let ports = masquerade_ports(&context.tables).map_err(Rejected::internal)?;
    let program = |program: &crate::telemetry::ProgramName| proto::AttachedProgram {
        interface: program.iface.clone(),
        hook: program.hook.clone(),
        mode: program.mode.clone(),
        program: program.program.clone(),
    };
    let stage = |((proto, state), connections): (&(String, &'static str), &u64)| {
        let (proto, state) = (proto.clone(), (*state).to_owned());
        proto::TrackedUse { proto, state, connections: *connections }
    };
    let nat = counters.ports().iter().map(|((address, proto), used)| proto::NatUse {
        address: address.to_string(),
        proto: proto.clone(),
        connections: used.connections,
        ports_in_use: used.busiest,
        ports: ports.into(),
    });
    Ok(proto::StatusDetails {
        versions: versions(context),
        supported: context.facts.supported.clone(),
        programs: names.programs.iter().map(program).collect(),
        maps: maps::maps(context)?,
        networks: networks(&names, &counters),
        tracked: counters.stages().iter().map(stage).collect(),
        nat: nat.collect(),
    })
}

fn versions(context: &Context) -> proto::Map {
    let version = engine::version(context);
    view::map([
        ("agent", env!("CARGO_PKG_VERSION").to_owned()),
        ("api", version.api_version),
        ("api_oldest", version.min_api_version),
        ("arch", version.arch),
        ("engine", version.version),
        ("kernel", version.kernel_version),
        ("tables", bascule_common::abi::ABI_VERSION.to_string()),
    ])
}

/// Joins the networks with what is tracked of their endpoints.
fn networks(names: &Names, counters: &Counters) -> Vec<proto::NetworkUse> {
    let mut connections = BTreeMap::<&str, u64>::new();
    for (index, endpoint) in &names.endpoints {
        let of = counters.connections_of_endpoint(*index);
        *connections.entry(&endpoint.network).or_default() += of;
    }
    let mut networks: Vec<_> = names.networks.values().collect();
    networks.sort_by(|a, b| (&a.network, &a.subnet).cmp(&(&b.network, &b.subnet)));
    let network = |name: &crate::telemetry::NetworkName| proto::NetworkUse {
        network: name.network.clone(),
        subnet: name.subnet.clone(),
        bridge: name.bridge.clone(),
        addresses_in_use: name.ips_in_use,
        addresses_free: name.ips_available,
        connections: connections.get(name.network.as_str()).copied().unwrap_or_default(),
    };
    networks.into_iter().map(network).collect()
}
