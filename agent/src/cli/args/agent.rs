//! What can be written behind `bascule agent`, and behind every verb about where the agent is.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Subcommand, ValueEnum};

use crate::config::{AddressPool, UI};

/// `agent`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = false)]
pub struct Agent {
    /// What else than to run it.
    #[command(subcommand)]
    pub verb: Option<AgentVerb>,
    /// Where it lives and what it does.
    #[command(flatten)]
    pub options: AgentOptions,
}

/// Verbs of `agent`.
#[derive(Debug, Subcommand)]
pub enum AgentVerb {
    /// Remove everything of Bascule's from the kernel: pins, interfaces, namespaces, settings
    Cleanup {
        /// Remove the store with all networks and containers too
        #[arg(long)]
        purge: bool,
    },
}

/// Settings of the agent; what is not given comes from the configuration file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AgentOptions {
    /// Directory of the store [default: /var/lib/bascule]
    #[arg(long, global = true, env = "BASCULE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory for pins, a bpffs; mounted where missing [default: /sys/fs/bpf/bascule]
    #[arg(long, global = true, env = "BASCULE_BPFFS", value_name = "DIR")]
    pub bpffs: Option<PathBuf>,
    /// Cgroup whose processes may take no published port, and reach them as clients [default: the root]
    #[arg(long, global = true, env = "BASCULE_CGROUP", value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Socket of Docker's API [default: /var/run/docker.sock]
    #[arg(long, env = "BASCULE_DOCKER_SOCKET", value_name = "SOCKET")]
    pub docker_socket: Option<PathBuf>,
    /// Configuration file of Docker's daemon, which `docker adopt` changes [default: /etc/docker/daemon.json]
    #[arg(long, env = "BASCULE_DOCKER_CONFIG", value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
    /// Be Docker's network and IPAM driver, at a socket that is called as the driver [default: no;
    /// without a value, /run/docker/plugins/bascule.sock]
    #[arg(
        long,
        env = "BASCULE_DOCKER_PLUGIN",
        value_name = "SOCKET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = crate::config::DOCKER_PLUGIN
    )]
    pub docker_plugin: Option<PathBuf>,
    /// Address that serves /metrics and /healthz [default: 127.0.0.1:9477]
    #[arg(long, env = "BASCULE_METRICS_LISTEN", value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Serve a web page that shows who talks to whom; to everybody who reaches the address [default: none; alone, 127.0.0.1:9478]
    #[arg(
        long,
        env = "BASCULE_UI",
        value_name = "IP:PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = UI
    )]
    pub ui: Option<SocketAddr>,
    /// Log ended connections and drops into this file, a line of JSON each; at most 256 MiB, the oldest go
    #[arg(long, env = "BASCULE_FLOW_LOG", value_name = "FILE")]
    pub flow_log: Option<PathBuf>,
    /// Give metrics under the names of Docker's daemon and Podman's exporter, too [default: false]
    #[arg(long, env = "BASCULE_METRICS_COMPAT", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub metrics_compat: Option<bool>,
    /// Connections that are tracked at most; the tables keep the size that they were made with [default: by memory]
    #[arg(long, env = "BASCULE_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<u32>,
    /// Let the kernel interrupt all CPUs, instead of waiting for ticks, while interfaces change [default: true]
    #[arg(
        long,
        env = "BASCULE_RCU_EXPEDITED",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub rcu_expedited: Option<bool>,
    /// Interfaces that lead out of the host, as globs; repeatable [default: every one that does]
    #[arg(long, env = "BASCULE_UPLINK", value_name = "GLOB", value_delimiter = ',')]
    pub uplink: Vec<String>,
    /// A bridge that is there for the default network, or `none` [default: bascule0, made by the agent]
    #[arg(short, long, env = "BASCULE_BRIDGE", value_name = "BRIDGE|none")]
    pub bridge: Option<String>,
    /// Address and prefix of the default network's bridge [default: 172.17.0.1/16, or what is free]
    #[arg(long, env = "BASCULE_BIP", value_name = "CIDR")]
    pub bip: Option<String>,
    /// Part of the default network's subnet that automatic addresses come from; without --bip, the subnet
    #[arg(long, env = "BASCULE_FIXED_CIDR", value_name = "CIDR")]
    pub fixed_cidr: Option<String>,
    /// Let containers of the default network talk to each other [default: true]
    #[arg(
        long,
        env = "BASCULE_ICC",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub icc: Option<bool>,
    /// Host address that the default network publishes ports on where -p names none [default: all]
    #[arg(long, env = "BASCULE_IP", value_name = "IP")]
    pub ip: Option<IpAddr>,
    /// MTU of the default network; other networks have -o com.docker.network.driver.mtu [default: the uplink's]
    #[arg(long, env = "BASCULE_MTU", value_name = "BYTES")]
    pub mtu: Option<u32>,
    /// Name server in the /etc/resolv.conf of commands; repeatable [default: as on the host]
    #[arg(long, env = "BASCULE_DNS", value_name = "IP", value_delimiter = ',')]
    pub dns: Vec<IpAddr>,
    /// Domain in the search line of that file, `.` for none; repeatable [default: as on the host]
    #[arg(long, env = "BASCULE_DNS_SEARCH", value_name = "DOMAIN", value_delimiter = ',')]
    pub dns_search: Vec<String>,
    /// Option of the resolver in that file, as ndots:2; repeatable [default: as on the host]
    #[arg(
        long,
        visible_alias = "dns-opt",
        env = "BASCULE_DNS_OPTION",
        value_name = "OPTION",
        value_delimiter = ','
    )]
    pub dns_option: Vec<String>,
    /// Seconds that answers about containers may be kept, 0 to 5 [default: 0]
    #[arg(long, env = "BASCULE_DNS_TTL", value_name = "SECONDS")]
    pub dns_ttl: Option<u32>,
    /// Answer names of containers on the default network, too
    #[arg(
        long,
        env = "BASCULE_DEFAULT_BRIDGE_DNS",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub default_bridge_dns: Option<bool>,
    /// The host's own resolv.conf [default: /etc/resolv.conf, or systemd's where that names its stub alone]
    #[arg(long, env = "BASCULE_RESOLV_CONF", value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    /// What host-gateway stands for in --add-host, one address a family [default: the default network's gateway]
    #[arg(long, env = "BASCULE_HOST_GATEWAY_IP", value_name = "IP", value_delimiter = ',')]
    pub host_gateway_ip: Vec<IpAddr>,
    /// Switch forwarding on: IPv4's at start, IPv6's with the first network that has it [default: true]
    #[arg(
        long,
        env = "BASCULE_IP_FORWARD",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub ip_forward: Option<bool>,
    /// Give the default network IPv6
    #[arg(
        long,
        env = "BASCULE_IPV6",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub ipv6: Option<bool>,
    /// IPv6 subnet of the default network [default: a unique local one]
    #[arg(long, env = "BASCULE_FIXED_CIDR_V6", value_name = "CIDR")]
    pub fixed_cidr_v6: Option<String>,
    /// Masquerade what leaves, on networks that do not say otherwise [default: true]
    #[arg(
        long,
        env = "BASCULE_IP_MASQ",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub ip_masq: Option<bool>,
    /// Let the outside reach published ports at the containers' own addresses
    #[arg(
        long,
        env = "BASCULE_ALLOW_DIRECT_ROUTING",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub allow_direct_routing: Option<bool>,
    /// Let packets with this mark reach containers directly
    #[arg(long, env = "BASCULE_BRIDGE_ACCEPT_FWMARK", value_name = "MARK[/MASK]")]
    pub bridge_accept_fwmark: Option<String>,
    /// Address at which processes of the host ask for names of containers [default: none]
    #[arg(long, env = "BASCULE_DNS_LISTEN", value_name = "IP:PORT")]
    pub dns_listen: Option<SocketAddr>,
    /// Pool that subnets are chosen from, base=CIDR,size=PREFIX; repeatable [default: many /24]
    #[arg(long, env = "BASCULE_DEFAULT_ADDRESS_POOL", value_name = "POOL", value_delimiter = ';')]
    pub default_address_pool: Vec<AddressPool>,
    /// Ports of the host that are chosen from, FIRST-LAST, or `auto` for the kernel's own [default: 49153-65535]
    #[arg(long, env = "BASCULE_PUBLISH_RANGE", value_name = "RANGE|auto")]
    pub publish_range: Option<String>,
    /// `human` or `json` [default: human]
    #[arg(
        long,
        env = "BASCULE_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        hide_possible_values = true
    )]
    pub log_format: Option<LogFormat>,
    /// error, warn, info, debug, trace, or directives such as bascule::api=debug [default: info]
    #[arg(long, env = "BASCULE_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// How the agent writes its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}
