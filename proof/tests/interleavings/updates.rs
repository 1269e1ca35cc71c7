//! Updates of one key, against each other and against everything else that writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_lru::Update;
use futures_lite::future::{poll_once, yield_now};
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::explore;
use crate::witness::{Cache, Loads, Mint, builder, number};

/// The number of the value that is inserted; updates start from zero and add one.
const INSERTED: u32 = 100;

/// What the updates of a scenario share.
#[derive(Default)]
struct Ground {
    mint: Mint,
    /// Updates run one at a time.
    updates: Loads,
    /// Updates that started after the insertion: from its value, or from one that came of it.
    late: AtomicU32,
}

impl Ground {
    /// Adds one to key 1; returns what it has left.
    async fn add(&self, cache: &Cache) -> u32 {
        let left = cache.update_with(1, async |old| {
            let _live = self.updates.enter();
            let old = number(old).unwrap_or(0);
            self.late.fetch_add(u32::from(old >= INSERTED), Ordering::Relaxed);
            yield_now().await;
            Update::Put(self.mint.value(old + 1))
        });
        number(left.await).expect("it has put a value")
    }

    fn late(&self) -> u32 {
        self.late.load(Ordering::Relaxed)
    }
}

#[test]
fn of_three_updates_none_is_lost() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let mut numbers = scope(|scope| {
            let adders = [(); 3].map(|()| scope.spawn(|| block_on(ground.add(&cache))));
            adders.map(|adder| adder.join().unwrap())
        });
        numbers.sort_unstable();
        assert_eq!((numbers, number(cache.peek(&1))), ([1, 2, 3], Some(3)));
        assert_eq!((cache.stats().calls(), cache.stats().loads), (0, 0));
        ground.mint.close(cache);
    });
}

#[test]
fn updates_that_start_after_an_insertion_build_on_it_and_those_before_it_change_nothing() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let replaced = scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| block_on(ground.add(&cache)));
            }
            number(cache.insert_blocking(1, ground.mint.value(INSERTED)))
        });
        // What was replaced is what the updates before have left; one may have been overtaken.
        let before = 2 - ground.late();
        assert!(replaced.unwrap_or(0) <= before && replaced.unwrap_or(0) + 1 >= before);
        assert_eq!(number(cache.peek(&1)), Some(INSERTED + ground.late()));
        ground.mint.close(cache);
    });
}

#[test]
fn an_update_that_a_removal_overtakes_brings_nothing_back() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        ground.mint.fill(&cache, [1]);
        let (left, removed) = scope(|scope| {
            let left = scope.spawn(|| block_on(ground.add(&cache)));
            let removed = number(block_on(cache.remove(&1)));
            (left.join().unwrap(), removed)
        });
        let expected = match (left, removed) {
            // After the removal.
            (1, Some(1)) => Some(1),
            // Before it, or overtaken by it.
            (2, Some(1 | 2)) => None,
            other => panic!("an update and a removal: {other:?}"),
        };
        assert_eq!(number(cache.peek(&1)), expected);
        ground.mint.close(cache);
    });
}

#[test]
fn an_update_and_a_load_of_its_key_wait_for_each_other() {
    explore(|| {
        let (cache, ground, loads) = (builder(2).build(), Ground::default(), Loads::default());
        let (left, loaded) = scope(|scope| {
            let left = scope.spawn(|| block_on(ground.add(&cache)));
            let load = || loads.load(ground.mint.value(7));
            let loaded = block_on(cache.get_or_insert_with(1, load)).number;
            (left.join().unwrap(), loaded)
        });
        assert!(matches!((left, loaded), (1, 1) | (8, 7)), "{left} {loaded}");
        assert_eq!(number(cache.peek(&1)), Some(left));
        assert_eq!(loads.started(), u32::from(loaded == 7));
        ground.mint.close(cache);
    });
}

#[test]
fn an_update_that_is_dropped_changes_nothing_and_holds_up_nobody() {
    explore(|| {
        let (cache, ground, loads) = (builder(2).build(), Ground::default(), Loads::default());
        let (left, loaded) = scope(|scope| {
            scope.spawn(|| block_on(poll_once(ground.add(&cache))));
            let left = scope.spawn(|| block_on(ground.add(&cache)));
            let load = || loads.load(ground.mint.value(7));
            let loaded = block_on(cache.get_or_insert_with(1, load)).number;
            (left.join().unwrap(), loaded)
        });
        assert!(matches!((left, loaded), (1, 1) | (8, 7)), "{left} {loaded}");
        assert_eq!(number(cache.peek(&1)), Some(left));
        ground.mint.close(cache);
    });
}

#[test]
fn an_update_that_removes_its_key_does_not_remove_what_was_inserted_meanwhile() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        ground.mint.fill(&cache, [1]);
        let saw = scope(|scope| {
            let saw = scope.spawn(|| {
                let mut saw = None;
                let removal = cache.update_with(1, async |old| {
                    saw = number(old);
                    yield_now().await;
                    Update::Remove
                });
                assert!(block_on(removal).is_none());
                saw
            });
            scope.spawn(|| assert!(number(cache.get(&1)).is_none_or(|seen| seen != 0)));
            cache.insert_blocking(1, ground.mint.value(INSERTED));
            saw.join().unwrap()
        });
        let expected = if saw == Some(INSERTED) { None } else { Some(INSERTED) };
        assert_eq!(number(cache.peek(&1)), expected);
        ground.mint.close(cache);
    });
}

#[test]
fn an_update_of_a_detached_load_helps_it_on_and_starts_from_its_value() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let loads = Arc::new(Loads::default());
        let (left, loaded) = scope(|scope| {
            let left = scope.spawn(|| block_on(ground.add(&cache)));
            let load = || loads.detached(ground.mint.value(7));
            let loaded = block_on(poll_once(cache.entry(1).detached().or_insert_with(load)));
            (left.join().unwrap(), loaded.map(|lookup| lookup.value.number))
        });
        // The call for the load goes after one poll; its load goes on if the update has joined it.
        assert!(matches!((left, loaded), (1 | 8, None) | (1, Some(1)) | (8, Some(7))));
        assert_eq!(number(cache.peek(&1)), Some(left));
        ground.mint.close(cache);
    });
}

#[test]
fn updates_in_a_full_cache_build_on_what_is_there_when_they_start() {
    explore(|| {
        let (cache, ground) = (builder(1).build(), Ground::default());
        let mut numbers = scope(|scope| {
            let adders = [(); 2].map(|()| scope.spawn(|| block_on(ground.add(&cache))));
            scope.spawn(|| ground.mint.fill(&cache, [2]));
            adders.map(|adder| adder.join().unwrap())
        });
        numbers.sort_unstable();
        // The entry between the two may have been evicted.
        assert!(matches!(numbers, [1, 1 | 2]), "{numbers:?}");
        let left = number(cache.peek(&1));
        assert!(
            left.is_none_or(|left| left == numbers[1]) && left.is_some() != cache.contains_key(&2)
        );
        ground.mint.close(cache);
    });
}
