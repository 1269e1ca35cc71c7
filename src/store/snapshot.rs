//! Copies all entries of a cache.

use std::time::Duration;

use super::Store;
use crate::policy::lifetime::Left;
use crate::shard::look::Copied;

/// Holds an entry as [`snapshot_with_ttl`](crate::AsyncLru::snapshot_with_ttl) copies it and
/// [`restore`](crate::AsyncLru::restore) takes it in, with the time that it has left to live.
///
/// Made from a pair of key and value, which lives as long as any entry of the cache that it comes into,
/// or from a triple with a lifetime of its own.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, Saved};
/// use std::time::Duration;
///
/// let mut token = Saved::new("token", 1);
/// token.time_left = Some(Duration::from_secs(30));
/// token.own_lifetime = true;
/// assert_eq!(Saved::from(("token", 1, Some(Duration::from_secs(30)))), token);
///
/// let cache = AsyncLru::<&str, u32>::new(10);
/// assert_eq!(cache.restore_blocking([Saved::from(("name", 2)), token]), 2);
/// assert_eq!(cache.time_left("name"), Some(Duration::MAX));
/// assert!(cache.time_left("token") <= Some(Duration::from_secs(30)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Saved<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// How long it has until the end of its time to live, used or not; `None` if there is no end.
    pub time_left: Option<Duration>,
    /// How long it has unless it is used; `None` in a cache without a
    /// [`time_to_idle`](crate::Builder::time_to_idle), and it does not count in one.
    pub idle_left: Option<Duration>,
    /// How long it is fresh, zero if it is stale; `None` in a cache without
    /// [`fresh_for`](crate::Builder::fresh_for), and it does not count in one.
    #[cfg_attr(feature = "serde", serde(default))]
    pub fresh_left: Option<Duration>,
    /// Whether `time_left` is of a lifetime that a call has given this entry, and which the rules of a
    /// cache do not shorten.
    pub own_lifetime: bool,
}

impl<K, V> Saved<K, V> {
    /// Makes an entry that lives as long as any entry of the cache that it comes into.
    #[must_use]
    pub fn new(key: K, value: V) -> Self {
        let (time_left, idle_left, fresh_left) = (None, None, None);
        Self { key, value, time_left, idle_left, fresh_left, own_lifetime: false }
    }

    pub(crate) fn left(&self) -> Left {
        Left {
            time: self.time_left,
            idle: self.idle_left,
            fresh: self.fresh_left,
            is_own: self.own_lifetime,
        }
    }
}

impl<K, V> From<(K, V)> for Saved<K, V> {
    fn from((key, value): (K, V)) -> Self {
        Self::new(key, value)
    }
}

/// With a lifetime of its own, if there is one.
impl<K, V> From<(K, V, Option<Duration>)> for Saved<K, V> {
    fn from((key, value, time_left): (K, V, Option<Duration>)) -> Self {
        Self { time_left, own_lifetime: time_left.is_some(), ..Self::new(key, value) }
    }
}

impl<K, V> From<Copied<K, V>> for Saved<K, V> {
    fn from(Copied { key, value, left }: Copied<K, V>) -> Self {
        let Left { time: time_left, idle: idle_left, fresh: fresh_left, is_own } = left;
        Self { key, value, time_left, idle_left, fresh_left, own_lifetime: is_own }
    }
}

impl<K: Clone, V: Clone> Store<K, V> {
    /// Copies all live entries, least recently used first; exactly so for those of one shard.
    ///
    /// How uses of different shards compare is not known. Keys are spread by chance, so an entry that
    /// is in the middle of its shard's order is taken to be in the middle of all.
    pub(crate) fn snapshot(&self) -> Vec<Copied<K, V>> {
        let now = self.lifetimes().now();
        let mut ranked = Vec::with_capacity(self.capacity().len());
        for shard in self.shards() {
            let copies = shard.copies(now);
            let len = copies.len() as u64;
            let rank = |place: u64| ((place + 1) << 32) / len;
            ranked.extend((0..).map(rank).zip(copies));
        }
        // Stable, and quick where it is in order already, as with one shard.
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, copy)| copy).collect()
    }
}
