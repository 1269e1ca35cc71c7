//! Puts an entry into its shard under the right to write: looks whether its flight was fenced, finds it a
//! place, and ends the flight that it comes from.

use super::Shard;
use super::departed::Departed;
use super::evict::{NoPlace, Place};
use super::publication::{Found, Publication};
use super::state::State;
use super::writer::Writer;
use crate::clock::Nanos;
use crate::entries::{Bucket, Entry, Extras, Slot};
use crate::policy::capacity::{Bound, Cost};
use crate::removal::RemovalCause;
use crate::sync::counters::Event;

/// How an attempt to publish an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The entry is in, or kept out.
    Done,
    /// It takes more than one attempt.
    Unfinished,
    /// There is room for it only in place of an entry of another shard, as this bound is short.
    NeedsRoom(Bound),
    /// Sweeps have to be asked about it first.
    NeedsVerdict,
}

impl<K, V> Shard<K, V> {
    /// Publishes an entry in the room that it has reserved, or one that is made for it; what leaves for
    /// it goes into `departed`.
    #[inline(never)]
    pub(crate) fn publish(
        &self,
        publication: &mut Publication<'_, K, V>,
        departed: &mut Departed<K, V>,
    ) -> Published
    where
        K: Eq,
    {
        self.write(publication.now(), departed).publish(publication)
    }

    /// Returns what an entry on its way in takes beyond the one of its key, if that is alive.
    pub(crate) fn missing(&self, publication: &Publication<'_, K, V>, now: Nanos) -> Cost
    where
        K: Eq,
    {
        let state = &*self.lock();
        publication.cost_beyond(&state.entries, self.clock.as_of(now), &self.common.capacity)
    }
}

impl<K, V> Writer<'_, K, V> {
    /// Publishes an entry in the room that it has reserved, or one that is made for it.
    ///
    /// The publication keeps its key and value until the entry is in.
    #[inline(always)]
    fn publish(&mut self, publication: &mut Publication<'_, K, V>) -> Published
    where
        K: Eq,
    {
        self.free_some_expired();
        // What the user's `Eq` has to say comes before anything that must be whole.
        let slot = match publication.find(&self.state.entries) {
            Found::Fence => {
                publication.turn_away(self);
                return Published::Done;
            }
            Found::Undecided => return Published::NeedsVerdict,
            Found::Entry(slot) => Some(slot),
            Found::Nothing => None,
        };
        if let Some(slot) = slot {
            publication.keep_lifetime(slot, self);
        }
        if !self.state.guards.is_empty() {
            if self.is_overtaken(publication) {
                self.refuse(publication, slot);
                return Published::Done;
            }
            self.note_write(publication);
        }
        let Some(cost) = publication.cost(self.capacity()) else {
            self.refuse(publication, slot);
            return Published::Done;
        };
        let place = match self.find_place(slot, cost, &mut publication.reservation) {
            Ok(place) => place,
            Err(NoPlace::Unfinished) => return Published::Unfinished,
            Err(NoPlace::NeedsRoom(bound)) => return Published::NeedsRoom(bound),
        };
        // Not before it is certain that the entry goes in: who finds the flight fenced looks for it.
        publication.fence(self.entries());
        let (entry, bucket) = publication.take_entry(self);
        self.pay(&place, cost, &mut publication.reservation);
        self.put(publication, entry, bucket, place);
        Published::Done
    }

    /// Tells whether the key of a guard was written otherwise since that began.
    #[cold]
    fn is_overtaken(&self, publication: &Publication<'_, K, V>) -> bool {
        publication.guarded().is_some_and(|hash| self.state.guards.is_disturbed(hash))
    }

    /// Notes the write of a key that others may have guarded; a guard's own is none, and may take several
    /// attempts.
    #[cold]
    fn note_write(&mut self, publication: &Publication<'_, K, V>) {
        let written = publication.written().filter(|_| publication.guarded().is_none());
        written.into_iter().for_each(|hash| self.state.guards.disturb(hash));
    }

    /// Keeps an entry out that does not live or can never fit. It wins over what is there of its key, in
    /// `slot` and on its way, all the same.
    #[cold]
    fn refuse(&mut self, publication: &mut Publication<'_, K, V>, slot: Option<Slot>)
    where
        K: Eq,
    {
        publication.fence(self.entries());
        let old = slot.and_then(|slot| self.take_out(slot, RemovalCause::Replaced));
        old.into_iter().for_each(|old| publication.displace(old));
        publication.turn_away(self);
    }

    /// Puts the entry in its place. Calls none of the user's code, like the end of its flight before
    /// it: all or nothing.
    #[inline]
    fn put(
        &mut self,
        publication: &mut Publication<'_, K, V>,
        entry: Entry<K, V>,
        bucket: Bucket,
        place: Place,
    ) {
        publication.settle(self.late);
        let slot = match place {
            Place::Same(slot) => {
                self.replace(slot, publication, entry, bucket);
                slot
            }
            Place::Room => self.insert(entry, publication.extras(), bucket),
            Place::InsteadOf(victim) => {
                let cause = self.cause_of_eviction(victim);
                let State { entries, order, .. } = &mut *self.state;
                let entries = entries.owned();
                order.expiry.remove(victim);
                if let Some(adaptive) = &mut order.adaptive {
                    if cause == RemovalCause::Capacity {
                        adaptive.remember(entries, victim);
                    }
                    adaptive.leave(entries, victim);
                }
                let old = entries.supplant(victim, entry, publication.extras(), bucket);
                if let Some(adaptive) = &mut order.adaptive {
                    adaptive.arrive(entries, &mut order.lru, victim);
                }
                self.part_with(old, cause);
                victim
            }
        };
        self.note_arrival(slot, publication.extras().is_some());
    }

    /// Puts an entry in the place of one with an equal key.
    #[inline(never)]
    fn replace(
        &mut self,
        slot: Slot,
        publication: &mut Publication<'_, K, V>,
        entry: Entry<K, V>,
        bucket: Bucket,
    ) {
        self.state.order.expiry.remove(slot);
        let is_expired = self.is_expired(slot);
        let State { entries, order, .. } = &mut *self.state;
        let entries = entries.owned();
        order.adaptive.iter_mut().for_each(|adaptive| adaptive.count_out(entries, slot));
        let old = entries.replace(slot, entry, publication.extras(), bucket);
        order.adaptive.iter_mut().for_each(|adaptive| adaptive.count_in(entries, slot));
        if is_expired {
            self.count(Event::Expiration);
            self.part_with(old, RemovalCause::Expired);
        } else {
            publication.displace(self.hand_over(old, RemovalCause::Replaced));
        }
    }

    /// Adds an entry whose key is not there yet, and whose room is paid for.
    #[inline(never)]
    pub(super) fn insert(
        &mut self,
        entry: Entry<K, V>,
        extras: Option<&Extras>,
        bucket: Bucket,
    ) -> Slot {
        let State { entries, order, share, .. } = &mut *self.state;
        let entries = entries.owned();
        let slot = entries.insert(entry, extras, bucket, *share);
        match &mut order.adaptive {
            None => order.lru.prepare(entries, entries.epoch()),
            Some(adaptive) => adaptive.arrive(entries, &mut order.lru, slot),
        }
        slot
    }

    /// Takes note of an entry that has come into `slot`.
    #[inline]
    pub(super) fn note_arrival(&mut self, slot: Slot, has_extras: bool) {
        if has_extras {
            self.note_extras(slot);
        }
        self.state.watchers.note(slot);
    }

    #[inline(never)]
    fn note_extras(&mut self, slot: Slot) {
        self.file(slot);
        self.note_cost(slot);
    }
}
