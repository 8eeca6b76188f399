//! What one container may take of the server, so that there is something left for the others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts what is under way, for everybody and for each.
#[derive(Debug)]
pub(super) struct Limit {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// A place that is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    limit: Arc<Limit>,
    who: IpAddr,
}

impl Limit {
    pub(super) fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { all, each, taken: Mutex::default() })
    }

    /// Takes a place; none where this one has its share. Nobody's share is more than what is free, so that there is
    /// always some left for the next, however many take all that they can.
    pub(super) fn take(self: &Arc<Self>, who: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.all.saturating_sub(taken.all);
        let own = taken.each.get(&who).copied().unwrap_or_default();
        if own >= self.each.min(free) {
            return None;
        }
        taken.each.insert(who, own + 1);
        taken.all += 1;
        Some(Place { limit: Arc::clone(self), who })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.limit.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.each.get_mut(&self.who) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.each.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p105_one_client_leaves_room_for_others() {
        let limit = Limit::new(8, 3);
        let who = |n| IpAddr::from([10, 0, 0, n]);
        let all = |n| std::iter::from_fn(|| limit.take(who(n))).collect::<Vec<_>>();
        let first = all(1);
        assert_eq!(first.len(), 3, "its share");
        let others: Vec<_> = (2..5).map(all).collect();
        assert_eq!(others.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1], "what is left");
        assert!(limit.take(who(1)).is_none() && limit.take(who(2)).is_none());
        drop(first);
        assert_eq!(all(9).len(), 2, "what was given back");
        assert_eq!(limit.taken.lock().expect("no panic").all, 5);
    }
}
