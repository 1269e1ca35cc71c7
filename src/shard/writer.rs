//! What the one writer of a shard does: publish, evict, expire, remove, clear.

use std::sync::MutexGuard;

use equivalent::Equivalent;

use super::submission::{Departed, Found, Submission};
use super::{Order, Shard};
use crate::clock::{NEVER, Nanos};
use crate::counters::Event;
use crate::flight::Flights;
use crate::index::{Entry, Index, Slot};
use crate::ledger::{Ledger, Room};

/// How many expired entries a write frees on its way.
const PURGED_PER_WRITE: usize = 4;

/// How many times a victim may slip away, used between the search and the lock, before the search is
/// made under the exclusive lock, where nothing slips away.
const MAX_RACES: usize = 3;

/// How an attempt to write an entry ended.
pub(crate) enum Written {
    /// The entry is in, or kept out by a fence.
    Done,
    /// There is room for it only in place of an entry of another shard.
    NeedsRoom,
}

/// What was removed with a key.
pub(crate) struct Removed<K, V> {
    /// The entry, if it was alive.
    pub(crate) entry: Option<Entry<K, V>>,
    /// Whether loads in flight were fenced.
    pub(crate) fenced: bool,
}

impl<K, V> Removed<K, V> {
    pub(crate) fn into_value(self) -> Option<V> {
        self.entry.map(Entry::into_value)
    }

    /// Whether there was anything to remove.
    pub(crate) fn found_any(&self) -> bool {
        self.entry.is_some() || self.fenced
    }
}

/// The right to write to a shard.
pub(crate) struct Writer<'a, K, V> {
    pub(super) shard: &'a Shard<K, V>,
    pub(super) order: MutexGuard<'a, Order>,
}

/// Where an entry goes.
enum Place<'r> {
    /// Where its key is already.
    Same(Slot),
    /// Into a room of its own.
    Room(Room<'r>),
    /// Where the least recently used entry was.
    InsteadOf(Slot),
}

impl<K, V> Writer<'_, K, V> {
    /// Publishes an entry, in `room` or one that the ledger still has, else in place of the least
    /// recently used entry.
    ///
    /// The submission keeps its key and value until the entry is in.
    pub(crate) fn write<'r>(
        &mut self,
        submission: &mut Submission<K, V>,
        ledger: &'r Ledger,
        mut room: Option<Room<'r>>,
    ) -> Written
    where
        K: Eq,
    {
        let shard = self.shard;
        let now = submission.now().map(|now| shard.settle(now));
        if self.order.lru.is_used_up() && ledger.is_full() {
            self.search();
        }
        let mut races = 0;
        loop {
            let mut index = shard.index_mut();
            let mut flights = shard.flights();
            let departed = submission.departed();
            self.free_expired(&mut index, now, PURGED_PER_WRITE, ledger, departed);

            // What the user's `Eq` has to say comes before anything that must be whole.
            let existing = match submission.find(&index, &mut flights) {
                Found::Entry(slot) => Some(slot),
                Found::Nothing => None,
                Found::Fence(ticket) => {
                    submission.turn_away(&mut flights, ticket);
                    return Written::Done;
                }
            };
            let place = if let Some(slot) = existing {
                Place::Same(slot)
            } else if let Some(room) = room.take().or_else(|| ledger.reserve()) {
                Place::Room(room)
            } else if index.is_empty() {
                return Written::NeedsRoom;
            } else if let Some(victim) = self.pop_victim(&index, races) {
                Place::InsteadOf(victim)
            } else {
                drop(flights);
                drop(index);
                self.search();
                races += 1;
                continue;
            };
            self.put(submission, place, now, &mut index, &mut flights, ledger);
            return Written::Done;
        }
    }

    /// Puts the entry in its place and ends its flight. Calls none of the user's code: all or nothing.
    fn put(
        &mut self,
        submission: &mut Submission<K, V>,
        place: Place<'_>,
        now: Option<Nanos>,
        index: &mut Index<K, V>,
        flights: &mut Flights<K, V>,
        ledger: &Ledger,
    ) {
        let stamp = self.shard.raise_epoch();
        let key = submission.take_key(flights);
        let new = submission.take_value(now);
        let expires = new.deadline.is_some();
        let slot = match place {
            Place::Same(slot) => {
                if expires {
                    self.order.expiry.remove(slot);
                }
                let expired = now.is_some_and(|now| index.is_expired(slot, now));
                let old = index.replace(slot, key, new, stamp);
                submission.displace(old, expired);
                if expired {
                    ledger.counters.count(Event::Expiration);
                }
                slot
            }
            Place::Room(room) => {
                room.fill();
                index.insert(submission.hash(), key, new, stamp)
            }
            Place::InsteadOf(victim) => {
                submission.departed().evicted = Some(self.evict_from(index, victim, ledger));
                index.insert(submission.hash(), key, new, stamp)
            }
        };
        if expires {
            self.order.expiry.push(slot);
        }
        if let Some(now) = now {
            self.shard.advance(now);
        }
    }

    /// Takes out the least recently used entry; its room is the caller's.
    pub(crate) fn evict(&mut self, ledger: &Ledger) -> Option<Entry<K, V>> {
        let shard = self.shard;
        let mut races = 0;
        loop {
            {
                let mut index = shard.index_mut();
                if index.is_empty() {
                    return None;
                }
                if let Some(victim) = self.pop_victim(&index, races) {
                    return Some(self.evict_from(&mut index, victim, ledger));
                }
            }
            self.search();
            races += 1;
        }
    }

    /// Takes out the entry that expired first, if one has; its room is the caller's.
    pub(crate) fn expire_one(&mut self, now: Nanos, ledger: &Ledger) -> Option<Entry<K, V>> {
        let shard = self.shard;
        let mut index = shard.index_mut();
        let slot = self.first_expired(&index, shard.settle(now))?;
        Some(self.expire_from(&mut index, slot, ledger))
    }

    /// Takes out up to `limit` expired entries.
    pub(crate) fn purge(
        &mut self,
        now: Nanos,
        limit: usize,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) {
        let now = self.shard.settle(now);
        let mut index = self.shard.index_mut();
        self.free_expired(&mut index, Some(now), limit, ledger, departed);
    }

    /// When the next entry expires: [`NEVER`] if there is none.
    pub(crate) fn soonest_deadline(&self) -> Nanos {
        let first = self.order.expiry.first();
        first.map_or(NEVER, |slot| self.shard.read().deadline(slot))
    }

    /// Removes the entry of `key` and fences its loads.
    pub(crate) fn remove<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let shard = self.shard;
        let now = now.map(|now| shard.settle(now));
        let mut index = shard.index_mut();
        let mut flights = shard.flights();
        self.free_expired(&mut index, now, PURGED_PER_WRITE, ledger, departed);
        let found = index.find(hash, key);
        let fenced = flights.fence(hash, key);
        let Some(slot) = found else { return Removed { entry: None, fenced } };
        ledger.release(1);
        if now.is_some_and(|now| index.is_expired(slot, now)) {
            departed.expired.push(self.expire_from(&mut index, slot, ledger));
            return Removed { entry: None, fenced };
        }
        Removed { entry: Some(self.detach(&mut index, slot)), fenced }
    }

    /// Takes out everything and fences all loads.
    pub(crate) fn clear(&mut self, ledger: &Ledger) -> Index<K, V> {
        let mut index = self.shard.index_mut();
        self.shard.flights().fence_all();
        *self.order = Order::new();
        ledger.release(index.len());
        std::mem::replace(&mut *index, Index::new())
    }

    /// Finds the next victims while hits go on.
    fn search(&mut self) {
        self.order.lru.search(self.shard.read().stamps());
    }

    /// The least recently used slot, or `None` if readers were faster and the search has to be made
    /// again.
    fn pop_victim(&mut self, index: &Index<K, V>, races: usize) -> Option<Slot> {
        if races >= MAX_RACES {
            self.order.lru.search(index.stamps());
        }
        self.order.lru.pop(index.stamps())
    }

    fn first_expired(&self, index: &Index<K, V>, now: Nanos) -> Option<Slot> {
        self.order.expiry.first().filter(|slot| index.is_expired(*slot, now))
    }

    fn free_expired(
        &mut self,
        index: &mut Index<K, V>,
        now: Option<Nanos>,
        limit: usize,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) {
        let Some(now) = now else { return };
        for _ in 0..limit {
            let Some(slot) = self.first_expired(index, now) else { return };
            departed.expired.push(self.expire_from(index, slot, ledger));
            ledger.release(1);
        }
    }

    /// Takes out an entry that is alive, for want of room.
    fn evict_from(&mut self, index: &mut Index<K, V>, slot: Slot, ledger: &Ledger) -> Entry<K, V> {
        ledger.counters.count(Event::Eviction);
        self.detach(index, slot)
    }

    /// Takes out an entry whose time is over.
    fn expire_from(&mut self, index: &mut Index<K, V>, slot: Slot, ledger: &Ledger) -> Entry<K, V> {
        ledger.counters.count(Event::Expiration);
        self.detach(index, slot)
    }

    /// Takes the entry out of `slot`; the order of eviction finds out by the stamp.
    fn detach(&mut self, index: &mut Index<K, V>, slot: Slot) -> Entry<K, V> {
        if index.has_deadlines() {
            self.order.expiry.remove(slot);
        }
        index.remove(slot)
    }
}
