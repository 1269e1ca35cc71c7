//! Empties a cache.

use super::Store;
use super::steps::{Step, Steps};
use crate::entries::emptied::Emptied;
use crate::shard::Shard;
use crate::shard::departed::Departed;
use crate::shard::removals::Deliveries;

/// The dropping of what a cache held when it was emptied.
pub(crate) struct Clear<K, V> {
    emptied: Vec<Emptied<K, V>>,
    /// Of what goes to the listener; last, as waiting for that is the last that a call does.
    deliveries: Deliveries<K, V>,
}

impl<K, V> Clear<K, V> {
    /// Empties all shards, one after another, and fences all loads. What was there is to be dropped, or
    /// for the listener: neither the user's `Drop` nor that keeps a shard from being emptied.
    pub(crate) fn start(store: &Store<K, V>) -> Self {
        let mut deliveries = Deliveries::default();
        let clear = |shard: &Shard<K, V>| {
            shard.write(None, &mut Departed::default()).clear(&mut deliveries)
        };
        let emptied = store.shards.iter().filter_map(clear).collect();
        Self { emptied, deliveries }
    }
}

impl<K, V> Steps<K, V> for Clear<K, V> {
    fn step(&mut self, _: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        /// How many entries one step drops, or somewhat more.
        const MANY: usize = 1024;
        let mut dropped = 0;
        while let Some(shard) = self.emptied.last_mut() {
            dropped += shard.drop_some();
            if shard.is_empty() {
                self.emptied.pop();
            }
            if dropped > MANY {
                return Step::Again;
            }
        }
        deliveries.append(std::mem::take(&mut self.deliveries));
        Step::Done
    }
}
