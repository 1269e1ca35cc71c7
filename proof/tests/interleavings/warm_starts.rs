//! Copying entries out while others write, and taking them in again.

use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::{explore, explore_in_either_order};
use crate::witness::{Loads, Mint, builder, number};

/// The numbers of the values that are restored, inserted and loaded.
const RESTORED: u32 = 50;
const INSERTED: u32 = 100;
const LOADED: u32 = 7;

#[test]
fn a_restored_entry_stands_back_behind_an_insertion_and_a_load_of_its_key() {
    explore_in_either_order(|eviction| {
        let (cache, mint, loads) =
            (builder(4).eviction(eviction).build(), Mint::default(), Loads::default());
        let (restored, replaced, answer) = scope(|scope| {
            let restored = scope.spawn(|| {
                let entries = [1, 2].map(|key| (key, mint.value(RESTORED), None));
                block_on(cache.restore(entries))
            });
            let replaced = scope.spawn(|| {
                let replaced = number(cache.insert_blocking(1, mint.value(INSERTED)));
                assert_eq!(number(cache.get(&1)), Some(INSERTED));
                replaced
            });
            let load = || loads.load(mint.value(LOADED));
            let answer = block_on(cache.get_or_insert_with(2, load)).number;
            assert_eq!(number(cache.get(&2)), Some(answer));
            (restored.join().unwrap(), replaced.join().unwrap(), answer)
        });
        assert!(replaced.is_none_or(|replaced| replaced == RESTORED));
        assert_eq!(loads.started(), u32::from(answer == LOADED));
        let taken = usize::from(replaced.is_some()) + usize::from(answer == RESTORED);
        assert_eq!(restored, taken);
        let left = [1, 2].map(|key| number(cache.peek(&key)));
        assert_eq!(left, [Some(INSERTED), Some(answer)]);
        mint.close(cache);
    });
}

#[test]
fn a_restored_entry_is_taken_in_unless_a_load_that_no_write_has_won_over_is_under_way() {
    explore(|| {
        let (cache, mint, loads) = (builder(2).build(), Mint::default(), Loads::default());
        let (restored, answer) = scope(|scope| {
            let answer = scope.spawn(|| {
                let load = || loads.load(mint.value(LOADED));
                block_on(cache.get_or_insert_with(1, load)).number
            });
            scope.spawn(|| cache.invalidate_blocking(&1));
            let restored = cache.restore_blocking([(1, mint.value(RESTORED), None)]);
            (restored, answer.join().unwrap())
        });
        assert_eq!(loads.started(), u32::from(answer == LOADED));
        assert!(restored == 1 || answer == LOADED, "neither restored nor loaded");
        let left = number(cache.peek(&1));
        assert!(left.is_none_or(|left| left == answer || restored == 1 && left == RESTORED));
        mint.close(cache);
    });
}

#[test]
fn two_that_restore_at_once_take_the_room_there_is_and_evict_nothing() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(3).shards(2).eviction(eviction).build(), Mint::default());
        let restored: usize = scope(|scope| {
            let others = [[0, 1, 2], [2, 6, 1]].map(|keys| {
                let (cache, mint) = (&cache, &mint);
                scope.spawn(move || {
                    block_on(cache.restore(keys.map(|key| (key, mint.value(key), None))))
                })
            });
            scope.spawn(|| assert!(cache.len() <= 3));
            others.map(|other| other.join().unwrap()).iter().sum()
        });
        assert_eq!((restored, cache.stats().evictions), (cache.len(), 0));
        assert!(cache.keys().iter().all(|key| number(cache.peek(key)) == Some(*key)));
        mint.close(cache);
    });
}

#[test]
fn a_snapshot_of_a_shard_is_of_one_moment() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, [1]);
        let copies = scope(|scope| {
            scope.spawn(|| {
                // 1 gives way to 2 without a moment at which both are there, or 3 without 2.
                cache.remove_blocking(&1);
                mint.fill(&cache, [2, 3]);
            });
            scope.spawn(|| cache.get(&1));
            cache.snapshot()
        });
        let keys: Vec<u32> = copies.iter().map(|(key, _)| *key).collect();
        assert!(matches!(*keys, [1] | [] | [2] | [2, 3]), "{keys:?}");
        assert!(copies.iter().all(|(key, value)| value.number == *key));
        drop(copies);
        mint.close(cache);
    });
}

#[test]
fn what_one_thread_copies_while_another_writes_fills_a_cache_like_it() {
    explore(|| {
        let (cache, mint) = (builder(4).build(), Mint::default());
        let copy = builder(4).build();
        mint.fill(&cache, [1, 2, 3]);
        scope(|scope| {
            scope.spawn(|| {
                mint.fill(&cache, [1]);
                cache.get(&2);
            });
            let restored = copy.restore_blocking(cache.snapshot_with_ttl());
            assert_eq!(restored, 3);
        });
        // As it was, and with one or both of the uses.
        let keys = copy.keys();
        assert!(matches!(*keys, [1, 2, 3] | [2, 3, 1] | [3, 1, 2]), "{keys:?}");
        copy.clear_blocking();
        assert_eq!(copy.validate(), 0);
        mint.close(cache);
    });
}
