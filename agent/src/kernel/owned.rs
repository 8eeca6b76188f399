//! Names that mean "ours": generator and recogniser together.
//!
//! A name alone proves nothing: Docker names its bridges `br-<12 hex>` too, and several agents may live on
//! one kernel. So every link of ours carries an alias, `bascule:<agent>:<kind>:<full id>`, where `<agent>`
//! is a hash of the run directory. Linux sets an alias only after a link was made; until then the link is
//! known by the address that it is born with, which is derived from the agent and the name.

use std::path::Path;

use bascule_common::abi::Mac;

/// Every host end of a veth begins with it.
pub const VETH_PREFIX: &str = "bsc";
/// The bridge of the default network.
pub const DEFAULT_BRIDGE: &str = "bascule0";

/// The host end of the veth of the server of names.
pub const NAMES_VETH: &str = "bascule-names";

/// What makes links this agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    agent: String,
}

/// A link of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// The bridge of the network of that id.
    Bridge(String),
    /// The host end of the veth of the endpoint of that id.
    Veth(String),
    /// The host end of the veth of the server of names.
    Names,
    /// A link made by an agent that ended before it could set the alias.
    HalfMade,
}

impl Mark {
    /// The mark of the agent that runs from this directory.
    pub fn of_run_dir(run_dir: &Path) -> Self {
        let run_dir = std::fs::canonicalize(run_dir).unwrap_or_else(|_| run_dir.to_owned());
        let bytes = run_dir.as_os_str().as_encoded_bytes();
        Self { agent: format!("{:016x}", fnv1a(&[bytes])) }
    }

    /// The alias of a network's bridge.
    pub fn bridge_alias(&self, network: &str) -> String {
        format!("bascule:{}:network:{network}", self.agent)
    }

    /// The alias of the host end of an endpoint's veth.
    pub fn veth_alias(&self, endpoint: &str) -> String {
        format!("bascule:{}:endpoint:{endpoint}", self.agent)
    }

    /// The alias of the host end of the veth of the server of names.
    pub fn names_alias(&self) -> String {
        format!("bascule:{}:names", self.agent)
    }

    /// The address that a link of this name is born with.
    ///
    /// Locally administered, unicast. A veth's host end keeps it, a bridge gets its own with the alias.
    pub fn birth_mac(&self, name: &str) -> Mac {
        let hash = fnv1a(&[self.agent.as_bytes(), b"/", name.as_bytes()]).to_be_bytes();
        let [first, second, third, fourth, fifth, sixth, ..] = hash;
        [first & 0xfc | 0x02, second, third, fourth, fifth, sixth]
    }

    /// Recognises a link by what a dump tells of it; `None`: not ours, never touched.
    ///
    /// A bridge may bear any name (it is an option of the network), a veth only its own.
    pub fn recognise(&self, name: &str, alias: Option<&str>, mac: Option<Mac>) -> Option<Owned> {
        let Some(alias) = alias.filter(|alias| !alias.is_empty()) else {
            let owned = if name == NAMES_VETH { Owned::Names } else { Owned::HalfMade };
            return (mac == Some(self.birth_mac(name))).then_some(owned);
        };
        let rest = alias.strip_prefix("bascule:")?.strip_prefix(self.agent.as_str())?;
        if rest == ":names" && name == NAMES_VETH {
            return Some(Owned::Names);
        }
        let (kind, id) = rest.strip_prefix(':')?.split_once(':')?;
        if !is_id(id) {
            return None;
        }
        match kind {
            "network" => Some(Owned::Bridge(id.to_owned())),
            "endpoint" if name == veth_name(id) => Some(Owned::Veth(id.to_owned())),
            _ => None,
        }
    }
}

/// Tells whether a link is the end of a veth that Docker makes: seven digits, by lot, for either end.
pub fn is_docker_veth(link: &super::netlink::Link) -> bool {
    let digits = link.name.strip_prefix("veth");
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    link.kind == super::netlink::LinkKind::Veth
        && digits.is_some_and(|digits| digits.len() == 7 && digits.bytes().all(is_digit))
}

/// The name of a network's bridge, from the network's id.
pub fn bridge_name(network: &str) -> String {
    format!("br-{}", head(network, 12))
}

/// The name of the host end of an endpoint's veth, from the endpoint's id.
pub fn veth_name(endpoint: &str) -> String {
    format!("{VETH_PREFIX}{}", head(endpoint, 8))
}

/// The name that the container's end bears until it becomes `ethN`.
pub fn temporary_peer_name(endpoint: &str) -> String {
    format!("bsp{}", head(endpoint, 8))
}

/// The first `length` characters of an id; ids are hexadecimal, so the cut is at a character.
fn head(id: &str, length: usize) -> &str {
    id.get(..length).unwrap_or(id)
}

fn is_id(id: &str) -> bool {
    id.len() >= 12 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// FNV-1a, 64 bits: the same in every release, which the standard library's hashers do not promise.
fn fnv1a(parts: &[&[u8]]) -> u64 {
    parts.iter().flat_map(|part| part.iter()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn mark() -> Mark {
        Mark::of_run_dir(Path::new("/nonexistent/bascule"))
    }

    #[test]
    fn names_fit_an_interface_and_come_from_the_id() {
        assert_eq!(bridge_name(ID), "br-0123456789ab");
        assert_eq!(veth_name(ID), "bsc01234567");
        assert_eq!(temporary_peer_name(ID), "bsp01234567");
        for name in [bridge_name(ID), veth_name(ID), temporary_peer_name(ID)] {
            assert!(name.len() < 16);
        }
    }

    #[test]
    fn what_is_generated_is_recognised() {
        let mark = mark();
        let bridge = mark.bridge_alias(ID);
        let veth = mark.veth_alias(ID);
        assert!(bridge.len() < 256, "IFALIASZ");
        let ours = Some(Owned::Bridge(ID.into()));
        assert_eq!(mark.recognise(&bridge_name(ID), Some(&bridge), None), ours);
        assert_eq!(mark.recognise(DEFAULT_BRIDGE, Some(&bridge), None), ours);
        assert_eq!(mark.recognise("chosen0", Some(&bridge), None), ours);
        assert_eq!(mark.recognise(&veth_name(ID), Some(&veth), None), Some(Owned::Veth(ID.into())));
        let names = mark.names_alias();
        assert_eq!(mark.recognise(NAMES_VETH, Some(&names), None), Some(Owned::Names));
        assert_eq!(mark.recognise("bsc01234567", Some(&names), None), None);
    }

    #[test]
    fn foreign_links_are_never_ours() {
        let mark = mark();
        let other = Mark::of_run_dir(Path::new("/nonexistent/other"));
        let docker = Some([0x02, 0x42, 0xac, 0x11, 0, 1]);
        for (name, alias) in [
            ("br-0123456789ab", None),
            ("br-0123456789ab", Some("")),
            ("br-0123456789ab", Some("uplink to the rack")),
            ("bsc01234567", None),
            ("bsc01234567", Some("bascule:")),
            ("bsc01234567", Some("bascule:endpoint:0123456789ab")),
        ] {
            assert_eq!(mark.recognise(name, alias, docker), None, "{name} {alias:?}");
        }
        let theirs = other.veth_alias(ID);
        assert_eq!(mark.recognise(&veth_name(ID), Some(&theirs), None), None, "another agent's");
        let ours = mark.veth_alias(ID);
        assert_eq!(mark.recognise("bscffffffff", Some(&ours), None), None, "another name");
    }

    #[test]
    fn a_link_without_its_alias_yet_is_known_by_the_address_it_was_born_with() {
        let mark = mark();
        let name = veth_name(ID);
        let mac = mark.birth_mac(&name);
        assert_eq!(mac[0] & 0x03, 0x02, "unicast, locally administered");
        assert_eq!(mark.recognise(&name, None, Some(mac)), Some(Owned::HalfMade));
        assert_eq!(mark.recognise("bscffffffff", None, Some(mac)), None);
        let other = Mark::of_run_dir(Path::new("/nonexistent/other"));
        assert_eq!(other.recognise(&name, None, Some(mac)), None);
    }
}
