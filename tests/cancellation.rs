//! Calls that are dropped, leaked, or kept and not polled any more.

mod common;
#[path = "common/forms.rs"]
mod forms;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "common/on_wake.rs"]
mod on_wake;
#[path = "common/props.rs"]
mod props;
#[path = "common/scene.rs"]
mod scene;
#[path = "common/side_by_side.rs"]
mod side_by_side;
#[path = "common/stage.rs"]
mod stage;
#[path = "common/stale_scene.rs"]
mod stale_scene;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use async_lru::AsyncLru;
use common::{Hand, hand, join_all, now, poll};
use futures_lite::future::{or, pending, yield_now};
use on_wake::on_wake;
use scene::{FATES, Fate, ROLES, Run, Scene};
use side_by_side::sum_of;
use stage::{Call, Kind};
use stale_scene::StaleScene;
use watchdog::{Progress, watched};

type Cache = AsyncLru<u32, u32>;

#[test]
fn a_call_that_is_dropped_leaked_or_kept_after_any_poll_leaves_the_cache_valid() {
    watched(|progress| {
        let mut scenes = Vec::new();
        for kind in Kind::all() {
            for call in Call::all() {
                for role in ROLES {
                    scenes.extend((0..=3).map(|others| Scene { kind, call, role, others }));
                }
            }
        }
        let possible = scenes.into_iter().filter(Scene::is_possible);
        let points = sum_of(possible, |scene| cancel_points(&scene, progress));
        println!("cancel points: {points}");
        assert!(points >= 5_000, "{points}");
    });
}

#[test]
fn a_refresh_that_is_dropped_leaked_or_kept_after_any_poll_leaves_the_key_to_the_next_call() {
    watched(|progress| {
        let mut points = 0;
        for kind in Kind::of_stale_keys() {
            let calls = Call::of_stale_keys().into_iter().chain(Call::writes());
            for call in calls {
                for role in stale_scene::ROLES {
                    let scene = StaleScene { kind, call, role };
                    if scene.is_possible() {
                        points += points_of(|polls, fate| {
                            progress.reached(format!("{scene:?} after {polls} polls, {fate:?}"));
                            scene.play(polls, fate)
                        });
                    }
                }
            }
        }
        println!("cancel points of refreshes: {points}");
        assert!(points >= 1_000, "{points}");
    });
}

/// Plays a scene for every number of polls after which its call has not ended, and for every fate;
/// returns how many these were.
fn cancel_points(scene: &Scene, progress: &Progress) -> usize {
    points_of(|polls, fate| {
        progress.reached(format!("{scene:?} after {polls} polls, {fate:?}"));
        scene.play(polls, fate)
    })
}

/// The same for any way to play one.
fn points_of(play: impl Fn(usize, Fate) -> Run) -> usize {
    let mut points = 0;
    for fate in FATES {
        let mut polls = 0;
        while play(polls, fate) == Run::Cut {
            polls += 1;
            assert!(polls < 32, "a call that nothing stands in the way of never ends");
        }
        points += polls;
    }
    points
}

/// A loader that yields `yields` times, counting loads that run at the same time.
async fn load(running: &AtomicUsize, yields: usize, value: u32) -> u32 {
    struct Running<'a>(&'a AtomicUsize);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    assert_eq!(running.fetch_add(1, Ordering::Relaxed), 0, "a second load of a live key");
    let _running = Running(running);
    for _ in 0..yields {
        yield_now().await;
    }
    value
}

/// Polls futures in turn until all are done.
fn run_all(futures: Vec<Hand<'_, u32>>) -> Vec<u32> {
    futures_lite::future::block_on(join_all(futures))
}

/// Against (A3), (A6) of `docs/reliability.md`.
#[test]
fn a_waiter_that_was_woken_and_is_not_polled_any_more_holds_up_nobody() {
    for gone in ["dropped", "kept", "leaked"] {
        for unlucky in 0..3 {
            let cache = Cache::new(10);
            let running = &AtomicUsize::new(0);
            let mut leader = hand(cache.get_or_insert_with(1, || load(running, 2, 0)));
            assert!(poll(&mut leader).is_pending());
            let mut waiters: Vec<_> = (1..=3)
                .map(|value| hand(cache.get_or_insert_with(1, move || load(running, 2, value))))
                .collect();
            for waiter in &mut waiters {
                assert!(poll(waiter).is_pending());
            }
            // All three are woken; one of them never runs.
            drop(leader);
            let lost = waiters.remove(unlucky);
            let kept = match gone {
                "dropped" => None,
                "leaked" => {
                    std::mem::forget(lost);
                    None
                }
                _ => Some(lost),
            };
            let values = run_all(waiters);
            assert_eq!(values[0], values[1]);
            drop(kept);
            assert_eq!(cache.stats().loads, 2);
        }
    }
}

/// Against (A8) of `docs/reliability.md`.
#[test]
fn ten_thousand_aborted_leaders_are_no_limit() {
    let cache = Cache::new(10);
    let running = AtomicUsize::new(0);
    let mut waiter = hand(cache.get_or_insert_with(1, || load(&running, 0, 7)));
    let mut first = hand(cache.get_or_insert_with(1, || load(&running, 1, 0)));
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut waiter).is_pending());
    let mut leader = first;
    for _ in 0..10_000 {
        drop(leader);
        // Another caller is faster than the waiter every time.
        leader = hand(cache.get_or_insert_with(1, || load(&running, 1, 0)));
        assert!(poll(&mut leader).is_pending());
        assert!(poll(&mut waiter).is_pending());
    }
    drop(leader);
    assert_eq!(poll(&mut waiter), Poll::Ready(7));
    assert_eq!(cache.stats().load_failures, 10_001);
}

/// Against (A1), (A2) of `docs/reliability.md`.
#[test]
fn a_leader_that_is_leaked_keeps_its_waiters_waiting_until_a_write_frees_the_key() {
    // The documented limit: the load runs in the leader's future.
    let cache = Cache::new(10);
    let mut leader = Box::pin(cache.get_or_insert_with(1, pending::<u32>));
    assert!(poll(&mut leader).is_pending());
    std::mem::forget(leader);
    let mut waiter = hand(cache.get_or_insert_with(1, async || 2));
    assert!(poll(&mut waiter).is_pending());
    assert!(now(cache.invalidate(&1)));
    assert_eq!(now(cache.get_or_insert_with(1, async || 3)), 3);
    assert!(poll(&mut waiter).is_pending());
}

#[test]
fn a_leader_that_is_kept_unpolled_keeps_its_waiters_waiting_until_it_is_dropped() {
    // The same limit.
    let cache = Cache::new(10);
    let mut leader = Box::pin(cache.get_or_insert_with(1, pending::<u32>));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.get_or_insert_with(1, async || 2));
    for _ in 0..100 {
        assert!(poll(&mut waiter).is_pending());
    }
    assert_eq!(now(cache.get_or_insert_with(2, async || 3)), 3, "other keys are free");
    drop(leader);
    assert_eq!(poll(&mut waiter), Poll::Ready(2));
}

/// Against (A5) of `docs/reliability.md`.
#[test]
fn the_latest_waker_is_woken() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let cache = Cache::new(10);
    let mut leader = hand(cache.get_or_insert_with(1, pending::<u32>));
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.get_or_insert_with(1, async || 2));
    let flags: Vec<_> = (0..3).map(|_| Arc::new(Flag(AtomicBool::new(false)))).collect();
    for flag in &flags {
        let waker = Waker::from(Arc::clone(flag));
        // Twice: a poll with the waker that is known already changes nothing.
        for _ in 0..2 {
            assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    drop(leader);
    let woken: Vec<bool> = flags.iter().map(|flag| flag.0.load(Ordering::Relaxed)).collect();
    assert_eq!(woken, [false, false, true]);
}

#[test]
fn a_waker_that_drops_another_waiter_when_it_is_woken_does_not_deadlock() {
    watched(|_| {
        let cache = Cache::new(10);
        let mut leader = Box::pin(cache.get_or_insert_with(1, pending::<u32>));
        assert!(poll(&mut leader).is_pending());
        let of_victim = cache.clone();
        let mut victim = Box::pin(async move { of_victim.get_or_insert_with(1, async || 2).await });
        assert!(poll(&mut victim).is_pending());

        let waker = on_wake(move || drop(victim));
        let mut waiter = hand(cache.get_or_insert_with(1, async || 3));
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(leader);
        assert_eq!(poll(&mut waiter), Poll::Ready(3));
    });
}

#[test]
fn a_waiter_that_is_dropped_leaves_no_waker_behind() {
    struct Counted;
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    let cache = Cache::new(10);
    let mut leader = hand(cache.get_or_insert_with(1, pending::<u32>));
    assert!(poll(&mut leader).is_pending());
    let counted = Arc::new(Counted);
    let mut waiter = hand(cache.get_or_insert_with(1, async || 2));
    let waker = Waker::from(Arc::clone(&counted));
    assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert_eq!(Arc::strong_count(&counted), 2, "the flight has one");
    drop(waiter);
    assert_eq!(Arc::strong_count(&counted), 1);
    drop(leader);
}

#[test]
fn a_panic_of_a_waker_goes_on_to_who_woke_it_once_all_others_are_woken() {
    let cache = Cache::new(10);
    let mut leader = hand(cache.get_or_insert_with(1, pending::<u32>));
    assert!(poll(&mut leader).is_pending());
    let woken = Arc::new(AtomicBool::new(false));
    let of_waker = Arc::clone(&woken);
    let wakers = [
        on_wake(|| panic!("the first")),
        on_wake(|| panic!("the second")),
        on_wake(move || of_waker.store(true, Ordering::Relaxed)),
    ];
    let mut waiters: Vec<_> =
        wakers.iter().map(|_| hand(cache.get_or_insert_with(1, async || 2))).collect();
    for (waiter, waker) in waiters.iter_mut().zip(&wakers) {
        assert!(waiter.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    let payload = catch_unwind(AssertUnwindSafe(|| drop(leader))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"the first"));
    assert!(woken.load(Ordering::Relaxed));
    assert_eq!(now(join_all(waiters)), [2, 2, 2]);
}

executors! {
    async fn a_call_cancelled_by_a_select_leaves_the_key_free() {
        let cache = Cache::new(10);
        for round in 0..100 {
            let cancelled = or(
                cache.get_or_insert_with(1, pending::<u32>),
                async {
                    yield_now().await;
                    round
                },
            );
            assert_eq!(cancelled.await, round);
        }
        assert_eq!(cache.get_or_insert_with(1, async || 7).await, 7);
        assert_eq!(cache.stats().loads, 101);
    }

    /// Against (A9) of `docs/reliability.md`.
    async fn waiters_of_a_cancelled_leader_agree_on_the_value_of_one_of_them() {
        let cache = Cache::new(10);
        let leader = or(cache.get_or_insert_with(1, pending::<u32>), async {
            for _ in 0..3 {
                yield_now().await;
            }
            0
        });
        let waiters = (1..=5).map(|value| {
            let cache = cache.clone();
            async move {
                cache
                    .get_or_insert_with(1, async || {
                        yield_now().await;
                        value
                    })
                    .await
            }
        });
        let (cancelled, values) = futures_lite::future::zip(leader, join_all(waiters)).await;
        assert_eq!(cancelled, 0);
        assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
        assert_eq!(cache.stats().loads, 2);
    }
}

/// Against (A10) of `docs/reliability.md`.
#[test]
fn a_runtime_that_shuts_down_in_the_middle_of_a_load_frees_the_key() {
    let cache = Cache::new(10);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let (started, has_started) = mpsc::channel();
    let in_task = cache.clone();
    runtime.spawn(async move {
        let stuck = in_task.get_or_insert_with(1, || {
            started.send(()).unwrap();
            pending::<u32>()
        });
        stuck.await
    });
    has_started.recv().unwrap();
    let mut waiter = hand(cache.get_or_insert_with(1, async || 2));
    assert!(poll(&mut waiter).is_pending());
    drop(runtime);
    assert_eq!(poll(&mut waiter), Poll::Ready(2));
}
