//! One shard: its locks, the order in which they are taken, and what is read under them.

mod compact;
mod look;
mod place;
mod restore;
mod set_ttl;
mod state;
mod submission;
mod update;
mod victims;
mod watch;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, TryLockError};

use equivalent::Equivalent;

pub(crate) use self::look::Copied;
use self::look::EVERY_SLOT;
pub(crate) use self::restore::Returning;
use self::state::State;
pub(crate) use self::state::{Expired, Purged, Removed, Written};
use self::submission::Found;
pub(crate) use self::submission::{Departed, Fate, Origin, Submission};
pub(crate) use self::update::Fenced;
pub(crate) use self::watch::{Position, Watch};
use crate::budget::Cost;
use crate::clock::{Nanos, Now};
use crate::emptied::Emptied;
use crate::flight::{Boarding, Ended, FlightKey, Kind, Landing, Predicate, Sweeps, Ticket};
use crate::index::{Index, Slot};
use crate::ledger::{Bound, Ledger, Room};
use crate::outbox::{Notices, Outbox};
use crate::patience::Patience;
use crate::pins::{PinnedBy, Pins};
use crate::stamp::Stamp;
#[cfg(any(test, feature = "__validate"))]
use crate::sync::MutexGuard;
use crate::sync::{AtomicU64, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, yield_now};
use crate::threads;

/// How many times a victim may slip away, used between the search and the lock, before the search is
/// made under the lock, where nothing slips away.
const MAX_RACES: usize = 3;

/// A part of the cache, with locks of its own.
///
/// Locks are taken in the order `searching`, `state`; either may be skipped. No lock is held across an
/// await, and under none of them runs any of the user's code but `K: Eq`, and `V: Clone` (`K: Clone`
/// for a list of keys) under `state` shared; what has to be dropped, woken or reported is moved out
/// first. What goes to a listener lies under a lock of its own, within which no other is taken.
///
/// In the order of the fields, so that what a hit reads of a shard lies on its first cache lines.
#[repr(C, align(128))]
pub(crate) struct Shard<K, V> {
    /// The latest time at which an entry was written or seen expired here: for this shard, time does
    /// not step back, whatever the clock does.
    latest: AtomicU64,
    /// The latest deadline that was seen to have passed, in any shard of the cache.
    last_expiry: Arc<AtomicU64>,
    /// Who reads the entries without `state`.
    pinned_by: PinnedBy<Index<K, V>>,
    /// Everything. Shared, or instead of it a pin, for a hit; exclusive for the time of one update,
    /// and so short that async code may block on it.
    state: RwLock<State<K, V>>,
    /// Held during a search for victims, which may take long, so async code never blocks on it.
    searching: Mutex<()>,
}

/// What a look that found no live entry has seen.
///
/// The epoch of the shard at the look, and in the lowest bit whether there was an entry whose time is over:
/// in one word, so that a look returns as quickly as if it were only the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing(u64);

impl Missing {
    #[inline]
    fn new(epoch: u64, has_expired: bool) -> Self {
        Self(epoch << 1 | u64::from(has_expired))
    }

    fn epoch(self) -> u64 {
        self.0 >> 1
    }

    #[inline]
    pub(crate) fn has_expired(self) -> bool {
        self.0 & 1 == 1
    }
}

/// What a shard holds and takes.
pub(crate) struct Size {
    pub(crate) entries: usize,
    /// Sum of the entries' measured bytes.
    pub(crate) measured: u128,
    /// Bytes that the shard has allocated.
    pub(crate) allocated: usize,
}

/// A look at a shard's entries.
impl<K, V> Shard<K, V> {
    /// Makes the shard of this `number`, with its `share` of the room, in entries.
    pub(crate) fn new(
        number: usize,
        share: usize,
        pins: Arc<Pins<Index<K, V>>>,
        last_expiry: Arc<AtomicU64>,
        outbox: Option<Arc<Outbox<K, V>>>,
    ) -> Self {
        Self {
            latest: AtomicU64::new(0),
            last_expiry,
            pinned_by: PinnedBy::new(number, pins),
            state: RwLock::new(State::new(share, outbox)),
            searching: Mutex::new(()),
        }
    }

    /// A name for the shard that lasts as long as it is borrowed.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Returns the live value of `key` and counts that as a use; otherwise what was there instead.
    #[inline]
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q, now: Option<Now<'_>>) -> Result<V, Missing>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let thread = threads::number();
        match self.pinned_by.get(thread) {
            Some(index) => self.hit(&index, hash, key, now),
            None => self.hit(&self.shared(thread).index, hash, key, now),
        }
    }

    /// Compiled once for each of the two ways to the entries, which differ in how they are let go.
    #[inline(always)]
    fn hit<Q>(
        &self,
        index: &Index<K, V>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
    ) -> Result<V, Missing>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let missing = |has_expired| Missing::new(index.epoch(), has_expired);
        let slot = index.find(hash, key).ok_or_else(|| missing(false))?;
        if now.is_some_and(|now| self.is_expired(index, slot, now)) {
            return Err(missing(true));
        }
        self.touch(index, slot, now);
        Ok(index.value(slot).clone())
    }

    /// Records a use of an entry.
    #[inline]
    fn touch(&self, index: &Index<K, V>, slot: Slot, now: Option<Now<'_>>) {
        index.touch(slot);
        if let Some(Now::Using { idle_deadline, .. }) = now {
            index.put_off(slot, idle_deadline);
        }
    }

    /// Lets `look` at the live value of `key`, without counting that as a use.
    pub(crate) fn peek<Q, R>(
        &self,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
        look: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.read(|index| {
            let slot = self.find_live(index, hash, key, now)?;
            Some(look(index.value(slot)))
        })
    }

    /// Adds the live keys to `keys`, least recently used first.
    pub(crate) fn keys_into(&self, keys: &mut Vec<K>, now: Option<Now<'_>>)
    where
        K: Clone,
    {
        let mut found: Vec<(Stamp, K)> = Vec::new();
        self.each_live(EVERY_SLOT, now, |live| found.push((live.stamp, live.entry.key.clone())));
        found.sort_by_key(|(stamp, _)| *stamp);
        keys.extend(found.into_iter().map(|(_, key)| key));
    }

    /// What the shard holds and takes.
    pub(crate) fn size(&self) -> Size {
        let state = self.locked();
        Size {
            entries: state.index.len(),
            measured: state.index.measured(),
            allocated: state.heap_size(),
        }
    }

    /// What an entry on its way in takes beyond the one of its key, if that is alive.
    pub(crate) fn missing(&self, submission: &Submission<K, V>, ledger: &Ledger) -> Cost
    where
        K: Eq,
    {
        let state = &*self.locked();
        let seat = submission.seat(&state.flights);
        let cost = submission.cost(ledger).unwrap_or_default();
        let latest = self.latest.load(Ordering::Relaxed);
        let now = submission.now().map_or(latest, |now| now.max(latest));
        match submission.find(seat.as_ref(), &state.index, &state.flights) {
            Found::Fence => Cost::default(),
            Found::Entry(slot) if !state.index.is_expired(slot, now) => {
                cost.beyond(state.cost(slot, ledger))
            }
            _ => cost,
        }
    }

    /// A time before which no entry expires: [`NEVER`](crate::clock::NEVER) if none ever does.
    pub(crate) fn soonest_deadline(&self) -> Nanos {
        let state = self.locked();
        state.order.expiry.soonest(|slot| state.index.deadline(slot))
    }

    /// Lets `look` at the entries: by the thread's pin, or else under the lock.
    fn read<R>(&self, look: impl FnOnce(&Index<K, V>) -> R) -> R {
        let thread = threads::number();
        match self.pinned_by.get(thread) {
            Some(index) => look(&index),
            None => look(&self.shared(thread).index),
        }
    }

    /// Everything to read, under the lock.
    #[inline]
    fn locked(&self) -> RwLockReadGuard<'_, State<K, V>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, for a `thread` that is the caller and has no pin.
    #[inline]
    fn shared(&self, thread: usize) -> RwLockReadGuard<'_, State<K, V>> {
        let state = self.locked();
        if self.pinned_by.count_read(thread) { self.pin(thread, state) } else { state }
    }

    /// Has the thread read by a pin from the next time on, or the time after that.
    #[cold]
    fn pin<'a>(
        &'a self,
        thread: usize,
        state: RwLockReadGuard<'a, State<K, V>>,
    ) -> RwLockReadGuard<'a, State<K, V>> {
        if let Some(share) = state.index.pin() {
            self.pinned_by.pin(thread, share);
            return state;
        }
        drop(state);
        if let Ok(mut state) = self.state.try_write() {
            state.index.share();
        }
        self.locked()
    }

    #[inline]
    fn find_live<Q>(
        &self,
        index: &Index<K, V>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
    ) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let slot = index.find(hash, key)?;
        match now {
            Some(now) if self.is_expired(index, slot, now) => None,
            _ => Some(slot),
        }
    }

    /// Whether the time of an entry is over for a reader, and from then on for everybody: nobody may
    /// see it alive again if the clock steps back.
    fn is_expired(&self, index: &Index<K, V>, slot: Slot, now: Now<'_>) -> bool {
        let deadline = index.deadline(slot);
        let is_known = deadline <= self.latest.load(Ordering::Relaxed);
        if !is_known && now.has_reached(deadline) {
            self.latest.fetch_max(deadline, Ordering::Relaxed);
            self.last_expiry.fetch_max(deadline, Ordering::Relaxed);
            return true;
        }
        is_known
    }
}

/// Loads in progress.
impl<K, V> Shard<K, V> {
    /// Joins the open flight of `key`, or starts one with it, unless an entry was added to the shard
    /// since the look that found it missing: it may be there now.
    ///
    /// A publication adds the entry and takes its flight out in one step. So whoever finds no flight
    /// and an unmoved epoch comes neither too late to join nor too early to find the value.
    pub(crate) fn board(
        &self,
        hash: u64,
        key: FlightKey<K>,
        missing: Missing,
        kind: Kind,
    ) -> Boarding<K, V>
    where
        K: Eq,
    {
        let state = &mut *self.exclusive();
        if let Some((landing, ticket)) = state.flights.join(hash, key.get()) {
            return Boarding::Join(key, landing, ticket);
        }
        if state.index.epoch() != missing.epoch() {
            return Boarding::LookAgain(key);
        }
        Boarding::Lead(state.flights.lead(hash, key, kind))
    }

    /// Takes out the entry of `key` if its time is over, as a load is about to bring another.
    #[cold]
    pub(crate) fn expire<Q>(
        &self,
        hash: u64,
        key: &Q,
        now: Nanos,
        ledger: &Ledger,
    ) -> Departed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut departed = Departed::default();
        {
            let mut state = self.writable();
            let now = self.settle(now);
            if let Some(slot) = state.index.find(hash, key) {
                if state.index.is_expired(slot, now) {
                    ledger.release(state.cost(slot, ledger));
                    state.expire_from(slot, ledger, &mut departed);
                }
            }
        }
        departed
    }

    /// Starts a flight that nobody can join.
    pub(crate) fn fly_alone(&self, hash: u64, key: FlightKey<K>, kind: Kind) -> Ticket {
        self.exclusive().flights.lead_alone(hash, key, kind)
    }

    /// Where the flight of `ticket`, which has not ended, will land.
    pub(crate) fn landing(&self, hash: u64, ticket: Ticket) -> Arc<Landing<V>> {
        let flights = &mut self.exclusive().flights;
        let seat = flights.seat(hash, ticket);
        flights.landing(&seat)
    }

    /// The key of the flight of `ticket`, which has not ended, in a cache that measures its entries.
    pub(crate) fn appraised_key(&self, hash: u64, ticket: Ticket) -> Option<Arc<K>> {
        let flights = &self.exclusive().flights;
        flights.at(&flights.seat(hash, ticket)).shared_key()
    }

    /// Takes a caller off a detached flight. If it was the last one this ends the flight; its key is
    /// the caller's to drop.
    pub(crate) fn leave(&self, hash: u64, ticket: Ticket) -> Option<Ended<K, V>> {
        let flight = self.exclusive().flights.leave(hash, ticket)?;
        Some(flight.end())
    }

    /// Ends a flight without publishing a value; its key is the caller's to drop.
    pub(crate) fn end_flight(&self, hash: u64, ticket: Ticket) -> Ended<K, V> {
        let flights = &mut self.exclusive().flights;
        let seat = flights.seat(hash, ticket);
        flights.remove(seat).end()
    }

    /// Keeps the values of loads of `key` that are in flight out of the cache.
    pub(crate) fn fence<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.exclusive().flights.fence(hash, key)
    }

    /// Has a sweep asked about the values of all loads that are in flight.
    pub(crate) fn await_sweep(&self, sweep: &Arc<Predicate<K, V>>) {
        self.exclusive().flights.await_sweep(sweep);
    }

    /// The sweeps to be asked about the value of the flight of `ticket`, which has not ended, and its
    /// key to ask them with.
    pub(crate) fn take_sweeps(&self, hash: u64, ticket: Ticket) -> (Option<Arc<K>>, Sweeps<K, V>) {
        let flights = &mut self.exclusive().flights;
        let seat = flights.seat(hash, ticket);
        flights.take_sweeps(&seat)
    }

    /// Has the flight of `ticket` lose to a sweep; tells whether it is an update, which is carried out and
    /// its value swept away at once. That of a load is kept out, as if a later write had won.
    pub(crate) fn lose(&self, hash: u64, ticket: Ticket) -> bool {
        let flights = &mut self.exclusive().flights;
        let seat = flights.seat(hash, ticket);
        let is_update = flights.at(&seat).is_update();
        if !is_update {
            flights.fence_one(&seat);
        }
        is_update
    }

    /// Keeps the values of those loads in flight out of the cache whose keys are chosen; asked while no
    /// lock is held.
    pub(crate) fn fence_if(&self, is_chosen: &mut impl FnMut(&K) -> bool)
    where
        K: Clone,
    {
        // Made before the lock is taken, so that it is dropped after it is released.
        let mut keys = Vec::new();
        self.locked().flights.keys_into(&mut keys);
        keys.retain(|(_, _, key)| is_chosen(key));
        let flights = &mut self.exclusive().flights;
        keys.iter().for_each(|(hash, ticket, _)| flights.fence_if_there(*hash, *ticket));
    }

    /// Everything but the entries, which others may have pinned.
    fn exclusive(&self) -> RwLockWriteGuard<'_, State<K, V>> {
        // A panic of the user's `Eq` under the lock comes before anything has changed.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writing.
impl<K, V> Shard<K, V> {
    /// Everything, for an update.
    fn writable(&self) -> RwLockWriteGuard<'_, State<K, V>> {
        let state = self.exclusive();
        self.pinned_by.take_back();
        state
    }

    /// Publishes an entry, in `room` or what the ledger still has, else in place of the least recently
    /// used entries that help; `None` if somebody else searches those and `patience` is short.
    ///
    /// The submission keeps its key and value until the entry is in.
    #[inline]
    pub(crate) fn write(
        &self,
        submission: &mut Submission<K, V>,
        room: &mut Room<'_>,
        patience: Patience,
    ) -> Option<Written>
    where
        K: Eq,
    {
        let mut races = 0;
        let mut short = Bound::Entries;
        loop {
            {
                let mut state = self.writable();
                let now = submission.now().map(|now| self.settle(now));
                if races >= MAX_RACES {
                    state.search(short);
                }
                match state.write(submission, now, room) {
                    Written::Unfinished => races = 0,
                    Written::NeedsVictim(bound) => {
                        races += 1;
                        short = bound;
                    }
                    written => return Some(written),
                }
            }
            if races == 0 {
                yield_now();
            } else if self.search(short, patience).is_none() {
                if room.is_empty() {
                    return None;
                }
                // To give up would be to have evicted in vain.
                races = MAX_RACES;
            }
        }
    }

    /// Takes out the least recently used of the entries that help where this bound is `short`, and adds
    /// what it held to the room, if that `is_needed` by the time that the shard is locked for it. Gives
    /// up if there is none, or somebody else searches it.
    pub(crate) fn evict(
        &self,
        short: Bound,
        is_needed: impl Fn() -> bool,
        now: Option<Nanos>,
        room: &mut Room<'_>,
        departed: &mut Departed<K, V>,
    ) -> Option<()> {
        let mut races = 0;
        loop {
            {
                let mut state = self.writable();
                if races == MAX_RACES {
                    state.search(short);
                }
                if !is_needed() {
                    return None;
                }
                let now = now.map(|now| self.settle(now));
                if state.evict(short, now, room, departed).is_some() {
                    return Some(());
                }
                if state.count_helpful(short) == 0 {
                    return None;
                }
            }
            self.search(short, Patience::Try)?;
            races += 1;
        }
    }

    /// Takes out an entry that has expired, if one is soon found, and adds what it held to the room.
    pub(crate) fn expire_one(
        &self,
        now: Nanos,
        room: &mut Room<'_>,
        departed: &mut Departed<K, V>,
    ) -> Expired {
        const STEPS: usize = 16;
        let mut state = self.writable();
        let now = self.settle(now);
        state.expire_one(now, &mut { STEPS }, room, departed)
    }

    /// Takes out expired entries, as many as can be in a short time; tells how many that were. After the
    /// last of them, gives memory back.
    pub(crate) fn purge(
        &self,
        now: Nanos,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> (Purged, usize) {
        const LIMIT: usize = 256;
        const STEPS: usize = 1024;
        let (purged, _old) = {
            let mut state = self.writable();
            let now = self.settle(now);
            let purged = state.free_expired(now, LIMIT, STEPS, ledger, departed);
            let is_done = purged.0 == Purged::All;
            (purged, if is_done { state.compact(ledger) } else { None })
        };
        purged
    }

    /// Removes the entry of `key` and fences its loads.
    pub(crate) fn remove<Q>(
        &self,
        hash: u64,
        key: &Q,
        now: Option<Nanos>,
        ledger: &Ledger,
    ) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        // Made before the lock is taken, so that a panic of `Eq` drops it after that is released.
        let mut removed = Removed::default();
        {
            let mut state = self.writable();
            let now = now.map(|now| self.settle(now));
            state.remove(hash, key, now, ledger, &mut removed);
        }
        removed
    }

    /// Takes out everything and fences all loads. What was there is for the listener, or to be dropped.
    pub(crate) fn clear(
        &self,
        ledger: &Ledger,
        notices: &mut Notices<K, V>,
    ) -> Option<Emptied<K, V>> {
        self.writable().clear(ledger, notices)
    }

    /// Finds the next victims where this bound is `short`, while everybody else goes on; `None` if
    /// somebody else is at it and `patience` is short.
    fn search(&self, short: Bound, patience: Patience) -> Option<()> {
        let _searching = match patience {
            Patience::Block => self.searching.lock().unwrap_or_else(PoisonError::into_inner),
            Patience::Try => match self.searching.try_lock() {
                Ok(searching) => searching,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            },
        };
        let mut search = self.writable().begin_search(short);
        search.run();
        self.exclusive().end_search(search);
        Some(())
    }

    /// The duty to wait for the listener, if it is far behind.
    pub(crate) fn backlog(&self) -> Notices<K, V> {
        let mut notices = Notices::default();
        if let Some(outbox) = &self.locked().outbox {
            notices.add(outbox, 0);
        }
        notices
    }

    /// Keeps others from searching for victims.
    #[cfg(any(test, feature = "__validate"))]
    pub(crate) fn hold_searches(&self) -> MutexGuard<'_, ()> {
        self.searching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Corrects a reading of the clock by what this shard knows of the time, and has it know that too.
    /// The caller has the right to write.
    fn settle(&self, now: Nanos) -> Nanos {
        let latest = self.latest.load(Ordering::Relaxed).max(now);
        self.latest.store(latest, Ordering::Relaxed);
        latest
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> Shard<K, V> {
    /// Asserts that the shard is whole; returns what its entries take and how many flights it has.
    pub(crate) fn validate(&self, ledger: &Ledger) -> (Cost, usize) {
        let state = self.exclusive();
        self.pinned_by.validate(&state.index);
        (state.total_cost(ledger), state.validate(ledger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Incoming;
    use crate::ledger::Ledger;

    fn shard_of_one(ledger: &Ledger) -> Shard<u32, u32> {
        let shard = Shard::new(0, 10, Arc::new(Pins::new(1)), Arc::default(), None);
        let new = Incoming { value: 10, extras: None };
        let mut submission = Submission::new(1, Origin::Caller(Some(1)), new, Fate::Lives, None);
        let written = shard.write(&mut submission, &mut ledger.room(), Patience::Try);
        assert_eq!(written, Some(Written::Done));
        shard
    }

    #[test]
    fn everybody_goes_on_while_another_thread_searches_a_victim() {
        let ledger = Ledger::of_entries(10);
        let shard = shard_of_one(&ledger);
        let _searching = shard.hold_searches();
        assert_eq!(shard.get(1, &1, None), Ok(10));
        let missing = shard.get(2, &2, None).unwrap_err();
        let boarding = shard.board(2, FlightKey::Owned(2), missing, Kind::Led);
        assert!(matches!(boarding, Boarding::Lead(_)));
        assert!(shard.search(Bound::Entries, Patience::Try).is_none());
        let removed = shard.remove(1, &1, None, &ledger);
        assert_eq!(removed.into_value().0, Some(10));
    }
}
