//! Containers come and go, and so do their places on networks.

use super::{
    ContainerSpec, EndpointSpec, Facts, Kind, Outcome, Rejected,
    attachment::{self, attachment},
    find::{self, Found},
    former, lifecycle, links, plugin, publish,
};
use crate::model::{
    Attachment, Container, ContainerId, Desired, Mode, Name, Network, NetworkId, Sandbox, State,
};

/// Docker's words for what cannot be had together.
const NO_WAY_TO_HOST: &str =
    "cannot connect container to host network - container must be created in host network mode";
const NO_WAY_FROM_HOST: &str =
    "cannot disconnect container from host network - container was created in host network mode";
const NO_NONE: &str = "container cannot be connected to multiple networks with one of the networks in private (none) mode";
const NO_OTHERS: &str =
    "conflicting options: cannot attach both user-defined and non-user-defined network-modes";
const NO_CONFIG: &str = "cannot create endpoint on configuration-only network";
const SHARED: &str = "container sharing network namespace with another container or host cannot be connected to any other network";

pub(super) fn create(
    desired: &mut Desired,
    spec: &ContainerSpec,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let id = loop {
        let id = ContainerId::new((facts.entropy)());
        if !desired.containers.contains_key(&id) {
            break id;
        }
    };
    let name = match &spec.name {
        Some(name) => name_is_free(desired, name).map(|()| name.clone())?,
        None => former::chosen_name(id).parse().map_err(Rejected::invalid)?,
    };
    let mut warnings = Vec::new();
    let mode = mode(desired, &spec.networks)?;
    match mode {
        Mode::Host if spec.sandbox != Sandbox::Own => {
            return Err(Rejected::invalid(
                "a brought namespace cannot be the host's network as well",
            ));
        }
        Mode::Container(_) => may_share(spec)?,
        Mode::Host | Mode::None | Mode::Networks => {}
    }
    if mode != Mode::Networks && (!spec.publish.is_empty() || spec.publish_all) {
        warnings.push("Published ports are discarded: the container is on no network".to_owned());
    }
    if let Some(brought) = &facts.brought {
        lifecycle::may_bring(desired, None, brought)?;
    }
    sysctls_are_its_own(spec, mode)?;
    let mut attachments: Vec<Attachment> = Vec::new();
    if mode == Mode::Networks {
        let default = [(find::BRIDGE.to_owned(), EndpointSpec::default())];
        let wishes = if spec.networks.is_empty() { &default[..] } else { &spec.networks };
        for (reference, endpoint) in wishes {
            let network = bridge(desired, reference)?;
            if attachments.iter().any(|a| a.network == network.id) {
                return Err(twice(&name, network));
            }
            let wanted = attachment(desired, network, endpoint)?;
            attachment::name_is_free(&name, &attachments, &wanted)?;
            attachments.push(wanted);
        }
        // A service that nobody outside can reach is rarely what was meant.
        let way_out = attachments
            .iter()
            .any(|a| desired.networks.get(&a.network).is_some_and(|n| !n.internal));
        if !way_out && (!spec.publish.is_empty() || spec.publish_all) {
            warnings.push(
                "Published ports are discarded: every network of the container is internal"
                    .to_owned(),
            );
        }
    }
    let links = links::placed(desired, spec, mode, &mut attachments)?;
    let container = Container {
        id,
        name,
        created: facts.now,
        hostname: if spec.hostname.is_empty() { id.short() } else { spec.hostname.clone() },
        naming: spec.naming.clone(),
        labels: spec.labels.clone(),
        sysctls: spec.sysctls.clone(),
        command: spec.command.clone(),
        env: spec.env.clone(),
        auto_remove: spec.auto_remove,
        mode,
        sandbox: spec.sandbox.clone(),
        attachments,
        publish: spec.publish.clone(),
        publish_all: spec.publish_all,
        expose: spec.expose.iter().copied().collect(),
        links,
        state: State::Created,
        started_at: None,
        finished_at: None,
        exit_code: None,
    };
    desired.containers.insert(id, container);
    Ok(Outcome::Container(id, warnings))
}

pub(super) fn remove(
    desired: &mut Desired,
    reference: &str,
    force: bool,
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let container = find::own(desired, reference)?;
    let (id, name) = (container.id, container.name.clone());
    if container.running().is_some() {
        if !force {
            return Err(Rejected::conflict(format!(
                "cannot remove container \"/{name}\": container is running: stop the container before removing or force remove"
            )));
        }
        lifecycle::exit(desired, id, None, facts);
    }
    former::remove(desired, id, facts.now);
    Ok(Outcome::Container(id, Vec::new()))
}

pub(super) fn connect(
    desired: &mut Desired,
    network: &str,
    container: &str,
    spec: &EndpointSpec,
    facts: &mut Facts,
) -> Result<Outcome, Rejected> {
    let found = find::network(desired, network)?;
    let target = find::own(desired, container)?;
    let network = match (found, target.mode) {
        (Found::Bridge(network), _) if network.plugged => return Err(plugin::network(network)),
        (Found::Host(_), _) => return Err(Rejected::invalid(NO_WAY_TO_HOST)),
        (Found::Config(_), _) => return Err(Rejected::forbidden(NO_CONFIG)),
        (_, Mode::Host | Mode::Container(_)) => return Err(Rejected::invalid(SHARED)),
        (Found::None(_), _) | (_, Mode::None) => return Err(Rejected::invalid(NO_NONE)),
        (Found::Bridge(network), Mode::Networks) => network,
    };
    if target.attachment(network.id).is_some() {
        return Err(twice(&target.name, network));
    }
    let attachment = attachment(desired, network, spec)?;
    attachment::name_is_free(&target.name, &target.attachments, &attachment)?;
    let (id, network) = (target.id, network.id);
    if let Some(container) = desired.containers.get_mut(&id) {
        container.attachments.push(attachment);
    }
    lifecycle::attach(desired, id, Some(network), facts)?;
    let warnings = publish::publish(desired, id, facts)?;
    Ok(Outcome::Container(id, warnings))
}

pub(super) fn disconnect(
    desired: &mut Desired,
    network: &str,
    container: &str,
    force: bool,
    facts: &Facts,
) -> Result<Outcome, Rejected> {
    let target = match find::own(desired, container) {
        // It may be an endpoint's id, as `network inspect` shows it. One without a container does not exist with us.
        Err(error) if force && error.kind == Kind::NotFound => {
            let network = find::network(desired, network)?.id();
            match find::by_endpoint(desired, network, container)? {
                Some(target) => target,
                None => return Ok(Outcome::Nothing),
            }
        }
        target => target?,
    };
    let id = target.id;
    // The network itself may be gone from under a container that does not run.
    let gone =
        |a: &&Attachment| a.network_name.as_str() == network || a.network.to_string() == network;
    let network_id = match find::network(desired, network) {
        Ok(Found::Host(_)) if target.mode == Mode::Host => {
            return Err(Rejected::invalid(NO_WAY_FROM_HOST));
        }
        Ok(found) => found.id(),
        Err(error) => target.attachments.iter().find(gone).map(|a| a.network).ok_or(error)?,
    };
    if target.attachment(network_id).is_none() {
        return Err(Rejected::internal(format!(
            "container {id} is not connected to network {network}"
        )));
    }
    lifecycle::detach(desired, id, network_id);
    // Published ports move to the next network with a way out; with the last one of a family they go.
    let before = desired.clone();
    let warnings = publish::publish(desired, id, facts).unwrap_or_else(|error| {
        *desired = before;
        publish::withdraw(desired, id);
        vec![format!("ports are not published on the network that is left: {error}")]
    });
    Ok(Outcome::Container(id, warnings))
}

/// Refuses sysctls that are not of a network namespace that the agent makes.
fn sysctls_are_its_own(spec: &ContainerSpec, mode: Mode) -> Result<(), Rejected> {
    let Some(first) = spec.sysctls.keys().next() else { return Ok(()) };
    let is_of_network =
        |key: &String| key.starts_with("net.") && !key.contains("..") && !key.contains(['/', '\0']);
    if let Some(key) = spec.sysctls.keys().find(|key| !is_of_network(key)) {
        return Err(Rejected::invalid(format!(
            "sysctl {key:?} is not allowed: those of the network are, net..."
        )));
    }
    if mode == Mode::Host || spec.sandbox != Sandbox::Own {
        return Err(Rejected::invalid(format!(
            "sysctl {first:?} is not allowed in a network namespace that the agent does not make"
        )));
    }
    Ok(())
}

fn twice(container: &Name, network: &Network) -> Rejected {
    let name = &network.name;
    Rejected::forbidden(format!("endpoint with name {container} already exists in network {name}"))
}

fn name_is_free(desired: &Desired, name: &Name) -> Result<(), Rejected> {
    match desired.containers.values().find(|c| c.name == *name) {
        None => Ok(()),
        Some(holder) => Err(Rejected::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            holder.id
        ))),
    }
}

/// Refuses what belongs to a network of a container's own, for one that has another's.
fn may_share(spec: &ContainerSpec) -> Result<(), Rejected> {
    let linked = !spec.links.is_empty() || spec.networks.iter().any(|(_, e)| !e.links.is_empty());
    let clashes = [
        (
            spec.sandbox != Sandbox::Own,
            "conflicting options: a brought namespace and the container type network mode",
        ),
        (!spec.hostname.is_empty(), "conflicting options: hostname and the network mode"),
        (!spec.naming.resolver.is_empty(), "conflicting options: dns and the network mode"),
        (
            !spec.naming.extra_hosts.is_empty(),
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            linked,
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ),
        (
            !spec.publish.is_empty() || spec.publish_all,
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            !spec.expose.is_empty(),
            "conflicting options: port exposing and the container type network mode",
        ),
    ];
    match clashes.into_iter().find(|(clashes, _)| *clashes) {
        Some((_, text)) => Err(Rejected::invalid(text)),
        None => Ok(()),
    }
}

/// Tells what a container has of the network; `host`, `none` and `container:NAME` stand alone.
fn mode(desired: &Desired, networks: &[(String, EndpointSpec)]) -> Result<Mode, Rejected> {
    let mut mode = Mode::Networks;
    for (reference, wishes) in networks {
        let (special, alone) = match attachment::shared(desired, reference) {
            Some(other) => (Mode::Container(other?.id), NO_OTHERS),
            None => match find::network(desired, reference)? {
                Found::Bridge(_) | Found::Config(_) => continue,
                Found::Host(_) => (Mode::Host, NO_OTHERS),
                Found::None(_) => (Mode::None, NO_NONE),
            },
        };
        if networks.len() > 1 {
            return Err(Rejected::invalid(alone));
        }
        attachment::none(reference, wishes)?;
        mode = special;
    }
    Ok(mode)
}

fn bridge<'a>(desired: &'a Desired, reference: &str) -> Result<&'a Network, Rejected> {
    match find::network(desired, reference)? {
        Found::Bridge(network) if network.plugged => Err(plugin::network(network)),
        Found::Bridge(network) => Ok(network),
        Found::Config(_) => Err(Rejected::forbidden(NO_CONFIG)),
        Found::Host(_) => Err(Rejected::invalid(NO_WAY_TO_HOST)),
        Found::None(_) => Err(Rejected::invalid(NO_NONE)),
    }
}

/// Returns the network of an attachment, which must be there for the container to start.
pub(super) fn network_of(desired: &Desired, id: NetworkId) -> Result<&Network, Rejected> {
    desired.networks.get(&id).ok_or_else(|| Rejected::no_network(&id.to_string()))
}
