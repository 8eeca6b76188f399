//! What a request means: text and numbers of others, read into what we know.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::proto::{CreateEndpoint, CreateNetwork, Exposed, IpamData, Port, keys};
use crate::{
    model::{EndpointId, Expose, NetworkId, PortRange, Proto, PublishSpec, SubnetSpec},
    state::{EndpointWish, NetworkSpec, Rejected},
};

type Options = Option<BTreeMap<String, Value>>;

/// What a request without a body is: dockerd repeats one that was cut short, and does not say any more what it is about.
const LOST: &str = "the agent was killed while Docker waited for its answer, and Docker has not repeated what it had \
                    asked for: try it again";

/// Reads a body.
pub(super) fn body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Rejected> {
    if body.is_empty() {
        return Err(Rejected::invalid(LOST));
    }
    serde_json::from_slice(body)
        .map_err(|error| Rejected::invalid(format!("the request does not read: {error}")))
}

/// Reads the id of a network.
pub(super) fn network_id(text: &str) -> Result<NetworkId, Rejected> {
    text.parse().map_err(|error| Rejected::invalid(format!("NetworkID: {error}")))
}

/// Reads the id of an endpoint.
pub(super) fn endpoint_id(text: &str) -> Result<EndpointId, Rejected> {
    text.parse().map_err(|error| Rejected::invalid(format!("EndpointID: {error}")))
}

fn invalid(what: &str, text: &str, why: impl std::fmt::Display) -> Rejected {
    Rejected::invalid(format!("{what} {text:?}: {why}"))
}

/// Reads a list of options that is there or not.
fn list<T: DeserializeOwned>(options: &Options, key: &str) -> Result<Vec<T>, Rejected> {
    let Some(value) = options.as_ref().and_then(|options| options.get(key)) else {
        return Ok(Vec::new());
    };
    let read: Option<Vec<T>> = serde_json::from_value(value.clone())
        .map_err(|error| Rejected::invalid(format!("{key}: {error}")))?;
    Ok(read.unwrap_or_default())
}

fn switch(options: &Options, key: &str) -> Option<bool> {
    match options.as_ref()?.get(key)? {
        Value::Bool(on) => Some(*on),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Reads options that are text, or could be.
fn texts<'a>(
    options: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    options.into_iter().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

/// Reads wishes for a network.
pub(super) fn network(asked: &CreateNetwork) -> Result<NetworkSpec, Rejected> {
    let id = network_id(&asked.network)?;
    let none = Vec::new();
    let (ipv4, ipv6) = (asked.ipv4.as_ref().unwrap_or(&none), asked.ipv6.as_ref().unwrap_or(&none));
    let all = ipv4.iter().chain(ipv6);
    let subnets: Vec<_> = all.map(subnet).collect::<Result<_, _>>()?;
    let generic = asked.options.as_ref().and_then(|options| options.get(keys::GENERIC));
    let options = generic.and_then(Value::as_object).map(texts).unwrap_or_default();
    Ok(NetworkSpec {
        id: Some(id),
        without_ipv4: ipv4.is_empty() || switch(&asked.options, keys::IPV4) == Some(false),
        ipv6: Some(!ipv6.is_empty()),
        internal: switch(&asked.options, keys::INTERNAL).unwrap_or(false),
        subnets,
        options,
        attachable: true,
        ..NetworkSpec::default()
    })
}

fn subnet(data: &IpamData) -> Result<SubnetSpec, Rejected> {
    if data.pool.is_empty() || data.pool.ends_with("/0") {
        return Err(Rejected::invalid(
            "a network of this driver needs addresses: the null IPAM driver gives none",
        ));
    }
    let mut auxiliary = BTreeMap::new();
    for (name, address) in data.aux_addresses.iter().flatten() {
        auxiliary.insert(name.clone(), bare(address).to_owned());
    }
    Ok(SubnetSpec {
        subnet: data.pool.clone(),
        gateway: bare(&data.gateway).to_owned(),
        ip_range: String::new(),
        auxiliary,
    })
}

/// Takes the prefix length off an address.
fn bare(address: &str) -> &str {
    address.split('/').next().unwrap_or_default()
}

/// Reads wishes for an endpoint.
pub(super) fn endpoint(asked: &CreateEndpoint) -> Result<EndpointWish, Rejected> {
    let (network, id) = (network_id(&asked.network)?, endpoint_id(&asked.endpoint)?);
    let none = Default::default();
    let interface = asked.interface.as_ref().unwrap_or(&none);
    let ip = with_prefix::<Ipv4Addr>("Address", &interface.address)?;
    let ip6 = with_prefix::<Ipv6Addr>("AddressIPv6", &interface.address6)?;
    let mac = match interface.mac_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| invalid("MacAddress", text, error))?),
    };
    let exposed: Vec<Exposed> = list(&asked.options, keys::EXPOSED)?;
    let expose = exposed.iter().filter_map(|port| {
        let ports = PortRange::new(port.port, 1)?;
        Some(Expose { ports, proto: proto(port.proto).ok()? })
    });
    // What libnetwork says itself is no wish of the user's.
    let said = |key: &str| key.starts_with("com.docker.network.endpoint.") || key == keys::PORTS;
    let options = asked.options.iter().flatten().filter(|(key, _)| !said(key));
    Ok(EndpointWish {
        network,
        id,
        ip,
        ip6,
        mac,
        options: texts(options),
        expose: expose.collect(),
    })
}

fn with_prefix<T: std::str::FromStr>(what: &str, text: &str) -> Result<Option<T>, Rejected> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = bare(text)
        .parse()
        .ok()
        .filter(|_: &T| text.contains('/') && text.parse::<IpNetwork>().is_ok());
    read.map(Some).ok_or_else(|| invalid(what, text, "it is no address with a prefix"))
}

/// Reads an address, with a prefix length or without.
pub(super) fn address(text: &str) -> Result<IpAddr, Rejected> {
    bare(text).parse().map_err(|error| invalid("Address", text, error))
}

fn proto(number: u8) -> Result<Proto, Rejected> {
    match number {
        6 => Ok(Proto::Tcp),
        17 => Ok(Proto::Udp),
        132 => Err(Rejected::invalid("the protocol sctp cannot be published yet, tcp and udp can")),
        other => Err(Rejected::invalid(format!("the protocol {other} is none of tcp, udp"))),
    }
}

/// Reads published ports. Docker takes ranges apart, a port each: those that belong together are one again.
pub(super) fn ports(options: &Options) -> Result<Vec<PublishSpec>, Rejected> {
    let ports: Vec<Port> = list(options, keys::PORTS)?;
    let mut specs: Vec<_> = ports.iter().map(port).collect::<Result<_, _>>()?;
    specs.sort_by_key(|spec| (spec.proto, spec.host_ip, spec.container, spec.host));
    let mut joined: Vec<PublishSpec> = Vec::new();
    for spec in specs {
        match joined.last_mut().and_then(|last| Some((follows(last, &spec)?, last))) {
            Some((both, last)) => *last = both,
            None => joined.push(spec),
        }
    }
    joined.dedup();
    Ok(joined)
}

/// Returns two mappings as one, where the second goes on where the first ends.
fn follows(first: &PublishSpec, second: &PublishSpec) -> Option<PublishSpec> {
    let (host, next) = (first.host?, second.host?);
    let goes_on = |a: PortRange, b: PortRange| {
        (a.last().checked_add(1) == Some(b.first()))
            .then(|| PortRange::new(a.first(), a.count().checked_add(b.count())?))
            .flatten()
    };
    let same = (first.proto, first.host_ip) == (second.proto, second.host_ip);
    let whole = first.pool().is_none() && second.pool().is_none();
    let (host, container) = (goes_on(host, next)?, goes_on(first.container, second.container)?);
    (same && whole).then_some(PublishSpec { host: Some(host), container, ..*first })
}

fn port(port: &Port) -> Result<PublishSpec, Rejected> {
    let container = PortRange::new(port.port, 1)
        .ok_or_else(|| Rejected::invalid("the port 0 of a container cannot be published"))?;
    let end = port.host_port_end.max(port.host_port);
    let host = PortRange::new(port.host_port, (end - port.host_port).saturating_add(1));
    let host_ip = match port.host_ip.as_str() {
        "" => None,
        text => {
            let address: IpAddr = text.parse().map_err(|error| invalid("HostIP", text, error))?;
            Some(address.to_canonical())
        }
    };
    Ok(PublishSpec { host_ip, host, container, proto: proto(port.proto)? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(ports: Value) -> Vec<String> {
        let options = Some(BTreeMap::from([(keys::PORTS.to_owned(), ports)]));
        super::ports(&options).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_range_that_docker_took_apart_is_one_again() {
        let single = |port: u16, host: u16| json!({"Proto":6,"IP":"","Port":port,"HostIP":"","HostPort":host,"HostPortEnd":host});
        let all: Vec<_> = (0..500).rev().map(|n| single(20_000 + n, 20_000 + n)).collect();
        assert_eq!(read(all.into()), ["20000-20499:20000-20499/tcp"]);
        assert_eq!(
            read(json!([single(80, 8080), single(81, 8082)])),
            ["8080:80/tcp", "8082:81/tcp"]
        );
    }

    #[test]
    fn ports_that_are_to_be_chosen_stay_apart() {
        let ports = json!([
            {"Proto":17,"Port":53,"HostIP":"127.0.0.1","HostPort":0,"HostPortEnd":0},
            {"Proto":6,"Port":80,"HostIP":"","HostPort":0,"HostPortEnd":0},
            {"Proto":6,"Port":81,"HostIP":"","HostPort":0,"HostPortEnd":0},
            {"Proto":6,"Port":82,"HostIP":"::1","HostPort":7000,"HostPortEnd":7003},
        ]);
        assert_eq!(
            read(ports),
            ["80/tcp", "81/tcp", "[::1]:7000-7003:82/tcp", "127.0.0.1::53/udp"]
        );
        assert_eq!(read(Value::Null), <[String; 0]>::default());
    }

    #[test]
    fn garbage_is_named() {
        for (ports, word) in [
            (json!("x"), "portmap"),
            (json!([{"Proto":6}]), "Port"),
            (json!([{"Proto":132,"Port":80}]), "sctp"),
            (json!([{"Proto":6,"Port":0}]), "port 0"),
            (json!([{"Proto":6,"Port":80,"HostIP":"nosuch"}]), "HostIP"),
            (json!([{"Proto":6,"Port":99_999}]), "99999"),
        ] {
            let options = Some(BTreeMap::from([(keys::PORTS.to_owned(), ports)]));
            let error = super::ports(&options).unwrap_err().message;
            assert!(error.contains(word), "{error}");
        }
    }
}
