//! Readers that read without the lock of a shard, and writers that take that from them.
//!
//! Built for shuttle, a shard is worth a pin after one hit, which pins it; the next reads by the pin. From
//! the second thread with a pin on, each keeps notes of its uses.

use shuttle::thread::scope;

use crate::explore::{explore, explore_in_either_order};
use crate::witness::{Cache, Mint, Moment, builder, number};

/// Hits after which a thread has pinned what it reads, unless a write comes between.
const READS: usize = 2;

/// Has the calling thread pin the shard, unless others write to it.
fn pin(cache: &Cache) {
    for _ in 0..READS {
        cache.get(&1);
    }
}

#[test]
fn a_write_is_seen_by_all_who_have_pinned_what_was_there_before() {
    explore_in_either_order(|eviction| {
        let (cache, mint, written) =
            (builder(2).eviction(eviction).build(), Mint::default(), Moment::default());
        mint.fill(&cache, [1]);
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 1;
                    for _ in 0..READS + 2 {
                        let is_written = written.is_reached();
                        let seen = cache.get(&1).expect("it was always there").number;
                        assert!(seen >= last && (seen == 2 || !is_written));
                        last = seen;
                    }
                });
            }
            scope.spawn(|| {
                pin(&cache);
                assert_eq!(number(cache.insert_blocking(1, mint.value(2))), Some(1));
                written.reach();
                assert_eq!(number(cache.get(&1)), Some(2));
            });
        });
        mint.close(cache);
    });
}

#[test]
fn what_a_clear_has_taken_out_no_pin_keeps_alive() {
    explore_in_either_order(|eviction| {
        let (cache, mint, cleared) =
            (builder(2).eviction(eviction).build(), Mint::default(), Moment::default());
        mint.fill(&cache, [1, 2]);
        scope(|scope| {
            scope.spawn(|| {
                pin(&cache);
                let is_cleared = cleared.is_reached();
                assert!(cache.get(&1).is_none() || !is_cleared);
                assert!(cache.peek(&2).is_none() || !is_cleared);
            });
            scope.spawn(|| {
                pin(&cache);
                cache.clear_blocking();
                cleared.reach();
                assert_eq!(number(cache.get(&1)), None);
            });
        });
        assert_eq!((cache.len(), mint.alive()), (0, 0));
        mint.close(cache);
    });
}

#[test]
fn threads_that_pin_at_once_all_see_what_is_there_and_let_the_next_writer_in() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(2).eviction(eviction).build(), Mint::default());
        mint.fill(&cache, [1]);
        scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..READS + 1 {
                        assert_eq!(number(cache.get(&1)), Some(1));
                    }
                });
            }
        });
        assert_eq!(number(cache.remove_blocking(&1)), Some(1));
        assert_eq!(mint.alive(), 0);
        mint.close(cache);
    });
}

#[test]
fn a_use_by_a_pin_counts_for_the_order() {
    explore_in_either_order(|eviction| {
        let (cache, mint) = (builder(2).eviction(eviction).build(), Mint::default());
        mint.fill(&cache, [1, 2]);
        let hit = scope(|scope| {
            scope.spawn(|| mint.fill(&cache, [3]));
            pin(&cache);
            number(cache.get(&1))
        });
        assert_eq!(hit.is_some(), cache.contains_key(&1));
        assert_eq!((cache.len(), cache.stats().evictions), (2, 1));
        mint.close(cache);
    });
}

#[test]
fn uses_that_are_noted_by_their_threads_decide_who_is_evicted_and_are_all_counted() {
    explore(|| {
        let (cache, mint) = (builder(3).build(), Mint::default());
        mint.fill(&cache, [1, 2, 3]);
        let hits = |keys: &[u32]| {
            keys.iter().for_each(|key| assert_eq!(number(cache.get(key)), Some(*key)));
        };
        scope(|scope| {
            scope.spawn(|| hits(&[1, 1, 1, 2]));
            scope.spawn(|| hits(&[3, 3, 3]));
        });
        assert_eq!(cache.stats().hits, 7);
        mint.fill(&cache, [4]);
        // 1 was used before 2, by the same thread.
        assert!(cache.contains_key(&2) && cache.contains_key(&4));
        hits(&[2, 4]);
        mint.fill(&cache, [5]);
        assert!(!cache.contains_key(&1) && !cache.contains_key(&3));
        assert!(cache.contains_key(&2) && cache.contains_key(&4) && cache.contains_key(&5));
        mint.close(cache);
    });
}
