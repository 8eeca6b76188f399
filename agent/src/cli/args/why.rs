//! What can be written behind `bascule why`.

use std::net::IpAddr;

const EXAMPLES: &str = "\
Examples:
  bascule why c1 c2                           would an echo request arrive?
  bascule why c1 c2:5432/tcp
  bascule why outside 198.51.100.1:8080/tcp   a published port, or not
  bascule why 203.0.113.7 web:80              a container addressed directly
  bascule why c1 '[2001:db8::7]:53/udp'
  bascule why c1 c2 --from-address 10.9.9.9   with another's address
  bascule --output json why c1 c2:80

The agent runs the data plane's own code over the data plane's own tables, with a packet that is never
sent: nothing is changed or counted. TCP is asked about by a SYN, and the answer to it is followed too.
What other programs and firewalls of the host do is not looked at.";

/// `why`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Why {
    /// Who sends: a container, `outside`, `host`, or an address
    #[arg(value_name = "SRC")]
    pub source: String,
    /// To whom: a container, `host` or an address; with :PORT[/tcp|/udp], else an echo request
    #[arg(value_name = "DST[:PORT[/PROTO]]")]
    pub destination: String,
    /// Port that it is sent from [default: 40000]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub from_port: Option<u16>,
    /// Source address that the packet claims, in place of the sender's own
    #[arg(long, value_name = "ADDRESS")]
    pub from_address: Option<IpAddr>,
    /// 4 or 6 [default: what both ends have, and 4 before 6]
    #[arg(long, value_name = "FAMILY", value_parser = clap::value_parser!(u8).range(4..=6))]
    pub family: Option<u8>,
}
