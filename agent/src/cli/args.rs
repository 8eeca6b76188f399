//! Everything that can be written behind `bascule`: all of clap is here, and nothing is done here.
//!
//! Verbs and flags are spelled as `docker` spells them.

mod agent;
mod connectivity;
mod container;
mod docker;
mod flows;
mod inspection;
mod monitor;
mod network;
mod policy;
#[cfg(test)]
mod tests;
mod top;
mod why;

pub use agent::{Agent, AgentOptions, AgentVerb, LogFormat};
pub use connectivity::{Connectivity, ConnectivityTest, External, Family};
pub use container::{
    Container, ContainerList, ContainerRemove, ContainerStop, Create, Exec, Execution, Port,
    References, Run, Sandbox,
};
pub use docker::Docker;
pub use flows::Flows;
pub use inspection::{Connections, Conntrack, Map, Nat};
pub use monitor::{Monitor, Whose};
pub use network::{
    Network, NetworkConnect, NetworkCreate, NetworkInspect, NetworkList, NetworkPrune,
};
pub use policy::{Deny, DenyAdd, Policy, PolicyList};
pub use top::{KEYS as TOP_KEYS, Page, Top};
pub use why::Why;

use std::{path::PathBuf, str::FromStr};

use clap::{Parser, Subcommand, ValueEnum};

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
#[expect(clippy::large_enum_variant, reason = "there is one in a run")]
pub enum Verb {
    /// Run the agent, or remove what it left
    Agent(Box<Agent>),
    /// Manage networks
    #[command(subcommand, arg_required_else_help = true)]
    Network(Network),
    /// Manage containers: network sandboxes with names, addresses and ports
    #[command(subcommand, arg_required_else_help = true)]
    Container(Box<Container>),
    /// Show what is allowed to whom, and manage who may not send anything here
    #[command(subcommand, arg_required_else_help = true)]
    Policy(Policy),
    /// Serve the networks of a Docker that is there, in its place
    #[command(subcommand, arg_required_else_help = true, after_help = docker::EXAMPLES)]
    Docker(Docker),
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
    /// Show the addresses of a name, or the names of an address
    Resolve(Resolve),
    /// Explain what would become of a packet, and why
    Why(Why),
    /// Show how the agent and its data plane are
    Status {
        /// Programs, maps, addresses, connections and versions, too
        #[arg(short, long)]
        verbose: bool,
    },
    /// Show drops and connections as they happen
    #[command(after_help = monitor::EXAMPLES)]
    Monitor(Box<Monitor>),
    /// Show the connections and drops of the past, from the flow log
    #[command(after_help = flows::EXAMPLES)]
    Flows(Box<Flows>),
    /// Show who talks how much, full screen: endpoints, drops, connections and published ports
    #[command(after_help = top::KEYS)]
    Top(Top),
    /// Show the connections that are tracked
    #[command(subcommand, arg_required_else_help = true)]
    Conntrack(Conntrack),
    /// Show which connections are translated, and to what
    #[command(subcommand, arg_required_else_help = true)]
    Nat(Nat),
    /// Show the maps of the data plane
    #[command(subcommand, arg_required_else_help = true)]
    Map(Map),
    /// Write everything that helps to find a fault into an archive, secrets left out
    Bugreport {
        /// The archive [default: bascule-bugreport-TIME.tar.gz in this directory]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Prove that the data plane works
    #[command(subcommand, arg_required_else_help = true)]
    Connectivity(Connectivity),
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

/// What all lists have.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct List {
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Print this for each: a Go template, `table TEMPLATE` with titles, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// `inspect` of a kind.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InspectNamed {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Print this for each: a Go template, or json
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

/// `resolve`.
#[derive(Debug, clap::Args)]
pub struct Resolve {
    /// A name, NAME.NETWORK, or an address
    #[arg(value_name = "NAME")]
    pub name: String,
}
