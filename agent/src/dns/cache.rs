//! Answers of others, for as long as they say that they hold.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::wire;

/// Answers that are kept.
const MOST: usize = 8192;
/// Bytes of an answer, and of what it belongs to, that are worth keeping: what fits a datagram. By TCP whoever has a
/// zone of his own could have this memory filled with 64 KiB for each of his names.
const WORTH_KEEPING: usize = 1232;
/// Longer nothing is believed.
const LONGEST: Duration = Duration::from_secs(3600);
/// Nor that there is no such name.
const LONGEST_DENIAL: Duration = Duration::from_secs(60);

/// What an answer belongs to: who was asked, and what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    servers: Vec<SocketAddr>,
    /// The question as it is compared: flags that matter, the name in lower case, what EDNS says.
    question: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    answer: Vec<u8>,
    since: Instant,
    until: Instant,
}

/// Answers of others.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<Key, Entry>>);

impl Key {
    /// None: the question is of a kind whose answers are not kept.
    pub(super) fn of(servers: &[SocketAddr], request: &[u8]) -> Option<Self> {
        Some(Self { servers: servers.to_vec(), question: wire::comparable(request)? })
    }
}

impl Cache {
    /// Returns the answer to a request, its times counted down.
    pub(super) fn get(&self, key: &Key, request: &[u8]) -> Option<Vec<u8>> {
        let now = Instant::now();
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(key).filter(|entry| entry.until > now)?;
        let age = u32::try_from(now.duration_since(entry.since).as_secs()).unwrap_or(u32::MAX);
        let mut answer = entry.answer.clone();
        drop(entries);
        wire::age(&mut answer, age);
        wire::answer_to(&mut answer, request);
        Some(answer)
    }

    /// Keeps an answer, as long as it says.
    pub(super) fn put(&self, key: Key, answer: &[u8]) {
        if answer.len() > WORTH_KEEPING || key.question.len() > WORTH_KEEPING {
            return;
        }
        let Some(lifetime) = wire::lifetime(answer) else { return };
        let longest = if lifetime.denial { LONGEST_DENIAL } else { LONGEST };
        let holds = Duration::from_secs(lifetime.seconds.into()).min(longest);
        if holds.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST {
            entries.retain(|_, entry| entry.until > now);
        }
        if entries.len() >= MOST {
            // Any: the order of the table is no order.
            let some: Vec<_> = entries.keys().take(MOST / 8).cloned().collect();
            some.iter().for_each(|key| drop(entries.remove(key)));
        }
        entries.insert(key, Entry { answer: answer.to_vec(), since: now, until: now + holds });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question about `a`, and an answer to it of so many addresses that hold for 300 s.
    fn pair(addresses: u8) -> (Vec<u8>, Vec<u8>) {
        let question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        let mut answer = question.clone();
        (answer[2], answer[7]) = (0x81, addresses);
        for last in 0..addresses {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, last]);
        }
        (question, answer)
    }

    #[test]
    fn p105_what_a_zone_of_ones_own_says_at_length_is_not_kept() {
        let cache = Cache::default();
        let servers = [SocketAddr::from(([192, 0, 2, 53], 53))];
        for (addresses, kept) in [(1, true), (70, true), (90, false)] {
            let (question, answer) = pair(addresses);
            let key = || Key::of(&servers, &question).expect("a plain question");
            cache.0.lock().expect("no panic").clear();
            cache.put(key(), &answer);
            assert_eq!(cache.get(&key(), &question).is_some(), kept, "{} bytes", answer.len());
        }
    }
}
