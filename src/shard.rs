//! One shard: its locks, the order in which they are taken, and what happens under them.

use std::hint;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{
    Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};
use std::thread;

use equivalent::Equivalent;
use futures_lite::future;

use crate::clock::{NEVER, Nanos};
use crate::counters::Event;
use crate::expiry::ExpiryOrder;
use crate::flight::{Arrival, Boarding, FlightKey, Flights, Ticket};
use crate::index::{Entry, Incoming, Index, Slot};
use crate::ledger::{Ledger, Room};
use crate::list::LruList;
use crate::stamp::{self, Stamp};

/// How many expired entries a write frees on its way.
const PURGED_PER_WRITE: usize = 4;

/// How many times a victim may slip away, used between the search and the lock, before the search is
/// made under the exclusive lock, where nothing slips away.
const MAX_RACES: usize = 3;

/// A part of the cache, with locks of its own.
///
/// Locks are taken in the order `order`, `index`, `flights`; any may be skipped. No lock is held across
/// an await, and under none of them runs any of the user's code but `K: Eq`, and `V: Clone` (`K: Clone`
/// for a list of keys) under a shared lock of `index`; what has to be dropped or woken is moved out
/// first.
#[repr(align(128))]
pub(crate) struct Shard<K, V> {
    /// Who leaves next. Whoever holds this is the only writer of the shard: entries stay as they are,
    /// and a flight is not fenced, unless by the holder. Held during a search for a victim, so async
    /// code never blocks on it.
    order: Mutex<Order>,
    /// The entries. Shared for a hit and for a victim search, exclusive for the time of one update;
    /// only the holder of `order` asks for the latter, so a hit never waits behind a search.
    index: RwLock<Index<K, V>>,
    /// The loads in progress. Held for the time of one table operation.
    flights: Mutex<Flights<K, V>>,
    /// Raised by every write that adds an entry, under the exclusive lock of `index`.
    epoch: AtomicU64,
    /// The latest time at which an entry was written or seen expired here: for this shard, time does
    /// not step back, whatever the clock does.
    latest: AtomicU64,
    /// Bytes of `order` when it was last free to be looked at.
    order_size: AtomicUsize,
}

/// What a shard holds and takes.
pub(crate) struct Size {
    pub(crate) entries: usize,
    /// Sum of the entries' measured bytes.
    pub(crate) measured: u128,
    /// Bytes that the shard has allocated.
    pub(crate) allocated: usize,
}

/// Who leaves the shard next, for want of room and for want of time.
struct Order {
    lru: LruList,
    expiry: ExpiryOrder,
}

impl Order {
    fn new() -> Self {
        Self { lru: LruList::default(), expiry: ExpiryOrder::new() }
    }

    fn heap_size(&self) -> usize {
        self.lru.heap_size() + self.expiry.heap_size()
    }
}

/// How a writer deals with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Give up at once; async callers come back later.
    Try,
    /// Block the thread.
    Block,
}

/// Repeats `attempt` until no other writer stands in its way, leaving the thread to other tasks.
///
/// Writers do not queue: a turn that is given to a future which nobody polls any more would hold up
/// all others.
pub(crate) async fn patiently<R>(mut attempt: impl FnMut(Patience) -> Option<R>) -> R {
    const SPINS: u32 = 64;
    let mut spins = 0;
    loop {
        if let Some(result) = attempt(Patience::Try) {
            return result;
        }
        if spins < SPINS {
            spins += 1;
            hint::spin_loop();
        } else {
            future::yield_now().await;
        }
    }
}

/// Repeats `attempt` until no other writer stands in its way, blocking the thread.
pub(crate) fn blocking<R>(mut attempt: impl FnMut(Patience) -> Option<R>) -> R {
    loop {
        match attempt(Patience::Block) {
            Some(result) => return result,
            None => thread::yield_now(),
        }
    }
}

/// What an operation took out of a shard, to be dropped once all locks are released and nothing else
/// is left to do: a panic of the user's `Drop` would leak whatever is then on its way to a caller.
pub(crate) struct Departed<K, V> {
    pub(crate) evicted: Option<Entry<K, V>>,
    pub(crate) expired: Vec<Entry<K, V>>,
    /// An expired value that was replaced in its place, or one that a fence kept out.
    value: Option<V>,
    /// A key that was there already.
    key: Option<K>,
    /// The key of a flight whose value is not cached.
    flight_key: Option<FlightKey<K>>,
}

impl<K, V> Default for Departed<K, V> {
    fn default() -> Self {
        Self { evicted: None, expired: Vec::new(), value: None, key: None, flight_key: None }
    }
}

/// Where a new entry's key comes from.
pub(crate) enum Origin<K> {
    /// From the caller, whose value wins over loads in flight. `None` once the entry is in.
    Caller(Option<K>),
    /// From the flight whose value it is.
    Flight(Ticket),
}

/// An entry on its way in, kept together over as many attempts as it takes, and what came of it.
pub(crate) struct Submission<K, V> {
    hash: u64,
    origin: Origin<K>,
    /// `None` once the entry is in, or kept out by a fence.
    new: Option<Incoming<V>>,
    /// The time of publication, from which the new entry's deadline was computed.
    now: Option<Nanos>,
    /// The live value that was there before.
    replaced: Option<V>,
    /// The waiters to be told, if the value was a flight's.
    arrival: Option<Arrival<V>>,
    departed: Departed<K, V>,
}

impl<K, V> Submission<K, V> {
    pub(crate) fn new(hash: u64, origin: Origin<K>, new: Incoming<V>, now: Option<Nanos>) -> Self {
        let departed = Departed::default();
        Self { hash, origin, new: Some(new), now, replaced: None, arrival: None, departed }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn now(&self) -> Option<Nanos> {
        self.now
    }

    /// When the entry expires, or somewhat earlier.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        self.new.as_ref().and_then(|new| new.deadline)
    }

    /// Where to put what makes room for the entry.
    pub(crate) fn departed(&mut self) -> &mut Departed<K, V> {
        &mut self.departed
    }

    /// The value that was there before, once everything else is dropped: a value that is on its way to
    /// the caller would be leaked by a `Drop` that panics after it.
    pub(crate) fn into_replaced(self) -> Option<V> {
        let Self { replaced, departed, .. } = self;
        drop(departed);
        replaced
    }

    /// The waiters of the flight whose value it was. They come before what has to be dropped.
    pub(crate) fn take_arrival(&mut self) -> Arrival<V> {
        self.arrival.take().unwrap_or_default()
    }

    fn take_key(&mut self, flights: &mut Flights<K, V>) -> K {
        match &mut self.origin {
            Origin::Caller(key) => key.take().expect("an entry goes in once"),
            Origin::Flight(ticket) => {
                let (key, arrival) = flights.remove(self.hash, *ticket).end();
                self.arrival = Some(arrival);
                key.into_inner()
            }
        }
    }

    /// Ends the flight of a value that a later write keeps out.
    fn turn_away(&mut self, flights: &mut Flights<K, V>, ticket: Ticket) {
        let (key, arrival) = flights.remove(self.hash, ticket).end();
        self.arrival = Some(arrival);
        self.departed.flight_key = Some(key);
        self.departed.value = self.new.take().map(|new| new.value);
    }

    /// Takes the value; `now` is the time of publication as the shard knows it.
    fn take_value(&mut self, now: Option<Nanos>) -> Incoming<V> {
        let mut new = self.new.take().expect("an entry goes in once");
        let late = now.zip(self.now).map_or(0, |(settled, read)| settled - read);
        new.deadline = new.deadline.map(|deadline| deadline.saturating_add(late));
        new
    }
}

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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of the user's `Eq` under the lock comes before anything has changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A look at a shard's entries, under the shared lock.
impl<K, V> Shard<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            order: Mutex::new(Order::new()),
            index: RwLock::new(Index::new()),
            flights: Mutex::new(Flights::new()),
            epoch: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            order_size: AtomicUsize::new(0),
        }
    }

    /// A name for the shard that lasts as long as it is borrowed.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Returns the live value of `key` and counts that as a use; otherwise the epoch of the look.
    #[inline]
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q, now: Option<Nanos>) -> Result<V, u64>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let index = self.read();
        let epoch = self.epoch.load(Ordering::Relaxed);
        let slot = self.find_live(&index, hash, key, now).ok_or(epoch)?;
        index.touch(slot, stamp::of_read(epoch));
        Ok(index.entry(slot).value.clone())
    }

    /// Lets `look` at the live value of `key`, without counting that as a use.
    pub(crate) fn peek<Q, R>(
        &self,
        hash: u64,
        key: &Q,
        now: Option<Nanos>,
        look: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let index = self.read();
        let slot = self.find_live(&index, hash, key, now)?;
        Some(look(&index.entry(slot).value))
    }

    /// Adds the live keys to `keys`, least recently used first.
    pub(crate) fn keys_into(&self, keys: &mut Vec<K>, now: Option<Nanos>)
    where
        K: Clone,
    {
        let mut found: Vec<(Stamp, K)> = {
            let index = self.read();
            let is_live = |slot| now.is_none_or(|now| !index.is_expired(slot, self.settle(now)));
            let live = index.iter().filter(|(slot, ..)| is_live(*slot));
            live.map(|(_, stamp, entry)| (stamp, entry.key.clone())).collect()
        };
        found.sort_by_key(|(stamp, _)| *stamp);
        keys.extend(found.into_iter().map(|(_, key)| key));
    }

    /// What the shard holds and takes. Does not wait for a writer: while one is at work, the orders of
    /// eviction and expiry count as they were when last seen.
    pub(crate) fn size(&self) -> Size {
        if let Some(writer) = self.writer(Patience::Try) {
            self.order_size.store(writer.order.heap_size(), Ordering::Relaxed);
        }
        let flights = self.flights().heap_size();
        let index = self.read();
        Size {
            entries: index.len(),
            measured: index.measured(),
            allocated: index.heap_size() + flights + self.order_size.load(Ordering::Relaxed),
        }
    }

    #[inline]
    fn read(&self) -> RwLockReadGuard<'_, Index<K, V>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn find_live<Q>(
        &self,
        index: &Index<K, V>,
        hash: u64,
        key: &Q,
        now: Option<Nanos>,
    ) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let slot = index.find(hash, key)?;
        if let Some(now) = now {
            let now = self.settle(now);
            if index.is_expired(slot, now) {
                // From here on nobody may see the entry alive, even if the clock steps back.
                self.latest.fetch_max(now, Ordering::Relaxed);
                return None;
            }
        }
        Some(slot)
    }

    /// Corrects a reading of the clock by what this shard knows of the time.
    fn settle(&self, now: Nanos) -> Nanos {
        now.max(self.latest.load(Ordering::Relaxed))
    }
}

/// Loads in progress.
impl<K, V> Shard<K, V> {
    /// Joins the open flight of `key`, or starts one with it. `None` if the shard was written to since
    /// `epoch`, when the key was not there: it may be now.
    ///
    /// A publication raises the epoch before it takes its flight out, both while it holds `flights`. So
    /// whoever finds no flight and an unmoved epoch comes neither too late to join nor too early to
    /// find the value.
    pub(crate) fn board(
        &self,
        hash: u64,
        key: &mut Option<FlightKey<K>>,
        epoch: u64,
    ) -> Option<Boarding<V>>
    where
        K: Eq,
    {
        let mut flights = self.flights();
        if let Some((landing, ticket)) = flights.join(hash, key.as_ref()?.get()) {
            return Some(Boarding::Join(landing, ticket));
        }
        if self.epoch.load(Ordering::Relaxed) != epoch {
            return None;
        }
        Some(Boarding::Lead(flights.lead(hash, key.take()?)))
    }

    /// Starts a flight that nobody can join.
    pub(crate) fn fly_alone(&self, hash: u64, key: FlightKey<K>) -> Ticket {
        self.flights().lead_alone(hash, key)
    }

    /// Ends a flight without publishing a value; its key is the caller's to drop.
    pub(crate) fn end_flight(&self, hash: u64, ticket: Ticket) -> (FlightKey<K>, Arrival<V>) {
        self.flights().remove(hash, ticket).end()
    }

    /// Keeps the values of loads of `key` that are in flight out of the cache.
    pub(crate) fn fence<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.flights().fence(hash, key)
    }

    fn flights(&self) -> MutexGuard<'_, Flights<K, V>> {
        lock(&self.flights)
    }
}

/// Writing.
impl<K, V> Shard<K, V> {
    /// Becomes the only writer of the shard; `None` if there is one and `patience` is short.
    pub(crate) fn writer(&self, patience: Patience) -> Option<Writer<'_, K, V>> {
        let order = match patience {
            Patience::Block => lock(&self.order),
            Patience::Try => match self.order.try_lock() {
                Ok(order) => order,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            },
        };
        Some(Writer { shard: self, order })
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index<K, V>> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a new epoch, under the exclusive lock of `index`; returns the stamp of the write.
    fn raise_epoch(&self) -> Stamp {
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        self.epoch.store(epoch, Ordering::Relaxed);
        stamp::of_write(epoch)
    }
}

/// The right to write to a shard.
pub(crate) struct Writer<'a, K, V> {
    shard: &'a Shard<K, V>,
    order: MutexGuard<'a, Order>,
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
        let hash = submission.hash;
        let now = submission.now.map(|now| shard.settle(now));
        if self.order.lru.is_used_up() && ledger.is_full() {
            self.search();
        }
        let mut races = 0;
        loop {
            let mut index = shard.index_mut();
            let mut flights = shard.flights();
            let departed = &mut submission.departed;
            self.free_expired(&mut index, now, PURGED_PER_WRITE, ledger, departed);

            // What the user's `Eq` has to say comes before anything that must be whole.
            let existing = match &submission.origin {
                Origin::Caller(key) => {
                    let key = key.as_ref().expect("a submission keeps its key until it is in");
                    flights.fence(hash, key);
                    index.find(hash, key)
                }
                Origin::Flight(ticket) => {
                    let flight = flights.of(hash, *ticket);
                    if flight.is_fenced() {
                        submission.turn_away(&mut flights, *ticket);
                        return Written::Done;
                    }
                    if flight.is_open() && !index.has_deadlines() {
                        // Whoever else publishes the key fences the flight.
                        None
                    } else {
                        index.find(hash, flight.key())
                    }
                }
            };
            if existing.is_none() {
                room = room.or_else(|| ledger.reserve());
            }
            let victim = if existing.is_some() || room.is_some() {
                None
            } else if index.is_empty() {
                return Written::NeedsRoom;
            } else if let Some(victim) = self.pop_victim(&index, races) {
                Some(victim)
            } else {
                drop(flights);
                drop(index);
                self.search();
                races += 1;
                continue;
            };

            let stamp = shard.raise_epoch();
            let key = submission.take_key(&mut flights);
            let new = submission.take_value(now);
            let deadline = new.deadline;
            if let Some(victim) = victim {
                submission.departed.evicted = Some(self.detach(&mut index, victim));
                ledger.counters.count(Event::Eviction);
            }
            let slot = match existing {
                Some(slot) => {
                    submission.departed.key = Some(key);
                    let expired = now.is_some_and(|now| index.is_expired(slot, now));
                    let value = index.replace(slot, new, stamp);
                    if expired {
                        submission.departed.value = Some(value);
                        ledger.counters.count(Event::Expiration);
                    } else {
                        submission.replaced = Some(value);
                    }
                    if deadline.is_some() {
                        self.order.expiry.remove(slot);
                    }
                    slot
                }
                None => {
                    let slot = index.insert(hash, key, new, stamp);
                    if let Some(room) = room {
                        room.fill();
                    }
                    slot
                }
            };
            if deadline.is_some() {
                self.order.expiry.push(slot);
            }
            if let Some(now) = now {
                shard.latest.fetch_max(now, Ordering::Relaxed);
            }
            return Written::Done;
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
                    ledger.counters.count(Event::Eviction);
                    return Some(self.detach(&mut index, victim));
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
        ledger.counters.count(Event::Expiration);
        Some(self.detach(&mut index, slot))
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
        let expired = now.is_some_and(|now| index.is_expired(slot, now));
        let entry = self.detach(&mut index, slot);
        ledger.release(1);
        if expired {
            ledger.counters.count(Event::Expiration);
            departed.expired.push(entry);
            return Removed { entry: None, fenced };
        }
        Removed { entry: Some(entry), fenced }
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
            departed.expired.push(self.detach(index, slot));
            ledger.release(1);
            ledger.counters.count(Event::Expiration);
        }
    }

    /// Takes the entry out of `slot`; the order of eviction finds out by the stamp.
    fn detach(&mut self, index: &mut Index<K, V>, slot: Slot) -> Entry<K, V> {
        if index.has_deadlines() {
            self.order.expiry.remove(slot);
        }
        index.remove(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_goes_on_while_another_thread_searches_a_victim() {
        let shard = Shard::<u32, u32>::new();
        let ledger = Ledger::new(10);
        let new = Incoming { value: 10, deadline: None, size: None };
        let mut submission = Submission::new(1, Origin::Caller(Some(1)), new, None);
        let mut writer = shard.writer(Patience::Block).unwrap();
        writer.write(&mut submission, &ledger, None);

        // What a search holds: the order, and the index shared.
        let _searched = shard.read();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(shard.get(1, &1, None), Ok(10));
                assert_eq!(shard.get(2, &2, None), Err(1));
                assert!(shard.board(2, &mut Some(FlightKey::Owned(2)), 1).is_some());
                assert!(shard.writer(Patience::Try).is_none());
            });
        });
    }
}
