//! Calls that tell where their value came from.

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::AsyncLru;
use crate::flight::{Failure, Outcome};
use crate::load::answer::{Borrowed, Infallible, Loader, OwnError, Owned, Source};

/// A value, and where it came from; what [`AsyncLru::get_or_insert_traced`] returns.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, LookupOutcome};
///
/// let cache = AsyncLru::<u32, u32>::new(10);
/// let lookup = futures_lite::future::block_on(cache.get_or_insert_traced(1, async || 10));
/// assert_eq!((lookup.value, lookup.outcome), (10, LookupOutcome::Loaded));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lookup<V> {
    /// The value.
    pub value: V,
    /// Where it came from.
    pub outcome: LookupOutcome,
}

/// Where the value of a call came from.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, LookupOutcome};
///
/// let cache = AsyncLru::<u32, u32>::new(10);
/// cache.insert_blocking(1, 10);
/// let lookup = futures_lite::future::block_on(cache.get_or_insert_traced(1, async || 11));
/// assert_eq!(lookup.outcome, LookupOutcome::Hit);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LookupOutcome {
    /// From the cache, without waiting.
    Hit,
    /// From the call's own closure.
    Loaded,
    /// From another call's load that this one waited for.
    Joined,
}

/// A protocol that tells where a value came from.
struct Traced<P>(P);

impl<P: Loader> Loader for Traced<P> {
    type Error = P::Error;
    type Answer<T> = P::Answer<T>;
    type Told<V> = Lookup<V>;

    fn result<T>(answer: P::Answer<T>) -> Result<T, P::Error> {
        P::result(answer)
    }

    fn answer<T>(result: Result<T, P::Error>) -> P::Answer<T> {
        P::answer(result)
    }

    fn tell<V>(value: V, source: Source) -> Lookup<V> {
        let outcome = match source {
            Source::Cache => LookupOutcome::Hit,
            Source::Closure => LookupOutcome::Loaded,
            Source::Flight => LookupOutcome::Joined,
        };
        Lookup { value, outcome }
    }

    fn failure<V>(&self, error: &P::Error) -> Outcome<V> {
        self.0.failure(error)
    }

    fn shared(&self, failure: &Failure) -> Option<P::Error> {
        self.0.shared(failure)
    }
}

/// Reading or loading, and telling which.
impl<K: Hash + Eq, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    /// Like [`get_or_insert_with`](Self::get_or_insert_with), and tells where the value came from.
    ///
    /// For logs, traces and headers of one call; for sums there are the [statistics](Self::stats),
    /// which a traced call counts in like any other. A call that waits for a load which fails, and then
    /// runs its own closure, has loaded its value, though it counts as coalesced.
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
    /// use async_lru::{AsyncLru, LookupOutcome};
    /// use futures_lite::future::{block_on, yield_now, zip};
    ///
    /// let cache = AsyncLru::<u32, u32>::new(10);
    /// let load = async || {
    ///     yield_now().await;
    ///     10
    /// };
    /// block_on(async {
    ///     let calls = zip(cache.get_or_insert_traced(1, load), cache.get_or_insert_traced(1, load));
    ///     let (first, second) = calls.await;
    ///     assert_eq!(first.outcome, LookupOutcome::Loaded);
    ///     assert_eq!(second.outcome, LookupOutcome::Joined);
    ///     assert_eq!(cache.get_or_insert_traced(1, load).await.outcome, LookupOutcome::Hit);
    /// });
    /// ```
    pub fn get_or_insert_traced<F, Fut>(&self, key: K, load: F) -> impl Future<Output = Lookup<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        self.fetch(Owned(key), load, Traced(Infallible))
    }

    /// Like [`get_or_insert_traced`](Self::get_or_insert_traced), with a key that is cloned only on a
    /// miss.
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
    /// use async_lru::{AsyncLru, LookupOutcome};
    ///
    /// let cache = AsyncLru::<String, usize>::new(10);
    /// let lookup = cache.get_or_insert_traced_ref("four", async || 4);
    /// assert_eq!(futures_lite::future::block_on(lookup).outcome, LookupOutcome::Loaded);
    /// ```
    pub fn get_or_insert_traced_ref<Q, F, Fut>(
        &self,
        key: &Q,
        load: F,
    ) -> impl Future<Output = Lookup<V>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        self.fetch(Borrowed(key), load, Traced(Infallible))
    }

    /// Like [`try_get_or_insert_with`](Self::try_get_or_insert_with), and tells where the value came
    /// from.
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
    /// use async_lru::{AsyncLru, LookupOutcome};
    ///
    /// let cache = AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let failed = cache.try_get_or_insert_traced(1, async || Err("no luck")).await;
    ///     assert_eq!(failed, Err("no luck"));
    ///     let loaded = cache.try_get_or_insert_traced(1, async || Ok::<_, ()>(10)).await;
    ///     assert_eq!(loaded.unwrap().outcome, LookupOutcome::Loaded);
    /// });
    /// ```
    pub fn try_get_or_insert_traced<E, F, Fut>(
        &self,
        key: K,
        load: F,
    ) -> impl Future<Output = Result<Lookup<V>, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(Owned(key), load, Traced(OwnError::new()))
    }

    /// Like [`try_get_or_insert_traced`](Self::try_get_or_insert_traced), with a key that is cloned
    /// only on a miss.
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
    /// use async_lru::{AsyncLru, LookupOutcome};
    ///
    /// let cache = AsyncLru::<String, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let parsed = cache.try_get_or_insert_traced_ref("12", async || "12".parse::<u32>()).await;
    ///     assert_eq!(parsed.unwrap().outcome, LookupOutcome::Loaded);
    /// });
    /// ```
    pub fn try_get_or_insert_traced_ref<Q, E, F, Fut>(
        &self,
        key: &Q,
        load: F,
    ) -> impl Future<Output = Result<Lookup<V>, E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(Borrowed(key), load, Traced(OwnError::new()))
    }
}
