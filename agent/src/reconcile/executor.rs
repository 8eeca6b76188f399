//! Carries actions out: one match, no decisions.

use std::path::Path;

use bascule_common::abi::service;
use ipnetwork::IpNetwork;

use super::{machine::Machine, observe::Known};
use crate::{
    kernel::{
        self,
        bpf::{self, BpfError, Prefix, Prefix4, Prefix6, Table, XdpAttached},
        container,
        netlink::{Netlink, NewBridge, NewVeth, PortFlags},
        netns, owned, sysctl,
    },
    model::{ContainerId, Desired, InterfaceSysctl, keys},
    plan::{Action, ConfigureInterface, Entry, Hook, HookState, Run, Side, Xdp},
};

/// Why an action could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// Linux refuses.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// BPF refuses.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// The bridge has all the ports that one may have, and some are not ours.
    #[error(
        "the bridge has no port left: more containers need a network that was created with -o {}=bpf",
        keys::L2
    )]
    BridgeFull(#[source] kernel::Error),
    /// The container is not there any more.
    #[error("container {} is gone", .0.short())]
    Gone(ContainerId),
}

impl ExecuteError {
    /// Returns whether what the action is about went away meanwhile: the next observation tells.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Kernel(error) => error.errno() == Some(nix::errno::Errno::ENODEV),
            Self::Bpf(error) => error.is_gone(),
            Self::BridgeFull(_) => false,
            Self::Gone(_) => true,
        }
    }
}

type Result<T> = std::result::Result<T, ExecuteError>;

/// Carries an action out, and notes what it changed of what is known; returns the index of a veth that it made.
pub async fn execute(
    machine: &Machine,
    known: &mut Known,
    desired: &Desired,
    action: &Action,
) -> Result<Option<u32>> {
    let netlink = &machine.netlink;
    match action {
        Action::Map(entry) => {
            reset_counters(machine, known, entry)?;
            machine.tables.change(|| write(&machine.tables, entry))?;
            known.contents.apply(entry);
        }
        Action::CreateBridge { network, name, mac, mtu } => {
            let alias = machine.mark.bridge_alias(&network.to_string());
            let birth_mac = machine.mark.birth_mac(name);
            let bridge = NewBridge { name, birth_mac, mac: *mac, mtu: *mtu, alias: &alias };
            netlink.create_bridge(&bridge).await?;
            sysctl::prepare_ipv6(&[name], false)?;
        }
        Action::DeleteLink { index, .. } => {
            netlink.delete_link(*index).await?;
            for side in [Side::Ingress, Side::Egress] {
                let hook = Hook { ifindex: *index, side };
                if known.hooks.remove(&hook).is_some() {
                    machine.hooks.detach(bpf_hook(hook))?;
                }
            }
        }
        Action::SetUp { index, .. } => netlink.set_up(*index, true).await?,
        Action::SetMac { index, mac } => netlink.set_mac(*index, *mac).await?,
        Action::SetMtu { index, mtu } => netlink.set_mtu(*index, *mtu).await?,
        Action::StopAsking { index } => netlink.stop_asking(*index).await?,
        Action::AddAddress { index, name, address } => {
            if address.is_ipv6() {
                sysctl::prepare_ipv6(&[name], true)?;
            }
            netlink.add_address(*index, *address).await?;
        }
        Action::DeleteAddress { index, address } => {
            netlink.delete_address(*index, *address).await?;
        }
        Action::Enslave { index, bridge } => {
            netlink.set_master(*index, Some(*bridge)).await.map_err(|error| {
                let full = error.errno() == Some(nix::errno::Errno::EXFULL);
                if full { ExecuteError::BridgeFull(error) } else { error.into() }
            })?;
        }
        Action::Quiet { index } => {
            let flags = PortFlags { learning: false, unicast_flood: false, hairpin: false };
            netlink.set_port_flags(*index, flags).await?;
        }
        Action::SetFdb(entry) => netlink.set_fdb(entry.port, entry.mac).await?,
        Action::DeleteFdb(entry) => {
            netlink.delete_fdb(entry.port, entry.mac).await?;
        }
        Action::SetNeighbour(n) => netlink.set_neighbour(n.link, n.ip, n.mac).await?,
        Action::DeleteNeighbour(n) => {
            netlink.delete_neighbour(n.link, n.ip).await?;
        }
        Action::Attach { hook, program } => {
            machine.hooks.attach(&machine.programs, bpf_hook(*hook), program)?;
            let state = HookState { program: (*program).to_owned(), current: true };
            known.hooks.insert(*hook, state);
        }
        Action::Detach(hook) => {
            machine.hooks.detach(bpf_hook(*hook))?;
            known.hooks.remove(hook);
        }
        Action::AttachXdp(index) => {
            known.xdp.insert(*index, attach_xdp(machine, *index)?);
        }
        Action::DetachXdp(index) => {
            machine.hooks.detach_xdp(*index)?;
            known.xdp.remove(index);
        }
        Action::CreateSandbox(container) => {
            create_sandbox(machine, desired, *container).await?;
        }
        Action::RemoveSandbox(name) => remove_sandbox(&machine.places.sandboxes().join(name))?,
        Action::PublishName { container, name } => {
            let directory = Path::new(netns::IP_NETNS_DIR);
            netns::publish(directory, name, &machine.places.sandbox(*container))?;
        }
        Action::LoopbackUp(container) => {
            let inside = Netlink::open_in(&namespace(machine, desired, *container)?).await?;
            container::set_loopback_up(&inside).await?;
        }
        Action::CreateVeth { container, endpoint, name, mac, mtu } => {
            use std::os::fd::AsFd as _;
            let endpoint = endpoint.to_string();
            let namespace = namespace(machine, desired, *container)?;
            let (index, _) = netlink
                .create_veth(&NewVeth {
                    name,
                    birth_mac: machine.mark.birth_mac(name),
                    alias: &machine.mark.veth_alias(&endpoint),
                    mtu: *mtu,
                    peer: &owned::temporary_peer_name(&endpoint),
                    peer_mac: *mac,
                    peer_namespace: namespace.as_fd(),
                })
                .await?;
            sysctl::without_link_local(name)?;
            return Ok(Some(index));
        }
        Action::Configure(wanted) => configure(machine, desired, wanted).await?,
    }
    Ok(None)
}

/// What the kernel answers where somebody else's program is in XDP, by the same hook or the other.
const fn is_taken(errno: i32) -> bool {
    matches!(errno, libc::EBUSY | libc::EEXIST)
}

/// Runs the deny list's program in XDP, and says where.
fn attach_xdp(machine: &Machine, ifindex: u32) -> Result<Xdp> {
    match machine.hooks.attach_xdp(&machine.programs, ifindex)? {
        XdpAttached::Kept => {}
        XdpAttached::Created(mode, of_driver) => {
            let why = of_driver.map(|error| format!(": the driver answers {error}"));
            let (mode, why) = (mode.label(), why.unwrap_or_default());
            tracing::info!(ifindex, "the deny list is looked at in {mode} XDP{why}");
        }
        XdpAttached::Refused(error) => {
            tracing::warn!(ifindex, %error, "no XDP: the deny list is looked at in tc, which costs more");
            return Ok(Xdp::Refused { taken: error.raw_os_error().is_some_and(is_taken) });
        }
    }
    Ok(Xdp::Attached { current: true, generic: false })
}

/// Makes a namespace with its sysctls, or none.
async fn create_sandbox(machine: &Machine, desired: &Desired, id: ContainerId) -> Result<()> {
    let path = machine.places.sandbox(id);
    netns::create(&path)?;
    let sysctls = desired.containers.get(&id).map(|c| c.sysctls.clone()).unwrap_or_default();
    if sysctls.is_empty() {
        return Ok(());
    }
    let set = move || sysctls.iter().try_for_each(|(key, value)| sysctl::write(key, value));
    let result = match netns::Namespace::open(&path) {
        Ok(namespace) => namespace.run(set).await.and_then(|set| set),
        Err(error) => Err(error),
    };
    // The next attempt makes it anew: nothing tells later that something is missing in it.
    result.inspect_err(|_| drop(netns::remove(&path)))?;
    Ok(())
}

async fn configure(
    machine: &Machine,
    desired: &Desired,
    wanted: &ConfigureInterface,
) -> Result<()> {
    let namespace = namespace(machine, desired, wanted.container)?;
    let inside = Netlink::open_in(&namespace).await?;
    let temporary = owned::temporary_peer_name(&wanted.endpoint.to_string());
    let names = [temporary.clone(), wanted.name.clone()];
    let with_ipv6 = wanted.addresses.iter().any(|address| address.is_ipv6());
    // Before it is up: then its address of the link is there at once.
    let sysctls = wanted.sysctls.clone();
    let has_names = wanted.names.is_some();
    namespace
        .run(move || {
            sysctl::prepare_ipv6(&names, with_ipv6)?;
            if has_names {
                sysctl::allow_loopback(&names)?;
            }
            sysctls.iter().try_for_each(|one| set_sysctl(&names, one))
        })
        .await??;
    let interface = container::Interface {
        temporary,
        name: wanted.name.clone(),
        host_index: wanted.host_index,
        mac: wanted.mac,
        mtu: wanted.mtu,
        addresses: wanted.addresses.clone(),
        gateways: wanted.gateways.clone(),
        names: wanted.names,
    };
    container::configure(&inside, &interface).await?;
    Ok(())
}

/// Sets a sysctl of an interface, by the first of its names that it has.
fn set_sysctl(names: &[String], wanted: &InterfaceSysctl) -> kernel::Result<()> {
    let has = |name: &&String| sysctl::exists(&wanted.path(name));
    let name = names.iter().find(has).or(names.last()).map_or("", String::as_str);
    sysctl::write(&wanted.path(name), wanted.value())
}

/// Opens a container's namespace, for as long as the action takes.
fn namespace(machine: &Machine, desired: &Desired, id: ContainerId) -> Result<netns::Namespace> {
    let container = desired.containers.get(&id).ok_or(ExecuteError::Gone(id))?;
    Ok(netns::Namespace::open(&machine.places.namespace(container))?)
}

/// Removes a namespace of ours, and first whatever `ip netns` knows it by.
pub(super) fn remove_sandbox(path: &Path) -> Result<()> {
    let directory = Path::new(netns::IP_NETNS_DIR);
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str() {
            netns::unpublish(directory, name, path)?;
        }
    }
    netns::remove(path)?;
    Ok(())
}

fn bpf_hook(hook: Hook) -> bpf::Hook {
    let side = match hook.side {
        Side::Ingress => bpf::Side::Ingress,
        Side::Egress => bpf::Side::Egress,
    };
    bpf::Hook { ifindex: hook.ifindex, side }
}

/// Counters start at zero for whoever newly has a place.
fn reset_counters(machine: &Machine, known: &Known, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Endpoint(index, Some(new)) => {
            let same = known.contents.endpoints.get(index);
            if same
                .is_none_or(|old| (old.endpoint, old.generation) != (new.endpoint, new.generation))
            {
                machine.tables.reset_endpoint_counters(new.endpoint)?;
            }
        }
        Entry::Network(index, Some(_)) if !known.contents.networks.contains_key(index) => {
            machine.tables.reset_network_counters(*index)?;
        }
        Entry::Denied(prefix, Some(new)) if known.contents.denied.get(prefix) != Some(new) => {
            machine.tables.deny.reset(new.slot)?;
        }
        Entry::Rule(index, Some(_)) if !known.contents.rules.contains_key(index) => {
            machine.tables.reset_rule_counters(*index)?;
        }
        _ => {}
    }
    Ok(())
}

fn write(tables: &bpf::Tables, entry: &Entry) -> std::result::Result<(), BpfError> {
    match entry {
        Entry::Config(key, value) => put(&tables.config, key, value.as_ref()),
        Entry::Generation(key, value) => put(&tables.generations, key, value.as_ref()),
        Entry::Network(key, value) => put(&tables.networks, key, value.as_ref()),
        Entry::Subnet(key, value) => put(&tables.subnets4, &Prefix4::from(*key), value.as_ref()),
        Entry::Subnet6(key, value) => put(&tables.subnets6, &Prefix6::from(*key), value.as_ref()),
        Entry::Local(key, value) => put(&tables.locals4, key, value.as_ref()),
        Entry::Local6(key, value) => put(&tables.locals6, key, value.as_ref()),
        Entry::Bridge(key, value) => put(&tables.bridges, key, value.as_ref()),
        Entry::Trusted(key, value) => put(&tables.trusted, key, value.as_ref()),
        Entry::Uplink(key, value) => put(&tables.uplinks, key, value.as_ref()),
        Entry::Endpoint(key, value) => put(&tables.endpoints, key, value.as_ref()),
        Entry::Neighbour(key, value) => put(&tables.neighbours4, key, value.as_ref()),
        Entry::Neighbour6(key, value) => put(&tables.neighbours6, key, value.as_ref()),
        Entry::Link(key, value) => put(&tables.links, key, value.as_ref()),
        Entry::Rule(key, value) => put(&tables.rules, key, value.as_ref()),
        Entry::Served((length, key), value) => {
            put(&tables.served, &Prefix { length: *length, key: *key }, value.as_ref())
        }
        Entry::Ports(Run { table, first, count }, value) => {
            debug_assert!(*table < service::TABLES);
            tables.ports.fill(*table, *first..*first + *count, value.unwrap_or_default())
        }
        Entry::Denied(IpNetwork::V4(key), value) => {
            put(&tables.deny.v4, &Prefix4::from(*key), value.as_ref())
        }
        Entry::Denied(IpNetwork::V6(key), value) => {
            put(&tables.deny.v6, &Prefix6::from(*key), value.as_ref())
        }
        Entry::DenyLate(key, value) => put(&tables.deny.late, key, value.as_ref()),
    }
}

fn put<T: Table>(
    table: &T,
    key: &T::Key,
    value: Option<&T::Value>,
) -> std::result::Result<(), BpfError> {
    match value {
        Some(value) => table.put(key, value),
        None => table.remove(key).map(drop),
    }
}
