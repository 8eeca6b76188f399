//! What was counted of connections while somebody watches them: by direction, and those that nothing else tracks.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use bascule_common::{
    abi::{
        Address, Config, Count, Flow, FlowKey, FlowKey4, FlowKey6, Ip4, Ip6, Traffic,
        config::CLOCK_SHIFT, state, traffic,
    },
    datapath::conntrack,
    wire::{proto, tcp},
};

use crate::kernel::bpf::{BpfError, Tables};

/// A family whose traffic is counted in a map of its own.
pub(super) trait Counts: Address {
    /// An address as everybody else writes it.
    fn ip(self) -> IpAddr;
    /// An address as events have it.
    fn read(bytes: [u8; 16]) -> Self;
    /// An entry of the connections that are tracked.
    fn flow(tables: &Tables, key: &FlowKey<Self>) -> Result<Option<Flow<Self>>, BpfError>;
    /// Its part.
    fn part(counted: &mut Counted) -> &mut HashMap<FlowKey<Self>, Traffic>;
}

impl Counts for Ip4 {
    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self).into()
    }

    fn read([a, b, c, d, ..]: [u8; 16]) -> Self {
        Self::new([a, b, c, d])
    }

    fn flow(tables: &Tables, key: &FlowKey<Self>) -> Result<Option<Flow<Self>>, BpfError> {
        tables.flows4.get(key)
    }

    fn part(counted: &mut Counted) -> &mut HashMap<FlowKey<Self>, Traffic> {
        &mut counted.four
    }
}

impl Counts for Ip6 {
    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }

    fn read(bytes: [u8; 16]) -> Self {
        Ipv6Addr::from(bytes).into()
    }

    fn flow(tables: &Tables, key: &FlowKey<Self>) -> Result<Option<Flow<Self>>, BpfError> {
        tables.flows6.get(key)
    }

    fn part(counted: &mut Counted) -> &mut HashMap<FlowKey<Self>, Traffic> {
        &mut counted.six
    }
}

/// What was counted, at one moment.
#[derive(Debug, Default)]
pub(super) struct Counted {
    four: HashMap<FlowKey4, Traffic>,
    six: HashMap<FlowKey6, Traffic>,
    /// Packets that there was no room for.
    pub(super) lost: u64,
}

impl Counted {
    /// Reads all of it. Before the connections are read: whatever is tracked is found among them then.
    pub(super) fn read(tables: &Tables) -> Result<Self, BpfError> {
        let mut counted = Self::default();
        tables.watching.traffic4.for_each(|key, traffic| {
            counted.four.insert(key, traffic);
        })?;
        tables.watching.traffic6.for_each(|key, traffic| {
            counted.six.insert(key, traffic);
        })?;
        let none =
            [counted.four.remove(&FlowKey::default()), counted.six.remove(&FlowKey::default())];
        counted.lost = none.iter().flatten().map(|traffic| traffic.packets).sum();
        Ok(counted)
    }

    /// Takes what went with any of these tuples.
    pub(super) fn take<A: Counts>(&mut self, keys: [FlowKey<A>; 2]) -> Count {
        let found = keys.map(|key| A::part(self).remove(&key).unwrap_or_default());
        Count {
            packets: found.iter().map(|traffic| traffic.packets).sum(),
            bytes: found.iter().map(|traffic| traffic.bytes).sum(),
        }
    }

    /// Takes the next of what is left: a connection that is not tracked.
    pub(super) fn next<A: Counts>(&mut self) -> Option<Pair<A>> {
        let part = A::part(self);
        let key = *part.keys().next()?;
        let one = part.remove(&key)?;
        let other = part.remove(&key.reversed()).unwrap_or_default();
        let began = |traffic: &Traffic| if traffic.packets == 0 { u64::MAX } else { traffic.first };
        Some(if began(&other) < began(&one) {
            Pair { key: key.reversed(), sent: other, received: one }
        } else {
            Pair { key, sent: one, received: other }
        })
    }
}

/// Both directions of a connection that is not tracked, from whoever sent first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<A> {
    /// Tuple of the first direction.
    pub(super) key: FlowKey<A>,
    /// What went that way.
    pub(super) sent: Traffic,
    /// What came back.
    pub(super) received: Traffic,
}

impl<A: Counts> Pair<A> {
    /// Bits of [`state`], as a tracked connection would have them.
    pub(super) fn state(&self) -> u8 {
        let has = |traffic: &Traffic, flag: u8| traffic.flags & u64::from(flag) != 0;
        let bits = [
            (self.received.packets > 0, state::REPLIED),
            (self.received.packets > 0 && has(&self.sent, tcp::ACK), state::ESTABLISHED),
            (has(&self.sent, tcp::FIN), state::FIN_ORIGINAL),
            (has(&self.received, tcp::FIN), state::FIN_REPLY),
            (has(&self.sent, tcp::RST) || has(&self.received, tcp::RST), state::RESET),
        ];
        bits.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit)
    }

    /// Whether its beginning was seen, where its protocol has one.
    pub(super) fn has_begun(&self) -> bool {
        self.key.proto != proto::TCP || self.sent.flags & traffic::OPENED != 0
    }

    /// Time since its last packet, at `now` by the monotonic clock, in nanoseconds.
    pub(super) fn idle(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.sent.last.max(self.received.last)))
    }

    /// Time after which it is forgotten.
    pub(super) fn timeout(&self, config: &Config) -> Duration {
        let units = conntrack::timeout(config, self.key.proto, self.state());
        Duration::from_nanos(u64::from(units) << CLOCK_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use bascule_common::abi::Port;

    use super::*;

    fn key() -> FlowKey4 {
        FlowKey {
            src: Ip4::new([172, 18, 0, 2]),
            dst: Ip4::new([172, 18, 0, 3]),
            src_port: Port::new(40_000),
            dst_port: Port::new(80),
            proto: proto::TCP,
            ..FlowKey::default()
        }
    }

    fn way(first: u64, packets: u64, flags: u64) -> Traffic {
        Traffic { packets, bytes: packets * 100, first, last: first + 5, flags }
    }

    #[test]
    fn n48_what_is_not_tracked_begins_with_who_sent_first() {
        let opened = traffic::OPENED | u64::from(tcp::SYN | tcp::ACK);
        let mut counted = Counted::default();
        counted.four.insert(key(), way(10, 3, opened));
        counted.four.insert(key().reversed(), way(11, 2, u64::from(tcp::SYN | tcp::FIN)));
        let pair = counted.next::<Ip4>().expect("a connection");
        assert_eq!((pair.key, pair.sent.packets, pair.received.packets), (key(), 3, 2));
        assert!(pair.has_begun());
        assert_eq!(pair.state(), state::REPLIED | state::ESTABLISHED | state::FIN_REPLY);
        assert_eq!(pair.idle(20), Duration::from_nanos(4));
        assert!(counted.next::<Ip4>().is_none());
    }

    #[test]
    fn n48_an_answer_whose_question_was_not_seen_has_not_begun() {
        let mut counted = Counted::default();
        counted.four.insert(key(), way(10, 1, u64::from(tcp::ACK)));
        assert!(!counted.next::<Ip4>().expect("a connection").has_begun());
    }

    #[test]
    fn n48_both_tuples_of_a_direction_are_summed() {
        let mut counted = Counted::default();
        counted.four.insert(key(), way(10, 3, 0));
        counted.four.insert(key().reversed(), way(10, 4, 0));
        assert_eq!(counted.take([key(), key().reversed()]), Count { packets: 7, bytes: 700 });
        assert_eq!(counted.take([key(), key()]), Count::default());
    }
}
