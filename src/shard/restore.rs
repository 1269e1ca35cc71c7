//! Takes in an entry of an earlier cache.

use std::time::Duration;

use super::Shard;
use super::removals::Deliveries;
use super::state::State;
use super::writer::Writer;
use crate::appraisal::Measured;
use crate::clock::Nanos;
use crate::entries::{Bucket, Deadlines, Entry, Extras};
use crate::policy::lifetime::{Left, Lifetimes};
use crate::removal::RemovalCause;

/// An entry of an earlier cache.
pub(crate) struct Returning<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) left: Left,
    /// The lifetime of its own that the rule of the cache gives it.
    pub(crate) rule: Option<Duration>,
    pub(crate) measured: Measured,
}

impl<K, V> Returning<K, V> {
    pub(crate) fn deadlines(&self, lifetimes: &Lifetimes<K, V>, now: Nanos) -> Deadlines {
        lifetimes.of_returning(now, self.left, self.rule)
    }
}

impl<K, V> Shard<K, V> {
    /// Lets the listener hear of an entry that was not taken in, if there is one; otherwise drops it.
    pub(crate) fn reject(&self, entry: Returning<K, V>, deliveries: &mut Deliveries<K, V>) {
        let removals = self.lock().removals.clone();
        if let Some(removals) = removals {
            let entry = Entry::new(entry.hash, entry.key, entry.value);
            deliveries.add(&removals, removals.post(entry, RemovalCause::Rejected));
        }
    }
}

impl<K, V> Writer<'_, K, V> {
    /// Takes in an entry, unless there is no room for it, or there is a newer value of its key or one
    /// on its way; otherwise gives it back.
    pub(crate) fn admit(
        &mut self,
        entry: Returning<K, V>,
        deadlines: Deadlines,
    ) -> Result<(), Returning<K, V>>
    where
        K: Eq,
    {
        let capacity = self.capacity();
        // An open flight relies on it that nobody else publishes its key without fencing it.
        let is_guarded = self.state.guards.hold(entry.hash);
        if is_guarded || self.entries().is_awaited(entry.hash, &entry.key) {
            return Err(entry);
        }
        let mut reservation = capacity.reservation();
        if let Some(slot) = self.entries().find(entry.hash, &entry.key) {
            if !self.is_expired(slot) {
                return Err(entry);
            }
            reservation.inherit(self.cost(slot));
            self.expire(slot);
        }
        let cost = capacity.cost(entry.measured);
        if reservation.reserve(cost).is_err() {
            return Err(entry);
        }
        reservation.fill(cost);
        let Returning { hash, key, value, left, measured, .. } = entry;
        let deadlines = deadlines.put_off(self.late);
        let extras = Extras { deadlines, is_own: left.is_own, measured };
        let slot = self.insert(Entry::new(hash, key, value), Some(&extras), Bucket::NONE);
        self.note_arrival(slot, true);
        let State { entries, order, .. } = &mut *self.state;
        order.adaptive.iter_mut().for_each(|adaptive| adaptive.warm(entries.owned(), slot));
        Ok(())
    }
}
