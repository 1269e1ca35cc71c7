//! The life of a flight in its shard: joined or led, fenced, and ended.

use std::sync::Arc;

use super::{Departed, Shard, Use, Writer};
use crate::clock::Now;
use crate::entries::{Ended, Entries, FlightKey, Kind, Sweeps};
use crate::flight::{Coalescing, Completion, Ticket};
use crate::ledger::Ledger;

/// A call on its way to a value or a flight.
pub(crate) struct Boarding<K> {
    pub(crate) hash: u64,
    /// `None` once it is the flight's.
    pub(crate) key: Option<FlightKey<K>>,
    /// Where its load would be.
    pub(crate) kind: Kind,
}

/// What a call is to do about its key.
pub(crate) enum LeadOrJoin<V> {
    /// Nothing: here is the value.
    Hit(V),
    Lead(Ticket),
    Join(Arc<Completion<V>>, Ticket),
}

impl<K: Eq, V> Shard<K, V> {
    /// Finds the live value of the key, joins the flight that is open for it, or leads one, which takes the
    /// key. In one section under the lock, so that nothing comes between.
    #[inline]
    pub(crate) fn lead_or_join(
        &self,
        boarding: &mut Boarding<K>,
        of: Use,
        now: Option<Now<'_>>,
        coalescing: Coalescing,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> LeadOrJoin<V>
    where
        V: Clone,
    {
        let Boarding { hash, key, kind } = boarding;
        let query = key.as_ref().expect("the key is the call's until it leads").get();
        let mut state = self.lock();
        let found = state.entries.find(*hash, query);
        if let Some(slot) = found {
            if now.is_none_or(|now| !self.is_expired(&state.entries, slot, now)) {
                return LeadOrJoin::Hit(self.hit(&mut state, slot, now, of));
            }
        }
        let mut writer = Writer::take(self, state, ledger, None, departed);
        if let Some(slot) = found {
            // Before another is loaded in its place.
            writer.release(slot);
            writer.expire(slot);
        }
        let entries = writer.entries();
        if coalescing == Coalescing::On {
            if let Some((completion, ticket)) = entries.join(*hash, query) {
                return LeadOrJoin::Join(completion, ticket);
            }
        }
        let key = key.take().expect("it was looked for");
        LeadOrJoin::Lead(match coalescing {
            Coalescing::On => entries.lead(*hash, key, *kind),
            Coalescing::Off => entries.lead_alone(*hash, key, *kind),
        })
    }
}

impl<K, V> Shard<K, V> {
    /// Changes what there is of flights.
    fn change<R>(&self, ledger: &Ledger, change: impl FnOnce(&mut Entries<K, V>) -> R) -> R {
        change(self.write(ledger, None, &mut Departed::default()).entries())
    }

    /// Where the flight of `ticket`, which has not ended, will complete.
    pub(crate) fn completion(&self, ledger: &Ledger, ticket: Ticket) -> Arc<Completion<V>> {
        self.change(ledger, |entries| entries.flight_mut(ticket).completion())
    }

    /// The key of the flight of `ticket`, which has not ended, in a cache that measures its entries.
    pub(crate) fn appraised_key(&self, ticket: Ticket) -> Option<Arc<K>> {
        self.lock().entries.flight(ticket).shared_key()
    }

    /// Takes a caller off a detached flight. If it was the last one this ends the flight; its key is
    /// the caller's to drop.
    pub(crate) fn leave(&self, ledger: &Ledger, ticket: Ticket) -> Option<Ended<K, V>> {
        self.change(ledger, |entries| entries.leave(ticket))
    }

    /// Ends a flight without publishing a value; its key is the caller's to drop.
    pub(crate) fn end_flight(&self, ledger: &Ledger, ticket: Ticket) -> Ended<K, V> {
        self.change(ledger, |entries| entries.end_flight(ticket))
    }

    /// Keeps the values of loads of `key` that are in flight out of the cache.
    pub(crate) fn fence(&self, ledger: &Ledger, hash: u64, key: &K) -> bool
    where
        K: Eq,
    {
        self.change(ledger, |entries| entries.fence(hash, key))
    }

    /// Keeps the values of other loads of its key out of the cache, if the flight of `ticket`, which has not
    /// ended, is an update.
    pub(crate) fn fence_others(&self, ledger: &Ledger, ticket: Ticket)
    where
        K: Eq,
    {
        self.change(ledger, |entries| {
            if entries.flight(ticket).is_update() {
                entries.fence_others(ticket);
            }
        });
    }

    /// The sweeps to be asked about the value of the flight of `ticket`, which has not ended, and its
    /// key to ask them with.
    pub(crate) fn take_sweeps(
        &self,
        ledger: &Ledger,
        ticket: Ticket,
    ) -> (Option<Arc<K>>, Sweeps<K, V>) {
        self.change(ledger, |entries| entries.flight_mut(ticket).take_sweeps())
    }

    /// Has the flight of `ticket` lose to a sweep; tells whether it is an update, which is carried out and
    /// its value swept away at once. That of a load is kept out, as if a later write had won.
    pub(crate) fn lose(&self, ledger: &Ledger, ticket: Ticket) -> bool {
        self.change(ledger, |entries| {
            let is_update = entries.flight(ticket).is_update();
            if !is_update {
                entries.fence_one(ticket);
            }
            is_update
        })
    }
}
