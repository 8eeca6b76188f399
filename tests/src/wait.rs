//! Waiting for conditions, with deadlines.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a condition that needs only the kernel may take on a loaded machine.
pub const SOON: Duration = Duration::from_secs(10);
/// How long a condition that needs the agent to start may take on a loaded machine.
pub const START: Duration = Duration::from_secs(60);

/// Waits until the condition gives a value, and fails with `what` when the deadline passes.
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the condition holds.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Waits until the function's value equals the wanted one, and shows the last one otherwise.
pub fn wait_equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    deadline: Duration,
    want: &T,
    mut read: impl FnMut() -> T,
) {
    let start = Instant::now();
    loop {
        let got = read();
        if got == *want {
            return;
        }
        assert!(
            start.elapsed() < deadline,
            "waited {deadline:?} in vain for {what}: wanted {want:?}, last was {got:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
