//! Time to live, by a clock that only the test moves.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_lru::{AsyncLru, Clock, ManualClock, SystemClock};
use common::{Gate, hand, now, poll};

type Cache = AsyncLru<u32, u32>;

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_nanos(1);

fn cache(maxsize: usize, ttl: Duration) -> (Cache, ManualClock) {
    let clock = ManualClock::new();
    (Cache::builder().maxsize(maxsize).ttl(ttl).clock(clock.clone()).build(), clock)
}

executors! {
    async fn an_entry_lives_until_just_before_its_time_to_live() {
        let (cache, clock) = cache(10, SECOND);
        assert_eq!(cache.get_or_insert_with(1, async || 10).await, 10);
        clock.advance(SECOND - TICK);
        assert_eq!(cache.get(&1), Some(10));
        assert_eq!(cache.get_or_insert_with(1, async || 11).await, 10);
        clock.advance(TICK);
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.peek(&1), None);
        assert!(!cache.contains_key(&1));
        assert!(cache.keys().is_empty());
        assert_eq!(cache.remove(&1).await, None);
        assert_eq!(cache.get_or_insert_with(1, async || 12).await, 12);
    }

    async fn expired_entries_go_before_live_ones() {
        for shards in [1, 4] {
            let clock = ManualClock::new();
            let cache = Cache::builder()
                .maxsize(100)
                .shards(shards)
                .ttl(SECOND)
                .clock(clock.clone())
                .build();
            for key in 0..50 {
                cache.insert(key, 0).await;
            }
            clock.advance(SECOND / 2);
            for key in 50..100 {
                cache.insert(key, 0).await;
            }
            // The old half is the most recently used, and expires.
            for key in 0..50 {
                assert_eq!(cache.get(&key), Some(0));
            }
            clock.advance(SECOND / 2);
            for key in 100..150 {
                cache.insert(key, 0).await;
            }
            assert!((50..150).all(|key| cache.contains_key(&key)));
            assert_eq!((cache.stats().evictions, cache.stats().expirations), (0, 50));
        }
    }

    /// Against (A32) of `docs/reliability.md`.
    async fn purging_frees_what_nobody_reads() {
        for shards in [1, 8] {
            let clock = ManualClock::new();
            let cache = Cache::builder()
                .maxsize(1_000)
                .shards(shards)
                .ttl(SECOND)
                .clock(clock.clone())
                .build();
            for key in 0..700 {
                cache.insert(key, 0).await;
            }
            clock.advance(SECOND / 2);
            for key in 700..1_000 {
                cache.insert(key, 0).await;
            }
            clock.advance(SECOND / 2);
            assert_eq!(cache.len(), 1_000);
            assert_eq!(cache.purge_expired().await, 700);
            assert_eq!(cache.len(), 300);
            clock.advance(SECOND / 2);
            assert_eq!(cache.purge_expired_blocking(), 300);
            assert!(cache.is_empty());
            assert_eq!(cache.stats().expirations, 1_000);
        }
    }
}

#[test]
fn the_time_of_a_cache_is_that_of_its_clock_whether_its_entries_expire_or_not() {
    let clock = ManualClock::new();
    clock.set(3 * SECOND);
    let without_time = Cache::builder().clock(clock.clone()).build();
    let with_time = Cache::builder().ttl(SECOND).clock(clock.clone()).build();
    assert_eq!((without_time.now(), with_time.now()), (3 * SECOND, 3 * SECOND));
    clock.advance(TICK);
    assert_eq!((without_time.now(), with_time.now()), (3 * SECOND + TICK, 3 * SECOND + TICK));
    clock.set(SECOND);
    assert_eq!(with_time.now(), SECOND, "a step back of the clock is one");
    // Later than a clock can show.
    clock.set(Duration::MAX);
    assert_eq!(with_time.now(), Duration::from_nanos(u64::MAX - 1));
    let by_the_system = Cache::new(10);
    let begun = by_the_system.now();
    assert!(by_the_system.clone().now() >= begun, "handles share the clock");
}

/// Against (A33) of `docs/reliability.md`.
#[test]
fn the_time_to_live_starts_with_the_publication_and_not_with_the_load() {
    let (cache, clock) = cache(10, SECOND);
    let gate = Gate::new();
    let mut call = hand(cache.get_or_insert_with(1, async || {
        gate.wait().await;
        10
    }));
    assert!(poll(&mut call).is_pending());
    clock.advance(5 * SECOND);
    gate.open();
    assert!(poll(&mut call).is_ready());
    clock.advance(SECOND - TICK);
    assert_eq!(cache.get(&1), Some(10));
    clock.advance(TICK);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn the_time_an_entry_has_left_is_told_without_using_it() {
    let (cache, clock) = cache(2, SECOND);
    cache.insert_blocking(1, 10);
    clock.advance(SECOND / 4);
    cache.insert_blocking(2, 20);
    assert_eq!(cache.time_left(&1), Some(SECOND * 3 / 4));
    assert_eq!(cache.time_left(&2), Some(SECOND));
    assert_eq!(cache.time_left(&3), None);
    // The look was no use: the first entry still goes first.
    assert_eq!(cache.keys(), [1, 2]);
    assert_eq!((cache.stats().hits, cache.stats().misses), (0, 0));
    clock.advance(SECOND * 3 / 4 - TICK);
    assert_eq!(cache.time_left(&1), Some(TICK));
    clock.advance(TICK);
    assert_eq!(cache.time_left(&1), None, "the entry is there, and its time is over");
    assert_eq!(cache.len(), 2);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_clock_that_steps_back_gives_no_entry_more_time() {
    let (cache, clock) = cache(10, SECOND);
    clock.set(10 * SECOND);
    cache.insert_blocking(1, 10);
    clock.set(Duration::ZERO);
    assert_eq!(cache.time_left(&1), Some(SECOND));
    clock.set(11 * SECOND);
    assert_eq!(cache.time_left(&1), None);
    clock.set(10 * SECOND);
    assert_eq!(cache.time_left(&1), None, "seen expired once, it stays so");
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn an_entry_without_an_end_has_more_time_left_than_any() {
    for cache in [Cache::new(10), Cache::builder().ttl(Duration::MAX).build()] {
        cache.insert_blocking(1, 10);
        assert_eq!(cache.time_left(&1), Some(Duration::MAX));
        assert_eq!(cache.time_left(&2), None);
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn replacing_a_value_starts_its_time_anew() {
    let (cache, clock) = cache(10, SECOND);
    cache.insert_blocking(1, 10);
    clock.advance(SECOND / 2);
    assert_eq!(cache.insert_blocking(1, 11), Some(10));
    clock.advance(SECOND / 2);
    assert_eq!(cache.get(&1), Some(11));
    clock.advance(SECOND / 2);
    assert_eq!(cache.get(&1), None);
}

/// Against (A29) of `docs/reliability.md`.
#[test]
fn an_expired_value_is_not_returned_by_the_insert_that_replaces_it() {
    let (cache, clock) = cache(10, SECOND);
    cache.insert_blocking(1, 10);
    clock.advance(SECOND);
    assert_eq!(cache.insert_blocking(1, 11), None);
    let stats = cache.stats();
    assert_eq!((stats.expirations, stats.evictions, stats.current_size), (1, 0, 1));
}

/// Against (A32) of `docs/reliability.md`.
#[test]
fn every_write_frees_some_expired_entries_and_a_bounded_number() {
    let (cache, clock) = cache(400, SECOND);
    for key in 0..100 {
        cache.insert_blocking(key, 0);
    }
    clock.advance(SECOND);
    let mut writes = 0;
    while cache.stats().expirations < 100 {
        let before = cache.stats().expirations;
        cache.insert_blocking(1_000 + writes, 0);
        writes += 1;
        let freed = cache.stats().expirations - before;
        assert!((1..=10).contains(&freed), "{freed} freed by one write");
    }
    assert_eq!(cache.len(), writes as usize);
}

/// Against (A32) of `docs/reliability.md`.
#[test]
fn a_load_that_never_ends_does_not_keep_other_entries_from_expiring() {
    let (cache, clock) = cache(10, SECOND);
    let gate = Gate::new();
    let mut stuck = hand(cache.get_or_insert_with(1, async || {
        gate.wait().await;
        10
    }));
    assert!(poll(&mut stuck).is_pending());
    cache.insert_blocking(2, 20);
    clock.advance(SECOND);
    assert_eq!(now(cache.purge_expired()), 1);
}

/// Against (A34) of `docs/reliability.md`.
#[test]
fn the_longest_times_to_live_never_end() {
    for ttl in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::from_nanos(u64::MAX)] {
        let (cache, clock) = cache(10, ttl);
        cache.insert_blocking(1, 10);
        clock.advance(Duration::MAX);
        assert_eq!(cache.get(&1), Some(10), "{ttl:?}");
        cache.insert_blocking(2, 20);
        assert_eq!(cache.get(&2), Some(20), "{ttl:?}");
    }
}

#[test]
fn a_clock_at_the_end_of_its_range_neither_panics_nor_keeps_what_is_due() {
    let (cache, clock) = cache(10, SECOND);
    cache.insert_blocking(1, 10);
    clock.set(Duration::MAX);
    assert_eq!(cache.get(&1), None);
    cache.insert_blocking(2, 20);
    assert_eq!(cache.get(&2), Some(20), "its deadline lies beyond all time");
}

/// Against (A34) of `docs/reliability.md`.
#[test]
fn a_clock_that_steps_back_revives_nothing_that_was_seen_expired() {
    let (cache, clock) = cache(10, SECOND);
    cache.insert_blocking(1, 10);
    clock.set(SECOND);
    assert_eq!(cache.get(&1), None);
    clock.set(Duration::ZERO);
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.peek(&1), None);
    assert!(!cache.contains_key(&1));
    assert!(cache.keys().is_empty());
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11);
}

#[test]
fn an_entry_published_after_a_step_back_lives_its_whole_time() {
    let (cache, clock) = cache(10, SECOND);
    clock.set(10 * SECOND);
    cache.insert_blocking(1, 10);
    clock.set(Duration::ZERO);
    cache.insert_blocking(2, 20);
    clock.set(10 * SECOND + SECOND - TICK);
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)));
    clock.advance(TICK);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, None));
    assert_eq!(now(cache.purge_expired()), 2);
}

#[test]
fn a_cache_without_a_time_to_live_never_reads_its_clock() {
    let reads = Arc::new(AtomicU64::new(0));
    let counting = || {
        let reads = Arc::clone(&reads);
        move || {
            reads.fetch_add(1, Ordering::Relaxed);
            Duration::ZERO
        }
    };
    let cache = Cache::builder().clock(counting()).build();
    cache.insert_blocking(1, 10);
    cache.get(&1);
    now(cache.get_or_insert_with(2, async || 20));
    cache.purge_expired_blocking();
    cache.remove_blocking(&1);
    assert_eq!(cache.keys(), [2]);
    assert_eq!(reads.load(Ordering::Relaxed), 0);

    let timed = Cache::builder().ttl(SECOND).clock(counting()).build();
    timed.insert_blocking(1, 10);
    timed.get(&1);
    assert_eq!(reads.load(Ordering::Relaxed), 2);
}

#[test]
fn the_default_clock_moves() {
    let cache = Cache::builder().ttl(TICK).build();
    cache.insert_blocking(1, 10);
    // Asks until the nanosecond is over; it ends on any machine whose clock runs.
    while cache.contains_key(&1) {}
    assert_eq!(cache.get(&1), None);
}

#[test]
fn a_system_clock_that_is_given_tells_its_own_time_and_the_last_clock_counts() {
    let clock = SystemClock::new();
    let earliest = clock.now();
    while clock.now() == earliest {}
    let earlier = clock.now();
    let cache = Cache::builder().clock(ManualClock::new()).clock(clock).build();
    let told = cache.now();
    assert!(earlier <= told && told <= clock.now(), "{earlier:?}, {told:?}");

    let standing = Cache::builder().clock(clock).clock(ManualClock::new()).build();
    assert_eq!(standing.now(), Duration::ZERO);
}
