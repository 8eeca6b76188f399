//! `bascule port`: where the ports of containers are published.

use super::{Context, args, output};
use crate::{
    api::{paths, proto},
    error::{Failure, exit},
};

/// Prints published ports of a container, or of all that run.
pub fn port(context: &Context, args: &args::Port) -> Result<u8, Failure> {
    let client = context.client()?;
    let ports_of = |name: &str| -> Result<Vec<proto::PublishedPort>, Failure> {
        let mut ports: Vec<proto::PublishedPort> = client.get(&paths::container_ports(name))?;
        ports.sort();
        Ok(ports)
    };
    let Some(name) = &args.container else {
        return all(
            context,
            &client.get::<Vec<proto::ContainerSummary>>(paths::CONTAINERS)?,
            ports_of,
        );
    };
    let mut ports = ports_of(name)?;
    if let Some(wanted) = &args.port {
        let (port, proto) = private_port(wanted)?;
        ports = ports.iter().filter_map(|range| narrowed(range, port, proto)).collect();
        if ports.is_empty() {
            return Err(Failure::new(format!(
                "no public port '{port}/{proto}' published for {name}"
            )));
        }
    }
    if context.wants_json() {
        output::json(&ports)?;
    } else if args.port.is_some() {
        for (_, host) in ports.iter().flat_map(lines) {
            output::line(host)?;
        }
    } else {
        for (port, host) in ports.iter().flat_map(lines) {
            output::line(format!("{port} -> {host}"))?;
        }
    }
    Ok(exit::OK)
}

fn all(
    context: &Context,
    containers: &[proto::ContainerSummary],
    ports_of: impl Fn(&str) -> Result<Vec<proto::PublishedPort>, Failure>,
) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    let mut json = serde_json::Map::new();
    for container in containers {
        let name = super::container::name_of(container);
        let ports = ports_of(&container.id)?;
        for (port, host) in ports.iter().flat_map(lines) {
            rows.push([name.to_owned(), port, host]);
        }
        json.insert(name.to_owned(), serde_json::to_value(ports).map_err(anyhow::Error::from)?);
    }
    if context.wants_json() {
        output::json(&json)?;
    } else {
        output::print(&output::table(["CONTAINER", "PORT", "HOST"], &rows))?;
    }
    Ok(exit::OK)
}

/// Reads `80` or `80/udp`.
fn private_port(text: &str) -> Result<(u16, &str), Failure> {
    let (port, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    match port.parse() {
        Ok(port) if port > 0 && ["tcp", "udp", "sctp"].contains(&proto) => Ok((port, proto)),
        _ => {
            Err(Failure::usage(format!("invalid port '{text}'")).hint("a port is PORT[/tcp|/udp]"))
        }
    }
}

/// Cuts one port out of a range.
fn narrowed(range: &proto::PublishedPort, port: u16, proto: &str) -> Option<proto::PublishedPort> {
    let offset = port.checked_sub(range.container_port)?;
    (range.proto == proto && offset < range.count.max(1)).then(|| proto::PublishedPort {
        container_port: port,
        host_port: if range.host_port == 0 { 0 } else { range.host_port.saturating_add(offset) },
        count: 1,
        ..range.clone()
    })
}

/// Writes out a range, port by port as docker does.
fn lines(range: &proto::PublishedPort) -> impl Iterator<Item = (String, String)> + '_ {
    (0..range.count.max(1)).map(|offset| {
        let port = format!("{}/{}", range.container_port.saturating_add(offset), range.proto);
        let host = match (range.host_ip.as_str(), range.host_port) {
            (ip, 0) if ip.contains(':') => format!("[{ip}]"),
            (ip, 0) => ip.to_owned(),
            (ip, first) if ip.contains(':') => format!("[{ip}]:{}", first.saturating_add(offset)),
            (ip, first) => format!("{ip}:{}", first.saturating_add(offset)),
        };
        (port, host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> proto::PublishedPort {
        proto::PublishedPort {
            container_port: 80,
            proto: "tcp".into(),
            host_ip: "0.0.0.0".into(),
            host_port: 8080,
            count: 2,
        }
    }

    #[test]
    fn s121_ports_are_printed_as_docker_does() {
        let text: Vec<_> =
            lines(&range()).map(|(port, host)| format!("{port} -> {host}")).collect();
        assert_eq!(text, ["80/tcp -> 0.0.0.0:8080", "81/tcp -> 0.0.0.0:8081"]);
    }

    #[test]
    fn one_port_is_found_in_its_range() {
        let found = narrowed(&range(), 81, "tcp").expect("inside");
        assert_eq!((found.host_port, found.count), (8081, 1));
        assert_eq!(narrowed(&range(), 82, "tcp"), None);
        assert_eq!(narrowed(&range(), 79, "tcp"), None);
        assert_eq!(narrowed(&range(), 80, "udp"), None);
    }

    #[test]
    fn ports_are_understood_with_and_without_protocol() {
        assert_eq!(private_port("80").expect("good"), (80, "tcp"));
        assert_eq!(private_port("53/udp").expect("good"), (53, "udp"));
        for bad in ["", "x", "0", "80/foo", "70000"] {
            assert_eq!(private_port(bad).expect_err(bad).code(), 2);
        }
    }
}
