//! Told of what changes in namespaces that this one knows by a number, all of them by one socket.

use std::{
    collections::BTreeMap,
    io::{self, IoSliceMut},
    os::fd::{AsRawFd as _, RawFd},
};

use bascule_common::abi::Mac;
use netlink_packet_core::NlasIterator;
use netlink_packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    super::{
        error::{Error, OrRefuse, Result},
        netns::Namespace,
    },
    Netlink,
    watch::{GROUPS, RECEIVE_BUFFER, mask, messages, number},
};

/// Since 4.2: what is told in other namespaces is heard too, with their number.
const NETLINK_LISTEN_ALL_NSID: libc::c_int = 8;
const DATAGRAM: usize = 64 << 10;
/// Lengths of what stands before the attributes of a link.
const LINK_HEADER: usize = 16;

/// A link as it was told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
}

/// What was heard of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// Links that came or changed, as they are now, by their index.
    pub links: BTreeMap<u32, Told>,
    /// Something was taken away or is another now: a link, an address, a default route.
    pub taken: bool,
}

impl Within {
    /// Adds what was heard later.
    pub fn join(&mut self, later: Self) {
        self.links.extend(later.links);
        self.taken |= later.taken;
    }

    fn note(&mut self, kind: u16, body: &[u8]) {
        // The length of a route's destination is its second byte.
        let leads_out = || body.get(1) == Some(&0);
        match kind {
            libc::RTM_NEWLINK => _ = self.links.insert(number(body.get(4..8)), link(body)),
            libc::RTM_DELLINK | libc::RTM_DELADDR => self.taken = true,
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE if leads_out() => self.taken = true,
            _ => {}
        }
    }
}

fn link(body: &[u8]) -> Told {
    let flags = number(body.get(8..12));
    let is = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    let mut told =
        Told { up: is(libc::IFF_UP), loopback: is(libc::IFF_LOOPBACK), ..Told::default() };
    let attributes = NlasIterator::new(body.get(LINK_HEADER..).unwrap_or_default());
    for attribute in attributes.filter_map(std::result::Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => {
                told.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
            }
            libc::IFLA_ADDRESS => told.mac = value.try_into().unwrap_or_default(),
            libc::IFLA_MTU => told.mtu = number(Some(value)),
            _ => {}
        }
    }
    told
}

/// What was heard last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Of a namespace, by its number.
    Of(i32, Within),
    /// Notifications were lost: anything may have changed anywhere.
    Lost,
}

/// A subscription to the changes of all namespaces with a number but the own one.
pub struct Insides {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl Insides {
    /// Subscribes; needs a tokio runtime.
    pub fn open() -> Result<Self> {
        const ACTION: &str = "subscribe to";
        let mut socket = Socket::new(NETLINK_ROUTE).or_refuse("open", "rtnetlink")?;
        // Without the right to it the default has to do: notifications are lost earlier, and that is told.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        listen_to_all(socket.as_raw_fd()).or_refuse(ACTION, "other namespaces")?;
        socket.set_non_blocking(true).or_refuse("set up", "rtnetlink")?;
        socket.bind(&SocketAddr::new(0, mask(&GROUPS))).or_refuse(ACTION, "rtnetlink")?;
        // SAFETY: the socket owns its descriptor, and gives away the same one until it is dropped.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        let socket = socket.map_err(|error| error.into_parts().1).or_refuse(ACTION, "rtnetlink")?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM] })
    }

    /// Waits for what is heard next. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Heard> {
        loop {
            let mut ready = self.socket.readable().await.or_refuse("wait for", "rtnetlink")?;
            let buffer = &mut self.buffer;
            match ready.try_io(|socket| receive(socket.get_ref().as_raw_fd(), buffer)) {
                Ok(Ok(Some(heard))) => return Ok(heard),
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Heard::Lost);
                }
                Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error).or_refuse("read from", "rtnetlink");
                }
                _ => {}
            }
        }
    }
}

fn listen_to_all(socket: RawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a number that lives until the call returns.
    let set = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_NETLINK,
            NETLINK_LISTEN_ALL_NSID,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives a datagram; nothing is told of the own namespace.
fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<Option<Heard>> {
    let mut control = nix::cmsg_space!(libc::c_int);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<()>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let length = received.bytes;
    let namespace = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Unknown(found)
            if found.cmsg_header.cmsg_level == libc::SOL_NETLINK
                && found.cmsg_header.cmsg_type == NETLINK_LISTEN_ALL_NSID =>
        {
            Some(number(found.data_bytes.get(..4)).cast_signed())
        }
        _ => None,
    });
    let Some(namespace) = namespace else { return Ok(None) };
    let mut within = Within::default();
    for (kind, body) in messages(buffer.get(..length).unwrap_or_default()) {
        within.note(kind, body);
    }
    Ok((within != Within::default()).then_some(Heard::Of(namespace, within)))
}

impl Netlink {
    /// The number that this namespace knows another one by; it gets one if it has none. It keeps it while it lives.
    pub async fn number_of(&self, other: &Namespace) -> Result<i32> {
        const ACTION: &str = "number network namespace";
        if let Some(number) = self.known_number(other).await? {
            return Ok(number);
        }
        let new = RouteNetlinkMessage::NewNsId(about(other, Some(-1)));
        match self.execute(ACTION, "", new, 0).await {
            Err(error) if error.errno() == Some(Errno::EEXIST) => {}
            result => result?,
        }
        let unknown = || Error::unexpected(ACTION, "", "it has none");
        self.known_number(other).await?.ok_or_else(unknown)
    }

    async fn known_number(&self, other: &Namespace) -> Result<Option<i32>> {
        let question = RouteNetlinkMessage::GetNsId(about(other, None));
        let answer = self.get("number", "network namespace", question).await?;
        let Some(RouteNetlinkMessage::NewNsId(answer)) = answer else { return Ok(None) };
        Ok(answer.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(number) if *number >= 0 => Some(*number),
            _ => None,
        }))
    }
}

fn about(namespace: &Namespace, number: Option<i32>) -> NsidMessage {
    use std::os::fd::AsFd as _;
    let mut message = NsidMessage::default();
    let fd = namespace.as_fd().as_raw_fd().cast_unsigned();
    message.attributes.push(NsidAttribute::Fd(fd));
    message.attributes.extend(number.map(NsidAttribute::Id));
    message
}
