//! Who is at the other end of a unix socket, as the kernel saw it connect.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt::PeerCredentials},
};

/// Supplementary groups of one process that are looked at; the kernel lets it have 65,536.
const GROUPS: usize = 65_536;

/// A process at the other end of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// Asks who is at the other end.
pub fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let peer = getsockopt(&socket, PeerCredentials)?;
    Ok(Credentials { uid: peer.uid(), gid: peer.gid(), groups: groups(socket)? })
}

/// Tells whether the other end is closed altogether, and not only for sending.
pub fn has_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut asked, PollTimeout::ZERO).is_ok()
        && asked[0].revents().is_some_and(|seen| seen.intersects(PollFlags::POLLHUP))
}

fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut room = 64;
    loop {
        let mut groups = vec![0_u32; room];
        let mut length = libc::socklen_t::try_from(room * size_of::<u32>()).unwrap_or(0);
        // SAFETY: the kernel writes at most `length` bytes, which is what the vector has, and says how many.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            groups.truncate(length as usize / size_of::<u32>());
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || room >= GROUPS {
            return Err(error);
        }
        // The kernel says how much room it wants.
        room = (length as usize / size_of::<u32>()).clamp(room * 2, GROUPS);
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::net::UnixStream};

    use super::*;

    #[test]
    fn the_other_end_is_known() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        let found = credentials(here.as_fd()).expect("credentials");
        assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(found.gid, nix::unistd::getegid().as_raw());
        let mut own: Vec<u32> =
            nix::unistd::getgroups().expect("groups").iter().map(|g| g.as_raw()).collect();
        let mut groups = found.groups;
        own.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, own);
    }
}
