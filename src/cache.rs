//! The cache as its users see it.

mod bounds;
pub(crate) mod builder;
mod bulk;
mod detached;
mod inspect;
mod janitor;
mod lookup;
pub(crate) mod memo;
mod snapshot;
pub(crate) mod stats;
mod sweep;
mod ttl;
mod update;

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

pub use self::lookup::{Lookup, LookupOutcome};

use ahash::RandomState;
use equivalent::Equivalent;
use futures_lite::future::yield_now;

use crate::cache::builder::Builder;
use crate::cache::stats::{CacheInfo, CacheStats, pretty_bytes};
use crate::load::answer::{Borrowed, Infallible, KeySource, Loader, OwnError, Owned, SharedError};
use crate::load::fetch;
use crate::shard::removals::Deliveries;
use crate::shard::{Departed, Origin, Purged};
use crate::store::{Purge, Store, hash_of};
use crate::sync::counters::Event;

pub use self::update::Update;

/// An async LRU cache: one load per key, however many tasks ask for it at once.
///
/// A handle; a clone is another handle to the same cache. The cache holds at most
/// [`maxsize`](Builder::maxsize) entries and evicts the least recently used. A *use* is a
/// [`get`](Self::get) or a `get_or_insert` call that finds the entry, or an [`insert`](Self::insert).
/// With one shard the order is exact; with several it is exact within each shard.
///
/// Keys may be asked for in any form `Q` that hashes and compares like `K` (`Q: Hash +
/// Equivalent<K>`), such as `&str` for `String`. The key's `Eq` and the value's `Clone` run under a
/// lock of the cache and must not call it. If they, or any other code of the user's, panic, the panic
/// reaches the caller and leaves the cache valid.
///
/// No bound is put on `K`, `V` or the futures but where it is needed: values may be `Rc`s on a local
/// executor, and the futures are `Send` if what they hold is. It is needed for the loads of
/// [`get_or_insert_detached`](Self::get_or_insert_detached), which any thread may poll and which are
/// `Send + 'static`, for errors that callers share, and for the functions that the [`Builder`] is given,
/// listeners among them, and the predicates of [`invalidate_if`](Self::invalidate_if), which are
/// `Send + Sync + 'static`.
///
/// # Examples
///
/// ```
/// use async_lru::AsyncLru;
///
/// let cache = AsyncLru::<String, usize>::new(100);
/// futures_lite::future::block_on(async {
///     let load = async || "some work".len();
///     assert_eq!(cache.get_or_insert_with("key".to_owned(), load).await, 9);
///     assert_eq!(cache.get("key"), Some(9));
/// });
/// ```
pub struct AsyncLru<K, V, S = RandomState> {
    inner: Arc<Inner<K, V, S>>,
}

struct Inner<K, V, S> {
    hasher: S,
    store: Store<K, V>,
}

/// The live value that an insertion has replaced, and what is left to do for the listener.
type Replaced<K, V> = (Option<V>, Deliveries<K, V>);

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

impl<K, V, S> AsyncLru<K, V, S> {
    pub(crate) fn from_parts(store: Store<K, V>, hasher: S) -> Self {
        Self { inner: Arc::new(Inner { hasher, store }) }
    }

    fn store(&self) -> &Store<K, V> {
        &self.inner.store
    }
}

/// Reading, which never waits.
impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        hash_of(&self.inner.hasher, key)
    }

    /// Returns the live value of `key`; counts as a hit or a miss, and a hit as a use of the entry.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// cache.insert_blocking("a".to_owned(), 1);
    /// assert_eq!(cache.get("a"), Some(1));
    /// assert_eq!(cache.get("b"), None);
    /// ```
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        let store = self.store();
        let value = store.get(self.hash(key), key);
        if value.is_none() {
            store.count(Event::Miss);
        }
        value
    }

    /// Returns the live value of `key`; counts neither in the statistics nor as a use of the entry.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.peek(&1), Some(10));
    /// assert_eq!(cache.stats().hits, 0);
    /// ```
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.store().peek(self.hash(key), key, V::clone)
    }

    /// Tells whether there is a live entry of `key`; counts neither in the statistics nor as a use.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert!(cache.contains_key(&1));
    /// assert!(!cache.contains_key(&2));
    /// ```
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.store().peek(self.hash(key), key, |_| ()).is_some()
    }
}

/// Reading or loading, which waits for a load and for nothing else.
impl<K: Hash + Eq, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    /// Returns the live value of `key`, or runs `load` and caches what it gives.
    ///
    /// While one call's `load` runs, other calls for the key wait for it and get its value; their own
    /// closures are dropped unused. An [`insert`](Self::insert), [`remove`](Self::remove),
    /// [`invalidate`](Self::invalidate) or [`clear`](Self::clear) meanwhile wins: the load's value goes
    /// to the calls that have joined it and is not cached.
    ///
    /// The load runs inside this call's future. A call that is kept alive but not polled any more keeps
    /// those that wait for it waiting; so an arm of a `select!` or `or` that has lost should be dropped
    /// and not kept.
    ///
    /// A call that hits is ready at once and never yields. A loop of nothing but hits thus keeps its
    /// thread, and a timeout around it does not fire; `tokio::task::consume_budget` or a yield within the
    /// loop helps.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. If it was loading, its load is dropped
    /// and exactly one of the waiting calls runs its own closure instead, the first to be polled.
    ///
    /// # Panics
    ///
    /// If `load` panics; calls that wait for it go on as if this one had been dropped. If `load` asks
    /// the cache for the very key that it loads, directly or through loads of other keys within the
    /// same task, since it would wait for itself. The task is told by its waker: a `load` that asks
    /// through something that polls with wakers of its own, such as `FuturesUnordered` or `block_on`, is
    /// not found out and waits for ever. Other tasks that an executor within the load polls may wait for
    /// it.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, String>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let name = cache.get_or_insert_with(7, async || "seven".to_owned()).await;
    ///     assert_eq!(name, "seven");
    ///     let again = cache.get_or_insert_with(7, async || unreachable!()).await;
    ///     assert_eq!(again, "seven");
    /// });
    /// ```
    pub fn get_or_insert_with<F, Fut>(&self, key: K, load: F) -> impl Future<Output = V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        self.fetch(Owned(key), load, Infallible)
    }

    /// Like [`get_or_insert_with`](Self::get_or_insert_with), with a key that is cloned only on a miss.
    ///
    /// A key of up to 32 bytes that needs no `Drop`, such as a number, may be cloned on a hit as well: that
    /// is sooner done than to look twice.
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, usize>::new(10);
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.get_or_insert_with_ref("four", async || 4).await, 4);
    ///     assert_eq!(cache.get_or_insert_with_ref("four", async || 5).await, 4);
    /// });
    /// ```
    pub fn get_or_insert_with_ref<Q, F, Fut>(&self, key: &Q, load: F) -> impl Future<Output = V>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        self.fetch(Borrowed(key), load, Infallible)
    }

    /// Like [`get_or_insert_with`](Self::get_or_insert_with) for a load that can fail: only `Ok` is
    /// cached.
    ///
    /// # Errors
    ///
    /// Returns the error of this call's own `load`. Calls that waited for it run their own closures,
    /// one after another, until one succeeds.
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let failed = cache.try_get_or_insert_with(1, async || Err("no luck")).await;
    ///     assert_eq!(failed, Err("no luck"));
    ///     let loaded = cache.try_get_or_insert_with(1, async || Ok::<_, ()>(10)).await;
    ///     assert_eq!(loaded, Ok(10));
    /// });
    /// ```
    pub fn try_get_or_insert_with<E, F, Fut>(
        &self,
        key: K,
        load: F,
    ) -> impl Future<Output = Result<V, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(Owned(key), load, OwnError::new())
    }

    /// Like [`try_get_or_insert_with`](Self::try_get_or_insert_with), with a key that is cloned only on
    /// a miss.
    ///
    /// # Errors
    ///
    /// As for [`try_get_or_insert_with`](Self::try_get_or_insert_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let parsed = cache.try_get_or_insert_with_ref("12", async || "12".parse::<u32>()).await;
    ///     assert_eq!(parsed, Ok(12));
    /// });
    /// ```
    pub fn try_get_or_insert_with_ref<Q, E, F, Fut>(
        &self,
        key: &Q,
        load: F,
    ) -> impl Future<Output = Result<V, E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(Borrowed(key), load, OwnError::new())
    }

    /// Like [`try_get_or_insert_with`](Self::try_get_or_insert_with), but every call that waits for the
    /// load gets its error.
    ///
    /// # Errors
    ///
    /// Returns the error of the load that this call ran or waited for. A call that waited for a load
    /// whose error is not an `E`, or was not to be shared, runs its own closure.
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_lite::future::{block_on, yield_now, zip};
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let down = async || {
    ///     yield_now().await;
    ///     Err("down")
    /// };
    /// let calls = zip(
    ///     cache.try_get_or_insert_shared(1, down),
    ///     cache.try_get_or_insert_shared(1, async || unreachable!("it waits for the other")),
    /// );
    /// assert_eq!(block_on(calls), (Err("down"), Err("down")));
    /// ```
    pub fn try_get_or_insert_shared<E, F, Fut>(
        &self,
        key: K,
        load: F,
    ) -> impl Future<Output = Result<V, E>>
    where
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(Owned(key), load, SharedError::new())
    }

    /// Like [`try_get_or_insert_shared`](Self::try_get_or_insert_shared), with a key that is cloned
    /// only on a miss.
    ///
    /// # Errors
    ///
    /// As for [`try_get_or_insert_shared`](Self::try_get_or_insert_shared).
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// let failed = cache.try_get_or_insert_shared_ref("a", async || Err::<u32, _>("down"));
    /// assert_eq!(futures_lite::future::block_on(failed), Err("down"));
    /// assert!(cache.is_empty());
    /// ```
    pub fn try_get_or_insert_shared_ref<Q, E, F, Fut>(
        &self,
        key: &Q,
        load: F,
    ) -> impl Future<Output = Result<V, E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(Borrowed(key), load, SharedError::new())
    }
}

impl<K: Hash + Eq, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    fn fetch<P, F, Fut>(
        &self,
        key: impl KeySource<K>,
        load: F,
        loader: P,
    ) -> impl Future<Output = P::Answer<P::Told<V>>>
    where
        P: Loader,
        F: FnOnce() -> Fut,
        Fut: Future<Output = P::Answer<V>>,
    {
        let Inner { hasher, store } = &*self.inner;
        fetch(store, hasher, key, load, loader)
    }
}

/// Writing, which waits for other writers of the same shard, for a listener that is far behind, and for
/// nothing else.
impl<K: Hash + Eq, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Inserts an entry as the most recently used, and returns the live value that it replaces.
    ///
    /// An equal key that was there is replaced with its value.
    ///
    /// Wins over loads of the key that are in flight. In a full cache the least recently used entry
    /// makes room, unless the key was there already; where entries are weighed, as many as it takes. A
    /// value that can never fit is not kept, and the one before it goes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid; the entry is in or, if the call had to wait for
    /// another writer, not, though some of the entries that were to make room may be gone. A call that
    /// waits for a [listener](Builder::on_remove) has its entry in.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.insert(1, 10).await, None);
    ///     assert_eq!(cache.insert(1, 11).await, Some(10));
    /// });
    /// ```
    pub fn insert(&self, key: K, value: V) -> impl Future<Output = Option<V>> {
        self.put(key, value, None)
    }

    /// [`insert`](Self::insert) for synchronous code.
    ///
    /// # Blocking
    ///
    /// Blocks the thread while another one uses the same shard, for one short section, and while a listener
    /// is far behind.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.get(&1), Some(10));
    /// ```
    pub fn insert_blocking(&self, key: K, value: V) -> Option<V> {
        self.put_blocking(key, value, None)
    }

    /// Inserts an entry that may have a lifetime of its `own`.
    async fn put(&self, key: K, value: V, own: Option<Duration>) -> Option<V> {
        let (replaced, deliveries) = self.put_now(key, value, own);
        if deliveries.is_empty() {
            replaced
        } else {
            Box::pin(deliveries.settle_with(replaced)).await
        }
    }

    /// Does the same, waiting for the listener by blocking the thread.
    fn put_blocking(&self, key: K, value: V, own: Option<Duration>) -> Option<V> {
        let (replaced, deliveries) = self.put_now(key, value, own);
        deliveries.settle_blocking();
        replaced
    }

    /// Publishes the entry, and returns what there was before and what is left to do for the listener.
    fn put_now(&self, key: K, value: V, own: Option<Duration>) -> Replaced<K, V> {
        let hash = self.hash(&key);
        let store = self.store();
        if own.is_some() {
            store.lifetimes().use_time();
        }
        let shard = store.shard(hash);
        if !store.takes_values() {
            shard.fence(hash, &key);
            return (None, Deliveries::default());
        }
        let appraised = store.appraise(&key, &value).with_own(own);
        let mut publication = store.publication(Origin::Caller(Some(key), hash), value, appraised);
        let mut departed = Departed::default();
        store.publish(shard, &mut publication, &mut departed);
        publication.into_replaced(departed)
    }
}

/// Removing, which waits for other writers of the same shard, for a listener that is far behind, and for
/// nothing else.
impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Removes the entry of `key` and returns its live value; wins over loads of the key in flight.
    ///
    /// # Cancel safety
    ///
    /// The entry is removed at the first poll. Dropping the future later leaves its report to the
    /// [listener](Builder::on_remove), if there is one, to others.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     cache.insert("a".to_owned(), 1).await;
    ///     assert_eq!(cache.remove("a").await, Some(1));
    ///     assert_eq!(cache.remove("a").await, None);
    /// });
    /// ```
    pub async fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (value, deliveries) = self.store().remove(self.hash(key), key).into_value();
        if deliveries.is_empty() { value } else { Box::pin(deliveries.settle_with(value)).await }
    }

    /// [`remove`](Self::remove) for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of one update, as every call does that writes.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.remove_blocking(&1), Some(10));
    /// ```
    pub fn remove_blocking<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (value, deliveries) = self.store().remove(self.hash(key), key).into_value();
        deliveries.settle_blocking();
        value
    }

    /// Removes what there is of `key`: a live entry, or loads in flight, whose values will not be
    /// cached. Says whether there was either.
    ///
    /// # Cancel safety
    ///
    /// As for [`remove`](Self::remove).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     cache.insert(1, 10).await;
    ///     assert!(cache.invalidate(&1).await);
    ///     assert!(!cache.invalidate(&1).await);
    /// });
    /// ```
    pub async fn invalidate<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (found, deliveries) = self.store().remove(self.hash(key), key).into_found();
        deliveries.settle().await;
        found
    }

    /// [`invalidate`](Self::invalidate) for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of one update, as every call does that writes.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert!(cache.invalidate_blocking(&1));
    /// ```
    pub fn invalidate_blocking<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (found, deliveries) = self.store().remove(self.hash(key), key).into_found();
        deliveries.settle_blocking();
        found
    }
}

/// All entries at once.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Removes all entries and resets the statistics; wins over all loads in flight.
    ///
    /// Entries that other tasks insert meanwhile may stay. The cache is empty at once; what was in it is
    /// dropped, or reported to the [listener](Builder::on_remove), in turns with other tasks.
    ///
    /// # Cancel safety
    ///
    /// The entries are removed at the first poll. Dropping the future later drops or reports the rest of
    /// them at once.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     cache.insert(1, 10).await;
    ///     cache.clear().await;
    ///     assert!(cache.is_empty());
    /// });
    /// ```
    pub async fn clear(&self) {
        /// How many entries are dropped before other tasks have the thread.
        const AT_ONCE: usize = 1024;
        let (mut emptied, deliveries) = self.store().clear();
        let mut dropped = 0;
        while let Some(shard) = emptied.last_mut() {
            dropped += shard.drop_some();
            if shard.is_empty() {
                emptied.pop();
            }
            if dropped > AT_ONCE {
                dropped = 0;
                yield_now().await;
            }
        }
        deliveries.settle().await;
    }

    /// [`clear`](Self::clear) for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of one update of each shard.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// cache.clear_blocking();
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn clear_blocking(&self) {
        let (emptied, deliveries) = self.store().clear();
        drop(emptied);
        deliveries.settle_blocking();
    }

    /// Frees the entries whose time is over, and returns how many.
    ///
    /// Writes free a few on their way, so this is for caches that are seldom written to. A shard that is
    /// less than a quarter full afterwards gives its memory back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid, with fewer entries freed.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let ttl = Duration::from_secs(1);
    /// let cache = AsyncLru::<u32, u32>::builder().ttl(ttl).clock(clock.clone()).build();
    /// futures_lite::future::block_on(async {
    ///     cache.insert(1, 10).await;
    ///     assert_eq!(cache.purge_expired().await, 0);
    ///     clock.advance(ttl);
    ///     assert_eq!(cache.purge_expired().await, 1);
    /// });
    /// ```
    pub async fn purge_expired(&self) -> usize {
        let Some(mut purge) = Purge::start(self.store()) else { return 0 };
        while let Some(step) = purge.step() {
            step.deliveries.settle().await;
            if step.purged == Purged::Some || purge.is_long() {
                yield_now().await;
            }
        }
        purge.freed()
    }

    /// [`purge_expired`](Self::purge_expired) for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of the work: microseconds for every hundred entries that have expired.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// assert_eq!(cache.purge_expired_blocking(), 0);
    /// ```
    pub fn purge_expired_blocking(&self) -> usize {
        let Some(mut purge) = Purge::start(self.store()) else { return 0 };
        while let Some(step) = purge.step() {
            step.deliveries.settle_blocking();
        }
        purge.freed()
    }
}

/// Looking at the cache as a whole.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Returns the number of entries. One that has expired counts until a write or a purge frees it.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.len(), 1);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.store().capacity().len()
    }

    /// Tells whether there is no entry.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(async_lru::AsyncLru::<u32, u32>::new(10).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the live keys, least recently used first; with several shards, shard by shard.
    ///
    /// `K: Clone` runs under a shared lock and must not call the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// for key in 1..=3 {
    ///     cache.insert_blocking(key, 0);
    /// }
    /// cache.get(&1);
    /// assert_eq!(cache.keys(), [2, 3, 1]);
    /// ```
    #[must_use]
    pub fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        let store = self.store();
        let now = store.lifetimes().roughly_now();
        let mut keys = Vec::with_capacity(self.len());
        for shard in store.shards() {
            shard.keys_into(&mut keys, now);
        }
        keys
    }

    /// Returns the configuration.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(async_lru::AsyncLru::<u32, u32>::new(10).info().shards, 1);
    /// ```
    #[must_use]
    pub fn info(&self) -> CacheInfo {
        let store = self.store();
        CacheInfo {
            maxsize: store.capacity().maxsize(),
            max_weight: store.capacity().weight().map(|weight| weight.max),
            max_bytes: store.capacity().bytes().map(|bytes| bytes.max),
            ttl: store.lifetimes().ttl(),
            time_to_idle: store.lifetimes().idle(),
            shards: store.shards().len(),
        }
    }

    /// Returns the statistics, at a cost that grows with the number of shards and not of entries.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.get(&1);
    /// assert_eq!(cache.stats().misses, 1);
    /// ```
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let store = self.store();
        let capacity = store.capacity();
        let (entries, weight, measured) = (capacity.entries(), capacity.weight(), capacity.bytes());
        let totals = store.counts();
        // The two counts of the `Arc`, padded to the alignment of what follows them.
        let counts = align_of::<Inner<K, V, S>>().max(2 * size_of::<usize>());
        let handle = (counts + size_of::<Inner<K, V, S>>()) as u64;
        let bytes = store.total_size().saturating_add(handle);
        CacheStats {
            current_size: entries.taken as usize,
            max_size: entries.max as usize,
            current_weight: weight.map(|weight| weight.taken),
            max_weight: weight.map(|weight| weight.max),
            current_bytes: measured.map(|bytes| bytes.taken),
            max_bytes: measured.map(|bytes| bytes.max),
            ttl: store.lifetimes().ttl(),
            hits: totals.hits,
            misses: totals.of(Event::Miss),
            coalesced: totals.of(Event::Coalesced),
            loads: totals.of(Event::Load),
            load_failures: totals.of(Event::LoadFailure),
            evictions: totals.of(Event::Eviction),
            expirations: totals.of(Event::Expiration),
            total_size_in_memory_bytes: bytes,
            total_size_in_memory_pretty: pretty_bytes(bytes),
        }
    }

    /// Starts counting from zero; entries stay.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.get(&1);
    /// cache.reset_stats();
    /// assert_eq!(cache.stats().misses, 0);
    /// ```
    pub fn reset_stats(&self) {
        self.store().reset_counts();
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V, S> AsyncLru<K, V, S> {
    /// Panics if anything in the cache disagrees with anything else, while no call writes to it;
    /// returns how many loads are in flight. For the crate's own tests.
    #[doc(hidden)]
    #[must_use]
    pub fn validate(&self) -> usize {
        self.store().validate()
    }
}

impl<K, V, S> Clone for AsyncLru<K, V, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// A panic of the user's code leaves the cache valid.
impl<K, V, S: UnwindSafe> UnwindSafe for AsyncLru<K, V, S> {}
impl<K, V, S: RefUnwindSafe> RefUnwindSafe for AsyncLru<K, V, S> {}

/// Shows sizes and settings, no keys and no values, and waits for nobody's work.
impl<K, V, S> fmt::Debug for AsyncLru<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CacheInfo { maxsize, max_weight, max_bytes, ttl, time_to_idle, shards } = self.info();
        f.debug_struct("AsyncLru")
            .field("len", &self.len())
            .field("maxsize", &maxsize)
            .field("max_weight", &max_weight)
            .field("max_bytes", &max_bytes)
            .field("ttl", &ttl)
            .field("time_to_idle", &time_to_idle)
            .field("shards", &shards)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::clock::ManualClock;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Uses a cache in every way that could need to know the time.
    fn use_all(cache: &AsyncLru<u32, u32>) {
        cache.insert_blocking(1, 10);
        let _ = (cache.get(&1), cache.peek(&1), cache.time_left(&1), cache.keys());
        assert!(poll(pin!(cache.get_or_insert_with(2, async || 20))).is_ready());
        assert!(poll(pin!(cache.get_or_insert_detached(3, || async { 30 }))).is_ready());
        assert!(poll(pin!(cache.get_or_insert_many([4], async |_| [(4, 40)]))).is_ready());
        assert!(poll(pin!(cache.update_with(1, async |_| Update::Put(11)))).is_ready());
        cache.restore_blocking(cache.snapshot_with_ttl());
        cache.invalidate_if_blocking(|key, _| *key == 3);
        cache.set_maxsize_blocking(2);
        cache.remove_blocking(&2);
        cache.purge_expired_blocking();
        let _ = (cache.info(), cache.stats(), format!("{cache:?}"));
        cache.clear_blocking();
    }

    #[test]
    fn the_system_is_asked_for_the_time_only_by_a_cache_that_uses_its_clock() {
        let builder = AsyncLru::<u32, u32>::builder;
        let minute = Duration::from_secs(60);
        let without_time = builder().build();
        use_all(&without_time);
        let asked = |cache: &AsyncLru<u32, u32>| cache.store().lifetimes().have_asked_the_system();
        assert!(!asked(&without_time));
        let rules = || {
            [
                builder().ttl(minute),
                builder().time_to_idle(minute),
                builder().expiry(move |_, _| Some(minute)),
            ]
        };
        for timed in rules() {
            let cache = timed.clock(ManualClock::new()).build();
            use_all(&cache);
            cache.insert_with_ttl_blocking(1, 10, minute);
            assert!(!asked(&cache));
        }
        for timed in rules() {
            let cache = timed.build();
            assert!(!asked(&cache), "it has not been used yet");
            cache.get(&1);
            assert!(asked(&cache));
        }
        without_time.insert_with_ttl_blocking(1, 10, minute);
        assert!(asked(&without_time));
    }
}
