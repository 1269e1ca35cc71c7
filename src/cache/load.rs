//! Reading or loading: the `get_or_insert` calls.

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::{AsyncLru, Inner};
use crate::load::answer::{Borrowed, Infallible, KeySource, Loader, OwnError, Owned, SharedError};
use crate::load::fetch;

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
    pub(super) fn fetch<P, F, Fut>(
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
