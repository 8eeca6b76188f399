//! Values as they are written, read and judged.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::{Bridge, ConfigError, Ipv6, Mark};
use crate::{
    model::{MOST_TTL, NameSettings, PublishRange, Resolver},
    telemetry::log::Format,
};

/// Fewest and most connections that a table is made for.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 512..=8_388_608;

/// Reads how many connections are tracked at most.
pub(super) fn connections(given: Option<u32>) -> Result<Option<u32>, ConfigError> {
    match given {
        Some(count) if !CONNECTIONS.contains(&count) => Err(ConfigError::value(
            "max-connections",
            &count.to_string(),
            "it has to be from 512 to 8388608",
        )),
        given => Ok(given),
    }
}

/// Reads whether the default network has IPv6, and with which subnet. The texts are Docker's.
pub(super) fn ipv6(wanted: Option<bool>, subnet: Option<String>) -> Result<Ipv6, ConfigError> {
    let Some(text) = subnet.filter(|t| !t.is_empty()) else {
        return Ok(if wanted == Some(true) { Ipv6::Automatic } else { Ipv6::Off });
    };
    let invalid = |why: &str| ConfigError::value("fixed-cidr-v6", &text, why);
    let Ok(subnet) = text.parse::<Ipv6Network>() else {
        return Err(invalid("it is not a valid IPv6 subnet"));
    };
    if !text.contains('/') || subnet.ip() != subnet.network() {
        return Err(invalid("a subnet is needed, as 2001:db8:1::/64"));
    }
    let link_local = Ipv6Network::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
    if subnet.prefix() < 64 && link_local.is_ok_and(|prefix| subnet.contains(prefix.ip())) {
        return Err(invalid("it clashes with the Link-Local prefix 'fe80::/64'"));
    }
    if subnet.ip().is_multicast() {
        return Err(invalid("multicast subnets are not allowed"));
    }
    if subnet.ip().segments()[0] == 0 || !(8..=126).contains(&subnet.prefix()) {
        return Err(invalid("such addresses cannot be a host's"));
    }
    match wanted {
        Some(false) => Ok(Ipv6::Off),
        _ => Ok(Ipv6::Fixed(subnet)),
    }
}

/// Reads a mark and its mask, each as Docker reads them. A mark with bits that the mask leaves out is no packet's,
/// there as here.
pub(super) fn mark(text: Option<String>) -> Result<Option<Mark>, ConfigError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    let invalid = |why: String| ConfigError::value("bridge-accept-fwmark", &text, why);
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (value, Some(mask)),
        None => (text.as_str(), None),
    };
    let value = gos_number(value).ok_or_else(|| {
        invalid(format!("invalid firewall mark \"{text}\", not as 0x2 or 0x2/0x3"))
    })?;
    let mask = mask
        .map_or(Some(u32::MAX), gos_number)
        .ok_or_else(|| invalid(format!("invalid firewall mask \"{text}\", not as 0x2/0x3")))?;
    if (value, mask) == (0, 0) {
        let why = "every packet has this mark, and would reach every container; if that is meant, \
                   the gateway modes nat-unprotected and routed say so for a network";
        return Err(invalid(why.to_owned()));
    }
    Ok(Some(Mark { value, mask }))
}

/// Reads a number as Go's `strconv.ParseUint` does that is left to find the base: `0x`, `0o`, `0b`, octal behind a
/// zero, and underscores between digits.
fn gos_number(text: &str) -> Option<u32> {
    let text = text.to_ascii_lowercase();
    let based = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter();
    let (digits, radix) = based
        .filter_map(|(prefix, radix)| Some((text.strip_prefix(prefix)?, radix)))
        .next()
        .or_else(|| Some((text.strip_prefix('0').filter(|rest| !rest.is_empty())?, 8)))
        .unwrap_or((&text, 10));
    let separated = |c: char| c == '_' && digits.len() < text.len();
    let digits = digits.strip_prefix(separated).unwrap_or(digits);
    let is_number = digits
        .split('_')
        .all(|part| !part.is_empty() && part.bytes().all(|c| char::from(c).is_digit(radix)));
    is_number.then(|| u32::from_str_radix(&digits.replace('_', ""), radix).ok())?
}

/// Reads what the default network is to be.
pub(super) fn bridge(name: Option<String>, bip: Option<String>) -> Result<Bridge, ConfigError> {
    let given = |text: Option<String>| text.filter(|t| !t.is_empty());
    let (name, bip) = (given(name), given(bip));
    let invalid = |text: &str, why: &str| Err(ConfigError::value("bridge", text, why));
    match (name, bip) {
        (None, None) => Ok(Bridge::Automatic),
        (None, Some(bip)) => address(&bip).map(Bridge::Fixed),
        (Some(name), Some(bip)) => Err(ConfigError::value(
            "bip",
            &bip,
            format!(
                "a bridge that is there ({name}) keeps its own address, and `none` has none: give \
                 either --bridge or --bip"
            ),
        )),
        (Some(name), None) if name == "none" => Ok(Bridge::None),
        (Some(name), None) if name.contains('/') => {
            invalid(&name, "not the name of a bridge; an address is given by --bip")
        }
        (Some(name), None) if name.len() > 15 => {
            invalid(&name, "longer than the name of an interface can be")
        }
        (Some(name), None) => Ok(Bridge::Brought(name)),
    }
}

/// Reads address and prefix of the default network's bridge.
fn address(text: &str) -> Result<Ipv4Network, ConfigError> {
    let invalid = |why: &str| ConfigError::value("bip", text, why);
    let network: Ipv4Network =
        text.parse().map_err(|_| invalid("not address and prefix, as 172.17.0.1/16"))?;
    if !text.contains('/') || !(8..=30).contains(&network.prefix()) {
        return Err(invalid("the prefix length must be from 8 to 30"));
    }
    if network.ip() == network.broadcast() {
        return Err(invalid("the gateway cannot be the broadcast address"));
    }
    Ok(network)
}

/// Reads the part of the default network's subnet that automatic addresses come from.
pub(super) fn fixed_cidr(
    text: Option<String>,
    bridge: &Bridge,
) -> Result<Option<Ipv4Network>, ConfigError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    let invalid = |why: String| Err(ConfigError::value("fixed-cidr", &text, why));
    let Ok(range) = text.parse::<Ipv4Network>() else {
        return invalid("not a range of IPv4 addresses, as 172.17.1.0/24".to_owned());
    };
    if !text.contains('/') || range.ip() != range.network() {
        return invalid(format!("it should be {}/{}", range.network(), range.prefix()));
    }
    match bridge {
        Bridge::None => invalid("there is no default network (--bridge none)".to_owned()),
        Bridge::Fixed(bip) if !bip.contains(range.network()) || range.prefix() < bip.prefix() => {
            let subnet = format!("{}/{}", bip.network(), bip.prefix());
            invalid(format!("it is not inside the bridge's subnet {subnet} (--bip {bip})"))
        }
        Bridge::Automatic if !(8..=30).contains(&range.prefix()) => {
            invalid("without --bip it is the whole subnet: from /8 to /30".to_owned())
        }
        _ => Ok(Some(range)),
    }
}

/// Reads the address that the default network publishes ports on.
pub(super) fn binding(ip: Option<IpAddr>) -> Result<Option<IpAddr>, ConfigError> {
    match ip {
        Some(ip) if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            Err(ConfigError::value("ip", &ip.to_string(), "no address of a host"))
        }
        ip => Ok(ip),
    }
}

/// Reads the MTU of the default network; 0 is none, as Docker has it.
pub(super) fn mtu(mtu: Option<u32>) -> Result<Option<u16>, ConfigError> {
    let Some(mtu) = mtu.filter(|mtu| *mtu != 0) else { return Ok(None) };
    let invalid = || ConfigError::value("mtu", &mtu.to_string(), "it has to be from 68 to 65535");
    u16::try_from(mtu).ok().filter(|mtu| *mtu >= 68).map(Some).ok_or_else(invalid)
}

/// Reads how names are looked up.
pub(super) fn resolver(resolver: Resolver) -> Result<Resolver, ConfigError> {
    match resolver.wrong() {
        Some((key, value, why)) => Err(ConfigError::value(key, &value, why)),
        None => Ok(resolver),
    }
}

/// Reads for how many seconds answers about containers may be kept.
pub(super) fn dns_ttl(seconds: Option<u32>) -> Result<u32, ConfigError> {
    match seconds {
        Some(seconds) if seconds > MOST_TTL => Err(ConfigError::value(
            "dns-ttl",
            &seconds.to_string(),
            format!(
                "it has to be from 0 to {MOST_TTL} seconds: a name may change with the next start of a container"
            ),
        )),
        seconds => Ok(seconds.unwrap_or(0)),
    }
}

/// Reads what `host-gateway` stands for.
pub(super) fn host_gateway(addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, ConfigError> {
    match NameSettings::wrong_gateway(&addresses) {
        Some(why) => {
            let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            Err(ConfigError::value("host-gateway-ip", &texts.join(", "), why))
        }
        None => Ok(addresses),
    }
}

/// Reads which ports are chosen from; `auto` is the range that the kernel chooses from.
pub(super) fn publish_range(text: Option<String>) -> Result<PublishRange, ConfigError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(PublishRange::default()) };
    text.parse().map_err(|why: String| ConfigError::value("publish-range", &text, why))
}

/// Reads how log lines look.
pub(super) fn log_format(text: Option<String>) -> Result<Format, ConfigError> {
    match text.as_deref() {
        None | Some("human") => Ok(Format::Human),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(ConfigError::value("log-format", other, "neither human nor json")),
    }
}

/// The socket of the Docker plugin: Docker calls the driver as the file.
pub(super) fn docker_plugin(path: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    let named = path.extension().is_some_and(|end| end == "sock") && path.is_absolute();
    if named {
        return Ok(Some(path));
    }
    let why = "it should be the absolute path of a socket DRIVER.sock";
    Err(ConfigError::value("docker-plugin", &path.display().to_string(), why))
}
