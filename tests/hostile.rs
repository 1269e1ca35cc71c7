//! Extreme settings, lying keys, failing loads and odd clocks: nothing panics, hangs, or grows.

mod common;

use async_lru::{AsyncLru, Clock, Equivalent, Eviction, ManualClock};
use common::{Calls, Gate, Hand, hand, join_all, now, poll};
use futures_lite::future::{block_on, yield_now};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

// Caches that keep nothing.

fn keeping_nothing() -> [AsyncLru<u64, u64>; 4] {
    let builder = AsyncLru::<u64, u64>::builder;
    [
        builder().maxsize(0).build(),
        builder().maxsize(0).shards(16).build(),
        builder().ttl(Duration::ZERO).build(),
        builder().maxsize(0).ttl(Duration::ZERO).clock(ManualClock::new()).deep_size().build(),
    ]
}

executors! {
    async fn a_cache_that_keeps_nothing_loads_every_time() {
        for cache in keeping_nothing() {
            for turn in 0..5 {
                assert_eq!(cache.get_or_insert_with(1, async || turn).await, turn);
                assert_eq!(cache.get_or_insert_own(1, async || Err(turn)).await, Err(turn));
                assert_eq!((cache.get(&1), cache.peek(&1)), (None, None));
                assert!(cache.is_empty() && !cache.contains_key(&1) && cache.keys().is_empty());
            }
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.loads), (0, 10));
            assert_eq!((stats.evictions, stats.expirations), (0, 0));
        }
    }

    async fn a_cache_that_keeps_nothing_takes_no_insertion() {
        for cache in keeping_nothing() {
            for value in 0..2 {
                assert_eq!(cache.insert(1, value).await, None);
                assert_eq!(cache.insert_blocking(1, value), None);
                assert_eq!(cache.remove(&1).await, None);
                assert!(!cache.invalidate(&1).await);
                assert_eq!(cache.purge_expired().await, 0);
                assert!(cache.is_empty());
            }
            cache.clear().await;
        }
    }

    /// Against (A19) of `docs/reliability.md`.
    async fn callers_of_one_moment_share_a_load_of_a_cache_that_keeps_nothing() {
        for cache in keeping_nothing() {
            let started = AtomicU64::new(0);
            for round in 1..=3 {
                let calls = (0..20).map(|_| {
                    cache.get_or_insert_with(1, async || {
                        yield_now().await;
                        started.fetch_add(1, Ordering::Relaxed)
                    })
                });
                assert_eq!(join_all(calls).await, [round - 1; 20]);
                assert_eq!(started.load(Ordering::Relaxed), round);
            }
            assert_eq!((cache.stats().misses, cache.stats().coalesced), (3, 57));
        }
    }

    async fn writes_fence_the_loads_of_a_cache_that_keeps_nothing() {
        for cache in keeping_nothing() {
            let load = |gate: Gate, value| {
                cache.get_or_insert_with(1, async move || {
                    gate.wait().await;
                    value
                })
            };
            let (old, new) = (Gate::new(), Gate::new());
            let mut before = hand(load(old.clone(), 1));
            assert!(poll(&mut before).is_pending());
            assert!(now(cache.invalidate(&1)));
            let mut between = hand(load(new.clone(), 2));
            assert!(poll(&mut between).is_pending());
            assert_eq!(now(cache.insert(1, 9)), None);
            let mut after = hand(load(new.clone(), 3));
            assert!(poll(&mut after).is_pending());
            new.open();
            assert_eq!(poll(&mut after), Poll::Ready(3));
            assert_eq!(poll(&mut between), Poll::Ready(2));
            old.open();
            assert_eq!(poll(&mut before), Poll::Ready(1));
            assert!(cache.is_empty());
        }
    }
}

// Extreme settings.

executors! {
    /// Against (A34), (A35) of `docs/reliability.md`.
    async fn the_largest_settings_work() {
        let cache = AsyncLru::<u64, u64>::builder()
            .maxsize(usize::MAX)
            .ttl(Duration::MAX)
            .shards(usize::MAX)
            .build();
        let info = cache.info();
        assert_eq!((info.ttl, info.shards), (Some(Duration::MAX), 1024));
        assert_eq!(info.maxsize, i32::MAX as usize);
        assert!(cache.stats().total_size_in_memory_bytes < 1 << 20, "{}", cache.stats());
        for key in 0..5_000 {
            cache.insert(key, key).await;
        }
        assert_eq!((cache.len(), cache.get(&4_999)), (5_000, Some(4_999)));
        assert_eq!(cache.purge_expired().await, 0);
        cache.clear().await;
        assert!(cache.is_empty());
    }

    /// Against (A36) of `docs/reliability.md`.
    async fn the_smallest_settings_work() {
        let nanosecond = Duration::from_nanos(1);
        let clock = ManualClock::new();
        let cache = AsyncLru::<u64, u64>::builder()
            .maxsize(1)
            .ttl(nanosecond)
            .shards(0)
            .clock(clock.clone())
            .build();
        assert_eq!(cache.info().shards, 1);
        for key in 0..100 {
            assert_eq!(cache.get_or_insert_with(key, async || key).await, key);
            assert_eq!(cache.keys(), [key]);
        }
        clock.advance(nanosecond);
        assert_eq!(cache.get(&99), None);
    }

    /// Against (A36) of `docs/reliability.md`.
    async fn more_shards_than_entries_hold_no_more_than_they_may() {
        for maxsize in 1..5 {
            let cache = AsyncLru::<u64, u64>::builder().maxsize(maxsize).shards(1024).build();
            for key in 0..500 {
                assert_eq!(cache.get_or_insert_with(key, async || key).await, key);
                assert_eq!(cache.get(&key), Some(key), "the newest entry stays");
                assert_eq!(cache.len(), maxsize.min(key as usize + 1));
            }
            assert_eq!(cache.stats().evictions, 500 - maxsize as u64);
        }
    }
}

// Hashers.

/// Hashes everything to the same number.
#[derive(Default)]
struct Constant<const HASH: u64>;

impl<const HASH: u64> Hasher for Constant<HASH> {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        HASH
    }
}

async fn fill_and_empty<const HASH: u64>() {
    for shards in [1, 16] {
        let cache = AsyncLru::<u64, u64>::builder()
            .maxsize(200)
            .shards(shards)
            .hasher(BuildHasherDefault::<Constant<HASH>>::new())
            .build();
        for key in 0..300 {
            assert_eq!(cache.get_or_insert_with(key, async || key * 2).await, key * 2);
        }
        assert_eq!(cache.keys(), (100..300).collect::<Vec<_>>(), "one shard, so in exact order");
        for key in 0..300 {
            assert_eq!(cache.get(&key), (key >= 100).then_some(key * 2));
        }
        for key in 100..200 {
            assert_eq!(cache.remove(&key).await, Some(key * 2));
        }
        assert_eq!(cache.keys(), (200..300).collect::<Vec<_>>());
    }
}

executors! {
    async fn a_hasher_that_knows_one_number_slows_things_down_and_breaks_nothing() {
        fill_and_empty::<0>().await;
        fill_and_empty::<{ u64::MAX }>().await;
        fill_and_empty::<0x8000_0000_0000_0001>().await;
    }

    async fn loads_of_keys_with_one_hash_do_not_mix() {
        let cache = AsyncLru::<u64, u64>::builder()
            .hasher(BuildHasherDefault::<Constant<7>>::new())
            .build();
        let calls = (0..100).map(|call| {
            let key = call % 25;
            cache.get_or_insert_with(key, async move || {
                yield_now().await;
                key
            })
        });
        let values = join_all(calls).await;
        assert!(values.iter().zip(0..).all(|(value, call)| *value == call % 25));
        assert_eq!((cache.stats().loads, cache.stats().coalesced), (25, 75));
    }
}

// Keys that lie.

/// How a key answers whether it equals another.
#[derive(Clone, Copy, Debug)]
enum Lie {
    AlwaysEqual,
    NeverEqual,
    InTurns,
    /// As in turns, and no two hashes of it are the same.
    InTurnsAndHashedAnew,
}

#[derive(Clone)]
struct Liar {
    lie: Lie,
    asked: Arc<AtomicU64>,
}

impl Liar {
    fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Relaxed)
    }
}

impl Hash for Liar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Lie::InTurnsAndHashedAnew = self.lie {
            self.ask().hash(state);
        }
    }
}

impl PartialEq for Liar {
    fn eq(&self, _: &Self) -> bool {
        match self.lie {
            Lie::AlwaysEqual => true,
            Lie::NeverEqual => false,
            Lie::InTurns | Lie::InTurnsAndHashedAnew => self.ask() % 2 == 0,
        }
    }
}

impl Eq for Liar {}

fn for_each_lie(test: impl Fn(Liar, AsyncLru<Liar, u64>)) {
    for lie in [Lie::AlwaysEqual, Lie::NeverEqual, Lie::InTurns, Lie::InTurnsAndHashedAnew] {
        for shards in [1, 4] {
            for (ttl, eviction) in
                [(None, Eviction::Lru), (Some(SECOND), Eviction::Lru), (None, Eviction::Adaptive)]
            {
                let mut builder = AsyncLru::builder().maxsize(5).shards(shards).eviction(eviction);
                if let Some(ttl) = ttl {
                    builder = builder.ttl(ttl);
                }
                test(Liar { lie, asked: Arc::default() }, builder.build());
            }
        }
    }
}

executors! {
    async fn keys_that_lie_about_equality_keep_within_the_bound() {
        for_each_lie(|key, cache| {
            for turn in 0..2_000 {
                match turn % 11 {
                    0 => drop(now(cache.insert(key.clone(), turn))),
                    1 => drop(cache.get(&key)),
                    2 => drop(now(cache.get_or_insert_with_ref(&key, async || turn))),
                    3 => drop(cache.contains_key(&key)),
                    4 if turn % 3 == 0 => drop(now(cache.remove(&key))),
                    5 if turn % 3 == 0 => drop(now(cache.invalidate(&key))),
                    6 => {
                        let fail = async || Err::<u64, _>("down".to_owned());
                        drop(now(cache.try_get_or_insert_with(key.clone(), fail)));
                    }
                    _ => drop(now(cache.get_or_insert_with(key.clone(), async || turn))),
                }
                assert!(cache.len() <= 5);
                assert_eq!(cache.keys().len(), cache.len());
            }
            now(cache.clear());
            assert!(cache.is_empty());
            drop(cache);
            assert_eq!(Arc::strong_count(&key.asked), 1, "a key was left behind");
        });
    }

    async fn loads_of_keys_that_lie_about_equality_come_to_an_end() {
        for_each_lie(|key, cache| {
            for round in 0..20 {
                let calls = (0..20).map(|call| {
                    let key = key.clone();
                    cache.get_or_insert_own(key, async move || {
                        for _ in 0..call % 3 {
                            yield_now().await;
                        }
                        if call % 5 == round % 5 { Err(call) } else { Ok(call) }
                    })
                });
                let mut all = hand(join_all(calls));
                let mut polls = 0;
                while poll(&mut all).is_pending() {
                    polls += 1;
                    // Between the polls, writes fence some of the loads.
                    now(cache.invalidate(&key));
                    assert!(cache.len() <= 5 && polls < 1_000, "{:?}", key.lie);
                }
            }
        });
    }
}

#[test]
fn keys_that_lie_about_equality_keep_within_the_bound_on_several_threads() {
    for_each_lie(|key, cache| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..300 {
                        let load = async || {
                            yield_now().await;
                            turn
                        };
                        block_on(cache.get_or_insert_with(key.clone(), load));
                        cache.insert_blocking(key.clone(), turn);
                        if turn % 7 == 0 {
                            cache.invalidate_blocking(&key);
                        }
                        assert!(cache.len() <= 5);
                    }
                });
            }
        });
        assert_eq!(cache.keys().len(), cache.len());
    });
}

/// A key that can be changed while it is in the cache.
#[derive(Clone, Debug)]
struct Shifty(Arc<AtomicU64>);

impl Shifty {
    fn new(number: u64) -> Self {
        Self(Arc::new(AtomicU64::new(number)))
    }

    fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Hash for Shifty {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number().hash(state);
    }
}

impl PartialEq for Shifty {
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl Eq for Shifty {}

executors! {
    /// Against (A36) of `docs/reliability.md`.
    async fn keys_that_change_in_the_cache_are_lost_and_leave_in_their_turn() {
        for shards in [1, 8] {
            let cache = AsyncLru::<Shifty, u64>::builder().maxsize(50).shards(shards).build();
            let keys: Vec<_> = (0..500).map(Shifty::new).collect();
            for (number, key) in (0..).zip(&keys) {
                cache.insert(key.clone(), number).await;
                key.0.store(number + 1_000_000, Ordering::Relaxed);
                assert!(cache.len() <= 50);
                assert!(cache.keys().len() <= 50);
            }
            // All there, under hashes that their keys do not have any more.
            assert_eq!((cache.len(), cache.stats().evictions), (50, 450));
            let mut removed = 0;
            for (number, key) in (0..).zip(&keys) {
                key.0.store(number, Ordering::Relaxed);
                match cache.remove(key).await {
                    Some(value) => {
                        assert_eq!(value, number);
                        removed += 1;
                    }
                    None => assert!(shards > 1 || number < 450),
                }
            }
            assert_eq!((removed, cache.len()), (50, 0), "changed back, each is found again");
            assert!(keys.iter().all(|key| Arc::strong_count(&key.0) == 1));
        }
    }

    async fn a_key_that_changes_during_its_load_is_published_and_leaves_in_its_turn() {
        let cache = AsyncLru::<Shifty, u64>::new(3);
        for number in 0..20 {
            let key = Shifty::new(number);
            let load = async || {
                key.0.store(number + 100, Ordering::Relaxed);
                number
            };
            assert_eq!(cache.get_or_insert_with(key.clone(), load).await, number);
            assert!(cache.len() <= 3);
        }
        assert_eq!(cache.keys().iter().map(Shifty::number).collect::<Vec<_>>(), [117, 118, 119]);
    }

    async fn a_query_that_equals_every_key_removes_one_at_a_time() {
        #[derive(Hash)]
        struct Any;

        impl Equivalent<u64> for Any {
            fn equivalent(&self, _: &u64) -> bool {
                true
            }
        }

        let cache = AsyncLru::<u64, u64>::builder()
            .hasher(BuildHasherDefault::<Constant<0>>::new())
            .build();
        for key in 0..10 {
            cache.insert(key, key).await;
        }
        for left in (0..10).rev() {
            assert!(cache.get(&Any).is_some());
            assert!(cache.remove(&Any).await.is_some());
            assert_eq!(cache.len(), left);
        }
        assert_eq!(cache.remove(&Any).await, None);
    }
}

// Loads that come to nothing.

/// Asserts that the cache holds no copy of the key, and can load and keep it.
async fn assert_usable(cache: &AsyncLru<Arc<str>, u64>, key: &Arc<str>) {
    assert_eq!(Arc::strong_count(key), 1, "a key was left behind");
    assert_eq!(cache.get_or_insert_with(Arc::clone(key), async || 7).await, 7);
    assert_eq!(cache.get(key), Some(7));
    assert_eq!(Arc::strong_count(key), 2);
}

executors! {
    /// Against (A30) of `docs/reliability.md`.
    async fn ten_thousand_errors_in_a_row_leave_nothing_behind() {
        let cache = AsyncLru::<Arc<str>, u64>::new(10);
        let key: Arc<str> = "key".into();
        for turn in 0..10_000 {
            let fail = async || Err(turn);
            let failed = if turn % 2 == 0 {
                cache.get_or_insert_own(Arc::clone(&key), fail).await
            } else {
                cache.try_get_or_insert_with(Arc::clone(&key), fail).await.map_err(|error| *error)
            };
            assert_eq!(failed, Err(turn));
        }
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.loads, stats.load_failures), (10_000, 10_000, 10_000));
        assert_usable(&cache, &key).await;
    }

    async fn errors_of_many_waiters_in_a_row_leave_nothing_behind() {
        let cache = AsyncLru::<Arc<str>, u64>::new(10);
        let key: Arc<str> = "key".into();
        let calls = (0..200).map(|call| {
            cache.get_or_insert_own(Arc::clone(&key), async move || {
                yield_now().await;
                Err(call)
            })
        });
        for (call, failed) in join_all(calls).await.into_iter().enumerate() {
            assert_eq!(failed, Err(call), "each caller gets the error of its own load");
        }
        assert_usable(&cache, &key).await;
    }

    /// Against (A7), (A30) of `docs/reliability.md`.
    async fn a_thousand_panics_leave_nothing_behind() {
        let cache = AsyncLru::<Arc<str>, u64>::new(10);
        let key: Arc<str> = "key".into();
        for turn in 0..1_000 {
            // Unlike `panic!` it prints nothing.
            let panicking = cache.get_or_insert_with(Arc::clone(&key), async || {
                if turn % 2 == 0 {
                    yield_now().await;
                }
                resume_unwind(Box::new("on purpose"))
            });
            let mut panicking = hand(panicking);
            let run = || while poll(&mut panicking).is_pending() {};
            catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        }
        assert_eq!(cache.stats().load_failures, 1_000);
        assert_usable(&cache, &key).await;
    }

    async fn ten_thousand_dropped_loads_leave_nothing_behind() {
        let cache = AsyncLru::<Arc<str>, u64>::new(10);
        let key: Arc<str> = "key".into();
        for _ in 0..10_000 {
            let mut dropped = hand(cache.get_or_insert_with(Arc::clone(&key), pending));
            assert!(poll(&mut dropped).is_pending());
        }
        assert_eq!(cache.stats().load_failures, 10_000);
        assert_usable(&cache, &key).await;
    }

    /// Against (A30) of `docs/reliability.md`.
    async fn ten_thousand_dropped_waiters_leave_nothing_behind() {
        let cache = AsyncLru::<Arc<str>, u64>::new(10);
        let key: Arc<str> = "key".into();
        {
            let gate = Gate::new();
            let mut leader = hand(cache.get_or_insert_with(Arc::clone(&key), async || {
                gate.wait().await;
                7
            }));
            assert!(poll(&mut leader).is_pending());
            for _ in 0..10_000 {
                let mut waiter = hand(cache.get_or_insert_with(Arc::clone(&key), pending));
                assert!(poll(&mut waiter).is_pending());
            }
            assert_eq!(Arc::strong_count(&key), 2);
            gate.open();
            assert_eq!(poll(&mut leader), Poll::Ready(7));
        }
        assert_eq!((cache.stats().coalesced, cache.stats().loads), (10_000, 1));
        cache.remove(&key).await;
        assert_usable(&cache, &key).await;
    }

    /// Against (A8) of `docs/reliability.md`.
    async fn leaders_dropped_one_after_another_hand_over_ten_thousand_times() {
        let cache = AsyncLru::<Arc<str>, u64>::new(10);
        let key: Arc<str> = "key".into();
        {
            let call = || hand(cache.get_or_insert_with(Arc::clone(&key), pending));
            let mut leader = call();
            assert!(poll(&mut leader).is_pending());
            for _ in 0..10_000 {
                let mut waiter = call();
                assert!(poll(&mut waiter).is_pending());
                drop(leader);
                assert!(poll(&mut waiter).is_pending());
                leader = waiter;
            }
        }
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (10_001, 10_001));
        assert_usable(&cache, &key).await;
    }
}

// Clocks.

/// A clock that can be set to more than a `ManualClock` can show.
#[derive(Clone, Default)]
struct Unlimited(Arc<Mutex<Duration>>);

impl Unlimited {
    fn set(&self, time: Duration) {
        *self.0.lock().unwrap() = time;
    }
}

impl Clock for Unlimited {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// A clock that jumps about: each look shows another time.
struct Jumping(AtomicU64);

impl Clock for Jumping {
    fn now(&self) -> Duration {
        let look = self.0.fetch_add(1, Ordering::Relaxed);
        let random = (look + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match random >> 61 {
            0 => Duration::ZERO,
            1 => Duration::MAX,
            2 => Duration::from_nanos(u64::MAX),
            _ => Duration::from_nanos(random >> 40),
        }
    }
}

fn timed(shards: usize, clock: impl Clock) -> AsyncLru<u64, u64> {
    AsyncLru::<u64, u64>::builder().maxsize(10).shards(shards).ttl(SECOND).clock(clock).build()
}

/// Lets `read` see an entry that has expired, and asserts that it is gone when the clock is back.
async fn assert_gone_after(read: impl FnOnce(&AsyncLru<u64, u64>)) {
    let clock = ManualClock::new();
    let cache = timed(1, clock.clone());
    clock.set(10 * SECOND);
    cache.insert(1, 1).await;
    clock.set(20 * SECOND);
    read(&cache);
    clock.set(10 * SECOND);
    assert_eq!(cache.get(&1), None);
    assert!(cache.keys().is_empty());
    assert_eq!(cache.insert(1, 2).await, None);
    assert_eq!(cache.get(&1), Some(2), "a new entry is alive");
}

executors! {
    async fn under_a_clock_that_stands_still_entries_stay_and_are_evicted_in_turn() {
        let cache = timed(1, ManualClock::new());
        for key in 0..100 {
            cache.insert(key, key).await;
        }
        assert_eq!(cache.keys(), (90..100).collect::<Vec<_>>());
        assert_eq!(cache.purge_expired().await, 0);
        assert_eq!(cache.stats().expirations, 0);
    }

    async fn what_a_read_has_seen_expired_stays_gone_when_the_clock_steps_back() {
        assert_gone_after(|cache| assert_eq!(cache.get(&1), None)).await;
        assert_gone_after(|cache| assert_eq!(cache.peek(&1), None)).await;
        assert_gone_after(|cache| assert!(!cache.contains_key(&1))).await;
    }

    async fn what_a_list_of_keys_has_left_out_stays_gone_when_the_clock_steps_back() {
        assert_gone_after(|cache| assert!(cache.keys().is_empty())).await;
    }

    async fn what_a_write_has_freed_stays_gone_when_the_clock_steps_back() {
        for shards in [1, 8] {
            let clock = ManualClock::new();
            let cache = timed(shards, clock.clone());
            clock.set(10 * SECOND);
            for key in 0..10 {
                cache.insert(key, key).await;
            }
            clock.set(20 * SECOND);
            assert_eq!(cache.purge_expired().await, 10);
            clock.set(Duration::ZERO);
            assert!((0..10).all(|key| cache.get(&key).is_none()));
            for key in 0..10 {
                cache.insert(key, key).await;
            }
            assert!((0..10).all(|key| cache.get(&key) == Some(key)));
        }
    }

    async fn an_entry_written_after_a_step_back_lives_as_long_as_any_other() {
        let clock = ManualClock::new();
        let cache = timed(1, clock.clone());
        clock.set(10 * SECOND);
        cache.insert(1, 1).await;
        clock.set(5 * SECOND);
        cache.insert(2, 2).await;
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), Some(2)));
        // As the cache knows the time, it is ten seconds until the clock says so again.
        clock.set(10 * SECOND + SECOND / 2);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), Some(2)));
        clock.set(11 * SECOND);
        assert_eq!((cache.get(&1), cache.get(&2)), (None, None));
    }

    /// Against (A34) of `docs/reliability.md`.
    async fn a_jump_to_the_end_of_time_expires_what_can_expire() {
        let nanoseconds = Duration::from_nanos;
        for end in [Duration::MAX, nanoseconds(u64::MAX), nanoseconds(u64::MAX - 1)] {
            let clock = Unlimited::default();
            let cache = timed(1, clock.clone());
            let endless = AsyncLru::<u64, u64>::builder()
                .ttl(Duration::MAX)
                .clock(clock.clone())
                .build();
            cache.insert(1, 1).await;
            endless.insert(1, 1).await;
            clock.set(end);
            assert_eq!((cache.get(&1), endless.get(&1)), (None, Some(1)));
            assert_eq!((cache.purge_expired().await, endless.purge_expired().await), (1, 0));
            // Nothing can come after this.
            cache.insert(2, 2).await;
            assert_eq!(cache.get_or_insert_with(2, async || 3).await, 2);
            clock.set(Duration::ZERO);
            assert_eq!(cache.get(&2), Some(2));
            assert_eq!(cache.get_or_insert_with(1, async || 4).await, 4);
        }
    }

    /// Against (A34) of `docs/reliability.md`.
    async fn a_clock_that_jumps_about_breaks_nothing() {
        for shards in [1, 8] {
            let cache = timed(shards, Jumping(AtomicU64::new(0)));
            for turn in 0..5_000 {
                let key = turn * 7 % 23;
                match turn % 5 {
                    0 => drop(cache.insert(key, turn).await),
                    1 => drop(cache.get(&key)),
                    2 => drop(cache.remove(&key).await),
                    3 => drop(cache.purge_expired().await),
                    _ => drop(cache.get_or_insert_with(key, async || turn).await),
                }
                assert!(cache.len() <= 10 && cache.keys().len() <= cache.len());
            }
        }
    }
}

// Anything in any order.

#[derive(Clone, Debug)]
enum Step {
    Get(u64),
    Peek(u64),
    Contains(u64),
    Load(u64),
    Fail(u64),
    /// Starts a load that is kept and ended by a later step.
    Start(u64),
    End,
    Cancel,
    Insert(u64),
    Remove(u64),
    Invalidate(u64),
    Clear,
    Purge,
    /// Sets the clock to this many milliseconds.
    Time(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12_u64;
    let step = prop_oneof![
        4 => key.clone().prop_map(Step::Get),
        1 => key.clone().prop_map(Step::Peek),
        1 => key.clone().prop_map(Step::Contains),
        6 => key.clone().prop_map(Step::Load),
        1 => key.clone().prop_map(Step::Fail),
        3 => key.clone().prop_map(Step::Start),
        2 => Just(Step::End),
        1 => Just(Step::Cancel),
        4 => key.clone().prop_map(Step::Insert),
        2 => key.clone().prop_map(Step::Remove),
        2 => key.prop_map(Step::Invalidate),
        1 => Just(Step::Clear),
        1 => Just(Step::Purge),
        4 => (0..4_000_u64).prop_map(Step::Time),
    ];
    proptest::collection::vec(step, 1..120)
}

fn ttl() -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![
        Just(None),
        Just(Some(Duration::ZERO)),
        Just(Some(SECOND)),
        Just(Some(Duration::MAX)),
    ]
}

/// A load in progress or a call that waits for one.
struct Flight<'a> {
    key: u64,
    turn: usize,
    leads: bool,
    fenced: bool,
    call: Hand<'a, usize>,
}

/// Notes that a write has won over the loads of some keys.
fn fence(flights: &mut [Flight], of: impl Fn(u64) -> bool) {
    for flight in flights {
        flight.fenced |= of(flight.key);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No more entries than allowed; no value but the one written last; and no key that a read did
    /// not find comes back by itself, wherever the clock goes.
    #[test]
    fn any_steps_keep_within_the_bound_and_return_no_stale_value(
        maxsize in 0..=8_usize,
        shards in 0..=9_usize,
        ttl in ttl(),
        coalesce: bool,
        adapts: bool,
        steps in steps(),
    ) {
        let clock = ManualClock::new();
        let mut builder = AsyncLru::builder()
            .maxsize(maxsize)
            .shards(shards)
            .clock(clock.clone())
            .measure_with(|_, _| 1);
        if let Some(ttl) = ttl {
            builder = builder.ttl(ttl);
        }
        if !coalesce {
            builder = builder.without_single_flight();
        }
        if adapts {
            builder = builder.eviction(Eviction::Adaptive);
        }
        let cache: AsyncLru<u64, usize> = builder.build();
        // The value that each key has, if it is not evicted or expired.
        let mut model: HashMap<u64, usize> = HashMap::new();
        // Keys that a read has not found since they were last written.
        let mut gone: HashSet<u64> = HashSet::new();
        let gates: Vec<Gate> = steps.iter().map(|_| Gate::new()).collect();
        let mut flights: Vec<Flight> = Vec::new();
        for (turn, step) in steps.into_iter().enumerate() {
            let mut seen = None;
            match step {
                Step::Get(key) => seen = Some((key, cache.get(&key))),
                Step::Peek(key) => seen = Some((key, cache.peek(&key))),
                Step::Contains(key) => {
                    if !cache.contains_key(&key) {
                        seen = Some((key, None));
                    }
                }
                Step::Load(key) => {
                    let mut call = hand(cache.get_or_insert_with(key, async || turn));
                    // Pending if it has joined a flight.
                    if let Poll::Ready(value) = poll(&mut call) {
                        if value == turn {
                            model.insert(key, turn);
                            gone.remove(&key);
                        }
                        seen = Some((key, Some(value)));
                    }
                }
                Step::Fail(key) => {
                    let mut call = hand(cache.get_or_insert_own(key, async || Err(turn)));
                    match poll(&mut call) {
                        Poll::Ready(Ok(value)) => seen = Some((key, Some(value))),
                        Poll::Ready(Err(failed)) => assert_eq!(failed, turn),
                        Poll::Pending => {}
                    }
                }
                Step::Start(key) => {
                    let gate = &gates[turn];
                    let mut call = hand(cache.get_or_insert_with(key, async move || {
                        gate.wait().await;
                        turn
                    }));
                    let loads = cache.stats().loads;
                    match poll(&mut call) {
                        Poll::Ready(value) => seen = Some((key, Some(value))),
                        Poll::Pending => {
                            let leads = cache.stats().loads > loads;
                            flights.push(Flight { key, turn, leads, fenced: false, call });
                        }
                    }
                }
                Step::End => {
                    if !flights.is_empty() {
                        let Flight { key, turn, leads, fenced, mut call } = flights.remove(0);
                        gates[turn].open();
                        // Another's value says nothing: it may have been kept out.
                        if poll(&mut call) == Poll::Ready(turn) && !(leads && fenced) {
                            model.insert(key, turn);
                            gone.remove(&key);
                        }
                    }
                }
                Step::Cancel => drop(flights.pop()),
                Step::Insert(key) => {
                    now(cache.insert(key, turn));
                    model.insert(key, turn);
                    gone.remove(&key);
                    fence(&mut flights, |flying| flying == key);
                }
                Step::Remove(key) => {
                    let removed = now(cache.remove(&key));
                    prop_assert!(removed.is_none() || removed == model.remove(&key));
                    model.remove(&key);
                    fence(&mut flights, |flying| flying == key);
                }
                Step::Invalidate(key) => {
                    let mut flying = flights.iter().filter(|flight| flight.key == key);
                    let found = flying.any(|flight| flight.leads && !flight.fenced);
                    prop_assert!(now(cache.invalidate(&key)) || !found);
                    model.remove(&key);
                    fence(&mut flights, |flying| flying == key);
                }
                Step::Clear => {
                    now(cache.clear());
                    model.clear();
                    fence(&mut flights, |_| true);
                }
                Step::Purge => drop(now(cache.purge_expired())),
                Step::Time(milliseconds) => clock.set(Duration::from_millis(milliseconds)),
            }
            match seen {
                Some((key, Some(value))) => {
                    prop_assert_eq!(Some(&value), model.get(&key), "key {}", key);
                    prop_assert!(!gone.contains(&key), "key {} has come back", key);
                }
                Some((key, None)) => drop(gone.insert(key)),
                None => {}
            }
            let len = cache.len();
            prop_assert!(len <= maxsize, "{} entries", len);
            let keys = cache.keys();
            prop_assert!(keys.len() <= len);
            prop_assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
            if ttl.is_none() {
                prop_assert_eq!(keys.len(), len);
            }
        }
        drop(flights);
        prop_assert!(cache.purge_expired_blocking() <= maxsize);
        cache.clear_blocking();
        prop_assert!(cache.is_empty());
    }
}
