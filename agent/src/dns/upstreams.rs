//! Whom the host asks: its `resolv.conf`, followed as it changes. Behind the stub of systemd-resolved its real
//! servers are asked.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::model::name_servers;

/// Where servers are told.
const HOST: &str = "/etc/resolv.conf";
/// Where systemd-resolved tells the servers that it asks.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Where it answers itself.
const STUBS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)];
/// How long what was read is taken for true.
const FRESH: Duration = Duration::from_millis(100);
/// Where servers listen.
const PORT: u16 = 53;
/// More are not asked, as everywhere.
const MOST: usize = 3;

/// What tells one version of a file from another.
type Version = [Option<(u64, u64, i64, i64, u64)>; 2];

/// The host's servers.
#[derive(Debug, Default)]
pub(super) struct Upstreams(Mutex<Option<Read>>);

#[derive(Debug)]
struct Read {
    /// The file that the operator has named instead.
    other: Option<PathBuf>,
    at: Instant,
    version: Version,
    servers: Vec<SocketAddr>,
}

impl Upstreams {
    /// Returns them, read again where they may have changed; `other` is a file to read instead of the usual ones.
    pub(super) fn get(&self, other: Option<&Path>) -> Vec<SocketAddr> {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(read) = read.as_mut().filter(|read| read.other.as_deref() == other) {
            if now.duration_since(read.at) < FRESH {
                return read.servers.clone();
            }
            if read.version == version(other) {
                read.at = now;
                return read.servers.clone();
            }
        }
        // The version first: what changes while it is read is read again.
        let (version, servers) = (version(other), servers(other));
        if read.as_ref().is_none_or(|read| read.servers != servers) {
            tracing::info!(?servers, "name servers of the host");
        }
        let other = other.map(Path::to_owned);
        *read = Some(Read { other, at: now, version, servers: servers.clone() });
        servers
    }
}

fn version(other: Option<&Path>) -> Version {
    let files = match other {
        Some(other) => [other, other],
        None => [Path::new(HOST), Path::new(RESOLVED)],
    };
    files.map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    })
}

fn servers(other: Option<&Path>) -> Vec<SocketAddr> {
    // A file that is missing or cannot be read names none.
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    match other {
        Some(other) => named(&text(other)),
        None => {
            behind_the_stub(named(&text(Path::new(HOST))), || named(&text(Path::new(RESOLVED))))
        }
    }
}

/// Puts systemd-resolved's own servers in the place of its stub, if it tells any.
fn behind_the_stub(
    told: Vec<SocketAddr>,
    real: impl FnOnce() -> Vec<SocketAddr>,
) -> Vec<SocketAddr> {
    let is_stub =
        |server: &SocketAddr| matches!(server.ip(), IpAddr::V4(ip) if STUBS.contains(&ip));
    if told.is_empty() || !told.iter().all(is_stub) {
        return told;
    }
    let real: Vec<_> = real().into_iter().filter(|server| !is_stub(server)).collect();
    if real.is_empty() { told } else { real }
}

fn named(text: &str) -> Vec<SocketAddr> {
    name_servers(text).filter_map(server).take(MOST).collect()
}

/// Reads a server's address, which may say its link.
pub(super) fn server(text: &str) -> Option<SocketAddr> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    match (address, zone) {
        (_, None) => Some((address, PORT).into()),
        (IpAddr::V4(_), Some(_)) => None,
        (IpAddr::V6(address), Some(zone)) => {
            let index = nix::net::if_::if_nametoindex(zone).ok().or_else(|| zone.parse().ok())?;
            Some(SocketAddrV6::new(address, PORT, 0, index).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        server(text).expect("an address")
    }

    #[test]
    fn p106_servers_are_read_as_resolvers_read_them() {
        let text = "# nameserver 192.0.2.1\nsearch lan\nnameserver 10.8.0.1\nnameserver\t127.0.0.1\n\
                    nameserver x\nnameserver\nnameserver fe80::1%lo\nnameserver 9.9.9.9\n";
        assert_eq!(named(text), [at("10.8.0.1"), at("127.0.0.1"), at("fe80::1%1")]);
    }

    #[test]
    fn p106_behind_the_stub_of_resolved_its_servers_are_asked() {
        let real = || vec![at("10.0.0.53")];
        assert_eq!(behind_the_stub(vec![at("127.0.0.53")], real), [at("10.0.0.53")]);
        assert_eq!(behind_the_stub(vec![at("127.0.0.53")], Vec::new), [at("127.0.0.53")]);
        let own = vec![at("127.0.0.1")];
        assert_eq!(behind_the_stub(own.clone(), real), own, "another server of this host's");
    }
}
