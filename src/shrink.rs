//! Moving a bound of a cache that is in use.

use crate::ledger::{Bound, Room};
use crate::shard::Departed;
use crate::store::Store;

/// The eviction of what is above a bound to come, step by step so that other writers get through in
/// between.
///
/// The bound comes down with each entry that leaves, and whoever holds it from there on: at no moment
/// is there more in the cache than its bound allows.
pub(crate) struct Shrink<'a, K, V> {
    store: &'a Store<K, V>,
    bound: Bound,
    max: u64,
    /// Where the bound is now.
    reached: u64,
    /// The shard that gives next.
    shard: usize,
    evicted: usize,
}

impl<'a, K, V> Shrink<'a, K, V> {
    /// The most entries that one step evicts.
    const BATCH: usize = 64;

    /// Moves the bound as near to `max` as it can be now.
    pub(crate) fn start(store: &'a Store<K, V>, bound: Bound, max: u64) -> Self {
        let mut shrink = Self { store, bound, max, reached: max, shard: 0, evicted: 0 };
        shrink.settle(store.ledger.room());
        shrink
    }

    /// Whether the bound is where it is to be.
    pub(crate) fn is_done(&self) -> bool {
        self.reached == self.max
    }

    /// Takes one step; tells whether there is more to do.
    pub(crate) fn step(&mut self) -> bool {
        let mut departed = Departed::default();
        // Others may have made room.
        self.settle(self.store.ledger.room());
        for _ in 0..Self::BATCH {
            if self.is_done() {
                return false;
            }
            let mut room = self.store.ledger.room();
            let evicted = self.store.evict(self.shard, &mut room, &mut departed);
            self.shard += 1;
            self.settle(room);
            if evicted.is_none() {
                // What is left are rooms of entries on their way in, or somebody else searches.
                break;
            }
            self.evicted += 1;
        }
        true
    }

    /// Moves the bound as near to where it is to be as it can be without this room.
    fn settle(&mut self, room: Room<'_>) {
        self.reached = room.give_up(self.bound, self.max);
    }

    /// Entries evicted so far.
    pub(crate) fn evicted(&self) -> usize {
        self.evicted
    }
}
