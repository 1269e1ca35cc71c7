//! A load that would wait for itself is told, and no other call is taken for one.

mod common;

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use async_lru::{AsyncLru, Update};
use common::{Calls, hand, now, poll};
use futures_lite::future::{block_on, yield_now};

type Cache = AsyncLru<u32, u32>;

type Task = Pin<Box<dyn Future<Output = u32> + Send>>;

/// A way to ask for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Led,
    Detached,
    Update,
    Batch,
}

impl Way {
    const ALL: [Self; 4] = [Self::Led, Self::Detached, Self::Update, Self::Batch];

    /// Asks for a key, whose value an update sets whether it is there or not.
    fn ask(self, cache: &Cache, key: u32, load: impl FnOnce() -> Task + Send + 'static) -> Task {
        let cache = cache.clone();
        match self {
            Self::Led => Box::pin(async move { cache.get_or_insert_with(key, load).await }),
            Self::Detached => Box::pin(async move { cache.get_detached(key, load).await }),
            Self::Update => Box::pin(async move {
                let update = async |_| Update::Put(load().await);
                cache.update_with(key, update).await.unwrap()
            }),
            Self::Batch => Box::pin(async move {
                let mut load = Some(load);
                let load = |_| {
                    let load = load.take().expect("loads once");
                    async move { [(key, load().await)] }
                };
                // Those before and after it are there.
                let keys = [key + 1_000, key, key + 2_000];
                for other in [keys[0], keys[2]] {
                    cache.insert_blocking(other, 0);
                }
                cache.get_or_insert_many(keys, load).await[1].1.expect("it is loaded")
            }),
        }
    }

    /// Asks for `key` with a load that asks for the next one in the next way, and so on to the last
    /// one, which runs `then`.
    fn ask_through(
        ways: &[Self],
        cache: &Cache,
        key: u32,
        then: impl FnOnce() -> Task + Send + 'static,
    ) -> Task {
        let Some((way, further)) = ways.split_first() else { return then() };
        let (further, of_load) = (further.to_vec(), cache.clone());
        let load = move || -> Task {
            Box::pin(async move {
                yield_now().await;
                Self::ask_through(&further, &of_load, key + 1, then).await
            })
        };
        way.ask(cache, key, load)
    }
}

/// All rows of `length` ways.
fn rows(length: usize) -> Vec<Vec<Way>> {
    (0..length).fold(vec![vec![]], |rows, _| {
        let longer = |row: Vec<Way>| Way::ALL.map(|way| [&row[..], &[way]].concat());
        rows.into_iter().flat_map(longer).collect()
    })
}

/// A row of `length` ways, in turns.
fn turns(length: usize, first: usize) -> Vec<Way> {
    Way::ALL.into_iter().cycle().skip(first).take(length).collect()
}

fn ready(value: u32) -> Task {
    Box::pin(async move { value })
}

/// Polls a call that is to panic as a recursive load.
fn assert_recursion_is_told(cache: &Cache, call: Task, what: &dyn std::fmt::Debug) {
    let payload =
        catch_unwind(AssertUnwindSafe(|| block_on(call))).expect_err("it waits for itself");
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or(payload.downcast_ref::<&str>().copied()).unwrap();
    assert!(message.contains("recursive load"), "{what:?}: {message}");
    assert_eq!(cache.validate(), 0, "{what:?}");
}

/// Against (A22) of `docs/reliability.md`.
#[test]
fn a_load_that_comes_back_to_its_key_panics_in_every_way_and_through_any_others() {
    let rows = (1..=3).flat_map(rows).chain([7, 8, 9, 30].map(|length| turns(length, length)));
    for row in rows {
        let last = row.len() as u32 - 1;
        for way in Way::ALL {
            for back in [0, last / 2, last] {
                let cache = Cache::new(1_000);
                let of_load = cache.clone();
                let comes_back = move || way.ask(&of_load, back, || unreachable!("it joins"));
                let call = Way::ask_through(&row, &cache, 0, comes_back);
                assert_recursion_is_told(&cache, call, &(&row, way, back));
            }
        }
    }
}

#[test]
fn a_load_whose_executor_runs_a_part_of_it_is_told_if_that_comes_back() {
    for lead in Way::ALL {
        let cache = Cache::new(1_000);
        let of_load = cache.clone();
        let load = move || -> Task {
            Box::pin(async move {
                let executor = smol::Executor::new();
                executor.run(of_load.get_or_insert_with(1, async || unreachable!("it joins"))).await
            })
        };
        assert_recursion_is_told(&cache, lead.ask(&cache, 1, load), &lead);
    }
}

/// A batch polls the loads that it moves on with wakers of its own.
#[test]
fn a_detached_load_that_a_batch_within_a_load_moves_on_is_told_if_it_comes_back() {
    for lead in Way::ALL {
        let cache = Cache::new(1_000);
        let of_load = cache.clone();
        let mut elsewhere = Way::Detached.ask(&cache, 2, || {
            Box::pin(async move {
                yield_now().await;
                of_load.get_or_insert_with(1, async || unreachable!("it joins")).await
            })
        });
        assert!(poll(&mut elsewhere).is_pending());
        let call = lead.ask(&cache, 1, {
            let of_load = cache.clone();
            move || Way::Batch.ask(&of_load, 2, || unreachable!("it joins"))
        });
        assert_recursion_is_told(&cache, call, &lead);
    }
}

/// A task that says when it is polled.
fn watched(mut task: Task, is_polled: &Arc<AtomicBool>) -> Task {
    let is_polled = Arc::clone(is_polled);
    Box::pin(poll_fn(move |cx| {
        is_polled.store(true, Ordering::Relaxed);
        task.as_mut().poll(cx)
    }))
}

/// Yields until all are set.
async fn until(are_set: &[Arc<AtomicBool>]) {
    while !are_set.iter().all(|is_set| is_set.load(Ordering::Relaxed)) {
        yield_now().await;
    }
}

/// What a call of this way gets that waits for a load of 7, and has 8 for itself.
fn after_seven(way: Way) -> u32 {
    if way == Way::Update { 8 } else { 7 }
}

executors! {
    /// Against (A22) of `docs/reliability.md`.
    async fn other_tasks_that_an_executor_within_a_load_polls_may_wait_for_that_load() {
        for lead in Way::ALL {
            for wait in Way::ALL {
                let cache = Cache::new(1_000);
                let executor = Arc::new(smol::Executor::new());
                let is_polled = Arc::default();
                let waits = wait.ask(&cache, 1, || ready(8));
                let waiter = executor.spawn(watched(waits, &is_polled));
                let of_load = Arc::clone(&executor);
                let load = move || -> Task {
                    Box::pin(async move {
                        of_load.run(until(&[is_polled])).await;
                        7
                    })
                };
                assert_eq!(lead.ask(&cache, 1, load).await, 7, "{lead:?}, {wait:?}");
                assert_eq!(executor.run(waiter).await, after_seven(wait), "{lead:?}, {wait:?}");
                assert_eq!(cache.validate(), 0);
            }
        }
    }

    async fn other_tasks_may_wait_for_any_of_many_nested_loads_through_loads_of_theirs() {
        const DEPTH: u32 = 12;
        for first in 0..Way::ALL.len() {
            let cache = Cache::new(1_000);
            let executor = Arc::new(smol::Executor::new());
            let are_polled: Vec<_> = (0..DEPTH).map(|_| Arc::default()).collect();
            let wait_for = |key: u32| {
                let of_load = cache.clone();
                let waits = move || -> Task {
                    Box::pin(async move { of_load.get_or_insert_with(key, pending).await })
                };
                let ways = turns(2, key as usize);
                let task = Way::ask_through(&ways, &cache, 100 + 10 * key, waits);
                executor.spawn(watched(task, &are_polled[key as usize]))
            };
            let waiters: Vec<_> = (0..DEPTH).map(wait_for).collect();
            let of_load = Arc::clone(&executor);
            let innermost = move || -> Task {
                Box::pin(async move {
                    of_load.run(until(&are_polled)).await;
                    // Their loads have been started by now, and wait.
                    for _ in 0..10 {
                        of_load.run(yield_now()).await;
                    }
                    7
                })
            };
            let ways = turns(DEPTH as usize, first);
            assert_eq!(Way::ask_through(&ways, &cache, 0, innermost).await, 7);
            for waiter in waiters {
                assert_eq!(executor.run(waiter).await, 7);
            }
            assert_eq!(cache.validate(), 0);
        }
    }
}

thread_local! {
    /// Where a load that is `Send` has a set that is not.
    static LOCAL_SET: tokio::task::LocalSet = tokio::task::LocalSet::new();
}

#[test]
fn other_tasks_that_a_local_set_within_a_load_polls_may_wait_for_that_load() {
    for lead in Way::ALL {
        for wait in Way::ALL {
            let cache = Cache::new(1_000);
            let is_polled: Arc<AtomicBool> = Arc::default();
            let waits = watched(wait.ask(&cache, 1, || ready(8)), &is_polled);
            let load = move || -> Task {
                Box::pin(poll_fn(move |cx| {
                    let are_polled = [Arc::clone(&is_polled)];
                    LOCAL_SET.with(|set| {
                        let run = std::pin::pin!(set.run_until(until(&are_polled)));
                        run.poll(cx).map(|()| 7)
                    })
                }))
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let waiter = LOCAL_SET.with(|set| set.spawn_local(waits));
            assert_eq!(runtime.block_on(lead.ask(&cache, 1, load)), 7, "{lead:?}, {wait:?}");
            let value = LOCAL_SET.with(|set| runtime.block_on(set.run_until(waiter)).unwrap());
            assert_eq!(value, after_seven(wait), "{lead:?}, {wait:?}");
            assert_eq!(cache.validate(), 0);
        }
    }
}

/// As documented: what polls with a waker of its own is another task, as far as can be told.
#[test]
fn a_load_that_comes_back_through_a_waker_of_somebody_elses_waits() {
    let cache = Cache::new(10);
    let mut call = hand(cache.get_or_insert_with(1, async || {
        let mut comes_back = hand(cache.get_or_insert_with(1, async || unreachable!("it joins")));
        let waker = Waker::from(Arc::new(Unlike));
        poll_fn(|_| comes_back.as_mut().poll(&mut Context::from_waker(&waker))).await
    }));
    assert!(poll(&mut call).is_pending() && poll(&mut call).is_pending());
    drop(call);
    assert_eq!(now(cache.get_or_insert_with(1, async || 5)), 5);
    assert_eq!(cache.validate(), 0);
}

struct Unlike;

impl std::task::Wake for Unlike {
    fn wake(self: Arc<Self>) {}
}

/// The closure itself belongs to no task: what it polls, it polls by itself.
#[test]
fn a_closure_may_poll_calls_that_wait_for_its_load() {
    let cache = Cache::new(10);
    let mut waiter = hand(cache.get_or_insert_with(1, async || unreachable!("it joins")));
    let polled = now(cache.get_or_insert_with(1, || {
        assert!(poll(&mut waiter).is_pending());
        async { 7 }
    }));
    assert_eq!((polled, poll(&mut waiter)), (7, Poll::Ready(7)));
}
