//! What has happened: containers and networks that came, changed and went, for everyone to hear.
//!
//! Events are the difference of what was wished for before and after, so that whatever has caused it, a
//! request, a process that ended or a namespace that vanished, they are told. They are kept for a
//! while, for who asks later.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::happened;
use crate::model::{ContainerId, Desired};

/// Events that are kept.
const KEPT: usize = 1_024;
/// Bytes of attributes that are kept.
const WEIGHT: usize = 1 << 20;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Kind of the object: `container` or `network`.
    pub kind: &'static str,
    /// What has happened to it, in Docker's word.
    pub action: &'static str,
    /// Id of the object; empty where it concerns many.
    pub id: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
    /// When it was noticed.
    pub at: Timestamp,
}

impl Event {
    /// Makes an event of now.
    pub(super) fn new(kind: &'static str, action: &'static str, id: String) -> Self {
        Self { kind, action, id, attributes: BTreeMap::new(), at: Timestamp::now() }
    }

    /// Adds to what is known of it.
    pub(super) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.attributes.insert(key.to_owned(), value.to_string());
        self
    }

    fn weight(&self) -> usize {
        self.attributes.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

/// How somebody is about to end a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is stopped: asked first.
    Stop,
    /// It is removed by force.
    Kill,
}

/// What has happened, and who ends what.
#[derive(Clone, Debug)]
pub struct Journal {
    book: Arc<Mutex<Book>>,
    /// Number of the next event; closed when there will be none.
    written: watch::Sender<u64>,
}

#[derive(Debug)]
struct Book {
    told: Arc<Desired>,
    endings: BTreeMap<ContainerId, Ending>,
    events: VecDeque<Arc<Event>>,
    weight: usize,
    /// Number of the first event that is kept.
    first: u64,
    closed: bool,
}

/// What was read from the journal.
#[derive(Clone, Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<Arc<Event>>,
    /// Where to read on.
    pub next: u64,
    /// Whether events before them are not kept any more.
    pub torn: bool,
    /// Whether nothing will come after them.
    pub last: bool,
}

impl Journal {
    /// Opens a journal; what is so already has not happened.
    pub fn new(desired: Arc<Desired>) -> Self {
        let book = Book {
            told: desired,
            endings: BTreeMap::new(),
            events: VecDeque::new(),
            weight: 0,
            first: 0,
            closed: false,
        };
        Self { book: Arc::new(Mutex::new(book)), written: watch::Sender::new(0) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what has happened since it was last told what is wished for.
    pub(super) fn tell(&self, desired: &Arc<Desired>, pruned: bool) {
        let mut book = self.book();
        if Arc::ptr_eq(&book.told, desired) && !pruned {
            return;
        }
        let mut events = happened::between(&book.told, desired, &book.endings);
        book.told = Arc::clone(desired);
        if pruned {
            events.push(Event::new("network", "prune", String::new()).with("reclaimed", 0));
        }
        for event in events {
            book.weight += event.weight();
            book.events.push_back(Arc::new(event));
        }
        while book.events.len() > KEPT || (book.weight > WEIGHT && book.events.len() > 1) {
            let Some(gone) = book.events.pop_front() else { break };
            book.weight -= gone.weight();
            book.first += 1;
        }
        let next = book.next();
        drop(book);
        self.written.send_replace(next);
    }

    /// Notes that nothing will happen any more.
    pub(super) fn close(&self) {
        let mut book = self.book();
        book.closed = true;
        let next = book.next();
        drop(book);
        self.written.send_replace(next);
    }

    /// Says how a container is about to be ended, until what is returned is dropped.
    pub fn expect(&self, container: ContainerId, ending: Ending) -> Expected {
        self.book().endings.insert(container, ending);
        Expected { journal: self.clone(), container }
    }

    /// Returns a listener: it is told the number of the next event whenever that has changed.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Returns the number of the first event that is kept.
    pub fn first(&self) -> u64 {
        self.book().first
    }

    /// Reads the events from a number on.
    pub fn read(&self, from: u64) -> Page {
        let book = self.book();
        let skipped = usize::try_from(from.saturating_sub(book.first)).unwrap_or(usize::MAX);
        Page {
            events: book.events.iter().skip(skipped).cloned().collect(),
            next: book.next(),
            torn: from < book.first,
            last: book.closed,
        }
    }
}

impl Book {
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// While it lives, the end of a container is expected.
#[derive(Debug)]
pub struct Expected {
    journal: Journal,
    container: ContainerId,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.journal.book().endings.remove(&self.container);
    }
}
