//! rtnetlink behind our types: what is there, and how to change it.
//!
//! Every operation may be repeated: what is so already is no error, and the caller is told
//! ([`Outcome`](super::Outcome)). Which links may be touched is not decided here.

mod addresses;
mod captive;
mod choose;
mod inside;
mod links;
mod lookup;
mod many;
mod neighbours;
mod routes;
mod watch;

pub use addresses::{Address, Scope};
pub use choose::{default_route, masquerade_source, masquerade_source6, mtu_of_default_route};
pub use inside::{Heard, Insides, Told, Within};
pub use links::{Link, LinkKind, NewBridge, NewVeth, PortFlags};
pub use lookup::{Lookup, Way};
pub use neighbours::{FdbEntry, Neighbour};
pub use routes::Route;
pub use watch::{Change, Watch};

use std::time::Duration;

use futures::StreamExt;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::AsyncSocket;
use nix::errno::Errno;

use super::{
    error::{Error, OrRefuse, Result},
    netns::Namespace,
};

/// How often a dump that changed while it was read is read again.
const DUMP_ATTEMPTS: u32 = 20;
/// How much longer each attempt waits for things to calm down.
const DUMP_PAUSE: Duration = Duration::from_millis(2);
/// Attribute of an error message: the kernel's own words.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A connection to one network namespace's links, addresses, routes and neighbours.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens a connection to the calling thread's network namespace; needs a tokio runtime.
    pub fn open() -> Result<Self> {
        let (mut connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().or_refuse("open", "rtnetlink")?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true).or_refuse("set up", "rtnetlink")?;
        socket.set_cap_ack(true).or_refuse("set up", "rtnetlink")?;
        // The end of a dump tells whether it was disturbed.
        connection.set_forward_done(true);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Opens a connection to another network namespace; needs a tokio runtime.
    pub async fn open_in(namespace: &Namespace) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        namespace
            .run(move || {
                let _context = runtime.enter();
                Self::open()
            })
            .await?
    }

    /// Sends one request and waits for the kernel's answer to it.
    async fn execute(
        &self,
        action: &'static str,
        object: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut replies =
            self.handle.clone().request(request).map_err(|_| closed(action, object))?;
        while let Some(reply) = replies.next().await {
            if let NetlinkPayload::Error(error) = reply.payload {
                check(action, object, &error)?;
            }
        }
        Ok(())
    }

    /// Reads one object; `None` where there is none.
    async fn get(
        &self,
        action: &'static str,
        object: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        let mut replies =
            self.handle.clone().request(request).map_err(|_| closed(action, object))?;
        let mut found = None;
        while let Some(reply) = replies.next().await {
            match reply.payload {
                NetlinkPayload::InnerMessage(message) => found = Some(message),
                NetlinkPayload::Error(error) => match check(action, object, &error) {
                    Err(error) if error.is_absent() => {}
                    other => other?,
                },
                _ => {}
            }
        }
        Ok(found)
    }

    /// Reads a whole table, again if it changed meanwhile. Of each message only what is read from it is kept.
    async fn dump<I: IntoIterator>(
        &self,
        table: &'static str,
        message: RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> I,
    ) -> Result<Vec<I::Item>> {
        for attempt in 1..=DUMP_ATTEMPTS {
            if let Some(found) = self.dump_once(table, message.clone(), &read).await? {
                return Ok(found);
            }
            tokio::time::sleep(DUMP_PAUSE * attempt).await;
        }
        Err(Error::unexpected("read", table, "it changes faster than it can be read"))
    }

    async fn dump_once<I: IntoIterator>(
        &self,
        table: &'static str,
        message: RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> I,
    ) -> Result<Option<Vec<I::Item>>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut replies =
            self.handle.clone().request(request).map_err(|_| closed("read", table))?;
        let (mut found, mut disturbed, mut whole) = (Vec::new(), false, false);
        while let Some(reply) = replies.next().await {
            disturbed |= reply.header.flags & NLM_F_DUMP_INTR != 0;
            match reply.payload {
                NetlinkPayload::InnerMessage(message) => found.extend(read(message)),
                NetlinkPayload::Done(_) => whole = true,
                NetlinkPayload::Error(error) => check("read", table, &error)?,
                NetlinkPayload::Overrun(_) => disturbed = true,
                _ => {}
            }
        }
        if !whole && !disturbed {
            return Err(closed("read", table));
        }
        Ok((!disturbed).then_some(found))
    }
}

fn closed(action: &'static str, object: &str) -> Error {
    Error::unexpected(action, object, "the rtnetlink socket was closed")
}

fn check(action: &'static str, object: &str, error: &ErrorMessage) -> Result<()> {
    let Some(code) = error.code else { return Ok(()) };
    Err(Error::Refused {
        action,
        object: object.to_owned(),
        errno: Errno::from_raw(code.get().saturating_neg()),
        detail: words(&error.header),
    })
}

/// The kernel's own words in what follows the error number: the request's header (16 bytes), then attributes.
fn words(rest: &[u8]) -> Option<String> {
    let attributes = rest.get(16..)?;
    NlasIterator::new(attributes)
        .filter_map(std::result::Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned()
        })
        .filter(|text| !text.is_empty())
}
