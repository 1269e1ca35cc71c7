//! Who leaves a full cache, and that nobody leaves one that is not.

use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::{explore, explore_in_either_order};
use crate::witness::{Mint, builder, number};

/// Two keys of the first shard of two, and two of the second.
const SHARDS: [[u32; 2]; 2] = [[2, 3], [0, 1]];

#[test]
fn an_entry_that_is_hit_is_not_the_victim_of_an_insertion_that_comes_later() {
    explore(|| {
        let (cache, mint) = (builder(2).build(), Mint::default());
        mint.fill(&cache, [1, 2]);
        let hits = scope(|scope| {
            let hits = scope.spawn(|| [1, 2].map(|key| number(cache.get(&key))));
            scope.spawn(|| mint.fill(&cache, [3]));
            hits.join().unwrap()
        });
        // Whoever was found was there before the insertion, and has been used before it.
        let victim = match hits {
            [Some(1), Some(2)] | [None, Some(2)] => 1,
            [Some(1), None] => 2,
            hits => panic!("two victims for one entry: {hits:?}"),
        };
        let left = [1, 2, 3].map(|key| cache.contains_key(&key));
        assert_eq!(left, [victim != 1, victim != 2, true], "{hits:?}");
        assert_eq!((cache.len(), cache.stats().evictions), (2, 1));
        mint.close(cache);
    });
}

#[test]
fn a_victim_that_was_found_before_and_used_since_stays() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, 1..=4);
        // The run that held 1 also holds 2 and 3.
        let hit = scope(|scope| {
            let hit = scope.spawn(|| number(cache.get(&2)));
            scope.spawn(|| mint.fill(&cache, [5]));
            hit.join().unwrap()
        });
        let victim = if hit.is_some() { 3 } else { 2 };
        assert!([2, 3, 4, 5].iter().all(|key| cache.contains_key(key) == (*key != victim)));
        assert_eq!(cache.stats().evictions, 2);
        mint.close(cache);
    });
}

#[test]
fn the_entry_that_a_thread_has_just_used_survives_the_insertions_of_two_others() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, 1..=3);
        let hit = scope(|scope| {
            for key in [4, 5] {
                let (cache, mint) = (&cache, &mint);
                scope.spawn(move || block_on(cache.insert(key, mint.value(key))));
            }
            number(cache.get(&1))
        });
        // Found before both insertions, or between them; then 2 and 3 are older.
        assert_eq!(hit.is_some(), cache.contains_key(&1));
        assert!(cache.contains_key(&4) && cache.contains_key(&5));
        assert_eq!((cache.len(), cache.stats().evictions), (3, 2));
        mint.close(cache);
    });
}

#[test]
fn the_keys_of_these_scenarios_live_in_two_shards_each_with_an_order_of_its_own() {
    explore(|| {
        let (cache, mint) = (builder(4).shards(2).build(), Mint::default());
        let [[a, other_a], [b, other_b]] = SHARDS;
        mint.fill(&cache, [other_b, b, other_a, a]);
        assert_eq!(cache.keys(), [other_a, a, other_b, b]);
        scope(|scope| {
            scope.spawn(|| mint.fill(&cache, SHARDS[0]));
            scope.spawn(|| mint.fill(&cache, SHARDS[1]));
        });
        assert_eq!(cache.keys(), [a, other_a, b, other_b]);
        mint.close(cache);
    });
}

#[test]
fn two_shards_that_take_entries_in_at_once_stay_within_the_bound_of_the_cache() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(2).shards(2).eviction(eviction).build(), Mint::default());
        let [[a, other_a], [b, other_b]] = SHARDS;
        mint.fill(&cache, [a, b]);
        scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [other_a]));
            scope.spawn(|| block_on(cache.insert(other_b, mint.value(other_b))));
            scope.spawn(|| {
                for _ in 0..3 {
                    assert!(cache.len() <= 2);
                }
            });
        });
        assert_eq!((cache.len(), cache.stats().evictions), (2, 2));
        mint.close(cache);
    });
}

#[test]
fn a_shard_without_an_entry_takes_the_room_of_another_while_that_gives_room_back() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(2).shards(2).eviction(eviction).build(), Mint::default());
        let [[a, other_a], [b, other_b]] = SHARDS;
        mint.fill(&cache, [b, other_b]);
        let removed = scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [a]));
            scope.spawn(|| block_on(cache.insert(other_a, mint.value(other_a))));
            [b, other_b].map(|key| cache.remove_blocking(&key)).iter().flatten().count()
        });
        assert!(cache.contains_key(&a) || cache.contains_key(&other_a));
        assert_eq!(cache.len() + cache.stats().evictions as usize + removed, 4);
        mint.close(cache);
    });
}

#[test]
fn a_room_that_an_insertion_does_not_need_any_more_is_given_back() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(2).shards(2).eviction(eviction).build(), Mint::default());
        let [[a, _], others] = SHARDS;
        mint.fill(&cache, others);
        // Both may take the room of an entry of the other shard, and one of them replaces the other's.
        let replaced = scope(|scope| {
            let other = scope.spawn(|| number(cache.insert_blocking(a, mint.value(a))));
            let replaced = [number(cache.insert_blocking(a, mint.value(a)))];
            replaced.into_iter().chain([other.join().unwrap()]).flatten().count()
        });
        assert_eq!(replaced, 1);
        assert_eq!(cache.len() + cache.stats().evictions as usize, 3);
        mint.close(cache);
    });
}

#[test]
fn two_shards_that_want_the_last_room_at_once_evict_one_entry() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(3).shards(2).eviction(eviction).build(), Mint::default());
        let [[a, other_a], [b, other_b]] = SHARDS;
        mint.fill(&cache, [a, b]);
        scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [other_a]));
            scope.spawn(|| block_on(cache.insert(other_b, mint.value(other_b))));
            assert!(cache.len() <= 3);
        });
        assert!(cache.contains_key(&other_a) && cache.contains_key(&other_b));
        assert_eq!((cache.len(), cache.stats().evictions), (3, 1));
        mint.close(cache);
    });
}

#[test]
fn nothing_is_evicted_while_there_is_room_in_any_shard() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(3).shards(2).eviction(eviction).build(), Mint::default());
        let [[a, other_a], [b, other_b]] = SHARDS;
        mint.fill(&cache, [a, b]);
        scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [other_b]));
            scope.spawn(|| {
                assert_eq!(number(cache.remove_blocking(&a)), Some(a));
                mint.fill(&cache, [other_a]);
            });
            scope.spawn(|| assert_eq!(number(cache.get(&b)), Some(b)));
        });
        assert_eq!((cache.len(), cache.stats().evictions), (3, 0));
        mint.close(cache);
    });
}

#[test]
fn a_blocking_insertion_an_async_one_and_a_load_get_by_each_other() {
    explore(|| {
        let (cache, mint) = (builder(2).build(), Mint::default());
        mint.fill(&cache, [1, 2]);
        scope(|scope| {
            scope.spawn(|| assert!(cache.insert_blocking(3, mint.value(3)).is_none()));
            scope.spawn(|| assert!(block_on(cache.insert(4, mint.value(4))).is_none()));
            scope.spawn(|| {
                let load = async || mint.value(5);
                assert_eq!(block_on(cache.get_or_insert_with(5, load)).number, 5);
            });
        });
        assert_eq!((cache.len(), cache.stats().evictions), (2, 3));
        assert!(cache.keys().iter().all(|key| (3..=5).contains(key)));
        mint.close(cache);
    });
}
