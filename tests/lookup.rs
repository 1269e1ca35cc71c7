//! Calls that tell where their value came from.

mod common;

use std::task::Poll;

use async_lru::LookupOutcome::{Hit, Joined, Loaded};
use async_lru::{AsyncLru, Lookup, LookupOutcome};
use common::{Gate, hand, join_all, now, poll};
use futures_lite::future::{pending, yield_now};

type Cache = AsyncLru<u32, u32>;

fn parts(lookup: Lookup<u32>) -> (u32, LookupOutcome) {
    (lookup.value, lookup.outcome)
}

executors! {
    async fn the_leader_has_loaded_and_who_waits_has_joined_and_who_comes_later_hits() {
        for cache in [Cache::new(10), Cache::new(0)] {
            let call = |value| {
                cache.get_or_insert_traced(1, async move || {
                    yield_now().await;
                    value
                })
            };
            let lookups = join_all((0..4).map(call)).await.into_iter().map(parts);
            assert_eq!(Vec::from_iter(lookups), [(0, Loaded), (0, Joined), (0, Joined), (0, Joined)]);
            let keeps = cache.info().maxsize > 0;
            let later = parts(cache.get_or_insert_traced(1, async || 9).await);
            assert_eq!(later, if keeps { (0, Hit) } else { (9, Loaded) });
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn outcomes_agree_with_the_statistics() {
        let cache = Cache::new(20);
        let mut outcomes = Vec::new();
        for round in 0..50 {
            let calls = (0..10).map(|call| {
                let key = (round * 3 + call * call) % 40;
                cache.get_or_insert_traced(key, async move || {
                    for _ in 0..key % 3 {
                        yield_now().await;
                    }
                    key
                })
            });
            outcomes.extend(join_all(calls).await.into_iter().map(|lookup| lookup.outcome));
        }
        let count = |outcome| outcomes.iter().filter(|other| **other == outcome).count() as u64;
        let stats = cache.stats();
        assert_eq!((count(Hit), count(Loaded)), (stats.hits, stats.loads));
        assert_eq!(count(Joined), stats.coalesced);
        assert!(stats.hits > 0 && stats.loads > 0 && stats.coalesced > 0, "{stats}");
        assert_eq!(cache.validate(), 0);
    }

    async fn every_form_tells_the_same() {
        let cache = AsyncLru::<String, u32>::new(10);
        let key = || "a".to_owned();
        let tried = async || Ok::<_, ()>(2);
        for expected in [(1, Loaded), (1, Hit)] {
            assert_eq!(parts(cache.get_or_insert_traced(key(), async || 1).await), expected);
        }
        assert_eq!(parts(cache.get_or_insert_traced_ref("a", async || 2).await), (1, Hit));
        assert_eq!(cache.try_get_or_insert_traced(key(), tried).await.map(parts), Ok((1, Hit)));
        assert_eq!(cache.try_get_or_insert_traced_ref("a", tried).await.map(parts), Ok((1, Hit)));
        cache.clear().await;
        assert_eq!(cache.try_get_or_insert_traced_ref("a", async || Err(7)).await, Err(7));
        assert_eq!(cache.try_get_or_insert_traced("a".into(), async || Err(8)).await, Err(8));
        assert_eq!(cache.try_get_or_insert_traced_ref("a", tried).await.map(parts), Ok((2, Loaded)));
        assert_eq!(parts(cache.get_or_insert_traced_ref("b", async || 3).await), (3, Loaded));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_waiter_that_takes_over_has_loaded_and_one_that_finds_its_value_has_joined() {
    let cache = Cache::new(10);
    let mut leader = hand(cache.get_or_insert_traced(1, pending::<u32>));
    assert!(poll(&mut leader).is_pending());
    let mut first = hand(cache.get_or_insert_traced(1, async || 11));
    let mut second = hand(cache.get_or_insert_traced(1, async || 12));
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    drop(leader);
    assert_eq!(poll(&mut first).map(parts), Poll::Ready((11, Loaded)));
    // The load that it waited for is over, and its value is in the cache by now.
    assert_eq!(poll(&mut second).map(parts), Poll::Ready((11, Joined)));
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.coalesced, stats.hits, stats.loads), (1, 2, 0, 2));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_waiter_of_a_load_that_failed_has_loaded_its_own_value() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut leader = hand(cache.try_get_or_insert_traced(1, async || {
        gate.wait().await;
        Err("down")
    }));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.try_get_or_insert_traced(1, async || Ok::<_, ()>(11)));
    assert!(poll(&mut waiter).is_pending());
    gate.open();
    assert_eq!(poll(&mut leader), Poll::Ready(Err("down")));
    assert_eq!(poll(&mut waiter).map_ok(parts), Poll::Ready(Ok((11, Loaded))));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_traced_call_joins_an_untraced_one_and_the_other_way_round() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let load = |value| {
        let gate = gate.clone();
        async move || {
            gate.wait().await;
            value
        }
    };
    let mut plain = hand(cache.get_or_insert_with(1, load(10)));
    let mut traced = hand(cache.get_or_insert_traced(2, load(20)));
    assert!(poll(&mut plain).is_pending() && poll(&mut traced).is_pending());
    let mut joins_plain = hand(cache.get_or_insert_traced(1, async || unreachable!()));
    let mut joins_traced = hand(cache.get_or_insert_with(2, async || unreachable!()));
    assert!(poll(&mut joins_plain).is_pending() && poll(&mut joins_traced).is_pending());
    gate.open();
    assert!(poll(&mut plain).is_ready() && poll(&mut traced).is_ready());
    assert_eq!(poll(&mut joins_plain).map(parts), Poll::Ready((10, Joined)));
    assert_eq!(poll(&mut joins_traced), Poll::Ready(20));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn without_single_flight_nobody_joins() {
    let cache = Cache::builder().without_single_flight().build();
    let call = |value| {
        cache.get_or_insert_traced(1, async move || {
            yield_now().await;
            value
        })
    };
    let lookups = futures_lite::future::block_on(join_all([call(1), call(2)]));
    let lookups = lookups.into_iter().map(parts);
    assert_eq!(Vec::from_iter(lookups), [(1, Loaded), (2, Loaded)]);
    assert_eq!(parts(now(call(3))), (2, Hit));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn the_future_of_a_traced_call_is_no_larger_than_that_of_another() {
    let cache = Cache::new(10);
    let bytes = [1_u8; 64];
    let load = || async move {
        yield_now().await;
        u32::from(bytes[0])
    };
    let plain = size_of_val(&cache.get_or_insert_with(1, load));
    let traced = size_of_val(&cache.get_or_insert_traced(1, load));
    assert!(traced <= plain, "{plain} and {traced} bytes");
}
