//! Single flight: the loads in progress, who leads each, and who waits for it.
//!
//! A [`Flight`] stands in the shard's [`Flights`] from the moment its leader starts until its value is
//! published or its leader gives up. Waiters share a [`Landing`] with it, made by the first of them,
//! so that a load nobody waits for allocates nothing. The landing is closed exactly once, by the
//! [`Arrival`] guard, whatever becomes of the leader.

mod detached;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use equivalent::Equivalent;
use hashbrown::HashTable;
use slab::Slab;

use self::detached::Detached;
pub(crate) use self::detached::{Helm, Progress};
use crate::sync::{Mutex, MutexGuard, OnceLock, thread_local};

/// Tells the flights of one shard apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Shared with the leader until it has measured the entry, outside every lock.
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

    /// Takes the key, which the leader does not share any more.
    pub(crate) fn into_inner(self) -> K {
        match self {
            Self::Owned(key) => key,
            Self::Shared(key) => Arc::into_inner(key).expect("the leader has let go of the key"),
        }
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

    /// The key, in a cache that measures its entries.
    pub(crate) fn appraised_key(&self) -> Option<Arc<K>> {
        match &self.key {
            FlightKey::Owned(_) => None,
            FlightKey::Shared(key) => Some(Arc::clone(key)),
        }
    }

    /// Ends the flight: its key, and the duty to tell the waiters if there are any.
    pub(crate) fn end(self) -> (FlightKey<K>, Arrival<V>) {
        (self.key, Arrival { landing: self.landing })
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
        let flight = Flight { hash, ticket, kind, standing, key, landing: kind.landing() };
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
        let flight = self.table.get_bucket_mut(seat.0).expect("the flight is still there");
        Arc::clone(flight.landing.get_or_insert_with(Arc::default))
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
        assert_not_within(self.flight);
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

/// Wakes everybody, even if a waker panics; then the first panic goes on.
fn wake_all(wakers: impl Iterator<Item = Waker>) {
    let mut first_panic = None;
    for waker in wakers {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            first_panic.get_or_insert(payload);
        }
    }
    if let Some(payload) = first_panic {
        // A second panic while one unwinds would abort the process.
        if !thread::panicking() {
            panic::resume_unwind(payload);
        }
    }
}

/// A flight, named for the whole process: the address of its shard and its ticket.
pub(crate) type FlightName = (usize, Ticket);

/// How many flights within one another are kept track of without an allocation.
const SHALLOW: usize = 8;

/// The flights whose loads are being polled on a thread right now, outermost first.
///
/// Most loads are polled within no other, so the first few have a place in the thread-local itself,
/// which needs no destructor and is there at any time.
struct PollingStack {
    depth: Cell<usize>,
    shallow: [Cell<FlightName>; SHALLOW],
}

thread_local! {
    static POLLING: PollingStack = const {
        PollingStack {
            depth: Cell::new(0),
            shallow: [const { Cell::new((0, Ticket(0))) }; SHALLOW],
        }
    };
    /// The flights beyond the first few.
    static DEEP_POLLING: RefCell<Vec<FlightName>> = const { RefCell::new(Vec::new()) };
}

/// Marks a flight as one whose load is being polled, for as long as the mark lives.
pub(crate) struct Polling;

impl Polling {
    #[inline]
    pub(crate) fn enter(flight: FlightName) -> Self {
        POLLING.with(|polling| {
            let depth = polling.depth.get();
            match polling.shallow.get(depth) {
                Some(place) => place.set(flight),
                None => with_deep_polling(|deep| deep.push(flight)),
            }
            polling.depth.set(depth + 1);
        });
        Self
    }
}

impl Drop for Polling {
    #[inline]
    fn drop(&mut self) {
        POLLING.with(|polling| {
            let depth = polling.depth.get() - 1;
            polling.depth.set(depth);
            if depth >= SHALLOW {
                with_deep_polling(|deep| deep.truncate(depth - SHALLOW));
            }
        });
    }
}

/// Does `what` to the flights beyond the first few. A dying thread may have lost them, and with them
/// merely the check.
#[cold]
fn with_deep_polling(what: impl FnOnce(&mut Vec<FlightName>)) {
    let _ = DEEP_POLLING.try_with(|deep| what(&mut deep.borrow_mut()));
}

/// Panics if the caller runs inside the load of `flight`, which would then wait for itself.
fn assert_not_within(flight: FlightName) {
    let within_shallow = POLLING.with(|polling| {
        let depth = polling.depth.get().min(SHALLOW);
        polling.shallow[..depth].iter().any(|place| place.get() == flight)
    });
    let mut within_deep = false;
    with_deep_polling(|deep| within_deep = deep.contains(&flight));
    assert!(
        !within_shallow && !within_deep,
        "recursive load: a loader asked the cache for the key that it is loading itself, \
         directly or through the loads of other keys, and would wait for itself for ever"
    );
}
