//! Removing the entries that a predicate chooses.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock, Update};
use common::{Calls, Gate, hand, now, poll};
use futures_lite::future::{block_on, yield_now, zip};

type Cache = AsyncLru<u32, u32>;

const TTL: Duration = Duration::from_secs(60);

fn filled(maxsize: usize, shards: usize, keys: u32) -> Cache {
    let cache = Cache::builder().maxsize(maxsize).shards(shards).build();
    for key in 0..keys {
        cache.insert_blocking(key, key * 10);
    }
    cache
}

/// What a load or an update gives once the gate is open.
fn past<T>(gate: &Gate, value: T) -> impl Future<Output = T> + use<T> {
    let gate = gate.clone();
    async move {
        gate.wait().await;
        value
    }
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

            let asked = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&asked);
            let removed = cache.invalidate_if(move |key, value| {
                assert_eq!(*value, key * 10);
                count.fetch_add(1, Ordering::Relaxed);
                value % 3 == 0
            });
            assert_eq!(removed.await, 300);
            assert_eq!(asked.load(Ordering::Relaxed), 900, "each entry once");
            assert_eq!(Arc::strong_count(&asked), 1, "nobody keeps the predicate");
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

    async fn of_the_loads_in_flight_those_that_are_chosen_are_not_cached_and_the_others_are() {
        let alone = Cache::builder().maxsize(10).without_single_flight().build();
        let measured = Cache::builder().maxsize(10).measure_with(|_, _| 1).build();
        for cache in [Cache::new(10), alone, measured] {
            cache.insert(9, 90).await;
            let gate = Gate::new();
            let led = zip(
                cache.get_or_insert_with(1, || past(&gate, 10)),
                cache.get_or_insert_with(2, || past(&gate, 20)),
            );
            let detached = zip(
                cache.get_detached(3, || past(&gate, 30)),
                cache.get_detached(4, || past(&gate, 40)),
            );
            let rest = async {
                while cache.stats().loads < 4 {
                    yield_now().await;
                }
                let (asked, removed) = (Arc::new(Mutex::new(Vec::new())), [20, 40, 90]);
                let note = Arc::clone(&asked);
                let is_chosen = move |key: &u32, value: &u32| {
                    note.lock().unwrap().push((*key, *value));
                    removed.contains(value)
                };
                assert_eq!(cache.invalidate_if(is_chosen).await, 1);
                assert_eq!(*asked.lock().unwrap(), [(9, 90)], "it waits for no load");
                gate.open();
                asked
            };
            let ((led, detached), asked) = zip(zip(led, detached), rest).await;
            assert_eq!((led, detached), ((10, 20), (30, 40)), "their callers get them all");
            let mut left = cache.snapshot();
            left.sort_unstable();
            assert_eq!(left, [(1, 10), (3, 30)]);
            let mut asked_all = asked.lock().unwrap().clone();
            asked_all.sort_unstable();
            assert_eq!(asked_all, [(1, 10), (2, 20), (3, 30), (4, 40), (9, 90)]);
            assert_eq!(Arc::strong_count(&asked), 1, "nobody keeps the predicate");
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn the_keys_of_a_batch_are_judged_each_by_itself() {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let batch = cache.get_or_insert_many(0..6, async |keys: Vec<u32>| {
            gate.wait().await;
            keys.into_iter().map(|key| (key, key * 10))
        });
        let rest = async {
            while cache.stats().loads < 1 {
                yield_now().await;
            }
            assert_eq!(cache.invalidate_if(|key, value| key % 2 == 0 || *value == 50).await, 0);
            assert_eq!(cache.invalidate_keys_if(|key| *key == 1).await, 0);
            gate.open();
        };
        let (found, ()) = zip(batch, rest).await;
        assert_eq!(found.len(), 6);
        assert_eq!(cache.keys(), [3]);
        assert_eq!(cache.validate(), 0);
    }

    /// Against (A41) of `docs/reliability.md`.
    async fn an_update_in_flight_is_carried_out_beside_a_sweep_that_does_not_choose_what_it_leaves() {
        type Change = Update<u32>;
        let run = async |change: Change, sweep: fn(&u32, &u32) -> bool| {
            let cache = Cache::new(10);
            cache.insert(1, 1).await;
            cache.insert(2, 2).await;
            let gate = Gate::new();
            let update = cache.update_with(1, async |old| {
                assert_eq!(old, Some(1));
                gate.wait().await;
                change
            });
            let rest = async {
                yield_now().await;
                let removed = cache.invalidate_if(sweep).await;
                gate.open();
                removed
            };
            let (left, removed) = zip(update, rest).await;
            assert_eq!(cache.validate(), 0);
            (left, removed, cache.peek(&1), cache.peek(&2))
        };
        for nothing in [|_: &u32, _: &u32| false, |key: &u32, _: &u32| *key == 77] {
            assert_eq!(run(Update::Put(5), nothing).await, (Some(5), 0, Some(5), Some(2)));
            assert_eq!(run(Update::Keep, nothing).await, (Some(1), 0, Some(1), Some(2)));
            assert_eq!(run(Update::Remove, nothing).await, (None, 0, None, Some(2)));
        }
        let other = |key: &u32, _: &u32| *key == 2;
        assert_eq!(run(Update::Put(5), other).await, (Some(5), 1, Some(5), None));
        assert_eq!(run(Update::Remove, other).await, (None, 1, None, None));
        let old_value = |_: &u32, value: &u32| *value == 1;
        assert_eq!(run(Update::Put(5), old_value).await, (Some(5), 1, Some(5), Some(2)));
        // It comes just after the update: what that has left is gone, and what was there before as well.
        let new_value = |_: &u32, value: &u32| *value == 5;
        assert_eq!(run(Update::Put(5), new_value).await, (Some(5), 0, None, Some(2)));
        let key = |key: &u32, _: &u32| *key == 1;
        assert_eq!(run(Update::Put(5), key).await, (Some(5), 1, None, Some(2)));
    }

    async fn a_sweep_of_keys_wins_at_once_over_loads_and_updates_of_the_keys_that_it_chooses() {
        for cache in [Cache::new(10), Cache::builder().maxsize(10).measure_with(|_, _| 1).build()] {
            cache.insert(5, 1).await;
            cache.insert(6, 1).await;
            let gate = Gate::new();
            let loads = zip(
                cache.get_or_insert_with(1, || past(&gate, 10)),
                cache.get_detached(2, || past(&gate, 20)),
            );
            let updates = zip(
                cache.update_with(5, |_| past(&gate, Update::Put(2))),
                cache.update_with(6, |_| past(&gate, Update::Put(2))),
            );
            let rest = async {
                while cache.stats().loads < 2 {
                    yield_now().await;
                }
                assert_eq!(cache.invalidate_keys_if(|key| key % 2 == 1).await, 1);
                // Who comes now starts afresh, or joins.
                assert_eq!(cache.get_or_insert_with(1, async || 11).await, 11);
                gate.open();
                cache.get_or_insert_with(2, async || unreachable!("it joins or hits")).await
            };
            let ((loads, updates), two) = zip(zip(loads, updates), rest).await;
            assert_eq!((loads, updates, two), ((10, 20), (Some(2), Some(2)), 20));
            let mut left = cache.snapshot();
            left.sort_unstable();
            assert_eq!(left, [(1, 11), (2, 20), (6, 2)]);
            assert_eq!(cache.validate(), 0);
        }
    }

    /// Against (A41) of `docs/reliability.md`.
    async fn sweeps_without_end_keep_no_load_out_that_they_do_not_choose() {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let load = cache.get_or_insert_with(1, async || {
            gate.wait().await;
            10
        });
        let sweeps = async {
            for _ in 0..60 {
                cache.invalidate_if(|key, _| *key == 2).await;
                yield_now().await;
            }
            gate.open();
        };
        assert_eq!(zip(load, sweeps).await, (10, ()));
        assert_eq!(cache.get(&1), Some(10));
        assert_eq!(cache.validate(), 0);
    }
}

/// Against (A41) of `docs/reliability.md`.
#[test]
fn no_increment_is_lost_beside_the_sweeps_of_other_threads() {
    const THREADS: u32 = 3;
    const TURNS: u32 = 500;
    let cache = Cache::new(100);
    let done = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..TURNS {
                    let increment = async |old: Option<u32>| {
                        yield_now().await;
                        Update::Put(old.unwrap_or(0) + 1)
                    };
                    block_on(cache.update_with(0, increment));
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut seen = 0;
        while seen < THREADS * TURNS {
            assert_eq!(cache.invalidate_if_blocking(|key, _| *key == 77), 0);
            assert_eq!(cache.invalidate_keys_if_blocking(|key| *key == 77), 0);
            // No more sweeps during one update than it waits for.
            while done.load(Ordering::SeqCst) == seen {
                thread::yield_now();
            }
            seen = done.load(Ordering::SeqCst);
        }
    });
    assert_eq!(cache.get(&0), Some(THREADS * TURNS));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_load_during_which_too_many_sweeps_begin_is_not_cached() {
    for sweeps in [64, 65] {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let mut load = hand(cache.get_or_insert_with(1, async || {
            gate.wait().await;
            10
        }));
        assert!(poll(&mut load).is_pending());
        for _ in 0..sweeps {
            assert_eq!(cache.invalidate_if_blocking(|_, _| false), 0);
        }
        gate.open();
        assert_eq!(poll(&mut load), Poll::Ready(10));
        assert_eq!(cache.contains_key(&1), sweeps == 64);
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn an_update_beside_too_many_sweeps_is_carried_out_and_what_it_puts_is_swept_away() {
    let run = |sweeps: u32, change: Update<u32>| {
        let cache = Cache::new(10);
        cache.insert_blocking(1, 10);
        let gate = Gate::new();
        let mut update = hand(cache.update_with(1, |_| past(&gate, change)));
        assert!(poll(&mut update).is_pending());
        for _ in 0..sweeps {
            assert_eq!(cache.invalidate_if_blocking(|_, _| false), 0);
        }
        gate.open();
        let left = now(update);
        assert_eq!(cache.validate(), 0);
        (left, cache.peek(&1))
    };
    assert_eq!(run(64, Update::Put(11)), (Some(11), Some(11)));
    for sweeps in [65, 66, 200] {
        assert_eq!(run(sweeps, Update::Remove), (None, None));
        assert_eq!(run(sweeps, Update::Keep), (Some(10), Some(10)));
        // Not the value before it, which it has replaced.
        assert_eq!(run(sweeps, Update::Put(11)), (Some(11), None));
        assert_eq!(run(sweeps, Update::PutFor(11, TTL)), (Some(11), None));
    }
}

#[test]
fn a_sweep_that_begins_while_another_one_judges_a_load_is_asked_too() {
    for is_chosen in [false, true] {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let mut load = hand(cache.get_or_insert_with(1, async || {
            gate.wait().await;
            10
        }));
        assert!(poll(&mut load).is_pending());
        let other = cache.clone();
        cache.invalidate_if_blocking(move |_, _| {
            other.invalidate_if_blocking(move |_, _| is_chosen);
            false
        });
        gate.open();
        assert_eq!(poll(&mut load), Poll::Ready(10));
        assert_eq!(cache.contains_key(&1), !is_chosen);
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_predicate_that_panics_about_a_load_has_it_fail_and_its_waiters_load_themselves() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut load = hand(cache.get_or_insert_with(1, async || {
        gate.wait().await;
        10
    }));
    assert!(poll(&mut load).is_pending());
    let mut waiter = hand(cache.get_or_insert_with(1, async || 11));
    assert!(poll(&mut waiter).is_pending());
    cache.invalidate_if_blocking(|_, _| panic!("on purpose"));
    gate.open();
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut load))).is_err());
    drop(load);
    assert_eq!(poll(&mut waiter), Poll::Ready(11));
    assert_eq!((cache.get(&1), cache.stats().load_failures), (Some(11), 1));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn an_entry_replaced_while_it_is_judged_stays() {
    for shards in [1, 4] {
        let cache = filled(100, shards, 100);
        let handle = cache.clone();
        let removed = cache.invalidate_if_blocking(move |key, value| {
            if key % 2 == 0 && *value == key * 10 {
                handle.insert_blocking(*key, 7);
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
    let handle = cache.clone();
    let removed = cache.invalidate_if_blocking(move |key, _| {
        // A write of another key, then a read: the stamp of the entry lies behind it.
        handle.insert_blocking(200 + key % 2, 0);
        handle.get(key);
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
        let handle = cache.clone();
        cache.invalidate_if_blocking(move |key, _| {
            change(&handle, *key);
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
    let inner = Arc::new(AtomicU32::new(0));
    let (handle, count) = (cache.clone(), Arc::clone(&inner));
    let outer = cache.invalidate_if_blocking(move |key, _| {
        let next = key + 1;
        let removed = handle.invalidate_if_blocking(move |other, _| *other == next);
        count.fetch_add(removed as u32, Ordering::Relaxed);
        true
    });
    let inner = inner.load(Ordering::Relaxed) as usize;
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
    let removed = cache.invalidate_if_blocking(move |key, _| {
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
fn a_predicate_is_not_asked_about_the_loads_of_a_cache_that_keeps_nothing() {
    let cache = Cache::new(0);
    let gate = Gate::new();
    let mut leader = hand(cache.get_or_insert_with(1, async || {
        gate.wait().await;
        10
    }));
    assert!(poll(&mut leader).is_pending());
    assert_eq!(cache.invalidate_if_blocking(|_, _| unreachable!()), 0);
    assert_eq!(cache.invalidate_keys_if_blocking(|key| *key == 1), 0);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11, "that of the keys has fenced it");
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
    let calls = AtomicU32::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        cache.invalidate_if_blocking(move |_, _| {
            assert_ne!(calls.fetch_add(1, Ordering::Relaxed), 79, "on purpose");
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
                cache.invalidate_if_blocking(move |_, read| *read < current);
                let stale = cache.snapshot().into_iter().find(|(_, read)| *read < current);
                assert_eq!(stale, None, "{current}");
            }
        });
        assert_eq!(cache.validate(), 0);
    }
}
