//! Destinations as they are written.

use std::net::IpAddr;

use bascule_common::wire::proto;

use crate::state::Rejected;

/// What a destination says beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Nothing: an echo request.
    Echo,
    /// A protocol and a port.
    Port(u8, u16),
}

/// Splits `c1`, `c1:80`, `10.0.0.1:53/udp`, `[fd00::1]:80/tcp`, `fd00::1`.
pub fn split(text: &str) -> Result<(&str, Service), Rejected> {
    let wrong = |why: &str| {
        Rejected::invalid(format!(
            "cannot understand the destination {text:?}: {why}; write NAME, ADDRESS, NAME:PORT/tcp or [ADDRESS]:PORT/udp"
        ))
    };
    let (rest, kind) = match text.trim_start_matches('/').rsplit_once('/') {
        Some((rest, kind @ ("tcp" | "udp" | "icmp"))) => (rest, Some(kind)),
        Some((_, kind)) => {
            return Err(wrong(&format!("the protocol {kind:?} is none of tcp, udp, icmp")));
        }
        None => (text.trim_start_matches('/'), None),
    };
    let (who, port) = if let Some(inside) = rest.strip_prefix('[') {
        let (who, after) = inside.split_once(']').ok_or_else(|| wrong("a `[` is not closed"))?;
        match after {
            "" => (who, None),
            after => (who, Some(after.strip_prefix(':').ok_or_else(|| wrong("no port follows"))?)),
        }
    } else if rest.parse::<IpAddr>().is_ok() {
        (rest, None)
    } else {
        rest.rsplit_once(':').map_or((rest, None), |(who, port)| (who, Some(port)))
    };
    if who.is_empty() {
        return Err(wrong("it names nobody"));
    }
    let port = port
        .map(|port| {
            let number = port.parse::<u16>().ok().filter(|number| *number != 0);
            number.ok_or_else(|| wrong(&format!("{port:?} is no port")))
        })
        .transpose()?;
    let service = match (kind, port) {
        (None | Some("icmp"), None) => Service::Echo,
        (Some("icmp"), Some(_)) => return Err(wrong("icmp has no ports")),
        (Some(kind), None) => return Err(wrong(&format!("{kind} needs a port"))),
        (Some("udp"), Some(port)) => Service::Port(proto::UDP, port),
        (_, Some(port)) => Service::Port(proto::TCP, port),
    };
    Ok((who, service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_names_or_addresses_with_or_without_a_port() {
        const TCP: u8 = proto::TCP;
        for (text, who, service) in [
            ("c1", "c1", Service::Echo),
            ("/c1", "c1", Service::Echo),
            ("c1:80", "c1", Service::Port(TCP, 80)),
            ("c1:53/udp", "c1", Service::Port(proto::UDP, 53)),
            ("10.0.0.1", "10.0.0.1", Service::Echo),
            ("10.0.0.1/icmp", "10.0.0.1", Service::Echo),
            ("10.0.0.1:80/tcp", "10.0.0.1", Service::Port(TCP, 80)),
            ("fd00::1", "fd00::1", Service::Echo),
            ("[fd00::1]", "fd00::1", Service::Echo),
            ("[fd00::1]:80/tcp", "fd00::1", Service::Port(TCP, 80)),
        ] {
            assert_eq!(split(text).expect(text), (who, service), "{text}");
        }
        for text in
            ["", "c1:", "c1:0", "c1:70000", "c1/sctp", "c1:1/icmp", "c1/tcp", "[fd00::1", ":80"]
        {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
