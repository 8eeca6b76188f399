//! The names behind the numbers of the data plane, as they were at the last pass.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// An endpoint's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointName {
    /// Its id, shortened to 12 digits.
    pub endpoint: String,
    /// Its container's name.
    pub container: String,
    /// Its container's id, shortened.
    pub container_id: String,
    /// Its network's name.
    pub network: String,
}

/// A published range's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleName {
    /// Its container's name.
    pub container: String,
    /// Its network's name.
    pub network: String,
    /// The host's address that it is bound to, `0.0.0.0` for all.
    pub host_ip: String,
    /// The host's port, or ports as `8000-8999`.
    pub host_port: String,
    /// `tcp` or `udp`.
    pub proto: String,
}

/// A network's names and numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkName {
    /// Its name.
    pub network: String,
    /// Its id, shortened to 12 digits.
    pub id: String,
    /// Its subnet.
    pub subnet: String,
    /// Its bridge.
    pub bridge: String,
    /// Addresses that are taken, the gateway's included.
    pub ips_in_use: u64,
    /// Addresses that are free.
    pub ips_available: u64,
}

/// A program at work.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramName {
    /// Interface, or path of the cgroup.
    pub iface: String,
    /// `ingress`, `egress`, `xdp`, or the cgroup's hook.
    pub hook: String,
    /// `tcx`, `clsact` or `cgroup`; of XDP, `native` or `generic`.
    pub mode: String,
    /// The program.
    pub program: String,
}

/// Everything that has a name, by its index in the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Endpoints.
    pub endpoints: BTreeMap<u32, EndpointName>,
    /// Published ranges.
    pub rules: BTreeMap<u32, RuleName>,
    /// Networks.
    pub networks: BTreeMap<u32, NetworkName>,
    /// Prefixes on the deny list.
    pub denials: BTreeMap<u32, String>,
    /// Programs.
    pub programs: Vec<ProgramName>,
    /// Names of the containers that have addresses.
    pub addresses: BTreeMap<IpAddr, String>,
}

/// What makes the names, when somebody asks for them.
type Source = Box<dyn FnOnce() -> Names + Send>;

/// The current names: replaced as a whole by whoever knows them, made and read when they are asked for.
#[derive(Clone, Default)]
pub struct SharedNames(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    made: Arc<Names>,
    newer: Option<Source>,
}

/// Who is neither a container of ours nor the host.
pub const OUTSIDE: &str = "outside";
/// The host itself.
pub const HOST: &str = "host";

impl SharedNames {
    /// Puts newer names in force.
    pub fn publish(&self, names: impl FnOnce() -> Names + Send + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).newer = Some(Box::new(names));
    }

    /// The names now in force.
    pub fn get(&self) -> Arc<Names> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = state.newer.take() {
            state.made = Arc::new(newer());
        }
        Arc::clone(&state.made)
    }
}

impl fmt::Debug for SharedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedNames").field(&self.get()).finish()
    }
}
