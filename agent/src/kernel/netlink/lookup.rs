//! Where the kernel would send a packet: asked of it, not computed, on a socket that waits.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAttribute, RouteMessage, RouteMetric, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use super::{
    super::error::{Error, OrRefuse, Result},
    routes::{family, ip},
};

/// Length of a full address, in bits, by family.
fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// What the kernel would do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Send it by this link.
    By {
        /// Index of the link.
        link: u32,
        /// The next router; `None`: the destination is on the link.
        gateway: Option<IpAddr>,
        /// The source address that a packet of the host's own would have.
        source: Option<IpAddr>,
        /// MTU of the route; 0 if it has none of its own.
        mtu: u32,
    },
    /// Keep it: the address is the host's.
    Here,
    /// Refuse it, with this error.
    Refused(Errno),
    /// Something else: broadcast, multicast, a blackhole.
    Otherwise,
}

/// Route queries to the calling thread's network namespace.
#[derive(Debug)]
pub struct Lookup {
    socket: Socket,
}

impl Lookup {
    /// Opens a socket for them.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).or_refuse("open", "rtnetlink")?;
        socket.bind_auto().or_refuse("open", "rtnetlink")?;
        socket.connect(&SocketAddr::new(0, 0)).or_refuse("open", "rtnetlink")?;
        Ok(Self { socket })
    }

    /// Asks for the way to an address: of a packet that came in by a link from a source, or of the host's own.
    pub fn way(&self, to: IpAddr, arrived: Option<(u32, IpAddr)>) -> Result<Way> {
        let object = format!("to {to}");
        let mut message = RouteMessage::default();
        message.header.address_family = family(to);
        message.header.destination_prefix_length = bits(to);
        message.attributes.push(RouteAttribute::Destination(to.into()));
        if let Some((link, source)) = arrived {
            message.header.source_prefix_length = bits(source);
            message.attributes.push(RouteAttribute::Source(source.into()));
            message.attributes.push(RouteAttribute::Iif(link));
        }
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(message));
        request.header.flags = NLM_F_REQUEST;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).or_refuse("look up the route", &object)?;
        let (answer, _) = self.socket.recv_from_full().or_refuse("look up the route", &object)?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map_err(|error| Error::unexpected("look up the route", &object, error.to_string()))?;
        Ok(match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => way_of(&route),
            NetlinkPayload::Error(error) => {
                let code = error.code.map_or(0, |code| code.get().saturating_neg());
                Way::Refused(Errno::from_raw(code))
            }
            _ => Way::Otherwise,
        })
    }
}

fn way_of(route: &RouteMessage) -> Way {
    match route.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Way::Here,
        RouteType::Unreachable => return Way::Refused(Errno::EHOSTUNREACH),
        RouteType::Prohibit => return Way::Refused(Errno::EACCES),
        _ => return Way::Otherwise,
    }
    let (mut link, mut gateway, mut source, mut mtu) = (0, None, None, 0);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = *index,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics
                    .iter()
                    .find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    })
                    .unwrap_or(0);
            }
            _ => {}
        }
    }
    Way::By { link, gateway, source, mtu }
}
