//! Taking in entries of an earlier cache.

use super::{Departed, Shard, State};
use crate::clock::Nanos;
use crate::index::{Incoming, Slot};
use crate::ledger::Ledger;

/// An entry of an earlier cache.
pub(crate) struct Returning<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
    /// How long it has left, in a cache with a time to live.
    pub(crate) left: Option<Nanos>,
    /// Bytes of key and value, in a cache that measures them.
    pub(crate) size: Option<usize>,
}

impl<K, V> Shard<K, V> {
    /// Takes in an entry, unless there is no room for it, or there is a newer value of its key or one
    /// on its way; otherwise gives it back.
    pub(crate) fn admit(
        &self,
        entry: Returning<K, V>,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Result<Slot, Returning<K, V>>
    where
        K: Eq,
    {
        let mut state = self.writable();
        let now = now.map(|now| self.settle(now));
        state.admit(entry, now, ledger, departed)
    }

    /// Makes the entry in `slot` the most recently used, if it still is one with this hash.
    pub(crate) fn promote(&self, slot: Slot, hash: u64) {
        self.writable().index.get_mut().promote(slot, hash);
    }
}

impl<K, V> State<K, V> {
    fn admit(
        &mut self,
        entry: Returning<K, V>,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Result<Slot, Returning<K, V>>
    where
        K: Eq,
    {
        // An open flight relies on it that nobody else publishes its key without fencing it.
        if self.flights.is_awaited(entry.hash, &entry.key) {
            return Err(entry);
        }
        if let Some(slot) = self.index.find(entry.hash, &entry.key) {
            if now.is_none_or(|now| !self.index.is_expired(slot, now)) {
                return Err(entry);
            }
            departed.expired.push(self.expire_from(slot, ledger));
            ledger.release(1);
        }
        let Some(room) = ledger.reserve() else { return Err(entry) };
        room.fill();
        let Returning { hash, key, value, left, size } = entry;
        let deadline = now.zip(left).map(|(now, left)| now.saturating_add(left));
        let new = Incoming { value, deadline, size };
        let slot = self.index.get_mut().insert(hash, key, new, self.share);
        if deadline.is_some() {
            self.order.expiry.insert(slot, |slot| self.index.deadline(slot));
        }
        self.watchers.note(slot);
        Ok(slot)
    }
}
