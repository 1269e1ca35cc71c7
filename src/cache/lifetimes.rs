//! Entries with a lifetime of their own.

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use super::AsyncLru;

impl<K: Hash + Eq, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Like [`insert`](Self::insert), for an entry that lives no longer than `ttl`.
    ///
    /// Other rules for expiry hold besides, and the earliest deadline counts. With `ttl` zero the entry
    /// is not kept, and one that was there before goes. Works in a cache that was built without any
    /// such rule too; from the first call on, every look at that cache asks its clock.
    ///
    /// # Cancel safety
    ///
    /// As for [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let cache = AsyncLru::<u32, &str>::builder().clock(clock.clone()).build();
    /// futures_lite::future::block_on(async {
    ///     cache.insert(1, "lasting").await;
    ///     cache.insert_with_ttl(2, "token", Duration::from_secs(30)).await;
    ///     clock.advance(Duration::from_secs(30));
    ///     assert_eq!((cache.get(&1), cache.get(&2)), (Some("lasting"), None));
    /// });
    /// ```
    pub fn insert_with_ttl(
        &self,
        key: K,
        value: V,
        ttl: Duration,
    ) -> impl Future<Output = Option<V>> {
        self.put(key, value, Some(ttl))
    }

    /// [`insert_with_ttl`](Self::insert_with_ttl) for synchronous code.
    ///
    /// # Blocking
    ///
    /// As for [`insert_blocking`](Self::insert_blocking).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_with_ttl_blocking(1, 10, Duration::from_secs(60));
    /// assert_eq!(cache.get(&1), Some(10));
    /// ```
    pub fn insert_with_ttl_blocking(&self, key: K, value: V, ttl: Duration) -> Option<V> {
        self.put_blocking(key, value, Some(ttl))
    }
}
