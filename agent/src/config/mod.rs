//! What the operator has set: flags and environment first, then the configuration file, then defaults.
//!
//! The command line is read elsewhere and arrives as [`Given`]; what leaves is a [`Config`], in which
//! everything has a value and makes sense.

mod file;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnetwork::{Ipv4Network, Ipv6Network};

pub use file::FileError;

use crate::telemetry::log::Format;

/// Where the configuration is looked for.
pub const FILE: &str = "/etc/bascule/bascule.toml";
/// Where run-time files are.
pub const RUN_DIR: &str = "/run/bascule";
const STATE_DIR: &str = "/var/lib/bascule";
const BPFFS: &str = "/sys/fs/bpf/bascule";
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9477);

/// What flags and environment say; what they leave open is the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Configuration file; one that is named has to be there.
    pub config: Option<PathBuf>,
    /// Directory of what outlives a boot.
    pub state_dir: Option<PathBuf>,
    /// Directory of what does not.
    pub run_dir: Option<PathBuf>,
    /// Directory of pins.
    pub bpffs: Option<PathBuf>,
    /// Cgroup for the reservation of published ports.
    pub cgroup: Option<PathBuf>,
    /// Address of `/metrics` and `/healthz`.
    pub metrics_listen: Option<SocketAddr>,
    /// Connections that are tracked at most, of each family.
    pub max_connections: Option<u32>,
    /// Globs of interfaces that lead out; none leaves it open.
    pub uplink: Vec<String>,
    /// `none`, address and prefix of the default network, or a bridge that is there for it.
    pub bridge: Option<String>,
    /// Whether the host is made to route.
    pub ip_forward: Option<bool>,
    /// Whether the default network has IPv6.
    pub ipv6: Option<bool>,
    /// IPv6 subnet of the default network.
    pub fixed_cidr_v6: Option<String>,
    /// Whether networks are masqueraded that do not say otherwise.
    pub ip_masq: Option<bool>,
    /// Whether published ports are reached at the containers' own addresses too.
    pub allow_direct_routing: Option<bool>,
    /// Mark, and mask, of packets that may address containers directly.
    pub bridge_accept_fwmark: Option<String>,
    /// `human` or `json`.
    pub log_format: Option<String>,
    /// Level or filter of the log.
    pub log_level: Option<String>,
}

/// What the default network is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bridge {
    /// There is none.
    None,
    /// There is one, with addresses that are free.
    Automatic,
    /// There is one, with this gateway and subnet.
    Fixed(Ipv4Network),
    /// There is one, on a bridge of the operator's.
    Brought(String),
}

/// Whether the default network has IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// It has not.
    Off,
    /// It has, with a subnet that is free.
    Automatic,
    /// It has, with this subnet.
    Fixed(Ipv6Network),
}

/// A mark of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its value.
    pub value: u32,
    /// Bits that count.
    pub mask: u32,
}

/// What holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of what outlives a boot.
    pub state_dir: PathBuf,
    /// Directory of what does not.
    pub run_dir: PathBuf,
    /// Directory of pins.
    pub bpffs: PathBuf,
    /// Cgroup for the reservation of published ports; none finds one.
    pub cgroup: Option<PathBuf>,
    /// Address of `/metrics` and `/healthz`.
    pub metrics_listen: SocketAddr,
    /// Connections that are tracked at most; none goes by the host's memory.
    pub max_connections: Option<u32>,
    /// Globs of interfaces that lead out; none is every one.
    pub uplinks: Vec<String>,
    /// The default network.
    pub bridge: Bridge,
    /// Whether the host is made to route.
    pub ip_forward: bool,
    /// IPv6 of the default network.
    pub ipv6: Ipv6,
    /// Whether networks are masqueraded that do not say otherwise.
    pub ip_masq: bool,
    /// Whether published ports are reached at the containers' own addresses too.
    pub allow_direct_routing: bool,
    /// Packets that may address containers directly.
    pub accept_mark: Option<Mark>,
    /// How log lines look.
    pub log_format: Format,
    /// Level or filter of the log.
    pub log_level: String,
}

/// Why a configuration does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value makes no sense.
    #[error("invalid {key} {value:?}: {why}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        why: &'static str,
    },
}

/// Fewest and most connections that a table is made for.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 512..=8_388_608;

fn connections(given: Option<u32>) -> Result<Option<u32>, ConfigError> {
    match given {
        Some(count) if !CONNECTIONS.contains(&count) => Err(ConfigError::Value {
            key: "max_connections",
            value: count.to_string(),
            why: "it has to be from 512 to 8388608",
        }),
        given => Ok(given),
    }
}

impl Config {
    /// Puts together what was given, what the file says, and the defaults.
    pub fn resolve(given: Given) -> Result<Self, ConfigError> {
        let file = match &given.config {
            Some(path) => file::read(path)?,
            None => file::read_if_there(Path::new(FILE))?,
        };
        let path = |flag: Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            flag.or(file).unwrap_or_else(|| PathBuf::from(default))
        };
        let uplinks =
            if given.uplink.is_empty() { file.uplink.unwrap_or_default() } else { given.uplink };
        Ok(Self {
            state_dir: path(given.state_dir, file.state_dir, STATE_DIR),
            run_dir: path(given.run_dir, file.run_dir, RUN_DIR),
            bpffs: path(given.bpffs, file.bpffs, BPFFS),
            cgroup: given.cgroup.or(file.cgroup),
            metrics_listen: given.metrics_listen.or(file.metrics_listen).unwrap_or(METRICS),
            max_connections: connections(given.max_connections.or(file.max_connections))?,
            uplinks,
            bridge: bridge(given.bridge.or(file.bridge))?,
            ip_forward: given.ip_forward.or(file.ip_forward).unwrap_or(true),
            ipv6: ipv6(given.ipv6.or(file.ipv6), given.fixed_cidr_v6.or(file.fixed_cidr_v6))?,
            ip_masq: given.ip_masq.or(file.ip_masq).unwrap_or(true),
            allow_direct_routing: given
                .allow_direct_routing
                .or(file.allow_direct_routing)
                .unwrap_or(false),
            accept_mark: mark(given.bridge_accept_fwmark.or(file.bridge_accept_fwmark))?,
            log_format: log_format(given.log_format.or(file.log_format))?,
            log_level: given.log_level.or(file.log_level).unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// Reads whether the default network has IPv6, and with which subnet. The texts are Docker's.
fn ipv6(wanted: Option<bool>, subnet: Option<String>) -> Result<Ipv6, ConfigError> {
    let Some(text) = subnet.filter(|t| !t.is_empty()) else {
        return Ok(if wanted == Some(true) { Ipv6::Automatic } else { Ipv6::Off });
    };
    let invalid = |why| ConfigError::Value { key: "fixed-cidr-v6", value: text.clone(), why };
    let Ok(subnet) = text.parse::<Ipv6Network>() else {
        return Err(invalid("it is not a valid IPv6 subnet"));
    };
    if !text.contains('/') || subnet.ip() != subnet.network() {
        return Err(invalid("a subnet is needed, as 2001:db8:1::/64"));
    }
    let link_local = Ipv6Network::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
    if subnet.prefix() < 64 && link_local.is_ok_and(|prefix| subnet.contains(prefix.ip())) {
        return Err(invalid("it clashes with the Link-Local prefix 'fe80::/64'"));
    }
    if subnet.ip().is_multicast() {
        return Err(invalid("multicast subnets are not allowed"));
    }
    if subnet.ip().segments()[0] == 0 || !(8..=126).contains(&subnet.prefix()) {
        return Err(invalid("such addresses cannot be a host's"));
    }
    match wanted {
        Some(false) => Ok(Ipv6::Off),
        _ => Ok(Ipv6::Fixed(subnet)),
    }
}

/// Reads a mark: value and mask, decimal or hexadecimal, as of iptables' `--mark`.
fn mark(text: Option<String>) -> Result<Option<Mark>, ConfigError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    let number = |text: &str| match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let (value, mask) = text.split_once('/').unwrap_or((&text, "0xffffffff"));
    let invalid =
        |why| ConfigError::Value { key: "bridge-accept-fwmark", value: text.clone(), why };
    let (Some(value), Some(mask)) = (number(value), number(mask)) else {
        return Err(invalid("neither MARK nor MARK/MASK, as 0x2/0x3"));
    };
    if value & !mask != 0 || mask == 0 {
        return Err(invalid("the mask leaves out bits of the mark, and no packet could have it"));
    }
    Ok(Some(Mark { value, mask }))
}

fn bridge(text: Option<String>) -> Result<Bridge, ConfigError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(Bridge::Automatic) };
    if text == "none" {
        return Ok(Bridge::None);
    }
    let invalid = |why| ConfigError::Value { key: "bridge", value: text.clone(), why };
    if !text.contains('/') && text.parse::<IpAddr>().is_err() {
        return match text.len() {
            1..=15 => Ok(Bridge::Brought(text)),
            _ => Err(invalid("longer than the name of an interface can be")),
        };
    }
    let network: Ipv4Network =
        text.parse().map_err(|_| invalid("not address and prefix, as 172.17.0.1/16"))?;
    if !text.contains('/') || !(8..=30).contains(&network.prefix()) {
        return Err(invalid("the prefix length must be from 8 to 30"));
    }
    if network.ip() == network.broadcast() {
        return Err(invalid("the gateway cannot be the broadcast address"));
    }
    Ok(Bridge::Fixed(network))
}

fn log_format(text: Option<String>) -> Result<Format, ConfigError> {
    match text.as_deref() {
        None | Some("human") => Ok(Format::Human),
        Some("json") => Ok(Format::Json),
        Some(other) => {
            let why = "neither human nor json";
            Err(ConfigError::Value { key: "log_format", value: other.to_owned(), why })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, given: Given) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bascule.toml");
        std::fs::write(&path, text).unwrap();
        Config::resolve(Given { config: Some(path), ..given }).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let given = Given { run_dir: Some("/a".into()), ..Given::default() };
        let config =
            with_file("run_dir = \"/b\"\nstate_dir = \"/c\"\nuplink = [\"eth*\"]", given).unwrap();
        assert_eq!((config.run_dir, config.state_dir), ("/a".into(), "/c".into()));
        assert_eq!(config.bpffs, PathBuf::from(BPFFS));
        assert_eq!(config.uplinks, ["eth*"]);
    }

    #[test]
    fn a_bad_file_is_named_with_line_and_key() {
        for (text, parts) in [
            ("\nrun_dir = 5\n", ["bascule.toml:2", "run_dir"]),
            ("a = 1", ["bascule.toml:1", "`a`"]),
            ("metrics_listen = \"x\"", ["bascule.toml:1", "metrics_listen"]),
            ("x", ["bascule.toml:1", "x"]),
        ] {
            let error = with_file(text, Given::default()).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        let missing = Given { config: Some("/nonexistent/x.toml".into()), ..Given::default() };
        assert!(Config::resolve(missing).unwrap_err().to_string().contains("/nonexistent/x.toml"));
    }

    #[test]
    fn moby_ipam_032_ipv6_of_the_default_network_makes_sense() {
        let ipv6 = |wanted, subnet: &str| {
            let given =
                Given { ipv6: wanted, fixed_cidr_v6: Some(subnet.into()), ..Given::default() };
            with_file("", given).map(|config| config.ipv6)
        };
        assert_eq!(ipv6(None, ""), Ok(Ipv6::Off), "S165");
        assert_eq!(ipv6(Some(true), ""), Ok(Ipv6::Automatic));
        let subnet = "2001:db8:1::/64";
        assert_eq!(ipv6(None, subnet), Ok(Ipv6::Fixed(subnet.parse().unwrap())), "S169");
        for (bad, why) in [
            ("fe80::/63", "clashes with the Link-Local prefix 'fe80::/64'"),
            ("ff05::/64", "multicast"),
            ("10.3.4.5/24", "not a valid IPv6 subnet"),
            ("2001:db8::1/64", "subnet is needed"),
        ] {
            let error = ipv6(None, bad).unwrap_err();
            assert!(error.contains(why) && error.contains(bad), "{error}");
        }
        for good in ["fe80::/64", "fe80:1236::/64", "fd00:1235::/64"] {
            assert!(ipv6(None, good).is_ok(), "{good}");
        }
    }

    #[test]
    fn moby_inc_012_a_mark_has_a_value_and_a_mask() {
        let mark = |text: &str| {
            let given = Given { bridge_accept_fwmark: Some(text.into()), ..Given::default() };
            with_file("", given).map(|config| config.accept_mark)
        };
        assert_eq!(mark("2/3"), Ok(Some(Mark { value: 2, mask: 3 })));
        assert_eq!(mark("0x10"), Ok(Some(Mark { value: 16, mask: u32::MAX })));
        for bad in ["x", "2/", "4/3", "0/0", "-1"] {
            assert!(mark(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn s57_the_default_network_can_be_set_or_left_out() {
        let bridge = |text: &str| {
            with_file("", Given { bridge: Some(text.into()), ..Given::default() }).map(|c| c.bridge)
        };
        assert_eq!(bridge("none"), Ok(Bridge::None));
        assert_eq!(bridge("192.168.1.5/24"), Ok(Bridge::Fixed("192.168.1.5/24".parse().unwrap())));
        assert_eq!(bridge("bridge0"), Ok(Bridge::Brought("bridge0".into())), "S77");
        for bad in
            ["a-name-that-is-too-long", "x/24", "192.168.1.5", "192.168.1.255/24", "10.0.0.1/31"]
        {
            assert!(bridge(bad).is_err(), "{bad}");
        }
    }
}
