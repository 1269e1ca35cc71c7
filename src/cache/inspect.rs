//! Looking at one entry.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use equivalent::Equivalent;

use super::AsyncLru;
use crate::clock::NEVER;

/// Looking at one entry.
impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
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
