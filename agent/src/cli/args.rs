//! Everything that can be written behind `bascule`: all of clap is here, and nothing is done here.
//!
//! Verbs and flags are spelled as `docker` spells them.

mod policy;
mod why;

pub use policy::{Deny, DenyAdd, Policy};
pub use why::Why;

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use ipnetwork::IpNetwork;

const RUN_EXAMPLES: &str = "\
Examples:
  bascule run --rm --name c1 --network blue -- ping -c 1 172.18.0.1
  bascule run --name web --network blue -p 8080:80 -- python3 -m http.server 80
  bascule run -d --name c2 --network blue --ip 172.18.0.9
  bascule run --rm --name c3 --network blue --link web:w -- sh

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

const NETWORK_CREATE_EXAMPLES: &str = "\
Examples:
  bascule network create blue
  bascule network create --subnet 172.25.0.0/16 --gateway 172.25.0.1 red
  bascule network create -o com.docker.network.bridge.enable_icc=false quiet
  bascule network create --internal -o com.docker.network.driver.mtu=1450 backend";

const PUBLISH_HELP: &str = "Publish a port or range: [IP:][HOSTPORT[-END]]:PORT[-END][/tcp|/udp], or PORT for a free host port";

/// Container networking in eBPF: networks, containers and published ports without iptables.
#[derive(Debug, Parser)]
#[command(name = "bascule", version)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory of the agent's socket and run-time files [default: /run/bascule]
    #[arg(long, global = true, env = "BASCULE_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Configuration file [default: /etc/bascule/bascule.toml]
    #[arg(long, global = true, env = "BASCULE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// `table` for people or `json` for machines
    #[arg(
        long,
        global = true,
        env = "BASCULE_OUTPUT",
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub output: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For machines.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent, or remove what it left
    Agent(Box<Agent>),
    /// Manage networks
    #[command(subcommand, arg_required_else_help = true)]
    Network(Network),
    /// Manage containers: network sandboxes with names, addresses and ports
    #[command(subcommand, arg_required_else_help = true)]
    Container(Box<Container>),
    /// Manage policy: who may not send anything here
    #[command(subcommand, arg_required_else_help = true)]
    Policy(Policy),
    /// Run a command in a new container
    Run(Box<Run>),
    /// Run a command in a running container
    Exec(Exec),
    /// List containers
    Ps(ContainerList),
    /// List published ports
    Port(Port),
    /// Make a container without starting it
    Create(Box<Create>),
    /// Start containers
    Start(References),
    /// Stop containers
    Stop(ContainerStop),
    /// Remove containers
    Rm(ContainerRemove),
    /// Show containers or networks in full
    Inspect(Inspect),
    /// Explain what would become of a packet, and why
    Why(Why),
    /// Show how the agent and its data plane are
    Status,
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Write a page for every verb into this directory instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

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
    /// Address that serves /metrics and /healthz [default: 127.0.0.1:9477]
    #[arg(long, env = "BASCULE_METRICS_LISTEN", value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Connections that are tracked at most; the tables keep the size that they were made with [default: by memory]
    #[arg(long, env = "BASCULE_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<u32>,
    /// Interfaces that lead out of the host, as globs; repeatable [default: every one that does]
    #[arg(long, env = "BASCULE_UPLINK", value_name = "GLOB", value_delimiter = ',')]
    pub uplink: Vec<String>,
    /// Address and prefix of the default network, a bridge that is there for it, or `none`
    #[arg(short, long, env = "BASCULE_BRIDGE", value_name = "CIDR|BRIDGE|none")]
    pub bridge: Option<String>,
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
    Inspect(InspectNamed),
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
    /// Option of the driver, KEY=VALUE
    #[arg(short = 'o', long = "opt", value_name = "KEY=VALUE")]
    pub options: Vec<KeyValue>,
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
    /// Only those that match: name=, id=, driver=, scope=, label=
    #[arg(short, long, value_name = "KEY=VALUE")]
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
}

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
    /// Network to attach to, none or host; repeatable, in order of interfaces [default: bridge]
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Static address on the first network
    #[arg(long, value_name = "IP")]
    pub ip: Option<Ipv4Addr>,
    /// Static IPv6 address on the first network
    #[arg(long, value_name = "IP")]
    pub ip6: Option<Ipv6Addr>,
    /// Ethernet address on the first network [default: made from the address]
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// Further name on the first network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// What it is published as.
    #[arg(short, long, value_name = "SPEC", help = PUBLISH_HELP)]
    pub publish: Vec<String>,
    /// Publish every exposed port on a free port of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Port or range that the container serves, tcp unless it says udp: 80, 53/udp, 8000-8010
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Open the exposed ports of another container to this one
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub link: Vec<String>,
    /// Host name [default: the short id]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Label: KEY, or KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<KeyValue>,
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
    /// Accepted: the command has this client's standard input anyway
    #[arg(short, long)]
    pub interactive: bool,
    /// Accepted: the command has this client's terminal anyway
    #[arg(short, long)]
    pub tty: bool,
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
    /// What stands where `docker` has an image.
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
    /// What stands where `docker` has an image and a command.
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

/// What all lists have.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct List {
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Print this for each, with {{.Field}} and {{json .Field}} filled in
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
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

/// `inspect` of a kind.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InspectNamed {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Print this for each, with {{.Field}} and {{json .Field}} filled in
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// `inspect`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Inspect {
    /// What to show.
    #[command(flatten)]
    pub named: InspectNamed,
    /// Look among `container`s or `network`s only
    #[arg(long, value_name = "KIND", value_enum, hide_possible_values = true)]
    pub r#type: Option<Kind>,
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A container.
    Container,
    /// A network.
    Network,
}

/// `port`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Port {
    /// Name or id of the container [default: all that run]
    pub container: Option<String>,
    /// Only where this port of the container is published: 80, 53/udp
    pub port: Option<String>,
}

/// A pair such as `name=value`; without `=` the value is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// What stands before the first `=`.
    pub key: String,
    /// What stands behind it, or nothing.
    pub value: String,
    /// Whether there was a `=`.
    pub has_value: bool,
}

impl FromStr for KeyValue {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value, has_value) = match text.split_once('=') {
            Some((key, value)) => (key, value, true),
            None => (text, "", false),
        };
        if key.trim().is_empty() {
            return Err("there is nothing before the `=`");
        }
        Ok(Self { key: key.trim().to_owned(), value: value.to_owned(), has_value })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(["bascule"].into_iter().chain(line.split_whitespace()))
    }

    fn run(line: &str) -> Run {
        match parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).verb {
            Verb::Run(run) => *run,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_holds() {
        Args::command().debug_assert();
    }

    #[test]
    fn run_takes_dockers_flags() {
        let run =
            run("run --rm -itd --name c1 --net blue --network red --ip 172.25.3.3 -p 8080:80 \
             --publish 53:53/udp -P --expose 80 --expose 443/tcp --link c2:db -h c1.lan -e A=1 \
             -w /tmp --label a=b -l c --network-alias app -- sh -c exit");
        let sandbox = &run.sandbox;
        assert!(sandbox.rm && sandbox.publish_all);
        assert!(run.execution.detach && run.execution.interactive && run.execution.tty);
        assert_eq!(sandbox.name.as_deref(), Some("c1"));
        assert_eq!(sandbox.network, ["blue", "red"]);
        assert_eq!(sandbox.ip, Some(Ipv4Addr::new(172, 25, 3, 3)));
        assert_eq!(sandbox.publish, ["8080:80", "53:53/udp"]);
        assert_eq!(sandbox.expose, ["80", "443/tcp"]);
        assert_eq!(sandbox.link, ["c2:db"]);
        assert_eq!(sandbox.hostname.as_deref(), Some("c1.lan"));
        assert_eq!(sandbox.network_alias, ["app"]);
        assert_eq!(sandbox.label.len(), 2);
        assert_eq!(run.execution.env, ["A=1"]);
        assert_eq!(run.execution.workdir.as_deref(), Some("/tmp".as_ref()));
        assert_eq!(run.command, ["sh", "-c", "exit"]);
        assert!(run.words.is_empty());
    }

    #[test]
    fn words_of_dockers_images_are_caught_with_their_flags() {
        let run_line = run("run -itd --net bluenet --name c1 busybox sh -c ls");
        assert_eq!(run_line.words, ["busybox", "sh", "-c", "ls"]);
        assert!(run_line.command.is_empty());
        assert!(!run("run busybox -- sh").words.is_empty());
        match parse("create -it --net bluenet --name c1 busybox sh").expect("good").verb {
            Verb::Create(create) => assert_eq!(create.words, ["busybox", "sh"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_brought_namespace_is_one_or_the_other() {
        assert_eq!(run("run -d --netns /run/netns/x").sandbox.netns, Some("/run/netns/x".into()));
        assert_eq!(run("run -d --pid 7").sandbox.pid, Some(7));
        assert!(parse("run -d --pid 7 --netns x").is_err());
    }

    #[test]
    fn exec_takes_its_command_with_and_without_dashes() {
        for line in ["exec -it c1 ip -s link", "exec -i -t c1 -- ip -s link"] {
            match parse(line).expect(line).verb {
                Verb::Exec(exec) => {
                    assert_eq!(exec.container, "c1");
                    assert_eq!(exec.command, ["ip", "-s", "link"], "{line}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(parse("exec c1").is_err());
    }

    #[test]
    fn s2_network_create_takes_dockers_flags() {
        let line = "network create -d bridge --subnet=172.26.0.0/16 --gateway 172.26.0.2 --internal \
                    -o com.docker.network.bridge.enable_icc=false --opt a.b=c=d --label x --ipv6 n1";
        match parse(line).expect("good").verb {
            Verb::Network(Network::Create(create)) => {
                assert_eq!((create.name.as_str(), create.driver.as_str()), ("n1", "bridge"));
                assert_eq!((create.internal, create.ipv6, create.ipv4), (true, Some(true), None));
                assert_eq!(create.options[0].value, "false");
                assert_eq!(create.options[1].value, "c=d");
                assert!(!create.label[0].has_value);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_verb_of_dockers_has_its_spelling() {
        for line in [
            "network ls -q --no-trunc --filter name=a -f driver=bridge",
            "network list --format {{.Name}}",
            "network inspect a b -f {{.Id}}",
            "network rm a b",
            "network connect --ip 10.0.0.2 --alias db --link c4:bar n c",
            "network disconnect -f n c",
            "container create --name c1 --network n1",
            "container start c1 c2",
            "container stop c1",
            "stop -t 0 c1 c2",
            "container rm -f c1",
            "container ls -a",
            "container ps -aq",
            "container inspect c1 --format {{.Id}}",
            "container exec c1 true",
            "container run --name c1 -- true",
            "container port c1 80/tcp",
            "ps -a --no-trunc",
            "port",
            "port c1",
            "inspect --type network bridge",
            "start c1",
            "stop c1",
            "rm -f c1",
            "status --output json",
            "--output json status",
            "--run-dir /x ps",
            "ps --run-dir /x",
            "completion bash",
            "completion zsh",
            "man",
            "man --dir /x",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "",
            "nope",
            "network",
            "network create",
            "network create --subnet x n",
            "network create -o =x n",
            "network rm",
            "container start",
            "run --ip x -- true",
            "run --pid x -- true",
            "ps --output xml",
            "completion csh",
            "agent --metrics-listen x",
            "agent --ip-forward=maybe",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_agent_takes_its_places() {
        let line = "agent --state-dir /s --run-dir /r --bpffs /b --cgroup /c \
                    --metrics-listen 127.0.0.1:0 --uplink eth*,up0 --uplink x --bridge none \
                    --ip-forward=false --log-format json --log-level debug";
        let args = parse(line).expect("good");
        assert_eq!(args.global.run_dir, Some("/r".into()));
        match args.verb {
            Verb::Agent(agent) => {
                let options = agent.options;
                assert_eq!(options.state_dir, Some("/s".into()));
                assert_eq!(options.uplink, ["eth*", "up0", "x"]);
                assert_eq!(options.ip_forward, Some(false));
                assert_eq!(options.bridge.as_deref(), Some("none"));
                assert_eq!(options.log_format, Some(LogFormat::Json));
                assert!(agent.verb.is_none());
            }
            other => panic!("{other:?}"),
        }
        for line in ["agent --state-dir /s cleanup --purge", "agent cleanup --purge --state-dir /s"]
        {
            match parse(line).expect(line).verb {
                Verb::Agent(agent) => {
                    assert!(matches!(agent.verb, Some(AgentVerb::Cleanup { purge: true })));
                    assert_eq!(agent.options.state_dir, Some("/s".into()), "{line}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
