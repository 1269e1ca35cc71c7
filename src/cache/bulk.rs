//! Many keys at once.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use super::AsyncLru;
use super::lookup::{Lookup, Traced, TracedTimed};
use crate::lifetime::Lifetime;
use crate::load::answer::{Infallible, Plain, shared_error};
use crate::load::bulk::fetch_many;
use crate::load::bulk_detached::fetch_many_detached;

/// Reading or loading many keys, which waits for loads and for nothing else.
impl<K: Hash + Eq + Clone, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    /// Returns the values of `keys`: those that are cached or being loaded, and for all others what one
    /// call of `load` gives, which is cached.
    ///
    /// `load` gets the keys that are missing, in their order, and returns pairs of keys and values, in
    /// any order. The answer has the keys in the order in which they were asked for, also those that come
    /// twice, and `None` for one that `load` left out; calls that wait for that key load for themselves. A
    /// pair whose key is not among those it was given is ignored, as is a second pair of one key: nobody
    /// has asked for a write that would win over loads that run.
    ///
    /// Calls for a key of the batch join it while it is loaded, and the batch joins loads of its keys
    /// that run. It waits for those after it has cached what it has loaded, so batches that
    /// overlap do not wait for each other in a circle. If a load that it waits for comes to nothing,
    /// `load` is called once more with its key.
    ///
    /// In the statistics each key counts as a call, once, and a call of `load` as one load, however many keys
    /// it has, which has failed unless all that it brought was cached. Writes win over the load of a
    /// batch, key by key, as over that of one key.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. What it had cached stays. Of the
    /// calls that wait for the rest of its keys, exactly one for each key loads instead.
    ///
    /// # Panics
    ///
    /// If `load` panics; calls that wait for its keys go on as if this one had been dropped. If `load`
    /// asks the cache for a key that it loads, since it would wait for itself; told as for
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, String>::new(10);
    /// cache.insert_blocking(2, "two".to_owned());
    /// let load = async |missing: Vec<u32>| {
    ///     assert_eq!(missing, [3, 1]);
    ///     [(1, "one".to_owned())]
    /// };
    /// let names = futures_lite::future::block_on(cache.get_or_insert_many([3, 2, 1], load));
    /// let [one, two] = ["one", "two"].map(|name| Some(name.to_owned()));
    /// assert_eq!(names, [(3, None), (2, two), (1, one.clone())]);
    /// assert_eq!(cache.get(&1), one);
    /// ```
    pub fn get_or_insert_many<F, Fut, A>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: F,
    ) -> impl Future<Output = Vec<(K, Option<V>)>>
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = A>,
        A: IntoIterator<Item = (K, V)>,
    {
        let (store, hasher) = (self.store(), self.hasher());
        fetch_many(store, hasher, keys, load, (Infallible, Plain))
    }

    /// Like [`get_or_insert_many`](Self::get_or_insert_many) for a load that can fail, with an error for all
    /// calls that wait for one of its keys.
    ///
    /// # Errors
    ///
    /// Returns the error of this call's own `load`, or of a load that it has joined if that is an `E` and
    /// shared; without waiting for others that it has joined.
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_many`](Self::get_or_insert_many).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_many`](Self::get_or_insert_many).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let down = async |_: Vec<u32>| Err::<[(u32, u32); 0], _>("down");
    ///     assert_eq!(*cache.try_get_or_insert_many([1, 2], down).await.unwrap_err(), "down");
    ///     let squares = async |missing: Vec<u32>| {
    ///         Ok::<_, &str>(missing.into_iter().map(|key| (key, key * key)))
    ///     };
    ///     let answers = cache.try_get_or_insert_many([2, 3], squares).await;
    ///     assert_eq!(answers, Ok(vec![(2, Some(4)), (3, Some(9))]));
    /// });
    /// ```
    pub fn try_get_or_insert_many<F, Fut, A, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: F,
    ) -> impl Future<Output = Result<Vec<(K, Option<V>)>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<A, E>>,
        A: IntoIterator<Item = (K, V)>,
    {
        let (store, hasher) = (self.store(), self.hasher());
        fetch_many(store, hasher, keys, load, (shared_error(), Plain))
    }
}

/// Many keys, with options.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Begins a call for many keys, which takes options and tells where each value came from.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, LookupOutcome};
    /// use std::time::Duration;
    ///
    /// let cache = AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 1);
    /// let call = cache.entries([1, 2]).ttl(Duration::from_secs(5)).detached();
    /// let load = |missing: Vec<u32>| async { missing.into_iter().map(|key| (key, key * key)) };
    /// let answers = futures_lite::future::block_on(call.or_insert_with(load));
    /// let outcomes = answers.into_iter().map(|(_, lookup)| lookup.unwrap().outcome);
    /// assert!(outcomes.eq([LookupOutcome::Hit, LookupOutcome::Loaded]));
    /// ```
    pub fn entries<I: IntoIterator<Item = K>>(&self, keys: I) -> Entries<'_, K, V, S, I> {
        Entries { cache: self, keys, ttl: None }
    }
}

/// Takes the options of a call for many keys, and ends in its load; made by [`AsyncLru::entries`].
///
/// # Examples
///
/// ```
/// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
/// let call = cache.entries([1]).or_insert_with(async |_| [(1, 10)]);
/// let answers = futures_lite::future::block_on(call);
/// assert_eq!(answers[0].1.unwrap().value, 10);
/// ```
#[must_use = "a call does nothing before it has its closure and is polled"]
pub struct Entries<'a, K, V, S, I> {
    cache: &'a AsyncLru<K, V, S>,
    keys: I,
    ttl: Option<Duration>,
}

impl<K, V, S, I> fmt::Debug for Entries<'_, K, V, S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl<'a, K, V, S, I> Entries<'a, K, V, S, I> {
    /// Sets how long the values live that this call loads, in place of the cache's
    /// [`ttl`](crate::Builder::ttl); as [`Entry::ttl`](crate::Entry::ttl).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let call = cache.entries([1]).ttl(Duration::ZERO).or_insert_with(async |_| [(1, 10)]);
    /// futures_lite::future::block_on(call);
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Has the load live in the cache, and not in this call's future, as
    /// [`Entry::detached`](crate::Entry::detached) says: whichever call for one of its keys is polled moves it
    /// on for all of them. When the last call that waits for one of its keys goes, the load goes on by the
    /// [`spawner`](crate::Builder::spawner), or is dropped if there is none. Keys that it finds stale are
    /// answered at once where there is one, and refreshed by a load of their own.
    ///
    /// What it brings of a key that nobody waits for any more is not kept, nor does it go to a call that
    /// comes after the load has ended while this one is not polled any more: that loads anew.
    ///
    /// A call for more than 256 keys gives the thread back while it begins. Kept and not polled then, before
    /// its load has begun, it holds up those who wait for its keys.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_lite::future::{block_on, poll_once, yield_now};
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let load = |missing: Vec<u32>| async {
    ///     yield_now().await;
    ///     yield_now().await;
    ///     missing.into_iter().map(|key| (key, key * key))
    /// };
    /// block_on(async {
    ///     let mut started = Box::pin(cache.entries([2, 3]).detached().or_insert_with(load));
    ///     assert!(poll_once(&mut started).await.is_none());
    ///     let mut other = Box::pin(cache.get_or_insert_with(3, async || unreachable!("it joins")));
    ///     assert!(poll_once(&mut other).await.is_none());
    ///     drop(started);
    ///     assert_eq!(other.await, 9);
    /// });
    /// ```
    pub fn detached(self) -> DetachedEntries<'a, K, V, S, I> {
        let Self { cache, keys, ttl } = self;
        DetachedEntries { cache, keys, ttl }
    }
}

/// Reading or loading many keys, which waits for loads and for nothing else.
impl<K, V, S, I> Entries<'_, K, V, S, I>
where
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
    I: IntoIterator<Item = K>,
{
    /// Returns the values of the keys: those that are cached or being loaded, and for all others what one
    /// call of `load` gives, which is cached; see [`AsyncLru::get_or_insert_many`].
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_many`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_many`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let call = cache.entries([1, 2]).or_insert_with(async |_| [(1, 10)]);
    /// let answers = futures_lite::future::block_on(call);
    /// assert_eq!(answers[0].1.unwrap().value, 10);
    /// assert_eq!(answers[1], (2, None));
    /// ```
    pub fn or_insert_with<F, Fut, A>(
        self,
        load: F,
    ) -> impl Future<Output = Vec<(K, Option<Lookup<V>>)>>
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = A>,
        A: IntoIterator<Item = (K, V)>,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        fetch_many(store, hasher, self.keys, load, (Infallible, Traced { ttl: self.ttl }))
    }

    /// Like [`or_insert_with`](Self::or_insert_with) for a load that can fail, with an error for all calls that
    /// wait for one of its keys.
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_many`].
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_many`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_many`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let down = async |_| Err::<[(u32, u32); 0], _>("down");
    /// let call = cache.entries([1, 2]).or_try_insert_with(down);
    /// assert_eq!(*futures_lite::future::block_on(call).unwrap_err(), "down");
    /// ```
    #[expect(clippy::type_complexity, reason = "an alias would hide what it is")]
    pub fn or_try_insert_with<F, Fut, A, E>(
        self,
        load: F,
    ) -> impl Future<Output = Result<Vec<(K, Option<Lookup<V>>)>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<A, E>>,
        A: IntoIterator<Item = (K, V)>,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        fetch_many(store, hasher, self.keys, load, (shared_error(), Traced { ttl: self.ttl }))
    }

    /// Like [`or_insert_with`](Self::or_insert_with) for a load that gives each value's time to live too, which
    /// takes the place of the cache's and of [`Entries::ttl`]: a `Duration`, or a [`Lifetime`], which can have a
    /// fresh time besides.
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_many`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_many`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let load = async |_| [(1, 10, minute), (2, 20, Duration::ZERO)];
    /// let answers = futures_lite::future::block_on(cache.entries([1, 2]).or_insert_timed(load));
    /// assert_eq!(answers[1].1.unwrap().value, 20);
    /// assert!(cache.time_left(&1) <= Some(minute));
    /// assert_eq!(cache.get(&2), None);
    /// ```
    pub fn or_insert_timed<F, Fut, A, L>(
        self,
        load: F,
    ) -> impl Future<Output = Vec<(K, Option<Lookup<V>>)>>
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = A>,
        A: IntoIterator<Item = (K, V, L)>,
        L: Into<Lifetime>,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        fetch_many(store, hasher, self.keys, load, (Infallible, TracedTimed::new()))
    }

    /// Like [`or_insert_timed`](Self::or_insert_timed) for a load that can fail, as
    /// [`or_try_insert_with`](Self::or_try_insert_with).
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_many`].
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_many`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_many`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let load = async |_| Ok::<_, String>([(1, 10, Duration::from_secs(60))]);
    /// let answers = futures_lite::future::block_on(cache.entries([1]).or_try_insert_timed(load));
    /// assert_eq!(answers.unwrap()[0].1.unwrap().value, 10);
    /// assert!(cache.time_left(&1) <= Some(Duration::from_secs(60)));
    /// ```
    #[expect(clippy::type_complexity, reason = "an alias would hide what it is")]
    pub fn or_try_insert_timed<F, Fut, A, L, E>(
        self,
        load: F,
    ) -> impl Future<Output = Result<Vec<(K, Option<Lookup<V>>)>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<A, E>>,
        A: IntoIterator<Item = (K, V, L)>,
        L: Into<Lifetime>,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        fetch_many(store, hasher, self.keys, load, (shared_error(), TracedTimed::new()))
    }
}

/// Ends a call for many keys in a load that lives in the cache; made by [`Entries::detached`].
///
/// # Examples
///
/// ```
/// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
/// let call = cache.entries([1]).detached().or_insert_with(|_| async { [(1, 10)] });
/// let answers = futures_lite::future::block_on(call);
/// assert_eq!(answers[0].1.unwrap().value, 10);
/// ```
#[must_use = "a call does nothing before it has its closure and is polled"]
pub struct DetachedEntries<'a, K, V, S, I> {
    cache: &'a AsyncLru<K, V, S>,
    keys: I,
    ttl: Option<Duration>,
}

impl<K, V, S, I> fmt::Debug for DetachedEntries<'_, K, V, S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedEntries").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// Reading or loading many keys, with a load that does not depend on the call that started it.
impl<K, V, S, I> DetachedEntries<'_, K, V, S, I>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher,
    I: IntoIterator<Item = K>,
{
    /// Returns the values of the keys: those that are cached or being loaded, and for all others what one
    /// call of `load` gives, which is cached; see [`AsyncLru::get_or_insert_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// one of its keys, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for a key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let call = cache.entries([1, 2]).detached().or_insert_with(|_| async { [(1, 10)] });
    /// let answers = futures_lite::future::block_on(call);
    /// assert_eq!(answers[0].1.unwrap().value, 10);
    /// assert_eq!(answers[1], (2, None));
    /// ```
    pub fn or_insert_with<F, Fut, A>(
        self,
        load: F,
    ) -> impl Future<Output = Vec<(K, Option<Lookup<V>>)>>
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = A> + Send + 'static,
        A: IntoIterator<Item = (K, V)> + 'static,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        fetch_many_detached(
            store,
            hasher,
            self.keys,
            load,
            (|| Infallible, Traced { ttl: self.ttl }),
        )
    }

    /// Like [`or_insert_with`](Self::or_insert_with) for a load that can fail, with an error for all calls that
    /// wait for one of its keys.
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// one of its keys, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for a key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let down = |_| async { Err::<[(u32, u32); 0], _>("down") };
    /// let call = cache.entries([1, 2]).detached().or_try_insert_with(down);
    /// assert_eq!(*futures_lite::future::block_on(call).unwrap_err(), "down");
    /// ```
    #[expect(clippy::type_complexity, reason = "an alias would hide what it is")]
    pub fn or_try_insert_with<F, Fut, A, E>(
        self,
        load: F,
    ) -> impl Future<Output = Result<Vec<(K, Option<Lookup<V>>)>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
        A: IntoIterator<Item = (K, V)> + 'static,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        fetch_many_detached(
            store,
            hasher,
            self.keys,
            load,
            (shared_error, Traced { ttl: self.ttl }),
        )
    }

    /// Like [`or_insert_with`](Self::or_insert_with) for a load that gives each value's time to live too, which
    /// takes the place of the cache's and of [`Entries::ttl`]: a `Duration`, or a [`Lifetime`], which can have a
    /// fresh time besides.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// one of its keys, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for a key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let load = move |_| async move { [(1, 10, minute), (2, 20, Duration::ZERO)] };
    /// let answers = futures_lite::future::block_on(cache.entries([1, 2]).detached().or_insert_timed(load));
    /// assert_eq!(answers[1].1.unwrap().value, 20);
    /// assert!(cache.time_left(&1) <= Some(minute));
    /// assert_eq!(cache.get(&2), None);
    /// ```
    pub fn or_insert_timed<F, Fut, A, L>(
        self,
        load: F,
    ) -> impl Future<Output = Vec<(K, Option<Lookup<V>>)>>
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = A> + Send + 'static,
        A: IntoIterator<Item = (K, V, L)> + 'static,
        L: Into<Lifetime> + 'static,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        fetch_many_detached(store, hasher, self.keys, load, (|| Infallible, TracedTimed::new()))
    }

    /// Like [`or_insert_timed`](Self::or_insert_timed) for a load that can fail, as
    /// [`or_try_insert_with`](Self::or_try_insert_with).
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_many`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The load goes on in the calls that wait for
    /// one of its keys, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the load panics: in the call that polled it, and in the one whose `load` it was. The others go on
    /// as if it had been dropped. If the load asks the cache for a key that it loads, as for
    /// [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// let load = |_| async { Ok::<_, String>([(1, 10, Duration::from_secs(60))]) };
    /// let call = cache.entries([1]).detached().or_try_insert_timed(load);
    /// let answers = futures_lite::future::block_on(call);
    /// assert_eq!(answers.unwrap()[0].1.unwrap().value, 10);
    /// assert!(cache.time_left(&1) <= Some(Duration::from_secs(60)));
    /// ```
    #[expect(clippy::type_complexity, reason = "an alias would hide what it is")]
    pub fn or_try_insert_timed<F, Fut, A, L, E>(
        self,
        load: F,
    ) -> impl Future<Output = Result<Vec<(K, Option<Lookup<V>>)>, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
        A: IntoIterator<Item = (K, V, L)> + 'static,
        L: Into<Lifetime> + 'static,
    {
        let (store, hasher) = (self.cache.store(), self.cache.hasher());
        fetch_many_detached(store, hasher, self.keys, load, (shared_error, TracedTimed::new()))
    }
}
