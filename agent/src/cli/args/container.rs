//! What can be written behind `bascule container`, and behind its shortcuts.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use clap::{ArgAction, Subcommand};

use super::{InspectNamed, KeyValue, List};

const RUN_EXAMPLES: &str = "\
Examples:
  bascule run --rm --name c1 --network blue -- ping -c 1 172.18.0.1
  bascule run --name web --network blue -p 8080:80 -- python3 -m http.server 80
  bascule run -d --name c2 --network blue --ip 172.18.0.9
  bascule run --rm -it --name c3 --network blue --link web:w -- sh

The command is looked up on the host: there are no images. It keeps the sandbox running, outlives
this client and the agent, and has a host name, /etc/hosts and /etc/resolv.conf of its own.
Without --rm the container stays listed as Exited when the command ends.

Exit codes: the command's own, 128+N if signal N ended it, 125 if the agent refused or the sandbox
could not be entered, 126 if the command cannot be executed, 127 if there is no such command, 2 for
a wrong command line. Where the command was not executed, the container is removed again.";

const EXEC_EXAMPLES: &str = "\
Examples:
  bascule exec c1 ip address
  bascule exec -e DEBUG=1 c1 -- curl http://172.18.0.3/

Exit codes are those of `bascule run`.";

const NETWORK_HELP: &str = "Network to attach to, none, host or container:NAME; repeatable, in order of interfaces; with options of its own: name=NETWORK and any of ip=, ip6=, alias=, mac-address=, link-local-ip=, driver-opt=, gw-priority= with commas between them [default: bridge]";

const PUBLISH_HELP: &str = "Publish a port or range: [IP:][HOSTPORT[-END]]:PORT[-END][/tcp|/udp], or PORT for a free host port; of a range for one PORT the first free one";

/// Verbs of `container`.
#[derive(Debug, Subcommand)]
pub enum Container {
    /// Make a container without starting it, and print its id
    Create(Create),
    /// Start containers as empty sandboxes: namespace, interfaces, addresses, ports
    Start(References),
    /// End the commands of containers and release what they hold on the network
    Stop(ContainerStop),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(ContainerRemove),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ContainerList),
    /// Show containers in full
    Inspect(InspectNamed),
    /// Run a command in a running container
    Exec(Exec),
    /// Run a command in a new container
    Run(Run),
    /// List published ports
    Port(Port),
}

/// What `create` and `run` have in common.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Sandbox {
    /// Its name [default: one is chosen]
    #[arg(long)]
    pub name: Option<String>,
    /// Networks to attach to.
    #[arg(long, visible_alias = "net", value_name = "NETWORK", help = NETWORK_HELP)]
    pub network: Vec<String>,
    /// Static address on the first network
    #[arg(long, value_name = "IP")]
    pub ip: Option<Ipv4Addr>,
    /// Static IPv6 address on the first network
    #[arg(long, value_name = "IP")]
    pub ip6: Option<Ipv6Addr>,
    /// Further address of the link on the first network: 169.254.0.0/16 or fe80::/10
    #[arg(long, value_name = "IP")]
    pub link_local_ip: Vec<IpAddr>,
    /// Ethernet address on the first network [default: made from the address]
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// Further name on the first network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// What it is published as.
    #[arg(short, long, value_name = "SPEC", allow_hyphen_values = true, help = PUBLISH_HELP)]
    pub publish: Vec<String>,
    /// Publish every exposed port on a free port of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Port or range that the container serves, tcp unless it says udp: 80, 53/udp, 8000-8010
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Give another container this name here, and open its exposed ports to this one
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub link: Vec<String>,
    /// Host name [default: the short id]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Domain that the host name is in
    #[arg(long, value_name = "DOMAIN")]
    pub domainname: Option<String>,
    /// Name server; repeatable [default: those of the networks, the agent or the host]
    #[arg(long, value_name = "IP")]
    pub dns: Vec<IpAddr>,
    /// Domain that short names are looked up in, `.` for none; repeatable
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Option of the resolver, as ndots:2; repeatable
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Further line of /etc/hosts, NAME:IP or NAME:host-gateway
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// Label: KEY, or KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<KeyValue>,
    /// Sysctl of the container's network: net.KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    pub sysctl: Vec<KeyValue>,
    /// Use this network namespace instead of a new one
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    pub netns: Option<PathBuf>,
    /// Use the network namespace of this process instead of a new one
    #[arg(long, value_name = "PID")]
    pub pid: Option<i32>,
    /// Remove the container when its command ends
    #[arg(long)]
    pub rm: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
}

/// How a command is executed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Execution {
    /// Leave the command in the background, without terminal
    #[arg(short, long)]
    pub detach: bool,
    /// Let the command read this client's standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal of its own
    #[arg(short, long)]
    pub tty: bool,
    /// Give the command every right, that to change its network included
    #[arg(long)]
    pub privileged: bool,
    /// Variable of the environment, KEY=VALUE, or KEY to take it out
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
}

/// `run`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(disable_help_flag = true, after_help = RUN_EXAMPLES)]
pub struct Run {
    /// The container.
    #[command(flatten)]
    pub sandbox: Sandbox,
    /// How to execute.
    #[command(flatten)]
    pub execution: Execution,
    /// Give the command a capability that it has not: NET_ADMIN, ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Take a capability from the command
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// What stands where `docker` has an image. (Its own argument: behind it flags are not ours, before it they are.)
    #[arg(hide = true)]
    pub image: Option<OsString>,
    /// What stands where `docker` has a command.
    #[arg(hide = true, value_name = "WORD", allow_hyphen_values = true)]
    pub words: Vec<OsString>,
    /// The command and its arguments; nothing, with -d, for an empty sandbox
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `create`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Create {
    /// The container.
    #[command(flatten)]
    pub sandbox: Sandbox,
    /// Accepted, without effect
    #[arg(short, long, hide = true)]
    pub interactive: bool,
    /// Accepted, without effect
    #[arg(short, long, hide = true)]
    pub tty: bool,
    /// What stands where `docker` has an image.
    #[arg(hide = true)]
    pub image: Option<OsString>,
    /// What stands where `docker` has a command.
    #[arg(hide = true, value_name = "WORD", allow_hyphen_values = true, trailing_var_arg = true)]
    pub words: Vec<OsString>,
}

/// `exec`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXEC_EXAMPLES)]
pub struct Exec {
    /// How to execute.
    #[command(flatten)]
    pub execution: Execution,
    /// Name or id of the container
    pub container: String,
    /// The command and its arguments
    #[arg(required = true, allow_hyphen_values = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// Containers by name or id.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct References {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `container stop`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ContainerStop {
    /// Which ones.
    #[command(flatten)]
    pub references: References,
    /// Seconds until a command that does not end is killed [default: 10]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<u16>,
}

/// `container rm`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ContainerRemove {
    /// Which ones.
    #[command(flatten)]
    pub references: References,
    /// Remove running containers too
    #[arg(short, long)]
    pub force: bool,
}

/// `container ls`, `ps`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ContainerList {
    /// Also those that do not run
    #[arg(short, long)]
    pub all: bool,
    /// What all lists have.
    #[command(flatten)]
    pub list: List,
    /// Only those that match: name=, id=, status=, network=, label=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<KeyValue>,
}

/// `port`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Port {
    /// Name or id of the container [default: all that run]
    pub container: Option<String>,
    /// Only where this port of the container is published: 80, 53/udp
    pub port: Option<String>,
}
