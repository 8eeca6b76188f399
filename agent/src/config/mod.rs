//! What the operator has set: flags and environment first, then the configuration file, then defaults.
//!
//! The command line is read elsewhere and arrives as [`Given`]; what leaves is a [`Config`], in which
//! everything has a value and makes sense.

mod file;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnetwork::Ipv4Network;

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
    /// Globs of interfaces that lead out; none leaves it open.
    pub uplink: Vec<String>,
    /// `none`, address and prefix of the default network, or a bridge that is there for it.
    pub bridge: Option<String>,
    /// Whether the host is made to route.
    pub ip_forward: Option<bool>,
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
    /// Globs of interfaces that lead out; none is every one.
    pub uplinks: Vec<String>,
    /// The default network.
    pub bridge: Bridge,
    /// Whether the host is made to route.
    pub ip_forward: bool,
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
            uplinks,
            bridge: bridge(given.bridge.or(file.bridge))?,
            ip_forward: given.ip_forward.or(file.ip_forward).unwrap_or(true),
            log_format: log_format(given.log_format.or(file.log_format))?,
            log_level: given.log_level.or(file.log_level).unwrap_or_else(|| "info".to_owned()),
        })
    }
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
