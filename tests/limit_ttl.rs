//! A limit to how long everything lives that is in a cache or on its way there.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_lru::{
    AsyncLru, Builder, Eviction, Lifetime, LookupOutcome, ManualClock, RemovalCause, Update,
};
use common::{Gate, Hand, hand, now, poll};
use futures_lite::future::{block_on, pending};

type Cache = AsyncLru<u32, u32>;

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_nanos(1);
const TTL: Duration = Duration::from_secs(100);

/// The kinds of caches for which the limit is the same.
fn builders(clock: &ManualClock) -> impl Iterator<Item = Builder<u32, u32>> + use<> {
    let clock = clock.clone();
    let orders = [Eviction::Lru, Eviction::Adaptive];
    [1, 8].into_iter().flat_map(move |shards| {
        let clock = clock.clone();
        orders.map(move |order| {
            Cache::builder().maxsize(1_000).shards(shards).eviction(order).clock(clock.clone())
        })
    })
}

/// The same, and those that load otherwise.
fn kinds(clock: &ManualClock) -> impl Iterator<Item = Builder<u32, u32>> + use<> {
    let builder = || Cache::builder().clock(clock.clone());
    let others = [builder().without_single_flight(), builder().fresh_for(SECOND)];
    builders(clock).chain(others)
}

const WAYS: [fn(&Cache, Duration) -> usize; 2] =
    [|cache, ttl| block_on(cache.limit_ttl(ttl)), |cache, ttl| cache.limit_ttl_blocking(ttl)];

/// The time that a key has left in a snapshot, and whether it is of a lifetime of its own.
fn left(cache: &Cache, key: u32) -> Option<(Option<Duration>, bool)> {
    let saved = cache.snapshot_with_ttl().into_iter().find(|saved| saved.key == key)?;
    Some((saved.time_left, saved.own_lifetime))
}

executors! {
    async fn nothing_lives_longer_than_the_limit_and_nothing_longer_than_it_would_have() {
        let clock = ManualClock::new();
        for builder in builders(&clock) {
            let cache = builder.build();
            cache.insert(1, 1).await;
            cache.insert_with_ttl(2, 2, 5 * SECOND).await;
            cache.insert_with_ttl(3, 3, 50 * SECOND).await;
            cache.insert_with_ttl(4, 4, SECOND).await;
            cache.insert_with_ttl(5, 5, 10 * SECOND).await;
            clock.advance(SECOND);
            // The fourth is over, and the fifth ends as early.
            assert_eq!(cache.limit_ttl(9 * SECOND).await, 2);
            assert_eq!(cache.limit_ttl(9 * SECOND).await, 0);
            assert_eq!(cache.limit_ttl(Duration::MAX).await, 0);
            let all = [1, 2, 3, 4, 5].map(|key| left(&cache, key));
            let limited = Some((Some(9 * SECOND), true));
            assert_eq!(all, [limited, Some((Some(4 * SECOND), true)), limited, None, limited]);
            clock.advance(4 * SECOND);
            assert_eq!(cache.get(&2), None);
            clock.advance(5 * SECOND - TICK);
            assert_eq!([1, 3, 5].map(|key| cache.get(&key)), [Some(1), Some(3), Some(5)]);
            clock.advance(TICK);
            assert!(cache.keys().is_empty());
            assert_eq!(cache.purge_expired().await, 5);
            assert_eq!((cache.stats().expirations, cache.validate()), (5, 0));
        }
    }
}

#[test]
fn a_limit_shortens_the_lifetime_of_the_cache_and_that_of_a_rule_and_counts_from_the_call() {
    for limit in WAYS {
        let clock = ManualClock::new();
        for builder in builders(&clock) {
            let cache = builder.ttl(TTL).expiry(|_, value| (*value > 0).then_some(2 * TTL)).build();
            (0..100).for_each(|key| _ = cache.insert_blocking(key, key % 2));
            clock.advance(TTL - 10 * SECOND);
            (100..150).for_each(|key| _ = cache.insert_blocking(key, 0));
            // Half of the first have ten seconds left.
            assert_eq!(limit(&cache, 20 * SECOND), 100);
            assert_eq!(left(&cache, 0), Some((Some(10 * SECOND), false)), "it is untouched");
            for key in [1, 100] {
                assert_eq!(left(&cache, key), Some((Some(20 * SECOND), true)));
            }
            assert_eq!(cache.time_left(&1), Some(20 * SECOND));
            clock.advance(10 * SECOND);
            assert_eq!((cache.keys().len(), cache.purge_expired_blocking()), (100, 50));
            clock.advance(10 * SECOND);
            assert_eq!((cache.keys().len(), cache.purge_expired_blocking()), (0, 100));
            assert_eq!((cache.len(), cache.validate()), (0, 0));
        }
    }
}

#[test]
fn the_idle_time_of_a_limited_entry_counts_besides() {
    let clock = ManualClock::new();
    for builder in builders(&clock) {
        let cache = builder.time_to_idle(5 * SECOND).build();
        (1..=2).for_each(|key| _ = cache.insert_blocking(key, key));
        assert_eq!(cache.limit_ttl_blocking(8 * SECOND), 2);
        assert_eq!(cache.time_left(&1), Some(5 * SECOND));
        clock.advance(4 * SECOND);
        assert_eq!(cache.get(&1), Some(1));
        assert_eq!(cache.time_left(&1), Some(4 * SECOND), "no use puts the limit off");
        clock.advance(SECOND);
        assert_eq!((cache.get(&2), cache.get(&1)), (None, Some(1)));
        clock.advance(3 * SECOND);
        assert_eq!(cache.get(&1), None);
        assert_eq!((cache.purge_expired_blocking(), cache.validate()), (2, 0));
    }
}

#[test]
fn a_limit_of_no_length_ends_all_entries_as_expired_ones() {
    for limit in WAYS {
        let clock = ManualClock::new();
        for builder in builders(&clock) {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let log = Arc::clone(&heard);
            let note = move |key, _, cause| log.lock().unwrap().push((key, cause));
            let cache = builder.ttl(TTL).on_remove(note).build();
            (0..700).for_each(|key| _ = cache.insert_blocking(key, key));
            assert_eq!(limit(&cache, Duration::ZERO), 700);
            assert!(cache.is_empty());
            let stats = cache.stats();
            assert_eq!((stats.expirations, stats.invalidations, stats.evictions), (700, 0, 0));
            let mut heard = heard.lock().unwrap().clone();
            heard.sort_unstable_by_key(|(key, _)| *key);
            assert!(heard.into_iter().eq((0..700).map(|key| (key, RemovalCause::Expired))));
            cache.insert_blocking(1, 2);
            assert_eq!((cache.get(&1), cache.validate()), (Some(2), 0));
        }
    }
}

#[test]
fn a_limit_of_no_length_gives_memory_back() {
    let cache = Cache::builder().maxsize(100_000).shards(4).build();
    let empty = cache.stats().total_size_in_memory_bytes;
    (0..50_000).for_each(|key| _ = cache.insert_blocking(key, key));
    let full = cache.stats().total_size_in_memory_bytes;
    assert_eq!(cache.limit_ttl_blocking(Duration::ZERO), 50_000);
    let after = cache.stats().total_size_in_memory_bytes;
    assert!(after < empty + (full - empty) / 10, "{empty}, {full}, {after}");
}

/// A load that waits at a gate.
fn at<T>(gate: &Gate, value: T) -> impl Future<Output = T> + use<T> {
    let gate = gate.clone();
    async move {
        gate.wait().await;
        value
    }
}

type Call = for<'a> fn(&'a Cache, Gate) -> Hand<'a, Option<u32>>;

/// The calls that bring the value 10 for the key 1 when the gate is open.
const CALLS: [(&str, Call); 8] = [
    ("led", |cache, gate| {
        hand(async move { Some(cache.get_or_insert_with(1, || at(&gate, 10)).await) })
    }),
    ("detached", |cache, gate| {
        let call = cache.entry(1).detached().or_insert_with(move || at(&gate, 10));
        hand(async { Some(call.await.value) })
    }),
    ("with a lifetime", |cache, gate| {
        let call = cache.entry(1).or_insert_timed(move || at(&gate, (10, 2 * TTL)));
        hand(async { Some(call.await.value) })
    }),
    ("batch", |cache, gate| {
        let call = cache.get_or_insert_many([1], move |_| at(&gate, [(1, 10)]));
        hand(async { call.await[0].1 })
    }),
    ("detached batch", |cache, gate| {
        let call = cache.entries([1]).detached().or_insert_with(move |_| at(&gate, [(1, 10)]));
        hand(async { call.await[0].1.map(|lookup| lookup.value) })
    }),
    ("refresh", |cache, gate| hand(async move { Some(cache.refresh(1, || at(&gate, 10)).await) })),
    ("update", |cache, gate| hand(cache.update_with(1, move |_| at(&gate, Update::Put(10))))),
    ("update for a while", |cache, gate| {
        hand(cache.update_with(1, move |_| at(&gate, Update::PutFor(10, 2 * TTL))))
    }),
];

#[test]
fn what_is_in_flight_goes_to_its_callers_and_is_not_cached() {
    for limit in WAYS {
        for ttl in [Duration::ZERO, SECOND, Duration::MAX] {
            let clock = ManualClock::new();
            let numbers = 0..kinds(&clock).count();
            for (number, (name, begin)) in
                numbers.flat_map(|number| CALLS.map(|call| (number, call)))
            {
                let cache = kinds(&clock).nth(number).expect("it is one of them").build();
                let gate = Gate::new();
                let mut call = begin(&cache, gate.clone());
                assert!(poll(&mut call).is_pending());
                assert_eq!(limit(&cache, ttl), 0, "{name}");
                // Those who come now load anew, or wait for the update as ever.
                let waits = name.contains("update");
                let other = (!waits).then(|| now(cache.get_or_insert_with(1, async || 11)));
                assert_eq!(other, (!waits).then_some(11), "{name}");
                gate.open();
                assert_eq!(now(call), Some(10), "{name}");
                assert_eq!(cache.get(&1), other, "{name}");
                let unlimited = other.map(|_| Duration::MAX);
                assert_eq!(cache.time_left(&1), unlimited, "{name}");
                assert_eq!(cache.validate(), 0, "{name}");
            }
        }
    }
}

#[test]
fn those_who_have_joined_a_load_get_its_value_all_the_same() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut leader = hand(cache.get_or_insert_with(1, || at(&gate, 10)));
    assert!(poll(&mut leader).is_pending());
    let mut joined = hand(cache.get_or_insert_with(1, async || unreachable!("it joins")));
    assert!(poll(&mut joined).is_pending());
    now(cache.limit_ttl(TTL));
    gate.open();
    assert_eq!((now(leader), now(joined), cache.get(&1)), (10, 10, None));
}

#[test]
fn the_limit_wins_over_an_update_of_an_entry_and_leaves_that() {
    let clock = ManualClock::new();
    let cache = Cache::builder().clock(clock.clone()).build();
    cache.insert_blocking(1, 1);
    let gate = Gate::new();
    let mut update = hand(cache.update_with(1, |old| at(&gate, Update::Put(old.unwrap() + 1))));
    assert!(poll(&mut update).is_pending());
    assert_eq!(now(cache.limit_ttl(SECOND)), 1);
    gate.open();
    assert_eq!((now(update), cache.get(&1)), (Some(2), Some(1)));
    // One that begins afterwards does not prolong it.
    assert_eq!(now(cache.update_with(1, async |_| Update::Put(3))), Some(3));
    assert_eq!(cache.time_left(&1), Some(SECOND));
    assert_eq!(now(cache.update_with(1, async |_| Update::PutFor(4, TTL))), Some(4));
    assert_eq!((cache.time_left(&1), cache.validate()), (Some(TTL), 0));
}

#[test]
fn what_comes_after_a_limit_lives_as_long_as_ever() {
    let clock = ManualClock::new();
    for builder in builders(&clock) {
        let cache = builder.ttl(TTL).build();
        (0..3).for_each(|key| _ = cache.insert_blocking(key, key));
        assert_eq!(cache.limit_ttl_blocking(SECOND), 3);
        cache.insert_blocking(0, 10);
        assert!(cache.set_ttl_blocking(&1, 5 * SECOND));
        now(cache.get_or_insert_with(3, async || 13));
        let all = [0, 1, 2, 3].map(|key| left(&cache, key).unwrap());
        let ttl = (Some(TTL), false);
        assert_eq!(all, [ttl, (Some(5 * SECOND), true), (Some(SECOND), true), ttl]);
    }
}

#[test]
fn a_limited_entry_stays_fresh_and_stale_as_it_was() {
    let clock = ManualClock::new();
    let cache = Cache::builder().fresh_for(10 * SECOND).ttl(TTL).clock(clock.clone()).build();
    cache.insert_blocking(1, 10);
    clock.advance(10 * SECOND);
    cache.insert_blocking(2, 20);
    assert_eq!(now(cache.limit_ttl(15 * SECOND)), 2);
    let fresh = |key| {
        let saved = cache.snapshot_with_ttl().into_iter().find(|saved| saved.key == key).unwrap();
        (saved.fresh_left, saved.time_left)
    };
    assert_eq!(fresh(1), (Some(Duration::ZERO), Some(15 * SECOND)));
    assert_eq!(fresh(2), (Some(10 * SECOND), Some(15 * SECOND)));
    let lookup = now(cache.entry(2).or_insert_with(async || 21));
    assert_eq!((lookup.value, lookup.outcome), (20, LookupOutcome::Hit));
    // What renews it is a value like any other, and lives as long.
    let lookup = now(cache.entry(1).or_insert_with(async || 11));
    assert_eq!((lookup.value, lookup.outcome), (11, LookupOutcome::Loaded));
    assert_eq!((cache.time_left(&1), cache.validate()), (Some(TTL), 0));
    clock.advance(15 * SECOND);
    assert_eq!((cache.get(&2), cache.get(&1)), (None, Some(11)));
}

#[test]
fn a_refresh_in_flight_is_kept_out_and_the_next_call_takes_its_place() {
    for is_detached in [false, true] {
        let clock = ManualClock::new();
        let cache = Cache::builder().fresh_for(10 * SECOND).ttl(TTL).clock(clock.clone()).build();
        cache.insert_blocking(1, 10);
        clock.advance(10 * SECOND);
        let gates = [Gate::new(), Gate::new()];
        let call = |number: usize| {
            let gate = gates[number].clone();
            let load = move || at(&gate, 11 + number as u32);
            match is_detached {
                true => hand(cache.entry(1).detached().or_insert_with(load)),
                false => hand(cache.entry(1).or_insert_with(load)),
            }
        };
        let mut first = call(0);
        assert!(poll(&mut first).is_pending());
        assert_eq!(now(cache.limit_ttl(5 * SECOND)), 1);
        let mut second = call(1);
        assert!(poll(&mut second).is_pending(), "it does not join, and is not served the old one");
        let third = now(cache.entry(1).or_insert_with(async || unreachable!("it is refreshed")));
        assert_eq!((third.value, third.outcome), (10, LookupOutcome::Stale));
        gates[0].open();
        assert_eq!(now(first).value, 11);
        assert_eq!((cache.peek(&1), cache.time_left(&1)), (Some(10), Some(5 * SECOND)));
        let fourth = now(cache.entry(1).or_insert_with(async || unreachable!("it still is")));
        assert_eq!((fourth.value, fourth.outcome), (10, LookupOutcome::Stale));
        gates[1].open();
        assert_eq!(now(second).value, 12);
        assert_eq!((cache.get(&1), cache.time_left(&1)), (Some(12), Some(TTL)));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_refresh_that_fails_after_a_limit_has_nothing_to_do_with_what_is_there() {
    let clock = ManualClock::new();
    let cache = Cache::builder().fresh_for(10 * SECOND).ttl(TTL).clock(clock.clone()).build();
    cache.insert_blocking(1, 10);
    clock.advance(10 * SECOND);
    let gate = Gate::new();
    let mut failing = hand(cache.entry(1).or_try_insert_with(|| at(&gate, Err("down"))));
    assert!(poll(&mut failing).is_pending());
    now(cache.limit_ttl(5 * SECOND));
    gate.open();
    assert_eq!(now(failing).unwrap().value, 10, "stale if error");
    // It is due, and not only when the time for another try has come.
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11);
    assert_eq!((cache.get(&1), cache.validate()), (Some(11), 0));
    // The same of one that is dropped.
    clock.advance(10 * SECOND);
    let mut dropped = hand(cache.get_or_insert_with(1, pending));
    assert!(poll(&mut dropped).is_pending());
    now(cache.limit_ttl(5 * SECOND));
    drop(dropped);
    assert_eq!(now(cache.get_or_insert_with(1, async || 12)), 12);
    assert_eq!((cache.get(&1), cache.validate()), (Some(12), 0));
}

#[test]
fn a_reader_with_a_pin_finds_out_too() {
    let clock = ManualClock::new();
    let cache = Cache::builder().shards(1).clock(clock.clone()).build();
    cache.insert_blocking(1, 10);
    (0..1_000).for_each(|_| assert_eq!(cache.get(&1), Some(10)));
    assert_eq!(cache.limit_ttl_blocking(SECOND), 1);
    (0..1_000).for_each(|_| assert_eq!(cache.get(&1), Some(10)));
    clock.advance(SECOND);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn the_janitor_wakes_for_the_limit() {
    let clock = ManualClock::new();
    let cache = Cache::builder().ttl(TTL).shards(4).clock(clock.clone()).build();
    let sleeps = Rc::new(RefCell::new(Vec::new()));
    let asked = Rc::clone(&sleeps);
    let mut janitor = hand(cache.janitor(move |idle| {
        asked.borrow_mut().push(idle.as_secs());
        // Until the clock is moved by hand.
        let mut polls = 0;
        std::future::poll_fn(move |_| {
            polls += 1;
            if polls > 1 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
    }));
    (0..100).for_each(|key| _ = cache.insert_blocking(key, key));
    assert!(poll(&mut janitor).is_pending());
    assert_eq!(*sleeps.borrow(), [100]);
    assert_eq!(cache.limit_ttl_blocking(5 * SECOND), 100);
    assert!(poll(&mut janitor).is_pending());
    // As far as is known, it may be somewhat before.
    assert!(sleeps.borrow().last().is_some_and(|last| (1..=5).contains(last)), "{sleeps:?}");
    clock.advance(5 * SECOND);
    for _ in 0..10 {
        assert!(poll(&mut janitor).is_pending());
    }
    assert_eq!((cache.len(), cache.stats().expirations, cache.validate()), (0, 100, 0));
}

#[test]
fn expired_entries_make_room_after_a_limit_before_live_ones_do() {
    let clock = ManualClock::new();
    for builder in builders(&clock) {
        let cache = builder.maxsize(100).ttl(TTL).build();
        (0..50).for_each(|key| _ = cache.insert_blocking(key, key));
        cache.limit_ttl_blocking(SECOND);
        (50..100).for_each(|key| _ = cache.insert_blocking(key, key));
        (0..50).for_each(|key| _ = cache.get(&key));
        clock.advance(SECOND);
        (100..150).for_each(|key| _ = cache.insert_blocking(key, key));
        assert!((50..150).all(|key| cache.contains_key(&key)));
        assert_eq!((cache.stats().evictions, cache.stats().expirations), (0, 50));
    }
}

#[test]
fn a_limited_cache_is_restored_as_it_was() {
    let clock = ManualClock::new();
    let cache = Cache::builder().ttl(TTL).clock(clock.clone()).build();
    cache.insert_blocking(1, 10);
    cache.limit_ttl_blocking(5 * SECOND);
    let warm = Cache::builder().ttl(TTL).clock(clock.clone()).build();
    assert_eq!(warm.restore_blocking(cache.snapshot_with_ttl()), 1);
    assert_eq!(left(&warm, 1), Some((Some(5 * SECOND), true)));
}

#[test]
fn a_limit_goes_over_many_entries_in_turns_and_may_be_dropped_after_any() {
    let filled = |clock: &ManualClock, shards| {
        let cache =
            Cache::builder().maxsize(10_000).shards(shards).ttl(TTL).clock(clock.clone()).build();
        (0..5_000).for_each(|key| _ = cache.insert_blocking(key, key));
        cache
    };
    for shards in [1, 16] {
        for ttl in [Duration::ZERO, SECOND] {
            let clock = ManualClock::new();
            let cache = filled(&clock, shards);
            let mut whole = hand(cache.limit_ttl(ttl));
            let mut polls = 1;
            while poll(&mut whole).is_pending() {
                polls += 1;
            }
            assert!(polls >= 10, "{polls} polls");
            for cut in [0, 1, 2, polls / 2, polls - 1] {
                let cache = filled(&clock, shards);
                let gate = Gate::new();
                let mut load = hand(cache.get_or_insert_with(9_999, || at(&gate, 1)));
                assert!(poll(&mut load).is_pending());
                let mut limit = hand(cache.limit_ttl(ttl));
                (0..cut).for_each(|_| assert!(poll(&mut limit).is_pending()));
                drop(limit);
                gate.open();
                assert_eq!(now(load), 1);
                assert_eq!(
                    cache.get(&9_999).is_some(),
                    cut == 0,
                    "it was fenced at the first poll"
                );
                cache.invalidate_blocking(&9_999);
                let long = cache.snapshot_with_ttl().into_iter();
                let long = long.filter(|saved| saved.time_left == Some(TTL)).count();
                assert_eq!(long == 5_000, cut == 0, "{long} after {cut} polls");
                assert!(long > 0, "{cut}");
                assert_eq!(cache.validate(), 0);
                // Another one does the rest.
                assert_eq!(cache.limit_ttl_blocking(ttl), long);
                assert_eq!(cache.validate(), 0);
            }
        }
    }
}

#[test]
fn entries_that_move_while_they_are_limited_are_not_missed() {
    for cut in 1..12 {
        let clock = ManualClock::new();
        let cache =
            Cache::builder().maxsize(10_000).shards(2).ttl(TTL).clock(clock.clone()).build();
        (0..5_000).for_each(|key| _ = cache.insert_blocking(key, key));
        let mut limit = hand(cache.limit_ttl(SECOND));
        (0..cut).for_each(|_| assert!(poll(&mut limit).is_pending()));
        // Nine of ten leave, most of those that have been looked at among them, and memory is given back.
        cache.invalidate_if_blocking(|key, _| key % 10 > 0);
        cache.insert_blocking(1, 1);
        block_on(limit);
        let late = cache.snapshot_with_ttl().into_iter();
        let late: Vec<_> = late.filter(|saved| saved.time_left > Some(SECOND)).collect();
        assert!(late.iter().all(|saved| saved.key == 1), "{late:?} after {cut} polls");
        clock.advance(SECOND);
        cache.insert_blocking(1, 1);
        cache.purge_expired_blocking();
        assert_eq!((cache.keys(), cache.validate()), (vec![1], 0));
    }
}

#[test]
fn a_limit_keeps_all_loads_out_before_it_looks_at_the_first_entry() {
    let clock = ManualClock::new();
    let cache = Cache::builder().maxsize(10_000).shards(16).ttl(TTL).clock(clock.clone()).build();
    let gate = Gate::new();
    let load = |key| {
        let gate = gate.clone();
        hand(cache.get_or_insert_with(key, move || at(&gate, key)))
    };
    let mut loads: Vec<_> = (0..100).map(load).collect();
    loads.iter_mut().for_each(|load| assert!(poll(load).is_pending()));
    (1_000..3_000).for_each(|key| _ = cache.insert_blocking(key, key));
    let mut limit = hand(cache.limit_ttl(SECOND));
    assert!(poll(&mut limit).is_pending());
    gate.open();
    (0..).zip(loads).for_each(|(key, load)| assert_eq!(now(load), key));
    assert_eq!(cache.len(), 2_000);
    assert_eq!(block_on(limit), 2_000);
    assert!(cache.snapshot_with_ttl().iter().all(|saved| saved.time_left == Some(SECOND)));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_limit_counts_from_the_latest_time_that_is_known() {
    let clock = ManualClock::new();
    for shards in [1, 8] {
        clock.set(100 * SECOND);
        let cache = Cache::builder().maxsize(1_000).shards(shards).clock(clock.clone()).build();
        (0..100).for_each(|key| _ = cache.insert_with_ttl_blocking(key, key, TTL));
        // What was seen at a later time is not ended by a clock that has stepped back.
        clock.set(90 * SECOND);
        assert_eq!(cache.limit_ttl_blocking(5 * SECOND), 100);
        assert_eq!(cache.keys().len(), 100);
        clock.set(105 * SECOND - TICK);
        assert_eq!(cache.keys().len(), 100);
        clock.set(105 * SECOND);
        assert_eq!(cache.keys().len(), 0);
        assert_eq!((cache.purge_expired_blocking(), cache.validate()), (100, 0));
    }
}

#[test]
fn a_limit_that_comes_to_its_own_end_on_its_way_ends_what_is_left() {
    let clock = ManualClock::new();
    let cache = Cache::builder().maxsize(10_000).shards(4).ttl(TTL).clock(clock.clone()).build();
    (0..5_000).for_each(|key| _ = cache.insert_blocking(key, key));
    let mut limit = hand(cache.limit_ttl(SECOND));
    assert!(poll(&mut limit).is_pending());
    clock.advance(SECOND);
    assert_eq!(block_on(limit), 5_000);
    assert!(cache.keys().is_empty());
    assert!(cache.len() < 2_000, "most were taken out at once: {}", cache.len());
    cache.purge_expired_blocking();
    assert_eq!((cache.len(), cache.stats().expirations, cache.validate()), (0, 5_000, 0));
}

#[test]
fn a_guard_that_began_before_a_limit_ends_with_no_value_that_outlives_it() {
    let cache = Cache::builder().clock(ManualClock::new()).build();
    let writing = cache.writing(&1).ttl(Lifetime::new(TTL));
    assert_eq!(now(cache.limit_ttl(SECOND)), 0);
    now(writing.insert(10));
    assert_eq!((cache.time_left(&1), cache.validate()), (None, 0));
    now(cache.writing(&1).ttl(Lifetime::new(TTL)).insert(11));
    assert_eq!((cache.time_left(&1), cache.validate()), (Some(TTL), 0));
}

#[test]
fn a_cache_that_keeps_nothing_is_limited_too() {
    let cache = Cache::builder().maxsize(0).build();
    let gate = Gate::new();
    let mut load = hand(cache.get_or_insert_with(1, || at(&gate, 10)));
    assert!(poll(&mut load).is_pending());
    assert_eq!(now(cache.limit_ttl(SECOND)), 0);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11, "it does not join");
    gate.open();
    assert_eq!((now(load), cache.validate()), (10, 0));
}
