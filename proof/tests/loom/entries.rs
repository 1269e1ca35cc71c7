//! Entries: who goes, who is kept, who reads them without the lock, and how all that is counted.

use std::sync::Arc;
use std::time::Duration;

use async_lru::{Eviction, ManualClock};
use loom::future::block_on;
use loom::thread;

use crate::explore::{Extent, World, at_once, close, explore};
use crate::witness::{builder, number};

/// Hits beside an insertion that evicts: of two entries that one
/// thread has hit in order, the first goes.
#[test]
fn an_entry_that_is_hit_is_not_the_victim_of_an_insertion_that_comes_later() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), [1, 2]);
        let hits = at_once(
            &world,
            [
                |w| [1, 2].map(|key| number(w.cache.get(&key))),
                |w| [number(w.cache.insert_blocking(3, w.mint.value(3))); 2],
            ],
        )[0];
        let victim = match hits {
            [Some(1), Some(2)] | [None, Some(2)] => 1,
            [Some(1), None] => 2,
            hits => panic!("two victims for one entry: {hits:?}"),
        };
        assert!(!world.cache.contains_key(&victim) && world.cache.contains_key(&3));
        close(world);
    });
}

/// A candidate that was collected for an earlier eviction is looked at again when its turn comes.
#[test]
fn a_victim_that_was_found_before_and_used_since_stays() {
    explore(Extent::Whole, || {
        let world = World::new(builder(3).build(), 1..=4);
        let hit = at_once(
            &world,
            [|w| number(w.cache.get(&2)), |w| number(w.cache.insert_blocking(5, w.mint.value(5)))],
        )[0];
        let victim = if hit.is_some() { 3 } else { 2 };
        assert!((2..=5).all(|key| world.cache.contains_key(&key) == (key != victim)));
        close(world);
    });
}

/// Two writers that both evict, one that blocks and one that does not.
#[test]
fn a_blocking_insertion_and_an_async_one_get_by_each_other() {
    explore(Extent::Whole, || {
        let world = World::new(builder(1).build(), [1]);
        at_once(
            &world,
            [
                |w| number(w.cache.insert_blocking(2, w.mint.value(2))),
                |w| number(block_on(w.cache.insert(3, w.mint.value(3)))),
            ],
        );
        assert_eq!((world.cache.len(), world.cache.stats().evictions), (1, 2));
        close(world);
    });
}

/// Two shards that take in an entry each when there is room for one.
#[test]
fn two_shards_that_take_entries_in_at_once_stay_within_the_bound_of_the_cache() {
    explore(Extent::Whole, || {
        let world = World::new(builder(1).shards(2).build(), []);
        at_once(
            &world,
            [
                |w| number(w.cache.insert_blocking(0, w.mint.value(0))),
                |w| number(w.cache.insert_blocking(2, w.mint.value(2))),
            ],
        );
        assert_eq!((world.cache.len(), world.cache.stats().evictions), (1, 1));
        close(world);
    });
}

/// Hits after which a thread has pinned what it reads, unless a write comes between.
const READS: usize = 2;

/// Reads the entry `times` times, each time the value that it had or the one that it got.
fn read(world: &World, times: usize) {
    let mut last = 1;
    for _ in 0..times {
        let seen = world.cache.get(&1).expect("it was always there").number;
        assert!([1, 2].contains(&seen) && seen >= last);
        last = seen;
    }
}

/// Writes the entry.
fn write(world: &World) {
    assert_eq!(number(world.cache.insert_blocking(1, world.mint.value(2))), Some(1));
    assert_eq!(number(world.cache.peek(&1)), Some(2));
}

/// A writer takes the pin of a thread back that is just pinning; afterwards that thread sees what was
/// written.
#[test]
fn a_write_is_seen_by_a_thread_that_pins_what_was_there_before() {
    explore(Extent::ThreePreemptions, || {
        let world = World::new(builder(2).build(), [1]);
        at_once(&world, [|w| read(w, READS + 1), write]);
        assert_eq!(number(world.cache.peek(&1)), Some(2));
        close(world);
    });
}

/// The same for a thread that reads by its pin.
#[test]
fn a_write_is_seen_by_a_thread_that_had_pinned_what_was_there_before() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), [1]);
        read(&world, READS);
        at_once(&world, [|w| read(w, 1), write]);
        assert_eq!(number(world.cache.peek(&1)), Some(2));
        close(world);
    });
}

/// Two threads that pin at once, then a writer.
#[test]
fn threads_that_pin_at_once_let_the_next_writer_in() {
    explore(Extent::ThreePreemptions, || {
        let world = World::new(builder(2).build(), [1]);
        at_once(&world, [|w| read(w, READS + 1), |w| read(w, READS)]);
        write(&world);
        close(world);
    });
}

/// Two threads that note their uses, each beside the other's pin: of two entries that one thread has used
/// in order, the first is the older, and every use is counted.
#[test]
fn uses_that_are_noted_by_their_threads_decide_who_is_evicted_and_are_all_counted() {
    explore(Extent::ThreePreemptions, || {
        let world = World::new(builder(2).build(), [1, 2]);
        at_once(
            &world,
            [
                |w| [1, 1, 2].iter().for_each(|key| assert!(w.cache.get(key).is_some())),
                |w| [1, 1].iter().for_each(|key| assert!(w.cache.get(key).is_some())),
            ],
        );
        assert_eq!(world.cache.stats().hits, 5);
        world.mint.fill(&world.cache, [3]);
        assert!(world.cache.contains_key(&3) && world.cache.len() == 2);
        close(world);
    });
}

/// A clear while a thread reads by its pin: what is taken out is dropped by then.
#[test]
fn what_a_clear_has_taken_out_no_pin_keeps_alive() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), [1]);
        read(&world, READS);
        at_once(
            &world,
            [
                |w| {
                    let seen = [1; 2].map(|key| w.cache.contains_key(&key));
                    assert!(seen.is_sorted_by_key(|seen| !seen));
                },
                |w| {
                    w.cache.clear_blocking();
                    assert_eq!((w.mint.alive(), w.cache.len()), (0, 0));
                },
            ],
        );
        close(world);
    });
}

/// Two threads that count in stripes of their own while a third adds them up.
#[test]
fn no_count_is_lost_and_none_goes_back() {
    explore(Extent::Whole, || {
        let world = World::new(builder(1).build(), []);
        at_once(
            &world,
            [
                |w| {
                    w.cache.get(&1);
                },
                |w| {
                    let counts = [(); 2].map(|()| w.cache.stats().misses);
                    w.cache.get(&1);
                    assert!(counts.is_sorted() && counts[1] <= 1);
                },
            ],
        );
        assert_eq!(world.cache.stats().misses, 2);
        close(world);
    });
}

/// A reader that sees an entry expire raises the shard's time while a writer does, with a clock that
/// has stepped back: the higher one of both stays.
#[test]
fn an_entry_that_was_seen_expire_stays_expired_though_the_clock_steps_back() {
    const TTL: Duration = Duration::from_secs(1);
    explore(Extent::Whole, || {
        let clock = ManualClock::new();
        let cache = builder(2).ttl(TTL).clock(clock.clone()).build();
        let world = World::new(cache, [1]);
        clock.advance(TTL);
        let stepping = Arc::clone(&world);
        let writer = thread::spawn(move || {
            clock.set(Duration::ZERO);
            stepping.mint.fill(&stepping.cache, [2]);
        });
        let is_alive = world.cache.contains_key(&1);
        writer.join().unwrap();
        assert!(is_alive || !world.cache.contains_key(&1));
        close(world);
    });
}

/// Two threads that each note one use of the entry whose turn it is: both count, and it stays.
#[test]
fn uses_that_two_threads_have_noted_add_up_and_make_an_entry_hot() {
    explore(Extent::ThreePreemptions, || {
        let world = World::new(builder(2).eviction(Eviction::Adaptive).build(), [1, 2]);
        let hits = at_once(
            &world,
            [
                |w| [2, 1].iter().filter(|key| w.cache.get(*key).is_some()).count(),
                |w| [1].iter().filter(|key| w.cache.get(*key).is_some()).count(),
            ],
        );
        assert_eq!((hits, world.cache.stats().hits), ([2, 1], 3));
        world.mint.fill(&world.cache, [3]);
        assert!(world.cache.contains_key(&1) && !world.cache.contains_key(&2));
        close(world);
    });
}

/// A hit by a pin, the second of the entry, beside the insertion that has it leave otherwise.
#[test]
fn a_use_by_a_pin_makes_an_entry_hot_or_comes_too_late() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).eviction(Eviction::Adaptive).build(), [1, 2]);
        assert!(world.cache.get(&1).is_some());
        let hit = at_once(
            &world,
            [|w| number(w.cache.get(&1)), |w| number(w.cache.insert_blocking(3, w.mint.value(3)))],
        )[0];
        let left = [1, 2, 3].map(|key| world.cache.contains_key(&key));
        assert_eq!(left, [hit.is_some(), hit.is_none(), true]);
        assert_eq!(world.cache.stats().hits, 1 + u64::from(hit.is_some()));
        close(world);
    });
}
