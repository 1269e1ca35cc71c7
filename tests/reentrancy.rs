//! Every callback and every `Drop` of the user's calls every public method of the cache and of memos.
//!
//! `Eq` and `Clone` of keys and values run under a lock and must not, as the documentation says.

#[path = "common/callbacks.rs"]
mod callbacks;
mod common;
#[path = "common/forms.rs"]
mod forms;
#[path = "common/methods.rs"]
mod methods;
#[path = "common/on_wake.rs"]
mod on_wake;
#[path = "common/side_by_side.rs"]
mod side_by_side;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Context;

use async_lru::{AsyncLru, LocalMemo, ManualClock};
use callbacks::{
    Cache, Callback, Change, FRESH, Kind, Load, Memos, Method, Shared, TTL, at_work, calling_waker,
    drop_those_in_progress, forget_wakers, offer, poll_those_in_progress,
};
use common::{Calls, Hand, hand, now, poll};
use forms::Form;
use futures_lite::future::{block_on, pending, yield_now, zip};
use methods::{METHODS, within_few_polls};
use on_wake::on_wake;
use side_by_side::sum_of;
use watchdog::{Progress, watched};

/// Uses caches so that every callback is reached, in the middle of as much as possible. The methods
/// that callbacks call change what comes of it, so nothing is expected but that it ends.
fn use_everything(memos: &Memos, shared: &Arc<Shared>) {
    let cache = memos.sure.cache();
    for number in [1, 2, 3, 4, 1] {
        insert(cache, shared, number);
        drop(at_work(|| within_few_polls(cache.insert(shared.key(number), shared.value()))));
        let key = shared.key(number);
        drop(at_work(|| cache.get(&key)));
        drop(at_work(|| (cache.peek(&key), cache.contains_key(&key), cache.keys())));
    }
    let entries = at_work(|| cache.snapshot_with_ttl());
    let predicate = || {
        let shared = Arc::clone(shared);
        move || {
            shared.reached(Callback::Predicate);
            true
        }
    };
    let is_chosen = predicate();
    at_work(|| cache.invalidate_if_blocking(move |_, _| is_chosen()));
    let is_chosen = predicate();
    at_work(|| cache.invalidate_keys_if_blocking(move |_| is_chosen()));
    at_work(|| within_few_polls(cache.restore(entries)));
    for change in [Change::Keep, Change::Put, Change::PutFor, Change::Remove] {
        let (key, update) = (shared.key(1), shared.update(change));
        drop(at_work(|| within_few_polls(cache.try_update_with(key, update))));
    }
    let starts = match cache.info().fresh_for {
        Some(_) => &[Start::Nothing, Start::Stale][..],
        None => &[Start::Nothing],
    };
    for start in starts.iter().copied() {
        for form in Form::ALL {
            let call = |load| {
                let (cache, key, loader) = (cache.clone(), shared.key(5), shared.loader(load));
                hand(async move { drop(form.call(&cache, key, loader).await) })
            };
            flights(cache, shared, start, Load::Succeeds, &call);
            if form.is_fallible() {
                flights(cache, shared, start, Load::Fails, &call);
            }
        }
        for load in [Load::Succeeds, Load::Fails] {
            flights(cache, shared, start, load, &|load| {
                let (cache, key, loader) =
                    (cache.clone(), shared.key(5), shared.detached_loader(load));
                hand(async move { drop(cache.try_get_detached(key, loader).await) })
            });
            flights(cache, shared, start, load, &|load| {
                let (cache, keys) = (cache.clone(), [5, 6].map(|number| shared.key(number)));
                let loader = shared.bulk_loader(load);
                hand(async move { drop(cache.try_get_or_insert_many(keys, loader).await) })
            });
            flights(cache, shared, start, load, &|load| {
                let (cache, keys) = (cache.clone(), [5, 6].map(|number| shared.key(number)));
                let loader = shared.bulk_loader(load);
                hand(async move {
                    drop(cache.entries(keys).detached().or_try_insert_with(loader).await);
                })
            });
            flights(cache, shared, start, load, &|load| {
                let (cache, key, loader) = (cache.clone(), shared.key(5), shared.loader(load));
                hand(async move { drop(cache.try_refresh(key, loader).await) })
            });
        }
    }
    for load in [Load::Succeeds, Load::Fails] {
        flights(cache, shared, Start::Nothing, load, &|load| {
            let change = if load == Load::Succeeds { Change::Put } else { Change::Fails };
            let (cache, key, update) = (cache.clone(), shared.key(5), shared.update(change));
            hand(async move { drop(cache.try_update_with(key, update).await) })
        });
    }
    drop(at_work(|| within_few_polls(memos.sure.call(shared.args(7, Load::Succeeds)))));
    for load in [Load::Fails, Load::Succeeds] {
        drop(at_work(|| within_few_polls(memos.fallible.try_call(shared.args(7, load)))));
    }
    let args = shared.args(7, Load::Succeeds);
    at_work(|| within_few_polls(memos.fallible.invalidate(&args)));
    // Each of these frees what has expired.
    let writes: [fn(&Cache, &Arc<Shared>); 5] = [
        |cache, shared| insert(cache, shared, 2),
        |cache, shared| remove(cache, shared, 2),
        |cache, shared| {
            let load = cache.get_or_insert_with(shared.key(2), async || shared.value());
            drop(at_work(|| within_few_polls(load)));
        },
        |cache, shared| {
            let key = shared.key(2);
            at_work(|| within_few_polls(cache.invalidate(&key)));
        },
        |cache, _| {
            at_work(|| within_few_polls(cache.purge_expired()));
        },
    ];
    for write in writes {
        insert(cache, shared, 1);
        shared.clock.advance(TTL);
        write(cache, shared);
    }
    insert(cache, shared, 1);
    remove(cache, shared, 1);
    insert(cache, shared, 1);
    at_work(|| within_few_polls(cache.clear()));
    insert(cache, shared, 1);
    at_work(|| cache.clear_blocking());
}

fn insert(cache: &Cache, shared: &Arc<Shared>, number: u32) {
    let (key, value) = (shared.key(number), shared.value());
    drop(at_work(|| cache.insert_blocking(key, value)));
}

fn remove(cache: &Cache, shared: &Arc<Shared>, number: u32) {
    let key = shared.key(number);
    drop(at_work(|| cache.remove_blocking(&key)));
}

/// What becomes of a load that another call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Ends,
    IsInsertedOver,
    IsClearedAway,
    IsDropped,
}

/// What is there before a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Nothing,
    /// A stale value.
    Stale,
}

/// Makes a call for key 5 that two others wait for, one of them polled with two wakers.
fn flights(
    cache: &Cache,
    shared: &Arc<Shared>,
    start: Start,
    load: Load,
    call: &dyn Fn(Load) -> Hand<'static, ()>,
) {
    let in_progress = |load| {
        offer(call(load));
        at_work(poll_those_in_progress);
    };
    for ending in [Ending::Ends, Ending::IsInsertedOver, Ending::IsClearedAway, Ending::IsDropped] {
        if start == Start::Stale {
            insert(cache, shared, 5);
            shared.clock.advance(FRESH);
        }
        in_progress(load);
        in_progress(Load::Succeeds);
        let mut waiter = call(Load::Succeeds);
        let mut is_waiting = true;
        for _ in 0..2 {
            let waker = calling_waker(shared);
            if is_waiting {
                let polled = at_work(|| waiter.as_mut().poll(&mut Context::from_waker(&waker)));
                is_waiting = polled.is_pending();
            }
        }
        match ending {
            Ending::Ends => {}
            Ending::IsInsertedOver => insert(cache, shared, 5),
            Ending::IsClearedAway => at_work(|| cache.clear_blocking()),
            Ending::IsDropped => at_work(drop_those_in_progress),
        }
        // The others may wait for it by now.
        if is_waiting {
            offer(waiter);
        }
        let is_over = (0..50).any(|_| !at_work(poll_those_in_progress));
        assert!(is_over, "calls in progress never end");
        forget_wakers();
        remove(cache, shared, 5);
    }
}

/// Has a callback call a method in a cache of a kind that is used in every way; returns whether it came to that.
fn calls_back(
    callback: Callback,
    kind: Kind,
    &(name, method): &(&str, Method),
    progress: &Progress,
) -> bool {
    progress.reached(format!("{callback:?} calls {name}, {kind:?}"));
    let shared = Shared::new(callback, method);
    let memos = Memos::new(kind, &shared);
    shared.set_stage(&memos);
    use_everything(&memos, &shared);
    drop_those_in_progress();
    let reached = shared.calls() > 0;
    assert!(reached || !kind.reaches(callback), "it was never reached");

    assert!(memos.sure.cache().len() <= kind.maxsize);
    assert_eq!(memos.sure.cache().validate(), 0, "{callback:?} calls {name}");
    drop(shared.take_stage());
    drop(memos);
    assert_eq!(Arc::strong_count(&shared), 1, "something was not dropped");
    reached
}

/// Against (A23), (A24) of `docs/reliability.md`.
/// Each callback calls each method in caches of every eighth kind, other kinds for other methods; of all kinds
/// with `REENTRY=all` in the environment.
#[test]
fn every_callback_may_call_every_method() {
    let every = if std::env::var("REENTRY").is_ok_and(|which| which == "all") { 1 } else { 8 };
    watched(move |progress| {
        let callbacks = Callback::ALL.into_iter().enumerate();
        let points = sum_of(callbacks, |(turn, callback)| {
            let methods = |place| METHODS.iter().skip((turn + place) % every).step_by(every);
            let kinds = Kind::all().into_iter().enumerate();
            let calls =
                kinds.flat_map(|(place, kind)| methods(place).map(move |method| (kind, method)));
            calls.filter(|(kind, method)| calls_back(callback, *kind, method, progress)).count()
        });
        println!("re-entry points: {points}");
        assert!(points >= 1_000, "{points}");
    });
}

#[test]
fn the_last_handle_may_be_dropped_within_a_load() {
    let cache = AsyncLru::<u32, Arc<u32>>::new(10);
    let value = Arc::new(7);
    cache.insert_blocking(1, Arc::clone(&value));
    let handle = Mutex::new(Some(cache.clone()));
    let call = async move {
        let inner = cache.clone();
        drop(cache);
        inner
            .get_or_insert_with(2, async || {
                drop(handle.lock().unwrap().take());
                Arc::new(8)
            })
            .await
    };
    assert_eq!(*block_on(call), 8);
    assert_eq!(Arc::strong_count(&value), 1, "the cache is gone, and its values with it");
}

/// A value that owns a handle of another cache.
#[derive(Clone)]
struct Nest(AsyncLru<u32, Egg>);

/// A value that calls the cache around it when it is dropped.
#[derive(Clone)]
struct Egg {
    around: AsyncLru<u32, Nest>,
    _token: Arc<()>,
}

impl Drop for Egg {
    fn drop(&mut self) {
        let nest = Nest(AsyncLru::new(1));
        self.around.insert_blocking(100, nest.clone());
        now(self.around.get_or_insert_with(101, async || nest));
        self.around.invalidate_blocking(&100);
    }
}

#[test]
fn the_last_handle_of_a_cache_may_be_dropped_with_a_value_in_whatever_way_that_leaves_another() {
    type Leave = fn(&AsyncLru<u32, Nest>, &ManualClock);
    let nest = || Nest(AsyncLru::new(1));
    let leaves: [(&str, Leave); 9] = [
        ("evicted", |cache, _| {
            for key in 2..4 {
                cache.insert_blocking(key, Nest(AsyncLru::new(1)));
            }
        }),
        ("evicted by a load", |cache, _| {
            for key in 2..4 {
                now(cache.get_or_insert_with(key, async || Nest(AsyncLru::new(1))));
            }
        }),
        ("replaced", |cache, _| drop(cache.insert_blocking(1, Nest(AsyncLru::new(1))))),
        ("removed", |cache, _| drop(now(cache.remove(&1)))),
        ("invalidated", |cache, _| assert!(now(cache.invalidate(&1)))),
        ("cleared", |cache, _| now(cache.clear())),
        ("cleared, blocking", |cache, _| cache.clear_blocking()),
        ("expired", |cache, clock| {
            clock.advance(TTL);
            cache.insert_blocking(2, Nest(AsyncLru::new(1)));
        }),
        ("purged", |cache, clock| {
            clock.advance(TTL);
            assert_eq!(now(cache.purge_expired()), 1);
        }),
    ];
    watched(move |progress| {
        for shards in [1, 4] {
            for (way, leave) in leaves {
                progress.reached(format!("{way}, {shards} shards"));
                let clock = ManualClock::new();
                let builder = AsyncLru::<u32, Nest>::builder().maxsize(2).shards(shards);
                let outer = builder.ttl(TTL).clock(clock.clone()).build();
                let token = Arc::new(());
                let inner = nest();
                let egg = Egg { around: outer.clone(), _token: Arc::clone(&token) };
                inner.0.insert_blocking(1, egg);
                outer.insert_blocking(1, inner);
                leave(&outer, &clock);
                if shards == 1 {
                    assert_eq!(Arc::strong_count(&token), 1, "{way}");
                }
                assert!(outer.len() <= 2);
                outer.clear_blocking();
                assert_eq!(Arc::strong_count(&token), 1, "{way}");
            }
        }
    });
}

#[test]
fn a_woken_task_that_is_dropped_with_its_handle_leaves_the_last_one_to_the_leader() {
    watched(|_| {
        let token = Arc::new(());
        let handle = AsyncLru::<u32, Arc<()>>::new(10);
        handle.insert_blocking(2, Arc::clone(&token));
        let call = |handle: AsyncLru<u32, Arc<()>>| {
            Box::pin(async move { handle.get_or_insert_with(1, pending::<Arc<()>>).await })
        };
        let mut leader = call(handle.clone());
        assert!(poll(&mut leader).is_pending());
        let mut waiter = call(handle);
        let task = Arc::new(Mutex::new(None));
        let woken = Arc::clone(&task);
        let waker = on_wake(move || drop(woken.lock().unwrap().take()));
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        *task.lock().unwrap() = Some(waiter);
        assert_eq!(Arc::strong_count(&token), 2);
        drop(leader);
        assert!(task.lock().unwrap().is_none(), "it was woken");
        assert_eq!(Arc::strong_count(&token), 1, "the cache is gone, and its values with it");
    });
}

/// Loads the keys up to `last` within one another, and after that `then`.
fn chain(
    cache: &AsyncLru<u32, u32>,
    form: Form,
    key: u32,
    last: u32,
    then: u32,
) -> Hand<'_, Result<u32, ()>> {
    let next = move || {
        // Also within what a loader awaits beside other things.
        zip(
            yield_now(),
            if key == last {
                form.call(cache, then, async || Ok(7))
            } else {
                chain(cache, form, key + 1, last, then)
            },
        )
    };
    form.call(cache, key, async move || next().await.1)
}

/// Polls a call that is to panic as a recursive load.
fn assert_recursion_is_named<T>(call: impl Future<Output = T>) {
    let payload = catch_unwind(AssertUnwindSafe(|| within_few_polls(call)))
        .err()
        .expect("a load that waits for itself panics");
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or(payload.downcast_ref::<String>().map(String::as_str)).unwrap();
    assert!(message.contains("recursive load"), "{message}");
}

#[test]
fn a_load_that_comes_back_to_its_key_panics_in_every_form_directly_and_through_any_other_keys() {
    for form in Form::ALL {
        for last in [0, 1, 2, 7, 8, 12, 30] {
            for shards in [1, 4] {
                // Back to the first key, to the last, and to one between.
                for back in [0, last, last / 2] {
                    let cache = AsyncLru::<u32, u32>::builder().shards(shards).build();
                    assert_recursion_is_named(chain(&cache, form, 0, last, back));
                    for key in 0..=last {
                        assert_eq!(now(cache.get_or_insert_with(key, async || key)), key);
                    }
                    let stats = cache.stats();
                    let failed = u64::from(last) + 1;
                    assert_eq!((stats.loads, stats.load_failures), (2 * failed, failed));
                }
            }
        }
    }
}

#[test]
fn loads_within_one_another_that_never_come_back_end() {
    for form in Form::ALL {
        let cache = AsyncLru::<u32, u32>::new(100);
        assert_eq!(within_few_polls(chain(&cache, form, 0, 30, 31)), Ok(7));
        assert_eq!(cache.len(), 32);
        // A value that is there already is no load.
        cache.invalidate_blocking(&0);
        assert_eq!(within_few_polls(chain(&cache, form, 0, 0, 31)), Ok(7));
    }
}

/// The arguments of a memo that calls itself.
#[derive(Clone)]
struct Countdown(u32, Rc<OnceCell<Recursive>>);

type Recursive = LocalMemo<u32, u32, fn(Countdown) -> Hand<'static, u32>, fn(&Countdown) -> u32>;

#[test]
fn a_memo_that_calls_itself_for_what_it_computes_panics_and_for_less_does_not() {
    fn step(args: Countdown) -> Hand<'static, u32> {
        let Countdown(number, memo) = args;
        hand(async move {
            yield_now().await;
            match number {
                0 => 0,
                // Comes round again to where it started.
                10 => memo.get().unwrap().call(Countdown(19, Rc::clone(&memo))).await,
                _ => 1 + memo.get().unwrap().call(Countdown(number - 1, Rc::clone(&memo))).await,
            }
        })
    }
    let memo = Rc::new(OnceCell::new());
    let recursive = AsyncLru::builder()
        .key_extractor((|args| args.0) as fn(&Countdown) -> u32)
        .wrap_local(step as fn(Countdown) -> _);
    assert!(memo.set(recursive).is_ok());
    let call = |number| memo.get().unwrap().call(Countdown(number, Rc::clone(&memo)));
    assert_eq!(within_few_polls(call(9)), 9);
    assert_recursion_is_named(call(19));
    let mut again = hand(call(19));
    assert!(poll(&mut again).is_pending(), "it loads anew and waits for nobody");
    drop(again);
    assert_eq!(within_few_polls(call(9)), 9);
}

#[test]
fn a_value_that_leaves_is_dropped_before_the_call_returns() {
    let cache = AsyncLru::<u32, Arc<()>>::builder().maxsize(2).build();
    let value = Arc::new(());
    let count = || Arc::strong_count(&value) - 1;
    let insert = |key| drop(cache.insert_blocking(key, Arc::clone(&value)));
    insert(1);
    insert(2);
    insert(2);
    assert_eq!(count(), 2, "replaced");
    insert(3);
    assert_eq!(count(), 2, "evicted");
    block_on(cache.get_or_insert_with(4, async || Arc::clone(&value)));
    assert_eq!(count(), 2, "evicted by a load");
    cache.invalidate_blocking(&4);
    assert_eq!(count(), 1, "invalidated");
    cache.clear_blocking();
    assert_eq!(count(), 0, "cleared");
}
