//! Taking in entries of an earlier cache.

use super::{Departed, Shard, Writer};
use crate::clock::Nanos;
use crate::entries::{Bucket, Entry, Extras};
use crate::policy::lifetime::{Deadlines, Left, Lifetimes};
use crate::policy::measure::Appraised;
use crate::removal::RemovalCause;
use crate::shard::removals::Deliveries;

/// An entry of an earlier cache.
pub(crate) struct Returning<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) left: Left,
    pub(crate) appraised: Appraised,
}

impl<K, V> Returning<K, V> {
    pub(crate) fn deadlines(&self, lifetimes: &Lifetimes<K, V>, now: Nanos) -> Deadlines {
        lifetimes.of_returning(now, self.left, self.appraised.lifetime)
    }
}

impl<K, V> Shard<K, V> {
    /// Takes in an entry, unless there is no room for it, or there is a newer value of its key or one
    /// on its way; otherwise gives it back.
    pub(crate) fn admit(
        &self,
        entry: Returning<K, V>,
        deadlines: Deadlines,
        now: Option<Nanos>,
        departed: &mut Departed<K, V>,
    ) -> Result<(), Returning<K, V>>
    where
        K: Eq,
    {
        let mut writer = self.write(now, departed);
        let late = writer.now.zip(now).map_or(0, |(settled, read)| settled - read);
        writer.admit(entry, deadlines.put_off(late))
    }

    /// Lets the listener hear of an entry that was not taken in, if there is one; otherwise drops it.
    pub(crate) fn reject(&self, entry: Returning<K, V>, deliveries: &mut Deliveries<K, V>) {
        let removal_queue = self.lock().removal_queue.clone();
        if let Some(removal_queue) = removal_queue {
            let entry = Entry::new(entry.hash, entry.key, entry.value);
            deliveries.add(&removal_queue, removal_queue.post(entry, RemovalCause::Rejected));
        }
    }
}

impl<K, V> Writer<'_, K, V> {
    fn admit(&mut self, entry: Returning<K, V>, deadlines: Deadlines) -> Result<(), Returning<K, V>>
    where
        K: Eq,
    {
        let capacity = self.capacity;
        // An open flight relies on it that nobody else publishes its key without fencing it.
        if self.entries().is_awaited(entry.hash, &entry.key) {
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
        let cost = entry.appraised.cost(capacity);
        if reservation.reserve(cost).is_err() {
            return Err(entry);
        }
        reservation.fill(cost);
        let Returning { hash, key, value, left, appraised } = entry;
        let extras = Extras { is_own: left.is_own, ..appraised.extras(deadlines) };
        let slot = self.insert(Entry::new(hash, key, value), Some(&extras), Bucket::NONE);
        self.note_arrival(slot, true);
        Ok(())
    }
}
