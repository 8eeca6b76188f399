//! `/etc/hosts`: a container's own names, further lines, and links of the default network.

use std::net::IpAddr;

use crate::model::{Container, Desired, Family, HostAddress, Link, Mode, NameSettings};

/// What docker puts into every hosts file, and what into those of containers with IPv6.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n";
const LOCALHOST6: &str = "::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";
/// Sysctls that leave a container without IPv6.
const NO_IPV6: [&str; 2] = ["net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"];

/// Returns whether a container was left without IPv6.
pub fn without_ipv6(container: &Container) -> bool {
    NO_IPV6.iter().any(|key| container.sysctls.get(*key).is_some_and(|value| value == "1"))
}

/// Makes a container's file; who has the host's network has the host's lines.
pub fn render(
    desired: &Desired,
    container: &Container,
    settings: &NameSettings,
    host: &str,
) -> String {
    let mut text = match container.mode {
        Mode::Host => with_newline(host),
        _ if without_ipv6(container) => LOCALHOST.to_owned(),
        _ => format!("{LOCALHOST}{LOCALHOST6}"),
    };
    for extra in &container.naming.extra_hosts {
        let addresses = match extra.address {
            HostAddress::Address(address) => vec![address],
            HostAddress::Gateway => host_gateway(desired, container, settings),
        };
        text.extend(addresses.iter().map(|address| format!("{address}\t{}\n", extra.name)));
    }
    for link in &container.links {
        text.extend(linked(desired, link));
    }
    let names = own_names(container);
    for (_, endpoint) in container.endpoints() {
        text.extend(endpoint.addresses().map(|address| format!("{address}\t{names}\n")));
    }
    text
}

fn with_newline(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The whole host name, and its first part where there is more of it.
fn own_names(container: &Container) -> String {
    let (name, domain) = (&container.hostname, &container.naming.domainname);
    let whole = if domain.is_empty() { name.clone() } else { format!("{name}.{domain}") };
    match whole.split_once('.') {
        Some((short, _)) => format!("{whole} {short}"),
        None => whole,
    }
}

/// Returns the addresses of the host: what was set, those on the default network, or those on the container's own.
fn host_gateway(desired: &Desired, container: &Container, settings: &NameSettings) -> Vec<IpAddr> {
    if !settings.host_gateway.is_empty() {
        return settings.host_gateway.clone();
    }
    let own = || container.attachments.iter().find_map(|a| desired.networks.get(&a.network));
    let network = desired.default_network().or_else(own);
    Family::ALL.into_iter().filter_map(|family| network?.host_side(family)).collect()
}

/// Returns the lines of a link: alias, short id and name of a container that runs.
fn linked(desired: &Desired, link: &Link) -> Vec<String> {
    let Some((target, addresses)) = target(desired, link) else { return Vec::new() };
    let mut names = vec![link.alias.to_string()];
    for name in [target.id.short(), target.name.to_string()] {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let names = names.join(" ");
    addresses.iter().map(|address| format!("{address}\t{names}\n")).collect()
}

/// Returns to whom a link of the default network leads, and the addresses there.
pub(super) fn target<'a>(
    desired: &'a Desired,
    link: &Link,
) -> Option<(&'a Container, Vec<IpAddr>)> {
    let target = desired.containers.values().find(|c| c.name == link.container)?;
    let default = desired.default_network()?.id;
    let (_, endpoint) = target.endpoints().find(|(network, _)| *network == default)?;
    Some((target, endpoint.addresses().collect()))
}

/// Puts the lines of a new file into one that was edited: lines of ours that are no more go, new ones come last.
pub fn merged(edited: &str, old: &str, new: &str) -> String {
    let gone = |line: &str| has(old, line) && !has(new, line);
    let kept = edited.lines().filter(|line| !gone(line)).map(|line| format!("{line}\n"));
    let mut text: String = kept.collect();
    let come = new.lines().filter(|line| !has(old, line));
    text.extend(come.map(|line| format!("{line}\n")));
    text
}

fn has(text: &str, wanted: &str) -> bool {
    text.lines().any(|line| line == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s137_lines_of_others_stay_where_they_are() {
        let old = "127.0.0.1\tlocalhost\n10.0.0.2\tdb\n10.0.0.3\tc1\n";
        let new = "127.0.0.1\tlocalhost\n10.0.0.9\tdb\n10.0.0.3\tc1\n";
        let edited = "# mine\n10.0.0.2\tdb\n192.0.2.1 mine\n10.0.0.3\tc1";
        assert_eq!(
            merged(edited, old, new),
            "# mine\n192.0.2.1 mine\n10.0.0.3\tc1\n10.0.0.9\tdb\n"
        );
        assert_eq!(merged(old, old, new).lines().count(), 3);
    }
}
