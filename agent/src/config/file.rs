//! The configuration file as it is written.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::model::AddressPool;

/// Keys of the file; each may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) state_dir: Option<PathBuf>,
    pub(super) run_dir: Option<PathBuf>,
    pub(super) bpffs: Option<PathBuf>,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) docker_socket: Option<PathBuf>,
    pub(super) docker_config: Option<PathBuf>,
    pub(super) docker_plugin: Option<PathBuf>,
    pub(super) metrics_listen: Option<SocketAddr>,
    pub(super) metrics_compat: Option<bool>,
    pub(super) ui: Option<SocketAddr>,
    pub(super) flow_log: Option<PathBuf>,
    pub(super) max_connections: Option<u32>,
    pub(super) rcu_expedited: Option<bool>,
    pub(super) uplink: Option<Vec<String>>,
    pub(super) bridge: Option<String>,
    pub(super) bip: Option<String>,
    pub(super) fixed_cidr: Option<String>,
    pub(super) icc: Option<bool>,
    pub(super) ip: Option<IpAddr>,
    pub(super) mtu: Option<u32>,
    pub(super) dns: Option<Vec<IpAddr>>,
    pub(super) dns_search: Option<Vec<String>>,
    pub(super) dns_option: Option<Vec<String>>,
    pub(super) dns_ttl: Option<u32>,
    pub(super) default_bridge_dns: Option<bool>,
    pub(super) resolv_conf: Option<PathBuf>,
    pub(super) host_gateway_ip: Option<Vec<IpAddr>>,
    pub(super) ip_forward: Option<bool>,
    pub(super) ipv6: Option<bool>,
    pub(super) fixed_cidr_v6: Option<String>,
    pub(super) ip_masq: Option<bool>,
    pub(super) allow_direct_routing: Option<bool>,
    pub(super) bridge_accept_fwmark: Option<String>,
    pub(super) publish_range: Option<String>,
    pub(super) dns_listen: Option<SocketAddr>,
    pub(super) log_format: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) ipam: Option<Ipam>,
}

/// Where subnets come from that nobody names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ipam {
    pub(super) pools: Vec<AddressPool>,
    pub(super) exclude: Vec<IpNetwork>,
}

/// Why the file does not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{}:{line}: {key}{message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key with a colon, where the line has one.
        key: String,
        /// What is wrong.
        message: String,
    },
}

/// A file that was read, and its text.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) content: File,
    pub(super) text: String,
}

pub(super) fn read(path: &Path) -> Result<Read, FileError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| FileError::Open { path: path.to_owned(), source })?;
    let content = toml::from_str(&text).map_err(|error| {
        let line = line_at(&text, error.span().map_or(0, |span| span.start));
        let key =
            text.lines().nth(line - 1).and_then(|l| l.split_once('=')).map(|(key, _)| key.trim());
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        let message = error.message().replace('\n', ", ");
        FileError::Line { path: path.to_owned(), line, key, message }
    })?;
    Ok(Read { content, text })
}

fn line_at(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// Returns the line in which a setting stands, and how it is spelled there; the flags have dashes.
pub(super) fn line_of(text: &str, setting: &str) -> Option<(usize, String)> {
    let key = setting.replace('-', "_");
    let table = toml::de::DeTable::parse(text).ok()?;
    let (found, _) = table.get_ref().get_key_value(key.as_str())?;
    Some((line_at(text, found.span().start), key))
}

pub(super) fn read_if_there(path: &Path) -> Result<Read, FileError> {
    match read(path) {
        Err(FileError::Open { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(Read::default())
        }
        result => result,
    }
}
