//! Where the sockets of host processes are led, on tables in memory.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bascule_common::{
    abi::{Address as _, AnyIp, Ip4, Ip6, Local, Port, Rule, SocketKey, SocketOrigin, service},
    datapath::socket::{
        Backend, Host, Lead, Memory, Published, Socket, find, find_for_proxy, is_from_here,
        original, translate,
    },
    wire::proto::{TCP, UDP},
};

use proptest::prelude::*;

const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);
const CONTAINER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const COOKIE: u64 = 7;

#[derive(Default)]
struct Mem {
    locals: BTreeMap<AnyIp, Local>,
    slots: BTreeMap<(u32, u32), u32>,
    rules: BTreeMap<u32, Rule>,
    holders: BTreeMap<(u32, AnyIp), (u32, u32)>,
    sockets: RefCell<BTreeMap<SocketKey, SocketOrigin>>,
    connections: RefCell<u32>,
}

impl<A: Host> Published<A> for Mem {
    fn local(&self, address: A) -> Option<Local> {
        self.locals.get(&address.to_any()).copied()
    }
    fn slot(&self, table: u32, slot: u32) -> u32 {
        self.slots.get(&(table, slot)).copied().unwrap_or(0)
    }
    fn rule(&self, index: u32) -> Option<Rule> {
        self.rules.get(&index).copied()
    }
    fn holder(&self, network: u32, address: A) -> Option<(u32, u32)> {
        self.holders.get(&(network, address.to_any())).copied()
    }
}

impl Memory for Mem {
    fn origin(&self, key: &SocketKey) -> Option<SocketOrigin> {
        self.sockets.borrow().get(key).copied()
    }
    fn remember(&self, key: &SocketKey, origin: &SocketOrigin) {
        self.sockets.borrow_mut().insert(*key, *origin);
    }
    fn forget(&self, key: &SocketKey) {
        self.sockets.borrow_mut().remove(key);
    }
    fn count_connection(&self, _rule: u32) {
        *self.connections.borrow_mut() += 1;
    }
}

fn any(ip: &str) -> AnyIp {
    ip.parse::<IpAddr>().expect("an address").into()
}

fn ip4(ip: &str) -> Ip4 {
    Ip4::from_any(any(ip))
}

fn ip6(ip: &str) -> Ip6 {
    Ip6::from_any(any(ip))
}

impl Mem {
    /// A host with 198.51.100.1 and .2, its gateway 172.18.0.1, and `lo`; `own` have tables of their own.
    fn host(own: &[&str]) -> Self {
        let mut mem = Self::default();
        for ip in ["198.51.100.1", "198.51.100.2", "172.18.0.1", "127.0.0.1", "2001:db8::1", "::1"]
        {
            mem.locals.insert(any(ip), Local { table: 0, flags: 0 });
        }
        for ip in ["127.255.255.255", "198.51.100.255"] {
            mem.locals.insert(any(ip), Local { table: 0, flags: Local::BROADCAST });
        }
        for (at, ip) in own.iter().enumerate() {
            let table = service::FIRST_OWN_TABLE + at as u32;
            mem.locals.insert(any(ip), Local { table, flags: 0 });
        }
        mem
    }

    /// Publishes ports of a container of network 1 in some tables.
    fn publish(
        &mut self,
        index: u32,
        tables: &[u32],
        (host, count, port): (u16, u16, u16),
        to: IpAddr,
    ) {
        let rule = Rule {
            host_base: host,
            container_base: port,
            count,
            proto: TCP,
            flags: if to.is_ipv6() { Rule::IPV6 } else { Rule::EVERYWHERE },
            network: 1,
            endpoint: index,
            generation: 3,
            address: to.into(),
            ..Rule::default()
        };
        self.rules.insert(index, rule);
        self.holders.insert((1, to.into()), (index, 3));
        for table in tables {
            for port in host..host + count {
                let slot = service::slot(TCP, Port::new(port)).expect("a slot");
                self.slots.insert((*table, slot), index);
            }
        }
    }

    fn from<A: Host>(&self, source: &str, to: A, port: u16) -> Lead<A> {
        let source = A::from_any(any(source));
        translate(
            self,
            &Socket { cookie: COOKIE, proto: TCP, source, device: 0 },
            to,
            Port::new(port),
        )
    }
}

fn lead<A>(address: A, port: u16, rule: u32) -> Lead<A> {
    Lead::To(Backend { address, port: Port::new(port), rule })
}

#[test]
fn s122_every_address_of_the_host_leads_to_the_container() {
    let mut mem = Mem::host(&[]);
    mem.publish(1, &[service::WILDCARD_TABLE], (9000, 1000, 5000), CONTAINER.into());
    for ip in ["127.0.0.1", "127.1.2.3", "198.51.100.1", "172.18.0.1", "0.0.0.0"] {
        assert_eq!(mem.from("0.0.0.0", ip4(ip), 9999), lead(CONTAINER.into(), 5999, 1), "{ip}");
    }
    for ip in ["203.0.113.7", "172.18.0.2", "255.255.255.255", "127.255.255.255", "198.51.100.255"]
    {
        assert_eq!(mem.from("0.0.0.0", ip4(ip), 9999), Lead::Elsewhere, "{ip}");
    }
    assert_eq!(mem.from("0.0.0.0", ip4("127.0.0.1"), 8999), Lead::Elsewhere);
    assert_eq!(find(&mem, UDP, ip4("127.0.0.1"), Port::new(9000)), Lead::Elsewhere);
    assert_eq!(find(&mem, 132, ip4("127.0.0.1"), Port::new(9000)), Lead::Elsewhere);
}

#[test]
fn what_was_asked_for_is_told_again() {
    let mut mem = Mem::host(&[]);
    mem.publish(1, &[service::WILDCARD_TABLE], (8080, 1, 80), CONTAINER.into());
    mem.from("0.0.0.0", ip4("0.0.0.0"), 8080);
    let told = |mem: &Mem, cookie| original(mem, cookie, TCP, Ip4::from(CONTAINER), Port::new(80));
    assert_eq!(told(&mem, COOKIE), Some((ip4("127.0.0.1"), Port::new(8080))));
    assert_eq!(told(&mem, COOKIE + 1), None);
    mem.from("0.0.0.0", ip4("198.51.100.2"), 8080);
    assert_eq!(told(&mem, COOKIE), Some((ip4("198.51.100.2"), Port::new(8080))));
    assert_eq!(*mem.connections.borrow(), 2);
    mem.from("0.0.0.0", ip4("198.51.100.2"), 8080);
    assert_eq!(*mem.connections.borrow(), 2, "a datagram more is no connection more");
}

#[test]
fn a_port_given_to_another_container_is_told_no_more() {
    let mut mem = Mem::host(&[]);
    mem.publish(1, &[service::WILDCARD_TABLE], (8080, 1, 80), CONTAINER.into());
    mem.from("0.0.0.0", ip4("127.0.0.1"), 8080);
    mem.publish(2, &[service::WILDCARD_TABLE], (8080, 1, 80), Ipv4Addr::new(172, 18, 0, 3).into());
    assert_eq!(original(&mem, COOKIE, TCP, Ip4::from(CONTAINER), Port::new(80)), None);
    assert!(mem.sockets.borrow().is_empty(), "the stale entry is gone");
}

#[test]
fn p41_n42_a_binding_to_an_address_is_met_there_alone() {
    let own = ["127.0.0.1", "127.0.0.2", "198.51.100.1", "198.51.100.2"];
    let mut mem = Mem::host(&own);
    let other = Ipv4Addr::new(172, 18, 0, 3);
    mem.publish(1, &[service::FIRST_OWN_TABLE + 1], (8080, 1, 80), CONTAINER.into());
    mem.publish(2, &[service::FIRST_OWN_TABLE + 2], (8080, 1, 80), other.into());
    let to = |ip| mem.from("0.0.0.0", ip4(ip), 8080);
    assert_eq!(to("127.0.0.2"), lead(CONTAINER.into(), 80, 1));
    assert_eq!(to("198.51.100.1"), lead(other.into(), 80, 2));
    for ip in ["127.0.0.1", "127.0.0.3", "198.51.100.2", "172.18.0.1", "0.0.0.0"] {
        assert_eq!(to(ip), Lead::Elsewhere, "{ip}");
    }
}

#[test]
fn a_socket_bound_to_loopback_or_a_device_is_left_to_the_proxy() {
    let mut mem = Mem::host(&[]);
    mem.publish(1, &[service::WILDCARD_TABLE], (8080, 1, 80), CONTAINER.into());
    assert_eq!(mem.from("127.0.0.1", ip4("127.0.0.1"), 8080), Lead::Elsewhere);
    assert_eq!(mem.from("127.9.9.9", ip4("198.51.100.1"), 8080), Lead::Elsewhere);
    assert_eq!(mem.from("198.51.100.1", ip4("127.0.0.1"), 8080), lead(CONTAINER.into(), 80, 1));
    let bound = Socket { cookie: COOKIE, proto: TCP, source: Ip4::UNSPECIFIED, device: 1 };
    assert_eq!(translate(&mem, &bound, ip4("127.0.0.1"), Port::new(8080)), Lead::Elsewhere);
    let shared = ip4("127.0.0.1").to_shared();
    assert_eq!(
        find_for_proxy(&mem, TCP, shared, Port::new(8080)),
        lead(Ip4::from(CONTAINER).to_shared(), 80, 1)
    );
}

#[test]
fn a_container_that_is_gone_is_said_to_be_down() {
    let mut mem = Mem::host(&[]);
    mem.publish(1, &[service::WILDCARD_TABLE], (8080, 1, 80), CONTAINER.into());
    mem.holders.insert((1, IpAddr::from(CONTAINER).into()), (1, 4));
    assert_eq!(mem.from("0.0.0.0", ip4("127.0.0.1"), 8080), Lead::Down);
    mem.holders.clear();
    assert_eq!(mem.from("0.0.0.0", ip4("127.0.0.1"), 8080), Lead::Down);
    assert!(mem.sockets.borrow().is_empty());
}

#[test]
fn moby_pm_015_ipv6_loopback_leads_to_ipv6_or_by_the_proxy_to_ipv4() {
    let mut mem = Mem::host(&[]);
    mem.publish(1, &[service::WILDCARD_TABLE], (8080, 1, 80), CONTAINER.into());
    assert_eq!(mem.from("::", Ip6::LOOPBACK, 8080), Lead::Elsewhere);
    let proxied = |mem: &Mem, ip| find_for_proxy(mem, TCP, ip6(ip), Port::new(8080));
    assert_eq!(proxied(&mem, "::1"), lead(Ip4::from(CONTAINER).to_shared(), 80, 1));
    assert_eq!(proxied(&mem, "2001:db8::1"), Lead::Elsewhere);
    // CNI-PM-005: a mapping that says 0.0.0.0 says IPv4.
    mem.rules.get_mut(&1).expect("the rule").flags = 0;
    assert_eq!(proxied(&mem, "::1"), Lead::Elsewhere);
    mem.publish(2, &[service::WILDCARD_TABLE6], (8080, 1, 80), CONTAINER6.into());
    for ip in ["::1", "::", "2001:db8::1"] {
        assert_eq!(mem.from("::", ip6(ip), 8080), lead(CONTAINER6.into(), 80, 2), "{ip}");
    }
    assert_eq!(mem.from("::1", Ip6::LOOPBACK, 8080), Lead::Elsewhere);
    assert_eq!(proxied(&mem, "::1"), lead(CONTAINER6.into(), 80, 2));
    // What is bound to one address of IPv4 is not behind ::1.
    mem.slots.clear();
    mem.publish(3, &[service::FIRST_OWN_TABLE], (8080, 1, 80), CONTAINER.into());
    assert_eq!(proxied(&mem, "::1"), Lead::Elsewhere);
}

#[test]
fn n4_only_this_hosts_own_packets_are_the_proxys() {
    let mem = Mem::host(&[]);
    let shared = |ip: &str| match ip.parse().expect("an address") {
        IpAddr::V4(ip) => Ip4::from(ip).to_shared(),
        IpAddr::V6(ip) => Ip6::from(ip),
    };
    let here = |lo, from, to| is_from_here(&mem, lo, shared(from), shared(to));
    assert!(here(true, "127.0.0.1", "127.0.0.1"));
    assert!(here(true, "::1", "::1"));
    // The kernel names the address's device, not the loopback device.
    assert!(here(false, "127.0.0.1", "198.51.100.1"));
    assert!(here(false, "198.51.100.1", "198.51.100.1"));
    assert!(here(false, "2001:db8::1", "2001:db8::1"));
    for to in ["127.0.0.1", "198.51.100.1"] {
        assert!(!here(false, "198.51.100.9", to), "{to}");
        assert!(!here(false, "198.51.100.255", to), "{to}");
    }
    assert!(!here(false, "127.0.0.1", "127.0.0.1"));
    assert!(!here(false, "198.51.100.1", "127.0.0.1"));
    assert!(!here(false, "2001:db8::9", "2001:db8::1"));
    assert!(!here(false, "2001:db8::1", "::1"));
}

#[test]
fn an_address_of_a_link_is_left_to_the_proxy() {
    let mut mem = Mem::host(&[]);
    mem.locals.insert(any("fe80::1"), Local { table: service::WILDCARD_TABLE6, flags: 0 });
    mem.publish(1, &[service::WILDCARD_TABLE6], (8080, 1, 80), CONTAINER6.into());
    assert_eq!(mem.from("::", ip6("fe80::1"), 8080), Lead::Elsewhere);
    assert_eq!(mem.from("fe80::1", ip6("2001:db8::1"), 8080), Lead::Elsewhere);
    assert_eq!(
        find_for_proxy(&mem, TCP, ip6("fe80::1"), Port::new(8080)),
        lead(CONTAINER6.into(), 80, 1)
    );
}

proptest! {
    #[test]
    fn whoever_is_led_is_told_what_was_asked_for(
        host in 1u16.., count in 1u16..50, port in 1u16.., at in 0u16..50, ip: [u8; 4], bound: [u8; 4],
        cookie: u64,
    ) {
        prop_assume!(u32::from(host) + u32::from(count) <= 65_536);
        prop_assume!(u32::from(port) + u32::from(count) <= 65_536);
        let mut mem = Mem::host(&[]);
        let asked = Ip4::new(ip);
        mem.locals.entry(asked.to_any()).or_insert(Local { table: 0, flags: 0 });
        mem.publish(1, &[service::WILDCARD_TABLE], (host, count, port), CONTAINER.into());
        let to = Port::new(host.wrapping_add(at));
        let socket = Socket { cookie, proto: TCP, source: Ip4::new(bound), device: 0 };
        match translate(&mem, &socket, asked, to) {
            Lead::To(backend) => {
                prop_assert!(at < count && !socket.source.is_loopback());
                prop_assert_eq!(backend.port.number(), port + at);
                let told = original(&mem, cookie, TCP, backend.address, backend.port);
                let meant = if asked == Ip4::UNSPECIFIED { Ip4::LOOPBACK } else { asked };
                prop_assert_eq!(told, Some((meant, to)));
                prop_assert_eq!(original(&mem, !cookie, TCP, backend.address, backend.port), None);
            }
            Lead::Elsewhere => prop_assert!(mem.sockets.borrow().is_empty()),
            Lead::Down => prop_assert!(false, "nobody is down"),
        }
    }
}
