//! Told when something changes. What changed exactly is found by looking.

use std::{collections::BTreeSet, io, time::Duration};

use netlink_packet_core::NlasIterator;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::time::{Instant, timeout_at};

use super::super::{
    error::{OrRefuse, Result},
    netns::Namespace,
};

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV4_NETCONF: u32 = 24;
const RTNLGRP_IPV6_NETCONF: u32 = 25;
/// Links, addresses and routes.
pub(super) const GROUPS: [u32; 5] = [
    RTNLGRP_LINK,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
];
/// Attribute of settings: the link that they are of.
const NETCONFA_IFINDEX: u16 = 1;
/// Settings of the namespace as a whole have this in place of a link.
const NETCONFA_IFINDEX_ALL: u32 = u32::MAX;
/// Room for a burst: a thousand veths appear at once.
pub(super) const RECEIVE_BUFFER: usize = 1 << 20;
/// Length of what stands before the attributes of a route.
const ROUTE_HEADER: usize = 12;
const DATAGRAM: usize = 64 << 10;

/// What kinds of things changed since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Links that came, went or changed.
    pub links: BTreeSet<u32>,
    /// Links by which addresses came or went.
    pub addresses: BTreeSet<u32>,
    /// Links by which routes came or went; 0 is none, or several.
    pub routes: BTreeSet<u32>,
    /// Whether the namespace routes may be another than it was.
    pub forwarding: bool,
    /// Notifications were lost: everything has to be looked at.
    pub resync: bool,
}

impl Change {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what was heard later.
    pub fn join(&mut self, later: Self) {
        self.links.extend(later.links);
        self.addresses.extend(later.addresses);
        self.routes.extend(later.routes);
        self.forwarding |= later.forwarding;
        self.resync |= later.resync;
    }

    fn note(&mut self, kind: u16, body: &[u8]) {
        // Links and addresses have the index in the same place.
        let index = || number(body.get(4..8));
        match kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => self.links.insert(index()),
            libc::RTM_NEWADDR | libc::RTM_DELADDR => self.addresses.insert(index()),
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => self.routes.insert(way_out(body)),
            libc::RTM_NEWNETCONF => {
                self.forwarding |= is_of_all(body);
                false
            }
            _ => false,
        };
    }

    /// Notes every message of a datagram.
    fn note_all(&mut self, datagram: &[u8]) {
        for (kind, body) in messages(datagram) {
            self.note(kind, body);
        }
    }
}

/// The messages of a datagram: their kinds, and what follows their headers.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, rest) = datagram.split_first_chunk::<16>()?;
        let [l0, l1, l2, l3, k0, k1, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let body = rest.get(..length.saturating_sub(header.len())).unwrap_or(rest);
        let next = length.next_multiple_of(4).max(header.len());
        datagram = datagram.get(next..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), body))
    })
}

/// Groups as a socket is bound to them.
pub(super) fn mask(groups: &[u32]) -> u32 {
    groups.iter().fold(0, |mask, group| mask | 1 << (group - 1))
}

/// Whether settings are of the namespace as a whole: a family stands before their attributes.
fn is_of_all(body: &[u8]) -> bool {
    let attributes = NlasIterator::new(body.get(4..).unwrap_or_default());
    let mut found = attributes.filter_map(std::result::Result::ok);
    let link = found.find(|attribute| attribute.kind() == NETCONFA_IFINDEX);
    link.is_some_and(|link| number(Some(link.value())) == NETCONFA_IFINDEX_ALL)
}

/// Reads a number of four bytes; 0 where there is none.
pub(super) fn number(bytes: Option<&[u8]>) -> u32 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Returns the link that a route leads by.
fn way_out(body: &[u8]) -> u32 {
    let attributes = NlasIterator::new(body.get(ROUTE_HEADER..).unwrap_or_default());
    let mut found = attributes.filter_map(std::result::Result::ok);
    let oif = found.find(|attribute| attribute.kind() == libc::RTA_OIF);
    oif.map_or(0, |oif| number(Some(oif.value())))
}

/// A subscription to the changes of one network namespace.
pub struct Watch {
    socket: TokioSocket,
    buffer: Vec<u8>,
    heard: Change,
}

impl Watch {
    /// Subscribes to the calling thread's network namespace; needs a tokio runtime.
    pub fn open() -> Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).or_refuse("open", "rtnetlink")?;
        let mask = mask(&GROUPS) | mask(&[RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF]);
        let inner = socket.socket_mut();
        // Without the right to it the default has to do: notifications are lost earlier, and that is told.
        let _ = setsockopt(inner, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        inner.bind(&SocketAddr::new(0, mask)).or_refuse("subscribe to", "rtnetlink")?;
        let buffer = Vec::with_capacity(DATAGRAM);
        Ok(Self { socket, buffer, heard: Change::default() })
    }

    /// Subscribes to another network namespace; needs a tokio runtime.
    pub async fn open_in(namespace: &Namespace) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        namespace
            .run(move || {
                let _context = runtime.enter();
                Self::open()
            })
            .await?
    }

    /// Waits for a change, then `settle` longer, and returns all that was heard of.
    ///
    /// Dropping the future loses nothing: the next call returns what was heard so far.
    pub async fn changed(&mut self, settle: Duration) -> Result<Change> {
        while self.heard.is_empty() {
            self.hear().await?;
        }
        let end = Instant::now() + settle;
        // The clock is asked too: a socket that is never empty would not let the timer fire.
        while Instant::now() < end {
            match timeout_at(end, self.hear()).await {
                Ok(heard) => heard?,
                Err(_) => break,
            }
        }
        Ok(std::mem::take(&mut self.heard))
    }

    async fn hear(&mut self) -> Result<()> {
        self.buffer.clear();
        match self.socket.recv_from(&mut self.buffer).await {
            Ok(_) => self.heard.note_all(&self.buffer),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.heard.resync = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).or_refuse("read from", "rtnetlink"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u32, kind: u16) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(16, 0);
        bytes
    }

    #[test]
    fn every_message_of_a_datagram_is_noted() {
        let mut datagram = header(26, libc::RTM_NEWLINK);
        datagram.extend([0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        datagram.extend(header(36, libc::RTM_DELROUTE));
        datagram.extend([0; 12]);
        datagram.extend([8, 0, 4, 0, 9, 0, 0, 0]);
        let mut change = Change::default();
        change.note_all(&datagram);
        assert_eq!(change, Change { links: [7].into(), routes: [9].into(), ..Change::default() });
    }

    #[test]
    fn a_malformed_datagram_ends_the_reading() {
        for datagram in [header(0, 0), header(u32::MAX, libc::RTM_NEWADDR), vec![1; 7]] {
            Change::default().note_all(&datagram);
        }
    }
}
