//! Lifetimes that differ from entry to entry, or that uses prolong.

mod common;

use std::cell::RefCell;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock, Update};
use common::now;
use proptest::prelude::*;

const fn nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// A cache whose values are their own lifetimes in nanoseconds, 0 standing for no end.
fn own_lifetimes(clock: &ManualClock) -> async_lru::Builder<u32, u64> {
    AsyncLru::builder()
        .expiry(|_, value: &u64| (*value > 0).then_some(nanos(*value)))
        .clock(clock.clone())
}

executors! {
    async fn an_entry_lives_as_long_as_its_key_and_value_say() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u64, u64>::builder()
            .expiry(|key, value| Some(nanos(key + value)))
            .clock(clock.clone())
            .build();
        assert_eq!(cache.get_or_insert_with(3, async || 2).await, 2);
        clock.advance(nanos(4));
        assert_eq!(cache.get(&3), Some(2));
        clock.advance(nanos(1));
        assert_eq!(cache.get(&3), None);
        assert_eq!(cache.get_or_insert_with(3, async || 1).await, 1);
        assert_eq!(cache.stats().expirations, 1);
        let _ = cache.validate();
    }

    async fn an_entry_of_no_lifetime_is_given_to_its_callers_and_not_kept() {
        let cache = AsyncLru::<u32, u32>::builder()
            .maxsize(1)
            .expiry(|_, value| (*value == 0).then_some(Duration::ZERO))
            .build();
        cache.insert(1, 10).await;
        assert_eq!(cache.get_or_insert_with(2, async || 0).await, 0);
        assert_eq!(cache.insert(3, 0).await, None);
        assert_eq!(cache.keys(), [1], "it takes nobody's room");
        assert_eq!(cache.insert(1, 0).await, Some(10), "but that of the one before it");
        assert!(cache.is_empty());
        assert_eq!(cache.validate(), 0);
    }

    async fn a_lifetime_of_no_length_given_to_an_insertion_removes_and_fences() {
        let cache = AsyncLru::<u32, u32>::new(4);
        cache.insert(1, 10).await;
        assert_eq!(cache.insert_with_ttl(1, 11, Duration::ZERO).await, Some(10));
        assert_eq!(cache.get(&1), None);
        let value = cache
            .get_or_insert_with(1, async || {
                cache.insert_with_ttl(1, 12, Duration::ZERO).await;
                13
            })
            .await;
        assert_eq!((value, cache.get(&1)), (13, None));
    }

    async fn the_earliest_of_all_deadlines_counts() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder()
            .ttl(nanos(50))
            .time_to_idle(nanos(20))
            .shards(1)
            .expiry(|key, _| (*key == 1).then_some(nanos(10)))
            .clock(clock.clone())
            .build();
        cache.insert(1, 0).await;
        cache.insert(2, 0).await;
        cache.insert_with_ttl(3, 0, nanos(5)).await;
        cache.insert_with_ttl(4, 0, Duration::MAX).await;
        clock.advance(nanos(5));
        assert_eq!(cache.keys(), [1, 2, 4]);
        clock.advance(nanos(5));
        assert_eq!(cache.keys(), [2, 4]);
        for _ in 0..4 {
            assert_eq!(cache.get(&2), Some(0));
            clock.advance(nanos(10));
        }
        assert_eq!(cache.keys(), Vec::<u32>::new(), "50 are over for one, 20 unused for the other");
        assert_eq!(cache.purge_expired().await, 4);
        assert_eq!(cache.validate(), 0);
    }

    async fn a_use_prolongs_the_life_of_an_entry_and_a_look_does_not() {
        let clock = ManualClock::new();
        let cache =
            AsyncLru::<u32, u32>::builder().time_to_idle(nanos(10)).shards(1).clock(clock.clone()).build();
        for key in 0..4 {
            cache.insert(key, key).await;
        }
        for _ in 0..3 {
            clock.advance(nanos(9));
            assert_eq!(cache.get(&1), Some(1));
            assert_eq!(cache.get_or_insert_with(2, async || unreachable!()).await, 2);
            cache.insert(3, 3).await;
            assert_eq!(cache.contains_key(&0), cache.peek(&0).is_some());
        }
        assert_eq!(cache.keys(), [1, 2, 3]);
        clock.advance(nanos(10));
        assert!(cache.keys().is_empty());
    }

    async fn a_lifetime_of_its_own_takes_the_place_of_that_of_all_entries_longer_or_shorter() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder()
            .ttl(nanos(50))
            .expiry(|key, _| (*key == 9).then_some(nanos(70)))
            .shards(1)
            .clock(clock.clone())
            .build();
        cache.insert(1, 0).await;
        cache.insert(9, 0).await;
        cache.insert_with_ttl(2, 0, nanos(10)).await;
        cache.insert_with_ttl(3, 0, nanos(90)).await;
        // What a call says goes before the rule, and that before the time of all.
        assert_eq!(cache.insert_with_ttl_blocking(9, 0, nanos(80)), Some(0));
        cache.insert(10, 0).await;
        let left = [1, 2, 3, 9, 10].map(|key| cache.time_left(&key));
        assert_eq!(left, [50, 10, 90, 80, 50].map(|left| Some(nanos(left))));
        cache.insert(9, 1).await;
        assert_eq!(cache.time_left(&9), Some(nanos(70)));
        cache.insert(3, 1).await;
        assert_eq!(cache.time_left(&3), Some(nanos(50)), "an insertion without one takes it away");
        cache.insert_with_ttl(4, 0, Duration::MAX).await;
        assert_eq!(cache.time_left(&4), Some(Duration::MAX));
        assert_eq!(cache.validate(), 0);
    }

    /// Against (A43) of `docs/reliability.md`.
    async fn an_update_keeps_the_lifetime_that_the_entry_has_of_its_own_and_restarts_that_of_all() {
        for ttl in [None, Some(nanos(100)), Some(nanos(20)), Some(Duration::ZERO)] {
            let clock = ManualClock::new();
            let mut builder = AsyncLru::<u32, u32>::builder().clock(clock.clone());
            if let Some(ttl) = ttl {
                builder = builder.ttl(ttl);
            }
            let cache = builder.build();
            let count = async |old: Option<u32>| Update::Put(old.unwrap_or(0) + 1);
            cache.insert_with_ttl(1, 1, nanos(60)).await;
            cache.insert(2, 1).await;
            clock.advance(nanos(10));
            for n in 2..5 {
                assert_eq!(cache.update_with(1, count).await, Some(n));
                assert_eq!(cache.time_left(&1), Some(nanos(50)));
            }
            let left = cache.update_with(2, count).await;
            match ttl {
                Some(Duration::ZERO) => {
                    assert_eq!((left, cache.time_left(&2)), (Some(1), None), "nothing to start from");
                }
                ttl => {
                    assert_eq!(left, Some(2));
                    assert_eq!(cache.time_left(&2), Some(ttl.unwrap_or(Duration::MAX)));
                }
            }
            clock.advance(nanos(50));
            assert_eq!(cache.get(&1), None, "its window is over");
            assert_eq!(cache.update_with(1, count).await, Some(1), "a new one, with no lifetime of its own");
            let as_all = ttl.filter(|ttl| !ttl.is_zero());
            let expected = if ttl == Some(Duration::ZERO) { None } else { Some(as_all.unwrap_or(Duration::MAX)) };
            assert_eq!(cache.time_left(&1), expected);
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn an_update_may_give_the_entry_another_lifetime_of_its_own() {
        for ttl in [None, Some(nanos(100))] {
            let clock = ManualClock::new();
            let mut builder = AsyncLru::<u32, u32>::builder().clock(clock.clone());
            if let Some(ttl) = ttl {
                builder = builder.ttl(ttl);
            }
            let cache = builder.build();
            let put_for = |time: u64| async move |_| Update::PutFor(7, nanos(time));
            assert_eq!(cache.update_with(1, put_for(30)).await, Some(7));
            assert_eq!(cache.time_left(&1), Some(nanos(30)));
            cache.insert(2, 0).await;
            assert_eq!(cache.update_with(2, put_for(300)).await, Some(7));
            assert_eq!(cache.time_left(&2), Some(nanos(300)));
            clock.advance(nanos(20));
            assert_eq!(cache.update_with(1, put_for(25)).await, Some(7));
            assert_eq!(cache.update_with(1, async |_| Update::Put(8)).await, Some(8));
            assert_eq!(cache.time_left(&1), Some(nanos(25)));
            assert_eq!(cache.update_with(1, put_for(0)).await, Some(7));
            assert_eq!((cache.get(&1), cache.len()), (None, 1), "over at once");
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn a_lifetime_set_anew_counts_from_the_call_and_is_no_use_and_no_write() {
        let clock = ManualClock::new();
        let build = || AsyncLru::<u32, u32>::builder().maxsize(3).shards(1).clock(clock.clone());
        let plain = build().build();
        let timed = build().ttl(nanos(50)).build();
        let idle = build().time_to_idle(nanos(50)).build();
        for (cache, is_idle) in [(plain, false), (timed, false), (idle, true)] {
            for key in 1..=3 {
                cache.insert(key, key).await;
            }
            clock.advance(nanos(10));
            let before = cache.stats();
            assert!(cache.set_ttl(&1, nanos(200)).await);
            assert!(cache.set_ttl_blocking(&2, nanos(5)));
            assert!(!cache.set_ttl(&4, nanos(5)).await);
            // Of the end of the lifetime and that of the idle time the earlier ends the entry.
            let left = [if is_idle { 40 } else { 200 }, 5].map(|left| Some(nanos(left)));
            assert_eq!([1, 2].map(|key| cache.time_left(&key)), left);
            assert_eq!(cache.keys(), [1, 2, 3], "their order is as it was");
            let after = cache.stats();
            assert_eq!((after.hits, after.misses), (before.hits, before.misses));
            clock.advance(nanos(5));
            assert_eq!((cache.peek(&1), cache.peek(&2)), (Some(1), None));
            assert!(!cache.set_ttl(&2, nanos(5)).await, "its time is over");
            assert!(cache.set_ttl(&1, Duration::MAX).await);
            let left = if is_idle { nanos(35) } else { Duration::MAX };
            assert_eq!(cache.time_left(&1), Some(left));
            // Over at once, and freed.
            let expirations = cache.stats().expirations;
            assert!(cache.set_ttl(&3, Duration::ZERO).await);
            assert_eq!(cache.stats().expirations, expirations + 1);
            assert_eq!(cache.update_with(1, async |_| Update::Put(9)).await, Some(9));
            assert_eq!(cache.time_left(&1), Some(if is_idle { nanos(50) } else { Duration::MAX }));
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn time_counts_from_the_first_entry_with_a_lifetime_in_a_cache_without_a_rule() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder().maxsize(2).clock(clock.clone()).build();
        cache.insert(1, 10).await;
        cache.insert_with_ttl(2, 20, nanos(5)).await;
        clock.advance(nanos(5));
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), None));
        cache.insert(3, 30).await;
        assert_eq!(cache.keys(), [1, 3], "what has expired makes room first");
        assert_eq!(cache.stats().expirations, 1);
        assert_eq!(cache.info().ttl, None);
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn the_configuration_tells_the_jitter() {
    let builder = AsyncLru::<u32, u32>::builder().maxsize(10).ttl(Duration::from_secs(60));
    let info = builder.ttl_jitter(0.25).build().info();
    assert_eq!(info.ttl_jitter, 0.25);
    let text = "at most 10 entries in 1 shard, each for 60s, shortened by up to 25.0 %";
    assert_eq!(info.to_string(), text);
}

#[test]
fn jitter_shortens_lifetimes_by_no_more_than_its_share() {
    for (share, at_least) in [(0.5, 50), (-1.0, 100), (f64::NAN, 100), (7.0, 1)] {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder()
            .ttl(nanos(100))
            .ttl_jitter(share)
            .clock(clock.clone())
            .build();
        for key in 0..500 {
            cache.insert_blocking(key, key);
        }
        clock.set(nanos(at_least - 1));
        assert_eq!(cache.keys().len(), 500, "share {share}");
        clock.set(nanos(99));
        let left = cache.keys().len();
        assert_eq!(left == 500, at_least == 100, "{left} left, share {share}");
        clock.set(nanos(100));
        assert!(cache.keys().is_empty());
        assert_eq!(cache.purge_expired_blocking(), 500);
        let _ = cache.validate();
    }
}

#[test]
fn lifetimes_at_both_ends_neither_panic_nor_revive_anything() {
    let clock = ManualClock::new();
    let cache = own_lifetimes(&clock).ttl_jitter(0.5).time_to_idle(Duration::MAX).shards(1).build();
    for (key, lifetime) in [(1, 1), (2, u64::MAX), (3, 0)] {
        cache.insert_blocking(key, lifetime);
    }
    cache.insert_with_ttl_blocking(4, 0, Duration::MAX);
    clock.set(nanos(1));
    assert_eq!(cache.keys(), [2, 3, 4]);
    clock.set(Duration::ZERO);
    assert_eq!(cache.get(&1), None);
    clock.set(Duration::MAX);
    assert_eq!(cache.keys(), [2, 3, 4], "no clock can show the end of the first");
    cache.insert_blocking(5, 7);
    let _ = cache.validate();
}

#[test]
fn in_a_full_cache_an_expired_entry_of_another_shard_goes_before_a_live_one_of_any_lifetime() {
    // Which shard a key lives in differs from cache to cache.
    for key in 10..60 {
        let clock = ManualClock::new();
        let builder = AsyncLru::<u32, u32>::builder().maxsize(2).shards(4).clock(clock.clone());
        let cache = builder.time_to_idle(nanos(30)).build();
        cache.insert_blocking(1, 1);
        clock.advance(nanos(9_800));
        cache.insert_blocking(2, 2);
        cache.insert_blocking(key, key);
        assert_eq!((cache.get(&2), cache.get(&key)), (Some(2), Some(key)));
        let stats = cache.stats();
        assert_eq!((stats.evictions, stats.expirations, cache.len()), (0, 1, 2));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn an_entry_without_an_end_takes_none_over_from_the_one_whose_room_it_has() {
    let clock = ManualClock::new();
    let cache = AsyncLru::<u32, u32>::builder()
        .time_to_idle(nanos(u64::MAX - 10))
        .shards(1)
        .clock(clock.clone())
        .build();
    cache.insert_blocking(1, 10);
    assert_eq!(cache.time_left(&1), Some(nanos(u64::MAX - 10)));
    cache.remove_blocking(&1);
    clock.set(nanos(20));
    cache.insert_blocking(2, 20);
    clock.set(Duration::MAX);
    assert_eq!(cache.get(&2), Some(20), "no clock can show its end");
    assert_eq!(cache.validate(), 0);
}

#[test]
fn entries_that_nobody_reads_are_freed_by_writes_whatever_their_lifetimes() {
    let clock = ManualClock::new();
    let cache = own_lifetimes(&clock).maxsize(100_000).shards(1).build();
    for key in 0..20_000_u32 {
        // From a nanosecond to a minute and a half, in no order.
        cache.insert_blocking(key, 1 + (u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 27));
    }
    clock.advance(Duration::from_secs(200));
    let mut writes = 0;
    while cache.len() > 1 {
        cache.insert_blocking(1 << 30, 0);
        writes += 1;
        assert!(writes < 20_000, "{} are left", cache.len());
    }
    assert_eq!(cache.stats().expirations, 20_000);
    let _ = cache.validate();
}

/// An entry that expired in time for another one to come had left its room to it, which needed none.
#[test]
fn no_room_is_held_any_more_when_a_replaced_value_is_dropped() {
    struct Looks;

    thread_local! {
        static CACHE: RefCell<Option<AsyncLru<u32, Looks>>> = const { RefCell::new(None) };
        static SEEN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }

    impl Drop for Looks {
        fn drop(&mut self) {
            let cache = CACHE.with_borrow(Clone::clone);
            SEEN.with_borrow_mut(|seen| seen.extend(cache.map(|cache| cache.len())));
        }
    }

    let clock = ManualClock::new();
    let cache = AsyncLru::<u32, Looks>::builder()
        .maxsize(6)
        .ttl(Duration::from_secs(1))
        .shards(1)
        .clock(clock.clone())
        .build();
    for key in 0..6 {
        cache.insert_blocking(key, Looks);
    }
    clock.advance(Duration::from_secs(1));
    CACHE.set(Some(cache.clone()));
    cache.insert_blocking(5, Looks);
    let cache_within = CACHE.take();
    assert_eq!(SEEN.take(), [1; 6]);
    drop(cache_within);
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_load_takes_the_place_of_the_expired_entry_of_its_key_among_many_that_have_expired() {
    // More than one write frees, and none of them has a deadline but the one that uses put off.
    for key in 0..20 {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder()
            .time_to_idle(nanos(10))
            .shards(1)
            .clock(clock.clone())
            .build();
        for key in 0..20 {
            cache.insert_blocking(key, 0);
        }
        clock.advance(nanos(10));
        assert_eq!(now(cache.get_or_insert_with(key, async || 1)), 1);
        assert_eq!(cache.get(&key), Some(1));
        assert_eq!(cache.validate(), 0);
        assert_eq!(cache.remove_blocking(&key), Some(1));
        assert_eq!(cache.get(&key), None);
        assert_eq!(cache.validate(), 0);
    }
}

/// What a cache is asked to do.
#[derive(Clone, Debug)]
enum Step {
    Insert(u32, u64),
    InsertFor(u32, u64),
    Load(u32, u64),
    Get(u32),
    Remove(u32),
    Put(u32, u64),
    PutFor(u32, u64),
    SetTtl(u32, u64),
    LimitTtl(u64),
    Purge,
    Restart,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..12_u32;
    let time = || prop_oneof![0..8_u64, 0..300_u64, 0..100_000_u64];
    let step = prop_oneof![
        (key(), time()).prop_map(|(key, time)| Step::Insert(key, time)),
        (key(), 1..500_u64).prop_map(|(key, time)| Step::InsertFor(key, time)),
        (key(), time()).prop_map(|(key, time)| Step::Load(key, time)),
        key().prop_map(Step::Get),
        key().prop_map(Step::Remove),
        (key(), time()).prop_map(|(key, time)| Step::Put(key, time)),
        (key(), 0..500_u64).prop_map(|(key, time)| Step::PutFor(key, time)),
        (key(), 0..500_u64).prop_map(|(key, time)| Step::SetTtl(key, time)),
        (0..500_u64).prop_map(Step::LimitTtl),
        Just(Step::Purge),
        Just(Step::Restart),
        time().prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..150)
}

/// An entry of the naive cache.
struct Entry {
    key: u32,
    value: u64,
    fixed: u64,
    used: u64,
    /// Whether a call has given it its lifetime.
    is_own: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn lifetimes_of_every_kind_are_those_of_a_list_that_is_looked_through(
        steps in steps(),
        idle in prop::option::of(1..400_u64),
    ) {
        let clock = ManualClock::new();
        let build = || {
            let builder = own_lifetimes(&clock).maxsize(64).shards(1);
            match idle {
                Some(idle) => builder.time_to_idle(nanos(idle)).build(),
                None => builder.build(),
            }
        };
        let mut cache = build();
        // With room for all keys nothing is evicted; the order is the business of other tests.
        let mut model: Vec<Entry> = Vec::new();
        let mut time = 0_u64;
        for step in steps {
            let is_live = |entry: &Entry, time: u64| {
                entry.fixed > time && idle.is_none_or(|idle| entry.used + idle > time)
            };
            let put = |model: &mut Vec<Entry>, key: u32, value: u64, lifetime: u64| {
                model.retain(|entry| entry.key != key);
                let fixed = if lifetime == 0 { u64::MAX } else { time + lifetime };
                model.push(Entry { key, value, fixed, used: time, is_own: false });
            };
            let put_for = |model: &mut Vec<Entry>, key: u32, value: u64, lifetime: u64| {
                model.retain(|entry| entry.key != key);
                let fixed = time + lifetime;
                model.push(Entry { key, value, fixed, used: time, is_own: true });
            };
            match step {
                Step::Insert(key, value) => {
                    let old = model.iter().find(|e| e.key == key && is_live(e, time));
                    prop_assert_eq!(cache.insert_blocking(key, value), old.map(|old| old.value));
                    put(&mut model, key, value, value);
                }
                Step::InsertFor(key, lifetime) => {
                    cache.insert_with_ttl_blocking(key, 0, nanos(lifetime));
                    put_for(&mut model, key, 0, lifetime);
                }
                Step::Put(key, value) => {
                    let left = now(cache.update_with(key, async |_| Update::Put(value)));
                    prop_assert_eq!(left, Some(value));
                    let own = model.iter_mut().find(|e| e.key == key && e.is_own && is_live(e, time));
                    match own {
                        Some(entry) => (entry.value, entry.used) = (value, time),
                        None => put(&mut model, key, value, value),
                    }
                }
                Step::PutFor(key, lifetime) => {
                    let put = async |_| Update::PutFor(1, nanos(lifetime));
                    prop_assert_eq!(now(cache.update_with(key, put)), Some(1));
                    put_for(&mut model, key, 1, lifetime);
                }
                Step::SetTtl(key, lifetime) => {
                    let live = model.iter_mut().find(|e| e.key == key && is_live(e, time));
                    prop_assert_eq!(cache.set_ttl_blocking(&key, nanos(lifetime)), live.is_some());
                    if let Some(entry) = live {
                        (entry.fixed, entry.is_own) = (time + lifetime, true);
                    }
                }
                Step::LimitTtl(ttl) => {
                    let limit = time + ttl;
                    let later = |e: &&mut Entry| is_live(e, time) && e.fixed > limit;
                    let limited = model.iter_mut().filter(later);
                    let count = limited.map(|e| (e.fixed, e.is_own) = (limit, true)).count();
                    prop_assert_eq!(cache.limit_ttl_blocking(nanos(ttl)), count);
                }
                Step::Restart => {
                    let saved = cache.snapshot_with_ttl();
                    let live = model.iter().filter(|e| is_live(e, time)).count();
                    prop_assert_eq!(saved.len(), live);
                    cache = build();
                    prop_assert_eq!(cache.restore_blocking(saved), live);
                }
                Step::Load(key, value) => {
                    let live = model.iter_mut().find(|e| e.key == key && is_live(e, time));
                    let got = now(cache.get_or_insert_with(key, async || value));
                    if let Some(entry) = live {
                        entry.used = time;
                        prop_assert_eq!(got, entry.value);
                    } else {
                        prop_assert_eq!(got, value);
                        put(&mut model, key, value, value);
                    }
                }
                Step::Get(key) => {
                    let live = model.iter_mut().find(|e| e.key == key && is_live(e, time));
                    let expected = live.map(|entry| {
                        entry.used = time;
                        entry.value
                    });
                    prop_assert_eq!(cache.get(&key), expected);
                }
                Step::Remove(key) => {
                    let old = model.iter().find(|e| e.key == key && is_live(e, time));
                    let expected = old.map(|old| old.value);
                    model.retain(|entry| entry.key != key);
                    prop_assert_eq!(cache.remove_blocking(&key), expected);
                }
                Step::Purge => {
                    cache.purge_expired_blocking();
                    model.retain(|entry| is_live(entry, time));
                    prop_assert_eq!(cache.len(), model.len());
                }
                Step::Pass(by) => {
                    time += by;
                    clock.advance(nanos(by));
                }
            }
            let mut keys = cache.keys();
            keys.sort_unstable();
            let live = model.iter().filter(|e| is_live(e, time)).map(|e| e.key);
            let mut expected: Vec<u32> = live.collect();
            expected.sort_unstable();
            prop_assert_eq!(keys, expected);
            let _ = cache.validate();
        }
    }
}
