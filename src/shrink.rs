//! Moving a bound of a cache that is in use.

use crate::ledger::{Bound, Room};
use crate::outbox::Notices;
use crate::shard::{Departed, Shard};
use crate::store::Store;

/// The eviction of what is above a bound to come, step by step so that other writers get through in
/// between.
///
/// The bound comes down with each entry that leaves, and holds from there on: at no moment is there more
/// in the cache than its bound allows.
pub(crate) struct Shrink<'a, K, V> {
    store: &'a Store<K, V>,
    bound: Bound,
    max: u64,
    /// The shard that gives next.
    shard: usize,
    evicted: usize,
}

/// How far a bound was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    AllTheWay,
    /// As far as one step takes it.
    Some,
}

impl<'a, K, V> Shrink<'a, K, V> {
    /// The most entries that one step evicts.
    const BATCH: usize = 64;

    /// Moves the bound as near to `max` as it can be now.
    pub(crate) fn start(store: &'a Store<K, V>, bound: Bound, max: u64) -> (Self, Moved) {
        let shrink = Self { store, bound, max, shard: 0, evicted: 0 };
        let moved = shrink.move_bound(store.ledger.room());
        (shrink, moved)
    }

    /// Takes one step; `None` if somebody else stands in its way.
    pub(crate) fn step(&mut self) -> Option<(Moved, Notices<K, V>)> {
        let mut departed = Departed::default();
        let moved = self.evict_some(&mut departed)?;
        Some((moved, departed.into_notices()))
    }

    fn evict_some(&mut self, departed: &mut Departed<K, V>) -> Option<Moved> {
        let now = self.store.lifetimes().now();
        for taken in 0..Self::BATCH {
            let mut room = self.store.ledger.room();
            let is_needed = || self.move_bound(self.store.ledger.room()) == Moved::Some;
            let evict =
                |shard: &Shard<K, V>| shard.evict(self.bound, is_needed, now, &mut room, departed);
            let has_evicted = self.store.shards_from(self.shard).find_map(evict).is_some();
            let moved = self.move_bound(room);
            self.evicted += usize::from(has_evicted);
            self.shard += 1;
            if moved == Moved::AllTheWay {
                return Some(moved);
            }
            if !has_evicted {
                // What is left are rooms of entries on their way in, or others search.
                return (taken > 0).then_some(moved);
            }
        }
        Some(Moved::Some)
    }

    /// Moves the bound as near to where it is to be as it can be once this room is given back.
    fn move_bound(&self, room: Room<'_>) -> Moved {
        let reached = room.give_up(self.bound, self.max);
        if reached == self.max { Moved::AllTheWay } else { Moved::Some }
    }

    /// Entries evicted so far.
    pub(crate) fn evicted(&self) -> usize {
        self.evicted
    }
}
