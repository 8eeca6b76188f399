//! What can be written behind `bascule conntrack`, `nat` and `map`.

use clap::Subcommand;

/// Verbs of `conntrack`.
#[derive(Debug, Subcommand)]
pub enum Conntrack {
    /// List the connections that are tracked: what is translated, or leaves its network
    #[command(visible_alias = "list")]
    Ls(Connections),
}

/// Verbs of `nat`.
#[derive(Debug, Subcommand)]
pub enum Nat {
    /// List the connections whose addresses or ports are translated
    #[command(visible_alias = "list")]
    Ls(Connections),
}

/// Verbs of `map`.
#[derive(Debug, Subcommand)]
pub enum Map {
    /// List the maps with their sizes and memory
    #[command(visible_alias = "list")]
    Ls,
    /// Print the entries of a map
    Dump {
        /// Name of the map
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Which connections.
#[derive(Debug, clap::Args)]
pub struct Connections {
    /// Only those from or to this container
    #[arg(long, value_name = "CONTAINER", default_value_t, hide_default_value = true)]
    pub container: String,
    /// Only those of this network
    #[arg(long, value_name = "NETWORK", default_value_t, hide_default_value = true)]
    pub network: String,
    /// Only those of this protocol: tcp, udp, icmp or a number
    #[arg(long, value_name = "PROTO", default_value_t, hide_default_value = true)]
    pub proto: String,
    /// This many at most; 0 is all
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub limit: usize,
}
