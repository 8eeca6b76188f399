//! What can be written behind `bascule docker`.

use clap::Subcommand;

pub(super) const EXAMPLES: &str = "\
Examples:
  bascule docker adopt --dry-run
  bascule docker adopt
  bascule docker status
  bascule docker release

Docker goes on to make its bridge networks, names and published ports; this agent filters and translates
for them, instead of iptables and docker-proxy. Nothing about containers or compose files changes. Docker's
daemon has to be started again once: by systemd where that runs it, else by you.";

/// Verbs of `docker`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Docker {
    /// Take over Docker's networks
    Adopt {
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Give Docker's networks back, with its configuration as it was
    Release,
    /// Show what is taken over, and what is not as it was made
    Status,
}
