//! What the feature `metrics` publishes, as Prometheus is served it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use futures_lite::future::block_on;
use metrics::with_local_recorder;
use metrics_exporter_prometheus::PrometheusBuilder;

const SECOND: Duration = Duration::from_secs(1);

/// The samples of a text, by name and labels, and the types that it says they have.
fn parse(text: &str) -> (BTreeMap<&str, f64>, BTreeMap<&str, &str>) {
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            types.extend(typed.split_once(' '));
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            samples.insert(name, value.parse().unwrap());
        }
    }
    (samples, types)
}

#[test]
fn all_figures_are_served_as_they_are() {
    let clock = ManualClock::new();
    let users = AsyncLru::<u32, u32>::builder()
        .maxsize(4)
        .shards(1)
        .max_weight(100, |_, value| u64::from(*value))
        .ttl(100 * SECOND)
        .fresh_for(10 * SECOND)
        .record_load_time()
        .clock(clock.clone())
        .build();
    block_on(async {
        for key in 0..6 {
            users
                .get_or_insert_with(key, async || {
                    clock.advance(SECOND / 2);
                    key + 1
                })
                .await;
        }
        assert!(users.try_get_or_insert_with(9, async || Err::<u32, _>("down")).await.is_err());
        users.get(&5);
        clock.advance(10 * SECOND);
        users.get(&4);
        assert!(users.try_get_or_insert_with(5, async || Err::<u32, _>("down")).await.is_ok());
        assert_eq!(users.refresh(3, async || 4).await, 4);
        users.remove(&2).await;
        clock.advance(95 * SECOND);
        assert!(users.purge_expired().await > 0);
    });
    let stats = users.stats();
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        stats.record("users");
        AsyncLru::<u32, u32>::builder().max_bytes(1_000).build().stats().record("empty");
    });
    let text = recorder.handle().render();
    println!("{text}");
    let (samples, types) = parse(&text);
    let counters = [
        ("hits", stats.hits, 3),
        ("stale_hits", stats.stale_hits, 2),
        ("misses", stats.misses, 7),
        ("coalesced", stats.coalesced, 0),
        ("loads", stats.loads, 9),
        ("load_failures", stats.load_failures, 2),
        ("refreshes", stats.refreshes, 2),
        ("refresh_failures", stats.refresh_failures, 1),
        ("evictions", stats.evictions, 2),
        ("evicted_weight", stats.evicted_weight, 3),
        ("expirations", stats.expirations, 2),
        ("invalidations", stats.invalidations, 1),
    ];
    for (name, count, expected) in counters {
        assert_eq!(count, expected, "{name}");
        let name = format!("async_lru_{name}_total");
        assert_eq!(types[&*name], "counter");
        let labelled = |cache| format!("{name}{{cache=\"{cache}\"}}");
        assert_eq!(samples[&*labelled("users")], expected as f64, "{name}");
        assert_eq!(samples[&*labelled("empty")], 0.0, "{name}");
    }
    let memory = stats.total_size_in_memory_bytes as f64;
    let gauges = [
        ("entries", Some(1.0), Some(0.0)),
        ("max_entries", Some(4.0), None),
        ("weight", Some(4.0), None),
        ("max_weight", Some(100.0), None),
        ("bytes", None, Some(0.0)),
        ("max_bytes", None, Some(1_000.0)),
        ("memory_bytes", Some(memory), None),
        ("ttl_seconds", Some(100.0), None),
        ("loads_in_flight", Some(0.0), Some(0.0)),
        ("load_time_seconds", Some(3.0), Some(0.0)),
    ];
    for (name, of_users, of_empty) in gauges {
        let name = format!("async_lru_{name}");
        assert_eq!(types[&*name], "gauge");
        let sample = |cache| samples.get(&*format!("{name}{{cache=\"{cache}\"}}")).copied();
        assert_eq!(sample("users"), of_users, "{name}");
        if name != "async_lru_memory_bytes" {
            assert_eq!(sample("empty"), of_empty, "{name}");
        }
    }
    assert_eq!(types.len(), counters.len() + gauges.len(), "all that is served is known here");
}

#[test]
fn what_is_published_again_takes_the_place_of_what_was() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let cache = AsyncLru::<u32, u32>::new(10);
    for calls in 1..=3 {
        cache.get(&1);
        with_local_recorder(&recorder, || cache.stats().record("cache"));
        let text = recorder.handle().render();
        assert_eq!(parse(&text).0["async_lru_misses_total{cache=\"cache\"}"], f64::from(calls));
    }
    // Without a recorder it goes nowhere.
    cache.stats().record("cache");
}
