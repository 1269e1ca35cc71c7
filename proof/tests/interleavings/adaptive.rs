//! The adaptive order of eviction: what readers count of uses, and what writers make of it.
//!
//! Of entries of the same weight the first is cold, and the others are hot as long as nobody leaves: the
//! share of the cold is one entry. Used twice, the cold one becomes hot when its turn comes, and the one
//! that leaves is the hot one whose last use is the oldest, unless it was used more than once.

use async_lru::{Builder, Eviction};
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::explore;
use crate::witness::{Cache, Hasher, Mint, Value, number};

/// Configures a cache of `maxsize` entries in an adaptive order.
fn builder(maxsize: usize) -> Builder<u32, Value, Hasher> {
    crate::witness::builder(maxsize).eviction(Eviction::Adaptive)
}

/// Hits these keys; returns how many were there.
fn hit(cache: &Cache, keys: &[u32]) -> u64 {
    let found = |key: &&u32| number(cache.get(*key)) == Some(**key);
    keys.iter().filter(found).count() as u64
}

fn has(cache: &Cache, keys: &[u32]) -> bool {
    keys.iter().all(|key| cache.contains_key(key))
}

#[test]
fn uses_that_two_threads_have_noted_add_up_and_make_an_entry_hot() {
    explore(|| {
        let (cache, mint) = (builder(4).build(), Mint::default());
        mint.fill(&cache, 1..=4);
        let hits: u64 = scope(|scope| {
            let other = scope.spawn(|| hit(&cache, &[3, 3, 1]));
            hit(&cache, &[4, 4, 1]) + other.join().unwrap()
        });
        assert_eq!((hits, cache.stats().hits), (6, 6));
        mint.fill(&cache, [5]);
        // 2 is the hot one that nobody used.
        assert!(has(&cache, &[1, 3, 4, 5]));
        mint.close(cache);
    });
}

#[test]
fn one_use_however_it_is_noted_makes_no_entry_hot() {
    explore(|| {
        let (cache, mint) = (builder(4).build(), Mint::default());
        mint.fill(&cache, 1..=4);
        scope(|scope| {
            scope.spawn(|| hit(&cache, &[2, 2, 3]));
            scope.spawn(|| hit(&cache, &[3, 1, 4]));
        });
        assert_eq!(cache.stats().hits, 6);
        mint.fill(&cache, [5]);
        assert!(has(&cache, &[2, 3, 4, 5]));
        mint.close(cache);
    });
}

#[test]
fn two_uses_by_one_thread_make_an_entry_hot_whether_it_keeps_notes_or_not() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, 1..=3);
        scope(|scope| {
            scope.spawn(|| hit(&cache, &[3, 3, 1, 1]));
            // From its second hit on, if that is beside the others, both keep notes.
            scope.spawn(|| hit(&cache, &[3, 3]));
        });
        assert_eq!(cache.stats().hits, 6);
        mint.fill(&cache, [4]);
        assert!(has(&cache, &[1, 3, 4]));
        mint.close(cache);
    });
}

#[test]
fn an_entry_that_two_threads_have_hit_stays_and_one_that_a_single_one_has_hit_leaves() {
    explore(|| {
        let (cache, mint) = (builder(2).build(), Mint::default());
        mint.fill(&cache, [1, 2]);
        let hits = scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [3]));
            let other = scope.spawn(|| hit(&cache, &[1]));
            hit(&cache, &[1]) + other.join().unwrap()
        });
        // Whoever came too late found nothing.
        assert_eq!(cache.contains_key(&1), hits == 2);
        assert_eq!(cache.contains_key(&2), hits < 2);
        assert_eq!((cache.len(), cache.stats().evictions), (2, 1));
        assert_eq!(cache.stats().hits, hits);
        mint.close(cache);
    });
}

#[test]
fn a_hot_entry_that_is_used_while_a_victim_is_looked_for_has_another_turn() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, 1..=3);
        // It becomes hot as the next one comes, and one of the others has to go.
        hit(&cache, &[1, 1]);
        let hits = scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [4]));
            let hits = scope.spawn(|| hit(&cache, &[2]));
            hits.join().unwrap()
        });
        let victim = if hits == 1 { 3 } else { 2 };
        assert!([1, 2, 3, 4].iter().all(|key| cache.contains_key(key) == (*key != victim)));
        assert_eq!((cache.stats().hits, cache.stats().evictions), (2 + hits, 1));
        mint.close(cache);
    });
}

#[test]
fn every_hit_beside_two_insertions_is_counted_though_victims_take_turns() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, 1..=3);
        hit(&cache, &[1, 1, 2, 2, 3, 3]);
        let hits: u64 = scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [4]));
            scope.spawn(|| block_on(cache.insert(5, mint.value(5))));
            let other = scope.spawn(|| hit(&cache, &[1, 2]));
            hit(&cache, &[3, 1]) + other.join().unwrap()
        });
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.current_size, stats.evictions), (6 + hits, 3, 2));
        mint.close(cache);
    });
}

#[test]
fn an_entry_on_its_way_from_cold_to_hot_is_removed_or_replaced_and_leaves_nothing_behind() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, 1..=3);
        hit(&cache, &[1, 1]);
        let (removed, replaced) = scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [4]));
            let removed = scope.spawn(|| cache.remove_blocking(&1).is_some());
            let replaced = cache.insert_blocking(2, mint.value(2)).is_some();
            (removed.join().unwrap(), replaced)
        });
        // If 2 left for 4 and then came back, 4 may have left for it.
        assert!(removed && !cache.contains_key(&1) && has(&cache, &[2]));
        let evictions = cache.stats().evictions as usize;
        assert_eq!(cache.len() + evictions + 1, 4 + usize::from(!replaced));
        mint.close(cache);
    });
}

#[test]
fn what_comes_back_while_others_evict_finds_its_ghost_or_none() {
    explore(|| {
        let (cache, mint) = (builder(2).build(), Mint::default());
        mint.fill(&cache, 1..=4);
        scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [1, 3]));
            scope.spawn(|| {
                let load = async || mint.value(1);
                assert_eq!(block_on(cache.get_or_insert_with(1, load)).number, 1);
            });
            scope.spawn(|| cache.invalidate_blocking(&2));
        });
        assert!(cache.len() <= 2);
        mint.fill(&cache, 1..=4);
        assert_eq!(cache.len(), 2);
        mint.close(cache);
    });
}

#[test]
fn a_clear_takes_hot_and_cold_away_from_readers_and_the_order_begins_anew() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, 1..=4);
        scope(|scope| {
            scope.spawn(|| hit(&cache, &[2, 3, 4]));
            scope.spawn(|| mint.fill(&cache, [5]));
            cache.clear_blocking();
        });
        assert!(cache.len() <= 1);
        assert_eq!(cache.validate(), 0);
        cache.clear_blocking();
        mint.fill(&cache, 1..=3);
        hit(&cache, &[1, 1]);
        mint.fill(&cache, [4]);
        assert!(has(&cache, &[1, 3, 4]));
        mint.close(cache);
    });
}

#[test]
fn a_bound_that_comes_down_beside_hits_and_an_insertion_leaves_what_fits() {
    explore(|| {
        let (cache, mint) = (builder(4).build(), Mint::default());
        mint.fill(&cache, 1..=4);
        let evicted = scope(|scope| {
            scope.spawn(|| hit(&cache, &[1, 1, 2, 3]));
            scope.spawn(|| block_on(cache.insert(5, mint.value(5))));
            let evicted = cache.set_maxsize_blocking(2);
            assert!(cache.len() <= 2);
            evicted as u64
        });
        let stats = cache.stats();
        assert_eq!((stats.current_size, stats.evictions), (2, 3));
        assert!((2..=3).contains(&evicted));
        mint.close(cache);
    });
}

/// A cache whose values weigh as much as their numbers say: one that is heavy and hot, and some that are
/// light, most of them cold.
fn weighed(mint: &Mint) -> Cache {
    let builder = builder(100).max_weight(110, |_, value| value.number.into());
    let cache = builder.build();
    cache.insert_blocking(0, mint.value(100));
    for key in LIGHT {
        cache.insert_blocking(key, mint.value(1));
    }
    cache
}

/// The keys of light entries.
const LIGHT: std::ops::Range<u32> = 1..10;

#[test]
fn a_weighed_entry_that_gets_heavier_beside_evictions_is_measured_anew() {
    explore(|| {
        let mint = Mint::default();
        let cache = weighed(&mint);
        scope(|scope| {
            scope.spawn(|| block_on(cache.insert(1, mint.value(4))));
            scope.spawn(|| cache.insert_blocking(2, mint.value(0)));
            scope.spawn(|| number(cache.get(&1)));
            cache.insert_blocking(10, mint.value(3));
            let stats = cache.stats();
            assert!(stats.current_weight <= stats.max_weight);
        });
        let left = [1, 10].map(|key| number(cache.peek(&key)));
        assert!(left.contains(&Some(4)) || left.contains(&Some(3)), "the latest is there");
        mint.close(cache);
    });
}

#[test]
fn what_weighs_nothing_is_passed_over_in_the_queue_though_it_is_used_meanwhile() {
    explore(|| {
        let (cache, mint) =
            (builder(100).max_weight(10, |_, value| value.number.into()).build(), Mint::default());
        for (key, weight) in [(1, 0), (2, 0), (3, 6), (4, 3)] {
            cache.insert_blocking(key, mint.value(weight));
        }
        scope(|scope| {
            scope.spawn(|| block_on(cache.insert(5, mint.value(5))));
            scope.spawn(|| cache.get(&1).map(drop));
            cache.insert_blocking(6, mint.value(4));
        });
        assert!(has(&cache, &[1, 2]));
        let stats = cache.stats();
        assert!(stats.current_weight <= stats.max_weight);
        assert!(cache.contains_key(&5) || cache.contains_key(&6));
        mint.close(cache);
    });
}

#[test]
fn cold_entries_that_move_as_memory_is_given_back_keep_their_places_in_the_queue() {
    explore(|| {
        let mint = Mint::default();
        let cache = weighed(&mint);
        scope(|scope| {
            scope.spawn(|| hit(&cache, &[9]));
            scope.spawn(|| cache.insert_blocking(9, mint.value(1)));
            cache.invalidate_if_blocking(|key, _| !matches!(key, 0 | 4 | 5));
        });
        assert_eq!(cache.validate(), 0);
        // The heavy one makes room for all that is light, and what is cold stays behind it.
        cache.set_max_weight_blocking(3);
        assert!(!cache.contains_key(&0) && has(&cache, &[4, 5]));
        cache.set_max_weight_blocking(1);
        assert_eq!(cache.len(), 1);
        mint.close(cache);
    });
}
