//! Looking at all entries, and copying them out of a cache and back into another one.

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use futures_lite::future::yield_now;

use super::AsyncLru;
use crate::store::restore::Choice;
use crate::store::snapshot::Saved;
use crate::store::steps;

/// How many entries are taken from the caller's iterator before other tasks have the thread.
const COLLECTED_AT_ONCE: usize = 1024;

/// Looking at all entries.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Returns the number of entries. One that has expired counts until a write or a purge frees it.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.len(), 1);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.store().capacity().len()
    }

    /// Tells whether there is no entry.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(async_lru::AsyncLru::<u32, u32>::new(10).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the live keys, least recently used first; with several shards, shard by shard.
    ///
    /// `K: Clone` runs under a shared lock and must not call the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// for key in 1..=3 {
    ///     cache.insert_blocking(key, 0);
    /// }
    /// cache.get(&1);
    /// assert_eq!(cache.keys(), [2, 3, 1]);
    /// ```
    #[must_use]
    pub fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        let store = self.store();
        let now = store.lifetimes().roughly_now();
        let mut keys = Vec::with_capacity(self.len());
        for shard in store.shards() {
            shard.keys_into(&mut keys, now);
        }
        keys
    }
}

/// Copying all entries.
impl<K: Clone, V: Clone, S> AsyncLru<K, V, S> {
    /// Returns copies of all live entries, least recently used first; counts neither in the statistics
    /// nor as a use.
    ///
    /// Each shard is as it was at one moment. Within a shard the order is exact; entries of different
    /// shards are put together by how far they are in the order of their own.
    ///
    /// `K: Clone` and `V: Clone` run under a shared lock and must not call the cache. If one panics,
    /// the panic reaches the caller and the cache is as it was.
    ///
    /// # Blocking
    ///
    /// Other calls for a shard may wait while it is copied: the time of its clones.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, &str>::new(10);
    /// cache.insert_blocking(1, "one");
    /// cache.insert_blocking(2, "two");
    /// cache.get(&1);
    /// assert_eq!(cache.snapshot(), [(2, "two"), (1, "one")]);
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Vec<(K, V)> {
        self.store().snapshot().into_iter().map(|copy| (copy.key, copy.value)).collect()
    }

    /// Like [`snapshot`](Self::snapshot), with the times that each entry has left to live.
    ///
    /// To be handed to [`restore`](Self::restore). All times are as of one reading of the clock.
    ///
    /// # Blocking
    ///
    /// As for [`snapshot`](Self::snapshot).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let ttl = Duration::from_secs(60);
    /// let cache = AsyncLru::<u32, u32>::builder().ttl(ttl).clock(clock.clone()).build();
    /// cache.insert_blocking(1, 10);
    /// clock.advance(Duration::from_secs(20));
    /// let saved = cache.snapshot_with_ttl();
    /// assert_eq!((saved[0].key, saved[0].time_left), (1, Some(Duration::from_secs(40))));
    /// ```
    #[must_use]
    pub fn snapshot_with_ttl(&self) -> Vec<Saved<K, V>> {
        self.store().snapshot().into_iter().map(Saved::from).collect()
    }
}

/// Filling a cache with entries of an earlier one.
impl<K: Hash + Eq, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Takes in entries of an earlier cache, least recently used first, as
    /// [`snapshot_with_ttl`](Self::snapshot_with_ttl) gives them; returns how many.
    ///
    /// For a warm start, so restored entries stand back behind newer ones. They take what room there is
    /// and evict nothing; if it is not enough, the most recently used of those that fit get it. A key
    /// that the cache holds already keeps its value, and one that is being loaded is left to its load.
    /// If a key comes more than once, one of its entries is taken.
    ///
    /// Takes pairs of keys and values too, as [`snapshot`](Self::snapshot) gives them, and triples with a
    /// lifetime of the entry's own.
    ///
    /// Afterwards the restored entries are the most recently used, in their order, and live on as they
    /// would have. Each has the time left that it comes with, counted from its return: that of a
    /// [lifetime of its own](Saved::own_lifetime) whole, any other no longer than the cache's own rules
    /// for expiry give an entry; `None` stands for all of that. Each use puts off the end of its
    /// [idle time](crate::Builder::time_to_idle), as of any entry. Those with no time left are skipped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid. Some entries are restored, the least recently used
    /// first; the others are dropped.
    ///
    /// # Panics
    ///
    /// If the iterator, `K: Hash`, the measure, the weigher or the rule for lifetimes panics; nothing is
    /// restored then.
    ///
    /// # Examples
    ///
    /// ```
    /// let old = async_lru::AsyncLru::<u32, u32>::new(10);
    /// for key in 1..=3 {
    ///     old.insert_blocking(key, key * 10);
    /// }
    /// old.get(&1);
    ///
    /// let new = async_lru::AsyncLru::<u32, u32>::new(2);
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(new.restore(old.snapshot_with_ttl()).await, 2);
    ///     assert_eq!(new.snapshot(), [(3, 30), (1, 10)]);
    /// });
    /// ```
    pub fn restore(
        &self,
        entries: impl IntoIterator<Item = impl Into<Saved<K, V>>>,
    ) -> impl Future<Output = usize> {
        // Before the future, which would hold what it makes it of too.
        let mut entries = entries.into_iter();
        async move {
            let mut saved = Vec::new();
            for entry in entries.by_ref() {
                saved.push(entry.into());
                if saved.len() % COLLECTED_AT_ONCE == 0 {
                    yield_now().await;
                }
            }
            drop(entries);
            // What has expired takes no room away.
            self.purge_expired().await;
            let store = self.store();
            // In boxes, so that the future needs no room for them.
            let mut choice = Box::new(Choice::new(store, self.hasher(), saved));
            steps::run(store, &mut *choice).await;
            let mut restore = Box::new(choice.restore(store));
            steps::run(store, &mut *restore).await;
            restore.restored()
        }
    }

    /// Does what [`restore`](Self::restore) does, for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of the work: less than a microsecond for an entry, for most types.
    ///
    /// # Panics
    ///
    /// As for [`restore`](Self::restore).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// assert_eq!(cache.restore_blocking([(1, 10), (2, 20)]), 2);
    /// assert_eq!(cache.keys(), [1, 2]);
    /// ```
    pub fn restore_blocking(
        &self,
        entries: impl IntoIterator<Item = impl Into<Saved<K, V>>>,
    ) -> usize {
        let saved = entries.into_iter().map(Into::into).collect();
        self.purge_expired_blocking();
        let store = self.store();
        let mut choice = Choice::new(store, self.hasher(), saved);
        steps::run_blocking(store, &mut choice);
        let mut restore = choice.restore(store);
        steps::run_blocking(store, &mut restore);
        restore.restored()
    }
}
