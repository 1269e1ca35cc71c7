//! One shard: its locks, the order in which they are taken, and what happens under them.

mod submission;
mod writer;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{
    Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

use equivalent::Equivalent;

pub(crate) use self::submission::{Departed, Origin, Submission};
pub(crate) use self::writer::{Removed, Writer, Written};
use crate::clock::{Nanos, Now};
use crate::expiry::ExpiryOrder;
use crate::flight::{Arrival, Boarding, FlightKey, Flights, Ticket};
use crate::index::{Index, Slot};
use crate::list::LruList;
use crate::patience::Patience;
use crate::stamp::{self, Stamp};

/// A part of the cache, with locks of its own.
///
/// Locks are taken in the order `order`, `index`, `flights`; any may be skipped. No lock is held across
/// an await, and under none of them runs any of the user's code but `K: Eq`, and `V: Clone` (`K: Clone`
/// for a list of keys) under a shared lock of `index`; what has to be dropped or woken is moved out
/// first.
///
/// In the order of the fields, so that what a hit reads of a shard lies on its first two cache lines.
#[repr(C, align(128))]
pub(crate) struct Shard<K, V> {
    /// Raised by every write that adds an entry, under the exclusive lock of `index`.
    epoch: AtomicU64,
    /// The latest time at which an entry was written or seen expired here: for this shard, time does
    /// not step back, whatever the clock does.
    latest: AtomicU64,
    /// The entries. Shared for a hit and for a victim search, exclusive for the time of one update;
    /// only the holder of `order` asks for the latter, so a hit never waits behind a search.
    index: RwLock<Index<K, V>>,
    /// The loads in progress. Held for the time of one table operation.
    flights: Mutex<Flights<K, V>>,
    /// Who leaves next. Whoever holds this is the only writer of the shard: entries stay as they are,
    /// and a flight is not fenced, unless by the holder. Held during a search for a victim, so async
    /// code never blocks on it.
    order: Mutex<Order>,
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
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q, now: Option<Now<'_>>) -> Result<V, u64>
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
        now: Option<Now<'_>>,
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
    pub(crate) fn keys_into(&self, keys: &mut Vec<K>, now: Option<Now<'_>>)
    where
        K: Clone,
    {
        let mut found: Vec<(Stamp, K)> = {
            let index = self.read();
            let is_live = |slot| now.is_none_or(|now| !self.is_expired(&index, slot, now));
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
            self.advance(deadline);
            return true;
        }
        is_known
    }

    /// Corrects a reading of the clock by what this shard knows of the time.
    #[inline]
    fn settle(&self, now: Nanos) -> Nanos {
        now.max(self.latest.load(Ordering::Relaxed))
    }

    /// From here on it is at least `now`.
    fn advance(&self, now: Nanos) {
        self.latest.fetch_max(now, Ordering::Relaxed);
    }
}

/// Loads in progress.
impl<K, V> Shard<K, V> {
    /// Joins the open flight of `key`, or starts one with it, unless the shard was written to since
    /// `epoch`, when the key was not there: it may be now.
    ///
    /// A publication raises the epoch before it takes its flight out, both while it holds `flights`. So
    /// whoever finds no flight and an unmoved epoch comes neither too late to join nor too early to
    /// find the value.
    pub(crate) fn board(&self, hash: u64, key: FlightKey<K>, epoch: u64) -> Boarding<K, V>
    where
        K: Eq,
    {
        let mut flights = self.flights();
        if let Some((landing, ticket)) = flights.join(hash, key.get()) {
            return Boarding::Join(key, landing, ticket);
        }
        if self.epoch.load(Ordering::Relaxed) != epoch {
            return Boarding::LookAgain(key);
        }
        Boarding::Lead(flights.lead(hash, key))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Incoming;
    use crate::ledger::Ledger;

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
                let boarding = shard.board(2, FlightKey::Owned(2), 1);
                assert!(matches!(boarding, Boarding::Lead(_)));
                assert!(shard.writer(Patience::Try).is_none());
            });
        });
    }
}
