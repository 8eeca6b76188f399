//! The deny list: prefixes whose packets an uplink drops before anything else looks at them. Two tries
//! from prefix to [`Denied`], `DENY4` and `DENY6`, and counters by slot in `DENY_STATS`.

/// Slots of `DENY_STATS`: 1 up to this, exclusive, belong to prefixes; slot 0 sums up what XDP dropped.
pub const SLOTS: u32 = 16_384;
/// The slot that sums up what XDP dropped: it goes on where a prefix goes.
pub const TOTAL: u32 = 0;

/// A prefix on the list. Maps `DENY4` and `DENY6`, tries by source address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Its slot in `DENY_STATS`.
    pub slot: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Denied>() == 8 && align_of::<Denied>() == 4);
