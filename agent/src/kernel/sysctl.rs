//! Sysctls of the network, and how they are given back.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens it: call these on a thread of the
//! right one ([`super::netns::Namespace::run`]). What is changed is written down first, as an [`Entry`] that
//! the caller stores, so that it can be taken back after any crash.

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{
    error::{Error, OrRefuse, Outcome, Result},
    ports::PortSet,
};

/// Whether the host routes.
pub const IP_FORWARD: &str = "net.ipv4.ip_forward";
/// Whether the host routes IPv6.
pub const IPV6_FORWARD: [&str; 2] =
    ["net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding"];
/// Ports that the kernel does not choose for a socket.
pub const RESERVED_PORTS: &str = "net.ipv4.ip_local_reserved_ports";
/// Ports that the kernel chooses from for a socket.
const CHOSEN_PORTS: &str = "net.ipv4.ip_local_port_range";
/// The longest value: every second port reserved. Linux answers only the first read of a file.
const LONGEST: usize = 512 << 10;
/// No other value that is read here is as long.
const SHORT: usize = 4 << 10;

/// A change that was made, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The sysctl.
    pub key: String,
    /// Its value before; of a set of ports, those of others.
    pub before: String,
    /// What was written; of a set of ports, what was added.
    pub ours: String,
    /// The index of the interface that it is of, if it is of one: a later one of the same name is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<u32>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It was taken back.
    Done,
    /// Nothing of it was left.
    Already,
    /// Someone changed the value since: it was left alone.
    Foreign(String),
}

/// Reads a sysctl.
pub fn read(key: &str) -> Result<String> {
    let mut file = fs::File::open(path(key)).or_refuse("read sysctl", key)?;
    let mut value = vec![0; if key == RESERVED_PORTS { LONGEST } else { SHORT }];
    let length = file.read(&mut value).or_refuse("read sysctl", key)?;
    value.truncate(length);
    let text = String::from_utf8(value)
        .map_err(|_| Error::unexpected("read sysctl", key, "its value is no text"))?;
    Ok(text.trim().to_owned())
}

/// Returns whether there is such a sysctl.
pub fn exists(key: &str) -> bool {
    path(key).exists()
}

/// Writes a sysctl.
pub fn write(key: &str, value: &str) -> Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).open(path(key)).or_refuse("write sysctl", key)?;
    // A value longer than a page is taken in parts, which the kernel joins.
    file.write_all(format!("{value}\n").as_bytes()).or_refuse("write sysctl", key)
}

/// Returns the first and the last port that the kernel chooses from for a socket.
pub fn chosen_ports() -> Result<(u16, u16)> {
    let value = read(CHOSEN_PORTS)?;
    let mut ports = value.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Ok((first, last)),
        _ => Err(Error::unexpected("read sysctl", CHOSEN_PORTS, format!("its value is {value:?}"))),
    }
}

/// Returns the key of an interface's setting of IPv6.
pub fn ipv6_of(interface: &str, setting: &str) -> String {
    format!("net/ipv6/conf/{interface}/{setting}")
}

/// Lets addresses of the loopback device come and go by the first of these interfaces that exists. What containers
/// send there beside questions about names the data plane drops.
pub fn allow_loopback(interfaces: &[impl AsRef<str>]) -> Result<()> {
    let key = |name: &str| format!("net/ipv4/conf/{name}/route_localnet");
    let exists = |name: &&str| exists(&key(name));
    match interfaces.iter().map(AsRef::as_ref).find(exists) {
        Some(name) => write(&key(name), "1"),
        None => Ok(()),
    }
}

/// Makes the first of these interfaces that exists ready for IPv6: its address of the link follows from its
/// Ethernet address and needs no probing, nobody is a router to it by his own word, and, where it is to have
/// other addresses, IPv6 is not switched off. A kernel without IPv6 has nothing to make ready.
pub fn prepare_ipv6(interfaces: &[impl AsRef<str>], enable: bool) -> Result<()> {
    let exists = |name: &&str| path(&ipv6_of(name, "accept_ra")).exists();
    let Some(name) = interfaces.iter().map(AsRef::as_ref).find(exists) else { return Ok(()) };
    let settings =
        [("accept_ra", "0"), ("autoconf", "0"), ("accept_dad", "0"), ("addr_gen_mode", "0")];
    for (setting, value) in settings {
        write(&ipv6_of(name, setting), value)?;
    }
    let disabled = ipv6_of(name, "disable_ipv6");
    if enable && read(&disabled)? != "0" {
        write(&disabled, "0")?;
    }
    Ok(())
}

/// Returns whether IPv6 is switched off for all of this thread's namespace, or not there at all.
pub fn is_ipv6_off() -> bool {
    read("net.ipv6.conf.all.disable_ipv6").is_ok_and(|value| value != "0")
}

/// Keeps an interface from getting an IPv6 address of its link. A kernel without IPv6 gives none anyway.
pub fn without_link_local(interface: &str) -> Result<()> {
    let key = ipv6_of(interface, "addr_gen_mode");
    if path(&key).exists() { write(&key, "1") } else { Ok(()) }
}

/// Finds out what setting a value would change; `None`: it is so already. To be stored before [`apply`].
pub fn plan(key: &str, value: &str) -> Result<Option<Entry>> {
    let before = read(key)?;
    let entry = Entry { key: key.to_owned(), before, ours: value.to_owned(), interface: None };
    Ok((entry.before != value).then_some(entry))
}

/// A step from one reservation of ports to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// To be stored before [`reserve_ports`]: what was ours and what will be, so that a crash leaves nothing.
    pub claim: Entry,
    /// To be stored after it; often the same.
    pub settled: Entry,
}

/// Reads the ports that others have reserved, given what is ours.
pub fn ports_of_others(so_far: Option<&Entry>) -> Result<PortSet> {
    let current = ports_of(RESERVED_PORTS, &read(RESERVED_PORTS)?)?;
    Ok(match so_far {
        Some(entry) => current.minus(&ports_of(RESERVED_PORTS, &entry.ours)?),
        None => current,
    })
}

/// Finds out what reserving these ports for ourselves would change, given what is ours so far; `None`:
/// nothing.
pub fn plan_ports(so_far: Option<&Entry>, wanted: &PortSet) -> Result<Option<Step>> {
    let current = ports_of(RESERVED_PORTS, &read(RESERVED_PORTS)?)?;
    let ours = match so_far {
        Some(entry) => ports_of(RESERVED_PORTS, &entry.ours)?,
        None => PortSet::default(),
    };
    let others = current.minus(&ours);
    let next = wanted.minus(&others);
    if next == ours && others.union(&ours) == current {
        return Ok(None);
    }
    let entry = |ours: &PortSet| Entry {
        key: RESERVED_PORTS.to_owned(),
        before: others.to_string(),
        ours: ours.to_string(),
        interface: None,
    };
    Ok(Some(Step { claim: entry(&ours.union(&next)), settled: entry(&next) }))
}

/// Makes a planned step.
pub fn reserve_ports(step: &Step) -> Result<Outcome> {
    let ports = |entry: &Entry| ports_of(RESERVED_PORTS, &entry.ours);
    let current = ports_of(RESERVED_PORTS, &read(RESERVED_PORTS)?)?;
    let next = current.minus(&ports(&step.claim)?).union(&ports(&step.settled)?);
    if current == next {
        return Ok(Outcome::Already);
    }
    write(RESERVED_PORTS, &next.to_string())?;
    Ok(Outcome::Done)
}

/// Makes a planned change.
pub fn apply(entry: &Entry) -> Result<Outcome> {
    if read(&entry.key)? == entry.ours {
        return Ok(Outcome::Already);
    }
    write(&entry.key, &entry.ours)?;
    Ok(Outcome::Done)
}

/// Takes a change back, as far as it is still ours.
pub fn restore(entry: &Entry) -> Result<Restored> {
    // It went with its interface.
    if !path(&entry.key).exists() {
        return Ok(Restored::Already);
    }
    let current = read(&entry.key)?;
    if entry.key == RESERVED_PORTS {
        let current = ports_of(&entry.key, &current)?;
        let next = current.minus(&ports_of(&entry.key, &entry.ours)?);
        if next == current {
            return Ok(Restored::Already);
        }
        write(&entry.key, &next.to_string())?;
        return Ok(Restored::Done);
    }
    if current == entry.before {
        return Ok(Restored::Already);
    }
    if current != entry.ours {
        return Ok(Restored::Foreign(current));
    }
    write(&entry.key, &entry.before)?;
    Ok(Restored::Done)
}

fn ports_of(key: &str, text: &str) -> Result<PortSet> {
    let surprise = || Error::unexpected("read sysctl", key, format!("{text:?} is no set of ports"));
    PortSet::parse(text).ok_or_else(surprise)
}

/// A key with slashes is a path already: names of interfaces may have dots.
fn path(key: &str) -> PathBuf {
    let relative = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    PathBuf::from("/proc/sys").join(relative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_path() {
        assert_eq!(path(IP_FORWARD), PathBuf::from("/proc/sys/net/ipv4/ip_forward"));
        let dotted = "net/ipv4/conf/eth0.7/rp_filter";
        assert_eq!(path(dotted), PathBuf::from("/proc/sys").join(dotted));
    }
}
