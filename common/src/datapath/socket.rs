//! Processes of the host that ask for a published port: which container answers, and what the process is
//! told about it afterwards. Sockets are translated, not packets: what then travels is an ordinary
//! connection of the host to the container.
//!
//! A socket that is bound to a loopback address or to a device is left alone, because the kernel would find
//! no route for it: its packets stay on the host, where the agent's proxy answers.

use crate::{
    abi::{Address, Ip4, Ip6, Local, Port, Rule, SocketKey, SocketOrigin, service},
    wire::proto,
};

/// The first words of `::ffff:0:0/96`, IPv4 addresses in the clothes of IPv6.
const MAPPED: u32 = 0xffff_u32.to_be();

/// An address that a socket can have.
pub trait Host: Address {
    /// What a connection to the unspecified address means.
    const LOOPBACK: Self;
    /// The table of ports published on every address of the family.
    const WILDCARD: u32;
    /// What [`Rule::flags`] says of the family.
    const FAMILY: u8;
    /// Whether the address means another host on every link.
    fn is_of_a_link(self) -> bool;
    /// The address in the form that both families share.
    fn to_shared(self) -> Ip6;
    /// The address of a shared form, where it is of this family.
    fn from_shared(shared: Ip6) -> Option<Self>;
}

impl Host for Ip4 {
    const LOOPBACK: Self = Self::new([127, 0, 0, 1]);
    const WILDCARD: u32 = service::WILDCARD_TABLE;
    const FAMILY: u8 = 0;

    #[inline(always)]
    fn is_of_a_link(self) -> bool {
        false
    }

    #[inline(always)]
    fn to_shared(self) -> Ip6 {
        Ip6([0, 0, MAPPED, self.0])
    }

    #[inline(always)]
    fn from_shared(shared: Ip6) -> Option<Self> {
        match shared.0 {
            [0, 0, MAPPED, address] => Some(Self(address)),
            _ => None,
        }
    }
}

impl Host for Ip6 {
    const LOOPBACK: Self = Self::LOOPBACK;
    const WILDCARD: u32 = service::WILDCARD_TABLE6;
    const FAMILY: u8 = Rule::IPV6;

    #[inline(always)]
    fn is_of_a_link(self) -> bool {
        self.is_link_local()
    }

    #[inline(always)]
    fn to_shared(self) -> Ip6 {
        self
    }

    #[inline(always)]
    fn from_shared(shared: Ip6) -> Option<Self> {
        if Ip4::from_shared(shared).is_some() { None } else { Some(shared) }
    }
}

/// The maps that say where a published port leads.
pub trait Published<A> {
    /// An address of the host.
    fn local(&self, address: A) -> Option<Local>;
    /// The rule in a slot of a port table, or 0.
    fn slot(&self, table: u32, slot: u32) -> u32;
    /// A rule.
    fn rule(&self, index: u32) -> Option<Rule>;
    /// Index and generation of the endpoint that has an address of a network.
    fn holder(&self, network: u32, address: A) -> Option<(u32, u32)>;
}

/// What is remembered of sockets.
pub trait Memory {
    /// What a process had asked for.
    fn origin(&self, key: &SocketKey) -> Option<SocketOrigin>;
    /// Remembers it.
    fn remember(&self, key: &SocketKey, origin: &SocketOrigin);
    /// Forgets it.
    fn forget(&self, key: &SocketKey);
    /// Counts a new connection of a published rule.
    fn count_connection(&self, rule: u32);
}

/// A container's side of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend<A> {
    /// The container's address.
    pub address: A,
    /// The container's port.
    pub port: Port,
    /// Index of the rule.
    pub rule: u32,
}

/// Where a destination leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead<A> {
    /// It is not published: nothing of ours.
    Elsewhere,
    /// It is published, and the container is gone or not there yet.
    Down,
    /// To a container.
    To(Backend<A>),
}

/// A socket that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket<A> {
    /// Its cookie.
    pub cookie: u64,
    /// IP protocol number.
    pub proto: u8,
    /// The address that it is bound to, or that it sends this datagram from.
    pub source: A,
    /// The device that it is bound to, or 0.
    pub device: u32,
}

/// Where a port of an address of the host leads. An address of 127.0.0.0/8 that no binding names, and `::1`,
/// stand for every address.
#[inline(always)]
pub fn find<A: Host, T: Published<A>>(tables: &T, proto: u8, address: A, port: Port) -> Lead<A> {
    let address = if address == A::UNSPECIFIED { A::LOOPBACK } else { address };
    let table = match tables.local(address) {
        Some(local) if local.flags & Local::BROADCAST != 0 => return Lead::Elsewhere,
        Some(local) if local.table != 0 => local.table,
        Some(_) => A::WILDCARD,
        None if address.is_loopback() => A::WILDCARD,
        None => return Lead::Elsewhere,
    };
    find_in(tables, table, proto, port)
}

#[inline(always)]
fn find_in<A: Host, T: Published<A>>(tables: &T, table: u32, proto: u8, port: Port) -> Lead<A> {
    let Some(slot) = service::slot(proto, port) else { return Lead::Elsewhere };
    let index = tables.slot(table, slot);
    if index == 0 {
        return Lead::Elsewhere;
    }
    let Some(rule) = tables.rule(index) else { return Lead::Elsewhere };
    if rule.proto != proto || rule.flags & Rule::IPV6 != A::FAMILY || !rule.covers(port) {
        return Lead::Elsewhere;
    }
    let address = A::from_any(rule.address);
    if tables.holder(rule.network, address) != Some((rule.endpoint, rule.generation)) {
        return Lead::Down;
    }
    Lead::To(Backend { address, port: rule.container_port(port), rule: index })
}

/// Leads a socket that connects, or a datagram of an unconnected one, and remembers what was asked for.
#[inline(always)]
pub fn translate<A: Host, T: Published<A> + Memory>(
    tables: &T,
    socket: &Socket<A>,
    address: A,
    port: Port,
) -> Lead<A> {
    if socket.device != 0 || socket.source.is_loopback() {
        return Lead::Elsewhere;
    }
    // Which link is meant cannot be read here: `fe80::1` is this host's on one, and its router's on another.
    if address.is_of_a_link() || socket.source.is_of_a_link() {
        return Lead::Elsewhere;
    }
    let lead = find(tables, socket.proto, address, port);
    if let Lead::To(backend) = lead {
        let asked = if address == A::UNSPECIFIED { A::LOOPBACK } else { address };
        let key = key(socket.cookie, backend.address, backend.port);
        let origin = SocketOrigin { address: asked.to_shared(), port, pad: 0 };
        if tables.origin(&key) != Some(origin) {
            tables.remember(&key, &origin);
            tables.count_connection(backend.rule);
        }
    }
    lead
}

/// What a socket had asked for when it was led to this address and port, as long as that still leads there.
#[inline(always)]
pub fn original<A: Host, T: Published<A> + Memory>(
    tables: &T,
    cookie: u64,
    proto: u8,
    address: A,
    port: Port,
) -> Option<(A, Port)> {
    let key = key(cookie, address, port);
    let origin = tables.origin(&key)?;
    let asked = A::from_shared(origin.address)?;
    match find(tables, proto, asked, origin.port) {
        Lead::To(backend) if backend.address == address && backend.port == port => {
            Some((asked, origin.port))
        }
        // The port was given to another container, or to none: what comes from there is itself again.
        _ => {
            tables.forget(&key);
            None
        }
    }
}

#[inline(always)]
fn key<A: Host>(cookie: u64, address: A, port: Port) -> SocketKey {
    SocketKey { cookie, address: address.to_shared(), port, ..SocketKey::default() }
}

/// Whether a packet that a socket is looked up for was sent by this host: it came by the loopback device
/// (where nothing else is addressed to a loopback address, whatever `route_localnet` allows on others), or
/// from an address of the host, which the kernel takes from nobody else.
#[inline(always)]
pub fn is_from_here<T: Published<Ip4> + Published<Ip6>>(
    tables: &T,
    loopback_device: bool,
    source: Ip6,
    destination: Ip6,
) -> bool {
    if loopback_device {
        return true;
    }
    match (Ip4::from_shared(source), Ip4::from_shared(destination)) {
        (Some(source), Some(destination)) => {
            !destination.is_loopback() && is_own::<Ip4, T>(tables, source)
        }
        _ => destination != Ip6::LOOPBACK && is_own::<Ip6, T>(tables, source),
    }
}

#[inline(always)]
fn is_own<A: Host, T: Published<A>>(tables: &T, address: A) -> bool {
    let held = |local: Local| local.flags & Local::BROADCAST == 0;
    address.is_loopback() || tables.local(address).is_some_and(held)
}

/// Where the proxy leads what this host sends to itself, for an address in the shared form. `::1` also
/// stands for containers without IPv6: the family of a socket cannot be translated, a proxy can.
#[inline(always)]
pub fn find_for_proxy<T: Published<Ip4> + Published<Ip6>>(
    tables: &T,
    proto: u8,
    address: Ip6,
    port: Port,
) -> Lead<Ip6> {
    if let Some(address) = Ip4::from_shared(address) {
        return shared(find(tables, proto, address, port));
    }
    match find::<Ip6, T>(tables, proto, address, port) {
        Lead::Elsewhere if address == Ip6::LOOPBACK => {
            match find_in::<Ip4, T>(tables, Ip4::WILDCARD, proto, port) {
                Lead::To(backend) if !is_everywhere(tables, backend.rule) => Lead::Elsewhere,
                lead => shared(lead),
            }
        }
        lead => lead,
    }
}

/// Whether a rule is of a mapping that names no address: `0.0.0.0:8080:80` is for IPv4 alone.
#[inline(always)]
fn is_everywhere<T: Published<Ip4>>(tables: &T, rule: u32) -> bool {
    tables.rule(rule).is_some_and(|rule| rule.flags & Rule::EVERYWHERE != 0)
}

#[inline(always)]
fn shared(lead: Lead<Ip4>) -> Lead<Ip6> {
    match lead {
        Lead::Elsewhere => Lead::Elsewhere,
        Lead::Down => Lead::Down,
        Lead::To(Backend { address, port, rule }) => {
            Lead::To(Backend { address: address.to_shared(), port, rule })
        }
    }
}

/// The protocol of a socket of this kind, if its ports can be published. (`SOCK_STREAM` is SCTP's and MPTCP's
/// too, `SOCK_DGRAM` that of unprivileged echo requests.)
#[inline(always)]
pub const fn protocol(kind: u32, protocol: u32) -> Option<u8> {
    const STREAM: u32 = 1;
    const DATAGRAM: u32 = 2;
    const TCP: u32 = proto::TCP as u32;
    const UDP: u32 = proto::UDP as u32;
    match (kind, protocol) {
        (STREAM, TCP) => Some(proto::TCP),
        (DATAGRAM, UDP) => Some(proto::UDP),
        _ => None,
    }
}
