//! Calls in full: what they tell, and how their keys, lifetimes and loads are given.

mod common;

use std::cell::Cell;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_lru::LookupOutcome::{Hit, Joined, Loaded};
use async_lru::{AsyncLru, Equivalent, Lookup, LookupOutcome, ManualClock};
use common::{Gate, Hand, hand, join_all, now, poll};
use futures_lite::future::{pending, yield_now};

type Cache = AsyncLru<u32, u32>;

fn parts(lookup: Lookup<u32>) -> (u32, LookupOutcome) {
    (lookup.value, lookup.outcome)
}

const SECOND: Duration = Duration::from_secs(1);

executors! {
    async fn the_leader_has_loaded_and_who_waits_has_joined_and_who_comes_later_hits() {
        for cache in [Cache::new(10), Cache::new(0)] {
            let call = |value| {
                cache.entry(1).or_insert_with(async move || {
                    yield_now().await;
                    value
                })
            };
            let lookups = join_all((0..4).map(call)).await.into_iter().map(parts);
            assert_eq!(Vec::from_iter(lookups), [(0, Loaded), (0, Joined), (0, Joined), (0, Joined)]);
            let keeps = cache.info().maxsize > 0;
            let later = parts(cache.entry(1).or_insert_with(async || 9).await);
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
                cache.entry(key).or_insert_with(async move || {
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
            assert_eq!(parts(cache.entry(key()).or_insert_with(async || 1).await), expected);
        }
        assert_eq!(parts(cache.entry_ref("a").or_insert_with(async || 2).await), (1, Hit));
        assert_eq!(cache.entry(key()).or_try_insert_own(tried).await.map(parts), Ok((1, Hit)));
        assert_eq!(cache.entry_ref("a").or_try_insert_own(tried).await.map(parts), Ok((1, Hit)));
        cache.clear().await;
        assert_eq!(cache.entry_ref("a").or_try_insert_own(async || Err(7)).await, Err(7));
        assert_eq!(cache.entry("a".into()).or_try_insert_own(async || Err(8)).await, Err(8));
        assert_eq!(cache.entry_ref("a").or_try_insert_own(tried).await.map(parts), Ok((2, Loaded)));
        assert_eq!(parts(cache.entry_ref("b").or_insert_with(async || 3).await), (3, Loaded));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_waiter_that_takes_over_has_loaded_and_one_that_finds_its_value_has_joined() {
    let cache = Cache::new(10);
    let mut leader = hand(cache.entry(1).or_insert_with(pending::<u32>));
    assert!(poll(&mut leader).is_pending());
    let mut first = hand(cache.entry(1).or_insert_with(async || 11));
    let mut second = hand(cache.entry(1).or_insert_with(async || 12));
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
    let mut leader = hand(cache.entry(1).or_try_insert_own(async || {
        gate.wait().await;
        Err("down")
    }));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.entry(1).or_try_insert_own(async || Ok::<_, ()>(11)));
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
    let mut traced = hand(cache.entry(2).or_insert_with(load(20)));
    assert!(poll(&mut plain).is_pending() && poll(&mut traced).is_pending());
    let mut joins_plain = hand(cache.entry(1).or_insert_with(async || unreachable!()));
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
        cache.entry(1).or_insert_with(async move || {
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
fn the_future_of_an_entry_is_larger_than_that_of_a_plain_call_by_a_lifetime_at_most() {
    let cache = Cache::new(10);
    let bytes = [1_u8; 64];
    let load = || async move {
        yield_now().await;
        u32::from(bytes[0])
    };
    let plain = size_of_val(&cache.get_or_insert_with(1, load));
    let traced = size_of_val(&cache.entry(1).or_insert_with(load));
    assert!(traced <= plain + size_of::<Option<Duration>>(), "{plain} and {traced} bytes");
    let timed = size_of_val(&cache.entry(1).or_insert_timed(async || (load().await, SECOND)));
    let as_long = size_of_val(&cache.get_or_insert_with(1, async || (load().await, SECOND).0));
    assert!(timed <= as_long + size_of::<Duration>(), "{as_long} and {timed} bytes");
}

// Keys.

#[derive(Hash)]
struct Name<'a>(&'a str);

impl Equivalent<Arc<str>> for Name<'_> {
    fn equivalent(&self, key: &Arc<str>) -> bool {
        *self.0 == **key
    }
}

#[test]
fn a_key_is_made_once_and_on_a_miss_only() {
    let cache = AsyncLru::<Arc<str>, u32>::new(10);
    let made = Cell::new(0);
    let make = |name: &Name<'_>| {
        made.set(made.get() + 1);
        Arc::from(name.0)
    };
    let call = |value| cache.entry_by(&Name("a"), make).or_insert_with(async move || value);
    assert_eq!(parts(now(call(1))), (1, Loaded));
    assert_eq!((parts(now(call(2))), made.get()), ((1, Hit), 1));
    assert_eq!(cache.keys(), [Arc::from("a")]);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_pair_is_asked_for_by_a_pair_of_references() {
    #[derive(Hash)]
    struct Pair<'a>(&'a str, u32);

    impl Equivalent<(String, u32)> for Pair<'_> {
        fn equivalent(&self, key: &(String, u32)) -> bool {
            (self.0, self.1) == (&*key.0, key.1)
        }
    }

    let cache = AsyncLru::<(String, u32), u32>::new(10);
    let call = |value| {
        let call = cache.entry_by(&Pair("a", 7), |pair| (pair.0.to_owned(), pair.1));
        call.detached().or_try_insert_with(move || async move { Ok::<_, ()>(value) })
    };
    assert_eq!(now(call(1)).map(parts), Ok((1, Loaded)));
    assert_eq!(now(call(2)).map(parts), Ok((1, Hit)));
}

// Lifetimes.

/// The cache has a ttl of ten seconds, the calls one of their own.
#[test]
fn a_lifetime_of_the_call_or_of_its_load_takes_the_place_of_the_cache_s() {
    let clock = ManualClock::new();
    let cache = Cache::builder().ttl(10 * SECOND).clock(clock.clone()).build();
    let left = |key| cache.time_left(&key).map(|left| left.as_secs());
    let calls: [(u32, Hand<'_, ()>); 9] = [
        (
            5,
            hand(async {
                assert_eq!(cache.entry(0).ttl(5 * SECOND).or_insert_with(async || 1).await.value, 1)
            }),
        ),
        (
            20,
            hand(async {
                let call = cache.entry_ref(&1).ttl(20 * SECOND);
                call.or_try_insert_with(async || Ok::<_, ()>(1)).await.unwrap();
            }),
        ),
        (
            6,
            hand(async {
                let call = cache.entry(2).ttl(6 * SECOND);
                call.or_try_insert_own(async || Ok::<_, ()>(1)).await.unwrap();
            }),
        ),
        (
            7,
            hand(async {
                // That of the load goes first.
                let call = cache.entry(3).ttl(5 * SECOND);
                call.or_insert_timed(async || (1, 7 * SECOND)).await;
            }),
        ),
        (
            30,
            hand(async {
                let call =
                    cache.entry(4).or_try_insert_timed(async || Ok::<_, ()>((1, 30 * SECOND)));
                call.await.unwrap();
            }),
        ),
        (
            5,
            hand(async {
                let call = cache.entry(5).ttl(5 * SECOND).detached();
                call.or_insert_with(|| async { 1 }).await;
            }),
        ),
        (
            8,
            hand(async {
                let call = cache.entry(6).ttl(5 * SECOND).detached();
                call.or_insert_timed(|| async { (1, 8 * SECOND) }).await;
            }),
        ),
        (
            4,
            hand(async {
                let call = cache.entry(7).detached();
                call.or_try_insert_timed(|| async { Ok::<_, ()>((1, 4 * SECOND)) }).await.unwrap();
            }),
        ),
        (10, hand(async { assert_eq!(cache.entry(8).or_insert_with(async || 1).await.value, 1) })),
    ];
    for (key, (seconds, call)) in calls.into_iter().enumerate() {
        now(call);
        assert_eq!(left(key as u32), Some(u64::from(seconds)), "{key}");
    }
    // A hit has no lifetime to give.
    now(cache.entry(8).ttl(SECOND).or_insert_with(async || 2));
    assert_eq!(left(8), Some(10));
    clock.advance(10 * SECOND);
    cache.purge_expired_blocking();
    let mut keys = cache.keys();
    keys.sort_unstable();
    assert_eq!(keys, [1, 4]);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_lifetime_of_the_call_goes_before_the_expiry_rule_and_idle_time_counts_besides() {
    let clock = ManualClock::new();
    let builder = Cache::builder().clock(clock.clone()).time_to_idle(4 * SECOND);
    let cache = builder.expiry(|_, _| Some(2 * SECOND)).build();
    now(cache.entry(1).ttl(3 * SECOND).or_insert_with(async || 1));
    now(cache.entry(2).ttl(9 * SECOND).or_insert_with(async || 1));
    now(cache.entry(3).or_insert_with(async || 1));
    assert_eq!([1, 2, 3].map(|key| cache.time_left(&key).unwrap().as_secs()), [3, 4, 2]);
}

#[test]
fn what_a_call_gives_no_time_goes_to_all_who_wait_and_is_not_kept() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut leader = hand(cache.entry(1).ttl(Duration::ZERO).or_insert_with(async || {
        gate.wait().await;
        10
    }));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.entry(1).or_insert_with(async || 11));
    assert!(poll(&mut waiter).is_pending());
    gate.open();
    assert_eq!(poll(&mut leader).map(parts), Poll::Ready((10, Loaded)));
    assert_eq!(poll(&mut waiter).map(parts), Poll::Ready((10, Joined)));
    assert!(cache.is_empty());
    assert_eq!(cache.validate(), 0);
}

// Errors.

#[test]
fn an_error_of_a_detached_load_may_be_its_call_s_own() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let of_load = gate.clone();
    // Neither `Clone` nor `Sync`.
    let fails = || async move {
        of_load.wait().await;
        Err::<u32, _>(Cell::new(7))
    };
    let mut leader = hand(cache.entry(1).detached().or_try_insert_own(fails));
    assert!(poll(&mut leader).is_pending());
    let own = || async { Err::<u32, _>(Cell::new(8)) };
    let mut waiter = hand(cache.entry(1).detached().or_try_insert_own(own));
    assert!(poll(&mut waiter).is_pending());
    gate.open();
    // The waiter moves the load on, and does not take its error.
    assert_eq!(poll(&mut waiter), Poll::Ready(Err(Cell::new(8))));
    assert_eq!(poll(&mut leader), Poll::Ready(Err(Cell::new(7))));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, cache.validate()), (2, 2, 0));
}

/// Against (A20) of `docs/reliability.md`.
#[test]
fn an_outage_costs_one_load_and_not_one_for_each_caller() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let call = |_| {
        hand(cache.entry(1).or_try_insert_with(async || {
            gate.wait().await;
            Err::<u32, _>("down")
        }))
    };
    let mut calls: Vec<_> = (0..20).map(call).collect();
    assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
    gate.open();
    assert!(calls.iter_mut().all(|call| poll(call) == Poll::Ready(Err(Arc::new("down")))));
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
}
