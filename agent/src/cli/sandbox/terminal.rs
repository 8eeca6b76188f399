//! A terminal of a command's own (`-t`), and what passes between it and this client's.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{Child, ExitStatus},
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
    sys::{
        signal::Signal,
        termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    },
};

use super::wait::Signals;

/// What is read at once.
const CHUNK: usize = 16 << 10;

/// The client's end of a command's terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    /// Whether what is typed here goes there.
    input: bool,
}

impl Terminal {
    /// Makes a terminal as large as this client's; returns the command's end, too.
    pub fn open(input: bool) -> io::Result<(Self, OwnedFd)> {
        let ends = openpty(size().as_ref(), None)?;
        for end in [&ends.master, &ends.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        Ok((Self { master: ends.master.into(), input }, ends.slave))
    }

    /// Stays with a command until it ends: passes on what it writes, what is typed, and signals.
    pub fn stay(mut self, signals: &Signals, child: &mut Child) -> io::Result<ExitStatus> {
        if self.input {
            raw()?;
            let master = self.master.try_clone()?;
            // It ends with this client: nobody waits for what is typed next.
            thread::Builder::new().name("input".into()).spawn(move || type_on(master))?;
        }
        let mut open = true;
        loop {
            if let Some(status) = child.try_wait()? {
                self.rest()?;
                return Ok(status);
            }
            let mut ready = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if open {
                ready.push(PollFd::new(self.master.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let written = ready.get(1).is_some_and(|master| master.any() == Some(true));
            signals.pass_on(child, |signal| {
                if signal == Signal::SIGWINCH {
                    self.resize();
                }
            })?;
            if written {
                open = self.copy()?;
            }
        }
    }

    /// Copies what the command has written; tells whether there may be more.
    fn copy(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        match self.master.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(length) => {
                let mut out = io::stdout().lock();
                out.write_all(chunk.get(..length).unwrap_or_default())?;
                out.flush()?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            // Nobody has the other end any more, or nothing is there now.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EAGAIN)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Copies what is left of a command that has ended; others may still have its terminal.
    fn rest(&mut self) -> io::Result<()> {
        fcntl(&self.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        while self.copy()? {}
        Ok(())
    }

    fn resize(&self) {
        let Some(size) = size() else { return };
        // SAFETY: the descriptor is open, and the request reads one Winsize.
        unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }
}

/// Makes the calling process, which has just become the leader of a session, its terminal's.
pub fn take(number: i32) -> io::Result<()> {
    // SAFETY: the request takes a number and touches no memory.
    let result = unsafe { libc::ioctl(number, libc::TIOCSCTTY, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns whether this client has a terminal to type on.
pub fn has_input() -> bool {
    io::stdin().is_terminal()
}

/// The size of this client's terminal, if it has one.
fn size() -> Option<Winsize> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request writes one Winsize, which `size` is.
    let result = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some(size)
}

/// Has every key go to the command, those that make signals included. Who remembers the settings restores them.
fn raw() -> io::Result<()> {
    let mut settings = tcgetattr(io::stdin())?;
    cfmakeraw(&mut settings);
    tcsetattr(io::stdin(), SetArg::TCSADRAIN, &settings)?;
    Ok(())
}

/// Passes on what is typed, until it cannot be.
fn type_on(mut master: File) {
    let mut chunk = [0; 1 << 10];
    while let Ok(length @ 1..) = io::stdin().read(&mut chunk) {
        if master.write_all(chunk.get(..length).unwrap_or_default()).is_err() {
            break;
        }
    }
}
