//! Giving memory back once most entries have left.

use super::Shard;
use super::state::{Order, State};
use crate::index::{Index, Slot};
use crate::ledger::Ledger;

impl<K, V> Shard<K, V> {
    /// Gives memory back if the entries need less than a quarter of it; tells whether it has.
    pub(crate) fn compact(&self, ledger: &Ledger) -> bool {
        // A look first: to write would take the pins of all readers back.
        if !self.locked().index.is_sparse() {
            return false;
        }
        let old = self.writable().compact(ledger);
        // Dropped here, where the shard is not locked.
        old.is_some()
    }
}

impl<K, V> State<K, V> {
    /// Gives memory back if the entries need less than a quarter of it; returns what is to be dropped once
    /// the shard is not locked.
    ///
    /// The entries move to other slots. So who keeps slots while the shard is not locked compares the
    /// generation afterwards: a search drops what it has found, and a sweep goes over the shard again.
    #[cold]
    pub(super) fn compact(&mut self, ledger: &Ledger) -> Option<Index<K, V>> {
        if !self.index.is_sparse() {
            return None;
        }
        let old = self.index.get_mut().compact();
        self.generation += 1;
        self.watchers.note_all();
        self.flights.compact();
        self.order = Order::new();
        let mut slots: Vec<Slot> = (0..self.index.slots() as Slot).collect();
        // As they expire, so that most of them get into the list and not into the wheel.
        slots.sort_by_key(|slot| self.index.deadline(*slot));
        for slot in slots {
            self.file(slot);
            self.note_cost(slot, ledger);
        }
        Some(old)
    }
}
