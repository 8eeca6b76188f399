//! What a container has on the network, as `docker inspect` shows it.

use std::collections::BTreeMap;

use super::{binding, published, single};
use crate::{
    api::proto,
    model::{self, Attachment, Desired, Family, Mode},
    reconcile::Places,
    state::find,
};

/// Shows everything that a container has on the network.
pub(super) fn network_settings(
    desired: &Desired,
    places: &Places,
    container: &model::Container,
) -> proto::NetworkSettings {
    let networks = networks(desired, container);
    // Docker has these for the default network alone, from before there were others.
    let is_default =
        |a: &&Attachment| desired.networks.get(&a.network).is_some_and(|n| n.predefined);
    let first = container.attachments.iter().find(is_default);
    let first = first.and_then(|a| networks.get(a.network_name.as_str())).cloned();
    let first = first.unwrap_or_default();
    let own = container.running().is_some() && container.has_namespace();
    proto::NetworkSettings {
        sandbox_id: if own { container.id.to_string() } else { String::new() },
        sandbox_key: if own {
            places.namespace(container).display().to_string()
        } else {
            String::new()
        },
        ports: ports(container),
        endpoint_id: first.endpoint_id,
        gateway: first.gateway,
        global_ipv6_address: first.global_ipv6_address,
        global_ipv6_prefix_len: first.global_ipv6_prefix_len,
        ip_address: first.ip_address,
        ip_prefix_len: first.ip_prefix_len,
        ipv6_gateway: first.ipv6_gateway,
        mac_address: first.mac_address,
        networks,
        ..proto::NetworkSettings::default()
    }
}

fn ports(container: &model::Container) -> BTreeMap<String, Option<Vec<proto::PortBinding>>> {
    let mut ports: BTreeMap<String, Option<Vec<_>>> = BTreeMap::new();
    if container.running().is_none() {
        return ports;
    }
    ports.extend(single(container).map(|port| (port, None)));
    for (inner, outer, rule) in published(container) {
        ports
            .entry(format!("{inner}/{}", rule.proto))
            .or_default()
            .get_or_insert_default()
            .push(binding(rule, outer));
    }
    ports
}

/// Shows a container's places on networks, by the networks' names.
pub(super) fn networks(
    desired: &Desired,
    container: &model::Container,
) -> BTreeMap<String, proto::EndpointSettings> {
    let alone = |name: &str, id: model::NetworkId| {
        let network_id = id.to_string();
        let shown = proto::EndpointSettings { network_id, ..proto::EndpointSettings::default() };
        BTreeMap::from([(name.to_owned(), shown)])
    };
    let settings = |a: &Attachment| (a.network_name.to_string(), settings(desired, container, a));
    match container.mode {
        Mode::Host => alone(find::HOST, desired.predefined.host),
        Mode::None => alone(find::NONE, desired.predefined.none),
        Mode::Networks | Mode::Container(_) => container.attachments.iter().map(settings).collect(),
    }
}

fn settings(
    desired: &Desired,
    container: &model::Container,
    place: &Attachment,
) -> proto::EndpointSettings {
    let network = desired.networks.get(&place.network);
    let link = |link: &model::Link| format!("{}:{}", link.container, link.alias);
    let mut shown = proto::EndpointSettings {
        ipam_config: asked(place),
        links: place.links.iter().map(link).collect(),
        aliases: place.aliases.clone(),
        mac_address: place.static_mac.map(|mac| mac.to_string()).unwrap_or_default(),
        driver_opts: place.options.clone(),
        gw_priority: place.priority,
        network_id: place.network.to_string(),
        ..proto::EndpointSettings::default()
    };
    if let (Some(endpoint), Some(network)) = (&place.endpoint, network) {
        shown.endpoint_id = endpoint.id.to_string();
        shown.mac_address = endpoint.mac.to_string();
        let gateway = |family| {
            let gateway = network.gateway(family).filter(|_| !network.internal);
            gateway.map(|gateway| gateway.to_string()).unwrap_or_default()
        };
        let length = |pool: &Option<model::Pool>| pool.as_ref().map_or(0, |p| p.subnet.prefix());
        if let Some(ip) = endpoint.ip {
            shown.ip_address = ip.to_string();
            shown.ip_prefix_len = length(&network.ipv4);
            shown.gateway = gateway(Family::V4);
        }
        if let Some(ip) = endpoint.ip6 {
            shown.global_ipv6_address = ip.to_string();
            shown.global_ipv6_prefix_len = length(&network.ipv6);
            shown.ipv6_gateway = gateway(Family::V6);
        }
    }
    if network.is_some_and(|n| !n.predefined) {
        shown.dns_names = Some(container.names_at(place));
    }
    shown
}

/// Returns the addresses that were asked for; none where none was.
fn asked(place: &Attachment) -> Option<proto::EndpointIpamConfig> {
    let shown = proto::EndpointIpamConfig {
        ipv4_address: place.static_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        ipv6_address: place.static_ip6.map(|ip| ip.to_string()).unwrap_or_default(),
        link_local_ips: place.link_local.iter().map(ToString::to_string).collect(),
    };
    Some(shown).filter(|shown| *shown != proto::EndpointIpamConfig::default())
}
