//! Many keys at once.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use async_lru::LookupOutcome::{Joined, Loaded};
use async_lru::{AsyncLru, Lookup, LookupOutcome, ManualClock, Update};
use common::{Calls, Gate, Hand, hand, join_all, now, poll};
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

/// What a call gives.
type Answers = Vec<(u32, Option<u32>)>;

/// An answer that has all of `keys`.
fn all(keys: impl IntoIterator<Item = u32>) -> Answers {
    keys.into_iter().map(|key| (key, Some(key * 10))).collect()
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
        assert_eq!(found, all([1, 2, 3, 1, 4, 3]));
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
            assert_eq!(found, all(orders[number].map(|key| key + number as u32)));
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
    let mut detached = hand(cache.get_detached(1, async || unreachable!()));
    let mut other = hand(cache.get_or_insert_many([2, 3, 1], load));
    assert!(poll(&mut single).is_pending() && poll(&mut detached).is_pending());
    assert!(poll(&mut other).is_pending());
    assert!(poll(&mut other).is_pending(), "has loaded, and waits");
    assert_eq!(cache.peek(&3), Some(30), "published before it waits for the others");
    gate.open();
    assert!(poll(&mut batch).is_pending());
    assert_eq!(poll(&mut batch), Poll::Ready(all([1, 2])));
    assert_eq!((poll(&mut single), poll(&mut detached)), (Poll::Ready(20), Poll::Ready(10)));
    assert_eq!(poll(&mut other), Poll::Ready(all([2, 3, 1])));
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.coalesced, stats.loads), (3, 4, 2));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_key_that_the_load_leaves_out_has_no_value_in_the_answer_and_its_waiters_load_for_themselves() {
    let cache = Cache::new(10);
    let mut batch = hand(cache.get_or_insert_many([1, 2, 3], async |missing: Vec<u32>| {
        load(missing.into_iter().filter(|key| *key != 2).collect()).await
    }));
    assert!(poll(&mut batch).is_pending());
    let mut single = hand(cache.get_or_insert_with(2, async || 21));
    assert!(poll(&mut single).is_pending());
    assert_eq!(poll(&mut batch), Poll::Ready(vec![(1, Some(10)), (2, None), (3, Some(30))]));
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
    let expected = vec![(3, Some(30)), (1, Some(11)), (2, Some(20)), (4, Some(40))];
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
fn an_error_caches_nothing_and_goes_to_all_who_wait_and_can_have_it() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut batch = hand(cache.try_get_or_insert_many([1, 2], async |_| {
        gate.wait().await;
        Err::<Vec<_>, _>("down")
    }));
    assert!(poll(&mut batch).is_pending());
    let mut infallible = hand(cache.get_or_insert_with(1, async || 11));
    let mut of_another_type = hand(cache.try_get_or_insert_with(2, async || Ok::<_, u8>(22)));
    let mut own = hand(cache.get_or_insert_own(2, async || Err("its own")));
    let mut shared = hand(cache.try_get_or_insert_with(2, async || Ok::<_, &str>(23)));
    let tried = async |missing| Ok::<_, &str>(load(missing).await);
    let mut many = hand(cache.try_get_or_insert_many([3, 2, 1], tried));
    assert!(poll(&mut infallible).is_pending() && poll(&mut of_another_type).is_pending());
    assert!(poll(&mut own).is_pending() && poll(&mut shared).is_pending());
    assert!(poll(&mut many).is_pending());
    assert!(poll(&mut many).is_pending(), "has loaded, and waits");
    gate.open();
    let Poll::Ready(Err(error)) = poll(&mut batch) else { panic!("its load has failed") };
    assert_eq!(*error, "down");
    let Poll::Ready(Err(same)) = poll(&mut shared) else { panic!("it gets the failure") };
    assert!(Arc::ptr_eq(&error, &same));
    let Poll::Ready(Err(same)) = poll(&mut many) else { panic!("it gets the failure") };
    assert!(Arc::ptr_eq(&error, &same));
    assert_eq!(poll(&mut infallible), Poll::Ready(11));
    assert_eq!(poll(&mut of_another_type), Poll::Ready(Ok(22)));
    assert_eq!(poll(&mut own), Poll::Ready(Ok(22)));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures), (4, 1));
    assert_eq!((cache.peek(&3), cache.validate()), (Some(30), 0));
}

#[test]
fn a_batch_whose_closure_gives_no_error_loads_what_others_have_failed_to() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut failing = hand(cache.try_get_or_insert_with(1, async || {
        gate.wait().await;
        Err("down")
    }));
    assert!(poll(&mut failing).is_pending());
    let mut batch = hand(cache.get_or_insert_many([2, 1], load));
    assert!(poll(&mut batch).is_pending());
    assert!(poll(&mut batch).is_pending());
    gate.open();
    assert!(poll(&mut failing).is_ready());
    assert!(poll(&mut batch).is_pending());
    assert_eq!(poll(&mut batch), Poll::Ready(all([2, 1])));
    assert_eq!((cache.stats().loads, cache.validate()), (3, 0));
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
    let mut started = hand(cache.get_detached(1, || async {
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
fn a_batch_that_joins_many_loads_keeps_few_of_the_wakers_that_it_was_polled_with() {
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
        let mut started = hand(cache.get_detached(key, move || {
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

// Loads that live in the cache.

/// What a load makes.
type Load = Pin<Box<dyn Future<Output = Vec<(u32, u32)>> + Send>>;

/// A load that waits at `gate`.
fn load_at(gate: &Gate) -> impl Fn(Vec<u32>) -> Load + use<> {
    let gate = gate.clone();
    move |missing| {
        let gate = gate.clone();
        Box::pin(async move {
            gate.wait().await;
            load(missing).await
        })
    }
}

executors! {
    async fn detached_batches_that_overlap_share_their_loads() {
        let cache = Cache::new(100);
        let batches = (0..6_u32).map(|first| {
            cache.entries([first, first + 2, first + 1]).detached().or_insert_with(load)
        });
        for (first, found) in (0..).zip(join_all(batches).await) {
            let values = found.into_iter().map(|(key, found)| (key, found.map(|found| found.value)));
            assert_eq!(Vec::from_iter(values), all([first, first + 2, first + 1]));
        }
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.loads, stats.load_failures), (8, 6, 0));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_detached_batch_goes_on_in_the_calls_that_wait_for_one_of_its_keys() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut batch = hand(cache.entries([1, 2, 3]).detached().or_insert_with(load_at(&gate)));
    assert!(poll(&mut batch).is_pending());
    let mut single = hand(cache.get_or_insert_with(2, async || unreachable!("it joins")));
    let mut other = hand(cache.entries([3, 4, 2]).or_insert_with(load));
    assert!(poll(&mut single).is_pending() && poll(&mut other).is_pending());
    assert!(poll(&mut other).is_pending(), "has loaded the fourth key, and waits");
    drop(batch);
    gate.open();
    assert!(poll(&mut single).is_pending(), "the load goes on, by a yield");
    assert_eq!(poll(&mut single), Poll::Ready(20));
    let Poll::Ready(found) = poll(&mut other) else { panic!("all is there") };
    let outcomes = found.into_iter().map(|(key, found)| (key, found.unwrap().outcome));
    assert!(outcomes.eq([(3, Joined), (4, Loaded), (2, Joined)]));
    // Of the first key nobody has waited for the end.
    assert_eq!(cache.get_many(&[1, 2, 3]), [None, Some(20), Some(30)]);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, cache.validate()), (2, 0, 0));
}

#[test]
fn a_detached_batch_that_all_have_left_is_dropped_and_has_failed_once() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut batch = hand(cache.entries([1, 2]).detached().or_insert_with(load_at(&gate)));
    assert!(poll(&mut batch).is_pending());
    let mut single = hand(cache.get_or_insert_with(1, async || 11));
    assert!(poll(&mut single).is_pending());
    drop(batch);
    assert_eq!((cache.stats().load_failures, cache.stats().in_flight), (0, 1));
    drop(single);
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
    assert_eq!(now(cache.get_or_insert_with(2, async || 21)), 21);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn the_error_of_a_detached_batch_goes_to_all_who_wait_for_one_of_its_keys() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let of_load = gate.clone();
    let down = move |_| {
        let gate = of_load.clone();
        async move {
            gate.wait().await;
            Err::<Vec<_>, _>("down")
        }
    };
    let mut batch = hand(cache.entries([1, 2]).detached().or_try_insert_with(down));
    assert!(poll(&mut batch).is_pending());
    let mut shared = hand(cache.try_get_or_insert_with(1, async || Ok::<_, &str>(11)));
    let mut infallible = hand(cache.get_or_insert_with(2, async || 22));
    assert!(poll(&mut shared).is_pending() && poll(&mut infallible).is_pending());
    gate.open();
    let Poll::Ready(Err(error)) = poll(&mut shared) else { panic!("it gets the failure") };
    let Poll::Ready(Err(same)) = poll(&mut batch) else { panic!("its load has failed") };
    assert!(Arc::ptr_eq(&error, &same));
    assert_eq!(poll(&mut infallible), Poll::Ready(22));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures), (2, 1));
    assert_eq!((cache.keys(), cache.validate()), (vec![2], 0));
}

#[test]
fn what_a_detached_batch_leaves_out_is_for_others_to_load_and_writes_win_key_by_key() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let load = load_at(&gate);
    let without_two =
        move |missing: Vec<u32>| load(missing.into_iter().filter(|key| *key != 2).collect());
    let mut batch = hand(cache.entries([1, 2, 3]).detached().or_insert_with(without_two));
    assert!(poll(&mut batch).is_pending());
    let mut single = hand(cache.get_or_insert_with(2, async || 21));
    assert!(poll(&mut single).is_pending());
    now(cache.insert(3, 33));
    gate.open();
    assert!(poll(&mut batch).is_pending());
    let Poll::Ready(found) = poll(&mut batch) else { panic!("it is loaded") };
    let values = found.into_iter().map(|(key, found)| (key, found.map(|found| found.value)));
    assert!(values.eq([(1, Some(10)), (2, None), (3, Some(30))]));
    assert_eq!(poll(&mut single), Poll::Ready(21));
    assert_eq!(cache.get_many(&[1, 2, 3]), [Some(10), Some(21), Some(33)]);
    assert_eq!((cache.stats().load_failures, cache.validate()), (0, 0));
}

#[test]
fn a_panic_of_the_load_of_a_detached_batch_leaves_its_keys_to_those_who_wait() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let of_load = gate.clone();
    let bang = move |_| {
        let gate = of_load.clone();
        async move {
            gate.wait().await;
            if true {
                panic!("on purpose");
            }
            Vec::<(u32, u32)>::new()
        }
    };
    let mut batch = hand(cache.entries([1, 2]).detached().or_insert_with(bang));
    assert!(poll(&mut batch).is_pending());
    let mut first = hand(cache.get_or_insert_with(1, async || 11));
    let mut second = hand(cache.get_or_insert_with(2, async || 22));
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    gate.open();
    // The one that polls the load gets the panic, and the one whose load it was hears of it.
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first))).is_err());
    assert_eq!(poll(&mut second), Poll::Ready(22));
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut batch))).is_err());
    drop((first, batch));
    assert_eq!(now(cache.get_or_insert_with(1, async || 12)), 12);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, cache.validate()), (3, 1, 0));
}

#[test]
fn a_detached_batch_whose_value_cannot_be_weighed_has_failed_once() {
    let builder = Cache::builder().max_weight(100, |key, _| {
        assert_ne!(key % 2, 0, "on purpose");
        1
    });
    let cache = builder.build();
    let mut batch = hand(cache.entries([1, 2, 3, 4]).detached().or_insert_with(load));
    assert!(poll(&mut batch).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut batch))).is_err());
    drop(batch);
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
    assert_eq!((cache.keys(), cache.validate()), (vec![1], 0));
}

#[test]
fn each_poll_of_the_load_of_a_detached_batch_wakes_nobody_for_its_keys() {
    const KEYS: u32 = 1_000;
    const YIELDS: usize = 100;
    let cache = Cache::builder().maxsize(2_000).build();
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let many_yields = move |missing: Vec<u32>| {
        let counted = Arc::clone(&counted);
        async move {
            for _ in 0..YIELDS {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
            missing.into_iter().map(pair).collect::<Vec<_>>()
        }
    };
    let mut batch = hand(cache.entries(0..KEYS).detached().or_insert_with(many_yields));
    let task = Arc::new(Flag(AtomicBool::new(true)));
    let mut turns = 0;
    while task.was_woken() && task.poll(&mut batch).is_pending() {
        turns += 1;
    }
    assert_eq!((polls.load(Ordering::Relaxed), cache.len()), (YIELDS, KEYS as usize));
    assert!(turns <= YIELDS + 30, "{turns} polls for {YIELDS} yields");
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_load_that_asks_for_a_key_of_its_own_detached_batch_panics_with_a_message() {
    let cache = Cache::new(10);
    let inner = cache.clone();
    let asks = move |_| {
        let cache = inner.clone();
        async move {
            let value = cache.get_or_insert_with(2, async || unreachable!()).await;
            vec![(1, value)]
        }
    };
    let mut batch = hand(cache.entries([1, 2]).detached().or_insert_with(asks));
    let panic = catch_unwind(AssertUnwindSafe(|| poll(&mut batch))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("recursive load"));
    drop(batch);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn the_values_of_a_batch_may_have_a_lifetime_of_their_own() {
    let clock = ManualClock::new();
    let cache = Cache::builder().clock(clock.clone()).build();
    let second = Duration::from_secs(1);
    block_on(cache.entries([1, 2]).ttl(second).or_insert_with(load));
    block_on(cache.entries([3]).ttl(2 * second).detached().or_insert_with(load));
    clock.advance(second);
    assert_eq!(cache.get_many(&[1, 2, 3]), [None, None, Some(30)]);
    clock.advance(second);
    assert_eq!(cache.get_many(&[3]), [None]);
}

#[test]
fn the_load_of_a_batch_gives_each_value_a_lifetime() {
    let seconds = Duration::from_secs;
    type Load = fn(Vec<u32>) -> Vec<(u32, u32, Duration)>;
    type Call<'a> = Hand<'a, Vec<(u32, Option<Lookup<u32>>)>>;
    let calls: [fn(&Cache, Load) -> Call<'_>; 4] = [
        |cache, load| {
            let call = cache.entries([4, 0, 3, 2, 4]).ttl(Duration::ZERO);
            hand(call.or_insert_timed(move |keys| async move { load(keys) }))
        },
        |cache, load| {
            hand(async move {
                let call = cache.entries([4, 0, 3, 2, 4]).ttl(Duration::ZERO);
                call.or_try_insert_timed(move |keys| async move { Ok::<_, ()>(load(keys)) })
                    .await
                    .unwrap()
            })
        },
        |cache, load| {
            let call = cache.entries([4, 0, 3, 2, 4]).ttl(Duration::ZERO).detached();
            hand(call.or_insert_timed(move |keys| async move { load(keys) }))
        },
        |cache, load| {
            hand(async move {
                let call = cache.entries([4, 0, 3, 2, 4]).ttl(Duration::ZERO).detached();
                let load = move |keys| async move { Ok::<_, ()>(load(keys)) };
                call.or_try_insert_timed(load).await.unwrap()
            })
        },
    ];
    for call in calls {
        for shards in [1, 4] {
            let clock = ManualClock::new();
            let cache =
                Cache::builder().shards(shards).ttl(seconds(50)).clock(clock.clone()).build();
            cache.insert_blocking(3, 31);
            let load = |keys: Vec<u32>| {
                assert_eq!(keys, [4, 0, 2], "the third is there");
                // A second value of a key is ignored, with its lifetime.
                let given = |key| (key, 10 * key, Duration::from_secs(u64::from(key)));
                let again = keys.iter().map(|key| (*key, 0, Duration::from_secs(99)));
                keys.iter().copied().map(given).chain(again).collect()
            };
            let answers = now(call(&cache, load));
            let answers: Vec<_> = answers
                .into_iter()
                .map(|(key, lookup)| (key, lookup.map(|lookup| (lookup.value, lookup.outcome))))
                .collect();
            let loaded = |key| (key, Some((10 * key, LookupOutcome::Loaded)));
            let found = (3, Some((31, LookupOutcome::Hit)));
            assert_eq!(answers, [loaded(4), loaded(0), found, loaded(2), loaded(4)]);
            let left = [0, 2, 3, 4].map(|key| cache.time_left(&key));
            assert_eq!(left, [None, Some(seconds(2)), Some(seconds(50)), Some(seconds(4))]);
            assert_eq!(now(cache.update_with(2, async |_| Update::Put(21))), Some(21));
            clock.advance(seconds(2));
            assert_eq!(cache.get(&2), None, "it was one of its own");
            assert_eq!((cache.get(&4), cache.validate()), (Some(40), 0));
        }
    }
}

#[test]
fn a_batch_waits_for_a_slow_listener_before_too_much_piles_up() {
    // Held within the listener, as a slow one would be.
    let (held, gone) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
    let (of_listener, counted) = (Arc::clone(&held), Arc::clone(&gone));
    let builder = Cache::builder().maxsize(100).shards(1).on_remove(move |_, _, _| {
        drop(of_listener.lock());
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let cache = builder.build();
    cache.insert_many_blocking((0..100).map(pair));
    let guard = held.lock().unwrap();
    thread::scope(|scope| {
        let remover = scope.spawn(|| cache.remove_blocking(&0));
        while cache.len() == 100 {
            thread::yield_now();
        }
        for is_detached in [false, true] {
            let first = if is_detached { 100_000 } else { 1_000 };
            let entries = cache.entries(first..first + 10_000);
            let mut batch = match is_detached {
                false => hand(async { drop(entries.or_insert_with(load).await) }),
                true => hand(async { drop(entries.detached().or_insert_with(load).await) }),
            };
            let before = cache.stats().evictions;
            for _ in 0..200 {
                assert!(poll(&mut batch).is_pending());
            }
            let evicted = cache.stats().evictions - before;
            assert!(evicted < 1_000, "{evicted} entries on their way to the listener");
        }
        drop(guard);
        remover.join().unwrap();
    });
    assert_eq!(cache.validate(), 0);
}

#[test]
fn what_a_detached_batch_has_brought_does_not_go_to_those_who_come_later() {
    let clock = ManualClock::new();
    let hour = Duration::from_secs(3_600);
    let cache = Cache::builder().ttl(hour / 2).clock(clock.clone()).build();
    let mut batch = hand(cache.entries([1, 2]).detached().or_insert_with(load));
    let down = |_| async {
        yield_now().await;
        Err::<Vec<_>, _>("down")
    };
    let mut failing = hand(cache.entries([3, 4]).detached().or_try_insert_with(down));
    assert!(poll(&mut batch).is_pending() && poll(&mut failing).is_pending());
    // Others bring the loads to their ends; the calls themselves are kept, and polled no more.
    assert_eq!(now(cache.get_or_insert_with(1, async || unreachable!("it joins"))), 10);
    let shared = now(cache.try_get_or_insert_with(3, async || Ok::<_, &str>(33)));
    assert_eq!(shared, Err(Arc::new("down")));
    clock.advance(hour);
    assert_eq!(block_on(cache.get_or_insert_with(2, async || 22)), 22);
    assert_eq!(block_on(cache.try_get_or_insert_with(4, async || Ok::<_, &str>(44))), Ok(44));
    assert_eq!(cache.get_many(&[1, 2, 4]), [None, Some(22), Some(44)]);
    // Its own call has what it has waited for.
    let Poll::Ready(found) = poll(&mut batch) else { panic!("it is loaded") };
    assert!(found.into_iter().all(|(key, found)| found.unwrap().value == key * 10));
    assert!(matches!(poll(&mut failing), Poll::Ready(Err(_))));
    assert_eq!(cache.get_many(&[2, 4]), [Some(22), Some(44)]);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, cache.validate()), (4, 1, 0));
}

#[test]
fn who_came_before_the_end_of_a_detached_batch_has_its_answer_whoever_else_comes_later() {
    let cache = Cache::new(10);
    let down = |_| async {
        yield_now().await;
        yield_now().await;
        Err::<Vec<_>, _>("down")
    };
    let mut batch = hand(cache.entries([1, 2, 3]).detached().or_try_insert_with(down));
    assert!(poll(&mut batch).is_pending());
    let mut early = hand(cache.try_get_or_insert_with(2, async || Ok::<_, &str>(20)));
    assert!(poll(&mut early).is_pending(), "it has moved the load on");
    let mut gone = hand(cache.try_get_or_insert_with(3, async || Ok::<_, &str>(30)));
    assert_eq!(poll(&mut gone), Poll::Ready(Err(Arc::new("down"))), "it has brought it to its end");
    // The others are kept and not polled, and later ones have nothing of the failure.
    assert_eq!(block_on(cache.try_get_or_insert_with(2, async || Ok::<_, &str>(21))), Ok(21));
    assert_eq!(block_on(cache.try_get_or_insert_with(1, async || Ok::<_, &str>(11))), Ok(11));
    assert_eq!(poll(&mut early), Poll::Ready(Err(Arc::new("down"))));
    assert_eq!(poll(&mut batch).map(|answer| answer.is_err()), Poll::Ready(true));
    assert_eq!(cache.get_many(&[1, 2, 3]), [Some(11), Some(21), None]);
    assert_eq!((cache.stats().load_failures, cache.validate()), (1, 0));
}
