//! Who holds a port of the host: asked of `sock_diag` before a port is published.
//! Reserving it afterwards is the work of the `bind4` and `bind6` programs.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use nix::errno::Errno;

use super::error::{Error, OrRefuse, Result};

/// Since 6.8: TCP sockets that are bound and neither listen nor are connected.
const BOUND_INACTIVE: u32 = 1 << 13;

/// The protocols whose ports are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket that holds a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its protocol.
    pub protocol: Protocol,
    /// The address that it is bound to.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it takes IPv6 alone.
    pub only_v6: bool,
    /// Its number, by which its process is found.
    pub inode: u32,
}

/// A process, for an error's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its short name.
    pub name: String,
}

/// A port that cannot be published, because a process of the host holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The address that was asked for.
    pub address: Ipv4Addr,
    /// The port that was asked for.
    pub port: u16,
    /// The socket that holds it.
    pub holder: Holder,
    /// Whose it is, where that could be found.
    pub process: Option<Process>,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port, holder, process } = self;
        let protocol = holder.protocol;
        write!(f, "failed to bind host port {address}:{port}/{protocol}: address already in use")?;
        match process {
            Some(Process { pid, name }) => write!(f, " (held by {name}, pid {pid})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Clash {}

impl Holder {
    /// Whether it keeps others from binding a port on an IPv4 address.
    pub fn holds(&self, protocol: Protocol, address: Ipv4Addr, port: u16) -> bool {
        let overlaps = match self.address {
            IpAddr::V4(own) => meet(own, address),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => !self.only_v6,
            IpAddr::V6(own) => own.to_ipv4_mapped().is_some_and(|own| meet(own, address)),
        };
        self.protocol == protocol && self.port == port && overlaps
    }
}

fn meet(one: Ipv4Addr, other: Ipv4Addr) -> bool {
    one == other || one.is_unspecified() || other.is_unspecified()
}

/// Sockets of this process whose ports may be published all the same, by number.
static DISREGARDED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Has [`holders`] leave out a socket of this process, for good: the proxy's sockets take what is sent to
/// published ports anyway, whichever ports they have themselves.
pub fn disregard(socket: impl AsFd) -> io::Result<()> {
    let inode = nix::sys::stat::fstat(socket)?.st_ino;
    let mut disregarded = DISREGARDED.lock().unwrap_or_else(PoisonError::into_inner);
    disregarded.extend(u32::try_from(inode));
    Ok(())
}

/// Every socket of the calling thread's network namespace that holds a port: those that listen or receive,
/// and, as far as the kernel shows them, those that are only bound.
pub fn holders() -> Result<Vec<Holder>> {
    let tcp = StateFlags::LISTEN | StateFlags::from_bits_retain(BOUND_INACTIVE);
    let udp = StateFlags::CLOSE | StateFlags::ESTABLISHED;
    let mut found = find(&[(Protocol::Tcp, tcp), (Protocol::Udp, udp)])?;
    let disregarded = DISREGARDED.lock().unwrap_or_else(PoisonError::into_inner);
    found.retain(|holder| !disregarded.contains(&holder.inode));
    Ok(found)
}

/// The ports of this namespace's TCP connections: replies to them come in by these, so that none should be
/// chosen for anything else.
pub fn connected() -> Result<BTreeSet<u16>> {
    let states = StateFlags::ESTABLISHED
        | StateFlags::SYN_SENT
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::LAST_ACK
        | StateFlags::CLOSING;
    Ok(find(&[(Protocol::Tcp, states)])?.into_iter().map(|holder| holder.port).collect())
}

fn find(states: &[(Protocol, StateFlags)]) -> Result<Vec<Holder>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).or_refuse("open", "sock_diag")?;
    socket.bind_auto().or_refuse("open", "sock_diag")?;
    socket.connect(&SocketAddr::new(0, 0)).or_refuse("open", "sock_diag")?;
    let mut found = Vec::new();
    for (protocol, states) in states {
        for family in [AF_INET, AF_INET6] {
            let request = request(*protocol, states.clone(), family);
            dump(&socket, *protocol, &request, &mut found)?;
        }
    }
    Ok(found)
}

/// Finds what keeps a port from being published on an address (`0.0.0.0`: on all).
pub fn clash(
    holders: &[Holder],
    protocol: Protocol,
    address: Ipv4Addr,
    port: u16,
) -> Option<Clash> {
    let holder = *holders.iter().find(|holder| holder.holds(protocol, address, port))?;
    Some(Clash { address, port, holder, process: process_of(holder.inode) })
}

/// The process that has a socket open, as far as `/proc` tells.
pub fn process_of(inode: u32) -> Option<Process> {
    let wanted = format!("socket:[{inode}]");
    let pids = fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| has_open(*pid, &wanted))
        .map(|pid| Process { pid, name: name_of(pid) })
}

fn has_open(pid: u32, wanted: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| target.as_os_str() == wanted)
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "?".to_owned(), |name| name.trim_end().to_owned())
}

fn dump(
    socket: &Socket,
    protocol: Protocol,
    request: &[u8],
    found: &mut Vec<Holder>,
) -> Result<()> {
    socket.send(request, 0).or_refuse("ask", "sock_diag")?;
    loop {
        let (datagram, _) = socket.recv_from_full().or_refuse("read from", "sock_diag")?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .map_err(|error| Error::unexpected("read from", "sock_diag", error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    found.push(holder_of(protocol, &response));
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => {
                    return match error.code.map(|code| Errno::from_raw(-code.get())) {
                        // A kernel without IPv6, or without the module for a protocol: nobody holds any.
                        None | Some(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(()),
                        Some(errno) => Err(errno).or_refuse("read from", "sock_diag"),
                    };
                }
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn request(protocol: Protocol, states: StateFlags, family: u8) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: if protocol == Protocol::Tcp { IPPROTO_TCP } else { IPPROTO_UDP },
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn holder_of(protocol: Protocol, response: &InetResponse) -> Holder {
    let header = &response.header;
    let only_v6 = response.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true)));
    Holder {
        protocol,
        address: header.socket_id.source_address,
        port: header.socket_id.source_port,
        only_v6,
        inode: header.inode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(address: &str, only_v6: bool) -> Holder {
        let address = address.parse().unwrap();
        Holder { protocol: Protocol::Tcp, address, port: 80, only_v6, inode: 0 }
    }

    #[test]
    fn a_socket_holds_its_address_and_a_wildcard_every_address() {
        let any = Ipv4Addr::UNSPECIFIED;
        let local = Ipv4Addr::LOCALHOST;
        let other = Ipv4Addr::new(198, 51, 100, 2);
        for (bound, only_v6, on_any, on_local, on_other) in [
            ("0.0.0.0", false, true, true, true),
            ("127.0.0.1", false, true, true, false),
            ("::", false, true, true, true),
            ("::", true, false, false, false),
            ("::1", false, false, false, false),
            ("::ffff:127.0.0.1", false, true, true, false),
        ] {
            let holder = holder(bound, only_v6);
            for (address, expected) in [(any, on_any), (local, on_local), (other, on_other)] {
                assert_eq!(holder.holds(Protocol::Tcp, address, 80), expected, "{bound} {address}");
            }
            assert!(!holder.holds(Protocol::Udp, any, 80));
            assert!(!holder.holds(Protocol::Tcp, any, 81));
        }
    }

    #[test]
    fn a_clash_reads_like_dockers_and_says_who() {
        let mut clash = Clash {
            address: Ipv4Addr::UNSPECIFIED,
            port: 8080,
            holder: Holder { port: 8080, ..holder("::", false) },
            process: None,
        };
        let text = "failed to bind host port 0.0.0.0:8080/tcp: address already in use";
        assert_eq!(clash.to_string(), text);
        clash.process = Some(Process { pid: 17, name: "nginx".into() });
        assert_eq!(clash.to_string(), format!("{text} (held by nginx, pid 17)"));
    }
}
