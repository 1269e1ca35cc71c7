//! What is in a shard, and what the one who may write does there; knows no lock.

use equivalent::Equivalent;

use super::submission::{Departed, Found, Submission};
use super::watch::Watchers;
use crate::clock::{NEVER, Nanos};
use crate::counters::Event;
use crate::expiry::ExpiryOrder;
use crate::flight::{Arrival, FlightKey, Flights, Ticket};
use crate::index::{Entry, Index, Slot};
use crate::ledger::{Ledger, Room};
use crate::list::LruList;
use crate::pins::Pinnable;
use crate::wheel::Due;

/// How many expired entries a write frees on its way.
const PURGED_PER_WRITE: usize = 4;

/// How many steps a write takes to find expired entries whose lifetimes differ.
const STEPS_PER_WRITE: usize = 16;

/// Everything in a shard.
pub(crate) struct State<K, V> {
    pub(super) index: Pinnable<Index<K, V>>,
    pub(super) flights: Flights<K, V>,
    pub(super) order: Order,
    /// Who wants to know which entries are written.
    pub(super) watchers: Watchers,
    /// The shard's share of the bound.
    pub(super) share: usize,
}

/// Who leaves the shard next, for want of room and for want of time.
pub(super) struct Order {
    pub(super) lru: LruList,
    pub(super) expiry: ExpiryOrder,
}

impl Order {
    fn new() -> Self {
        Self { lru: LruList::default(), expiry: ExpiryOrder::new() }
    }
}

/// How an attempt to write an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The entry is in, or kept out by a fence.
    Done,
    /// There is room for it only in place of an entry of another shard.
    NeedsRoom,
    /// There is room for it in place of an entry that has to be searched.
    NeedsVictim,
}

/// What came of a search for an expired entry.
pub(crate) enum Expired<K, V> {
    Entry(Entry<K, V>),
    None,
    /// There may be one; it takes more steps to find out.
    Unknown,
}

/// How far expired entries were freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purged {
    All,
    /// There may be more.
    Some,
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

/// Where an entry goes.
enum Place<'r> {
    /// Where its key is already.
    Same(Slot),
    /// Into a room of its own.
    Room(Room<'r>),
    /// Where the least recently used entry was.
    InsteadOf(Slot),
}

impl<K, V> State<K, V> {
    /// Makes what is in an empty shard that has `share` of the room.
    pub(super) fn new(share: usize) -> Self {
        let index = Pinnable::default();
        let watchers = Watchers::default();
        Self { index, flights: Flights::new(), order: Order::new(), watchers, share }
    }

    /// Bytes that all of it has allocated.
    pub(super) fn heap_size(&self) -> usize {
        size_of::<Index<K, V>>()
            + self.index.heap_size()
            + self.flights.heap_size()
            + self.order.lru.heap_size()
            + self.order.expiry.heap_size()
    }

    /// Publishes an entry; `now` is the time as the shard knows it.
    pub(super) fn write<'r>(
        &mut self,
        submission: &mut Submission<K, V>,
        now: Option<Nanos>,
        ledger: &'r Ledger,
        room: &mut Option<Room<'r>>,
    ) -> Written
    where
        K: Eq,
    {
        if let Some(now) = now {
            self.free_some_expired(now, ledger, submission.departed());
        }
        // What the user's `Eq` has to say comes before anything that must be whole.
        let seat = submission.seat(&self.flights);
        let place = match submission.find(seat.as_ref(), &self.index, &self.flights) {
            Found::Fence => {
                submission.turn_away(seat, &mut self.flights);
                return Written::Done;
            }
            Found::Entry(slot) => Place::Same(slot),
            Found::Nothing => {
                if let Some(room) = room.take().or_else(|| ledger.reserve()) {
                    Place::Room(room)
                } else if self.index.is_empty() {
                    return Written::NeedsRoom;
                } else if let Some(victim) = self.order.lru.oldest(self.index.stamps()) {
                    Place::InsteadOf(victim)
                } else {
                    return Written::NeedsVictim;
                }
            }
        };
        // Not before it is certain that the entry goes in: who finds the flight fenced looks for it.
        submission.fence(seat.as_ref(), &mut self.flights);
        let key = submission.take_key(seat, &mut self.flights);
        self.put(submission, key, place, now, ledger);
        Written::Done
    }

    /// Puts the entry in its place. Calls none of the user's code, like the end of its flight before
    /// it: all or nothing.
    fn put(
        &mut self,
        submission: &mut Submission<K, V>,
        key: K,
        place: Place<'_>,
        now: Option<Nanos>,
        ledger: &Ledger,
    ) {
        let new = submission.take_value(now);
        let slot = match place {
            Place::Same(slot) => {
                self.order.expiry.remove(slot);
                let index = self.index.get_mut();
                let expired = now.is_some_and(|now| index.is_expired(slot, now));
                let old = index.replace(slot, key, new);
                submission.displace(old, expired);
                if expired {
                    ledger.counters.count(Event::Expiration);
                }
                slot
            }
            Place::Room(room) => {
                room.fill();
                self.index.get_mut().insert(submission.hash(), key, new, self.share)
            }
            Place::InsteadOf(victim) => {
                ledger.counters.count(Event::Eviction);
                self.order.expiry.remove(victim);
                let old = self.index.get_mut().supplant(victim, submission.hash(), key, new);
                submission.departed().evicted = Some(old);
                victim
            }
        };
        self.file(slot);
        self.watchers.note(slot);
    }

    /// Notes when the entry in `slot` expires.
    pub(super) fn file(&mut self, slot: Slot) {
        let deadline = self.index.deadline(slot);
        if deadline == NEVER {
            return;
        }
        if self.index.has_idle_deadlines() {
            self.order.expiry.push_moving(slot, deadline);
        } else {
            self.order.expiry.push(slot, deadline);
        }
    }

    /// Takes out the least recently used entry, if it is known; its room is the caller's.
    pub(super) fn evict(&mut self, ledger: &Ledger) -> Option<Entry<K, V>> {
        let victim = self.order.lru.oldest(self.index.stamps())?;
        ledger.counters.count(Event::Eviction);
        Some(self.detach(victim))
    }

    /// Finds the next victims.
    pub(super) fn search(&mut self) {
        let since = self.index.get_mut().begin_epoch();
        self.order.lru.search(&self.index.stamps()[..self.index.slots()], since);
    }

    /// Takes out an entry that has expired, if one is found in so many `steps`; its room is the caller's.
    pub(super) fn expire_one(
        &mut self,
        now: Nanos,
        steps: &mut usize,
        ledger: &Ledger,
    ) -> Expired<K, V> {
        loop {
            let Self { index, order, .. } = self;
            match order.expiry.due(now, steps, |slot| index.deadline(slot)) {
                Due::Nothing => return Expired::None,
                Due::Unknown => return Expired::Unknown,
                Due::Slot(slot) if index.is_expired(slot, now) => {
                    return Expired::Entry(self.expire_from(slot, ledger));
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

    /// Takes out up to `limit` expired entries; tells whether those were all that there are.
    pub(super) fn free_expired(
        &mut self,
        now: Nanos,
        limit: usize,
        mut steps: usize,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Purged {
        for _ in 0..limit {
            match self.expire_one(now, &mut steps, ledger) {
                Expired::None => return Purged::All,
                Expired::Unknown => break,
                Expired::Entry(entry) => departed.expired.push(entry),
            }
            ledger.release(1);
        }
        Purged::Some
    }

    /// The share of a write in freeing what has expired.
    fn free_some_expired(&mut self, now: Nanos, ledger: &Ledger, departed: &mut Departed<K, V>) {
        self.free_expired(now, PURGED_PER_WRITE, STEPS_PER_WRITE, ledger, departed);
    }

    /// Removes the entry of `key` and fences its loads.
    pub(super) fn remove<Q>(
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
        if let Some(now) = now {
            self.free_some_expired(now, ledger, departed);
        }
        let found = self.index.find(hash, key);
        let fenced = self.flights.fence(hash, key);
        let entry = found.and_then(|slot| self.take_out(slot, now, ledger, departed));
        Removed { entry, fenced }
    }

    /// Ends a flight, and if it is an update removes the entry of its key, unless a later write has won.
    pub(super) fn end_and_remove(
        &mut self,
        hash: u64,
        ticket: Ticket,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> (Option<Entry<K, V>>, FlightKey<K>, Arrival<V>)
    where
        K: Eq,
    {
        if let Some(now) = now {
            self.free_some_expired(now, ledger, departed);
        }
        let seat = self.flights.seat(hash, ticket);
        let mut found = None;
        let flight = self.flights.at(&seat);
        if flight.is_update() && !flight.is_fenced() {
            found = self.index.find(hash, self.flights.at(&seat).key());
            self.flights.fence_others(&seat);
        }
        let (key, arrival) = self.flights.remove(seat).end();
        let entry = found.and_then(|slot| self.take_out(slot, now, ledger, departed));
        (entry, key, arrival)
    }

    /// Takes the entry out of `slot`, and returns it if it is alive.
    pub(super) fn take_out(
        &mut self,
        slot: Slot,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Option<Entry<K, V>> {
        ledger.release(1);
        if now.is_some_and(|now| self.index.is_expired(slot, now)) {
            departed.expired.push(self.expire_from(slot, ledger));
            return None;
        }
        Some(self.detach(slot))
    }

    /// Takes out everything and fences all loads.
    pub(super) fn clear(&mut self, ledger: &Ledger) -> Index<K, V> {
        self.flights.fence_all();
        self.order = Order::new();
        ledger.release(self.index.len());
        self.index.get_mut().take()
    }

    /// Takes out an entry whose time is over.
    pub(super) fn expire_from(&mut self, slot: Slot, ledger: &Ledger) -> Entry<K, V> {
        ledger.counters.count(Event::Expiration);
        self.detach(slot)
    }

    /// Takes the entry out of `slot`; the order of eviction finds out by the stamp.
    pub(super) fn detach(&mut self, slot: Slot) -> Entry<K, V> {
        self.order.expiry.remove(slot);
        self.index.get_mut().remove(slot)
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> State<K, V> {
    /// Asserts that all of it agrees; returns how many flights there are.
    pub(super) fn validate(&self) -> usize {
        let Self { index, flights, order, watchers, share: _ } = self;
        watchers.validate();
        index.validate();
        order.lru.validate(index.stamps());
        let filed = order.expiry.validate(|slot| index.deadline(slot));
        let expiring = index
            .iter(super::look::EVERY_SLOT)
            .filter(|(slot, ..)| index.deadline(*slot) != NEVER)
            .count();
        assert_eq!(filed, expiring, "what expires is filed");
        flights.validate()
    }
}
