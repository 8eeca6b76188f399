//! Addresses of containers that were removed: for a while they are kept for the next container of the name.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Container, ContainerId, Desired, Former, Lease, Name, NetworkId};

/// How long a name keeps the addresses of a container that was removed.
const GRACE: SignedDuration = SignedDuration::from_mins(10);
/// Names that are remembered; the one removed longest ago is forgotten first.
const MOST: usize = 256;

/// Returns the name of a container that was given none.
pub(super) fn chosen_name(id: ContainerId) -> String {
    format!("sandbox-{}", id.prefix(8))
}

/// Removes a container, and remembers the addresses that it had, unless its name never comes again.
pub(super) fn remove(desired: &mut Desired, id: ContainerId, now: Timestamp) {
    let Some(container) = desired.containers.remove(&id) else { return };
    let Container { name, attachments, .. } = container;
    let Ok(until) = now.checked_add(GRACE) else { return };
    if name.as_str() == chosen_name(id) {
        return;
    }
    let former = &mut desired.indices.former;
    for place in attachments.into_iter().filter(|place| place.lease != Lease::default()) {
        let (network, name) = (place.network, name.clone());
        former.retain(|f| (f.network, &f.name) != (network, &name));
        former.push(Former { network, name, lease: place.lease, until });
    }
    let more = former.len().saturating_sub(MOST);
    former.drain(..more);
}

/// Returns the addresses that are kept for a name on a network.
pub(super) fn lease(desired: &Desired, network: NetworkId, name: &Name) -> Lease {
    let mut former = desired.indices.former.iter();
    former.find(|f| (f.network, &f.name) == (network, name)).map(|f| f.lease).unwrap_or_default()
}

/// Forgets what has been kept for long enough, and what was on networks that are gone.
pub(super) fn forget(desired: &mut Desired, now: Timestamp) {
    let networks = &desired.networks;
    desired.indices.former.retain(|f| f.until > now && networks.contains_key(&f.network));
}
