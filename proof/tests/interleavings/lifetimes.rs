//! Entries with lifetimes of their own, in an order that is not that of their arrival.

use std::time::Duration;

use async_lru::ManualClock;
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::explore;
use crate::witness::{Cache, Mint, Moment, builder, number};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Puts entries that live for so many seconds, one after another.
fn put(cache: &Cache, mint: &Mint, entries: [(u32, u64); 2]) {
    for (key, lifetime) in entries {
        cache.insert_with_ttl_blocking(key, mint.value(key), seconds(lifetime));
    }
}

#[test]
fn entries_that_two_threads_write_out_of_order_expire_in_time_while_a_third_purges() {
    explore(|| {
        let clock = ManualClock::new();
        let cache = builder(8).clock(clock.clone()).build();
        let (mint, written) = (Mint::default(), Moment::default());
        scope(|scope| {
            scope.spawn(|| {
                put(&cache, &mint, [(1, 40), (2, 10)]);
                written.reach();
            });
            scope.spawn(|| put(&cache, &mint, [(3, 20), (4, 5)]));
            scope.spawn(|| {
                let early = written.is_reached();
                clock.advance(seconds(10));
                let seen = [1, 2].map(|key| cache.contains_key(&key));
                assert!(!early || seen == [true, false]);
                cache.purge_expired_blocking();
                assert!(!early || cache.peek(&2).is_none());
            });
        });
        for (now, left) in [(20, 3), (30, 1), (50, 0)] {
            clock.set(seconds(now));
            cache.purge_expired_blocking();
            // Lifetimes begin before the clock is moved, or ten seconds later.
            assert!(cache.len() <= left, "{} at {now}", cache.len());
        }
        assert_eq!(cache.stats().expirations, 4);
        mint.close(cache);
    });
}

#[test]
fn an_expired_entry_that_is_replaced_removed_and_purged_at_once_leaves_once() {
    explore(|| {
        let clock = ManualClock::new();
        let cache = builder(4).clock(clock.clone()).build();
        let mint = Mint::default();
        put(&cache, &mint, [(1, 20), (2, 10)]);
        clock.advance(seconds(30));
        scope(|scope| {
            scope.spawn(|| {
                let lifetime = seconds(60);
                let old = cache.insert_with_ttl_blocking(1, mint.value(7), lifetime);
                assert!(old.is_none(), "an expired value comes back");
            });
            scope.spawn(|| assert!(cache.remove_blocking(&2).is_none()));
            cache.purge_expired_blocking();
        });
        assert_eq!((number(cache.peek(&1)), cache.len()), (Some(7), 1));
        assert_eq!(cache.stats().expirations, 2);
        mint.close(cache);
    });
}

#[test]
fn an_entry_that_is_used_outlives_its_first_time_to_idle_and_a_purge_at_the_same_moment() {
    explore(|| {
        let clock = ManualClock::new();
        let cache = builder(4).time_to_idle(seconds(10)).clock(clock.clone()).build();
        let mint = Mint::default();
        mint.fill(&cache, [1, 2]);
        clock.advance(seconds(6));
        let hit = scope(|scope| {
            scope.spawn(|| {
                clock.advance(seconds(6));
                cache.purge_expired_blocking();
            });
            scope.spawn(|| put(&cache, &mint, [(3, 60), (4, 3)]));
            cache.get(&1).is_some()
        });
        // Whoever was found had four seconds left, and ten from then on.
        assert_eq!(cache.contains_key(&1), hit);
        assert!(!cache.contains_key(&2));
        clock.advance(seconds(10));
        block_on(cache.purge_expired());
        assert_eq!((cache.len(), cache.stats().expirations), (0, 4));
        mint.close(cache);
    });
}

#[test]
fn in_a_full_cache_an_expired_entry_of_another_shard_goes_before_a_live_one() {
    explore(|| {
        let clock = ManualClock::new();
        let cache = builder(3).shards(2).clock(clock.clone()).build();
        let mint = Mint::default();
        // Two keys of the first shard, and one of the second.
        put(&cache, &mint, [(2, 60), (3, 50)]);
        put(&cache, &mint, [(0, 20), (0, 10)]);
        clock.advance(seconds(10));
        scope(|scope| {
            scope.spawn(|| put(&cache, &mint, [(3, 30), (3, 40)]));
            scope.spawn(|| assert!(!cache.contains_key(&0)));
            cache.insert_blocking(8, mint.value(8));
        });
        assert!(!cache.contains_key(&0));
        assert_eq!((cache.len(), cache.stats().expirations), (3, 1));
        assert_eq!(cache.stats().evictions, 0);
        mint.close(cache);
    });
}
