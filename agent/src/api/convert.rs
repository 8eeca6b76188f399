//! From requests to changes: text becomes types here, and what does not is refused.

use std::{path::PathBuf, str::FromStr};

use super::{proto, route::ApiVersion};
use crate::{
    model::{MacAddress, Sandbox, keys},
    state::{Change, ContainerSpec, EndpointSpec, NetworkSpec, Rejected, SubnetSpec},
};

type Result<T> = std::result::Result<T, Rejected>;

/// Reads a wish for a network, in a version of the API: before 1.48 there was none without IPv4.
pub(super) fn network_create(
    mut request: proto::NetworkCreate,
    version: ApiVersion,
) -> Result<Change> {
    if version < ApiVersion(1, 48) {
        request.enable_ipv4 = None;
    }

    if !["", "bridge", "default"].contains(&request.driver.as_str()) {
        return Err(Rejected::new(
            crate::state::Kind::NotFound,
            format!(
                "could not find plugin {0} in v1 plugin registry: plugin \"{0}\" not found",
                request.driver
            ),
        ));
    }
    if !["", "default"].contains(&request.ipam.driver.as_str()) {
        return Err(Rejected::invalid(format!("there is no IPAM driver {}", request.ipam.driver)));
    }
    let unsupported = [
        (
            request.options.get(keys::L2).is_some_and(|l2| l2 == "bpf"),
            "networks without a bridge between their containers cannot be made yet",
        ),
        (request.ingress, "ingress networks are swarm's"),
        (request.config_only, "config-only networks cannot be made yet"),
        (!request.config_from.network.is_empty(), "config-only networks cannot be made yet"),
        (!["", "local"].contains(&request.scope.as_str()), "the scope of networks is local"),
    ];
    if let Some((_, why)) = unsupported.into_iter().find(|(is, _)| *is) {
        return Err(Rejected::invalid(why));
    }
    let subnet = |config: proto::IpamConfig| SubnetSpec {
        subnet: config.subnet,
        ip_range: config.ip_range,
        gateway: config.gateway,
        auxiliary: config.auxiliary_addresses,
    };
    Ok(Change::CreateNetwork(NetworkSpec {
        name: request.name,
        subnets: request.ipam.config.into_iter().map(subnet).collect(),
        without_ipv4: request.enable_ipv4 == Some(false),
        ipv6: request.enable_ipv6,
        internal: request.internal,
        options: request.options,
        labels: request.labels,
    }))
}

pub(super) fn connect(network: String, request: proto::NetworkConnect) -> Result<Change> {
    let settings = request.endpoint_config;
    let addresses = settings.ipam_config.unwrap_or_default();
    let ip = optional(&addresses.ipv4_address, "invalid endpoint settings:\ninvalid IPv4 address")?;
    let ip6 =
        optional(&addresses.ipv6_address, "invalid endpoint settings:\ninvalid IPv6 address")?;
    let link_local = addresses.link_local_ips.iter().map(|text| {
        let wrong = "invalid endpoint settings:\ninvalid link-local IP address";
        text.parse().map_err(|_| Rejected::invalid(format!("{wrong}: {text}")))
    });
    let endpoint = EndpointSpec {
        ip,
        ip6,
        link_local: link_local.collect::<Result<_>>()?,
        mac: mac(&settings.mac_address)?,
        aliases: settings.aliases,
        links: all(&settings.links)?,
        options: settings.driver_opts,
        priority: settings.gw_priority,
    };
    Ok(Change::Connect { network, container: container(request.container)?, endpoint })
}

pub(super) fn disconnect(network: String, request: proto::NetworkDisconnect) -> Result<Change> {
    let force = request.force;
    Ok(Change::Disconnect { network, container: container(request.container)?, force })
}

pub(super) fn container_create(request: proto::ContainerCreate) -> Result<Change> {
    let endpoint = |network: proto::ContainerNetwork| -> Result<_> {
        let spec = EndpointSpec {
            ip: network.ip,
            ip6: network.ip6,
            mac: mac(&network.mac_address)?,
            link_local: network.link_local_ips,
            aliases: network.aliases,
            links: Vec::new(),
            options: network.driver_opts,
            priority: network.gw_priority,
        };
        Ok((network.network, spec))
    };
    let sandbox = match (request.netns, request.pid) {
        (None, None) => Sandbox::Own,
        (Some(path), None) if !path.is_empty() && path.starts_with('/') => {
            Sandbox::Path(PathBuf::from(path))
        }
        (Some(path), None) => {
            return Err(Rejected::invalid(format!(
                "the path of a network namespace must begin with /: {path:?}"
            )));
        }
        (None, Some(pid)) if pid > 0 => Sandbox::Process(pid),
        (None, Some(pid)) => {
            return Err(Rejected::invalid(format!("{pid} is not the number of a process")));
        }
        (Some(_), Some(_)) => {
            return Err(Rejected::invalid(
                "a container has one network namespace: either a path or a process",
            ));
        }
    };
    Ok(Change::CreateContainer(Box::new(ContainerSpec {
        name: optional(&request.name, "")?,
        networks: request.networks.into_iter().map(endpoint).collect::<Result<_>>()?,
        publish: all(&request.publish)?,
        publish_all: request.publish_all,
        expose: all(&request.expose)?,
        links: all(&request.links)?,
        hostname: hostname(request.hostname)?,
        sysctls: request.sysctls,
        labels: request.labels,
        sandbox,
        auto_remove: request.auto_remove,
        command: request.command,
    })))
}

fn container(reference: String) -> Result<String> {
    if reference.is_empty() {
        Err(Rejected::invalid("the container is not named"))
    } else {
        Ok(reference)
    }
}

/// Host names are what Linux and DNS take: 1 to 63 letters, digits, hyphens and dots.
fn hostname(name: String) -> Result<String> {
    let fits =
        name.len() <= 63 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if fits { Ok(name) } else { Err(Rejected::invalid(format!("invalid hostname: {name:?}"))) }
}

fn all<T: FromStr<Err: ToString>>(texts: &[String]) -> Result<Vec<T>> {
    texts.iter().map(|text| text.parse().map_err(Rejected::invalid)).collect()
}

fn mac(text: &str) -> Result<Option<MacAddress>> {
    optional(text, "")
}

/// Reads what may be left empty; a prefix names what it is where the error does not.
fn optional<T: FromStr<Err: ToString>>(text: &str, prefix: &str) -> Result<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: T::Err| {
        let error = error.to_string();
        Rejected::invalid(if prefix.is_empty() {
            error
        } else {
            format!("{prefix} {text:?}: {error}")
        })
    })
}
