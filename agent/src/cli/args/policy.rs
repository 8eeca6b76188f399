//! What can be written behind `bascule policy`.

use clap::Subcommand;

const DENY_EXAMPLES: &str = "\
Examples:
  bascule policy deny add 198.51.100.0/24 2001:db8:bad::/48 --comment scanners
  bascule policy deny ls
  bascule policy deny rm 198.51.100.0/24
  bascule policy deny ls -q | xargs bascule policy deny rm

Packets from these addresses are dropped where they come in by an uplink, whatever they are for: the
host, its published ports, or what it forwards. ARP is not. In XDP they never become packets of the
kernel's; uplinks that cannot run XDP look at the list in tc. `bascule status` says which does what.
The list outlives the agent and restarts of the host.";

const LIST_EXAMPLES: &str = "\
Examples:
  bascule policy ls
  bascule policy ls --container web
  bascule policy ls --network blue --output json

Of two rules about the same packet, the first decides. What no rule is about is judged by the host. A
rule that the data plane has not got yet is marked `pending`. `bascule why` asks about one packet.";

/// `policy ls`.
#[derive(Debug, clap::Args)]
pub struct PolicyList {
    /// Only what is about this network
    #[arg(long, value_name = "NETWORK", default_value_t, hide_default_value = true)]
    pub network: String,
    /// Only what is about this container, or about all of a network of its
    #[arg(long, value_name = "CONTAINER", default_value_t, hide_default_value = true)]
    pub container: String,
}

/// Verbs of `policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// List what is allowed to whom, and why
    #[command(visible_alias = "list", after_help = LIST_EXAMPLES)]
    Ls(PolicyList),
    /// Manage the deny list: prefixes whose packets are dropped as they come in
    #[command(subcommand, arg_required_else_help = true, after_help = DENY_EXAMPLES)]
    Deny(Deny),
}

/// Verbs of `policy deny`.
#[derive(Debug, Subcommand)]
pub enum Deny {
    /// Put prefixes on the list, all of them or none
    Add(DenyAdd),
    /// Take prefixes off the list, all of them or none
    #[command(visible_alias = "remove")]
    Rm {
        /// Prefixes as they were added
        #[arg(required = true, value_name = "PREFIX")]
        prefixes: Vec<String>,
    },
    /// List the prefixes, with the packets and bytes that were dropped
    #[command(visible_alias = "list")]
    Ls {
        /// Prefixes only
        #[arg(short, long)]
        quiet: bool,
    },
}

/// `policy deny add`.
#[derive(Debug, clap::Args)]
pub struct DenyAdd {
    /// Prefixes such as 198.51.100.0/24 and 2001:db8::/32, or single addresses
    #[arg(required = true, value_name = "PREFIX")]
    pub prefixes: Vec<String>,
    /// Remark on them, for the list
    #[arg(long, value_name = "TEXT", default_value_t)]
    pub comment: String,
    /// Also prefixes that may lock you out: everyone, very wide ones, IPv6 link-local addresses
    #[arg(short, long)]
    pub force: bool,
}
