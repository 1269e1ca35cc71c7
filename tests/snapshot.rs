//! Copying all entries out of a cache, and back into another one.

mod common;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Clock, ManualClock, Saved, Update};
use common::{Gate, hand, now, poll};
use futures_lite::future::block_on;

type Cache = AsyncLru<u32, u32>;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(60);

/// A cache of one shard whose entries live for a minute.
fn timed(maxsize: usize, clock: &ManualClock) -> Cache {
    Cache::builder().maxsize(maxsize).shards(1).ttl(TTL).clock(clock.clone()).build()
}

/// Five entries that come one by one, a second apart, and are used in another order; one is replaced.
fn used(clock: &ManualClock) -> Cache {
    let cache = timed(10, clock);
    for key in 1..=5 {
        cache.insert_blocking(key, key * 10);
        clock.advance(SECOND);
    }
    cache.insert_blocking(4, 44);
    for key in [3, 1, 5] {
        cache.get(&key);
    }
    cache
}

/// The entries of a snapshot with the ends of their times.
fn triples(saved: Vec<Saved<u32, u32>>) -> Vec<(u32, u32, Option<Duration>)> {
    saved.into_iter().map(|saved| (saved.key, saved.value, saved.time_left)).collect()
}

/// An entry whose time is that of all entries of its cache.
fn saved(key: u32, value: u32, time_left: Option<Duration>) -> Saved<u32, u32> {
    let mut saved = Saved::new(key, value);
    saved.time_left = time_left;
    saved
}

executors! {
    async fn a_restored_cache_has_the_same_entries_in_the_same_order_with_the_same_times() {
        let clock = ManualClock::new();
        let old = used(&clock);
        let snapshot = old.snapshot_with_ttl();
        let left = |seconds| Some(Duration::from_secs(seconds));
        let expected =
            [(2, 20, left(56)), (4, 44, left(60)), (3, 30, left(57)), (1, 10, left(55)),
             (5, 50, left(59))];
        assert_eq!(triples(snapshot.clone()), expected);

        // Another origin of time changes nothing.
        let clock = ManualClock::new();
        clock.set(1_000 * SECOND);
        let new = timed(10, &clock);
        assert_eq!(new.restore(snapshot.clone()).await, 5);
        assert_eq!(new.snapshot_with_ttl(), snapshot);
        assert_eq!(new.keys(), old.keys());
        let stats = new.stats();
        assert_eq!((stats.hits, stats.misses, stats.evictions, stats.loads), (0, 0, 0, 0));
        assert_eq!(new.validate(), 0);

        let again = timed(10, &clock);
        assert_eq!(again.restore_blocking(new.snapshot_with_ttl()), 5);
        assert_eq!(again.snapshot_with_ttl(), snapshot);
        assert_eq!(again.validate(), 0);
    }

    async fn a_restored_entry_is_gone_when_it_would_have_been() {
        let clock = ManualClock::new();
        let old = used(&clock);
        let new = timed(10, &clock);
        let start = clock.now();
        assert_eq!(new.restore(old.snapshot_with_ttl()).await, 5);
        // A new entry expires after all that were restored, and is not the last to be used.
        clock.advance(SECOND / 2);
        new.insert(9, 90).await;
        new.get(&2);
        for (gone, (key, left)) in (1..).zip([(1, 55), (2, 56), (3, 57), (5, 59), (4, 60)]) {
            clock.set(start + left * SECOND - SECOND / 1_000);
            assert!(new.contains_key(&key), "{key}");
            clock.set(start + left * SECOND);
            assert_eq!(old.get(&key), None, "{key}");
            assert_eq!(new.get(&key), None, "{key}");
            // Freed in that order too, by a write that has nothing to do with it.
            new.remove(&100).await;
            assert_eq!(new.len(), 6 - gone);
            assert_eq!(new.validate(), 0);
        }
        assert_eq!(new.stats().expirations, 5);
    }

    async fn of_more_entries_than_there_is_room_for_the_most_recently_used_stay() {
        for with_ttl in [None, Some(TTL)] {
            let builder = Cache::builder().maxsize(100).shards(1);
            let cache = match with_ttl {
                None => builder.build(),
                Some(ttl) => builder.ttl(ttl).clock(ManualClock::new()).build(),
            };
            // The later an entry was used, the sooner it expires.
            let entries = (0..1_000).map(|key| (key, key, Some(TTL - SECOND / 100 * key)));
            assert_eq!(cache.restore(entries).await, 100);
            assert_eq!(cache.keys(), Vec::from_iter(900..1_000));
            assert_eq!(cache.stats().evictions, 0);
            // In the order in which they leave, too.
            cache.insert(2_000, 0).await;
            assert!(!cache.contains_key(&900) && cache.contains_key(&901));
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn restored_entries_stand_back_behind_those_that_are_there() {
        let cache = Cache::new(5);
        for key in [1, 2, 3] {
            cache.insert(key, 0).await;
        }
        // Two of them are there, and need no room of those that are not.
        let entries = [(7, 7, None), (8, 8, None), (1, 9, None), (9, 9, None), (3, 9, None)];
        assert_eq!(cache.restore(entries).await, 2);
        assert_eq!(cache.snapshot(), [(1, 0), (2, 0), (3, 0), (8, 8), (9, 9)]);
        assert_eq!(cache.restore([(10, 10, None)]).await, 0, "full");
        assert_eq!((cache.len(), cache.stats().evictions), (5, 0));
        assert_eq!(cache.validate(), 0);
    }

    async fn what_has_expired_takes_no_room_from_restored_entries() {
        let clock = ManualClock::new();
        let cache = timed(3, &clock);
        for key in [1, 2, 3] {
            cache.insert(key, 0).await;
        }
        clock.advance(TTL);
        assert_eq!(cache.restore([(1, 1, None), (4, 4, Some(SECOND))]).await, 2);
        assert_eq!(cache.snapshot(), [(1, 1), (4, 4)]);
        assert_eq!(cache.stats().expirations, 3);
        assert_eq!(cache.validate(), 0);
    }

    async fn many_entries_in_many_shards_come_back_as_they_were() {
        let clock = ManualClock::new();
        let make = |maxsize, shards| {
            Cache::builder().maxsize(maxsize).shards(shards).ttl(TTL).clock(clock.clone()).build()
        };
        let old = make(4_000, 8);
        for key in 0..4_000 {
            old.insert(key, key).await;
            clock.advance(SECOND / 1_000);
        }
        // Used in another order than they came.
        for key in 0..4_000 {
            old.get(&(key * 7 % 4_000));
        }
        let snapshot = old.snapshot_with_ttl();
        assert_eq!(snapshot.len(), 4_000);
        for shards in [1, 16] {
            let new = make(4_000, shards);
            assert_eq!(new.restore(snapshot.clone()).await, 4_000);
            assert_eq!(new.validate(), 0);
            let sorted = |cache: &Cache| BTreeSet::from_iter(triples(cache.snapshot_with_ttl()));
            assert_eq!(sorted(&new), sorted(&old));
            if shards == 1 {
                assert_eq!(new.snapshot_with_ttl(), snapshot);
            }
        }
        // A smaller cache gets those that were used last, as far as eight orders tell.
        let small = make(1_000, 1);
        assert_eq!(small.restore(snapshot).await, 1_000);
        let used_at = |key: u32| (0..4_000).position(|use_| use_ * 7 % 4_000 == key).unwrap();
        let recent = small.keys().into_iter().filter(|key| used_at(*key) >= 2_800).count();
        assert!(recent > 950, "{recent}");
    }
}

#[test]
fn a_snapshot_is_in_the_order_of_use_and_is_no_use() {
    let clock = ManualClock::new();
    let cache = used(&clock);
    let before = cache.stats();
    assert_eq!(cache.snapshot(), [(2, 20), (4, 44), (3, 30), (1, 10), (5, 50)]);
    assert_eq!(cache.snapshot(), cache.snapshot());
    assert_eq!(cache.stats(), before);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_snapshot_is_complete_after_any_number_of_reads() {
    // Often enough that threads read without the lock.
    let cache = Cache::new(10);
    cache.insert_blocking(1, 10);
    for _ in 0..1_000 {
        assert_eq!(cache.get(&1), Some(10));
    }
    assert_eq!(cache.snapshot(), [(1, 10)]);
    cache.insert_blocking(2, 20);
    assert_eq!(cache.snapshot(), [(1, 10), (2, 20)]);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_snapshot_shows_no_entry_whose_time_is_over() {
    let clock = ManualClock::new();
    let cache = used(&clock);
    clock.advance(TTL - 3 * SECOND);
    assert_eq!(cache.snapshot(), [(4, 44), (5, 50)]);
    let left = [(4, 44, Some(3 * SECOND)), (5, 50, Some(2 * SECOND))];
    assert_eq!(triples(cache.snapshot_with_ttl()), left);
    assert_eq!(cache.len(), 5, "a snapshot frees nothing");
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_snapshot_tells_that_there_is_no_end_to_an_entry() {
    let forever = Cache::new(10);
    let as_long = Cache::builder().ttl(Duration::MAX).build();
    for cache in [forever, as_long] {
        cache.insert_blocking(1, 10);
        assert_eq!(cache.snapshot_with_ttl(), [Saved::new(1, 10)]);
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_clock_that_steps_back_adds_no_time_to_a_snapshot_or_to_what_is_restored() {
    let clock = ManualClock::new();
    clock.set(1_000 * SECOND);
    let cache = timed(10, &clock);
    cache.insert_blocking(1, 10);
    clock.set(500 * SECOND);
    assert_eq!(triples(cache.snapshot_with_ttl()), [(1, 10, Some(TTL))]);
    assert_eq!(cache.restore_blocking([(2, 20, Some(SECOND)), (3, 30, None)]), 2);
    assert_eq!(
        triples(cache.snapshot_with_ttl()),
        [(1, 10, Some(TTL)), (2, 20, Some(SECOND)), (3, 30, Some(TTL))]
    );
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_restored_entry_lives_no_longer_than_the_cache_lets_any_unless_its_lifetime_is_its_own() {
    let entries = [
        (1, 10, Some(Duration::ZERO)),
        (2, 20, Some(TTL / 2)),
        (3, 30, Some(2 * TTL)),
        (4, 40, Some(Duration::MAX)),
        (5, 50, None),
    ];
    let of_all = entries.map(|(key, value, left)| saved(key, value, left));
    let unbounded = [(2, 20, Some(TTL / 2)), (3, 30, Some(2 * TTL)), (4, 40, None), (5, 50, None)];
    let bounded =
        [(2, 20, Some(TTL / 2)), (3, 30, Some(TTL)), (4, 40, Some(TTL)), (5, 50, Some(TTL))];
    let mut own = unbounded;
    own[3].2 = Some(TTL);
    let without_a_rule = || Cache::builder().maxsize(10).clock(ManualClock::new()).build();
    let with_a_rule = || timed(10, &ManualClock::new());
    let check = |cache: Cache, restored: usize, expected: [(u32, u32, Option<Duration>); 4]| {
        assert_eq!(restored, 4);
        assert_eq!(triples(cache.snapshot_with_ttl()), expected);
        assert_eq!(cache.validate(), 0);
    };
    let cache = with_a_rule();
    check(cache.clone(), cache.restore_blocking(of_all.clone()), bounded);
    let cache = with_a_rule();
    check(cache.clone(), cache.restore_blocking(entries), own);
    for cache in [without_a_rule(), without_a_rule()] {
        check(cache.clone(), cache.restore_blocking(entries), unbounded);
    }
    let cache = without_a_rule();
    check(cache.clone(), cache.restore_blocking(of_all), unbounded);
}

/// Against (A44) of `docs/reliability.md`: at every moment of every lifetime.
#[test]
fn a_restored_entry_is_used_and_lives_on_as_it_would_have() {
    type Settings = fn(Builder<u32, u32>) -> Builder<u32, u32>;
    let settings: [Settings; 4] = [
        |builder| builder.time_to_idle(60 * SECOND),
        |builder| builder.time_to_idle(60 * SECOND).ttl(100 * SECOND),
        |builder| builder.ttl(100 * SECOND),
        |builder| builder.ttl(100 * SECOND).expiry(|key, _| (*key == 3).then_some(20 * SECOND)),
    ];
    for (number, set) in settings.into_iter().enumerate() {
        for age in (0..150).step_by(7) {
            let (old_clock, new_clock) = (ManualClock::new(), ManualClock::new());
            let make =
                |clock: &ManualClock| set(Cache::builder().shards(1).clock(clock.clone())).build();
            let (old, new) = (make(&old_clock), make(&new_clock));
            new_clock.set(5_000 * SECOND);
            old.insert_blocking(1, 10);
            old.insert_with_ttl_blocking(2, 20, 130 * SECOND);
            old.insert_blocking(3, 30);
            old.insert_blocking(4, 40);
            for second in 0..age {
                old_clock.advance(SECOND);
                if second % 50 == 0 {
                    old.get(&4);
                }
            }
            let saved = old.snapshot_with_ttl();
            assert_eq!(new.restore_blocking(saved.clone()), saved.len());
            let mut turn = 0;
            while !old.keys().is_empty() || !new.keys().is_empty() {
                let what = format!("settings {number}, age {age}, turn {turn}");
                for key in 1..=4 {
                    assert_eq!(new.time_left(&key), old.time_left(&key), "{what}, key {key}");
                }
                assert_eq!(new.get(&1), old.get(&1), "{what}: used all the time");
                if turn % 3 == 0 {
                    assert_eq!(new.get(&2), old.get(&2), "{what}: used now and then");
                }
                if turn == 40 {
                    // A lifetime of its own, and none of its own, as they were.
                    for cache in [&old, &new] {
                        for key in [2, 4] {
                            let keep = async |old: Option<u32>| match old {
                                Some(value) => Update::Put(value + 1),
                                None => Update::Keep,
                            };
                            now(cache.update_with(key, keep));
                        }
                    }
                }
                old_clock.advance(SECOND);
                new_clock.advance(SECOND);
                turn += 1;
                if turn > 200 {
                    break;
                }
            }
            assert_eq!(new.snapshot_with_ttl(), old.snapshot_with_ttl());
            assert_eq!((new.validate(), old.validate()), (0, 0));
        }
    }
}

#[test]
fn pairs_and_triples_come_back_too_the_latter_with_lifetimes_of_their_own() {
    let clock = ManualClock::new();
    let cache = timed(10, &clock);
    assert_eq!(cache.restore_blocking([(1, 10), (2, 20)]), 2);
    assert_eq!(cache.restore_blocking([(3, 30, Some(3 * TTL)), (4, 40, None)]), 2);
    let own: Vec<_> = cache.snapshot_with_ttl().iter().map(|saved| saved.own_lifetime).collect();
    assert_eq!(own, [false, false, true, false]);
    clock.advance(TTL);
    assert_eq!(cache.keys(), [3]);
    clock.advance(2 * TTL);
    assert!(cache.keys().is_empty());
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_cache_that_keeps_nothing_restores_nothing() {
    for cache in [Cache::new(0), Cache::builder().ttl(Duration::ZERO).build()] {
        assert_eq!(cache.restore_blocking([(1, 10, None)]), 0);
        assert_eq!(now(cache.restore([(1, 10, None)])), 0);
        assert!(cache.is_empty() && cache.snapshot().is_empty());
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn of_a_key_that_comes_twice_one_entry_is_restored() {
    for cache in [Cache::new(10), timed(10, &ManualClock::new())] {
        assert_eq!(cache.restore_blocking([(1, 10, None), (2, 20, None), (1, 11, None)]), 2);
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_key_that_is_being_loaded_is_left_to_its_load() {
    for cache in [Cache::new(10), timed(10, &ManualClock::new())] {
        let gate = Gate::new();
        let mut leader = hand(cache.get_or_insert_with(1, async || {
            gate.wait().await;
            11
        }));
        assert!(poll(&mut leader).is_pending());
        assert_eq!(cache.restore_blocking([(1, 10, None), (2, 20, None)]), 1);
        // Who comes now joins the load.
        let mut joined = hand(cache.get_or_insert_with(1, async || unreachable!()));
        assert!(poll(&mut joined).is_pending());
        gate.open();
        assert!(poll(&mut leader).is_ready() && poll(&mut joined).is_ready());
        assert_eq!(cache.snapshot(), [(2, 20), (1, 11)]);
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_load_that_will_not_be_cached_keeps_no_entry_from_coming_back() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut leader = hand(cache.get_or_insert_with(1, async || {
        gate.wait().await;
        11
    }));
    assert!(poll(&mut leader).is_pending());
    assert!(cache.invalidate_blocking(&1));
    assert_eq!(cache.restore_blocking([(1, 10, None)]), 1);
    gate.open();
    assert!(poll(&mut leader).is_ready());
    assert_eq!(cache.snapshot(), [(1, 10)]);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn restored_entries_are_measured() {
    let make = || AsyncLru::<u32, String>::builder().shards(1).deep_size().build();
    let entries = (0..100).map(|key| (key, "x".repeat(1_000), None));
    let (inserted, restored) = (make(), make());
    for (key, value, _) in entries.clone() {
        inserted.insert_blocking(key, value);
    }
    assert_eq!(restored.restore_blocking(entries), 100);
    let bytes = |cache: &AsyncLru<u32, String>| cache.stats().total_size_in_memory_bytes;
    assert_eq!(bytes(&restored), bytes(&inserted));
    assert_eq!(restored.validate(), 0);
}

#[test]
fn a_restore_that_is_dropped_at_any_poll_leaves_the_cache_valid() {
    const ENTRIES: u32 = 300;
    for polls in 0.. {
        let clock = ManualClock::new();
        let cache = timed(1_000, &clock);
        // Those that were used last expire first.
        let entries = (0..ENTRIES).map(|key| (key, key, Some(TTL - SECOND / 100 * key)));
        let mut restore = hand(cache.restore(entries));
        let done = (0..polls).any(|_| poll(&mut restore).is_ready());
        drop(restore);
        assert_eq!(cache.validate(), 0);
        assert!(cache.snapshot().into_iter().all(|(key, value)| key == value && key < ENTRIES));
        if done {
            assert_eq!(cache.len(), ENTRIES as usize);
            assert!(polls > 5, "the future awaited on its way");
            return;
        }
        // Others go on meanwhile.
        cache.insert_blocking(5_000, 0);
        clock.advance(TTL);
        assert_eq!(cache.snapshot(), []);
        assert_eq!(cache.purge_expired_blocking(), cache.stats().expirations as usize);
        assert!(cache.is_empty());
    }
}

#[test]
fn entries_come_back_while_other_threads_use_the_cache() {
    const MAXSIZE: usize = 500;
    for ttl in [Duration::MAX, TTL] {
        let cache = Cache::builder().maxsize(MAXSIZE).shards(4).ttl(ttl).build();
        let entries = |round: u32| {
            (0..100).map(move |key| {
                let key = (key * 7 + round) % 1_000;
                (key, key + 1, Some(TTL / (1 + key % 9)))
            })
        };
        assert_eq!(cache.restore_blocking(entries(0)), 100);
        thread::scope(|scope| {
            for thread in 0..2 {
                let cache = &cache;
                scope.spawn(move || {
                    for turn in 0..20_000 {
                        let key = turn * 31 % 1_000;
                        match (turn + thread) % 4 {
                            0 => drop(cache.insert_blocking(key, key + 1)),
                            1 => drop(cache.remove_blocking(&key)),
                            2 => drop(cache.get(&key)),
                            _ => drop(block_on(cache.get_or_insert_with(key, async || key + 1))),
                        }
                        assert!(cache.len() <= MAXSIZE);
                    }
                });
            }
            for round in 0..20 {
                cache.restore_blocking(entries(round));
                let snapshot = cache.snapshot();
                assert!(snapshot.iter().all(|(key, value)| *value == key + 1));
            }
        });
        assert_eq!(cache.validate(), 0);
        let keys = BTreeSet::from_iter(cache.keys());
        assert_eq!(keys.len(), cache.len());
    }
}

#[cfg(feature = "serde")]
mod serde {
    use super::*;
    use serde_json::Value;

    executors! {
        async fn what_is_saved_survives_a_round_trip_through_json_with_what_is_left_of_its_freshness() {
            let clock = ManualClock::new();
            let builder = || Cache::builder().fresh_for(10 * SECOND).ttl(TTL);
            let old = builder().clock(clock.clone()).build();
            old.insert(1, 10).await;
            clock.advance(4 * SECOND);
            let saved = old.snapshot_with_ttl();
            assert_eq!(saved[0].fresh_left, Some(6 * SECOND));
            let json = serde_json::to_string(&saved).unwrap();
            let read: Vec<Saved<u32, u32>> = serde_json::from_str(&json).unwrap();
            assert_eq!(read, saved);
            let clock = ManualClock::new();
            let new = builder().clock(clock.clone()).build();
            assert_eq!(new.restore(read).await, 1);
            assert_eq!(new.snapshot_with_ttl(), saved);
            clock.advance(6 * SECOND);
            assert_eq!(new.get_or_insert_with(1, async || 11).await, 11);
        }

        /// As it was written by a version that kept nothing fresh: it is as fresh as what is new.
        async fn what_was_saved_without_a_word_of_its_freshness_comes_back() {
            let mut saved = serde_json::to_value(saved(1, 10, Some(TTL))).unwrap();
            let Value::Object(fields) = &mut saved else { panic!("{saved} has no fields") };
            assert_eq!(fields.remove("fresh_left"), Some(Value::Null));
            let read: Saved<u32, u32> = serde_json::from_value(saved).unwrap();
            assert_eq!((read.value, read.fresh_left, read.time_left), (10, None, Some(TTL)));
            let clock = ManualClock::new();
            let new = Cache::builder().fresh_for(SECOND).clock(clock.clone()).build();
            assert_eq!(new.restore([read]).await, 1);
            assert_eq!(new.snapshot_with_ttl()[0].fresh_left, Some(SECOND));
            clock.advance(SECOND);
            assert_eq!(new.get_or_insert_with(1, async || 11).await, 11);
        }
    }
}
