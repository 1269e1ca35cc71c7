//! Entries with a lifetime of their own.

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use equivalent::Equivalent;

use super::AsyncLru;
use crate::store::limit_ttl::LimitTtl;
use crate::store::steps;

impl<K: Hash + Eq, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Like [`insert`](Self::insert), for an entry that lives for `ttl`.
    ///
    /// This lifetime of the entry's own takes the place of the cache's [`ttl`](crate::Builder::ttl) and
    /// goes before its [`expiry`](crate::Builder::expiry), be it longer or shorter; a
    /// [`time_to_idle`](crate::Builder::time_to_idle) counts besides, and the earlier deadline ends the
    /// entry. [`Update::Put`](crate::Update::Put) leaves it, and an insertion, a load or a refresh ends it.
    /// With `ttl` zero the entry is not kept, and one that was there before goes. Works in a cache that was
    /// built without any rule for expiry too; from the first call on, every look at that cache asks its clock.
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

    /// Does what [`insert_with_ttl`](Self::insert_with_ttl) does, for synchronous code.
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
    /// entry, and concerns no load that runs. From the first call on, every look at the cache
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

    /// Does what [`set_ttl`](Self::set_ttl) does, for synchronous code.
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

/// Limiting the lifetime of everything.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Has everything that is in the cache or on its way there end in `ttl` from now at the latest, and returns
    /// how many entries end sooner by it.
    ///
    /// For when the cache may miss an invalidation, such as while the connection is down by which it hears of
    /// them: what it has is worth keeping for a while, and not for as long as it would have lived.
    ///
    /// Does for each live entry that would end later, or never, what [`set_ttl`](Self::set_ttl) does, and leaves
    /// the others alone: it is no use of the entry, which stays fresh as long as it would have, and its idle
    /// time counts besides. With `ttl` zero they end at once, as those that have expired; a shard that is less
    /// than a quarter full then gives its memory back. Loads and updates that run it wins over as
    /// [`invalidate_all`](Self::invalidate_all) does: what they bring goes to those who have joined them and is
    /// not cached, and calls that come afterwards load anew. A [guard](Self::writing) that began before ends with
    /// no value either. So nothing that was there or asked for before the call outlives `ttl`. What other tasks
    /// write or load meanwhile may be limited as well or not.
    ///
    /// From the first call on, every look at the cache asks its clock.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid. Once it was polled, all loads and updates that ran
    /// are kept out, and some of the entries are limited, or none, or all.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let (minute, clock) = (Duration::from_secs(60), ManualClock::new());
    /// let users = AsyncLru::<u32, &str>::builder().ttl(60 * minute).clock(clock.clone()).build();
    /// futures_lite::future::block_on(async {
    ///     users.insert(1, "ann").await;
    ///     users.insert_with_ttl(2, "bob", minute).await;
    ///     // Nobody tells of changes any more.
    ///     assert_eq!(users.limit_ttl(5 * minute).await, 1);
    ///     users.insert(3, "eve").await;
    ///     let left = [1, 2, 3].map(|id| users.time_left(&id));
    ///     assert_eq!(left, [5, 1, 60].map(|minutes| Some(minutes * minute)));
    /// });
    /// ```
    pub async fn limit_ttl(&self, ttl: Duration) -> usize {
        let mut limit = LimitTtl::start(self.store(), ttl);
        steps::run(self.store(), &mut limit).await;
        limit.shortened()
    }

    /// [`limit_ttl`](Self::limit_ttl) for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of the work: microseconds for every ten entries that are limited.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.limit_ttl_blocking(Duration::from_secs(60)), 1);
    /// assert!(cache.time_left(&1) <= Some(Duration::from_secs(60)));
    /// assert_eq!(cache.limit_ttl_blocking(Duration::ZERO), 1);
    /// assert!(cache.is_empty());
    /// ```
    pub fn limit_ttl_blocking(&self, ttl: Duration) -> usize {
        let mut limit = LimitTtl::start(self.store(), ttl);
        steps::run_blocking(self.store(), &mut limit);
        limit.shortened()
    }
}
