//! Figures: the statistics of a cache and its configuration.

use std::fmt;
use std::time::Duration;

use super::AsyncLru;
use crate::deep_size::shared_size;
use crate::entries::MAX_ENTRIES;
use crate::policy::eviction::Eviction;
use crate::sync::counters::Event;

/// Tells how a cache is configured.
///
/// # Examples
///
/// ```
/// use async_lru::AsyncLru;
///
/// let info = AsyncLru::<u32, u32>::new(100).info();
/// assert_eq!(info.maxsize, 100);
/// assert_eq!(info.to_string(), "at most 100 entries in 1 shard, no time to live");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CacheInfo {
    /// The name that the cache was given.
    pub name: Option<String>,
    /// The most entries that the cache holds; 2,147,483,647 if it bounds weight or bytes alone.
    pub maxsize: usize,
    /// The most that all entries together weigh, in a cache that weighs them.
    pub max_weight: Option<u64>,
    /// The most bytes that keys and values take, in a cache that bounds them.
    pub max_bytes: Option<u64>,
    /// How long an entry lives after it was cached; `None` for ever.
    pub ttl: Option<Duration>,
    /// How long an entry lives after its last use; `None` for ever.
    pub time_to_idle: Option<Duration>,
    /// How long an entry is fresh; `None` for as long as it lives.
    #[cfg_attr(feature = "serde", serde(default))]
    pub fresh_for: Option<Duration>,
    /// How long after a refresh that has failed the next one is tried.
    #[cfg_attr(feature = "serde", serde(default))]
    pub refresh_retry: Duration,
    /// The largest part by which a lifetime is shortened, from 0 to 1.
    pub ttl_jitter: f64,
    /// The number of shards.
    pub shards: usize,
    /// How the entries are chosen that leave when the cache is full.
    #[cfg_attr(feature = "serde", serde(default))]
    pub eviction: Eviction,
}

impl fmt::Display for CacheInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.shards == 1 { "" } else { "s" };
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        let has_others = self.max_weight.is_some() || self.max_bytes.is_some();
        let bounds_entries = self.maxsize < MAX_ENTRIES || !has_others;
        let bounds = [
            bounds_entries.then(|| format!("{} entries", self.maxsize)),
            self.max_weight.map(|weight| format!("weight {weight}")),
            self.max_bytes.map(pretty_bytes),
        ];
        let bounds: Vec<_> = bounds.into_iter().flatten().collect();
        write!(f, "at most {} in {} shard{plural}, ", bounds.join(", "), self.shards)?;
        if self.eviction != Eviction::Lru {
            write!(f, "{} eviction, ", self.eviction)?;
        }
        match self.ttl {
            Some(ttl) => write!(f, "each for {ttl:?}")?,
            None => f.write_str("no time to live")?,
        }
        if let Some(fresh) = self.fresh_for {
            write!(f, ", fresh for {fresh:?}")?;
        }
        if self.ttl_jitter > 0.0 {
            write!(f, ", shortened by up to {:.1} %", self.ttl_jitter * 100.0)?;
        }
        match self.time_to_idle {
            Some(idle) => write!(f, ", {idle:?} from one use to the next"),
            None => Ok(()),
        }
    }
}

/// Counts what happened in a cache since it was built, cleared, or had its statistics reset, and tells what
/// it holds now.
///
/// Every call of `get` and of a `get_or_insert` form counts once as a hit, a miss or coalesced, when
/// the cache is first looked at. Counts are exact: one that another thread has made before it
/// synchronised with the reader is there.
///
/// # Examples
///
/// ```
/// use async_lru::AsyncLru;
///
/// let cache = AsyncLru::<u32, u32>::new(100);
/// cache.insert_blocking(1, 10);
/// cache.get(&1);
/// cache.get(&2);
///
/// let stats = cache.stats();
/// assert_eq!((stats.hits, stats.misses, stats.current_size), (1, 1, 1));
/// assert_eq!(stats.hit_rate(), 0.5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CacheStats {
    /// Entries in the cache. One that has expired counts until a write or a purge frees it.
    pub current_size: usize,
    /// The most entries that the cache holds; `None` if it bounds something else.
    pub max_size: Option<usize>,
    /// The weight of all entries, and of rooms that are held for one on its way in; `None` in a cache that
    /// does not weigh them.
    pub current_weight: Option<u64>,
    /// The most that they may weigh.
    pub max_weight: Option<u64>,
    /// Bytes of all keys and values, and of rooms; `None` in a cache that does not bound them.
    pub current_bytes: Option<u64>,
    /// The most that they may be.
    pub max_bytes: Option<u64>,
    /// How long an entry lives after it was cached; `None` for ever.
    pub ttl: Option<Duration>,
    /// Calls that found a live value.
    pub hits: u64,
    /// Calls that found neither a value nor a load to join.
    pub misses: u64,
    /// Calls that joined a load which ran already; also those that had to load after all, because it failed.
    pub coalesced: u64,
    /// Those of the hits that found a stale value; see [`fresh_for`](crate::Builder::fresh_for).
    #[cfg_attr(feature = "serde", serde(default))]
    pub stale_hits: u64,
    /// Loader closures started, those of refreshes among them.
    pub loads: u64,
    /// Loads that ended without a value: by an error, a panic, or because their call was dropped.
    pub load_failures: u64,
    /// Entries whose refresh was begun, by a call that found them stale or by
    /// [`refresh`](crate::AsyncLru::refresh). One load may refresh many.
    #[cfg_attr(feature = "serde", serde(default))]
    pub refreshes: u64,
    /// Refreshes that ended without a value.
    #[cfg_attr(feature = "serde", serde(default))]
    pub refresh_failures: u64,
    /// The time that loads took which gave a value or an error, all together; zero unless
    /// [`record_load_time`](crate::Builder::record_load_time) is set.
    pub load_time: Duration,
    /// Entries that made room, for others or for a bound that was lowered, while they were alive.
    pub evictions: u64,
    /// The weight of those, in a cache that weighs its entries; else zero.
    pub evicted_weight: u64,
    /// Entries that were freed because their time was over.
    pub expirations: u64,
    /// Entries that left by `remove`, by `clear` or by one of the forms of `invalidate`.
    pub invalidations: u64,
    /// Loads and updates in progress, now.
    pub in_flight: usize,
    /// Estimate of the bytes that the cache takes: its own share, and keys and values as far as the
    /// builder was told to measure them, else without what they own on the heap.
    pub total_size_in_memory_bytes: u64,
    /// The same for people, such as `1.23 MB` (a kilobyte is 1,024 bytes).
    pub total_size_in_memory_pretty: String,
}

impl CacheStats {
    /// Returns the number of calls: hits, misses and coalesced.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.hits + self.misses + self.coalesced
    }

    /// Returns the share of calls that had no load of their own: hits and coalesced, from 0 to 1; 0 before
    /// the first call.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        match self.calls() {
            0 => 0.0,
            calls => (self.hits + self.coalesced) as f64 / calls as f64,
        }
    }
}

impl fmt::Display for CacheStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.current_size)?;
        if let Some(max) = self.max_size {
            write!(f, " of {max}")?;
        }
        write!(
            f,
            " entries, {}; {} hits, {} misses, {} coalesced ({:.2} % hits); {} loads, \
             {} failed; {} evicted, {} expired, {} invalidated",
            self.total_size_in_memory_pretty,
            self.hits,
            self.misses,
            self.coalesced,
            self.hit_rate() * 100.0,
            self.loads,
            self.load_failures,
            self.evictions,
            self.expirations,
            self.invalidations,
        )
    }
}

/// Writes a number of bytes with two decimals and the largest unit, up to TB, that fits it.
fn pretty_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let mut size = bytes as f64;
    for unit in UNITS {
        // What would be rounded up to 1024.00 belongs to the next unit.
        if size < 1023.995 {
            return format!("{size:.2} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.2} TB")
}

/// Figures.
impl<K, V, S> AsyncLru<K, V, S> {
    /// Returns the configuration.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(async_lru::AsyncLru::<u32, u32>::new(10).info().shards, 1);
    /// ```
    #[must_use]
    pub fn info(&self) -> CacheInfo {
        let store = self.store();
        CacheInfo {
            name: store.name().map(str::to_owned),
            maxsize: store.capacity().maxsize(),
            max_weight: store.capacity().weight().map(|weight| weight.max),
            max_bytes: store.capacity().bytes().map(|bytes| bytes.max),
            ttl: store.lifetimes().ttl(),
            time_to_idle: store.lifetimes().idle(),
            fresh_for: store.lifetimes().fresh(),
            refresh_retry: store.lifetimes().retry(),
            ttl_jitter: store.lifetimes().jitter(),
            shards: store.shards().len(),
            eviction: store.eviction(),
        }
    }

    /// Returns the statistics, at a cost that grows with the number of shards and not of entries.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.get(&1);
    /// assert_eq!(cache.stats().misses, 1);
    /// ```
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let store = self.store();
        let capacity = store.capacity();
        let (entries, weight, measured) = (capacity.entries(), capacity.weight(), capacity.bytes());
        let totals = store.counts();
        let own = shared_size(store) + shared_size(self.hasher());
        let (bytes, in_flight) = store.total_size();
        let bytes = bytes.saturating_add(own as u64);
        CacheStats {
            current_size: entries.taken as usize,
            max_size: Some(entries.max as usize).filter(|max| *max < MAX_ENTRIES),
            current_weight: weight.map(|weight| weight.taken),
            max_weight: weight.map(|weight| weight.max),
            current_bytes: measured.map(|bytes| bytes.taken),
            max_bytes: measured.map(|bytes| bytes.max),
            ttl: store.lifetimes().ttl(),
            hits: totals.hits,
            misses: totals.of(Event::Miss),
            coalesced: totals.of(Event::Coalesced),
            stale_hits: totals.of(Event::StaleHit),
            loads: totals.of(Event::Load),
            load_failures: totals.of(Event::LoadFailure),
            refreshes: totals.of(Event::Refresh),
            refresh_failures: totals.of(Event::RefreshFailure),
            load_time: Duration::from_nanos(totals.of(Event::LoadTime)),
            evictions: totals.of(Event::Eviction),
            evicted_weight: totals.of(Event::EvictedWeight),
            expirations: totals.of(Event::Expiration),
            invalidations: totals.of(Event::Invalidation),
            in_flight,
            total_size_in_memory_bytes: bytes,
            total_size_in_memory_pretty: pretty_bytes(bytes),
        }
    }

    /// Starts counting from zero; entries stay.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.get(&1);
    /// cache.reset_stats();
    /// assert_eq!(cache.stats().misses, 0);
    /// ```
    pub fn reset_stats(&self) {
        self.store().reset_counts();
    }

    /// Returns the time by the cache's [`clock`](crate::Builder::clock), since its origin, for code that is
    /// built on the cache and is to go by the same time.
    ///
    /// Always asks the clock, also that of a cache whose entries do not expire, which the cache itself never
    /// asks.
    ///
    /// # Panics
    ///
    /// If the clock does; the system's on a platform that has none, such as `wasm32-unknown-unknown`.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let cache = AsyncLru::<u32, u32>::builder().clock(clock.clone()).build();
    /// let begun = cache.now();
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(cache.now() - begun, Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn now(&self) -> Duration {
        self.store().lifetimes().time()
    }
}

/// Shows sizes and settings, no keys and no values, and waits for nobody's work.
impl<K, V, S> fmt::Debug for AsyncLru<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.info();
        let CacheInfo { maxsize, max_weight, max_bytes, ttl, time_to_idle, .. } = info;
        f.debug_struct("AsyncLru")
            .field("len", &self.len())
            .field("maxsize", &maxsize)
            .field("max_weight", &max_weight)
            .field("max_bytes", &max_bytes)
            .field("ttl", &ttl)
            .field("time_to_idle", &time_to_idle)
            .field("fresh_for", &info.fresh_for)
            .field("ttl_jitter", &info.ttl_jitter)
            .field("shards", &info.shards)
            .field("eviction", &info.eviction)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pretty_at_every_unit_and_border() {
        let cases = [
            (0, "0.00 B"),
            (1_023, "1023.00 B"),
            (1_024, "1.00 KB"),
            (1_289_749, "1.23 MB"),
            (1_048_575, "1.00 MB"),
            (5 << 30, "5.00 GB"),
            (7 << 40, "7.00 TB"),
            (u64::MAX, "16777216.00 TB"),
        ];
        for (bytes, pretty) in cases {
            assert_eq!(pretty_bytes(bytes), pretty);
        }
    }
}
