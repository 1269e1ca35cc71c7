//! How a cache is configured.

use std::any::Any;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ahash::RandomState;

use crate::cache::AsyncLru;
use crate::cache::local_memo::LocalMemo;
use crate::cache::memo::{ArgsAsKey, KeyExtractor, Memo, TryMemo};
use crate::clock::{Clock, SystemClock};
use crate::deep_size::DeepSize;
use crate::entries::MAX_ENTRIES;
use crate::flight::Coalescing;
use crate::load::task::{Task, task};
use crate::policy::capacity::Limits;
use crate::policy::eviction::Eviction;
use crate::policy::lifetime::Lifetimes;
use crate::policy::measure::{Measure, Measures};
use crate::removal::{Listener, RemovalCause};
use crate::store::{Config, Spawn, Store};

/// Entries that a cache holds unless it is told otherwise.
const DEFAULT_MAXSIZE: usize = 1024;

/// Caches smaller than this have one shard by default, and with it one exact order.
const SMALL: usize = 512;

/// The fewest entries per shard that the default aims at.
const SHARD_ENTRIES: usize = 64;

/// As many shards as a cache has on a machine of few cores, if it is large enough: two threads that write
/// then seldom meet, and one thread pays next to nothing for them.
const FEWEST_SHARDS: usize = 32;

const MAX_SHARDS: usize = 1024;

/// Building.
impl<K, V> AsyncLru<K, V> {
    /// Starts the configuration of a cache.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    /// use std::time::Duration;
    ///
    /// let cache = AsyncLru::<u32, u32>::builder().maxsize(10).ttl(Duration::from_secs(1)).build();
    /// assert_eq!(cache.info().ttl, Some(Duration::from_secs(1)));
    /// ```
    pub fn builder() -> Builder<K, V> {
        Builder::new()
    }

    /// Makes a cache of at most `maxsize` entries, everything else as the builder has it by default.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// assert_eq!(cache.info().maxsize, 10);
    /// ```
    #[must_use]
    pub fn new(maxsize: usize) -> Self {
        Self::builder().maxsize(maxsize).build()
    }
}

/// Made as by the builder without any setting: 1024 entries at most.
impl<K, V> Default for AsyncLru<K, V> {
    fn default() -> Self {
        Self::builder().build()
    }
}

/// Configures an [`AsyncLru`], or with [`wrap`](Self::wrap) a function whose answers are cached.
///
/// Made by [`AsyncLru::builder`]. Every setting has a default, and no value is refused: what an
/// extreme one means is said at its setter.
///
/// # Examples
///
/// ```
/// use async_lru::AsyncLru;
/// use std::time::Duration;
///
/// let cache = AsyncLru::<String, u64>::builder()
///     .maxsize(10_000)
///     .ttl(Duration::from_secs(60))
///     .deep_size()
///     .build();
/// assert_eq!(cache.info().maxsize, 10_000);
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<K, V, S = RandomState, X = ArgsAsKey> {
    settings: Settings<K, V>,
    hasher: KeyHasher<S>,
    extractor: X,
    types: PhantomData<fn() -> (K, V)>,
}

/// The hasher of keys. The default one is made when the cache is, for it takes random numbers from the
/// system, and a platform without them may have another hasher.
enum KeyHasher<S> {
    Default(fn() -> S),
    Given(S),
}

impl<S> KeyHasher<S> {
    fn into_inner(self) -> S {
        match self {
            Self::Default(make) => make(),
            Self::Given(hasher) => hasher,
        }
    }
}

/// The settings that have the same types in every builder.
struct Settings<K, V> {
    maxsize: Option<usize>,
    max_weight: Option<u64>,
    max_bytes: Option<u64>,
    lifetimes: Lifetimes<K, V>,
    eviction: Eviction,
    shards: Option<usize>,
    measures: Measures<K, V>,
    coalescing: Coalescing,
    listener: Option<Listener<K, V>>,
    records_load_time: bool,
    spawner: Option<Box<Spawn<K, V>>>,
    name: Option<&'static str>,
}

impl<K, V> Builder<K, V> {
    pub(crate) fn new() -> Self {
        let settings = Settings {
            maxsize: None,
            max_weight: None,
            max_bytes: None,
            lifetimes: Lifetimes::new(),
            eviction: Eviction::default(),
            shards: None,
            measures: Measures { measure: None, weigher: None },
            coalescing: Coalescing::On,
            listener: None,
            records_load_time: false,
            spawner: None,
            name: None,
        };
        let hasher = KeyHasher::Default(RandomState::new);
        Self { settings, hasher, extractor: ArgsAsKey, types: PhantomData }
    }
}

impl<K, V, S, X> Builder<K, V, S, X> {
    /// Sets the most entries that the cache holds; 1024 by default, or as many as fit into
    /// [`max_weight`](Self::max_weight) and [`max_bytes`](Self::max_bytes) if one of these is set.
    ///
    /// With 0 nothing is kept, and callers of one moment still share a load. Memory is allocated as
    /// entries come, so a large bound costs nothing by itself; more than 2^31 - 1 counts as that.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::builder().maxsize(0).build();
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.len(), 0);
    /// ```
    pub fn maxsize(mut self, entries: usize) -> Self {
        self.settings.maxsize = Some(entries.min(MAX_ENTRIES));
        self
    }

    /// Sets the most that all entries together weigh, and what an entry weighs, in whatever unit.
    ///
    /// Holds beside [`maxsize`](Self::maxsize) if that is set, and else instead of it, and is exceeded at
    /// no moment: entries are evicted, in the order of [`eviction`](Self::eviction), until a new one fits in. Those that
    /// weigh nothing stay, as they would make no room. One that weighs more than the bound is given to
    /// its callers and not kept. It evicts nothing, but a value of its key that was there before goes.
    /// A call that brings an entry in the room of hundreds evicts them in turns with other tasks, and a
    /// `_blocking` one at once, some ten thousand in a millisecond. A load that is dropped meanwhile is
    /// dropped as before its end.
    ///
    /// `weigher` is called once for each value that is to be cached, outside every lock, and its answer is
    /// remembered: an
    /// entry that changes later still weighs what it did. One of weight 0 needs no room but the place that
    /// it takes of `maxsize`. Takes 8 bytes per entry, and some 8 more once one weighs nothing. If it
    /// panics, the entry is not cached and the cache is as it was. With [`u64::MAX`] as the bound entries are
    /// weighed and not bounded by it; [`set_max_weight`](AsyncLru::set_max_weight) can lower it later.
    ///
    /// In a cache of several shards a heavy entry takes the room of those in its own shard first. Without
    /// `maxsize` the default number of [`shards`](Self::shards) is that of a cache of 1024 entries.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let cache = AsyncLru::<u32, String>::builder()
    ///     .max_weight(10, |_key, value| value.len() as u64)
    ///     .shards(1)
    ///     .build();
    /// cache.insert_blocking(1, "four".to_owned());
    /// cache.insert_blocking(2, "seven".to_owned());
    /// cache.insert_blocking(3, "three".to_owned());
    /// assert_eq!(cache.keys(), [2, 3]);
    /// cache.insert_blocking(4, "more than fits".to_owned());
    /// assert_eq!(cache.keys(), [2, 3]);
    /// ```
    pub fn max_weight(
        mut self,
        weight: u64,
        weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.settings.max_weight = Some(weight);
        self.settings.measures.weigher = Some(Box::new(weigher));
        self
    }

    /// Sets the most bytes that keys and values may take, as their [`DeepSize`] tells.
    ///
    /// As with [`max_weight`](Self::max_weight) in all else, and beside it if both are set. Measures as
    /// [`deep_size`](Self::deep_size) does. What the cache itself takes for an entry, some 60 to
    /// 120 bytes, is not counted: where values are as small, such as a remembered `None`, set
    /// [`maxsize`](Self::maxsize) too. [`CacheStats`](crate::CacheStats::total_size_in_memory_bytes) tells the
    /// sum.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let cache = AsyncLru::<u32, String>::builder().max_bytes(1_000_000).shards(1).build();
    /// for key in 0..100 {
    ///     cache.insert_blocking(key, "x".repeat(100_000));
    /// }
    /// assert_eq!(cache.keys(), [91, 92, 93, 94, 95, 96, 97, 98, 99]);
    /// ```
    ///
    /// A type that cannot be measured does not compile, and has [`max_bytes_with`](Self::max_bytes_with):
    ///
    /// ```compile_fail,E0277
    /// struct Unmeasured;
    ///
    /// let builder = async_lru::AsyncLru::<u32, Unmeasured>::builder().max_bytes(1_000_000);
    /// ```
    pub fn max_bytes(mut self, bytes: u64) -> Self
    where
        K: DeepSize,
        V: DeepSize,
    {
        self.settings.max_bytes = Some(bytes);
        self.deep_size()
    }

    /// Sets the most bytes that keys and values may take, as `measure` tells, their own size included.
    ///
    /// As [`max_bytes`](Self::max_bytes) in all else. Measures as [`measure_with`](Self::measure_with) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let cache = AsyncLru::<u32, Vec<u8>>::builder()
    ///     .max_bytes_with(1_000_000, |_key, value| 4 + 24 + value.capacity())
    ///     .build();
    /// cache.insert_blocking(1, vec![0; 2_000_000]);
    /// assert_eq!(cache.len(), 0);
    /// ```
    pub fn max_bytes_with(
        mut self,
        bytes: u64,
        measure: impl Fn(&K, &V) -> usize + Send + Sync + 'static,
    ) -> Self {
        self.settings.max_bytes = Some(bytes);
        self.measure_with(measure)
    }

    /// Sets how long an entry lives, counted from when it is cached, at the end of its load; for ever by default.
    ///
    /// At `ttl` exactly the entry is gone. With zero nothing is kept, and callers of one moment still
    /// share a load; a time beyond what a clock can show (584 years) is for ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let ttl = Duration::from_secs(60);
    /// let cache = AsyncLru::<u32, u32>::builder().ttl(ttl).clock(clock.clone()).build();
    /// cache.insert_blocking(1, 10);
    /// clock.advance(ttl);
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.lifetimes.set_ttl(ttl);
        self
    }

    /// Sets how long an entry lives from one use to the next; for ever by default.
    ///
    /// A use is what counts for the order of eviction: [`get`](AsyncLru::get), a hit of
    /// `get_or_insert`, and an insertion. At `idle` exactly after the last one the entry is gone. With
    /// zero nothing is kept. Takes 8 bytes per entry and has every hit read the exact time. Of its end and
    /// that of the entry's other lifetime the earlier counts.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let cache = AsyncLru::<u32, u32>::builder()
    ///     .time_to_idle(Duration::from_secs(60))
    ///     .clock(clock.clone())
    ///     .build();
    /// assert_eq!(cache.info().time_to_idle, Some(Duration::from_secs(60)));
    /// cache.insert_blocking(1, 10);
    /// clock.advance(Duration::from_secs(59));
    /// assert_eq!(cache.get(&1), Some(10));
    /// clock.advance(Duration::from_secs(59));
    /// assert_eq!(cache.get(&1), Some(10));
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.settings.lifetimes.set_idle(idle);
        self
    }

    /// Sets how long each entry lives, counted from when it is cached, by what `lifetime` returns for it.
    ///
    /// That takes the place of the [`ttl`](Self::ttl), be it longer or shorter; `None` stands for what that
    /// says. A [`time_to_idle`](Self::time_to_idle) counts besides.
    ///
    /// Called once for each value that is to be cached, outside every lock. An entry of lifetime zero is given to its
    /// callers and not kept. Such entries are freed, unread, by later writes, each of which takes a
    /// bounded number of steps towards that, and by [`purge_expired`](AsyncLru::purge_expired).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let cache = AsyncLru::<u32, Option<u32>>::builder()
    ///     .ttl(Duration::from_secs(60))
    ///     .expiry(|_key, value| value.is_none().then_some(Duration::from_secs(1)))
    ///     .clock(clock.clone())
    ///     .build();
    /// cache.insert_blocking(1, Some(10));
    /// cache.insert_blocking(2, None);
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(cache.keys(), [1]);
    /// ```
    pub fn expiry(
        mut self,
        lifetime: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.settings.lifetimes.set_of_entry(Box::new(lifetime));
        self
    }

    /// Shortens each entry's lifetime by a random part of it, of up to `share`, so that entries which
    /// were written together do not expire together; 0 by default.
    ///
    /// Concerns lifetimes that count from when an entry is cached. A share below 0 or no number counts as 0, one
    /// above 1 as 1. No lifetime becomes zero by it.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let cache = AsyncLru::<u32, u32>::builder()
    ///     .ttl(Duration::from_secs(100))
    ///     .ttl_jitter(0.1)
    ///     .clock(clock.clone())
    ///     .build();
    /// (0..1000).for_each(|key| drop(cache.insert_blocking(key, key)));
    /// clock.advance(Duration::from_secs(89));
    /// assert_eq!(cache.keys().len(), 1000);
    /// clock.advance(Duration::from_secs(6));
    /// assert!((1..1000).contains(&cache.keys().len()));
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(cache.keys().len(), 0);
    /// ```
    pub fn ttl_jitter(mut self, share: f64) -> Self {
        self.settings.lifetimes.set_jitter(share);
        self
    }

    /// Sets how the entries are chosen that leave when the cache is full; [`Eviction::Lru`] by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, Eviction};
    ///
    /// let cache = AsyncLru::<u32, u32>::builder().eviction(Eviction::Adaptive).build();
    /// assert_eq!(cache.info().eviction, Eviction::Adaptive);
    /// ```
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.settings.eviction = eviction;
        self
    }

    /// Sets the number of shards, the parts of the cache that threads use independently; rounded up to a power
    /// of two, at least 1 and at most 1024.
    ///
    /// Each shard has locks and an order of eviction of its own: one shard evicts in the exact order of use
    /// ([`Eviction::Lru`]), more serve more threads at once. The bound on entries is one for all shards. By default a cache
    /// of under 512 entries has one shard, and a larger one as many as suit its size and the machine.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::builder().maxsize(100_000).shards(1).build();
    /// assert_eq!(cache.info().shards, 1);
    /// ```
    pub fn shards(mut self, shards: usize) -> Self {
        self.settings.shards = Some(shards.clamp(1, MAX_SHARDS).next_power_of_two());
        self
    }

    /// Sets the hasher of keys; by default one that is seeded anew for each cache, which an attacker
    /// who chooses keys cannot foresee.
    ///
    /// The default one takes its seeds from the system by way of the crate `getrandom`, which on
    /// `wasm32-unknown-unknown` has to be told from where: see the crate's section on
    /// [platforms](crate#platforms).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    /// use std::hash::RandomState;
    ///
    /// let cache = AsyncLru::<u32, u32>::builder().hasher(RandomState::new()).build();
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.get(&1), Some(10));
    /// ```
    pub fn hasher<S2>(self, hasher: S2) -> Builder<K, V, S2, X> {
        self.with(|_, extractor| (KeyHasher::Given(hasher), extractor))
    }

    /// Counts what keys and values own on the heap in the estimate of the memory taken.
    ///
    /// Each entry is measured once, when it is cached, outside every lock; a value that grows later
    /// still counts as it did then. Without this or [`measure_with`](Self::measure_with) only the
    /// entries themselves count. Of these two, [`max_bytes`](Self::max_bytes) and
    /// [`max_bytes_with`](Self::max_bytes_with) the last call says what is measured.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, String>::builder().deep_size().build();
    /// let empty = cache.stats().total_size_in_memory_bytes;
    /// cache.insert_blocking(1, "x".repeat(1_000_000));
    /// assert!(cache.stats().total_size_in_memory_bytes >= empty + 1_000_000);
    /// ```
    pub fn deep_size(mut self) -> Self
    where
        K: DeepSize,
        V: DeepSize,
    {
        let size = |key: &K, value: &V| key.deep_size().saturating_add(value.deep_size());
        self.settings.measures.measure = Some(Measure::Deep(size));
        self
    }

    /// Counts what `measure` returns for each entry in the estimate of the memory taken: the bytes of
    /// key and value, their own size included.
    ///
    /// It is called once per entry, when that is cached, outside every lock; if it panics, the
    /// entry is not cached and the cache is as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, Vec<u8>>::builder()
    ///     .measure_with(|_key, value| 4 + 24 + value.capacity())
    ///     .build();
    /// let empty = cache.stats().total_size_in_memory_bytes;
    /// cache.insert_blocking(1, vec![0; 1_000_000]);
    /// assert!(cache.stats().total_size_in_memory_bytes >= empty + 1_000_000);
    /// ```
    pub fn measure_with(
        mut self,
        measure: impl Fn(&K, &V) -> usize + Send + Sync + 'static,
    ) -> Self {
        self.settings.measures.measure = Some(Measure::With(Box::new(measure)));
        self
    }

    /// Lets every caller that misses run its own load.
    ///
    /// Whichever load ends last is kept. Writes still win over loads that run.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_lite::future::{block_on, zip};
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::builder().without_single_flight().build();
    /// let load = async || {
    ///     futures_lite::future::yield_now().await;
    ///     10
    /// };
    /// block_on(zip(cache.get_or_insert_with(1, load), cache.get_or_insert_with(1, load)));
    /// assert_eq!(cache.stats().loads, 2);
    /// ```
    pub fn without_single_flight(mut self) -> Self {
        self.settings.coalescing = Coalescing::Off;
        self
    }

    /// Keeps entries fresh: one that is older than this is *stale*, still served to everybody at once, and
    /// refreshed by one call. Without end by default.
    ///
    /// A stale value lives on until the end of its [`ttl`](Self::ttl), or the earliest that it has, and not
    /// a moment longer. So `fresh_for` is the shorter of the two: how old a value may be before it is
    /// renewed, and `ttl` how old it may be when it cannot be. Zero has every call find it stale.
    ///
    /// Of the calls that find an entry stale the first one refreshes it, with its own closure, and all others
    /// are served the old value meanwhile. It waits for its load and returns the new value; but the load of a
    /// [detached](crate::Entry::detached) call or a [`Memo`](crate::Memo) goes to the
    /// [`spawner`](Self::spawner), if there is one, and then nobody waits. [`get`](AsyncLru::get) serves
    /// stale values and refreshes none. A call for many keys loads those that it finds stale with those that
    /// it misses, or in a load of their own where a spawner has that.
    ///
    /// A key has one refresh at a time. Writes win over it as over any load. If its call is dropped, the
    /// next one takes it up. If it fails or panics, the old value stays for as long as it would have, also as
    /// the answer of the call whose closure has failed, whose error goes to nobody, and the next attempt
    /// is after [`refresh_retry`](Self::refresh_retry). An entry that comes to its end while it is refreshed
    /// makes that an ordinary load, which callers join and whose error they get.
    ///
    /// A load can give its value a fresh time of its own, longer or shorter, with a
    /// [`Lifetime`](crate::Lifetime). [`ttl_jitter`](Self::ttl_jitter) shortens either, so that entries which
    /// were loaded together do not go stale together. A cache without it pays nothing for it; with it an entry
    /// takes 8 bytes more.
    ///
    /// Caffeine has this as `refreshAfterWrite`, FusionCache as "eager refresh" and "fail-safe", and HTTP as
    /// `stale-while-revalidate` and `stale-if-error` (RFC 5861).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, LookupOutcome, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let users = AsyncLru::<u32, &str>::builder()
    ///     .fresh_for(Duration::from_secs(60))
    ///     .ttl(Duration::from_secs(3_600))
    ///     .clock(clock.clone())
    ///     .build();
    /// futures_lite::future::block_on(async {
    ///     users.insert(1, "ann").await;
    ///     clock.advance(Duration::from_secs(60));
    ///     // The database is down: the old value stays.
    ///     let failing = async || Err::<&str, _>("no connection");
    ///     let found = users.entry(1).or_try_insert_with(failing).await.unwrap();
    ///     assert_eq!((found.value, found.outcome), ("ann", LookupOutcome::Stale));
    ///     // It is up again.
    ///     clock.advance(Duration::from_secs(1));
    ///     let found = users.entry(1).or_insert_with(async || "anne").await;
    ///     assert_eq!((found.value, found.outcome), ("anne", LookupOutcome::Loaded));
    /// });
    /// ```
    pub fn fresh_for(mut self, fresh_for: Duration) -> Self {
        self.settings.lifetimes.set_fresh(fresh_for);
        self
    }

    /// Sets how long after a refresh that has failed the next one is tried; a second by default.
    ///
    /// Until then all calls are served the stale value, and the source is left alone. Zero has the next call
    /// try again. Means nothing without [`fresh_for`](Self::fresh_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    /// use std::time::Duration;
    ///
    /// let cache = AsyncLru::<u32, u32>::builder()
    ///     .fresh_for(Duration::from_secs(60))
    ///     .refresh_retry(Duration::from_secs(5))
    ///     .build();
    /// assert_eq!(cache.info().refresh_retry, Duration::from_secs(5));
    /// ```
    pub fn refresh_retry(mut self, retry: Duration) -> Self {
        self.settings.lifetimes.set_retry(retry);
        self
    }

    /// Gives loads that nobody polls to an executor: refreshes of [detached](crate::Entry::detached) calls
    /// and of a [`Memo`](crate::Memo), for which nobody waits then, and their loads whose last caller has
    /// left, which are dropped otherwise.
    ///
    /// `spawn` has the executor run the [`Task`](crate::Task) that it is given, such as
    /// `|task| drop(tokio::spawn(task))` or `|task| smol::spawn(task).detach()`; for those that have no such
    /// function there is [`background`](crate::background). It is called by whoever finds the entry stale or
    /// leaves the load, within a `Drop` too, and must not wait.
    ///
    /// A task that is run late or dropped harms nobody: the next call takes its key up. One that is leaked
    /// keeps its key from being refreshed until that is written, evicted or expires. If `spawn` panics, the
    /// load is dropped, and the panic goes no further than the panic hook. A task does not keep the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let executor = std::sync::Arc::new(smol::Executor::new());
    /// let (clock, spawner) = (ManualClock::new(), executor.clone());
    /// let double = AsyncLru::<u32, u32>::builder()
    ///     .fresh_for(Duration::from_secs(60))
    ///     .clock(clock.clone())
    ///     .spawner(move |task| spawner.spawn(task).detach())
    ///     .wrap(|number| async move { 2 * number });
    /// futures_lite::future::block_on(executor.run(async {
    ///     assert_eq!(double.call(4).await, 8);
    ///     clock.advance(Duration::from_secs(60));
    ///     // Stale, and served at once.
    ///     assert_eq!(double.call(4).await, 8);
    ///     while double.stats().loads < 2 {
    ///         futures_lite::future::yield_now().await;
    ///     }
    /// }));
    /// assert_eq!((double.stats().stale_hits, double.stats().refreshes), (1, 1));
    /// ```
    pub fn spawner(mut self, spawn: impl Fn(Task) + Send + Sync + 'static) -> Self
    where
        K: Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        self.settings.spawner = Some(Box::new(move |store, flights| spawn(task(&store, flights))));
        self
    }

    /// Calls `listener` with every entry that leaves the cache, and the cause of that; the last of
    /// several calls wins.
    ///
    /// The listener owns the key and the value. It hears of each entry exactly once, and of the entries
    /// of a shard in the order in which they leave it, those of a [`clear`](AsyncLru::clear) least
    /// recently used first. Calls that return the value of an entry that leaves, such as
    /// [`remove`](AsyncLru::remove), return a clone of it.
    ///
    /// It runs within the call by which the entry leaves, before that returns and while no lock is
    /// held. If it is running already for an entry of the same shard, in another thread or further out
    /// in this one, then it runs after that, and in its place; so a listener may call the cache, and is
    /// never called within itself for a shard. A call may thus have to call the listener for others, and
    /// a listener by each of whose calls something leaves is called for ever. Keep it short, and send
    /// what takes long through a channel to a task.
    ///
    /// Listeners of different shards may run at the same time or one within another, so hold no lock of
    /// your own over a call of the cache.
    ///
    /// A value that is handed to the cache and never kept is reported as
    /// [`Rejected`](RemovalCause::Rejected). The entries that are dropped with the last handle of the cache
    /// are not reported, for that may be anywhere, and the listener would run there;
    /// [`clear_blocking`](AsyncLru::clear_blocking) before it reports them.
    ///
    /// Writers wait for a listener that is slower than they are. While it runs elsewhere, a call leaves
    /// what it has removed to that thread, as long as no more than 128 entries of a shard wait; then it waits
    /// until its own are reported, as the last thing that it does, when the cache is as it will be:
    /// asynchronous calls without blocking their thread, `_blocking` ones by blocking it. Readers, calls
    /// made within any listener, and whatever is dropped wait for none. Nor does one call report for all
    /// others: after 64 entries it takes no more over, and others go on. So a listener must not wait for
    /// a thread that writes to the cache. Whoever keeps a call that waits and does not poll it holds up
    /// nobody.
    ///
    /// If the listener panics, it is called for all else that is to be reported, and then the first
    /// panic reaches the call within which it ran; unless that is unwinding from another panic.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, RemovalCause};
    /// use std::sync::mpsc;
    ///
    /// let (removals, removed) = mpsc::channel();
    /// let cache = AsyncLru::<u32, String>::builder()
    ///     .maxsize(1)
    ///     .on_remove(move |key, value, cause| drop(removals.send((key, value, cause))))
    ///     .build();
    /// cache.insert_blocking(1, "one".to_owned());
    /// cache.insert_blocking(2, "two".to_owned());
    /// assert_eq!(cache.remove_blocking(&2).as_deref(), Some("two"));
    ///
    /// drop(cache);
    /// let removed: Vec<_> = removed.into_iter().collect();
    /// assert_eq!(removed[0], (1, "one".to_owned(), RemovalCause::Capacity));
    /// assert_eq!(removed[1], (2, "two".to_owned(), RemovalCause::Removed));
    /// ```
    pub fn on_remove(
        mut self,
        listener: impl Fn(K, V, RemovalCause) + Send + Sync + 'static,
    ) -> Self
    where
        V: Clone,
    {
        self.settings.listener = Some(Listener::new(listener));
        self
    }

    /// Sets the clock that tells when entries expire; the operating system's by default, which is not
    /// asked before an entry may expire.
    ///
    /// On `wasm32-unknown-unknown` that one panics, so that a cache which uses time needs another there.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    ///
    /// let clock = ManualClock::new();
    /// let cache = AsyncLru::<u32, u32>::builder().clock(clock.clone()).build();
    /// assert_eq!(cache.len(), 0);
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        match (&clock as &dyn Any).downcast_ref::<SystemClock>() {
            Some(system) => self.settings.lifetimes.set_system(*system),
            None => self.settings.lifetimes.set_clock(Arc::new(clock)),
        }
        self
    }

    /// Has the time measured that loads take, by the cache's [`clock`](Self::clock); see
    /// [`CacheStats::load_time`](crate::CacheStats::load_time). Without it that is zero, and loads ask no
    /// clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let cache = AsyncLru::<u32, u32>::builder().clock(clock.clone()).record_load_time().build();
    /// let load = async || {
    ///     clock.advance(Duration::from_millis(20));
    ///     10
    /// };
    /// futures_lite::future::block_on(cache.get_or_insert_with(1, load));
    /// assert_eq!(cache.stats().load_time, Duration::from_millis(20));
    /// ```
    pub fn record_load_time(mut self) -> Self {
        self.settings.records_load_time = true;
        self
    }

    /// Names the cache, to tell it from others where its figures are shown.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::builder().name("users").build();
    /// assert_eq!(cache.info().name.as_deref(), Some("users"));
    /// ```
    pub fn name(mut self, name: &'static str) -> Self {
        self.settings.name = Some(name);
        self
    }

    /// Sets what of a wrapped function's arguments is the key; all of them by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let greet = AsyncLru::builder()
    ///     .key_extractor(|(name, _request_id): &(String, u64)| name.clone())
    ///     .wrap(async |(name, _request_id): (String, u64)| format!("hello {name}"));
    ///
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(greet.call(("ann".to_owned(), 1)).await, "hello ann");
    ///     assert_eq!(greet.call(("ann".to_owned(), 2)).await, "hello ann");
    ///     assert_eq!(greet.stats().loads, 1);
    /// });
    /// ```
    pub fn key_extractor<Args, X2>(self, extractor: X2) -> Builder<K, V, S, X2>
    where
        X2: KeyExtractor<Args, Key = K>,
    {
        self.with(|hasher, _| (hasher, extractor))
    }

    /// Builds a cache and wraps `function` in it; see [`Memo`].
    ///
    /// The function takes its arguments as one value, a tuple if there are several, and keeps what it needs
    /// in its future: `move |id| { let db = db.clone(); async move { db.load(id).await } }`. An async closure
    /// does as well unless it borrows what it has captured. For a function that returns a `Result` there is
    /// [`try_wrap`](Self::try_wrap), which caches only `Ok`; this one would cache errors too.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let square = AsyncLru::<u64, u64>::builder().maxsize(10).wrap(async |n: u64| n * n);
    /// assert_eq!(futures_lite::future::block_on(square.call(7)), 49);
    /// ```
    #[must_use]
    pub fn wrap<Args, F, Fut>(self, function: F) -> Memo<Args, K, V, S>
    where
        K: Hash + Eq,
        V: 'static,
        X: KeyExtractor<Args, Key = K> + Send + Sync + 'static,
        F: Fn(Args) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let (cache, extractor) = self.into_parts();
        Memo::new(cache, function, extractor)
    }

    /// Builds a cache and wraps `function`, which can fail, in it; see [`TryMemo`].
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let parse = AsyncLru::builder().try_wrap(async |text: String| text.parse::<u32>());
    /// assert_eq!(futures_lite::future::block_on(parse.call("7".to_owned())), Ok(7));
    /// ```
    #[must_use]
    pub fn try_wrap<Args, F, Fut, E>(self, function: F) -> TryMemo<Args, K, V, E, S>
    where
        K: Hash + Eq,
        V: 'static,
        E: Send + Sync + 'static,
        X: KeyExtractor<Args, Key = K> + Send + Sync + 'static,
        F: Fn(Args) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (cache, extractor) = self.into_parts();
        TryMemo::new(cache, function, extractor)
    }

    /// Builds a cache and wraps `function` in it, which may borrow what it has captured and need not be
    /// `Send`; see [`LocalMemo`].
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    /// use std::rc::Rc;
    ///
    /// let factor = Rc::new(3);
    /// let multiply = AsyncLru::<u64, u64>::builder().wrap_local(async |n: u64| n * *factor);
    /// assert_eq!(futures_lite::future::block_on(multiply.call(7)), 21);
    /// ```
    #[must_use]
    pub fn wrap_local<Args, F, R>(self, function: F) -> LocalMemo<K, V, F, X, S>
    where
        K: Hash + Eq,
        X: KeyExtractor<Args, Key = K>,
        F: AsyncFn(Args) -> R,
    {
        let (cache, extractor) = self.into_parts();
        LocalMemo::new(cache, function, extractor)
    }

    /// The same configuration with what `change` makes of the two settings that have types of their own.
    fn with<S2, X2>(
        self,
        change: impl FnOnce(KeyHasher<S>, X) -> (KeyHasher<S2>, X2),
    ) -> Builder<K, V, S2, X2> {
        let Self { settings, hasher, extractor, types } = self;
        let (hasher, extractor) = change(hasher, extractor);
        Builder { settings, hasher, extractor, types }
    }

    fn into_parts(self) -> (AsyncLru<K, V, S>, X) {
        let hasher = self.hasher.into_inner();
        (AsyncLru::from_parts(self.settings.into_store(), hasher), self.extractor)
    }
}

impl<K, V> Settings<K, V> {
    fn into_store(self) -> Arc<Store<K, V>> {
        let limits = self.limits();
        Store::new(Config {
            shards: self.shards.unwrap_or_else(|| self.default_shards()),
            limits,
            eviction: self.eviction,
            lifetimes: self.lifetimes,
            measures: self.measures,
            coalescing: self.coalescing,
            listener: self.listener,
            records_load_time: self.records_load_time,
            spawner: self.spawner,
            name: self.name,
        })
    }

    /// The bounds, those included that others imply.
    fn limits(&self) -> Limits {
        let Self { maxsize, max_weight, max_bytes, .. } = *self;
        let has_another = max_weight.is_some() || max_bytes.is_some();
        let default = if has_another { MAX_ENTRIES } else { DEFAULT_MAXSIZE };
        Limits { maxsize: maxsize.unwrap_or(default), max_weight, max_bytes }
    }

    /// Enough shards that threads seldom meet, of enough entries that the order of eviction means something.
    fn default_shards(&self) -> usize {
        let maxsize = self.maxsize.unwrap_or(DEFAULT_MAXSIZE);
        if maxsize < SMALL {
            return 1;
        }
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let wanted = (8 * cores).next_power_of_two().clamp(FEWEST_SHARDS, MAX_SHARDS);
        // A power of two that leaves each as many entries, or (of exact order) not many fewer.
        let most = maxsize / SHARD_ENTRIES;
        let most = match self.eviction {
            Eviction::Lru => most.next_power_of_two(),
            Eviction::Adaptive => 1 << most.ilog2(),
        };
        wanted.min(most)
    }
}

impl<K, V, S> Builder<K, V, S> {
    /// Builds the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::builder().build();
    /// assert_eq!(cache.info().maxsize, 1024);
    /// ```
    #[must_use]
    pub fn build(self) -> AsyncLru<K, V, S> {
        self.into_parts().0
    }
}

impl<K, V, S, X> fmt::Debug for Builder<K, V, S, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("limits", &self.settings.limits())
            .field("ttl", &self.settings.lifetimes.ttl())
            .field("eviction", &self.settings.eviction)
            .field("shards", &self.settings.shards)
            .field("coalescing", &self.settings.coalescing)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_takes_no_random_numbers_before_it_builds() {
        let builder = Builder::<u32, u32>::new().maxsize(10);
        assert!(matches!(builder.hasher, KeyHasher::Default(_)));
        let builder = builder.hasher(std::hash::RandomState::new());
        assert!(matches!(builder.hasher, KeyHasher::Given(_)));
        assert_eq!(builder.build().info().maxsize, 10);
    }
}
