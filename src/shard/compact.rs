//! Gives the memory of a shard back that few entries are left in.

use super::Shard;
use super::departed::Departed;
use super::state::{Order, State};
use super::writer::Writer;
use crate::entries::{Entries, Slot};

impl<K, V> Shard<K, V> {
    /// Gives memory back if the entries need less than a quarter of it; tells whether it has.
    pub(crate) fn compact(&self) -> bool {
        // A look first: to write would take the pins of all readers back.
        if !self.lock().entries.is_sparse() {
            return false;
        }
        let old = self.write(None, &mut Departed::default()).compact();
        // Dropped here, where the shard is not locked.
        old.is_some()
    }
}

impl<K, V> Writer<'_, K, V> {
    /// Gives memory back if the entries need less than a quarter of it; returns what is to be dropped once
    /// the shard is not locked.
    ///
    /// The entries move to other slots. So who keeps slots while the shard is not locked compares the
    /// generation afterwards: a sweep goes over the shard again.
    #[cold]
    pub(super) fn compact(&mut self) -> Option<Entries<K, V>> {
        if !self.entries().is_sparse() {
            return None;
        }
        let State { entries, order, .. } = &mut *self.state;
        if let Some(adaptive) = &mut order.adaptive {
            let slots = 0..entries.slots() as Slot;
            let in_use: Vec<Slot> = slots.filter(|slot| entries.is_in_use(*slot)).collect();
            adaptive.renumber(&in_use);
        }
        let old = self.entries().compact();
        self.entries().compact_flights();
        self.state.generation += 1;
        self.state.watchers.note_all();
        let adaptive = self.state.order.adaptive.take();
        self.state.order = Order { adaptive, ..Order::default() };
        let entries = &self.state.entries;
        let mut slots: Vec<Slot> = (0..entries.slots() as Slot).collect();
        // As they expire, so that most of them get into the list and not into the wheel.
        slots.sort_by_key(|slot| entries.deadline(*slot));
        for slot in slots {
            self.file(slot);
            self.note_cost(slot);
        }
        Some(old)
    }
}
