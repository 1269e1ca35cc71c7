//! Removing the entries that a predicate chooses.

use crate::index::Slot;
use crate::shard::{Departed, Position, Shard};
use crate::store::Store;

/// One pass over all entries, step by step so that other writers get through in between.
///
/// A step copies a few entries, asks about them while no lock is held, and removes those that are
/// still the same ones. An entry keeps its slot for life, so the pass misses none that was there when
/// it began; when memory is given back entries do move, and the pass goes over their shard again.
pub(crate) struct Sweep<'a, K, V> {
    store: &'a Store<K, V>,
    /// Shards still to be looked at, the first of them from `position` on.
    shards: std::slice::Iter<'a, Shard<K, V>>,
    position: Position,
    removed: usize,
}

impl<'a, K: Clone, V: Clone> Sweep<'a, K, V> {
    /// Starts a pass, with a fence for all loads in flight: nobody can ask about what they will bring.
    pub(crate) fn start(store: &'a Store<K, V>) -> Self {
        store.shards().iter().for_each(Shard::fence_all);
        Self { store, shards: store.shards().iter(), position: Position::default(), removed: 0 }
    }

    /// Takes one step; `None` once there is nothing left to do.
    pub(crate) fn step(&mut self, is_chosen: &mut impl FnMut(&K, &V) -> bool) -> Option<()> {
        let shard = self.shards.as_slice().first()?;
        let Some(watch) = shard.watch(self.position) else {
            shard.compact(&self.store.ledger);
            self.shards.next();
            self.position = Position::default();
            return Some(());
        };
        self.position = watch.end();
        let mut keys = Vec::new();
        let mut values = Vec::new();
        shard.each_live(watch.slots(), self.store.lifetimes().roughly_now(), |live| {
            keys.push((live.slot, live.entry.key.clone()));
            values.push(live.entry.value.clone());
        });
        let asked = keys.iter().zip(&values);
        let chosen = asked.filter(|((_, key), value)| is_chosen(key, value));
        let chosen: Vec<Slot> = chosen.map(|((slot, _), _)| *slot).collect();
        if chosen.is_empty() {
            return Some(());
        }
        let now = self.store.lifetimes().now();
        let mut departed = Departed::default();
        let taken = watch.take_out(&chosen, now, &self.store.ledger, &mut departed);
        self.removed += taken.len();
        Some(())
    }

    /// Entries removed so far.
    pub(crate) fn removed(&self) -> usize {
        self.removed
    }
}
