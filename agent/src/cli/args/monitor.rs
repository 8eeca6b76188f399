//! What can be written behind `bascule monitor`.

use std::path::PathBuf;

use super::Format;

pub(super) const EXAMPLES: &str = "\
Examples:
  bascule monitor
  bascule monitor --type drop --from web
  bascule monitor --related-to db --proto tcp --port 5432 -o json
  bascule monitor --dns --from web
  bascule monitor --type trace,drop --related-to web --port 80
  bascule monitor --reason policy_icc,policy_isolation --write drops.pcapng

Told are drops as they happen, at most 1,000 a second for each CPU, and connections as they are seen
once a second: their ends with what went both ways. What was lost is told as `lost`. A name is a
container's, `host` or `outside`. Options may be given several times, or with commas: each names what
may be. `policy` is connections that were allowed, and drops that a policy asked for. `trace` is every
packet that goes on of whom --from, --to, --related-to, --port or --proto name, with `drop` those that
do not; at most eight addresses and endpoints at one time. While somebody asks for trace, open, close
or policy, packets cost a little more.
Questions about names, who asked them and what was answered, by what the agent knows (`local`), by
what it was told before (`cache`) or by another server (`upstream`), are told with --dns alone.";

/// `monitor`.
#[derive(Debug, clap::Args)]
pub struct Monitor {
    /// Only these: drop, open, close, lifecycle, policy, trace, dns
    #[arg(short, long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<String>,
    /// Only questions about names and their answers, and what --type names
    #[arg(long)]
    pub dns: bool,
    /// Whose.
    #[command(flatten)]
    pub whose: Whose,
    /// End after so many events
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub count: Option<u64>,
    /// Write the beginnings of packets that are dropped, or traced, into this file, for Wireshark; for root
    #[arg(short, long, value_name = "FILE.pcapng")]
    pub write: Option<PathBuf>,
    /// `table` or `json`, as --output
    #[arg(short = 'o', value_name = "FORMAT", value_enum, hide_possible_values = true)]
    pub format: Option<Format>,
}

/// What `monitor` and `flows` leave out.
#[derive(Debug, clap::Args)]
pub struct Whose {
    /// Only what these send: names or addresses
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub from: Vec<String>,
    /// Only what is for these: names or addresses
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Only what is from or to these, or happens to them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub related_to: Vec<String>,
    /// Only what is on these networks
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub network: Vec<String>,
    /// Only what has one of these ports on either side
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub port: Vec<String>,
    /// Only these protocols: tcp, udp, icmp, icmp6 or a number
    #[arg(long, value_name = "PROTO", value_delimiter = ',')]
    pub proto: Vec<String>,
    /// Only drops for these reasons
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    pub reason: Vec<String>,
    /// Only what was `allowed` or `dropped`
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    pub verdict: Vec<String>,
}
