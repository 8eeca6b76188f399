//! The deny list: prefixes that nobody may send from.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnetwork::IpNetwork;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most bytes of a comment.
const COMMENT: usize = 256;

/// A prefix of addresses, without bits of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Prefix(IpNetwork);

/// Why text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePrefixError {
    /// It is something else.
    #[error("invalid prefix {0:?}: it is neither a prefix, as 198.51.100.0/24 is, nor an address")]
    Syntax(String),
    /// It names a host and not a network.
    #[error("invalid prefix {given}: it has bits of a host; did you mean {network}?")]
    HostBits {
        /// What was given.
        given: IpNetwork,
        /// What may have been meant.
        network: Prefix,
    },
    /// No packet has such a source.
    #[error(
        "invalid prefix {0}: IPv4 addresses in IPv6 are never on the wire; deny the IPv4 prefix"
    )]
    Mapped(IpNetwork),
}

impl Prefix {
    /// Returns the prefix.
    pub const fn network(self) -> IpNetwork {
        self.0
    }

    /// Returns why denying it may lock the operator out, where it may.
    pub fn danger(self) -> Option<&'static str> {
        let link_local = |ip: std::net::Ipv6Addr| ip.segments()[0] & 0xffc0 == 0xfe80;
        match self.0 {
            _ if self.0.prefix() == 0 => Some("it is everyone, you too"),
            IpNetwork::V4(network) if network.prefix() < 8 => Some("it is wider than a /8"),
            IpNetwork::V6(network) if link_local(network.network()) => {
                Some("without link-local addresses no IPv6 neighbour and no router is found")
            }
            IpNetwork::V6(network) if network.prefix() < 16 => Some("it is wider than a /16"),
            IpNetwork::V4(_) | IpNetwork::V6(_) => None,
        }
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    /// Reads a prefix, or an address as the prefix of it alone.
    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let syntax = || ParsePrefixError::Syntax(text.to_owned());
        // Masks in dotted form are read by the library, and by nobody else.
        if text.split_once('/').is_some_and(|(_, length)| length.parse::<u8>().is_err()) {
            return Err(syntax());
        }
        let given: IpNetwork = text.parse().map_err(|_| syntax())?;
        let network = IpNetwork::new(given.network(), given.prefix()).map_err(|_| syntax())?;
        if given.ip() != given.network() {
            return Err(ParsePrefixError::HostBits { given, network: Self(network) });
        }
        match network.network() {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() && network.prefix() >= 96 => {
                Err(ParsePrefixError::Mapped(given))
            }
            _ => Ok(Self(network)),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an operator remarks on a prefix: one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment(String);

/// Why text is no comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCommentError {
    /// It is too long.
    #[error("invalid comment: it has {0} bytes, and {COMMENT} are the most")]
    Long(usize),
    /// It would not stay on its line.
    #[error("invalid comment: it holds control characters")]
    Control,
}

impl Comment {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Comment {
    type Err = ParseCommentError;

    fn from_str(text: &str) -> Result<Self, ParseCommentError> {
        if text.len() > COMMENT {
            return Err(ParseCommentError::Long(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(ParseCommentError::Control);
        }
        Ok(Self(text.to_owned()))
    }
}

/// A prefix on the deny list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The prefix.
    pub prefix: Prefix,
    /// Its counters' place in the data plane.
    pub slot: u32,
    /// What the operator remarked.
    pub comment: Comment,
    /// When it was put there.
    pub created: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_addresses_are_read() {
        for (text, shown) in [
            ("198.51.100.0/24", "198.51.100.0/24"),
            ("198.51.100.7", "198.51.100.7/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("2001:db8::7", "2001:db8::7/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Prefix>().map(|p| p.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn what_is_no_prefix_is_told_why() {
        for (text, why) in [
            ("", "neither a prefix"),
            ("example.org", "neither a prefix"),
            ("198.51.100.0/33", "neither a prefix"),
            ("198.51.100.0/255.255.255.0", "neither a prefix"),
            ("198.51.100.0/", "neither a prefix"),
            ("198.51.100.7/24", "did you mean 198.51.100.0/24?"),
            ("2001:db8::7/32", "did you mean 2001:db8::/32?"),
            ("::ffff:198.51.100.0/120", "deny the IPv4 prefix"),
        ] {
            let error = text.parse::<Prefix>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn what_may_lock_the_operator_out_is_dangerous() {
        for (text, dangerous) in [
            ("0.0.0.0/0", true),
            ("128.0.0.0/1", true),
            ("10.0.0.0/8", false),
            ("::/0", true),
            ("2000::/3", true),
            ("fe80::/10", true),
            ("fe80::1/128", true),
            ("2001:db8::/32", false),
        ] {
            let prefix: Prefix = text.parse().expect(text);
            assert_eq!(prefix.danger().is_some(), dangerous, "{text}");
        }
    }

    #[test]
    fn comments_are_one_line() {
        assert!("scanners".parse::<Comment>().is_ok());
        assert_eq!("a\nb".parse::<Comment>(), Err(ParseCommentError::Control));
        assert_eq!("a".repeat(257).parse::<Comment>(), Err(ParseCommentError::Long(257)));
    }
}
