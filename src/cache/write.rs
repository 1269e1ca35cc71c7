//! Inserting and removing.

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::AsyncLru;
use crate::lifetime::Lifetime;
use crate::store::clear::Clear;
use crate::store::many::{InsertMany, InvalidateMany};
use crate::store::publish::Put;
use crate::store::purge::Purge;
use crate::store::steps;

/// Writing, which waits for other writers of the same shard, for a listener that is far behind, and for
/// nothing else.
impl<K: Hash + Eq, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Inserts an entry as the most recently used, and returns the live value that it replaces.
    ///
    /// An equal key that was there is replaced with its value.
    ///
    /// Wins over loads of the key that run. In a full cache the least recently used entry
    /// makes room, unless the key was there already; where entries are weighed, as many as it takes. A
    /// value that can never fit is not kept, and the one before it goes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid; the entry is in or, if the call had to wait for
    /// another writer or to make the room of hundreds of entries, not, though some of those that were to
    /// make room may be gone. A call that waits for a [listener](crate::Builder::on_remove) has its entry
    /// in, unless it has more room to make.
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

    /// Does what [`insert`](Self::insert) does, for synchronous code.
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
    pub(super) async fn put(&self, key: K, value: V, own: Option<Lifetime>) -> Option<V> {
        let (is_done, put) = self.begin_put(key, value, own);
        // In a box, so that the future needs no room for what few calls wait with.
        if is_done { put.into_replaced() } else { Box::pin(put.finish(self.store())).await }
    }

    /// Does the same, waiting for the listener by blocking the thread.
    pub(super) fn put_blocking(&self, key: K, value: V, own: Option<Lifetime>) -> Option<V> {
        let hash = self.hash(&key);
        let (replaced, deliveries) = self.store().put(hash, key, value, own);
        deliveries.settle_blocking();
        replaced
    }

    /// Begins the insertion, and tells whether it is done; apart from the future, which would hold the key
    /// twice, and all that it looks at.
    fn begin_put(&self, key: K, value: V, own: Option<Lifetime>) -> (bool, Put<'_, K, V>) {
        let hash = self.hash(&key);
        let put = self.store().begin_put(hash, key, value, own);
        (put.is_done(), put)
    }
}

/// Removing, which waits for other writers of the same shard, for a listener that is far behind, and for
/// nothing else.
impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Removes the entry of `key` and returns its live value; wins over loads of the key that run.
    ///
    /// # Cancel safety
    ///
    /// The entry is removed at the first poll. Dropping the future later leaves its report to the
    /// [listener](crate::Builder::on_remove), if there is one, to others.
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

    /// Does what [`remove`](Self::remove) does, for synchronous code.
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

    /// Removes what there is of `key`, and says whether there was anything: a live entry, or loads that run,
    /// whose values will not be cached.
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

    /// Does what [`invalidate`](Self::invalidate) does, for synchronous code.
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

/// Many keys at once, which gives the thread back now and then.
impl<K: Hash + Eq, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Inserts many entries in their order, each as [`insert`](Self::insert) does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid, with some of the entries in, the first of them, and drops
    /// the others.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(cache.insert_many([(1, 10), (2, 20)]));
    /// assert_eq!(cache.keys(), [1, 2]);
    /// ```
    pub fn insert_many(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> impl Future<Output = ()> {
        // Before the future, which would hold what it makes it of too.
        let mut insert = InsertMany::new(self.store(), self.hasher(), entries.into_iter());
        async move { steps::run(self.store(), &mut insert).await }
    }

    /// Does what [`insert_many`](Self::insert_many) does, for synchronous code.
    ///
    /// # Blocking
    ///
    /// As [`insert_blocking`](Self::insert_blocking), for each entry.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_many_blocking([(1, 10), (2, 20)]);
    /// assert_eq!(cache.keys(), [1, 2]);
    /// ```
    pub fn insert_many_blocking(&self, entries: impl IntoIterator<Item = (K, V)>) {
        let mut insert = InsertMany::new(self.store(), self.hasher(), entries.into_iter());
        steps::run_blocking(self.store(), &mut insert);
    }
}

/// Many keys at once, which gives the thread back now and then.
impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Removes the entries of many keys, each as [`invalidate`](Self::invalidate) does; returns of how many
    /// there was anything to remove.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid, with some of the keys invalidated, the first of them.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// cache.insert_many_blocking([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    /// let invalidate = cache.invalidate_many(["a", "b", "c"]);
    /// assert_eq!(futures_lite::future::block_on(invalidate), 2);
    /// ```
    pub fn invalidate_many<'q, Q>(
        &self,
        keys: impl IntoIterator<Item = &'q Q>,
    ) -> impl Future<Output = usize>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'q,
    {
        // Before the future, which would hold what it makes it of too.
        let mut invalidate = InvalidateMany::new(self.hasher(), keys.into_iter());
        async move {
            steps::run(self.store(), &mut invalidate).await;
            invalidate.found()
        }
    }

    /// Does what [`invalidate_many`](Self::invalidate_many) does, for synchronous code.
    ///
    /// # Blocking
    ///
    /// As [`invalidate_blocking`](Self::invalidate_blocking), for each key.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_many_blocking([(1, 10), (2, 20)]);
    /// assert_eq!(cache.invalidate_many_blocking(&[1, 2, 3]), 2);
    /// ```
    pub fn invalidate_many_blocking<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> usize
    where
        Q: Hash + Equivalent<K> + ?Sized + 'q,
    {
        let mut invalidate = InvalidateMany::new(self.hasher(), keys.into_iter());
        steps::run_blocking(self.store(), &mut invalidate);
        invalidate.found()
    }
}

/// All entries at once.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Removes all entries and resets the statistics; wins over all loads that run.
    ///
    /// [`invalidate_all`](Self::invalidate_all) leaves the statistics as they are.
    ///
    /// Entries that other tasks insert meanwhile may stay. The cache is empty at once; what was in it is
    /// dropped, or reported to the [listener](crate::Builder::on_remove), in turns with other tasks.
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
        let mut clear = Clear::start(self.store());
        self.store().reset_counts();
        steps::run(self.store(), &mut clear).await;
    }

    /// Does what [`clear`](Self::clear) does, for synchronous code.
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
        let mut clear = Clear::start(self.store());
        self.store().reset_counts();
        steps::run_blocking(self.store(), &mut clear);
    }

    /// Removes all entries; wins over all loads that run.
    ///
    /// As [`clear`](Self::clear), and the statistics go on. A listener hears of the entries as
    /// [`Cleared`](crate::RemovalCause::Cleared).
    ///
    /// # Cancel safety
    ///
    /// As for [`clear`](Self::clear).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     cache.insert(1, 10).await;
    ///     cache.invalidate_all().await;
    ///     assert!(cache.is_empty());
    ///     assert_eq!(cache.stats().invalidations, 1);
    /// });
    /// ```
    pub async fn invalidate_all(&self) {
        let mut clear = Clear::start(self.store());
        steps::run(self.store(), &mut clear).await;
    }

    /// Does what [`invalidate_all`](Self::invalidate_all) does, for synchronous code.
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
    /// cache.invalidate_all_blocking();
    /// assert_eq!((cache.len(), cache.stats().invalidations), (0, 1));
    /// ```
    pub fn invalidate_all_blocking(&self) {
        let mut clear = Clear::start(self.store());
        steps::run_blocking(self.store(), &mut clear);
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
        let mut purge = Purge::new(self.store());
        steps::run(self.store(), &mut purge).await;
        purge.freed()
    }

    /// Does what [`purge_expired`](Self::purge_expired) does, for synchronous code.
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
        let mut purge = Purge::new(self.store());
        steps::run_blocking(self.store(), &mut purge);
        purge.freed()
    }
}
