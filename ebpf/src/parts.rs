//! The parts of the walks as functions of their own, each of which the verifier looks at once.
//!
//! They are global functions to it (symbols that are exported, with a context and numbers for arguments and a
//! number for a result): what it knows in one part does not multiply what it has to look at in the next.

use aya_ebpf::bindings::__sk_buff;
use bascule_common::{
    abi::{Direction, DropReason, Ip4, Ip6, event, watch},
    datapath::{
        End as _, Verdict, Went, conntrack, deny, family, from_container, from_uplink, icmp,
        in_parts, names, rewrite, short, to_container, to_uplink, unbridged, v6, watched,
    },
    io::Tables,
    wire::L3,
};

use crate::{
    emit::{self, Code, code, finish, refuse},
    skb::{Helped, Host, Skb},
    tables::{Maps, Stored},
};

/// Defines parts: name, family, offset of the IP header, and what runs.
macro_rules! parts {
    ($($name:ident<$family:ty, $network:tt>($skb:ident, $host:ident $(, $number:ident)?) $body:expr;)+) => {$(
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut __sk_buff $(, $number: u32)?) -> i32 {
                let $host = &Host::new(context);
            let $skb = &mut Skb::<{ $network }>::new(context);
            let end = $body;
            code::<$family, { $network }>($skb, end)
        }
    )+};
}

parts! {
    container_short4<Ip4, L3>(skb, host) short::from_container::<Ip4, _, _, _>(skb, &Maps, host);
    container_short6<Ip6, L3>(skb, host) short::from_container::<Ip6, _, _, _>(skb, &Maps, host);
    uplink_short4<Ip4, L3>(skb, host) short::from_uplink::<Ip4, _, _, _>(skb, &Maps, host);
    uplink_short6<Ip6, L3>(skb, host) short::from_uplink::<Ip6, _, _, _>(skb, &Maps, host);
    keep4<Ip4, L3>(skb, _host) short::keep::<Ip4, _, _>(skb, &Maps);
    keep6<Ip6, L3>(skb, _host) short::keep::<Ip6, _, _>(skb, &Maps);
    restarted4<Ip4, L3>(skb, _host) short::restarted::<Ip4, _, _>(skb, &Maps);
    restarted6<Ip6, L3>(skb, _host) short::restarted::<Ip6, _, _>(skb, &Maps);
    bare_restarted4<Ip4, 0>(skb, _host) short::restarted::<Ip4, _, _>(skb, &Maps);
    bare_restarted6<Ip6, 0>(skb, _host) short::restarted::<Ip6, _, _>(skb, &Maps);
    count4<Ip4, L3>(skb, _host) watched::count::<Ip4, _, _>(skb, &Maps);
    count6<Ip6, L3>(skb, _host) watched::count::<Ip6, _, _>(skb, &Maps);
    container_known4<Ip4, L3>(skb, host, told) from_container::known::<Ip4, _, _, _>(skb, &Maps, host, told.into());
    container_first4<Ip4, L3>(skb, host) from_container::first::<Ip4, _, _, _>(skb, &Maps, host);
    container_error4<Ip4, L3>(skb, _host) from_container::error::<Ip4, _, _>(skb, &Maps);
    container_answer4<Ip4, L3>(skb, _host, mtu) from_container::answered::<Ip4, _, _>(skb, &Maps, &about(mtu));
    container_known6<Ip6, L3>(skb, host, told) from_container::known::<Ip6, _, _, _>(skb, &Maps, host, told.into());
    container_first6<Ip6, L3>(skb, host) from_container::first::<Ip6, _, _, _>(skb, &Maps, host);
    container_error6<Ip6, L3>(skb, _host) from_container::error::<Ip6, _, _>(skb, &Maps);
    container_answer6<Ip6, L3>(skb, _host, mtu) from_container::answered::<Ip6, _, _>(skb, &Maps, &about(mtu));
    refresh4<Ip4, L3>(skb, host) conntrack::refresh::<Ip4, _, _, _>(skb, &Maps, host);
    refresh6<Ip6, L3>(skb, host) conntrack::refresh::<Ip6, _, _, _>(skb, &Maps, host);
    bare_refresh4<Ip4, 0>(skb, host) conntrack::refresh::<Ip4, _, _, _>(skb, &Maps, host);
    bare_refresh6<Ip6, 0>(skb, host) conntrack::refresh::<Ip6, _, _, _>(skb, &Maps, host);
    container_requoted4<Ip4, L3>(skb, _host) from_container::requoted::<Ip4, _, _>(skb, &Maps);
    container_requoted6<Ip6, L3>(skb, _host) from_container::requoted::<Ip6, _, _>(skb, &Maps);
    requoted4<Ip4, L3>(skb, _host) icmp::requoted::<Ip4, _, _>(skb, &Maps);
    requoted6<Ip6, L3>(skb, _host) icmp::requoted::<Ip6, _, _>(skb, &Maps);
    bare_requoted4<Ip4, 0>(skb, _host) icmp::requoted::<Ip4, _, _>(skb, &Maps);
    bare_requoted6<Ip6, 0>(skb, _host) icmp::requoted::<Ip6, _, _>(skb, &Maps);
    container_other<Ip4, L3>(skb, _host) from_container::other(skb, &Maps);
    container_handed<Ip4, L3>(skb, _host) unbridged::handed(skb, &Maps);
    led4<Ip4, L3>(skb, _host) unbridged::led::<Ip4, _, _>(skb, &Maps);
    led6<Ip6, L3>(skb, _host) unbridged::led::<Ip6, _, _>(skb, &Maps);
    named4<Ip4, L3>(skb, _host) names::answer::<Ip4, _, _>(skb, &Maps);
    named6<Ip6, L3>(skb, _host) names::answer::<Ip6, _, _>(skb, &Maps);
    received4<Ip4, L3>(skb, _host) to_container::judged::<Ip4, _, _>(skb, &Maps);
    received6<Ip6, L3>(skb, _host) to_container::judged::<Ip6, _, _>(skb, &Maps);
    received_other<Ip4, L3>(skb, _host) to_container::other(skb, &Maps);
    uplink_known4<Ip4, L3>(skb, host, told) from_uplink::known::<Ip4, _, _, _>(skb, &Maps, host, told.into());
    uplink_first4<Ip4, L3>(skb, host) from_uplink::first::<Ip4, _, _, _>(skb, &Maps, host);
    uplink_error4<Ip4, L3>(skb, _host) from_uplink::error::<Ip4, _, _>(skb, &Maps);
    uplink_answer4<Ip4, L3>(skb, _host, mtu) from_uplink::answered::<Ip4, _, _>(skb, &Maps, &about(mtu));
    uplink_known6<Ip6, L3>(skb, host, told) from_uplink::known::<Ip6, _, _, _>(skb, &Maps, host, told.into());
    uplink_first6<Ip6, L3>(skb, host) from_uplink::first::<Ip6, _, _, _>(skb, &Maps, host);
    uplink_error6<Ip6, L3>(skb, _host) from_uplink::error::<Ip6, _, _>(skb, &Maps);
    uplink_answer6<Ip6, L3>(skb, _host, mtu) from_uplink::answered::<Ip6, _, _>(skb, &Maps, &about(mtu));
    bare_known4<Ip4, 0>(skb, host, told) from_uplink::known::<Ip4, _, _, _>(skb, &Maps, host, told.into());
    bare_first4<Ip4, 0>(skb, host) from_uplink::first::<Ip4, _, _, _>(skb, &Maps, host);
    bare_error4<Ip4, 0>(skb, _host) from_uplink::error::<Ip4, _, _>(skb, &Maps);
    bare_answer4<Ip4, 0>(skb, _host, mtu) from_uplink::answered::<Ip4, _, _>(skb, &Maps, &about(mtu));
    bare_known6<Ip6, 0>(skb, host, told) from_uplink::known::<Ip6, _, _, _>(skb, &Maps, host, told.into());
    bare_first6<Ip6, 0>(skb, host) from_uplink::first::<Ip6, _, _, _>(skb, &Maps, host);
    bare_error6<Ip6, 0>(skb, _host) from_uplink::error::<Ip6, _, _>(skb, &Maps);
    bare_answer6<Ip6, 0>(skb, _host, mtu) from_uplink::answered::<Ip6, _, _>(skb, &Maps, &about(mtu));
    leaving_known4<Ip4, L3>(skb, host, told) to_uplink::known::<Ip4, _, _, _>(skb, &Maps, host, told.into());
    leaving_first4<Ip4, L3>(skb, host) to_uplink::first::<Ip4, _, _, _>(skb, &Maps, host);
    leaving_error4<Ip4, L3>(skb, _host) to_uplink::error::<Ip4, _, _>(skb, &Maps);
    leaving_known6<Ip6, L3>(skb, host, told) to_uplink::known::<Ip6, _, _, _>(skb, &Maps, host, told.into());
    leaving_first6<Ip6, L3>(skb, host) to_uplink::first::<Ip6, _, _, _>(skb, &Maps, host);
    leaving_error6<Ip6, L3>(skb, _host) to_uplink::error::<Ip6, _, _>(skb, &Maps);
    leaving_bare_known4<Ip4, 0>(skb, host, told) to_uplink::known::<Ip4, _, _, _>(skb, &Maps, host, told.into());
    leaving_bare_first4<Ip4, 0>(skb, host) to_uplink::first::<Ip4, _, _, _>(skb, &Maps, host);
    leaving_bare_error4<Ip4, 0>(skb, _host) to_uplink::error::<Ip4, _, _>(skb, &Maps);
    leaving_bare_known6<Ip6, 0>(skb, host, told) to_uplink::known::<Ip6, _, _, _>(skb, &Maps, host, told.into());
    leaving_bare_first6<Ip6, 0>(skb, host) to_uplink::first::<Ip6, _, _, _>(skb, &Maps, host);
    leaving_bare_error6<Ip6, 0>(skb, _host) to_uplink::error::<Ip6, _, _>(skb, &Maps);
}

/// What an answer is about: the MTU that was exceeded, or 0 for the time to live.
#[inline(always)]
fn about(mtu: u32) -> Verdict {
    if mtu == 0 { Verdict::EXPIRED } else { Verdict::too_big(mtu) }
}

/// Follows IPv6 extension headers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn extensions(context: *mut __sk_buff, at: u32, next: u32) -> u64 {
    // The offset alone matters, and it counts from the frame's start either way.
    v6::follow(&Skb::<L3>::new(context), at, next as u8).0
}

/// Lowers the segment size of a SYN.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn clamp4(context: *mut __sk_buff, mtu: u32) -> i32 {
    clamp::<Ip4>(context, mtu)
}

/// Lowers the segment size of a SYN.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn clamp6(context: *mut __sk_buff, mtu: u32) -> i32 {
    clamp::<Ip6>(context, mtu)
}

#[inline(always)]
fn clamp<A: family::Family>(context: *mut __sk_buff, mtu: u32) -> i32 {
    // Whatever is redirected has an Ethernet header by now.
    let skb = &mut Skb::<L3>::new(context);
    if let Ok(view) = family::view::<A, _>(skb) {
        rewrite::clamp_segment_size(skb, &view, mtu);
    }
    0
}

/// Tells of a packet, if it is chosen: `what` became of it, `direction` is the program's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell4(context: *mut __sk_buff, what: u32, direction: u32) -> i32 {
    tell::<Ip4>(context, what, direction)
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell6(context: *mut __sk_buff, what: u32, direction: u32) -> i32 {
    tell::<Ip6>(context, what, direction)
}

#[inline(always)]
fn tell<A: Stored + Helped>(context: *mut __sk_buff, what: u32, direction: u32) -> i32 {
    // Whatever goes on has an Ethernet header by now.
    let skb = &Skb::<L3>::new(context);
    if watched::is_told::<A, _, _, _>(skb, &Maps, &Host::new(context)) {
        emit::tell(skb, what as u8, direction as u8);
    }
    0
}

/// Lets those who watch see a packet at the end of its walk: `anywhere`, or only if it does not go to the kernel.
#[inline(always)]
fn seen(
    context: *mut __sk_buff,
    end: Code,
    anywhere: bool,
    direction: Direction,
    count: extern "C" fn(*mut __sk_buff) -> i32,
    tell: extern "C" fn(*mut __sk_buff, u32, u32) -> i32,
) {
    let watched = Tables::<Ip4>::watched(&Maps);
    if watched == 0 {
        return;
    }
    let what = match end.went() {
        Some(Went::On) => event::SENT_ON,
        Some(Went::ToKernel) if anywhere => event::TO_KERNEL,
        _ => return,
    };
    if watched & watch::CONNECTIONS != 0 {
        count(context);
    }
    if watched & watch::PACKETS != 0 {
        tell(context, what.into(), direction as u32);
    }
}

/// Defines walks over parts.
macro_rules! walks {
    ($($(#[$doc:meta])* $name:ident<$network:tt, $direction:ident>: $([$short:ident])? $known:ident $($refresh:ident $keep:ident $first:ident $requoted:ident $error:ident)?, $($answer:ident)?, $($clamp:ident)? $(, $anywhere:literal $count:ident $tell:ident)?;)+) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(context: *mut __sk_buff) -> i32 {
            let _seen = |_end: Code| {
                $(seen(context, _end, $anywhere, Direction::$direction, $count, $tell))?
            };
            let end = walks!(@parts context _seen [$($short)?] $known $($refresh $keep $first $requoted $error)?);
            let skb = Skb::<{ $network }>::new(context);
            finish(
                &skb,
                Direction::$direction,
                end,
                |_verdict| walks!(@answer context _verdict $($answer)?),
                |_mtu| walks!(@clamp context _mtu $($clamp)?),
            )
        }
    )+};
    (@parts $context:ident $seen:ident [] $known:ident) => {{
        let end = Code($known($context));
        $seen(end);
        end
    }};
    (@parts $context:ident $seen:ident [$($short:ident)?] $known:ident $refresh:ident $keep:ident $first:ident $requoted:ident $error:ident) => {
        in_parts(
            &mut { $context },
            |_context| walks!(@short _context $($short)?),
            |context, told| Code($known(*context, told.into())),
            |context| {
                let end = Code($refresh(*context));
                $keep(*context);
                end
            },
            |context| Code($first(*context)),
            |context| Code($requoted(*context)),
            |context| Code($error(*context)),
            |_, end| $seen(*end),
        )
    };
    (@short $context:ident) => { Code::WHOLE };
    (@short $context:ident $short:ident) => { Code($short(*$context)) };
    (@answer $context:ident $verdict:ident) => { Code::LOST };
    (@answer $context:ident $verdict:ident $answer:ident) => { Code($answer($context, $verdict.ifindex)) };
    (@clamp $context:ident $mtu:ident) => { () };
    (@clamp $context:ident $mtu:ident $clamp:ident) => { { $clamp($context, $mtu); } };
}

walks! {
    /// IPv4 from a container.
    from_container4<L3, Out>: [container_short4] container_known4 refresh4 keep4 container_first4 container_requoted4 container_error4, container_answer4, clamp4, true count4 tell4;
    /// IPv6 from a container.
    from_container6<L3, Out>: [container_short6] container_known6 refresh6 keep6 container_first6 container_requoted6 container_error6, container_answer6, clamp6, true count6 tell6;
    /// Anything else from a container.
    from_container_other<L3, Out>: container_other, , ;
    /// What a container's walk left to the kernel.
    handed<L3, Out>: container_handed, , ;
    /// IPv4 from the host to a network without a bridge.
    to_bridge4<L3, In>: led4, , , true count4 tell4;
    /// IPv6 from the host to a network without a bridge.
    to_bridge6<L3, In>: led6, , , true count6 tell6;
    /// IPv4 from the server of names.
    from_names4<L3, In>: named4, , , true count4 tell4;
    /// IPv6 from the server of names.
    from_names6<L3, In>: named6, , , true count6 tell6;
    /// IPv4 from the kernel to a container.
    to_container4<L3, In>: received4, , , true count4 tell4;
    /// IPv6 from the kernel to a container.
    to_container6<L3, In>: received6, , , true count6 tell6;
    /// Anything else from the kernel to a container.
    to_container_other<L3, In>: received_other, , ;
    /// IPv4 from outside.
    from_uplink4<L3, In>: [uplink_short4] uplink_known4 refresh4 keep4 uplink_first4 requoted4 uplink_error4, uplink_answer4, clamp4, false count4 tell4;
    /// IPv6 from outside.
    from_uplink6<L3, In>: [uplink_short6] uplink_known6 refresh6 keep6 uplink_first6 requoted6 uplink_error6, uplink_answer6, clamp6, false count6 tell6;
    /// IPv4 from outside, without an Ethernet header.
    from_bare_uplink4<0, In>: bare_known4 bare_refresh4 bare_restarted4 bare_first4 bare_requoted4 bare_error4, bare_answer4, clamp4, false count4 tell4;
    /// IPv6 from outside, without an Ethernet header.
    from_bare_uplink6<0, In>: bare_known6 bare_refresh6 bare_restarted6 bare_first6 bare_requoted6 bare_error6, bare_answer6, clamp6, false count6 tell6;
    /// IPv4 to the outside.
    to_uplink4<L3, Out>: leaving_known4 refresh4 restarted4 leaving_first4 requoted4 leaving_error4, , ;
    /// IPv6 to the outside.
    to_uplink6<L3, Out>: leaving_known6 refresh6 restarted6 leaving_first6 requoted6 leaving_error6, , ;
    /// IPv4 to the outside, without an Ethernet header.
    to_bare_uplink4<0, Out>: leaving_bare_known4 bare_refresh4 bare_restarted4 leaving_bare_first4 bare_requoted4 leaving_bare_error4, , ;
    /// IPv6 to the outside, without an Ethernet header.
    to_bare_uplink6<0, Out>: leaving_bare_known6 bare_refresh6 bare_restarted6 leaving_bare_first6 bare_requoted6 leaving_bare_error6, , ;
}

/// Anything else from the host to a network without a bridge: nobody there asks for it.
#[inline(always)]
pub fn to_bridge_other(context: *mut __sk_buff) -> i32 {
    refuse(&Skb::<L3>::new(context), Direction::In, DropReason::L2Proto)
}

/// Drops what the deny list names, on an uplink without XDP; none: it does not.
#[inline(always)]
pub fn denied<const NETWORK: u32>(context: *mut __sk_buff) -> Option<i32> {
    let skb = Skb::<NETWORK>::new(context);
    deny::is_denied(&skb, &Maps).then(|| refuse(&skb, Direction::In, DropReason::DenyCidr))
}
