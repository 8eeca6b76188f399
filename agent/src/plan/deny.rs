//! The deny list: its entries, and where its program runs.

use std::collections::{BTreeMap, BTreeSet};

use bascule_common::abi::Denied;
use ipnetwork::IpNetwork;

use super::{Action, Observed, Planned, Settings, Subject, Xdp, diff::View, host::uplinks};
use crate::model::Desired;

/// Returns the entries of the tries.
pub(super) fn entries(desired: &Desired) -> BTreeMap<IpNetwork, Denied> {
    let entry =
        |d: &crate::model::Denial| (d.prefix.network(), Denied { slot: d.slot, reserved: 0 });
    desired.denials.values().map(entry).collect()
}

/// Returns the switch for `from_uplink`: on where there is a list, and an uplink that does not look at it
/// in XDP, be it that it cannot or that it does not yet.
pub(super) fn late(
    desired: &Desired,
    observed: &Observed,
    settings: &Settings,
) -> BTreeMap<u32, u64> {
    let early = |index: &u32| matches!(observed.xdp.get(index), Some(Xdp::Attached { .. }));
    let late = !desired.denials.is_empty()
        && uplinks(observed, settings).any(|link| !link.ethernet || !early(&link.index));
    late.then_some((0, 1)).into_iter().collect()
}

/// Plans the program in XDP of uplinks, as long as there is a list.
pub(super) fn programs(
    desired: &Desired,
    observed: &View,
    settings: &Settings,
    plan: &mut Vec<Planned>,
) {
    // An XDP program is handed an Ethernet header, whatever the device has.
    let wanted: BTreeSet<u32> = uplinks(observed, settings)
        .filter(|link| link.ethernet && !desired.denials.is_empty())
        .map(|link| link.index)
        .collect();
    let mut push = |action| plan.push(Planned { subject: Subject::DenyList, action });
    for index in observed.xdp.keys().filter(|index| !wanted.contains(index)) {
        push(Action::DetachXdp(*index));
    }
    for index in wanted {
        let settled = matches!(
            observed.xdp.get(&index),
            Some(Xdp::Attached { current: true, .. } | Xdp::Refused { .. })
        );
        if !settled {
            push(Action::AttachXdp(index));
        }
    }
}
