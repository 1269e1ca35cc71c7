//! Filling a cache with entries of an earlier one.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;
use std::vec;

use crate::budget::Cost;
use crate::shard::Returning;
use crate::store::Store;

/// The return of entries, least recently used first, step by step so that other writers get through in
/// between.
pub(crate) struct Restore<'a, K, V> {
    store: &'a Store<K, V>,
    /// Still to come in.
    entries: vec::IntoIter<Returning<K, V>>,
    restored: usize,
}

impl<'a, K: Hash + Eq, V> Restore<'a, K, V> {
    /// The most entries that one step takes in.
    const BATCH: usize = 64;

    /// Chooses what there is room for of `entries`, least recently used first.
    ///
    /// Runs all of the user's code that there is to run but `Eq`, before anything has changed.
    pub(crate) fn start<S: BuildHasher>(
        store: &'a Store<K, V>,
        hasher: &S,
        entries: Vec<(K, V, Option<Duration>)>,
    ) -> Self {
        let mut room = if store.keeps_entries() { store.ledger.free() } else { Cost::default() };
        let most = room.entries as usize;
        let is_alive = |left: &Option<Duration>| left.is_none_or(|left| !left.is_zero());
        let mut returning: Vec<_> = entries
            .into_iter()
            .rev()
            .filter(|(_, _, left)| is_alive(left))
            .map(|(key, value, left)| {
                let appraisal = store.appraise(&key, &value).with_own(left);
                Returning { hash: hasher.hash_one(&key), key, value, appraisal }
            })
            .filter(|entry| entry.appraisal.lets_live())
            .filter(|entry| store.peek(entry.hash, &entry.key, |_| ()).is_none())
            .filter(|entry| {
                let cost = entry.appraisal.cost(&store.ledger);
                let fits = cost.fits(room);
                if fits {
                    room = room.beyond(cost);
                }
                fits
            })
            .take(most)
            .collect();
        if returning.iter().any(|entry| entry.appraisal.lifetime.is_some()) {
            store.lifetimes().use_time();
        }
        returning.reverse();
        Self { store, entries: returning.into_iter(), restored: 0 }
    }

    /// Takes one step; `None` once there is nothing left to do.
    pub(crate) fn step(&mut self) -> Option<()> {
        if self.entries.as_slice().is_empty() {
            return None;
        }
        let now = self.store.lifetimes().now();
        for entry in self.entries.by_ref().take(Self::BATCH) {
            self.restored += usize::from(self.store.admit(entry, now));
        }
        Some(())
    }

    /// Entries that have come in.
    pub(crate) fn restored(&self) -> usize {
        self.restored
    }
}
