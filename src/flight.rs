//! Single flight: the loads in progress, who leads each, and who waits for it.
//!
//! A [`Flight`] stands in the shard's [`Flights`] from the moment its leader starts until its value is
//! published or its leader gives up. Waiters share a [`Landing`] with it, made by the first of them,
//! so that a load nobody waits for allocates nothing. The landing is closed exactly once, by the
//! [`Arrival`] guard, whatever becomes of the leader.

mod detached;
mod polling;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use equivalent::Equivalent;
use hashbrown::HashTable;
use slab::Slab;

use self::detached::Detached;
pub(crate) use self::detached::{Helm, Progress};
use self::polling::assert_not_within;
pub(crate) use self::polling::{FlightName, Polling};
use crate::bell::wake_all;
use crate::sync::{Mutex, MutexGuard, OnceLock};

/// Tells the flights of one shard apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Whom a flight still concerns besides its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Callers may join; the value will be cached.
    Open,
    /// Nobody may join, since the cache was built without single flight; the value will be cached.
    Private,
    /// A later write has won: nobody may join any more, and the value will not be cached.
    Fenced,
}

/// Where the load of a flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the future of its leader.
    Led,
    /// In its landing, where any caller polls it.
    Detached,
    /// Nowhere: the flight is an update, and its closure in the future of its leader.
    Update,
}

impl Kind {
    /// The landing of a new flight; a load in its leader's future does without until somebody waits.
    fn landing<V>(self) -> Option<Arc<Landing<V>>> {
        match self {
            Self::Led | Self::Update => None,
            Self::Detached => Some(Arc::new(Landing::detached())),
        }
    }
}

/// The key of a flight.
pub(crate) enum FlightKey<K> {
    /// Moves on into the entry when the value is published.
    Owned(K),
    /// Shared with the leader until it has found out about the entry, outside every lock.
    Shared(Arc<K>),
}

impl<K> FlightKey<K> {
    /// Makes the key of a flight, and the leader's share of it if the entry will be measured.
    pub(crate) fn new(key: K, measured: bool) -> (Self, Option<Arc<K>>) {
        if measured {
            let key = Arc::new(key);
            (Self::Shared(Arc::clone(&key)), Some(key))
        } else {
            (Self::Owned(key), None)
        }
    }

    pub(crate) fn get(&self) -> &K {
        match self {
            Self::Owned(key) => key,
            Self::Shared(key) => key,
        }
    }

    /// The same key, to be shared with those who ask about the entry.
    fn into_shared(self) -> Self {
        match self {
            Self::Owned(key) => Self::Shared(Arc::new(key)),
            shared @ Self::Shared(_) => shared,
        }
    }

    /// Takes the key, which the leader does not share any more.
    pub(crate) fn into_inner(self) -> K {
        match self {
            Self::Owned(key) => key,
            Self::Shared(key) => Arc::into_inner(key).expect("the leader has let go of the key"),
        }
    }
}

/// What a sweep asks of an entry: whether it is to go.
pub(crate) type Predicate<K, V> = dyn Fn(&K, &V) -> bool + Send + Sync;

/// The sweeps that began while a load was in flight, to be asked about its value before that is
/// published; mostly none. They are the user's, and thus dropped under no lock.
pub(crate) struct Sweeps<K, V>(Option<Box<Predicates<K, V>>>);

type Predicates<K, V> = Vec<Arc<Predicate<K, V>>>;

impl<K, V> Default for Sweeps<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K, V> Sweeps<K, V> {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |sweeps| sweeps.len())
    }

    fn push(&mut self, sweep: &Arc<Predicate<K, V>>) {
        self.0.get_or_insert_default().push(Arc::clone(sweep));
    }

    /// Whether one of them chooses an entry. Calls user code: never under a lock.
    pub(crate) fn choose(&self, key: &K, value: &V) -> bool {
        self.0.iter().flat_map(|sweeps| &**sweeps).any(|is_chosen| is_chosen(key, value))
    }
}

/// A load in progress.
pub(crate) struct Flight<K, V> {
    hash: u64,
    ticket: Ticket,
    kind: Kind,
    standing: Standing,
    key: FlightKey<K>,
    landing: Option<Arc<Landing<V>>>,
    sweeps: Sweeps<K, V>,
}

/// A flight that has ended, in pieces to be dropped under no lock.
pub(crate) struct Ended<K, V> {
    pub(crate) key: FlightKey<K>,
    /// The duty to tell the waiters, if there are any.
    pub(crate) arrival: Arrival<V>,
    /// Those that were not asked.
    pub(crate) sweeps: Sweeps<K, V>,
}

impl<K, V> Flight<K, V> {
    /// Whether callers may join.
    pub(crate) fn is_open(&self) -> bool {
        self.standing == Standing::Open
    }

    /// Whether its leader brings an entry up to date, which may be there.
    pub(crate) fn is_update(&self) -> bool {
        self.kind == Kind::Update
    }

    /// Whether a later write has won.
    pub(crate) fn is_fenced(&self) -> bool {
        self.standing == Standing::Fenced
    }

    pub(crate) fn key(&self) -> &K {
        self.key.get()
    }

    /// The key, if it is shared.
    pub(crate) fn shared_key(&self) -> Option<Arc<K>> {
        match &self.key {
            FlightKey::Owned(_) => None,
            FlightKey::Shared(key) => Some(Arc::clone(key)),
        }
    }

    /// Whether a sweep has to be asked about its value.
    #[inline]
    pub(crate) fn has_sweeps(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// Has a sweep asked about its value, unless a later write has won anyway.
    fn await_sweep(&mut self, sweep: &Arc<Predicate<K, V>>) {
        /// So many sweeps during one load are not asked any more.
        const MOST: usize = 64;
        if self.sweeps.len() == MOST {
            self.standing = Standing::Fenced;
        }
        if !self.is_fenced() {
            self.sweeps.push(sweep);
        }
    }

    pub(crate) fn end(self) -> Ended<K, V> {
        let arrival = Arrival { landing: self.landing };
        Ended { key: self.key, arrival, sweeps: self.sweeps }
    }
}

/// Where a flight is, as long as its shard stays locked.
pub(crate) struct Seat(usize);

/// The loads in progress in one shard.
pub(crate) struct Flights<K, V> {
    table: HashTable<Flight<K, V>>,
    next_ticket: u64,
}

/// What a caller is to do about a key that is not cached.
pub(crate) enum Boarding<K, V> {
    Lead(Ticket),
    Join(FlightKey<K>, Arc<Landing<V>>, Ticket),
    LookAgain(FlightKey<K>),
}

impl<K, V> Flights<K, V> {
    /// A table that held more than this in a burst gives its memory back when it is empty.
    const KEPT_CAPACITY: usize = 256;

    pub(crate) fn new() -> Self {
        Self { table: HashTable::new(), next_ticket: 0 }
    }

    /// Joins the flight that is open for `key`.
    pub(crate) fn join(&mut self, hash: u64, key: &K) -> Option<(Arc<Landing<V>>, Ticket)>
    where
        K: Eq,
    {
        if self.table.is_empty() {
            return None;
        }
        self.join_if(hash, |flight| flight.is_open() && flight.key() == key)
    }

    /// Joins a flight that an update of `key` has to wait for: the open one, or an update that goes on
    /// although a later write has won over it.
    pub(crate) fn join_for_update(
        &mut self,
        hash: u64,
        key: &K,
    ) -> Option<(Arc<Landing<V>>, Ticket)>
    where
        K: Eq,
    {
        self.join_if(hash, |flight| (flight.is_open() || flight.is_update()) && flight.key() == key)
    }

    fn join_if(
        &mut self,
        hash: u64,
        is_wanted: impl FnMut(&Flight<K, V>) -> bool,
    ) -> Option<(Arc<Landing<V>>, Ticket)> {
        let flight = self.table.find_mut(hash, is_wanted)?;
        let landing = flight.landing.get_or_insert_with(Arc::default);
        landing.count_in();
        Some((Arc::clone(landing), flight.ticket))
    }

    /// Whether the value of a load of `key` that is in flight will be cached.
    pub(crate) fn is_awaited(&self, hash: u64, key: &K) -> bool
    where
        K: Eq,
    {
        let is_awaited = |flight: &Flight<K, V>| !flight.is_fenced() && flight.key() == key;
        self.table.find(hash, is_awaited).is_some()
    }

    /// Starts a flight that others may join.
    pub(crate) fn lead(&mut self, hash: u64, key: FlightKey<K>, kind: Kind) -> Ticket {
        self.start(hash, key, kind, Standing::Open)
    }

    /// Starts a flight for the caller alone.
    pub(crate) fn lead_alone(&mut self, hash: u64, key: FlightKey<K>, kind: Kind) -> Ticket {
        self.start(hash, key, kind, Standing::Private)
    }

    fn start(&mut self, hash: u64, key: FlightKey<K>, kind: Kind, standing: Standing) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let (landing, sweeps) = (kind.landing(), Sweeps::default());
        let flight = Flight { hash, ticket, kind, standing, key, landing, sweeps };
        self.table.insert_unique(hash, flight, |flight| flight.hash);
        ticket
    }

    /// Where the flight of `ticket` is, which its leader has not ended.
    pub(crate) fn seat(&self, hash: u64, ticket: Ticket) -> Seat {
        let place = self.table.find_bucket_index(hash, |flight| flight.ticket == ticket);
        Seat(place.expect("a flight stays in the table until its leader ends it"))
    }

    /// Takes a caller off the flight of `ticket`, if that has not ended; returns the flight if nobody
    /// is left to move its load on.
    pub(crate) fn leave(&mut self, hash: u64, ticket: Ticket) -> Option<Flight<K, V>> {
        let place = self.table.find_bucket_index(hash, |flight| flight.ticket == ticket)?;
        let seat = Seat(place);
        let landing = self.at(&seat).landing.as_ref()?;
        landing.count_out().then(|| self.remove(seat))
    }

    /// Where the waiters of the flight at `seat` meet it.
    pub(crate) fn landing(&mut self, seat: &Seat) -> Arc<Landing<V>> {
        Arc::clone(self.at_mut(seat).landing.get_or_insert_with(Arc::default))
    }

    fn at_mut(&mut self, seat: &Seat) -> &mut Flight<K, V> {
        self.table.get_bucket_mut(seat.0).expect("the flight is still there")
    }

    /// The flight that was found at `seat` under the same lock.
    pub(crate) fn at(&self, seat: &Seat) -> &Flight<K, V> {
        self.table.get_bucket(seat.0).expect("the flight is still there")
    }

    /// Takes out the flight that was found at `seat` under the same lock.
    pub(crate) fn remove(&mut self, seat: Seat) -> Flight<K, V> {
        let Ok(entry) = self.table.get_bucket_entry(seat.0) else {
            unreachable!("the flight is still there")
        };
        let (flight, _) = entry.remove();
        if self.table.is_empty() && self.table.capacity() > Self::KEPT_CAPACITY {
            self.table = HashTable::new();
        }
        flight
    }

    /// Keeps the values of all flights of `key` out of the cache; says whether there was one.
    pub(crate) fn fence<Q>(&mut self, hash: u64, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut found = false;
        for flight in self.table.iter_hash_mut(hash) {
            if flight.hash == hash && !flight.is_fenced() && key.equivalent(flight.key()) {
                flight.standing = Standing::Fenced;
                found = true;
            }
        }
        found
    }

    /// Keeps the values of all other flights of the same key out of the cache as the one at `seat`.
    pub(crate) fn fence_others(&mut self, seat: &Seat)
    where
        K: Eq,
    {
        let own = self.at(seat);
        let (hash, ticket) = (own.hash, own.ticket);
        let is_other = |flight: &&Flight<K, V>| {
            flight.hash == hash
                && flight.ticket != ticket
                && !flight.is_fenced()
                && flight.key() == own.key()
        };
        // Usually none: only a cache without single flight has others that are not fenced.
        let others: Vec<Ticket> =
            self.table.iter_hash(hash).filter(is_other).map(|flight| flight.ticket).collect();
        for other in others {
            if let Some(flight) = self.table.find_mut(hash, |flight| flight.ticket == other) {
                flight.standing = Standing::Fenced;
            }
        }
    }

    /// Keeps the value of the flight at `seat` out of the cache.
    pub(crate) fn fence_one(&mut self, seat: &Seat) {
        self.at_mut(seat).standing = Standing::Fenced;
    }

    /// Has a sweep asked about the value of every flight that there is.
    pub(crate) fn await_sweep(&mut self, sweep: &Arc<Predicate<K, V>>) {
        // Taken out and put back, since a key has to be moved to be shared.
        let flights: Vec<_> = self.table.drain().collect();
        for mut flight in flights {
            flight.key = flight.key.into_shared();
            flight.await_sweep(sweep);
            self.table.insert_unique(flight.hash, flight, |flight| flight.hash);
        }
    }

    /// The sweeps to be asked about the value of the flight at `seat`, and its key to ask them with.
    pub(crate) fn take_sweeps(&mut self, seat: &Seat) -> (Option<Arc<K>>, Sweeps<K, V>) {
        let flight = self.at_mut(seat);
        (flight.shared_key(), std::mem::take(&mut flight.sweeps))
    }

    /// Copies the keys of all flights whose values will be cached, with what tells the flights apart.
    pub(crate) fn keys_into(&self, keys: &mut Vec<(u64, Ticket, K)>)
    where
        K: Clone,
    {
        for flight in self.table.iter().filter(|flight| !flight.is_fenced()) {
            keys.push((flight.hash, flight.ticket, flight.key().clone()));
        }
    }

    /// Keeps the value of the flight of `ticket` out of the cache, if it has not ended.
    pub(crate) fn fence_if_there(&mut self, hash: u64, ticket: Ticket) {
        if let Some(flight) = self.table.find_mut(hash, |flight| flight.ticket == ticket) {
            flight.standing = Standing::Fenced;
        }
    }

    /// Keeps the values of all flights out of the cache.
    pub(crate) fn fence_all(&mut self) {
        for flight in &mut self.table {
            flight.standing = Standing::Fenced;
        }
    }

    /// Gives memory back that a burst has left.
    pub(crate) fn compact(&mut self) {
        let kept = Self::KEPT_CAPACITY.max(4 * self.table.len());
        if self.table.capacity() > kept {
            self.table.shrink_to_fit(|flight| flight.hash);
        }
    }

    /// Bytes that the table has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        self.table.allocation_size()
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> Flights<K, V> {
    /// Asserts that tickets tell flights apart and that no key has two flights to join; returns how
    /// many flights there are.
    pub(crate) fn validate(&self) -> usize {
        for flight in &self.table {
            assert!(flight.ticket.0 < self.next_ticket);
            let is_twin = |other: &&Flight<K, V>| {
                other.ticket == flight.ticket
                    || other.is_open() && flight.is_open() && other.key() == flight.key()
            };
            assert_eq!(self.table.iter_hash(flight.hash).filter(is_twin).count(), 1);
        }
        self.table.len()
    }
}

/// What the waiters of a flight get.
pub(crate) enum Outcome<V> {
    Value(V),
    /// An error that the leader shares; of the type that its own call returns.
    Failure(Box<dyn Any + Send + Sync>),
    /// Nothing: the load failed, panicked or was dropped, and the waiters are on their own.
    Abandoned,
}

/// Where a flight and its waiters meet.
pub(crate) struct Landing<V> {
    outcome: OnceLock<Outcome<V>>,
    course: Course<V>,
}

/// How a flight comes to its end.
enum Course<V> {
    /// By its leader, for whom these wait.
    Led(Waiters),
    /// By all who wait for it.
    Detached(Detached<V>),
}

impl<V> Default for Landing<V> {
    fn default() -> Self {
        Self { outcome: OnceLock::new(), course: Course::Led(Waiters::default()) }
    }
}

impl<V> Landing<V> {
    fn waiters(&self) -> &Waiters {
        match &self.course {
            Course::Led(waiters) => waiters,
            Course::Detached(detached) => detached.waiters(),
        }
    }

    /// Waits for the end of `flight`, whose landing this is.
    ///
    /// # Panics
    ///
    /// If it is polled by the load of that very flight.
    pub(crate) fn wait(&self, flight: FlightName) -> Wait<'_, V> {
        Wait { landing: self, flight, place: None }
    }
}

/// Who to wake; `None` once the flight has ended.
///
/// Wakers are taken out and woken after unlocking. An event that wakes under its own lock would
/// deadlock on a waker whose last clone drops the task it wakes, and with it another waiter.
struct Waiters(Mutex<Option<Slab<Option<Waker>>>>);

impl Default for Waiters {
    fn default() -> Self {
        Self(Mutex::new(Some(Slab::new())))
    }
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Option<Slab<Option<Waker>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody, to look again; each keeps its place.
    fn wake(&self) {
        let wakers: Vec<Waker> = match self.lock().as_mut() {
            Some(wakers) => wakers.iter_mut().filter_map(|(_, waker)| waker.take()).collect(),
            None => return,
        };
        wake_all(wakers.into_iter());
    }

    /// Wakes everybody for the last time.
    fn close(&self) {
        let wakers = self.lock().take();
        wake_all(wakers.into_iter().flatten().filter_map(|(_, waker)| waker));
    }
}

/// The future of a waiter. Dropping it takes the waiter off the list; nobody depends on it.
pub(crate) struct Wait<'a, V> {
    landing: &'a Landing<V>,
    flight: FlightName,
    /// Where this waiter's waker is kept.
    place: Option<usize>,
}

impl<'a, V> Future for Wait<'a, V> {
    type Output = &'a Outcome<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let landing = self.landing;
        if let Some(outcome) = landing.outcome.get() {
            // Whoever has set it takes all wakers out.
            self.place = None;
            return Poll::Ready(outcome);
        }
        assert_not_within(self.flight, cx.waker());
        // Cloning runs the executor's code, so not under the lock.
        let mut fresh = self.place.is_none().then(|| cx.waker().clone());
        loop {
            // Declared before the lock is taken, so dropped after it is released.
            let _stale: Option<Waker>;
            let mut waiting = landing.waiters().lock();
            let Some(wakers) = waiting.as_mut() else { break };
            let known = self.place.and_then(|place| wakers[place].as_ref());
            if known.is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            let Some(waker) = fresh.take() else {
                drop(waiting);
                fresh = Some(cx.waker().clone());
                continue;
            };
            match self.place {
                Some(place) => _stale = wakers[place].replace(waker),
                None => self.place = Some(wakers.insert(Some(waker))),
            }
            return Poll::Pending;
        }
        self.place = None;
        Poll::Ready(landing.outcome.get().unwrap_or(&Outcome::Abandoned))
    }
}

impl<V> Drop for Wait<'_, V> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waiters = self.landing.waiters();
            let _waker = waiters.lock().as_mut().and_then(|wakers| wakers.remove(place));
        }
    }
}

/// The duty to tell the waiters of an ended flight. Without [`land`](Self::land) it was abandoned.
#[must_use]
pub(crate) struct Arrival<V> {
    landing: Option<Arc<Landing<V>>>,
}

/// Nobody waits.
impl<V> Default for Arrival<V> {
    fn default() -> Self {
        Self { landing: None }
    }
}

impl<V> Arrival<V> {
    /// Gives the waiters, if there are any, what `outcome` makes.
    pub(crate) fn land(self, outcome: impl FnOnce() -> Outcome<V>) {
        if let Some(landing) = &self.landing {
            // Empty until now: only the one arrival of the flight sets it.
            let _ = landing.outcome.set(outcome());
        }
    }
}

impl<V> Drop for Arrival<V> {
    fn drop(&mut self) {
        if let Some(landing) = self.landing.take() {
            landing.waiters().close();
        }
    }
}
