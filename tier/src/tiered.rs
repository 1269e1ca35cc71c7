//! The cache as a service uses it.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_lru::{AsyncLru, Update};

use crate::builder::Builder;
use crate::codec::Codec;
use crate::core::{Alive, Core};
use crate::driver::drive;
use crate::fetch::Wanted;
use crate::figures::Figures;
use crate::key::{Key, KeyBytes, TierKey};
use crate::store::Store;
use crate::timer::Timer;
use crate::write::{self, NotPropagated, WriteGuard};

/// A cache of two tiers: an [`AsyncLru`] in each instance of a service, and a [`Store`] that all share.
///
/// A handle; `Clone` gives another one to the same cache.
///
/// Text keys are looked up by `&str` in a `Tiered<String, V>`. A `Tiered<str, V>` works as well, but has no
/// [`get_many`](Self::get_many), which hands keys of their own to the load.
///
/// # Examples
///
/// ```
/// use async_lru_tier::{Json, MemoryStore, Tiered};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let ages: Tiered<String, u32> =
///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
/// assert_eq!(ages.get("ann", async || 30).await, 30);
/// let load = async |names: Vec<String>| names.into_iter().map(|name| (name, 40)).collect::<Vec<_>>();
/// let answers = ages.get_many(["ann".to_owned(), "bob".to_owned()], load).await;
/// assert_eq!(answers, [("ann".to_owned(), Some(30)), ("bob".to_owned(), Some(40))]);
/// # });
/// ```
pub struct Tiered<K: ?Sized, V> {
    core: Arc<Core<V>>,
    /// Ends the driver with the last handle.
    alive: Arc<Alive<V>>,
    key: PhantomData<fn(&K)>,
}

impl<K: ?Sized, V: Clone + Send + Sync + 'static> Tiered<K, V> {
    /// Begins a cache over `store`, whose values `codec` makes bytes of; `sleep` makes the sleeps of the
    /// executor that the service runs on, such as `tokio::time::sleep` or `smol::Timer::after`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// let names: Tiered<u64, String> = Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep)
    ///     .namespace("names")
    ///     .ttl(Duration::from_secs(60))
    ///     .build();
    /// assert!(!names.figures().linked, "not before its driver runs");
    /// ```
    pub fn builder<Fut>(
        store: impl Store,
        codec: impl Codec<V>,
        sleep: impl Fn(Duration) -> Fut + Send + Sync + 'static,
    ) -> Builder<K, V>
    where
        Fut: Future + Send + 'static,
    {
        Builder::new(Box::new(store), Box::new(codec), Timer::new(sleep))
    }

    pub(crate) fn new(core: Arc<Core<V>>) -> Self {
        let alive = Arc::new(Alive(Arc::clone(&core)));
        Self { core, alive, key: PhantomData }
    }

    /// Returns a future that holds the link to the store, for a task of its own on any executor.
    ///
    /// It connects, again after each loss; does in the local cache what other instances say; removes in
    /// the store what could not be removed at once; and looks now and then whether the store still
    /// answers. It ends when the last handle and the last [guard](Self::writing) are gone, and what they
    /// removed is sent; it gives up at the first failure, and does not wait for a store that is not to be had.
    /// Without it the store is not used, and the cache is a local one that keeps what it loads for
    /// [`ttl_alone`](Builder::ttl_alone). A second one waits until the first is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is a loss of the link.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<u64, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    /// let driver = tokio::spawn(names.driver());
    /// names.linked().await;
    ///
    /// drop(names);
    /// driver.await.unwrap();
    /// # });
    /// ```
    pub fn driver(&self) -> impl Future<Output = ()> + Send + use<K, V> {
        drive(Arc::clone(&self.core))
    }

    /// Waits until the store is used, such as at the start of a service.
    ///
    /// Bound the wait: a service should start without its store too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<u64, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    /// tokio::spawn(names.driver());
    /// let linked = tokio::time::timeout(Duration::from_secs(1), names.linked()).await;
    /// assert!(linked.is_ok());
    /// # });
    /// ```
    pub async fn linked(&self) {
        self.core.link.linked().await;
    }
}

/// Reading, with a load of what neither tier has.
impl<K: ?Sized, V: Clone + Send + Sync + 'static> Tiered<K, V> {
    /// Returns the value of `key`: from this instance, from the store, or from `load`, which one instance
    /// runs for all.
    ///
    /// The store never makes it fail, nor wait longer than the [`timeout`](Builder::timeout) for each of
    /// its operations: then the load is run, and its value kept for [`ttl_alone`](Builder::ttl_alone). The
    /// load of another instance is waited for, for the time of its [`lease`](Builder::lease) at most.
    /// In a cache whose local tier has a [fresh time](async_lru::Builder::fresh_for) the call that finds the
    /// value stale looks in the store for a newer one, and loads if there is none; others are served the
    /// stale one meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await loses nothing: another call of this instance goes on with its own
    /// load, and other instances wait no longer.
    ///
    /// # Panics
    ///
    /// If `load` or the codec panics; or as for [`AsyncLru::get_or_insert_with`], if `load` gets the very key
    /// that it loads.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<u64, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).namespace("names").build();
    /// tokio::spawn(names.driver());
    ///
    /// assert_eq!(names.get(&1, async || "Ann".to_owned()).await, "Ann");
    /// assert_eq!(names.get(&1, async || unreachable!()).await, "Ann");
    /// # });
    /// ```
    pub async fn get<Q, F, Fut>(&self, key: &Q, load: F) -> V
    where
        K: Borrow<Q>,
        Q: TierKey + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        let name = KeyBytes::naming(key);
        let entry = self.core.local.entry_by(name.as_bytes(), Key::from_name);
        // In boxes, so that hits need no room for what misses do.
        let fetch = || {
            let load = || async { Ok::<_, Infallible>(load().await) };
            let fetched = self.core.fetch(Key::from_name(name.as_bytes()), Wanted::Fresh, load);
            Box::pin(async {
                let Ok(fetched) = fetched.await;
                fetched
            })
        };
        entry.or_insert_timed(fetch).await.value
    }

    /// Does as [`get`](Self::get), for a load that can fail; the calls of this instance that waited for it
    /// get its error too.
    ///
    /// A value that is stale but there, in either tier, does instead of the error.
    ///
    /// # Errors
    ///
    /// If the load failed. The store's errors are none of it: [figures](Self::figures) count them.
    ///
    /// # Cancel safety
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<str, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    ///
    /// let down = names.try_get("ann", async || Err("the database is down")).await;
    /// assert_eq!(*down.unwrap_err(), "the database is down");
    /// let name = names.try_get("ann", async || Ok::<_, String>("Ann".to_owned())).await;
    /// assert_eq!(name.unwrap(), "Ann");
    /// # });
    /// ```
    pub async fn try_get<Q, E, F, Fut>(&self, key: &Q, load: F) -> Result<V, Arc<E>>
    where
        K: Borrow<Q>,
        Q: TierKey + ?Sized,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let name = KeyBytes::naming(key);
        let entry = self.core.local.entry_by(name.as_bytes(), Key::from_name);
        let fetch =
            || Box::pin(self.core.fetch(Key::from_name(name.as_bytes()), Wanted::Fresh, load));
        Ok(entry.or_try_insert_timed(fetch).await?.value)
    }

    /// Loads the value of `key` now, fresh or not, and puts it into both tiers; the load of another
    /// instance does as well, if one runs.
    ///
    /// Meanwhile the value that is there is served. If the load fails, it stays.
    ///
    /// # Errors
    ///
    /// If the load failed.
    ///
    /// # Cancel safety
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<u64, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    /// names.get(&1, async || "Ann".to_owned()).await;
    /// let name = names.refresh(&1, async || Ok::<_, String>("Anna".to_owned())).await;
    /// assert_eq!(name.unwrap(), "Anna");
    /// assert_eq!(names.get(&1, async || unreachable!()).await, "Anna");
    /// # });
    /// ```
    pub async fn refresh<Q, E, F, Fut>(&self, key: &Q, load: F) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: TierKey + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let key = Key::of(key);
        let mut refreshed = None;
        let update = async |_| {
            let (value, lifetime) = self.core.fetch(key.clone(), Wanted::New, load).await?;
            refreshed = Some(value.clone());
            Ok(Update::PutFor(value, lifetime.ttl()))
        };
        let put = self.core.local.try_update_with(key.clone(), update).await?;
        // One that lives no longer is left out.
        Ok(put.or(refreshed).expect("a load that has not failed gives a value"))
    }
}

/// Many keys at once.
impl<K: TierKey + Clone, V: Clone + Send + Sync + 'static> Tiered<K, V> {
    /// Does as [`get`](Self::get) for many keys: one look into the store for what this instance does not
    /// have, and one load for what the store does not have either. Keys that the load leaves out are `None`.
    ///
    /// What other instances load is waited for after this load, and if they do not bring it, loaded by a
    /// second one. The answers are in the order of the keys.
    ///
    /// # Cancel safety
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let squares: Tiered<u64, u64> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    /// let load = async |keys: Vec<u64>| keys.into_iter().map(|key| (key, key * key)).collect::<Vec<_>>();
    /// assert_eq!(squares.get_many([2, 3], load).await, [(2, Some(4)), (3, Some(9))]);
    /// # });
    /// ```
    pub async fn get_many<I, F, Fut, A>(&self, keys: I, load: F) -> Vec<(K, Option<V>)>
    where
        I: IntoIterator<Item = K>,
        F: Fn(Vec<K>) -> Fut,
        Fut: Future<Output = A>,
        A: IntoIterator<Item = (K, V)>,
    {
        let load = &load;
        let load = |keys| async move { Ok::<_, Infallible>(load(keys).await) };
        match self.try_get_many(keys, load).await {
            Ok(answers) => answers,
            Err(error) => match *error {},
        }
    }

    /// Does as [`get_many`](Self::get_many), for a load that can fail.
    ///
    /// # Errors
    ///
    /// If the load failed, for all keys, unless stale values do for all that were to be loaded.
    ///
    /// # Cancel safety
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// As for [`get`](Self::get).
    pub async fn try_get_many<I, E, F, Fut, A>(
        &self,
        keys: I,
        load: F,
    ) -> Result<Vec<(K, Option<V>)>, Arc<E>>
    where
        I: IntoIterator<Item = K>,
        E: Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut,
        Fut: Future<Output = Result<A, E>>,
        A: IntoIterator<Item = (K, V)>,
    {
        let keys: Vec<K> = keys.into_iter().collect();
        let names: Vec<Key> = keys.iter().map(Key::of).collect();
        let by_name: HashMap<&Key, &K> = names.iter().zip(&keys).collect();
        let load = |names: Vec<Key>| {
            let keys = names.iter().filter_map(|name| by_name.get(name).copied().cloned());
            let loaded = load(keys.collect());
            async {
                let loaded = loaded.await?.into_iter();
                Ok(loaded.map(|(key, value)| (Key::of(&key), value)).collect())
            }
        };
        let fetch = |missing| Box::pin(self.core.fetch_many(missing, &load));
        let answers =
            self.core.local.entries(names.iter().cloned()).or_try_insert_timed(fetch).await?;
        let values = answers.into_iter().map(|(_, answer)| answer.map(|lookup| lookup.value));
        Ok(keys.iter().cloned().zip(values).collect())
    }
}

/// Writing.
impl<K: ?Sized, V: Clone + Send + Sync + 'static> Tiered<K, V> {
    /// Removes `key` in both tiers, and has all other instances remove it.
    ///
    /// After it has returned, no call on this instance gets what was there before, whatever it returned. If
    /// that was `Ok`, the others do so as soon as the message reaches them.
    ///
    /// # Errors
    ///
    /// If the store is not to be had. Then the key is removed there as soon as may be, and other instances
    /// may serve what they have meanwhile; how long is bounded by [`ttl_alone`](Builder::ttl_alone) for those
    /// that are cut off too, and by [`ttl`](Builder::ttl) for the rest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll has the [driver](Self::driver) remove the key.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<u64, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    /// tokio::spawn(names.driver());
    /// names.linked().await;
    ///
    /// names.get(&1, async || "Ann".to_owned()).await;
    /// names.invalidate(&1).await.unwrap();
    /// assert_eq!(names.get(&1, async || "Anna".to_owned()).await, "Anna");
    /// # });
    /// ```
    pub async fn invalidate<Q>(&self, key: &Q) -> Result<(), NotPropagated>
    where
        K: Borrow<Q>,
        Q: TierKey + ?Sized,
    {
        write::invalidate(&self.core, vec![Key::of(key)]).await
    }

    /// Does as [`invalidate`](Self::invalidate) for many keys, in one step.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<str, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    /// tokio::spawn(names.driver());
    /// names.linked().await;
    ///
    /// names.invalidate_many(["ann", "bob"]).await.unwrap();
    /// assert_eq!(names.figures().removals, 2);
    /// # });
    /// ```
    pub async fn invalidate_many<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = &'q Q>,
    ) -> Result<(), NotPropagated>
    where
        K: Borrow<Q>,
        Q: TierKey + ?Sized + 'q,
    {
        write::invalidate(&self.core, keys.into_iter().map(Key::of).collect()).await
    }

    /// Removes all keys of the namespace and version in both tiers, and has all other instances do so.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub async fn invalidate_all(&self) -> Result<(), NotPropagated> {
        write::invalidate_all(&self.core).await
    }

    /// Puts `value` into both tiers, and has all other instances remove what they have of `key`.
    ///
    /// For values that are already true when it is called: write the source before. If another instance
    /// writes or loads the key once the store has heard of this call, it is removed instead. What another has
    /// written before that is not seen, and then the older value stays; [`writing`](Self::writing) sees
    /// all writes that are not over before the source is written, so prefer it.
    ///
    /// # Errors
    ///
    /// As for [`WriteGuard::insert`].
    ///
    /// # Cancel safety
    ///
    /// As for [`invalidate`](Self::invalidate).
    pub async fn insert<Q>(&self, key: &Q, value: V) -> Result<(), NotPropagated>
    where
        K: Borrow<Q>,
        Q: TierKey + ?Sized,
    {
        write::write(&self.alive, Key::of(key)).await.insert(value).await
    }

    /// Guards a write of what `key` is loaded from, such as a row of a database: removes the key in both
    /// tiers now, and once more when the guard is dropped, also if the task is cancelled in between.
    ///
    /// For a write of many keys hold a `Vec` of guards, one for each.
    ///
    /// # Cancel safety
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<u64, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    /// tokio::spawn(names.driver());
    /// names.linked().await;
    ///
    /// let writing = names.writing(&1).await;
    /// // Here the row is written.
    /// writing.insert("Anna".to_owned()).await.unwrap();
    /// assert_eq!(names.get(&1, async || unreachable!()).await, "Anna");
    /// # });
    /// ```
    pub async fn writing<Q>(&self, key: &Q) -> WriteGuard<V>
    where
        K: Borrow<Q>,
        Q: TierKey + ?Sized,
    {
        write::write(&self.alive, Key::of(key)).await
    }
}

/// What there is to see.
impl<K: ?Sized, V: Clone + Send + Sync + 'static> Tiered<K, V> {
    /// Returns the figures of the local cache and of what went on between it and the store.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru_tier::{Json, MemoryStore, Tiered};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let names: Tiered<u64, String> =
    ///     Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep).build();
    ///
    /// // Nobody drives it, so it goes on alone.
    /// names.get(&1, async || "Ann".to_owned()).await;
    /// names.get(&1, async || unreachable!()).await;
    /// let figures = names.figures();
    /// assert_eq!((figures.linked, figures.loads_alone, figures.local.hits), (false, 1, 1));
    /// # });
    /// ```
    pub fn figures(&self) -> Figures {
        let Core { local, link, counters, .. } = &*self.core;
        counters.figures(local.stats(), link)
    }

    /// Returns the local cache, to look at or to change its bounds. What is written there is known to
    /// nobody else.
    pub fn local(&self) -> &AsyncLru<Key, V> {
        &self.core.local
    }
}

impl<K: ?Sized, V> Clone for Tiered<K, V> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), alive: Arc::clone(&self.alive), key: PhantomData }
    }
}

impl<K: ?Sized, V> fmt::Debug for Tiered<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered").field("space", &self.core.space).finish_non_exhaustive()
    }
}
