//! Entry points of the eBPF programs. Plumbing only: every decision is in `bascule_common::datapath`.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod collect;
#[cfg(target_arch = "bpf")]
mod deny;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod parts;
#[cfg(target_arch = "bpf")]
mod reserve;
#[cfg(target_arch = "bpf")]
mod skb;
#[cfg(target_arch = "bpf")]
mod sockets;
#[cfg(target_arch = "bpf")]
mod tables;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        EbpfContext as _,
        bindings::{__sk_buff, TC_ACT_UNSPEC},
        macros::{cgroup_sock_addr, classifier, sk_lookup, xdp},
        programs::{SkLookupContext, SockAddrContext, TcContext, XdpContext},
    };
    use bascule_common::{
        io::Packet as _,
        wire::{L3, ethertype},
    };

    use crate::{collect, deny as denial, parts, reserve, skb::Skb, sockets};

    /// Everything a container sends: ingress of the host end of its veth.
    #[classifier]
    pub fn from_container(ctx: TcContext) -> i32 {
        let skb: *mut __sk_buff = ctx.as_ptr().cast();
        let end = match Skb::<L3>::new(skb).protocol() {
            ethertype::IPV4 => parts::from_container4(skb),
            ethertype::IPV6 => parts::from_container6(skb),
            _ => parts::from_container_other(skb),
        };
        if end == TC_ACT_UNSPEC { parts::handed(skb) } else { end }
    }

    /// What the host sends to a network without a bridge: egress of the device that holds the gateway's addresses.
    #[classifier]
    pub fn to_bridge(ctx: TcContext) -> i32 {
        let skb: *mut __sk_buff = ctx.as_ptr().cast();
        match Skb::<L3>::new(skb).protocol() {
            ethertype::IPV4 => parts::to_bridge4(skb),
            ethertype::IPV6 => parts::to_bridge6(skb),
            _ => parts::to_bridge_other(skb),
        }
    }

    /// What the server of names answers: ingress of the host end of its veth.
    #[classifier]
    pub fn from_names(ctx: TcContext) -> i32 {
        let skb: *mut __sk_buff = ctx.as_ptr().cast();
        match Skb::<L3>::new(skb).protocol() {
            ethertype::IPV4 => parts::from_names4(skb),
            ethertype::IPV6 => parts::from_names6(skb),
            _ => TC_ACT_UNSPEC,
        }
    }

    /// What the kernel itself sends to a container: egress of the host end of its veth.
    #[classifier]
    pub fn to_container(ctx: TcContext) -> i32 {
        let skb: *mut __sk_buff = ctx.as_ptr().cast();
        match Skb::<L3>::new(skb).protocol() {
            ethertype::IPV4 => parts::to_container4(skb),
            ethertype::IPV6 => parts::to_container6(skb),
            _ => parts::to_container_other(skb),
        }
    }

    /// What arrives from outside: ingress of an uplink.
    #[classifier]
    pub fn from_uplink(ctx: TcContext) -> i32 {
        let skb: *mut __sk_buff = ctx.as_ptr().cast();
        if let Some(action) = parts::denied::<L3>(skb) {
            return action;
        }
        match Skb::<L3>::new(skb).protocol() {
            ethertype::IPV4 => parts::from_uplink4(skb),
            ethertype::IPV6 => parts::from_uplink6(skb),
            _ => TC_ACT_UNSPEC,
        }
    }

    /// What leaves: egress of an uplink. What a walk sent there was judged; the rest the kernel forwarded, or is the host's.
    #[classifier]
    pub fn to_uplink(ctx: TcContext) -> i32 {
        let skb: *mut __sk_buff = ctx.as_ptr().cast();
        if Skb::<L3>::new(skb).take_sent() {
            return TC_ACT_UNSPEC;
        }
        match Skb::<L3>::new(skb).protocol() {
            ethertype::IPV4 => parts::to_uplink4(skb),
            ethertype::IPV6 => parts::to_uplink6(skb),
            _ => TC_ACT_UNSPEC,
        }
    }

    /// What arrives from outside by a device without Ethernet headers.
    #[classifier]
    pub fn from_uplink_l3(ctx: TcContext) -> i32 {
        let skb: *mut __sk_buff = ctx.as_ptr().cast();
        if let Some(action) = parts::denied::<0>(skb) {
            return action;
        }
        match Skb::<0>::new(skb).protocol() {
            ethertype::IPV4 => parts::from_bare_uplink4(skb),
            ethertype::IPV6 => parts::from_bare_uplink6(skb),
            _ => TC_ACT_UNSPEC,
        }
    }

    /// What the kernel forwarded out by a device without Ethernet headers.
    #[classifier]
    pub fn to_uplink_l3(ctx: TcContext) -> i32 {
        let skb: *mut __sk_buff = ctx.as_ptr().cast();
        if Skb::<0>::new(skb).take_sent() {
            return TC_ACT_UNSPEC;
        }
        match Skb::<0>::new(skb).protocol() {
            ethertype::IPV4 => parts::to_bare_uplink4(skb),
            ethertype::IPV6 => parts::to_bare_uplink6(skb),
            _ => TC_ACT_UNSPEC,
        }
    }

    /// Removes idle flows; run by the agent, attached nowhere.
    #[classifier]
    pub fn collect_flows4(_ctx: TcContext) -> i32 {
        collect::flows4();
        TC_ACT_UNSPEC
    }

    /// Drops what comes from a prefix of the deny list, before the kernel makes a packet of it.
    #[xdp(frags)]
    pub fn deny(ctx: XdpContext) -> u32 {
        denial::run(&ctx)
    }

    /// The same for IPv6.
    #[classifier]
    pub fn collect_flows6(_ctx: TcContext) -> i32 {
        collect::flows6();
        TC_ACT_UNSPEC
    }

    /// Published ports are taken.
    #[cgroup_sock_addr(bind4)]
    pub fn bind4(ctx: SockAddrContext) -> i32 {
        reserve::bind4(&ctx)
    }

    /// Published ports are taken, also by way of IPv6 sockets that accept IPv4.
    #[cgroup_sock_addr(bind6)]
    pub fn bind6(ctx: SockAddrContext) -> i32 {
        reserve::bind6(&ctx)
    }

    /// A process of the host asks for a published port.
    #[cgroup_sock_addr(connect4)]
    pub fn connect4(ctx: SockAddrContext) -> i32 {
        sockets::connect4(&ctx)
    }

    /// The same by IPv6.
    #[cgroup_sock_addr(connect6)]
    pub fn connect6(ctx: SockAddrContext) -> i32 {
        sockets::connect6(&ctx)
    }

    /// The same for a datagram of an unconnected socket.
    #[cgroup_sock_addr(sendmsg4)]
    pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
        sockets::sendmsg4(&ctx)
    }

    /// The same by IPv6.
    #[cgroup_sock_addr(sendmsg6)]
    pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
        sockets::sendmsg6(&ctx)
    }

    /// A datagram comes from where the process sent one to.
    #[cgroup_sock_addr(recvmsg4)]
    pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
        sockets::tell4(&ctx)
    }

    /// The same by IPv6.
    #[cgroup_sock_addr(recvmsg6)]
    pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
        sockets::tell6(&ctx)
    }

    /// The peer is whom the process asked for.
    #[cgroup_sock_addr(getpeername4)]
    pub fn getpeername4(ctx: SockAddrContext) -> i32 {
        sockets::tell4(&ctx)
    }

    /// The same by IPv6.
    #[cgroup_sock_addr(getpeername6)]
    pub fn getpeername6(ctx: SockAddrContext) -> i32 {
        sockets::tell6(&ctx)
    }

    /// What arrives by the loopback device at a published port is the proxy's.
    #[sk_lookup]
    pub fn to_proxy(ctx: SkLookupContext) -> u32 {
        sockets::to_proxy(&ctx)
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// Says to the kernel that the programs may call helpers reserved for GPL-compatible ones.
#[cfg(target_arch = "bpf")]
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing in this crate can panic: a call that reached this loop would not pass the verifier.
    loop {}
}
