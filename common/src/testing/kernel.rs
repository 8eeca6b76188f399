//! A clock set by hand, and routes from a list.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use crate::{
    abi::{FlowKey4, Ip4},
    io::{Kernel, Route, Step},
};

/// What the kernel would answer.
#[derive(Debug)]
pub struct FixedKernel {
    /// The coarse clock.
    pub now: Cell<u32>,
    /// Where every look-up leads.
    pub route: Cell<Route>,
    /// Tuples that sockets of the host receive.
    pub sockets: RefCell<BTreeSet<FlowKey4>>,
}

impl FixedKernel {
    /// At some time, with one way out and no sockets.
    pub fn new(uplink: u32, next_hop: Ip4) -> Self {
        Self {
            now: Cell::new(1_000),
            route: Cell::new(Route::Via { ifindex: uplink, next_hop }),
            sockets: RefCell::default(),
        }
    }
}

impl Kernel for FixedKernel {
    fn now(&self) -> u32 {
        self.now.get()
    }

    fn route(&self, _arrived_by: u32, _src: Ip4, _dst: Ip4) -> Route {
        self.route.get()
    }

    fn repeat<S: Step>(&self, times: u32, steps: &mut S) {
        for round in 0..times {
            if !steps.step(round) {
                break;
            }
        }
    }

    fn socket(&self, key: &FlowKey4) -> bool {
        self.sockets.borrow().contains(key)
    }
}
