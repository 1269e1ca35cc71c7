//! Fills a cache with entries of an earlier one.

use std::hash::{BuildHasher, Hash};
use std::vec;

use super::snapshot::Saved;
use super::steps::{Step, Steps};
use super::{Store, hash_of};
use crate::clock::Nanos;
use crate::entries::Deadlines;
use crate::policy::capacity::Cost;
use crate::shard::departed::Departed;
use crate::shard::removals::Deliveries;
use crate::shard::restore::Returning;

/// The most entries that one step deals with.
const BATCH: usize = 64;

/// The choice of the entries that there is room for, most recently used first.
///
/// Runs all of the user's code that there is to run but `Eq`, before anything has changed.
pub(crate) struct Choice<'a, K, V, S> {
    hasher: &'a S,
    /// Still to be looked at, least recently used first.
    entries: Vec<Saved<K, V>>,
    /// Left free by the chosen ones.
    room: Cost,
    chosen: Vec<Returning<K, V>>,
    rejected: Vec<Returning<K, V>>,
}

impl<'a, K: Hash + Eq, V, S: BuildHasher> Choice<'a, K, V, S> {
    pub(crate) fn new(store: &Store<K, V>, hasher: &'a S, entries: Vec<Saved<K, V>>) -> Self {
        let room = store.capacity().free();
        Self { hasher, entries, room, chosen: Vec::new(), rejected: Vec::new() }
    }

    /// Tells whether there is room for an entry, which takes it then.
    fn fits(&mut self, store: &Store<K, V>, entry: &Returning<K, V>) -> bool {
        let own = entry.left.time.filter(|_| entry.left.is_own).or(entry.rule);
        let cost = store.capacity().cost(entry.measured);
        let fits = entry.left.lets_live()
            && store.lifetimes.let_live(own)
            && cost.fits(self.room)
            && store.peek(entry.hash, &entry.key, |_| ()).is_none();
        if fits {
            self.room = self.room.beyond(cost);
        }
        fits
    }

    /// Has the chosen ones return.
    pub(crate) fn restore(mut self, store: &Store<K, V>) -> Restore<K, V> {
        let has_end = |entry: &Returning<K, V>| entry.left.time.is_some() || entry.rule.is_some();
        if self.chosen.iter().any(has_end) {
            store.lifetimes.use_time();
        }
        self.chosen.reverse();
        let (entries, rejected) = (self.chosen.into_iter(), self.rejected.into_iter());
        Restore { entries, rejected, restored: 0 }
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> Steps<K, V> for Choice<'_, K, V, S> {
    fn step(&mut self, store: &Store<K, V>, _: &mut Deliveries<K, V>) -> Step {
        for _ in 0..BATCH {
            let Some(saved) = self.entries.pop() else { return Step::Done };
            if self.room.entries == 0 && !store.has_listener() {
                // Nobody asks what it is.
                continue;
            }
            let left = saved.left();
            let Saved { key, value, .. } = saved;
            let hash = hash_of(self.hasher, &key);
            let appraised = store.appraise(&key, &value);
            let (rule, measured) = (appraised.ttl(), appraised.measured);
            let entry = Returning { hash, key, value, left, rule, measured };
            if self.fits(store, &entry) {
                self.chosen.push(entry);
            } else if store.has_listener() {
                self.rejected.push(entry);
            }
        }
        Step::Again
    }
}

/// The return of entries, least recently used first.
pub(crate) struct Restore<K, V> {
    /// Still to come in.
    entries: vec::IntoIter<Returning<K, V>>,
    /// Those that will not, for the listener to hear of.
    rejected: vec::IntoIter<Returning<K, V>>,
    restored: usize,
}

impl<K, V> Restore<K, V> {
    /// Returns how many entries have come in.
    pub(crate) fn restored(&self) -> usize {
        self.restored
    }
}

impl<K: Eq, V> Steps<K, V> for Restore<K, V> {
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        let now = store.lifetimes.now();
        for _ in 0..BATCH {
            if let Some(entry) = self.entries.next() {
                self.restored += usize::from(store.admit(entry, now, deliveries));
            } else if let Some(entry) = self.rejected.next() {
                store.shard(entry.hash).reject(entry, deliveries);
            } else {
                return Step::Done;
            }
        }
        Step::Again
    }
}

impl<K, V> Store<K, V> {
    /// Takes in an entry of an earlier cache if it is in nobody's way; tells whether it was.
    fn admit(
        &self,
        entry: Returning<K, V>,
        now: Option<Nanos>,
        deliveries: &mut Deliveries<K, V>,
    ) -> bool
    where
        K: Eq,
    {
        let deadlines = now.map_or(Deadlines::NONE, |now| entry.deadlines(&self.lifetimes, now));
        let shard = self.shard(entry.hash);
        let mut departed = Departed::default();
        let admitted = shard.write(now, &mut departed).admit(entry, deadlines);
        self.alarm.expect(deadlines.soonest(), &mut departed);
        deliveries.append(departed.into_deliveries());
        admitted.map_err(|entry| shard.reject(entry, deliveries)).is_ok()
    }
}
