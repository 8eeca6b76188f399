//! Staying with a command: signals go on to it, the terminal is left as it was found.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::ExitStatusExt,
    },
    process::{Child, ExitStatus},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd, siginfo},
        termios::{SetArg, Termios, tcgetattr, tcsetattr},
    },
    unistd::{Pid, getpgrp, tcgetpgrp},
};

use crate::error::exit;

/// Signals that are the command's business.
const FORWARDED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGWINCH,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];
/// Those that end a program.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// `si_code` of signals that the kernel makes, such as those of a terminal's keys.
const SI_KERNEL: i32 = 0x80;

/// Returns the signals that are held back while a command is stayed with.
pub fn held() -> SigSet {
    FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect()
}

/// Signals of this client, held back since it was made. Children inherit that, and have to undo it.
#[derive(Debug)]
pub struct Signals {
    file: SignalFd,
}

impl Signals {
    /// Holds signals back, in this thread and in those it starts from now on.
    pub fn hold() -> nix::Result<Self> {
        let set = held();
        set.thread_block()?;
        let file = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { file })
    }

    /// Returns a signal that asked this client to end before there was a command.
    pub fn asked_to_end(&self) -> Option<Signal> {
        while let Ok(Some(info)) = self.file.read_signal() {
            let signal = signal_of(&info);
            if signal.is_some_and(|signal| ENDING.contains(&signal)) {
                return signal;
            }
        }
        None
    }

    /// Waits until a command ends, and hands signals on to it meanwhile.
    pub fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = Pid::from_raw(child.id().cast_signed());
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            match poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)
            {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            while let Some(info) = self.file.read_signal()? {
                if let Some(signal) = signal_of(&info).filter(|signal| is_for_us(*signal, &info)) {
                    // Where it has just ended, the loop finds out.
                    kill(pid, signal).ok();
                }
            }
        }
    }
}

impl Signals {
    /// Hands signals on to a command with a terminal of its own, those of this client's keys included.
    pub fn pass_on(&self, child: &Child, mut tell: impl FnMut(Signal)) -> io::Result<()> {
        let pid = Pid::from_raw(child.id().cast_signed());
        while let Some(info) = self.file.read_signal()? {
            match signal_of(&info) {
                None | Some(Signal::SIGCHLD) => {}
                // Its own terminal tells it.
                Some(Signal::SIGWINCH) => tell(Signal::SIGWINCH),
                Some(signal) => {
                    tell(signal);
                    kill(pid, signal).ok();
                }
            }
        }
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn signal_of(info: &siginfo) -> Option<Signal> {
    i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())
}

/// What a terminal sends, it sends to the command too: both are in its foreground.
fn is_for_us(signal: Signal, info: &siginfo) -> bool {
    signal != Signal::SIGCHLD && info.ssi_code != SI_KERNEL
}

/// Returns the exit code that stands for an end.
pub fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => exit::of_signal(signal),
        (None, None) => u8::MAX,
    }
}

/// The settings of this client's terminal; dropping it restores them, whatever the command left.
#[derive(Debug)]
pub struct Settings {
    found: Option<Termios>,
}

impl Settings {
    /// Remembers the settings of standard input, if that is a terminal.
    pub fn remember() -> Self {
        Self { found: tcgetattr(io::stdin()).ok() }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // From the background this would stop the client, and the terminal is not ours to set.
        if let Some(settings) = &self.found
            && tcgetpgrp(io::stdin()) == Ok(getpgrp())
        {
            tcsetattr(io::stdin(), SetArg::TCSADRAIN, settings).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_passed_on() {
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
        assert_eq!(code(ExitStatus::from_raw(2)), 130);
    }
}
