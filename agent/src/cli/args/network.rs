//! What can be written behind `bascule network`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Subcommand;
use ipnetwork::IpNetwork;

use super::{InspectNamed, KeyValue, List};

const NETWORK_CREATE_EXAMPLES: &str = "\
Examples:
  bascule network create blue
  bascule network create --subnet 172.25.0.0/16 --gateway 172.25.0.1 red
  bascule network create -o com.docker.network.bridge.enable_icc=false quiet
  bascule network create --internal -o com.docker.network.driver.mtu=1450 backend";

/// Verbs of `network`.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Make a network and print its id
    #[command(after_help = NETWORK_CREATE_EXAMPLES)]
    Create(NetworkCreate),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(NetworkList),
    /// Show networks in full
    Inspect(NetworkInspect),
    /// Remove networks without containers
    #[command(visible_alias = "remove")]
    Rm {
        /// Names, ids or beginnings of ids
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
        /// Do not complain about networks that do not exist
        #[arg(short, long)]
        force: bool,
    },
    /// Have a network's containers ask other name servers, from their next question on
    Update {
        /// Name or id of the network
        network: String,
        /// Name server that is asked too; repeatable
        #[arg(
            long,
            value_name = "IP",
            value_delimiter = ',',
            required_unless_present = "dns_drop"
        )]
        dns_add: Vec<IpAddr>,
        /// Name server that is not asked any more; repeatable
        #[arg(long, value_name = "IP", value_delimiter = ',')]
        dns_drop: Vec<IpAddr>,
    },
    /// Remove all networks without containers
    Prune(NetworkPrune),
    /// Attach a container to a further network, at once if it runs
    Connect(NetworkConnect),
    /// Detach a container from a network
    Disconnect {
        /// Name or id of the network
        network: String,
        /// Name or id of the container
        container: String,
        /// Also remove an endpoint whose container is gone
        #[arg(short, long)]
        force: bool,
    },
}

/// `network create`.
#[derive(Debug, clap::Args)]
pub struct NetworkCreate {
    /// Its name
    pub name: String,
    /// What makes the network
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// Its subnet, one a family [default: one that nothing on this host uses]
    #[arg(long, value_name = "CIDR")]
    pub subnet: Vec<IpNetwork>,
    /// Address of the host in the subnet [default: the first]
    #[arg(long, value_name = "IP")]
    pub gateway: Vec<IpAddr>,
    /// Part of the subnet that automatic addresses come from
    #[arg(long, value_name = "CIDR")]
    pub ip_range: Vec<IpNetwork>,
    /// Address that no container gets, NAME=IP
    #[arg(long, value_name = "NAME=IP")]
    pub aux_address: Vec<KeyValue>,
    /// No way in or out of the network
    #[arg(long)]
    pub internal: bool,
    /// Let containers be attached by hand; here they always may
    #[arg(long)]
    pub attachable: bool,
    /// Make a configuration only, for other networks
    #[arg(long)]
    pub config_only: bool,
    /// Network whose configuration this one takes
    #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true)]
    pub config_from: String,
    /// Scope of the network: local
    #[arg(long, default_value = "", hide_default_value = true)]
    pub scope: String,
    /// Make swarm's routing mesh; needs a cluster
    #[arg(long)]
    pub ingress: bool,
    /// What manages its addresses
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    pub ipam_driver: String,
    /// Option of address management, KEY=VALUE
    #[arg(long = "ipam-opt", value_name = "KEY=VALUE")]
    pub ipam_options: Vec<KeyValue>,
    /// Option of the driver, KEY=VALUE
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE")]
    pub options: Vec<KeyValue>,
    /// Name server that is asked for the network's containers; repeatable [default: the agent's]
    #[arg(long, value_name = "IP")]
    pub dns: Vec<IpAddr>,
    /// Label: KEY, or KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<KeyValue>,
    /// Give the network IPv4 [default: true]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub ipv4: Option<bool>,
    /// Give the network IPv6 too [default: where a subnet of it is given]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub ipv6: Option<bool>,
}

/// `network ls`.
#[derive(Debug, clap::Args)]
pub struct NetworkList {
    /// What all lists have.
    #[command(flatten)]
    pub list: List,
    /// Only those that match: name=, id=, driver=, scope=, label=, type=custom, dangling=true
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<KeyValue>,
}

/// `network inspect`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NetworkInspect {
    /// What to show. The format `legacy` is what docker showed when networks were new
    #[command(flatten)]
    pub named: InspectNamed,
    /// Show everything that is known
    #[arg(short, long)]
    pub verbose: bool,
}

/// `network prune`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NetworkPrune {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only those that match: until=10m, label=, label!=
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<KeyValue>,
}

/// `network connect`.
#[derive(Debug, clap::Args)]
pub struct NetworkConnect {
    /// Name or id of the network
    pub network: String,
    /// Name or id of the container
    pub container: String,
    /// Static address
    #[arg(long, value_name = "IP")]
    pub ip: Option<Ipv4Addr>,
    /// Static IPv6 address
    #[arg(long, value_name = "IP")]
    pub ip6: Option<Ipv6Addr>,
    /// Further name on this network
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// Link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub link: Vec<String>,
    /// Ethernet address
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// Further address of the link: 169.254.0.0/16 or fe80::/10
    #[arg(long, value_name = "IP")]
    pub link_local_ip: Vec<IpAddr>,
    /// Option of the endpoint, KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    pub driver_opt: Vec<KeyValue>,
    /// The network with the highest gives the default route, and takes published ports
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, default_value_t)]
    pub gw_priority: i64,
}
