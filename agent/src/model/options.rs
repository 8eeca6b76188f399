//! Driver options of a network: kept verbatim, and the known ones read.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::naming;

/// Keys of the options that are read.
pub mod keys {
    /// Whether containers of the network talk to each other freely.
    pub const ICC: &str = "com.docker.network.bridge.enable_icc";
    /// Whether what leaves the host is masqueraded.
    pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
    /// Name of the bridge.
    pub const BRIDGE: &str = "com.docker.network.bridge.name";
    /// Host address that ports are published on where a mapping names none.
    pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
    /// How containers are reached and leave by IPv4.
    pub const GATEWAY_MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
    /// The same by IPv6.
    pub const GATEWAY_MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
    /// Interfaces from which containers may be addressed directly, joined by colons.
    pub const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
    /// Whether the bridge has no IPv4 address.
    pub const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
    /// IPv4 address that masquerade uses.
    pub const HOST_IPV4: &str = "com.docker.network.host_ipv4";
    /// IPv6 address that masquerade uses.
    pub const HOST_IPV6: &str = "com.docker.network.host_ipv6";
    /// `bridge`, or `bpf`: nothing but our programs between the containers.
    pub const L2: &str = "bascule.l2";
    /// Whether the network has IPv4.
    pub const IPV4: &str = "com.docker.network.enable_ipv4";
    /// Whether the network has IPv6.
    pub const IPV6: &str = "com.docker.network.enable_ipv6";
    /// Marks the default network.
    pub const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
    /// MTU.
    pub const MTU: &str = "com.docker.network.driver.mtu";
    /// What the names of interfaces in containers begin with.
    pub const PREFIX: &str = "com.docker.network.container_iface_prefix";
    /// Name servers that are asked for the network's containers, with commas between them.
    pub const DNS: &str = "bascule.dns";
    /// How often an address is announced when it is new.
    pub const ANNOUNCEMENTS: &str = "com.docker.network.advertise_addr_nmsgs";
    /// Milliseconds from one announcement to the next.
    pub const ANNOUNCE_EVERY: &str = "com.docker.network.advertise_addr_ms";
}

/// How a family of a network is joined to the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Masqueraded on the way out, reached by published ports.
    #[default]
    Nat,
    /// The same, and who addresses a container directly reaches every port.
    NatUnprotected,
    /// With the containers' own addresses; who addresses a container directly reaches what it publishes.
    Routed,
    /// The host has no address on the network.
    Isolated,
}

/// How often a new address is announced where a network says nothing.
pub const ANNOUNCEMENTS: u16 = 3;
/// Milliseconds from one announcement to the next where a network says nothing.
pub const ANNOUNCE_EVERY: u16 = 1000;

/// Options of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOptions {
    /// As they were given, unknown ones too.
    pub verbatim: BTreeMap<String, String>,
    /// Whether containers of the network talk to each other freely.
    pub icc: bool,
    /// Whether what leaves the host is masqueraded.
    pub masquerade: bool,
    /// Name asked for the bridge.
    pub bridge: Option<String>,
    /// Host address that ports are published on where a mapping names none.
    pub host_binding: Option<IpAddr>,
    /// How containers are reached and leave by IPv4.
    #[serde(default)]
    pub gateway_mode4: GatewayMode,
    /// The same by IPv6.
    #[serde(default)]
    pub gateway_mode6: GatewayMode,
    /// Interfaces from which containers may be addressed directly.
    #[serde(default)]
    pub trusted: BTreeSet<String>,
    /// Whether the bridge has no IPv4 address.
    #[serde(default)]
    pub inhibit_ipv4: bool,
    /// IPv4 address that masquerade uses; none takes the uplink's.
    #[serde(default)]
    pub host_ipv4: Option<Ipv4Addr>,
    /// IPv6 address that masquerade uses; none takes the uplink's.
    #[serde(default)]
    pub host_ipv6: Option<Ipv6Addr>,
    /// Whether there is no bridge between the containers.
    #[serde(default)]
    pub l2_bpf: bool,
    /// MTU asked for.
    pub mtu: Option<u16>,
    /// What the names of interfaces in containers begin with; none is `eth`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Name servers that are asked for its containers; none is the agent's.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// How often an address is announced when it is new; none is [`ANNOUNCEMENTS`].
    #[serde(default)]
    pub announcements: Option<u16>,
    /// Milliseconds between announcements; none is [`ANNOUNCE_EVERY`].
    #[serde(default)]
    pub announce_every: Option<u16>,
}

/// An option whose value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// It is a switch of a family, and neither on nor off.
    #[error("driver-opt {0:?} is not a valid bool")]
    Switch(&'static str),
    /// It does not read.
    #[error("failed to parse {key} value: {value} ({reason})")]
    Value {
        /// The option.
        key: &'static str,
        /// What it was given.
        value: String,
        /// Why that is none.
        reason: String,
    },
    /// It is no number.
    #[error("value for option {key} {value:?} must be {kind}")]
    NoNumber {
        /// The option.
        key: &'static str,
        /// What it was given.
        value: String,
        /// What it should be.
        kind: &'static str,
    },
    /// It is too small or too large.
    #[error("{key} must be in the range {least} to {most}")]
    Range {
        /// The option.
        key: &'static str,
        /// The smallest value.
        least: u16,
        /// The largest value.
        most: u16,
    },
}

impl NetworkOptions {
    /// Has other name servers be asked, and shows them.
    pub fn name_servers(&mut self, servers: Vec<IpAddr>) {
        let texts: Vec<_> = servers.iter().map(ToString::to_string).collect();
        self.verbatim.remove(keys::DNS);
        if !texts.is_empty() {
            self.verbatim.insert(keys::DNS.to_owned(), texts.join(","));
        }
        self.dns = servers;
    }

    /// Reads options, and everything that is wrong with them: what makes no sense is as if it were not there.
    pub fn read(verbatim: BTreeMap<String, String>) -> (Self, Vec<OptionError>) {
        let (ms, count) = ("integer milliseconds", "an integer");
        let mut given = Given { options: &verbatim, wrong: Vec::new() };
        given.switch(keys::IPV4);
        given.switch(keys::IPV6);
        let read = Self {
            icc: given.read(keys::ICC, boolean).unwrap_or(true),
            masquerade: given.read(keys::MASQUERADE, boolean).unwrap_or(true),
            bridge: given.read(keys::BRIDGE, interface),
            host_binding: given.read(keys::HOST_BINDING, binding).flatten(),
            gateway_mode4: given.read(keys::GATEWAY_MODE4, mode).unwrap_or_default(),
            gateway_mode6: given.read(keys::GATEWAY_MODE6, mode).unwrap_or_default(),
            trusted: given.read(keys::TRUSTED, interfaces).unwrap_or_default(),
            inhibit_ipv4: given.read(keys::INHIBIT_IPV4, boolean).unwrap_or(false),
            host_ipv4: given.read(keys::HOST_IPV4, source),
            host_ipv6: given.read(keys::HOST_IPV6, source),
            l2_bpf: given.read(keys::L2, l2).unwrap_or(false),
            mtu: given.read(keys::MTU, mtu).flatten(),
            prefix: given.read(keys::PREFIX, prefix).flatten(),
            dns: given.read(keys::DNS, naming::servers).unwrap_or_default(),
            announcements: given.number(keys::ANNOUNCEMENTS, (0, 3), count),
            announce_every: given.number(keys::ANNOUNCE_EVERY, (100, 2000), ms),
            verbatim: BTreeMap::new(),
        };
        let wrong = given.wrong;
        (Self { verbatim, ..read }, wrong)
    }

    /// Returns the switch of a family, where there is one that reads.
    pub fn switch(options: &BTreeMap<String, String>, key: &str) -> Option<bool> {
        boolean(options.get(key)?).ok()
    }
}

/// Options that are being read.
struct Given<'a> {
    options: &'a BTreeMap<String, String>,
    wrong: Vec<OptionError>,
}

impl Given<'_> {
    fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.options.get(key)?;
        let wrong = |reason| OptionError::Value { key, value: value.clone(), reason };
        parse(value).map_err(|reason| self.wrong.push(wrong(reason))).ok()
    }

    fn switch(&mut self, key: &'static str) {
        if self.options.get(key).is_some_and(|value| boolean(value).is_err()) {
            self.wrong.push(OptionError::Switch(key));
        }
    }

    /// Reads a number of a range.
    fn number(
        &mut self,
        key: &'static str,
        (least, most): (u16, u16),
        kind: &'static str,
    ) -> Option<u16> {
        let value = self.options.get(key)?;
        let Ok(number) = value.parse::<i64>() else {
            self.wrong.push(OptionError::NoNumber { key, value: value.clone(), kind });
            return None;
        };
        let number = u16::try_from(number).ok().filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.wrong.push(OptionError::Range { key, least, most });
        }
        number
    }
}

/// Reads what Go's `ParseBool` reads.
fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false".into()),
    }
}

/// Reads a name that the kernel takes for an interface.
pub(super) fn interface(value: &str) -> Result<String, String> {
    if value.is_empty() || value.len() > 15 {
        return Err("an interface name has 1 to 15 bytes".into());
    }
    if value == "."
        || value == ".."
        || value.bytes().any(|b| !b.is_ascii_graphic() || b"/:%".contains(&b))
    {
        return Err("an interface name has no white space, slash, colon or percent sign".into());
    }
    Ok(value.to_owned())
}

/// Reads what names of interfaces begin with: room for a number has to be left.
fn prefix(value: &str) -> Result<Option<String>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    interface(value)?;
    if value.len() > 11 {
        return Err("it leaves no room for a number: 11 bytes are the most".into());
    }
    Ok(Some(value.to_owned()))
}

/// Reads an address to publish on; `0.0.0.0` is what is published on without one.
fn binding(value: &str) -> Result<Option<IpAddr>, String> {
    let address: IpAddr = value.parse().map_err(|_| "not an IP address")?;
    Ok(Some(address.to_canonical()).filter(|a| *a != IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// Reads an address that packets can bear.
fn source<A: FromStr + Into<IpAddr> + Copy>(value: &str) -> Result<A, String> {
    let address: A = value.parse().map_err(|_| "not an address of this family")?;
    let ip: IpAddr = address.into();
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return Err("no packet can leave with such an address".into());
    }
    Ok(address)
}

fn mode(value: &str) -> Result<GatewayMode, String> {
    match value {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err("none of nat, nat-unprotected, routed, isolated".into()),
    }
}

fn l2(value: &str) -> Result<bool, String> {
    match value {
        "bpf" => Ok(true),
        "bridge" => Ok(false),
        _ => Err("neither bridge nor bpf".into()),
    }
}

/// Reads names of interfaces with colons between them.
fn interfaces(value: &str) -> Result<BTreeSet<String>, String> {
    value.split(':').map(interface).collect()
}

/// Reads an MTU: 0 is none, as with Docker; 68 is the least that IPv4 takes.
fn mtu(value: &str) -> Result<Option<u16>, String> {
    match value.parse::<i64>() {
        Err(_) => Err("not a number".into()),
        Ok(0) => Ok(None),
        Ok(mtu @ 68..=65_535) => Ok(u16::try_from(mtu).ok()),
        Ok(_) => Err("not from 68 to 65535".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<NetworkOptions, OptionError> {
        let pairs = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let (read, mut wrong) = NetworkOptions::read(pairs);
        wrong.pop().map_or(Ok(read), Err)
    }

    #[test]
    fn p19_all_that_is_wrong_with_options_is_told_at_once() {
        let pairs =
            [(keys::ICC, "maybe"), (keys::MTU, "x"), (keys::IPV6, "2"), (keys::BRIDGE, "b0")];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let (read, wrong) = NetworkOptions::read(pairs.into());
        assert_eq!(read.bridge.as_deref(), Some("b0"));
        let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert_eq!(wrong[0], "driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool");
    }

    #[test]
    fn s13_options_are_kept_verbatim_and_known_ones_read() {
        let read = options(&[
            (keys::ICC, "false"),
            ("some.other", "x"),
            (keys::MTU, "1450"),
            (keys::BRIDGE, "br0"),
        ])
        .unwrap();
        assert!(!read.icc && read.masquerade);
        assert_eq!((read.mtu, read.bridge.as_deref()), (Some(1450), Some("br0")));
        assert_eq!(read.verbatim.len(), 4);
        assert_eq!(options(&[(keys::HOST_BINDING, "0.0.0.0")]).unwrap().host_binding, None);
    }

    #[test]
    fn moby_pm_009_the_default_host_address_is_of_either_family() {
        let binding = |text: &str| options(&[(keys::HOST_BINDING, text)]).unwrap().host_binding;
        assert_eq!(binding("::ffff:127.0.0.1"), Some([127, 0, 0, 1].into()));
        assert_eq!(binding("::"), Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        assert_eq!(binding("0.0.0.0"), None);
    }

    #[test]
    fn p39_gateway_modes_and_trusted_interfaces_are_read() {
        let read = options(&[
            (keys::GATEWAY_MODE4, "nat-unprotected"),
            (keys::GATEWAY_MODE6, "routed"),
            (keys::TRUSTED, "eth0:wg0"),
        ])
        .unwrap();
        assert_eq!(read.gateway_mode4, GatewayMode::NatUnprotected);
        assert_eq!(read.gateway_mode6, GatewayMode::Routed);
        assert_eq!(read.trusted, ["eth0", "wg0"].map(String::from).into());
    }

    #[test]
    fn moby_icc_013_announcements_have_bounds() {
        let good = [(keys::ANNOUNCEMENTS, "0"), (keys::ANNOUNCE_EVERY, "2000")];
        let read = options(&good).unwrap();
        assert_eq!((read.announcements, read.announce_every), (Some(0), Some(2000)));
        let texts = [
            ("99", "com.docker.network.advertise_addr_ms must be in the range 100 to 2000"),
            ("2001", "com.docker.network.advertise_addr_ms must be in the range 100 to 2000"),
            (
                "nonsense",
                "value for option com.docker.network.advertise_addr_ms \"nonsense\" must be integer milliseconds",
            ),
        ];
        for (value, text) in texts {
            let error = options(&[(keys::ANNOUNCE_EVERY, value)]).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        let texts = [
            ("-1", "com.docker.network.advertise_addr_nmsgs must be in the range 0 to 3"),
            ("4", "com.docker.network.advertise_addr_nmsgs must be in the range 0 to 3"),
            (
                "nonsense",
                "value for option com.docker.network.advertise_addr_nmsgs \"nonsense\" must be an integer",
            ),
        ];
        for (value, text) in texts {
            let error = options(&[(keys::ANNOUNCEMENTS, value)]).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_bad_option_names_key_value_and_reason() {
        for (key, value) in [
            (keys::ICC, "maybe"),
            (keys::MASQUERADE, ""),
            (keys::MTU, "67"),
            (keys::MTU, "-1"),
            (keys::MTU, "many"),
            (keys::BRIDGE, "a-name-that-is-too-long"),
            (keys::BRIDGE, "a/b"),
            (keys::HOST_BINDING, "localhost"),
            (keys::GATEWAY_MODE6, "bridged"),
            (keys::TRUSTED, "eth0::eth1"),
            (keys::HOST_IPV4, "2001:db8::1"),
            (keys::HOST_IPV6, "::"),
            (keys::L2, "ebpf"),
            (keys::PREFIX, "twelve-bytes"),
            (keys::PREFIX, "a b"),
            (keys::DNS, "9.9.9.9,localhost"),
        ] {
            let error = options(&[(key, value)]).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("failed to parse {key} value: {value} (")),
                "{error}"
            );
        }
    }
}
