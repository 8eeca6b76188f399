//! The older way to hook an interface: filters of a clsact qdisc, for kernels without TCX. Ours are those
//! of [`PRIORITY`] and [`HANDLE`] that carry the name of one of our programs; no other is touched.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use bascule_common::abi::names::program;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::attach::Side;

/// Priority of our filters: after those that others put first on purpose, before the usual ones.
const PRIORITY: u16 = 50;
/// Handle of our filters.
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };

/// Names that our filters carry.
const PROGRAMS: [&str; 8] = [
    program::FROM_CONTAINER,
    program::TO_CONTAINER,
    program::FROM_UPLINK,
    program::TO_UPLINK,
    program::FROM_UPLINK_L3,
    program::TO_UPLINK_L3,
    program::TO_BRIDGE,
    program::FROM_NAMES,
];

/// A filter of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// The program's name.
    pub program: String,
    /// The program's identifier.
    pub id: u32,
}

/// What sits at our priority and handle.
enum Found {
    Nothing,
    Ours(Filter),
    Foreign(String),
}

fn parent(side: Side) -> TcHandle {
    let minor = match side {
        Side::Ingress => TcHandle::MIN_INGRESS,
        Side::Egress => TcHandle::MIN_EGRESS,
    };
    TcHandle { major: TcHandle::CLSACT.major, minor }
}

fn message(ifindex: u32, side: Side) -> io::Result<TcMessage> {
    let index = i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = TcMessage::with_index(index);
    message.header = TcHeader {
        handle: HANDLE,
        parent: parent(side),
        info: u32::from(PRIORITY) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be()),
        ..message.header
    };
    Ok(message)
}

/// Sends one request, and gathers the answers up to its end.
fn request(payload: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(payload));
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// Everybody's filters on one side of an interface.
fn dump(ifindex: u32, side: Side) -> io::Result<Vec<TcMessage>> {
    let mut message = message(ifindex, side)?;
    message.header.handle = TcHandle::UNSPEC;
    message.header.info = 0;
    let answers = request(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?;
    let filter = |answer| match answer {
        RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
        _ => None,
    };
    Ok(answers.into_iter().filter_map(filter).collect())
}

fn look(ifindex: u32, side: Side) -> io::Result<Found> {
    for filter in dump(ifindex, side)? {
        let same_place =
            filter.header.info >> 16 == u32::from(PRIORITY) && filter.header.handle == HANDLE;
        if same_place {
            return Ok(recognise(filter.attributes));
        }
    }
    Ok(Found::Nothing)
}

fn recognise(attributes: Vec<TcAttribute>) -> Found {
    let mut kind = String::new();
    let mut filter = Filter { program: String::new(), id: 0 };
    for attribute in attributes {
        match attribute {
            TcAttribute::Kind(name) => kind = name,
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.program = name,
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.id = id,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if kind == "bpf" && PROGRAMS.contains(&filter.program.as_str()) {
        Found::Ours(filter)
    } else {
        Found::Foreign(if filter.program.is_empty() { kind } else { filter.program })
    }
}

/// Our filter on one side of an interface.
pub(super) fn find(ifindex: u32, side: Side) -> io::Result<Option<Filter>> {
    match look(ifindex, side)? {
        Found::Ours(filter) => Ok(Some(filter)),
        Found::Nothing | Found::Foreign(_) => Ok(None),
    }
}

/// What there was before a program was put there.
pub(super) struct Before {
    /// The filter that was replaced.
    pub filter: Option<Filter>,
    /// Whether the qdisc was missing, and made.
    pub made_qdisc: bool,
}

/// Puts a program there, replacing an older one of ours in place.
pub(super) fn attach(
    ifindex: u32,
    side: Side,
    fd: BorrowedFd<'_>,
    name: &str,
) -> io::Result<Before> {
    let mut made_qdisc = false;
    let filter = match look(ifindex, side)? {
        Found::Foreign(name) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("a foreign filter ({name}) has priority {PRIORITY} and handle 1 there"),
            ));
        }
        Found::Ours(filter) => Some(filter),
        Found::Nothing => {
            made_qdisc = add_qdisc(ifindex)?;
            None
        }
    };
    let mut message = message(ifindex, side)?;
    message.attributes = vec![
        TcAttribute::Kind("bpf".into()),
        TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(fd.as_raw_fd().cast_unsigned())),
            TcOption::Bpf(TcFilterBpfOption::ProgName(name.into())),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]),
    ];
    request(RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_ACK | NLM_F_CREATE)?;
    Ok(Before { filter, made_qdisc })
}

fn qdisc(ifindex: u32) -> io::Result<TcMessage> {
    let mut message = message(ifindex, Side::Ingress)?;
    message.header = TcHeader {
        handle: TcHandle { major: TcHandle::CLSACT.major, minor: 0 },
        parent: TcHandle::CLSACT,
        info: 0,
        ..message.header
    };
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    Ok(message)
}

fn add_qdisc(ifindex: u32) -> io::Result<bool> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    match request(RouteNetlinkMessage::NewQueueDiscipline(qdisc(ifindex)?), flags) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        result => result.map(|_| true),
    }
}

/// Removes the qdisc of an interface, if nobody has a filter in it.
pub(super) fn remove_empty_qdisc(ifindex: u32) -> io::Result<()> {
    for side in [Side::Ingress, Side::Egress] {
        match dump(ifindex, side) {
            Ok(filters) if filters.is_empty() => {}
            Ok(_) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    match request(RouteNetlinkMessage::DelQueueDiscipline(qdisc(ifindex)?), NLM_F_ACK) {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether the interface or its qdisc is not there.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL))
}

/// Removes our filter; false if there is none. The qdisc stays: it may serve others, and costs nothing.
pub(super) fn detach(ifindex: u32, side: Side) -> io::Result<bool> {
    if find(ifindex, side)?.is_none() {
        return Ok(false);
    }
    let mut message = message(ifindex, side)?;
    message.attributes = vec![TcAttribute::Kind("bpf".into())];
    match request(RouteNetlinkMessage::DelTrafficFilter(message), NLM_F_ACK) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Our filters on every interface of this thread's namespace.
pub(super) fn all() -> io::Result<Vec<(u32, Side, Filter)>> {
    let mut all = Vec::new();
    for interface in &nix::net::if_::if_nameindex()? {
        for side in [Side::Ingress, Side::Egress] {
            match find(interface.index(), side) {
                Ok(Some(filter)) => all.push((interface.index(), side, filter)),
                Ok(None) => {}
                // Gone since it was listed.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(all)
}
