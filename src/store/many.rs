//! Writes many keys, a few at a time.

use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::publish::{Insertion, Put};
use super::steps::{Step, Steps};
use super::{Store, hash_of};
use crate::shard::removals::Deliveries;

/// How many keys one step writes.
const BATCH: usize = 64;

/// The insertion of many entries, in their order.
pub(crate) struct InsertMany<'a, K, V, S, I> {
    store: &'a Store<K, V>,
    hasher: &'a S,
    entries: I,
    /// One that takes the room of many others and comes before the rest.
    insertion: Option<Box<Insertion<'a, K, V>>>,
}

impl<'a, K, V, S, I> InsertMany<'a, K, V, S, I> {
    pub(crate) fn new(store: &'a Store<K, V>, hasher: &'a S, entries: I) -> Self {
        Self { store, hasher, entries, insertion: None }
    }
}

impl<K, V, S, I> Steps<K, V> for InsertMany<'_, K, V, S, I>
where
    K: Hash + Eq,
    S: BuildHasher,
    I: Iterator<Item = (K, V)>,
{
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        if let Some(mut insertion) = self.insertion.take() {
            match insertion.step(store, deliveries) {
                Step::Done => deliveries.append(insertion.into_deliveries()),
                _ => self.insertion = Some(insertion),
            }
            return Step::Again;
        }
        for number in 1.. {
            let Some((key, value)) = self.entries.next() else { return Step::Done };
            let hash = hash_of(self.hasher, &key);
            let Put { replaced, deliveries: of_entry, rest } =
                self.store.begin_put(hash, key, value, None);
            deliveries.append(of_entry);
            drop(replaced);
            self.insertion = rest;
            if self.insertion.is_some() || store.is_turn_over(number, BATCH) {
                break;
            }
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
