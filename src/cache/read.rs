//! Reading without loading, which never waits.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use equivalent::Equivalent;

use super::AsyncLru;
use crate::clock::NEVER;
use crate::entries::freshness::Claim;
use crate::sync::counters::Event;

/// Reading, which never waits.
impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Returns the live value of `key`; counts as a hit or a miss, and a hit as a use of the entry.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// cache.insert_blocking("a".to_owned(), 1);
    /// assert_eq!(cache.get("a"), Some(1));
    /// assert_eq!(cache.get("b"), None);
    /// ```
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        let store = self.store();
        let found = store.get(self.hash(key), key, Claim::No);
        if found.is_none() {
            store.count(Event::Miss);
        }
        found.map(|found| found.value)
    }

    /// Returns the live value of `key`; counts neither in the statistics nor as a use of the entry.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert_eq!(cache.peek(&1), Some(10));
    /// assert_eq!(cache.stats().hits, 0);
    /// ```
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.store().peek(self.hash(key), key, V::clone)
    }

    /// Tells whether there is a live entry of `key`; counts neither in the statistics nor as a use.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// assert!(cache.contains_key(&1));
    /// assert!(!cache.contains_key(&2));
    /// ```
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.store().peek(self.hash(key), key, |_| ()).is_some()
    }

    /// Returns the live values of `keys`, in their order; each counts as for [`get`](Self::get).
    ///
    /// The keys are looked at one after another, so writes may come between.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// cache.insert_blocking("a".to_owned(), 1);
    /// cache.insert_blocking("c".to_owned(), 3);
    /// assert_eq!(cache.get_many(["a", "b", "c"]), [Some(1), None, Some(3)]);
    /// assert_eq!((cache.stats().hits, cache.stats().misses), (2, 1));
    /// ```
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Vec<Option<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'q,
        V: Clone,
    {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Returns how long the live entry of `key` has left to live: `None` if there is none, and
    /// [`Duration::MAX`] if there is no end to its time.
    ///
    /// So an answer can be compared without another case: an entry that lives for ever has more than
    /// any time left. Counts neither in the statistics nor as a use.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let ttl = Duration::from_secs(60);
    /// let cache = AsyncLru::<String, u32>::builder().ttl(ttl).clock(clock.clone()).build();
    /// cache.insert_blocking("a".to_owned(), 1);
    /// clock.advance(Duration::from_secs(50));
    /// assert_eq!(cache.time_left("a"), Some(Duration::from_secs(10)));
    /// assert_eq!(cache.time_left("b"), None);
    ///
    /// let refresh_soon = cache.time_left("a").is_some_and(|left| left < ttl / 4);
    /// assert!(refresh_soon);
    /// ```
    #[must_use]
    pub fn time_left<Q>(&self, key: &Q) -> Option<Duration>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let store = self.store();
        let hash = self.hash(key);
        match store.shard(hash).time_left(hash, key, store.lifetimes().now())? {
            NEVER => Some(Duration::MAX),
            left => Some(Duration::from_nanos(left)),
        }
    }
}
