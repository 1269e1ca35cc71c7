//! Order and bound at sizes and under threads that the model of `model.rs` does not reach.

use async_lru::AsyncLru;

#[test]
fn a_large_single_shard_evicts_in_the_exact_order_of_use() {
    const SIZE: u32 = 5_000;
    let cache = AsyncLru::<u32, u32>::builder().maxsize(SIZE as usize).shards(1).build();
    let mut order: Vec<u32> = (0..SIZE).collect();
    for key in &order {
        cache.insert_blocking(*key, 0);
    }
    // Uses in an order of no pattern: the multiplier is prime to the size.
    for use_ in 0..3 * SIZE {
        let key = use_ * 3_571 % SIZE;
        assert!(cache.get(&key).is_some());
    }
    order.sort_by_cached_key(|key| (0..SIZE).position(|use_| use_ * 3_571 % SIZE == *key));
    assert_eq!(cache.keys(), order);
    for (new, victim) in (SIZE..).zip(order) {
        assert!(cache.contains_key(&victim));
        cache.insert_blocking(new, 0);
        assert!(!cache.contains_key(&victim), "the oldest goes first");
        assert_eq!(cache.len(), SIZE as usize);
    }
}

#[test]
fn reads_between_evictions_are_honoured_in_a_large_shard() {
    const SIZE: u32 = 3_000;
    let cache = AsyncLru::<u32, u32>::builder().maxsize(SIZE as usize).shards(1).build();
    let mut model: Vec<u32> = (0..SIZE).collect();
    for key in &model {
        cache.insert_blocking(*key, 0);
    }
    let mut random = 12_345_u32;
    for new in SIZE..3 * SIZE {
        for _ in 0..3 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let place = random as usize % 40 * model.len() / 40;
            let key = model.remove(place);
            model.push(key);
            assert!(cache.get(&key).is_some());
        }
        let victim = model.remove(0);
        model.push(new);
        cache.insert_blocking(new, 0);
        assert!(!cache.contains_key(&victim));
    }
    assert_eq!(cache.keys(), model);
}

#[test]
fn nothing_is_evicted_while_there_is_room_whatever_the_number_of_shards() {
    for shards in [1, 4, 64] {
        let cache = AsyncLru::<u32, u32>::builder().maxsize(1_000).shards(shards).build();
        for key in 0..1_000 {
            cache.insert_blocking(key, key);
        }
        assert_eq!((cache.len(), cache.stats().evictions), (1_000, 0));
        for key in 1_000..3_000 {
            cache.insert_blocking(key, key);
            assert_eq!(cache.len(), 1_000);
        }
        assert_eq!(cache.stats().evictions, 2_000);
    }
}

#[test]
fn more_shards_than_entries_still_hold_the_newest() {
    let cache = AsyncLru::<u32, u32>::builder().maxsize(2).shards(64).build();
    for key in 0..1_000 {
        cache.insert_blocking(key, key);
        assert_eq!(cache.get(&key), Some(key), "an entry just inserted is there");
        assert!(cache.len() <= 2);
    }
}

#[test]
fn the_bound_holds_at_every_moment_under_threads() {
    for (maxsize, shards) in [(1, 1), (3, 1), (5, 8), (100, 4)] {
        let cache = AsyncLru::<u32, u32>::builder().maxsize(maxsize).shards(shards).build();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for step in 0..5_000 {
                        let key = (step * 7 + thread * 13) % 150;
                        match step % 4 {
                            0 => drop(cache.insert_blocking(key, step)),
                            1 => drop(cache.get(&key)),
                            2 => drop(cache.remove_blocking(&key)),
                            _ => {
                                let load = cache.get_or_insert_with(key, async || step);
                                futures_lite::future::block_on(load);
                            }
                        }
                        assert!(cache.len() <= maxsize);
                    }
                });
            }
        });
        assert_eq!(cache.len(), cache.keys().len());
        let stats = cache.stats();
        assert!(stats.current_size <= maxsize);
    }
}

/// Against (A13), (A14) of `docs/reliability.md`.
#[test]
fn an_entry_that_is_read_all_the_time_does_not_keep_writers_waiting() {
    let cache = AsyncLru::<u32, u32>::builder().maxsize(1).build();
    cache.insert_blocking(0, 0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while cache.get(&u32::MAX).is_none() {
                for key in 0..8 {
                    cache.get(&key);
                }
            }
        });
        for round in 0..20_000 {
            cache.insert_blocking(round % 8, round);
        }
        cache.insert_blocking(u32::MAX, 0);
        reader.join().unwrap();
    });
}
