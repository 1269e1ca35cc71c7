//! Many reads and few writes: readers come to share nothing, and a write still reaches all of them.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use async_lru::{AsyncLru, Eviction};
use common::now;

/// Reads after which a thread has a way of its own to the entries of a shard.
const MANY: usize = 1_000;

#[test]
fn a_write_after_many_reads_is_seen_by_every_reader() {
    const READERS: usize = 3;
    for (shards, eviction) in [(1, Eviction::Lru), (4, Eviction::Lru), (1, Eviction::Adaptive)] {
        let builder = AsyncLru::<u32, u32>::builder().maxsize(8).shards(shards);
        let cache = builder.eviction(eviction).build();
        let turn = Barrier::new(READERS + 1);
        thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    for round in 0..20 {
                        turn.wait();
                        for _ in 0..MANY {
                            assert_eq!(cache.get(&1), Some(round));
                            assert_eq!(cache.peek(&2), None);
                        }
                        turn.wait();
                    }
                });
            }
            for round in 0..20 {
                cache.insert_blocking(1, round);
                turn.wait();
                turn.wait();
                match round % 4 {
                    0 => assert!(cache.invalidate_blocking(&1)),
                    1 => cache.clear_blocking(),
                    2 => assert_eq!(cache.remove_blocking(&1), Some(round)),
                    _ => {}
                }
                assert_eq!(cache.len(), usize::from(round % 4 == 3));
            }
        });
    }
}

#[test]
fn uses_by_readers_of_their_own_count_for_the_order() {
    let cache = AsyncLru::<u32, u32>::builder().maxsize(4).shards(1).build();
    for key in 0..4 {
        cache.insert_blocking(key, key);
    }
    for _ in 0..MANY {
        assert_eq!(cache.get(&3), Some(3));
    }
    for key in [2, 0, 3, 1] {
        assert_eq!(cache.get(&key), Some(key));
    }
    assert_eq!(cache.keys(), [2, 0, 3, 1]);
    assert_eq!(now(cache.get_or_insert_with(4, async || 4)), 4);
    assert_eq!(cache.keys(), [0, 3, 1, 4]);
}

#[test]
fn a_value_that_many_have_read_is_dropped_as_soon_as_it_leaves() {
    let cache = AsyncLru::<u32, Arc<u32>>::new(8);
    let value = Arc::new(1);
    cache.insert_blocking(1, Arc::clone(&value));
    let read = || (0..MANY).for_each(|_| drop(cache.get(&1)));
    thread::scope(|scope| {
        scope.spawn(read);
        scope.spawn(read);
    });
    read();
    assert_eq!(Arc::strong_count(&value), 2);
    cache.clear_blocking();
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn readers_and_writers_at_once_see_whole_values_that_never_go_back() {
    for eviction in [Eviction::Lru, Eviction::Adaptive] {
        let builder = AsyncLru::<u32, (u32, u32)>::builder().maxsize(16);
        read_and_write(&builder.eviction(eviction).build());
    }
}

fn read_and_write(cache: &AsyncLru<u32, (u32, u32)>) {
    let done = AtomicBool::new(false);
    let reads = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    for _ in 0..MANY {
                        let (a, b) = cache.get(&1).unwrap_or((last, last));
                        assert_eq!(a, b);
                        assert!(a >= last);
                        last = a;
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 1..500 {
            cache.insert_blocking(1, (number, number));
            let seen = reads.load(Ordering::Relaxed);
            while reads.load(Ordering::Relaxed) == seen {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
