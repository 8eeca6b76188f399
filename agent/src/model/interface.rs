//! What is asked of a container's interface by driver options of its endpoint: a name, and sysctls.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::options;

/// Keys of the options that are read.
pub mod keys {
    /// Name of the interface in the container.
    pub const IFNAME: &str = "com.docker.network.endpoint.ifname";
    /// Sysctls of the interface, with commas between them.
    pub const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
}

/// What stands in a sysctl for the interface; the command line of Docker writes it small.
const PLACEHOLDERS: [&str; 2] = ["IFNAME", "ifname"];
/// Protocols whose interfaces have sysctls.
const PROTOCOLS: [&str; 3] = ["ipv4", "ipv6", "mpls"];

/// A sysctl of one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSysctl {
    /// Before the interface: `net/ipv4/conf`.
    table: String,
    /// Behind it: `log_martians`.
    setting: String,
    /// What is written.
    value: String,
}

impl InterfaceSysctl {
    /// Returns where it is for an interface, below `/proc/sys`.
    pub fn path(&self, interface: &str) -> String {
        format!("{}/{interface}/{}", self.table, self.setting)
    }

    /// Returns what is written.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for InterfaceSysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, setting) = (self.table.replace('/', "."), self.setting.replace('/', "."));
        write!(f, "{table}.IFNAME.{setting}={}", self.value)
    }
}

/// What is asked of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceOptions {
    /// Its name; none is the next one of the network's prefix.
    pub name: Option<String>,
    /// What is set for it.
    pub sysctls: Vec<InterfaceSysctl>,
}

impl InterfaceOptions {
    /// Reads driver options; everything that is wrong with them comes back at once.
    pub fn new(verbatim: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let (mut read, mut wrong) = (Self::default(), Vec::new());
        if let Some(name) = verbatim.get(keys::IFNAME) {
            match options::interface(name) {
                Ok(name) if name == "lo" => wrong.push("lo is every container's own".to_owned()),
                Ok(name) => read.name = Some(name),
                Err(why) => wrong.push(format!("invalid interface name {name:?}: {why}")),
            }
        }
        for text in verbatim.get(keys::SYSCTLS).into_iter().flat_map(|all| all.split(',')) {
            match sysctl(text) {
                Some(sysctl) => read.sysctls.push(sysctl),
                None => wrong.push(format!(
                    "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
                )),
            }
        }
        if wrong.is_empty() { Ok(read) } else { Err(wrong) }
    }
}

/// Reads `net.X.Y.IFNAME.Z=V`. What it names lies below `/proc/sys/net`, whatever it is made of.
fn sysctl(text: &str) -> Option<InterfaceSysctl> {
    let (key, value) = text.split_once('=')?;
    let mut parts = key.splitn(5, '.');
    let [net, protocol, kind, interface, setting] = [(); 5].map(|()| parts.next());
    let (protocol, kind, setting) = (protocol?, kind?, setting?);
    let plain = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    let fits = net == Some("net")
        && PROTOCOLS.contains(&protocol)
        && PLACEHOLDERS.contains(&interface?)
        && plain(kind)
        && setting.split('.').all(plain)
        && !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    fits.then(|| InterfaceSysctl {
        table: format!("net/{protocol}/{kind}"),
        setting: setting.replace('.', "/"),
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<InterfaceOptions, Vec<String>> {
        InterfaceOptions::new(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn moby_icc_026_sysctls_have_a_placeholder_for_the_interface() {
        let all = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=0";
        let read = read(keys::SYSCTLS, all).unwrap();
        assert_eq!(read.sysctls[0].path("eth0"), "net/ipv4/conf/eth0/log_martians");
        assert_eq!(read.sysctls[1].path("a.b"), "net/ipv6/conf/a.b/accept_ra");
        assert_eq!(read.sysctls[1].value(), "0");
        assert_eq!(read.sysctls[0].to_string(), "net.ipv4.conf.IFNAME.log_martians=1");
    }

    #[test]
    fn moby_icc_026_other_sysctls_are_refused_each_by_name() {
        for text in [
            "net.ipv4.conf.eth0.log_martians=1",
            "kernel.ipv4.conf.IFNAME.x=1",
            "net.core.conf.IFNAME.x=1",
            "net.ipv4.conf.IFNAME=1",
            "net.ipv4.conf.IFNAME.x",
            "net.ipv4.conf.IFNAME.x=",
            "net.ipv4.conf.IFNAME.../x=1",
            "net.ipv4.../../etc.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.x=1\n",
            "",
        ] {
            let wrong = read(keys::SYSCTLS, text).unwrap_err();
            let expected = format!("unrecognised network interface sysctl '{text}'");
            assert!(wrong[0].starts_with(&expected), "{wrong:?}");
        }
        let two = read(keys::SYSCTLS, "a=1,net.ipv4.conf.IFNAME.x=1,b=2").unwrap_err();
        assert_eq!(two.len(), 2);
    }

    #[test]
    fn moby_icc_027_an_interface_has_a_name_that_the_kernel_takes() {
        assert_eq!(read(keys::IFNAME, "foobar").unwrap().name.as_deref(), Some("foobar"));
        for name in ["", "lo", "a/b", "sixteen-bytes-xx", "a b", ".."] {
            assert_eq!(read(keys::IFNAME, name).unwrap_err().len(), 1, "{name}");
        }
    }
}
