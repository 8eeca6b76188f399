//! Sockets of the host: where those that ask for a published port are led. The maps are read and never written.

use bascule_common::{
    abi::{Ip4, Ip6, Local, Port, Rule, SocketKey, SocketOrigin},
    datapath::socket::{self, Lead, Memory, Published, Socket},
    io::Tables,
};

use super::{
    Answer, Part,
    frame::Probe,
    host::Routed,
    tables::{Live, Mapped},
    walk::{Walker, shown},
};
use crate::kernel::netlink::Way;

/// A family whose sockets are led.
pub trait Named: Mapped + socket::Host {}
impl Named for Ip4 {}
impl Named for Ip6 {}

impl<A: Named> Published<A> for Live<'_> {
    fn local(&self, address: A) -> Option<Local> {
        Tables::<A>::local(self, address)
    }

    fn slot(&self, table: u32, slot: u32) -> u32 {
        Tables::<A>::published(self, table, slot)
    }

    fn rule(&self, index: u32) -> Option<Rule> {
        Tables::<A>::rule(self, index).map(|rule| *rule)
    }

    fn holder(&self, network: u32, address: A) -> Option<(u32, u32)> {
        let neighbour = Tables::<A>::neighbour(self, network, address)?;
        Some((neighbour.endpoint, neighbour.generation))
    }
}

/// Nothing is remembered of a socket that there is not.
impl Memory for Live<'_> {
    fn origin(&self, _key: &SocketKey) -> Option<SocketOrigin> {
        None
    }

    fn remember(&self, _key: &SocketKey, _origin: &SocketOrigin) {}

    fn forget(&self, _key: &SocketKey) {}

    fn count_connection(&self, _rule: u32) {}
}

impl Walker<'_> {
    /// A socket of the host's that asks for a published port is led to its container, by the very code of the
    /// programs at `connect` and `sendmsg`.
    pub(super) fn connects<A: Mapped + Routed + Named>(
        &self,
        way: &'static str,
        probe: Probe,
        answer: &mut Answer,
    ) -> Probe {
        if way != "request" || Probe::icmp(probe.dst) == probe.proto {
            return probe;
        }
        // Nobody has bound it: what is bound to a loopback address is the proxy's.
        let socket = Socket { cookie: 0, proto: probe.proto, source: A::UNSPECIFIED, device: 0 };
        let to = Port::new(probe.dst_port);
        let lead = socket::translate(self.live, &socket, A::of(probe.dst), to);
        let (steps, _) = self.notes.take();
        let (verdict, text, led) = match lead {
            Lead::Elsewhere => return probe,
            Lead::Down => ("host", "the container behind the port is not there".to_owned(), probe),
            Lead::To(backend) => {
                let dst = backend.address.shown();
                let source = match self.host.way(dst) {
                    Some(Way::By { source, .. }) => source,
                    _ => None,
                };
                let src = source.unwrap_or(probe.src);
                let led = Probe { src, dst, dst_port: backend.port.number(), ..probe };
                ("led", format!("the socket is led there: {}", shown(&led)), led)
            }
        };
        answer.parts.push(Part {
            way: way.to_owned(),
            program: "connect".to_owned(),
            packet: shown(&probe),
            steps,
            verdict: verdict.to_owned(),
            text,
            ..Part::default()
        });
        led
    }
}
