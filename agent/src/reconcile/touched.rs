//! What somebody does inside containers: heard, gathered until it is quiet, and told where it is not what the agent
//! itself has done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    kernel::netlink::{Heard, Insides, Told, Within},
    model::ContainerId,
    plan::Inside,
};

/// How long a namespace has to be quiet before it is judged, and how long that is waited for at most.
const QUIET: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How long after a failure it is listened again.
const AGAIN: Duration = Duration::from_secs(1);

/// The numbers by which the agent's namespace knows those of containers.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<Mutex<BTreeMap<ContainerId, i32>>>);

impl Numbers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a container's, before its namespace is looked into.
    pub(super) fn note(&self, container: ContainerId, number: i32) {
        self.lock().insert(container, number);
    }

    /// Forgets all but these.
    pub(super) fn retain(&self, is_there: impl Fn(ContainerId) -> bool) {
        self.lock().retain(|container, _| is_there(*container));
    }

    fn holders(&self, number: i32) -> Vec<ContainerId> {
        self.lock().iter().filter(|(_, known)| **known == number).map(|(id, _)| *id).collect()
    }
}

/// What was done inside containers; everything may have been where notifications were lost.
#[derive(Debug)]
pub(super) enum Touched {
    /// In these.
    In(BTreeMap<ContainerId, Within>),
    /// It is not known where.
    Anywhere,
}

/// Listens until nobody is there to be told.
pub(super) async fn listen(numbers: Numbers, touched: mpsc::Sender<Touched>) {
    while !touched.is_closed() {
        match Insides::open() {
            Ok(insides) => hear(insides, &numbers, &touched).await,
            Err(error) => tracing::error!(%error, "what is done inside containers is not heard"),
        }
        tokio::time::sleep(AGAIN).await;
        // What was missed is looked for.
        drop(touched.send(Touched::Anywhere).await);
    }
}

/// What was heard of a container and not told yet.
struct Pending {
    first: Instant,
    last: Instant,
    within: Within,
}

impl Pending {
    fn due(&self) -> Instant {
        (self.last + QUIET.0).min(self.first + QUIET.1)
    }
}

async fn hear(mut insides: Insides, numbers: &Numbers, touched: &mpsc::Sender<Touched>) {
    let mut pending: BTreeMap<ContainerId, Pending> = BTreeMap::new();
    loop {
        let due = pending.values().map(Pending::due).min();
        let heard = tokio::select! {
            heard = insides.next() => heard,
            () = super::retry::Retry::wait(due) => {
                let now = Instant::now();
                let due = pending.extract_if(.., |_, pending| pending.due() <= now);
                let all = due.map(|(id, pending)| (id, pending.within)).collect();
                if touched.send(Touched::In(all)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        match heard {
            Ok(Heard::Of(number, within)) => {
                let now = Instant::now();
                for id in numbers.holders(number) {
                    let known = pending.entry(id);
                    let new = || Pending { first: now, last: now, within: Within::default() };
                    let known = known.or_insert_with(new);
                    known.last = now;
                    known.within.join(within.clone());
                }
            }
            Ok(Heard::Lost) => drop(touched.send(Touched::Anywhere).await),
            Err(error) => {
                tracing::error!(%error, "what is done inside containers is not heard");
                return;
            }
        }
    }
}

/// Tells whether what was heard of a namespace is nothing but what is known of it.
pub(super) fn explains(known: &Inside, heard: &Within) -> bool {
    !heard.taken && heard.links.values().all(|link| is_known(known, link))
}

fn is_known(known: &Inside, told: &Told) -> bool {
    if told.loopback {
        return told.up == known.loopback_up;
    }
    let found = known.interfaces.get(&told.name);
    found.is_some_and(|found| (found.up, found.mac, found.mtu) == (told.up, told.mac, told.mtu))
}

/// Whose namespaces are to be looked into, in turn.
#[derive(Debug, Default)]
pub(super) struct Turns(BTreeSet<ContainerId>);

impl Turns {
    /// How many are looked into at a time: others wait meanwhile.
    const AT_ONCE: usize = 16;

    /// Has these looked into.
    pub(super) fn add(&mut self, containers: impl IntoIterator<Item = ContainerId>) {
        self.0.extend(containers);
    }

    /// Whether there is nothing to look into.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes those whose turn it is.
    pub(super) fn next(&mut self) -> BTreeSet<ContainerId> {
        let next: BTreeSet<_> = self.0.iter().copied().take(Self::AT_ONCE).collect();
        self.0.retain(|id| !next.contains(id));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Interface;

    fn told(name: &str, mtu: u32) -> Told {
        Told { name: name.into(), up: true, loopback: false, mac: [2; 6], mtu }
    }

    #[test]
    fn what_the_agent_set_up_explains_what_is_heard_of_it() {
        let eth0 = Interface {
            peer: Some(7),
            up: true,
            mac: [2; 6],
            mtu: 1500,
            addresses: BTreeSet::new(),
            gateways: BTreeSet::new(),
        };
        let known = Inside {
            loopback_up: true,
            without_ipv6: false,
            interfaces: [("eth0".to_owned(), eth0)].into(),
        };
        let loopback = Told { loopback: true, up: true, ..Told::default() };
        // It is what it is in the end that counts.
        let mut heard = Within { links: [(2, told("new", 1400))].into(), taken: false };
        heard.join(Within { links: [(1, loopback), (2, told("eth0", 1500))].into(), taken: false });
        assert!(explains(&known, &heard));
        assert!(!explains(&known, &Within { taken: true, ..heard.clone() }));
        for other in
            [told("eth0", 1400), told("eth9", 1500), Told { up: false, ..told("eth0", 1500) }]
        {
            assert!(!explains(&known, &Within { links: [(2, other)].into(), taken: false }));
        }
    }

    #[test]
    fn everybody_has_a_turn() {
        let mut turns = Turns::default();
        turns.add((0..40).map(|n| ContainerId::new([n; 32])));
        let mut seen = BTreeSet::new();
        while !turns.is_empty() {
            seen.extend(turns.next());
        }
        assert_eq!(seen.len(), 40);
    }
}
