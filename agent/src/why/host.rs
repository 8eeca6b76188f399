//! The host's kernel, asked: routes by rtnetlink, sockets by `sock_diag`, forwarding by its sysctls.

use std::{cell::OnceCell, net::IpAddr};

use bascule_common::{
    abi::{FlowKey, Ip4, Ip6, config::CLOCK_SHIFT},
    io::{Kernel, Route, Step},
    wire::proto,
};
use nix::time::{ClockId, clock_gettime};

use super::notes::{self, Notes, Shown};
use crate::kernel::{
    self,
    netlink::{Lookup, Way},
    reserve::{self, Holder, Protocol},
    sysctl,
};

/// What only the kernel knows.
#[derive(Debug)]
pub struct Host<'a> {
    lookup: Lookup,
    notes: &'a Notes,
    holders: OnceCell<Vec<Holder>>,
}

/// A family that routes are asked for in.
pub trait Routed: Shown {
    /// Its directory among the sysctls.
    const SYSCTLS: &'static str;
    /// The address of what the rest of the agent has; unspecified for one of the other family.
    fn of(address: IpAddr) -> Self;
}

impl Routed for Ip4 {
    const SYSCTLS: &'static str = "ipv4";

    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(_) => Self::UNSPECIFIED,
        }
    }
}

impl Routed for Ip6 {
    const SYSCTLS: &'static str = "ipv6";

    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::UNSPECIFIED,
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl<'a> Host<'a> {
    /// Opens what is needed to ask.
    pub fn open(notes: &'a Notes) -> kernel::Result<Self> {
        Ok(Self { lookup: Lookup::open()?, notes, holders: OnceCell::new() })
    }

    /// Where the host would send a packet of its own.
    pub fn way(&self, to: IpAddr) -> Option<Way> {
        self.lookup.way(to, None).ok()
    }

    /// Whether a process of the host would receive what is sent to this address and port.
    pub fn listens(&self, address: IpAddr, proto: u8, port: u16) -> bool {
        let protocol = match proto {
            proto::TCP => Protocol::Tcp,
            proto::UDP => Protocol::Udp,
            _ => return false,
        };
        let holders = self.holders.get_or_init(|| reserve::holders().unwrap_or_default());
        holders.iter().any(|holder| {
            let meets = match holder.address {
                // A socket of IPv6 takes IPv4 too, unless it said no.
                IpAddr::V6(own) if own.is_unspecified() => address.is_ipv6() || !holder.only_v6,
                IpAddr::V4(own) if own.is_unspecified() => address.is_ipv4(),
                own => own == address,
            };
            holder.protocol == protocol && holder.port == port && meets
        })
    }

    fn forwards<A: Routed>(&self, arrived_by: u32) -> bool {
        let interface = notes::interface(arrived_by);
        let key = format!("net/{}/conf/{interface}/forwarding", A::SYSCTLS);
        sysctl::read(&key).is_ok_and(|value| value != "0")
    }
}

impl<A: Routed> Kernel<A> for Host<'_> {
    fn now(&self) -> u32 {
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE) else { return 0 };
        let (seconds, rest) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
        ((seconds * 1_000_000_000 + rest) >> CLOCK_SHIFT) as u32
    }

    fn route(&self, arrived_by: u32, src: A, dst: A) -> Route<A> {
        let (src, to) = (src.shown(), dst.shown());
        if !self.forwards::<A>(arrived_by) {
            let what = format!("{} does not forward", notes::interface(arrived_by));
            self.notes.note("route", what);
            return Route::ForwardingOff;
        }
        let way = self.lookup.way(to, Some((arrived_by, src)));
        let (what, route) = match way {
            Ok(Way::By { link, gateway, mtu, .. }) => {
                let by = notes::interface(link);
                let what = match gateway {
                    Some(gateway) => format!("to {to} by {by}, next hop {gateway}"),
                    None => format!("to {to} by {by}, on the link"),
                };
                let next_hop = gateway.map_or(dst, A::of);
                (what, Route::Via { ifindex: link, next_hop, mtu })
            }
            Ok(Way::Here) => (format!("{to} is the host's own"), Route::Kernel),
            Ok(Way::Refused(errno)) => (format!("to {to}: {}", errno.desc()), Route::Kernel),
            Ok(Way::Otherwise) => (format!("to {to}: nothing is forwarded there"), Route::Kernel),
            Err(error) => (error.to_string(), Route::Kernel),
        };
        self.notes.note("route", what);
        route
    }

    fn repeat<S: Step>(&self, times: u32, steps: &mut S) {
        for round in 0..times {
            if !steps.step(round) {
                break;
            }
        }
    }

    /// Sockets of established connections are not asked for: the port that would be taken may be another.
    fn socket(&self, key: &FlowKey<A>) -> bool {
        let held = self.listens(key.dst.shown(), key.proto, key.dst_port.number());
        if held {
            let what = notes::socket(key.dst.shown(), key.dst_port);
            self.notes.note("socket", format!("{what} is a socket of the host's"));
        }
        held
    }
}
