//! Loads and those who wait for them.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_lite::future::{Future, poll_once};
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::explore;
use crate::witness::{Loads, Mint, builder};

#[test]
fn a_caller_joins_the_load_or_finds_its_value_and_never_loads_again() {
    explore(|| {
        let (cache, mint, loads) = (builder(2).build(), Mint::default(), Loads::default());
        let call =
            |number| block_on(cache.get_or_insert_with(1, || loads.load(mint.value(number))));
        let numbers: Vec<u32> = scope(|scope| {
            let callers: Vec<_> = (0..3).map(|number| scope.spawn(move || call(number))).collect();
            callers.into_iter().map(|caller| caller.join().unwrap().number).collect()
        });
        assert!(numbers.iter().all(|number| *number == numbers[0]));
        assert_eq!(loads.started(), 1);
        mint.close(cache);
    });
}

#[test]
fn a_call_that_is_dropped_leaves_the_load_to_one_who_waits() {
    explore(|| {
        let (cache, mint, loads) = (builder(2).build(), Mint::default(), Loads::default());
        scope(|scope| {
            scope.spawn(|| block_on(poll_once(cache.get_or_insert_with(1, || loads.never()))));
            for number in 0..2 {
                let (cache, mint, loads) = (&cache, &mint, &loads);
                scope.spawn(move || {
                    let load = || loads.load(mint.value(number));
                    assert!(block_on(cache.get_or_insert_with(1, load)).number < 2);
                });
            }
        });
        assert!(loads.started() <= 2);
        assert_eq!(cache.stats().load_failures, u64::from(loads.started()) - 1);
        mint.close(cache);
    });
}

#[test]
fn of_two_calls_that_are_dropped_neither_takes_the_wake_up_of_a_third_along() {
    explore(|| {
        let (cache, mint, loads) = (builder(2).build(), Mint::default(), Loads::default());
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| block_on(poll_once(cache.get_or_insert_with(1, || loads.never()))));
            }
            scope.spawn(|| {
                let load = || loads.load(mint.value(7));
                assert_eq!(block_on(cache.get_or_insert_with(1, load)).number, 7);
            });
        });
        mint.close(cache);
    });
}

#[test]
fn a_waiter_that_leaves_or_changes_its_waker_holds_up_nobody() {
    explore(|| {
        let (cache, mint, loads) = (builder(2).build(), Mint::default(), Loads::default());
        let call = || cache.get_or_insert_with(1, || loads.load(mint.value(7)));
        scope(|scope| {
            scope.spawn(|| block_on(poll_once(call())));
            scope.spawn(|| assert_eq!(block_on(call()).number, 7));
            scope.spawn(|| {
                let mut call = pin!(call());
                // Whoever polls last is the one to be woken.
                match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(value) => assert_eq!(value.number, 7),
                    Poll::Pending => assert_eq!(block_on(call).number, 7),
                }
            });
        });
        mint.close(cache);
    });
}

#[test]
fn a_load_that_fails_leaves_its_waiters_the_error_or_a_load_of_their_own() {
    explore(|| {
        let (cache, mint, loads) = (builder(2).build(), Mint::default(), Loads::default());
        scope(|scope| {
            for error in [1, 2] {
                let (cache, loads) = (&cache, &loads);
                scope.spawn(move || {
                    let call = cache.try_get_or_insert_with(1, || loads.fail(error));
                    match block_on(call) {
                        Ok(value) => assert_eq!(value.number, 7),
                        Err(error) => assert!([1, 2].contains(&*error)),
                    }
                });
            }
            scope.spawn(|| {
                let load = async || Ok::<_, u32>(loads.load(mint.value(7)).await);
                let call = cache.entry(1).or_try_insert_own(load);
                assert_eq!(block_on(call).map(|lookup| lookup.value.number), Ok(7));
            });
        });
        assert!(cache.contains_key(&1));
        assert_eq!(cache.stats().loads, u64::from(loads.started()));
        mint.close(cache);
    });
}

#[test]
fn a_cache_that_keeps_nothing_hands_the_value_to_all_who_wait() {
    explore(|| {
        let (cache, mint, loads) = (builder(0).build(), Mint::default(), Loads::default());
        scope(|scope| {
            for number in 0..3 {
                let (cache, mint, loads) = (&cache, &mint, &loads);
                scope.spawn(move || {
                    let load = || loads.load(mint.value(number));
                    assert!(block_on(cache.get_or_insert_with(1, load)).number < 3);
                });
            }
        });
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.coalesced), (stats.misses, 3 - stats.misses));
        mint.close(cache);
    });
}
