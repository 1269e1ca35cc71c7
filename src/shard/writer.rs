//! The right to write to a shard, and the elementary moves.

use std::sync::Arc;

use equivalent::Equivalent;

use super::state::{Expired, Order, Purged, State};
use super::{Departed, Shard};
use crate::clock::{NEVER, Nanos};
use crate::entries::emptied::Emptied;
use crate::entries::wheel::Due;
use crate::entries::{Ended, Entries, Entry, Slot};
use crate::flight::FlightId;
use crate::policy::capacity::Cost;
use crate::policy::capacity::{Capacity, Reservation};
use crate::removal::RemovalCause;
use crate::shard::removals::{Deliveries, RemovalQueue, RemovedEntry};
use crate::sync::MutexGuard;
use crate::sync::counters::Event;

/// How many expired entries a write frees on its way.
const PURGED_PER_WRITE: usize = 4;

/// How many steps a write takes to find expired entries whose lifetimes differ.
const STEPS_PER_WRITE: usize = 16;

/// The right to write to a shard: it is locked, and nobody has pinned it.
pub(crate) struct Writer<'a, K, V> {
    pub(super) state: MutexGuard<'a, State<K, V>>,
    pub(super) capacity: &'a Capacity,
    /// The time as the shard knows it, in a cache that uses time.
    pub(super) now: Option<Nanos>,
    /// What leaves, to be dropped once the shard is not locked.
    pub(super) departed: &'a mut Departed<K, V>,
}

impl<'a, K, V> Writer<'a, K, V> {
    /// Takes the right to write to a shard that is locked.
    #[inline]
    pub(super) fn take(
        shard: &'a Shard<K, V>,
        mut state: MutexGuard<'a, State<K, V>>,
        now: Option<Nanos>,
        departed: &'a mut Departed<K, V>,
    ) -> Self {
        shard.begin_write(&mut state);
        Self { state, capacity: &shard.common.capacity, now, departed }
    }

    /// The nodes of the shard.
    #[inline]
    pub(super) fn entries(&mut self) -> &mut Entries<K, V> {
        self.state.entries.owned()
    }

    /// What goes to the listener.
    pub(super) fn removal_queue(&self) -> Option<&Arc<RemovalQueue<K, V>>> {
        self.state.removal_queue.as_ref()
    }

    /// Whether the time of the entry in `slot` is over.
    #[inline]
    pub(super) fn is_expired(&self, slot: Slot) -> bool {
        self.now.is_some_and(|now| self.state.entries.is_expired(slot, now))
    }

    /// What the entry in `slot` takes.
    pub(super) fn cost(&self, slot: Slot) -> Cost {
        let entries = &self.state.entries;
        self.capacity.cost(entries.weight(slot), entries.size(slot))
    }

    /// What all entries take.
    pub(crate) fn total_cost(&self) -> Cost {
        let entries = &self.state.entries;
        // Where bytes are bounded, they are of this type.
        let measured = usize::try_from(entries.measured()).unwrap_or(usize::MAX);
        let cost = self.capacity.cost(Some(entries.weighed()), Some(measured));
        Cost { entries: entries.len() as u64, ..cost }
    }

    /// Gives back what the entry in `slot` takes.
    pub(super) fn release(&self, slot: Slot) {
        self.capacity.release(self.cost(slot));
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
        self.capacity.counters.count(Event::Expiration);
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
        match &self.state.removal_queue {
            None => self.departed.keep(entry),
            Some(removal_queue) => self.departed.report(removal_queue, entry, cause),
        }
    }

    /// Lets go of an entry whose value the caller may ask for.
    #[inline]
    pub(super) fn hand_over(&self, entry: Entry<K, V>, cause: RemovalCause) -> RemovedEntry<K, V> {
        match &self.state.removal_queue {
            None => RemovedEntry::Entry(entry),
            Some(removal_queue) => RemovedEntry::Withheld(removal_queue.withhold(entry, cause)),
        }
    }

    /// Takes out an entry that has expired, if one is found in so many `steps`, and adds what it held to
    /// the room.
    pub(crate) fn expire_one(
        &mut self,
        steps: &mut usize,
        reservation: &mut Reservation<'_>,
    ) -> Expired {
        let Some(now) = self.now else { return Expired::None };
        loop {
            let State { entries, order, .. } = &mut *self.state;
            match order.expiry.due(now, steps, |slot| entries.deadline(slot)) {
                Due::Nothing => return Expired::None,
                Due::Unknown => return Expired::Unknown,
                Due::Slot(slot) if entries.is_expired(slot, now) => {
                    reservation.inherit(self.cost(slot));
                    self.expire(slot);
                    return Expired::One;
                }
                // It was used since it was filed.
                Due::Slot(slot) => {
                    order.expiry.remove(slot);
                    self.file(slot);
                    match steps.checked_sub(1) {
                        Some(left) => *steps = left,
                        None => return Expired::Unknown,
                    }
                }
            }
        }
    }

    /// Takes out up to `limit` expired entries; tells whether those were all that there are, and how
    /// many.
    #[inline(never)]
    pub(super) fn free_expired(&mut self, limit: usize, mut steps: usize) -> (Purged, usize) {
        let mut reservation = self.capacity.reservation();
        for freed in 0..limit {
            match self.expire_one(&mut steps, &mut reservation) {
                Expired::None => return (Purged::All, freed),
                Expired::Unknown => return (Purged::Some, freed),
                Expired::One => {}
            }
        }
        (Purged::Some, limit)
    }

    /// The share of a write in freeing what has expired.
    #[inline]
    pub(super) fn free_some_expired(&mut self) {
        if self.now.is_some() {
            self.free_expired(PURGED_PER_WRITE, STEPS_PER_WRITE);
        }
    }

    /// Removes the entry of `key` and fences its loads; tells whether there were any.
    pub(super) fn remove<Q>(&mut self, hash: u64, key: &Q) -> (Option<RemovedEntry<K, V>>, bool)
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.free_some_expired();
        let found = self.entries().find(hash, key);
        let fenced = self.entries().fence(hash, key);
        let entry = found.and_then(|slot| self.take_out(slot, RemovalCause::Removed));
        (entry, fenced)
    }

    /// Ends the flight of an update and removes the entry of its key, unless a later write has won.
    pub(super) fn remove_by_update(
        &mut self,
        id: FlightId,
    ) -> (Option<RemovedEntry<K, V>>, Ended<K, V>)
    where
        K: Eq,
    {
        self.free_some_expired();
        let entries = self.entries();
        let mut found = None;
        if !entries.flight(id).is_fenced() {
            found = entries.find_of_flight(id);
            entries.fence_others(id);
        }
        let ended = entries.end_flight(id);
        let entry = found.and_then(|slot| self.take_out(slot, RemovalCause::Removed));
        (entry, ended)
    }

    /// Takes out everything and fences all loads. What was there is for the listener, or to be dropped.
    pub(crate) fn clear(mut self, deliveries: &mut Deliveries<K, V>) -> Option<Emptied<K, V>> {
        self.capacity.release(self.total_cost());
        self.state.order = Order::default();
        let entries = self.entries().take();
        match self.removal_queue() {
            None => Some(Emptied::by_use(entries)),
            Some(removal_queue) => {
                if !entries.is_empty() {
                    deliveries.add(removal_queue, removal_queue.post_all(entries));
                }
                None
            }
        }
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> Writer<'_, K, V> {
    /// Asserts that everything in the shard agrees; returns how many flights there are.
    pub(super) fn validate(&mut self) -> usize {
        self.validate_takers();
        let State { entries, order, watchers, removal_queue, .. } = &*self.state;
        watchers.validate();
        removal_queue.iter().for_each(|removal_queue| removal_queue.validate());
        order.lru.validate(&**entries);
        let filed = order.expiry.validate(|slot| entries.deadline(slot));
        let expiring = entries
            .iter(super::look::EVERY_SLOT)
            .filter(|(slot, ..)| entries.deadline(*slot) != NEVER)
            .count();
        assert_eq!(filed, expiring, "what expires is filed");
        entries.validate()
    }
}
