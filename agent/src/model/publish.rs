//! Published and exposed ports, as people write them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Proto {
    /// Returns the IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A range of ports: `first..first + count`, never empty, never past 65535, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    first: u16,
    count: u16,
}

impl PortRange {
    /// Makes a range, where there is such a one.
    pub fn new(first: u16, count: u16) -> Option<Self> {
        let fits = first > 0 && count > 0 && u32::from(first) + u32::from(count) <= 65_536;
        fits.then_some(Self { first, count })
    }

    /// Returns the first port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Returns the last port.
    pub const fn last(self) -> u16 {
        self.first + (self.count - 1)
    }

    /// Returns the number of ports.
    pub const fn count(self) -> u16 {
        self.count
    }

    /// Returns every port.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last()
    }

    /// Tells whether all of another range is in this one.
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last() <= self.last()
    }

    /// Tells whether the ranges have a port in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 1 {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last())
        }
    }
}

/// Where ports of the host are chosen from that no mapping names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRange {
    /// The range that the kernel chooses ports of sockets from, as Docker has it.
    Auto,
    /// This one.
    Fixed(PortRange),
}

impl PublishRange {
    /// Returns the range, where the kernel's is known; without it, it is that of the ports for private use.
    pub fn or(self, kernel: Option<PortRange>) -> PortRange {
        match (self, kernel) {
            (Self::Fixed(range), _) | (Self::Auto, Some(range)) => range,
            (Self::Auto, None) => PRIVATE,
        }
    }
}

impl Default for PublishRange {
    fn default() -> Self {
        Self::Fixed(PRIVATE)
    }
}

impl FromStr for PublishRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        range(text, "port")
            .map(Self::Fixed)
            .map_err(|why| format!("neither auto nor FIRST-LAST: {why}"))
    }
}

/// The ports that nobody is assigned, but for the first: 49153 to 65535.
const PRIVATE: PortRange = PortRange { first: 49_153, count: 16_383 };

/// Text that is not a port mapping or an exposed port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {text:?}: {why}")]
pub struct ParsePortError {
    what: &'static str,
    text: String,
    why: String,
}

/// What is to be published: `[IP:][HOSTPORT[-END]]:PORT[-END][/tcp|/udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishSpec {
    /// Host address; none takes the network's.
    pub host_ip: Option<IpAddr>,
    /// Ports of the host, as many as of the container, or several of which one is chosen for a single port of the
    /// container; none chooses free ones.
    pub host: Option<PortRange>,
    /// Ports of the container.
    pub container: PortRange,
    /// Protocol.
    pub proto: Proto,
}

/// An exposed range of ports: `80`, `80/udp`, `8000-8010/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Expose {
    /// Ports of the container.
    pub ports: PortRange,
    /// Protocol.
    pub proto: Proto,
}

fn port(text: &str, part: &str) -> Result<u16, String> {
    // Rust would take a plus sign.
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match number {
        None => Err(format!("the {part} {text:?} is not a number from 1 to 65535")),
        Some(0) => Err(format!("the {part} is 0, it must be from 1 to 65535")),
        Some(number) => Ok(number),
    }
}

fn range(text: &str, part: &str) -> Result<PortRange, String> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first, part)?, port(last, part)?),
        None => (port(text, part)?, port(text, part)?),
    };
    last.checked_sub(first)
        .and_then(|more| more.checked_add(1))
        .and_then(|count| PortRange::new(first, count))
        .ok_or_else(|| format!("the {part} range {text} ends before it begins"))
}

fn proto(text: &str) -> Result<Proto, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Proto::Tcp),
        "udp" => Ok(Proto::Udp),
        "sctp" => Err("the protocol sctp cannot be published yet, tcp and udp can".into()),
        _ => Err(format!("the protocol {text:?} is none of tcp, udp")),
    }
}

fn split_proto(text: &str) -> Result<(&str, Proto), String> {
    match text.split_once('/') {
        Some((ports, name)) => Ok((ports, proto(name)?)),
        None => Ok((text, Proto::Tcp)),
    }
}

fn publish(text: &str) -> Result<PublishSpec, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    let (addresses, proto) = split_proto(text)?;
    let (ip, ports) = host_address(addresses)?;
    let mut parts = ports.rsplitn(3, ':');
    let (container, host) = (parts.next().unwrap_or(""), parts.next());
    if container.is_empty() {
        return Err("the container port is missing".into());
    }
    let container = range(container, "container port")?;
    let host = host.filter(|h| !h.is_empty()).map(|h| range(h, "host port")).transpose()?;
    // One port of the container may be on any of several of the host.
    let is_other = |h: &PortRange| h.count() != container.count() && container.count() != 1;
    if let Some(host) = host.filter(is_other) {
        return Err(format!(
            "the ranges differ in length: {host} ({}) of the host and {container} ({}) of the container",
            host.count(),
            container.count()
        ));
    }
    Ok(PublishSpec { host_ip: ip, host, container, proto })
}

/// Takes the host address off a mapping: `10.0.0.1:...`, or `[2001:db8::1]:...`.
fn host_address(text: &str) -> Result<(Option<IpAddr>, &str), String> {
    const FORM: &str = "it has more than [IP:][HOSTPORT:]PORT; an IPv6 address stands in brackets";
    let read = |ip: &str| -> Result<IpAddr, String> {
        // An IPv4 address in IPv6's clothes is an IPv4 address.
        let address = ip.parse::<IpAddr>().map(|ip| ip.to_canonical());
        address.map_err(|_| format!("the host address {ip:?} is not an IP address"))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, ports) = rest.split_once("]:").ok_or(FORM)?;
        if ports.matches(':').count() != 1 {
            return Err(FORM.into());
        }
        if !ip.contains(':') && ip.parse::<IpAddr>().is_ok() {
            return Err(format!("the host address {ip} is not an IPv6 address"));
        }
        return Ok((Some(read(ip)?), ports));
    }
    match text.matches(':').count() {
        0 | 1 => Ok((None, text)),
        2 => match text.split_once(':').unwrap_or(("", text)) {
            ("", ports) => Ok((None, ports)),
            (ip, ports) => Ok((Some(read(ip)?), ports)),
        },
        _ => Err(FORM.into()),
    }
}

impl PublishSpec {
    /// Returns the ports of the host of which one is to be chosen, where they are named.
    pub fn pool(&self) -> Option<PortRange> {
        self.host.filter(|host| host.count() != self.container.count())
    }
}

impl FromStr for PublishSpec {
    type Err = ParsePortError;
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        publish(text).map_err(|why| ParsePortError {
            what: "port mapping",
            text: text.to_owned(),
            why,
        })
    }
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host_ip, self.host) {
            (Some(IpAddr::V4(ip)), Some(host)) => write!(f, "{ip}:{host}:")?,
            (Some(IpAddr::V4(ip)), None) => write!(f, "{ip}::")?,
            (Some(IpAddr::V6(ip)), Some(host)) => write!(f, "[{ip}]:{host}:")?,
            (Some(IpAddr::V6(ip)), None) => write!(f, "[{ip}]::")?,
            (None, Some(host)) => write!(f, "{host}:")?,
            (None, None) => {}
        }
        write!(f, "{}/{}", self.container, self.proto)
    }
}

impl FromStr for Expose {
    type Err = ParsePortError;
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        split_proto(text)
            .and_then(|(ports, proto)| Ok(Self { ports: range(ports, "port")?, proto }))
            .map_err(|why| ParsePortError { what: "exposed port", text: text.to_owned(), why })
    }
}

impl fmt::Display for Expose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ports, self.proto)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn s113_to_s117_the_forms_of_a_port_mapping() {
        for (text, canonical) in [
            ("80", "80/tcp"),
            ("80/udp", "80/udp"),
            ("8080:80", "8080:80/tcp"),
            (":80", "80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("[2001:db8::1]:8080:80", "[2001:db8::1]:8080:80/tcp"),
            ("[::]::80/udp", "[::]::80/udp"),
            ("[::ffff:127.0.0.1]:8080:80", "127.0.0.1:8080:80/tcp"),
            ("8000-8009:9000-9009/UDP", "8000-8009:9000-9009/udp"),
            ("1-65535:1-65535", "1-65535:1-65535/tcp"),
            ("65535", "65535/tcp"),
            ("8000-8001:80", "8000-8001:80/tcp"),
        ] {
            assert_eq!(
                text.parse::<PublishSpec>().map(|s| s.to_string()),
                Ok(canonical.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_malformed_port_mapping_is_refused_and_the_part_named() {
        for (text, part) in [
            ("", "empty"),
            (":", "container port is missing"),
            ("8080:", "container port is missing"),
            ("0", "container port is 0"),
            ("0:80", "host port is 0"),
            ("65536", "container port \"65536\""),
            ("+80", "container port \"+80\""),
            ("x:80", "host port \"x\""),
            ("80/sctp", "sctp"),
            ("80/", "protocol \"\""),
            ("80/tcp/udp", "protocol \"tcp/udp\""),
            ("90-80", "ends before it begins"),
            ("80-81:80-82", "differ in length"),
            ("1-2-3", "container port \"2-3\""),
            ("host:80:80", "host address \"host\""),
            ("1.2.3.4.5:80:80", "host address"),
            ("[::1:80:80", "brackets"),
            ("[::1]80:80", "brackets"),
            ("[::1]:1:80:80", "brackets"),
            ("[::1]:80", "brackets"),
            ("[x]:80:80", "host address \"x\""),
            ("[10.0.0.1]:80:80", "not an IPv6 address"),
            ("::1:8080:80", "brackets"),
            ("1:2:3:4", "more than"),
            (" 80", "container port \" 80\""),
        ] {
            let error = text.parse::<PublishSpec>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.starts_with("invalid port mapping"), "{error}");
        }
    }

    #[test]
    fn s97_exposed_ports_read() {
        assert_eq!("80".parse::<Expose>().map(|e| e.to_string()), Ok("80/tcp".into()));
        assert_eq!(
            "8000-8010/udp".parse::<Expose>().map(|e| e.to_string()),
            Ok("8000-8010/udp".into())
        );
        assert!("80:80".parse::<Expose>().is_err());
    }

    #[test]
    fn s112_the_range_of_chosen_ports_is_named_or_the_kernels() {
        let kernel = PortRange::new(32_768, 28_232);
        let of =
            |text: &str| text.parse::<PublishRange>().map(|range| range.or(kernel).to_string());
        assert_eq!(PublishRange::default().or(kernel).to_string(), "49153-65535");
        assert_eq!(of("auto"), Ok("32768-60999".to_owned()), "the kernel's");
        assert_eq!(PublishRange::Auto.or(None).to_string(), "49153-65535");
        assert_eq!(of("30000-30099"), Ok("30000-30099".to_owned()));
        for bad in ["", "Auto", "0-5", "5-4", "65536", "1-2-3"] {
            assert!(of(bad).is_err_and(|why| why.contains("auto")), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9:./\\-a-z\\[\\]]{0,24}") {
            let _ = text.parse::<PublishSpec>();
            let _ = text.parse::<Expose>();
        }

        #[test]
        fn what_is_printed_reads_back(first in 1u16.., host in 1u16.., count in 1u16..100, ip: Option<[u8; 4]>, udp: bool) {
            let (Some(container), Some(host)) = (PortRange::new(first, count), PortRange::new(host, count)) else { return Ok(()) };
            let spec = PublishSpec {
                host_ip: if udp { ip.map(IpAddr::from) } else { ip.map(|[a, b, c, d]| std::net::Ipv4Addr::new(a, b, c, d).to_ipv6_compatible().into()) }, host: Some(host), container, proto: if udp { Proto::Udp } else { Proto::Tcp },
            };
            prop_assert_eq!(spec.to_string().parse::<PublishSpec>(), Ok(spec));
        }
    }
}
