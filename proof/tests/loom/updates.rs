//! Updates of a key, against each other and against the writes that win over them.

use async_lru::Update;
use futures_lite::future::yield_now;
use loom::future::block_on;

use crate::explore::{Extent, World, at_once, close, explore};
use crate::witness::{builder, number};

/// The number of the value that is inserted; updates start from zero and add one.
const INSERTED: u32 = 100;

/// Adds one to key 1; returns what it has left.
async fn add(world: &World) -> u32 {
    let left = world.cache.update_with(1, async |old| {
        let _live = world.loads.enter();
        let old = number(old).unwrap_or(0);
        yield_now().await;
        Update::Put(world.mint.value(old + 1))
    });
    number(left.await).expect("it has put a value")
}

/// Each starts from what the other has left.
#[test]
fn of_two_updates_none_is_lost() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        let mut numbers = at_once(&world, [|w| block_on(add(w)); 2]);
        numbers.sort_unstable();
        assert_eq!((numbers, number(world.cache.peek(&1))), ([1, 2], Some(2)));
        close(world);
    });
}

/// An insertion comes before the update looks at the value, which then builds on it, or fences it:
/// there is no moment between the two.
#[test]
fn an_update_builds_on_an_insertion_or_changes_nothing() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        let [left, replaced] = at_once(
            &world,
            [
                |w| Some(block_on(add(w))),
                |w| number(w.cache.insert_blocking(1, w.mint.value(INSERTED))),
            ],
        );
        let expected = match (left, replaced) {
            // After the insertion.
            (Some(101), None) => INSERTED + 1,
            // Before it, or overtaken by it.
            (Some(1), None | Some(1)) => INSERTED,
            other => panic!("an update and an insertion: {other:?}"),
        };
        assert_eq!(number(world.cache.peek(&1)), Some(expected));
        close(world);
    });
}

/// The same with a removal, which nothing may come back from.
#[test]
fn an_update_that_a_removal_overtakes_brings_nothing_back() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), [1]);
        let [left, removed] =
            at_once(&world, [|w| Some(block_on(add(w))), |w| number(w.cache.remove_blocking(&1))]);
        let expected = match (left, removed) {
            (Some(1), Some(1)) => Some(1),
            (Some(2), Some(1 | 2)) => None,
            other => panic!("an update and a removal: {other:?}"),
        };
        assert_eq!(number(world.cache.peek(&1)), expected);
        close(world);
    });
}

/// Whichever leads, the other waits for it and starts from its value.
#[test]
fn an_update_and_a_load_of_its_key_wait_for_each_other() {
    explore(Extent::Whole, || {
        let world = World::new(builder(2).build(), []);
        let [left, loaded] = at_once(
            &world,
            [
                |w| block_on(add(w)),
                |w| {
                    let load = || w.loads.load(w.mint.value(7));
                    block_on(w.cache.get_or_insert_with(1, load)).number
                },
            ],
        );
        assert!(matches!((left, loaded), (1, 1) | (8, 7)), "{left} {loaded}");
        assert_eq!(number(world.cache.peek(&1)), Some(left));
        close(world);
    });
}
