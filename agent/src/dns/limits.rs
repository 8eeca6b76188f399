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

    /// Takes a place; none where there is none left, for all or for this one.
    pub(super) fn take(self: &Arc<Self>, who: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.all {
            return None;
        }
        let own = taken.each.entry(who).or_default();
        if *own >= self.each {
            return None;
        }
        *own += 1;
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
        let limit = Limit::new(3, 2);
        let [a, b, c]: [IpAddr; 3] = [1, 2, 3].map(|n| IpAddr::from([10, 0, 0, n]));
        let first = limit.take(a).expect("room");
        let _second = limit.take(a).expect("room");
        assert!(limit.take(a).is_none(), "its share is taken");
        let _third = limit.take(b).expect("room for another");
        assert!(limit.take(c).is_none(), "all is taken");
        drop(first);
        assert!(limit.take(a).is_some(), "what was given back");
    }
}
