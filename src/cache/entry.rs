//! One call in full: how a key is given, how long what is loaded lives, where its load is, and what is told
//! of it.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use equivalent::Equivalent;

use super::AsyncLru;
use super::lookup::{Lookup, Traced, TracedTimed};
use crate::flight::Load;
use crate::flight::attempt::Running;
use crate::lifetime::Lifetime;
use crate::load::answer::{DetachedErrors, Infallible, OwnError, Terms, shared_error};
use crate::load::detached::{fetch_detached, run};
use crate::load::key::{BorrowedKey, EntryKey, MadeKey, OwnedKey};

/// One call, with options.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Begins a call for `key`, which takes options and tells where its value came from.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, LookupOutcome};
    /// use std::time::Duration;
    ///
    /// let cache = AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let call = cache.entry(1).ttl(Duration::from_secs(5)).detached();
    ///     let lookup = call.or_try_insert_with(|| async { Ok::<_, String>(10) }).await.unwrap();
    ///     assert_eq!((lookup.value, lookup.outcome), (10, LookupOutcome::Loaded));
    ///     assert!(cache.time_left(&1) <= Some(Duration::from_secs(5)));
    /// });
    /// ```
    pub fn entry(&self, key: K) -> Entry<'_, K, V, S, OwnedKey<K>> {
        Entry { cache: self, key: OwnedKey(key), ttl: None }
    }

    /// Like [`entry`](Self::entry), with a key that is cloned only on a miss.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, LookupOutcome};
    ///
    /// let cache = AsyncLru::<String, usize>::new(10);
    /// let lookup = cache.entry_ref("four").or_insert_with(async || 4);
    /// assert_eq!(futures_lite::future::block_on(lookup).outcome, LookupOutcome::Loaded);
    /// ```
    pub fn entry_ref<'q, Q>(&self, key: &'q Q) -> Entry<'_, K, V, S, BorrowedKey<'q, Q>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
    {
        Entry { cache: self, key: BorrowedKey(key), ttl: None }
    }

    /// Like [`entry`](Self::entry), with a key that `make` makes of what it is looked for with, on a miss
    /// only.
    ///
    /// For keys that are not what `to_owned` gives: an `Arc<str>` looked for by a `&str`, or a pair by a
    /// pair of references. `make` must give a key that is equivalent to `key`.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, Equivalent};
    /// use std::sync::Arc;
    ///
    /// let cache = AsyncLru::<Arc<str>, usize>::new(10);
    ///
    /// /// A string that hashes and compares like an `Arc<str>`.
    /// #[derive(Hash)]
    /// struct Name<'a>(&'a str);
    ///
    /// impl Equivalent<Arc<str>> for Name<'_> {
    ///     fn equivalent(&self, key: &Arc<str>) -> bool {
    ///         *self.0 == **key
    ///     }
    /// }
    ///
    /// futures_lite::future::block_on(async {
    ///     let call = cache.entry_by(&Name("four"), |name| Arc::from(name.0));
    ///     assert_eq!(call.or_insert_with(async || 4).await.value, 4);
    ///     // An `Arc<str>` is a `Borrow<str>`, so that here the string itself would do.
    ///     assert_eq!(cache.get("four"), Some(4));
    /// });
    /// ```
    pub fn entry_by<'q, Q, M>(&self, key: &'q Q, make: M) -> Entry<'_, K, V, S, MadeKey<'q, Q, M>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        M: FnOnce(&Q) -> K,
    {
        Entry { cache: self, key: MadeKey { query: key, make }, ttl: None }
    }
}

/// Takes the options of a call for one key, and ends in its load; made by [`AsyncLru::entry`].
///
/// # Examples
///
/// ```
/// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
/// let call = cache.entry(1).or_insert_with(async || 10);
/// assert_eq!(futures_lite::future::block_on(call).value, 10);
/// ```
#[must_use = "a call does nothing before it has its closure and is polled"]
pub struct Entry<'a, K, V, S, Q> {
    cache: &'a AsyncLru<K, V, S>,
    key: Q,
    ttl: Option<Duration>,
}

impl<K, V, S, Q> fmt::Debug for Entry<'_, K, V, S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl<'a, K, V, S, Q> Entry<'a, K, V, S, Q> {
    /// Sets how long the value lives if this call loads it, in place of the cache's
    /// [`ttl`](crate::Builder::ttl).
    ///
    /// Longer or shorter than that, and before what an [`expiry`](crate::Builder::expiry) rule says; the
    /// [idle time](crate::Builder::time_to_idle) counts besides. With zero the value goes to those who
    /// wait for it and is not kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let call = cache.entry(1).ttl(Duration::ZERO).or_insert_with(async || 10);
    /// assert_eq!(futures_lite::future::block_on(call).value, 10);
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Has the load live in the cache, and not in this call's future.
    ///
    /// Whichever call for the key is polled moves the load on, so a call that is dropped, or kept alive and
    /// not polled any more, holds up nobody and no work is lost: what a service wants whose requests time
    /// out before its loads end. When the last call that waits for it goes, the load goes on by the cache's
    /// [`spawner`](crate::Builder::spawner); without one nothing is spawned, and it is dropped.
    ///
    /// In a cache that keeps entries [fresh](crate::Builder::fresh_for) such a call never waits for a refresh
    /// if there is a spawner, to whom that goes.
    ///
    /// Calls of all forms for one key share its load, whichever of them has started it. A load that was
    /// started by another form stays in the future of its own call, and this one waits for it.
    ///
    /// As any of the calls may poll the load, so may any of their threads and executors: it has to be
    /// `Send + 'static`. A future that works on one executor only needs all calls for its key to be on that
    /// one.
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
    ///     let mut started = Box::pin(cache.entry(7).detached().or_insert_with(load));
    ///     assert_eq!(poll_once(&mut started).await, None);
    ///     // Not polled any more, which would hold up those who wait for a load of another form.
    ///     let other = cache.get_or_insert_with(7, async || unreachable!("it joins the load"));
    ///     assert_eq!(other.await, 49);
    ///     assert_eq!(started.await.value, 49);
    /// });
    /// ```
    pub fn detached(self) -> DetachedEntry<'a, K, V, S, Q> {
        let Self { cache, key, ttl } = self;
        DetachedEntry { cache, key, ttl }
    }
}

/// Reading or loading, which waits for a load and for nothing else.
impl<K, V, S, Q> Entry<'_, K, V, S, Q>
where
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
    Q: EntryKey<K>,
{
    /// Returns the live value of the key, or runs `load` and caches what it gives; see
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, LookupOutcome};
    ///
    /// let cache = AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let lookup = cache.entry(1).or_insert_with(async || 10).await;
    ///     assert_eq!((lookup.value, lookup.outcome), (10, LookupOutcome::Loaded));
    ///     let lookup = cache.entry(1).or_insert_with(async || 11).await;
    ///     assert_eq!((lookup.value, lookup.outcome), (10, LookupOutcome::Hit));
    /// });
    /// ```
    pub fn or_insert_with<F, Fut>(self, load: F) -> impl Future<Output = Lookup<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        let Self { cache, key, ttl } = self;
        cache.fetch(key, load, (Infallible, Traced { ttl }))
    }

    /// Like [`or_insert_with`](Self::or_insert_with) for a load that can fail: only `Ok` is cached, and the
    /// calls that waited for a load which fails get its error too; see
    /// [`AsyncLru::try_get_or_insert_with`].
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_with`].
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let failed = cache.entry(1).or_try_insert_with(async || Err("down"));
    /// assert_eq!(*futures_lite::future::block_on(failed).unwrap_err(), "down");
    /// assert!(cache.is_empty());
    /// ```
    pub fn or_try_insert_with<E, F, Fut>(
        self,
        load: F,
    ) -> impl Future<Output = Result<Lookup<V>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let Self { cache, key, ttl } = self;
        cache.fetch(key, load, (shared_error(), Traced { ttl }))
    }

    /// Like [`or_try_insert_with`](Self::or_try_insert_with), with an error for this call alone: calls that
    /// waited for the load run their own closures, one after another, until one succeeds.
    ///
    /// # Errors
    ///
    /// Returns the error of this call's own `load`.
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let failed = cache.entry(1).or_try_insert_own(async || Err("down"));
    /// assert_eq!(futures_lite::future::block_on(failed), Err("down"));
    /// assert!(cache.is_empty());
    /// ```
    pub fn or_try_insert_own<E, F, Fut>(self, load: F) -> impl Future<Output = Result<Lookup<V>, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let Self { cache, key, ttl } = self;
        cache.fetch(key, load, (OwnError::new(), Traced { ttl }))
    }

    /// Like [`or_insert_with`](Self::or_insert_with) for a load that gives the value's time to live too, which
    /// takes the place of the cache's and of [`Entry::ttl`]: a `Duration`, or a [`Lifetime`], which can have a
    /// fresh time besides.
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<&str, String>::new(10);
    /// let load = async || ("of an hour".to_owned(), Duration::from_secs(3600));
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.entry("token").or_insert_timed(load).await.value, "of an hour");
    ///     assert!(cache.time_left("token") <= Some(Duration::from_secs(3600)));
    /// });
    /// ```
    pub fn or_insert_timed<F, Fut, L>(self, load: F) -> impl Future<Output = Lookup<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = (V, L)>,
        L: Into<Lifetime>,
    {
        let Self { cache, key, .. } = self;
        cache.fetch(key, load, (Infallible, TracedTimed::new()))
    }

    /// Like [`or_insert_timed`](Self::or_insert_timed) for a load that can fail, as
    /// [`or_try_insert_with`](Self::or_try_insert_with).
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_with`].
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let load = async || Ok::<_, String>((10, Duration::ZERO));
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.entry(1).or_try_insert_timed(load).await.unwrap().value, 10);
    ///     assert_eq!(cache.get(&1), None);
    /// });
    /// ```
    pub fn or_try_insert_timed<E, F, Fut, L>(
        self,
        load: F,
    ) -> impl Future<Output = Result<Lookup<V>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<(V, L), E>>,
        L: Into<Lifetime>,
    {
        let Self { cache, key, .. } = self;
        cache.fetch(key, load, (shared_error(), TracedTimed::new()))
    }
}

/// Ends a call for one key in a load that lives in the cache; made by [`Entry::detached`].
///
/// # Examples
///
/// ```
/// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
/// let call = cache.entry(1).detached().or_insert_with(|| async { 10 });
/// assert_eq!(futures_lite::future::block_on(call).value, 10);
/// ```
#[must_use = "a call does nothing before it has its closure and is polled"]
pub struct DetachedEntry<'a, K, V, S, Q> {
    cache: &'a AsyncLru<K, V, S>,
    key: Q,
    ttl: Option<Duration>,
}

impl<K, V, S, Q> fmt::Debug for DetachedEntry<'_, K, V, S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedEntry").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// Reading or loading, with a load that does not depend on the call that started it.
impl<'a, K, V, S, Q> DetachedEntry<'a, K, V, S, Q>
where
    K: Hash + Eq,
    V: Clone + 'static,
    S: BuildHasher,
    Q: EntryKey<K>,
{
    /// Returns the live value of the key, or runs `load` and caches what it gives; see
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// it, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for the very key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, LookupOutcome};
    ///
    /// let cache = AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let lookup = cache.entry(1).detached().or_insert_with(|| async { 10 }).await;
    ///     assert_eq!((lookup.value, lookup.outcome), (10, LookupOutcome::Loaded));
    ///     let lookup = cache.entry(1).detached().or_insert_with(|| async { 11 }).await;
    ///     assert_eq!((lookup.value, lookup.outcome), (10, LookupOutcome::Hit));
    /// });
    /// ```
    pub fn or_insert_with<F, Fut>(self, load: F) -> impl Future<Output = Lookup<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V> + Send + 'static,
    {
        let terms = Traced { ttl: self.ttl };
        self.fetch(|| Infallible, terms, load)
    }

    /// Like [`or_insert_with`](Self::or_insert_with) for a load that can fail: only `Ok` is cached, and the
    /// calls that waited for a load which fails get its error too; see
    /// [`AsyncLru::try_get_or_insert_with`].
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_with`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// it, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for the very key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let failed = cache.entry(1).detached().or_try_insert_with(|| async { Err("down") });
    /// assert_eq!(*futures_lite::future::block_on(failed).unwrap_err(), "down");
    /// assert!(cache.is_empty());
    /// ```
    pub fn or_try_insert_with<E, F, Fut>(
        self,
        load: F,
    ) -> impl Future<Output = Result<Lookup<V>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        let terms = Traced { ttl: self.ttl };
        self.fetch(shared_error, terms, load)
    }

    /// Like [`or_try_insert_with`](Self::or_try_insert_with), with an error for this call alone: calls that
    /// waited for the load run their own closures, one after another, until one succeeds.
    ///
    /// # Errors
    ///
    /// Returns the error of this call's own `load`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// it, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for the very key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let failed = cache.entry(1).detached().or_try_insert_own(|| async { Err("down") });
    /// assert_eq!(futures_lite::future::block_on(failed), Err("down"));
    /// assert!(cache.is_empty());
    /// ```
    pub fn or_try_insert_own<E, F, Fut>(self, load: F) -> impl Future<Output = Result<Lookup<V>, E>>
    where
        E: Send + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        let terms = Traced { ttl: self.ttl };
        self.fetch(OwnError::new, terms, load)
    }

    /// Like [`or_insert_with`](Self::or_insert_with) for a load that gives the value's time to live too, which
    /// takes the place of the cache's and of [`Entry::ttl`]: a `Duration`, or a [`Lifetime`], which can have a
    /// fresh time besides.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// it, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for the very key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<&str, String>::new(10);
    /// let load = || async { ("of an hour".to_owned(), Duration::from_secs(3600)) };
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.entry("token").detached().or_insert_timed(load).await.value, "of an hour");
    ///     assert!(cache.time_left("token") <= Some(Duration::from_secs(3600)));
    /// });
    /// ```
    pub fn or_insert_timed<F, Fut, L>(self, load: F) -> impl Future<Output = Lookup<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = (V, L)> + Send + 'static,
        L: Into<Lifetime> + 'static,
    {
        let terms = TracedTimed::new();
        self.fetch(|| Infallible, terms, load)
    }

    /// Like [`or_insert_timed`](Self::or_insert_timed) for a load that can fail, as
    /// [`or_try_insert_with`](Self::or_try_insert_with).
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_with`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// it, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for the very key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let load = || async { Ok::<_, String>((10, Duration::ZERO)) };
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.entry(1).detached().or_try_insert_timed(load).await.unwrap().value, 10);
    ///     assert_eq!(cache.get(&1), None);
    /// });
    /// ```
    pub fn or_try_insert_timed<E, F, Fut, L>(
        self,
        load: F,
    ) -> impl Future<Output = Result<Lookup<V>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<(V, L), E>> + Send + 'static,
        L: Into<Lifetime> + 'static,
    {
        let terms = TracedTimed::new();
        self.fetch(shared_error, terms, load)
    }

    fn fetch<N, P, T, F, Fut>(
        self,
        new_errors: N,
        terms: T,
        load: F,
    ) -> impl Future<Output = P::Answer<T::Told>> + use<'a, K, V, S, Q, N, P, T, F, Fut>
    where
        N: Fn() -> P,
        P: DetachedErrors + Send + 'static,
        T: Terms<V> + Copy + Send + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = P::Given<T::Given>> + Send + 'static,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        // One for the load, which goes on without the call, and one for the call.
        let of_load = new_errors();
        let load = move |running: Running| -> Load<V> {
            Box::pin(run(running.span().call(load), (of_load, terms), running))
        };
        fetch_detached(store, hasher, self.key, load, (new_errors(), terms))
    }
}
