//! `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` of containers, and the variables of their links, below the run
//! directory. Commands of ours have the files mounted; for namespaces that are brought they are an offer.
//!
//! What was written is noted beside the files: a file that is not as it was written belongs to whoever edited it.

mod hosts;
mod links;
mod resolv;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::resolv::ResolvConf;
use crate::model::{
    Container, ContainerId, Desired, Family, Mode, NameSettings, Network, NetworkId, Resolver,
    Sandbox,
};

/// The names that files have in `/etc` and in a container's directory.
pub const NAMES: [&str; 3] = [HOSTS, RESOLV_CONF, HOSTNAME];
const HOSTS: &str = "hosts";
const RESOLV_CONF: &str = "resolv.conf";
const HOSTNAME: &str = "hostname";
/// Variables of legacy links, each with a NUL behind it.
pub const ENVIRONMENT: &str = "links.env";
/// What was written.
const NOTE: &str = ".written.json";
/// Where containers ask the agent's own server for names.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// Where the host's name is read.
pub const HOST_NAME: &str = "/proc/sys/kernel/hostname";
const ETC_HOSTS: &str = "/etc/hosts";
/// Where the servers behind systemd's stub are told.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// A file that is larger was edited, and is not looked at.
const LARGEST: u64 = 1 << 20;

/// Where a container's files are.
pub fn directory(run_dir: &Path, id: &str) -> PathBuf {
    run_dir.join("containers").join(id)
}

/// What was last written for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    /// The start that it was written for.
    started: Option<Timestamp>,
    hosts: String,
    /// None where the file was found, and nobody knows whose it is.
    resolv: Option<String>,
    /// Whom the file sends to: the agent's server, or nobody in particular.
    server: Option<IpAddr>,
    /// The networks that it was written for.
    networks: Vec<NetworkId>,
}

/// What the host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Host {
    resolv: String,
    /// What stands behind systemd's stub.
    behind: Option<String>,
    hosts: String,
    name: String,
}

impl Host {
    fn read(settings: &NameSettings) -> Self {
        // What the host has not, containers have not either.
        let text = |path: &Path| read(path).unwrap_or_default();
        Self {
            resolv: text(resolv_conf(settings)),
            behind: read(Path::new(BEHIND_STUB)).ok().filter(|_| settings.resolv_conf.is_none()),
            hosts: text(Path::new(ETC_HOSTS)),
            name: text(Path::new(HOST_NAME)).trim().to_owned(),
        }
    }
}

fn resolv_conf(settings: &NameSettings) -> &Path {
    settings.resolv_conf.as_deref().unwrap_or(Path::new("/etc/resolv.conf"))
}

/// Returns the files of the host that containers' are made from.
pub fn of_host(settings: &NameSettings) -> Vec<PathBuf> {
    [resolv_conf(settings), Path::new(BEHIND_STUB), Path::new(ETC_HOSTS)].map(Path::to_owned).into()
}

/// Keeps the files of all containers.
#[derive(Debug)]
pub struct Files {
    run_dir: PathBuf,
    written: BTreeMap<ContainerId, Written>,
    /// What was looked at last.
    seen: Option<(Arc<Desired>, NameSettings, Host)>,
}

impl Files {
    /// Keeps them below a run directory.
    pub fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned(), written: BTreeMap::new(), seen: None }
    }

    /// Brings every file up to date; returns what could not be written.
    pub fn keep(&mut self, desired: &Arc<Desired>, settings: &NameSettings) -> Vec<String> {
        let host = Host::read(settings);
        if let Some((last, with, on)) = &self.seen
            && Arc::ptr_eq(last, desired)
            && (with, on) == (settings, &host)
        {
            return Vec::new();
        }
        self.written.retain(|id, _| desired.containers.contains_key(id));
        let source = Source::new(desired, settings, &host);
        let with_files = |c: &&Container| {
            let of_docker = c.is_plugged() || c.is_adopted();
            c.started_at.is_some() && !matches!(c.mode, Mode::Container(_)) && !of_docker
        };
        let mut failed = Vec::new();
        let before = self.seen.take().filter(|(last, with, on)| {
            last.networks.values().map(told).eq(desired.networks.values().map(told))
                && (with, on) == (settings, &host)
        });
        // A link tells of another container, all else of the container itself.
        let is_as_before = |c: &&Container| {
            let before = before.as_ref().and_then(|(last, ..)| last.containers.get(&c.id));
            c.links.is_empty() && before == Some(c)
        };
        let others = desired.containers.values().filter(|c| !is_as_before(c));
        for container in others.filter(with_files) {
            if let Err(error) = self.keep_one(container, &source) {
                failed.push(format!(
                    "cannot write the files of container {}: {error}",
                    container.name
                ));
            }
        }
        // What failed is tried again with the next look.
        self.seen = failed.is_empty().then(|| (Arc::clone(desired), settings.clone(), host));
        failed
    }

    fn keep_one(&mut self, container: &Container, source: &Source<'_>) -> io::Result<()> {
        let dir = directory(&self.run_dir, &container.id.to_string());
        let note = dir.join(NOTE);
        let known = match self.written.get(&container.id) {
            Some(written) => Some(written.clone()),
            None => read(&note).ok().and_then(|text| serde_json::from_str(&text).ok()),
        };
        let mut written = known.clone().unwrap_or_default();
        let is_new = written.started != container.started_at;
        let running = container.running().is_some();
        if running && is_new {
            fs::create_dir_all(&dir)?;
            write(&dir.join(HOSTNAME), &format!("{}\n", source.hostname(container)))?;
            write(&dir.join(ENVIRONMENT), &links::environment(source.desired, container))?;
        } else if known.is_none() {
            // It ran on another boot: its next start makes them.
            return Ok(());
        }
        if running {
            let hosts = source.hosts(container);
            keep_hosts(&dir.join(HOSTS), &hosts, &written.hosts, is_new)?;
            written.hosts = hosts;
        }
        let (server, text) = source.resolv(container);
        let own = &container.naming.resolver;
        let overridden = !own.servers.is_empty() || !own.search.is_empty();
        let networks: Vec<_> = container.attachments.iter().map(|a| a.network).collect();
        // A running one has the server of the networks that it comes to, and else what it was started with.
        let may = is_new || !running || networks != written.networks;
        let follows = may && (server != written.server || !overridden && (is_new || !running));
        keep_resolv(&dir.join(RESOLV_CONF), &text, &mut written, follows)?;
        if written.resolv.as_ref() == Some(&text) {
            written.server = server;
        }
        written.networks = networks;
        if running {
            written.started = container.started_at;
        }
        if known.as_ref() != Some(&written) {
            let text = serde_json::to_string(&written).map_err(io::Error::other)?;
            write(&note, &text)?;
        }
        self.written.insert(container.id, written);
        Ok(())
    }
}

/// Returns what files tell of a network.
fn told(network: &Network) -> (NetworkId, &[IpAddr], [Option<IpAddr>; 2]) {
    let sides = Family::ALL.map(|family| network.host_side(family));
    (network.id, &network.options.dns, sides)
}

/// Writes a hosts file: whole at a start, else only the lines that are others now.
fn keep_hosts(path: &Path, new: &str, old: &str, is_new: bool) -> io::Result<()> {
    if is_new {
        return write(path, new);
    }
    if new == old {
        return Ok(());
    }
    match read(path) {
        Ok(found) => write(path, &hosts::merged(&found, old, new)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => write(path, new),
        // Edited beyond what can be put right.
        Err(_) => Ok(()),
    }
}

/// Writes a resolv.conf that is missing, or that follows the host and was edited by nobody.
fn keep_resolv(path: &Path, new: &str, written: &mut Written, follows: bool) -> io::Result<()> {
    if path.exists() {
        if !follows || written.resolv.as_deref() == Some(new) {
            return Ok(());
        }
        let Some(old) = &written.resolv else { return Ok(()) };
        if !read(path).is_ok_and(|found| found == *old) {
            return Ok(());
        }
    }
    write(path, new)?;
    written.resolv = Some(new.to_owned());
    Ok(())
}

/// What files are made from.
struct Source<'a> {
    desired: &'a Desired,
    settings: &'a NameSettings,
    host: &'a Host,
    /// What the host asks.
    own: ResolvConf,
    /// What others can ask in its place.
    beyond: Option<ResolvConf>,
}

impl<'a> Source<'a> {
    fn new(desired: &'a Desired, settings: &'a NameSettings, host: &'a Host) -> Self {
        let own = ResolvConf::parse(&host.resolv);
        let behind = host.behind.as_deref().filter(|_| own.is_stub()).map(ResolvConf::parse);
        Self { desired, settings, host, own, beyond: behind }
    }

    /// The container's host name; with the host's network that is the host's, unless another was asked for.
    fn hostname<'b>(&'b self, container: &'b Container) -> &'b str {
        let is_default = container.hostname == container.id.short();
        match container.mode {
            Mode::Host if is_default && !self.host.name.is_empty() => &self.host.name,
            _ => &container.hostname,
        }
    }

    fn hosts(&self, container: &Container) -> String {
        hosts::render(self.desired, container, self.settings, &self.host.hosts)
    }

    /// Returns whom the container asks, and its file.
    fn resolv(&self, container: &Container) -> (Option<IpAddr>, String) {
        let wanted = container.naming.resolver.or(&self.settings.resolver);
        if let Some(server) = self.server(container) {
            let behind = self.behind(container, &wanted);
            return (Some(server), self.own.through(server, &wanted, &behind));
        }
        let beyond = container.mode != Mode::Host;
        let ipv6 = container.endpoints().any(|(_, endpoint)| endpoint.ip6.is_some());
        let from = if beyond { self.beyond.as_ref().unwrap_or(&self.own) } else { &self.own };
        (None, from.direct(&wanted, beyond, ipv6))
    }

    /// Returns where the container asks the agent's server, if it does: on loopback in a namespace of ours, else at the
    /// gateway.
    fn server(&self, container: &Container) -> Option<IpAddr> {
        let networks = container.attachments.iter();
        let mut networks = networks.filter_map(|a| self.desired.networks.get(&a.network));
        let named = |network: &&Network| !network.predefined || self.settings.default_bridge;
        match container.sandbox {
            Sandbox::Own => networks.any(|network| named(&network)).then_some(SERVER),
            // Docker makes the files of its own.
            Sandbox::Docker(_) | Sandbox::Adopted => None,
            Sandbox::Path(_) | Sandbox::Process(_) => networks.filter(named).find_map(|network| {
                Family::ALL.into_iter().find_map(|family| network.host_side(family))
            }),
        }
    }

    /// Returns the servers behind the agent's: the container's, its networks', or the agent's; none, the host's.
    fn behind(&self, container: &Container, wanted: &Resolver) -> Vec<IpAddr> {
        if !container.naming.resolver.servers.is_empty() {
            return container.naming.resolver.servers.clone();
        }
        let networks = container.attachments.iter();
        let networks = networks.filter_map(|a| self.desired.networks.get(&a.network));
        let mut servers: Vec<_> = networks.flat_map(|n| n.options.dns.iter().copied()).collect();
        servers.dedup();
        if servers.is_empty() { wanted.servers.clone() } else { servers }
    }
}

/// Reads a file, if it is no larger than such files are.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {LARGEST} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a file in place: commands that run have it mounted.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())
}
