//! What a walk looked at, in the order in which it did, in words.

use std::{cell::RefCell, net::IpAddr, sync::Arc};

use bascule_common::{
    abi::{DropReason, FlowKey, Ip4, Ip6, Port, Stat},
    datapath::Family,
    wire::proto,
};

use super::Step;
use crate::{kernel::bpf::BpfError, telemetry::Names};

/// A family whose addresses can be read.
pub trait Shown: Family {
    /// The address as the rest of the agent has it.
    fn shown(self) -> IpAddr;
}

impl Shown for Ip4 {
    fn shown(self) -> IpAddr {
        IpAddr::V4(self.into())
    }
}

impl Shown for Ip6 {
    fn shown(self) -> IpAddr {
        IpAddr::V6(self.into())
    }
}

/// The steps of a walk, the names to tell them by, and what went wrong on the way.
#[derive(Debug)]
pub struct Notes {
    names: Arc<Names>,
    steps: RefCell<Vec<Step>>,
    handed: RefCell<Option<Stat>>,
    failure: RefCell<Option<BpfError>>,
}

impl Notes {
    /// No steps yet.
    pub fn new(names: Arc<Names>) -> Self {
        Self {
            names,
            steps: RefCell::default(),
            handed: RefCell::default(),
            failure: RefCell::default(),
        }
    }

    /// Notes a step, unless it was noted before: the parts of a walk look at the same things.
    pub fn note(&self, step: &'static str, found: String) {
        let step = Step { step: step.to_owned(), found };
        let mut steps = self.steps.borrow_mut();
        if !steps.contains(&step) {
            steps.push(step);
        }
    }

    /// Notes why a packet is handed to the kernel.
    pub fn hand_over(&self, why: Stat) {
        if why.handover_label().is_some() {
            *self.handed.borrow_mut() = Some(why);
        }
    }

    /// Takes what was noted since the last time.
    pub fn take(&self) -> (Vec<Step>, Option<Stat>) {
        (self.steps.take(), self.handed.take())
    }

    /// The answer of a map; a map that cannot be read is told at the end.
    pub fn read<T>(&self, answer: Result<Option<T>, BpfError>) -> Option<T> {
        answer.unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            None
        })
    }

    /// The first map that could not be read.
    pub fn failure(&self) -> Option<BpfError> {
        self.failure.take()
    }

    /// An endpoint in words.
    pub fn endpoint(&self, index: u32) -> String {
        match self.names.endpoints.get(&index) {
            Some(name) => format!("container {} on network {}", name.container, name.network),
            None => format!("endpoint {index}"),
        }
    }

    /// A network in words.
    pub fn network(&self, index: u32) -> String {
        match self.names.networks.get(&index) {
            Some(name) => name.network.clone(),
            None => format!("number {index}"),
        }
    }

    /// A published rule in words.
    pub fn rule(&self, index: u32) -> String {
        match self.names.rules.get(&index) {
            Some(name) => format!(
                "rule {index} of container {} ({}:{}/{})",
                name.container, name.host_ip, name.host_port, name.proto
            ),
            None => format!("rule {index}"),
        }
    }

    /// The prefix in a slot of the deny list.
    pub fn denied(&self, slot: u32) -> String {
        self.names.denials.get(&slot).cloned().unwrap_or_else(|| format!("number {slot}"))
    }
}

/// An interface by name.
pub fn interface(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("interface {ifindex}"))
}

/// An IP protocol by name.
pub fn protocol(number: u8) -> String {
    match number {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::ICMP | proto::ICMPV6 => "icmp".to_owned(),
        number => format!("protocol {number}"),
    }
}

/// An address with a port, where there is one.
pub fn socket(address: IpAddr, port: Port) -> String {
    match (address, port.number()) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(address), port) => format!("{address}:{port}"),
        (IpAddr::V6(address), port) => format!("[{address}]:{port}"),
    }
}

/// A tuple in words.
pub fn tuple<A: Shown>(key: &FlowKey<A>) -> String {
    format!(
        "{} -> {} {}",
        socket(key.src.shown(), key.src_port),
        socket(key.dst.shown(), key.dst_port),
        protocol(key.proto)
    )
}

/// Why a packet is handed to the kernel, in words.
pub const fn handover(why: Stat) -> &'static str {
    match why {
        Stat::ToNeighbourDiscovery => "it is neighbour discovery",
        Stat::ToBroadcast => "the bridge floods it",
        Stat::ToUnknownNeighbour => {
            "no container has the address; the bridge delivers it if a station that was plugged in by hand does"
        }
        Stat::ToHost => "it is for the host itself",
        Stat::ToTtl => "its TTL ends here",
        Stat::ToMtu => "it is larger than the next link",
        Stat::ToRouting => "the kernel has an answer of its own to where it goes",
        Stat::ToUnrelatedError => "it is an ICMP error about nothing of Bascule's",
        _ => "it is nothing that the programs translate",
    }
}

/// A reason with its explanation.
pub fn reason(reason: DropReason) -> String {
    format!("{}: {}", reason.label(), reason.explanation())
}
