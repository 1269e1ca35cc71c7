//! What has left a shard, on its way to the listener.
//!
//! An entry goes into its shard's [`Outbox`] under the lock under which it leaves, so that the order in
//! the box is the order of leaving. It comes out when the [`Notice`] of that is dropped, after all locks
//! are released and everything else is done. One caller at a time delivers. Whoever comes meanwhile,
//! another thread or the listener itself by a call of the cache, only adds to what that one has still
//! before it; so the order holds, and a listener is never called within itself for one shard.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError};
use std::thread;

use crate::index::{Entry, Index};
use crate::removal::{Listener, RemovalCause};
use crate::sync::{Mutex, MutexGuard};

/// What has left one shard and was not delivered yet.
pub(crate) struct Outbox<K, V> {
    listener: Listener<K, V>,
    /// Locked within the shard's lock or without it. Nothing else is locked meanwhile, none of the
    /// user's code runs, and nothing of the user's is dropped.
    queue: Mutex<Queue<K, V>>,
}

struct Queue<K, V> {
    parcels: VecDeque<Parcel<K, V>>,
    /// The number of the parcel in front; those behind it have the next ones.
    first: u64,
    /// Whether somebody delivers, who goes on with whatever comes meanwhile.
    is_delivering: bool,
}

/// One departure.
enum Parcel<K, V> {
    Entry(Entry<K, V>, RemovalCause),
    /// The place of an entry that somebody withholds, and all that come after it.
    Withheld,
    /// All entries of a shard that was emptied.
    Everything(Box<Index<K, V>>),
}

impl<K, V> Outbox<K, V> {
    /// A queue that was longer than this in a burst gives its memory back when it is empty.
    const KEPT_CAPACITY: usize = 64;

    pub(crate) fn new(listener: Listener<K, V>) -> Self {
        let queue = Queue { parcels: VecDeque::new(), first: 0, is_delivering: false };
        Self { listener, queue: Mutex::new(queue) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<K, V>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry in, for which the caller owes a [`Notice`].
    pub(crate) fn post(&self, entry: Entry<K, V>, cause: RemovalCause) {
        self.queue().parcels.push_back(Parcel::Entry(entry, cause));
    }

    /// Puts in all entries of a shard that was emptied.
    pub(crate) fn post_all(self: &Arc<Self>, entries: Index<K, V>) -> Notice<K, V> {
        self.queue().parcels.push_back(Parcel::Everything(Box::new(entries)));
        Notice::of(self, None)
    }

    /// Keeps a place for an entry whose value the caller may ask for first.
    pub(crate) fn withhold(
        self: &Arc<Self>,
        entry: Entry<K, V>,
        cause: RemovalCause,
    ) -> Withheld<K, V> {
        let number = {
            let mut queue = self.queue();
            queue.parcels.push_back(Parcel::Withheld);
            queue.first + queue.parcels.len() as u64 - 1
        };
        Withheld { entry: Some(entry), cause, number, notice: Notice::of(self, None) }
    }

    /// Puts an entry in the place that was kept for it.
    fn fill(&self, number: u64, entry: Entry<K, V>, cause: RemovalCause) {
        let mut queue = self.queue();
        // It is still there: nothing passes it by.
        let place = (number - queue.first) as usize;
        queue.parcels[place] = Parcel::Entry(entry, cause);
    }

    /// Calls the listener with all that there is, unless somebody else is at it. A panic of the
    /// listener's goes on when that is done.
    fn deliver(&self) {
        if std::mem::replace(&mut self.queue().is_delivering, true) {
            return;
        }
        // Kept to the end, since their own `Drop` may panic.
        let mut panics = Vec::new();
        while let Some(parcel) = self.next() {
            match parcel {
                Parcel::Entry(entry, cause) => self.report(entry, cause, &mut panics),
                Parcel::Everything(index) => {
                    for entry in index.into_entries() {
                        self.report(entry, RemovalCause::Cleared, &mut panics);
                    }
                }
                Parcel::Withheld => unreachable!("nothing passes it by"),
            }
        }
        let first = panics.into_iter().next();
        // A second panic while one unwinds would abort the process.
        if let (Some(payload), false) = (first, thread::panicking()) {
            panic::resume_unwind(payload);
        }
    }

    /// Takes out the parcel in front; `None` once there is none to be delivered, and then nobody
    /// delivers any more. Whoever fills a place in front after that has a notice of its own.
    fn next(&self) -> Option<Parcel<K, V>> {
        let mut queue = self.queue();
        if let None | Some(Parcel::Withheld) = queue.parcels.front() {
            queue.is_delivering = false;
            if queue.parcels.is_empty() && queue.parcels.capacity() > Self::KEPT_CAPACITY {
                queue.parcels = VecDeque::new();
            }
            return None;
        }
        queue.first += 1;
        queue.parcels.pop_front()
    }

    fn report(
        &self,
        entry: Entry<K, V>,
        cause: RemovalCause,
        panics: &mut Vec<Box<dyn Any + Send>>,
    ) {
        let Entry { key, value, .. } = entry;
        let hear = || self.listener.hear(key, value, cause);
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(hear)) {
            panics.push(payload);
        }
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        // The two counts of the `Arc` come before it.
        let counted = 2 * size_of::<usize>() + size_of::<Self>();
        counted + self.queue().parcels.capacity() * size_of::<Parcel<K, V>>()
    }
}

#[cfg(feature = "__validate")]
impl<K, V> Outbox<K, V> {
    /// Asserts that everything that has left was delivered.
    pub(crate) fn validate(&self) {
        let queue = self.queue();
        assert_eq!(queue.parcels.len(), 0, "what has left is reported");
        assert!(!queue.is_delivering);
    }
}

/// The duty to deliver what was put into an outbox; done when this is dropped.
pub(crate) struct Notice<K, V> {
    outbox: Arc<Outbox<K, V>>,
    /// Dropped after that, and thus delivered. Mostly `None`, as most operations take entries out of one
    /// shard alone.
    _next: Option<Box<Self>>,
}

impl<K, V> Notice<K, V> {
    fn of(outbox: &Arc<Outbox<K, V>>, next: Option<Box<Self>>) -> Self {
        Self { outbox: Arc::clone(outbox), _next: next }
    }

    /// Adds the duty for one more outbox.
    pub(crate) fn add(notices: &mut Option<Self>, outbox: &Arc<Outbox<K, V>>) {
        if notices.as_ref().is_none_or(|notice| !Arc::ptr_eq(&notice.outbox, outbox)) {
            let next = notices.take().map(Box::new);
            *notices = Some(Self::of(outbox, next));
        }
    }
}

impl<K, V> Drop for Notice<K, V> {
    fn drop(&mut self) {
        self.outbox.deliver();
    }
}

/// An entry that is kept back from the listener until this is dropped.
pub(crate) struct Withheld<K, V> {
    /// `None` once it is in the outbox.
    entry: Option<Entry<K, V>>,
    cause: RemovalCause,
    /// Of the place that is kept for it.
    number: u64,
    /// Dropped after the entry is in its place.
    notice: Notice<K, V>,
}

impl<K, V> Withheld<K, V> {
    /// Clones the value by user code, before the listener gets it.
    fn into_value(self) -> V {
        let entry = self.entry.as_ref().expect("it is there until this is dropped");
        let value = self.notice.outbox.listener.clone_value(&entry.value);
        // Before the value is on its way out, where a listener that panics would leak it.
        drop(self);
        value
    }
}

impl<K, V> Drop for Withheld<K, V> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.notice.outbox.fill(self.number, entry, self.cause);
        }
    }
}

/// An entry that has left, and whose value the caller may ask for.
pub(crate) enum Taken<K, V> {
    /// Nobody else wants it.
    Entry(Entry<K, V>),
    /// The listener gets it, when this is dropped.
    Withheld(Withheld<K, V>),
}

impl<K, V> Taken<K, V> {
    pub(crate) fn into_value(self) -> V {
        match self {
            Self::Entry(entry) => entry.into_value(),
            Self::Withheld(withheld) => withheld.into_value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Incoming;

    fn entry(number: u32) -> Entry<u32, u32> {
        let mut index = Index::default();
        let new = Incoming { value: number, extras: None };
        let slot = index.insert(0, number, new, 1);
        index.remove(slot)
    }

    /// Between two shards that one operation takes entries out of, other threads have their turn.
    #[test]
    fn what_one_operation_has_put_into_several_outboxes_is_delivered_from_all() {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let listener = Listener::new(move |key, _: u32, _| log.lock().unwrap().push(key));
        let outboxes = [(); 3].map(|()| Arc::new(Outbox::new(listener.clone())));
        let mut notices = None;
        for (number, outbox) in [(1, 0), (2, 0), (3, 1), (4, 2), (5, 0)] {
            outboxes[outbox].post(entry(number), RemovalCause::Expired);
            Notice::add(&mut notices, &outboxes[outbox]);
        }
        assert!(heard.lock().unwrap().is_empty());
        drop(notices);
        heard.lock().unwrap().sort_unstable();
        assert_eq!(*heard.lock().unwrap(), [1, 2, 3, 4, 5]);
    }
}
