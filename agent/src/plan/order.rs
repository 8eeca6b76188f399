//! In which order actions are done: new things shut until all of it is there, old things shut first.

use super::{Action, Entry, Planned};

/// Sorts actions by what may come before what; the order of equals stays.
pub(super) fn sorted(mut plan: Vec<Planned>) -> Vec<Planned> {
    plan.sort_by_key(|planned| stage(&planned.action));
    plan
}

/// Ends of generations come first: from then on nothing reaches a former holder's successor. Then what
/// leads to what goes (ports, rules, neighbours, endpoints), then the things themselves. New things come
/// in the opposite order, an endpoint's entry after its programs and before the way in is open.
const fn stage(action: &Action) -> u8 {
    match action {
        Action::Map(entry) => entry_stage(entry),
        Action::DeleteNeighbour(_) | Action::DeleteFdb(_) => 6,
        Action::DeleteLink { .. } => 7,
        Action::Detach(_) | Action::DetachXdp(_) => 8,
        Action::RemoveSandbox(_) => 9,
        Action::CreateBridge { .. } => 20,
        Action::SetMac { .. }
        | Action::SetMtu { .. }
        | Action::StopAsking { .. }
        | Action::DeleteAddress { .. } => 21,
        Action::AddAddress { .. } => 22,
        Action::CreateSandbox(_) => 30,
        Action::PublishName { .. } | Action::LoopbackUp(_) => 31,
        Action::CreateVeth { .. } => 32,
        Action::Attach { .. } | Action::AttachXdp(_) => 33,
        Action::Enslave { .. } => 35,
        Action::Quiet { .. } => 36,
        Action::Configure(_) => 37,
        Action::SetUp { .. } => 38,
        Action::SetFdb(_) => 39,
        Action::SetNeighbour(_) => 40,
    }
}

const fn entry_stage(entry: &Entry) -> u8 {
    match entry {
        Entry::Generation(..) => 0,
        Entry::Ports(_, None) | Entry::Served(_, None) => 1,
        Entry::Rule(_, None) => 2,
        Entry::Link(_, None) => 3,
        Entry::Neighbour(_, None) | Entry::Neighbour6(_, None) => 4,
        Entry::Endpoint(_, None) => 5,
        Entry::Uplink(_, None)
        | Entry::Local(_, None)
        | Entry::Local6(_, None)
        | Entry::Bridge(_, None)
        | Entry::Trusted(_, None) => 10,
        Entry::Subnet(_, None) | Entry::Subnet6(_, None) => 11,
        Entry::Network(_, None) => 12,
        Entry::Denied(_, None) => 13,
        Entry::DenyLate(_, None) => 14,
        Entry::Config(..) => 19,
        Entry::Network(..) => 23,
        Entry::Subnet(..) | Entry::Subnet6(..) => 24,
        Entry::Local(..) | Entry::Local6(..) => 25,
        Entry::Uplink(..) | Entry::Bridge(..) | Entry::Trusted(..) => 26,
        Entry::Denied(..) => 27,
        Entry::DenyLate(..) => 28,
        Entry::Endpoint(..) => 34,
        Entry::Link(..) => 41,
        Entry::Neighbour(..) | Entry::Neighbour6(..) => 42,
        Entry::Rule(..) => 43,
        Entry::Ports(..) | Entry::Served(..) => 44,
    }
}
