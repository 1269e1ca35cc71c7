//! Calls that tell where their value came from.

use std::any::Any;
use std::future::Future;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::AsyncLru;
use crate::flight::Outcome;
use crate::protocol::{Borrowed, Infallible, KeySource, OwnError, Owned, Protocol, Source};

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

impl<V> Lookup<V> {
    fn new(value: V, outcome: LookupOutcome) -> Self {
        Self { value, outcome }
    }
}

/// A protocol that tells where the answer came from.
struct Traced<'a, P> {
    protocol: P,
    outcome: &'a mut LookupOutcome,
}

impl<V, P: Protocol<V>> Protocol<V> for Traced<'_, P> {
    type Answer = P::Answer;

    fn found(value: V) -> Self::Answer {
        P::found(value)
    }

    fn value(answer: &Self::Answer) -> Option<&V> {
        P::value(answer)
    }

    fn failure(&self, answer: &Self::Answer) -> Outcome<V> {
        self.protocol.failure(answer)
    }

    fn shared(&self, failure: &(dyn Any + Send + Sync)) -> Option<Self::Answer> {
        self.protocol.shared(failure)
    }

    fn answered(&mut self, by: Source) {
        *self.outcome = match by {
            Source::Cache => LookupOutcome::Hit,
            Source::Flight => LookupOutcome::Joined,
        };
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
        self.fetch_traced(Owned(key), load, Infallible, Lookup::new)
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
        self.fetch_traced(Borrowed(key), load, Infallible, Lookup::new)
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
        self.fetch_traced(Owned(key), load, OwnError::new(), lookup_if_ok)
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
        self.fetch_traced(Borrowed(key), load, OwnError::new(), lookup_if_ok)
    }

    async fn fetch_traced<P, F, Fut, R>(
        &self,
        key: impl KeySource<K>,
        load: F,
        protocol: P,
        traced: fn(P::Answer, LookupOutcome) -> R,
    ) -> R
    where
        P: Protocol<V>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = P::Answer>,
    {
        let mut outcome = LookupOutcome::Loaded;
        let protocol = Traced { protocol, outcome: &mut outcome };
        let answer = self.fetch(key, load, protocol).await;
        traced(answer, outcome)
    }
}

fn lookup_if_ok<V, E>(answer: Result<V, E>, outcome: LookupOutcome) -> Result<Lookup<V>, E> {
    answer.map(|value| Lookup::new(value, outcome))
}
