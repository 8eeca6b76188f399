//! The reservation of published ports: processes of the host that bind one are answered `EADDRINUSE`.

use aya_ebpf::{
    EbpfContext as _, bindings::bpf_sock_addr, helpers::generated as bpf, programs::SockAddrContext,
};
use bascule_common::{
    abi::{Ip4, Ip6, Port},
    datapath::bind,
    wire::proto,
};

use crate::{
    maps,
    tables::{Maps, Stored},
};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const EADDRINUSE: i32 = 98;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;

/// `bind` of an IPv4 socket.
#[inline(always)]
pub fn bind4(ctx: &SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs, and user_ip4 may be read by bind4.
    let ip4 = unsafe { (*ctx.sock_addr).user_ip4 };
    judge(ctx, Ip4(ip4))
}

/// `bind` of an IPv6 socket: the wildcard takes IPv4 too. Whether a socket is for IPv6 alone
/// (`IPV6_V6ONLY`) cannot be read here (bpf_getsockopt refuses it, Linux 6.18): it is refused as well, as
/// Docker does, which holds the port on both wildcards.
#[inline(always)]
pub fn bind6(ctx: &SockAddrContext) -> i32 {
    // SAFETY: as above, for user_ip6; volatile, since the verifier wants 4-byte reads of this field.
    let words = unsafe {
        let field = &raw const (*ctx.sock_addr).user_ip6;
        let field = field.cast::<u32>();
        [
            field.read_volatile(),
            field.add(1).read_volatile(),
            field.add(2).read_volatile(),
            field.add(3).read_volatile(),
        ]
    };
    const MAPPED: u32 = 0xffff_u32.to_be();
    match words {
        [0, 0, 0, 0] if judge(ctx, Ip4::UNSPECIFIED) == REFUSE => REFUSE,
        [0, 0, MAPPED, ip4] => judge(ctx, Ip4(ip4)),
        _ => judge(ctx, Ip6(words)),
    }
}

#[inline(always)]
fn judge<A: Stored>(ctx: &SockAddrContext, address: A) -> i32 {
    let sock_addr: *mut bpf_sock_addr = ctx.sock_addr;
    // Every process of the kernel comes by here; the agent answers for its own namespace.
    let Some(config) = maps::CONFIG.get(0) else { return ALLOW };
    // SAFETY: the context is the running program's.
    if unsafe { bpf::bpf_get_netns_cookie(ctx.as_ptr()) } != config.netns_cookie {
        return ALLOW;
    }
    // SAFETY: fields that a bind program may read.
    let (kind, port) = unsafe { ((*sock_addr).type_, (*sock_addr).user_port) };
    let proto = match kind {
        SOCK_STREAM => proto::TCP,
        SOCK_DGRAM => proto::UDP,
        _ => return ALLOW,
    };
    // The field is 32 bits wide and holds the port, in network byte order, in its lower half.
    if !bind::is_published(&Maps, address, Port(port as u16), proto) {
        return ALLOW;
    }
    // SAFETY: a plain value; the kernel takes it for the system call's result (Linux 5.18).
    unsafe { bpf::bpf_set_retval(-EADDRINUSE) };
    REFUSE
}
