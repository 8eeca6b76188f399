//! Driver options of a network: kept verbatim, and the known ones read.

use std::{collections::BTreeMap, net::Ipv4Addr};

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
    /// Marks the default network.
    pub const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
    /// MTU.
    pub const MTU: &str = "com.docker.network.driver.mtu";
}

/// Options of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub host_binding: Option<Ipv4Addr>,
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
            host_binding: read(&verbatim, keys::HOST_BINDING, address)?.flatten(),
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

fn address(value: &str) -> Result<Option<Ipv4Addr>, String> {
    let address: Ipv4Addr = value.parse().map_err(|_| "not an IPv4 address")?;
    Ok(Some(address).filter(|a| !a.is_unspecified()))
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
    fn a_bad_option_names_key_value_and_reason() {
        for (key, value) in [
            (keys::ICC, "maybe"),
            (keys::MASQUERADE, ""),
            (keys::MTU, "67"),
            (keys::MTU, "-1"),
            (keys::MTU, "many"),
            (keys::BRIDGE, "a-name-that-is-too-long"),
            (keys::BRIDGE, "a/b"),
            (keys::HOST_BINDING, "::1"),
        ] {
            let error = options(&[(key, value)]).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("failed to parse {key} value: {value} (")),
                "{error}"
            );
        }
    }
}
