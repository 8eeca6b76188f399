//! Processes: told apart from later ones of the same number, and followed to their end.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use tokio::io::{Interest, unix::AsyncFd};

use super::error::{Error, OrRefuse, Result};

/// How long a killed process may take to be gone.
const KILLED: Duration = Duration::from_secs(2);

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

    fn signal(&self, signal: i32, pid: i32) -> Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; a null pointer asks for the information that kill(2) sends.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, none, 0)
        };
        let error = io::Error::last_os_error();
        if sent == 0 || error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        Err(error).or_refuse("send a signal to", format!("process {pid}"))
    }

    /// Waits for the process to end.
    pub async fn ended(&self) {
        // An error would mean that the runtime is going down.
        let _ = self.fd.readable().await;
    }
}

/// Capabilities without which nothing can be done, by their numbers (`linux/capability.h`).
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Returns which of the capabilities that the agent cannot do without this process lacks.
pub fn lacking() -> Result<Vec<&'static str>> {
    const STATUS: &str = "/proc/self/status";
    let status = fs::read_to_string(STATUS).or_refuse("read", STATUS)?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let held = held.ok_or_else(|| Error::unexpected("read", STATUS, "it has no CapEff"))?;
    Ok(NEEDED.iter().filter(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| *name).collect())
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

/// Ends a process: asked first, and killed after `grace`. One that has ended already is fine.
pub async fn end(pid: i32, started: u64, grace: Duration) -> Result<()> {
    // The descriptor first: then the number cannot be another's by the time it is checked.
    let Ok(followed) = Followed::open(pid) else { return Ok(()) };
    if start_time(pid) != Some(started) {
        return Ok(());
    }
    if !grace.is_zero() {
        followed.signal(libc::SIGTERM, pid)?;
        if tokio::time::timeout(grace, followed.ended()).await.is_ok() {
            return Ok(());
        }
    }
    followed.signal(libc::SIGKILL, pid)?;
    // One in an uninterruptible sleep may take its time; it is not waited for longer than this.
    let _ = tokio::time::timeout(KILLED, followed.ended()).await;
    Ok(())
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
