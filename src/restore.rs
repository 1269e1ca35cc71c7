//! Filling a cache with entries of an earlier one.

use std::cmp::Reverse;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;
use std::vec;

use crate::index::Slot;
use crate::shard::Returning;
use crate::store::Store;

/// The return of entries, step by step so that other writers get through in between.
///
/// First they come in, those that expire first before the others, which is how a shard keeps them.
/// Then they are used, in the order in which they were.
pub(crate) struct Restore<'a, K, V> {
    store: &'a Store<K, V>,
    /// Still to come in, with their places in the order of use.
    entries: vec::IntoIter<(usize, Returning<K, V>)>,
    /// Still to be used, the least recently used last; in no order while entries come in.
    unused: Vec<Unused>,
    restored: usize,
}

/// An entry that has come in, and not in the order of use.
struct Unused {
    place: usize,
    slot: Slot,
    hash: u64,
}

impl<'a, K: Hash + Eq, V> Restore<'a, K, V> {
    /// The most entries that one step takes in or uses.
    const BATCH: usize = 64;

    /// Chooses what there is room for of `entries`, least recently used first.
    ///
    /// Runs all of the user's code that there is to run but `Eq`, before anything has changed.
    pub(crate) fn start<S: BuildHasher>(
        store: &'a Store<K, V>,
        hasher: &S,
        entries: Vec<(K, V, Option<Duration>)>,
    ) -> Self {
        let room = if store.keeps_entries() { store.ledger.room() } else { 0 };
        let is_alive = |left: &Option<Duration>| left.is_none_or(|left| !left.is_zero());
        let mut returning: Vec<_> = entries
            .into_iter()
            .rev()
            .filter(|(_, _, left)| is_alive(left))
            .map(|(key, value, left)| {
                let left = store.lifetime().map(|life| life.at_most(left));
                Returning { hash: hasher.hash_one(&key), key, value, left, size: None }
            })
            .filter(|entry| store.peek(entry.hash, &entry.key, |_| ()).is_none())
            .take(room)
            .collect();
        for entry in &mut returning {
            entry.size = store.size(&entry.key, &entry.value);
        }
        let mut entries: Vec<_> = returning.into_iter().rev().enumerate().collect();
        // Stable: without a time to live they come in by the order of use.
        entries.sort_by_key(|(_, entry)| entry.left);
        Self { store, entries: entries.into_iter(), unused: Vec::new(), restored: 0 }
    }

    /// Takes one step; `None` once there is nothing left to do.
    pub(crate) fn step(&mut self) -> Option<()> {
        if self.entries.as_slice().is_empty() {
            return self.use_some();
        }
        self.admit_some();
        if self.entries.as_slice().is_empty() {
            self.unused.sort_unstable_by_key(|unused| Reverse(unused.place));
        }
        Some(())
    }

    /// Entries that have come in.
    pub(crate) fn restored(&self) -> usize {
        self.restored
    }

    fn admit_some(&mut self) {
        let now = self.store.now();
        for (place, entry) in self.entries.by_ref().take(Self::BATCH) {
            let Returning { hash, left, .. } = entry;
            let Some(slot) = self.store.admit(entry, now) else { continue };
            self.restored += 1;
            if left.is_some() {
                self.unused.push(Unused { place, slot, hash });
            }
        }
    }

    /// Uses some entries by way of writes, since reads of different threads would have no order.
    fn use_some(&mut self) -> Option<()> {
        let rest = self.unused.len().saturating_sub(Self::BATCH);
        let mut used = None;
        for Unused { slot, hash, .. } in self.unused.drain(rest..).rev() {
            self.store.shard(hash).promote(slot, hash);
            used = Some(());
        }
        used
    }
}
