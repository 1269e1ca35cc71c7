//! Reading or loading: the `get_or_insert` calls.

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use equivalent::Equivalent;

use super::AsyncLru;
use crate::load::answer::{Errors, Infallible, Plain, Terms, shared_error};
use crate::load::fetch;
use crate::load::key::{BorrowedKey, KeySource, OwnedKey};

/// Reading or loading, which waits for a load and for nothing else.
impl<K: Hash + Eq, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    /// Returns the live value of `key`, or runs `load` and caches what it gives.
    ///
    /// `load` is a closure, such as `|| query(id)` or `async || ..`, and not a future: it is called on a miss
    /// only. While one call's `load` runs, other calls for the key wait for it and get its value; their own
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
        self.fetch(OwnedKey(key), load, (Infallible, Plain))
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
        self.fetch(BorrowedKey(key), load, (Infallible, Plain))
    }

    /// Like [`get_or_insert_with`](Self::get_or_insert_with) for a load that can fail: only `Ok` is cached,
    /// and the calls that waited for a load which fails get its error too.
    ///
    /// As several callers may get the error, it comes in an [`Arc`]: a function that passes it on by `?` returns
    /// `Result<_, Arc<E>>`, or an error that is made `From<Arc<E>>`.
    ///
    /// So an outage of the source costs one load after another, and not one for each caller in turn. A
    /// call that comes after the failure loads anew. For an error that cannot be shared, or callers that
    /// are to try for themselves, there is [`Entry::or_try_insert_own`](crate::Entry::or_try_insert_own).
    ///
    /// # Errors
    ///
    /// Returns the error of the load that this call ran or waited for. A call that waited for a load whose
    /// error is of another type than `E`, or is not shared, runs its own closure.
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
    /// block_on(async {
    ///     let calls = zip(
    ///         cache.try_get_or_insert_with(1, down),
    ///         cache.try_get_or_insert_with(1, async || unreachable!("it waits for the other")),
    ///     );
    ///     let (first, second) = calls.await;
    ///     assert_eq!((*first.unwrap_err(), *second.unwrap_err()), ("down", "down"));
    ///
    ///     let loaded = cache.try_get_or_insert_with(1, async || Ok::<_, &str>(10)).await;
    ///     assert_eq!(loaded, Ok(10));
    /// });
    /// ```
    pub fn try_get_or_insert_with<E, F, Fut>(
        &self,
        key: K,
        load: F,
    ) -> impl Future<Output = Result<V, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(OwnedKey(key), load, (shared_error(), Plain))
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
    ) -> impl Future<Output = Result<V, Arc<E>>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(BorrowedKey(key), load, (shared_error(), Plain))
    }
}

impl<K: Hash + Eq, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    pub(super) fn fetch<P, T, F, Fut>(
        &self,
        key: impl KeySource<K>,
        load: F,
        form: (P, T),
    ) -> impl Future<Output = P::Answer<T::Told>>
    where
        P: Errors,
        T: Terms<V>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = P::Given<T::Given>>,
    {
        let (store, hasher) = (self.store(), self.hasher());
        fetch(store, hasher, key, load, form)
    }
}
