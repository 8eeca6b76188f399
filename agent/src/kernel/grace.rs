//! Short grace periods while interfaces get and lose programs.
//!
//! Linux waits for a grace period of RCU, with the lock of all interfaces held, whenever a TCX program is attached to
//! an interface or taken off it (`tcx_entry_sync` in kernel/bpf/tcx.c, Linux 6.6 on). An ordinary one lasts ten
//! milliseconds and more on an idle machine, most of them spent waiting for timer ticks; an expedited one asks every
//! CPU by an interrupt and is over in microseconds. `/sys/kernel/rcu_expedited` asks for these, for the whole machine:
//! it is set for as long as a plan is being carried out, where nobody has set it, and taken back at once. Linux goes by
//! `rcu_normal` where both are set, as real-time kernels have it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Whether grace periods are expedited.
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";
/// CPUs that are not to be interrupted; lists of the form `2-3,7`, or `(null)`.
const UNDISTURBED: [&str; 2] =
    ["/sys/devices/system/cpu/isolated", "/sys/devices/system/cpu/nohz_full"];
/// In the run directory while the agent has it set: who finds it takes back what another was killed over.
pub const MARKER: &str = "rcu-expedited";

/// The machine's switch, and whether it may be used.
#[derive(Debug)]
pub struct Grace {
    switch: PathBuf,
    marker: PathBuf,
    allowed: bool,
}

impl Grace {
    /// Finds the switch, and takes back what an agent with this run directory was killed over. It is used where it is
    /// `wanted`, and no CPU is to be left undisturbed.
    pub fn new(run: &Path, wanted: bool) -> Arc<Self> {
        let allowed = wanted && !UNDISTURBED.iter().any(|list| names_cpus(Path::new(list)));
        Self::with(PathBuf::from(EXPEDITED), run.join(MARKER), allowed)
    }

    fn with(switch: PathBuf, marker: PathBuf, allowed: bool) -> Arc<Self> {
        let grace = Self { switch, marker, allowed };
        if grace.marker.exists() {
            grace.take_back();
        }
        Arc::new(grace)
    }

    /// Makes grace periods short until what is returned is dropped. Where that cannot be, they stay as they are: it is
    /// about time alone.
    pub fn shorten(self: &Arc<Self>) -> Shortened {
        let is_set = self.allowed && self.set().is_ok_and(|set| set);
        Shortened(is_set.then(|| Arc::clone(self)))
    }

    /// Returns whether it was set; not where somebody else has done so.
    fn set(&self) -> io::Result<bool> {
        if fs::read_to_string(&self.switch)?.trim() != "0" {
            return Ok(false);
        }
        fs::write(&self.marker, "")?;
        if let Err(error) = fs::write(&self.switch, "1") {
            fs::remove_file(&self.marker)?;
            return Err(error);
        }
        Ok(true)
    }

    fn take_back(&self) {
        let taken = fs::write(&self.switch, "0").and_then(|()| fs::remove_file(&self.marker));
        if let Err(error) = taken {
            let (switch, marker) = (self.switch.display(), self.marker.display());
            tracing::warn!(%switch, %marker, %error, "grace periods of the kernel stay expedited");
        }
    }
}

/// Grace periods are short while it is there.
#[derive(Debug)]
#[must_use = "grace periods are short only while it is there"]
pub struct Shortened(Option<Arc<Grace>>);

impl Drop for Shortened {
    fn drop(&mut self) {
        if let Some(grace) = &self.0 {
            grace.take_back();
        }
    }
}

fn names_cpus(list: &Path) -> bool {
    fs::read_to_string(list).is_ok_and(|list| list.contains(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        directory: tempfile::TempDir,
    }

    impl Files {
        fn new(value: &str) -> Self {
            let files = Self { directory: tempfile::tempdir().expect("a directory") };
            fs::write(files.switch(), value).expect("a file");
            files
        }

        fn switch(&self) -> PathBuf {
            self.directory.path().join("switch")
        }

        fn marker(&self) -> PathBuf {
            self.directory.path().join(MARKER)
        }

        fn grace(&self, allowed: bool) -> Arc<Grace> {
            Grace::with(self.switch(), self.marker(), allowed)
        }

        fn value(&self) -> String {
            fs::read_to_string(self.switch()).expect("a file").trim().to_owned()
        }
    }

    #[test]
    fn n20_grace_periods_are_short_while_something_is_done_and_not_after() {
        let files = Files::new("0\n");
        let grace = files.grace(true);
        let shortened = grace.shorten();
        assert_eq!(files.value(), "1");
        assert!(files.marker().exists());
        drop(shortened);
        assert_eq!(files.value(), "0");
        assert!(!files.marker().exists());
    }

    #[test]
    fn what_the_operator_has_set_stays_set() {
        let files = Files::new("1\n");
        drop(files.grace(true).shorten());
        assert_eq!(files.value(), "1");
    }

    #[test]
    fn nothing_is_touched_where_it_is_not_wanted() {
        let files = Files::new("0\n");
        let grace = files.grace(false);
        let shortened = grace.shorten();
        assert_eq!(files.value(), "0");
        drop(shortened);
        assert!(!files.marker().exists());
    }

    #[test]
    fn the_next_agent_takes_back_what_one_was_killed_over() {
        let files = Files::new("0\n");
        std::mem::forget(files.grace(true).shorten());
        assert_eq!(files.value(), "1");
        files.grace(false);
        assert_eq!(files.value(), "0");
        assert!(!files.marker().exists());
    }

    #[test]
    fn without_the_switch_all_goes_on() {
        let files = Files::new("0\n");
        fs::remove_file(files.switch()).expect("a file");
        drop(files.grace(true).shorten());
        assert!(!files.marker().exists());
    }

    #[test]
    fn a_list_of_cpus_is_told_from_an_empty_one() {
        let files = Files::new("");
        for (list, names) in [("\n", false), ("(null)\n", false), ("2-3,7\n", true)] {
            fs::write(files.switch(), list).expect("a file");
            assert_eq!(names_cpus(&files.switch()), names, "{list:?}");
        }
    }
}
