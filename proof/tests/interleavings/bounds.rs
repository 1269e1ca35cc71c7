//! Bounds by weight, and bounds that are moved, while others write.

use async_lru::Eviction;
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::{explore, explore_in_either_order};
use crate::witness::{Cache, Hasher, Mint, Value, builder, number};

/// A cache whose values weigh as much as their numbers say.
fn weighed(max_weight: u64, shards: usize) -> async_lru::Builder<u32, Value, Hasher> {
    builder(100).shards(shards).max_weight(max_weight, |_, value| value.number.into())
}

/// Asserts that nothing is above its bound.
fn check_bounds(cache: &Cache) {
    let stats = cache.stats();
    assert!(stats.max_size.is_none_or(|max| stats.current_size <= max));
    assert!(stats.current_weight <= stats.max_weight);
}

#[test]
fn two_heavy_entries_that_do_not_fit_together_never_are() {
    explore_in_either_order(|eviction| two_heavy_entries(eviction, 1));
    explore_in_either_order(|eviction| two_heavy_entries(eviction, 2));
}

fn two_heavy_entries(eviction: Eviction, shards: usize) {
    let (cache, mint) = (weighed(10, shards).eviction(eviction).build(), Mint::default());
    scope(|scope| {
        for key in [0, 1] {
            let (cache, mint) = (&cache, &mint);
            scope.spawn(move || block_on(cache.insert(key, mint.value(6 + key))));
        }
        check_bounds(&cache);
    });
    assert_eq!(cache.len(), 1);
    mint.close(cache);
}

#[test]
fn a_heavy_insertion_evicts_no_entry_that_was_used_before_it_while_older_ones_make_room() {
    explore(|| {
        let (cache, mint) = (weighed(10, 1).build(), Mint::default());
        for key in [3, 4] {
            cache.insert_blocking(key, mint.value(key));
        }
        cache.insert_blocking(1, mint.value(1));
        let hit = scope(|scope| {
            let hit = scope.spawn(|| number(cache.get(&3)));
            scope.spawn(|| cache.insert_blocking(5, mint.value(5)));
            hit.join().unwrap()
        });
        // Without the hit, 3 goes and makes room enough; after it, 4 does.
        let victim = if hit.is_some() { 4 } else { 3 };
        let left = [1, 3, 4, 5].map(|key| cache.contains_key(&key));
        assert_eq!(left, [true, victim != 3, victim != 4, true]);
        assert_eq!(cache.stats().evictions, 1);
        mint.close(cache);
    });
}

#[test]
fn a_heavier_value_of_a_key_is_there_or_the_one_before_it() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (weighed(10, 1).eviction(eviction).build(), Mint::default());
        for key in [2, 3, 4] {
            cache.insert_blocking(key, mint.value(key));
        }
        scope(|scope| {
            scope.spawn(|| block_on(cache.insert(2, mint.value(8))));
            let seen = number(cache.get(&2));
            assert!(matches!(seen, Some(2 | 8)), "{seen:?}");
            check_bounds(&cache);
        });
        assert_eq!(number(cache.peek(&2)), Some(8));
        assert_eq!(cache.keys(), [2]);
        mint.close(cache);
    });
}

#[test]
fn what_weighs_nothing_stays_though_it_comes_while_room_is_made() {
    explore(|| {
        let (cache, mint) = (weighed(10, 1).build(), Mint::default());
        for (key, weight) in [(0, 0), (3, 3), (4, 4), (1, 3)] {
            cache.insert_blocking(key, mint.value(weight));
        }
        scope(|scope| {
            scope.spawn(|| block_on(cache.insert(5, mint.value(5))));
            scope.spawn(|| cache.insert_blocking(3, mint.value(0)));
            check_bounds(&cache);
        });
        // Before its lighter value comes, 3 may go, but 4 has to go as well.
        let left = [0, 1, 3, 4, 5].map(|key| number(cache.peek(&key)));
        assert_eq!(left, [Some(0), Some(3), Some(0), None, Some(5)]);
        assert!((1..=2).contains(&cache.stats().evictions));
        mint.close(cache);
    });
}

#[test]
fn a_shard_whose_entries_weigh_nothing_takes_the_room_of_another() {
    explore_in_either_order(|eviction| {
        // Two keys of the first shard, and two of the second.
        let (cache, mint) = (weighed(10, 2).eviction(eviction).build(), Mint::default());
        for (key, weight) in [(0, 0), (1, 0), (2, 9)] {
            cache.insert_blocking(key, mint.value(weight));
        }
        let replaced = scope(|scope| {
            scope.spawn(|| block_on(cache.insert(6, mint.value(5))));
            let replaced = scope.spawn(|| number(cache.insert_blocking(2, mint.value(0))));
            check_bounds(&cache);
            replaced.join().unwrap()
        });
        assert_eq!([0, 1, 2, 6].map(|key| number(cache.peek(&key))), [0, 0, 0, 5].map(Some));
        assert_eq!(cache.stats().evictions, u64::from(replaced.is_none()));
        mint.close(cache);
    });
}

#[test]
fn a_bound_that_comes_down_holds_at_every_moment_and_evicts_no_more_than_it_must() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(3).eviction(eviction).build(), Mint::default());
        mint.fill(&cache, [0, 1, 2]);
        scope(|scope| {
            scope.spawn(|| block_on(cache.set_maxsize(1)));
            scope.spawn(|| cache.insert_blocking(6, mint.value(6)));
            check_bounds(&cache);
            check_bounds(&cache);
        });
        let stats = cache.stats();
        assert_eq!((stats.current_size, stats.max_size, stats.evictions), (1, Some(1), 3));
        mint.close(cache);
    });
}

#[test]
fn a_bound_by_weight_that_comes_down_holds_while_an_entry_gets_heavier() {
    explore(|| {
        let (cache, mint) = (weighed(10, 1).build(), Mint::default());
        for key in [2, 3, 4] {
            cache.insert_blocking(key, mint.value(key));
        }
        scope(|scope| {
            scope.spawn(|| cache.set_max_weight_blocking(5));
            scope.spawn(|| block_on(cache.insert(4, mint.value(5))));
            check_bounds(&cache);
        });
        let stats = cache.stats();
        assert_eq!(stats.max_weight, Some(5));
        assert!(stats.current_weight <= Some(5));
        assert_eq!(number(cache.peek(&4)), Some(5), "it fits, and is the newest");
        mint.close(cache);
    });
}

#[test]
fn two_who_move_a_bound_at_once_leave_it_where_one_of_them_wants_it() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(3).eviction(eviction).build(), Mint::default());
        mint.fill(&cache, [0, 1, 2]);
        scope(|scope| {
            scope.spawn(|| cache.set_maxsize_blocking(1));
            scope.spawn(|| cache.set_maxsize_blocking(4));
        });
        let stats = cache.stats();
        assert!([Some(1), Some(4)].contains(&stats.max_size));
        assert!(stats.max_size.is_none_or(|max| stats.current_size <= max));
        mint.close(cache);
    });
}

/// Has an entry inserted as it is dropped.
struct Inserts(Option<async_lru::AsyncLru<u32, Inserts, Hasher>>);

impl Clone for Inserts {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Drop for Inserts {
    fn drop(&mut self) {
        if let Some(cache) = self.0.take() {
            cache.insert_blocking(3, Inserts(None));
        }
    }
}

#[test]
fn a_victim_whose_drop_inserts_finds_its_room_although_the_entry_that_it_left_for_was_kept_out() {
    explore(|| {
        let builder = async_lru::AsyncLru::<u32, Inserts>::builder().hasher(Hasher::default());
        let cache = builder.maxsize(1).shards(2).build();
        cache.insert_blocking(2, Inserts(Some(cache.clone())));
        scope(|scope| {
            // Of the other shard.
            scope.spawn(|| block_on(cache.get_or_insert_with(0, async || Inserts(None))));
            scope.spawn(|| block_on(cache.invalidate(&0)));
        });
        assert!(cache.len() <= 1);
        cache.clear_blocking();
    });
}
