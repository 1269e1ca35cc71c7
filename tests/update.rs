//! Changing a value by what it is, one change of a key at a time.

mod common;

use std::cell::Cell;
use std::collections::HashSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock, Update};
use common::{Calls, Gate, hand, join_all, now, poll};
use futures_lite::future::{block_on, pending, yield_now};

type Cache = AsyncLru<u32, u32>;

async fn increment(value: Option<u32>) -> Update<u32> {
    yield_now().await;
    Update::Put(value.unwrap_or(0) + 1)
}

/// An update that waits at `gate` and then does `change`.
async fn at(gate: &Gate, change: Update<u32>) -> Update<u32> {
    gate.wait().await;
    change
}

/// Caches of all kinds that keep what they are given.
fn caches() -> Vec<Cache> {
    vec![
        Cache::new(10),
        Cache::builder().shards(4).build(),
        Cache::builder().ttl(Duration::from_secs(1)).clock(ManualClock::new()).build(),
        Cache::builder().measure_with(|_, _| 100).build(),
        Cache::builder().without_single_flight().build(),
    ]
}

executors! {
    async fn no_increment_of_many_tasks_is_lost() {
        for cache in caches() {
            let updates = (0..100).map(|number| cache.update_with(number % 2, increment));
            let mut left: Vec<u32> = join_all(updates).await.into_iter().flatten().collect();
            left.sort_unstable();
            let expected: Vec<u32> = (1..=50).flat_map(|count| [count, count]).collect();
            assert_eq!(left, expected);
            assert_eq!((cache.get(&0), cache.get(&1)), (Some(50), Some(50)));
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn no_increment_of_several_threads_is_lost() {
        const THREADS: u32 = 4;
        const ROUNDS: u32 = 200;
        for cache in caches() {
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        for _ in 0..ROUNDS {
                            let left = block_on(cache.update_with(1, increment));
                            assert!(left.is_some());
                            // Loads that miss join, and bring nothing of their own.
                            let load = cache.get_or_insert_with(1, async || unreachable!());
                            assert!(block_on(load) >= left.unwrap());
                        }
                    });
                }
            });
            assert_eq!(cache.get(&1), Some(THREADS * ROUNDS));
            assert_eq!(cache.validate(), 0);
        }
    }

    /// Against (A18) of `docs/reliability.md`.
    async fn no_two_updates_start_from_one_value_whatever_writes_come_between() {
        const THREADS: u32 = 4;
        const ROUNDS: u32 = 300;
        for cache in caches() {
            let next_base = AtomicU32::new(1);
            let new_base = || next_base.fetch_add(1, Ordering::Relaxed) * 10_000;
            let seen = Mutex::new(HashSet::new());
            thread::scope(|scope| {
                for number in 0..THREADS {
                    let (cache, seen, new_base) = (&cache, &seen, &new_base);
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            match (round + number) % 16 {
                                0 => drop(cache.insert_blocking(1, new_base())),
                                8 => drop(cache.remove_blocking(&1)),
                                _ => {}
                            }
                            let change = async |value: Option<u32>| {
                                yield_now().await;
                                Update::Put(value.unwrap_or_else(new_base) + 1)
                            };
                            let left = block_on(cache.update_with(1, change)).unwrap();
                            assert!(seen.lock().unwrap().insert(left), "{left} came twice");
                        }
                    });
                }
            });
            assert_eq!(seen.lock().unwrap().len(), (THREADS * ROUNDS) as usize);
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn an_update_puts_keeps_or_removes_and_returns_what_it_has_left() {
    for cache in caches() {
        let saw = Cell::new(None);
        let answer = |change| {
            let saw = &saw;
            move |value| async move {
                saw.set(value);
                change
            }
        };
        assert_eq!(now(cache.update_with(1, answer(Update::Keep))), None);
        assert_eq!(now(cache.update_with(1, answer(Update::Remove))), None);
        assert_eq!((cache.len(), saw.get()), (0, None));
        assert_eq!(now(cache.update_with(1, answer(Update::Put(10)))), Some(10));
        assert_eq!((cache.peek(&1), saw.get()), (Some(10), None));
        assert_eq!(now(cache.update_with(1, answer(Update::Keep))), Some(10));
        assert_eq!((cache.peek(&1), saw.get()), (Some(10), Some(10)));
        assert_eq!(now(cache.update_with(1, answer(Update::Put(11)))), Some(11));
        assert_eq!((cache.peek(&1), cache.len()), (Some(11), 1));
        assert_eq!(now(cache.update_with(1, answer(Update::Remove))), None);
        assert_eq!((cache.len(), saw.get()), (0, Some(11)));
        let stats = cache.stats();
        assert_eq!(
            (stats.calls(), stats.loads, stats.load_failures, stats.evictions),
            (0, 0, 0, 0)
        );
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn an_update_is_a_use_of_the_entry_and_evicts_when_there_is_no_room() {
    let cache = Cache::new(2);
    cache.insert_blocking(1, 10);
    cache.insert_blocking(2, 20);
    now(cache.update_with(1, async |_| Update::Keep));
    assert_eq!(cache.keys(), [2, 1]);
    now(cache.update_with(3, async |_| Update::Put(30)));
    assert_eq!(cache.keys(), [1, 3]);
    now(cache.update_with(1, async |_| Update::Put(11)));
    assert_eq!((cache.keys(), cache.stats().evictions), (vec![3, 1], 1));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn an_expired_value_is_none_and_what_is_put_lives_anew() {
    let clock = ManualClock::new();
    let ttl = Duration::from_secs(1);
    let cache = Cache::builder().ttl(ttl).clock(clock.clone()).build();
    cache.insert_blocking(1, 10);
    clock.advance(ttl);
    assert_eq!(now(cache.update_with(1, async |_| Update::Keep)), None);
    assert_eq!(block_on(cache.update_with(1, increment)), Some(1));
    assert_eq!((cache.stats().expirations, cache.len()), (1, 1));
    clock.advance(ttl / 2);
    assert_eq!(block_on(cache.update_with(1, increment)), Some(2));
    clock.advance(ttl / 2);
    assert_eq!(cache.get(&1), Some(2));
    clock.advance(ttl);
    assert_eq!(now(cache.update_with(1, async |_| Update::Remove)), None);
    assert_eq!((cache.stats().expirations, cache.len(), cache.validate()), (2, 0, 0));
}

#[test]
fn an_update_waits_for_a_load_in_flight_and_starts_from_its_value() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut load = hand(cache.get_or_insert_with(1, async || {
        gate.wait().await;
        10
    }));
    assert!(poll(&mut load).is_pending());
    let mut update = hand(cache.update_with(1, async |value| Update::Put(value.unwrap() + 1)));
    assert!(poll(&mut update).is_pending());
    gate.open();
    assert!(poll(&mut update).is_pending());
    assert_eq!((poll(&mut load), poll(&mut update)), (Poll::Ready(10), Poll::Ready(Some(11))));
    assert_eq!(cache.get(&1), Some(11));
    // One that comes to nothing is not waited for any longer.
    let mut load = hand(cache.get_or_insert_with(2, pending));
    assert!(poll(&mut load).is_pending());
    let mut update = hand(cache.update_with(2, async |value| Update::Put(value.unwrap_or(5))));
    assert!(poll(&mut update).is_pending());
    drop(load);
    assert_eq!(poll(&mut update), Poll::Ready(Some(5)));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn an_update_moves_a_detached_load_on_that_everybody_else_has_left() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let of_load = gate.clone();
    let mut load = hand(cache.get_detached(1, || async move {
        of_load.wait().await;
        10
    }));
    assert!(poll(&mut load).is_pending());
    let mut update = hand(cache.update_with(1, async |value| Update::Put(value.unwrap() + 1)));
    assert!(poll(&mut update).is_pending());
    drop(load);
    gate.open();
    assert_eq!(poll(&mut update), Poll::Ready(Some(11)));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn calls_that_miss_wait_for_the_update_and_those_that_hit_get_the_old_value() {
    for maxsize in [10, 0] {
        for change in [Update::Put(10), Update::Keep, Update::Remove] {
            let cache = Cache::new(maxsize);
            let gate = Gate::new();
            let mut update = hand(cache.update_with(1, |_| at(&gate, change)));
            assert!(poll(&mut update).is_pending());
            let mut load = hand(cache.get_or_insert_with(1, async || 5));
            let mut detached = hand(cache.get_detached(1, || async { 6 }));
            let mut many = hand(cache.get_or_insert_many([1], async |_| [(1, 7)]));
            assert!(poll(&mut load).is_pending() && poll(&mut detached).is_pending());
            assert!(poll(&mut many).is_pending());
            gate.open();
            let left = if let Update::Put(value) = change { Some(value) } else { None };
            assert_eq!(poll(&mut update), Poll::Ready(left));
            let loaded = left.unwrap_or(5);
            assert_eq!(poll(&mut load), Poll::Ready(loaded));
            if maxsize > 0 || left.is_some() {
                assert_eq!(poll(&mut detached), Poll::Ready(loaded));
                assert_eq!(poll(&mut many), Poll::Ready(vec![(1, Some(loaded))]));
            }
            drop((detached, many));
            assert_eq!(cache.stats().coalesced, 3);
            assert_eq!(cache.validate(), 0);
        }
    }
    let cache = Cache::new(10);
    cache.insert_blocking(1, 10);
    let mut update = hand(cache.update_with(1, increment));
    assert!(poll(&mut update).is_pending());
    assert_eq!(now(cache.get_or_insert_with(1, async || unreachable!())), 10);
    assert_eq!(poll(&mut update), Poll::Ready(Some(11)));
}

#[test]
fn an_update_that_is_dropped_at_any_poll_changes_nothing_and_the_next_goes_on() {
    for gone in ["dropped", "kept before it began", "leaked before it began"] {
        for polls in 0..=3 {
            let cache = Cache::new(10);
            cache.insert_blocking(1, 10);
            let mut first = hand(cache.update_with(1, async |value: Option<u32>| {
                for _ in 0..3 {
                    yield_now().await;
                }
                Update::Put(value.unwrap() + 100)
            }));
            let mut second = hand(cache.update_with(1, increment));
            let mut third = hand(cache.update_with(1, increment));
            for _ in 0..polls {
                assert!(poll(&mut first).is_pending());
            }
            let mut kept = None;
            if gone == "dropped" {
                assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
                drop(first);
                assert_eq!(block_on(second), Some(11));
                assert_eq!(block_on(third), Some(12));
            } else {
                // The second waits, or has not begun, and is not polled any more.
                if polls > 0 {
                    assert!(poll(&mut second).is_pending());
                }
                match gone {
                    "kept before it began" => kept = Some(second),
                    _ => std::mem::forget(second),
                }
                assert_eq!(block_on(first), Some(110));
                assert_eq!(block_on(third), Some(111));
            }
            drop(kept);
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn an_error_or_a_panic_changes_nothing_and_the_next_update_goes_on() {
    for fails in ["error", "panic of the closure", "panic of the future"] {
        let cache = Cache::new(10);
        cache.insert_blocking(1, 10);
        let gate = Gate::new();
        let mut failing = hand(cache.try_update_with(1, |_| {
            assert_ne!(fails, "panic of the closure", "bang");
            async {
                gate.wait().await;
                assert_ne!(fails, "panic of the future", "bang");
                Err("down")
            }
        }));
        let mut poll_failing = || catch_unwind(AssertUnwindSafe(|| poll(&mut failing)));
        let mut next = hand(cache.update_with(1, async |value| Update::Put(value.unwrap() + 1)));
        if fails == "panic of the closure" {
            assert!(poll_failing().is_err());
        } else {
            assert!(matches!(poll_failing(), Ok(Poll::Pending)));
            assert!(poll(&mut next).is_pending());
            gate.open();
            match poll_failing() {
                Ok(ended) => assert_eq!(ended, Poll::Ready(Err("down"))),
                Err(_) => assert_eq!(fails, "panic of the future"),
            }
        }
        assert_eq!(cache.peek(&1), Some(10));
        assert_eq!(poll(&mut next), Poll::Ready(Some(11)));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_write_wins_over_an_update_that_runs_and_the_next_update_starts_from_it() {
    type Write = fn(&Cache) -> Option<u32>;
    let writes: [Write; 4] = [
        |cache| {
            assert!(now(cache.invalidate(&1)));
            None
        },
        |cache| {
            assert_eq!(now(cache.remove(&1)), Some(10));
            None
        },
        |cache| {
            now(cache.clear());
            None
        },
        |cache| {
            assert_eq!(now(cache.insert(1, 50)), Some(10));
            Some(50)
        },
    ];
    for write in writes {
        let long = Duration::from_secs(1_000);
        for change in [Update::Put(11), Update::PutFor(11, long), Update::Keep, Update::Remove] {
            let cache = Cache::new(10);
            cache.insert_blocking(1, 10);
            let gate = Gate::new();
            let mut update = hand(cache.update_with(1, |_| at(&gate, change)));
            assert!(poll(&mut update).is_pending());
            let written = write(&cache);
            let mut next =
                hand(cache.update_with(1, async |value| Update::Put(value.unwrap_or(0) + 1)));
            assert!(poll(&mut next).is_pending(), "one at a time, also after a write");
            // A load does not wait for what its key was before the write.
            assert_eq!(now(cache.get_or_insert_with(1, async || 90)), written.unwrap_or(90));
            gate.open();
            let left = match change {
                Update::Put(value) | Update::PutFor(value, _) => Some(value),
                Update::Keep => Some(10),
                Update::Remove => None,
            };
            assert_eq!(poll(&mut update), Poll::Ready(left));
            assert_eq!(cache.peek(&1), Some(written.unwrap_or(90)));
            assert_eq!(poll(&mut next), Poll::Ready(Some(written.unwrap_or(90) + 1)));
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn an_update_wins_over_loads_that_nobody_shares() {
    for change in [Update::Put(11), Update::Remove] {
        let cache = Cache::builder().without_single_flight().build();
        let gate = Gate::new();
        let load = || async {
            gate.wait().await;
            5
        };
        let mut before = hand(cache.get_or_insert_with(1, load));
        assert!(poll(&mut before).is_pending());
        let gate_of_update = Gate::new();
        let mut update = hand(cache.update_with(1, |_| at(&gate_of_update, change)));
        assert!(poll(&mut update).is_pending());
        let mut meanwhile = hand(cache.get_or_insert_with(1, load));
        assert!(poll(&mut meanwhile).is_pending());
        gate_of_update.open();
        assert!(poll(&mut update).is_ready());
        gate.open();
        assert_eq!((poll(&mut before), poll(&mut meanwhile)), (Poll::Ready(5), Poll::Ready(5)));
        let left = if let Update::Put(value) = change { Some(value) } else { None };
        assert_eq!((cache.peek(&1), cache.validate()), (left, 0));
    }
}

#[test]
fn an_update_of_an_entry_that_is_evicted_meanwhile_goes_in_as_a_new_one() {
    let cache = Cache::new(1);
    cache.insert_blocking(1, 10);
    let mut update = hand(cache.update_with(1, increment));
    assert!(poll(&mut update).is_pending());
    cache.insert_blocking(2, 20);
    assert!(!cache.contains_key(&1));
    assert_eq!(poll(&mut update), Poll::Ready(Some(11)));
    assert_eq!((cache.keys(), cache.validate()), (vec![1], 0));
}

#[test]
fn what_is_put_is_measured() {
    let cache = AsyncLru::<u32, Vec<u8>>::builder().measure_with(|_, value| value.len()).build();
    let bytes = || cache.stats().total_size_in_memory_bytes;
    // Makes room for a flight, too, which is kept.
    now(cache.update_with(1, async |_| Update::Put(vec![0; 10])));
    let before = bytes();
    now(cache.update_with(1, async |_| Update::Put(vec![0; 1_010])));
    assert_eq!(bytes(), before + 1_000);
    now(cache.update_with(1, async |_| Update::Remove));
    assert!(bytes() < before + 100, "what the entry owned is gone");
    assert_eq!(cache.validate(), 0);
}

#[test]
fn an_update_that_would_wait_for_itself_panics_with_a_message() {
    fn assert_recursion(cache: &Cache, call: impl Future<Output = Option<u32>>) {
        let payload = catch_unwind(AssertUnwindSafe(|| block_on(call))).unwrap_err();
        let message = payload.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(message.contains("recursive load"), "{message}");
        assert_eq!(cache.validate(), 0);
    }

    let cache = Cache::new(10);
    let updates_itself = cache.update_with(1, async |_| {
        cache.update_with(1, increment).await;
        Update::Keep
    });
    assert_recursion(&cache, updates_itself);
    let loads_itself =
        cache.update_with(1, async |_| Update::Put(cache.get_or_insert_with(1, async || 1).await));
    assert_recursion(&cache, loads_itself);
    // Other keys it may use as it likes.
    let uses_others = cache.update_with(1, async |_| {
        cache.update_with(2, increment).await.map_or(Update::Keep, Update::Put)
    });
    assert_eq!(block_on(uses_others), Some(1));
}

/// Gives all keys one hash.
#[derive(Default)]
struct OneHash;

impl std::hash::Hasher for OneHash {
    fn write(&mut self, _bytes: &[u8]) {}

    fn finish(&self) -> u64 {
        0
    }
}

#[test]
fn an_update_fences_the_loads_of_its_own_key_alone_whatever_the_hashes() {
    let hasher = std::hash::BuildHasherDefault::<OneHash>::default();
    let cache = AsyncLru::<u32, u32>::builder().without_single_flight().hasher(hasher).build();
    let load = |value| async move {
        yield_now().await;
        value
    };
    let mut own = hand(cache.get_or_insert_with(1, || load(10)));
    let mut other = hand(cache.get_or_insert_with(2, || load(20)));
    assert!(poll(&mut own).is_pending() && poll(&mut other).is_pending());
    assert_eq!(now(cache.update_with(1, async |_| Update::Put(11))), Some(11));
    assert_eq!((poll(&mut own), poll(&mut other)), (Poll::Ready(10), Poll::Ready(20)));
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(11), Some(20)));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_value_that_is_put_to_live_for_no_time_takes_the_place_of_the_old_one() {
    let of_value = |_: &u32, value: &u32| (*value == 0).then_some(Duration::ZERO);
    let builder = || AsyncLru::<u32, u32>::builder().expiry(of_value).clock(ManualClock::new());
    for cache in [builder().build(), builder().shards(4).measure_with(|_, _| 1).build()] {
        cache.insert_blocking(1, 10);
        assert_eq!(now(cache.update_with(1, async |_| Update::Put(0))), Some(0));
        assert_eq!((cache.get(&1), cache.len()), (None, 0));

        // Not so if a later write has won.
        cache.insert_blocking(1, 10);
        let mut update = hand(cache.update_with(1, async |_| {
            yield_now().await;
            Update::Put(0)
        }));
        assert!(poll(&mut update).is_pending());
        cache.insert_blocking(1, 11);
        assert_eq!((poll(&mut update), cache.get(&1)), (Poll::Ready(Some(0)), Some(11)));
        assert_eq!(cache.validate(), 0);
    }
}

/// Nothing is kept there; but whoever invalidates the key is told whether anything was to be kept out.
#[test]
fn an_update_wins_over_loads_of_a_cache_that_keeps_nothing_and_shares_none() {
    let cache = AsyncLru::<u32, u32>::builder().maxsize(0).without_single_flight().build();
    let mut load = hand(cache.get_or_insert_with(1, pending));
    assert!(poll(&mut load).is_pending());
    assert_eq!(now(cache.update_with(1, async |_| Update::Put(10))), Some(10));
    assert!(!cache.invalidate_blocking(&1));
    drop(load);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn an_update_by_a_borrowed_key_changes_the_entry_and_needs_the_key_no_longer() {
    let cache = AsyncLru::<String, u32>::new(10);
    let update = {
        let key = "ann".to_owned();
        cache.update_with_ref(key.as_str(), async |old: Option<u32>| {
            Update::Put(old.unwrap_or(0) + 1)
        })
    };
    assert_eq!(futures_lite::future::block_on(update), Some(1));
    assert_eq!(cache.get("ann"), Some(1));
}

#[test]
fn an_update_that_a_write_has_won_over_leaves_later_loads_alone_in_a_cache_that_keeps_nothing() {
    let cache = AsyncLru::<u32, u32>::new(0);
    let mut update = hand(cache.update_with(1, async |_| {
        yield_now().await;
        Update::Put(5)
    }));
    assert!(poll(&mut update).is_pending());
    now(cache.insert(1, 6));
    let mut load = hand(cache.get_or_insert_with(1, async || {
        yield_now().await;
        7
    }));
    assert!(poll(&mut load).is_pending());
    assert_eq!(poll(&mut update), Poll::Ready(Some(5)));
    let mut second = hand(cache.get_or_insert_with(1, async || unreachable!("it joins the load")));
    assert!(poll(&mut second).is_pending());
    assert_eq!((poll(&mut load), poll(&mut second)), (Poll::Ready(7), Poll::Ready(7)));
    assert_eq!((cache.stats().loads, cache.validate()), (1, 0));
}
