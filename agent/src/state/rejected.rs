//! Why a change is refused: Docker's texts in one place, each with its HTTP status.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::model::{Family, PortRange, Proto, keys};

/// Ports that a Linux bridge has at most.
pub(super) const BRIDGE_PORTS: usize = 1023;

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense.
    Invalid,
    /// It makes sense, and is not allowed.
    Forbidden,
    /// It names what is not there.
    NotFound,
    /// It clashes with what is there.
    Conflict,
    /// It could not be done.
    Internal,
    /// There is no room for it.
    Unavailable,
}

/// A change that is refused, and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// What kind of refusal it is.
    pub kind: Kind,
    /// Why, in one sentence.
    pub message: String,
}

impl Rejected {
    /// Makes a refusal.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Refuses what makes no sense.
    pub fn invalid(message: impl ToString) -> Self {
        Self::new(Kind::Invalid, message.to_string())
    }

    /// Refuses what is not allowed.
    pub fn forbidden(message: impl ToString) -> Self {
        Self::new(Kind::Forbidden, message.to_string())
    }

    /// Refuses what clashes.
    pub fn conflict(message: impl ToString) -> Self {
        Self::new(Kind::Conflict, message.to_string())
    }

    /// Reports what could not be done.
    pub fn internal(message: impl ToString) -> Self {
        Self::new(Kind::Internal, message.to_string())
    }

    /// Returns the HTTP status.
    pub const fn status(&self) -> u16 {
        match self.kind {
            Kind::Invalid => 400,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::Internal => 500,
            Kind::Unavailable => 503,
        }
    }

    /// Says that there is no such network.
    pub fn no_network(reference: &str) -> Self {
        Self::new(Kind::NotFound, format!("network {reference} not found"))
    }

    pub(super) fn no_config(reference: &str) -> Self {
        let message = format!("configuration network \"{reference}\" does not exist");
        Self::new(Kind::NotFound, message)
    }

    pub(super) fn no_container(reference: &str) -> Self {
        Self::new(Kind::NotFound, format!("No such container: {reference}"))
    }

    pub(super) fn ambiguous(what: &str, reference: &str, matches: usize) -> Self {
        Self::invalid(format!(
            "{what} {reference} is ambiguous ({matches} matches found based on ID prefix)"
        ))
    }

    pub(super) fn pool_overlaps() -> Self {
        Self::forbidden("invalid pool request: Pool overlaps with other one on this address space")
    }

    pub(super) fn outside(address: IpAddr) -> Self {
        Self::invalid(format!("no configured subnet contains IP address {address}"))
    }

    pub(super) fn address_taken() -> Self {
        Self::forbidden("Address already in use")
    }

    pub(super) fn no_address(network: &str, subnet: IpNetwork) -> Self {
        Self::new(
            Kind::Unavailable,
            format!(
                "no available {} addresses on this network's address pools: {network} ({subnet})",
                Family::of(subnet.ip())
            ),
        )
    }

    pub(super) fn no_port(network: &str) -> Self {
        Self::new(
            Kind::Unavailable,
            format!(
                "network {network} has a Linux bridge, whose {BRIDGE_PORTS} ports are taken: more containers need a \
                 network that was created with -o {}=bpf",
                keys::L2
            ),
        )
    }

    pub(super) fn exhausted(what: &str, limit: u32) -> Self {
        Self::new(Kind::Unavailable, format!("too many {what}: {limit} are the most there can be"))
    }

    /// Wraps a driver's refusal of a port as libnetwork does.
    pub(super) fn port(container: &str, endpoint: &str, why: impl std::fmt::Display) -> Self {
        Self::internal(format!(
            "failed to set up container networking: driver failed programming external connectivity on endpoint {container} ({endpoint}): {why}"
        ))
    }
}

/// Returns libnetwork's text for a port of ours that is taken.
pub(super) fn port_allocated(ip: IpAddr, port: u16) -> String {
    format!("Bind for {ip}:{port} failed: port is already allocated")
}

/// Returns the text for a port that the host does not give.
pub(super) fn port_refused(ip: IpAddr, port: u16, proto: Proto, why: &str) -> String {
    let at = std::net::SocketAddr::new(ip, port);
    format!("failed to bind host port {at}/{proto}: {why}")
}

/// Returns the text for a mapping for which no free port is left.
pub(super) fn no_ports(addresses: &[IpAddr], container: PortRange, proto: Proto) -> String {
    let on: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let on = on.join(" and ");
    match container.count() {
        1 => format!("all ports are allocated on {on} for {container}/{proto}"),
        count => format!("no {count} free ports in a row are left on {on} for {container}/{proto}"),
    }
}
