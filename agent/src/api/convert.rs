//! From requests to changes: text becomes types here, and what does not is refused.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use super::{bounds, proto, route::ApiVersion};
use crate::{
    model::{MacAddress, Naming, NetworkOptions, Resolver, Sandbox, is_domain, keys},
    state::{Change, ContainerSpec, EndpointSpec, Kind, NetworkSpec, Rejected, SubnetSpec},
};

type Result<T> = std::result::Result<T, Rejected>;

/// Reads a wish for a network, in a version of the API: before 1.48 there was none without IPv4.
pub(super) fn network_create(
    mut request: proto::NetworkCreate,
    version: ApiVersion,
) -> Result<Change> {
    bounds::network(&request)?;
    if version < ApiVersion(1, 48) {
        request.enable_ipv4 = None;
    }
    // A configuration is nobody's before it is lent.
    if !request.config_only {
        driver(&request.driver)?;
    }
    match request.ipam.driver.as_str() {
        "" | "default" => {}
        "null" => return Err(Rejected::invalid("ipv4 pool is empty")),
        other => return Err(no_such(other, "there is the IPAM driver default, and no plugins")),
    }
    match request.scope.as_str() {
        "" | "local" => {}
        scope @ ("swarm" | "global") => {
            return Err(Rejected::forbidden(format!("{NO_SWARM} (networks of scope {scope})")));
        }
        scope => return Err(Rejected::invalid(format!("invalid network scope {scope:?}"))),
    }
    if request.ingress {
        return Err(Rejected::forbidden("Ingress network can only be global scope network"));
    }
    // An option that does not read is told with whatever else is wrong with the options.
    let switch = |key| NetworkOptions::switch(&request.options, key);
    let ipv4 = request.enable_ipv4.or_else(|| switch(keys::IPV4));
    let ipv6 = request.enable_ipv6.or_else(|| switch(keys::IPV6));
    let subnet = |config: proto::IpamConfig| SubnetSpec {
        subnet: config.subnet,
        ip_range: config.ip_range,
        gateway: config.gateway,
        auxiliary: config.auxiliary_addresses,
    };
    Ok(Change::CreateNetwork(NetworkSpec {
        id: None,
        name: request.name,
        subnets: request.ipam.config.into_iter().map(subnet).collect(),
        without_ipv4: ipv4 == Some(false),
        ipv6,
        internal: request.internal,
        options: request.options,
        labels: request.labels,
        attachable: request.attachable,
        scope_given: !request.scope.is_empty(),
        config_only: request.config_only,
        config_from: Some(request.config_from.network).filter(|name| !name.is_empty()),
        ipam_options: request.ipam.options,
    }))
}

/// What Docker says where a network needs a cluster.
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again: no cluster store is set";

/// Refuses drivers other than ours, in the words of Docker.
fn driver(name: &str) -> Result<()> {
    match name {
        "" | "bridge" | "default" => Ok(()),
        "host" | "null" => {
            Err(Rejected::forbidden(format!("only one instance of \"{name}\" network is allowed")))
        }
        "overlay" => Err(Rejected::forbidden(format!("{NO_SWARM} (driver {name})"))),
        "macvlan" | "ipvlan" => Err(no_such(
            name,
            "containers on the site's own network are not to be had here, only routed to: a bridge network \
             with -o com.docker.network.bridge.gateway_mode_ipv4=routed",
        )),
        other => Err(no_such(other, "there are the drivers bridge, host and null, and no plugins")),
    }
}

/// Says what Docker says of a driver that it has not, and what there is.
fn no_such(name: &str, there_is: &str) -> Rejected {
    let message = format!(
        "could not find plugin {name} in v1 plugin registry: plugin \"{name}\" not found ({there_is})"
    );
    Rejected::new(Kind::NotFound, message)
}

pub(super) fn connect(network: String, request: proto::NetworkConnect) -> Result<Change> {
    let settings = request.endpoint_config;
    bounds::endpoint(&settings)?;
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
    let container = container(request.container)?;
    if let Some((kind @ ("pid" | "netns"), which)) = container.split_once(':') {
        return Err(Rejected::invalid(format!(
            "{container} is no container here: make one of that namespace by \
             `bascule container create --network {network} --{kind} {which}`, and start it"
        )));
    }
    Ok(Change::Connect { network, container, endpoint })
}

pub(super) fn network_update(network: String, request: proto::NetworkUpdate) -> Result<Change> {
    bounds::servers(&request)?;
    Ok(Change::UpdateNetwork { network, add: request.add_dns, drop: request.drop_dns })
}

pub(super) fn disconnect(network: String, request: proto::NetworkDisconnect) -> Result<Change> {
    let force = request.force;
    Ok(Change::Disconnect { network, container: container(request.container)?, force })
}

pub(super) fn container_create(request: proto::ContainerCreate) -> Result<Change> {
    bounds::container(&request)?;
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
    let naming = Naming {
        resolver: resolver(request.dns, request.dns_search, request.dns_options)?,
        domainname: domainname(request.domainname)?,
        extra_hosts: all(&request.extra_hosts)?,
    };
    Ok(Change::CreateContainer(Box::new(ContainerSpec {
        name: optional(&request.name, "")?,
        networks: request.networks.into_iter().map(endpoint).collect::<Result<_>>()?,
        publish: all(&request.publish)?,
        publish_all: request.publish_all,
        expose: all(&request.expose)?,
        links: all(&request.links)?,
        hostname: hostname(request.hostname)?,
        naming,
        sysctls: request.sysctls,
        labels: request.labels,
        sandbox,
        auto_remove: request.auto_remove,
        command: request.command,
        env: request.env,
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

fn domainname(name: String) -> Result<String> {
    if name.is_empty() || is_domain(&name) {
        Ok(name)
    } else {
        Err(Rejected::invalid(format!("invalid domainname: {name:?}")))
    }
}

fn resolver(servers: Vec<IpAddr>, search: Vec<String>, options: Vec<String>) -> Result<Resolver> {
    let resolver = Resolver { servers, search, options };
    match resolver.wrong() {
        None => Ok(resolver),
        Some((setting, value, why)) => {
            Err(Rejected::invalid(format!("invalid {setting} {value:?}: {why}")))
        }
    }
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
