//! Bounds by weight and by bytes, beside the number of entries or instead of it, and moving them while
//! the cache is in use.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Eviction, ManualClock, Update};
use common::{Calls, Gate, hand, now, poll};
use futures_lite::future::zip;

type Cache = AsyncLru<u32, u64>;

const TTL: Duration = Duration::from_secs(1);

/// A cache in one order whose values say themselves what they weigh.
fn weighed(max_weight: u64) -> Builder<u32, u64> {
    Cache::builder().shards(1).max_weight(max_weight, |_, value| *value)
}

fn weight(cache: &Cache) -> u64 {
    cache.stats().current_weight.expect("the cache weighs its entries")
}

/// What an entry weighs, and its bytes.
type Load = (u64, usize);

/// A cache in one order whose values say themselves what they weigh and how many bytes they have.
fn weighed_and_measured(max_weight: u64, max_bytes: u64) -> AsyncLru<u32, Load> {
    AsyncLru::builder()
        .shards(1)
        .max_weight(max_weight, |_, (weight, _): &Load| *weight)
        .max_bytes_with(max_bytes, |_, (_, bytes)| *bytes)
        .build()
}

executors! {
    async fn a_heavy_entry_evicts_as_many_as_it_takes_and_the_least_recently_used_first() {
        let cache = weighed(10).build();
        for key in 0..5 {
            cache.insert(key, 2).await;
        }
        cache.get(&0);
        cache.insert(5, 5).await;
        assert_eq!(cache.keys(), [4, 0, 5]);
        assert_eq!((weight(&cache), cache.stats().evictions), (9, 3));
        cache.insert(6, 1).await;
        assert_eq!(cache.keys(), [4, 0, 5, 6], "as long as there is room, nothing goes");
        assert_eq!(cache.validate(), 0);
    }

    async fn an_entry_that_cannot_fit_is_given_to_all_its_callers_and_evicts_nothing() {
        let cache = weighed(10).build();
        cache.insert(1, 4).await;
        cache.insert(2, 6).await;
        let gate = Gate::new();
        let load = async || {
            gate.wait().await;
            11
        };
        let leader = cache.get_or_insert_with(3, load);
        let waiter = cache.get_or_insert_with(3, async || unreachable!("it waits for the other"));
        let opened = async { gate.open() };
        assert_eq!(zip(zip(leader, waiter), opened).await.0, (11, 11));
        assert_eq!(cache.get_detached(3, async || 12).await, 12);
        assert_eq!(cache.update_with(3, async |_| Update::Put(13)).await, Some(13));
        let loaded = cache.get_or_insert_many([3], async |_| [(3, 14)]).await;
        assert_eq!(loaded, [(3, Some(14))]);
        assert_eq!(cache.insert(3, 15).await, None);
        assert_eq!(cache.keys(), [1, 2]);
        assert_eq!((cache.stats().evictions, weight(&cache)), (0, 10));
        assert_eq!(cache.validate(), 0);
    }

    async fn a_value_that_cannot_fit_makes_the_one_before_it_go() {
        let cache = weighed(10).build();
        cache.insert(1, 4).await;
        assert_eq!(cache.insert(1, 11).await, Some(4));
        assert_eq!(cache.get(&1), None);

        cache.insert(1, 4).await;
        assert_eq!(cache.update_with(1, async |_| Update::Put(11)).await, Some(11));
        assert_eq!((cache.get(&1), weight(&cache)), (None, 0));
        assert_eq!(cache.validate(), 0);
    }

    async fn an_update_that_puts_a_value_without_a_lifetime_makes_the_one_before_it_go() {
        let lifetime = |_: &u32, value: &u64| (*value == 0).then_some(Duration::ZERO);
        let cache = Cache::builder().expiry(lifetime).build();
        cache.insert(1, 4).await;
        assert_eq!(cache.update_with(1, async |_| Update::Put(0)).await, Some(0));
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.validate(), 0);
    }

    async fn an_insertion_that_cannot_fit_wins_over_a_load_all_the_same() {
        let cache = weighed(10).build();
        let gate = Gate::new();
        let load = cache.get_or_insert_with(1, async || {
            gate.wait().await;
            5
        });
        let insert = async {
            cache.insert(1, 11).await;
            gate.open();
        };
        assert_eq!(zip(load, insert).await.0, 5);
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.validate(), 0);
    }

    async fn weights_of_nothing_and_of_everything_are_weights() {
        let cache = weighed(u64::MAX).build();
        for key in 0..100 {
            cache.insert(key, 0).await;
        }
        assert_eq!((cache.len(), weight(&cache)), (100, 0));
        cache.insert(100, u64::MAX).await;
        assert_eq!((cache.len(), weight(&cache)), (101, u64::MAX));
        cache.insert(101, 0).await;
        assert_eq!(cache.len(), 102, "what weighs nothing always fits");
        cache.insert(102, 1).await;
        assert_eq!(cache.get(&100), None, "and what weighs anything does not");
        assert_eq!(cache.get(&102), Some(1));

        let nothing = weighed(0).build();
        nothing.insert(1, 0).await;
        nothing.insert(2, 1).await;
        assert_eq!(nothing.keys(), [1]);
        assert_eq!((cache.validate(), nothing.validate()), (0, 0));
    }

    async fn what_weighs_nothing_is_not_evicted_for_want_of_weight() {
        for shards in [1, 8] {
            let cache = weighed(1_000).shards(shards).build();
            for key in 0..10_000 {
                cache.insert(key, 0).await;
            }
            cache.insert(10_000, 1_000).await;
            assert_eq!((cache.len(), cache.stats().evictions), (10_001, 0), "{shards} shards");
            cache.insert(10_001, 1).await;
            assert_eq!((cache.len(), cache.stats().evictions), (10_001, 1));
            assert_eq!((cache.get(&10_000), cache.get(&10_001)), (None, Some(1)));
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn of_those_that_weigh_something_the_least_recently_used_go_first() {
        let cache = weighed(10).build();
        for (key, value) in [(1, 0), (2, 3), (3, 0), (4, 3), (5, 3), (6, 0)] {
            cache.insert(key, value).await;
        }
        cache.get(&2);
        cache.insert(7, 5).await;
        assert_eq!(cache.keys(), [1, 3, 6, 2, 7]);
        cache.insert(8, 10).await;
        assert_eq!(cache.keys(), [1, 3, 6, 8]);
        assert_eq!(cache.stats().evictions, 4);
        assert_eq!(cache.validate(), 0);
    }

    async fn what_takes_nothing_of_the_bound_that_is_short_stays() {
        let cache = weighed_and_measured(10, 10);
        for (key, load) in [(1, (0, 0)), (2, (0, 5)), (3, (5, 0)), (4, (5, 5))] {
            cache.insert(key, load).await;
        }
        cache.insert(5, (0, 5)).await;
        assert_eq!(cache.keys(), [1, 3, 4, 5], "2 goes for its bytes");
        cache.insert(6, (5, 0)).await;
        assert_eq!(cache.keys(), [1, 4, 5, 6], "3 goes for its weight");
        cache.insert(7, (10, 10)).await;
        assert_eq!(cache.keys(), [1, 7]);
        let stats = cache.stats();
        assert_eq!((stats.evictions, stats.current_weight, stats.current_bytes), (5, Some(10), Some(10)));
        assert_eq!(cache.validate(), 0);
    }

    async fn an_entry_that_makes_room_of_one_bound_makes_it_of_the_other_too() {
        let cache = weighed_and_measured(10, 10);
        for (key, load) in [(1, (0, 4)), (2, (10, 6))] {
            cache.insert(key, load).await;
        }
        cache.insert(3, (1, 6)).await;
        assert_eq!(cache.keys(), [1, 3], "2 goes for its weight, and its bytes are enough");
        assert_eq!(cache.validate(), 0);
    }

    async fn where_entries_are_short_the_oldest_goes_though_it_weighs_nothing() {
        let cache = weighed(10).maxsize(3).build();
        for (key, value) in [(1, 0), (2, 5), (3, 0)] {
            cache.insert(key, value).await;
        }
        cache.insert(4, 5).await;
        assert_eq!(cache.keys(), [2, 3, 4]);
        cache.insert(5, 5).await;
        assert_eq!(cache.keys(), [3, 4, 5]);
        assert_eq!(cache.set_maxsize(2).await, 1);
        assert_eq!(cache.keys(), [4, 5]);
        assert_eq!(cache.validate(), 0);
    }

    async fn an_entry_weighs_something_or_nothing_by_the_value_that_it_has_now() {
        let cache = weighed(10).build();
        for (key, value) in [(1, 0), (2, 4), (3, 4), (4, 0)] {
            cache.insert(key, value).await;
        }
        assert_eq!(cache.insert(2, 0).await, Some(4));
        assert_eq!(cache.insert(1, 6).await, Some(0));
        assert_eq!((cache.keys(), cache.stats().evictions), (vec![3, 4, 2, 1], 0));
        cache.insert(5, 4).await;
        assert_eq!(cache.keys(), [4, 2, 1, 5]);
        cache.insert(6, 1).await;
        assert_eq!(cache.keys(), [4, 2, 5, 6]);
        cache.remove(&5).await;
        cache.insert(5, 0).await;
        cache.insert(7, 10).await;
        assert_eq!((cache.keys(), cache.stats().evictions), (vec![4, 2, 5, 7], 3));
        assert_eq!(cache.validate(), 0);
    }

    async fn a_heavier_value_of_a_key_evicts_none_that_weighs_nothing() {
        let cache = weighed(10).build();
        for (key, value) in [(1, 5), (2, 0), (3, 5), (4, 0)] {
            cache.insert(key, value).await;
        }
        assert_eq!(cache.insert(1, 6).await, Some(5));
        assert_eq!((cache.keys(), cache.stats().evictions), (vec![2, 4, 1], 1));
        assert_eq!(cache.insert(4, 10).await, Some(0));
        assert_eq!((cache.keys(), cache.stats().evictions), (vec![2, 4], 2));
        assert_eq!(cache.validate(), 0);
    }

    async fn a_lowered_bound_evicts_none_that_takes_nothing_of_it() {
        let cache = weighed_and_measured(100, 100);
        for key in 0..10 {
            cache.insert(3 * key, (0, 0)).await;
            cache.insert(3 * key + 1, (10, 0)).await;
            cache.insert(3 * key + 2, (0, 10)).await;
        }
        assert_eq!(cache.set_max_weight(35).await, 7);
        assert_eq!(cache.set_max_bytes(0).await, 10);
        let stats = cache.stats();
        assert_eq!((stats.current_weight, stats.current_bytes), (Some(30), Some(0)));
        let left: Vec<u32> = cache.keys().into_iter().filter(|key| key % 3 > 0).collect();
        assert_eq!((cache.len(), left), (13, vec![22, 25, 28]));
        assert_eq!(cache.set_max_weight(0).await, 3);
        assert_eq!(cache.len(), 10);
        assert_eq!(cache.validate(), 0);
    }

    async fn a_cache_that_has_been_cleared_knows_no_more_what_weighed_nothing() {
        let cache = weighed(10).build();
        for value in [0, 10, 0] {
            cache.insert(value as u32, value).await;
        }
        cache.clear().await;
        for (key, value) in [(1, 5), (2, 5), (3, 0), (4, 5)] {
            cache.insert(key, value).await;
        }
        assert_eq!((cache.keys(), cache.stats().evictions), (vec![2, 3, 4], 1));
        assert_eq!(cache.validate(), 0);
    }

    async fn what_has_expired_makes_room_by_weight_though_some_weigh_nothing() {
        for shards in [1, 8] {
            let clock = ManualClock::new();
            let cache = weighed(20).shards(shards).clock(clock.clone()).build();
            for key in 0..10 {
                cache.insert(100 + key, 0).await;
                cache.insert(200 + key, 1).await;
                cache.insert_with_ttl(300 + key, 0, TTL).await;
                cache.insert_with_ttl(key, 1, TTL).await;
            }
            clock.advance(TTL);
            cache.insert(400, 10).await;
            assert_eq!(cache.stats().evictions, 0, "{shards} shards");
            cache.purge_expired().await;
            assert_eq!((cache.len(), weight(&cache)), (21, 20));
            cache.insert(401, 20).await;
            assert!((100..110).all(|key| cache.contains_key(&key)));
            assert_eq!((cache.len(), weight(&cache)), (11, 20));
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn a_weight_is_taken_once_and_remembered() {
        let weighings = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&weighings);
        let weigher = move |_: &u32, value: &Arc<AtomicU64>| {
            counted.fetch_add(1, Ordering::Relaxed);
            value.load(Ordering::Relaxed)
        };
        let cache = AsyncLru::<u32, Arc<AtomicU64>>::builder().max_weight(10, weigher).build();
        let value = Arc::new(AtomicU64::new(4));
        cache.insert(1, Arc::clone(&value)).await;
        value.store(1_000, Ordering::Relaxed);
        assert!(cache.get(&1).is_some());
        assert_eq!(cache.stats().current_weight, Some(4));
        cache.remove(&1).await;
        assert_eq!(cache.stats().current_weight, Some(0));
        cache.get_or_insert_with(2, async || Arc::new(AtomicU64::new(10))).await;
        assert_eq!(weighings.load(Ordering::Relaxed), 2, "one for each publication");
        assert_eq!(cache.validate(), 0);
    }

    async fn all_bounds_hold_at_once() {
        let cache = AsyncLru::<u32, Vec<u8>>::builder()
            .maxsize(4)
            .max_weight(10, |key, _| u64::from(*key))
            .max_bytes_with(1_000, |_, value| value.len())
            .shards(1)
            .build();
        let bytes = |len| vec![0; len];
        for key in [1, 1, 2, 3, 1] {
            cache.insert(key, bytes(10)).await;
        }
        cache.insert(0, bytes(10)).await;
        assert_eq!(cache.keys(), [2, 3, 1, 0]);
        cache.insert(7, bytes(10)).await;
        assert_eq!(cache.keys(), [1, 0, 7], "by weight, two had to go");
        cache.insert(0, bytes(981)).await;
        assert_eq!(cache.keys(), [7, 0], "and by bytes, one");
        let stats = cache.stats();
        assert_eq!((stats.current_weight, stats.current_bytes), (Some(7), Some(991)));
        assert_eq!((stats.max_weight, stats.max_bytes, stats.max_size), (Some(10), Some(1_000), Some(4)));
        assert_eq!(cache.validate(), 0);
    }

    async fn a_bound_by_bytes_goes_by_what_keys_and_values_own_or_by_a_measure() {
        let measured = Cache::builder().max_bytes_with(100, |_, _| 20).shards(1).build();
        let shallow = Cache::builder().max_bytes(100).shards(1).build();
        let deep = AsyncLru::<u32, String>::builder().max_bytes(100).shards(1).build();
        for key in 0..100 {
            measured.insert(key, 0).await;
            shallow.insert(key, 0).await;
            deep.insert(key, "x".repeat(20)).await;
        }
        assert_eq!(measured.len(), 100 / 20);
        assert_eq!(shallow.len(), 100 / (4 + 8));
        assert_eq!(deep.len(), 100 / (4 + 24 + 20));
        let validated = [measured.validate(), shallow.validate(), deep.validate()];
        assert_eq!(validated, [0; 3]);
    }

    async fn a_heavier_value_of_a_key_evicts_others_and_a_lighter_one_gives_room_back() {
        let cache = weighed(10).build();
        for (key, value) in [(1, 3), (2, 3), (3, 3)] {
            cache.insert(key, value).await;
        }
        assert_eq!(cache.insert(1, 6).await, Some(3), "the oldest, but about to be the newest");
        assert_eq!((cache.keys(), weight(&cache)), (vec![3, 1], 9));
        assert_eq!(cache.insert(1, 10).await, Some(6));
        assert_eq!((cache.keys(), weight(&cache)), (vec![1], 10));
        assert_eq!(cache.insert(1, 1).await, Some(10));
        assert_eq!(weight(&cache), 1);
        assert_eq!(cache.stats().evictions, 2);
        assert_eq!(cache.validate(), 0);
    }

    async fn what_has_expired_makes_room_before_what_lives_in_whatever_shard() {
        for shards in [1, 8] {
            let clock = ManualClock::new();
            let builder = weighed(20).shards(shards).clock(clock.clone());
            let cache = builder.build();
            for key in 0..10 {
                cache.insert(100 + key, 1).await;
                cache.insert_with_ttl(key, 1, TTL).await;
            }
            clock.advance(TTL);
            cache.insert(200, 10).await;
            assert_eq!(cache.stats().evictions, 0, "{shards} shards");
            assert_eq!((cache.len(), weight(&cache)), (11, 20));
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn a_restore_takes_what_has_room_by_weight() {
        let cache = weighed(10).build();
        cache.insert(1, 4).await;
        let entries = [(2, 1, None), (3, 4, None), (4, 100, None), (5, 2, None)];
        assert_eq!(cache.restore(entries).await, 2, "the most recently used that fit");
        assert_eq!((cache.keys(), weight(&cache)), (vec![1, 3, 5], 10));
        assert_eq!(cache.stats().evictions, 0);
        assert_eq!(cache.validate(), 0);
    }

    async fn every_way_out_gives_the_weight_back() {
        let clock = ManualClock::new();
        let cache = weighed(100).clock(clock.clone()).build();
        let ways: [fn(&Cache); 6] = [
            |cache| assert_eq!(cache.remove_blocking(&1), Some(60)),
            |cache| assert!(cache.invalidate_blocking(&1)),
            |cache| assert_eq!(cache.invalidate_if_blocking(|_, _| true), 1),
            |cache| cache.clear_blocking(),
            |cache| assert_eq!(now(cache.update_with(1, async |_| Update::Remove)), None),
            |cache| assert_eq!(cache.set_max_weight_blocking(0), 1),
        ];
        for way in ways {
            cache.insert(1, 60).await;
            way(&cache);
            assert_eq!((cache.len(), weight(&cache)), (0, 0));
        }
        cache.set_max_weight(100).await;
        cache.insert_with_ttl(1, 60, TTL).await;
        clock.advance(TTL);
        assert_eq!(weight(&cache), 60);
        assert_eq!(cache.purge_expired().await, 1);
        assert_eq!(weight(&cache), 0);
        assert_eq!(cache.validate(), 0);
    }

    async fn a_lowered_bound_evicts_in_the_order_of_use() {
        let cache = Cache::builder().maxsize(1_000).shards(1).build();
        for key in 0..1_000 {
            cache.insert(key, 0).await;
        }
        for key in 0..500 {
            cache.get(&key);
        }
        assert_eq!(cache.set_maxsize(600).await, 400);
        let expected: Vec<u32> = (900..1_000).chain(0..500).collect();
        assert_eq!(cache.keys(), expected);
        assert_eq!((cache.info().maxsize, cache.stats().evictions), (600, 400));
        cache.insert(2_000, 0).await;
        assert_eq!(cache.len(), 600);
        assert_eq!(cache.set_maxsize(0).await, 600);
        assert_eq!(cache.get_or_insert_with(1, async || 10).await, 10);
        assert!(cache.is_empty());
        assert_eq!(cache.set_maxsize(usize::MAX).await, 0);
        cache.insert(1, 10).await;
        assert_eq!(cache.get(&1), Some(10));
        assert_eq!(cache.validate(), 0);
    }

    async fn a_lowered_bound_takes_from_all_shards_and_what_has_expired_first() {
        let clock = ManualClock::new();
        let cache = Cache::builder().maxsize(1_000).shards(8).clock(clock.clone()).build();
        for key in 0..500 {
            cache.insert(key, 0).await;
            cache.insert_with_ttl(1_000 + key, 0, TTL).await;
        }
        clock.advance(TTL);
        assert_eq!(cache.set_maxsize(400).await, 100);
        let stats = cache.stats();
        assert_eq!((stats.current_size, stats.evictions, stats.expirations), (400, 100, 500));
        assert_eq!(cache.validate(), 0);
    }

    async fn a_bound_by_bytes_can_be_moved() {
        let builder = Cache::builder().max_bytes_with(1_000, |_, value| *value as usize);
        let cache = builder.shards(1).build();
        for key in 0..10 {
            cache.insert(key, 100).await;
        }
        assert_eq!(cache.set_max_bytes(250).await, 8);
        assert_eq!((cache.keys(), cache.info().max_bytes), (vec![8, 9], Some(250)));
        assert_eq!(cache.validate(), 0);
    }

    async fn a_bound_that_a_cache_does_not_have_cannot_be_moved() {
        let cache = Cache::new(10);
        cache.insert(1, 10).await;
        assert_eq!(cache.set_max_weight(0).await, 0);
        assert_eq!(cache.set_max_bytes(0).await, 0);
        assert_eq!(cache.get(&1), Some(10));
        let info = cache.info();
        assert_eq!((info.max_weight, info.max_bytes), (None, None));
    }
}

/// The bound comes down with each entry that leaves.
#[test]
fn a_lowering_that_is_dropped_or_leaked_at_any_poll_leaves_a_bound_that_holds() {
    for is_leaked in [false, true] {
        let mut last_bound = None;
        for polls in 0.. {
            let cache = Cache::builder().maxsize(1_000).shards(1).build();
            for key in 0..1_000 {
                cache.insert_blocking(key, 0);
            }
            let mut lowering = hand(cache.set_maxsize(10));
            let is_done = (0..polls).any(|_| poll(&mut lowering).is_ready());
            let bound = cache.info().maxsize;
            assert_eq!(cache.len(), bound);
            assert!(last_bound.is_none_or(|last| bound < last), "each poll takes it further");
            last_bound = Some(bound);
            if is_leaked {
                std::mem::forget(lowering);
            } else {
                drop(lowering);
            }
            for key in 0..100 {
                cache.insert_blocking(2_000 + key, 0);
                assert_eq!(cache.len(), bound);
            }
            assert_eq!(now(cache.get_or_insert_with(1, async || 10)), 10);
            assert_eq!(cache.validate(), 0);
            if is_done {
                assert_eq!(bound, 10);
                break;
            }
        }
    }
}

/// Against a list that is looked through from end to end.
#[test]
fn the_victims_are_the_oldest_that_help_among_hundreds() {
    const MAX: Load = (2_000, 2_000);
    for light in [0, 1, 3, 50, 100] {
        let cache = weighed_and_measured(MAX.0, MAX.1 as u64);
        let mut random = fastrand::Rng::with_seed(light);
        let mut model: Vec<(u32, Load)> = Vec::new();
        for _ in 0..5_000 {
            let key = random.u32(0..2_000);
            if let Some(place) = model.iter().position(|(other, _)| *other == key) {
                let old = model.remove(place);
                assert_eq!(cache.get(&key), Some(old.1));
                model.push(old);
            } else {
                let mut part = || if random.u64(0..100) < light { 0 } else { random.u64(1..20) };
                let load = (part(), part() as usize);
                cache.insert_blocking(key, load);
                make_room(&mut model, (MAX.0 - load.0, MAX.1 - load.1));
                model.push((key, load));
            }
        }
        let left: Vec<u32> = model.iter().map(|(key, _)| *key).collect();
        assert_eq!(cache.keys(), left, "{light} of 100 take nothing");
        assert_eq!(cache.validate(), 0);
    }
}

/// Removes the oldest that weighs something, as long as all are too heavy, then the oldest that has
/// bytes.
fn make_room(entries: &mut Vec<(u32, Load)>, max: Load) {
    let mut remove = |is_short: fn(Load, Load) -> bool, helps: fn(Load) -> bool| {
        let sum = |entries: &[(u32, Load)]| {
            entries.iter().fold((0, 0), |sum, (_, load)| (sum.0 + load.0, sum.1 + load.1))
        };
        while is_short(sum(entries), max) {
            let oldest = entries.iter().position(|(_, load)| helps(*load)).unwrap();
            entries.remove(oldest);
        }
    };
    remove(|sum, max| sum.0 > max.0, |load| load.0 > 0);
    remove(|sum, max| sum.1 > max.1, |load| load.1 > 0);
}

#[test]
fn a_value_that_can_never_fit_frees_no_more_than_any_write() {
    let clock = ManualClock::new();
    let cache = weighed(100).ttl(TTL).clock(clock.clone()).build();
    for key in 0..100 {
        cache.insert_blocking(key, 1);
    }
    clock.advance(TTL);
    cache.insert_blocking(100, 101);
    assert!((90..100).contains(&cache.len()), "{} are left", cache.len());
    assert_eq!(cache.validate(), 0);
}

/// A cache of these weights by key, in an adaptive order.
fn adaptive(max_weight: u64, weights: impl IntoIterator<Item = (u32, u64)>) -> Cache {
    let cache = weighed(max_weight).eviction(Eviction::Adaptive).build();
    for (key, weight) in weights {
        cache.insert_blocking(key, weight);
    }
    cache
}

/// One whose only hot entry is of key 0 and takes more than the hot may have, so that others are cold.
fn one_hot(max_weight: u64, weight: u64) -> Cache {
    let cache = adaptive(max_weight, [(99, weight / 10), (0, weight)]);
    cache.remove_blocking(&99);
    cache
}

#[test]
fn room_for_a_heavier_value_is_not_made_of_the_one_before_it_wherever_that_stands() {
    // Alone in the queue, and the hot one has to go.
    let cache = adaptive(10, [(1, 1), (2, 9)]);
    assert_eq!((cache.insert_blocking(1, 2), cache.keys()), (Some(1), vec![1]));
    assert_eq!(cache.validate(), 0);

    // Hot, beside one that was used more often.
    let cache = adaptive(10, [(1, 1), (2, 4), (3, 4)]);
    cache.remove_blocking(&1);
    (0..3).for_each(|_| assert_eq!(cache.get(&2), Some(4)));
    assert_eq!((cache.insert_blocking(3, 7), cache.keys()), (Some(4), vec![3]));
    assert_eq!(cache.validate(), 0);

    // The only hot one, of more than the hot may have.
    let cache = one_hot(110, 100);
    cache.insert_blocking(1, 1);
    assert_eq!((cache.insert_blocking(0, 110), cache.keys()), (Some(100), vec![0]));
    assert_eq!(cache.validate(), 0);

    // Next in the queue when as many have had another turn as there may be, and nothing is hot.
    let cache = one_hot(2_000, 1_000);
    (1..=17).for_each(|key| _ = cache.insert_blocking(key, 1));
    (1..=16).for_each(|key| assert_eq!(cache.get(&key), Some(1)));
    cache.remove_blocking(&0);
    assert_eq!(cache.insert_blocking(17, 1_990), Some(1));
    assert_eq!((cache.len(), cache.peek(&17)), (11, Some(1_990)));
    assert_eq!(cache.validate(), 0);
}

/// Entries of all weights by several threads, bounds that go up and down, and one who looks.
#[test]
fn no_bound_is_exceeded_at_any_moment() {
    const MAX: u64 = 1_000;
    let orders = [Eviction::Lru, Eviction::Adaptive];
    for (shards, eviction) in [1, 4].into_iter().flat_map(|shards| orders.map(|of| (shards, of))) {
        let cache = Cache::builder()
            .shards(shards)
            .eviction(eviction)
            .maxsize(100)
            .max_weight(MAX, |_, value| *value)
            .max_bytes_with(MAX, |_, value| (*value / 2) as usize)
            .build();
        thread::scope(|scope| {
            for seed in 1..=3_u64 {
                let cache = &cache;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..3_000 {
                        let key = random.u32(0..200);
                        match random.u32(0..10) {
                            0 => drop(cache.remove_blocking(&key)),
                            1 => drop(cache.set_max_weight_blocking(random.u64(0..MAX))),
                            2 => drop(cache.set_maxsize_blocking(random.usize(0..100))),
                            _ => drop(cache.insert_blocking(key, random.u64(0..MAX / 4))),
                        }
                    }
                });
            }
            for _ in 0..3_000 {
                let stats = cache.stats();
                assert!(stats.current_size <= 100);
                assert!(stats.current_weight <= stats.max_weight && stats.max_weight <= Some(MAX));
                assert!(stats.current_bytes <= stats.max_bytes);
            }
        });
        assert_eq!(cache.validate(), 0);
        let weights: u64 = cache.snapshot().into_iter().map(|(_, value)| value).sum();
        assert_eq!(weights, weight(&cache));
    }
}

#[test]
fn two_heavy_entries_at_a_time_do_not_keep_each_other_out() {
    let cache = weighed(10).shards(2).build();
    thread::scope(|scope| {
        for key in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for _ in 0..1_000 {
                    cache.insert_blocking(key, 7);
                    assert!(cache.len() <= 1);
                }
            });
        }
    });
    assert_eq!((cache.len(), weight(&cache)), (1, 7));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn the_configuration_tells_all_bounds() {
    let info = weighed(500).max_bytes(1_048_576).build().info();
    assert_eq!((info.max_weight, info.max_bytes), (Some(500), Some(1_048_576)));
    let bounds = "at most weight 500, 1.00 MB in 1 shard, no time to live";
    assert_eq!(info.to_string(), bounds);
    assert_eq!(weighed(500).maxsize(7).build().info().maxsize, 7);
    let unbounded = Cache::builder().max_weight(u64::MAX, |_, _| 1).build().info();
    assert_eq!((unbounded.max_weight, unbounded.maxsize), (Some(u64::MAX), 2_147_483_647));
}

#[test]
fn a_wrapped_function_may_weigh_its_answers() {
    let builder = weighed(10).key_extractor(|args: &(u32, u64)| args.0);
    let memo = builder.wrap(async |(_, weight): (u32, u64)| weight);
    for key in 0..3 {
        assert_eq!(now(memo.call((key, 5))), 5);
    }
    assert_eq!(memo.cache().keys(), [1, 2]);
}
