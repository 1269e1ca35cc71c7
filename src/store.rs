//! All shards together: which shard a key lives in, and what takes more than one of them.

pub(crate) mod resize;
pub(crate) mod restore;
pub(crate) mod snapshot;
pub(crate) mod sweep;

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use equivalent::Equivalent;

use crate::clock::{NEVER, Nanos};
use crate::deep_size::shared_size;
use crate::entries::emptied::Emptied;
use crate::flight::Coalescing;
#[cfg(feature = "__validate")]
use crate::policy::capacity::Cost;
use crate::policy::capacity::{Bound, Capacity, Limits, Reservation};
use crate::policy::lifetime::{Deadlines, Lifetimes};
use crate::policy::measure::{Appraised, Measures};
use crate::removal::Listener;
use crate::shard::removals::{Deliveries, RemovalQueue};
use crate::shard::{
    Common, Departed, Evicted, Expired, Fate, LeadOrJoin, LoadRequest, Origin, Publication,
    Published, Purged, Removed, Returning, Shard,
};
use crate::sync::counters::{Event, Totals};
use crate::sync::notify::Bell;
use crate::sync::threads;
use crate::sync::{AtomicU64, yield_now};

/// The hash by which a key's shard and its place there are found. A user's hasher may leave any of its bits
/// constant; here every bit depends on all of them.
#[inline]
pub(crate) fn hash_of<Q: Hash + ?Sized>(hasher: &impl BuildHasher, key: &Q) -> u64 {
    let product = u128::from(hasher.hash_one(key)) * 0x9E37_79B9_7F4A_7C15;
    product as u64 ^ (product >> 64) as u64
}

/// The entries of a cache, and the rules by which they come and go.
pub(crate) struct Store<K, V> {
    shards: Box<[Shard<K, V>]>,
    common: Arc<Common<K, V>>,
    lifetimes: Lifetimes<K, V>,
    measures: Measures<K, V>,
    has_listener: bool,
    /// Whether somebody takes a look at each entry before it is published.
    appraises: bool,
    /// No entry of any shard expires before this time. Spares a full cache the search for an expired
    /// entry in all shards before every eviction.
    soonest: AtomicU64,
    /// Rung when an entry comes that expires before all others, and when the cache is gone.
    bell: Arc<Bell>,
}

impl<K, V> Store<K, V> {
    /// Makes a store of `shards` shards, a power of two.
    pub(crate) fn new(
        shards: usize,
        limits: Limits,
        lifetimes: Lifetimes<K, V>,
        measures: Measures<K, V>,
        coalescing: Coalescing,
        listener: Option<Listener<K, V>>,
    ) -> Self {
        debug_assert!(shards.is_power_of_two());
        let common = Arc::new(Common::new(shards, limits, coalescing));
        let share = limits.maxsize.div_ceil(shards);
        let shard = |number| {
            let removal_queue =
                listener.as_ref().map(|listener| Arc::new(RemovalQueue::new(listener.clone())));
            Shard::new(number, share, Arc::clone(&common), removal_queue)
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            common,
            appraises: measures.are_used() || lifetimes.look_at_entries(),
            lifetimes,
            measures,
            has_listener: listener.is_some(),
            soonest: AtomicU64::new(NEVER),
            bell: Arc::default(),
        }
    }

    pub(crate) fn shards(&self) -> &[Shard<K, V>] {
        &self.shards
    }

    /// The bounds of the cache and its counters.
    #[inline]
    pub(crate) fn capacity(&self) -> &Capacity {
        &self.common.capacity
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

    pub(crate) fn lifetimes(&self) -> &Lifetimes<K, V> {
        &self.lifetimes
    }

    /// Whether values are taken, to be kept or, by a listener, to be heard of; otherwise calls of one moment
    /// still share a load.
    pub(crate) fn takes_values(&self) -> bool {
        self.has_listener || self.capacity().maxsize() > 0 && self.lifetimes.let_any_live()
    }

    pub(crate) fn has_listener(&self) -> bool {
        self.has_listener
    }

    /// Whether entries are appraised.
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

    /// Returns the live value of `key`, as a hit.
    #[inline]
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q) -> Option<V>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        if let Some(value) = self.get_pinned(hash, key) {
            return Some(value);
        }
        self.shard(hash).get_locked(hash, key, self.lifetimes.roughly_now())
    }

    /// Returns the live value of `key` if the thread has pinned its shard, as a hit.
    #[inline(always)]
    pub(crate) fn get_pinned<Q>(&self, hash: u64, key: &Q) -> Option<V>
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
        match self.lifetimes.roughly_now() {
            None => shard.get_pinned(pin, hash, key, None),
            now => shard.get_pinned_alive(pin, hash, key, now),
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
        self.capacity().counters.count(event);
    }

    /// Prepares an entry for publication as of now.
    #[inline(always)]
    pub(crate) fn publication(
        &self,
        origin: Origin<K>,
        value: V,
        appraised: Appraised,
    ) -> Publication<K, V> {
        let now = self.lifetimes.now();
        let deadlines = |now| self.lifetimes.deadlines(now, appraised.lifetime);
        let extras = (now.is_some() || self.appraises)
            .then(|| appraised.extras(now.map_or(Deadlines::NONE, deadlines)));
        let dies = now.is_some() && !self.lifetimes.let_live(appraised.lifetime);
        let fate = if dies { Fate::Dies } else { Fate::Lives };
        Publication::new(origin, value, extras, fate, now)
    }

    /// Publishes an entry in its shard, or keeps it out; what comes of it is in the publication, and what has
    /// left for it in `departed`.
    #[inline(always)]
    pub(crate) fn publish(
        &self,
        shard: &Shard<K, V>,
        publication: &mut Publication<K, V>,
        departed: &mut Departed<K, V>,
    ) where
        K: Eq,
    {
        let deadline = publication.soonest_deadline();
        let mut reservation = self.capacity().reservation();
        if self.may_expire_for(publication) {
            self.expire_for(shard, publication, &mut reservation, departed);
        }
        let published = shard.publish(publication, &mut reservation, departed);
        if published != Published::Done {
            self.go_on_publishing(published, shard, publication, reservation, departed);
        }
        self.expect_expiry(deadline, departed);
    }

    /// Publishes an entry that was not `published` at the first attempt.
    #[cold]
    fn go_on_publishing<'a>(
        &'a self,
        mut published: Published,
        shard: &Shard<K, V>,
        publication: &mut Publication<K, V>,
        mut reservation: Reservation<'a>,
        departed: &mut Departed<K, V>,
    ) where
        K: Eq,
    {
        let mut turn = shard.number();
        loop {
            match published {
                Published::Done => return,
                Published::Unfinished => yield_now(),
                Published::NeedsVerdict => {
                    // Others are not to wait for the room until the user's code has answered.
                    reservation = self.capacity().reservation();
                    publication.judge(shard);
                }
                Published::NeedsRoom(short) => {
                    // They give in turns, if one entry takes the room of many.
                    turn += 1;
                    let mut others =
                        self.shards_from(turn).filter(|other| !std::ptr::eq(*other, shard));
                    let now = publication.now();
                    if !others
                        .any(|other| self.evict(other, short, now, &mut reservation, departed))
                    {
                        // What there is of room is held by entries on their way in. It is given back, for
                        // one of them may need this one's.
                        reservation = self.capacity().reservation();
                        yield_now();
                    }
                }
            }
            published = shard.publish(publication, &mut reservation, departed);
        }
    }

    /// Takes out the least recently used entry of a shard of those that help where this bound is `short`,
    /// and adds what it held to the room; `false` if there is none.
    fn evict(
        &self,
        shard: &Shard<K, V>,
        short: Bound,
        now: Option<Nanos>,
        reservation: &mut Reservation<'_>,
        departed: &mut Departed<K, V>,
    ) -> bool {
        loop {
            match shard.write(now, departed).evict(short, reservation) {
                Evicted::One => return true,
                Evicted::None => return false,
                Evicted::Unfinished => yield_now(),
            }
        }
    }

    /// Takes in an entry of an earlier cache if it is in nobody's way; tells whether it was.
    pub(crate) fn admit(
        &self,
        entry: Returning<K, V>,
        now: Option<Nanos>,
        deliveries: &mut Deliveries<K, V>,
    ) -> bool
    where
        K: Eq,
    {
        let deadlines = now.map_or(Deadlines::NONE, |now| entry.deadlines(&self.lifetimes, now));
        let shard = self.shard(entry.hash);
        let mut departed = Departed::default();
        let admitted = shard.admit(entry, deadlines, now, &mut departed);
        self.expect_expiry(deadlines.soonest(), &mut departed);
        deliveries.append(departed.into_notices());
        admitted.map_err(|entry| shard.reject(entry, deliveries)).is_ok()
    }

    /// Removes the entry of `key` and fences its loads.
    pub(crate) fn remove<Q>(&self, hash: u64, key: &Q) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.shard(hash).remove(hash, key, self.lifetimes.now())
    }

    /// Gives the live entry of `key` another time to live; tells whether there is one.
    pub(crate) fn set_ttl<Q>(&self, hash: u64, key: &Q, ttl: Duration) -> (bool, Deliveries<K, V>)
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.lifetimes.use_time();
        let now = self.lifetimes.now().expect("time is used");
        let mut departed = Departed::default();
        let deadline = self.shard(hash).set_ttl(hash, key, ttl, now, &mut departed);
        self.expect_expiry(deadline.unwrap_or(NEVER), &mut departed);
        (deadline.is_some(), departed.into_notices())
    }

    /// Empties all shards, one after another, and fences all loads. What was there is to be dropped, or
    /// for the listener: neither the user's `Drop` nor that keeps a shard from being emptied.
    pub(crate) fn clear(&self) -> (Vec<Emptied<K, V>>, Deliveries<K, V>) {
        let mut deliveries = Deliveries::default();
        let clear = |shard: &Shard<K, V>| {
            shard.write(None, &mut Departed::default()).clear(&mut deliveries)
        };
        let emptied = self.shards.iter().filter_map(clear).collect();
        self.reset_counts();
        (emptied, deliveries)
    }

    /// Whether entries that have expired may have to make room for the publication.
    #[inline]
    fn may_expire_for(&self, publication: &Publication<K, V>) -> bool {
        let Some(now) = publication.now() else { return false };
        let Some(cost) = publication.cost(self.capacity()) else { return false };
        let latest = now.max(self.common.last_expiry.load(Ordering::Relaxed));
        latest >= self.soonest.load(Ordering::Relaxed) && !self.capacity().has_room_for(cost)
    }

    /// Takes out entries that have expired, of whatever shard, to spare live ones, until the publication
    /// fits in.
    #[inline(never)]
    fn expire_for(
        &self,
        shard: &Shard<K, V>,
        publication: &Publication<K, V>,
        reservation: &mut Reservation<'_>,
        departed: &mut Departed<K, V>,
    ) where
        K: Eq,
    {
        let Some(now) = publication.now() else { return };
        // No more than that: holding it would have others evict live entries for want of it.
        let missing = shard.missing(publication);
        if self.capacity().has_room_for(missing) {
            return;
        }
        // Whatever is added to a shard after the look at it brings its deadline in by itself.
        self.soonest.store(NEVER, Ordering::Relaxed);
        let mut soonest = NEVER;
        for shard in self.shards_from(shard.number()) {
            while let Expired::One = self.expire_one(shard, now, reservation, departed) {
                if reservation.reserve(missing).is_ok() {
                    // There may be more.
                    return self.expect_expiry(0, departed);
                }
            }
            soonest = soonest.min(shard.soonest_deadline());
        }
        self.soonest.fetch_min(soonest, Ordering::Relaxed);
    }

    /// Takes out an entry of a shard that has expired, if one is soon found, and adds what it held to the
    /// room.
    fn expire_one(
        &self,
        shard: &Shard<K, V>,
        now: Nanos,
        reservation: &mut Reservation<'_>,
        departed: &mut Departed<K, V>,
    ) -> Expired {
        const STEPS: usize = 16;
        shard.write(Some(now), departed).expire_one(&mut { STEPS }, reservation)
    }

    /// Counts of what happened since the last reset.
    pub(crate) fn counts(&self) -> Totals {
        self.capacity().counters.totals(self.hits())
    }

    /// Starts counting from zero again.
    pub(crate) fn reset_counts(&self) {
        self.capacity().counters.reset(self.hits());
    }

    fn hits(&self) -> u64 {
        self.shards.iter().map(Shard::hits).sum()
    }

    /// Notes that an entry expires at `deadline`, and has those told who wait for the first to expire.
    /// They are woken with what the call drops: a waker is the user's code, and may panic.
    #[inline]
    fn expect_expiry(&self, deadline: Nanos, departed: &mut Departed<K, V>) {
        if deadline < self.soonest.load(Ordering::Relaxed) {
            self.expect_sooner_expiry(deadline, departed);
        }
    }

    #[cold]
    fn expect_sooner_expiry(&self, deadline: Nanos, departed: &mut Departed<K, V>) {
        // In one order with the first look of whoever listens: either that undoes this, and so does
        // not keep a later entry from ringing, or this rings for it.
        self.soonest.fetch_min(deadline, Ordering::SeqCst);
        if self.bell.has_hearers() {
            departed.ring(&self.bell);
        }
    }

    /// What is rung when an entry comes that expires before all others, and when the cache is gone.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// How long it takes until an entry may expire, as far as is known; `None` if none ever does.
    ///
    /// Whoever wants to be told of entries that change that listens before.
    pub(crate) fn time_to_expiry(&self) -> Option<Duration> {
        // Whatever is added to a shard after the look at it brings its deadline in by itself.
        self.soonest.store(NEVER, Ordering::SeqCst);
        let deadlines = self.shards.iter().map(Shard::soonest_deadline);
        let soonest = deadlines.min().unwrap_or(NEVER);
        self.soonest.fetch_min(soonest, Ordering::Relaxed);
        let now = self.lifetimes.now()?;
        (soonest != NEVER).then(|| Duration::from_nanos(soonest.saturating_sub(now)))
    }

    /// Frees some of what has expired by `now` in the shard of this number, in a short time. `None` if
    /// there is no such shard.
    pub(crate) fn purge(&self, shard: usize, now: Nanos) -> Option<PurgeStep<K, V>> {
        let mut departed = Departed::default();
        let (purged, freed) = self.shards.get(shard)?.purge(now, &mut departed);
        Some(PurgeStep { purged, freed, deliveries: departed.into_notices() })
    }

    /// All shards, starting with the one of this number, of which there may be fewer.
    pub(crate) fn shards_from(&self, first: usize) -> impl Iterator<Item = &Shard<K, V>> {
        let (before, from) = self.shards.split_at(first & (self.shards.len() - 1));
        from.iter().chain(before)
    }

    /// Entries, measured bytes and allocated bytes of all shards.
    pub(crate) fn total_size(&self) -> u64 {
        let mut len = 0;
        let mut measured = 0;
        let mut allocated = size_of_val(&*self.shards)
            + self.capacity().heap_size()
            + shared_size(&*self.common)
            + self.common.desks.heap_size();
        for shard in &self.shards {
            let size = shard.size();
            len += size.entries;
            measured += size.measured;
            allocated += size.allocated;
        }
        if self.measures.measure.is_some() {
            // Keys and values themselves lie in the entries, and are part of what was measured.
            allocated = allocated.saturating_sub(len * (size_of::<K>() + size_of::<V>()));
        }
        u64::try_from(measured + allocated as u128).unwrap_or(u64::MAX)
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> Store<K, V> {
    /// Asserts that all shards are whole and the ledger is right; returns how many flights there are.
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

impl<K, V> Drop for Store<K, V> {
    fn drop(&mut self) {
        self.bell.ring();
    }
}

/// How many expired entries are freed before other tasks have the thread.
pub(crate) const MANY: usize = 256;

/// What one step of a purge has done.
pub(crate) struct PurgeStep<K, V> {
    pub(crate) purged: Purged,
    /// Entries freed.
    pub(crate) freed: usize,
    pub(crate) deliveries: Deliveries<K, V>,
}

/// The freeing of all expired entries, step by step so that other writers get through in between.
pub(crate) struct Purge<'a, K, V> {
    store: &'a Store<K, V>,
    now: Nanos,
    /// The first shard that may still hold expired entries.
    shard: usize,
    freed: usize,
    /// Up to when they were many.
    freed_before: usize,
}

impl<'a, K, V> Purge<'a, K, V> {
    /// Starts a purge, unless the cache does not use time.
    pub(crate) fn start(store: &'a Store<K, V>) -> Option<Self> {
        Some(Self { store, now: store.lifetimes.now()?, shard: 0, freed: 0, freed_before: 0 })
    }

    /// Takes one step, which is over in a short time; `None` once there is nothing left to do.
    pub(crate) fn step(&mut self) -> Option<PurgeStep<K, V>> {
        let step = self.store.purge(self.shard, self.now)?;
        self.freed += step.freed;
        if step.purged == Purged::All {
            self.shard += 1;
        }
        Some(step)
    }

    /// Whether it has freed many entries since this was last asked.
    pub(crate) fn is_long(&mut self) -> bool {
        let is_long = self.freed >= self.freed_before + MANY;
        if is_long {
            self.freed_before = self.freed;
        }
        is_long
    }

    /// Entries freed so far.
    pub(crate) fn freed(&self) -> usize {
        self.freed
    }
}
