//! One world, built twice: networks, containers and servers by dockerd, and by the agent.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
};

use bascule_tests::{
    Agent, Container, Dockerd, Netns, Topology,
    agent::Settings,
    probe::{Responder, Witness},
    topology::{HOST, HOST6, NEIGHBOUR, NEIGHBOUR6, OUTSIDE, OUTSIDE6, UPLINK},
    wait,
};

/// A second address of the host.
pub const HOST_B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// And one of IPv6.
pub const HOST6_B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 2);

/// A network: its name, its number in 10.77.N.0/24 and fd00:77:N::/64, whether it has IPv6, and options.
pub struct Network {
    pub name: &'static str,
    number: u8,
    v6: bool,
    pub options: &'static str,
}

/// All that are made; the default network is there already.
pub const NETWORKS: [Network; 7] = [
    Network { name: "blue", number: 1, v6: true, options: "" },
    Network { name: "green", number: 2, v6: true, options: "" },
    Network { name: "inside", number: 3, v6: true, options: "--internal" },
    Network {
        name: "quiet",
        number: 4,
        v6: true,
        options: "-o com.docker.network.bridge.enable_icc=false",
    },
    Network {
        name: "bound",
        number: 5,
        v6: true,
        options: "-o com.docker.network.bridge.host_binding_ipv4=198.51.100.2",
    },
    Network {
        name: "nomasq",
        number: 6,
        v6: true,
        options: "-o com.docker.network.bridge.enable_ip_masquerade=false",
    },
    Network { name: "plain", number: 7, v6: false, options: "" },
];

/// Containers: name, network, what they publish.
pub const CONTAINERS: [(&str, &str, &str); 15] = [
    ("d1", "bridge", "-p 8086:80 -p 8056:53/udp"),
    ("d2", "bridge", ""),
    ("d3", "bridge", "--link d1:d1"),
    (
        "a1",
        "blue",
        "-p 8080:80 -p 8050:53/udp -p 127.0.0.1:8081:80 -p 127.0.0.1:8051:53/udp -p [::1]:8081:80 \
         -p [::1]:8051:53/udp -p 198.51.100.2:8082:80 -p 198.51.100.2:8052:53/udp \
         -p [2001:db8:100::2]:8082:80 -p [2001:db8:100::2]:8052:53/udp",
    ),
    ("a2", "blue", "-p 8100-8103:79-82 -p 8200-8203:52-55/udp"),
    ("b1", "green", "-p 8090:80 -p 8060:53/udp"),
    ("b2", "green", "-p 127.0.0.1:8091:80 -p 127.0.0.1:8061:53/udp"),
    ("i1", "inside", "-p 8088:80 -p 8058:53/udp"),
    ("i2", "inside", ""),
    ("q1", "quiet", "-p 8085:80 -p 8055:53/udp"),
    ("q2", "quiet", ""),
    ("h1", "bound", "-p 8084:80 -p 8054:53/udp"),
    ("m1", "nomasq", "-p 8087:80 -p 8057:53/udp"),
    ("p1", "plain", "-p 8089:80 -p 8059:53/udp"),
    ("p2", "plain", ""),
];

/// Who publishes which port.
pub const PUBLISHED: [(&str, u16, u16); 12] = [
    ("a1, on every address", 8080, 8050),
    ("a1, on 127.0.0.1 and [::1]", 8081, 8051),
    ("a1, on the host's second address", 8082, 8052),
    ("a2, in ranges", 8101, 8201),
    ("h1, by the network's host_binding_ipv4", 8084, 8054),
    ("q1", 8085, 8055),
    ("d1", 8086, 8056),
    ("m1", 8087, 8057),
    ("i1", 8088, 8058),
    ("p1", 8089, 8059),
    ("b1", 8090, 8060),
    ("b2, on 127.0.0.1", 8091, 8061),
];

const FIXED6: &str = "fd00:17::/64";

/// The subnets of a network.
pub fn subnets(network: &str) -> (String, Option<String>) {
    match NETWORKS.iter().find(|known| known.name == network) {
        Some(Network { number, v6, .. }) => {
            (format!("10.77.{number}.0/24"), v6.then(|| format!("fd00:77:{number}::/64")))
        }
        None => ("172.17.0.0/16".to_owned(), Some(FIXED6.to_owned())),
    }
}

/// First address of a subnet: the network's gateway.
pub fn gateways(network: &str) -> (IpAddr, Option<IpAddr>) {
    let (v4, v6) = subnets(network);
    let first = |subnet: &str| -> IpAddr {
        let (base, _) = subnet.split_once('/').expect("a subnet");
        match base.parse().expect("an address") {
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base) | 1).into(),
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base) | 1).into(),
        }
    };
    (first(&v4), v6.as_deref().map(first))
}

/// The engine that the page is about.
pub const VERSION: &str = "20.10";

/// Whether Docker may use its proxy beside its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// As it does by default.
    On,
    /// `--userland-proxy=false`.
    Off,
}

/// Who carries the packets.
pub enum Engine {
    Docker(Dockerd),
    Bascule(Box<Agent>),
}

impl Engine {
    pub fn docker(net: &Topology, proxy: Proxy) -> Self {
        let mut args = vec!["--experimental", "--ip6tables", "--icc=false"];
        args.extend(["--ipv6", "--fixed-cidr-v6", FIXED6]);
        if proxy == Proxy::Off {
            args.push("--userland-proxy=false");
        }
        let docker = Dockerd::start(&net.host, &args);
        let version = docker.version();
        assert!(
            version.starts_with(VERSION),
            "docs/oracle.md is about Docker {VERSION}, and this is {version}: the page can be verified with Debian \
             12's docker.io"
        );
        Self::Docker(docker)
    }

    pub fn bascule(net: &Topology) -> Self {
        let settings =
            Settings::default().arg(&["--icc=false", "--ipv6", "--fixed-cidr-v6", FIXED6]);
        Self::Bascule(Box::new(Agent::start_with(&net.host, settings)))
    }

    fn ok(&self, line: &str) {
        match self {
            Self::Docker(docker) => docker.ok(line),
            Self::Bascule(agent) => agent.ok(line),
        };
    }

    fn container(&self, name: &str, network: &str, options: &str) -> Container {
        match self {
            Self::Docker(docker) => docker.container(name, network, options),
            Self::Bascule(agent) => agent.container(name, network, options),
        }
    }
}

/// Somebody who asks and answers.
pub struct Place {
    pub name: String,
    /// The network, if it is a container.
    pub network: Option<&'static str>,
    pub ns: Netns,
    pub v4: IpAddr,
    pub v6: Option<IpAddr>,
    _answers: Responder,
}

/// The world with everybody in it.
pub struct Stage {
    pub places: Vec<Place>,
    pub witness: Witness,
    _engine: Engine,
    _net: Topology,
}

impl Stage {
    /// Builds everything.
    pub fn new(engine: impl FnOnce(&Topology) -> Engine) -> Self {
        let net = Topology::dual();
        net.host.sh(&format!("ip addr add {HOST_B}/24 dev {UPLINK}"));
        net.host.sh(&format!("ip -6 addr add {HOST6_B}/64 dev {UPLINK} nodad"));
        let engine = engine(&net);
        // Everybody around knows the way to the containers: what stops them is the host.
        for network in NETWORKS.iter().map(|network| network.name).chain(["bridge"]) {
            let (v4, v6) = subnets(network);
            net.route_to_host(&v4);
            if let Some(v6) = v6 {
                net.route6_to_host(&v6);
            }
        }
        for Network { name, v6, options, .. } in &NETWORKS {
            let (subnet, subnet6) = subnets(name);
            let subnet6 = subnet6.filter(|_| *v6);
            let six = subnet6.map(|six| format!("--ipv6 --subnet {six}")).unwrap_or_default();
            engine.ok(&format!("network create --subnet {subnet} {six} {options} {name}"));
        }
        let witness = Witness::default();
        let mut places = contain_all(&engine, &witness);
        for (name, ns, v4, v6) in [
            ("host", &net.host, HOST, HOST6),
            ("neighbour", &net.neighbour, NEIGHBOUR, NEIGHBOUR6),
            ("outside", &net.outside, OUTSIDE, OUTSIDE6),
        ] {
            unlimited(ns);
            places.push(Place {
                name: name.to_owned(),
                network: None,
                ns: ns.clone(),
                v4: v4.into(),
                v6: Some(v6.into()),
                _answers: Responder::start(ns, name, &witness, &[80], &[53]),
            });
        }
        unlimited(&net.router);
        Self { places, witness, _engine: engine, _net: net }
    }

    /// Somebody, by name.
    #[track_caller]
    pub fn place(&self, name: &str) -> &Place {
        self.places.iter().find(|place| place.name == name).expect("somebody of that name")
    }

    /// A name for an address that somebody has.
    pub fn name(&self, address: IpAddr) -> String {
        if let Some(place) = self.places.iter().find(|place| place.has(address)) {
            return place.name.clone();
        }
        for network in NETWORKS.iter().map(|network| network.name).chain(["bridge"]) {
            let (v4, v6) = gateways(network);
            if v4 == address || v6 == Some(address) {
                return format!("the gateway of {network}");
            }
        }
        match address {
            address if address == HOST_B || address == HOST6_B => {
                "the host's second address".to_owned()
            }
            address if address.is_loopback() => "loopback".to_owned(),
            address => address.to_string(),
        }
    }
}

impl Place {
    /// Whether the address is one of its own.
    pub fn has(&self, address: IpAddr) -> bool {
        self.v4 == address || self.v6 == Some(address)
    }
}

/// Starts all containers: those of the default network in their order, which gives them their addresses,
/// and the others some at a time.
fn contain_all(engine: &Engine, witness: &Witness) -> Vec<Place> {
    const AT_ONCE: usize = 3;
    let start = |at: usize| {
        let (name, network, publish) = CONTAINERS[at];
        contain(engine, witness, at + 10, name, network, publish)
    };
    let (first, rest): (Vec<_>, Vec<_>) =
        (0..CONTAINERS.len()).partition(|at| CONTAINERS[*at].1 == "bridge");
    let mut places: Vec<Place> = first.into_iter().map(start).collect();
    for some in rest.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let started: Vec<_> = some.iter().map(|at| scope.spawn(move || start(*at))).collect();
            places.extend(started.into_iter().map(|place| place.join().expect("a container")));
        });
    }
    places
}

fn contain(
    engine: &Engine,
    witness: &Witness,
    number: usize,
    name: &str,
    network: &'static str,
    publish: &str,
) -> Place {
    let (subnet, subnet6) = subnets(network);
    let with = |subnet: &str, number: usize| {
        let (base, _) = subnet.split_once('/').expect("a subnet");
        format!("{}{number}", base.strip_suffix('0').unwrap_or(base))
    };
    // Addresses on the default network are not for users to choose.
    let mut fixed = String::new();
    if network != "bridge" {
        fixed += &format!("--ip {}", with(&subnet, number));
        if let Some(six) = &subnet6 {
            fixed += &format!(" --ip6 {}", with(six, number));
        }
    }
    let container = engine.container(name, network, &format!("{fixed} {publish}"));
    let ns = container.ns.clone();
    unlimited(&ns);
    wait::wait_until("addresses that are no longer tentative", wait::START, || {
        ns.sh("ip -6 -o addr show tentative").is_empty()
    });
    Place {
        name: name.to_owned(),
        network: Some(network),
        v4: container.address().into(),
        v6: subnet6.is_some().then(|| container.address6().into()),
        _answers: Responder::start(&ns, name, witness, &[80], &[53]),
        ns,
    }
}

/// Error messages are what many questions end in: no rate limits on them.
fn unlimited(ns: &Netns) {
    ns.sysctl_set("net/ipv4/icmp_ratelimit", "0");
    ns.sysctl_set("net/ipv4/icmp_ratemask", "0");
    ns.sysctl_set("net/ipv6/icmp/ratelimit", "0");
    // A list of types: only that a packet is too big.
    ns.sysctl_set("net/ipv6/icmp/ratemask", "2");
}
