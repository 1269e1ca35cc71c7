//! Publishing the statistics of a cache through the facade `metrics`.

use std::sync::Arc;

use metrics::{SharedString, Unit, counter, describe_counter, describe_gauge, gauge};

use super::stats::CacheStats;

type Count = fn(&CacheStats) -> u64;
type Value = fn(&CacheStats) -> Option<f64>;

/// What is counted; see the fields of [`CacheStats`].
const COUNTERS: [(&str, &str, Count); 12] = [
    ("async_lru_hits_total", "Calls that found a live value.", |stats| stats.hits),
    ("async_lru_stale_hits_total", "Hits that found a stale value.", |stats| stats.stale_hits),
    ("async_lru_misses_total", "Calls that found neither a value nor a load.", |stats| {
        stats.misses
    }),
    ("async_lru_coalesced_total", "Calls that joined a load.", |stats| stats.coalesced),
    ("async_lru_loads_total", "Loads that were started.", |stats| stats.loads),
    ("async_lru_load_failures_total", "Loads without a value.", |stats| stats.load_failures),
    ("async_lru_refreshes_total", "Entries whose refresh was begun.", |stats| stats.refreshes),
    ("async_lru_refresh_failures_total", "Refreshes without a value.", |stats| {
        stats.refresh_failures
    }),
    ("async_lru_evictions_total", "Live entries that made room.", |stats| stats.evictions),
    ("async_lru_evicted_weight_total", "The weight of live entries that made room.", |stats| {
        stats.evicted_weight
    }),
    ("async_lru_expirations_total", "Entries whose time was over.", |stats| stats.expirations),
    ("async_lru_invalidations_total", "Entries that were removed.", |stats| stats.invalidations),
];

/// What is so now, or is no whole number; `None` is not published.
const GAUGES: [(&str, Unit, &str, Value); 10] = [
    ("async_lru_entries", Unit::Count, "Entries in the cache.", |stats| {
        Some(stats.current_size as f64)
    }),
    ("async_lru_max_entries", Unit::Count, "The most entries.", |stats| {
        stats.max_size.map(|max| max as f64)
    }),
    ("async_lru_weight", Unit::Count, "The weight of all entries.", |stats| {
        stats.current_weight.map(|weight| weight as f64)
    }),
    ("async_lru_max_weight", Unit::Count, "The most weight.", |stats| {
        stats.max_weight.map(|max| max as f64)
    }),
    (
        "async_lru_bytes",
        Unit::Bytes,
        "Bytes of keys and values, where they are bounded.",
        |stats| stats.current_bytes.map(|bytes| bytes as f64),
    ),
    ("async_lru_max_bytes", Unit::Bytes, "The most bytes.", |stats| {
        stats.max_bytes.map(|max| max as f64)
    }),
    ("async_lru_memory_bytes", Unit::Bytes, "An estimate of the memory taken.", |stats| {
        Some(stats.total_size_in_memory_bytes as f64)
    }),
    ("async_lru_ttl_seconds", Unit::Seconds, "How long an entry lives.", |stats| {
        stats.ttl.map(|ttl| ttl.as_secs_f64())
    }),
    ("async_lru_loads_in_flight", Unit::Count, "Loads and updates in progress.", |stats| {
        Some(stats.in_flight as f64)
    }),
    ("async_lru_load_time_seconds", Unit::Seconds, "The time of all loads together.", |stats| {
        Some(stats.load_time.as_secs_f64())
    }),
];

/// With the feature `metrics`.
impl CacheStats {
    /// Publishes all of it through the facade `metrics`, with the label `cache` set to this name: counters as
    /// absolute counts, what is so now as gauges.
    ///
    /// Meant to be called whenever the figures are asked for or sent, on whatever recorder the service has
    /// installed for `metrics` 0.24; without one it does nothing. Bounds that the cache does not have are left
    /// out.
    ///
    /// | name | field |
    /// |---|---|
    /// | `async_lru_hits_total`, and so on for `stale_hits`, `misses`, `coalesced`, `loads`, `load_failures`, `refreshes`, `refresh_failures`, `evictions`, `evicted_weight`, `expirations`, `invalidations` | of the same name |
    /// | `async_lru_entries`, `async_lru_max_entries` | `current_size`, `max_size` |
    /// | `async_lru_weight`, `async_lru_max_weight` | `current_weight`, `max_weight` |
    /// | `async_lru_bytes`, `async_lru_max_bytes` | `current_bytes`, `max_bytes` |
    /// | `async_lru_memory_bytes` | `total_size_in_memory_bytes` |
    /// | `async_lru_ttl_seconds` | `ttl` |
    /// | `async_lru_loads_in_flight` | `in_flight` |
    /// | `async_lru_load_time_seconds`, a gauge, as counters are whole | `load_time` |
    ///
    /// Recorders take counters for things that only grow: after a
    /// [`reset_stats`](crate::AsyncLru::reset_stats) or [`clear`](crate::AsyncLru::clear) many show the old
    /// count until the new one passes it.
    ///
    /// # Examples
    ///
    /// ```
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    ///
    /// let recorder = PrometheusBuilder::new().build_recorder();
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(100);
    /// cache.get(&1);
    /// metrics::with_local_recorder(&recorder, || cache.stats().record("users"));
    /// let text = recorder.handle().render();
    /// assert!(text.contains("async_lru_misses_total{cache=\"users\"} 1"), "{text}");
    /// ```
    pub fn record(&self, cache: &str) {
        let cache = SharedString::from(Arc::<str>::from(cache));
        for (name, description, count) in COUNTERS {
            describe_counter!(name, Unit::Count, description);
            counter!(name, "cache" => cache.clone()).absolute(count(self));
        }
        for (name, unit, description, value) in GAUGES {
            if let Some(value) = value(self) {
                describe_gauge!(name, unit, description);
                gauge!(name, "cache" => cache.clone()).set(value);
            }
        }
    }
}
