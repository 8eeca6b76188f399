//! What a command may do to the machine: the capabilities that Docker's containers have, unless more or fewer
//! are asked for. The right to change the network is not among them.

use std::fs;

use anyhow::Context as _;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::error::Failure;

/// What Docker leaves to a container.
const USUAL: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// What a command may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    kept: CapabilitySet,
    /// Whether it finds the kernel's settings open for writing.
    privileged: bool,
}

impl Rights {
    /// Every right that the client has.
    pub const ALL: Self = Self { kept: CapabilitySet::all(), privileged: true };

    /// Reads `--privileged`, `--cap-add` and `--cap-drop`.
    pub fn new(privileged: bool, add: &[String], drop: &[String]) -> Result<Self, Failure> {
        if privileged {
            return Ok(Self::ALL);
        }
        let (add, drop) = (named(add)?, named(drop)?);
        // As with Docker, single names count after ALL, whichever list it stands in.
        let all = CapabilitySet::all();
        let start = match (add == all, drop == all) {
            (true, _) => all,
            (false, true) => CapabilitySet::empty(),
            (false, false) => USUAL,
        };
        let mut kept = start;
        if add != all {
            kept |= add;
        }
        if drop != all {
            kept -= drop;
        }
        Ok(Self { kept, privileged: false })
    }

    /// Returns what a process may do, for those who join it.
    pub fn of(pid: i32) -> Result<Self, Failure> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        let bits = bits.with_context(|| format!("{path} says nothing of capabilities"))?;
        Ok(Self { kept: CapabilitySet::from_bits_retain(bits), privileged: false })
    }

    /// Returns whether the kernel's settings are open for writing.
    pub const fn is_privileged(self) -> bool {
        self.privileged
    }

    /// Leaves the calling thread, and whatever it starts, these rights and no others.
    pub fn limit(self) -> rustix::io::Result<()> {
        if self == Self::ALL {
            return Ok(());
        }
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            match capability_is_in_bounding_set(one) {
                Ok(true) if !self.kept.contains(one) => remove_capability_from_bounding_set(one)?,
                Ok(_) => {}
                // One that this kernel does not have: there are no more.
                Err(_) => break,
            }
        }
        clear_ambient_capability_set()?;
        let now = rustix::thread::capabilities(None)?;
        let sets = CapabilitySets {
            effective: now.effective & self.kept,
            permitted: now.permitted & self.kept,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets)
    }
}

/// Reads names of capabilities, with and without the prefix, in any case.
fn named(names: &[String]) -> Result<CapabilitySet, Failure> {
    let mut set = CapabilitySet::empty();
    for name in names.iter().flat_map(|names| names.split(',')) {
        let upper = name.trim().to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        set |= match plain {
            "ALL" => CapabilitySet::all(),
            name => CapabilitySet::from_name(name).ok_or_else(|| {
                Failure::usage(format!("invalid capability: unknown capability: \"CAP_{name}\""))
            })?,
        };
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(add: &[&str], drop: &[&str]) -> CapabilitySet {
        let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        Rights::new(false, &words(add), &words(drop)).expect("good").kept
    }

    #[test]
    fn s192_a_command_may_not_change_its_network_unless_it_was_said_so() {
        assert!(!rights(&[], &[]).contains(CapabilitySet::NET_ADMIN));
        assert!(rights(&[], &[]).contains(CapabilitySet::NET_RAW));
        assert!(rights(&["net_admin"], &[]).contains(CapabilitySet::NET_ADMIN));
        assert!(rights(&["CAP_NET_ADMIN,SYS_TIME"], &[]).contains(CapabilitySet::SYS_TIME));
        assert_eq!(rights(&["KILL"], &["all"]), CapabilitySet::KILL);
        assert!(!rights(&["ALL"], &["NET_ADMIN"]).contains(CapabilitySet::NET_ADMIN));
        assert!(rights(&["ALL"], &["NET_ADMIN"]).contains(CapabilitySet::SYS_ADMIN));
        assert!(!rights(&[], &["NET_RAW"]).contains(CapabilitySet::NET_RAW));
        assert_eq!(Rights::new(true, &[], &[]).expect("good"), Rights::ALL);
        assert_eq!(Rights::new(false, &["NET_ADMINS".into()], &[]).expect_err("bad").code(), 2);
    }

    #[test]
    fn rights_of_a_process_are_read() {
        let own = i32::try_from(std::process::id()).expect("small");
        assert!(Rights::of(own).is_ok());
        assert!(Rights::of(i32::MAX).is_err());
    }
}
