//! The configuration file as it is written.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Keys of the file; each may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) state_dir: Option<PathBuf>,
    pub(super) run_dir: Option<PathBuf>,
    pub(super) bpffs: Option<PathBuf>,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) metrics_listen: Option<SocketAddr>,
    pub(super) max_connections: Option<u32>,
    pub(super) uplink: Option<Vec<String>>,
    pub(super) bridge: Option<String>,
    pub(super) ip_forward: Option<bool>,
    pub(super) ipv6: Option<bool>,
    pub(super) fixed_cidr_v6: Option<String>,
    pub(super) ip_masq: Option<bool>,
    pub(super) allow_direct_routing: Option<bool>,
    pub(super) bridge_accept_fwmark: Option<String>,
    pub(super) log_format: Option<String>,
    pub(super) log_level: Option<String>,
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

pub(super) fn read(path: &Path) -> Result<File, FileError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| FileError::Open { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let key =
            text.lines().nth(line - 1).and_then(|l| l.split_once('=')).map(|(key, _)| key.trim());
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        let message = error.message().replace('\n', ", ");
        FileError::Line { path: path.to_owned(), line, key, message }
    })
}

pub(super) fn read_if_there(path: &Path) -> Result<File, FileError> {
    match read(path) {
        Err(FileError::Open { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(File::default())
        }
        result => result,
    }
}
