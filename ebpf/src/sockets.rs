//! Processes of the host that ask for a published port. Their sockets are led to the container, and told
//! afterwards what they had asked for.

use aya_ebpf::{
    bindings::{BPF_ANY, bpf_sk_lookup, bpf_sock_addr},
    helpers::generated as bpf,
    programs::{SkLookupContext, SockAddrContext},
};
use bascule_common::{
    abi::{
        Ip4, Ip6, Local, NeighbourKey4, NeighbourKey6, Port, Rule, SocketKey, SocketOrigin,
        names::map,
    },
    datapath::socket::{self, Backend, Host as _, Lead, Memory, Published, Socket},
    wire::proto,
};

use crate::{maps, tables::Maps};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// What a look-up of a socket answers: go on, with the socket that was assigned, if one was.
const PASS: u32 = 1;
/// Index of the loopback device, in every namespace.
const LOOPBACK_DEVICE: u32 = 1;

impl Published<Ip4> for Maps {
    #[inline(always)]
    fn local(&self, address: Ip4) -> Option<Local> {
        // SAFETY: copied at once; the memory stays valid until the program ends (RCU).
        unsafe { maps::LOCALS4.get(address) }.copied()
    }

    #[inline(always)]
    fn slot(&self, table: u32, slot: u32) -> u32 {
        maps::PORTS.get_value(table, &slot).map_or(0, |slot| slot.rule)
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Option<Rule> {
        maps::RULES.get(index).copied()
    }

    #[inline(always)]
    fn holder(&self, network: u32, address: Ip4) -> Option<(u32, u32)> {
        // SAFETY: copied at once, as above.
        let neighbour = unsafe { maps::NEIGHBOURS4.get(NeighbourKey4 { network, address }) }?;
        Some((neighbour.endpoint, neighbour.generation))
    }
}

impl Published<Ip6> for Maps {
    #[inline(always)]
    fn local(&self, address: Ip6) -> Option<Local> {
        // SAFETY: copied at once; the memory stays valid until the program ends (RCU).
        unsafe { maps::LOCALS6.get(address) }.copied()
    }

    #[inline(always)]
    fn slot(&self, table: u32, slot: u32) -> u32 {
        maps::PORTS.get_value(table, &slot).map_or(0, |slot| slot.rule)
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Option<Rule> {
        maps::RULES.get(index).copied()
    }

    #[inline(always)]
    fn holder(&self, network: u32, address: Ip6) -> Option<(u32, u32)> {
        // SAFETY: copied at once, as above.
        let neighbour = unsafe { maps::NEIGHBOURS6.get(NeighbourKey6 { network, address }) }?;
        Some((neighbour.endpoint, neighbour.generation))
    }
}

impl Memory for Maps {
    #[inline(always)]
    fn origin(&self, key: &SocketKey) -> Option<SocketOrigin> {
        // SAFETY: copied at once. A slot that is recycled meanwhile gives a mix, which leads nowhere.
        unsafe { maps::SOCKETS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember(&self, key: &SocketKey, origin: &SocketOrigin) {
        // Where the table refuses, the process is told the container's address: worse, and not wrong.
        let _ = maps::SOCKETS.insert(key, origin, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn forget(&self, key: &SocketKey) {
        // Absent is as good as removed.
        let _ = maps::SOCKETS.remove(key);
    }

    #[inline(always)]
    fn count_connection(&self, rule: u32) {
        if let Some(counters) = maps::RULE_STATS.get_ptr_mut(rule) {
            // SAFETY: this CPU's own slot, valid until the program ends.
            unsafe { (*counters).connections = (*counters).connections.wrapping_add(1) };
        }
    }
}

/// The fields of the context, read and written in words of 4 bytes one by one, as the verifier wants them.
#[derive(Clone, Copy)]
struct Context(*mut bpf_sock_addr);

/// Where a socket sends from.
#[derive(Clone, Copy)]
enum From {
    /// The address that it is bound to.
    Binding,
    /// The address of this datagram.
    Message,
}

impl Context {
    #[inline(always)]
    fn address4(self) -> Ip4 {
        // SAFETY: the context is valid while the program runs, and these programs may read the field.
        Ip4(unsafe { (&raw const (*self.0).user_ip4).read_volatile() })
    }

    #[inline(always)]
    fn address6(self) -> Ip6 {
        // SAFETY: as above.
        unsafe { words((&raw const (*self.0).user_ip6).cast()) }
    }

    #[inline(always)]
    fn port(self) -> Port {
        // SAFETY: as above. The port is in the lower half of the field, in network byte order.
        Port(unsafe { (&raw const (*self.0).user_port).read_volatile() } as u16)
    }

    #[inline(always)]
    fn set4(self, address: Ip4, port: Port) {
        // SAFETY: as above, for writing.
        unsafe { (&raw mut (*self.0).user_ip4).write_volatile(address.0) };
        self.set_port(port);
    }

    #[inline(always)]
    fn set6(self, address: Ip6, port: Port) {
        let [a, b, c, d] = address.0;
        // SAFETY: as above, for writing.
        unsafe {
            let field = (&raw mut (*self.0).user_ip6).cast::<u32>();
            field.write_volatile(a);
            field.add(1).write_volatile(b);
            field.add(2).write_volatile(c);
            field.add(3).write_volatile(d);
        }
        self.set_port(port);
    }

    #[inline(always)]
    fn set_port(self, port: Port) {
        // SAFETY: as above, for writing.
        unsafe { (&raw mut (*self.0).user_port).write_volatile(u32::from(port.0)) };
    }

    /// Protocol and cookie, where the socket is one that published ports concern. Every process of the kernel
    /// comes by here; the agent answers for its own namespace.
    #[inline(always)]
    fn concerns(self) -> Option<(u8, u64)> {
        let config = maps::CONFIG.get(0)?;
        // SAFETY: the context is the running program's.
        if unsafe { bpf::bpf_get_netns_cookie(self.0.cast()) } != config.netns_cookie {
            return None;
        }
        // SAFETY: as above.
        let (kind, protocol) = unsafe {
            (
                (&raw const (*self.0).type_).read_volatile(),
                (&raw const (*self.0).protocol).read_volatile(),
            )
        };
        let proto = socket::protocol(kind, protocol)?;
        // SAFETY: the context is the running program's.
        Some((proto, unsafe { bpf::bpf_get_socket_cookie(self.0.cast()) }))
    }

    /// The device that the socket is bound to, or 0.
    #[inline(always)]
    fn device(self) -> u32 {
        // SAFETY: the kernel gives a socket that lives as long as the program runs.
        unsafe {
            let sk = (*self.0).__bindgen_anon_1.sk;
            (&raw const (*sk).bound_dev_if).read_volatile()
        }
    }

    #[inline(always)]
    fn source4(self, from: From) -> Ip4 {
        // SAFETY: as above; sendmsg alone may read the message's source.
        Ip4(unsafe {
            match from {
                From::Binding => {
                    let sk = (*self.0).__bindgen_anon_1.sk;
                    (&raw const (*sk).src_ip4).read_volatile()
                }
                From::Message => (&raw const (*self.0).msg_src_ip4).read_volatile(),
            }
        })
    }

    #[inline(always)]
    fn source6(self, from: From) -> Ip6 {
        // SAFETY: as above.
        unsafe {
            match from {
                From::Binding => {
                    let sk = (*self.0).__bindgen_anon_1.sk;
                    words((&raw const (*sk).src_ip6).cast())
                }
                From::Message => words((&raw const (*self.0).msg_src_ip6).cast()),
            }
        }
    }
}

/// # Safety
/// Four words of the context must be there.
#[inline(always)]
unsafe fn words(field: *const u32) -> Ip6 {
    // SAFETY: the caller's promise.
    unsafe {
        Ip6([
            field.read_volatile(),
            field.add(1).read_volatile(),
            field.add(2).read_volatile(),
            field.add(3).read_volatile(),
        ])
    }
}

#[inline(always)]
fn refuse() -> i32 {
    // SAFETY: a plain value; the kernel takes it for the system call's result (Linux 5.18).
    unsafe { bpf::bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

/// `connect` of an IPv4 socket.
#[inline(always)]
pub fn connect4(ctx: &SockAddrContext) -> i32 {
    ask4(Context(ctx.sock_addr), From::Binding)
}

/// `sendmsg` of an unconnected IPv4 socket, or of an IPv6 one to an IPv4 address.
#[inline(always)]
pub fn sendmsg4(ctx: &SockAddrContext) -> i32 {
    ask4(Context(ctx.sock_addr), From::Message)
}

/// `connect` of an IPv6 socket, perhaps to an IPv4 address.
#[inline(always)]
pub fn connect6(ctx: &SockAddrContext) -> i32 {
    let context = Context(ctx.sock_addr);
    match Ip4::from_shared(context.address6()) {
        Some(address) => mapped(context, address),
        None => ask6(context, From::Binding),
    }
}

/// `sendmsg` of an unconnected IPv6 socket. (IPv4 addresses come by `sendmsg4`.)
#[inline(always)]
pub fn sendmsg6(ctx: &SockAddrContext) -> i32 {
    ask6(Context(ctx.sock_addr), From::Message)
}

#[inline(always)]
fn ask4(context: Context, from: From) -> i32 {
    let Some((proto, cookie)) = context.concerns() else { return ALLOW };
    let socket = Socket { cookie, proto, source: context.source4(from), device: context.device() };
    match socket::translate(&Maps, &socket, context.address4(), context.port()) {
        Lead::Elsewhere => ALLOW,
        Lead::Down => refuse(),
        Lead::To(Backend { address, port, .. }) => {
            context.set4(address, port);
            ALLOW
        }
    }
}

#[inline(always)]
fn ask6(context: Context, from: From) -> i32 {
    let Some((proto, cookie)) = context.concerns() else { return ALLOW };
    let socket = Socket { cookie, proto, source: context.source6(from), device: context.device() };
    match socket::translate(&Maps, &socket, context.address6(), context.port()) {
        Lead::Elsewhere => ALLOW,
        Lead::Down => refuse(),
        Lead::To(Backend { address, port, .. }) => {
            context.set6(address, port);
            ALLOW
        }
    }
}

/// An IPv6 socket that connects to an IPv4 address.
#[inline(always)]
fn mapped(context: Context, address: Ip4) -> i32 {
    let Some((proto, cookie)) = context.concerns() else { return ALLOW };
    // Bound to an IPv6 address it cannot go there, as the kernel will tell it.
    let bound = context.source6(From::Binding);
    let source = match Ip4::from_shared(bound) {
        Some(source) => source,
        None if bound == Ip6::UNSPECIFIED => Ip4::UNSPECIFIED,
        None => return ALLOW,
    };
    let socket = Socket { cookie, proto, source, device: context.device() };
    match socket::translate(&Maps, &socket, address, context.port()) {
        Lead::Elsewhere => ALLOW,
        Lead::Down => refuse(),
        Lead::To(Backend { address, port, .. }) => {
            context.set6(address.to_shared(), port);
            ALLOW
        }
    }
}

/// `recvmsg` and `getpeername` of an IPv4 socket.
#[inline(always)]
pub fn tell4(ctx: &SockAddrContext) -> i32 {
    let context = Context(ctx.sock_addr);
    let Some((proto, cookie)) = context.concerns() else { return ALLOW };
    let told = socket::original(&Maps, cookie, proto, context.address4(), context.port());
    if let Some((address, port)) = told {
        context.set4(address, port);
    }
    ALLOW
}

/// `recvmsg` and `getpeername` of an IPv6 socket, whose peer may have an IPv4 address.
#[inline(always)]
pub fn tell6(ctx: &SockAddrContext) -> i32 {
    let context = Context(ctx.sock_addr);
    let Some((proto, cookie)) = context.concerns() else { return ALLOW };
    let (address, port) = (context.address6(), context.port());
    let told = match Ip4::from_shared(address) {
        Some(address) => socket::original(&Maps, cookie, proto, address, port)
            .map(|(address, port)| (address.to_shared(), port)),
        None => socket::original(&Maps, cookie, proto, address, port),
    };
    if let Some((address, port)) = told {
        context.set6(address, port);
    }
    ALLOW
}

/// What this host sends to a published port of its own, untranslated: sockets that could not be translated.
#[inline(always)]
pub fn to_proxy(ctx: &SkLookupContext) -> u32 {
    let lookup: *mut bpf_sk_lookup = ctx.lookup;
    // All fields first: between branches the compiler would compute their addresses, and the verifier wants
    // constant offsets.
    // SAFETY: the context is valid while the program runs; words of 4 bytes, as the verifier wants them.
    let (device, family, protocol, port, local4, local6, remote4, remote6) = unsafe {
        (
            (&raw const (*lookup).ingress_ifindex).read_volatile(),
            (&raw const (*lookup).family).read_volatile(),
            (&raw const (*lookup).protocol).read_volatile(),
            (&raw const (*lookup).local_port).read_volatile(),
            (&raw const (*lookup).local_ip4).read_volatile(),
            words((&raw const (*lookup).local_ip6).cast()),
            (&raw const (*lookup).remote_ip4).read_volatile(),
            words((&raw const (*lookup).remote_ip6).cast()),
        )
    };
    let (to, from, tcp, udp) = match family {
        AF_INET => {
            (Ip4(local4).to_shared(), Ip4(remote4).to_shared(), map::PROXY_TCP4, map::PROXY_UDP4)
        }
        AF_INET6 => (local6, remote6, map::PROXY_TCP6, map::PROXY_UDP6),
        _ => return PASS,
    };
    if !socket::is_from_here(&Maps, device == LOOPBACK_DEVICE, from, to) {
        return PASS;
    }
    let (proto, slot) = match protocol {
        6 => (proto::TCP, tcp),
        17 => (proto::UDP, udp),
        _ => return PASS,
    };
    // Host byte order, unlike every other port.
    let port = Port::new(port as u16);
    if let Lead::To(_) = socket::find_for_proxy(&Maps, proto, to, port) {
        // Without the agent there is no socket, and the client is refused.
        let _ = maps::PROXIES.redirect_sk_lookup(ctx, slot, 0);
    }
    PASS
}
