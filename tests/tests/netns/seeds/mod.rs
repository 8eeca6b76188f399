//! The documents that the project was made from, each from top to bottom: their commands with `bascule` for
//! `docker`, and the facts that they show. [`words`] says what is put in the place of what.

mod advanced;
mod commands;
mod first;
mod networks;
mod notes;
mod words;

use std::net::Ipv4Addr;

use bascule_tests::{Agent, Container, Topology, agent::Settings, traffic};
use serde_json::Value;

use crate::Stage;

/// A reader at the host's shell.
struct Reader {
    stage: Stage,
}

impl Reader {
    /// One whose agent runs as it comes; but other names than containers' are refused at once, by nobody.
    fn new() -> Self {
        Self::with(&["--dns=127.0.0.1"])
    }

    /// One whose agent is started with these options.
    fn with(options: &[&str]) -> Self {
        let net = Topology::new();
        let agent = Agent::start_with(&net.host, Settings::default().arg(options));
        Self { stage: Stage { agent, net } }
    }

    /// Types a command of the document, and demands that it works.
    #[track_caller]
    fn docker(&self, line: &str) -> String {
        let words = words::bascule(line);
        let out = self.stage.agent.cli(&words);
        assert!(out.ok(), "`{line}`, as {words:?}, failed with {}: {}", out.code, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// Types a command of the document that is refused, and gives the error.
    #[track_caller]
    fn refused(&self, line: &str) -> String {
        let words = words::bascule(line);
        let out = self.stage.agent.cli(&words);
        assert!(!out.ok(), "`{line}`, as {words:?}, worked: {}", out.stdout);
        out.stderr.trim_end().to_owned()
    }

    /// What `docker ... inspect` prints.
    #[track_caller]
    fn inspect(&self, line: &str) -> Value {
        let text = self.docker(line);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("`{line}`: {error}: {text}"))
    }

    /// `docker attach` of the documents: the inside of a container.
    #[track_caller]
    fn attach(&self, name: &str) -> Container {
        let found = self.inspect(&format!("docker inspect {name}"));
        Container::open(&self.stage.agent, name, found[0]["Id"].as_str().expect("an id"))
    }

    /// Pings from inside a container.
    #[track_caller]
    fn ping(&self, from: &str, to: Ipv4Addr) {
        traffic::answers(&self.attach(from).ns, to);
    }

    /// Pings in vain.
    #[track_caller]
    fn ping_is_lost(&self, from: &str, to: Ipv4Addr) {
        traffic::does_not_answer(&self.attach(from).ns, to);
    }

    /// Pings by name from inside a container, as the documents do, and demands the address that they show.
    #[track_caller]
    fn ping_name(&self, from: &str, name: &str, to: Ipv4Addr) {
        let shown = self.docker(&format!("docker exec {from} busybox ping -c 1 -w 10 {name}"));
        let line = shown.lines().next().unwrap_or_default();
        assert!(line.starts_with(&format!("PING {name} ({to}): ")), "{from}: {shown}");
    }

    /// Pings a name that there is not.
    #[track_caller]
    fn bad_address(&self, from: &str, name: &str) {
        let error = self.refused(&format!("docker exec {from} busybox ping -c 1 -w 10 {name}"));
        assert!(error.contains(&format!("ping: bad address '{name}'")), "{from}: {error}");
    }

    /// A container's address on a network.
    #[track_caller]
    fn address(&self, container: &str, network: &str) -> Ipv4Addr {
        let found = self.inspect(&format!("docker inspect {container}"));
        let address = &found[0]["NetworkSettings"]["Networks"][network]["IPAddress"];
        address.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            panic!("{container} has no address on {network}: {}", found[0]["NetworkSettings"])
        })
    }

    /// What the documents show by `ifconfig`: the address, the link-local address and the Ethernet address that belong
    /// to it, that the interface is up, and its MTU.
    #[track_caller]
    fn ifconfig(&self, container: &str, interface: &str, address: Ipv4Addr, prefix: u8) {
        let ns = self.attach(container).ns;
        let [a, b, c, d] = address.octets();
        assert_eq!(ns.addresses(interface), [(address, prefix)], "{container}");
        assert_eq!(ns.mac(interface), [0x02, 0x42, a, b, c, d], "{container}: from the address");
        let link_local = format!("fe80::42:{a:x}ff:fe{b:02x}:{:x}/64", u16::from_be_bytes([c, d]));
        let shown = ns.sh(&format!("ip -6 -o addr show dev {interface} scope link"));
        assert!(shown.contains(&link_local), "{container}: {link_local} is not in {shown}");
        let shown = ns.sh(&format!("ip -o link show dev {interface}"));
        assert!(shown.contains("<BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 "), "{shown}");
    }

    /// What they show by `ifconfig lo`.
    #[track_caller]
    fn ifconfig_lo(&self, container: &str) {
        let ns = self.attach(container).ns;
        let shown = ns.sh("ip -o addr show dev lo") + &ns.sh("ip -o link show dev lo");
        for fact in ["inet 127.0.0.1/8 ", "inet6 ::1/128 ", "<LOOPBACK,UP,LOWER_UP> mtu 65536 "] {
            assert!(shown.contains(fact), "{container}: {fact} is not in {shown}");
        }
    }

    /// The lines of a container's `/etc/hosts`, words apart by one blank.
    #[track_caller]
    fn hosts(&self, container: &str) -> Vec<String> {
        let text = self.docker(&format!("docker exec {container} cat /etc/hosts"));
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// Names of the networks, as `docker network ls` shows them.
    fn networks(&self) -> Vec<String> {
        let table = self.docker("docker network ls");
        let mut names: Vec<String> = table
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1).map(ToOwned::to_owned))
            .collect();
        names.sort();
        names
    }
}

/// Demands an identifier as `docker` prints it.
#[track_caller]
fn assert_id(text: &str) {
    assert!(text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit()), "no id: {text}");
}

/// Demands that the object of the document is a part of what is shown.
#[track_caller]
fn assert_shows(found: &Value, wanted: &Value) {
    if let Some(difference) = difference(found, wanted) {
        panic!("{difference}\nin {found:#}");
    }
}

fn difference(found: &Value, wanted: &Value) -> Option<String> {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) if !wanted.is_empty() => {
            wanted.iter().find_map(|(key, wanted)| match found.get(key) {
                None => Some(format!("there is no {key}")),
                Some(found) => difference(found, wanted).map(|text| format!("{key}: {text}")),
            })
        }
        (Value::Array(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            found.iter().zip(wanted).find_map(|(found, wanted)| difference(found, wanted))
        }
        _ if found == wanted => None,
        _ => Some(format!("{found} where the document has {wanted}")),
    }
}
