//! Writes, and time, against a load in flight.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_lru::ManualClock;
use futures_lite::future::yield_now;
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::explore;
use crate::witness::{Cache, Loads, Mint, Moment, builder, number};

const TTL: Duration = Duration::from_secs(1);

/// The number of the value that is inserted; loaded ones are numbered from zero.
const INSERTED: u32 = 100;

/// What there is when two threads call for a key while another writes.
#[derive(Default)]
struct Contest {
    mint: Mint,
    loads: Loads,
}

impl Contest {
    /// Runs `write` while two others call for the key; tells it how many loads had started before.
    fn run(write: impl Fn(&Self, &Cache, u32) + Sync) {
        let (this, cache) = (Self::default(), builder(2).build());
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| this.call(&cache));
            }
            scope.spawn(|| {
                let before = this.loads.started();
                this.loads.fence();
                write(&this, &cache, before);
            });
        });
        this.mint.close(cache);
    }

    fn call(&self, cache: &Cache) -> u32 {
        let load = || self.loads.load(self.mint.value(self.loads.started()));
        block_on(cache.get_or_insert_with(1, load)).number
    }
}

#[test]
fn what_was_loaded_before_an_invalidation_is_not_seen_after_it() {
    explore(|| {
        Contest::run(|contest, cache, before| {
            assert!(cache.invalidate_blocking(&1) || before == 0);
            assert!(number(cache.get(&1)).is_none_or(|seen| seen >= before));
            assert!(contest.call(cache) >= before);
        });
    });
}

#[test]
fn an_inserted_value_is_not_replaced_by_one_that_was_loaded_before() {
    explore(|| {
        Contest::run(|contest, cache, _| {
            let replaced = cache.insert_blocking(1, contest.mint.value(INSERTED));
            assert!(number(replaced).is_none_or(|replaced| replaced == 0));
            assert_eq!(number(cache.get(&1)), Some(INSERTED));
            assert_eq!(contest.call(cache), INSERTED);
            assert!(contest.loads.started() <= 1);
        });
    });
}

#[test]
fn what_was_loaded_before_a_clear_is_not_seen_after_it() {
    explore(|| {
        Contest::run(|contest, cache, before| {
            cache.clear_blocking();
            assert!(number(cache.peek(&1)).is_none_or(|seen| seen >= before));
            assert!(contest.call(cache) >= before);
        });
    });
}

#[test]
fn what_was_loaded_before_a_limit_has_an_end_after_it() {
    // Longer than any schedule takes.
    const LIMIT: Duration = Duration::from_secs(100_000);
    explore(|| {
        Contest::run(|contest, cache, before| {
            let shortened = cache.limit_ttl_blocking(LIMIT);
            let saved = cache.snapshot_with_ttl();
            let is_later = |value: u32| value >= before;
            let has_end = |left: Option<Duration>| left.is_some_and(|left| left <= LIMIT);
            let mut saved = saved.iter();
            assert!(saved.all(|saved| has_end(saved.time_left) || is_later(saved.value.number)));
            assert!(shortened <= 1);
            contest.call(cache);
        });
    });
}

#[test]
fn a_value_lives_from_its_publication_and_is_not_seen_once_its_time_is_over() {
    const OLD: u32 = 1;
    const LOADED: u32 = 7;
    explore(|| {
        let clock = ManualClock::new();
        let cache = builder(2).ttl(TTL).clock(clock.clone()).build();
        let (mint, published, moved) = (Mint::default(), Moment::default(), Moment::default());
        mint.fill(&cache, [OLD]);
        scope(|scope| {
            scope.spawn(|| {
                let late = moved.is_reached();
                let loads = Loads::default();
                let load = || loads.load(mint.value(LOADED));
                let value = block_on(cache.get_or_insert_with(OLD, load)).number;
                published.reach();
                assert_eq!(value == LOADED, loads.started() == 1);
                if late {
                    assert_eq!(value, LOADED);
                    assert_eq!(number(cache.get(&OLD)), Some(LOADED));
                }
            });
            scope.spawn(|| {
                let early = published.is_reached();
                clock.advance(TTL);
                moved.reach();
                let seen = number(cache.get(&OLD));
                assert_ne!(seen, Some(OLD));
                assert!(seen.is_none() || !early);
            });
            scope.spawn(|| cache.purge_expired_blocking());
        });
        mint.close(cache);
    });
}

#[test]
fn an_entry_that_one_thread_has_seen_expire_is_alive_for_none_though_the_clock_steps_back() {
    explore(|| {
        let clock = ManualClock::new();
        let cache = builder(2).ttl(TTL).clock(clock.clone()).build();
        let (mint, expired) = (Mint::default(), Moment::default());
        mint.fill(&cache, [1]);
        clock.advance(TTL);
        scope(|scope| {
            scope.spawn(|| {
                if cache.get(&1).is_none() {
                    expired.reach();
                }
            });
            scope.spawn(|| clock.set(Duration::ZERO));
            scope.spawn(|| {
                for _ in 0..2 {
                    let expired_before = expired.is_reached();
                    assert!(cache.peek(&1).is_none() || !expired_before);
                }
                mint.fill(&cache, [2]);
            });
        });
        assert!(!cache.contains_key(&1) || !expired.is_reached());
        mint.close(cache);
    });
}

#[test]
fn what_was_loaded_before_or_during_a_guarded_write_is_not_cached_after_it() {
    explore(|| {
        let (cache, mint) = (builder(2).build(), Mint::default());
        // A source that is no point at which another thread may go on.
        let source = AtomicU32::new(1);
        scope(|scope| {
            scope.spawn(|| {
                let writing = cache.writing(&1);
                source.store(2, Ordering::SeqCst);
                shuttle::thread::yield_now();
                assert!(cache.get(&1).is_none(), "nobody can tell what it was loaded from");
                drop(writing);
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    let load = async || {
                        let row = source.load(Ordering::SeqCst);
                        yield_now().await;
                        mint.value(row)
                    };
                    drop(block_on(cache.get_or_insert_with(1, load)));
                });
            }
        });
        assert!(matches!(number(cache.get(&1)), None | Some(2)));
        mint.close(cache);
    });
}

#[test]
fn of_two_guarded_writes_that_overlap_neither_leaves_a_value_that_the_source_does_not_have() {
    explore(|| {
        let (cache, mint) = (builder(2).build(), Mint::default());
        let source = AtomicU32::new(0);
        scope(|scope| {
            for row in 1..=2 {
                let (cache, mint, source) = (&cache, &mint, &source);
                scope.spawn(move || {
                    let writing = cache.writing(&1);
                    source.store(row, Ordering::SeqCst);
                    shuttle::thread::yield_now();
                    block_on(writing.insert(mint.value(row)));
                });
            }
        });
        let row = source.load(Ordering::SeqCst);
        assert!(number(cache.get(&1)).is_none_or(|cached| cached == row));
        mint.close(cache);
    });
}
