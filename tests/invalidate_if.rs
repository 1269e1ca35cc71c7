//! Removing the entries that a predicate chooses.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use common::{Gate, hand, now, poll};
use futures_lite::future::{block_on, yield_now};

type Cache = AsyncLru<u32, u32>;

const TTL: Duration = Duration::from_secs(60);

fn filled(maxsize: usize, shards: usize, keys: u32) -> Cache {
    let cache = Cache::builder().maxsize(maxsize).shards(shards).build();
    for key in 0..keys {
        cache.insert_blocking(key, key * 10);
    }
    cache
}

executors! {
    async fn the_chosen_entries_are_gone_and_the_others_in_their_order() {
        for shards in [1, 8] {
            let cache = filled(1_000, shards, 900);
            for key in 0..50 {
                cache.get(&key);
            }
            let before = cache.stats();
            let mut kept = cache.keys();
            kept.retain(|key| key % 3 != 0);

            let mut asked = 0;
            let removed = cache.invalidate_if(|key, value| {
                assert_eq!(*value, key * 10);
                asked += 1;
                value % 3 == 0
            });
            assert_eq!(removed.await, 300);
            assert_eq!(asked, 900, "each entry once");
            assert_eq!(cache.keys(), kept);
            let after = cache.stats();
            assert_eq!((after.hits, after.misses), (before.hits, before.misses));
            assert_eq!((after.evictions, after.expirations, after.current_size), (0, 0, 600));
            assert_eq!(cache.validate(), 0);

            assert_eq!(cache.invalidate_if_blocking(|key, _| key % 3 == 1), 300);
            assert_eq!(cache.invalidate_if(|_, _| true).await, 300);
            assert_eq!(cache.invalidate_if(|_, _| true).await, 0);
            assert!(cache.is_empty());
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn no_load_that_began_before_the_call_is_cached() {
        let alone = Cache::builder().maxsize(10).without_single_flight().build();
        for cache in [Cache::new(10), alone] {
            cache.insert(9, 90).await;
            let gate = Gate::new();
            let load = |value| {
                let gate = gate.clone();
                async move || {
                    gate.wait().await;
                    value
                }
            };
            let started = cache.stats().loads;
            let leader = cache.get_or_insert_with(1, load(10));
            let other = cache.get_or_insert_with(2, load(20));
            let rest = async {
                while cache.stats().loads < started + 2 {
                    yield_now().await;
                }
                // Nothing that is there is chosen, and still the values to come are not trusted.
                assert_eq!(cache.invalidate_if(|_, _| false).await, 0);
                // Who comes now starts afresh.
                assert_eq!(cache.get_or_insert_with(1, async || 11).await, 11);
                gate.open();
            };
            let loads = futures_lite::future::zip(leader, other);
            let ((one, two), ()) = futures_lite::future::zip(loads, rest).await;
            assert_eq!((one, two), (10, 20), "their callers get them all the same");
            assert_eq!(cache.snapshot(), [(9, 90), (1, 11)]);
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn an_entry_replaced_while_it_is_judged_stays() {
    for shards in [1, 4] {
        let cache = filled(100, shards, 100);
        let removed = cache.invalidate_if_blocking(|key, value| {
            if key % 2 == 0 && *value == key * 10 {
                cache.insert_blocking(*key, 7);
            }
            *value != 7
        });
        assert_eq!(removed, 50);
        let mut left = cache.snapshot();
        left.sort_unstable();
        assert_eq!(left, Vec::from_iter((0..100).step_by(2).map(|key| (key, 7))));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn an_entry_that_is_read_while_it_is_judged_is_not_spared() {
    let cache = filled(100, 1, 100);
    let removed = cache.invalidate_if_blocking(|key, _| {
        // A write of another key, then a read: the stamp of the entry lies behind it.
        cache.insert_blocking(200 + key % 2, 0);
        cache.get(key);
        *key < 100
    });
    // The one that made room for the first of the two new ones, and for the second, was read later.
    assert_eq!(removed + cache.stats().evictions as usize, 100);
    assert!(cache.keys().into_iter().all(|key| key >= 200));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn an_entry_in_the_place_of_one_that_was_chosen_stays() {
    // The place is free, or taken by an eviction, or everything is gone at once.
    type Change = fn(&Cache, u32);
    let changes: [Change; 4] = [
        |cache, key| {
            cache.remove_blocking(&key);
            cache.insert_blocking(key + 100, 1);
        },
        |cache, key| {
            cache.remove_blocking(&key);
            cache.restore_blocking([(key + 100, 1, None)]);
        },
        |cache, key| {
            // In a full cache the least recently used goes, and that is the next to be judged.
            cache.insert_blocking(key + 100, 1);
        },
        |cache, key| {
            cache.clear_blocking();
            cache.insert_blocking(key + 100, 1);
        },
    ];
    for change in changes {
        let cache = filled(10, 1, 10);
        cache.invalidate_if_blocking(|key, _| {
            change(&cache, *key);
            true
        });
        assert!(cache.snapshot().into_iter().all(|(key, value)| key >= 100 && value == 1));
        assert!(!cache.is_empty());
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn predicates_within_predicates_remove_each_entry_once() {
    let cache = filled(100, 1, 100);
    let mut inner = 0;
    let outer = cache.invalidate_if_blocking(|key, _| {
        inner += cache.invalidate_if_blocking(|other, _| *other == key + 1);
        true
    });
    assert_eq!(outer + inner, 100, "{outer} and {inner}");
    assert!(inner > 0);
    assert!(cache.is_empty());
    assert_eq!(cache.validate(), 0);
}

#[test]
fn entries_whose_time_is_over_are_neither_judged_nor_counted() {
    let clock = ManualClock::new();
    let cache = Cache::builder().ttl(TTL).clock(clock.clone()).build();
    cache.insert_blocking(1, 10);
    clock.advance(TTL / 2);
    cache.insert_blocking(2, 20);
    clock.advance(TTL / 2);
    let removed = cache.invalidate_if_blocking(|key, _| {
        assert_eq!(*key, 2);
        clock.advance(TTL / 2);
        true
    });
    assert_eq!(removed, 0, "its time was over before it could be removed");
    assert_eq!(cache.purge_expired_blocking(), 1);
    assert_eq!(cache.stats().expirations, 2);
    assert!(cache.is_empty());
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_predicate_fences_loads_of_a_cache_that_keeps_nothing() {
    let cache = Cache::new(0);
    let gate = Gate::new();
    let mut leader = hand(cache.get_or_insert_with(1, async || {
        gate.wait().await;
        10
    }));
    assert!(poll(&mut leader).is_pending());
    assert_eq!(cache.invalidate_if_blocking(|_, _| unreachable!()), 0);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11);
    gate.open();
    assert_eq!(poll(&mut leader), Poll::Ready(10));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn what_a_predicate_removes_is_dropped_before_the_call_returns() {
    let value = Arc::new(());
    let cache = AsyncLru::<u32, Arc<()>>::new(1_000);
    for key in 0..200 {
        cache.insert_blocking(key, Arc::clone(&value));
    }
    assert_eq!(cache.invalidate_if_blocking(|key, _| *key < 150), 150);
    assert_eq!(Arc::strong_count(&value), 51);
}

#[test]
fn a_predicate_that_panics_leaves_the_rest_as_it_was() {
    let cache = filled(100, 1, 100);
    let mut calls = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        cache.invalidate_if_blocking(|_, _| {
            calls += 1;
            assert_ne!(calls, 80, "on purpose");
            true
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(cache.validate(), 0);
    assert!(cache.len() < 100 && cache.len() >= 20, "some are removed: {}", cache.len());
    let left = cache.len();
    assert_eq!(cache.invalidate_if_blocking(|_, _| true), left);
    assert!(cache.is_empty());
}

#[test]
fn a_call_that_is_dropped_at_any_poll_leaves_the_cache_valid() {
    for polls in 0.. {
        let cache = filled(1_000, 4, 500);
        let mut call = hand(cache.invalidate_if(|key, _| key % 2 == 0));
        let done = (0..polls).any(|_| poll(&mut call).is_ready());
        drop(call);
        assert_eq!(cache.validate(), 0);
        assert!((0..500).all(|key| key % 2 == 0 || cache.contains_key(&key)));
        if done {
            assert_eq!(cache.len(), 250);
            assert!(polls > 8, "the future awaited on its way");
            return;
        }
        assert!(cache.len() > 250 || polls > 8, "{polls}");
    }
}

/// What a load has read before the call is gone after it, however threads interleave.
#[test]
fn after_the_call_no_thread_finds_what_was_out_of_date_before_it() {
    const ROUNDS: u32 = 300;
    for shards in [1, 4] {
        let cache = Cache::builder().maxsize(200).shards(shards).build();
        let version = AtomicU32::new(0);
        thread::scope(|scope| {
            for thread in 0..2 {
                let (cache, version) = (&cache, &version);
                scope.spawn(move || {
                    for turn in 0.. {
                        if version.load(Ordering::SeqCst) == ROUNDS {
                            return;
                        }
                        let key = (turn * 7 + thread) % 300;
                        block_on(cache.get_or_insert_with(key, async || {
                            let read = version.load(Ordering::SeqCst);
                            yield_now().await;
                            read
                        }));
                        if turn % 5 == 0 {
                            cache.remove_blocking(&(key + 1));
                        }
                        thread::yield_now();
                    }
                });
            }
            for current in 1..=ROUNDS {
                version.store(current, Ordering::SeqCst);
                cache.invalidate_if_blocking(|_, read| *read < current);
                let stale = cache.snapshot().into_iter().find(|(_, read)| *read < current);
                assert_eq!(stale, None, "{current}");
            }
        });
        assert_eq!(cache.validate(), 0);
    }
}
