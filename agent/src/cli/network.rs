//! `bascule network ...`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Serialize;
use serde_json::json;

use super::{
    Context,
    args::{
        self, KeyValue, NetworkConnect, NetworkCreate, NetworkInspect, NetworkList, NetworkPrune,
    },
    filter, for_each, output,
};
use crate::{
    api::{paths, proto},
    error::{Failure, exit},
};

/// Does a verb of `network`.
pub fn network(context: &Context, verb: args::Network) -> Result<u8, Failure> {
    match verb {
        args::Network::Create(create) => self::create(context, create),
        args::Network::Ls(list) => self::list(context, &list),
        args::Network::Inspect(which) => inspect(context, &which),
        args::Network::Prune(args) => prune(context, &args),
        args::Network::Rm { networks, force } => remove(context, &networks, force),
        args::Network::Connect(wish) => connect(context, wish),
        args::Network::Update { network, dns_add, dns_drop } => {
            let body = proto::NetworkUpdate { add_dns: dns_add, drop_dns: dns_drop };
            context.client()?.act(&paths::network_update(&network), Some(&body))?;
            output::line(&network)?;
            Ok(exit::OK)
        }
        args::Network::Disconnect { network, container, force } => {
            let body = proto::NetworkDisconnect { container, force };
            context.client()?.act(&paths::network_disconnect(&network), Some(&body))?;
            Ok(exit::OK)
        }
    }
}

fn create(context: &Context, args: NetworkCreate) -> Result<u8, Failure> {
    let body = proto::NetworkCreate {
        ipam: proto::Ipam {
            config: pools(&args)?,
            driver: args.ipam_driver,
            options: map(args.ipam_options),
        },
        name: args.name,
        scope: args.scope,
        attachable: args.attachable,
        ingress: args.ingress,
        config_only: args.config_only,
        config_from: proto::ConfigReference { network: args.config_from },
        driver: args.driver,
        enable_ipv4: args.ipv4,
        enable_ipv6: args.ipv6,
        internal: args.internal,
        options: options(args.options, &args.dns)?,
        labels: map(args.label),
    };
    let created: proto::NetworkCreated = context.client()?.post(paths::NETWORKS_CREATE, &body)?;
    if !created.warning.is_empty() {
        output::complain(format!("warning: {}", created.warning));
    }
    if context.wants_json() {
        output::json(&created)?;
    } else {
        output::line(&created.id)?;
    }
    Ok(exit::OK)
}

/// Returns the driver options: name servers are one of them.
fn options(pairs: Vec<KeyValue>, dns: &[IpAddr]) -> Result<proto::Map, Failure> {
    let mut options = map(pairs);
    if !dns.is_empty() {
        let servers: Vec<_> = dns.iter().map(ToString::to_string).collect();
        if options.insert(proto::NETWORK_DNS.to_owned(), servers.join(",")).is_some() {
            return Err(Failure::usage(format!(
                "conflicting options: cannot specify both --dns and -o {}",
                proto::NETWORK_DNS
            )));
        }
    }
    Ok(options)
}

/// Makes a map of pairs; the last of a key counts.
pub fn map(pairs: Vec<KeyValue>) -> proto::Map {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

/// Sorts gateways, ranges and reserved addresses into their subnets. Messages are docker's.
fn pools(args: &NetworkCreate) -> Result<Vec<proto::IpamConfig>, Failure> {
    if args.subnet.is_empty() {
        return match args.gateway.is_empty()
            && args.ip_range.is_empty()
            && args.aux_address.is_empty()
        {
            true => Ok(Vec::new()),
            false => {
                Err(Failure::usage("every ip-range or gateway must have a corresponding subnet"))
            }
        };
    }
    let overlaps = args.subnet.iter().enumerate().any(|(index, a)| {
        args.subnet[..index].iter().any(|b| a.contains(b.ip()) || b.contains(a.ip()))
    });
    if overlaps {
        return Err(Failure::usage("multiple overlapping subnet configuration is not supported"));
    }
    let mut configs: Vec<_> = args
        .subnet
        .iter()
        .map(|subnet| proto::IpamConfig { subnet: subnet.to_string(), ..Default::default() })
        .collect();
    let place = |address: IpAddr| args.subnet.iter().position(|subnet| subnet.contains(address));
    // `fe80::1` lies in no subnet; it is a gateway of the IPv6 one.
    let on_the_link = |gateway: IpAddr| match gateway {
        IpAddr::V6(gateway) if gateway.is_unicast_link_local() => {
            args.subnet.iter().position(IpNetwork::is_ipv6)
        }
        _ => None,
    };
    for range in &args.ip_range {
        let at = place(range.ip())
            .ok_or_else(|| Failure::usage(format!("no matching subnet for range {range}")))?;
        once(&mut configs[at].ip_range, range.to_string(), "ip-range")?;
    }
    for gateway in &args.gateway {
        let at = place(*gateway)
            .or_else(|| on_the_link(*gateway))
            .ok_or_else(|| Failure::usage(format!("no matching subnet for gateway {gateway}")))?;
        once(&mut configs[at].gateway, gateway.to_string(), "gateway")?;
    }
    for KeyValue { key, value, .. } in &args.aux_address {
        let at =
            value.parse().ok().and_then(place).ok_or_else(|| {
                Failure::usage(format!("no matching subnet for aux-address {value}"))
            })?;
        configs[at].auxiliary_addresses.insert(key.clone(), value.clone());
    }
    Ok(configs)
}

fn once(slot: &mut String, value: String, what: &str) -> Result<(), Failure> {
    if !slot.is_empty() {
        return Err(Failure::usage(format!(
            "cannot configure multiple {what}s ({value}, {slot}) on the same subnet"
        )));
    }
    *slot = value;
    Ok(())
}

/// Writes filters as the API reads them; refuses those that mean nothing, also where the list is empty.
fn filters(filters: &[KeyValue], known: &[&str]) -> Result<String, Failure> {
    filter::check(filters, known)?;
    let mut lists = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for filter in filters {
        lists.entry(&filter.key).or_default().push(&filter.value);
    }
    Ok(serde_json::to_string(&lists).map_err(anyhow::Error::from)?)
}

const FILTERS: [&str; 7] = ["name", "id", "driver", "scope", "label", "type", "dangling"];

fn list(context: &Context, args: &NetworkList) -> Result<u8, Failure> {
    let path = paths::networks_filtered(&filters(&args.filter, &FILTERS)?);
    let mut shown: Vec<proto::Network> = context.client()?.get(&path)?;
    shown.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    let list = &args.list;
    let ids = || shown.iter().map(|network| output::id(&network.id, list.no_trunc));
    match list.format.as_deref() {
        None | Some("table") if list.quiet => {
            for id in ids() {
                output::line(id)?;
            }
        }
        Some("raw") => {
            for (network, id) in shown.iter().zip(ids()) {
                let proto::Network { name, driver, scope, .. } = network;
                output::line(match list.quiet {
                    true => format!("network_id: {id}"),
                    false => format!(
                        "network_id: {id}\nname: {name}\ndriver: {driver}\nscope: {scope}\n"
                    ),
                })?;
            }
        }
        Some(format) if format != "table" => {
            let rows: Vec<_> = shown.iter().map(|network| fields(network, list.no_trunc)).collect();
            output::list(format, &titles(), &rows)?;
        }
        _ if context.wants_json() => output::json(&shown)?,
        _ => output::print(&table(&shown, list.no_trunc))?,
    }
    Ok(exit::OK)
}

/// Returns what a template of the list can say; the names and the texts are docker's.
fn fields(network: &proto::Network, full: bool) -> serde_json::Value {
    let labels: Vec<_> =
        network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "ID": output::id(&network.id, full), "Name": network.name, "Driver": network.driver,
        "Scope": network.scope, "Internal": network.internal.to_string(),
        "IPv4": network.enable_ipv4.to_string(), "IPv6": network.enable_ipv6.to_string(),
        "CreatedAt": network.created, "Labels": labels.join(","),
        "Label": network.labels,
    })
}

fn titles() -> serde_json::Value {
    json!({
        "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE",
        "Internal": "INTERNAL", "IPv4": "IPV4", "IPv6": "IPV6", "CreatedAt": "CREATED AT",
        "Labels": "LABELS", "Label": {},
    })
}

fn table(networks: &[proto::Network], full: bool) -> String {
    let rows: Vec<_> = networks
        .iter()
        .map(|network| {
            let id = output::id(&network.id, full).to_owned();
            [id, network.name.clone(), network.driver.clone(), network.scope.clone()]
        })
        .collect();
    output::table(["NETWORK ID", "NAME", "DRIVER", "SCOPE"], &rows)
}

/// A network as docker showed it when networks were new.
#[derive(Serialize)]
struct Legacy<'a> {
    name: &'a str,
    id: &'a str,
    driver: &'a str,
    containers: std::collections::BTreeMap<&'a str, LegacyContainer<'a>>,
}

/// A container on such a network.
#[derive(Serialize)]
struct LegacyContainer<'a> {
    endpoint: &'a str,
    mac_address: &'a str,
    ipv4_address: &'a str,
    ipv6_address: &'a str,
}

impl<'a> From<&'a proto::Network> for Legacy<'a> {
    fn from(network: &'a proto::Network) -> Self {
        let container = |(id, found): (&'a String, &'a proto::NetworkContainer)| {
            let container = LegacyContainer {
                endpoint: &found.endpoint_id,
                mac_address: &found.mac_address,
                ipv4_address: &found.ipv4_address,
                ipv6_address: &found.ipv6_address,
            };
            (id.as_str(), container)
        };
        Self {
            name: &network.name,
            id: &network.id,
            driver: &network.driver,
            containers: network.containers.iter().map(container).collect(),
        }
    }
}

fn inspect(context: &Context, args: &NetworkInspect) -> Result<u8, Failure> {
    let client = context.client()?;
    let find = |name: &str| -> Result<proto::Network, Failure> {
        let path = if args.verbose { paths::network_verbose(name) } else { paths::network(name) };
        Ok(client.get(&path)?)
    };
    if args.named.format.as_deref() == Some("legacy") {
        let mut code = exit::OK;
        for name in &args.named.names {
            match find(name) {
                Ok(network) => output::json(&Legacy::from(&network))?,
                Err(failure) => {
                    output::complain(failure.to_string());
                    code = failure.code();
                }
            }
        }
        return Ok(code);
    }
    super::container::show(&args.named, find)
}

const PRUNE: &str = "WARNING! This will remove all custom networks not used by at least one container.\n\
                     Are you sure you want to continue? [y/N] ";

fn prune(context: &Context, args: &NetworkPrune) -> Result<u8, Failure> {
    let filters = filters(&args.filter, &["until", "label", "label!"])?;
    if !args.force {
        output::print(PRUNE)?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            return Err(Failure::new("network prune has been cancelled"));
        }
    }
    let path = paths::networks_prune(&filters);
    let pruned: proto::NetworksPruned = context.client()?.post(&path, &())?;
    if context.wants_json() {
        output::json(&pruned)?;
    } else if let Some(names) = pruned.networks_deleted {
        output::line(format!("Deleted Networks:\n{}\n", names.join("\n")))?;
    }
    Ok(exit::OK)
}

fn remove(context: &Context, networks: &[String], force: bool) -> Result<u8, Failure> {
    let client = context.client()?;
    for_each(networks, |name| match client.delete(&paths::network(name)) {
        Err(error) if force && error.is_not_found() => Ok(false),
        other => Ok(other.map(|()| true)?),
    })
}

fn connect(context: &Context, args: NetworkConnect) -> Result<u8, Failure> {
    let asked = args.ip.is_some() || args.ip6.is_some() || !args.link_local_ip.is_empty();
    let ipam_config = asked.then(|| proto::EndpointIpamConfig {
        ipv4_address: args.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        ipv6_address: args.ip6.map(|ip| ip.to_string()).unwrap_or_default(),
        link_local_ips: args.link_local_ip.iter().map(ToString::to_string).collect(),
    });
    let body = proto::NetworkConnect {
        container: args.container,
        endpoint_config: proto::EndpointSettings {
            ipam_config,
            links: args.link,
            aliases: args.alias,
            mac_address: args.mac_address.unwrap_or_default(),
            driver_opts: map(args.driver_opt),
            gw_priority: args.gw_priority,
            ..Default::default()
        },
    };
    context.client()?.act(&paths::network_connect(&args.network), Some(&body))?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parsed(line: &str) -> NetworkCreate {
        let words = ["bascule", "network", "create"].into_iter().chain(line.split_whitespace());
        match args::Args::try_parse_from(words).expect("a good line").verb {
            args::Verb::Network(args::Network::Create(create)) => create,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn s48_gateways_go_to_their_subnets() {
        let create =
            parsed("--subnet 172.26.0.0/16 --gateway 172.26.0.2 --ip-range 172.26.8.0/24 n");
        let pools = pools(&create).expect("good pools");
        assert_eq!(pools.len(), 1);
        assert_eq!(pools[0].subnet, "172.26.0.0/16");
        assert_eq!(pools[0].gateway, "172.26.0.2");
        assert_eq!(pools[0].ip_range, "172.26.8.0/24");
    }

    #[test]
    fn s51_the_example_with_two_subnets_is_sorted_out() {
        let create = parsed(
            "--subnet=192.168.0.0/16 --subnet=192.170.0.0/16 --gateway=192.168.0.100 \
             --gateway=192.170.0.100 --ip-range=192.168.1.0/24 --aux-address=a=192.168.1.5 \
             --aux-address=b=192.168.1.6 --aux-address=a=192.170.1.5 --aux-address=b=192.170.1.6 n",
        );
        let pools = pools(&create).expect("good pools");
        assert_eq!(pools[1].gateway, "192.170.0.100");
        assert_eq!(pools[1].auxiliary_addresses.len(), 2);
        assert_eq!(pools[1].ip_range, "");
    }

    #[test]
    fn s47_nonsense_is_told_in_dockers_words() {
        for (line, text) in [
            ("--gateway 10.0.0.1 n", "every ip-range or gateway must have a corresponding subnet"),
            ("--subnet 10.0.0.0/8 --subnet 10.1.0.0/16 n", "multiple overlapping subnet"),
            ("--subnet 10.0.0.0/8 --gateway 11.0.0.1 n", "no matching subnet for gateway 11.0.0.1"),
            ("--subnet 10.0.0.0/8 --ip-range 11.0.0.0/16 n", "no matching subnet for range"),
            ("--subnet 10.0.0.0/8 --aux-address a=x n", "no matching subnet for aux-address x"),
        ] {
            let failure = pools(&parsed(line)).expect_err(line);
            assert!(failure.to_string().contains(text), "{failure}");
            assert_eq!(failure.code(), 2);
        }
    }

    #[test]
    fn s7_the_list_is_dockers() {
        let network = proto::Network {
            id: "7fca4eb8c647e57e9d46c32714271e0c3f8bf8d17d346629e2820547b2d90039".into(),
            name: "bridge".into(),
            driver: "bridge".into(),
            scope: "local".into(),
            ..Default::default()
        };
        let golden = "NETWORK ID     NAME      DRIVER    SCOPE\n\
                      7fca4eb8c647   bridge    bridge    local\n";
        assert_eq!(table(&[network], false), golden);
    }
}
