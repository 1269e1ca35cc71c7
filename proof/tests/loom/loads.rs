//! Loads, those who wait for them, and the writes that win over them.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_lite::future::{Future, poll_once};
use loom::future::block_on;
use loom::thread;

use crate::explore::{Extent, World, at_once, close, explore};
use crate::witness::{builder, number};

/// A call for key 1 that loads `value`, unless another one has.
fn call(world: &World, value: u32) -> impl Future<Output = u32> {
    let load = move || world.loads.load(world.mint.value(value));
    async move { world.cache.get_or_insert_with(1, load).await.number }
}

/// A call for key 1 that begins and is dropped. If it loads, it does not get far.
fn dropped_call(world: &World) -> Option<u32> {
    let call = world.cache.get_or_insert_with(1, || world.loads.never());
    number(block_on(poll_once(call)))
}

/// Who misses a key either joins the load that publishes it or finds what it has published: there is no
/// moment between the two, seen with the locks and the epoch that the shard really uses.
#[test]
fn a_caller_joins_the_load_or_finds_its_value_and_never_loads_again() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        let values = at_once(&world, [|w| block_on(call(w, 7)), |w| block_on(call(w, 8))]);
        assert_eq!(values[0], values[1]);
        assert_eq!(world.loads.started(), 1);
        close(world);
    });
}

/// The same for three, with the few changes of thread that most mistakes need.
#[test]
fn of_three_callers_one_loads() {
    explore(Extent::ThreePreemptions, || {
        let world = World::new(builder(2).build(), []);
        let values = at_once(&world, [|w| block_on(call(w, 7)); 3]);
        assert_eq!((values, world.loads.started()), ([7; 3], 1));
        close(world);
    });
}

/// In a cache that keeps nothing, only the flight itself can hand the value to those who have joined it.
#[test]
fn a_cache_that_keeps_nothing_hands_the_value_to_all_who_wait() {
    explore(Extent::Whole, || {
        let world = World::new(builder(0).build(), []);
        at_once(&world, [|w| block_on(call(w, 7)), |w| block_on(call(w, 8))]);
        let stats = world.cache.stats();
        assert_eq!((stats.loads, stats.coalesced), (stats.misses, 2 - stats.misses));
        close(world);
    });
}

/// The end of a dropped call wakes whoever has joined it, or is seen by whoever is about to.
#[test]
fn a_call_that_is_dropped_leaves_the_load_to_one_who_waits() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        let values = at_once(&world, [dropped_call, |w| Some(block_on(call(w, 7)))]);
        assert!(values[0].is_none_or(|value| value == 7));
        assert_eq!(values[1], Some(7));
        assert_eq!(world.cache.stats().load_failures, u64::from(world.loads.started() - 1));
        close(world);
    });
}

/// Of two who are dropped at once, one that leads and one that waits, both leave the third its wake-up.
#[test]
fn of_two_calls_that_are_dropped_neither_takes_the_wake_up_of_a_third_along() {
    explore(Extent::ThreePreemptions, || {
        let world = World::new(builder(2).build(), []);
        let parts: [fn(&World) -> _; 3] =
            [dropped_call, dropped_call, |w| Some(block_on(call(w, 7)))];
        assert_eq!(at_once(&world, parts)[2], Some(7));
        close(world);
    });
}

/// A waiter that is polled with another waker is woken by that one, or sees that the load has ended.
#[test]
fn a_waiter_that_changes_its_waker_while_the_load_ends_is_woken() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        let patient = |w: &World| block_on(call(w, 7));
        let fickle = |w: &World| {
            let mut call = pin!(call(w, 7));
            match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => value,
                Poll::Pending => block_on(call),
            }
        };
        assert_eq!(at_once(&world, [patient, fickle]), [7, 7]);
        assert_eq!(world.loads.started(), 1);
        close(world);
    });
}

/// A waiter that is dropped while the wakers are taken out takes out none but its own.
#[test]
fn a_waiter_that_leaves_while_the_load_ends_holds_up_nobody() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        let begin = |value| {
            let world = Arc::clone(&world);
            let mut begun = Box::pin(async move { call(&world, value).await });
            let polled = begun.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            begun
        };
        let (leader, leaving, staying) = (begin(7), begin(8), begin(9));
        let leader = thread::spawn(move || block_on(leader));
        drop(leaving);
        assert_eq!(block_on(staying), 7);
        assert_eq!(leader.join().unwrap(), 7);
        close(world);
    });
}

/// A load that began before an invalidation is fenced by it and joined by nobody any more, or published
/// before it and removed.
#[test]
fn what_was_loaded_before_an_invalidation_is_not_seen_after_it() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        at_once(
            &world,
            [
                |w| assert_eq!(block_on(call(w, 7)), 7),
                |w| {
                    let before = w.loads.started();
                    w.loads.fence();
                    let found = w.cache.invalidate_blocking(&1);
                    assert!(before == 0 || found && w.cache.peek(&1).is_none());
                    assert!(before == 0 || block_on(call(w, 8)) == 8);
                },
            ],
        );
        close(world);
    });
}

/// An inserted value is neither replaced by one whose load began before nor missed afterwards.
#[test]
fn an_inserted_value_is_not_replaced_by_one_that_was_loaded_before() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        at_once(
            &world,
            [
                |w| assert!([7, 8].contains(&block_on(call(w, 7)))),
                |w| {
                    let replaced = number(w.cache.insert_blocking(1, w.mint.value(8)));
                    assert!(replaced.is_none_or(|value| value == 7));
                    assert_eq!(number(w.cache.peek(&1)), Some(8));
                },
            ],
        );
        assert_eq!(number(world.cache.peek(&1)), Some(8));
        close(world);
    });
}

/// A load that began before a clear is fenced by it, or published before it and removed.
#[test]
fn what_was_loaded_before_a_clear_is_not_seen_after_it() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        at_once(
            &world,
            [
                |w| assert_eq!(block_on(call(w, 7)), 7),
                |w| {
                    let before = w.loads.started();
                    w.cache.clear_blocking();
                    assert!(before == 0 || w.cache.peek(&1).is_none());
                },
            ],
        );
        close(world);
    });
}
