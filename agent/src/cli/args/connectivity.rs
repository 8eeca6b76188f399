//! What can be written behind `bascule connectivity`.

use std::{net::IpAddr, str::FromStr};

use clap::{Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  bascule connectivity test
  bascule connectivity test --family 4
  bascule connectivity test --external example.com:443 --external '[2001:db8::7]:53'
  bascule --output json connectivity test

Networks and containers of this test are called bascule-test-XXXXXX-...; they are removed at the end, and what a
test that was killed left is removed by the next one. The exit code is 0 if nothing failed, and 1 otherwise.";

/// Verbs of `connectivity`.
#[derive(Debug, Subcommand)]
pub enum Connectivity {
    /// Move packets between containers made for it, the host and the outside, and say what works
    #[command(after_help = EXAMPLES)]
    Test(ConnectivityTest),
}

/// `connectivity test`.
#[derive(Debug, clap::Args)]
pub struct ConnectivityTest {
    /// Connect by TCP from a container to this place outside, too
    #[arg(long, value_name = "HOST:PORT")]
    pub external: Vec<External>,
    /// Seconds that an answer is waited for
    #[arg(
        long, value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=300)
    )]
    pub timeout: u64,
    /// Only 4 or only 6 [default: both, where the host has them]
    #[arg(long, value_name = "FAMILY", value_enum, hide_possible_values = true)]
    pub family: Option<Family>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// IPv4.
    #[value(name = "4")]
    V4,
    /// IPv6.
    #[value(name = "6")]
    V6,
}

/// A place outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// A name or an address.
    pub host: String,
    /// Port of TCP.
    pub port: u16,
}

impl External {
    /// Returns the address, where it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for External {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("there is no port; write HOST:PORT")?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or("the port is none; write HOST:PORT")?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address,
            None if host.contains(':') => {
                return Err("an IPv6 address stands in brackets: [ADDRESS]:PORT");
            }
            None => host,
        };
        if host.is_empty() {
            return Err("there is no host; write HOST:PORT");
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p94_places_outside_are_a_host_and_a_port() {
        let place = |text: &str| text.parse::<External>().map(|e| (e.host, e.port));
        assert_eq!(place("example.com:443"), Ok(("example.com".into(), 443)));
        assert_eq!(place("203.0.113.7:80"), Ok(("203.0.113.7".into(), 80)));
        assert_eq!(place("[2001:db8::7]:53"), Ok(("2001:db8::7".into(), 53)));
        for bad in ["example.com", ":80", "x:0", "x:70000", "2001:db8::7:53"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
