//! Loads that outlive the call that started them.

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::{AsyncLru, Inner};
use crate::flight::Outcome;
use crate::load::answer::{Borrowed, Infallible, KeySource, Loader, Owned, SharedError};
use crate::load::detached::fetch_detached;

/// Reading or loading, with a load that does not depend on the call that started it.
impl<K: Hash + Eq, V: Clone + 'static, S: BuildHasher> AsyncLru<K, V, S> {
    /// Like [`get_or_insert_with`](Self::get_or_insert_with), with a load that every call for the key
    /// moves on.
    ///
    /// The future that `load` makes lives in the cache and not in this call's future. Whichever call
    /// for the key is polled polls it, so a call that is dropped, or kept alive and not polled any
    /// more, holds up nobody and no work is lost. When the last call that waits for it goes, the load
    /// is dropped. Nothing is spawned: a load that nobody waits for does not go on.
    ///
    /// Calls of all forms for one key share its load, whichever of them has started it. A load that
    /// was started by another form stays in the future of its own call, and this one waits for it.
    ///
    /// As any of the calls may poll the load, so may any of their threads and executors. A future that
    /// works on one executor only needs all calls for its key to be on that one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait
    /// for it; if there are none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others
    /// go on as if it had been dropped. If the load asks the cache for the very key that it loads,
    /// since it would wait for itself; told as for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_lite::future::{block_on, poll_once, yield_now};
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let load = || async {
    ///     yield_now().await;
    ///     49
    /// };
    /// block_on(async {
    ///     let mut started = Box::pin(cache.get_or_insert_detached(7, load));
    ///     assert_eq!(poll_once(&mut started).await, None);
    ///     // Not polled any more, which would hold up `get_or_insert_with`.
    ///     let other = cache.get_or_insert_with(7, async || unreachable!("it joins the load"));
    ///     assert_eq!(other.await, 49);
    ///     assert_eq!(started.await, 49);
    /// });
    /// ```
    pub fn get_or_insert_detached<F, Fut>(&self, key: K, load: F) -> impl Future<Output = V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V> + Send + 'static,
    {
        self.fetch_detached(Owned(key), || into_value(load()), Infallible)
    }

    /// Like [`get_or_insert_detached`](Self::get_or_insert_detached), with a key that is cloned only on
    /// a miss.
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_detached`](Self::get_or_insert_detached).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_detached`](Self::get_or_insert_detached).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, usize>::new(10);
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.get_or_insert_detached_ref("four", || async { 4 }).await, 4);
    ///     assert_eq!(cache.get_or_insert_detached_ref("four", || async { 5 }).await, 4);
    /// });
    /// ```
    pub fn get_or_insert_detached_ref<Q, F, Fut>(&self, key: &Q, load: F) -> impl Future<Output = V>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = V> + Send + 'static,
    {
        self.fetch_detached(Borrowed(key), || into_value(load()), Infallible)
    }

    /// Like [`get_or_insert_detached`](Self::get_or_insert_detached) for a load that can fail: only
    /// `Ok` is cached, and every call that waits for the load gets its error.
    ///
    /// The error is shared since the call that started the load may be gone when it fails.
    ///
    /// # Errors
    ///
    /// Returns the error of the load that this call started or waited for. A call that waited for a
    /// load whose error is not an `E`, or was not to be shared, runs its own closure.
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_detached`](Self::get_or_insert_detached).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_detached`](Self::get_or_insert_detached).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let failed = cache.try_get_or_insert_detached(1, || async { Err("down") }).await;
    ///     assert_eq!(failed, Err("down"));
    ///     let loaded = cache.try_get_or_insert_detached(1, || async { Ok::<_, ()>(10) }).await;
    ///     assert_eq!(loaded, Ok(10));
    /// });
    /// ```
    pub fn try_get_or_insert_detached<E, F, Fut>(
        &self,
        key: K,
        load: F,
    ) -> impl Future<Output = Result<V, E>>
    where
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.fetch_detached(Owned(key), || into_outcome(load()), SharedError::new())
    }

    /// Like [`try_get_or_insert_detached`](Self::try_get_or_insert_detached), with a key that is cloned
    /// only on a miss.
    ///
    /// # Errors
    ///
    /// As for [`try_get_or_insert_detached`](Self::try_get_or_insert_detached).
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_detached`](Self::get_or_insert_detached).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_detached`](Self::get_or_insert_detached).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// let failed = cache.try_get_or_insert_detached_ref("a", || async { Err::<u32, _>("down") });
    /// assert_eq!(futures_lite::future::block_on(failed), Err("down"));
    /// assert!(cache.is_empty());
    /// ```
    pub fn try_get_or_insert_detached_ref<Q, E, F, Fut>(
        &self,
        key: &Q,
        load: F,
    ) -> impl Future<Output = Result<V, E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.fetch_detached(Borrowed(key), || into_outcome(load()), SharedError::new())
    }

    fn fetch_detached<P, F, Fut>(
        &self,
        key: impl KeySource<K>,
        load: F,
        loader: P,
    ) -> impl Future<Output = P::Answer<P::Told<V>>>
    where
        P: Loader,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Outcome<V>> + Send + 'static,
    {
        let Inner { hasher, store } = &*self.inner;
        fetch_detached(store, hasher, key, load, loader)
    }
}

async fn into_value<V>(load: impl Future<Output = V>) -> Outcome<V> {
    Outcome::Value(load.await)
}

async fn into_outcome<V, E>(load: impl Future<Output = Result<V, E>>) -> Outcome<V>
where
    E: Send + Sync + 'static,
{
    match load.await {
        Ok(value) => Outcome::Value(value),
        Err(error) => Outcome::Failure(Box::new(error)),
    }
}
