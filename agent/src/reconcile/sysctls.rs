//! Sysctls that the agent changes: each is written to the journal first, so that it can be given back.

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

/// Makes the host route.
pub fn forward(store: &Store) -> Result<(), SysctlError> {
    let Some(entry) = sysctl::plan(sysctl::IP_FORWARD, "1")? else { return Ok(()) };
    // What it was before the agent's first change stays what is given back.
    let journal: Vec<Entry> = store.sysctls()?;
    if !journal.iter().any(|e| e.key == entry.key) {
        store.put_sysctl(&entry.key, &entry)?;
    }
    sysctl::apply(&entry)?;
    tracing::info!(sysctl = entry.key, before = entry.before, value = entry.ours, "sysctl changed");
    Ok(())
}

/// Returns whether the host routes.
pub fn is_forwarding() -> Result<bool, SysctlError> {
    Ok(sysctl::read(sysctl::IP_FORWARD)?.trim() != "0")
}

/// Keeps the kernel from choosing published ports and those of masquerade for sockets of the host.
pub fn reserve(store: &Store, desired: &Desired, config: &Config) -> Result<(), SysctlError> {
    let published = rules(desired).map(|(_, rule)| (rule.host.first(), rule.host.last()));
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
