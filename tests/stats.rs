//! What the statistics count, and that they add up.

mod common;
#[path = "common/forms.rs"]
mod forms;

use async_lru::{AsyncLru, CacheStats, ManualClock, Update};
use common::{Calls, Gate, Hand, hand, join_all, now, poll};
use forms::Form;
use futures_lite::future::{block_on, pending, yield_now, zip};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
struct Down;

/// Calls the cache in ways that differ from call to call, and counts what it did by itself.
#[derive(Default)]
struct Workload {
    calls: AtomicU64,
    started: AtomicU64,
    failed: AtomicU64,
}

impl Workload {
    /// One call with a key and a kind of its own; returns without a value if the load failed.
    async fn call(&self, cache: &AsyncLru<u64, u64>, turn: u64) -> Option<u64> {
        let random = scramble(turn);
        let key = random % 40;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let load = async || {
            self.started.fetch_add(1, Ordering::Relaxed);
            for _ in 0..random % 4 {
                yield_now().await;
            }
            if random % 5 == 0 {
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Err(Down);
            }
            Ok(key)
        };
        // The kind must not hang on what the failure hangs on.
        match scramble(random) % 7 {
            0 => cache.get(&key),
            1 => cache.get_or_insert_own_ref(&key, load).await.ok(),
            2 => cache.try_get_or_insert_with(key, load).await.ok(),
            3 => cache.try_get_or_insert_with_ref(&key, load).await.ok(),
            4 => {
                let load = async || {
                    self.started.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                    key
                };
                Some(cache.get_or_insert_with(key, load).await)
            }
            _ => cache.get_or_insert_own(key, load).await.ok(),
        }
    }

    /// Asserts that the cache has counted the same. `dropped` loads were cancelled.
    fn check(&self, stats: &CacheStats, dropped: u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(stats.hits + stats.misses + stats.coalesced, count(&self.calls), "{stats}");
        assert_eq!(stats.loads, count(&self.started), "{stats}");
        assert_eq!(stats.load_failures, count(&self.failed) + dropped, "{stats}");
        assert!(stats.hits > 0 && stats.misses > 0, "the workload is too simple: {stats}");
    }
}

/// The same scrambled numbers in each run.
fn scramble(n: u64) -> u64 {
    let mut bits = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits ^= bits >> 32;
    bits = bits.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    bits ^ bits >> 32
}

/// Hits, misses and coalesced calls.
fn calls(stats: &CacheStats) -> (u64, u64, u64) {
    (stats.hits, stats.misses, stats.coalesced)
}

// Sums.

executors! {
    async fn calls_and_loads_add_up_over_a_mixed_workload() {
        for coalescing in [true, false] {
            let builder = AsyncLru::builder().maxsize(20);
            let cache =
                if coalescing { builder.build() } else { builder.without_single_flight().build() };
            let work = Workload::default();
            for round in 0..20 {
                let calls = (0..50).map(|call| work.call(&cache, round * 50 + call));
                for answer in join_all(calls).await.into_iter().flatten() {
                    assert!(answer < 40);
                }
            }
            let stats = cache.stats();
            work.check(&stats, 0);
            assert_eq!(stats.coalesced > 0, coalescing, "{stats}");
        }
    }

    async fn calls_and_loads_add_up_when_calls_are_dropped() {
        let cache = AsyncLru::<u64, u64>::new(20);
        let work = Workload::default();
        for round in 0..100 {
            let mut hands: Vec<_> =
                (0..20).map(|call| Some(hand(work.call(&cache, round * 20 + call)))).collect();
            // Polls and drops in an order that has nothing to do with who leads.
            for step in 0.. {
                let random = scramble(round << 32 | step);
                let slot = &mut hands[random as usize % 20];
                let is_done = match slot {
                    Some(_) if random >> 40 & 7 == 0 => true,
                    Some(call) => poll(call).is_ready(),
                    None => false,
                };
                if is_done {
                    *slot = None;
                    if hands.iter().all(Option::is_none) {
                        break;
                    }
                }
            }
        }
        let stats = cache.stats();
        let dropped = stats.load_failures - work.failed.load(Ordering::Relaxed);
        assert!(dropped > 0 && stats.coalesced > 0, "the workload is too simple: {stats}");
        work.check(&stats, dropped);
    }

    /// Each load that published filled a room, which it or the next in it left for a reason.
    async fn entries_that_came_are_there_or_were_evicted_expired_or_removed() {
        let clock = ManualClock::new();
        let cache =
            AsyncLru::<u64, u64>::builder().maxsize(30).ttl(SECOND).clock(clock.clone()).build();
        let mut came = 0;
        let mut removed = 0;
        for turn in 0..5_000 {
            let random = scramble(turn);
            let key = random % 60;
            match random >> 32 & 15 {
                0 => removed += u64::from(cache.remove(&key).await.is_some()),
                1 => removed += u64::from(cache.invalidate(&key).await),
                2 => clock.advance(SECOND / 8),
                3 => {
                    cache.purge_expired().await;
                }
                4..8 => came += u64::from(cache.insert(key, turn).await.is_none()),
                _ => {
                    cache.get_or_insert_with(key, async || turn).await;
                }
            }
        }
        let stats = cache.stats();
        came += stats.loads;
        assert!(stats.evictions > 100 && stats.expirations > 100 && removed > 100, "{stats}");
        let left = stats.evictions + stats.expirations + removed;
        assert_eq!(came, stats.current_size as u64 + left);
        assert_eq!(stats.invalidations, removed);
    }
}

#[test]
fn calls_and_loads_add_up_over_eight_threads() {
    const CALLS: u64 = 3_000;
    for shards in [1, 16] {
        let cache = AsyncLru::<u64, u64>::builder().maxsize(20).shards(shards).build();
        let work = Workload::default();
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for thread in 0..8 {
                let (cache, work, start) = (&cache, &work, &start);
                scope.spawn(move || {
                    start.wait();
                    for call in 0..CALLS {
                        block_on(work.call(cache, thread * CALLS + call));
                    }
                });
            }
        });
        let stats = cache.stats();
        work.check(&stats, 0);
        assert_eq!(work.calls.into_inner(), 8 * CALLS);
        let published = stats.loads - stats.load_failures;
        assert_eq!(published, stats.evictions + stats.current_size as u64, "{stats}");
        assert_eq!(stats.current_size, cache.keys().len());
    }
}

// What counts as what.

executors! {
    async fn a_call_counts_once_however_often_it_has_to_try() {
        let cache = AsyncLru::<u64, u64>::new(10);
        let fail = async || {
            yield_now().await;
            Err(Down)
        };
        let calls_made = (0..5).map(|_| cache.get_or_insert_own(1, fail));
        assert_eq!(join_all(calls_made).await, [const { Err(Down) }; 5]);
        let stats = cache.stats();
        assert_eq!(calls(&stats), (0, 1, 4));
        assert_eq!((stats.loads, stats.load_failures), (5, 5));
    }

    async fn writes_peeks_and_lists_are_no_calls() {
        let cache = AsyncLru::<u64, u64>::new(10);
        cache.insert(1, 10).await;
        cache.insert_blocking(2, 20);
        cache.peek(&1);
        cache.contains_key(&1);
        let _ = cache.keys();
        cache.remove(&1).await;
        cache.invalidate(&2).await;
        assert_eq!(calls(&cache.stats()), (0, 0, 0));
        assert_eq!(cache.stats().loads, 0);
    }

    async fn a_failed_load_counts_whatever_ends_it() {
        let cache = AsyncLru::<u64, u64>::new(10);
        cache.get_or_insert_own(1, async || Err(Down)).await.unwrap_err();
        assert_eq!(cache.stats().load_failures, 1);
        cache.try_get_or_insert_with(1, async || Err(Down)).await.unwrap_err();
        assert_eq!(cache.stats().load_failures, 2);
        {
            let never = Gate::new();
            let mut dropped = hand(cache.get_or_insert_with(1, async || {
                never.wait().await;
                1
            }));
            assert!(poll(&mut dropped).is_pending());
            assert_eq!(cache.stats().load_failures, 2);
        }
        assert_eq!(cache.stats().load_failures, 3);
        {
            let mut panicking = hand(cache.get_or_insert_with(1, async || panic!("on purpose")));
            catch_unwind(AssertUnwindSafe(|| poll(&mut panicking))).unwrap_err();
        }
        assert_eq!(cache.stats().load_failures, 4);
        {
            // Panics before there is a future.
            fn load() -> std::future::Ready<u64> {
                panic!("on purpose")
            }
            let mut panicking = hand(cache.get_or_insert_with(1, load));
            catch_unwind(AssertUnwindSafe(|| poll(&mut panicking))).unwrap_err();
        }
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.loads, stats.load_failures), (5, 5, 5));
        cache.get_or_insert_with(1, async || 1).await;
        assert_eq!(cache.stats().load_failures, 5);
    }

    async fn a_load_that_a_write_keeps_out_has_not_failed() {
        let cache = AsyncLru::<u64, u64>::new(10);
        let gate = Gate::new();
        let mut load = hand(cache.get_or_insert_with(1, async || {
            gate.wait().await;
            1
        }));
        assert!(poll(&mut load).is_pending());
        cache.invalidate_blocking(&1);
        gate.open();
        assert_eq!(poll(&mut load), Poll::Ready(1));
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 0));
    }

    async fn a_live_entry_that_makes_room_is_an_eviction_and_nothing_else_is() {
        for shards in [1, 8] {
            let cache = AsyncLru::<u64, u64>::builder().maxsize(100).shards(shards).build();
            for key in 0..250 {
                cache.insert(key, 0).await;
            }
            assert_eq!(cache.stats().evictions, 150);
            for key in cache.keys() {
                cache.insert(key, 1).await;
            }
            assert_eq!(cache.stats().evictions, 150, "a replaced value evicts nothing");
            for key in cache.keys().into_iter().take(50) {
                cache.remove(&key).await;
            }
            for key in 1_000..1_050 {
                cache.get_or_insert_with(key, async || 0).await;
            }
            assert_eq!(cache.stats().evictions, 150, "there was room");
            cache.get_or_insert_with(2_000, async || 0).await;
            assert_eq!(cache.stats().evictions, 151);
            assert_eq!((cache.len(), cache.stats().expirations), (100, 0));
        }
    }

    /// Against (A29) of `docs/reliability.md`.
    async fn each_expired_entry_counts_once_however_it_is_freed() {
        let clock = ManualClock::new();
        let cache =
            AsyncLru::<u64, u64>::builder().maxsize(10).ttl(SECOND).clock(clock.clone()).build();
        let fill = async || {
            for key in 0..10 {
                cache.insert(key, 0).await;
            }
            clock.advance(SECOND);
        };
        fill().await;
        cache.get(&1);
        cache.peek(&1);
        assert_eq!((cache.stats().expirations, cache.len()), (0, 10), "a read frees nothing");
        assert_eq!(cache.purge_expired().await, 10);
        assert_eq!(cache.stats().expirations, 10);
        fill().await;
        for key in 0..10 {
            assert_eq!(cache.remove(&key).await, None);
        }
        assert_eq!((cache.stats().expirations, cache.len()), (20, 0));
        fill().await;
        for key in 0..10 {
            cache.get_or_insert_with(key, async || 1).await;
        }
        assert_eq!((cache.stats().expirations, cache.len()), (30, 10));
        clock.advance(SECOND);
        for key in 10..20 {
            cache.insert(key, 2).await;
        }
        let stats = cache.stats();
        assert_eq!((stats.expirations, stats.evictions, stats.current_size), (40, 0, 10));
    }

    async fn an_entry_that_is_invalidated_counts_whichever_call_does_it() {
        let cache = AsyncLru::<u64, u64>::new(100);
        let fill = || cache.insert_many_blocking((0..10).map(|key| (key, key)));
        fill();
        cache.remove(&0).await;
        cache.remove(&0).await;
        cache.invalidate(&1).await;
        assert_eq!(cache.invalidate_many(&[1, 2, 3]).await, 2);
        assert_eq!(cache.invalidate_if(|key, _| *key == 4).await, 1);
        assert_eq!(cache.invalidate_keys_if(|key| *key == 5).await, 1);
        assert_eq!(cache.stats().invalidations, 6);
        cache.invalidate_all().await;
        assert_eq!((cache.len(), cache.stats().invalidations), (0, 10));
        fill();
        cache.update_with(0, async |_| Update::Remove).await;
        assert_eq!(cache.stats().invalidations, 10, "an update is none");
        cache.clear().await;
        assert_eq!((cache.len(), cache.stats().invalidations), (0, 0), "and clear resets");
    }

    async fn the_weight_of_what_was_evicted_counts_and_of_nothing_else() {
        let cache = AsyncLru::builder().shards(1).max_weight(10, |_, value| *value).build();
        cache.insert_many([(1, 4), (2, 3), (3, 3)]).await;
        cache.remove(&3).await;
        cache.insert(4_u64, 6).await;
        assert_eq!((cache.keys(), cache.stats().evicted_weight), (vec![2, 4], 4));
        assert_eq!(cache.set_max_weight(6).await, 1);
        assert_eq!((cache.stats().evictions, cache.stats().evicted_weight), (2, 7));
    }

    async fn hit_rate_is_the_share_of_all_calls_that_had_no_load_of_their_own() {
        let cache = AsyncLru::<u64, u64>::new(10);
        assert_eq!(cache.stats().hit_rate(), 0.0);
        let load = async || {
            yield_now().await;
            1
        };
        zip(cache.get_or_insert_with(1, load), cache.get_or_insert_with(1, load)).await;
        assert_eq!(cache.stats().hit_rate(), 0.5, "of a miss and a coalesced call");
        cache.get(&1);
        cache.get(&2);
        assert_eq!(cache.stats().hit_rate(), 0.5, "and of a hit and a miss");
        for _ in 0..4 {
            cache.get_or_insert_with(1, load).await;
        }
        assert_eq!(cache.stats().hit_rate(), 0.75);
    }
}

#[test]
fn loads_and_updates_in_progress_are_in_flight() {
    let cache = AsyncLru::<u64, u64>::builder().maxsize(1_000).shards(4).build();
    let mut load = hand(cache.get_or_insert_with(1, pending));
    let mut joined = hand(cache.get_or_insert_with(1, async || unreachable!()));
    let mut update = hand(cache.update_with(2, |_| pending()));
    assert_eq!((poll(&mut load), poll(&mut joined)), (Poll::Pending, Poll::Pending));
    assert_eq!(poll(&mut update), Poll::Pending);
    assert_eq!(cache.stats().in_flight, 2);
    cache.invalidate_blocking(&1);
    assert_eq!(cache.stats().in_flight, 2, "a fenced load goes on");
    drop(update);
    assert_eq!(cache.stats().in_flight, 1);
    drop((load, joined));
    assert_eq!(cache.stats().in_flight, 0);
}

/// What the rules of [`strict`] panic about.
const UNHEARD_OF: u64 = 13;

/// Caches whose rules panic when they are asked about a value.
fn strict() -> [AsyncLru<u64, u64>; 3] {
    fn look(value: &u64) {
        assert_ne!(*value, UNHEARD_OF, "on purpose");
    }
    let builder = AsyncLru::<u64, u64>::builder;
    let weigh = |_: &u64, value: &u64| {
        look(value);
        1
    };
    let measure = |_: &u64, value: &u64| {
        look(value);
        8
    };
    let expire = |_: &u64, value: &u64| {
        look(value);
        None
    };
    [
        builder().max_weight(u64::MAX, weigh).build(),
        builder().measure_with(measure).build(),
        builder().expiry(expire).clock(ManualClock::new()).build(),
    ]
}

/// Loads that bring `value` for key 1, in every form.
fn in_all_forms(cache: &AsyncLru<u64, u64>, value: u64) -> Vec<Hand<'_, ()>> {
    let load = move || async move { Ok::<_, Down>(value) };
    let sure = move || async move { value };
    let many = move |_| async move { [(1, value)] };
    let try_many = move |_| async move { Ok::<_, Down>([(1, value)]) };
    let forms = Form::ALL.into_iter().map(|form| unanswered(form.call(cache, 1, load)));
    let others = [
        unanswered(cache.entry(1).or_insert_with(sure)),
        unanswered(cache.entry(1).or_try_insert_own(load)),
        unanswered(cache.get_detached(1, sure)),
        unanswered(cache.try_get_detached(1, load)),
        unanswered(cache.get_or_insert_many([1], many)),
        unanswered(cache.try_get_or_insert_many([1], try_many)),
    ];
    forms.chain(others).collect()
}

/// A call whose answer does not matter.
fn unanswered<'a, T>(call: impl Future<Output = T> + 'a) -> Hand<'a, ()> {
    hand(async { drop(call.await) })
}

/// Runs a call that is to panic.
fn assert_panics(mut call: Hand<'_, ()>) {
    catch_unwind(AssertUnwindSafe(|| poll(&mut call))).unwrap_err();
}

#[test]
fn a_load_whose_value_cannot_be_published_has_failed_once_in_every_form() {
    for cache in strict() {
        for call in in_all_forms(&cache, UNHEARD_OF) {
            cache.reset_stats();
            assert_panics(call);
            let stats = cache.stats();
            assert_eq!((stats.misses, stats.loads, stats.load_failures), (1, 1, 1), "{cache:?}");
            assert_eq!((stats.current_size, cache.validate()), (0, 0));
        }
        for mut call in in_all_forms(&cache, 7) {
            cache.clear_blocking();
            assert!(poll(&mut call).is_ready());
            assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 0));
        }
    }
}

#[test]
fn a_batch_has_failed_once_unless_all_that_it_brought_was_published() {
    for cache in strict() {
        for unheard_of in 0..3 {
            let value = |key| if key == unheard_of { UNHEARD_OF } else { key };
            let load = async |missing: Vec<u64>| missing.into_iter().map(|key| (key, value(key)));
            cache.clear_blocking();
            assert_panics(unanswered(cache.get_or_insert_many(0..3, load)));
            let stats = cache.stats();
            assert_eq!((stats.loads, stats.load_failures), (1, 1));
            assert_eq!((stats.current_size as u64, cache.validate()), (unheard_of, 0));
        }
    }
    // What panics after the publication undoes none of it.
    for evicted in 0..3 {
        let cache = AsyncLru::<u64, u64>::builder()
            .maxsize(3)
            .on_remove(move |key, _, _| assert_ne!(key, evicted, "on purpose"))
            .build();
        for key in 0..3 {
            cache.insert_blocking(key, key);
        }
        let load = async |missing: Vec<u64>| missing.into_iter().map(|key| (key, key));
        assert_panics(unanswered(cache.get_or_insert_many(10..13, load)));
        let stats = cache.stats();
        let published = cache.keys().iter().filter(|key| **key >= 10).count();
        assert_eq!((stats.loads, published as u64), (1, evicted + 1));
        assert_eq!(stats.load_failures, u64::from(published < 3));
        assert_eq!(cache.validate(), 0);
    }
}

// Resets.

executors! {
    async fn clear_resets_every_count() {
        let cache = AsyncLru::<u64, u64>::new(2);
        for key in [1, 2, 3, 3] {
            cache.get_or_insert_with(key, async || 0).await;
        }
        cache.get_or_insert_own(9, async || Err(Down)).await.unwrap_err();
        cache.clear().await;
        let stats = cache.stats();
        assert_eq!(calls(&stats), (0, 0, 0));
        assert_eq!((stats.loads, stats.load_failures), (0, 0));
        assert_eq!((stats.evictions, stats.current_size), (0, 0));
    }

    async fn counting_goes_on_after_a_reset() {
        let cache = AsyncLru::<u64, u64>::new(2);
        cache.get_or_insert_with(1, async || 0).await;
        cache.reset_stats();
        cache.get(&1);
        cache.get(&1);
        cache.get(&2);
        assert_eq!(calls(&cache.stats()), (2, 1, 0));
        cache.reset_stats();
        assert_eq!(calls(&cache.stats()), (0, 0, 0));
    }

    async fn a_load_that_runs_across_a_reset_leaves_no_odd_count() {
        let cache = AsyncLru::<u64, u64>::new(2);
        let gate = Gate::new();
        let mut load = hand(cache.get_or_insert_with(1, async || {
            gate.wait().await;
            1
        }));
        assert!(poll(&mut load).is_pending());
        cache.reset_stats();
        drop(load);
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.loads, stats.load_failures), (0, 0, 1));
    }
}

#[test]
fn counts_of_threads_that_have_ended_stay() {
    let cache = AsyncLru::<u64, u64>::new(10);
    for _ in 0..100 {
        thread::scope(|scope| {
            scope.spawn(|| cache.get(&1));
        });
    }
    assert_eq!(cache.stats().misses, 100);
    cache.reset_stats();
    assert_eq!(cache.stats().misses, 0);
}

// For people.

executors! {
    async fn stats_read_as_one_line() {
        let clock = ManualClock::new();
        let cache =
            AsyncLru::<u64, u64>::builder().maxsize(3).ttl(SECOND).clock(clock.clone()).build();
        cache.insert(0, 0).await;
        clock.advance(SECOND);
        for key in [1, 2, 3, 4, 5, 5, 5, 5] {
            cache.get_or_insert_with(key, async || 0).await;
        }
        cache.get_or_insert_own(9, async || Err(Down)).await.unwrap_err();
        let stats = cache.stats();
        let pretty = &stats.total_size_in_memory_pretty;
        assert_eq!(
            stats.to_string(),
            format!(
                "3 of 3 entries, {pretty}; 3 hits, 6 misses, 0 coalesced (33.33 % hits); 6 loads, \
                 1 failed; 2 evicted, 1 expired, 0 invalidated"
            )
        );
    }

    async fn info_reads_as_one_line() {
        let info = AsyncLru::<u64, u64>::builder().maxsize(5).ttl(SECOND).shards(2).build().info();
        assert_eq!(info.to_string(), "at most 5 entries in 2 shards, each for 1s");
        let info = AsyncLru::<u64, u64>::new(5).info();
        assert_eq!(info.to_string(), "at most 5 entries in 1 shard, no time to live");
        let info = AsyncLru::<u64, u64>::builder().maxsize(5).time_to_idle(SECOND).build().info();
        assert_eq!(
            info.to_string(),
            "at most 5 entries in 1 shard, no time to live, 1s from one use to the next"
        );
        assert_eq!(info.time_to_idle, Some(SECOND));
    }

    async fn equal_statistics_are_equal() {
        let cache = AsyncLru::<u64, u64>::new(5);
        let before = cache.stats();
        assert_eq!(before, before.clone());
        cache.get(&1);
        assert_ne!(cache.stats(), before);
        assert_eq!(cache.info(), AsyncLru::<u64, u64>::new(5).info());
        assert!(format!("{before:?}").starts_with("CacheStats {"));
    }
}

// Memory; against an allocator that counts, see tests/memory.rs.

executors! {
    async fn the_memory_estimate_reads_with_two_decimals_and_the_unit_that_fits() {
        for (size, unit) in [(1 << 20, "MB"), (1 << 30, "GB"), (1 << 40, "TB")] {
            for count in [5, 500] {
                let bytes = size * count;
                let cache = AsyncLru::<u64, u64>::builder().measure_with(move |_, _| bytes).build();
                cache.insert(1, 1).await;
                let stats = cache.stats();
                let number = stats.total_size_in_memory_bytes as f64 / size as f64;
                assert_eq!(stats.total_size_in_memory_pretty, format!("{number:.2} {unit}"));
            }
        }
    }

    async fn what_measure_with_returns_is_counted_as_entries_come_and_go() {
        const MEGABYTE: u64 = 1 << 20;
        let cache = AsyncLru::<u64, u64>::builder()
            .maxsize(10)
            .measure_with(|_, megabytes| *megabytes as usize * MEGABYTE as usize)
            .build();
        // The cache's own share stays far below half a megabyte.
        let megabytes = || {
            let bytes = cache.stats().total_size_in_memory_bytes;
            assert!(bytes % MEGABYTE < MEGABYTE / 2, "{bytes}");
            bytes / MEGABYTE
        };
        assert_eq!(megabytes(), 0);
        for key in 0..10 {
            cache.get_or_insert_with(key, async || 3).await;
        }
        assert_eq!(megabytes(), 30);
        cache.insert(0, 5).await;
        assert_eq!(megabytes(), 32, "replaced");
        cache.insert(10, 1).await;
        assert_eq!(megabytes(), 30, "key 1 evicted");
        cache.remove(&2).await;
        assert_eq!(megabytes(), 27, "removed");
        cache.clear().await;
        assert_eq!(megabytes(), 0, "cleared");
    }

    async fn expired_entries_count_until_they_are_freed() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u64, u64>::builder()
            .ttl(SECOND)
            .clock(clock.clone())
            .measure_with(|_, _| 1 << 30)
            .build();
        cache.insert(1, 1).await;
        clock.advance(SECOND);
        assert!(cache.stats().total_size_in_memory_bytes > 1 << 30);
        cache.purge_expired().await;
        assert!(cache.stats().total_size_in_memory_bytes < 1 << 20);
    }

    async fn an_entry_is_measured_once_with_its_key_and_value() {
        let seen = Arc::new(AtomicU64::new(0));
        let sum = Arc::clone(&seen);
        let cache = AsyncLru::<u64, u64>::builder()
            .maxsize(2)
            .measure_with(move |key, value| {
                sum.fetch_add(key * 100 + value, Ordering::Relaxed);
                1
            })
            .build();
        cache.insert(1, 2).await;
        cache.get_or_insert_with(3, async || 4).await;
        cache.get(&1);
        cache.get_or_insert_with_ref(&3, async || unreachable!()).await;
        cache.insert_blocking(5, 6);
        let _ = cache.stats();
        cache.remove(&1).await;
        cache.clear().await;
        assert_eq!(seen.load(Ordering::Relaxed), 102 + 304 + 506);
    }

    /// Against (A35) of `docs/reliability.md`.
    async fn measures_too_large_to_add_up_do_not_overflow() {
        let cache = AsyncLru::<u64, u64>::builder().measure_with(|_, _| usize::MAX).build();
        for key in 0..3 {
            cache.insert(key, 0).await;
        }
        assert_eq!(cache.stats().total_size_in_memory_bytes, u64::MAX);
        assert!(cache.stats().total_size_in_memory_pretty.ends_with(" TB"));
        for key in 0..3 {
            cache.remove(&key).await;
        }
        assert!(cache.stats().total_size_in_memory_bytes < 1 << 20);
    }

    async fn a_measure_of_zero_leaves_the_share_of_the_cache() {
        let cache = AsyncLru::<[u8; 4096], u64>::builder().measure_with(|_, _| 0).build();
        let empty = cache.stats().total_size_in_memory_bytes;
        for key in 0..100 {
            cache.insert([key; 4096], 0).await;
        }
        let full = cache.stats().total_size_in_memory_bytes;
        assert!(full >= empty && full < 1 << 30, "{empty} and {full}");
    }
}

/// Against (A35) of `docs/reliability.md`.
#[test]
fn a_value_that_grows_does_not_make_the_estimate_drift() {
    let cache =
        AsyncLru::<u64, Rc<Cell<usize>>>::builder().measure_with(|_, value| value.get()).build();
    let value = Rc::new(Cell::new(1 << 20));
    let empty = cache.stats().total_size_in_memory_bytes;
    cache.insert_blocking(1, value.clone());
    let full = cache.stats().total_size_in_memory_bytes;
    assert!(full >= empty + (1 << 20));
    value.set(1 << 40);
    assert_eq!(cache.stats().total_size_in_memory_bytes, full);
    cache.remove_blocking(&1);
    // The room for an entry stays.
    assert!(cache.stats().total_size_in_memory_bytes < full - (1 << 20) + 4096);
    value.set(5 << 20);
    cache.insert_blocking(1, value);
    let bytes = cache.stats().total_size_in_memory_bytes;
    assert!((full + (4 << 20)..full + (4 << 20) + 4096).contains(&bytes), "{bytes} and {full}");
}

#[cfg(feature = "serde")]
mod serde {
    use super::*;
    use async_lru::CacheInfo;

    executors! {
        async fn statistics_survive_a_round_trip_through_json() {
            let cache = AsyncLru::<u64, u64>::builder().maxsize(2).ttl(SECOND).build();
            for key in [1, 2, 3, 3] {
                cache.get_or_insert_with(key, async || 0).await;
            }
            let stats = cache.stats();
            let json = serde_json::to_value(&stats).unwrap();
            assert_eq!((&json["hits"], &json["misses"]), (&1.into(), &3.into()));
            assert_eq!(json["total_size_in_memory_pretty"], stats.total_size_in_memory_pretty);
            assert_eq!(serde_json::from_value::<CacheStats>(json).unwrap(), stats);

            let json = serde_json::to_string(&cache.info()).unwrap();
            assert_eq!(serde_json::from_str::<CacheInfo>(&json).unwrap(), cache.info());
            let endless = AsyncLru::<u64, u64>::new(2).info();
            let json = serde_json::to_string(&endless).unwrap();
            assert_eq!(serde_json::from_str::<CacheInfo>(&json).unwrap(), endless);
        }

        /// As they were written by a version that refreshed nothing.
        async fn statistics_without_a_word_of_refreshes_can_be_read() {
            let cache = AsyncLru::<u64, u64>::new(2);
            cache.get_or_insert_with(1, async || 0).await;
            let without = |mut json: serde_json::Value, fields: &[&str]| {
                for field in fields {
                    let removed = json.as_object_mut().and_then(|json| json.remove(*field));
                    assert!(removed.is_some(), "{field} of {json}");
                }
                json
            };
            let stats = serde_json::to_value(cache.stats()).unwrap();
            let stats = without(stats, &["stale_hits", "refreshes", "refresh_failures"]);
            let read: CacheStats = serde_json::from_value(stats).unwrap();
            assert_eq!((read.loads, read.stale_hits, read.refreshes), (1, 0, 0));
            let info = serde_json::to_value(cache.info()).unwrap();
            let info = without(info, &["fresh_for", "refresh_retry"]);
            let read: CacheInfo = serde_json::from_value(info).unwrap();
            assert_eq!((read.maxsize, read.fresh_for), (2, None));
        }
    }
}

// The time that loads take.

/// A cache with a clock that is moved by hand.
fn timed_cache() -> (AsyncLru<u32, u32>, ManualClock) {
    let clock = ManualClock::new();
    (AsyncLru::builder().clock(clock.clone()).record_load_time().build(), clock)
}

#[test]
fn the_time_of_loads_is_counted_in_every_form_that_loads() {
    let (cache, clock) = timed_cache();
    let second = Duration::from_secs(1);
    let after_a_second = |answer| {
        clock.advance(second);
        answer
    };
    let mut counted = Duration::ZERO;
    let mut took = || {
        let before = std::mem::replace(&mut counted, cache.stats().load_time);
        counted - before
    };
    now(cache.get_or_insert_with(1, async || after_a_second(1)));
    assert_eq!(took(), second);
    now(cache.get_or_insert_with(1, async || unreachable!()));
    assert_eq!(took(), Duration::ZERO, "a hit");
    let failed = async || {
        clock.advance(second);
        Err::<u32, _>("down")
    };
    now(cache.try_get_or_insert_with(2, failed)).unwrap_err();
    assert_eq!(took(), second);
    now(cache.entry(3).or_insert_timed(async || (after_a_second(3), second)));
    assert_eq!(took(), second);
    let detached = clock.clone();
    now(cache.entry(4).detached().or_insert_with(|| async move {
        detached.advance(second);
        4
    }));
    assert_eq!(took(), second);
    let detached = clock.clone();
    let failed = cache.entry(5).detached().or_try_insert_with(|| async move {
        detached.advance(second);
        Err::<u32, _>("down")
    });
    now(failed).unwrap_err();
    assert_eq!(took(), second);
    now(cache.get_or_insert_many([6, 7], async |_| [(6, after_a_second(6)), (7, 7)]));
    assert_eq!(took(), second, "once, whatever the number of keys");
    let detached = clock.clone();
    now(cache.entries([8, 9]).detached().or_insert_with(move |_| {
        let clock = detached.clone();
        async move {
            clock.advance(second);
            [(8, 8), (9, 9)]
        }
    }));
    assert_eq!(took(), second);
    now(cache.update_with(10, async |_| Update::Put(after_a_second(10))));
    assert_eq!(took(), Duration::ZERO, "an update is no load");
    assert_eq!(cache.stats().loads, 7);
    cache.reset_stats();
    assert_eq!(cache.stats().load_time, Duration::ZERO);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_load_that_is_dropped_takes_no_time_and_one_that_is_waited_for_takes_it_once() {
    let (cache, clock) = timed_cache();
    let gate = Gate::new();
    let load = async || {
        gate.wait().await;
        1
    };
    let mut dropped = hand(cache.get_or_insert_with(1, load));
    assert!(poll(&mut dropped).is_pending());
    clock.advance(Duration::from_secs(5));
    drop(dropped);
    assert_eq!(cache.stats().load_time, Duration::ZERO);
    let mut leader = hand(cache.get_or_insert_with(1, load));
    let mut waiter = hand(cache.get_or_insert_with(1, load));
    assert!(poll(&mut leader).is_pending() && poll(&mut waiter).is_pending());
    clock.advance(Duration::from_secs(2));
    gate.open();
    assert!(poll(&mut leader).is_ready() && poll(&mut waiter).is_ready());
    assert_eq!(cache.stats().load_time, Duration::from_secs(2));
}

#[test]
fn without_being_told_so_a_cache_measures_no_load_and_asks_no_clock() {
    struct Silent;

    impl async_lru::Clock for Silent {
        fn now(&self) -> Duration {
            unreachable!("nothing expires")
        }
    }

    let cache = AsyncLru::<u32, u32>::builder().clock(Silent).name("users").build();
    assert_eq!(now(cache.get_or_insert_with(1, async || 1)), 1);
    assert_eq!(cache.stats().load_time, Duration::ZERO);
    assert_eq!(cache.info().name.as_deref(), Some("users"));
    assert!(cache.info().to_string().starts_with("users: at most 1024 entries"));
}
