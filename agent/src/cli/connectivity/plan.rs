//! What is tried: cases as data, in the order in which they are tried and told.

use super::super::args::{External, Family};

/// Who sends or is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A container on the first network.
    Client,
    /// Another one there, with published ports.
    Server,
    /// A container on the second network.
    Stranger,
    /// A container on the internal network.
    Inside,
    /// The host itself.
    Host,
}

/// Where it is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whither {
    /// A container's own address.
    Own(Who),
    /// The gateway of the sender's network.
    Gateway,
    /// The server's published port, by 127.0.0.1 or `[::1]`.
    Loopback,
    /// The server's published port, by the host's address.
    HostAddress,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A connection, with a word each way.
    Tcp,
    /// A datagram each way.
    Udp,
    /// An echo request.
    Ping,
    /// An echo request as long as the interface takes, not to be fragmented.
    FullPing,
}

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It arrives, and the answer comes back.
    Arrives(Who, What, Whither),
    /// It does not arrive.
    Barred(Who, What, Whither),
    /// The client resolves the server's name to its address.
    Resolves,
    /// The client connects to a place outside.
    Outside(External),
    /// The API's counters of client and server have grown.
    Counted,
}

/// A case with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// Its family; none where it has none.
    pub family: Option<Family>,
    /// What is tried.
    pub check: Check,
}

/// What is tried with each family.
const CASES: [(&str, Check); 18] = {
    use Check::{Arrives, Barred, Resolves};
    use What::{FullPing, Ping, Tcp, Udp};
    use Whither::{Gateway, HostAddress, Loopback, Own};
    use Who::{Client, Host, Inside, Server, Stranger};
    [
        ("TCP on a network", Arrives(Client, Tcp, Own(Server))),
        ("UDP on a network", Arrives(Client, Udp, Own(Server))),
        ("ping on a network", Arrives(Client, Ping, Own(Server))),
        ("full-size packet on a network", Arrives(Client, FullPing, Own(Server))),
        ("ping to the gateway", Arrives(Client, Ping, Gateway)),
        ("name of a container", Resolves),
        ("no TCP to another network", Barred(Client, Tcp, Own(Stranger))),
        ("no UDP to another network", Barred(Client, Udp, Own(Stranger))),
        ("no ping to another network", Barred(Client, Ping, Own(Stranger))),
        ("no TCP out of an internal network", Barred(Inside, Tcp, HostAddress)),
        ("no UDP out of an internal network", Barred(Inside, Udp, HostAddress)),
        ("published TCP, from the host by loopback", Arrives(Host, Tcp, Loopback)),
        ("published UDP, from the host by loopback", Arrives(Host, Udp, Loopback)),
        ("published TCP, from the host by its address", Arrives(Host, Tcp, HostAddress)),
        ("published UDP, from the host by its address", Arrives(Host, Udp, HostAddress)),
        ("published TCP, from its own network", Arrives(Client, Tcp, HostAddress)),
        ("published UDP, from its own network", Arrives(Client, Udp, HostAddress)),
        ("published TCP, from another network", Arrives(Stranger, Tcp, HostAddress)),
    ]
};

/// Lists the cases of one family or of both.
pub fn cases(only: Option<Family>, outside: &[External]) -> Vec<Case> {
    let families = [Family::V4, Family::V6].into_iter();
    let mut cases = Vec::new();
    for family in families.filter(|family| only.is_none_or(|only| only == *family)) {
        let case = |name: String, check| Case { name, family: Some(family), check };
        cases.extend(CASES.iter().map(|(name, check)| case((*name).to_owned(), check.clone())));
        let reachable = |place: &&External| {
            place.address().is_none_or(|address| address.is_ipv6() == (family == Family::V6))
        };
        cases.extend(outside.iter().filter(reachable).map(|place| {
            let name = format!("TCP to {} port {}", place.host, place.port);
            case(name, Check::Outside(place.clone()))
        }));
    }
    let name = "counters of the endpoints".to_owned();
    cases.push(Case { name, family: None, check: Check::Counted });
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p94_a_family_is_tried_alone_where_that_is_asked_for() {
        let both = cases(None, &[]);
        assert_eq!(both.len(), 2 * CASES.len() + 1);
        let four = cases(Some(Family::V4), &[]);
        assert!(four.iter().all(|case| case.family != Some(Family::V6)));
        assert_eq!(four.len(), CASES.len() + 1);
    }

    #[test]
    fn p94_a_place_outside_is_tried_in_its_own_family() {
        let outside = ["203.0.113.7:80", "example.com:80"].map(|text| text.parse().expect("good"));
        let six = cases(Some(Family::V6), &outside);
        let names: Vec<_> = six.iter().map(|case| case.name.as_str()).collect();
        assert!(names.contains(&"TCP to example.com port 80"), "{names:?}");
        assert!(!names.contains(&"TCP to 203.0.113.7 port 80"), "{names:?}");
        assert_eq!(names.last(), Some(&"counters of the endpoints"), "it is the last one");
    }
}
