//! Many keys at once.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use common::{Gate, Hand, hand, join_all, now, poll};
use futures_lite::future::{block_on, pending, yield_now};

type Cache = AsyncLru<u32, u32>;

/// What loads give for a key.
fn pair(key: u32) -> (u32, u32) {
    (key, key * 10)
}

async fn load(missing: Vec<u32>) -> Vec<(u32, u32)> {
    yield_now().await;
    missing.into_iter().map(pair).collect()
}

/// An answer that has all of `keys`.
fn all(keys: impl IntoIterator<Item = u32>) -> HashMap<u32, u32> {
    keys.into_iter().map(pair).collect()
}

/// Loads once and no more.
fn once<Fut>(load: impl FnOnce(Vec<u32>) -> Fut) -> impl FnMut(Vec<u32>) -> Fut {
    let mut load = Some(load);
    move |missing| load.take().expect("loads once")(missing)
}

executors! {
    async fn what_is_missing_is_loaded_in_one_go() {
        let cache = Cache::new(100);
        cache.insert(2, 20).await;
        let mut loads = Vec::new();
        let found = cache
            .get_or_insert_many([1, 2, 3, 1, 4, 3], |missing| {
                loads.push(missing.clone());
                load(missing)
            })
            .await;
        assert_eq!(found, all(1..=4));
        assert_eq!(loads, [[1, 3, 4]]);
        assert_eq!(cache.get_many(&[4, 5, 1]), [Some(40), None, Some(10)]);
        let again = cache.get_or_insert_many(1..=4, async |_| -> Vec<_> { unreachable!() }).await;
        assert_eq!(again, all(1..=4));
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.coalesced), (1 + 2 + 4, 3 + 1, 0));
        assert_eq!((stats.loads, stats.load_failures), (1, 0));
        assert_eq!(cache.validate(), 0);
    }

    async fn batches_that_overlap_in_any_order_do_not_wait_for_each_other_in_a_circle() {
        let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
        let cache = Cache::new(100);
        let wait = async |yields: usize, missing| {
            for _ in 0..yields {
                yield_now().await;
            }
            load(missing).await
        };
        // Each batch has two keys of its own and one of another.
        let batches = orders.iter().enumerate().map(|(number, order)| {
            let keys = order.map(|key| key + number as u32);
            cache.get_or_insert_many(keys, move |missing| wait(number % 3, missing))
        });
        let found = join_all(batches).await;
        for (number, found) in found.into_iter().enumerate() {
            let number = number as u32;
            assert_eq!(found, all(number + 1..=number + 3));
        }
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.coalesced), (8, 10));
        assert_eq!(cache.validate(), 0);
    }

    async fn batches_and_single_calls_of_several_threads_load_each_key_once() {
        const THREADS: u32 = 4;
        const KEYS: u32 = 400;
        let cache = Cache::new(1_000);
        let loaded = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (cache, loaded) = (&cache, &loaded);
                scope.spawn(move || {
                    for first in 0..KEYS {
                        // Forwards and backwards, so that batches meet head on.
                        let first = if number % 2 == 0 { first } else { KEYS - 1 - first };
                        let keys = [first, (first + 7) % KEYS, (first + 3) % KEYS];
                        let counted = |missing: Vec<u32>| {
                            loaded.fetch_add(missing.len(), Ordering::Relaxed);
                            load(missing)
                        };
                        let found = block_on(cache.get_or_insert_many(keys, counted));
                        assert_eq!(found, all(keys));
                        let single = cache.get_or_insert_with(first, async || unreachable!());
                        assert_eq!(block_on(single), first * 10);
                    }
                });
            }
        });
        assert_eq!(loaded.load(Ordering::Relaxed), KEYS as usize);
        let stats = cache.stats();
        assert_eq!(stats.calls(), u64::from(THREADS * KEYS * 4));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn reading_many_keys_counts_and_uses_each() {
    let cache = Cache::new(3);
    for key in 1..=3 {
        cache.insert_blocking(key, key * 10);
    }
    assert_eq!(cache.get_many(&[2, 9, 1, 2]), [Some(20), None, Some(10), Some(20)]);
    assert_eq!((cache.stats().hits, cache.stats().misses), (3, 1));
    assert_eq!(cache.keys(), [3, 1, 2]);
    assert_eq!(cache.get_many::<u32>([]), []);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_call_for_no_key_loads_nothing() {
    let cache = Cache::new(10);
    let found = now(cache.get_or_insert_many([], async |_| -> Vec<_> { unreachable!() }));
    assert!(found.is_empty());
    assert_eq!(cache.stats().loads, 0);
}

#[test]
fn a_call_for_a_key_of_a_batch_that_is_being_loaded_joins_it() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut batch = hand(cache.get_or_insert_many([1, 2], async |missing| {
        gate.wait().await;
        load(missing).await
    }));
    assert!(poll(&mut batch).is_pending());
    let mut single = hand(cache.get_or_insert_with(2, async || unreachable!()));
    let mut detached = hand(cache.get_or_insert_detached(1, async || unreachable!()));
    let mut other = hand(cache.get_or_insert_many([2, 3, 1], load));
    assert!(poll(&mut single).is_pending() && poll(&mut detached).is_pending());
    assert!(poll(&mut other).is_pending());
    assert!(poll(&mut other).is_pending(), "has loaded, and waits");
    assert_eq!(cache.peek(&3), Some(30), "published before it waits for the others");
    gate.open();
    assert!(poll(&mut batch).is_pending());
    assert_eq!(poll(&mut batch), Poll::Ready(all([1, 2])));
    assert_eq!((poll(&mut single), poll(&mut detached)), (Poll::Ready(20), Poll::Ready(10)));
    assert_eq!(poll(&mut other), Poll::Ready(all([1, 2, 3])));
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.coalesced, stats.loads), (3, 4, 2));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_key_that_the_load_leaves_out_is_not_in_the_answer_and_its_waiters_load_for_themselves() {
    let cache = Cache::new(10);
    let mut batch = hand(cache.get_or_insert_many([1, 2, 3], async |missing: Vec<u32>| {
        load(missing.into_iter().filter(|key| *key != 2).collect()).await
    }));
    assert!(poll(&mut batch).is_pending());
    let mut single = hand(cache.get_or_insert_with(2, async || 21));
    assert!(poll(&mut single).is_pending());
    assert_eq!(poll(&mut batch), Poll::Ready(all([1, 3])));
    assert_eq!(poll(&mut single), Poll::Ready(21));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, stats.current_size), (2, 0, 3));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn pairs_that_nobody_asked_for_are_ignored_and_so_are_second_ones() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut other = hand(cache.get_or_insert_with(7, async || {
        gate.wait().await;
        70
    }));
    assert!(poll(&mut other).is_pending());
    cache.insert_blocking(3, 30);
    let load = async |_| [(7, 0), (1, 10), (8, 0), (1, 11), (3, 0)];
    assert_eq!(now(cache.get_or_insert_many([1, 3], load)), all([1, 3]));
    assert_eq!((cache.peek(&1), cache.peek(&3), cache.peek(&8)), (Some(10), Some(30), None));
    gate.open();
    assert_eq!(poll(&mut other), Poll::Ready(70));
    assert_eq!(cache.peek(&7), Some(70));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_key_whose_load_in_flight_comes_to_nothing_is_loaded_by_the_batch_that_waited() {
    let cache = Cache::new(10);
    let mut leaders: Vec<_> =
        (1..=3).map(|key| hand(cache.get_or_insert_with(key, pending::<u32>))).collect();
    for leader in &mut leaders {
        assert!(poll(leader).is_pending());
    }
    let loads = RefCell::new(Vec::new());
    let mut batch = hand(cache.get_or_insert_many([3, 1, 2, 4], |missing| {
        loads.borrow_mut().push(missing.clone());
        load(missing)
    }));
    for _ in 0..3 {
        assert!(poll(&mut batch).is_pending());
    }
    assert_eq!(*loads.borrow(), [[4]]);
    // The waits end in an order of their own, and the keys are still in order.
    drop(leaders.remove(1));
    assert!(poll(&mut batch).is_pending());
    now(cache.insert(1, 11));
    drop(leaders);
    assert!(poll(&mut batch).is_pending());
    assert_eq!(*loads.borrow(), [vec![4], vec![3, 2]]);
    let mut expected = all([2, 3, 4]);
    expected.insert(1, 11);
    assert_eq!(poll(&mut batch), Poll::Ready(expected));
    drop(batch);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.coalesced, stats.hits), (4, 3, 0));
    assert_eq!((stats.loads, stats.load_failures), (5, 3));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_batch_that_is_dropped_at_any_poll_leaves_its_keys_to_those_who_wait() {
    for maxsize in [10, 0] {
        for polls in 0..=5 {
            let cache = Cache::new(maxsize);
            let gate = Gate::new();
            let mut elsewhere = hand(cache.get_or_insert_with(9, async || {
                gate.wait().await;
                90
            }));
            assert!(poll(&mut elsewhere).is_pending());
            let mut batch = hand(cache.get_or_insert_many([1, 9, 2], async |missing| {
                yield_now().await;
                load(missing).await
            }));
            for _ in 0..polls {
                assert!(poll(&mut batch).is_pending());
            }
            let mut waiters: Vec<_> = [1, 2, 2]
                .map(|key| hand(cache.get_or_insert_with(key, async move || key * 10)))
                .into();
            let waited: Vec<_> = waiters.iter_mut().map(poll).collect();
            drop(batch);
            gate.open();
            assert_eq!(poll(&mut elsewhere), Poll::Ready(90));
            for (waiter, waited) in waiters.iter_mut().zip(waited) {
                if waited.is_pending() {
                    assert!(poll(waiter).is_ready());
                }
            }
            drop(waiters);
            let in_vain = u64::from(polls == 1 || polls == 2);
            assert_eq!(cache.stats().load_failures, in_vain, "{polls}");
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn an_error_caches_nothing_and_leaves_the_keys_to_those_who_wait() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut batch = hand(cache.try_get_or_insert_many([1, 2], async |_| {
        gate.wait().await;
        Err::<Vec<_>, _>("down")
    }));
    assert!(poll(&mut batch).is_pending());
    let mut single = hand(cache.get_or_insert_with(1, async || 11));
    let mut many = hand(
        cache.try_get_or_insert_many([2, 1], async |missing| Ok::<_, &str>(load(missing).await)),
    );
    assert!(poll(&mut single).is_pending() && poll(&mut many).is_pending());
    gate.open();
    assert_eq!(poll(&mut batch), Poll::Ready(Err("down")));
    assert_eq!(poll(&mut single), Poll::Ready(11));
    assert!(poll(&mut many).is_pending());
    assert_eq!(poll(&mut many), Poll::Ready(Ok(HashMap::from([(1, 11), (2, 20)]))));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures), (3, 1));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_panic_of_the_load_or_of_what_it_returns_leaves_the_keys_to_those_who_wait() {
    struct Bang;

    /// Panics after one pair.
    fn half(missing: Vec<u32>) -> impl Iterator<Item = (u32, u32)> {
        missing.into_iter().enumerate().map(|(number, key)| {
            assert_eq!(number, 0, "bang");
            pair(key)
        })
    }

    for moment in ["closure", "future", "iterator"] {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let mut batch = hand(cache.get_or_insert_many([1, 2], |missing| {
            if moment == "closure" {
                std::panic::panic_any(Bang);
            }
            let gate = gate.clone();
            async move {
                gate.wait().await;
                assert_ne!(moment, "future", "bang");
                half(missing)
            }
        }));
        let mut poll_batch = || catch_unwind(AssertUnwindSafe(|| poll(&mut batch)));
        let mut single = hand(cache.get_or_insert_with(1, async || 11));
        if moment == "closure" {
            assert!(poll_batch().is_err());
        } else {
            assert!(matches!(poll_batch(), Ok(Poll::Pending)));
            assert!(poll(&mut single).is_pending());
            gate.open();
            assert!(poll_batch().is_err());
        }
        assert_eq!(poll(&mut single), Poll::Ready(11), "nothing was published");
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 1));
        assert_eq!((cache.len(), cache.validate()), (1, 0));
    }
}

#[test]
fn a_write_wins_over_the_load_of_a_batch_key_by_key() {
    let cache = Cache::new(10);
    let mut batch = hand(cache.get_or_insert_many(1..=3, load));
    assert!(poll(&mut batch).is_pending());
    assert!(now(cache.invalidate(&1)));
    now(cache.insert(2, 99));
    assert_eq!(poll(&mut batch), Poll::Ready(all(1..=3)));
    assert_eq!(cache.get_many(&[1, 2, 3]), [None, Some(99), Some(30)]);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn batches_work_in_caches_of_every_kind() {
    let clock = ManualClock::new();
    let ttl = Duration::from_secs(1);
    let timed = Cache::builder().ttl(ttl).clock(clock.clone()).build();
    let measured = Cache::builder().measure_with(|_, _| 1_000).build();
    let alone = Cache::builder().without_single_flight().build();
    let sharded = Cache::builder().maxsize(3).shards(4).build();
    for (cache, kept) in [(Cache::new(0), 0), (timed, 4), (measured, 4), (alone, 4), (sharded, 3)] {
        let calls = (0..2).map(|_| cache.get_or_insert_many(1..=4, load));
        assert_eq!(block_on(join_all(calls)), [all(1..=4), all(1..=4)]);
        assert_eq!((cache.len(), cache.validate()), (kept, 0));
        if cache.info().ttl.is_some() {
            clock.advance(ttl);
            assert_eq!(cache.get_many(&[1]), [None]);
            assert_eq!(block_on(cache.get_or_insert_many([1], once(load))), all([1]));
        }
    }
}

#[test]
fn a_batch_takes_over_a_detached_load_that_everybody_else_has_left() {
    let cache = Cache::new(10);
    let mut started = hand(cache.get_or_insert_detached(1, || async {
        yield_now().await;
        10
    }));
    assert!(poll(&mut started).is_pending());
    let mut batch = hand(cache.get_or_insert_many([1, 2], once(load)));
    assert!(poll(&mut batch).is_pending());
    drop(started);
    assert_eq!(poll(&mut batch), Poll::Ready(all([1, 2])));
    assert_eq!(cache.stats().loads, 2);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_load_that_asks_for_a_key_of_its_own_batch_panics_with_a_message() {
    // More keys than are kept track of without an allocation.
    for keys in [1, 3, 20] {
        let cache = Cache::new(100);
        let polls = Cell::new(0);
        let call = cache.get_or_insert_many(0..keys, async |missing| {
            yield_now().await;
            polls.set(polls.get() + 1);
            cache.get_or_insert_with(keys - 1, async || 0).await;
            load(missing).await
        });
        let payload = catch_unwind(AssertUnwindSafe(|| block_on(call))).unwrap_err();
        let message = payload.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(message.contains("recursive load"), "{message}");
        assert_eq!((polls.get(), cache.validate()), (1, 0));
        // The marks are gone with the load.
        assert_eq!(now(cache.get_or_insert_with(0, async || 5)), 5);
    }
}

/// The waker of a task; its clones are counted.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    /// Polls with this waker.
    fn poll<T>(self: &Arc<Self>, call: &mut Hand<'_, T>) -> Poll<T> {
        let waker = Waker::from(Arc::clone(self));
        call.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn clones(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 1
    }

    fn was_woken(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// Polls a batch that joins so many loads, which end one by one, after each with another waker; returns
/// how many clones of all these it keeps.
fn clones_of_wakers(loads: u32) -> usize {
    let cache = Cache::new(10_000);
    let gates: Vec<_> = (0..loads).map(|_| Gate::new()).collect();
    let lead = |key: u32| {
        let gate = &gates[key as usize];
        let mut leader = hand(cache.get_or_insert_with(key, async move || {
            gate.wait().await;
            key * 10
        }));
        assert!(poll(&mut leader).is_pending());
        leader
    };
    let leaders: Vec<_> = (0..loads).map(lead).collect();
    let never = async |_| -> Vec<_> { unreachable!("it joins all loads") };
    let mut batch = hand(cache.get_or_insert_many(0..loads, never));
    let task = Arc::new(Flag::default());
    // It gives the thread back on its way to so many keys.
    while task.poll(&mut batch).is_pending() && task.was_woken() {}
    let mut clones = 0;
    for (mut leader, gate) in leaders.into_iter().zip(&gates) {
        let task = Arc::new(Flag::default());
        assert!(task.poll(&mut batch).is_pending());
        clones += task.clones();
        gate.open();
        assert!(poll(&mut leader).is_ready());
        assert!(task.was_woken());
    }
    assert_eq!(block_on(batch), all(0..loads));
    clones
}

#[test]
fn a_batch_that_joins_many_loads_polls_only_those_that_have_ended() {
    for loads in [200, 800] {
        let clones = clones_of_wakers(loads);
        assert!(clones <= 2 * loads as usize, "{clones} clones of wakers for {loads} loads");
    }
}

#[test]
fn a_batch_wakes_the_task_that_polled_it_last_and_once_however_many_loads_end() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let load = |key: u32| {
        let gate = &gate;
        cache.get_or_insert_with(key, async move || {
            gate.wait().await;
            key * 10
        })
    };
    let mut leaders = [hand(load(1)), hand(load(2)), hand(load(3))];
    assert!(leaders.iter_mut().all(|leader| poll(leader).is_pending()));
    let never = async |_| -> Vec<_> { unreachable!("it joins all loads") };
    let mut batch = hand(cache.get_or_insert_many(1..=3, never));
    let (earlier, task) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    assert!(earlier.poll(&mut batch).is_pending() && task.poll(&mut batch).is_pending());
    gate.open();
    assert!(poll(&mut leaders[0]).is_ready());
    assert!(task.was_woken() && !earlier.was_woken());
    assert!(poll(&mut leaders[1]).is_ready() && !task.was_woken(), "it has not been polled yet");
    assert!(task.poll(&mut batch).is_pending());
    assert!(poll(&mut leaders[2]).is_ready() && task.was_woken());
    assert_eq!(task.poll(&mut batch), Poll::Ready(all(1..=3)));
    drop(batch);
    assert_eq!((earlier.clones(), task.clones(), cache.validate()), (0, 0, 0));
}

#[test]
fn a_batch_that_is_dropped_or_leaked_while_it_waits_wakes_nobody_any_more() {
    for is_leaked in [false, true] {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let mut leader = hand(cache.get_or_insert_with(1, async || {
            gate.wait().await;
            10
        }));
        assert!(poll(&mut leader).is_pending());
        let mut batch = hand(cache.get_or_insert_many([1], load));
        let task = Arc::new(Flag::default());
        assert!(task.poll(&mut batch).is_pending());
        if is_leaked {
            std::mem::forget(batch);
        } else {
            drop(batch);
            assert_eq!(task.clones(), 0);
        }
        gate.open();
        assert_eq!(poll(&mut leader), Poll::Ready(10));
        assert_eq!((task.was_woken(), cache.validate()), (is_leaked, 0));
    }
}

#[test]
fn a_batch_that_is_polled_when_it_is_woken_moves_detached_loads_on() {
    const LOADS: u32 = 5;
    const YIELDS: usize = 3;
    let cache = Cache::new(10);
    let polls = Arc::new(AtomicUsize::new(0));
    for key in 0..LOADS {
        let polls = Arc::clone(&polls);
        let mut started = hand(cache.get_or_insert_detached(key, move || {
            let mut load = Box::pin(async move {
                for _ in 0..YIELDS {
                    yield_now().await;
                }
                key * 10
            });
            poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                load.as_mut().poll(cx)
            })
        }));
        assert!(poll(&mut started).is_pending());
        // Kept, in a way, and not polled any more.
        std::mem::forget(started);
    }
    let mut batch = hand(cache.get_or_insert_many(0..LOADS, once(load)));
    let task = Arc::new(Flag(AtomicBool::new(true)));
    let mut found = Poll::Pending;
    while found.is_pending() {
        assert!(task.was_woken());
        found = task.poll(&mut batch);
    }
    assert_eq!(found, Poll::Ready(all(0..LOADS)));
    assert_eq!(polls.load(Ordering::Relaxed), LOADS as usize * (YIELDS + 1));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn many_entries_are_inserted_in_their_order_and_many_keys_invalidated() {
    let cache = Cache::builder().maxsize(3).shards(1).build();
    now(cache.insert_many((0..5).map(pair)));
    assert_eq!(cache.keys(), [2, 3, 4]);
    let mut load = hand(cache.get_or_insert_with(7, async || pending().await));
    assert!(poll(&mut load).is_pending());
    assert_eq!(now(cache.invalidate_many(&[0, 3, 7, 4, 4])), 3, "two entries and a load");
    assert_eq!((cache.keys(), cache.get(&2)), (vec![2], Some(20)));
    cache.insert_many_blocking([(2, 21), (2, 22)]);
    assert_eq!(cache.get(&2), Some(22));
    drop(load);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn many_keys_are_written_in_turns_with_other_tasks_and_dropped_half_way() {
    let cache = Cache::builder().maxsize(10_000).build();
    let mut inserts = hand(cache.insert_many((0..1_000).map(pair)));
    assert!(poll(&mut inserts).is_pending());
    let first = cache.len();
    assert!((1..1_000).contains(&first));
    assert!(poll(&mut inserts).is_pending());
    assert!(cache.len() > first);
    drop(inserts);
    cache.insert_many_blocking((0..1_000).map(pair));
    let keys = Vec::from_iter(0..1_000);
    let mut invalidate = hand(cache.invalidate_many(&keys));
    assert!(poll(&mut invalidate).is_pending());
    assert!((1..1_000).contains(&cache.len()));
    drop(invalidate);
    assert_eq!(cache.validate(), 0);
}
