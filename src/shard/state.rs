//! What is in a shard, and what the one who may write does there; knows no lock.

use std::sync::Arc;

use equivalent::Equivalent;

use super::place::Place;
use super::submission::{Departed, Found, Submission};
use super::watch::Watchers;
use crate::clock::{NEVER, Nanos};
use crate::counters::Event;
use crate::emptied::Emptied;
use crate::expiry::ExpiryOrder;
use crate::flight::{Ended, Flights, Seat, Ticket};
use crate::index::{Entry, Index, Slot};
use crate::ledger::{Bound, Ledger, Room};
use crate::list::LruList;
use crate::outbox::{Notices, Outbox, Taken};
use crate::pins::Pinnable;
use crate::removal::RemovalCause;
use crate::takers::Takers;
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
    /// Raised when entries move to other slots.
    pub(super) generation: u64,
    /// The shard's share of the bound.
    pub(super) share: usize,
    /// Where entries that leave go, in a cache with a listener.
    pub(super) outbox: Option<Arc<Outbox<K, V>>>,
}

/// Who leaves the shard next, for want of room and for want of time.
pub(super) struct Order {
    pub(super) lru: LruList,
    /// Who of those that weigh something leaves next, from the first entry on that weighs nothing.
    pub(super) weight_takers: Option<Box<Takers>>,
    /// The same of those that have bytes.
    pub(super) byte_takers: Option<Box<Takers>>,
    pub(super) expiry: ExpiryOrder,
}

impl Order {
    pub(super) fn new() -> Self {
        Self {
            lru: LruList::default(),
            weight_takers: None,
            byte_takers: None,
            expiry: ExpiryOrder::new(),
        }
    }
}

/// How an attempt to write an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The entry is in, or kept out.
    Done,
    /// It takes the room of more entries than one attempt takes out.
    Unfinished,
    /// There is room for it only in place of an entry of another shard, as this bound is short.
    NeedsRoom(Bound),
    /// There is room for it in place of an entry that has to be searched, as this bound is short.
    NeedsVictim(Bound),
    /// Sweeps have to be asked about it first.
    NeedsVerdict,
}

/// What came of a search for an expired entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// It has left.
    One,
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

/// What was removed with a key, and besides.
pub(crate) struct Removed<K, V> {
    /// The entry, if it was alive.
    entry: Option<Taken<K, V>>,
    /// Whether loads in flight were fenced.
    fenced: bool,
    departed: Departed<K, V>,
}

impl<K, V> Default for Removed<K, V> {
    fn default() -> Self {
        Self { entry: None, fenced: false, departed: Departed::default() }
    }
}

impl<K, V> Removed<K, V> {
    pub(crate) fn into_value(self) -> (Option<V>, Notices<K, V>) {
        let mut notices = self.departed.into_notices();
        let value = self.entry.map(|entry| entry.into_value(&mut notices));
        (value, notices)
    }

    /// Whether there was anything to remove.
    pub(crate) fn into_found(mut self) -> (bool, Notices<K, V>) {
        let found = self.entry.is_some() || self.fenced;
        if let Some(entry) = self.entry {
            self.departed.keep_taken(entry);
        }
        (found, self.departed.into_notices())
    }
}

impl<K, V> State<K, V> {
    /// Makes what is in an empty shard that has `share` of the room.
    pub(super) fn new(share: usize, outbox: Option<Arc<Outbox<K, V>>>) -> Self {
        let index = Pinnable::default();
        let watchers = Watchers::default();
        let (flights, order) = (Flights::new(), Order::new());
        Self { index, flights, order, watchers, generation: 0, share, outbox }
    }

    /// Bytes that all of it has allocated.
    pub(super) fn heap_size(&self) -> usize {
        size_of::<Index<K, V>>()
            + self.index.heap_size()
            + self.flights.heap_size()
            + self.order.heap_size()
            + self.outbox.as_ref().map_or(0, |outbox| outbox.size())
    }

    /// Publishes an entry in `room`, or one that is made for it; `now` is the time as the shard knows it.
    pub(super) fn write(
        &mut self,
        submission: &mut Submission<K, V>,
        now: Option<Nanos>,
        room: &mut Room<'_>,
    ) -> Written
    where
        K: Eq,
    {
        let ledger = room.ledger();
        if let Some(now) = now {
            self.free_some_expired(now, ledger, submission.departed());
        }
        // What the user's `Eq` has to say comes before anything that must be whole.
        let seat = submission.seat(&self.flights);
        let slot = match submission.find(seat.as_ref(), &self.index, &self.flights) {
            Found::Fence => {
                submission.turn_away(seat, &mut self.flights, self.outbox.as_ref());
                return Written::Done;
            }
            Found::Undecided => return Written::NeedsVerdict,
            Found::Entry(slot) => Some(slot),
            Found::Nothing => None,
        };
        if let (Some(slot), Some(seat)) = (slot, &seat) {
            if self.flights.at(seat).is_update() {
                submission.keep_lifetime(slot, &self.index, now);
            }
        }
        let Some(cost) = submission.cost(ledger) else {
            self.refuse(submission, seat, slot, now, ledger);
            return Written::Done;
        };
        let place = match self.find_place(slot, cost, now, room, submission.departed()) {
            Ok(place) => place,
            Err(written) => return written,
        };
        // Not before it is certain that the entry goes in: who finds the flight fenced looks for it.
        submission.fence(seat.as_ref(), &mut self.flights);
        let key = submission.take_key(seat, &mut self.flights);
        self.pay(&place, cost, room);
        self.put(submission, key, place, now, ledger);
        Written::Done
    }

    /// Keeps an entry out that does not live or can never fit. It wins over what is there of its key, in
    /// `slot` and on its way, all the same.
    #[cold]
    fn refuse(
        &mut self,
        submission: &mut Submission<K, V>,
        seat: Option<Seat>,
        slot: Option<Slot>,
        now: Option<Nanos>,
        ledger: &Ledger,
    ) where
        K: Eq,
    {
        submission.fence(seat.as_ref(), &mut self.flights);
        let (cause, departed) = (RemovalCause::Replaced, submission.departed());
        let old = slot.and_then(|slot| self.take_out(slot, cause, now, ledger, departed));
        old.into_iter().for_each(|old| submission.displace(old));
        submission.turn_away(seat, &mut self.flights, self.outbox.as_ref());
    }

    /// Puts the entry in its place. Calls none of the user's code, like the end of its flight before
    /// it: all or nothing.
    fn put(
        &mut self,
        submission: &mut Submission<K, V>,
        key: K,
        place: Place,
        now: Option<Nanos>,
        ledger: &Ledger,
    ) {
        let new = submission.take_value(now);
        let has_extras = new.extras.is_some();
        let slot = match place {
            Place::Same(slot) => {
                self.order.expiry.remove(slot);
                let index = self.index.get_mut();
                let expired = now.is_some_and(|now| index.is_expired(slot, now));
                let old = index.replace(slot, key, new);
                if expired {
                    ledger.counters.count(Event::Expiration);
                    self.part_with(old, RemovalCause::Expired, submission.departed());
                } else {
                    submission.displace(self.hand_over(old, RemovalCause::Replaced));
                }
                slot
            }
            Place::Room => self.index.get_mut().insert(submission.hash(), key, new, self.share),
            Place::InsteadOf(victim) => {
                let cause = self.cause_of_eviction(victim, now, ledger);
                self.order.expiry.remove(victim);
                let old = self.index.get_mut().supplant(victim, submission.hash(), key, new);
                self.part_with(old, cause, submission.departed());
                victim
            }
        };
        if has_extras {
            self.file(slot);
            self.note_cost(slot, ledger);
        }
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

    /// Counts the eviction of an entry, or its expiration if nobody had found out that its time is over.
    pub(super) fn cause_of_eviction(
        &self,
        victim: Slot,
        now: Option<Nanos>,
        ledger: &Ledger,
    ) -> RemovalCause {
        let has_expired = now.is_some_and(|now| self.index.is_expired(victim, now));
        let (event, cause) = match has_expired {
            true => (Event::Expiration, RemovalCause::Expired),
            false => (Event::Eviction, RemovalCause::Capacity),
        };
        ledger.counters.count(event);
        cause
    }

    /// Takes out an entry that has expired, if one is found in so many `steps`, and adds what it held to
    /// the room.
    pub(super) fn expire_one(
        &mut self,
        now: Nanos,
        steps: &mut usize,
        room: &mut Room<'_>,
        departed: &mut Departed<K, V>,
    ) -> Expired {
        let ledger = room.ledger();
        loop {
            let Self { index, order, .. } = self;
            match order.expiry.due(now, steps, |slot| index.deadline(slot)) {
                Due::Nothing => return Expired::None,
                Due::Unknown => return Expired::Unknown,
                Due::Slot(slot) if index.is_expired(slot, now) => {
                    room.inherit(self.cost(slot, ledger));
                    self.expire_from(slot, ledger, departed);
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
    pub(super) fn free_expired(
        &mut self,
        now: Nanos,
        limit: usize,
        mut steps: usize,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> (Purged, usize) {
        let mut room = ledger.room();
        for freed in 0..limit {
            match self.expire_one(now, &mut steps, &mut room, departed) {
                Expired::None => return (Purged::All, freed),
                Expired::Unknown => return (Purged::Some, freed),
                Expired::One => {}
            }
        }
        (Purged::Some, limit)
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
        removed: &mut Removed<K, V>,
    ) where
        Q: Equivalent<K> + ?Sized,
    {
        let Removed { entry, fenced, departed } = removed;
        if let Some(now) = now {
            self.free_some_expired(now, ledger, departed);
        }
        let found = self.index.find(hash, key);
        *fenced = self.flights.fence(hash, key);
        let cause = RemovalCause::Removed;
        *entry = found.and_then(|slot| self.take_out(slot, cause, now, ledger, departed));
    }

    /// Ends the flight of an update and removes the entry of its key, unless a later write has won.
    pub(super) fn remove_by_update(
        &mut self,
        hash: u64,
        ticket: Ticket,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> (Option<Taken<K, V>>, Ended<K, V>)
    where
        K: Eq,
    {
        if let Some(now) = now {
            self.free_some_expired(now, ledger, departed);
        }
        let seat = self.flights.seat(hash, ticket);
        let mut found = None;
        if !self.flights.at(&seat).is_fenced() {
            found = self.index.find(hash, self.flights.at(&seat).key());
            self.flights.fence_others(&seat);
        }
        let ended = self.flights.remove(seat).end();
        let cause = RemovalCause::Removed;
        let entry = found.and_then(|slot| self.take_out(slot, cause, now, ledger, departed));
        (entry, ended)
    }

    /// Takes the entry out of `slot`, and returns it if it is alive.
    pub(super) fn take_out(
        &mut self,
        slot: Slot,
        cause: RemovalCause,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Option<Taken<K, V>> {
        ledger.release(self.cost(slot, ledger));
        if now.is_some_and(|now| self.index.is_expired(slot, now)) {
            self.expire_from(slot, ledger, departed);
            return None;
        }
        let entry = self.detach(slot);
        Some(self.hand_over(entry, cause))
    }

    /// Takes out everything and fences all loads. What was there is for the listener, or to be dropped.
    pub(super) fn clear(
        &mut self,
        ledger: &Ledger,
        notices: &mut Notices<K, V>,
    ) -> Option<Emptied<K, V>> {
        self.flights.fence_all();
        self.order = Order::new();
        ledger.release(self.total_cost(ledger));
        let entries = self.index.get_mut().take();
        match &self.outbox {
            None => Some(Emptied::by_use(entries)),
            Some(outbox) => {
                if !entries.is_empty() {
                    notices.add(outbox, outbox.post_all(entries));
                }
                None
            }
        }
    }

    /// Takes out an entry whose time is over.
    pub(super) fn expire_from(
        &mut self,
        slot: Slot,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) {
        ledger.counters.count(Event::Expiration);
        let entry = self.detach(slot);
        self.part_with(entry, RemovalCause::Expired, departed);
    }

    /// Lets go of an entry that nobody asks for, to be dropped or to be reported.
    #[inline]
    pub(super) fn part_with(
        &self,
        entry: Entry<K, V>,
        cause: RemovalCause,
        departed: &mut Departed<K, V>,
    ) {
        match &self.outbox {
            None => departed.keep(entry, cause),
            Some(outbox) => departed.notify(outbox, outbox.post(entry, cause)),
        }
    }

    /// Lets go of an entry whose value the caller may ask for.
    #[inline]
    fn hand_over(&self, entry: Entry<K, V>, cause: RemovalCause) -> Taken<K, V> {
        match &self.outbox {
            None => Taken::Entry(entry),
            Some(outbox) => Taken::Withheld(outbox.withhold(entry, cause)),
        }
    }

    /// Takes the entry out of `slot`; the orders of eviction find out by the stamp.
    pub(super) fn detach(&mut self, slot: Slot) -> Entry<K, V> {
        self.order.remove(slot);
        self.index.get_mut().remove(slot)
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> State<K, V> {
    /// Asserts that all of it agrees; returns how many flights there are.
    pub(super) fn validate(&self, ledger: &Ledger) -> usize {
        let Self { index, flights, order, watchers, outbox, .. } = self;
        watchers.validate();
        outbox.iter().for_each(|outbox| outbox.validate());
        index.validate();
        order.lru.validate(0..index.stamps().len() as Slot, index.stamps());
        self.validate_takers(ledger);
        let filed = order.expiry.validate(|slot| index.deadline(slot));
        let expiring = index
            .iter(super::look::EVERY_SLOT)
            .filter(|(slot, ..)| index.deadline(*slot) != NEVER)
            .count();
        assert_eq!(filed, expiring, "what expires is filed");
        flights.validate()
    }
}
