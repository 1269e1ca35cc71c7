//! The right to write to a shard, and the elementary moves of an entry.

use std::sync::Arc;

use super::common::Common;
use super::departed::Departed;
use super::removals::{RemovalQueue, RemovedEntry};
use super::state::State;
use crate::appraisal::Measured;
use crate::clock::{NEVER, Nanos};
#[cfg(feature = "__validate")]
use crate::entries::ranks::Hot;
use crate::entries::{Entries, Entry, Slot};
use crate::policy::capacity::{Capacity, Cost};
use crate::removal::RemovalCause;
use crate::sync::MutexGuard;
use crate::sync::counters::Event;

/// The right to write to a shard: it is locked, and nobody has pinned it.
pub(crate) struct Writer<'a, K, V> {
    pub(super) state: MutexGuard<'a, State<K, V>>,
    pub(super) common: &'a Common<K, V>,
    /// The time as the shard knows it, in a cache that uses time.
    pub(super) now: Option<Nanos>,
    /// How much later that is than the reading of the clock that the caller had.
    pub(super) late: Nanos,
    /// Takes what leaves, to be dropped once the shard is not locked.
    pub(super) departed: &'a mut Departed<K, V>,
}

impl<'a, K, V> Writer<'a, K, V> {
    #[inline]
    pub(super) fn capacity(&self) -> &'a Capacity {
        &self.common.capacity
    }

    /// The nodes of the shard.
    #[inline]
    pub(super) fn entries(&mut self) -> &mut Entries<K, V> {
        self.state.entries.owned()
    }

    /// Returns the queue to the listener.
    pub(super) fn removals(&self) -> Option<&Arc<RemovalQueue<K, V>>> {
        self.state.removals.as_ref()
    }

    /// Counts an event.
    #[inline]
    pub(super) fn count(&self, event: Event) {
        self.common.counters.count(event);
    }

    /// Tells whether the time of the entry in `slot` is over.
    #[inline]
    pub(super) fn is_expired(&self, slot: Slot) -> bool {
        self.now.is_some_and(|now| self.state.entries.is_expired(slot, now))
    }

    /// Returns what the entry in `slot` takes.
    pub(super) fn cost(&self, slot: Slot) -> Cost {
        self.capacity().cost(self.state.entries.measured(slot))
    }

    /// Returns what all entries take.
    pub(crate) fn total_cost(&self) -> Cost {
        let entries = &self.state.entries;
        // Where bytes are bounded, they are of this type.
        let bytes = usize::try_from(entries.total_bytes()).unwrap_or(usize::MAX);
        let (bytes, weight) = (Some(bytes), Some(entries.total_weight()));
        let cost = self.capacity().cost(Measured { bytes, weight });
        Cost { entries: entries.len() as u64, ..cost }
    }

    /// Gives back what the entry in `slot` takes.
    pub(super) fn release(&self, slot: Slot) {
        self.capacity().release(self.cost(slot));
    }

    /// Notes when the entry in `slot` expires.
    pub(super) fn file(&mut self, slot: Slot) {
        let State { entries, order, .. } = &mut *self.state;
        let deadline = entries.deadline(slot);
        if deadline == NEVER {
            return;
        }
        if entries.has_idle_deadlines() {
            order.expiry.push_moving(slot, deadline);
        } else {
            order.expiry.push(slot, deadline);
        }
    }

    /// Takes the entry out of `slot`; the orders of eviction find out by the stamp.
    pub(super) fn detach(&mut self, slot: Slot) -> Entry<K, V> {
        let State { entries, order, .. } = &mut *self.state;
        order.remove(slot, entries);
        entries.owned().remove(slot)
    }

    /// Takes out an entry whose time is over.
    pub(super) fn expire(&mut self, slot: Slot) {
        self.count(Event::Expiration);
        let entry = self.detach(slot);
        self.part_with(entry, RemovalCause::Expired);
    }

    /// Takes the entry out of `slot`, and returns it if it is alive.
    pub(super) fn take_out(
        &mut self,
        slot: Slot,
        cause: RemovalCause,
    ) -> Option<RemovedEntry<K, V>> {
        self.release(slot);
        if self.is_expired(slot) {
            self.expire(slot);
            return None;
        }
        let entry = self.detach(slot);
        Some(self.hand_over(entry, cause))
    }

    /// Lets go of an entry that nobody asks for, to be dropped or to be reported.
    #[inline]
    pub(super) fn part_with(&mut self, entry: Entry<K, V>, cause: RemovalCause) {
        match &self.state.removals {
            None => self.departed.keep(entry),
            Some(removals) => self.departed.report(removals, entry, cause),
        }
    }

    /// Lets go of an entry whose value the caller may ask for.
    #[inline]
    pub(super) fn hand_over(&self, entry: Entry<K, V>, cause: RemovalCause) -> RemovedEntry<K, V> {
        match &self.state.removals {
            None => RemovedEntry::Entry(entry),
            Some(removals) => RemovedEntry::Pending(removals.withhold(entry, cause)),
        }
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> Writer<'_, K, V> {
    /// Asserts that everything in the shard agrees; returns how many flights there are.
    pub(super) fn validate(&mut self) -> usize {
        self.validate_takers();
        let State { entries, order, watchers, removals, .. } = &*self.state;
        watchers.validate();
        removals.iter().for_each(|removals| removals.validate());
        match &order.adaptive {
            None => order.lru.validate(&**entries),
            Some(adaptive) => {
                order.lru.validate(&Hot(&**entries));
                adaptive.validate(&**entries);
            }
        }
        let filed = order.expiry.validate(|slot| entries.deadline(slot));
        let expiring = entries
            .iter(super::look::EVERY_SLOT)
            .filter(|(slot, ..)| entries.deadline(*slot) != NEVER)
            .count();
        assert_eq!(filed, expiring, "what expires is filed");
        entries.validate()
    }
}
