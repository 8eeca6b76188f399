//! Switches of the data plane: one slot of the array `CONFIG`, replaced as a whole.

use super::Port;

/// The coarse clock of conntrack is the boot-less monotonic clock in nanoseconds, shifted right by this:
/// units of about 1.07 s, the same at every `CONFIG_HZ`.
pub const CLOCK_SHIFT: u32 = 30;

/// Idle times after which collection removes a flow, in units of the coarse clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP before the handshake is complete.
    pub tcp_opening: u32,
    /// TCP established.
    pub tcp_established: u32,
    /// TCP after a FIN of both sides.
    pub tcp_closing: u32,
    /// TCP after a RST.
    pub tcp_reset: u32,
    /// UDP without an answer.
    pub udp: u32,
    /// UDP with answers.
    pub udp_replied: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// Protocols without ports.
    pub other: u32,
}

impl Timeouts {
    const fn units(seconds: u64) -> u32 {
        (seconds * 1_000_000_000).div_ceil(1 << CLOCK_SHIFT) as u32
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_opening: Self::units(60),
            tcp_established: Self::units(6 * 3600),
            tcp_closing: Self::units(30),
            tcp_reset: Self::units(10),
            udp: Self::units(30),
            udp_replied: Self::units(120),
            icmp: Self::units(30),
            other: Self::units(600),
        }
    }
}

/// Value of `CONFIG[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Cookie of the agent's network namespace (`SO_NETNS_COOKIE`): the cgroup programs see every
    /// process of the kernel, and act for this namespace alone.
    pub netns_cookie: u64,
    /// First port of the masquerade range, in host byte order.
    pub masquerade_first: u16,
    /// Last port of the masquerade range, in host byte order.
    pub masquerade_last: u16,
    /// Events a second that each CPU may report; above it they are counted as lost.
    pub events_per_second: u32,
    /// Idle times.
    pub timeouts: Timeouts,
    /// Packets with this mark, under `accept_mark_mask`, may address containers directly
    /// (`--bridge-accept-fwmark`).
    pub accept_mark: u32,
    /// Bits of the mark that count; 0 accepts no packet by its mark.
    pub accept_mark_mask: u32,
    /// Flows of IPv4 and of IPv6 that may be half open at a time, [`Self::HALF_OPEN`] at most; 0 does not count them.
    pub half_open: [u32; 2],
}
const _: () = assert!(size_of::<Config>() == 64 && align_of::<Config>() == 8);

impl Config {
    /// Places for half-open flows of either family.
    pub const HALF_OPEN: u32 = 32_768;

    /// Whether a port lies in the masquerade range.
    #[inline(always)]
    pub const fn masquerades_with(&self, port: Port) -> bool {
        self.masquerade_first <= port.number() && port.number() <= self.masquerade_last
    }
}

impl Config {
    /// Whether a packet's mark lets it address containers directly.
    #[inline(always)]
    pub const fn accepts_mark(&self, mark: u32) -> bool {
        self.accept_mark_mask != 0 && mark & self.accept_mark_mask == self.accept_mark
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            netns_cookie: 0,
            masquerade_first: 49_152,
            masquerade_last: 65_535,
            events_per_second: 1_000,
            timeouts: Timeouts::default(),
            accept_mark: 0,
            accept_mark_mask: 0,
            half_open: [0; 2],
        }
    }
}
