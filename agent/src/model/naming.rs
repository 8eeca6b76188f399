//! What is said about names: servers, domains and options of `/etc/resolv.conf`, and lines of `/etc/hosts`.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use super::alias::{LABEL, NAME};

/// Most seconds that an answer about a container may be kept.
pub const MOST_TTL: u32 = 5;

/// How names are looked up; what is empty is left to whoever stands behind: network, agent, host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Name servers, in the order in which they are asked.
    pub servers: Vec<IpAddr>,
    /// Domains that short names are looked up in; a lone dot is none.
    pub search: Vec<String>,
    /// Options of the resolver, `ndots:2`.
    pub options: Vec<String>,
}

/// Returns the name servers that a `resolv.conf` names, as they are written there.
pub fn name_servers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver").and(words.next())
    })
}

/// What a container wants of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Naming {
    /// How it looks them up.
    pub resolver: Resolver,
    /// Domain that its host name is in, or empty.
    pub domainname: String,
    /// Further lines of its `/etc/hosts`, in the order given.
    pub extra_hosts: Vec<ExtraHost>,
}

/// What the operator has set for all containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameSettings {
    /// How names are looked up where neither container nor network says so.
    pub resolver: Resolver,
    /// Whether names of containers are answered on the default network too.
    pub default_bridge: bool,
    /// Seconds that an answer about a container may be kept, at most [`MOST_TTL`].
    pub ttl: u32,
    /// The host's own `/etc/resolv.conf`, where it is another file.
    pub resolv_conf: Option<PathBuf>,
    /// Addresses that `host-gateway` stands for, one a family; none is the host's own on the default network.
    pub host_gateway: Vec<IpAddr>,
}

/// A further line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Where it leads.
    pub address: HostAddress,
}

/// Where a line of `/etc/hosts` leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostAddress {
    /// To the host.
    Gateway,
    /// To this address.
    Address(IpAddr),
}

/// Docker's word for the host's own address.
const GATEWAY: &str = "host-gateway";

/// Text that is no line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseExtraHostError {
    /// It has no two parts, or no name in the first.
    #[error("bad format for add-host: {0:?}: NAME:IP is needed")]
    Format(String),
    /// The second part is no address.
    #[error("invalid IP address in add-host: {0:?}")]
    Address(String),
}

impl FromStr for ExtraHost {
    type Err = ParseExtraHostError;
    fn from_str(text: &str) -> Result<Self, ParseExtraHostError> {
        // An address of IPv6 has colons of its own: the first one, or an equals sign, ends the name.
        let parts = text.split_once('=').or_else(|| text.split_once(':'));
        let format = || ParseExtraHostError::Format(text.to_owned());
        let (name, address) = parts.filter(|(name, _)| is_word(name)).ok_or_else(format)?;
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            GATEWAY => HostAddress::Gateway,
            bare => match bare.parse() {
                Ok(address) => HostAddress::Address(address),
                Err(_) => return Err(ParseExtraHostError::Address(address.to_owned())),
            },
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

impl fmt::Display for ExtraHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            HostAddress::Gateway => write!(f, "{}:{GATEWAY}", self.name),
            HostAddress::Address(address) => write!(f, "{}:{address}", self.name),
        }
    }
}

/// Tells whether a text is one word of a file whose words stand between white space, and of no comment.
fn is_word(text: &str) -> bool {
    (1..=NAME).contains(&text.len())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control() || "#;".contains(c))
}

/// Tells whether a text is a domain; a final dot is no part of it.
pub fn is_domain(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= NAME && text.split('.').all(label)
}

impl Resolver {
    /// Says what is wrong with it, if something is: the setting, its value, and why.
    pub fn wrong(&self) -> Option<(&'static str, String, &'static str)> {
        if let Some(ip) = self.servers.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
            return Some(("dns", ip.to_string(), "no address of a server"));
        }
        if let Some(text) = self.search.iter().find(|text| *text != "." && !is_domain(text)) {
            return Some(("dns-search", text.clone(), "not a domain"));
        }
        let option = self.options.iter().find(|text| !is_word(text))?;
        Some(("dns-option", option.clone(), "not one word"))
    }

    /// Tells whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty() && self.options.is_empty()
    }

    /// Returns what holds where another one stands behind it.
    pub fn or(&self, behind: &Self) -> Self {
        fn or<T: Clone>(first: &[T], behind: &[T]) -> Vec<T> {
            if first.is_empty() { behind.to_vec() } else { first.to_vec() }
        }
        Self {
            servers: or(&self.servers, &behind.servers),
            search: or(&self.search, &behind.search),
            options: or(&self.options, &behind.options),
        }
    }

    /// Returns the domains that are looked up; none where a dot unsets them.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.search.iter().map(String::as_str).filter(|domain| *domain != ".")
    }
}

impl NameSettings {
    /// Says what is wrong with the addresses that `host-gateway` stands for, if something is.
    pub fn wrong_gateway(addresses: &[IpAddr]) -> Option<&'static str> {
        let count = |v4: bool| addresses.iter().filter(|ip| ip.is_ipv4() == v4).count();
        match (count(true), count(false)) {
            (2.., _) => Some("only one IPv4 host gateway IP address can be specified"),
            (_, 2..) => Some("only one IPv6 host gateway IP address can be specified"),
            _ => None,
        }
    }
}

/// Reads name servers of a network, with commas between them.
pub(super) fn servers(value: &str) -> Result<Vec<IpAddr>, String> {
    let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
    let servers: Result<Vec<IpAddr>, _> =
        words.map(|word| word.parse().map_err(|_| format!("{word:?} is no IP address"))).collect();
    let resolver = Resolver { servers: servers?, ..Resolver::default() };
    match resolver.wrong() {
        Some((_, server, why)) => Err(format!("{server} is {why}")),
        None => Ok(resolver.servers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s130_p17_lines_of_hosts_are_read_as_docker_reads_them() {
        let read = |text: &str| text.parse::<ExtraHost>().map(|host| host.to_string());
        assert_eq!(read("www.rayx.me:54.12.17.68"), Ok("www.rayx.me:54.12.17.68".into()));
        assert_eq!(read("www=54.12.17.68"), Ok("www:54.12.17.68".into()));
        assert_eq!(read("six:2001:db8::1"), Ok("six:2001:db8::1".into()));
        assert_eq!(read("six=[2001:db8::1]"), Ok("six:2001:db8::1".into()));
        assert_eq!(read("host:host-gateway"), Ok("host:host-gateway".into()));
        for text in ["", "www", ":1.2.3.4", "a b:1.2.3.4", "a#:1.2.3.4", "a\n:1.2.3.4"] {
            assert!(matches!(read(text), Err(ParseExtraHostError::Format(_))), "{text:?}");
        }
        for text in ["www:", "www:x", "www:1.2.3", "www:[::1"] {
            assert!(matches!(read(text), Err(ParseExtraHostError::Address(_))), "{text:?}");
        }
    }

    #[test]
    fn s129_what_is_said_first_holds() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let own = Resolver { search: list(&["."]), ..Resolver::default() };
        let behind = Resolver {
            servers: vec![IpAddr::from([9, 9, 9, 9])],
            search: list(&["lan"]),
            options: list(&["ndots:2"]),
        };
        let both = own.or(&behind);
        assert_eq!((both.servers.len(), both.options.len(), both.domains().count()), (1, 1, 0));
        assert_eq!(behind.or(&own).domains().collect::<Vec<_>>(), ["lan"]);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let list = |word: &str| vec![word.to_owned()];
        let server = Resolver { servers: vec![IpAddr::from([0, 0, 0, 0])], ..Default::default() };
        assert_eq!(server.wrong().map(|wrong| wrong.0), Some("dns"));
        for text in ["a b", "", "a..b", "a/b"] {
            let search = Resolver { search: list(text), ..Default::default() };
            assert_eq!(search.wrong().map(|wrong| wrong.0), Some("dns-search"), "{text}");
        }
        for text in ["", "a b", "a\nnameserver 1.2.3.4", "#"] {
            let option = Resolver { options: list(text), ..Default::default() };
            assert_eq!(option.wrong().map(|wrong| wrong.0), Some("dns-option"), "{text}");
        }
        assert_eq!(servers("9.9.9.9, 2001:db8::1").map(|found| found.len()), Ok(2));
        assert!(servers("9.9.9.9,x").is_err() && servers("::").is_err());
    }

    #[test]
    fn moby_dns_031_host_gateway_has_one_address_a_family() {
        let wrong = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            NameSettings::wrong_gateway(&addresses)
        };
        assert_eq!(wrong(&["6.7.8.9", "2001:db8::1"]), None);
        let text = "only one IPv4 host gateway IP address can be specified";
        assert_eq!(wrong(&["6.7.8.9", "6.7.8.10"]), Some(text));
    }
}
