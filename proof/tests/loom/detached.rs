//! Loads that live in the cache, which whoever waits for them polls.

use std::pin::Pin;
use std::sync::Arc;

use futures_lite::future::{Future, poll_once};
use loom::future::block_on;
use loom::thread;

use crate::explore::{Extent, World, close, explore};
use crate::witness::{Gate, Loads, Value, begin, builder, number};

/// A call that owns what it needs, so that it can be begun here and go on elsewhere.
type Call = Pin<Box<dyn Future<Output = Value>>>;

/// A call for key 1 whose load is `load`.
fn call<Fut>(world: &Arc<World>, load: impl FnOnce(&Arc<Loads>, Value) -> Fut, value: u32) -> Call
where
    Fut: Future<Output = Value> + Send + 'static,
{
    let load = load(&world.loads, world.mint.value(value));
    let world = Arc::clone(world);
    Box::pin(async move { world.cache.entry(1).detached().or_insert_with(|| load).await.value })
}

/// A call whose load ends after a few polls.
fn paused(world: &Arc<World>, value: u32) -> Call {
    call(world, |loads, value| loads.detached(value), value)
}

/// The leader of a load goes when another has joined it: the load is polled by that one, and no wake-up
/// is lost on the way.
#[test]
fn a_leader_that_goes_leaves_its_load_to_one_who_has_joined_it() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        let (leader, waiter) = (begin(paused(&world, 7)), begin(paused(&world, 8)));
        let leaving = thread::spawn(move || drop(leader));
        assert_eq!(block_on(waiter).number, 7);
        leaving.join().unwrap();
        assert_eq!((world.loads.started(), world.cache.stats().load_failures), (1, 0));
        close(world);
    });
}

/// The same, while the one that goes polls the load itself.
#[test]
fn a_caller_that_polls_a_load_and_goes_hands_it_to_another() {
    explore(Extent::ThreePreemptions, || {
        let world = World::new(builder(2).build(), []);
        let (going, staying) = (begin(paused(&world, 7)), begin(paused(&world, 8)));
        let going = thread::spawn(move || number(block_on(poll_once(going))));
        assert_eq!(block_on(staying).number, 7);
        assert!(going.join().unwrap().is_none_or(|value| value == 7));
        assert_eq!((world.loads.started(), world.cache.stats().load_failures), (1, 0));
        close(world);
    });
}

/// A load that is woken while a caller polls it, before, or after that: it is polled once more.
#[test]
fn a_load_that_another_thread_wakes_is_polled_again() {
    explore(Extent::Whole, || {
        let (world, gate) = (World::new(builder(2).build(), []), Arc::new(Gate::default()));
        let waiting = call(&world, |loads, value| loads.gated(value, &gate), 7);
        let opening = Arc::clone(&gate);
        let opener = thread::spawn(move || opening.open());
        assert_eq!(block_on(waiting).number, 7);
        opener.join().unwrap();
        close(world);
    });
}

/// Two callers, and a third thread that wakes the load: whoever polls it, both get its value.
#[test]
fn two_callers_of_a_load_that_a_third_thread_wakes_both_get_its_value() {
    explore(Extent::ThreePreemptions, || {
        let (world, gate) = (World::new(builder(2).build(), []), Arc::new(Gate::default()));
        let call = |value| {
            let gate = Arc::clone(&gate);
            begin(call(&world, move |loads, value| loads.gated(value, &gate), value))
        };
        let (one, other) = (call(7), call(8));
        let opening = Arc::clone(&gate);
        let opener = thread::spawn(move || opening.open());
        let other = thread::spawn(move || block_on(other).number);
        assert_eq!((block_on(one).number, other.join().unwrap()), (7, 7));
        opener.join().unwrap();
        assert_eq!(world.loads.started(), 1);
        close(world);
    });
}

/// The last caller goes while another comes: that one joins the load, or starts its own.
#[test]
fn who_comes_while_the_last_caller_goes_joins_the_load_or_starts_another() {
    explore(Extent::Whole, || {
        let (world, gate) = (World::new(builder(2).build(), []), Arc::new(Gate::default()));
        let last = begin(call(&world, |loads, value| loads.gated(value, &gate), 7));
        gate.open();
        // The dropped load may be on its way out while the next begins.
        world.loads.fence();
        let leaving = thread::spawn(move || drop(last));
        let got = block_on(call(&world, |loads, value| loads.gated(value, &gate), 8)).number;
        leaving.join().unwrap();
        let started = world.loads.started();
        assert_eq!((got, started <= 2), (6 + started, true));
        assert_eq!(world.cache.stats().load_failures, u64::from(started - 1));
        close(world);
    });
}
