//! Processes: told apart from later ones of the same number, and followed to their end.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use tokio::io::{Interest, unix::AsyncFd};

use super::error::{OrRefuse, Result};

/// A process that is followed.
#[derive(Debug)]
pub struct Followed {
    fd: AsyncFd<OwnedFd>,
}

impl Followed {
    /// Follows a process; needs a tokio runtime.
    pub fn open(pid: i32) -> Result<Self> {
        let object = || format!("process {pid}");
        // SAFETY: the call takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0);
        let Some(fd) = fd else {
            return Err(io::Error::last_os_error()).or_refuse("follow", object());
        };
        // SAFETY: the kernel has just made this descriptor for us alone; it is close-on-exec.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the OwnedFd is what AsyncFd keeps, so the descriptor stays open as long as it is asked.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        let fd = registered.map_err(io::Error::from).or_refuse("follow", object())?;
        Ok(Self { fd })
    }

    /// Waits for the process to end.
    pub async fn ended(&self) {
        // An error would mean that the runtime is going down.
        let _ = self.fd.readable().await;
    }
}

impl AsRawFd for Followed {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// When a process was started, in clock ticks since boot; none where there is no such process.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; the fields after it are numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    // A zombie has ended.
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Identifier of this boot of the machine.
pub fn boot_id() -> Result<String> {
    let text =
        fs::read_to_string("/proc/sys/kernel/random/boot_id").or_refuse("read", "the boot id")?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_start_time_and_its_number_alone_does_not() {
        let own = i32::try_from(std::process::id()).expect("small");
        assert!(start_time(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_time(i32::MAX), None);
        assert!(!boot_id().expect("readable").is_empty());
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let followed = Followed::open(i32::try_from(child.id()).expect("small")).expect("followed");
        child.kill().expect("killed");
        let end = tokio::time::timeout(std::time::Duration::from_secs(10), followed.ended());
        end.await.expect("noticed");
        child.wait().expect("reaped");
    }
}
