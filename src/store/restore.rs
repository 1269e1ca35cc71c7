//! Filling a cache with entries of an earlier one.

use std::hash::{BuildHasher, Hash};
use std::vec;

use crate::policy::capacity::Cost;
use crate::shard::Returning;
use crate::shard::removals::Deliveries;
use crate::store::snapshot::Saved;
use crate::store::{Store, hash_of};

/// The most entries that one step deals with.
const BATCH: usize = 64;

/// The choice of the entries that there is room for, most recently used first, step by step.
///
/// Runs all of the user's code that there is to run but `Eq`, before anything has changed.
pub(crate) struct Choice<'a, K, V, S> {
    store: &'a Store<K, V>,
    hasher: &'a S,
    /// Still to be looked at, least recently used first.
    entries: Vec<Saved<K, V>>,
    /// What the chosen ones leave free.
    room: Cost,
    chosen: Vec<Returning<K, V>>,
    rejected: Vec<Returning<K, V>>,
}

impl<'a, K: Hash + Eq, V, S: BuildHasher> Choice<'a, K, V, S> {
    pub(crate) fn new(store: &'a Store<K, V>, hasher: &'a S, entries: Vec<Saved<K, V>>) -> Self {
        let room = store.capacity().free();
        Self { store, hasher, entries, room, chosen: Vec::new(), rejected: Vec::new() }
    }

    /// Takes one step; tells whether there are more.
    pub(crate) fn step(&mut self) -> bool {
        for _ in 0..BATCH {
            let Some(saved) = self.entries.pop() else { return false };
            if self.room.entries == 0 && !self.store.has_listener() {
                // Nobody asks what it is.
                continue;
            }
            let left = saved.left();
            let Saved { key, value, .. } = saved;
            let hash = hash_of(self.hasher, &key);
            let appraised = self.store.appraise(&key, &value);
            let entry = Returning { hash, key, value, left, appraised };
            if self.fits(&entry) {
                self.chosen.push(entry);
            } else if self.store.has_listener() {
                self.rejected.push(entry);
            }
        }
        true
    }

    /// Whether there is room for an entry, which takes it then.
    fn fits(&mut self, entry: &Returning<K, V>) -> bool {
        let own = entry.left.time.filter(|_| entry.left.is_own).or(entry.appraised.lifetime);
        let cost = entry.appraised.cost(self.store.capacity());
        let fits = entry.left.lets_live()
            && self.store.lifetimes().let_live(own)
            && cost.fits(self.room)
            && self.store.peek(entry.hash, &entry.key, |_| ()).is_none();
        if fits {
            self.room = self.room.beyond(cost);
        }
        fits
    }

    /// Has the chosen ones return.
    pub(crate) fn restore(mut self) -> Restore<'a, K, V> {
        let has_end = |entry: &Returning<K, V>| {
            entry.left.time.is_some() || entry.appraised.lifetime.is_some()
        };
        if self.chosen.iter().any(has_end) {
            self.store.lifetimes().use_time();
        }
        self.chosen.reverse();
        let (entries, rejected) = (self.chosen.into_iter(), self.rejected.into_iter());
        Restore { store: self.store, entries, rejected, restored: 0 }
    }
}

/// The return of entries, least recently used first, step by step so that other writers get through in
/// between.
pub(crate) struct Restore<'a, K, V> {
    store: &'a Store<K, V>,
    /// Still to come in.
    entries: vec::IntoIter<Returning<K, V>>,
    /// Those that will not, for the listener to hear of.
    rejected: vec::IntoIter<Returning<K, V>>,
    restored: usize,
}

impl<K: Eq, V> Restore<'_, K, V> {
    /// Takes one step; `None` once there is nothing left to do.
    pub(crate) fn step(&mut self) -> Option<Deliveries<K, V>> {
        let mut deliveries = Deliveries::default();
        if self.entries.as_slice().is_empty() {
            if self.rejected.as_slice().is_empty() {
                return None;
            }
            for entry in self.rejected.by_ref().take(BATCH) {
                self.store.shard(entry.hash).reject(entry, &mut deliveries);
            }
            return Some(deliveries);
        }
        let now = self.store.lifetimes().now();
        for entry in self.entries.by_ref().take(BATCH) {
            self.restored += usize::from(self.store.admit(entry, now, &mut deliveries));
        }
        Some(deliveries)
    }

    /// Entries that have come in.
    pub(crate) fn restored(&self) -> usize {
        self.restored
    }
}
