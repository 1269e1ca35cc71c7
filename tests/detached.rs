//! Loads that live in their flight and not in the call that started them.

mod common;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, Lookup, ManualClock};
use common::{Calls, Gate, Hand, hand, join_all, now, poll};
use futures_lite::future::{block_on, or, yield_now};

type Cache = AsyncLru<u32, u32>;

/// A load that yields `yields` times.
async fn load(yields: usize, value: u32) -> u32 {
    for _ in 0..yields {
        yield_now().await;
    }
    value
}

/// A load that waits at `gate`.
fn at(gate: &Gate, value: u32) -> impl Future<Output = u32> + Send + use<> {
    let gate = gate.clone();
    async move {
        gate.wait().await;
        value
    }
}

executors! {
    async fn callers_of_one_moment_share_one_load_however_often_it_yields() {
        for callers in [1, 2, 3, 16] {
            for yields in 0..=4 {
                let cache = Cache::new(10);
                let calls = (0..callers)
                    .map(|caller| cache.get_detached(1, move || load(yields, caller)));
                assert_eq!(join_all(calls).await, vec![0; callers as usize]);
                let stats = cache.stats();
                assert_eq!((stats.loads, stats.misses), (1, 1));
                assert_eq!(stats.calls(), u64::from(callers));
                assert_eq!(cache.validate(), 0);
            }
        }
    }

    async fn a_load_goes_on_without_the_call_that_started_it() {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let started = or(
            cache.get_detached(1, || at(&gate, 10)),
            async {
                yield_now().await;
                0
            },
        );
        let other = async {
            // After the leader, in whose place it goes on.
            let call = cache.get_or_insert_with(1, async || unreachable!("it joins the load"));
            or(call, async {
                for _ in 0..4 {
                    yield_now().await;
                }
                gate.open();
                std::future::pending().await
            })
            .await
        };
        let values = futures_lite::future::zip(started, other).await;
        assert_eq!(values, (0, 10));
        assert_eq!(cache.stats().loads, 1);
        assert_eq!(cache.validate(), 0);
    }
}

/// A task's waker.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A call that is polled only when it was woken.
struct Task<'a> {
    call: Option<Hand<'a, u32>>,
    flag: Arc<Flag>,
    value: Option<u32>,
}

impl<'a> Task<'a> {
    fn new(call: Hand<'a, u32>) -> Self {
        Self { call: Some(call), flag: Arc::new(Flag(AtomicBool::new(true))), value: None }
    }

    /// Polls the call if it was woken; tells whether it was.
    fn run(&mut self) -> bool {
        let Some(call) = &mut self.call else { return false };
        if !self.flag.0.swap(false, Ordering::SeqCst) {
            return false;
        }
        let waker = Waker::from(Arc::clone(&self.flag));
        if let Poll::Ready(value) = call.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.value = Some(value);
            self.call = None;
        }
        true
    }
}

/// A load that wants to be polled `polls` times more, each time after a wake-up: by itself, or from
/// outside with the waker that it leaves here.
#[derive(Clone, Default)]
struct Outside(Arc<Mutex<Option<Waker>>>);

impl Outside {
    fn wake(&self) -> bool {
        let waker = self.0.lock().unwrap().take();
        waker.map(Waker::wake).is_some()
    }

    async fn load(self, polls: usize, value: u32) -> u32 {
        for number in 0..polls {
            if number % 2 == 0 {
                yield_now().await;
            } else {
                let mut is_first = true;
                poll_fn(|cx| {
                    if !std::mem::take(&mut is_first) {
                        return Poll::Ready(());
                    }
                    *self.0.lock().unwrap() = Some(cx.waker().clone());
                    Poll::Pending
                })
                .await;
            }
        }
        value
    }
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    Drop,
    /// Kept until the end, and not polled any more.
    Keep,
    Leak,
}

/// Three calls for one key: two detached ones, of which the first leads, and a borrowed one.
const CALLS: usize = 3;

fn calls<'a>(cache: &'a Cache, outside: &Outside) -> Vec<Task<'a>> {
    let load = |value| {
        let outside = outside.clone();
        move || outside.load(4, value)
    };
    let (first, second, third) = (load(0), load(1), load(2));
    vec![
        Task::new(hand(cache.get_detached(1, first))),
        Task::new(hand(cache.get_detached(1, second))),
        Task::new(hand(cache.get_or_insert_with(1, third))),
    ]
}

/// Against (A1), (A2), (A3) of `docs/reliability.md`.
#[test]
fn calls_that_are_lost_at_any_poll_hold_up_nobody_and_cost_no_load_that_somebody_waits_for() {
    let mut schedules = 0;
    for maxsize in [10, 0] {
        for loss in [Loss::Drop, Loss::Keep, Loss::Leak] {
            for lost_calls in 1..(1 << CALLS) - 1_usize {
                for lost_at in 0..16 {
                    let what = format!("{loss:?} {lost_calls:#b} at poll {lost_at}");
                    let cache = Cache::new(maxsize);
                    let outside = Outside::default();
                    let mut tasks = calls(&cache, &outside);
                    let mut kept = Vec::new();
                    let mut polls = 0;
                    let is_lost = |number: usize| lost_calls & (1 << number) != 0;
                    while tasks.iter().any(|task| task.call.is_some()) {
                        let mut was_any_woken = false;
                        for number in 0..CALLS {
                            if polls == lost_at {
                                for lost in (0..CALLS).filter(|number| is_lost(*number)) {
                                    match (tasks[lost].call.take(), loss) {
                                        (call, Loss::Drop) => drop(call),
                                        (call, Loss::Keep) => kept.push(call),
                                        (call, Loss::Leak) => std::mem::forget(call),
                                    }
                                }
                            }
                            if tasks[number].run() {
                                was_any_woken = true;
                                polls += 1;
                            }
                        }
                        assert!(was_any_woken || outside.wake(), "{what}: a wake-up is lost");
                    }
                    let values: Vec<u32> = tasks.iter().filter_map(|task| task.value).collect();
                    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{what}: {values:?}");
                    for (number, task) in tasks.iter().enumerate() {
                        assert!(is_lost(number) || task.value.is_some(), "{what}");
                    }
                    // A load is in vain only if all who had joined it were dropped.
                    let joined = (1 << lost_at.min(CALLS)) - 1;
                    let in_vain =
                        matches!(loss, Loss::Drop) && joined != 0 && joined & !lost_calls == 0;
                    let in_vain = u64::from(in_vain);
                    let stats = cache.stats();
                    assert_eq!(
                        (stats.loads, stats.load_failures),
                        (1 + in_vain, in_vain),
                        "{what}"
                    );
                    assert_eq!(cache.get(&1), values.first().copied().filter(|_| maxsize > 0));
                    drop(kept);
                    assert_eq!(cache.validate(), 0, "{what}");
                    schedules += 1;
                }
            }
        }
    }
    println!("schedules: {schedules}");
}

/// Says when it is dropped.
#[derive(Clone)]
struct Witness(Arc<AtomicUsize>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_last_call_to_go_takes_the_load_with_it() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let cache = Cache::new(10);
        let dropped = Arc::new(AtomicUsize::new(0));
        let witness = Witness(Arc::clone(&dropped));
        let lead = || async move {
            let _witness = witness;
            std::future::pending().await
        };
        let mut calls = vec![Some(hand(cache.get_detached(1, lead)))];
        calls.push(Some(hand(cache.get_detached(1, || load(0, 1)))));
        calls.push(Some(hand(cache.get_or_insert_with(1, async || 2))));
        for call in calls.iter_mut().flatten() {
            assert!(poll(call).is_pending());
        }
        for (gone, number) in order.into_iter().enumerate() {
            assert_eq!((dropped.load(Ordering::Relaxed), cache.validate()), (0, 1), "{gone} gone");
            drop(calls[number].take());
        }
        assert_eq!((dropped.load(Ordering::Relaxed), cache.validate()), (1, 0), "{order:?}");
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.load_failures, stats.coalesced), (1, 1, 2));
        assert_eq!(now(cache.get_detached(1, || load(0, 5))), 5);
    }
}

#[test]
fn a_load_is_polled_once_for_each_wake_up_however_many_wait() {
    let cache = Cache::new(10);
    let polls = Arc::new(AtomicUsize::new(0));
    let outside = Outside::default();
    let counted = || {
        let (polls, outside) = (Arc::clone(&polls), outside.clone());
        let mut load = Box::pin(outside.load(4, 7));
        poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            load.as_mut().poll(cx)
        })
    };
    let mut tasks: Vec<_> =
        (0..20).map(|_| Task::new(hand(cache.get_detached(1, counted)))).collect();
    while tasks.iter().any(|task| task.call.is_some()) {
        let woken = tasks.iter_mut().map(Task::run).filter(|woken| *woken).count();
        assert!(woken > 0 || outside.wake());
    }
    assert_eq!(polls.load(Ordering::Relaxed), 5);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_load_that_waits_is_polled_by_none_of_its_callers_and_wakes_none() {
    let cache = Cache::new(10);
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = || {
        let polls = Arc::clone(&polls);
        poll_fn(move |_| {
            polls.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        })
    };
    let mut tasks: Vec<_> =
        (0..3).map(|_| Task::new(hand(cache.get_detached(1, counted)))).collect();
    for task in &mut tasks {
        assert!(task.run());
        assert_eq!(polls.load(Ordering::Relaxed), 1);
    }
    assert!(tasks.iter_mut().all(|task| !task.run()), "nobody was woken");
    drop(tasks);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_call_that_joins_a_load_in_the_future_of_its_leader_waits_for_that() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut leader = hand(cache.get_or_insert_with(1, || at(&gate, 10)));
    assert!(poll(&mut leader).is_pending());
    let mut detached = hand(cache.get_detached(1, || load(0, 11)));
    assert!(poll(&mut detached).is_pending());
    gate.open();
    assert!(poll(&mut detached).is_pending(), "the load is not its to poll");
    assert_eq!((poll(&mut leader), poll(&mut detached)), (Poll::Ready(10), Poll::Ready(10)));

    // When the leader goes, the next load is detached.
    let gate = Gate::new();
    let mut leader = hand(cache.get_or_insert_with(2, std::future::pending));
    assert!(poll(&mut leader).is_pending());
    let mut detached = hand(cache.get_detached(2, || at(&gate, 20)));
    assert!(poll(&mut detached).is_pending());
    drop(leader);
    assert!(poll(&mut detached).is_pending());
    let mut borrowed = hand(cache.get_or_insert_with(2, async || unreachable!()));
    assert!(poll(&mut borrowed).is_pending());
    drop(detached);
    gate.open();
    assert_eq!(poll(&mut borrowed), Poll::Ready(20));
    assert_eq!(cache.stats().loads, 3);
    assert_eq!(cache.validate(), 0);
}

/// Runs `part` and returns the message of its panic.
fn message_of_panic<T>(part: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(part)) else { panic!("it did not panic") };
    let message = payload.downcast_ref::<String>().cloned();
    message.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap()
}

#[test]
fn a_panic_of_the_load_reaches_who_polled_it_and_whose_it_was_and_the_others_go_on() {
    for who_polls in 0..3 {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let gate_of_load = gate.clone();
        let lead = || async move {
            gate_of_load.wait().await;
            panic!("bang")
        };
        let mut calls = vec![hand(cache.get_detached(1, lead))];
        calls.push(hand(cache.get_detached(1, || load(0, 1))));
        calls.push(hand(cache.get_or_insert_with(1, async || 2)));
        calls.push(hand(cache.get_or_insert_with(1, async || 3)));
        for call in &mut calls {
            assert!(poll(call).is_pending());
        }
        gate.open();
        assert_eq!(message_of_panic(|| poll(&mut calls[who_polls])), "bang");
        for (number, call) in calls.iter_mut().enumerate() {
            if number == who_polls {
                continue;
            }
            if number == 0 {
                let message = message_of_panic(|| poll(call));
                assert!(message.contains("while another call polled it"), "{message}");
            } else {
                let first = if who_polls == 1 { 2 } else { 1 };
                assert_eq!(poll(call), Poll::Ready(first));
            }
        }
        drop(calls);
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.load_failures), (2, 1));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_panic_of_the_closure_reaches_its_call_and_the_key_is_free() {
    let cache = Cache::new(10);
    let fails = || -> std::future::Ready<u32> { panic!("bang") };
    assert_eq!(message_of_panic(|| now(cache.get_detached(1, fails))), "bang");
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
    assert_eq!(cache.validate(), 0);
    assert_eq!(now(cache.get_detached(1, || load(0, 5))), 5);
}

#[test]
fn a_call_that_joined_before_the_closure_panicked_goes_on() {
    let cache = Cache::new(10);
    thread::scope(|scope| {
        let fails = || -> std::future::Ready<u32> {
            scope.spawn(|| {
                let joined = cache.get_or_insert_with(1, async || 7);
                assert_eq!(block_on(joined), 7);
            });
            while cache.stats().coalesced == 0 {
                thread::yield_now();
            }
            panic!("bang")
        };
        assert_eq!(message_of_panic(|| now(cache.get_detached(1, fails))), "bang");
    });
    assert_eq!(cache.get(&1), Some(7));
    assert_eq!(cache.validate(), 0);
}

/// A waker that panics when it is cloned.
fn waker_that_panics() -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        panic!("bang")
    }
    fn nothing(_: *const ()) {}
    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, nothing);
    // The functions ignore the pointer.
    #[allow(unsafe_code, reason = "a safe waker cannot panic when it is cloned")]
    unsafe {
        Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE))
    }
}

#[test]
fn a_call_that_joined_while_the_closure_ran_is_woken_if_the_leader_never_polls_the_load() {
    let cache = Cache::new(10);
    let mut joined = Box::pin(cache.get_or_insert_with(1, async || unreachable!("it joins")));
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut leader = hand(cache.get_detached(1, || {
        assert!(joined.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        load(0, 10)
    }));
    let leader_panics = waker_that_panics();
    let poll_leader = || leader.as_mut().poll(&mut Context::from_waker(&leader_panics));
    assert_eq!(message_of_panic(poll_leader), "bang");
    drop(leader);
    assert!(flag.0.load(Ordering::SeqCst));
    assert_eq!(poll(&mut joined), Poll::Ready(10));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn writes_win_over_a_load_in_flight_whoever_polls_it() {
    type Write = fn(&Cache) -> Option<u32>;
    let writes: [Write; 4] = [
        |cache| {
            assert!(now(cache.invalidate(&1)));
            None
        },
        |cache| now(cache.remove(&1)),
        |cache| {
            now(cache.clear());
            None
        },
        |cache| {
            now(cache.insert(1, 99));
            Some(99)
        },
    ];
    for write in writes {
        for leader_goes in [false, true] {
            let cache = Cache::new(10);
            let gate = Gate::new();
            let mut leader = hand(cache.get_detached(1, || at(&gate, 10)));
            assert!(poll(&mut leader).is_pending());
            let mut joined = hand(cache.get_or_insert_with(1, async || unreachable!()));
            assert!(poll(&mut joined).is_pending());
            let written = write(&cache);
            let later = now(cache.get_detached(1, || load(0, 11)));
            assert_eq!(later, written.unwrap_or(11));
            let leader = (!leader_goes).then_some(leader);
            gate.open();
            assert_eq!(poll(&mut joined), Poll::Ready(10));
            if let Some(mut leader) = leader {
                assert_eq!(poll(&mut leader), Poll::Ready(10));
            }
            assert_eq!(cache.get(&1), Some(later));
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn an_entry_lives_from_its_publication_whoever_publishes_it() {
    let clock = ManualClock::new();
    let ttl = Duration::from_secs(10);
    let cache = Cache::builder().ttl(ttl).clock(clock.clone()).build();
    let gate = Gate::new();
    let mut leader = hand(cache.get_detached(1, || at(&gate, 10)));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.get_detached(1, || load(0, 11)));
    assert!(poll(&mut waiter).is_pending());
    drop(leader);
    clock.advance(ttl);
    gate.open();
    assert_eq!(poll(&mut waiter), Poll::Ready(10));
    clock.advance(ttl - Duration::from_nanos(1));
    assert_eq!(cache.get(&1), Some(10));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_cache_that_keeps_nothing_or_shares_nothing_has_detached_loads_too() {
    let zero = Duration::ZERO;
    for cache in [Cache::new(0), Cache::builder().ttl(zero).build()] {
        let calls = (0..3).map(|value| cache.get_detached(1, move || load(2, value)));
        assert_eq!(block_on(join_all(calls)), [0, 0, 0]);
        assert_eq!((cache.stats().loads, cache.len(), cache.validate()), (1, 0, 0));
    }
    let cache = Cache::builder().without_single_flight().build();
    let calls = (0..3).map(|value| cache.get_detached(1, move || load(2, value)));
    assert_eq!(block_on(join_all(calls)), [0, 1, 2]);
    let mut lost = hand(cache.get_detached(2, || load(2, 0)));
    assert!(poll(&mut lost).is_pending());
    drop(lost);
    assert_eq!((cache.stats().loads, cache.stats().load_failures, cache.validate()), (4, 1, 0));
}

#[test]
fn an_entry_is_measured_once_whoever_publishes_it() {
    let measured = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&measured);
    let cache = AsyncLru::<String, u32>::builder()
        .measure_with(move |key, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            key.len() + 1_000
        })
        .build();
    let empty = cache.stats().total_size_in_memory_bytes;
    let gate = Gate::new();
    let value = |lookup: Lookup<u32>| lookup.value;
    let mut leader = hand(cache.entry_ref("key").detached().or_insert_with(|| at(&gate, 10)));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.entry_ref("key").detached().or_insert_with(|| load(0, 11)));
    assert!(poll(&mut waiter).is_pending());
    gate.open();
    let values = (poll(&mut waiter).map(value), poll(&mut leader).map(value));
    assert_eq!(values, (Poll::Ready(10), Poll::Ready(10)));
    assert_eq!(measured.load(Ordering::Relaxed), 1);
    assert!(cache.stats().total_size_in_memory_bytes >= empty + 1_000);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn all_who_can_take_it_get_the_error_of_a_load_whose_leader_is_gone() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let of_load = gate.clone();
    let fails = || async move {
        of_load.wait().await;
        Err("down")
    };
    let mut leader = hand(cache.try_get_detached(1, fails));
    assert!(poll(&mut leader).is_pending());
    let fine = || async { Ok::<u32, &str>(1) };
    let mut detached = hand(cache.entry_ref(&1).detached().or_try_insert_with(fine));
    let mut shared = hand(cache.try_get_or_insert_with(1, fine));
    let mut own = hand(cache.get_or_insert_own(1, fine));
    let mut infallible = hand(cache.get_detached(1, || load(0, 3)));
    assert!(poll(&mut detached).is_pending() && poll(&mut shared).is_pending());
    assert!(poll(&mut own).is_pending() && poll(&mut infallible).is_pending());
    drop(leader);
    gate.open();
    assert_eq!(poll(&mut own), Poll::Ready(Ok(1)), "errors of its own are not shared with it");
    assert_eq!(poll(&mut detached), Poll::Ready(Err(Arc::new("down"))));
    assert_eq!(poll(&mut shared), Poll::Ready(Err(Arc::new("down"))));
    assert_eq!(poll(&mut infallible), Poll::Ready(1));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures), (2, 1));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_load_that_asks_for_its_own_key_panics_with_a_message() {
    let cache = Cache::new(10);
    let of_load = cache.clone();
    let lead = || async move { of_load.get_detached(1, || load(0, 2)).await };
    let message = message_of_panic(|| block_on(cache.get_detached(1, lead)));
    assert!(message.contains("recursive load"), "{message}");
    assert_eq!(cache.validate(), 0);
}

/// Callers on several threads, each of which gives up now and then.
#[test]
fn no_wake_up_is_lost_between_threads() {
    const THREADS: usize = 4;
    const ROUNDS: u32 = 500;
    let cache = AsyncLru::<u32, u32>::new(10_000);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (cache, done) = (&cache, &done);
            scope.spawn(move || {
                for key in 0..ROUNDS {
                    let gives_up = (key as usize + number) % THREADS == 0;
                    let call = cache.get_detached(key, move || load(8, key + 1));
                    let patience = async {
                        if !gives_up {
                            std::future::pending::<()>().await;
                        }
                        load(3, 0).await
                    };
                    let value = block_on(or(call, patience));
                    assert!(value == key + 1 || gives_up && value == 0);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), THREADS * ROUNDS as usize);
    let stats = cache.stats();
    assert_eq!(stats.calls(), (THREADS * ROUNDS as usize) as u64);
    assert_eq!(stats.loads - stats.load_failures, cache.len() as u64);
    assert_eq!(cache.validate(), 0);
}
