//! What the operator has set: flags and environment first, then the configuration file, then defaults.
//!
//! The command line is read elsewhere and arrives as [`Given`]; what leaves is a [`Config`], in which
//! everything has a value and makes sense.

mod file;
mod reload;
#[cfg(test)]
mod tests;
mod values;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnetwork::{Ipv4Network, Ipv6Network};

pub use file::FileError;
pub use reload::Changed;

pub use crate::model::AddressPool;
use crate::{
    model::{AddressPools, NameSettings, PublishRange, Resolver},
    telemetry::log::Format,
};

/// Where the configuration is looked for.
pub const FILE: &str = "/etc/bascule/bascule.toml";
/// Where run-time files are.
pub const RUN_DIR: &str = "/run/bascule";
const STATE_DIR: &str = "/var/lib/bascule";
const BPFFS: &str = "/sys/fs/bpf/bascule";
/// Docker's API, and its daemon's configuration.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const DOCKER_CONFIG: &str = "/etc/docker/daemon.json";
/// Where the web page is, where it is asked for and nobody says where.
pub const UI: &str = "127.0.0.1:9478";
/// Where dockerd looks for the driver `bascule`.
pub const DOCKER_PLUGIN: &str = "/run/docker/plugins/bascule.sock";
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9477);

/// What flags and environment say; what they leave open is the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Configuration file; one that is named has to be there.
    pub config: Option<PathBuf>,
    /// Directory of what outlives a boot.
    pub state_dir: Option<PathBuf>,
    /// Directory of what does not.
    pub run_dir: Option<PathBuf>,
    /// Directory of pins.
    pub bpffs: Option<PathBuf>,
    /// Cgroup for the reservation of published ports.
    pub cgroup: Option<PathBuf>,
    /// Socket of Docker's API.
    pub docker_socket: Option<PathBuf>,
    /// Configuration file of Docker's daemon.
    pub docker_config: Option<PathBuf>,
    /// Socket at which the agent is Docker's network driver; an empty one is none.
    pub docker_plugin: Option<PathBuf>,
    /// Address of `/metrics` and `/healthz`.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether metrics have Docker's and Podman's names, too.
    pub metrics_compat: Option<bool>,
    /// Address of the web page.
    pub ui: Option<SocketAddr>,
    /// File that connections and drops are logged into.
    pub flow_log: Option<PathBuf>,
    /// Connections that are tracked at most, of each family.
    pub max_connections: Option<u32>,
    /// Whether the kernel's grace periods are expedited while interfaces change.
    pub rcu_expedited: Option<bool>,
    /// Globs of interfaces that lead out; none leaves it open.
    pub uplink: Vec<String>,
    /// `none`, or a bridge that is there for the default network.
    pub bridge: Option<String>,
    /// Address and prefix of the default network's bridge.
    pub bip: Option<String>,
    /// Part of the default network's subnet that automatic addresses come from.
    pub fixed_cidr: Option<String>,
    /// Whether containers of the default network talk to each other freely.
    pub icc: Option<bool>,
    /// Address that the default network publishes ports on where a mapping names none.
    pub ip: Option<IpAddr>,
    /// MTU of the default network.
    pub mtu: Option<u32>,
    /// Name servers of containers; none leaves it open.
    pub dns: Vec<IpAddr>,
    /// Domains that containers look up short names in; none leaves it open.
    pub dns_search: Vec<String>,
    /// Options of the resolver; none leaves it open.
    pub dns_option: Vec<String>,
    /// Seconds that answers about containers may be kept.
    pub dns_ttl: Option<u32>,
    /// Whether names are answered on the default network.
    pub default_bridge_dns: Option<bool>,
    /// The host's own `/etc/resolv.conf`, where it is another file.
    pub resolv_conf: Option<PathBuf>,
    /// What `host-gateway` stands for; none leaves it open.
    pub host_gateway_ip: Vec<IpAddr>,
    /// Whether the host is made to route.
    pub ip_forward: Option<bool>,
    /// Whether the default network has IPv6.
    pub ipv6: Option<bool>,
    /// IPv6 subnet of the default network.
    pub fixed_cidr_v6: Option<String>,
    /// Whether networks are masqueraded that do not say otherwise.
    pub ip_masq: Option<bool>,
    /// Whether published ports are reached at the containers' own addresses too.
    pub allow_direct_routing: Option<bool>,
    /// Mark, and mask, of packets that may address containers directly.
    pub bridge_accept_fwmark: Option<String>,
    /// Address at which processes of the host ask for names of containers.
    pub dns_listen: Option<SocketAddr>,
    /// Pools that subnets are chosen from; none leaves it open.
    pub default_address_pool: Vec<AddressPool>,
    /// Ports that are chosen from where a mapping names none: `auto`, or a range.
    pub publish_range: Option<String>,
    /// `human` or `json`.
    pub log_format: Option<String>,
    /// Level or filter of the log.
    pub log_level: Option<String>,
}

/// What the default network is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bridge {
    /// There is none.
    None,
    /// There is one, with addresses that are free.
    Automatic,
    /// There is one, with this gateway and subnet.
    Fixed(Ipv4Network),
    /// There is one, on a bridge of the operator's.
    Brought(String),
}

/// Whether the default network has IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// It has not.
    Off,
    /// It has, with a subnet that is free.
    Automatic,
    /// It has, with this subnet.
    Fixed(Ipv6Network),
}

/// A mark of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its value.
    pub value: u32,
    /// Bits that count.
    pub mask: u32,
}

/// What holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of what outlives a boot.
    pub state_dir: PathBuf,
    /// Directory of what does not.
    pub run_dir: PathBuf,
    /// Directory of pins.
    pub bpffs: PathBuf,
    /// Cgroup for the reservation of published ports; none finds one.
    pub cgroup: Option<PathBuf>,
    /// Socket of Docker's API.
    pub docker_socket: PathBuf,
    /// Configuration file of Docker's daemon.
    pub docker_config: PathBuf,
    /// Socket at which the agent is Docker's network driver.
    pub docker_plugin: Option<PathBuf>,
    /// Address of `/metrics` and `/healthz`.
    pub metrics_listen: SocketAddr,
    /// Whether metrics have Docker's and Podman's names, too.
    pub metrics_compat: bool,
    /// Address of the web page; none serves none.
    pub ui: Option<SocketAddr>,
    /// File that connections and drops are logged into; none logs them nowhere.
    pub flow_log: Option<PathBuf>,
    /// Connections that are tracked at most; none goes by the host's memory.
    pub max_connections: Option<u32>,
    /// Whether the kernel's grace periods are expedited while interfaces change.
    pub rcu_expedited: bool,
    /// Globs of interfaces that lead out; none is every one.
    pub uplinks: Vec<String>,
    /// The default network.
    pub bridge: Bridge,
    /// Part of its subnet that automatic addresses come from.
    pub fixed_cidr: Option<Ipv4Network>,
    /// Whether containers on it talk to each other freely.
    pub icc: bool,
    /// Address that it publishes ports on where a mapping names none.
    pub ip: Option<IpAddr>,
    /// Its MTU; none is the uplink's.
    pub mtu: Option<u16>,
    /// What is set for names of containers, and for those that they look up.
    pub names: NameSettings,
    /// Whether the host is made to route.
    pub ip_forward: bool,
    /// IPv6 of the default network.
    pub ipv6: Ipv6,
    /// Whether networks are masqueraded that do not say otherwise.
    pub ip_masq: bool,
    /// Whether published ports are reached at the containers' own addresses too.
    pub allow_direct_routing: bool,
    /// Packets that may address containers directly.
    pub accept_mark: Option<Mark>,
    /// Address at which processes of the host ask for names of containers.
    pub dns_listen: Option<SocketAddr>,
    /// Where subnets come from that nobody names.
    pub pools: AddressPools,
    /// Ports that are chosen from where a mapping names none.
    pub publish_range: PublishRange,
    /// How log lines look.
    pub log_format: Format,
    /// Level or filter of the log.
    pub log_level: String,
}

/// Why a configuration does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value makes no sense.
    #[error("invalid {key} {value:?}: {why}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        why: String,
    },
}

impl ConfigError {
    fn value(key: &'static str, value: &str, why: impl Into<String>) -> Self {
        Self::Value { key, value: value.to_owned(), why: why.into() }
    }

    /// Returns whose value it is that makes no sense.
    const fn key(&self) -> Option<&'static str> {
        match self {
            Self::File(_) => None,
            Self::Value { key, .. } => Some(key),
        }
    }
}

impl Config {
    /// Puts together what was given, what the file says, and the defaults.
    pub fn resolve(given: Given) -> Result<Self, ConfigError> {
        let named = given.config.clone();
        let path = named.as_deref().unwrap_or(Path::new(FILE));
        let file = match &named {
            Some(path) => file::read(path)?,
            None => file::read_if_there(path)?,
        };
        let result = Self::merge(given.clone(), file.content);
        let Err(ConfigError::Value { key, value, why }) = result else { return result };
        // Whoever alone makes the value wrong is who has to mend it.
        let alone = Self::merge(given, file::File::default());
        let line = if alone.is_err_and(|error| error.key() == Some(key)) {
            None
        } else {
            file::line_of(&file.text, key)
        };
        match line {
            Some((line, key)) => {
                let message = format!("invalid value {value:?}: {why}");
                let (path, key) = (path.to_owned(), format!("{key}: "));
                Err(FileError::Line { path, line, key, message }.into())
            }
            None => Err(ConfigError::Value { key, value, why }),
        }
    }

    fn merge(given: Given, file: file::File) -> Result<Self, ConfigError> {
        let path = |flag: Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            flag.or(file).unwrap_or_else(|| PathBuf::from(default))
        };
        // The two exclude each other: who says one of them has said both.
        let bridge = match (given.bridge, given.bip) {
            (None, None) => values::bridge(file.bridge, file.bip),
            (bridge, bip) => values::bridge(bridge, bip),
        }?;
        let ipam = file.ipam.unwrap_or_default();
        let pools = match given.default_address_pool.is_empty() {
            true => ipam.pools,
            false => given.default_address_pool,
        };
        Ok(Self {
            state_dir: path(given.state_dir, file.state_dir, STATE_DIR),
            run_dir: path(given.run_dir, file.run_dir, RUN_DIR),
            bpffs: path(given.bpffs, file.bpffs, BPFFS),
            cgroup: given.cgroup.or(file.cgroup),
            docker_socket: path(given.docker_socket, file.docker_socket, DOCKER_SOCKET),
            docker_config: path(given.docker_config, file.docker_config, DOCKER_CONFIG),
            docker_plugin: values::docker_plugin(given.docker_plugin.or(file.docker_plugin))?,
            metrics_listen: given.metrics_listen.or(file.metrics_listen).unwrap_or(METRICS),
            ui: given.ui.or(file.ui),
            flow_log: given.flow_log.or(file.flow_log),
            metrics_compat: given.metrics_compat.or(file.metrics_compat).unwrap_or(false),
            rcu_expedited: given.rcu_expedited.or(file.rcu_expedited).unwrap_or(true),
            max_connections: values::connections(given.max_connections.or(file.max_connections))?,
            uplinks: either(given.uplink, file.uplink),
            fixed_cidr: values::fixed_cidr(given.fixed_cidr.or(file.fixed_cidr), &bridge)?,
            bridge,
            icc: given.icc.or(file.icc).unwrap_or(true),
            ip: values::binding(given.ip.or(file.ip))?,
            mtu: values::mtu(given.mtu.or(file.mtu))?,
            names: NameSettings {
                resolver: values::resolver(Resolver {
                    servers: either(given.dns, file.dns),
                    search: either(given.dns_search, file.dns_search),
                    options: either(given.dns_option, file.dns_option),
                })?,
                default_bridge: given
                    .default_bridge_dns
                    .or(file.default_bridge_dns)
                    .unwrap_or(false),
                resolv_conf: given.resolv_conf.or(file.resolv_conf),
                ttl: values::dns_ttl(given.dns_ttl.or(file.dns_ttl))?,
                host_gateway: values::host_gateway(either(
                    given.host_gateway_ip,
                    file.host_gateway_ip,
                ))?,
            },
            ip_forward: given.ip_forward.or(file.ip_forward).unwrap_or(true),
            ipv6: values::ipv6(
                given.ipv6.or(file.ipv6),
                given.fixed_cidr_v6.or(file.fixed_cidr_v6),
            )?,
            ip_masq: given.ip_masq.or(file.ip_masq).unwrap_or(true),
            allow_direct_routing: given
                .allow_direct_routing
                .or(file.allow_direct_routing)
                .unwrap_or(false),
            accept_mark: values::mark(given.bridge_accept_fwmark.or(file.bridge_accept_fwmark))?,
            dns_listen: given.dns_listen.or(file.dns_listen),
            pools: AddressPools { pools, exclude: ipam.exclude },
            publish_range: values::publish_range(given.publish_range.or(file.publish_range))?,
            log_format: values::log_format(given.log_format.or(file.log_format))?,
            log_level: given.log_level.or(file.log_level).unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// Lists are taken from one place, never joined.
fn either<T>(given: Vec<T>, file: Option<Vec<T>>) -> Vec<T> {
    if given.is_empty() { file.unwrap_or_default() } else { given }
}
