//! A task that frees what has expired.

mod common;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock, Update};
use common::{Calls, hand, join_all, now, poll};
use futures_lite::future::{pending, yield_now, zip};

const TTL: Duration = Duration::from_secs(60);

fn timed(clock: &ManualClock) -> AsyncLru<u32, u64> {
    AsyncLru::builder().ttl(TTL).shards(4).clock(clock.clone()).build()
}

/// Sleeps until the clock has been advanced by others.
async fn until(clock: ManualClock, time: Duration) {
    use async_lru::Clock;
    while clock.now() < time {
        yield_now().await;
    }
}

executors! {
    async fn entries_are_freed_when_their_time_has_come_and_no_sooner() {
        use async_lru::Clock;
        let clock = ManualClock::new();
        let cache = timed(&clock);
        let sleeps = clock.clone();
        let janitor = cache.janitor(move |idle| until(sleeps.clone(), sleeps.now() + idle));
        let work = async {
            for key in 0..1_000 {
                cache.insert(key, 0).await;
                clock.advance(Duration::from_millis(1));
            }
            clock.set(TTL - Duration::from_nanos(1));
            for _ in 0..10 {
                yield_now().await;
            }
            assert_eq!(cache.len(), 1_000);
            clock.set(TTL + Duration::from_millis(499));
            while cache.len() > 500 {
                yield_now().await;
            }
            for _ in 0..10 {
                yield_now().await;
            }
            assert_eq!((cache.len(), cache.stats().expirations), (500, 500));
            clock.advance(TTL);
            while !cache.is_empty() {
                yield_now().await;
            }
            assert_eq!(cache.validate(), 0);
            drop(cache);
        };
        zip(janitor, work).await;
    }

    async fn the_task_ends_when_the_last_handle_is_gone() {
        let cache = AsyncLru::<u32, u32>::new(4);
        cache.insert(1, 10).await;
        let janitor = cache.janitor(|_| pending::<()>());
        let other = cache.clone();
        let work = async move {
            drop(cache);
            yield_now().await;
            assert_eq!(other.get(&1), Some(10));
        };
        zip(janitor, work).await;
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn it_sleeps_until_the_next_deadline_and_wakes_for_one_that_comes_sooner() {
    let clock = ManualClock::new();
    let cache = AsyncLru::<u32, u32>::builder().clock(clock.clone()).build();
    let sleeps = Rc::new(RefCell::new(Vec::new()));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let asked = Rc::clone(&sleeps);
    let mut janitor = hand(cache.janitor(move |idle| {
        asked.borrow_mut().push(idle.as_secs());
        pending::<()>()
    }));
    let mut run = || janitor.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();

    assert!(run());
    assert!(sleeps.borrow().is_empty(), "nothing expires");
    cache.insert_blocking(1, 10);
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    cache.insert_with_ttl_blocking(2, 20, Duration::from_secs(64));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(run());
    // A lower bound where lifetimes differ, here the time itself.
    assert_eq!(*sleeps.borrow(), [64]);
    cache.insert_with_ttl_blocking(3, 30, Duration::from_secs(100));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "later than what it waits for");
    cache.insert_with_ttl_blocking(4, 40, Duration::from_secs(5));
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(run());
    assert!(sleeps.borrow()[1] <= 5);
    cache.insert_with_ttl_blocking(5, 50, Duration::MAX);
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    clock.advance(Duration::from_secs(5));
    cache.insert_with_ttl_blocking(1, 11, Duration::ZERO);
    assert!(run(), "its sleep is not over");
    assert_eq!(cache.keys().len(), 3);
    drop(cache);
    assert_eq!(woken.0.load(Ordering::Relaxed), 3);
    assert!(!run());
}

#[test]
fn a_task_that_is_dropped_or_kept_unpolled_changes_nothing() {
    let clock = ManualClock::new();
    let cache = AsyncLru::builder().ttl(TTL).shards(1).clock(clock.clone()).build();
    let drops = Rc::new(Cell::new(0));
    struct Sleep(Rc<Cell<u32>>);
    impl Drop for Sleep {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let asked = Rc::clone(&drops);
    let mut janitor = hand(cache.janitor(move |_| {
        let sleep = Sleep(Rc::clone(&asked));
        async move {
            let _sleep = sleep;
            pending::<()>().await;
        }
    }));
    let mut kept = hand(cache.janitor(|_| pending::<()>()));
    cache.insert_blocking(1, 10);
    assert!(poll(&mut janitor).is_pending() && poll(&mut kept).is_pending());
    drop(janitor);
    assert_eq!(drops.get(), 1);
    clock.advance(TTL);
    cache.insert_blocking(2, 20);
    assert_eq!((cache.len(), cache.get(&2)), (1, Some(20)));
    assert_eq!(cache.purge_expired_blocking(), 0);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn many_entries_are_freed_in_turns_with_others() {
    let clock = ManualClock::new();
    let cache = AsyncLru::<u32, u64>::builder()
        .maxsize(100_000)
        .expiry(|_, value| Some(Duration::from_nanos(*value)))
        .shards(1)
        .clock(clock.clone())
        .build();
    for key in 0..5_000_u32 {
        cache.insert_blocking(key, 1 + (u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 30));
    }
    clock.advance(Duration::from_secs(100));
    let turns = Cell::new(0);
    let others = poll_fn(|cx| {
        turns.set(turns.get() + 1);
        if cache.is_empty() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    let janitor = async {
        let mut janitor = hand(cache.janitor(|_| pending::<()>()));
        while !cache.is_empty() {
            assert!(poll(&mut janitor).is_pending());
            yield_now().await;
        }
    };
    futures_lite::future::block_on(zip(join_all([others]), janitor));
    assert!(turns.get() > 10, "{} turns", turns.get());
    assert_eq!(cache.validate(), 0);
}

/// The payload of a panic on purpose.
struct Bang;

thread_local! {
    /// Panics on purpose of this thread that have reached the panic hook.
    static HEARD: Cell<u32> = const { Cell::new(0) };
}

fn silence_panics_on_purpose() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().is::<Bang>() {
            HEARD.set(HEARD.get() + 1);
        } else {
            default(info);
        }
    }));
}

/// Both as a listener and as a value's `Drop` it is heard of once, by the panic hook.
#[test]
fn a_janitor_goes_on_after_a_panic_of_what_it_frees_or_of_the_listener() {
    struct Value(bool);
    impl Clone for Value {
        fn clone(&self) -> Self {
            Self(false)
        }
    }
    impl Drop for Value {
        fn drop(&mut self) {
            if self.0 {
                panic_any(Bang);
            }
        }
    }
    silence_panics_on_purpose();
    for has_listener in [false, true] {
        let clock = ManualClock::new();
        let mut builder = AsyncLru::<u32, Value>::builder().ttl(TTL).clock(clock.clone());
        let heard = Arc::new(AtomicU32::new(0));
        if has_listener {
            let heard = Arc::clone(&heard);
            builder = builder.on_remove(move |_, mut value: Value, _| {
                heard.fetch_add(1, Ordering::SeqCst);
                if std::mem::take(&mut value.0) {
                    panic_any(Bang);
                }
            });
        }
        let cache = builder.build();
        let mut janitor = hand(cache.janitor(|_| yield_now()));
        let mut free = || {
            clock.advance(TTL);
            for _ in 0..10 {
                assert!(poll(&mut janitor).is_pending());
            }
            assert!(cache.is_empty());
        };
        HEARD.set(0);
        for round in 1..=3 {
            for key in 0..5 {
                cache.insert_blocking(key, Value(key == 1));
            }
            free();
            assert_eq!(HEARD.get(), round, "each panic once");
        }
        assert_eq!(heard.load(Ordering::SeqCst), if has_listener { 15 } else { 0 });
        assert_eq!((cache.stats().expirations, cache.validate()), (15, 0));
    }
}

/// A waker that panics when it is woken.
struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic_any(Bang);
    }
}

#[test]
fn a_panic_of_the_waker_of_a_janitor_reaches_the_call_that_wakes_it_with_its_value_in() {
    silence_panics_on_purpose();
    type Call = fn(&AsyncLru<u32, u64>);
    let load = |cache: &AsyncLru<u32, u64>| {
        now(cache.get_or_insert_with(1, async || 10));
    };
    let calls: [Call; 5] = [
        load,
        |cache| assert_ne!(cache.insert_blocking(1, 10), Some(11)),
        |cache| assert_eq!(now(cache.get_detached(1, || async { 10 })), 10),
        |cache| assert_eq!(now(cache.update_with(1, async |_| Update::Put(10))), Some(10)),
        |cache| assert!(cache.restore_blocking([(1, 10)]) <= 1),
    ];
    for call in calls {
        let cache = timed(&ManualClock::new());
        let mut janitor = hand(cache.janitor(|_| pending::<()>()));
        let waker = Waker::from(Arc::new(PanickingWaker));
        assert!(janitor.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // Another one, which is woken all the same.
        let woken = Arc::new(Woken::default());
        let other_waker = Waker::from(Arc::clone(&woken));
        let mut other = hand(cache.janitor(|_| pending::<()>()));
        assert!(other.as_mut().poll(&mut Context::from_waker(&other_waker)).is_pending());
        let panicked = catch_unwind(AssertUnwindSafe(|| call(&cache)));
        assert!(panicked.is_err_and(|payload| payload.is::<Bang>()));
        assert_eq!(cache.peek(&1), Some(10));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(cache.validate(), 0, "no load is left behind");
        call(&cache);
    }
}
