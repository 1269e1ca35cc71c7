//! Writes many keys, a few at a time.

use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::steps::{Step, Steps};
use super::{Store, hash_of};
use crate::shard::removals::Deliveries;

/// How many keys one step writes.
const BATCH: usize = 64;

/// The insertion of many entries, in their order.
pub(crate) struct InsertMany<'a, S, I> {
    hasher: &'a S,
    entries: I,
}

impl<'a, S, I> InsertMany<'a, S, I> {
    pub(crate) fn new(hasher: &'a S, entries: I) -> Self {
        Self { hasher, entries }
    }
}

impl<K, V, S, I> Steps<K, V> for InsertMany<'_, S, I>
where
    K: Hash + Eq,
    S: BuildHasher,
    I: Iterator<Item = (K, V)>,
{
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        for _ in 0..BATCH {
            let Some((key, value)) = self.entries.next() else { return Step::Done };
            let (old, of_entry) = store.put(hash_of(self.hasher, &key), key, value, None);
            deliveries.append(of_entry);
            drop(old);
        }
        Step::Again
    }
}

/// The invalidation of many keys.
pub(crate) struct InvalidateMany<'a, S, I> {
    hasher: &'a S,
    keys: I,
    found: usize,
}

impl<'a, S, I> InvalidateMany<'a, S, I> {
    pub(crate) fn new(hasher: &'a S, keys: I) -> Self {
        Self { hasher, keys, found: 0 }
    }

    /// Returns how many keys there was something of to invalidate.
    pub(crate) fn found(&self) -> usize {
        self.found
    }
}

impl<'q, K, V, S, I, Q> Steps<K, V> for InvalidateMany<'_, S, I>
where
    S: BuildHasher,
    Q: Hash + Equivalent<K> + ?Sized + 'q,
    I: Iterator<Item = &'q Q>,
{
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        for _ in 0..BATCH {
            let Some(key) = self.keys.next() else { return Step::Done };
            let (found, of_key) = store.remove(hash_of(self.hasher, key), key).into_found();
            deliveries.append(of_key);
            self.found += usize::from(found);
        }
        Step::Again
    }
}
