//! The calls that move bounds: `set_maxsize`, `set_max_weight`, `set_max_bytes`.

use super::AsyncLru;
use crate::entries::MAX_ENTRIES;
use crate::policy::capacity::Bound;
use crate::store::resize::Resize;
use crate::store::steps;

/// Moving the bounds.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Sets the most entries that the cache holds, as [`maxsize`](crate::Builder::maxsize) does for a new
    /// one, and returns how many had to be evicted for it.
    ///
    /// Those whose time is over go first, and then the least recently used; with several shards, the
    /// least recently used of one shard after another. The bound comes down with each of them, so at no
    /// moment does the cache hold more than [`info`](Self::info) tells. Of several calls at once, the one
    /// that ends last wins. A shard that is less than a quarter full in the end gives its memory back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid, with the bound somewhere between the old one and
    /// the new one.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// for key in 0..10 {
    ///     cache.insert_blocking(key, key);
    /// }
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.set_maxsize(3).await, 7);
    ///     assert_eq!(cache.keys(), [7, 8, 9]);
    ///     assert_eq!(cache.set_maxsize(100).await, 0);
    /// });
    /// assert_eq!(cache.info().maxsize, 100);
    /// ```
    pub async fn set_maxsize(&self, entries: usize) -> usize {
        self.set_bound(Bound::Entries, entries.min(MAX_ENTRIES) as u64).await
    }

    /// Does what [`set_maxsize`](Self::set_maxsize) does, for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of the work: microseconds for every ten entries that have to leave.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// assert_eq!(cache.set_maxsize_blocking(20), 0);
    /// assert_eq!(cache.info().maxsize, 20);
    /// ```
    pub fn set_maxsize_blocking(&self, entries: usize) -> usize {
        self.set_bound_blocking(Bound::Entries, entries.min(MAX_ENTRIES) as u64)
    }

    /// Sets the most that all entries together weigh, and returns how many had to be evicted for it.
    ///
    /// In all else as [`set_maxsize`](Self::set_maxsize). Has no effect on a cache that does not weigh its
    /// entries, being built without [`max_weight`](crate::Builder::max_weight).
    ///
    /// # Cancel safety
    ///
    /// As for [`set_maxsize`](Self::set_maxsize).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let cache = AsyncLru::<u32, u64>::builder().max_weight(u64::MAX, |_key, value| *value).shards(1).build();
    /// for weight in [10, 20, 30] {
    ///     cache.insert_blocking(weight as u32, weight);
    /// }
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.set_max_weight(50).await, 1);
    ///     assert_eq!(cache.keys(), [20, 30]);
    /// });
    /// ```
    pub async fn set_max_weight(&self, weight: u64) -> usize {
        self.set_bound(Bound::Weight, weight).await
    }

    /// Does what [`set_max_weight`](Self::set_max_weight) does, for synchronous code.
    ///
    /// # Blocking
    ///
    /// As for [`set_maxsize_blocking`](Self::set_maxsize_blocking).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u64>::builder().max_weight(10, |_, value| *value).build();
    /// cache.set_max_weight_blocking(20);
    /// assert_eq!(cache.info().max_weight, Some(20));
    /// ```
    pub fn set_max_weight_blocking(&self, weight: u64) -> usize {
        self.set_bound_blocking(Bound::Weight, weight)
    }

    /// Sets the most bytes that keys and values take, and returns how many entries had to be evicted for
    /// it.
    ///
    /// In all else as [`set_maxsize`](Self::set_maxsize). Has no effect on a cache that was built without
    /// [`max_bytes`](crate::Builder::max_bytes).
    ///
    /// # Cancel safety
    ///
    /// As for [`set_maxsize`](Self::set_maxsize).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let cache = AsyncLru::<u32, String>::builder().max_bytes(1_000_000).shards(1).build();
    /// for key in 0..9 {
    ///     cache.insert_blocking(key, "x".repeat(100_000));
    /// }
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(cache.set_max_bytes(250_000).await, 7);
    ///     assert_eq!(cache.keys(), [7, 8]);
    /// });
    /// ```
    pub async fn set_max_bytes(&self, bytes: u64) -> usize {
        self.set_bound(Bound::Bytes, bytes).await
    }

    /// Does what [`set_max_bytes`](Self::set_max_bytes) does, for synchronous code.
    ///
    /// # Blocking
    ///
    /// As for [`set_maxsize_blocking`](Self::set_maxsize_blocking).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u64>::builder().max_bytes(1_000).build();
    /// cache.set_max_bytes_blocking(2_000);
    /// assert_eq!(cache.info().max_bytes, Some(2_000));
    /// ```
    pub fn set_max_bytes_blocking(&self, bytes: u64) -> usize {
        self.set_bound_blocking(Bound::Bytes, bytes)
    }

    async fn set_bound(&self, bound: Bound, max: u64) -> usize {
        let mut resize = Resize::start(self.store(), bound, max);
        steps::run(self.store(), &mut resize).await;
        resize.evicted()
    }

    fn set_bound_blocking(&self, bound: Bound, max: u64) -> usize {
        let mut resize = Resize::start(self.store(), bound, max);
        steps::run_blocking(self.store(), &mut resize);
        resize.evicted()
    }
}
