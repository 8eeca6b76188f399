//! Datagrams in batches: one system call receives what has come, one sends the answers. An answer takes the address
//! and the control message of its question back, and with them leaves from the address that was asked.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

/// Datagrams of a batch.
pub(super) const SIZE: usize = 32;
/// Longer questions are none.
const QUESTION: usize = 4096;
/// Room for the address that was asked.
const CONTROL: usize = 64;

/// One datagram of a batch.
#[repr(C, align(8))]
struct Slot {
    control: [u8; CONTROL],
    peer: libc::sockaddr_in6,
    question: [u8; QUESTION],
}

/// A batch.
pub(super) struct Batch {
    slots: Box<[Slot]>,
    answers: Vec<Vec<u8>>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
}

/// Who asks, and at which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parties {
    pub(super) client: SocketAddr,
    pub(super) asked: IpAddr,
}

/// A question of a batch, and room for its answer.
pub(super) struct Turn<'a> {
    pub(super) parties: Parties,
    pub(super) question: &'a [u8],
    /// Left empty, there is none now.
    pub(super) answer: &'a mut Vec<u8>,
}

impl Batch {
    pub(super) fn new() -> Self {
        let slot = || Slot {
            control: [0; CONTROL],
            // SAFETY: integers; zero is a value.
            peer: unsafe { std::mem::zeroed() },
            question: [0; QUESTION],
        };
        Self {
            slots: (0..SIZE).map(|_| slot()).collect(),
            answers: (0..SIZE).map(|_| Vec::with_capacity(512)).collect(),
            headers: Vec::with_capacity(SIZE),
            vectors: Vec::with_capacity(SIZE),
        }
    }

    /// Waits for questions, hands each over, and sends what was answered. Returns how many there were.
    pub(super) fn serve(
        &mut self,
        socket: BorrowedFd<'_>,
        mut turn: impl FnMut(Turn<'_>),
    ) -> io::Result<usize> {
        let received = self.receive(socket)?;
        let lengths: Vec<_> = self
            .headers
            .iter()
            .take(received)
            .map(|header| (header.msg_len as usize, header.msg_hdr))
            .collect();
        self.headers.clear();
        self.vectors.clear();
        for ((slot, answer), (length, header)) in
            self.slots.iter().zip(&mut self.answers).zip(&lengths)
        {
            answer.clear();
            let Some(parties) = parties(slot, header.msg_controllen) else { continue };
            let question = slot.question.get(..*length).unwrap_or_default();
            if header.msg_flags & libc::MSG_TRUNC == 0 {
                turn(Turn { parties, question, answer });
            }
        }
        let headers = lengths.iter().map(|(_, header)| *header);
        for (answer, header) in self.answers.iter_mut().zip(headers).filter(|(a, _)| !a.is_empty())
        {
            self.vectors
                .push(libc::iovec { iov_base: answer.as_mut_ptr().cast(), iov_len: answer.len() });
            self.headers.push(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
        }
        for (header, vector) in self.headers.iter_mut().zip(&mut self.vectors) {
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_flags = 0;
        }
        self.send(socket);
        Ok(received)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.headers.clear();
        self.vectors.clear();
        for slot in &mut self.slots {
            self.vectors.push(libc::iovec {
                iov_base: slot.question.as_mut_ptr().cast(),
                iov_len: QUESTION,
            });
        }
        for (slot, vector) in self.slots.iter_mut().zip(&mut self.vectors) {
            self.headers.push(libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: (&raw mut slot.peer).cast(),
                    msg_namelen: size_of::<libc::sockaddr_in6>() as libc::socklen_t,
                    msg_iov: vector,
                    msg_iovlen: 1,
                    msg_control: slot.control.as_mut_ptr().cast(),
                    msg_controllen: CONTROL,
                    msg_flags: 0,
                },
                msg_len: 0,
            });
        }
        // SAFETY: every header points to memory of `self` of the length that it tells, which nobody else uses
        // until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                SIZE as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    fn send(&mut self, socket: BorrowedFd<'_>) {
        let mut at = 0;
        while let Some(rest) = self.headers.get_mut(at..).filter(|rest| !rest.is_empty()) {
            // SAFETY: as for receiving; the answers are in `self`, and stay as they are until the call returns.
            let sent = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0)
            };
            // Who cannot be told asks again; the others' answers go on.
            at += usize::try_from(sent).unwrap_or(0).max(1);
        }
    }
}

/// Reads who asked and at which address.
fn parties(slot: &Slot, control: usize) -> Option<Parties> {
    let client: SocketAddr = match i32::from(slot.peer.sin6_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote an address of this family, which is shorter and needs no more alignment.
            let peer = unsafe { ptr::from_ref(&slot.peer).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(peer.sin_addr.s_addr.to_ne_bytes());
            SocketAddrV4::new(ip, u16::from_be(peer.sin_port)).into()
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(slot.peer.sin6_addr.s6_addr);
            SocketAddrV6::new(ip, u16::from_be(slot.peer.sin6_port), 0, slot.peer.sin6_scope_id)
                .into()
        }
        _ => return None,
    };
    // The header of a control message is 16 bytes; the address follows.
    let header = size_of::<libc::cmsghdr>();
    let data = slot.control.get(header..control.min(CONTROL))?;
    let asked = if client.is_ipv4() {
        // `in_pktinfo`: index, source for an answer, destination.
        let bytes: [u8; 4] = data.get(8..12)?.try_into().ok()?;
        IpAddr::V4(Ipv4Addr::from(bytes))
    } else {
        // `in6_pktinfo`: destination, index.
        let bytes: [u8; 16] = data.get(..16)?.try_into().ok()?;
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(Parties { client, asked })
}
