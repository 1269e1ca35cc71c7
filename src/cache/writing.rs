//! Guarding a write of the source of a cache.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};

use ahash::RandomState;
use equivalent::Equivalent;

use super::AsyncLru;
use crate::lifetime::Lifetime;
use crate::store::Store;
use crate::store::publish::{Insertion, Put};
use crate::store::steps;

/// Keeps loads of a key out of the cache while its source is written; made by [`AsyncLru::writing`].
#[must_use = "loads of the key are kept out as long as it lives"]
pub struct WriteGuard<'a, Q: Equivalent<K> + ?Sized, K, V, S = RandomState> {
    guard: Guard<Borrowed<'a, Q, K, V, S>>,
}

/// Does what a [`WriteGuard`] does, with a key and a handle of the cache of its own; made by
/// [`AsyncLru::writing_owned`].
#[must_use = "loads of the key are kept out as long as it lives"]
pub struct OwnedWriteGuard<K: Eq, V, S = RandomState> {
    guard: Guard<Owned<K, V, S>>,
}

/// Writing the source.
impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Guards a write of what `key` is loaded from, such as a row of a database.
    ///
    /// Invalidates the key now, keeps loads and updates of it out of the cache until the guard is dropped, and
    /// invalidates it once more then, also when the task is cancelled in between.
    ///
    /// An [`invalidate`](Self::invalidate) after the write would not come if the task were cancelled before
    /// it, and one before the write lets a load read the old row meanwhile and cache it for as long as its
    /// entry lives. Callers that miss the key during the guard share a load as ever, whose value they get.
    ///
    /// The guard has to live as long as the write. If the write goes on when its future is dropped, as that of
    /// most databases does once it was sent, run both in a task, with [`writing_owned`](Self::writing_owned).
    /// A value that is served stale in an outage is gone too, also if the write then fails.
    ///
    /// A guard that is leaked keeps its key out for ever. Never waits, for a listener neither.
    ///
    /// # Blocking
    ///
    /// For the time of one update, as every call does that writes; so does the drop of the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let users = AsyncLru::<String, u32>::new(100);
    /// users.insert_blocking("ann".to_owned(), 1);
    /// futures_lite::future::block_on(async {
    ///     let writing = users.writing("ann");
    ///     // Here the row is written; meanwhile nothing of it is cached.
    ///     assert_eq!(users.get_or_insert_with_ref("ann", async || 1).await, 1);
    ///     assert_eq!(users.get("ann"), None);
    ///     writing.insert(2).await;
    ///     assert_eq!(users.get("ann"), Some(2));
    /// });
    /// ```
    pub fn writing<'a, Q>(&'a self, key: &'a Q) -> WriteGuard<'a, Q, K, V, S>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        WriteGuard { guard: Guard::begin(self.hash(key), Borrowed { cache: self, key }) }
    }

    /// Like [`writing`](Self::writing), with a guard that owns its key and a handle of the cache: it can be
    /// kept in a struct, and moved into a task, for a write that goes on when its caller is gone.
    ///
    /// The cache lives at least as long as its guards.
    ///
    /// # Blocking
    ///
    /// As for [`writing`](Self::writing).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, OwnedWriteGuard};
    ///
    /// /// A row that is locked until it is stored or given up.
    /// struct Row {
    ///     writing: OwnedWriteGuard<u32, &'static str>,
    ///     name: &'static str,
    /// }
    ///
    /// impl Row {
    ///     async fn store(self) {
    ///         // Here it is written to the database.
    ///         self.writing.insert(self.name).await;
    ///     }
    /// }
    ///
    /// let users = AsyncLru::<u32, &str>::new(100);
    /// users.insert_blocking(1, "ann");
    /// let row = Row { writing: users.writing_owned(1), name: "anne" };
    /// assert_eq!(users.get(&1), None);
    /// futures_lite::future::block_on(row.store());
    /// assert_eq!(users.get(&1), Some("anne"));
    /// ```
    pub fn writing_owned(&self, key: K) -> OwnedWriteGuard<K, V, S>
    where
        K: Hash + Eq,
    {
        let hash = self.hash(&key);
        OwnedWriteGuard { guard: Guard::begin(hash, Owned { key, cache: self.clone() }) }
    }
}

impl<Q: Equivalent<K> + ?Sized, K, V, S> WriteGuard<'_, Q, K, V, S> {
    /// Gives the value that the guard ends with a lifetime of its own, in place of the cache's
    /// [`ttl`](crate::Builder::ttl): a `Duration`, or a [`Lifetime`], which can have a fresh time besides.
    ///
    /// As [`insert_with_ttl`](AsyncLru::insert_with_ttl) does; with zero the key is invalidated, and a
    /// listener hears of the value as [`Rejected`](crate::RemovalCause::Rejected). Means nothing to a guard that
    /// is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// futures_lite::future::block_on(cache.writing("a").ttl(minute).insert(1));
    /// assert!(cache.time_left("a") <= Some(minute));
    /// ```
    pub fn ttl(mut self, lifetime: impl Into<Lifetime>) -> Self {
        self.guard.own = Some(lifetime.into());
        self
    }
}

impl<Q: Equivalent<K> + ?Sized, K: Eq, V, S> WriteGuard<'_, Q, K, V, S> {
    /// Ends the guard with the new value in place of the last invalidation.
    ///
    /// If the key was written otherwise during the guard, the cache was emptied or
    /// [limited](AsyncLru::limit_ttl), or another guard of the key was there meanwhile, nobody knows whose value
    /// is the newer one. Then the key is invalidated instead, and a listener hears of the
    /// value as [`Rejected`](crate::RemovalCause::Rejected).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before its first poll drops the guard, which invalidates the key; later the value
    /// is in, or the key invalidated.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// futures_lite::future::block_on(cache.writing("a").insert(1));
    /// assert_eq!(cache.get("a"), Some(1));
    ///
    /// let writing = cache.writing("a");
    /// cache.insert_blocking("a".to_owned(), 2);
    /// futures_lite::future::block_on(writing.insert(3));
    /// assert_eq!(cache.get("a"), None);
    /// ```
    pub async fn insert(self, value: V)
    where
        Q: ToOwned<Owned = K>,
    {
        let Borrowed { cache, key } = self.guard.target;
        self.guard.begin_insert(cache.store(), key.to_owned(), value).await;
    }

    /// Does as [`insert`](Self::insert), with a key at hand, which equals the one that is guarded.
    ///
    /// # Cancel safety
    ///
    /// As for [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// futures_lite::future::block_on(cache.writing("a").insert_as("a".to_owned(), 1));
    /// assert_eq!(cache.get("a"), Some(1));
    /// ```
    pub async fn insert_as(self, key: K, value: V) {
        let cache = self.guard.target.cache;
        self.guard.begin_insert(cache.store(), key, value).await;
    }
}

impl<K: Eq, V, S> OwnedWriteGuard<K, V, S> {
    /// Gives the value that the guard ends with a lifetime of its own; see [`WriteGuard::ttl`].
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, Lifetime};
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let cache = AsyncLru::<u32, u32>::builder().fresh_for(minute).build();
    /// let lifetime = Lifetime::new(10 * minute).fresh_for(2 * minute);
    /// futures_lite::future::block_on(cache.writing_owned(1).ttl(lifetime).insert(10));
    /// assert!(cache.time_left(&1) <= Some(10 * minute));
    /// ```
    pub fn ttl(mut self, lifetime: impl Into<Lifetime>) -> Self {
        self.guard.own = Some(lifetime.into());
        self
    }

    /// Ends the guard with the new value in place of the last invalidation; see [`WriteGuard::insert`].
    ///
    /// # Cancel safety
    ///
    /// As for [`WriteGuard::insert`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let writing = cache.writing_owned(1);
    /// let task = std::thread::spawn(|| futures_lite::future::block_on(writing.insert(10)));
    /// task.join().unwrap();
    /// assert_eq!(cache.get(&1), Some(10));
    /// ```
    #[expect(clippy::manual_async_fn, reason = "it would keep its key twice")]
    pub fn insert(self, value: V) -> impl Future<Output = ()>
    where
        K: Clone,
    {
        async move {
            let Owned { key, cache } = &self.guard.target;
            let (key, cache) = (key.clone(), cache.clone());
            self.guard.begin_insert(cache.store(), key, value).await;
        }
    }
}

/// The key that a guard is of, and its cache.
trait Target {
    type Key;
    type Value;
    type Query: Equivalent<Self::Key> + ?Sized;

    fn query(&self) -> &Self::Query;
    fn store(&self) -> &Store<Self::Key, Self::Value>;
}

struct Borrowed<'a, Q: ?Sized, K, V, S> {
    cache: &'a AsyncLru<K, V, S>,
    key: &'a Q,
}

impl<Q: Equivalent<K> + ?Sized, K, V, S> Target for Borrowed<'_, Q, K, V, S> {
    type Key = K;
    type Value = V;
    type Query = Q;

    fn query(&self) -> &Q {
        self.key
    }

    fn store(&self) -> &Store<K, V> {
        self.cache.store()
    }
}

struct Owned<K, V, S> {
    key: K,
    /// Last, for it may be the last handle.
    cache: AsyncLru<K, V, S>,
}

impl<K: Eq, V, S> Target for Owned<K, V, S> {
    type Key = K;
    type Value = V;
    type Query = K;

    fn query(&self) -> &K {
        &self.key
    }

    fn store(&self) -> &Store<K, V> {
        self.cache.store()
    }
}

/// A guard, whatever it owns.
struct Guard<T: Target> {
    hash: u64,
    /// The lifetime of the value that it ends with.
    own: Option<Lifetime>,
    /// Whether its end is still to be told.
    is_held: bool,
    target: T,
}

impl<T: Target> Guard<T> {
    fn begin(hash: u64, target: T) -> Self {
        let removed = target.store().begin_writing(hash, target.query());
        let guard = Self { hash, own: None, is_held: true, target };
        // Not before there is a guard, or a `Drop` of the user's that panics would leave it held for ever.
        drop(removed.into_found());
        guard
    }

    /// Publishes the value; apart from the futures, which would hold it twice. The store is that of its
    /// target, which what is left to do may outlive.
    fn begin_insert<'a>(
        self,
        store: &'a Store<T::Key, T::Value>,
        key: T::Key,
        value: T::Value,
    ) -> impl Future<Output = ()> + use<'a, T>
    where
        T::Key: Eq,
    {
        let put = store.begin_put_guarded(self.hash, key, value, self.own);
        let Put { replaced, deliveries, rest } = put;
        let rest = match rest {
            None => {
                self.release();
                None
            }
            // In a box, so that the future needs no room for what few calls do.
            Some(insertion) => Some(Box::pin(self.finish(store, insertion))),
        };
        drop(replaced);
        async {
            deliveries.settle().await;
            if let Some(rest) = rest {
                rest.await;
            }
        }
    }

    /// Makes the rest of the room for the value.
    async fn finish(
        self,
        store: &Store<T::Key, T::Value>,
        mut insertion: Box<Insertion<'_, T::Key, T::Value>>,
    ) where
        T::Key: Eq,
    {
        steps::run(store, &mut *insertion).await;
        self.release();
        insertion.into_deliveries().settle().await;
    }

    /// Ends the guard without an invalidation.
    fn release(mut self) {
        self.is_held = false;
        self.target.store().shard(self.hash).release_guard(self.hash);
    }
}

impl<T: Target> Drop for Guard<T> {
    fn drop(&mut self) {
        if self.is_held {
            let store = self.target.store();
            drop(store.end_writing(self.hash, self.target.query()).into_found());
        }
    }
}

/// Shows nothing of the key.
impl<Q: Equivalent<K> + ?Sized, K, V, S> fmt::Debug for WriteGuard<'_, Q, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard").finish_non_exhaustive()
    }
}

/// Shows nothing of the key.
impl<K: Eq, V, S> fmt::Debug for OwnedWriteGuard<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedWriteGuard").finish_non_exhaustive()
    }
}
