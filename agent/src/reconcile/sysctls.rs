//! Sysctls that the agent changes: each is written to the journal first, so that it can be given back.

use std::collections::BTreeSet;

use bascule_common::abi::Config;

use crate::{
    kernel::{
        self,
        ports::PortSet,
        sysctl::{self, Entry},
    },
    model::Desired,
    state::{
        rules,
        store::{Store, StoreError},
    },
};

/// Why a sysctl is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// Linux refuses.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The journal cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the host route IPv4.
pub fn forward(store: &Store) -> Result<(), SysctlError> {
    change(store, sysctl::IP_FORWARD, "1", None)
}

/// Makes the host route IPv6. A router takes no word of other routers, unless its setting says that it does
/// so all the same: interfaces that lead out and that went by such words so far go on doing so.
pub fn forward6(store: &Store, uplinks: &[(String, u32)]) -> Result<(), SysctlError> {
    if !is_forwarding6()? {
        for (uplink, index) in uplinks {
            accept(store, uplink, *index)?;
        }
    }
    sysctl::IPV6_FORWARD.iter().try_for_each(|key| change(store, key, "1", None))
}

/// Lets an interface that has appeared go by router advertisements, where it is the agent that made a router of
/// the host. One that is as it was when the agent last changed it, but for what somebody did since, is left.
pub fn follow_advertisements(store: &Store, uplink: &str, index: u32) -> Result<(), SysctlError> {
    let journal: Vec<Entry> = store.sysctls()?;
    let is_ours = journal.iter().any(|entry| entry.key == sysctl::IPV6_FORWARD[0]);
    let key = sysctl::ipv6_of(uplink, "accept_ra");
    let of_it = |entry: &Entry| entry.interface.is_none_or(|of| of == index);
    let is_known = journal.iter().any(|entry| entry.key == key && of_it(entry));
    if !is_ours || is_known || !is_forwarding6()? {
        return Ok(());
    }
    accept(store, uplink, index)
}

fn accept(store: &Store, uplink: &str, index: u32) -> Result<(), SysctlError> {
    let key = sysctl::ipv6_of(uplink, "accept_ra");
    // One that has just gone has nothing to be kept.
    if sysctl::read(&key).is_ok_and(|value| value == "1") {
        change(store, &key, "2", Some(index))?;
    }
    Ok(())
}

fn change(
    store: &Store,
    key: &str,
    value: &str,
    interface: Option<u32>,
) -> Result<(), SysctlError> {
    let Some(entry) = sysctl::plan(key, value)? else { return Ok(()) };
    let entry = Entry { interface, ..entry };
    // What it was before the agent's first change stays what is given back.
    let journal: Vec<Entry> = store.sysctls()?;
    if !journal.iter().any(|e| e.key == entry.key && e.interface == entry.interface) {
        store.put_sysctl(&entry.key, &entry)?;
    }
    sysctl::apply(&entry)?;
    tracing::info!(sysctl = entry.key, before = entry.before, value = entry.ours, "sysctl changed");
    Ok(())
}

/// Returns whether the host routes IPv6.
pub fn is_forwarding6() -> Result<bool, SysctlError> {
    Ok(sysctl::read(sysctl::IPV6_FORWARD[0])?.trim() != "0")
}

/// Returns whether the host routes.
pub fn is_forwarding() -> Result<bool, SysctlError> {
    Ok(sysctl::read(sysctl::IP_FORWARD)?.trim() != "0")
}

/// Returns the ports that others keep the kernel from choosing: those that the agent adds are for it to give.
pub fn reserved_by_others(store: &Store) -> Result<BTreeSet<u16>, SysctlError> {
    let journal: Vec<Entry> = store.sysctls()?;
    let ours = journal.iter().find(|entry| entry.key == sysctl::RESERVED_PORTS);
    let others = sysctl::ports_of_others(ours)?;
    Ok(others.ranges().iter().flat_map(|&(first, last)| first..=last).collect())
}

/// Keeps the kernel from choosing published ports and those of masquerade for sockets of the host.
pub fn reserve(store: &Store, desired: &Desired, config: &Config) -> Result<(), SysctlError> {
    let of_host = rules(desired).filter(|(_, rule)| !rule.routed);
    let published = of_host.map(|(_, rule)| (rule.host.first(), rule.host.last()));
    let masquerade = (config.masquerade_first, config.masquerade_last);
    let wanted = PortSet::of(published.chain([masquerade]));
    let journal: Vec<Entry> = store.sysctls()?;
    let so_far = journal.iter().find(|entry| entry.key == sysctl::RESERVED_PORTS);
    let Some(step) = sysctl::plan_ports(so_far, &wanted)? else { return Ok(()) };
    store.put_sysctl(sysctl::RESERVED_PORTS, &step.claim)?;
    sysctl::reserve_ports(&step)?;
    if step.settled != step.claim {
        store.put_sysctl(sysctl::RESERVED_PORTS, &step.settled)?;
    }
    Ok(())
}
