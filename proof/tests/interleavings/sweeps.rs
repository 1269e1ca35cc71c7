//! Removing by a predicate while others write.

use std::sync::Arc;

use async_lru::Update;
use futures_lite::future::yield_now;
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::explore;
use crate::witness::{Cache, Loads, Mint, Moment, builder, number};

/// The number of the value that is inserted; those before it are chosen.
const INSERTED: u32 = 100;

/// Asks for key 1; a load gives a value with the number of loads before it. Returns the number that it got.
fn load_next(cache: &Cache, mint: &Mint, loads: &Loads) -> u32 {
    let load = || loads.load(mint.value(loads.started()));
    block_on(cache.get_or_insert_with(1, load)).number
}

#[test]
fn an_insertion_that_replaces_a_chosen_entry_stays() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, [1, 2]);
        let (replaced, removed) = scope(|scope| {
            let replaced = scope.spawn(|| number(block_on(cache.insert(1, mint.value(INSERTED)))));
            let removed = block_on(cache.invalidate_if(|_, value| value.number < INSERTED));
            (replaced.join().unwrap(), removed)
        });
        assert_eq!((number(cache.peek(&1)), number(cache.peek(&2))), (Some(INSERTED), None));
        assert_eq!(removed + usize::from(replaced.is_some()), 2);
        mint.close(cache);
    });
}

#[test]
fn what_is_written_after_the_predicate_was_asked_stays_though_it_would_be_chosen() {
    explore(|| {
        let (cache, mint) = (builder(2).build(), Mint::default());
        let asked = Arc::new(Moment::default());
        mint.fill(&cache, [1, 2]);
        let (late, removed) = scope(|scope| {
            let is_asked = Arc::clone(&asked);
            let late = scope.spawn(|| {
                let late = asked.is_reached();
                // Evicts one of the chosen, or takes a slot that one of them has left.
                cache.insert_blocking(3, mint.value(3));
                cache.insert_blocking(1, mint.value(4));
                late
            });
            let removed = cache.invalidate_if_blocking(move |_, _| {
                is_asked.reach();
                true
            });
            (late.join().unwrap(), removed)
        });
        if late {
            assert_eq!([3, 1].map(|key| number(cache.peek(&key))), [Some(3), Some(4)]);
        }
        assert!(removed <= 4 && cache.len() <= 2 && !cache.contains_key(&2));
        mint.close(cache);
    });
}

#[test]
fn what_was_loaded_before_a_sweep_is_not_found_after_it() {
    explore(|| {
        let (cache, mint, loads) = (builder(2).build(), Mint::default(), Loads::default());
        let call = || load_next(&cache, &mint, &loads);
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(call);
            }
            let before = loads.started();
            cache.invalidate_if_blocking(move |_, value| value.number < before);
            assert!(number(cache.get(&1)).is_none_or(|seen| seen >= before));
        });
        mint.close(cache);
    });
}

#[test]
fn what_was_loaded_before_a_sweep_of_its_key_is_given_to_no_call_after_it() {
    explore(|| {
        let (cache, mint, loads) = (builder(2).build(), Mint::default(), Loads::default());
        let call = || load_next(&cache, &mint, &loads);
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(call);
            }
            let before = loads.started();
            loads.fence();
            cache.invalidate_keys_if_blocking(|key| *key == 1);
            assert!(number(cache.get(&1)).is_none_or(|seen| seen >= before));
            assert!(call() >= before);
        });
        mint.close(cache);
    });
}

#[test]
fn a_load_and_updates_beside_sweeps_that_do_not_choose_them_are_all_kept() {
    explore(|| {
        let (cache, mint) = (builder(4).build(), Mint::default());
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    block_on(cache.update_with(1, async |old| {
                        let old = number(old).unwrap_or(0);
                        yield_now().await;
                        Update::Put(mint.value(old + 1))
                    }))
                });
            }
            scope.spawn(|| {
                block_on(cache.get_or_insert_with(2, async || {
                    yield_now().await;
                    mint.value(20)
                }))
            });
            assert_eq!(cache.invalidate_if_blocking(|key, _| *key == 7), 0);
            assert_eq!(block_on(cache.invalidate_keys_if(|key| *key == 7)), 0);
        });
        assert_eq!([1, 2].map(|key| number(cache.peek(&key))), [Some(2), Some(20)]);
        mint.close(cache);
    });
}

#[test]
fn an_update_that_began_before_a_sweep_brings_nothing_back() {
    explore(|| {
        let (cache, mint, begun) = (builder(2).build(), Mint::default(), Moment::default());
        mint.fill(&cache, [1]);
        scope(|scope| {
            scope.spawn(|| {
                block_on(cache.update_with(1, async |old| {
                    let old = number(old).unwrap_or(INSERTED);
                    begun.reach();
                    yield_now().await;
                    Update::Put(mint.value(old + 1))
                }))
            });
            let early = begun.is_reached();
            cache.invalidate_if_blocking(|_, value| value.number < INSERTED);
            let seen = number(cache.peek(&1));
            assert!(seen.is_none() || !early, "{seen:?}");
            assert!(seen.is_none_or(|seen| seen == INSERTED + 1 || seen == 2));
        });
        mint.close(cache);
    });
}

#[test]
fn two_sweeps_at_once_remove_each_entry_once() {
    explore(|| {
        let (cache, mint) = (builder(4).shards(2).build(), Mint::default());
        mint.fill(&cache, [0, 1, 2, 6]);
        let removed: usize = scope(|scope| {
            let other = scope.spawn(|| block_on(cache.invalidate_if(|key, _| *key != 6)));
            let removed = cache.invalidate_if_blocking(|key, _| *key != 0);
            removed + other.join().unwrap()
        });
        assert_eq!((removed, cache.len()), (4, 0));
        mint.close(cache);
    });
}

#[test]
fn a_sweep_and_an_eviction_do_not_take_one_entry_both() {
    explore(|| {
        let (cache, mint) = (builder(2).build(), Mint::default());
        mint.fill(&cache, [1, 2]);
        let removed = scope(|scope| {
            scope.spawn(|| block_on(cache.insert(3, mint.value(3))));
            scope.spawn(|| cache.get(&1));
            cache.invalidate_if_blocking(|key, _| *key < 3)
        });
        assert_eq!(removed + cache.stats().evictions as usize, 2);
        assert_eq!(cache.keys(), [3]);
        mint.close(cache);
    });
}
