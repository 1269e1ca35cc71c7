//! Removes the entries that a predicate chooses.

use std::sync::Arc;

use super::Store;
use super::steps::{Step, Steps};
use crate::entries::{Predicate, Slot};
use crate::shard::Shard;
use crate::shard::departed::Departed;
use crate::shard::removals::Deliveries;
use crate::shard::watch::{Position, Watch};

/// One pass over all entries.
///
/// A step copies a few entries, asks about them while no lock is held, and removes those that are
/// still the same ones. An entry keeps its slot for life, so the pass misses none that was there when
/// it began; when memory is given back entries do move, and the pass goes over their shard again.
pub(crate) struct Sweep<C> {
    choice: C,
    /// The shard that is looked at, from `position` on.
    shard: usize,
    position: Position,
    removed: usize,
}

/// Chooses entries for a sweep.
pub(crate) trait Choice<K, V> {
    /// Deals with the loads of the shard that are in flight when its turn comes.
    fn begin(&mut self, shard: &Shard<K, V>);
    /// Chooses among the entries that are watched. Calls user code: never under a lock.
    fn choose(&mut self, store: &Store<K, V>, watch: &Watch<'_, K, V>) -> Vec<Slot>;
}

/// Keys and values, those of loads in flight as they are published.
pub(crate) struct ByEntry<K, V>(Arc<Predicate<K, V>>);

impl<K, V> ByEntry<K, V> {
    /// Has all loads in flight wait for the predicate: their values cannot be judged yet.
    fn begin_all(store: &Store<K, V>, is_chosen: Arc<Predicate<K, V>>) -> Self {
        store.shards().iter().for_each(|shard| shard.await_sweep(&is_chosen));
        Self(is_chosen)
    }
}

impl<K: Clone, V: Clone> Choice<K, V> for ByEntry<K, V> {
    fn begin(&mut self, _: &Shard<K, V>) {}

    fn choose(&mut self, store: &Store<K, V>, watch: &Watch<'_, K, V>) -> Vec<Slot> {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        watch.each_live(store.lifetimes().roughly_now(), |live| {
            keys.push((live.slot, live.entry.key.clone()));
            values.push(live.entry.value.clone());
        });
        let asked = keys.iter().zip(&values);
        let chosen = asked.filter(|((_, key), value)| (self.0)(key, value));
        chosen.map(|((slot, _), _)| *slot).collect()
    }
}

/// Keys alone, which loads in flight have already.
pub(crate) struct ByKey<F>(F);

impl<K: Clone, V, F: FnMut(&K) -> bool> Choice<K, V> for ByKey<F> {
    fn begin(&mut self, shard: &Shard<K, V>) {
        // Before the look at the entries, so that none is published unseen between the two.
        shard.fence_if(&mut self.0);
    }

    fn choose(&mut self, store: &Store<K, V>, watch: &Watch<'_, K, V>) -> Vec<Slot> {
        let mut keys = Vec::new();
        watch.each_live(store.lifetimes().roughly_now(), |live| {
            keys.push((live.slot, live.entry.key.clone()));
        });
        let chosen = keys.iter().filter(|(_, key)| (self.0)(key));
        chosen.map(|(slot, _)| *slot).collect()
    }
}

impl<K, V> Sweep<ByEntry<K, V>> {
    /// Starts a pass that chooses by keys and values.
    pub(crate) fn by_entry(store: &Store<K, V>, is_chosen: Arc<Predicate<K, V>>) -> Self {
        Self::start(ByEntry::begin_all(store, is_chosen))
    }
}

impl<F> Sweep<ByKey<F>> {
    /// Starts a pass that chooses by keys.
    pub(crate) fn by_key(is_chosen: F) -> Self {
        Self::start(ByKey(is_chosen))
    }
}

impl<C> Sweep<C> {
    fn start(choice: C) -> Self {
        Self { choice, shard: 0, position: Position::default(), removed: 0 }
    }

    /// Returns how many entries were removed so far.
    pub(crate) fn removed(&self) -> usize {
        self.removed
    }
}

impl<K, V, C: Choice<K, V>> Steps<K, V> for Sweep<C> {
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        let Some(shard) = store.shards.get(self.shard) else { return Step::Done };
        if self.position == Position::default() {
            self.choice.begin(shard);
        }
        let Some(watch) = shard.watch(self.position) else {
            shard.compact();
            self.shard += 1;
            self.position = Position::default();
            return Step::Again;
        };
        self.position = watch.end();
        let chosen = self.choice.choose(store, &watch);
        if !chosen.is_empty() {
            let mut departed = Departed::default();
            self.removed += watch.take_out(&chosen, store.lifetimes.now(), &mut departed);
            deliveries.append(departed.into_deliveries());
        }
        Step::Again
    }
}
