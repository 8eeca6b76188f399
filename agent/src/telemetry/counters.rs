//! The data plane's counters, read for whoever shows them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use bascule_common::abi::{
    Count, Direction, DropKey, DropReason, EndpointCounters, RuleCounters, deny,
};

use super::{
    census::{Counted, PortUse},
    names::{EndpointName, Names, RuleName},
};
use crate::kernel::bpf::{BpfError, Sum as _, Tables};

/// Rules, and prefixes of the deny list, that are shown, and endpoints that have series: those with the lowest numbers.
/// There may be hundreds of thousands, which nobody should carry.
pub(super) const SHOWN: usize = 10_000;

/// What is counted, by the indices of the data plane.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Traffic of endpoints.
    pub endpoints: BTreeMap<u32, EndpointCounters>,
    /// Traffic of published ranges.
    pub rules: BTreeMap<u32, RuleCounters>,
    /// What was dropped.
    pub drops: BTreeMap<DropKey, Count>,
    counted: Arc<Counted>,
}

impl Counters {
    /// Reads everything that has a name.
    pub(super) fn read(
        tables: &Tables,
        names: &Names,
        counted: Arc<Counted>,
    ) -> Result<Self, BpfError> {
        let endpoints = endpoints(tables, names)?.into_iter();
        let rules = rules(tables, names)?.into_iter();
        Ok(Self {
            endpoints: endpoints.map(|(index, _, counters)| (index, counters)).collect(),
            rules: rules.map(|(index, _, counters)| (index, counters)).collect(),
            drops: drops(tables)?,
            counted,
        })
    }

    /// Connections that are tracked and not over, of an endpoint.
    pub fn connections_of_endpoint(&self, index: u32) -> u64 {
        self.counted.of_endpoints.get(&index).copied().unwrap_or_default()
    }

    /// Connections that are tracked and not over, by a published range.
    pub fn connections_of_rule(&self, index: u32) -> u64 {
        self.counted.of_rules.get(&index).copied().unwrap_or_default()
    }

    /// Connections that are tracked, by protocol and state.
    pub fn stages(&self) -> &BTreeMap<(String, &'static str), u64> {
        &self.counted.stages
    }

    /// Use of ports by masquerade address and protocol.
    pub fn ports(&self) -> &BTreeMap<(IpAddr, String), PortUse> {
        &self.counted.ports
    }

    /// All connections that are tracked.
    pub fn connections(&self) -> u64 {
        self.counted.stages.values().sum()
    }
}

/// Reads how many ports masquerade has towards one destination, for each address and protocol.
pub fn masquerade_ports(tables: &Tables) -> Result<u32, BpfError> {
    let config = tables.config()?.unwrap_or_default();
    Ok(u32::from(config.masquerade_last) + 1 - u32::from(config.masquerade_first))
}

/// Reads the counters of endpoints.
pub(super) fn endpoints<'a>(
    tables: &Tables,
    names: &'a Names,
) -> Result<Vec<(u32, &'a EndpointName, EndpointCounters)>, BpfError> {
    let mut found = Vec::with_capacity(names.endpoints.len());
    for (index, name) in &names.endpoints {
        let counters = tables.endpoint_counters.get(*index)?;
        found.extend(counters.map(|counters| (*index, name, counters)));
    }
    Ok(found)
}

/// Reads the counters of published ranges.
pub(super) fn rules<'a>(
    tables: &Tables,
    names: &'a Names,
) -> Result<Vec<(u32, &'a RuleName, RuleCounters)>, BpfError> {
    let mut found = Vec::with_capacity(names.rules.len().min(SHOWN));
    for (index, name) in names.rules.iter().take(SHOWN) {
        // More rules than counters: those past the end are not counted.
        let counters = tables.rule_counters.get(*index)?;
        found.extend(counters.map(|counters| (*index, name, counters)));
    }
    Ok(found)
}

/// Reads what was dropped.
pub(super) fn drops(tables: &Tables) -> Result<BTreeMap<DropKey, Count>, BpfError> {
    let mut drops = tables.drops.all()?;
    // XDP counts in an array, which costs less than a hash at the rate of a flood.
    let early = tables.deny.count(deny::TOTAL)?;
    if early != Count::default() {
        let (reason, direction) = (DropReason::DenyCidr as u8, Direction::In as u8);
        let key = DropKey { endpoint: 0, reason, direction, pad: 0 };
        drops.entry(key).or_default().add(&early);
    }
    Ok(drops)
}
