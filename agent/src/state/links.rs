//! Links of `--link`: those of Docker's old manner on the default network, and those of the first network else.

use super::{ContainerSpec, Rejected, find};
use crate::model::{Attachment, Container, Desired, Link, Mode};

/// Returns the links of the default network, and puts the others where they belong: on the first network.
pub(super) fn placed(
    desired: &Desired,
    spec: &ContainerSpec,
    mode: Mode,
    attachments: &mut [Attachment],
) -> Result<Vec<Link>, Rejected> {
    if spec.links.is_empty() {
        return Ok(Vec::new());
    }
    if mode == Mode::Host {
        return Err(Rejected::invalid(NO_HOST));
    }
    let first = attachments.first_mut();
    let Some(first) = first.filter(|place| !is_default(desired, place)) else {
        return spec.links.iter().map(|link| to_container(desired, link)).collect();
    };
    first.links.extend(spec.links.iter().cloned());
    Ok(Vec::new())
}

/// Docker's word for links where there is no network of containers.
const NO_HOST: &str = "conflicting options: host type networking can't be used with links. This would result in undefined behavior";

fn is_default(desired: &Desired, place: &Attachment) -> bool {
    desired.networks.get(&place.network).is_some_and(|network| network.predefined)
}

/// Returns a link of the default network with its target's name; to nobody, or to one on no network, there is none.
fn to_container(desired: &Desired, link: &Link) -> Result<Link, Rejected> {
    let name = &link.container;
    let target = find::container(desired, name.as_str()).map_err(|error| {
        Rejected::invalid(format!("could not get container for {name}: {error}"))
    })?;
    if target.mode == Mode::Host {
        return Err(Rejected::invalid(NO_HOST));
    }
    Ok(Link { container: target.name.clone(), alias: link.alias.clone() })
}

/// Refuses to start a container whose links of the default network lead to one that does not run.
pub(super) fn lead_somewhere(desired: &Desired, container: &Container) -> Result<(), Rejected> {
    let rests = |link: &&Link| {
        !find::container(desired, link.container.as_str()).is_ok_and(|c| c.running().is_some())
    };
    match container.links.iter().find(rests) {
        None => Ok(()),
        Some(link) => Err(Rejected::conflict(format!(
            "Cannot link to a non running container: /{} AS /{}/{}",
            link.container, container.name, link.alias
        ))),
    }
}

/// Moves links that an older version has kept for all networks to the first one, unless that is the default network.
pub(super) fn moved(desired: &mut Desired) {
    let networks = &desired.networks;
    for container in desired.containers.values_mut() {
        let first = container.attachments.first_mut();
        let first = first.filter(|a| networks.get(&a.network).is_none_or(|n| !n.predefined));
        if let Some(first) = first {
            first.links.append(&mut container.links);
        }
    }
}
