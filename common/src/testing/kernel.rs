//! A clock set by hand, and routes from a list.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use crate::{
    abi::{FlowKey, FlowKey4, FlowKey6, Ip4, Ip6},
    datapath::Family,
    io::{Kernel, Route, Step},
};

/// What the kernel would answer.
#[derive(Clone, Debug)]
pub struct FixedKernel {
    /// The coarse clock.
    pub now: Cell<u32>,
    /// Where every look-up leads.
    pub route: Cell<Route<Ip4>>,
    /// The same for IPv6.
    pub route6: Cell<Route<Ip6>>,
    /// Tuples that sockets of the host receive.
    pub sockets: RefCell<BTreeSet<FlowKey4>>,
    /// The same for IPv6.
    pub sockets6: RefCell<BTreeSet<FlowKey6>>,
}

impl FixedKernel {
    /// At some time, with one way out and no sockets.
    pub fn new(uplink: u32, next_hop: Ip4, next_hop6: Ip6) -> Self {
        Self {
            now: Cell::new(1_000),
            route: Cell::new(Route::Via { ifindex: uplink, next_hop, mtu: 0 }),
            route6: Cell::new(Route::Via { ifindex: uplink, next_hop: next_hop6, mtu: 0 }),
            sockets: RefCell::default(),
            sockets6: RefCell::default(),
        }
    }
}

/// A family that [`FixedKernel`] knows routes and sockets of.
pub trait Routed: Family {
    /// Where every look-up leads.
    fn route(kernel: &FixedKernel) -> Route<Self>;
    /// The sockets.
    fn sockets(kernel: &FixedKernel) -> &RefCell<BTreeSet<FlowKey<Self>>>;
}

impl Routed for Ip4 {
    fn route(kernel: &FixedKernel) -> Route<Self> {
        kernel.route.get()
    }

    fn sockets(kernel: &FixedKernel) -> &RefCell<BTreeSet<FlowKey4>> {
        &kernel.sockets
    }
}

impl Routed for Ip6 {
    fn route(kernel: &FixedKernel) -> Route<Self> {
        kernel.route6.get()
    }

    fn sockets(kernel: &FixedKernel) -> &RefCell<BTreeSet<FlowKey6>> {
        &kernel.sockets6
    }
}

impl<A: Routed> Kernel<A> for FixedKernel {
    fn now(&self) -> u32 {
        self.now.get()
    }

    fn route(&self, _arrived_by: u32, _src: A, _dst: A) -> Route<A> {
        A::route(self)
    }

    fn repeat<S: Step>(&self, times: u32, steps: &mut S) {
        for round in 0..times {
            if !steps.step(round) {
                break;
            }
        }
    }

    fn socket(&self, key: &FlowKey<A>) -> bool {
        A::sockets(self).borrow().contains(key)
    }
}
