//! Taking in entries of an earlier cache.

use super::{Departed, Shard, State};
use crate::appraisal::Appraisal;
use crate::clock::Nanos;
use crate::index::{Entry, Extras, Incoming};
use crate::ledger::Ledger;
use crate::lifetime::{Deadlines, Left, Lifetimes};
use crate::outbox::Notices;
use crate::removal::RemovalCause;

/// An entry of an earlier cache.
pub(crate) struct Returning<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) left: Left,
    pub(crate) appraisal: Appraisal,
}

impl<K, V> Returning<K, V> {
    pub(crate) fn deadlines(&self, lifetimes: &Lifetimes<K, V>, now: Nanos) -> Deadlines {
        lifetimes.of_returning(now, self.left, self.appraisal.lifetime)
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
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Result<(), Returning<K, V>>
    where
        K: Eq,
    {
        let mut state = self.writable();
        let settled = now.map(|now| self.settle(now));
        let late = settled.zip(now).map_or(0, |(settled, read)| settled - read);
        state.admit(entry, deadlines.put_off(late), settled, ledger, departed)
    }

    /// Lets the listener hear of an entry that was not taken in, if there is one; otherwise drops it.
    pub(crate) fn reject(&self, entry: Returning<K, V>, notices: &mut Notices<K, V>) {
        let outbox = self.locked().outbox.clone();
        if let Some(outbox) = outbox {
            let entry = Entry::new(entry.hash, entry.key, entry.value);
            notices.add(&outbox, outbox.post(entry, RemovalCause::Rejected));
        }
    }
}

impl<K, V> State<K, V> {
    fn admit(
        &mut self,
        entry: Returning<K, V>,
        deadlines: Deadlines,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Result<(), Returning<K, V>>
    where
        K: Eq,
    {
        // An open flight relies on it that nobody else publishes its key without fencing it.
        if self.flights.is_awaited(entry.hash, &entry.key) {
            return Err(entry);
        }
        let mut room = ledger.room();
        if let Some(slot) = self.index.find(entry.hash, &entry.key) {
            if now.is_none_or(|now| !self.index.is_expired(slot, now)) {
                return Err(entry);
            }
            room.inherit(self.cost(slot, ledger));
            self.expire_from(slot, ledger, departed);
        }
        let cost = entry.appraisal.cost(ledger);
        if room.reserve(cost).is_err() {
            return Err(entry);
        }
        room.fill(cost);
        let Returning { hash, key, value, left, appraisal } = entry;
        let extras = Extras { is_own: left.is_own, ..appraisal.extras(deadlines) };
        let new = Incoming { value, extras: Some(extras) };
        let slot = self.index.get_mut().insert(hash, key, new, self.share);
        self.file(slot);
        self.note_cost(slot, ledger);
        self.watchers.note(slot);
        Ok(())
    }
}
