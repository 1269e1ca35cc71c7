//! Refreshes of an entry that is stale: who claims one, who begins it, and how it ends.
//!
//! Two loads of the key that are live at once fail a model, unless a write has won over one of them.

use std::sync::Arc;
use std::time::Duration;

use async_lru::{LookupOutcome, ManualClock, Update};
use futures_lite::future::{poll_once, yield_now};
use loom::future::block_on;

use crate::explore::{Extent, World, at_once, close, explore};
use crate::witness::{builder, number};

const FRESH: Duration = Duration::from_secs(10);

/// The number of the value that is stale.
const OLD: u32 = 1;

/// What a call has got, and from where.
type Answer = (u32, LookupOutcome);

const SERVED_STALE: Answer = (OLD, LookupOutcome::Stale);

/// A cache with an entry of key 1 that has just become stale, and is tried again at once if that fails.
fn stale() -> Arc<World> {
    let clock = ManualClock::new();
    let builder = builder(2).fresh_for(FRESH).refresh_retry(Duration::ZERO).clock(clock.clone());
    let world = World::new(builder.build(), [OLD]);
    clock.advance(FRESH);
    world
}

/// A call for key 1 that loads `value`, unless another one does.
async fn call(world: &World, value: u32) -> Answer {
    let load = || world.loads.load(world.mint.value(value));
    let lookup = world.cache.entry(1).or_insert_with(load).await;
    (lookup.value.number, lookup.outcome)
}

/// A call whose load fails; returns what it is served.
fn failing_call(world: &World) -> Answer {
    let call = world.cache.entry(1).or_try_insert_with(|| world.loads.fail(7));
    let lookup = block_on(call).expect("the old value is alive");
    (lookup.value.number, lookup.outcome)
}

/// A call that begins and is dropped. If it loads, it does not get far.
fn dropped_call(world: &World) -> Answer {
    let call = world.cache.entry(1).or_insert_with(|| world.loads.never());
    let lookup = block_on(poll_once(call));
    lookup.map_or((0, LookupOutcome::Loaded), |lookup| (lookup.value.number, lookup.outcome))
}

/// The number of the value that is there.
fn cached(world: &World) -> Option<u32> {
    number(world.cache.peek(&1))
}

/// Asserts that the next call refreshes the entry, whoever has tried.
fn assert_due(world: &World) {
    assert_eq!(cached(world), Some(OLD));
    let answer = block_on(call(world, 9));
    assert_eq!(answer, (9, LookupOutcome::Loaded), "nobody refreshes it any more");
}

/// One turns the word from its time and begins the flight; the other is served what there is, or what
/// the first has brought.
#[test]
fn of_two_who_find_an_entry_stale_one_refreshes_it() {
    explore(Extent::Whole, || {
        let world = stale();
        let answers = at_once(&world, [|w| block_on(call(w, 7)); 2]);
        assert!(answers.contains(&(7, LookupOutcome::Loaded)));
        let other = answers.map(|answer| answer.1 != LookupOutcome::Loaded);
        assert_ne!(other[0], other[1]);
        assert_eq!((world.loads.started(), cached(&world)), (1, Some(7)));
        close(world);
    });
}

/// The same for one that claims it by a pin, which the flight of the other takes from it.
#[test]
fn of_two_who_find_an_entry_stale_one_by_a_pin_one_refreshes_it() {
    explore(Extent::Whole, || {
        let world = stale();
        for _ in 0..2 {
            assert_eq!(number(world.cache.get(&1)), Some(OLD));
        }
        at_once(&world, [|w| block_on(call(w, 7)); 2]);
        assert_eq!((world.loads.started(), cached(&world)), (1, Some(7)));
        assert_eq!(world.cache.stats().refreshes, 1);
        close(world);
    });
}

/// An insertion comes before the claim, between it and the flight, or before that ends.
#[test]
fn an_insertion_is_not_undone_by_a_refresh_nor_refreshed_by_who_had_claimed_what_was_before() {
    explore(Extent::ThreePreemptions, || {
        let world = stale();
        at_once(
            &world,
            [
                |w| assert!([OLD, 7, 8].contains(&block_on(call(w, 7)).0)),
                |w| {
                    let replaced = number(w.cache.insert_blocking(1, w.mint.value(8)));
                    assert!(replaced == Some(OLD) || replaced == Some(7));
                },
            ],
        );
        assert_eq!(cached(&world), Some(8));
        assert_eq!(block_on(call(&world, 9)), (8, LookupOutcome::Hit));
        close(world);
    });
}

/// A removal takes the entry from under a claim, or fences the flight.
#[test]
fn what_a_refresh_brings_that_began_before_an_invalidation_is_not_seen_after_it() {
    explore(Extent::Whole, || {
        let world = stale();
        at_once(
            &world,
            [
                |w| assert!([OLD, 7].contains(&block_on(call(w, 7)).0)),
                |w| {
                    let before = w.loads.started();
                    w.loads.fence();
                    assert!(w.cache.invalidate_blocking(&1));
                    assert!(cached(w).is_none_or(|seen| seen == 7 && before == 0));
                },
            ],
        );
        assert!(cached(&world).is_none_or(|seen| seen == 7));
        close(world);
    });
}

/// The end of a dropped refresh makes the entry due again, whether the other call has seen it before.
#[test]
fn a_refresh_that_is_dropped_is_taken_up_by_whoever_calls_next() {
    explore(Extent::Whole, || {
        let world = stale();
        let answer = at_once(&world, [dropped_call, |w| block_on(call(w, 7))])[1];
        match answer {
            (7, LookupOutcome::Loaded) => assert_eq!(cached(&world), Some(7)),
            SERVED_STALE => assert_due(&world),
            other => panic!("a refresh that was dropped: {other:?}"),
        }
        close(world);
    });
}

/// Whoever comes as a refresh fails is served what there is, or tries it again.
#[test]
fn a_refresh_that_fails_is_tried_again_by_one_at_a_time() {
    explore(Extent::Whole, || {
        let world = stale();
        assert_eq!(at_once(&world, [failing_call; 2]), [SERVED_STALE; 2]);
        let stats = world.cache.stats();
        assert_eq!((stats.refreshes, stats.refresh_failures), (stats.loads, stats.load_failures));
        assert_eq!((stats.loads, stats.load_failures), (world.loads.started().into(), stats.loads));
        assert_due(&world);
        close(world);
    });
}

/// A flight that is asked for is joined, or notes that the entry is claimed.
#[test]
fn a_refresh_that_is_asked_for_and_a_call_that_finds_the_entry_stale_run_one_at_a_time() {
    explore(Extent::Whole, || {
        let world = stale();
        let [refreshed, called] = at_once(
            &world,
            [
                |w| {
                    let load = || w.loads.load(w.mint.value(8));
                    block_on(w.cache.refresh(1, load)).number
                },
                |w| block_on(call(w, 7)).0,
            ],
        );
        assert!(matches!((refreshed, called), (7, 7) | (8, OLD | 7 | 8)), "{refreshed} {called}");
        assert_eq!(cached(&world), Some(refreshed));
        assert_eq!(world.loads.started(), 1 + u32::from((refreshed, called) == (8, 7)));
        close(world);
    });
}

/// The same where the one that is asked for fails: it leaves the entry due, or to the call that has it.
#[test]
fn a_refresh_that_is_asked_for_and_fails_leaves_the_entry_to_the_next_call() {
    explore(Extent::Whole, || {
        let world = stale();
        let called = at_once(
            &world,
            [
                |w| {
                    let refresh = w.cache.try_refresh(1, || w.loads.fail(7));
                    number(block_on(refresh).ok()).unwrap_or(0)
                },
                |w| block_on(call(w, 7)).0,
            ],
        )[1];
        if called == OLD {
            assert_due(&world);
        }
        assert!(matches!(cached(&world), Some(7 | 9)));
        close(world);
    });
}

/// An update wins over the refresh of a live entry, and makes it due again as it ends with nothing new.
#[test]
fn an_update_that_keeps_a_stale_value_leaves_it_to_the_next_call() {
    explore(Extent::Whole, || {
        let world = stale();
        world.loads.fence();
        let [called, kept] = at_once(
            &world,
            [
                |w| block_on(call(w, 7)).0,
                |w| {
                    let update = w.cache.update_with(1, async |_| {
                        yield_now().await;
                        Update::Keep
                    });
                    number(block_on(update)).unwrap()
                },
            ],
        );
        match (called, kept, cached(&world)) {
            (7, 7 | OLD, Some(7)) => {}
            (7 | OLD, OLD, Some(OLD)) => assert_due(&world),
            other => panic!("a refresh and an update: {other:?}"),
        }
        close(world);
    });
}
