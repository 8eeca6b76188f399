//! `--network`, as a name or as `name=NETWORK,ip=ADDRESS,...`: what a container wants of its places on networks.

use std::net::IpAddr;

use super::{
    args::{KeyValue, Sandbox},
    network,
};
use crate::{api::proto, error::Failure};

/// Gives every network what was said about it, and the first one what was said about none.
pub fn networks(sandbox: &Sandbox) -> Result<Vec<proto::ContainerNetwork>, Failure> {
    let mut networks =
        sandbox.network.iter().map(|text| network_of(text)).collect::<Result<Vec<_>, _>>()?;
    if networks.is_empty() && has_wishes(sandbox) {
        networks.push(proto::ContainerNetwork { network: "bridge".into(), ..Default::default() });
    }
    if let Some(first) = networks.first_mut() {
        add(first, sandbox)?;
    }
    Ok(networks)
}

fn has_wishes(sandbox: &Sandbox) -> bool {
    sandbox.ip.is_some()
        || sandbox.ip6.is_some()
        || sandbox.mac_address.is_some()
        || !sandbox.link_local_ip.is_empty()
        || !sandbox.network_alias.is_empty()
}

/// Adds what was said about no network; saying a thing twice is refused, as docker does.
fn add(first: &mut proto::ContainerNetwork, sandbox: &Sandbox) -> Result<(), Failure> {
    let aliases = !sandbox.network_alias.is_empty();
    let link_local = !sandbox.link_local_ip.is_empty();
    let twice = [
        (!first.aliases.is_empty() && aliases, "--network-alias and per-network alias"),
        (first.ip.is_some() && sandbox.ip.is_some(), "--ip and per-network IPv4 address"),
        (first.ip6.is_some() && sandbox.ip6.is_some(), "--ip6 and per-network IPv6 address"),
        (
            !first.mac_address.is_empty() && sandbox.mac_address.is_some(),
            "--mac-address and per-network MAC address",
        ),
        (
            !first.link_local_ips.is_empty() && link_local,
            "--link-local-ip and per-network link-local IP addresses",
        ),
    ];
    if let Some((_, what)) = twice.iter().find(|(twice, _)| *twice) {
        return Err(Failure::usage(format!("conflicting options: cannot specify both {what}")));
    }
    first.ip = first.ip.or(sandbox.ip);
    first.ip6 = first.ip6.or(sandbox.ip6);
    if let Some(mac) = &sandbox.mac_address {
        first.mac_address.clone_from(mac);
    }
    first.aliases.extend(sandbox.network_alias.iter().cloned());
    first.link_local_ips.extend(&sandbox.link_local_ip);
    Ok(())
}

/// Reads one `--network`. The fields are those of a line of CSV: one with commas stands in quotation marks.
fn network_of(text: &str) -> Result<proto::ContainerNetwork, Failure> {
    let mut found = proto::ContainerNetwork::default();
    if !text.contains('=') {
        found.network = text.to_owned();
        return Ok(found);
    }
    let wrong = |why: String| Failure::usage(format!("invalid network {text:?}: {why}"));
    for field in fields(text) {
        let Some((key, value)) = field.split_once('=').filter(|(key, _)| !key.trim().is_empty())
        else {
            return Err(wrong(format!("invalid field {field}")));
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        set(&mut found, &key, value).map_err(wrong)?;
    }
    if found.network.is_empty() {
        return Err(wrong("network name/id is not specified".to_owned()));
    }
    Ok(found)
}

fn set(found: &mut proto::ContainerNetwork, key: &str, value: &str) -> Result<(), String> {
    let address = || value.parse::<IpAddr>().map_err(|_| format!("{value:?} is no IP address"));
    match key {
        "name" => found.network = value.to_owned(),
        "alias" => found.aliases.push(value.to_owned()),
        "ip" => match address()? {
            IpAddr::V4(ip) => found.ip = Some(ip),
            IpAddr::V6(_) => return Err(format!("{value} is no IPv4 address: ip6={value}")),
        },
        "ip6" => match address()? {
            IpAddr::V6(ip) => found.ip6 = Some(ip),
            IpAddr::V4(_) => return Err(format!("{value} is no IPv6 address: ip={value}")),
        },
        "mac-address" => found.mac_address = value.to_owned(),
        "link-local-ip" => found.link_local_ips.push(address()?),
        "driver-opt" => {
            let pair: KeyValue = value.parse().map_err(str::to_owned)?;
            if !pair.has_value {
                return Err(format!("the driver option {value:?} is not KEY=VALUE"));
            }
            found.driver_opts.extend(network::map(vec![pair]));
        }
        "gw-priority" => {
            let priority = value.parse().map_err(|_| format!("invalid gw-priority: {value:?}"))?;
            found.gw_priority = priority;
        }
        _ => return Err(format!("invalid field key {key}")),
    }
    Ok(())
}

/// Splits at the commas that stand in no quotation marks; two marks within marks are one.
fn fields(text: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(field) = fields.last_mut() else { break };
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                field.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(networks: &[&str]) -> Sandbox {
        Sandbox { network: networks.iter().map(|&n| n.to_owned()).collect(), ..Default::default() }
    }

    #[test]
    fn wishes_for_an_endpoint_go_to_the_first_network() {
        let ip = Some([10, 0, 0, 9].into());
        let found = networks(&Sandbox { ip, ..sandbox(&["a", "b"]) }).expect("good");
        assert_eq!(found[0].ip, ip);
        assert_eq!((found[1].network.as_str(), found[1].ip), ("b", None));
        let found = networks(&Sandbox { ip, ..Default::default() }).expect("good");
        assert_eq!(found[0].network, "bridge");
        assert!(networks(&Sandbox::default()).expect("good").is_empty());
    }

    #[test]
    fn every_network_has_options_of_its_own() {
        let line = "name=n1,alias=db,alias=db2,ip=10.0.0.2,ip6=fd00::2,gw-priority=-3,\
                    mac-address=02:42:00:00:00:01,link-local-ip=169.254.1.2,\
                    driver-opt=com.docker.network.endpoint.ifname=net1,\
                    \"driver-opt=s=a=1,b=\"\"2\"\"\"";
        let found = networks(&sandbox(&["n0", line])).expect("good");
        let n1 = &found[1];
        assert_eq!((found[0].network.as_str(), n1.network.as_str()), ("n0", "n1"));
        assert_eq!(n1.aliases, ["db", "db2"]);
        assert_eq!((n1.ip, n1.ip6), (Some([10, 0, 0, 2].into()), "fd00::2".parse().ok()));
        assert_eq!((n1.gw_priority, n1.mac_address.as_str()), (-3, "02:42:00:00:00:01"));
        assert_eq!(n1.link_local_ips, [IpAddr::from([169, 254, 1, 2])]);
        assert_eq!(n1.driver_opts["com.docker.network.endpoint.ifname"], "net1");
        assert_eq!(n1.driver_opts["s"], "a=1,b=\"2\"");
    }

    #[test]
    fn wrong_options_of_a_network_are_usage_errors() {
        for (line, word) in [
            ("ip=10.0.0.2", "not specified"),
            ("name=n1,", "invalid field"),
            ("name=n1,x=y", "invalid field key x"),
            ("name=n1,ip=fd00::1", "no IPv4 address"),
            ("name=n1,ip6=10.0.0.1", "no IPv6 address"),
            ("name=n1,ip=x", "no IP address"),
            ("name=n1,gw-priority=high", "invalid gw-priority"),
            ("name=n1,driver-opt=x", "not KEY=VALUE"),
        ] {
            let failure = networks(&sandbox(&[line])).expect_err(line);
            assert_eq!(failure.code(), 2, "{line}");
            assert!(failure.to_string().contains(word), "{line}: {failure}");
        }
        let twice = Sandbox { ip: Some([10, 0, 0, 9].into()), ..sandbox(&["name=n1,ip=10.0.0.8"]) };
        let failure = networks(&twice).expect_err("twice");
        assert!(failure.to_string().contains("cannot specify both --ip and per-network"));
    }
}
