//! One load per key at a time, and who gets its value.

mod common;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use common::{Gate, Hand, hand, join_all, now, poll};
use futures_lite::future::yield_now;

type Cache = AsyncLru<u32, u32>;

executors! {
    async fn callers_of_one_moment_share_one_load_however_often_it_yields() {
        for callers in [1, 2, 3, 16, 64] {
            for yields in 0..=8 {
                let cache = Cache::new(10);
                let values = join_all((0..callers).map(|caller| {
                    cache.get_or_insert_with(1, async move || {
                        for _ in 0..yields {
                            yield_now().await;
                        }
                        caller
                    })
                }))
                .await;
                // The first to be polled leads.
                assert_eq!(values, vec![0; callers as usize]);
                let stats = cache.stats();
                assert_eq!(stats.loads, 1);
                assert_eq!(stats.misses, 1);
                assert_eq!(stats.hits + stats.coalesced, u64::from(callers) - 1);
            }
        }
    }

    async fn loads_of_different_keys_run_side_by_side() {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let values = join_all((0..5).map(|key| {
            let (cache, gate) = (cache.clone(), gate.clone());
            async move {
                cache
                    .get_or_insert_with(key, async || {
                        // Opens once all five are under way.
                        if cache.stats().loads == 5 {
                            gate.open();
                        }
                        gate.wait().await;
                        key * 10
                    })
                    .await
            }
        }))
        .await;
        assert_eq!(values, [0, 10, 20, 30, 40]);
    }

    async fn without_single_flight_every_caller_loads() {
        let cache = Cache::builder().without_single_flight().build();
        let values = join_all((0..4).map(|caller| {
            cache.get_or_insert_with(1, async move || {
                yield_now().await;
                caller
            })
        }))
        .await;
        assert_eq!(values, [0, 1, 2, 3]);
        assert_eq!(cache.stats().loads, 4);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.get(&1), Some(3), "the load that ended last is kept");
    }

    /// Against (A19) of `docs/reliability.md`.
    async fn a_cache_that_keeps_nothing_still_shares_loads() {
        let nothing = [
            Cache::new(0),
            Cache::builder().ttl(Duration::ZERO).build(),
            Cache::builder().maxsize(0).ttl(Duration::ZERO).build(),
        ];
        for cache in nothing {
            for round in 1..=3 {
                let load = async || {
                    yield_now().await;
                    7
                };
                let values = join_all((0..5).map(|_| cache.get_or_insert_with(1, load))).await;
                assert_eq!(values, [7; 5]);
                assert_eq!(cache.stats().loads, round);
                assert!(cache.is_empty());
            }
        }
    }

    async fn a_flight_of_threads_loads_once() {
        let cache = Cache::new(100);
        let loads = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for key in 0..100 {
                        let value = futures_lite::future::block_on(cache.get_or_insert_with(
                            key,
                            async || {
                                loads.fetch_add(1, Ordering::Relaxed);
                                yield_now().await;
                                key + 1
                            },
                        ));
                        assert_eq!(value, key + 1);
                    }
                });
            }
        });
        assert_eq!(loads.load(Ordering::Relaxed), 100);
        let stats = cache.stats();
        assert_eq!(stats.loads, 100);
        assert_eq!(stats.hits + stats.misses + stats.coalesced, 800);
    }
}

/// A loader that waits at `gate` and then gives `value`.
async fn at(gate: &Gate, value: u32) -> u32 {
    gate.wait().await;
    value
}

/// A load of key 1 that waits at `gate` and then gives 10, and a call that has joined it.
fn flight<'a>(cache: &'a Cache, gate: &'a Gate) -> (Hand<'a, u32>, Hand<'a, u32>) {
    let mut leader = hand(cache.get_or_insert_with(1, || at(gate, 10)));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.get_or_insert_with(1, async || unreachable!()));
    assert!(poll(&mut waiter).is_pending());
    (leader, waiter)
}

/// Against (A15) of `docs/reliability.md`.
#[test]
fn a_caller_that_comes_after_the_value_is_published_hits_although_waiters_have_not_run() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let (mut leader, mut waiter) = flight(&cache, &gate);
    gate.open();
    assert_eq!(poll(&mut leader), Poll::Ready(10));

    assert_eq!(now(cache.get_or_insert_with(1, async || unreachable!())), 10);
    assert_eq!(poll(&mut waiter), Poll::Ready(10));
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.coalesced, stats.hits), (1, 1, 1));
}

#[test]
fn a_waiter_gets_the_value_of_its_flight_even_if_the_entry_is_evicted_before_it_runs() {
    let cache = Cache::new(1);
    let gate = Gate::new();
    let (mut leader, mut waiter) = flight(&cache, &gate);
    gate.open();
    assert_eq!(poll(&mut leader), Poll::Ready(10));
    now(cache.insert(2, 20));
    assert!(!cache.contains_key(&1));
    assert_eq!(poll(&mut waiter), Poll::Ready(10));
}

/// What happens to key 1 while its load is in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fence {
    Invalidate,
    Remove,
    Clear,
    Insert,
}

/// Against (A11), (A16), (A17) of `docs/reliability.md`.
#[test]
fn a_write_wins_over_a_load_in_flight_and_those_who_joined_still_agree() {
    for blocking in [false, true] {
        for fence in [Fence::Invalidate, Fence::Remove, Fence::Clear, Fence::Insert] {
            let cache = Cache::new(10);
            let gate = Gate::new();
            let (mut leader, mut joined) = flight(&cache, &gate);

            match (fence, blocking) {
                (Fence::Invalidate, false) => assert!(now(cache.invalidate(&1))),
                (Fence::Invalidate, true) => assert!(cache.invalidate_blocking(&1)),
                (Fence::Remove, false) => assert_eq!(now(cache.remove(&1)), None),
                (Fence::Remove, true) => assert_eq!(cache.remove_blocking(&1), None),
                (Fence::Clear, false) => now(cache.clear()),
                (Fence::Clear, true) => cache.clear_blocking(),
                (Fence::Insert, false) => assert_eq!(now(cache.insert(1, 99)), None),
                (Fence::Insert, true) => assert_eq!(cache.insert_blocking(1, 99), None),
            }
            // Who comes after the write neither joins the old load nor finds its value.
            let fresh = 11;
            let expected_later = if fence == Fence::Insert { 99 } else { fresh };
            let mut later = hand(cache.get_or_insert_with(1, async || fresh));
            let later_first = poll(&mut later);
            assert_eq!(later_first, Poll::Ready(expected_later), "{fence:?}");

            gate.open();
            assert_eq!(poll(&mut leader), Poll::Ready(10), "{fence:?}");
            assert_eq!(poll(&mut joined), Poll::Ready(10), "{fence:?}");
            assert_eq!(cache.get(&1), Some(expected_later), "{fence:?}");
        }
    }
}

/// Against (A17) of `docs/reliability.md`.
#[test]
fn a_fenced_load_that_ends_last_does_not_come_back() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut old = hand(cache.get_or_insert_with(1, || at(&gate, 10)));
    assert!(poll(&mut old).is_pending());
    assert!(now(cache.invalidate(&1)));
    let gate_of_new = Gate::new();
    let mut new = hand(cache.get_or_insert_with(1, || at(&gate_of_new, 20)));
    assert!(poll(&mut new).is_pending());
    assert_eq!(cache.stats().loads, 2, "the caller after the fence starts afresh");

    gate_of_new.open();
    assert_eq!(poll(&mut new), Poll::Ready(20));
    gate.open();
    assert_eq!(poll(&mut old), Poll::Ready(10));
    assert_eq!(cache.get(&1), Some(20));
}

#[test]
fn a_fence_holds_without_single_flight_too() {
    let cache = Cache::builder().without_single_flight().build();
    let gate = Gate::new();
    let mut one = hand(cache.get_or_insert_with(1, || at(&gate, 10)));
    let mut two = hand(cache.get_or_insert_with(1, || at(&gate, 20)));
    assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
    assert!(now(cache.invalidate(&1)));
    gate.open();
    assert_eq!((poll(&mut one), poll(&mut two)), (Poll::Ready(10), Poll::Ready(20)));
    assert!(cache.is_empty());
}

#[test]
fn a_fence_holds_in_a_cache_that_keeps_nothing() {
    let cache = Cache::new(0);
    let gate = Gate::new();
    let mut leader = hand(cache.get_or_insert_with(1, || at(&gate, 10)));
    assert!(poll(&mut leader).is_pending());
    assert_eq!(now(cache.insert(1, 99)), None);
    let mut later = hand(cache.get_or_insert_with(1, async || 11));
    assert_eq!(poll(&mut later), Poll::Ready(11));
    gate.open();
    assert_eq!(poll(&mut leader), Poll::Ready(10));
}

#[test]
fn a_key_that_expires_is_loaded_once_more_for_all() {
    let clock = ManualClock::new();
    let ttl = Duration::from_secs(1);
    let cache = Cache::builder().ttl(ttl).clock(clock.clone()).build();
    assert_eq!(now(cache.get_or_insert_with(1, async || 10)), 10);
    clock.advance(ttl);
    let gate = Gate::new();
    let mut leader = hand(cache.get_or_insert_with(1, || at(&gate, 20)));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.get_or_insert_with(1, async || unreachable!()));
    assert!(poll(&mut waiter).is_pending());
    gate.open();
    assert_eq!((poll(&mut leader), poll(&mut waiter)), (Poll::Ready(20), Poll::Ready(20)));
    let stats = cache.stats();
    assert_eq!((stats.expirations, stats.evictions, stats.current_size), (1, 0, 1));
}

/// Against (A22) of `docs/reliability.md`.
#[test]
fn a_loader_that_asks_for_its_own_key_panics_with_a_message() {
    let cache = Cache::new(10);
    let recursive =
        cache.get_or_insert_with(1, async || cache.get_or_insert_with(1, async || 2).await);
    assert_recursion_is_named(recursive, &cache);
}

/// Against (A22) of `docs/reliability.md`.
#[test]
fn loaders_that_ask_for_each_other_in_a_circle_panic_with_a_message() {
    let cache = Cache::new(10);
    let recursive = cache.get_or_insert_with(1, async || {
        cache
            .get_or_insert_with(2, async || {
                yield_now().await;
                cache.get_or_insert_with(1, async || 3).await
            })
            .await
    });
    assert_recursion_is_named(recursive, &cache);
}

#[test]
fn a_waiter_that_a_loader_takes_over_from_outside_panics_too() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let waiter = Cell::new(None);
    let mut leader = hand(cache.get_or_insert_with(1, async || {
        gate.wait().await;
        waiter.take().map(|waiter| async move { hand_over(waiter).await }).unwrap().await
    }));
    assert!(poll(&mut leader).is_pending());
    let mut joined = hand(cache.get_or_insert_with(1, async || 2));
    assert!(poll(&mut joined).is_pending());
    waiter.set(Some(joined));
    gate.open();
    assert_recursion_is_named(leader, &cache);

    async fn hand_over(waiter: common::Hand<'_, u32>) -> u32 {
        waiter.await
    }
}

fn assert_recursion_is_named(call: impl Future<Output = u32>, cache: &Cache) {
    let call = std::panic::AssertUnwindSafe(call);
    let payload = std::panic::catch_unwind(|| futures_lite::future::block_on({ call }.0))
        .expect_err("a load that waits for itself");
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or(payload.downcast_ref::<&str>().copied()).unwrap();
    assert!(message.contains("recursive load"), "{message}");
    // Nothing of it is left: the next call loads.
    assert_eq!(now(cache.get_or_insert_with(1, async || 5)), 5);
    assert_eq!(cache.stats().current_size, 1);
}

/// Against (A24) of `docs/reliability.md`.
#[test]
fn a_loader_may_use_the_cache_for_other_keys() {
    let cache = Cache::new(10);
    let value = now(cache.get_or_insert_with(1, async || {
        cache.insert(3, 30).await;
        let two = cache.get_or_insert_with(2, async || 2).await;
        two + cache.get(&3).unwrap()
    }));
    assert_eq!(value, 32);
    assert_eq!(cache.len(), 3);
}

#[test]
fn a_loader_may_wait_for_the_loads_of_other_caches_and_shards() {
    // In each shard the first flight has the same number.
    let caches = [(); 8].map(|()| Cache::new(10));
    let sharded = Cache::builder().maxsize(100).shards(16).build();
    let gate = Gate::new();
    let calls = |key| caches.iter().map(move |cache| (cache, key));
    let in_shards = (1..20).map(|key| (&sharded, key));
    let led: Vec<_> = calls(1).chain(in_shards).collect();
    let mut leaders: Vec<_> = led
        .iter()
        .map(|(cache, key)| hand(cache.get_or_insert_with(*key, || at(&gate, 1))))
        .collect();
    assert!(leaders.iter_mut().all(|leader| poll(leader).is_pending()));
    for asking in [&Cache::new(10), &sharded] {
        let mut asks = hand(asking.get_or_insert_with(0, async || {
            let waits = led.iter().map(|(cache, key)| cache.get_or_insert_with(*key, async || 2));
            join_all(waits).await.into_iter().sum()
        }));
        assert!(poll(&mut asks).is_pending());
    }
    gate.open();
    assert_eq!(now(join_all(leaders)), vec![1; led.len()]);
}

#[test]
fn callers_from_outside_may_wait_for_any_of_many_loads_within_one_another() {
    const DEPTH: u32 = 20;

    /// A call whose load asks for the next key, up to the last one's, which waits at the gate.
    fn nested<'a>(cache: &'a Cache, gate: &'a Gate, key: u32) -> Hand<'a, u32> {
        hand(cache.get_or_insert_with(key, async move || {
            if key == DEPTH { at(gate, 0).await } else { nested(cache, gate, key + 1).await + 1 }
        }))
    }

    let cache = Cache::new(100);
    let gate = Gate::new();
    let mut outermost = nested(&cache, &gate, 1);
    for _ in 0..2 {
        assert!(poll(&mut outermost).is_pending());
    }
    let mut waiters: Vec<_> = (1..=DEPTH)
        .map(|key| hand(cache.get_or_insert_with(key, async || unreachable!())))
        .collect();
    assert!(waiters.iter_mut().all(|waiter| poll(waiter).is_pending()));
    gate.open();
    assert_eq!(poll(&mut outermost), Poll::Ready(DEPTH - 1));
    let values: Vec<u32> = (0..DEPTH).rev().collect();
    assert_eq!(now(join_all(waiters)), values);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn the_future_of_a_call_stays_small() {
    let cache = Cache::new(10);
    let bytes = [1_u8; 64];
    let load = || async move {
        yield_now().await;
        u32::from(bytes[0])
    };
    let loader = size_of_val(&load());
    let call = size_of_val(&cache.get_or_insert_with(1, load));
    // The closure, its future, and what the call itself has to remember.
    println!("future of a call: {call} bytes around a loader of {loader}");
    assert!(call <= 64 + loader + 160, "{call} bytes around a loader of {loader}");
}
