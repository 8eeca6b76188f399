//! How a walk ends.

use crate::abi::{AnyIp, DropReason};

/// What becomes of a packet that is not dropped.
///
/// Plain numbers, all set: where an enum leaves bytes unset, LLVM copies registers that were never written,
/// which the verifier refuses ("R2 !read_ok", Linux 6.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What.
    pub kind: Kind,
    /// Interface index, for [`Kind::Deliver`] and [`Kind::Send`] (of the host end of the veth), [`Kind::Leave`] and
    /// [`Kind::Host`]; the MTU that the packet exceeds, for [`Kind::TooBig`].
    pub ifindex: u32,
    /// Address of the next hop, for [`Kind::Leave`]; unspecified leaves the choice to the kernel.
    pub next_hop: AnyIp,
    /// MTU that the maximum segment size of the packet, a SYN, shall fit; 0 leaves it alone.
    pub clamp: u32,
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
    /// Dropped, as [`DropReason::TtlExpired`], and to be answered by an ICMP error.
    Expired = 5,
    /// Dropped, as [`DropReason::MtuExceeded`], and to be answered by an ICMP error.
    TooBig = 6,
    /// Out of the interface that it came in by.
    Back = 7,
    /// Not decided: its flow has to be brought up to date first.
    Stale = 8,
    /// To the host, as if it had come in by an interface.
    Host = 9,
    /// Out of the host end of a veth, where [`super::to_container()`] judges it.
    Send = 10,
    /// Not decided: the short way does not lead there.
    Whole = 11,
    /// Not decided: the short way may lead there from the next packet on.
    Vacant = 12,
}

impl Verdict {
    const fn of(kind: Kind) -> Self {
        Self { kind, ifindex: 0, next_hop: AnyIp([0; 4]), clamp: 0 }
    }

    /// On its ordinary way.
    pub const PASS: Self = Self::of(Kind::Pass);
    /// Not decided: it may open a flow.
    pub(super) const FIRST: Self = Self::of(Kind::First);
    /// Not decided: an ICMP error.
    pub(super) const ERROR: Self = Self::of(Kind::Error);
    /// Not decided: its flow has to be brought up to date first.
    pub(super) const STALE: Self = Self::of(Kind::Stale);
    /// Not decided: the short way does not lead there.
    pub(super) const WHOLE: Self = Self::of(Kind::Whole);
    /// Not decided: the short way may lead there from the next packet on.
    pub(super) const VACANT: Self = Self::of(Kind::Vacant);
    /// Dropped and to be answered: its time to live ended.
    pub const EXPIRED: Self = Self::of(Kind::Expired);
    /// Out of the interface that it came in by.
    pub(super) const BACK: Self = Self::of(Kind::Back);

    /// Into the container behind this interface.
    #[inline(always)]
    pub const fn deliver(ifindex: u32) -> Self {
        Self { ifindex, ..Self::of(Kind::Deliver) }
    }

    /// To the host, by this interface.
    #[inline(always)]
    pub const fn host(ifindex: u32) -> Self {
        Self { ifindex, ..Self::of(Kind::Host) }
    }

    /// Out of this host end of a veth.
    #[inline(always)]
    pub const fn send(ifindex: u32) -> Self {
        Self { ifindex, ..Self::of(Kind::Send) }
    }

    /// Out of this uplink.
    #[inline(always)]
    pub const fn leave(ifindex: u32, next_hop: AnyIp) -> Self {
        Self { ifindex, next_hop, ..Self::of(Kind::Leave) }
    }

    /// Dropped and to be answered: it exceeds this MTU.
    #[inline(always)]
    pub const fn too_big(mtu: u32) -> Self {
        Self { ifindex: mtu, ..Self::of(Kind::TooBig) }
    }

    /// Why the packet was dropped, if it is to be answered.
    #[inline(always)]
    pub const fn answers(&self) -> Option<DropReason> {
        match self.kind {
            Kind::Expired => Some(DropReason::TtlExpired),
            Kind::TooBig => Some(DropReason::MtuExceeded),
            _ => None,
        }
    }
}

/// The end of a walk, or of one part of it.
pub type Outcome = Result<Verdict, DropReason>;

/// What is left to do after a part of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Done,
    /// The part for first packets.
    First,
    /// The part for ICMP errors.
    Error,
    /// The part for flows that have to be brought up to date.
    Refresh,
    /// The whole walk, from its first part on.
    Whole,
    /// The same, and there is a slot for what it finds.
    Vacant,
}

/// What the first part of a walk is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// The flow is up to date.
    Fresh,
    /// There is a slot for the flow ([`super::short`]): a settled one counts as out of date, whose part fills it.
    Room,
}

impl From<Told> for u32 {
    #[inline(always)]
    fn from(told: Told) -> Self {
        match told {
            Told::Nothing => 0,
            Told::Fresh => 1,
            Told::Room => 2,
        }
    }
}

impl From<u32> for Told {
    #[inline(always)]
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Nothing,
            1 => Self::Fresh,
            _ => Self::Room,
        }
    }
}

/// How a part of a walk ends: as an [`Outcome`], or as the number that a BPF function returns.
pub trait End {
    /// The flow that was just entered is not there.
    const LOST: Self;
    /// There is no short way.
    const WHOLE: Self;
    /// What is left to do.
    fn next(&self) -> Next;
    /// Where the packet goes on; none where it does not.
    fn went(&self) -> Option<Went>;
}

/// Where a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// Where the walk sends it.
    On,
    /// To the kernel.
    ToKernel,
}

impl End for Outcome {
    const LOST: Self = Err(DropReason::CtTableFull);
    const WHOLE: Self = Ok(Verdict::WHOLE);

    fn next(&self) -> Next {
        match self {
            Ok(Verdict { kind: Kind::First, .. }) => Next::First,
            Ok(Verdict { kind: Kind::Error, .. }) => Next::Error,
            Ok(Verdict { kind: Kind::Stale, .. }) => Next::Refresh,
            Ok(Verdict { kind: Kind::Whole, .. }) => Next::Whole,
            Ok(Verdict { kind: Kind::Vacant, .. }) => Next::Vacant,
            _ => Next::Done,
        }
    }

    fn went(&self) -> Option<Went> {
        match self.ok()?.kind {
            Kind::Deliver | Kind::Leave | Kind::Back | Kind::Send | Kind::Host => Some(Went::On),
            Kind::Pass => Some(Went::ToKernel),
            _ => None,
        }
    }
}

/// Walks the parts: the short way for every packet, which most do not leave; the first; another one, where the first
/// says so, for the few that are an ICMP error, open a flow, or change one; and the first again. It is told then that
/// the flow is up to date. Who watches sees what did not go the short way: nothing does while somebody does.
///
/// The parts are functions of their own, side by side, because a BPF program has 512 bytes of stack for
/// everything that is called at one time; and because the verifier looks at each of them once.
#[expect(clippy::too_many_arguments, reason = "one for each part")]
#[inline(always)]
pub fn in_parts<C, E: End>(
    context: &mut C,
    short: impl Fn(&mut C) -> E,
    known: impl Fn(&mut C, Told) -> E,
    refresh: impl Fn(&mut C) -> E,
    first: impl Fn(&mut C) -> E,
    requote: impl Fn(&mut C) -> E,
    error: impl Fn(&mut C) -> E,
    watched: impl Fn(&mut C, &E),
) -> E {
    let end = short(context);
    let told = match end.next() {
        Next::Whole => Told::Nothing,
        Next::Vacant => Told::Room,
        _ => return end,
    };
    let end = whole(context, told, known, refresh, first, requote, error);
    watched(context, &end);
    end
}

/// All parts but the short way.
#[inline(always)]
fn whole<C, E: End>(
    context: &mut C,
    told: Told,
    known: impl Fn(&mut C, Told) -> E,
    refresh: impl Fn(&mut C) -> E,
    first: impl Fn(&mut C) -> E,
    requote: impl Fn(&mut C) -> E,
    error: impl Fn(&mut C) -> E,
) -> E {
    let mut end = known(context, told);
    if end.next() == Next::Refresh {
        refresh(context);
        end = known(context, Told::Fresh);
    }
    match end.next() {
        Next::Error => {
            requote(context);
            return error(context);
        }
        Next::First => {}
        _ => return end,
    }
    let end = first(context);
    if end.next() != Next::First {
        return end;
    }
    let end = known(context, Told::Fresh);
    if end.next() == Next::First { E::LOST } else { end }
}
