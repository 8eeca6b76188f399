//! The deny list in XDP: links pinned as `links/<ifindex>-xdp`, in the driver where it can run programs,
//! or else in the kernel's generic hook.

use std::{collections::BTreeMap, io, path::PathBuf};

use bascule_common::abi::names::program;

use super::{
    BpfError,
    attach::{Hooks, remove_link},
    bpffs::{entries, unpin},
    error::pin,
    load::Programs,
    sys::{self, LinkTarget},
};

/// End of the names of pins.
const SUFFIX: &str = "-xdp";

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before there is a packet.
    Native,
    /// In the kernel, before anything else looks at the packet.
    Generic,
}

impl XdpMode {
    /// The name, as in metrics and messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// `XDP_FLAGS_...`.
    const fn flags(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
        }
    }
}

/// What attaching came to.
#[derive(Debug)]
pub enum XdpAttached {
    /// The very program was there, or an older one was swapped for it.
    Kept,
    /// It runs from now on; where not in the driver, this is what the driver said.
    Created(XdpMode, Option<io::Error>),
    /// It cannot run on this interface.
    Refused(io::Error),
}

fn pin_name(ifindex: u32) -> String {
    format!("{ifindex}{SUFFIX}")
}

fn from_pin_name(name: &str) -> Option<u32> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

fn error(what: &'static str, ifindex: u32) -> impl FnOnce(io::Error) -> BpfError {
    let place = format!("in XDP of interface {ifindex}");
    move |source| BpfError::Attach { what, program: program::DENY.into(), place, source }
}

impl Hooks {
    /// Puts the deny list's program on an interface, swapping an older one in place.
    pub fn attach_xdp(&self, programs: &Programs, ifindex: u32) -> Result<XdpAttached, BpfError> {
        let program = programs.get(program::DENY)?;
        let path = self.pins().link(&pin_name(ifindex));
        let target = LinkTarget::Xdp { ifindex };
        if let Some((link, current)) = self.live_link(&path, |found| found == target)? {
            if current == program.id {
                return Ok(XdpAttached::Kept);
            }
            match sys::link_update(&link, program.fd()) {
                Ok(()) => return Ok(XdpAttached::Kept),
                // The interface went away a moment ago.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => unpin(&path)?,
                Err(source) => return Err(error("swap", ifindex)(source)),
            }
        }
        let mut of_driver = None;
        for mode in [XdpMode::Native, XdpMode::Generic] {
            match sys::link_create_xdp(program.fd(), ifindex, mode.flags()) {
                Ok(link) => {
                    sys::object_pin(&link, &path).map_err(pin("pin the link at", &path))?;
                    return Ok(XdpAttached::Created(mode, of_driver));
                }
                Err(source) if source.raw_os_error() == Some(libc::ENODEV) => {
                    return Err(error("attach", ifindex)(source));
                }
                Err(source) if mode == XdpMode::Generic => {
                    return Ok(XdpAttached::Refused(source));
                }
                Err(source) => of_driver = Some(source),
            }
        }
        Ok(XdpAttached::Refused(of_driver.unwrap_or_else(|| io::ErrorKind::Unsupported.into())))
    }

    /// Takes the deny list's program off an interface; false if it was not there.
    pub fn detach_xdp(&self, ifindex: u32) -> Result<bool, BpfError> {
        remove_link(&self.pins().link(&pin_name(ifindex)))
    }

    /// Identifiers of the programs that our links run in XDP, by interface.
    pub fn all_xdp(&self) -> Result<BTreeMap<u32, u32>, BpfError> {
        let mut all = BTreeMap::new();
        for (ifindex, path) in self.pinned_xdp()? {
            let target = LinkTarget::Xdp { ifindex };
            if let Some((_, program)) = Self::pinned_link(&path, |found| found == target)? {
                all.insert(ifindex, program);
            }
        }
        Ok(all)
    }

    fn pinned_xdp(&self) -> Result<Vec<(u32, PathBuf)>, BpfError> {
        let ifindex = |path: &PathBuf| from_pin_name(path.file_name()?.to_str()?);
        let paths = entries(&self.pins().links_dir())?.into_iter();
        Ok(paths.filter_map(|path| Some((ifindex(&path)?, path))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_name_their_interface() {
        assert_eq!(from_pin_name(&pin_name(70_000)), Some(70_000));
        for other in ["5-in", "5-eg", "cg-bind4", "-xdp", "x-xdp"] {
            assert_eq!(from_pin_name(other), None, "{other}");
        }
    }
}
