//! All shards together: which shard a key lives in, and what concerns all of them.

mod alarm;
pub(crate) mod clear;
pub(crate) mod limit_ttl;
pub(crate) mod many;
pub(crate) mod publish;
pub(crate) mod purge;
pub(crate) mod resize;
pub(crate) mod restore;
pub(crate) mod snapshot;
pub(crate) mod steps;
pub(crate) mod sweep;

use std::hash::{BuildHasher, Hash};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use equivalent::Equivalent;

use self::alarm::Alarm;
use crate::appraisal::Appraised;
use crate::clock::NEVER;
use crate::deep_size::shared_size;
use crate::entries::Kind;
use crate::entries::freshness::{Age, Claim, Freshness};
use crate::flight::Coalescing;
use crate::flight::attempt::Running;
use crate::flight::load_timer::LoadTimer;
use crate::flight::trace::LoadSpan;
#[cfg(feature = "__validate")]
use crate::policy::capacity::Cost;
use crate::policy::capacity::{Capacity, Limits};
use crate::policy::eviction::Eviction;
use crate::policy::lifetime::Lifetimes;
use crate::policy::measure::Measures;
use crate::removal::Listener;
use crate::shard::Shard;
use crate::shard::common::Common;
use crate::shard::departed::Departed;
use crate::shard::hit::Found;
use crate::shard::lead_or_join::{FlightRef, LeadOrJoin, LeftFlight, LoadRequest};
use crate::shard::removals::{Deliveries, RemovalQueue};
use crate::shard::remove::Removed;
use crate::sync::counters::{Event, Totals};
use crate::sync::notify::Notify;
use crate::sync::threads;
use crate::sync::unwind::caught;

/// The hash by which a key's shard and its place there are found. A user's hasher may leave any of its bits
/// constant; here every bit depends on all of them.
#[inline]
pub(crate) fn hash_of<Q: Hash + ?Sized>(hasher: &impl BuildHasher, key: &Q) -> u64 {
    let product = u128::from(hasher.hash_one(key)) * 0x9E37_79B9_7F4A_7C15;
    product as u64 ^ (product >> 64) as u64
}

/// Has an executor move flights on that nobody else polls.
pub(crate) type Spawn<K, V> = dyn Fn(Weak<Store<K, V>>, Vec<LeftFlight<V>>) + Send + Sync;

/// The entries of a cache, and the rules by which they come and go.
pub(crate) struct Store<K, V> {
    /// First, so that those who wait hear of the end whatever the drop of an entry does.
    alarm: Alarm,
    shards: Box<[Shard<K, V>]>,
    common: Arc<Common<K, V>>,
    lifetimes: Lifetimes<K, V>,
    measures: Measures<K, V>,
    has_listener: bool,
    /// Whether somebody takes a look at each entry before it is published.
    appraises: bool,
    load_timer: Option<LoadTimer>,
    spawner: Option<Box<Spawn<K, V>>>,
    /// Itself, for those who must not keep it.
    this: Weak<Self>,
    name: Option<&'static str>,
}

/// How a cache is built.
pub(crate) struct Config<K, V> {
    /// A power of two.
    pub(crate) shards: usize,
    pub(crate) limits: Limits,
    pub(crate) eviction: Eviction,
    pub(crate) lifetimes: Lifetimes<K, V>,
    pub(crate) measures: Measures<K, V>,
    pub(crate) coalescing: Coalescing,
    pub(crate) listener: Option<Listener<K, V>>,
    pub(crate) records_load_time: bool,
    pub(crate) spawner: Option<Box<Spawn<K, V>>>,
    pub(crate) name: Option<&'static str>,
}

impl<K, V> Store<K, V> {
    /// Makes the store of a cache that is configured so.
    pub(crate) fn new(config: Config<K, V>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self::within(config, Weak::clone(this)))
    }

    fn within(config: Config<K, V>, this: Weak<Self>) -> Self {
        let Config { shards, limits, eviction, lifetimes, measures, coalescing, listener, .. } =
            config;
        debug_assert!(shards.is_power_of_two());
        let common = Arc::new(Common::new(shards, limits, eviction, coalescing));
        let share = limits.maxsize.div_ceil(shards);
        let shard = |number| {
            let removals =
                listener.as_ref().map(|listener| Arc::new(RemovalQueue::new(listener.clone())));
            Shard::new(number, share, Arc::clone(&common), removals)
        };
        let timer = || LoadTimer::new(lifetimes.clock(), Arc::clone(&common.counters));
        Self {
            alarm: Alarm::new(),
            shards: (0..shards).map(shard).collect(),
            load_timer: config.records_load_time.then(timer),
            spawner: config.spawner,
            this,
            name: config.name,
            common,
            appraises: measures.are_used() || lifetimes.look_at_entries(),
            lifetimes,
            measures,
            has_listener: listener.is_some(),
        }
    }

    pub(crate) fn shards(&self) -> &[Shard<K, V>] {
        &self.shards
    }

    /// All shards, starting with the one of this number, of which there may be fewer.
    pub(crate) fn shards_from(&self, first: usize) -> impl Iterator<Item = &Shard<K, V>> {
        let (before, from) = self.shards.split_at(first & (self.shards.len() - 1));
        from.iter().chain(before)
    }

    /// The shard of a key with this hash.
    #[inline]
    pub(crate) fn shard(&self, hash: u64) -> &Shard<K, V> {
        &self.shards[self.number(hash)]
    }

    #[inline]
    fn number(&self, hash: u64) -> usize {
        // The table within the shard uses the upper half.
        hash as u32 as usize & (self.shards.len() - 1)
    }

    /// Returns the bounds of the cache.
    #[inline]
    pub(crate) fn capacity(&self) -> &Capacity {
        &self.common.capacity
    }

    pub(crate) fn eviction(&self) -> Eviction {
        self.common.eviction
    }

    pub(crate) fn lifetimes(&self) -> &Lifetimes<K, V> {
        &self.lifetimes
    }

    /// Tells whether values are taken, to be kept or, by a listener, to be heard of; otherwise calls of
    /// one moment still share a load.
    pub(crate) fn takes_values(&self) -> bool {
        self.has_listener || self.capacity().maxsize() > 0 && self.lifetimes.let_any_live()
    }

    pub(crate) fn has_listener(&self) -> bool {
        self.has_listener
    }

    /// What measures loads, in a cache that is told to.
    #[inline]
    pub(crate) fn load_timer(&self) -> Option<&LoadTimer> {
        self.load_timer.as_ref()
    }

    /// Tells whether loads go on that everybody has left.
    #[inline]
    pub(crate) fn has_spawner(&self) -> bool {
        self.spawner.is_some()
    }

    /// Has the spawner see to these flights. It is the user's code, and may be called within a `Drop`.
    pub(crate) fn spawn(&self, flights: Vec<LeftFlight<V>>) {
        if let Some(spawn) = self.spawner.as_ref().filter(|_| !flights.is_empty()) {
            caught(|| spawn(Weak::clone(&self.this), flights));
        }
    }

    /// Takes a caller off a flight, and ends it if nobody is left to move it on; an entry that it was to refresh
    /// is to be by another when it is `due`.
    pub(crate) fn leave(&self, flight: FlightRef<'_, K, V>, kind: Kind, due: Freshness) {
        let ended = flight.leave(due);
        if ended.is_some() && kind.is_refresh() {
            self.count(Event::RefreshFailure);
        }
    }

    /// When a refresh that is dropped is taken up: by the next call, unless it has panicked.
    pub(crate) fn due_after_drop(&self) -> Freshness {
        if !thread::panicking() {
            return Freshness::Due(0);
        }
        // The clock is the user's.
        let now = caught(|| self.lifetimes.now()).flatten();
        now.map_or(Freshness::Due(0), |now| self.lifetimes.next_refresh(now))
    }

    pub(crate) fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// Begins a load that keeps its own account.
    pub(crate) fn begin_load(&self, is_refresh: bool) -> Running {
        Running::begin(&self.common.counters, self.load_timer(), self.span(is_refresh))
    }

    /// Begins the span of a load.
    #[inline]
    pub(crate) fn span(&self, is_refresh: bool) -> LoadSpan {
        LoadSpan::begin(self.name, is_refresh, || self.lifetimes.clock())
    }

    /// Tells whether entries are appraised.
    #[inline]
    pub(crate) fn appraises(&self) -> bool {
        self.appraises
    }

    /// Takes a look at an entry before it is published. Calls user code: never under a lock.
    pub(crate) fn appraise(&self, key: &K, value: &V) -> Appraised {
        self.measures.appraise(key, value, self.lifetimes.of_entry(key, value))
    }

    /// The duties to wait for a listener that is far behind in any shard.
    pub(crate) fn all_backlogs(&self) -> Deliveries<K, V> {
        let mut deliveries = Deliveries::default();
        if self.has_listener {
            self.shards.iter().for_each(|shard| deliveries.append(shard.backlog()));
        }
        deliveries
    }

    /// Returns the live value of `key`, as a hit, and claims its refresh if that is due and the call wants to.
    #[inline]
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q, claim: Claim) -> Option<Found<V>>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        if let Some(found) = self.get_pinned(hash, key, claim) {
            return Some(found);
        }
        self.shard(hash).get_locked(hash, key, self.lifetimes.roughly_now(), claim)
    }

    /// Does the same if the thread has pinned its shard.
    #[inline(always)]
    pub(crate) fn get_pinned<Q>(&self, hash: u64, key: &Q, claim: Claim) -> Option<Found<V>>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let number = self.number(hash);
        let shard = &self.shards[number];
        if !shard.is_quiet() {
            return None;
        }
        let pin = self.common.desks.try_pin(threads::number(), number)?;
        let fresh = |value| Found { value, age: Age::Fresh };
        match self.lifetimes.roughly_now() {
            None => shard.get_pinned(pin, hash, key, None).map(fresh),
            now if self.lifetimes.fresh().is_some() => {
                shard.get_pinned_fresh(pin, hash, key, now, claim)
            }
            now => shard.get_pinned_alive(pin, hash, key, now).map(fresh),
        }
    }

    /// Finds a value, joins a flight or leads one; what had expired of the key goes into `departed`.
    #[inline]
    pub(crate) fn lead_or_join(
        &self,
        request: &mut LoadRequest<K>,
        departed: &mut Departed<K, V>,
    ) -> LeadOrJoin<'_, K, V>
    where
        K: Eq,
        V: Clone,
    {
        self.shard(request.hash).lead_or_join(request, self.lifetimes.roughly_now(), departed)
    }

    /// Lets `look` at the live value of `key`, without counting that as a use.
    pub(crate) fn peek<Q, R>(&self, hash: u64, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.shard(hash).peek(hash, key, self.lifetimes.roughly_now(), look)
    }

    /// Counts an event.
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.common.counters.count(event);
    }

    /// Returns what notifies of an entry that expires before all others, and of the end of the cache.
    pub(crate) fn alarm(&self) -> Arc<Notify> {
        self.alarm.notify()
    }

    /// Returns how long it takes until an entry may expire, as far as is known; `None` if none ever does.
    ///
    /// A caller that wants to be told of entries that change that listens before.
    pub(crate) fn time_to_expiry(&self) -> Option<Duration> {
        self.alarm.forget();
        let soonest = self.shards.iter().map(Shard::soonest_deadline).min().unwrap_or(NEVER);
        self.alarm.remember(soonest);
        let now = self.lifetimes.now()?;
        (soonest != NEVER).then(|| Duration::from_nanos(soonest.saturating_sub(now)))
    }

    /// Removes the entry of `key` and fences its loads.
    pub(crate) fn remove<Q>(&self, hash: u64, key: &Q) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.shard(hash).remove(hash, key, self.lifetimes.now())
    }

    /// Begins the guard of a key whose source is written.
    pub(crate) fn begin_writing<Q>(&self, hash: u64, key: &Q) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.shard(hash).begin_writing(hash, key, self.lifetimes.now())
    }

    /// Ends it, with an invalidation of the key, whatever the clock does, which is the user's.
    pub(crate) fn end_writing<Q>(&self, hash: u64, key: &Q) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let now = panic::catch_unwind(AssertUnwindSafe(|| self.lifetimes.now()));
        match now {
            Ok(now) => self.shard(hash).end_writing(hash, key, now),
            Err(panic) => {
                let removed = self.shard(hash).end_writing(hash, key, None);
                // A second panic while one unwinds would abort the process.
                if !thread::panicking() {
                    panic::resume_unwind(panic);
                }
                removed
            }
        }
    }

    /// Gives the live entry of `key` another time to live; tells whether there is one.
    pub(crate) fn set_ttl<Q>(&self, hash: u64, key: &Q, ttl: Duration) -> (bool, Deliveries<K, V>)
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.lifetimes.use_time();
        let now = self.lifetimes.now().expect("time is used");
        let mut departed = Departed::default();
        let deadline = self.shard(hash).write(Some(now), &mut departed).set_ttl(hash, key, ttl);
        self.alarm.expect(deadline.unwrap_or(NEVER), &mut departed);
        (deadline.is_some(), departed.into_deliveries())
    }

    /// Returns the counts of what happened since the last reset.
    pub(crate) fn counts(&self) -> Totals {
        self.common.counters.totals(self.hits())
    }

    /// Starts counting from zero again.
    pub(crate) fn reset_counts(&self) {
        self.common.counters.reset(self.hits());
    }

    fn hits(&self) -> u64 {
        self.shards.iter().map(Shard::hits).sum()
    }

    /// Returns an estimate of the bytes that all of it takes, and how many flights there are.
    pub(crate) fn total_size(&self) -> (u64, usize) {
        let (mut len, mut measured, mut flights) = (0, 0, 0);
        let mut allocated = size_of_val(&*self.shards)
            + self.capacity().heap_size()
            + shared_size(&*self.common)
            + shared_size(&*self.common.counters)
            + self.common.counters.heap_size()
            + self.common.desks.heap_size();
        for shard in &self.shards {
            let size = shard.size();
            len += size.entries;
            flights += size.flights;
            measured += size.measured;
            allocated += size.allocated;
        }
        if self.measures.measure.is_some() {
            // Keys and values themselves lie in the entries, and are part of what was measured.
            allocated = allocated.saturating_sub(len * (size_of::<K>() + size_of::<V>()));
        }
        (u64::try_from(measured + allocated as u128).unwrap_or(u64::MAX), flights)
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> Store<K, V> {
    /// Asserts that all shards are whole and the capacity is right; returns how many flights there are.
    pub(crate) fn validate(&self) -> usize {
        let (mut cost, mut flights) = (Cost::default(), 0);
        for shard in &self.shards {
            let (more_cost, more_flights) = shard.validate();
            cost = cost.plus(more_cost);
            flights += more_flights;
        }
        self.capacity().validate(cost);
        flights
    }
}
