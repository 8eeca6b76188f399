//! From a question to a packet: who sends it, from which address, on which interface.

use std::net::IpAddr;

use bascule_common::{
    abi::{Endpoint, Ip4, Ip6, Network, Uplink},
    datapath::Family as _,
};

use super::{
    Question, World,
    destination::{Service, split},
    frame::{ECHO_ID, Probe},
    host::{Host, Routed as _},
    notes::Shown as _,
    tables::Mapped as _,
};
use crate::{
    kernel::{
        bpf::{BpfError, Table as _},
        netlink::Way,
    },
    model::{Container, Mode},
    state::{Rejected, find},
};

/// Source port of a packet whose port nobody chose.
const PORT: u16 = 40_000;
/// Addresses of `outside`, set aside for documentation (RFC 5737, RFC 3849).
const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

type Result<T> = std::result::Result<T, Rejected>;

/// Where a packet comes from.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// A container.
    Container(Endpoint),
    /// The outside, by this uplink.
    Outside(u32, Uplink),
    /// The host itself.
    Host,
}

/// A question that has become a packet.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who sends it, in words.
    pub source: String,
    /// Where it comes from.
    pub from: From,
    /// The packet.
    pub probe: Probe,
    /// What has to be said beside it.
    pub remarks: Vec<String>,
}

/// An end of the packet.
enum End<'a> {
    Container(&'a Container, Vec<Endpoint>),
    Outside(Option<IpAddr>),
    Host(Option<IpAddr>),
    /// An address that is no end by itself: of a subnet of ours, held by no container.
    Nobody(IpAddr),
}

/// Makes a packet of a question.
pub fn resolve(world: &World, host: &Host<'_>, question: &Question) -> Result<Asked> {
    let resolver = Resolver::new(world, host, question)?;
    let (who, service) = split(&question.destination)?;
    let source = question.source.trim_start_matches('[').trim_end_matches(']');
    let (from, to) = (resolver.end(source)?, resolver.end(who)?);
    let to = match who.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolver.destinations(&from, &to)?,
    };
    let (from, to, mut remarks) = resolver.source(question, &from, &to)?;
    let (from, own) = from;
    let src = resolver.claimed(question, own)?;
    if src.is_ipv4() != to.is_ipv4() {
        return Err(Rejected::invalid(format!("{src} and {to} are of different families")));
    }
    refuse(&from, own, to, service)?;
    let (proto, src_port, dst_port) = match service {
        Service::Echo => (Probe::icmp(to), ECHO_ID, 0),
        Service::Port(proto, port) => (proto, PORT, port),
    };
    let src_port = if question.from_port == 0 { src_port } else { question.from_port };
    if matches!(from, From::Host) {
        remarks.push(
            "the host's own packets are not judged; its sockets are led to published ports"
                .to_owned(),
        );
    }
    Ok(Asked {
        source: resolver.words(&from),
        from,
        probe: Probe { src, dst: to, proto, src_port, dst_port, reply: false },
        remarks,
    })
}

/// Refuses what is no question about the network.
fn refuse(from: &From, own: IpAddr, to: IpAddr, service: Service) -> Result<()> {
    let broadcast = matches!(to, IpAddr::V4(to) if to.is_broadcast());
    if to.is_multicast() || broadcast || to.is_unspecified() {
        return Err(Rejected::invalid(format!("{to} is not the address of one host")));
    }
    let inside = matches!(from, From::Container(_)) && (to.is_loopback() || to == own);
    // A socket of the host's may be led elsewhere before anything is sent.
    let at_home = matches!(from, From::Host) && to.is_loopback() && service == Service::Echo;
    if inside || at_home {
        return Err(Rejected::invalid(format!(
            "what is sent to {to} there leaves it by no interface"
        )));
    }
    Ok(())
}

/// Addresses of an endpoint that there are.
fn addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    let all = [endpoint.ip4.shown(), endpoint.ip6.shown()];
    all.into_iter().filter(|address| !address.is_unspecified()).collect()
}

/// The endpoint's address of the family of another address.
fn beside(endpoint: &Endpoint, other: IpAddr) -> Option<IpAddr> {
    addresses(endpoint).into_iter().find(|own| own.is_ipv4() == other.is_ipv4())
}

struct Resolver<'a> {
    world: &'a World,
    host: &'a Host<'a>,
    family: u8,
    endpoints: Vec<Endpoint>,
    uplinks: Vec<(u32, Uplink)>,
}

impl<'a> Resolver<'a> {
    fn new(world: &'a World, host: &'a Host<'a>, question: &Question) -> Result<Self> {
        if !matches!(question.family, 0 | 4 | 6) {
            return Err(Rejected::invalid(format!(
                "there is no family {}: 4 or 6",
                question.family
            )));
        }
        let endpoints = world.tables.endpoints.all().map_err(unread)?;
        let uplinks = world.tables.uplinks.all().map_err(unread)?;
        Ok(Self {
            world,
            host,
            family: question.family,
            endpoints: endpoints.into_values().filter(|e| e.endpoint != 0).collect(),
            uplinks: uplinks.into_iter().collect(),
        })
    }

    fn wanted(&self, address: &IpAddr) -> bool {
        match self.family {
            4 => address.is_ipv4(),
            6 => address.is_ipv6(),
            _ => true,
        }
    }

    fn is_local(&self, address: IpAddr) -> Result<bool> {
        let tables = &self.world.tables;
        let found = match address {
            IpAddr::V4(_) => Ip4::local(tables, Ip4::of(address)),
            IpAddr::V6(_) => Ip6::local(tables, Ip6::of(address)),
        };
        Ok(found.map_err(unread)?.is_some())
    }

    fn network_of(&self, address: IpAddr) -> Result<Option<u32>> {
        let tables = &self.world.tables;
        let found = match address {
            IpAddr::V4(_) => Ip4::subnet(tables, Ip4::of(address)),
            IpAddr::V6(_) => Ip6::subnet(tables, Ip6::of(address)),
        };
        Ok(found.map_err(unread)?.map(|subnet| subnet.network))
    }

    /// What a name or an address stands for.
    fn end(&self, who: &str) -> Result<End<'a>> {
        match who {
            "outside" => return Ok(End::Outside(None)),
            "host" => return Ok(End::Host(None)),
            _ => {}
        }
        let desired = &self.world.desired;
        let Ok(address) = who.parse::<IpAddr>() else {
            let container = find::container(desired, who)?;
            return self.container(container);
        };
        if let Some(held) = self.endpoints.iter().find(|e| addresses(e).contains(&address)) {
            let mut all = desired.containers.values();
            let holds = |c: &&Container| c.endpoints().any(|(_, e)| e.index == held.endpoint);
            if let Some(container) = all.find(holds) {
                return Ok(End::Container(container, vec![*held]));
            }
        }
        Ok(if self.is_local(address)? {
            End::Host(Some(address))
        } else if self.network_of(address)?.is_some() {
            End::Nobody(address)
        } else {
            End::Outside(Some(address))
        })
    }

    fn container(&self, container: &'a Container) -> Result<End<'a>> {
        let name = &container.name;
        let lost = || Rejected::conflict(format!("the container whose network {name} has is gone"));
        let container = self.world.desired.host_of(container).ok_or_else(lost)?;
        match container.mode {
            Mode::Host => return Ok(End::Host(None)),
            Mode::None => {
                return Err(Rejected::conflict(format!("container {name} has no network")));
            }
            Mode::Networks | Mode::Container(_) => {}
        }
        let mine = |e: &&Endpoint| container.endpoints().any(|(_, own)| own.index == e.endpoint);
        let places: Vec<_> = self.endpoints.iter().filter(mine).copied().collect();
        if places.is_empty() {
            return Err(Rejected::conflict(format!(
                "container {name} is on no network now: start it, or connect it to one"
            )));
        }
        Ok(End::Container(container, places))
    }

    /// The addresses that a name stands for as a destination, the best first.
    fn destinations(&self, from: &End<'_>, to: &End<'_>) -> Result<Vec<IpAddr>> {
        let mut found: Vec<IpAddr> = match to {
            End::Container(_, places) => {
                let mut places = places.clone();
                if let End::Container(_, own) = from {
                    // A network that both are on comes first.
                    places.sort_by_key(|p| !own.iter().any(|o| o.network == p.network));
                }
                places.iter().flat_map(addresses).collect()
            }
            End::Host(_) => self.uplinks.iter().flat_map(|(_, u)| sources(u)).collect(),
            End::Outside(_) => OUTSIDE.iter().filter_map(|text| text.parse().ok()).collect(),
            End::Nobody(address) => vec![*address],
        };
        found.retain(|address| self.wanted(address));
        if found.is_empty() {
            return Err(Rejected::conflict("the destination has no address of this family"));
        }
        Ok(found)
    }

    /// Who sends to one of the destinations, from which address; with the destination that was taken.
    fn source(
        &self,
        question: &Question,
        from: &End<'_>,
        to: &[IpAddr],
    ) -> Result<((From, IpAddr), IpAddr, Vec<String>)> {
        for to in to {
            let found = match from {
                End::Container(container, places) => self.place(container, places, *to)?,
                End::Outside(address) => self.uplink(*address, *to),
                End::Host(address) => self.own(*address, *to),
                End::Nobody(address) => {
                    return Err(Rejected::conflict(format!(
                        "no container has the address {address}; to ask about a packet that claims it, name the container that sends it and say --from-address {address}"
                    )));
                }
            };
            if let Some((from, own)) = found {
                return Ok(((from, own), *to, self.remarks(&from, *to)?));
            }
        }
        let to = to.first().map(ToString::to_string).unwrap_or_default();
        Err(Rejected::conflict(format!("{} has no address of the family of {to}", question.source)))
    }

    /// The place that a container sends from: on the network of the destination, else by its default route.
    fn place(
        &self,
        container: &Container,
        places: &[Endpoint],
        to: IpAddr,
    ) -> Result<Option<(From, IpAddr)>> {
        let network = self.network_of(to)?;
        let of_family = || places.iter().filter(|place| beside(place, to).is_some());
        let priority = |place: &&Endpoint| {
            let attachment = container
                .attachments
                .iter()
                .find(|a| a.endpoint.as_ref().is_some_and(|e| e.index == place.endpoint));
            let internal = attachment
                .and_then(|a| self.world.desired.networks.get(&a.network))
                .is_some_and(|network| network.internal);
            (!internal, attachment.map_or(0, |a| a.priority))
        };
        let on_link = of_family().find(|place| Some(place.network) == network);
        // Of equals the first one, as in the model.
        let by_gateway = || of_family().rev_max(priority);
        let place = on_link.or_else(by_gateway);
        Ok(place.and_then(|place| Some((From::Container(*place), beside(place, to)?))))
    }

    /// The uplink that an address out there would be heard by.
    fn uplink(&self, address: Option<IpAddr>, to: IpAddr) -> Option<(From, IpAddr)> {
        let fallback = OUTSIDE[usize::from(to.is_ipv6())].parse().ok()?;
        let address = address.unwrap_or(fallback);
        let by = match self.host.way(address) {
            Some(Way::By { link, .. }) => self.uplinks.iter().find(|(index, _)| *index == link),
            _ => None,
        };
        let (index, uplink) = by.or_else(|| self.uplinks.first())?;
        (address.is_ipv4() == to.is_ipv4()).then_some((From::Outside(*index, *uplink), address))
    }

    /// The address that the host would send from.
    fn own(&self, address: Option<IpAddr>, to: IpAddr) -> Option<(From, IpAddr)> {
        let chosen = || match self.host.way(to) {
            Some(Way::By { source, .. }) => source,
            _ => None,
        };
        // What the host sends to itself comes from the very address.
        let own = || (to.is_loopback() || self.is_local(to).is_ok_and(|is| is)).then_some(to);
        let address = address.or_else(chosen).or_else(own)?;
        (address.is_ipv4() == to.is_ipv4()).then_some((From::Host, address))
    }

    fn claimed(&self, question: &Question, own: IpAddr) -> Result<IpAddr> {
        match question.from_address.as_str() {
            "" => Ok(own),
            text => text
                .parse()
                .map_err(|_| Rejected::invalid(format!("--from-address {text:?} is no address"))),
        }
    }

    fn remarks(&self, from: &From, to: IpAddr) -> Result<Vec<String>> {
        let From::Container(place) = from else { return Ok(Vec::new()) };
        let network = self.world.tables.networks.get(place.network).map_err(unread)?;
        let internal = network.is_some_and(|network| network.flags & Network::INTERNAL != 0);
        let near = self.network_of(to)? == Some(place.network);
        Ok(if internal && !near {
            vec!["the container has no default route, since its network is internal; it sends this only if it was given a route by way of the gateway".to_owned()]
        } else {
            Vec::new()
        })
    }

    fn words(&self, from: &From) -> String {
        match from {
            From::Container(place) => match self.world.names.endpoints.get(&place.endpoint) {
                Some(name) => format!("container {} on network {}", name.container, name.network),
                None => format!("endpoint {}", place.endpoint),
            },
            From::Outside(index, _) => {
                format!("the outside, by {}", super::notes::interface(*index))
            }
            From::Host => "the host".to_owned(),
        }
    }
}

/// The largest by a key, and of equals the first.
trait RevMax: Iterator + Sized {
    fn rev_max<K: Ord>(self, key: impl Fn(&Self::Item) -> K) -> Option<Self::Item> {
        self.reduce(|best, next| if key(&next) > key(&best) { next } else { best })
    }
}
impl<I: Iterator> RevMax for I {}

/// Addresses of an uplink that there are.
fn sources(uplink: &Uplink) -> Vec<IpAddr> {
    let all = [Ip4::source(uplink).shown(), Ip6::source(uplink).shown()];
    all.into_iter().filter(|address| !address.is_unspecified()).collect()
}

fn unread(error: BpfError) -> Rejected {
    Rejected::internal(format!("cannot read the data plane: {error}"))
}
