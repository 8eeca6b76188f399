//! `bascule container ...`, without what executes commands.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use serde::Serialize;
use serde_json::json;

use super::{
    Context,
    args::{
        ContainerList, ContainerRemove, ContainerStop, Create, Inspect, InspectNamed, KeyValue,
        Kind, References, Sandbox,
    },
    endpoint, filter, for_each, network, output,
};
use crate::{
    api::{client::Client, paths, proto},
    error::{Failure, exit},
};

/// Makes a container without starting it.
pub fn create(context: &Context, args: Create) -> Result<u8, Failure> {
    if let Some(image) = &args.image {
        return Err(Failure::usage(format!(
            "there are no images here, and {image:?} stands where docker has one"
        ))
        .hint("`bascule container create` makes a sandbox without a command; run one in it with `bascule exec NAME COMMAND` after the start, or use `bascule run ... -- COMMAND`"));
    }
    let client = context.client()?;
    let created = make(&client, args.sandbox, &[], Vec::new())?;
    if context.wants_json() {
        output::json(&created)?;
    } else {
        output::line(&created.id)?;
    }
    Ok(exit::OK)
}

/// Asks the agent to make a container.
pub fn make(
    client: &Client,
    sandbox: Sandbox,
    command: &[OsString],
    env: Vec<String>,
) -> Result<proto::ContainerCreated, Failure> {
    let body = proto::ContainerCreate { env, ..request(sandbox, command)? };
    let created: proto::ContainerCreated = client.post(paths::BASCULE_CONTAINERS, &body)?;
    for warning in &created.warnings {
        output::complain(format!("warning: {warning}"));
    }
    Ok(created)
}

fn request(sandbox: Sandbox, command: &[OsString]) -> Result<proto::ContainerCreate, Failure> {
    Ok(proto::ContainerCreate {
        networks: endpoint::networks(&sandbox)?,
        name: sandbox.name.unwrap_or_default(),
        publish: sandbox.publish,
        publish_all: sandbox.publish_all,
        expose: sandbox.expose,
        links: sandbox.link,
        hostname: sandbox.hostname.unwrap_or_default(),
        domainname: sandbox.domainname.unwrap_or_default(),
        dns: sandbox.dns,
        dns_search: sandbox.dns_search,
        dns_options: sandbox.dns_option,
        extra_hosts: sandbox.add_host,
        sysctls: network::map(sandbox.sysctl),
        labels: network::map(sandbox.label),
        netns: sandbox.netns.map(named_namespace).transpose()?,
        pid: sandbox.pid,
        auto_remove: sandbox.rm,
        command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        env: Vec::new(),
    })
}

/// Makes a path absolute, since the agent has a working directory of its own; a bare word is one of
/// `ip netns`' names.
fn named_namespace(path: PathBuf) -> Result<String, Failure> {
    let path = match path.components().count() {
        1 if !path.is_absolute() => std::path::Path::new("/run/netns").join(path),
        _ => std::path::absolute(&path)?,
    };
    path.into_os_string().into_string().map_err(|path| {
        Failure::usage(format!("the path of the network namespace is not UTF-8: {path:?}"))
    })
}

/// Starts containers as empty sandboxes.
pub fn start(context: &Context, which: &References) -> Result<u8, Failure> {
    let client = context.client()?;
    for_each(&which.containers, |name| {
        client.act(&paths::container_start(name), None::<&()>)?;
        Ok(true)
    })
}

/// Stops containers.
pub fn stop(context: &Context, args: &ContainerStop) -> Result<u8, Failure> {
    let mut client = context.client()?;
    let query = args.time.map(|seconds| format!("?t={seconds}")).unwrap_or_default();
    client.allow(Duration::from_secs(args.time.unwrap_or_default().into()));
    for_each(&args.references.containers, |name| {
        client.act(&format!("{}{query}", paths::container_stop(name)), None::<&()>)?;
        Ok(true)
    })
}

/// Removes containers.
pub fn remove(context: &Context, args: &ContainerRemove) -> Result<u8, Failure> {
    let client = context.client()?;
    for_each(&args.references.containers, |name| {
        let path = paths::container(name);
        let path = if args.force { format!("{path}?force=1") } else { path };
        match client.delete(&path) {
            Err(error) if args.force && error.is_not_found() => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    })
}

/// Lists containers.
pub fn list(context: &Context, args: &ContainerList) -> Result<u8, Failure> {
    filter::check(&args.filter, &["name", "id", "status", "network", "label"])?;
    // As in docker, asking for a status is asking among all.
    let all = args.all || args.filter.iter().any(|filter| filter.key == "status");
    let path = format!("{}{}", paths::CONTAINERS, if all { "?all=1" } else { "" });
    let containers: Vec<proto::ContainerSummary> = context.client()?.get(&path)?;
    let mut shown = Vec::new();
    for container in containers {
        if filter::passes(&args.filter, |filter| matches(&container, filter))? {
            shown.push(container);
        }
    }
    let list = &args.list;
    if let Some(template) = &list.format {
        for container in &shown {
            let [id, names, status, networks, ports, command] = row(container, list.no_trunc);
            let fields = json!({
                "ID": id, "Names": names, "Status": status, "State": container.state,
                "Networks": networks, "Ports": ports, "Command": command,
                "Labels": container.labels,
            });
            output::line(output::fill(template, &fields)?)?;
        }
    } else if list.quiet {
        for container in &shown {
            output::line(output::id(&container.id, list.no_trunc))?;
        }
    } else if context.wants_json() {
        output::json(&shown)?;
    } else {
        output::print(&table(&shown, list.no_trunc))?;
    }
    Ok(exit::OK)
}

fn table(containers: &[proto::ContainerSummary], full: bool) -> String {
    let rows: Vec<_> = containers.iter().map(|container| row(container, full)).collect();
    output::table(["CONTAINER ID", "NAMES", "STATUS", "NETWORKS", "PORTS", "COMMAND"], &rows)
}

fn row(container: &proto::ContainerSummary, full: bool) -> [String; 6] {
    let networks: Vec<_> = container.network_settings.networks.keys().map(String::as_str).collect();
    let command = match container.command.as_str() {
        "" => String::new(),
        command if !full && command.chars().count() > 20 => {
            format!("\"{}…\"", command.chars().take(19).collect::<String>())
        }
        command => format!("\"{command}\""),
    };
    [
        output::id(&container.id, full).to_owned(),
        name_of(container).to_owned(),
        container.status.clone(),
        networks.join(","),
        ports(&container.ports),
        command,
    ]
}

/// Returns the name without docker's slash.
pub fn name_of(container: &proto::ContainerSummary) -> &str {
    container.names.first().map_or("", |name| name.trim_start_matches('/'))
}

fn matches(container: &proto::ContainerSummary, filter: &KeyValue) -> Option<bool> {
    let value = &filter.value;
    match filter.key.as_str() {
        "name" => Some(name_of(container).contains(value)),
        "id" => Some(container.id.starts_with(value)),
        "status" => Some(container.state == *value),
        "network" => Some(container.network_settings.networks.iter().any(|(name, endpoint)| {
            name == value || !value.is_empty() && endpoint.network_id.starts_with(value)
        })),
        "label" => Some(filter::has_label(&container.labels, value)),
        _ => None,
    }
}

/// Writes ports as `docker ps` does, neighbours as ranges.
fn ports(ports: &[proto::PortSummary]) -> String {
    let mut sorted = ports.to_vec();
    sorted.sort_by(|a, b| {
        let key = |p: &proto::PortSummary| {
            (p.r#type.clone(), p.ip.is_none(), p.ip.clone(), p.private_port, p.public_port)
        };
        key(a).cmp(&key(b))
    });
    let mut groups: Vec<(proto::PortSummary, u16)> = Vec::new();
    for port in sorted {
        match groups.last_mut() {
            Some((first, count)) if follows(first, *count, &port) => *count += 1,
            _ => groups.push((port, 1)),
        }
    }
    let written = groups.iter().map(|(first, count)| {
        let range = |start: u16| match count {
            1 => start.to_string(),
            _ => format!("{start}-{}", start.saturating_add(count - 1)),
        };
        let private = format!("{}/{}", range(first.private_port), first.r#type);
        match (&first.ip, first.public_port) {
            (Some(ip), Some(public)) if ip.contains(':') => {
                format!("[{ip}]:{}->{private}", range(public))
            }
            (Some(ip), Some(public)) => format!("{ip}:{}->{private}", range(public)),
            _ => private,
        }
    });
    written.collect::<Vec<_>>().join(", ")
}

fn follows(first: &proto::PortSummary, count: u16, next: &proto::PortSummary) -> bool {
    first.ip == next.ip
        && first.r#type == next.r#type
        && first.private_port.checked_add(count) == Some(next.private_port)
        && match (first.public_port, next.public_port) {
            (Some(first), Some(next)) => first.checked_add(count) == Some(next),
            (None, None) => true,
            _ => false,
        }
}

/// Shows containers in full.
pub fn inspect(context: &Context, args: &InspectNamed) -> Result<u8, Failure> {
    let client = context.client()?;
    show(args, |name| Ok(client.get::<proto::Container>(&paths::container_inspect(name))?))
}

/// A container or a network.
#[derive(Serialize)]
#[serde(untagged)]
enum Any {
    Container(Box<proto::Container>),
    Network(Box<proto::Network>),
}

/// Shows containers or networks in full, whichever has the name.
pub fn inspect_any(context: &Context, args: &Inspect) -> Result<u8, Failure> {
    let client = context.client()?;
    let container = |name: &str| client.get(&paths::container_inspect(name)).map(Any::Container);
    let network = |name: &str| client.get(&paths::network(name)).map(Any::Network);
    show(&args.named, |name| match args.r#type {
        Some(Kind::Container) => Ok(container(name)?),
        Some(Kind::Network) => Ok(network(name)?),
        None => match container(name) {
            Err(error) if error.is_not_found() => network(name).map_err(|_| error.into()),
            found => Ok(found?),
        },
    })
}

/// Prints what is found as a JSON list, or a template for each; complains about what is not.
pub fn show<T: Serialize>(
    args: &InspectNamed,
    find: impl Fn(&str) -> Result<T, Failure>,
) -> Result<u8, Failure> {
    let mut found = Vec::new();
    let mut code = exit::OK;
    for name in &args.names {
        match find(name) {
            Ok(value) => found.push(value),
            Err(failure) => {
                output::complain(failure.to_string());
                code = failure.code();
            }
        }
    }
    match &args.format {
        Some(template) => {
            for value in &found {
                let value = serde_json::to_value(value).map_err(anyhow::Error::from)?;
                output::line(output::fill(template, &value)?)?;
            }
        }
        None if found.is_empty() => {}
        None => output::json(&found)?,
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(
        ip: Option<&str>,
        public: Option<u16>,
        private: u16,
        proto: &str,
    ) -> proto::PortSummary {
        proto::PortSummary {
            ip: ip.map(Into::into),
            private_port: private,
            public_port: public,
            r#type: proto.into(),
        }
    }

    #[test]
    fn s120_ports_are_written_as_docker_ps_does() {
        let any = Some("0.0.0.0");
        assert_eq!(ports(&[]), "");
        assert_eq!(
            ports(&[
                port(Some("172.23.0.1"), Some(32770), 6379, "tcp"),
                port(None, None, 443, "tcp"),
                port(any, Some(53), 53, "udp"),
            ]),
            "172.23.0.1:32770->6379/tcp, 443/tcp, 0.0.0.0:53->53/udp"
        );
    }

    #[test]
    fn neighbouring_ports_are_one_range() {
        let any = Some("0.0.0.0");
        assert_eq!(
            ports(&[
                port(any, Some(8001), 81, "tcp"),
                port(any, Some(8000), 80, "tcp"),
                port(any, Some(9002), 82, "tcp"),
            ]),
            "0.0.0.0:8000-8001->80-81/tcp, 0.0.0.0:9002->82/tcp"
        );
        assert_eq!(ports(&[port(None, None, 80, "tcp"), port(None, None, 81, "tcp")]), "80-81/tcp");
    }

    #[test]
    fn s28_the_list_shows_what_people_look_for() {
        let container = proto::ContainerSummary {
            id: "90e1f3ec71caf82ae776a827e0712a68a110a3f175954e5bd4222fd142ac9428".into(),
            names: vec!["/c1".into()],
            command: "python3 -m http.server 80".into(),
            state: "running".into(),
            status: "Up 5 minutes".into(),
            ports: vec![port(Some("0.0.0.0"), Some(8080), 80, "tcp")],
            network_settings: proto::SummaryNetworks {
                networks: ["blue", "red"]
                    .map(|name| (name.to_owned(), proto::EndpointSettings::default()))
                    .into(),
            },
            ..Default::default()
        };
        let created = proto::ContainerSummary {
            id: "11cedac1810e864d6b1589d92da12af66203879ab89f4ccd8c8fdaa9b1c48b1d".into(),
            names: vec!["/c2".into()],
            status: "Created".into(),
            ..Default::default()
        };
        let golden = "\
CONTAINER ID   NAMES     STATUS         NETWORKS   PORTS                  COMMAND
90e1f3ec71ca   c1        Up 5 minutes   blue,red   0.0.0.0:8080->80/tcp   \"python3 -m http.ser…\"
11cedac1810e   c2        Created
";
        assert_eq!(table(&[container, created], false), golden);
    }

    #[test]
    fn s88_namespaces_are_named_by_path_or_by_ip_netns_name() {
        assert_eq!(named_namespace("blue".into()).expect("good"), "/run/netns/blue");
        assert_eq!(named_namespace("/proc/7/ns/net".into()).expect("good"), "/proc/7/ns/net");
        assert!(named_namespace("./x".into()).expect("good").starts_with('/'));
    }
}
