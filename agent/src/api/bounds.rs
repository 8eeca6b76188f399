//! How much one request may ask for. Docker has no such bounds; here a member of the group that owns the
//! socket cannot fill the agent's memory and store with one line of JSON.

use super::proto::{self, Map};
use crate::state::Rejected;

type Result = std::result::Result<(), Rejected>;

/// Entries of a map: labels, driver options, auxiliary addresses.
const ENTRIES: usize = 1_024;
/// Bytes of a key.
const KEY: usize = 1_024;
/// Bytes of a value.
const VALUE: usize = 16 << 10;
/// Items of a list: networks, links, published ports.
const ITEMS: usize = 4_096;
/// Bytes of an item, of a name or of another word.
const WORD: usize = 4_096;
/// Bytes of an alias, which is a name for DNS.
const ALIAS: usize = 255;
/// Bytes of a command.
const COMMAND: usize = 128 << 10;

/// Judges a wish for a network.
pub(super) fn network(request: &proto::NetworkCreate) -> Result {
    map("labels", &request.labels)?;
    map("options", &request.options)?;
    map("IPAM options", &request.ipam.options)?;
    count("subnets", request.ipam.config.len(), ITEMS)?;
    for config in &request.ipam.config {
        map("auxiliary addresses", &config.auxiliary_addresses)?;
        words("the subnet", [&config.subnet, &config.ip_range, &config.gateway])?;
    }
    words("the network", [&request.name, &request.driver, &request.scope, &request.ipam.driver])
}

/// Judges a wish for name servers of a network.
pub(super) fn servers(request: &proto::NetworkUpdate) -> Result {
    count("name servers", request.add_dns.len().max(request.drop_dns.len()), ITEMS)
}

/// Judges a wish for a place on a network.
pub(super) fn endpoint(settings: &proto::EndpointSettings) -> Result {
    map("driver options", &settings.driver_opts)?;
    aliases(&settings.aliases)?;
    list("links", &settings.links)?;
    if let Some(addresses) = &settings.ipam_config {
        list("link-local addresses", &addresses.link_local_ips)?;
    }
    words("the endpoint", [&settings.mac_address])
}

/// Judges a wish for a container.
pub(super) fn container(request: &proto::ContainerCreate) -> Result {
    map("labels", &request.labels)?;
    map("sysctls", &request.sysctls)?;
    for (what, items) in [
        ("published ports", &request.publish),
        ("exposed ports", &request.expose),
        ("links", &request.links),
        ("search domains", &request.dns_search),
        ("resolver options", &request.dns_options),
        ("extra hosts", &request.extra_hosts),
        ("variables", &request.env),
    ] {
        list(what, items)?;
    }
    count("name servers", request.dns.len(), ITEMS)?;
    count("networks", request.networks.len(), ITEMS)?;
    for network in &request.networks {
        aliases(&network.aliases)?;
        map("driver options", &network.driver_opts)?;
        count("link-local addresses", network.link_local_ips.len(), ITEMS)?;
        words("the network", [&network.network, &network.mac_address])?;
    }
    let netns = request.netns.clone().unwrap_or_default();
    words("the container", [&request.name, &request.hostname, &request.domainname, &netns])?;
    count("words of the command", request.command.len(), ITEMS)?;
    count("bytes of the command", request.command.iter().map(String::len).sum(), COMMAND)?;
    request.command.iter().try_for_each(|word| whole("the command", word))
}

/// Judges names that go to DNS and into hosts files, where a space begins another one.
fn aliases(aliases: &[String]) -> Result {
    count("aliases", aliases.len(), ITEMS)?;
    for alias in aliases {
        let fits = !alias.is_empty() && alias.len() <= ALIAS;
        if !fits || alias.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(Rejected::invalid(format!(
                "invalid alias {}: an alias has 1 to {ALIAS} bytes, and neither white space nor control characters nor #",
                shown(alias)
            )));
        }
    }
    Ok(())
}

fn map(what: &str, map: &Map) -> Result {
    count(what, map.len(), ENTRIES)?;
    for (key, value) in map {
        let fits = key.len() <= KEY && value.len() <= VALUE;
        if !fits {
            return Err(Rejected::invalid(format!(
                "invalid {what}: {} is too long: a key has at most {KEY} bytes and a value {VALUE}",
                shown(key)
            )));
        }
        if key.chars().any(char::is_control) {
            return Err(Rejected::invalid(format!(
                "invalid {what}: the key {} has control characters",
                shown(key)
            )));
        }
        whole(what, value)?;
    }
    Ok(())
}

fn list(what: &str, items: &[String]) -> Result {
    count(what, items.len(), ITEMS)?;
    words(what, items)
}

fn words<'a>(what: &str, words: impl IntoIterator<Item = &'a String>) -> Result {
    for word in words {
        if word.len() > WORD {
            let why = format!("invalid {what}: {} has more than {WORD} bytes", shown(word));
            return Err(Rejected::invalid(why));
        }
        whole(what, word)?;
    }
    Ok(())
}

/// Refuses what no system call takes.
fn whole(what: &str, text: &str) -> Result {
    match text.contains('\0') {
        true => Err(Rejected::invalid(format!("invalid {what}: {} has a NUL", shown(text)))),
        false => Ok(()),
    }
}

fn count(what: &str, count: usize, limit: usize) -> Result {
    match count > limit {
        true => {
            Err(Rejected::invalid(format!("too many {what}: {count}, at most {limit} are allowed")))
        }
        false => Ok(()),
    }
}

/// Quotes the beginning of a text: an error is no place for all of it.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(40).collect();
    if beginning.len() < text.len() { format!("{beginning:?}...") } else { format!("{text:?}") }
}
