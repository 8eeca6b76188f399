//! Driver options of a network: kept verbatim, and the known ones read.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

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
    /// Marks the default network.
    pub const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
    /// MTU.
    pub const MTU: &str = "com.docker.network.driver.mtu";
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
}

/// An option whose value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse {key} value: {value} ({reason})")]
pub struct OptionError {
    key: &'static str,
    value: String,
    reason: String,
}

impl NetworkOptions {
    /// Reads options.
    pub fn new(verbatim: BTreeMap<String, String>) -> Result<Self, OptionError> {
        Ok(Self {
            icc: read(&verbatim, keys::ICC, boolean)?.unwrap_or(true),
            masquerade: read(&verbatim, keys::MASQUERADE, boolean)?.unwrap_or(true),
            bridge: read(&verbatim, keys::BRIDGE, interface)?,
            host_binding: read(&verbatim, keys::HOST_BINDING, binding)?.flatten(),
            gateway_mode4: read(&verbatim, keys::GATEWAY_MODE4, mode)?.unwrap_or_default(),
            gateway_mode6: read(&verbatim, keys::GATEWAY_MODE6, mode)?.unwrap_or_default(),
            trusted: read(&verbatim, keys::TRUSTED, interfaces)?.unwrap_or_default(),
            inhibit_ipv4: read(&verbatim, keys::INHIBIT_IPV4, boolean)?.unwrap_or(false),
            host_ipv4: read(&verbatim, keys::HOST_IPV4, source)?,
            host_ipv6: read(&verbatim, keys::HOST_IPV6, source)?,
            l2_bpf: read(&verbatim, keys::L2, l2)?.unwrap_or(false),
            mtu: read(&verbatim, keys::MTU, mtu)?.flatten(),
            verbatim,
        })
    }
}

fn read<T>(
    options: &BTreeMap<String, String>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, OptionError> {
    let Some(value) = options.get(key) else { return Ok(None) };
    parse(value).map(Some).map_err(|reason| OptionError { key, value: value.clone(), reason })
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
fn interface(value: &str) -> Result<String, String> {
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
        NetworkOptions::new(pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect())
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
        ] {
            let error = options(&[(key, value)]).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("failed to parse {key} value: {value} (")),
                "{error}"
            );
        }
    }
}
