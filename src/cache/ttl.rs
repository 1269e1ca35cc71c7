//! Entries with a lifetime of their own.

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use equivalent::Equivalent;

use super::AsyncLru;

impl<K: Hash + Eq, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Like [`insert`](Self::insert), for an entry that lives for `ttl`.
    ///
    /// This lifetime of the entry's own takes the place of the cache's [`ttl`](crate::Builder::ttl) and
    /// goes before its [`expiry`](crate::Builder::expiry), be it longer or shorter; a
    /// [`time_to_idle`](crate::Builder::time_to_idle) counts besides, and the earlier deadline ends the
    /// entry. It outlives [updates](crate::Update::Put). With `ttl` zero the entry is not kept, and one that
    /// was there before goes. Works in a cache that was built without any rule for expiry too; from the
    /// first call on, every look at that cache asks its clock.
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
        self.put(key, value, Some(ttl.into()))
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
        self.put_blocking(key, value, Some(ttl.into()))
    }
}

impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Lets the live entry of `key` live for `ttl` from now on, longer or shorter than it would have, with
    /// the value that it has; tells whether there is one.
    ///
    /// A lifetime of the entry's own, as [`insert_with_ttl`](Self::insert_with_ttl) gives it: it takes the
    /// place of whatever lifetime the entry had, and its idle time counts besides. With `ttl` zero the
    /// entry ends at once, as one that has expired. Counts neither in the statistics nor as a use of the
    /// entry, and concerns no load that is in flight. From the first call on, every look at the cache
    /// asks its clock.
    ///
    /// # Cancel safety
    ///
    /// The lifetime is set at the first poll. Dropping the future later changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// let clock = ManualClock::new();
    /// let sessions = AsyncLru::<String, u32>::builder().ttl(minute).clock(clock.clone()).build();
    /// futures_lite::future::block_on(async {
    ///     sessions.insert("ann".to_owned(), 1).await;
    ///     assert!(sessions.set_ttl("ann", 10 * minute).await);
    ///     assert!(!sessions.set_ttl("bob", 10 * minute).await);
    ///     clock.advance(9 * minute);
    ///     assert_eq!(sessions.time_left("ann"), Some(minute));
    /// });
    /// ```
    pub async fn set_ttl<Q>(&self, key: &Q, ttl: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (found, deliveries) = self.store().set_ttl(self.hash(key), key, ttl);
        deliveries.settle().await;
        found
    }

    /// [`set_ttl`](Self::set_ttl) for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of one update, as every call does that writes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert!(cache.set_ttl_blocking(&1, Duration::ZERO));
    /// assert_eq!(cache.get(&1), None);
    /// ```
    pub fn set_ttl_blocking<Q>(&self, key: &Q, ttl: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (found, deliveries) = self.store().set_ttl(self.hash(key), key, ttl);
        deliveries.settle_blocking();
        found
    }
}
