//! How a walk ends.

use crate::abi::{DropReason, Ip4};

/// What becomes of a packet that is not dropped.
///
/// Plain numbers, all set: where an enum leaves bytes unset, LLVM copies registers that were never written,
/// which the verifier refuses ("R2 !read_ok", Linux 6.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What.
    pub kind: Kind,
    /// Interface index, for [`Kind::Deliver`] (of the host end of the veth) and [`Kind::Leave`].
    pub ifindex: u32,
    /// Address of the next hop, for [`Kind::Leave`]; unspecified leaves the choice to the kernel.
    pub next_hop: Ip4,
}

/// The kinds of [`Verdict`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On its ordinary way: to the kernel, or to the next program on the interface.
    Pass = 0,
    /// Into the container behind an interface (`bpf_redirect_peer`).
    Deliver = 1,
    /// Out of an uplink (`bpf_redirect_neigh`).
    Leave = 2,
    /// Not decided: it may open a flow.
    First = 3,
    /// Not decided: an ICMP error.
    Error = 4,
}

impl Verdict {
    /// On its ordinary way.
    pub const PASS: Self = Self { kind: Kind::Pass, ifindex: 0, next_hop: Ip4::UNSPECIFIED };
    /// Not decided: it may open a flow.
    pub(super) const FIRST: Self =
        Self { kind: Kind::First, ifindex: 0, next_hop: Ip4::UNSPECIFIED };
    /// Not decided: an ICMP error.
    pub(super) const ERROR: Self =
        Self { kind: Kind::Error, ifindex: 0, next_hop: Ip4::UNSPECIFIED };

    /// Into the container behind this interface.
    #[inline(always)]
    pub const fn deliver(ifindex: u32) -> Self {
        Self { kind: Kind::Deliver, ifindex, next_hop: Ip4::UNSPECIFIED }
    }

    /// Out of this uplink.
    #[inline(always)]
    pub const fn leave(ifindex: u32, next_hop: Ip4) -> Self {
        Self { kind: Kind::Leave, ifindex, next_hop }
    }
}

/// The end of a walk, or of one part of it.
pub type Outcome = Result<Verdict, DropReason>;

/// The end of a walk as plain numbers: what a BPF function returns.
#[derive(Clone, Copy, Debug)]
pub struct Flat {
    /// The verdict; without meaning where there is a reason.
    verdict: Verdict,
    /// Number of the reason of a drop, or 0.
    reason: u32,
}

impl Flat {
    /// Packs an outcome.
    #[inline(always)]
    pub fn new(outcome: Outcome) -> Self {
        match outcome {
            Ok(verdict) => Self { verdict, reason: 0 },
            Err(reason) => Self { verdict: Verdict::PASS, reason: reason as u32 },
        }
    }

    #[inline(always)]
    fn is(&self, kind: Kind) -> bool {
        self.reason == 0 && self.verdict.kind as u32 == kind as u32
    }

    /// The verdict, or the number of the reason of a drop.
    #[inline(always)]
    pub fn end(&self) -> Result<Verdict, u8> {
        if self.reason != 0 {
            return Err(self.reason as u8);
        }
        if self.is(Kind::First) {
            // The flow that was just entered is not there.
            return Err(DropReason::CtTableFull as u8);
        }
        Ok(self.verdict)
    }
}

/// Walks the parts: the first for every packet; another one, where the first says so, for the few that are an
/// ICMP error or open a flow; and the first again, where a flow was opened.
///
/// The parts are functions of their own, side by side, because a BPF program has 512 bytes of stack for
/// everything that is called at one time.
#[inline(always)]
pub fn in_parts<C>(
    context: &mut C,
    known: impl Fn(&mut C) -> Flat,
    first: impl Fn(&mut C) -> Flat,
    error: impl Fn(&mut C) -> Flat,
) -> Flat {
    let end = known(context);
    if end.is(Kind::Error) {
        return error(context);
    }
    if !end.is(Kind::First) {
        return end;
    }
    let end = first(context);
    if !end.is(Kind::First) {
        return end;
    }
    known(context)
}
