//! Memory that is given back while others evict, sweep, read and write.

use async_lru::Eviction;
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::{explore, explore_in_either_order};
use crate::witness::{Cache, Mint, builder, number};

/// The entries of a cache that has 16 slots: its memory is given back when three are left.
const KEYS: std::ops::Range<u32> = 0..10;

/// The number of a value that no sweep chooses.
const WRITTEN: u32 = 100;

fn filled(mint: &Mint, eviction: Eviction) -> Cache {
    let cache = builder(10).eviction(eviction).build();
    mint.fill(&cache, KEYS);
    cache
}

#[test]
fn an_eviction_after_the_entries_have_moved_makes_none_a_victim_before_its_turn() {
    explore(|| {
        let mint = Mint::default();
        let cache = filled(&mint, Eviction::Lru);
        // It stays in the first slot, and 8 and 9 move to those behind it.
        cache.get(&0);
        scope(|scope| {
            scope.spawn(|| cache.set_maxsize_blocking(9));
            cache.invalidate_if_blocking(|key, _| (1..=7).contains(key));
        });
        assert_eq!(cache.keys(), [8, 9, 0]);
        assert_eq!(cache.set_maxsize_blocking(2), 1);
        assert_eq!(cache.keys(), [9, 0]);
        mint.close(cache);
    });
}

#[test]
fn a_sweep_removes_what_it_chooses_and_nothing_else_though_the_entries_move_meanwhile() {
    explore_in_either_order(|eviction| {
        let mint = Mint::default();
        let cache = filled(&mint, eviction);
        let removed = scope(|scope| {
            scope.spawn(|| block_on(cache.set_maxsize(3)));
            scope.spawn(|| assert_eq!(number(cache.get(&8)), Some(8)));
            cache.invalidate_if_blocking(|key, _| key % 2 == 1)
        });
        assert!(cache.contains_key(&8) && cache.keys().iter().all(|key| key % 2 == 0));
        assert_eq!(cache.len() + cache.stats().evictions as usize + removed, KEYS.len());
        mint.close(cache);
    });
}

#[test]
fn two_sweeps_at_once_each_remove_what_they_choose_though_the_entries_move() {
    explore_in_either_order(|eviction| {
        let mint = Mint::default();
        let cache = filled(&mint, eviction);
        let removed: usize = scope(|scope| {
            let other = scope.spawn(|| block_on(cache.invalidate_if(|key, _| *key < 6)));
            let removed = cache.invalidate_if_blocking(|key, _| key % 2 == 1);
            removed + other.join().unwrap()
        });
        assert_eq!((cache.keys(), removed), (vec![6, 8], 8));
        mint.close(cache);
    });
}

#[test]
fn an_insertion_stays_that_comes_while_a_sweep_runs_and_the_entries_move() {
    explore_in_either_order(|eviction| {
        let mint = Mint::default();
        let cache = filled(&mint, eviction);
        scope(|scope| {
            scope.spawn(|| cache.set_maxsize_blocking(3));
            scope.spawn(|| block_on(cache.insert(9, mint.value(WRITTEN))));
            cache.invalidate_if_blocking(|_, value| value.number < WRITTEN);
        });
        assert_eq!((cache.keys(), number(cache.peek(&9))), (vec![9], Some(WRITTEN)));
        mint.close(cache);
    });
}
